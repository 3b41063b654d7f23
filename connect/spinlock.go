package connect

import (
	"fmt"
	"sync"
	"sync/atomic"
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

	users struct {
		sync.Mutex
		n    int
		irql KIRQL
	}
}

// acquire takes the lock for a thread. false means that the thread has it already.
func (l *SpinLock) acquire(tid int32) bool {
	if l.owner.Load() == tid {
		return false
	}
	l.mu.Lock()
	l.owner.Store(tid)
	return true
}

func (l *SpinLock) release() {
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
// do so under its own lock: that would wait for itself, so it panics with a [*BugCheckError] instead. In a service
// routine the dispatcher turns the panic into the interrupt's error.
func (i *Interrupt) Synchronize(fn func() bool) (result bool) {
	atThread(i.synchronizeIRQL, func(t *thread) {
		if !i.lock.acquire(t.tid) {
			panic(&BugCheckError{
				Code:      SpinLockAlreadyOwned,
				Interrupt: i,
				Reason: fmt.Sprintf("recursive Synchronize: this thread already holds the lock of vector 0x%x; "+
					"its service routine runs under that lock and needs no Synchronize", i.Descriptor().Vector),
			})
		}
		defer i.lock.release()
		result = fn()
	})
	return result
}
