package connect_test

import (
	"encoding/binary"
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/irqbridge/irqbridge/connect"
	"github.com/irqbridge/irqbridge/pci"
	"github.com/irqbridge/irqbridge/vfio"
	"github.com/irqbridge/irqbridge/vfio/vfiotest"
)

// disconnectRows are the rows of group I.
func disconnectRows(t *testing.T) {
	onMachine(t, "154", func(t *testing.T, m *vfiotest.Machine) {
		r := edu(t, m, pci.KindINTx)
		isr, calls := r.reporting(0)
		i := r.connect(0, isr)
		serviced(r, 0, calls)
		r.disconnect(i)
		assert.False(t, r.enabled())
		r.raise(0)
		before := i.Stats()
		assert.EqualValues(t, 1, before.Calls)
		next := r.connect(0, isr) // which finds the line asserted
		assert.Same(t, next, received(t, calls))
		assert.Equal(t, before, i.Stats())
		require.NoError(t, i.Err())
	})
	onMachine(t, "155", func(t *testing.T, m *vfiotest.Machine) {
		r := edu(t, m, pci.KindINTx)
		for _, versions := range [][2]uint32{{4, 1}, {1, 4}} {
			i := r.connect(0, claim, func(p *connect.Parameters) { p.Version = versions[0] })
			require.NoError(t, connect.Disconnect(&connect.DisconnectParameters{Version: versions[1], ConnectionContext: i}))
			assert.False(t, r.enabled())
		}
	})
	onMachine(t, "156", func(t *testing.T, m *vfiotest.Machine) {
		r := edu(t, m, pci.KindINTx)
		isr, calls := r.reporting(0)
		i := r.connect(0, isr)
		for _, version := range []uint32{2, 3, 5, 0} {
			err := connect.Disconnect(&connect.DisconnectParameters{Version: version, ConnectionContext: i})
			bugCheck(t, err, connect.PNPDetectedFatalError, 9, uint64(version))
		}
		serviced(r, 0, calls)
	})
	onMachine(t, "157", func(t *testing.T, m *vfiotest.Machine) {
		r := e1000e(t, m)
		require.ErrorIs(t, connect.Disconnect(nil), connect.StatusInvalidParameter)
		require.ErrorIs(t, disconnect(nil), connect.StatusInvalidParameter)
		require.ErrorIs(t, disconnect(new(connect.Interrupt)), connect.StatusInvalidParameter)
		gone := r.connect(0, never(t))
		isr, calls := r.reporting(1)
		r.connect(1, isr)
		r.disconnect(gone)
		require.ErrorIs(t, disconnect(gone), connect.StatusInvalidParameter)
		serviced(r, 1, calls)
		assert.True(t, r.enabled())
	})
	onMachine(t, "158", func(t *testing.T, m *vfiotest.Machine) {
		r := edu(t, m, pci.KindMSI)
		inside, goOn := make(chan struct{}), make(chan struct{})
		var ended atomic.Bool
		i := r.connect(0, func(*connect.Interrupt, any) bool {
			close(inside)
			<-goOn
			ended.Store(true)
			return true
		})
		r.trigger(0)
		received(t, inside)
		result := make(chan error, 1)
		go func() {
			err := disconnect(i)
			assert.True(t, ended.Load())
			result <- err
		}()
		requireWait(t, "connect.Disconnect", result)
		close(goOn)
		require.NoError(t, received(t, result))
	})
	onMachine(t, "159", func(t *testing.T, m *vfiotest.Machine) {
		r := e1000e(t, m)
		var gone atomic.Bool
		var late atomic.Int64
		i := r.connect(0, func(*connect.Interrupt, any) bool {
			if gone.Load() {
				late.Add(1)
			}
			return true
		})
		isr, calls := r.reporting(1)
		r.connect(1, isr)
		for range 100 {
			r.trigger(0)
		}
		r.disconnect(i)
		gone.Store(true)
		for range 10_000 {
			r.raise(0)
		}
		serviced(r, 1, calls) // on the same thread: what was to come has come
		assert.Zero(t, late.Load())
		err := r.dev.TriggerIRQ(vfio.MSIX, 0, 1)
		assert.Error(t, err, "the message has no eventfd")
		if m.Fake != nil {
			lateSignals(t, m)
		}
	})
	onMachine(t, "160", func(t *testing.T, m *vfiotest.Machine) {
		rounds := 1000
		if m.Real {
			rounds = 100 // each is some milliseconds of emulation
		}
		stormRounds(t, m, rounds)
	})
	onMachine(t, "161", func(t *testing.T, m *vfiotest.Machine) {
		r := edu(t, m, pci.KindMSI)
		results := make(chan error, 1)
		i := r.connect(0, func(i *connect.Interrupt, _ any) bool { tell(results, disconnect(i)); return true })
		r.trigger(0)
		bugCheck(t, received(t, results), connect.DriverViolation, 1, uint64(i.Descriptor().Level), 0)
		r.trigger(0)
		bugCheck(t, received(t, results), connect.DriverViolation)
		r.disconnect(i)
	})
	onMachine(t, "162", func(t *testing.T, m *vfiotest.Machine) {
		a, b := edu(t, m, pci.KindMSI), open(t, m, m.EDU2, connect.Policy{Kind: pci.KindMSI})
		other := a.connect(0, claim)
		results := make(chan error, 1)
		b.connect(0, func(*connect.Interrupt, any) bool { tell(results, disconnect(other)); return true })
		b.trigger(0)
		bugCheck(t, received(t, results), connect.DriverViolation)
		a.disconnect(other)
	})
	onMachine(t, "163", func(t *testing.T, m *vfiotest.Machine) {
		r, c := e1000e(t, m), newRecorder()
		members := c.chain(r, 0, 3)
		r.disconnect(members[1])
		assert.Equal(t, []int{0, 2}, c.walk(r, 0, 1))
		c.answers = [][]bool{{true, true, true}, {true, true, true}}
		r.disconnect(members[0])
		assert.Equal(t, []int{2}, c.walk(r, 0, 1), "unchained: called once though it claims")
	})
	onMachine(t, "164", func(t *testing.T, m *vfiotest.Machine) {
		r := edu(t, m, pci.KindINTx)
		isr, calls := r.reporting(0)
		for range 50 {
			head := r.connect(0, func(*connect.Interrupt, any) bool { return false })
			tail := r.connect(0, isr)
			r.raise(0)
			r.disconnect(head)
			assert.Same(t, tail, received(t, calls))
			r.disconnect(tail)
		}
	})
	onMachine(t, "165", func(t *testing.T, m *vfiotest.Machine) {
		r := e1000e(t, m)
		var all []*connect.Interrupt
		for n := range r.messages {
			all = append(all, r.connect(n, claim))
		}
		for n, i := range all {
			assert.True(t, r.enabled(), "before message %d is disconnected", n)
			r.disconnect(i)
		}
		assert.False(t, r.enabled())
		r.assign(connect.Policy{Kind: pci.KindINTx})
		isr, calls := r.reporting(0)
		r.connect(0, isr)
		serviced(r, 0, calls)
	})
	onMachine(t, "166", func(t *testing.T, m *vfiotest.Machine) {
		for _, kind := range []pci.Kind{pci.KindINTx, pci.KindMSI} {
			r := edu(t, m, kind)
			i := r.connect(0, never(t))
			require.NoError(t, reportInactive(i))
			r.disconnect(i)
			assert.False(t, r.enabled())
			isr, calls := r.reporting(0)
			r.connect(0, isr)
			serviced(r, 0, calls)
			r.close()
		}
	})
	onMachine(t, "167", func(t *testing.T, m *vfiotest.Machine) {
		r := e1000e(t, m)
		ran := make(chan struct{}, 1)
		d := connect.NewDPC(func(*connect.DPC, any, any, any) { ran <- struct{}{} }, nil)
		release := busyQueue(r, 0)
		inISR(r, 0, func() { assert.True(t, d.Insert(nil, nil)) })
		assert.False(t, r.enabled(), "everything is disconnected")
		assert.Zero(t, d.Runs())
		release()
		received(t, ran)

		i := r.connect(0, func(*connect.Interrupt, any) bool { return d.Insert(nil, nil) })
		r.trigger(0)
		eventually(t, "it was called", func() bool { return i.Stats().Calls > 0 })
		i.Synchronize(func() bool { return true })
		flush(t)
		assert.EqualValues(t, 2, d.Runs(), "it ran before the disconnect")
		r.disconnect(i)
	})
	onMachine(t, "168", func(t *testing.T, m *vfiotest.Machine) {
		r := e1000e(t, m)
		reports := make(chan *connect.Interrupt, 5)
		r.resources.OnError(func(i *connect.Interrupt, err error) {
			assert.ErrorIs(t, err, os.ErrClosed)
			reports <- i
		})
		live := make(map[*connect.Interrupt]bool)
		for n := range 3 {
			live[r.connect(n, claim)] = true
		}
		r.close()
		for range 3 {
			i := received(t, reports)
			assert.True(t, live[i])
			delete(live, i)
			require.ErrorIs(t, i.Err(), os.ErrClosed)
			require.ErrorIs(t, disconnect(i), connect.StatusInvalidParameter)
		}
	})
}

