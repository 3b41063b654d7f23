package connect

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/irqbridge/irqbridge/connect/internal/epoll"
	"github.com/irqbridge/irqbridge/pci"
	"github.com/irqbridge/irqbridge/vfio/host"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// deadline is how long a condition may take to become true. It is long because it only ends a test that failed.
const deadline = 30 * time.Second

func eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	for end := time.Now().Add(deadline); !condition(); time.Sleep(100 * time.Microsecond) {
		if time.Now().After(end) {
			require.FailNow(t, "still not so: "+what)
		}
	}
}

func received[T any](t testing.TB, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(deadline):
		require.FailNow(t, "nothing arrived")
		panic("not reached")
	}
}

// signal does what the kernel does when the source's interrupt fires.
func signal(t testing.TB, s *source, n uint64) {
	t.Helper()
	_, err := unix.Write(s.eventfd.fd, binary.NativeEndian.AppendUint64(nil, n))
	require.NoError(t, err)
}

// startTestDispatcher starts a dispatcher on one CPU of this machine, and stops it at the end.
func startTestDispatcher(t testing.TB) *dispatcher {
	t.Helper()
	d := startUnstoppedDispatcher(t)
	t.Cleanup(d.stop)
	return d
}

// startUnstoppedDispatcher is for a test that calls stop.
func startUnstoppedDispatcher(t testing.TB) *dispatcher {
	t.Helper()
	h := host.New("/")
	allowed, err := h.AllowedCPUs()
	require.NoError(t, err)
	d, err := startDispatcher(h, host.CPUSetOf(allowed.CPUs()[0]), Dispatch{})
	require.NoError(t, err)
	return d
}

// messageSource puts a message with the given service routines into a dispatcher, as Connect does.
func messageSource(t testing.TB, d *dispatcher, routines ...ServiceRoutine) *source {
	t.Helper()
	return sourceOf(t, d, pci.KindMSI, routines...)
}

func sourceOf(t testing.TB, d *dispatcher, kind pci.Kind, routines ...ServiceRoutine) *source {
	t.Helper()
	fd, err := newEventFD()
	require.NoError(t, err)
	t.Cleanup(fd.close)
	s := &source{device: &device{}, kind: kind, latched: true, eventfd: fd, dispatcher: d, chain: newChain()}
	var chain []*Interrupt
	for _, r := range routines {
		i := &Interrupt{source: s, routine: r, synchronizeIRQL: 9}
		i.lock = &i.private
		chain = append(chain, i)
	}
	s.chain.Store(&chain)
	require.NoError(t, d.add(s))
	return s
}

// Whatever signals come together, each source is served once more after its last one.
func TestDispatcherServesTheLastSignal(t *testing.T) {
	const sources, writers, rounds = 70, 4, 50 // more sources than a batch holds
	d := startTestDispatcher(t)
	var written, seen [sources]atomic.Uint64
	var all [sources]*source
	for n := range sources {
		all[n] = messageSource(t, d, func(*Interrupt, any) bool {
			seen[n].Store(written[n].Load())
			return true
		})
	}
	var writing sync.WaitGroup
	for range writers {
		writing.Go(func() {
			for range rounds {
				for n := range sources {
					written[n].Add(1)
					signal(t, all[n], 1)
				}
			}
		})
	}
	writing.Wait()
	for n := range sources {
		eventually(t, fmt.Sprintf("source %d saw its last signal", n), func() bool {
			return seen[n].Load() == writers*rounds
		})
		count, err := all[n].eventfd.count()
		require.NoError(t, err)
		assert.EqualValues(t, writers*rounds, count, "the kernel counts every signal")
		assert.LessOrEqual(t, (*all[n].chain.Load())[0].calls.Load(), uint64(writers*rounds))
	}
}

func TestDispatcherRunsOnItsCPU(t *testing.T) {
	d := startTestDispatcher(t)
	assert.Equal(t, d.cpus, d.pinned)
	type place struct{ cpu, tid int }
	ran := make(chan place, 1)
	s := messageSource(t, d, func(*Interrupt, any) bool {
		cpu, err := d.host.CurrentCPU()
		assert.NoError(t, err)
		ran <- place{cpu, unix.Gettid()}
		return true
	})
	for range 100 {
		signal(t, s, 1)
		p := received(t, ran)
		require.True(t, d.cpus.Has(p.cpu), "CPU %d", p.cpu)
		require.True(t, threadAlive(p.tid))
	}
}

