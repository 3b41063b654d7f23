package connect

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// lone is an interrupt without a source: enough for what only concerns its lock.
func lone(lock *SpinLock, irql KIRQL) *Interrupt {
	i := &Interrupt{lock: lock, synchronizeIRQL: irql, source: &source{}}
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
