package connect_test

import (
	"errors"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/irqbridge/irqbridge/connect"
	"github.com/irqbridge/irqbridge/pci"
	"github.com/irqbridge/irqbridge/vfio"
	"github.com/irqbridge/irqbridge/vfio/host"
	"github.com/irqbridge/irqbridge/vfio/vfiotest"
)

// inISR runs f once in the service routine of interrupt n, which is connected, and returns when the routine has.
func inISR(r *rig, n int, f func()) {
	r.Helper()
	ran := make(chan struct{}, 1)
	var once sync.Once
	i := r.connect(n, func(*connect.Interrupt, any) bool {
		once.Do(func() {
			f()
			ran <- struct{}{}
		})
		return true
	}, shared)
	r.trigger(n)
	received(r, ran)
	r.disconnect(i)
}

// busyQueue keeps the worker of interrupt n's service routines in a deferred routine until release is called, so that
// what is queued stays queued.
func busyQueue(r *rig, n int) (release func()) {
	r.Helper()
	inside, goOn := make(chan struct{}), make(chan struct{})
	d := connect.NewDPC(func(*connect.DPC, any, any, any) {
		close(inside)
		<-goOn
	}, nil)
	inISR(r, n, func() { d.Insert(nil, nil) })
	received(r, inside)
	return sync.OnceFunc(func() { close(goOn) })
}

// flush is FlushDPCs where it is allowed.
func flush(t testing.TB) {
	t.Helper()
	require.NoError(t, connect.FlushDPCs())
}

