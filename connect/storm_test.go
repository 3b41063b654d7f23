package connect_test

import (
	"os"
	"reflect"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/irqbridge/irqbridge/connect"
	"github.com/irqbridge/irqbridge/pci"
	"github.com/irqbridge/irqbridge/vfio/vfiotest"
)

// addressOf is what the parameters of a bug check say of a pointer or function.
func addressOf(value any) uint64 { return uint64(reflect.ValueOf(value).Pointer()) }

// storming is a service routine of edu's line that claims when claims says so, by the number of the call counted from 1, and
// leaves the line asserted.
func storming(calls *atomic.Int64, claims func(call int64) bool) connect.ServiceRoutine {
	return func(*connect.Interrupt, any) bool { return claims(calls.Add(1)) }
}

func noneOf(int64) bool { return false }

// stormRows are the rows of group O about storms.
func stormRows(t *testing.T) {
	onMachine(t, "210", func(t *testing.T, m *vfiotest.Machine) {
		for chained := range 2 {
			r := edu(t, m, pci.KindINTx)
			reports := make(chan error, 4)
			r.resources.OnError(func(_ *connect.Interrupt, err error) { reports <- err })
			var calls atomic.Int64
			isr, context := storming(&calls, noneOf), new(int)
			i := r.connect(0, isr, func(p *connect.Parameters) { p.ServiceContext = context })
			for range chained {
				r.connect(0, storming(new(atomic.Int64), noneOf))
			}
			r.raise(0)
			for range 1 + chained {
				err := received(t, reports)
				bugCheck(t, err, connect.HardwareInterruptStorm,
					addressOf(isr), addressOf(context), addressOf(i), uint64(1+chained))
				var check *connect.BugCheckError
				require.ErrorAs(t, err, &check)
				assert.Same(t, i, check.Interrupt)
				assert.True(t, check.Stopped)
			}
			assert.Error(t, i.Err())
			refused(r, connect.StatusInvalidDeviceRequest, r.params(0, never(t)))
			r.disconnect(i) // waits for the routine
			assert.EqualValues(t, 1000, calls.Load(), "the line stays masked")
			assert.EqualValues(t, 1000, i.Stats().UnclaimedWalks)
			assert.Empty(t, reports, "one report for each interrupt")
			r.close()
		}
	})
	onMachine(t, "211", func(t *testing.T, m *vfiotest.Machine) {
		r := edu(t, m, pci.KindINTx)
		reports := make(chan error, 1)
		r.resources.OnError(func(_ *connect.Interrupt, err error) { reports <- err })
		var calls atomic.Int64
		i := r.connect(0, storming(&calls, func(call int64) bool { return call == 999 }))
		r.raise(0)
		received(t, reports)
		r.disconnect(i)
		assert.EqualValues(t, 999+1000, calls.Load())
	})
	onMachine(t, "212", func(t *testing.T, m *vfiotest.Machine) {
		r := open(t, m, m.EDU, connect.Policy{Kind: pci.KindINTx, StormLimit: 10})
		reports := make(chan error, 1)
		r.resources.OnError(func(_ *connect.Interrupt, err error) { reports <- err })
		var calls atomic.Int64
		served := make(chan *connect.Interrupt, 1)
		i := r.connect(0, func(i *connect.Interrupt, _ any) bool {
			if calls.Add(1) <= 20 || !r.serve(0) {
				return false
			}
			tell(served, i)
			return true
		})
		r.raise(0)
		received(t, reports)
		assert.EqualValues(t, 10, calls.Load(), "the policy's limit")
		require.NoError(t, i.Rearm())
		bugCheck(t, received(t, reports), connect.HardwareInterruptStorm) // nothing was mended
		assert.EqualValues(t, 20, calls.Load(), "counted from the start")
		require.NoError(t, i.Rearm())
		received(t, served)
		require.NoError(t, i.Err())
		serviced(r, 0, served)
		require.NoError(t, i.Rearm(), "without a storm it does nothing")
	})
}

// A service routine that claims what it does not quiet is reported once, and called on.
func TestStormOfClaims(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		r := edu(t, m, pci.KindINTx)
		reports := make(chan error, 2)
		r.resources.OnError(func(_ *connect.Interrupt, err error) { reports <- err })
		var calls atomic.Int64
		i := r.connect(0, storming(&calls, func(int64) bool { return true }))
		r.raise(0)
		err := received(t, reports)
		bugCheck(t, err, connect.HardwareInterruptStorm)
		var check *connect.BugCheckError
		require.ErrorAs(t, err, &check)
		assert.False(t, check.Stopped)
		assert.GreaterOrEqual(t, calls.Load(), int64(1100))
		before := calls.Load()
		eventually(t, "it is called on, long enough for another report", func() bool { return calls.Load() > before+3000 })
		assert.Empty(t, reports)
		r.board.acknowledge(r, 0)
		require.NoError(t, i.Rearm())
		require.NoError(t, i.Err())
		r.disconnect(i)
	})
}

