package connect

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

// The watchdog counts the looks at one call besides the time, and begins anew with the next one.
func TestWatchdogCountsLooks(t *testing.T) {
	d := startTestDispatcher(t)
	s := messageSource(t, d, func(*Interrupt, any) bool { return true })
	i := (*s.chain.Load())[0]
	w := watch{dispatchers: map[*dispatcher]struct{}{d: {}}}
	calls := make(watchedCalls)
	limit := time.Duration(0)
	look := func(n int) {
		for range n {
			calls = w.look(calls, limit)
		}
	}
	look(100)
	assert.Empty(t, calls, "no call")
	i.calls.Add(1)
	limit = time.Hour
	look(100)
	assert.NoError(t, i.Err(), "not for so long")
	limit = 0
	i.claims.Add(1)
	i.calls.Add(1)
	look(watchLooks)
	i.claims.Add(1)
	i.calls.Add(1)
	look(watchLooks)
	assert.NoError(t, i.Err(), "two calls, none of which lasted")
	look(1)
	err := i.Err()
	assert.ErrorContains(t, err, "DPC_WATCHDOG_VIOLATION")
	look(100)
	assert.Same(t, err, i.Err(), "reported once")
	i.declines.Add(1)
	assert.NoError(t, i.Err())
	look(1)
	assert.Empty(t, calls)
}

// The watchdog ends with the last thread that it watches.
func TestWatchdogEnds(t *testing.T) {
	var w watch
	w.limit = time.Hour
	d := &dispatcher{}
	w.begin(d)
	first := w.end
	w.begin(nil)
	w.finish(d)
	select {
	case <-first:
		t.Error("the watchdog ended while a worker lives")
	default:
	}
	w.finish(nil)
	received(t, first)
	w.begin(d)
	assert.NotEqual(t, first, w.end)
	w.finish(d)
	assert.Empty(t, w.dispatchers)
}

// BenchmarkFireTimed is BenchmarkFire with MeasureTimes.
func BenchmarkFireTimed(b *testing.B) {
	d := startTestDispatcher(b)
	s := messageSource(b, d, func(*Interrupt, any) bool { return true })
	s.device.timed.Store(true)
	self := &thread{tid: -1}
	b.ReportAllocs()
	for b.Loop() {
		s.fire(self)
	}
}