// dpcRows are the rows of group K.
func dpcRows(t *testing.T) {
	onMachine(t, "173", func(t *testing.T, m *vfiotest.Machine) {
		r := e1000e(t, m)
		type arguments struct{ context, one, two any }
		ran := make(chan arguments, 2)
		d := connect.NewDPC(func(_ *connect.DPC, context, one, two any) { ran <- arguments{context, one, two} }, "context")
		release := busyQueue(r, 0)
		inISR(r, 0, func() {
			assert.True(t, d.Insert(1, "a"))
			assert.False(t, d.Insert(2, "b"))
		})
		assert.False(t, d.Insert(3, "c"), "from an ordinary goroutine too")
		release()
		assert.Equal(t, arguments{"context", 1, "a"}, received(t, ran))
		flush(t)
		assert.Empty(t, ran)
		assert.EqualValues(t, 1, d.Runs())
		assert.True(t, d.Insert(4, "d"))
		assert.Equal(t, arguments{"context", 4, "d"}, received(t, ran))
		require.NoError(t, d.Err())
	})
	onMachine(t, "174", func(t *testing.T, m *vfiotest.Machine) {
		r := e1000e(t, m)
		var calls, inserted, seen int
		var lock sync.Mutex
		d := connect.NewDPC(func(*connect.DPC, any, any, any) {
			lock.Lock()
			defer lock.Unlock()
			seen = calls
		}, nil)
		i := r.connect(0, func(*connect.Interrupt, any) bool {
			lock.Lock()
			calls++
			lock.Unlock()
			if d.Insert(nil, nil) {
				inserted++ // the routine never runs twice at once
			}
			return true
		})
		const fires = 1000
		for range fires {
			r.trigger(0)
		}
		eventually(t, "it was called", func() bool { return i.Stats().Calls > 0 })
		r.disconnect(i)
		flush(t)
		assert.GreaterOrEqual(t, d.Runs(), uint64(1))
		assert.LessOrEqual(t, d.Runs(), uint64(fires))
		assert.EqualValues(t, inserted, d.Runs())
		assert.Equal(t, calls, seen, "a run began after the last call, though its insert may have been refused")
	})
	onMachine(t, "175", func(t *testing.T, m *vfiotest.Machine) {
		r := e1000e(t, m)
		const times = 100
		over := make(chan struct{})
		n := 0 // of the routine: one queue runs it, one after the other
		d := connect.NewDPC(func(d *connect.DPC, _, _, _ any) {
			if n++; n == times {
				close(over)
				return
			}
			assert.True(t, d.Insert(nil, nil))
			assert.False(t, d.Insert(nil, nil))
		}, nil)
		inISR(r, 0, func() { assert.True(t, d.Insert(nil, nil)) })
		received(t, over)
		flush(t)
		assert.EqualValues(t, times, d.Runs())
	})
	onMachine(t, "176", func(t *testing.T, m *vfiotest.Machine) {
		r := e1000e(t, m)
		var walking atomic.Bool
		ran := make(chan bool, 1)
		d := connect.NewDPC(func(*connect.DPC, any, any, any) { ran <- walking.Load() }, nil)
		// A chain of messages is walked until nobody claims: the first member queues, and the second one has its turn, twice,
		// while the worker would have had the time to begin.
		r.connect(0, func(*connect.Interrupt, any) bool {
			walking.Store(true)
			return d.Insert(nil, nil)
		}, shared)
		passes := 0
		r.connect(0, func(*connect.Interrupt, any) bool {
			for range 1000 {
				runtime.Gosched()
			}
			assert.Zero(t, d.Runs())
			if passes++; passes == 2 {
				walking.Store(false)
			}
			return false
		}, shared)
		r.trigger(0)
		assert.False(t, received(t, ran))
	})
	onMachine(t, "177", func(t *testing.T, m *vfiotest.Machine) {
		r := e1000e(t, m)
		var order []string
		named := func(name string, i connect.Importance) *connect.DPC {
			d := connect.NewDPC(func(*connect.DPC, any, any, any) { order = append(order, name) }, nil)
			d.SetImportance(i)
			return d
		}
		dpcs := []*connect.DPC{
			named("low", connect.LowImportance),
			named("medium", connect.MediumImportance),
			named("high", connect.HighImportance),
			named("medium high", connect.MediumHighImportance),
		}
		for _, busy := range []bool{true, false} {
			order = nil
			release := func() {}
			if busy {
				release = busyQueue(r, 0)
			}
			inISR(r, 0, func() {
				for _, d := range dpcs {
					assert.True(t, d.Insert(nil, nil))
				}
				dpcs[1].SetImportance(connect.HighImportance) // too late for this insert
			})
			dpcs[1].SetImportance(connect.MediumImportance)
			release()
			flush(t)
			assert.Equal(t, []string{"high", "low", "medium", "medium high"}, order, "busy before: %v", busy)
		}
	})
	onMachine(t, "178", func(t *testing.T, m *vfiotest.Machine) {
		r := e1000e(t, m)
		ran := make(chan any, 4)
		d := connect.NewDPC(func(_ *connect.DPC, _, one, _ any) { ran <- one }, nil)
		assert.False(t, d.Remove(), "it is not queued")
		release := busyQueue(r, 0)
		inISR(r, 0, func() {
			assert.True(t, d.Insert("removed by the service routine", nil))
			assert.True(t, d.Remove())
			assert.True(t, d.Insert("removed from the queue", nil))
		})
		assert.True(t, d.Remove())
		assert.False(t, d.Remove())
		inISR(r, 0, func() { assert.True(t, d.Insert("stays", nil)) })
		release()
		assert.Equal(t, "stays", received(t, ran))
		flush(t)
		assert.False(t, d.Remove(), "it ran")
		assert.Empty(t, ran)
		assert.EqualValues(t, 1, d.Runs())
	})
	onMachine(t, "179", func(t *testing.T, m *vfiotest.Machine) {
		r := e1000e(t, m)
		flush(t) // with nothing to wait for
		const n = 20
		var ended atomic.Int64
		release := busyQueue(r, 0)
		inISR(r, 0, func() {
			for range n {
				connect.NewDPC(func(*connect.DPC, any, any, any) { ended.Add(1) }, nil).Insert(nil, nil)
			}
		})
		flushed := make(chan error, 1)
		go func() {
			err := connect.FlushDPCs()
			assert.EqualValues(t, n, ended.Load())
			flushed <- err
		}()
		requireWait(t, "connect.FlushDPCs", flushed)
		release()
		require.NoError(t, received(t, flushed))
	})
	onMachine(t, "179b", func(t *testing.T, m *vfiotest.Machine) {
		// What a service routine has queued counts though the routine has not returned.
		r := e1000e(t, m)
		inside, goOn := make(chan struct{}), make(chan struct{})
		d := connect.NewDPC(func(*connect.DPC, any, any, any) {}, nil)
		r.connect(0, func(*connect.Interrupt, any) bool {
			if d.Insert(nil, nil) {
				inside <- struct{}{}
				<-goOn
			}
			return true
		})
		r.trigger(0)
		received(t, inside)
		flushed := make(chan error, 1)
		go func() {
			err := connect.FlushDPCs()
			assert.EqualValues(t, 1, d.Runs())
			flushed <- err
		}()
		requireWait(t, "connect.FlushDPCs", flushed)
		close(goOn)
		require.NoError(t, received(t, flushed))
	})
	onMachine(t, "180", func(t *testing.T, m *vfiotest.Machine) {
		cpus := m.CPUs.CPUs()
		if len(cpus) < 2 {
			t.Skip("one CPU")
		}
		r := open(t, m, m.E1000E, connect.Policy{Kind: pci.KindMSIX, CPUs: m.CPUs})
		ran := make(chan int, 1)
		d := connect.NewDPC(func(*connect.DPC, any, any, any) {
			cpu, err := m.Host.CurrentCPU()
			assert.NoError(t, err)
			ran <- cpu
		}, nil)
		for n, cpu := range cpus {
			other := cpus[(n+1)%len(cpus)]
			// The queue of the first target is held up, the target changed, and the DPC still runs on the first.
			inside, goOn := make(chan struct{}), make(chan struct{})
			holder := connect.NewDPC(func(*connect.DPC, any, any, any) {
				close(inside)
				<-goOn
			}, nil)
			require.NoError(t, holder.SetTarget(cpu))
			require.NoError(t, d.SetTarget(cpu))
			inISR(r, 0, func() { holder.Insert(nil, nil) })
			received(t, inside)
			inISR(r, 0, func() { assert.True(t, d.Insert(nil, nil)) })
			require.NoError(t, d.SetTarget(other))
			close(goOn)
			assert.Equal(t, cpu, received(t, ran))
			flush(t)
			inISR(r, 0, func() { assert.True(t, d.Insert(nil, nil)) })
			assert.Equal(t, other, received(t, ran))
			flush(t)
		}
	})
	onMachine(t, "181", func(t *testing.T, m *vfiotest.Machine) {
		r := e1000e(t, m)
		type call struct {
			dpc              *connect.DPC
			device           *vfio.Device
			request, context any
		}
		calls := make(chan call, 1)
		request, context := new(int), new(string)
		d := connect.InitializeDPCRequest(r.dev, func(d *connect.DPC, device *vfio.Device, request, context any) {
			calls <- call{d, device, request, context}
			bugCheck(t, d.Request(request, context), connect.DriverViolation, 1, uint64(connect.DispatchLevel), 3)
		})
		inISR(r, 0, func() {
			assert.NoError(t, d.Request(request, context))
			assert.NoError(t, d.Request(nil, nil), "the same coalescing")
		})
		assert.Equal(t, call{d, r.dev, request, context}, received(t, calls))
		bugCheck(t, d.Request(request, context), connect.DriverViolation, 1, 0, 3)
		flush(t)
		assert.EqualValues(t, 1, d.Runs())
	})
}

