package connect

import (
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/irqbridge/irqbridge/connect/internal/epoll"
	"github.com/irqbridge/irqbridge/vfio/host"
)

// A dispatcher is one OS thread, pinned to the processors of a mask, that waits for the eventfds of all the sources of
// a device that have this mask, and are waited for in the same way, and runs their service routines. One thread means that a routine never runs twice at
// once, whatever the mask.
//
// The eventfds sit in one edge-triggered epoll set and are never read: each signal of an eventfd makes a new event,
// also while an earlier one is still being served, so no signal after a service routine began is lost, and a read
// system call is saved for each interrupt. (Reading after the routine would swallow a signal in between.) The kernel
// adds to a 64-bit counter that stops short of overflow and goes on waking; at ten million interrupts a second that
// is after 58 000 years.
//
// Between the event and the service routine there is no allocation, no log and no map: the event carries the
// source's place in a table.
type dispatcher struct {
	host *host.Host
	cpus host.CPUSet
	how  Dispatch
	// pinned is what the kernel made of cpus, read back on the thread.
	pinned host.CPUSet
	// deferred is where the DPCs of the service routines go.
	deferred *dpcQueue
	set      *epoll.Set
	kick     int
	done     chan struct{}
	tid      atomic.Int32 // the thread

	// keeps tells that the thread has a P that it keeps while it sleeps. Only the thread changes it.
	keeps atomic.Bool
	// These belong to the thread: since when nothing has come, zero while something does; and that it has given its P away
	// until something does.
	quiet   time.Time
	resting bool

	// The batch belongs to the thread. It is not on its stack because a service routine may end the goroutine
	// (runtime.Goexit) and the next one has to go on with the batch: its edges will not come again.
	n      int
	next   int
	kicked bool

	// table is indexed by the low half of an event's data; the high half is the generation, so that an event which
	// was fetched before its source was removed finds nobody in its place. It grows by being replaced.
	table atomic.Pointer[[]atomic.Pointer[source]]

	mu         sync.Mutex
	generation int32
	sources    int
	// boundaries are closed, and the thread ends if stopping, when the batch at hand is finished.
	boundaries []chan struct{}
	stopping   bool
	failed     error // why the thread ends by itself
}

const (
	kickSlot = -1
	// linger is how long a thread keeps its P when nothing comes.
	linger = time.Second
	// pollTurns is how often a thread that polls looks before it passes through its outer loop.
	pollTurns = 1024
	// spinTurns is how often one that spins looks between two readings of the clock.
	spinTurns = 8
)

// startDispatcher makes the thread and returns when it is pinned and about to wait.
func startDispatcher(h *host.Host, cpus host.CPUSet, how Dispatch) (*dispatcher, error) {
	d := &dispatcher{host: h, cpus: cpus, how: how, kick: -1, done: make(chan struct{}), deferred: dpcQueueOf(cpus)}
	if how.Wait == Poll {
		// A thread that never sleeps would keep a worker on its processors from running.
		d.deferred = dpcQueueOf(host.CPUSet{})
	}
	d.table.Store(new([]atomic.Pointer[source]))
	if err := d.open(); err != nil {
		d.close()
		return nil, err
	}
	started := make(chan error)
	onNewThread(func() { d.run(started) })
	if err := <-started; err != nil {
		<-d.done
		d.close()
		return nil, fmt.Errorf("start the dispatcher thread of CPUs %s: %w", cpus, err)
	}
	if d.reserves() {
		reserve(1)
	}
	d.deferred.hold(h)
	watchdog.begin(d)
	return d, nil
}

// reserves tells whether the dispatcher brings a P along.
func (d *dispatcher) reserves() bool { return d.how.Reserve && d.how.Wait != Cooperative }

func (d *dispatcher) open() (err error) {
	if d.set, err = epoll.Open(); err != nil {
		return err
	}
	if d.kick, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		return os.NewSyscallError("eventfd2", err)
	}
	return d.set.Add(d.kick, kickSlot, 0)
}

func (d *dispatcher) close() {
	if d.set != nil {
		d.set.Close()
	}
	if d.kick >= 0 {
		_ = unix.Close(d.kick)
	}
}

// run is the thread. It is locked before it is pinned, so that the runtime makes no other thread in its image, and
// never unlocked: it ends with the goroutine and cannot be reused for another.
func (d *dispatcher) run(started chan<- error) {
	t := enterThread()
	t.queue = d.deferred
	d.tid.Store(t.tid)
	ended := false
	defer func() {
		t.leave()
		d.release()
		if ended {
			close(d.done)
			return
		}
		// A service routine called runtime.Goexit. Its source has been silenced; the others are served by a new
		// thread, which goes on in the same batch. It takes the event at hand again: on a modelled line the routine may
		// have been that of another device, and the line that fired is to be served still.
		d.next--
		onNewThread(func() { d.run(nil) })
	}()
	err := d.settle()
	if started != nil {
		if err == nil {
			d.pinned, err = d.host.AllowedCPUs()
		}
		if started <- err; err != nil {
			ended = true
			return
		}
	}
	for err == nil {
		d.dispatch(t)
		if d.kicked && d.boundary() {
			ended = true
			return
		}
		err = d.wait()
	}
	d.fail(err)
	ended = true
}

// settle puts the thread where it is to run.
func (d *dispatcher) settle() error {
	err := d.host.PinThread(d.cpus)
	if err == nil && d.how.Priority > 0 {
		err = setPriority(d.how.Priority)
	}
	return err
}

