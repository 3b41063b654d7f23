package connect

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// SpinLock is an interrupt lock: the KSPIN_LOCK that a driver hands to IoConnectInterruptEx when several service
// routines share data. The zero value is a lock that nobody holds, as KeInitializeSpinLock leaves it.
//
// It does not spin. A user-space thread may lose its processor while it holds a lock, and whoever spun for it then
// would burn a processor or, with a real-time priority, keep the holder from ever running.
//
// All interrupts that share a lock must have the same SynchronizeIrql, the highest Irql among them; [LockGroup]
// sets it. A SpinLock must not be copied after it was used.
type SpinLock struct {
	mu sync.Mutex
	// owner is the id of the thread that holds mu, 0 for none. It is how recursion is found instead of hung in.
	owner atomic.Int32
	// byHand is guarded by mu: AcquireLock took the lock, at level before, and ReleaseLock has to give it back. A lock
	// that a service routine runs under, or the function of Synchronize, is not theirs to release.
	byHand bool
	before KIRQL
	taken  time.Time // zero when it is not measured

	users struct {
		sync.Mutex
		n    int
		irql KIRQL
	}
}

// acquire takes the lock for a thread that has none.
func (l *SpinLock) acquire(tid int32) {
	l.mu.Lock()
	l.owner.Store(tid)
}

// lockWaits are the locks that threads wait for which may have others.
var lockWaits struct {
	sync.Mutex
	byTID map[int32]*SpinLock
}

// acquireWith takes the lock for a thread that may have others. Where that would be to wait for itself it does not, and
// says why: the thread has the lock already, or who has it waits for one of the thread's, be it by way of others.
func (l *SpinLock) acquireWith(tid int32) (refused string) {
	if l.owner.Load() == tid {
		return "this thread already holds it, as its service routine does, which runs under it"
	}
	if !l.mu.TryLock() {
		// Of those who make a circle the last one to wait sees it: the others have written down what they wait for.
		lockWaits.Lock()
		if l.leadsTo(tid) {
			lockWaits.Unlock()
			return "the thread that holds it waits for a lock that this thread holds; take locks in the same order everywhere"
		}
		if lockWaits.byTID == nil {
			lockWaits.byTID = make(map[int32]*SpinLock)
		}
		lockWaits.byTID[tid] = l
		lockWaits.Unlock()
		l.mu.Lock()
		lockWaits.Lock()
		delete(lockWaits.byTID, tid)
		lockWaits.Unlock()
	}
	l.owner.Store(tid)
	return ""
}

// leadsTo tells whether the lock's holder waits for the thread. lockWaits is locked. A thread that has just got a lock may
// not be its owner yet; it waits for no other before it is.
func (l *SpinLock) leadsTo(tid int32) bool {
	for {
		owner := l.owner.Load()
		if owner == tid {
			return true
		}
		next := lockWaits.byTID[owner]
		if next == nil {
			return false
		}
		l = next
	}
}

func (l *SpinLock) release() {
	l.byHand = false
	l.owner.Store(0)
	l.mu.Unlock()
}

// join counts a connection that uses the lock and refuses one whose SynchronizeIrql differs from the others'.
func (l *SpinLock) join(irql KIRQL) error {
	l.users.Lock()
	defer l.users.Unlock()
	if l.users.n > 0 && l.users.irql != irql {
		return fmt.Errorf("the spin lock is in use with SynchronizeIrql %d, not %d; "+
			"interrupts that share a lock share its level, see LockGroup", l.users.irql, irql)
	}
	l.users.n++
	l.users.irql = irql
	return nil
}

func (l *SpinLock) part() {
	l.users.Lock()
	defer l.users.Unlock()
	l.users.n--
}

// LockGroup makes interrupts share one lock: it sets SpinLock in each of the parameters and SynchronizeIrql to the
// highest Irql among them, which Windows demands of a driver that shares a lock ("the maximum of all"). The mapping
// of the page, SynchronizeIrql = Level, is right for a private lock only. A passive-level interrupt (Irql 0) can
// have no spin lock and is left as it is.
func LockGroup(lock *SpinLock, ps ...*Parameters) {
	var highest KIRQL
	for _, p := range ps {
		highest = max(highest, p.Irql)
	}
	for _, p := range ps {
		if p.Irql != PassiveLevel {
			p.SpinLock, p.SynchronizeIrql = lock, highest
		}
	}
}

