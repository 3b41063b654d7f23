package connect

import (
	"fmt"
	"sync"
	"time"
)

// The watchdog reports routines that do not return, as Windows does with bug check 0x133. It looks at the counters that
// the routines move anyway: where a call has begun and is still the same one after the limit, and in so many looks, it
// is stuck. So nothing that serves an interrupt reads a clock for it, and a process that was stopped and goes on is not
// taken for one that is stuck.
//
// One goroutine looks, and also whether too many threads keep a P. It lives while a thread does that runs service or
// deferred routines, and the last of these ends it.
var watchdog = watch{limit: 10 * time.Second}

// watchLooks is how often the watchdog looks within the limit.
const watchLooks = 10

type watch struct {
	mu          sync.Mutex
	limit       time.Duration
	threads     int // dispatchers and workers of DPC queues
	dispatchers map[*dispatcher]struct{}
	end         chan struct{}
}

// begin counts a thread that is to be watched. Dispatchers are looked at one by one; workers through their queues, and d
// is nil.
func (w *watch) begin(d *dispatcher) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.dispatchers == nil {
		w.dispatchers = make(map[*dispatcher]struct{})
	}
	if d != nil {
		w.dispatchers[d] = struct{}{}
	}
	w.threads++
	if w.threads == 1 {
		w.end = make(chan struct{})
		go w.run(w.limit, w.end)
	}
}

// finish is the end of begin.
func (w *watch) finish(d *dispatcher) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.dispatchers, d)
	w.threads--
	if w.threads == 0 {
		close(w.end)
	}
}

// run is the watchdog's goroutine.
func (w *watch) run(limit time.Duration, end <-chan struct{}) {
	tick := time.NewTicker(limit / watchLooks)
	defer tick.Stop()
	calls := make(watchedCalls)
	for {
		select {
		case <-end:
			return
		case <-tick.C:
			calls = w.look(calls, limit)
			countKeepers()
		}
	}
}

// watchedCalls are the calls that were going on at a look, by interrupt or queue.
type watchedCalls map[any]watchedCall

type watchedCall struct {
	number   uint64    // which call it is
	since    time.Time // when it was first seen
	looks    int       // how often since then
	reported bool
}

// look finds what goes on now, and reports what went on at every look within the limit.
func (w *watch) look(before watchedCalls, limit time.Duration) watchedCalls {
	now := make(watchedCalls)
	see := func(key any, number uint64, report func(took time.Duration)) {
		if _, again := now[key]; again {
			return // a modelled line has one chain with several dispatchers
		}
		c, known := before[key]
		if !known || c.number != number {
			now[key] = watchedCall{number: number, since: time.Now()}
			return
		}
		c.looks++
		if took := time.Since(c.since); c.looks >= watchLooks && took >= limit && !c.reported {
			c.reported = true
			report(took)
		}
		now[key] = c
	}
	for _, i := range w.interrupts() {
		if number, running := i.running(); running {
			see(i, number, func(took time.Duration) { i.stuckIn(number, took, limit) })
		}
	}
	for _, q := range dpcQueues.all() {
		q.mu.Lock()
		d, number := q.current, q.begun
		q.mu.Unlock()
		if d != nil {
			see(q, number, func(took time.Duration) { d.report(stuckError(nil, d, took, limit)) })
		}
	}
	return now
}

// interrupts are those that dispatchers call at a device's level. A passive-level routine may wait as long as it likes.
func (w *watch) interrupts() []*Interrupt {
	w.mu.Lock()
	defer w.mu.Unlock()
	var all []*Interrupt
	for d := range w.dispatchers {
		table := *d.table.Load()
		for n := range table {
			s := table[n].Load()
			if s == nil || s.worker != nil {
				continue
			}
			all = append(all, *s.chain.Load()...)
		}
	}
	return all
}

// running tells whether a call of the service routine has begun and not ended, and its number. The order matters:
// a call that is seen to have begun is then seen not to have ended.
func (i *Interrupt) running() (number uint64, running bool) {
	number = i.calls.Load()
	return number, i.ended() < number
}

// ended is how many calls of the service routine have ended.
func (i *Interrupt) ended() uint64 { return i.claims.Load() + i.declines.Load() }

// stuckCall is a call that the watchdog has reported.
type stuckCall struct {
	number uint64
	err    error
}

// stuckIn reports a call of the service routine. It is no reason to silence the source: the routine may return yet.
func (i *Interrupt) stuckIn(number uint64, took, limit time.Duration) {
	err := stuckError(i, nil, took, limit)
	i.stuck.Store(&stuckCall{number: number, err: err})
	i.notify(err)
}

func stuckError(i *Interrupt, d *DPC, took, limit time.Duration) *BugCheckError {
	what, who := "the routine of", fmt.Stringer(d)
	if i != nil {
		what, who = "the service routine of", i
	}
	return &BugCheckError{
		Code:       DPCWatchdogViolation,
		Parameters: [4]uint64{0, uint64(took.Milliseconds()), uint64(limit.Milliseconds())},
		Interrupt:  i,
		DPC:        d,
		Reason: fmt.Sprintf("%s %s has not returned for %s, and what is served by the same thread waits; "+
			"SIGQUIT shows where every goroutine is, with GOTRACEBACK=crash also those that run", what, who, took.Round(time.Millisecond)),
	}
}
