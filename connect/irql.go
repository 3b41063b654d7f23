package connect

import (
	"fmt"
	"maps"
	"runtime"
	"slices"
	"sync"

	"golang.org/x/sys/unix"
)

// KIRQL is an interrupt request level: the Windows KIRQL, a UCHAR. Linux has none in user space, so a level here
// masks nothing. It is carried, checked, and used to tell which calls a thread may make.
type KIRQL = uint8

// The levels of x64 Windows that this package tells apart; a device's own level, its DIRQL, is 3 to 11.
const (
	PassiveLevel  KIRQL = 0
	APCLevel      KIRQL = 1
	DispatchLevel KIRQL = 2
	HighLevel     KIRQL = 15
)

// thread is an OS thread above PASSIVE_LEVEL: one that runs service or deferred routines, or one that holds an
// interrupt lock. Its fields belong to the thread, which has a single locked goroutine, and need no lock.
type thread struct {
	tid  int32
	irql KIRQL
	// uses counts why the thread is registered: its dispatcher or queue, and each call of raise.
	uses int
	// queue is where DPCs go that are inserted on the thread, nil for the queue of ordinary goroutines.
	queue *dpcQueue
	// deferred is set when the thread has put something into pending: DPCs that wait for the end of the walk, or for
	// the lock to be released.
	deferred bool
	pending  dpcList
}

// threads finds the thread that a caller runs on. Connect, Disconnect, the calls that take or release a lock and the
// inserts of DPCs look: a service routine is called without it. Those who only look do not wait for each other.
var threads struct {
	mu    sync.RWMutex
	byTID map[int32]*thread
}

// lookupThread returns the calling thread if it is above PASSIVE_LEVEL, else nil. A goroutine on such a thread is
// locked to it, so the answer cannot become wrong for the caller. Any other goroutine gets nil: it stays on its thread
// while it looks, lest it find what another one registers for the thread that it was on.
func lookupThread() *thread {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	tid := int32(unix.Gettid())
	threads.mu.RLock()
	defer threads.mu.RUnlock()
	return threads.byTID[tid]
}

func allThreads() []*thread {
	threads.mu.RLock()
	defer threads.mu.RUnlock()
	return slices.Collect(maps.Values(threads.byTID))
}

// enterThread registers the calling goroutine's thread, which must be locked.
func enterThread() *thread {
	t := &thread{tid: int32(unix.Gettid()), uses: 1}
	threads.mu.Lock()
	defer threads.mu.Unlock()
	if threads.byTID == nil {
		threads.byTID = make(map[int32]*thread)
	}
	threads.byTID[t.tid] = t
	return t
}

// leave takes the thread out again; Linux reuses thread ids.
func (t *thread) leave() {
	if t.deferred {
		t.handOn() // its goroutine ends in the middle of a walk
	}
	threads.mu.Lock()
	defer threads.mu.Unlock()
	delete(threads.byTID, t.tid)
}

// requirePassive refuses a call that Windows allows at PASSIVE_LEVEL only. From a service or deferred routine or under
// an interrupt lock such a call would wait for itself.
func requirePassive(op string) error {
	t := lookupThread()
	if t == nil {
		return nil
	}
	return &BugCheckError{
		Code:       DriverViolation,
		Parameters: [4]uint64{1, uint64(t.irql), uint64(PassiveLevel)},
		Reason: fmt.Sprintf("%s was called at IRQL %d, from a service routine, a deferred routine or with an interrupt lock held; "+
			"call it from an ordinary goroutine", op, t.irql),
	}
}

// raise takes the calling goroutine to a level, and binds it to its thread until lower: a lock has a thread as its
// owner. before is the level to lower to. Calls nest.
func raise(irql KIRQL) (t *thread, before KIRQL) {
	runtime.LockOSThread()
	if t = lookupThread(); t == nil {
		t = enterThread()
	} else {
		t.uses++
	}
	before, t.irql = t.irql, irql
	return t, before
}

// lower undoes one raise. At DISPATCH_LEVEL and below deferred routines may begin. The thread is forgotten with the
// last one.
func (t *thread) lower(irql KIRQL) {
	t.irql = irql
	if t.deferred && irql <= DispatchLevel {
		t.handOn()
	}
	t.uses--
	if t.uses == 0 {
		t.leave()
	}
	runtime.UnlockOSThread()
}

// atThread runs f with the caller's thread registered and at the given level, and restores what was before.
func atThread(irql KIRQL, f func(t *thread)) {
	t, before := raise(irql)
	defer t.lower(before)
	f(t)
}

// onNewThread runs f in a goroutine that is locked to a thread which ends with it. It is not the process's first thread:
// when a goroutine ends that is locked to that one, the runtime parks it for good in place of ending it, with the
// affinity that it had.
func onNewThread(f func()) {
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() != unix.Getpid() {
			f()
			return
		}
		// As long as this goroutine is locked to the first thread, another one runs elsewhere.
		elsewhere := make(chan struct{})
		go func() {
			runtime.LockOSThread()
			close(elsewhere)
			f()
		}()
		<-elsewhere
		runtime.UnlockOSThread()
	}()
}
