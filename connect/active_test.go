package connect_test

import (
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/irqbridge/irqbridge/connect"
	"github.com/irqbridge/irqbridge/pci"
	"github.com/irqbridge/irqbridge/vfio/vfiotest"
)

func activeState(i *connect.Interrupt) *connect.ActiveStateParameters {
	return &connect.ActiveStateParameters{Version: connect.VersionFullySpecified, ConnectionContext: i}
}

func reportActive(i *connect.Interrupt) error   { return connect.ReportActive(activeState(i)) }
func reportInactive(i *connect.Interrupt) error { return connect.ReportInactive(activeState(i)) }

// activeRows are the rows of group L.
func activeRows(t *testing.T) {
	onMachine(t, "182", func(t *testing.T, m *vfiotest.Machine) {
		r := edu(t, m, pci.KindINTx)
		isr, calls := r.reporting(0)
		i := r.connect(0, isr)
		serviced(r, 0, calls)
		require.NoError(t, reportActive(i), "it is already")
		serviced(r, 0, calls)
		assert.Zero(t, i.Stats().DroppedInactive)
	})
	onMachine(t, "183", func(t *testing.T, m *vfiotest.Machine) {
		for _, kind := range []pci.Kind{pci.KindINTx, pci.KindMSI} {
			r := edu(t, m, kind)
			isr, calls := r.reporting(0)
			i := r.connect(0, isr)
			for range 2 {
				require.NoError(t, reportInactive(i))
			}
			for range 2 {
				require.NoError(t, reportActive(i))
			}
			serviced(r, 0, calls)
			r.close()
		}
	})
	onMachine(t, "184", func(t *testing.T, m *vfiotest.Machine) {
		r := e1000e(t, m)
		calls := make(chan struct{}, 1)
		i := r.connect(0, func(*connect.Interrupt, any) bool { tell(calls, struct{}{}); return true })
		isr, others := r.reporting(1)
		r.connect(1, isr)
		require.NoError(t, reportInactive(i))
		r.trigger(0)
		eventually(t, "the fire was dropped", func() bool { return i.Stats().DroppedInactive == 1 })
		require.NoError(t, reportActive(i))
		serviced(r, 1, others) // on the same thread: what was to come has come
		assert.Equal(t, connect.Stats{Fires: 1, DroppedInactive: 1}, i.Stats())
		r.trigger(0)
		received(t, calls)
		eventually(t, "the claim is counted", func() bool {
			return i.Stats() == connect.Stats{Fires: 2, Calls: 1, Claimed: 1, DroppedInactive: 1}
		})
	})
	onMachine(t, "184b", func(t *testing.T, m *vfiotest.Machine) {
		// The fire of an inactive interrupt is dropped also when its event comes up after ReportActive.
		r := e1000e(t, m)
		calls := make(chan struct{}, 1)
		i := r.connect(0, func(*connect.Interrupt, any) bool { tell(calls, struct{}{}); return true })
		inside, goOn := make(chan struct{}), make(chan struct{})
		r.connect(1, func(*connect.Interrupt, any) bool {
			inside <- struct{}{}
			<-goOn
			return true
		})
		r.trigger(1)
		received(t, inside)
		require.NoError(t, reportInactive(i))
		r.trigger(0)
		require.NoError(t, reportActive(i))
		r.trigger(1)
		goOn <- struct{}{}
		received(t, inside) // the second one: message 0 came up before
		assert.Equal(t, connect.Stats{Fires: 1, DroppedInactive: 1}, i.Stats())
		r.trigger(0)
		close(goOn)
		received(t, calls)
	})
	onMachine(t, "185", func(t *testing.T, m *vfiotest.Machine) {
		for _, change := range []func(*connect.Parameters){shared, passive} {
			r := edu(t, m, pci.KindINTx)
			calls := make(chan struct{}, 2)
			i := r.connect(0, func(*connect.Interrupt, any) bool {
				claim := r.serve(0)
				calls <- struct{}{}
				return claim
			}, change)
			require.NoError(t, reportInactive(i))
			assert.True(t, r.silenced(), "the line is masked")
			before := i.Stats()
			r.raise(0)
			assert.Empty(t, calls)
			assert.Equal(t, before, i.Stats(), "masked: no event either")
			require.NoError(t, reportActive(i))
			received(t, calls)
			r.disconnect(i)
			assert.Empty(t, calls)
			assert.Equal(t, before.Calls+1, i.Stats().Calls)
			r.close()
		}
	})
	onMachine(t, "186", func(t *testing.T, m *vfiotest.Machine) {
		for _, change := range []func(*connect.Parameters){shared, passive} {
			r := edu(t, m, pci.KindINTx)
			inside, goOn := make(chan struct{}), make(chan struct{})
			var ended atomic.Bool
			i := r.connect(0, func(*connect.Interrupt, any) bool {
				if !r.serve(0) {
					return false
				}
				close(inside)
				<-goOn
				ended.Store(true)
				return true
			}, change)
			r.raise(0)
			received(t, inside)
			result := make(chan error, 1)
			go func() {
				err := reportInactive(i)
				assert.True(t, ended.Load())
				result <- err
			}()
			requireWait(t, "connect.ReportInactive", result)
			close(goOn)
			require.NoError(t, received(t, result))
			// The dispatcher has the line unmasked after the routine: not so any more.
			eventually(t, "the line is masked", r.silenced)
			r.close()
		}
	})
	onMachine(t, "187", func(t *testing.T, m *vfiotest.Machine) {
		r := e1000e(t, m)
		i := r.connect(0, claim)
		for _, report := range []func(*connect.ActiveStateParameters) error{connect.ReportActive, connect.ReportInactive} {
			for _, version := range []uint32{0, 2, 3, 5} {
				err := report(&connect.ActiveStateParameters{Version: version, ConnectionContext: i})
				bugCheck(t, err, connect.PNPDetectedFatalError, 9, uint64(version))
			}
			require.NoError(t, report(&connect.ActiveStateParameters{Version: connect.VersionFullySpecifiedGroup, ConnectionContext: i}))
			require.NoError(t, reportActive(i))
			require.ErrorIs(t, report(nil), connect.StatusInvalidParameter)
			require.ErrorIs(t, report(activeState(nil)), connect.StatusInvalidParameter)
			require.ErrorIs(t, report(activeState(new(connect.Interrupt))), connect.StatusInvalidParameter)
			i.Synchronize(func() bool {
				bugCheck(t, report(activeState(i)), connect.DriverViolation, 1, uint64(i.Descriptor().Level), 2)
				return true
			})
			results := make(chan error, 1)
			other := r.connect(1, func(own *connect.Interrupt, _ any) bool {
				tell(results, report(activeState(own)))
				return true
			})
			r.trigger(1)
			bugCheck(t, received(t, results), connect.DriverViolation, 1, uint64(other.Descriptor().Level), 2)
			r.disconnect(other)
			err := report(activeState(other))
			require.ErrorIs(t, err, connect.StatusInvalidParameter)
			require.ErrorContains(t, err, "not connected any more")
		}
		line := edu(t, m, pci.KindINTx)
		results := make(chan error, 1)
		line.connect(0, func(own *connect.Interrupt, _ any) bool {
			tell(results, reportInactive(own))
			return line.serve(0)
		}, passive)
		line.raise(0)
		bugCheck(t, received(t, results), connect.SpinLockAlreadyOwned)
	})
	onMachine(t, "187b", func(t *testing.T, m *vfiotest.Machine) {
		// At DISPATCH_LEVEL both are allowed.
		r := e1000e(t, m)
		i := r.connect(0, never(t))
		results := make(chan error)
		d := connect.NewDPC(func(*connect.DPC, any, any, any) {
			results <- reportInactive(i)
			results <- reportActive(i)
		}, nil)
		require.True(t, d.Insert(nil, nil))
		require.NoError(t, received(t, results))
		require.NoError(t, received(t, results))
	})
	onMachine(t, "188", func(t *testing.T, m *vfiotest.Machine) {
		r, c := e1000e(t, m), newRecorder()
		members := c.chain(r, 0, 3)
		require.NoError(t, reportInactive(members[0]))
		require.NoError(t, reportInactive(members[1]))
		assert.Equal(t, []int{2}, c.walk(r, 0, 1))
		require.NoError(t, reportActive(members[0]))
		assert.Equal(t, []int{0, 2}, c.walk(r, 0, 1))
		assert.EqualValues(t, 1, members[0].Stats().DroppedInactive)
		assert.EqualValues(t, 2, members[1].Stats().DroppedInactive)
	})
	onMachine(t, "188b", func(t *testing.T, m *vfiotest.Machine) {
		// Of a line: it is masked while all members are inactive, whoever comes and goes.
		r := edu(t, m, pci.KindINTx)
		isr, calls := r.reporting(0)
		first, second := r.connect(0, never(t)), r.connect(0, isr)
		require.NoError(t, reportInactive(first))
		serviced(r, 0, calls)
		r.disconnect(second)
		assert.True(t, r.silenced(), "only the inactive one is left")
		r.raise(0)
		third := r.connect(0, isr)
		assert.Same(t, third, received(t, calls))
		require.NoError(t, reportInactive(third))
		eventually(t, "the line is masked", r.silenced)
		r.disconnect(first)
		r.disconnect(third)
	})
}

// A line that the kernel does not mask or unmask is reported. The interrupt is inactive in both cases.
func TestReportsOfALineThatTheKernelRefuses(t *testing.T) {
	const actionMask = 1 << 3 // VFIO_IRQ_SET_ACTION_MASK
	m, k := alter(t)
	r := edu(t, m, pci.KindINTx)
	isr, calls := r.reporting(0)
	i := r.connect(0, isr)
	refuse := func(action uint32) {
		k.set(func(k *altered) {
			k.setIRQs = func(call setIRQs) (int, error, bool) { return 0, unix.EIO, call.flags&action != 0 }
		})
	}
	refuse(actionMask)
	err := reportInactive(i)
	require.ErrorIs(t, err, connect.StatusUnsuccessful)
	require.ErrorIs(t, err, unix.EIO)
	r.raise(0)
	eventually(t, "the one fire that got through was dropped", func() bool { return i.Stats().DroppedInactive == 1 })
	refuse(actionUnmask)
	require.ErrorIs(t, reportActive(i), unix.EIO)
	refuse(0)
	assert.Empty(t, calls)
	require.NoError(t, reportActive(i))
	received(t, calls)
}
