package connect

import (
	"encoding/binary"
	"runtime"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/irqbridge/irqbridge/pci"
	"github.com/irqbridge/irqbridge/vfio/host"
)

// serviceThread makes the caller's thread one that runs a service routine of d's, until the returned function is
// called.
func serviceThread(d *dispatcher) (*thread, func()) {
	runtime.LockOSThread()
	t := enterThread()
	t.queue, t.irql = d.deferred, 9
	return t, func() {
		t.leave()
		runtime.UnlockOSThread()
	}
}

// A service routine that inserts a DPC allocates nothing, whether the DPC is queued already or not.
func TestInsertDoesNotAllocate(t *testing.T) {
	d := startTestDispatcher(t)
	var before uint64
	dpc := NewDPC(func(*DPC, any, any, any) {}, nil)
	self, leave := serviceThread(d)
	defer leave()
	argument := new(int)
	assert.Zero(t, testing.AllocsPerRun(1000, func() {
		dpc.Insert(argument, nil)
		dpc.Insert(argument, nil)
		self.handOn()
		for before++; dpc.Runs() < before; {
			runtime.Gosched()
		}
	}))
}

// A service routine that inserts nothing starts no thread.
func TestNoDPCNoWorker(t *testing.T) {
	for _, q := range dpcQueues.all() {
		eventually(t, "the workers of other tests have ended", func() bool { return !q.hasWorker() })
	}
	d := startTestDispatcher(t)
	served := make(chan struct{}, 1)
	s := messageSource(t, d, func(*Interrupt, any) bool { served <- struct{}{}; return true })
	for range 10 {
		signal(t, s, 1)
		received(t, served)
	}
	assert.False(t, d.deferred.hasWorker())
}

func (q *dpcQueue) hasWorker() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.alive
}

// The worker of a set of processors ends with the last dispatcher of the set, those of targets and of ordinary
// goroutines with the last of all.
func TestWorkersEndWithTheirDispatchers(t *testing.T) {
	first, second := startUnstoppedDispatcher(t), startUnstoppedDispatcher(t)
	require.Same(t, first.deferred, second.deferred, "one queue for a set")
	dpc := NewDPC(func(*DPC, any, any, any) {}, nil)
	assert.True(t, dpc.Insert(nil, nil))
	require.NoError(t, FlushDPCs())
	common := dpcQueueOf(host.CPUSet{})
	func() {
		_, leave := serviceThread(first)
		defer leave()
		assert.True(t, dpc.Insert(nil, nil))
	}()
	require.NoError(t, FlushDPCs())
	assert.True(t, first.deferred.hasWorker())
	assert.True(t, common.hasWorker())
	first.stop()
	assert.True(t, second.deferred.hasWorker())
	second.stop()
	for _, q := range []*dpcQueue{second.deferred, common} {
		eventually(t, "the worker has ended", func() bool { return !q.hasWorker() })
	}
	// Without any dispatcher a worker lives as long as there is something to run.
	assert.True(t, dpc.Insert(nil, nil))
	require.NoError(t, FlushDPCs())
	eventually(t, "the worker has ended", func() bool { return !common.hasWorker() })
	assert.EqualValues(t, 3, dpc.Runs())
}

// A service routine that ends its goroutine after an insert does not take the DPC with it.
func TestInsertBeforeGoexit(t *testing.T) {
	d := startTestDispatcher(t)
	ran := make(chan struct{})
	dpc := NewDPC(func(*DPC, any, any, any) { close(ran) }, nil)
	s := sourceOf(t, d, pci.KindINTx, func(*Interrupt, any) bool { // a line, which has nothing to disarm
		dpc.Insert(nil, nil)
		runtime.Goexit()
		return true
	})
	signal(t, s, 1)
	received(t, ran)
}