// A storm in which the routine is called on does not hide that it is called no more later.
func TestErrorsAfterAStormOfClaims(t *testing.T) {
	m := vfiotest.FakeMachine(t)
	for _, c := range []struct {
		end  string
		then func(r *rig, answer *atomic.Int32)
		want func(err error)
	}{
		{"panic", func(_ *rig, answer *atomic.Int32) { answer.Store(2) }, func(err error) {
			var failed *connect.ServiceRoutineError
			require.ErrorAs(t, err, &failed)
		}},
		{"unclaimed", func(_ *rig, answer *atomic.Int32) { answer.Store(1) }, func(err error) {
			var check *connect.BugCheckError
			require.ErrorAs(t, err, &check)
			require.True(t, check.Stopped)
		}},
		{"close", func(r *rig, _ *atomic.Int32) { r.close() }, func(err error) { require.ErrorIs(t, err, os.ErrClosed) }},
	} {
		r := edu(t, m, pci.KindINTx)
		reports := make(chan error, 3)
		r.resources.OnError(func(_ *connect.Interrupt, err error) { reports <- err })
		var answer atomic.Int32 // claim, decline, panic
		i := r.connect(0, func(*connect.Interrupt, any) bool {
			if answer.Load() == 2 {
				panic("out of order")
			}
			return answer.Load() == 0
		})
		r.raise(0)
		storm := received(t, reports)
		bugCheck(t, storm, connect.HardwareInterruptStorm)
		assert.Same(t, storm, i.Err())
		c.then(r, &answer)
		end := received(t, reports)
		c.want(end)
		assert.Same(t, end, i.Err(), c.end)
		if c.end == "unclaimed" {
			r.board.acknowledge(r, 0)
			require.NoError(t, i.Rearm())
			require.NoError(t, i.Err(), "both storms are over")
		}
		r.close()
	}
}

// A passive-level routine has storms too.
func TestStormAtPassiveLevel(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		r := open(t, m, m.EDU, connect.Policy{Kind: pci.KindINTx, StormLimit: 20})
		reports := make(chan error, 1)
		r.resources.OnError(func(_ *connect.Interrupt, err error) { reports <- err })
		var calls atomic.Int64
		i := r.connect(0, storming(&calls, noneOf), passive)
		r.raise(0)
		for n := range int64(2) {
			bugCheck(t, received(t, reports), connect.HardwareInterruptStorm)
			assert.Equal(t, 20*(n+1), calls.Load())
			require.NoError(t, i.Rearm())
		}
		received(t, reports)
	})
}

// A line that is inactive when its storm is ended stays masked until it is active, and the other way round.
func TestStormWhileInactive(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		r := open(t, m, m.EDU, connect.Policy{Kind: pci.KindINTx, StormLimit: 20})
		reports := make(chan error, 1)
		r.resources.OnError(func(_ *connect.Interrupt, err error) { reports <- err })
		var calls atomic.Int64
		i := r.connect(0, storming(&calls, noneOf))
		r.raise(0)
		received(t, reports)
		require.NoError(t, reportInactive(i))
		require.NoError(t, i.Rearm())
		i.Synchronize(func() bool { assert.EqualValues(t, 20, calls.Load(), "inactive"); return true })
		require.NoError(t, reportActive(i))
		received(t, reports)
		assert.EqualValues(t, 40, calls.Load())
		require.NoError(t, reportInactive(i))
		require.NoError(t, reportActive(i))
		i.Synchronize(func() bool { assert.EqualValues(t, 40, calls.Load(), "silenced"); return true })
		require.NoError(t, i.Rearm())
		received(t, reports)
		assert.EqualValues(t, 60, calls.Load())
	})
}

// Whoever disconnects while the storm is being noticed is in nobody's way.
func TestDisconnectInAStorm(t *testing.T) {
	m := vfiotest.FakeMachine(t)
	r := open(t, m, m.EDU, connect.Policy{Kind: pci.KindINTx, StormLimit: 1})
	r.raise(0)
	for range 100 {
		served := make(chan struct{}, 1)
		r.disconnect(r.connect(0, func(*connect.Interrupt, any) bool { tell(served, struct{}{}); return false }))
		i := r.connect(0, func(*connect.Interrupt, any) bool { tell(served, struct{}{}); return false })
		received(t, served)
		r.disconnect(i)
	}
}

// A device that interrupts as fast as it is served makes no storm: it is quiet each time it was served.
func TestManyClaimsAreNoStorm(t *testing.T) {
	m := vfiotest.FakeMachine(t)
	r := edu(t, m, pci.KindINTx)
	isr, calls := r.reporting(0)
	i := r.connect(0, isr)
	for range 1500 {
		serviced(r, 0, calls)
	}
	require.NoError(t, i.Err())
}

func TestRearmRefuses(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		r := edu(t, m, pci.KindINTx)
		reports := make(chan error, 1)
		r.resources.OnError(func(_ *connect.Interrupt, err error) { reports <- err })
		i := r.connect(0, func(*connect.Interrupt, any) bool { panic("out of order") })
		i.Synchronize(func() bool { bugCheck(t, i.Rearm(), connect.DriverViolation, 1); return true })
		r.raise(0)
		received(t, reports)
		err := i.Rearm()
		require.ErrorIs(t, err, connect.StatusInvalidDeviceRequest)
		require.ErrorContains(t, err, "out of order")
		require.Error(t, i.Err(), "still silenced")
		r.disconnect(i)
		require.ErrorIs(t, i.Rearm(), connect.StatusInvalidParameter)
	})
}