// requireWait fails unless the function, whose result a goroutine sends, waits for something.
func requireWait(t testing.TB, function string, result <-chan error) {
	t.Helper()
	buf := make([]byte, 1<<20)
	eventually(t, function+" waits", func() bool {
		require.Empty(t, result, "%s has returned", function)
		for g := range strings.SplitSeq(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
			header, _, _ := strings.Cut(g, "\n")
			if strings.Contains(g, function+"(") && !strings.Contains(header, "[run") { // neither running nor runnable
				return true
			}
		}
		return false
	})
}

// lateSignals signals an eventfd that Disconnect has closed, as whoever still holds it can: nobody is called.
func lateSignals(t *testing.T, m *vfiotest.Machine) {
	t.Helper()
	k := intercept(m)
	r := open(t, m, m.EDU, connect.Policy{Kind: pci.KindMSI})
	held := -1
	k.set(func(k *altered) {
		k.setIRQs = func(call setIRQs) (int, error, bool) {
			if fd := call.eventfd; fd >= 0 {
				var err error
				held, err = unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
				assert.NoError(t, err)
			}
			return 0, nil, false
		}
	})
	var calls atomic.Int64
	i := r.connect(0, func(*connect.Interrupt, any) bool { calls.Add(1); return true })
	k.set(func(k *altered) { k.setIRQs = nil })
	require.NotEqual(t, -1, held)
	defer unix.Close(held)
	one := binary.NativeEndian.AppendUint64(nil, 1)
	_, err := unix.Write(held, one)
	require.NoError(t, err)
	eventually(t, "it is the eventfd of the interrupt", func() bool { return calls.Load() == 1 })
	other := open(t, m, m.EDU2, connect.Policy{Kind: pci.KindMSI})
	isr, served := other.reporting(0)
	other.connect(0, isr)
	r.disconnect(i)
	for range 10_000 {
		_, err := unix.Write(held, one)
		require.NoError(t, err)
	}
	serviced(other, 0, served)
	assert.EqualValues(t, 1, calls.Load())
}