// A worker that can open no eventfd runs what is queued, and ends.
func TestWorkerOutOfFiles(t *testing.T) {
	d := startTestDispatcher(t)
	var old unix.Rlimit
	require.NoError(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &old))
	free, err := unix.Open("/dev/null", unix.O_CLOEXEC, 0)
	require.NoError(t, err)
	require.NoError(t, unix.Close(free))
	require.NoError(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: uint64(free), Max: old.Max}))
	defer func() { require.NoError(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &old)) }()
	dpc := NewDPC(func(*DPC, any, any, any) {}, nil)
	for range 3 {
		func() {
			_, leave := serviceThread(d)
			defer leave()
			assert.True(t, dpc.Insert(nil, nil))
		}()
		require.NoError(t, FlushDPCs())
	}
	assert.EqualValues(t, 3, dpc.Runs())
}

// Many goroutines and service routines that insert, remove and flush the same DPCs: every insert that returned true is
// run or removed, once.
func TestDPCsFromEverywhere(t *testing.T) {
	const n, rounds, inserters = 8, 300, 6
	d := startTestDispatcher(t)
	var dpcs [n]*DPC
	var inserted, removed [n]atomic.Uint64
	for i := range dpcs {
		dpcs[i] = NewDPC(func(*DPC, any, any, any) {}, nil)
		if i%2 == 1 {
			dpcs[i].SetImportance(HighImportance)
		}
		if i == 2 {
			require.NoError(t, dpcs[i].SetTarget(d.cpus.CPUs()[0]))
		}
	}
	done := make(chan struct{})
	for who := range inserters {
		go func() {
			defer func() { done <- struct{}{} }()
			if who%2 == 0 {
				_, leave := serviceThread(d)
				defer leave()
			}
			for round := range rounds {
				for i, dpc := range dpcs {
					if dpc.Insert(nil, nil) {
						inserted[i].Add(1)
					}
					if (round+i)%7 == who && dpc.Remove() {
						removed[i].Add(1)
					}
				}
				if who%2 == 0 {
					lookupThread().handOn()
				} else if round%50 == 0 {
					assert.NoError(t, FlushDPCs())
				}
			}
		}()
	}
	for range inserters {
		received(t, done)
	}
	require.NoError(t, FlushDPCs())
	for i, dpc := range dpcs {
		assert.Equal(t, inserted[i].Load(), dpc.Runs()+removed[i].Load(), "DPC %d", i)
		assert.Nil(t, dpc.list.Load())
	}
}

// BenchmarkDPC is the way from the insert in a service routine to the deferred routine on its thread, and an answer by
// channel.
func BenchmarkDPC(b *testing.B) {
	d := startTestDispatcher(b)
	ran := make(chan struct{}, 1)
	dpc := NewDPC(func(*DPC, any, any, any) { ran <- struct{}{} }, nil)
	self, leave := serviceThread(d)
	defer leave()
	b.ReportAllocs()
	for b.Loop() {
		dpc.Insert(nil, nil)
		self.handOn()
		<-ran
	}
}

// BenchmarkInsertDPC is an insert in a service routine, and taking it back.
func BenchmarkInsertDPC(b *testing.B) {
	d := startTestDispatcher(b)
	dpc := NewDPC(func(*DPC, any, any, any) {}, nil)
	_, leave := serviceThread(d)
	defer leave()
	b.ReportAllocs()
	for b.Loop() {
		dpc.Insert(nil, nil)
		dpc.Remove()
	}
}

// BenchmarkEventFDToDPC is an eventfd's signal to the deferred routine that its service routine queues, and an answer by
// channel: BenchmarkEventFDToRoutine and one thread more.
func BenchmarkEventFDToDPC(b *testing.B) {
	d := startTestDispatcher(b)
	ran := make(chan struct{}, 1)
	dpc := NewDPC(func(*DPC, any, any, any) { ran <- struct{}{} }, nil)
	s := messageSource(b, d, func(*Interrupt, any) bool { return dpc.Insert(nil, nil) })
	one := binary.NativeEndian.AppendUint64(nil, 1)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := unix.Write(s.eventfd.fd, one); err != nil {
			b.Fatal(err)
		}
		<-ran
	}
}
