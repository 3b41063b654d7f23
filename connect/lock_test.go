package connect_test

import (
	"os/exec"
	"runtime"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/irqbridge/irqbridge/connect"
	"github.com/irqbridge/irqbridge/pci"
	"github.com/irqbridge/irqbridge/vfio/vfiotest"
)

// lockRows are the rows of group H.
func lockRows(t *testing.T) {
	onMachine(t, "142", func(t *testing.T, m *vfiotest.Machine) {
		a, b := edu(t, m, pci.KindMSI), open(t, m, m.EDU2, connect.Policy{Kind: pci.KindMSI})
		var lock connect.SpinLock
		inside, overlaps := 0, 0 // under the lock; the race detector watches too
		var sent, seenA, seenB atomic.Int64
		isr := func(seen *atomic.Int64) connect.ServiceRoutine {
			return func(*connect.Interrupt, any) bool {
				if inside++; inside > 1 {
					overlaps++
				}
				seen.Store(sent.Load())
				runtime.Gosched()
				inside--
				return true
			}
		}
		pa, pb := a.params(0, isr(&seenA)), b.params(0, isr(&seenB))
		connect.LockGroup(&lock, pa, pb)
		require.NoError(t, connect.Connect(pa))
		require.NoError(t, connect.Connect(pb))
		for range 2000 {
			sent.Add(1)
			a.trigger(0)
			b.trigger(0)
		}
		eventually(t, "both saw the last signal", func() bool { return seenA.Load() == 2000 && seenB.Load() == 2000 })
		a.disconnect(*pa.InterruptObject)
		b.disconnect(*pb.InterruptObject)
		assert.Zero(t, overlaps)
	})
	onMachine(t, "143", func(t *testing.T, m *vfiotest.Machine) {
		a, b := edu(t, m, pci.KindMSI), open(t, m, m.EDU2, connect.Policy{Kind: pci.KindMSI})
		inside := make(chan struct{})
		goOn := make(chan struct{})
		isr := func(*connect.Interrupt, any) bool {
			inside <- struct{}{}
			<-goOn
			return true
		}
		a.connect(0, isr)
		b.connect(0, isr)
		a.trigger(0)
		b.trigger(0)
		received(t, inside)
		received(t, inside) // both are in their routines now
		close(goOn)
	})
	onMachine(t, "145", func(t *testing.T, m *vfiotest.Machine) {
		i := edu(t, m, pci.KindINTx).connect(0, claim)
		assert.True(t, i.Synchronize(func() bool { return true }))
		assert.False(t, i.Synchronize(func() bool { return false }))
	})
	onMachine(t, "146", func(t *testing.T, m *vfiotest.Machine) {
		r := edu(t, m, pci.KindMSI)
		var inside, overlaps, sent, seen atomic.Int64
		i := r.connect(0, func(*connect.Interrupt, any) bool {
			if inside.Add(1) > 1 {
				overlaps.Add(1)
			}
			seen.Store(sent.Load())
			runtime.Gosched()
			inside.Add(-1)
			return true
		})
		for range 500 {
			sent.Add(1)
			r.trigger(0)
			i.Synchronize(func() bool {
				if inside.Add(1) > 1 {
					overlaps.Add(1)
				}
				runtime.Gosched()
				inside.Add(-1)
				return true
			})
		}
		eventually(t, "the last signal was served", func() bool { return seen.Load() == 500 })
		assert.Zero(t, overlaps.Load())
	})
	onMachine(t, "147", func(t *testing.T, m *vfiotest.Machine) {
		i := edu(t, m, pci.KindINTx).connect(0, claim)
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		caller := unix.Gettid()
		i.Synchronize(func() bool { assert.Equal(t, caller, unix.Gettid()); return true })
	})
	onMachine(t, "148", func(t *testing.T, m *vfiotest.Machine) {
		r := edu(t, m, pci.KindMSI)
		reports := make(chan error, 1)
		r.resources.OnError(func(_ *connect.Interrupt, err error) { reports <- err })
		r.connect(0, func(i *connect.Interrupt, _ any) bool {
			return i.Synchronize(func() bool { return true })
		})
		r.trigger(0)
		err := received(t, reports)
		bugCheck(t, err, connect.SpinLockAlreadyOwned)
		assert.ErrorContains(t, err, "this thread already holds it")
	})
	onMachine(t, "139", func(t *testing.T, m *vfiotest.Machine) {
		low, high := twoLevels(t, m)
		pa, pb := low.params(0, claim), high.params(0, claim)
		require.Nil(t, pa.SpinLock)
		require.Nil(t, pb.SpinLock)
		require.NoError(t, connect.Connect(pa))
		require.NoError(t, connect.Connect(pb))
		a, b := *pa.InterruptObject, *pb.InterruptObject
		assert.False(t, sameLock(low, a, b))
		assert.EqualValues(t, a.Descriptor().Level, levelUnderLock(low, a))
		assert.EqualValues(t, b.Descriptor().Level, levelUnderLock(high, b))
	})
	onMachine(t, "140", func(t *testing.T, m *vfiotest.Machine) {
		low, high := twoLevels(t, m)
		var lock connect.SpinLock
		a, b := low.params(0, claim), high.params(0, claim)
		connect.LockGroup(&lock, a, b)
		assert.Equal(t, b.Irql, a.SynchronizeIrql)
		assert.Equal(t, b.Irql, b.SynchronizeIrql)
		require.NoError(t, connect.Connect(a))
		require.NoError(t, connect.Connect(b))
		assert.True(t, sameLock(low, *a.InterruptObject, *b.InterruptObject))
		assert.Equal(t, b.Irql, levelUnderLock(low, *a.InterruptObject))
	})
	onMachine(t, "141", func(t *testing.T, m *vfiotest.Machine) {
		low, high := twoLevels(t, m)
		var lock connect.SpinLock
		low.connect(0, claim, func(p *connect.Parameters) { p.SpinLock = &lock })
		p := high.params(0, never(t))
		p.SpinLock = &lock
		refused(high, connect.StatusInvalidParameter, p)
	})
	t.Run("144", func(t *testing.T) {
		var lock connect.SpinLock
		var ps []*connect.Parameters
		for _, level := range []uint16{5, 9, 3, 0} {
			p := connect.FullySpecified(pci.TranslatedDescriptor{Level: level})
			ps = append(ps, &p)
		}
		connect.LockGroup(&lock, ps...)
		for _, p := range ps[:3] {
			assert.EqualValues(t, 9, p.SynchronizeIrql)
			assert.Same(t, &lock, p.SpinLock)
		}
		assert.EqualValues(t, 0, ps[3].SynchronizeIrql, "passive level stays")
		assert.Nil(t, ps[3].SpinLock)
	})
	onMachine(t, "149", func(t *testing.T, m *vfiotest.Machine) {
		r := edu(t, m, pci.KindMSI)
		isr, calls := r.reporting(0)
		i := r.connect(0, isr)
		before, err := i.AcquireLock()
		require.NoError(t, err)
		assert.Equal(t, connect.PassiveLevel, before)
		r.raise(0)
		bugCheck(t, i.ReleaseLock(before+1), connect.IRQLNotGreaterOrEqual, 1, 0)
		others := make(chan error)
		go func() { others <- i.ReleaseLock(before) }()
		bugCheck(t, received(t, others), connect.SpinLockNotOwned)
		_, err = i.AcquireLock()
		bugCheck(t, err, connect.SpinLockAlreadyOwned)
		assert.Empty(t, calls, "still locked after all that was refused")
		require.NoError(t, i.ReleaseLock(before))
		received(t, calls)
		bugCheck(t, i.ReleaseLock(before), connect.SpinLockNotOwned)
		serviced(r, 0, calls)
	})
	onMachine(t, "150", func(t *testing.T, m *vfiotest.Machine) {
		i := edu(t, m, pci.KindINTx).connect(0, claim, passive)
		_, err := i.AcquireLock()
		bugCheck(t, err, connect.PassiveInterruptError, 1)
		bugCheck(t, i.ReleaseLock(0), connect.SpinLockNotOwned)
	})
	t.Run("152", func(t *testing.T) {
		var lock connect.SpinLock // of which every other row here uses the zero value
		assert.NotNil(t, &lock)
		tool, err := exec.LookPath("go")
		if err != nil {
			t.Skip("there is no go tool here")
		}
		report, err := exec.Command(tool, "vet", "-copylocks", "./testdata/copylock").CombinedOutput()
		require.Error(t, err)
		assert.Contains(t, string(report), "connect.SpinLock contains sync.Mutex")
	})
	onMachine(t, "151", func(t *testing.T, m *vfiotest.Machine) {
		r := edu(t, m, pci.KindINTx)
		isr, calls := r.reporting(0)
		i := r.connect(0, isr, passive)
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		tid := unix.Gettid()
		assert.True(t, i.Synchronize(func() bool {
			r.raise(0)
			assert.Equal(t, tid, unix.Gettid())
			select {
			case <-calls:
				t.Error("the routine ran under Synchronize")
			default:
			}
			return true
		}))
		assert.Same(t, i, received(t, calls))
	})
	onMachine(t, "153", func(t *testing.T, m *vfiotest.Machine) {
		r := edu(t, m, pci.KindINTx)
		var lock connect.SpinLock
		for _, irql := range []connect.KIRQL{11, 12, 11} {
			i := r.connect(0, claim, func(p *connect.Parameters) { p.SpinLock, p.SynchronizeIrql = &lock, irql })
			assert.Equal(t, irql, levelUnderLock(r, i))
			r.disconnect(i)
		}
	})
}

