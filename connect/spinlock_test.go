package connect

import (
	"maps"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// lone is an interrupt without a source: enough for what only concerns its lock.
func lone(lock *SpinLock, irql KIRQL) *Interrupt {
	i := &Interrupt{lock: lock, synchronizeIRQL: irql, source: &source{device: &device{}}}
	if lock == nil {
		i.lock = &i.private
	}
	return i
}

func TestSpinLockUsersAgreeOnTheLevel(t *testing.T) {
	var l SpinLock
	require.NoError(t, l.join(9))
	require.NoError(t, l.join(9))
	require.ErrorContains(t, l.join(5), "SynchronizeIrql 9, not 5")
	l.part()
	require.Error(t, l.join(5))
	l.part()
	require.NoError(t, l.join(5), "the users of before have gone, and their level with them")
}

func TestSynchronizeRestoresTheThread(t *testing.T) {
	a, b := lone(nil, 5), lone(nil, 9)
	assert.Nil(t, lookupThread())
	got := a.Synchronize(func() bool {
		outer := lookupThread()
		require.NotNil(t, outer)
		assert.Equal(t, KIRQL(5), outer.irql)
		inner := b.Synchronize(func() bool {
			assert.Same(t, outer, lookupThread(), "one thread is one entry")
			assert.Equal(t, KIRQL(9), outer.irql)
			return false
		})
		assert.False(t, inner)
		assert.Equal(t, KIRQL(5), outer.irql)
		return true
	})
	assert.True(t, got)
	assert.Nil(t, lookupThread(), "back at PASSIVE_LEVEL")
}

func TestSynchronizeReleasesAfterAPanic(t *testing.T) {
	i := lone(nil, 5)
	assert.PanicsWithValue(t, "fn failed", func() { i.Synchronize(func() bool { panic("fn failed") }) })
	assert.Nil(t, lookupThread())
	assert.True(t, i.Synchronize(func() bool { return true }))
}

func TestRecursionOverTwoInterruptsOfOneLock(t *testing.T) {
	var l SpinLock
	a, b := lone(&l, 9), lone(&l, 9)
	a.Synchronize(func() bool {
		defer func() {
			err, ok := recover().(*BugCheckError)
			require.True(t, ok)
			assert.Equal(t, SpinLockAlreadyOwned, err.Code)
			assert.Same(t, b, err.Interrupt)
		}()
		b.Synchronize(func() bool { return true })
		t.Error("the lock was taken twice")
		return true
	})
	assert.True(t, b.Synchronize(func() bool { return true }))
}

// Threads that take locks in different orders would wait for each other for ever: the one that closes the circle is
// refused, and the others go on when it has released what it has.
func TestLocksInDifferentOrders(t *testing.T) {
	for _, n := range []int{2, 5} {
		locks := make([]*Interrupt, n)
		for k := range locks {
			locks[k] = lone(nil, 5)
		}
		awaited := func(l *SpinLock) bool {
			lockWaits.Lock()
			defer lockWaits.Unlock()
			return slices.Contains(slices.Collect(maps.Values(lockWaits.byTID)), l)
		}
		last := locks[n-1]
		before, err := last.AcquireLock()
		require.NoError(t, err)
		done := make(chan bool)
		for k := n - 2; k >= 0; k-- { // each holds its own and waits for the next one's
			go func() {
				done <- locks[k].Synchronize(func() bool { return locks[k+1].Synchronize(func() bool { return true }) })
			}()
			require.Eventually(t, func() bool { return awaited(locks[k+1].lock) }, time.Minute, time.Millisecond)
		}
		_, err = locks[0].AcquireLock()
		var check *BugCheckError
		require.ErrorAs(t, err, &check)
		assert.Equal(t, SpinLockAlreadyOwned, check.Code)
		assert.Same(t, locks[0], check.Interrupt)
		assert.Contains(t, check.Reason, "same order")
		assert.PanicsWithError(t, (&BugCheckError{
			Code: SpinLockAlreadyOwned, Interrupt: locks[0], Reason: strings.Replace(check.Reason, "AcquireLock", "Synchronize", 1),
		}).Error(), func() { locks[0].Synchronize(func() bool { return true }) })
		require.NoError(t, last.ReleaseLock(before))
		for range n - 1 {
			assert.True(t, <-done)
		}
		assert.Nil(t, lookupThread())
		assert.Empty(t, lockWaits.byTID)
	}
}

func TestAcquireLockBindsTheThread(t *testing.T) {
	a, b := lone(nil, 5), lone(nil, 9)
	first, err := a.AcquireLock()
	require.NoError(t, err)
	second, err := b.AcquireLock()
	require.NoError(t, err)
	assert.Equal(t, []KIRQL{0, 5}, []KIRQL{first, second})
	tid := unix.Gettid()
	for range 100 {
		runtime.Gosched()
		require.Equal(t, tid, unix.Gettid())
	}
	require.NoError(t, b.ReleaseLock(second))
	assert.Equal(t, KIRQL(5), lookupThread().irql)
	require.NoError(t, a.ReleaseLock(first))
	assert.Nil(t, lookupThread(), "back at PASSIVE_LEVEL")
}

// The lock that Synchronize and service routines hold is not the caller's to release.
func TestReleaseLockInsideSynchronize(t *testing.T) {
	i, other := lone(nil, 5), lone(nil, 9)
	var before KIRQL
	i.Synchronize(func() bool {
		var check *BugCheckError
		require.ErrorAs(t, i.ReleaseLock(0), &check)
		assert.Equal(t, SpinLockNotOwned, check.Code)
		assert.Equal(t, int32(unix.Gettid()), i.lock.owner.Load(), "still held")
		var err error
		before, err = other.AcquireLock()
		assert.NoError(t, err)
		return true
	})
	require.NotNil(t, lookupThread(), "the other lock is still held")
	require.NoError(t, other.ReleaseLock(before))
	assert.Nil(t, lookupThread())
}