// A service routine that closes its device cannot wait for itself, and does not.
func TestCloseInAServiceRoutine(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		r := edu(t, m, pci.KindMSI)
		closed := make(chan error, 1)
		threads := make(chan int, 1)
		i := r.connect(0, func(*connect.Interrupt, any) bool {
			tell(threads, unix.Gettid())
			tell(closed, r.dev.Close())
			return true
		})
		r.trigger(0)
		require.NoError(t, received(t, closed))
		eventually(t, "the interrupt is disconnected", func() bool { return i.Err() != nil })
		require.ErrorIs(t, i.Err(), os.ErrClosed)
		thread := received(t, threads)
		eventually(t, "its thread has ended", func() bool { return !threadAlive(thread) })
	})
}

// The service routine of a line that closes its device is told to have been connected then, and not that the line, which
// is gone, could not be unmasked.
func TestCloseInAServiceRoutineOfALine(t *testing.T) {
	m := vfiotest.FakeMachine(t)
	r := edu(t, m, pci.KindINTx)
	reports := make(chan error, 2)
	r.resources.OnError(func(_ *connect.Interrupt, err error) { reports <- err })
	held, goOn, closed := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	var second *connect.Interrupt
	disconnected := make(chan error, 1)
	r.connect(0, func(*connect.Interrupt, any) bool { tell(closed, r.dev.Close()); return true })
	second = r.connect(0, claim)
	// Who disconnects waits for the lock of the second, and who takes the device down waits for him.
	go second.Synchronize(func() bool { close(held); <-goOn; return true })
	received(t, held)
	go func() { disconnected <- disconnect(second) }()
	requireWait(t, "connect.Disconnect", disconnected)
	r.trigger(0)
	require.NoError(t, received(t, closed))
	requireWait(t, "connect.(*dispatcher).wait", nil) // the walk is over
	close(goOn)
	require.NoError(t, received(t, disconnected))
	require.ErrorContains(t, received(t, reports), "was connected when its device was closed")
	require.NoError(t, second.Err())
}