func TestDispatcherThreadEnds(t *testing.T) {
	d := startUnstoppedDispatcher(t)
	tid := make(chan int, 1)
	s := messageSource(t, d, func(*Interrupt, any) bool { tid <- unix.Gettid(); return true })
	signal(t, s, 1)
	thread := received(t, tid)
	d.remove(s)
	assert.True(t, d.idle())
	d.stop()
	eventually(t, "the pinned thread has ended", func() bool { return !threadAlive(thread) })
}

// A source that is removed while its event is in the batch is not served, nor is the one that got its place.
func TestDispatcherForgetsARemovedSource(t *testing.T) {
	d := startTestDispatcher(t)
	inside, goOn := make(chan struct{}), make(chan struct{})
	first := messageSource(t, d, func(*Interrupt, any) bool {
		inside <- struct{}{}
		<-goOn
		return true
	})
	signal(t, first, 1)
	received(t, inside) // the thread is busy: what is signalled now waits in epoll

	removed := messageSource(t, d, func(*Interrupt, any) bool { t.Error("a removed source was served"); return true })
	signal(t, removed, 1)
	gone := make(chan struct{})
	go func() {
		d.remove(removed)
		close(gone)
	}()
	eventually(t, "the place is free", func() bool { return (*d.table.Load())[removed.slot].Load() == nil })
	served := make(chan struct{}, 1)
	heir := messageSource(t, d, func(*Interrupt, any) bool { served <- struct{}{}; return true })
	require.Equal(t, removed.slot, heir.slot)
	// The event of the removed source, as if it had been fetched before the removal.
	stale := unix.EpollEvent{Events: unix.EPOLLIN, Fd: removed.slot, Pad: removed.generation}
	select {
	case <-gone:
		t.Error("remove returned while a batch was in hand")
	default:
	}
	close(goOn)
	received(t, gone)

	batch := &dispatcher{set: &epoll.Set{}}
	batch.table.Store(d.table.Load())
	batch.set.Events[0], batch.n = stale, 1
	batch.dispatch(&thread{tid: -1})
	assert.Empty(t, served, "the event was not for the heir")
	signal(t, heir, 1)
	received(t, served)
}

// stop waits for the service routine that runs.
func TestDispatcherStopWaits(t *testing.T) {
	d := startUnstoppedDispatcher(t)
	inside, goOn := make(chan struct{}), make(chan struct{})
	var ended atomic.Bool
	s := messageSource(t, d, func(*Interrupt, any) bool {
		close(inside)
		<-goOn
		ended.Store(true)
		return true
	})
	signal(t, s, 1)
	received(t, inside)
	stopped := make(chan struct{})
	go func() {
		d.stop()
		close(stopped)
	}()
	select {
	case <-stopped:
		t.Error("stop returned while a service routine ran")
	default:
	}
	close(goOn)
	received(t, stopped)
	assert.True(t, ended.Load())
}

func TestDispatcherRefusesCPUsThatAreNotThere(t *testing.T) {
	_, err := startDispatcher(host.New("/"), host.CPUSetOf(4000), Dispatch{})
	require.ErrorIs(t, err, unix.EINVAL)
	assert.ErrorContains(t, err, "4000")
}

// When the kernel refuses to wait, the sources are silenced and say why, and all can still be taken down.
func TestDispatcherThatCannotWait(t *testing.T) {
	d := startUnstoppedDispatcher(t)
	// A line, which has nothing to disarm.
	s := sourceOf(t, d, pci.KindINTx, func(*Interrupt, any) bool { t.Error("served"); return true })
	null, err := unix.Open("/dev/null", unix.O_CLOEXEC, 0)
	require.NoError(t, err)
	defer unix.Close(null)
	old, err := unix.FcntlInt(uintptr(d.set.FD), unix.F_DUPFD_CLOEXEC, 0)
	require.NoError(t, err)
	defer unix.Close(old)
	require.NoError(t, unix.Dup3(null, d.set.FD, unix.O_CLOEXEC))
	s.reports.Lock() // holds the thread up when it silences the source
	d.wake()
	eventually(t, "no source is added to it", func() bool {
		err := d.add(&source{eventfd: s.eventfd})
		return strings.Contains(err.Error(), "has ended")
	})
	s.reports.Unlock()
	received(t, d.done)
	require.ErrorIs(t, (*s.chain.Load())[0].Err(), unix.EINVAL)
	require.ErrorContains(t, d.add(s), "has ended")
	d.remove(s)
	assert.True(t, d.idle())
	d.stop()
}