// Synchronize is KeSynchronizeExecution: it runs fn on the caller's thread while it holds the interrupt's lock, and
// returns what fn returned. No service routine that uses the lock runs meanwhile. Keep fn short: the service
// routines wait for it.
//
// fn may use the device and the data it shares with the service routine. It must not call Connect or Disconnect
// (they return a [*BugCheckError]) and must not call Synchronize with the same lock again, nor may a service routine
// do so under its own lock: that would wait for itself, so it panics with a [*BugCheckError] instead. So it does when it
// would wait for a thread that waits for a lock of this one: two locks are taken in the same order everywhere. In a
// service routine the dispatcher turns the panic into the interrupt's error.
func (i *Interrupt) Synchronize(fn func() bool) (result bool) {
	atThread(i.synchronizeIRQL, func(t *thread) {
		if refused := i.lock.acquireWith(t.tid); refused != "" {
			panic(i.ownWait("Synchronize", refused))
		}
		defer i.releaseLock(i.lockTaken())
		result = fn()
	})
	return result
}

// ownWait refuses to take a lock for which the thread would wait for ever.
func (i *Interrupt) ownWait(op, why string) *BugCheckError {
	return &BugCheckError{
		Code:      SpinLockAlreadyOwned,
		Interrupt: i,
		Reason:    fmt.Sprintf("%s would wait for itself for the lock of vector 0x%x: %s", op, i.Descriptor().Vector, why),
	}
}

// AcquireLock is KeAcquireInterruptSpinLock: it takes the interrupt's lock and returns the level that the caller had,
// for [Interrupt.ReleaseLock]: 0 from ordinary code. No service routine that uses the lock runs until then. [Interrupt.Synchronize]
// does the same around a function and cannot be left with the lock held; prefer it.
//
// The lock has a thread as its owner. So the goroutine is bound to its thread until it has released the lock, and
// must be the one that does; a goroutine that ends before leaves the lock taken for good. With the lock held the
// rules of Synchronize hold: no Connect, no Disconnect, nothing that waits.
//
// The error is a [*BugCheckError], and nothing has changed: SpinLockAlreadyOwned when this thread has the lock already,
// in a service routine that runs under it or by an earlier call, or would wait for a thread that waits for a lock of this
// one; PassiveInterruptError for an interrupt with a
// passive-level routine, which has no spin lock and whose Synchronize works.
func (i *Interrupt) AcquireLock() (before KIRQL, err error) {
	if i.passive() {
		return 0, &BugCheckError{
			Code:       PassiveInterruptError,
			Parameters: [4]uint64{1},
			Interrupt:  i,
			Reason: fmt.Sprintf("AcquireLock: the service routine of vector 0x%x runs at passive level and has no spin lock; "+
				"use Synchronize", i.Descriptor().Vector),
		}
	}
	t, before := raise(i.synchronizeIRQL)
	if refused := i.lock.acquireWith(t.tid); refused != "" {
		t.lower(before)
		return 0, i.ownWait("AcquireLock", refused)
	}
	i.lock.byHand, i.lock.before, i.lock.taken = true, before, i.lockTaken()
	return before, nil
}

// ReleaseLock is KeReleaseInterruptSpinLock: it releases what [Interrupt.AcquireLock] took and returns to the level that it
// returned. Several locks are released in the opposite order.
//
// The error is a [*BugCheckError], and nothing has changed: SpinLockNotOwned when this thread has no lock from
// AcquireLock, because it never called it, has released it already, or is not the thread that did;
// IRQLNotGreaterOrEqual when before is not what AcquireLock returned.
func (i *Interrupt) ReleaseLock(before KIRQL) error {
	t := lookupThread()
	if t == nil || i.lock.owner.Load() != t.tid || !i.lock.byHand {
		return &BugCheckError{
			Code:      SpinLockNotOwned,
			Interrupt: i,
			Reason: fmt.Sprintf("ReleaseLock: this thread holds no lock of vector 0x%x from AcquireLock; "+
				"release it once, in the goroutine that acquired it", i.Descriptor().Vector),
		}
	}
	if before != i.lock.before {
		return &BugCheckError{
			Code:       IRQLNotGreaterOrEqual,
			Parameters: [4]uint64{uint64(before), uint64(i.lock.before)},
			Interrupt:  i,
			Reason: fmt.Sprintf("ReleaseLock(%d): AcquireLock returned %d for vector 0x%x; pass that",
				before, i.lock.before, i.Descriptor().Vector),
		}
	}
	i.releaseLock(i.lock.taken)
	t.lower(before)
	return nil
}