// A DPC that is inserted with an interrupt lock held begins when the lock is free, as on Windows.
func TestDPCUnderALock(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		r := e1000e(t, m)
		i := r.connect(0, claim)
		var d *connect.DPC
		ran := make(chan struct{})
		d = connect.NewDPC(func(*connect.DPC, any, any, any) { close(ran) }, nil)
		i.Synchronize(func() bool {
			assert.True(t, d.Insert(nil, nil))
			for range 1000 {
				runtime.Gosched()
			}
			assert.Zero(t, d.Runs())
			assert.NoError(t, d.Request(nil, nil), "it is at the level of the device")
			return true
		})
		received(t, ran)
		flush(t)
	})
}

// A deferred routine runs on the processors of its service routine, on one thread, at DISPATCH_LEVEL.
func TestDPCThread(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		for cpu := range m.CPUs.All() {
			r := open(t, m, m.EDU, connect.Policy{Kind: pci.KindMSI, CPUs: host.CPUSetOf(cpu)})
			threads := make(chan int, 1)
			d := connect.NewDPC(func(d *connect.DPC, _, _, _ any) {
				at, err := m.Host.CurrentCPU()
				assert.NoError(t, err)
				assert.Equal(t, cpu, at)
				bugCheck(t, connect.FlushDPCs(), connect.DriverViolation, 1, uint64(connect.DispatchLevel), 0)
				bugCheck(t, d.SetTarget(cpu), connect.DriverViolation, 1, uint64(connect.DispatchLevel), 0)
				threads <- unix.Gettid()
			}, nil)
			i := r.connect(0, func(*connect.Interrupt, any) bool {
				bugCheck(t, connect.FlushDPCs(), connect.DriverViolation)
				d.Insert(nil, nil)
				return true
			})
			var first int
			for n := range 10 {
				r.trigger(0)
				tid := received(t, threads)
				if n == 0 {
					first = tid
				}
				assert.Equal(t, first, tid)
			}
			assert.True(t, threadAlive(first))
			r.disconnect(i)
			eventually(t, "the worker has ended with its dispatcher", func() bool { return !threadAlive(first) })
			r.close()
		}
	})
}

