package connect_test

import (
	"math/bits"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/irqbridge/irqbridge/connect"
	"github.com/irqbridge/irqbridge/pci"
	"github.com/irqbridge/irqbridge/vfio/vfiotest"
)

// longerThan returns when more time than the limit has passed.
func longerThan(limit time.Duration) {
	for begun := time.Now(); time.Since(begun) <= limit; {
	}
}

// limitRows are the rows of group O that are about time.
func limitRows(t *testing.T) {
	onMachine(t, "213", func(t *testing.T, m *vfiotest.Machine) {
		r := e1000e(t, m)
		var wait atomic.Bool
		calls := make(chan struct{}, 1)
		i := r.connect(0, func(*connect.Interrupt, any) bool {
			if wait.Load() {
				longerThan(connect.ServiceRoutineLimit)
			}
			calls <- struct{}{}
			return true
		})
		call := func() {
			r.trigger(0)
			received(t, calls)
			i.Synchronize(func() bool { return true }) // the routine has returned
		}
		wait.Store(true)
		call()
		stats := i.Stats()
		assert.Zero(t, stats.Routine, "nothing is measured that was not asked for")
		assert.Zero(t, stats.Lock)

		r.resources.MeasureTimes(true)
		const rounds = 3
		for range rounds {
			call()
		}
		stats = i.Stats()
		assert.EqualValues(t, rounds, stats.Routine.Long)
		assert.Greater(t, stats.Routine.Longest, connect.ServiceRoutineLimit)
		var counted, long uint64
		for n, calls := range stats.Routine.Durations {
			counted += calls
			if n >= bits.Len64(uint64(connect.ServiceRoutineLimit)) {
				long += calls
			}
		}
		assert.EqualValues(t, rounds, counted)
		assert.EqualValues(t, rounds, long)
		assert.EqualValues(t, rounds+1, stats.Claimed, "none was aborted")
		require.NoError(t, i.Err())

		before := stats.Lock.Long // a busy machine may take its time over nothing
		i.Synchronize(func() bool { longerThan(connect.ServiceRoutineLimit); return true })
		level, err := i.AcquireLock()
		require.NoError(t, err)
		longerThan(2 * connect.ServiceRoutineLimit)
		require.NoError(t, i.ReleaseLock(level))
		stats = i.Stats()
		assert.Equal(t, before+2, stats.Lock.Long)
		assert.Greater(t, stats.Lock.Longest, 2*connect.ServiceRoutineLimit)
		assert.EqualValues(t, rounds, stats.Routine.Long, "the lock is not the routine")

		r.resources.MeasureTimes(false)
		call()
		assert.EqualValues(t, rounds, i.Stats().Routine.Long)
	})
	onMachine(t, "213b", func(t *testing.T, m *vfiotest.Machine) {
		r := e1000e(t, m)
		d := connect.NewDPC(func(*connect.DPC, any, any, any) { longerThan(connect.DeferredRoutineLimit) }, nil)
		run := func() {
			inISR(r, 0, func() { assert.True(t, d.Insert(nil, nil)) })
			flush(t)
		}
		run()
		assert.Zero(t, d.Times())
		d.MeasureTimes(true)
		run()
		run()
		times := d.Times()
		assert.EqualValues(t, 2, times.Long)
		assert.Greater(t, times.Longest, connect.DeferredRoutineLimit)
		d.MeasureTimes(false)
		run()
		assert.Equal(t, times, d.Times())
		assert.EqualValues(t, 4, d.Runs())
		require.NoError(t, d.Err())
	})
	onMachine(t, "214", func(t *testing.T, m *vfiotest.Machine) {
		limit := 100 * time.Millisecond
		connect.WatchFor(t, limit)
		a, b := edu(t, m, pci.KindMSI), open(t, m, m.EDU2, connect.Policy{Kind: pci.KindMSI})
		stuck := func(r *rig) (i *connect.Interrupt, reports chan error, release func()) {
			goOn := make(chan struct{})
			reports = make(chan error, 8)
			r.resources.OnError(func(_ *connect.Interrupt, err error) { reports <- err })
			i = r.connect(0, func(*connect.Interrupt, any) bool {
				<-goOn
				return true
			})
			r.trigger(0)
			return i, reports, func() { close(goOn) }
		}
		first, reports, release := stuck(a)
		err := received(t, reports)
		bugCheck(t, err, connect.DPCWatchdogViolation, 0)
		var check *connect.BugCheckError
		require.ErrorAs(t, err, &check)
		assert.GreaterOrEqual(t, check.Parameters[1], uint64(limit.Milliseconds()))
		assert.EqualValues(t, limit.Milliseconds(), check.Parameters[2])
		assert.Same(t, first, check.Interrupt)
		assert.Same(t, err, first.Err())

		// Another device is served, and its routine is watched in turn. Its report takes as long as the first one did:
		// the first call is reported once.
		isr, calls := b.reporting(0)
		other := b.connect(0, isr)
		serviced(b, 0, calls)
		require.NoError(t, other.Err())
		b.disconnect(other)
		second, otherReports, releaseSecond := stuck(b)
		bugCheck(t, received(t, otherReports), connect.DPCWatchdogViolation)
		assert.Empty(t, reports)

		release()
		first.Synchronize(func() bool { return true })
		require.NoError(t, first.Err(), "the routine has returned")
		a.trigger(0)
		eventually(t, "the first is served again", func() bool { return first.Stats().Claimed == 2 })
		releaseSecond()
		b.disconnect(second)
		require.NoError(t, second.Err())
		assert.Empty(t, reports)
		assert.Empty(t, otherReports)
	})
	onMachine(t, "214b", func(t *testing.T, m *vfiotest.Machine) {
		connect.WatchFor(t, 100*time.Millisecond)
		r := e1000e(t, m)
		goOn := make(chan struct{})
		reports := make(chan error, 8)
		d := connect.NewDPC(func(*connect.DPC, any, any, any) { <-goOn }, nil)
		d.OnError(func(of *connect.DPC, err error) {
			assert.Same(t, d, of)
			reports <- err
		})
		inISR(r, 0, func() { d.Insert(nil, nil) })
		err := received(t, reports)
		bugCheck(t, err, connect.DPCWatchdogViolation, 0)
		var check *connect.BugCheckError
		require.ErrorAs(t, err, &check)
		assert.Same(t, d, check.DPC)
		assert.Same(t, err, d.Err())
		inISR(r, 1, func() {}) // interrupts are served
		close(goOn)
		flush(t)
		assert.Empty(t, reports)
		assert.EqualValues(t, 1, d.Runs())
	})
}
