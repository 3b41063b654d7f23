package connect

import (
	"math/bits"
	"sync/atomic"
	"time"
)

// How long Windows lets a routine run ("Introduction to Interrupt Service Routines", "Guidelines for Writing DPC
// Routines"). A longer call is counted and goes on.
const (
	// ServiceRoutineLimit is for a service routine, and for whoever holds its lock.
	ServiceRoutineLimit = 25 * time.Microsecond
	// DeferredRoutineLimit is for a deferred routine.
	DeferredRoutineLimit = 100 * time.Microsecond
)

// Timing tells of calls that were measured.
type Timing struct {
	// Long is how many took longer than the limit of Windows.
	Long uint64
	// Longest is the longest of all. The time that its thread was not running, because Linux ran something else, is part
	// of it, as that of interrupts of a higher level is on Windows.
	Longest time.Duration
	// Durations counts the calls by how long they took: Durations[n] those of 2^(n-1) to 2^n-1 ns, the last one also
	// those of more.
	Durations [36]uint64
}

// timing is a Timing in the making.
type timing struct {
	long      atomic.Uint64
	longest   atomic.Int64
	durations [36]atomic.Uint64
}

func (t *timing) add(took, limit time.Duration) {
	t.durations[min(bits.Len64(uint64(max(took, 0))), len(t.durations)-1)].Add(1)
	if took > limit {
		t.long.Add(1)
	}
	for {
		longest := t.longest.Load()
		if int64(took) <= longest || t.longest.CompareAndSwap(longest, int64(took)) {
			return
		}
	}
}

func (t *timing) read() Timing {
	r := Timing{Long: t.long.Load(), Longest: time.Duration(t.longest.Load())}
	for n := range t.durations {
		r.Durations[n] = t.durations[n].Load()
	}
	return r
}

// MeasureTimes switches on that service routines of the device and holders of their locks are timed, from their next call
// on, or off as it is at first. [Interrupt.Stats] has the outcome. A call that is timed takes two readings of the clock more:
// 80 ns in a loop that does nothing else, some 300 ns for an interrupt that comes alone, more in a virtual machine.
// Passive-level routines have no limit and are not timed.
func (r *Resources) MeasureTimes(on bool) {
	if d := lookupDevice(r.Device); d != nil {
		d.timed.Store(on)
	}
}

// timed tells whether calls of the interrupt's routine are to be timed.
func (i *Interrupt) timed() bool { return i.source.device.timed.Load() && !i.passive() }

// lockTaken returns the time from which the interrupt's lock is held, zero when that is not measured.
func (i *Interrupt) lockTaken() time.Time {
	if !i.timed() {
		return time.Time{}
	}
	return time.Now()
}

// releaseLock releases the lock and notes how long it was held.
func (i *Interrupt) releaseLock(taken time.Time) {
	if !taken.IsZero() {
		i.holds.add(time.Since(taken), ServiceRoutineLimit)
	}
	i.lock.release()
}

// MeasureTimes switches on that the DPC's runs are timed, from the next one on, or off as it is at first: [DPC.Times].
func (d *DPC) MeasureTimes(on bool) { d.timed.Store(on) }

// Times tells of the runs while MeasureTimes was on.
func (d *DPC) Times() Timing { return d.times.read() }
