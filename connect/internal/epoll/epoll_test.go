package epoll

import (
	"encoding/binary"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func newSet(t *testing.T) *Set {
	t.Helper()
	s, err := Open()
	require.NoError(t, err)
	t.Cleanup(s.Close)
	return s
}

func newEventFD(t *testing.T) int {
	t.Helper()
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	require.NoError(t, err)
	t.Cleanup(func() { _ = unix.Close(fd) })
	return fd
}

func signal(t *testing.T, fd int) {
	t.Helper()
	_, err := unix.Write(fd, binary.NativeEndian.AppendUint64(nil, 1))
	require.NoError(t, err)
}

// Each way to fetch events gets each signal once, with the slot and the generation that it was added with.
func TestEverySignalIsAnEvent(t *testing.T) {
	for name, fetch := range map[string]func(*Set) (int, error){"Sleep": (*Set).Sleep, "Wait": (*Set).Wait, "Look": (*Set).Look} {
		t.Run(name, func(t *testing.T) {
			s, a, b := newSet(t), newEventFD(t), newEventFD(t)
			signal(t, b) // before it is added
			require.NoError(t, s.Add(a, 3, 7))
			require.NoError(t, s.Add(b, 4, -1))
			next := func() (slot, generation int32) {
				for {
					n, err := fetch(s)
					require.NoError(t, err)
					if n > 0 {
						require.Equal(t, 1, n)
						return s.Events[0].Fd, s.Events[0].Pad
					}
				}
			}
			slot, generation := next()
			assert.Equal(t, [2]int32{4, -1}, [2]int32{slot, generation})
			for range 3 {
				signal(t, a)
				slot, generation = next()
				assert.Equal(t, [2]int32{3, 7}, [2]int32{slot, generation}, "also of an eventfd that was never read")
			}
			s.Remove(a)
			signal(t, a)
			n, err := s.Look()
			require.NoError(t, err)
			assert.Zero(t, n)
			require.ErrorIs(t, s.Add(b, 5, 0), unix.EEXIST)
		})
	}
}

// A wait that keeps the P comes back by itself.
func TestWaitEnds(t *testing.T) {
	s := newSet(t)
	for range 3 {
		n, err := s.Wait()
		require.NoError(t, err)
		assert.Zero(t, n)
	}
}

func TestErrorsOfTheKernel(t *testing.T) {
	s := newSet(t)
	fd := s.FD
	s.FD = newEventFD(t) // no epoll instance
	for _, fetch := range []func() (int, error){s.Sleep, s.Wait, s.Look} {
		_, err := fetch()
		require.ErrorIs(t, err, unix.EINVAL)
		assert.ErrorContains(t, err, "epoll_")
	}
	require.ErrorIs(t, s.Add(s.FD, 0, 0), unix.EINVAL)
	s.FD = fd
}

func TestFetchingDoesNotAllocate(t *testing.T) {
	s, fd := newSet(t), newEventFD(t)
	require.NoError(t, s.Add(fd, 0, 0))
	one := binary.NativeEndian.AppendUint64(nil, 1)
	assert.Zero(t, testing.AllocsPerRun(100, func() {
		_, _ = unix.Write(fd, one)
		_, _ = s.Wait()
		_, _ = s.Look()
	}))
}

// A goroutine that waits and keeps its P is stopped for the garbage collector many times over within one silence: with and
// without the wish being turned down, the world stops.
func TestTheWorldStops(t *testing.T) {
	s := newSet(t)
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		runtime.LockOSThread()
		for {
			select {
			case <-stop:
				return
			default:
				_, _ = s.Wait()
			}
		}
	}()
	for range 20 {
		runtime.GC() // stops the world twice and scans every stack
	}
	close(stop)
	<-stopped
}

// The first wish of the runtime's is turned down, a second soon after is followed, and one of many is.
func TestWishes(t *testing.T) {
	s := newSet(t)
	longAgo := func() {
		s.wanted = readClocks()
		s.wanted.wall -= int64(time.Hour) // in which nobody computed
	}
	longAgo()
	assert.False(t, s.interrupted(), "nobody asked before")
	assert.True(t, s.interrupted(), "it insists")
	for s.wishes%patience != patience-1 {
		longAgo()
		assert.False(t, s.interrupted())
	}
	longAgo()
	assert.True(t, s.interrupted())
}

func TestOthersAreBusyFromAQuarterOfAProcessorOn(t *testing.T) {
	before := clocks{wall: 1000, process: 500, thread: 400}
	for name, c := range map[string]struct {
		now  clocks
		busy bool
	}{
		"nobody ran":      {clocks{wall: 2000, process: 500, thread: 400}, false},
		"the thread did":  {clocks{wall: 2000, process: 1500, thread: 1400}, false},
		"others a little": {clocks{wall: 2000, process: 750, thread: 400}, false},
		"others did":      {clocks{wall: 2000, process: 751, thread: 400}, true},
		"both did":        {clocks{wall: 2000, process: 2500, thread: 1400}, true},
	} {
		t.Run(name, func(t *testing.T) {
			wall, busy := c.now.since(&before)
			assert.Equal(t, int64(1000), wall)
			assert.Equal(t, c.busy, busy)
		})
	}
}

// The clocks tell when goroutines compute, and then each wish is followed.
func TestBusyGoroutinesGetTheirWish(t *testing.T) {
	runtime.LockOSThread() // whose time is told apart from the others'
	defer runtime.UnlockOSThread()
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(3))
	s := newSet(t)
	s.wanted = readClocks()
	var stop atomic.Bool
	var busy sync.WaitGroup
	for range 2 {
		busy.Go(func() {
			for !stop.Load() {
			}
		})
	}
	defer busy.Wait()
	defer stop.Store(true)
	for begin := time.Now(); ; s.wishes = 0 { // so that none is followed for being one of many
		time.Sleep(3 * insistence) // so that none is followed for insisting
		if s.interrupted() {
			return
		}
		require.Less(t, time.Since(begin), time.Minute, "they compute, and no wish is followed")
	}
}

func BenchmarkLook(b *testing.B) {
	s, err := Open()
	require.NoError(b, err)
	defer s.Close()
	b.ReportAllocs()
	for b.Loop() {
		_, _ = s.Look()
	}
}

func BenchmarkSignalAndWait(b *testing.B) {
	s, err := Open()
	require.NoError(b, err)
	defer s.Close()
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	require.NoError(b, err)
	defer func() { _ = unix.Close(fd) }()
	require.NoError(b, s.Add(fd, 0, 0))
	one := binary.NativeEndian.AppendUint64(nil, 1)
	b.ReportAllocs()
	for b.Loop() {
		_, _ = unix.Write(fd, one)
		_, _ = s.Wait()
	}
}
