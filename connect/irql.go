package connect

import (
	"fmt"
	"runtime"
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

// thread is an OS thread above PASSIVE_LEVEL: one that runs service routines, or one that holds an interrupt lock. Its
// fields belong to the thread, which has a single locked goroutine, and need no lock.
type thread struct {
	tid  int32
	irql KIRQL
	// uses counts why the thread is registered: its dispatcher, and each call of raise.
	uses int
}

// threads finds the thread that a caller runs on. Only Connect, Disconnect and the calls that take or release a lock
// look: a service routine is called without it.
var threads struct {
	mu    sync.Mutex
	byTID map[int32]*thread
}

// lookupThread returns the calling thread if it is above PASSIVE_LEVEL, else nil. A goroutine on such a thread is
// locked to it, so the answer cannot become wrong for the caller; any other goroutine gets nil wherever it moves.
func lookupThread() *thread {
	tid := int32(unix.Gettid())
	threads.mu.Lock()
	defer threads.mu.Unlock()
	return threads.byTID[tid]
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
	threads.mu.Lock()
	defer threads.mu.Unlock()
	delete(threads.byTID, t.tid)
}

// requirePassive refuses a call that Windows allows at PASSIVE_LEVEL only. From a service routine or under an
// interrupt lock such a call would wait for itself.
func requirePassive(op string) error {
	t := lookupThread()
	if t == nil {
		return nil
	}
	return &BugCheckError{
		Code:       DriverViolation,
		Parameters: [4]uint64{1, uint64(t.irql), uint64(PassiveLevel)},
		Reason: fmt.Sprintf("%s was called at IRQL %d, from a service routine or with an interrupt lock held; "+
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

// lower undoes one raise. The thread is forgotten with the last one.
func (t *thread) lower(irql KIRQL) {
	t.irql = irql
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