// A routine that panics or ends its goroutine is reported, and the other DPCs of the queue run.
func TestDPCThatFails(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		r := e1000e(t, m)
		cause := errors.New("out of order")
		for name, fault := range map[string]func(){
			"panicked: out of order": func() { panic(cause) },
			"ended its goroutine":    runtime.Goexit,
		} {
			reports := make(chan error, 2)
			bad := connect.NewDPC(func(*connect.DPC, any, any, any) { fault() }, nil)
			bad.OnError(func(d *connect.DPC, err error) {
				assert.Same(t, bad, d)
				reports <- err
			})
			ran := make(chan struct{}, 1)
			good := connect.NewDPC(func(*connect.DPC, any, any, any) { ran <- struct{}{} }, nil)
			for range 2 {
				inISR(r, 0, func() {
					assert.True(t, bad.Insert(nil, nil))
					assert.True(t, good.Insert(nil, nil))
				})
				received(t, ran)
				err := received(t, reports)
				var failed *connect.DeferredRoutineError
				require.ErrorAs(t, err, &failed)
				assert.Same(t, bad, failed.DPC)
				require.ErrorContains(t, err, name)
				require.ErrorContains(t, err, "TestDPCThatFails")
				assert.NotEmpty(t, failed.Stack)
				assert.Equal(t, strings.Contains(name, "panicked"), errors.Is(err, cause))
			}
			require.ErrorContains(t, bad.Err(), name)
			require.NoError(t, good.Err())
			flush(t)
		}
	})
}

func TestDPCTargetsThatAreNotThere(t *testing.T) {
	d := connect.NewDPC(func(*connect.DPC, any, any, any) {}, nil)
	for _, cpu := range []int{-1, 4000, 1 << 30} {
		require.Error(t, d.SetTarget(cpu), "CPU %d", cpu)
	}
	assert.True(t, d.Insert(nil, nil), "the target is what it was: none")
	flush(t)
	assert.EqualValues(t, 1, d.Runs())
}

// Without a routine there is nothing to call: that is an error of the run.
func TestDPCWithoutARoutine(t *testing.T) {
	d := connect.NewDPC(nil, nil)
	assert.True(t, d.Insert(nil, nil))
	flush(t)
	require.ErrorContains(t, d.Err(), "nil pointer")
}

// Closing devices, with DPCs queued and running, leaves no thread, goroutine or file.
func TestDPCWorkersEnd(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		rounds := 50
		if m.Real {
			rounds = 10
		}
		files := takeFootprint(t)
		var runs, inserted atomic.Int64
		for range rounds {
			r := open(t, m, m.EDU, connect.Policy{Kind: pci.KindMSI})
			tids := make(chan int, 1)
			d := connect.NewDPC(func(*connect.DPC, any, any, any) {
				runs.Add(1)
				tell(tids, unix.Gettid())
			}, nil)
			r.connect(0, func(*connect.Interrupt, any) bool {
				if d.Insert(nil, nil) {
					inserted.Add(1)
				}
				return true
			})
			for range 20 {
				r.trigger(0)
			}
			tid := received(t, tids)
			r.close()
			eventually(t, "the worker has ended", func() bool { return !threadAlive(tid) })
		}
		flush(t)
		assert.Equal(t, inserted.Load(), runs.Load(), "what was queued ran, though its device was closed")
		eventually(t, "no eventfd is left", func() bool { return len(openFiles(t)) == len(files.files) })
		files.requireNothingLeft(t)
	})
}