// twoLevels are two devices whose interrupts have different levels, the lower one first.
func twoLevels(t *testing.T, m *vfiotest.Machine) (low, high *rig) {
	t.Helper()
	low = edu(t, m, pci.KindMSI)
	t.Cleanup(connect.TakeVectors(16)) // the rest of one level
	high = open(t, m, m.EDU2, connect.Policy{Kind: pci.KindMSI})
	require.Less(t, low.messages[0].Translated.Level, high.messages[0].Translated.Level)
	return low, high
}

// levelUnderLock is the IRQL at which a function runs that holds the interrupt's lock.
func levelUnderLock(r *rig, i *connect.Interrupt) (irql connect.KIRQL) {
	r.Helper()
	i.Synchronize(func() bool {
		var check *connect.BugCheckError
		require.ErrorAs(r, connect.Connect(new(connect.Parameters)), &check)
		irql = connect.KIRQL(check.Parameters[1])
		return true
	})
	return irql
}

// sameLock tells whether two interrupts have one lock: then a thread that has it cannot take it again.
func sameLock(r *rig, a, b *connect.Interrupt) (same bool) {
	r.Helper()
	return a.Synchronize(func() (same bool) {
		defer func() {
			if p := recover(); p != nil {
				err, _ := p.(error)
				bugCheck(r, err, connect.SpinLockAlreadyOwned)
				same = true
			}
		}()
		b.Synchronize(func() bool { return true })
		return false
	})
}