// dispatch serves what is left of the batch.
func (d *dispatcher) dispatch(t *thread) {
	for d.next < d.n {
		ev := &d.set.Events[d.next]
		d.next++
		if ev.Fd == kickSlot {
			d.kicked = true
			continue
		}
		table := *d.table.Load()
		if s := table[ev.Fd].Load(); s != nil && s.generation == ev.Pad {
			s.fire(t)
		}
	}
}

// wait fetches the sources that are ready, and waits for them in the way that was chosen. It may come back with none.
func (d *dispatcher) wait() (err error) {
	d.n, d.next = 0, 0
	switch {
	case !d.keeps.Load() && (d.resting || !d.keep()):
		d.n, err = d.set.Sleep()
		d.resting = d.resting && d.n == 0
		return err
	case d.how.Wait == Poll:
		for turn := 0; d.n == 0 && err == nil && turn < pollTurns; turn++ {
			d.n, err = d.set.Look()
		}
	case d.how.Wait == Hybrid && d.quiet.IsZero():
		if err = d.spin(); d.n == 0 && err == nil {
			d.n, err = d.set.Wait()
		}
	default:
		d.n, err = d.set.Wait()
	}
	if d.n > 0 {
		d.quiet = time.Time{}
	} else {
		d.rest()
	}
	return err
}

// spin looks for a time.
func (d *dispatcher) spin() (err error) {
	limit := d.how.Spin
	if limit == 0 {
		limit = DefaultSpin
	}
	for begin := time.Now(); d.n == 0 && err == nil && time.Since(begin) < limit; {
		for turn := 0; d.n == 0 && err == nil && turn < spinTurns; turn++ {
			d.n, err = d.set.Look()
		}
	}
	return err
}

// keep gets the thread a P to keep, if its way of waiting wants one and there is one.
func (d *dispatcher) keep() bool {
	if d.how.Wait == Cooperative || !d.how.Reserve && !keep() {
		return false
	}
	d.keeps.Store(true)
	return true
}

// rest is called when nothing has come. After a time of that the P is given away, and also when GOMAXPROCS has become too low
// for all that are kept. It is called for each wish of the runtime's, too, and takes no lock (keep.go).
func (d *dispatcher) rest() {
	now := time.Now()
	if d.quiet.IsZero() {
		d.quiet = now
	}
	silent := d.how.Wait != Poll && now.Sub(d.quiet) >= linger
	if silent || !d.how.Reserve && tooMany.Load() && !mayKeep(int(keepers.Load())) {
		d.release()
	}
}

// release gives the P away.
func (d *dispatcher) release() {
	if !d.keeps.Load() {
		return
	}
	d.keeps.Store(false)
	d.quiet, d.resting = time.Time{}, true
	if !d.how.Reserve {
		keepers.Add(-1)
	}
}

// boundary lets those go on who wait for the end of a batch, and tells whether the thread is to end.
func (d *dispatcher) boundary() (stop bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.kicked = false
	for _, b := range d.boundaries {
		close(b)
	}
	d.boundaries = nil
	return d.stopping
}

// fail silences every source when the thread cannot go on. Nobody adds another one then.
func (d *dispatcher) fail(err error) {
	d.mu.Lock()
	d.failed = err
	d.mu.Unlock()
	table := *d.table.Load()
	for i := range table {
		if s := table[i].Load(); s != nil {
			s.fail(err)
		}
	}
}

// wake makes the thread pass a boundary.
func (d *dispatcher) wake() {
	epoll.Signal(d.kick)
}

// add puts a source into the table and its eventfd into the epoll set. A signal that the eventfd already has makes an
// event at once.
func (d *dispatcher) add(s *source) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.failed != nil {
		return fmt.Errorf("the dispatcher thread of CPUs %s has ended; disconnect the interrupts that it served: %w", d.cpus, d.failed)
	}
	slot := d.freeSlot()
	d.generation++
	s.slot, s.generation = slot, d.generation
	(*d.table.Load())[slot].Store(s)
	if err := d.set.Add(s.eventfd.fd, slot, s.generation); err != nil {
		(*d.table.Load())[slot].Store(nil)
		return err
	}
	d.sources++
	return nil
}

func (d *dispatcher) freeSlot() int32 {
	table := *d.table.Load()
	for i := range table {
		if table[i].Load() == nil {
			return int32(i)
		}
	}
	larger := make([]atomic.Pointer[source], max(1, 2*len(table)))
	for i := range table {
		larger[i].Store(table[i].Load())
	}
	d.table.Store(&larger)
	return int32(len(table))
}

// remove takes a source out and returns when the thread has no event of it in hand any more and cannot get one.
func (d *dispatcher) remove(s *source) {
	boundary := make(chan struct{})
	d.mu.Lock()
	d.set.Remove(s.eventfd.fd)
	(*d.table.Load())[s.slot].Store(nil)
	d.sources--
	d.boundaries = append(d.boundaries, boundary)
	d.mu.Unlock()
	d.wake()
	select {
	case <-boundary:
	case <-d.done:
	}
}

// idle tells whether no source is left.
func (d *dispatcher) idle() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.sources == 0
}

// stop ends the thread and returns when its last service routine has returned.
func (d *dispatcher) stop() {
	d.mu.Lock()
	d.stopping = true
	d.mu.Unlock()
	d.wake()
	<-d.done
	d.close()
	if d.reserves() {
		reserve(-1)
	}
	d.deferred.drop()
	watchdog.finish(d)
}