// A Connect that fails while its service routine runs, for a line that has been enabled already, reports nothing of it: the
// line is disabled when nobody is left to unmask it.
func TestConnectThatFailsInTheMiddle(t *testing.T) {
	const actionMask = 1 << 3 // VFIO_IRQ_SET_ACTION_MASK
	m, k := alter(t)
	r := edu(t, m, pci.KindINTx)
	r.resources.OnError(func(i *connect.Interrupt, err error) { t.Errorf("%s: %v", i, err) })
	inside, goOn := make(chan *connect.Interrupt), make(chan struct{})
	var running *connect.Interrupt
	k.set(func(k *altered) {
		k.setIRQs = func(call setIRQs) (int, error, bool) {
			if call.flags&actionMask == 0 {
				return 0, nil, false
			}
			running = received(t, inside)
			return 0, unix.EIO, true
		}
	})
	r.raise(0)
	p := r.params(0, func(i *connect.Interrupt, _ any) bool {
		inside <- i
		<-goOn
		return r.serve(0)
	})
	result := make(chan error, 1)
	go func() { result <- connect.Connect(p) }()
	requireWait(t, "connect.(*dispatcher).remove", result)
	close(goOn)
	require.ErrorIs(t, received(t, result), unix.EIO)
	require.NoError(t, running.Err())
	assert.Nil(t, *p.InterruptObject)
	assert.False(t, r.enabled())
	k.set(func(k *altered) { k.setIRQs = nil })
}

// A kernel that refuses to disarm is reported; the interrupt is disconnected all the same.
func TestDisconnectReportsTheKernel(t *testing.T) {
	m, k := alter(t)
	r := edu(t, m, pci.KindINTx)
	i := r.connect(0, never(t))
	k.set(func(k *altered) { k.setIRQs = func(setIRQs) (int, error, bool) { return 0, unix.EIO, true } })
	err := disconnect(i)
	require.ErrorIs(t, err, connect.StatusUnsuccessful)
	require.ErrorIs(t, err, unix.EIO)
	require.ErrorIs(t, disconnect(i), connect.StatusInvalidParameter, "it is gone")
	k.set(func(k *altered) { k.setIRQs = nil })
}

// stormRounds connects and disconnects while the messages fire without a pause, and counts what is left at the end.
func stormRounds(t *testing.T, m *vfiotest.Machine, rounds int) {
	r := e1000e(t, m)
	// The storm keeps one P busy and the interrupts another: without a third each step below waits for somebody's slice.
	require.NoError(t, r.resources.SetDispatch(connect.Dispatch{Reserve: true}))
	keeper := r.connect(1, claim) // keeps the index enabled, and a dispatcher for the storm to hit
	stop, stopped := make(chan struct{}), make(chan struct{})
	var armed atomic.Bool
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
			}
			if armed.Load() {
				_ = r.dev.TriggerIRQ(vfio.MSIX, 0, 1) // refused while message 0 is not armed
			}
			runtime.Gosched() // where there is one P the others are to have it too
		}
	}()
	r.disconnect(r.connect(0, claim)) // what is made once is there now
	files := takeFootprint(t)
	threads := countThreads(t)
	var late, calls atomic.Int64
	for range rounds {
		var gone atomic.Bool
		served := make(chan struct{}, 1)
		i := r.connect(0, func(*connect.Interrupt, any) bool {
			if gone.Load() {
				late.Add(1)
			}
			calls.Add(1)
			tell(served, struct{}{})
			return true
		})
		armed.Store(true)
		received(t, served)
		r.disconnect(i)
		gone.Store(true)
		armed.Store(false)
	}
	close(stop)
	received(t, stopped)
	assert.Zero(t, late.Load(), "of %d calls", calls.Load())
	files.requireNothingLeft(t)
	assert.Less(t, countThreads(t), threads+20, "the runtime adds some for itself, but not one for each of %d rounds", rounds)
	r.disconnect(keeper)
}

func countThreads(t testing.TB) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/task")
	require.NoError(t, err)
	return len(entries)
}

// Each round ends the device's last interrupt, and with it the dispatcher: its thread, epoll set and eventfds.
func TestDispatchersLeaveNothing(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		r := e1000e(t, m)
		round := func() (tid int) {
			tids := make(chan int, 1)
			var all []*connect.Interrupt
			for n := range r.messages {
				all = append(all, r.connect(n, func(*connect.Interrupt, any) bool { tell(tids, unix.Gettid()); return true }))
				r.trigger(n)
				tid = received(t, tids)
			}
			for _, i := range all {
				r.disconnect(i)
			}
			return tid
		}
		round()
		files := takeFootprint(t)
		for range 20 {
			tid := round()
			eventually(t, fmt.Sprintf("thread %d has ended", tid), func() bool { return !threadAlive(tid) })
		}
		files.requireNothingLeft(t)
	})
}