func TestDispatcherOutOfFiles(t *testing.T) {
	var old unix.Rlimit
	require.NoError(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &old))
	free, err := unix.Open("/dev/null", unix.O_CLOEXEC, 0)
	require.NoError(t, err)
	require.NoError(t, unix.Close(free))
	require.NoError(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: uint64(free), Max: old.Max}))
	defer func() { require.NoError(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &old)) }()
	_, err = startDispatcher(host.New("/"), host.CPUSetOf(0), Dispatch{})
	assert.ErrorIs(t, err, unix.EMFILE)
}

// Between the event and the service routine nothing is allocated.
func TestDispatchDoesNotAllocate(t *testing.T) {
	d := startTestDispatcher(t)
	own := &dispatcher{set: &epoll.Set{}} // the thread of d is not to take part
	var calls int
	claim := func(*Interrupt, any) bool { calls++; return true }
	decline := func(*Interrupt, any) bool { calls++; return false }
	single := messageSource(t, d, claim)
	chain := messageSource(t, d, decline, decline)
	own.table.Store(d.table.Load())
	self := &thread{tid: int32(unix.Gettid())}
	allocs := testing.AllocsPerRun(1000, func() {
		for n, s := range []*source{single, chain} {
			own.set.Events[n] = unix.EpollEvent{Events: unix.EPOLLIN, Fd: s.slot, Pad: s.generation}
		}
		own.n, own.next = 2, 0
		own.dispatch(self)
	})
	assert.Zero(t, allocs)
	assert.NotZero(t, calls)
}

func TestEventFDCountSurvivesClose(t *testing.T) {
	e, err := newEventFD()
	require.NoError(t, err)
	_, err = unix.Write(e.fd, binary.NativeEndian.AppendUint64(nil, 0x1234567890))
	require.NoError(t, err)
	for range 2 { // reading the count does not reset it
		n, err := e.count()
		require.NoError(t, err)
		assert.EqualValues(t, 0x1234567890, n)
	}
	e.close()
	n, err := e.count()
	require.NoError(t, err)
	assert.EqualValues(t, 0x1234567890, n)
}

func TestServiceRoutineErrorUnwraps(t *testing.T) {
	cause := errors.New("cause")
	err := &ServiceRoutineError{Value: cause}
	require.ErrorIs(t, err, cause)
	assert.NoError(t, errors.Unwrap(&ServiceRoutineError{Value: "text"}))
}

// BenchmarkFire is the way from the event to the service routine and back, without the kernel.
func BenchmarkFire(b *testing.B) {
	d := startTestDispatcher(b)
	s := messageSource(b, d, func(*Interrupt, any) bool { return true })
	self := &thread{tid: -1}
	b.ReportAllocs()
	for b.Loop() {
		s.fire(self)
	}
}

// BenchmarkEventFDToRoutine is an eventfd's signal to the service routine on the pinned thread and an answer by channel.
func BenchmarkEventFDToRoutine(b *testing.B) {
	d := startTestDispatcher(b)
	served := make(chan struct{}, 1)
	s := messageSource(b, d, func(*Interrupt, any) bool { served <- struct{}{}; return true })
	one := binary.NativeEndian.AppendUint64(nil, 1)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := unix.Write(s.eventfd.fd, one); err != nil {
			b.Fatal(err)
		}
		<-served
	}
}

func threadAlive(tid int) bool {
	_, err := os.Stat(fmt.Sprintf("/proc/self/task/%d", tid))
	return err == nil
}

// A thread does not look at GOMAXPROCS whenever nothing has come, since that would bring back the wish of the runtime's that was
// turned down, but when the watchdog has seen that it is too low.
func TestRestLooksWhenTheWatchdogSaysSo(t *testing.T) {
	d := &dispatcher{how: Dispatch{Wait: Block}}
	require.True(t, d.keep())
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	d.rest()
	assert.True(t, d.keeps.Load())
	countKeepers()
	defer countKeepers()
	d.rest()
	assert.False(t, d.keeps.Load())
}
