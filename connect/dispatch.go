package connect

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// Wait is how a thread that serves interrupts waits for the next one. The ways differ in what an interrupt costs and in what
// silence costs, and in what the rest of the process loses. "P" is the runtime's right to run Go code: there are GOMAXPROCS
// of them, and each running goroutine has one.
//
//	              eventfd to routine    costs while silent          costs the rest of the process
//	Block         as a loop in C        nothing after a second      one P while interrupts come
//	Cooperative   1.5 to 3.5 times C    nothing                     nothing
//	Hybrid        a tenth, within Spin  nothing after a second      one P while interrupts come
//	Poll          a tenth               a processor                 one P
//
// The factors are those of an idle process on a virtual machine, where a wake-up is dear; `scripts/bench` measures them.
// No way can promise anything when all Ps are busy with goroutines, or bounds how long the garbage collector holds the thread
// up: C can. A process that serves interrupts and does little else comes closest.
type Wait uint8

const (
	// Block sleeps in the kernel, and keeps its P, so that nothing is between the wake-up and the service routine. After a
	// second without an interrupt it gives the P away until the next one, which then costs what Cooperative does; so a device
	// that rests costs nothing.
	//
	// The runtime can stop the thread at any time: a stop of the world takes 0.1 ms, as against 1 us, while the P is kept,
	// and 10 ms at most with GODEBUG=asyncpreemptoff=1. What a service routine makes ready with a channel waits up to
	// 0.1 ms for another P to find it; a [DPC] does not.
	//
	// Half of the Ps are kept at most: with GOMAXPROCS 1 Block is Cooperative, unless there is Dispatch.Reserve.
	Block Wait = iota
	// Cooperative sleeps in the kernel as any goroutine does. The runtime takes the P meanwhile, and the thread has to get one
	// before the service routine runs: some 10 us, or, when all are busy, until a goroutine's turn of 10 ms ends.
	Cooperative
	// Hybrid looks without sleeping for Dispatch.Spin after each interrupt, and then waits as Block does. It is for bursts.
	Hybrid
	// Poll never sleeps: it looks again and again, and takes a processor. Keep others off it (isolcpus, cpuset), the process's
	// own threads too. On a processor that is shared it is slower than Block at times: it loses its turns. So it does, for
	// milliseconds, in a process that computes elsewhere: after 10 ms the runtime takes the P, and another of its threads has to
	// run to give it back. Its DPCs run on any processor, where those of other threads run on the thread's own.
	Poll
)

var waitNames = []string{"block", "cooperative", "hybrid", "poll"}

// String returns "block", "cooperative", "hybrid" or "poll".
func (w Wait) String() string {
	if int(w) < len(waitNames) {
		return waitNames[w]
	}
	return fmt.Sprintf("Wait(%d)", uint8(w))
}

// ParseWait is the opposite of String.
func ParseWait(s string) (Wait, error) {
	if i := slices.Index(waitNames, s); i >= 0 {
		return Wait(i), nil
	}
	return 0, fmt.Errorf("%q is no way to wait; want block, cooperative, hybrid or poll", s)
}

const (
	// DefaultSpin is how long Hybrid looks when Dispatch.Spin is 0.
	DefaultSpin = 50 * time.Microsecond
	// MaxSpin is the most that Dispatch.Spin can be. Who wants more wants Poll.
	MaxSpin = 100 * time.Millisecond
)

// Dispatch is how interrupts are waited for and served: what has no counterpart in Windows' parameters. The zero value is the
// default. Interrupts of a device with the same processors and the same Dispatch are served by one thread.
type Dispatch struct {
	// Wait is how the thread waits.
	Wait Wait
	// Spin is how long Hybrid looks after an interrupt before it sleeps; 0 is DefaultSpin. It is for Hybrid only.
	Spin time.Duration
	// Priority runs the thread with SCHED_FIFO at this priority, 1 to 99, and 0 leaves it with the ordinary ones. It needs
	// CAP_SYS_NICE or RLIMIT_RTPRIO, and Connect fails without. Such a thread is not descheduled for ordinary ones; a routine
	// that does not end takes its processor but for 50 ms of each second, and so does Poll. Keep the process's other threads
	// off it: what a service routine waits for, such as a lock, may be held by one that cannot run.
	Priority int
	// Own gives each interrupt a thread of its own, so that no slow neighbour holds it up: with one thread for many an
	// interrupt may wait for the routines of all the others that are due. For a few busy sources, not for thousands.
	Own bool
	// Reserve raises GOMAXPROCS by one for each thread that keeps a P, as long as it lives, so that the goroutines of the
	// process keep what they had. From then on the runtime does not adapt GOMAXPROCS to the machine by itself any more
	// (runtime.SetDefaultGOMAXPROCS brings that back). It has no effect with Cooperative.
	Reserve bool
}

// check refuses what makes no sense on any machine.
func (d Dispatch) check() error {
	switch {
	case int(d.Wait) >= len(waitNames):
		return fmt.Errorf("there is no way to wait %d; want Block, Cooperative, Hybrid or Poll", uint8(d.Wait))
	case d.Spin != 0 && d.Wait != Hybrid:
		return fmt.Errorf("a spin of %v with %v; only Hybrid spins for a time", d.Spin, d.Wait)
	case d.Spin < 0 || d.Spin > MaxSpin:
		return fmt.Errorf("a spin of %v; want at most %v, or 0 for %v", d.Spin, MaxSpin, DefaultSpin)
	case d.Priority < 0 || d.Priority > 99:
		return fmt.Errorf("priority %d; want 1 to 99 for SCHED_FIFO, or 0 for an ordinary thread", d.Priority)
	}
	return nil
}

// SetDispatch chooses how the interrupts of the device are waited for and served, those with the given message numbers, 0 for
// the line, or all when none is given. It is for interrupts that are connected later; it is refused, and changes nothing,
// while one of them is connected, for messages that were not assigned, and for a Dispatch that makes no sense. In a service
// or deferred routine the error is a [*BugCheckError]. The resources that the next Assign gives begin with the default.
func (r *Resources) SetDispatch(d Dispatch, messages ...int) error {
	if err := requirePassive("SetDispatch"); err != nil {
		return err
	}
	err := d.check()
	if err == nil {
		err = r.setDispatch(d, messages)
	}
	if err != nil {
		return &StatusError{Status: StatusInvalidParameter, Op: "set the dispatch", Err: err}
	}
	return nil
}

func (r *Resources) setDispatch(how Dispatch, messages []int) error {
	d := lookupDevice(r.Device)
	if d == nil {
		return errors.New("the device is closed")
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.resources != r {
		return errors.New("the resources are not the device's any more")
	}
	if len(messages) == 0 {
		messages = make([]int, len(r.messages))
		for n := range messages {
			messages[n] = n
		}
	}
	for _, n := range messages {
		switch {
		case n < 0 || n >= len(r.messages):
			return fmt.Errorf("message %d: %d were assigned to %s", n, len(r.messages), r.Device.Address())
		case d.sources[n] != nil:
			return fmt.Errorf("%s is connected; disconnect it first", d.sources[n])
		}
	}
	if r.dispatch == nil {
		r.dispatch = make([]Dispatch, len(r.messages))
	}
	for _, n := range messages {
		r.dispatch[n] = how
	}
	return nil
}

// dispatchOf is how a message is to be served.
func (r *Resources) dispatchOf(message int) Dispatch {
	if r.dispatch == nil {
		return Dispatch{}
	}
	return r.dispatch[message]
}

// Dispatching is how an interrupt is waited for and served at this moment.
type Dispatching struct {
	Dispatch // as it was asked for
	// Thread is the id of the OS thread (gettid(2)), as in /proc/PID/task. It changes only when a service routine ends its
	// goroutine.
	Thread int
	// Keeps tells that the thread has a P of its own now: it does while interrupts come, unless it is Cooperative or Warning
	// says why.
	Keeps bool
	// Warning tells why the interrupt is served more slowly than it could be, or what else goes with the way that was chosen, and
	// what to do; nil if nothing does.
	Warning error
}

// Dispatching tells how the interrupt is waited for and served.
func (i *Interrupt) Dispatching() Dispatching {
	d := i.source.dispatcher
	return Dispatching{
		Dispatch: d.how,
		Thread:   int(d.tid.Load()),
		Keeps:    d.keeps.Load(),
		Warning:  d.warning(),
	}
}

// warning is Dispatching.Warning.
func (d *dispatcher) warning() error {
	var list []error
	if d.how.Wait != Cooperative && !d.how.Reserve && !d.keeps.Load() && !mayKeep(int(keepers.Load())+1) {
		list = append(list, fmt.Errorf("no P to keep: GOMAXPROCS is %d, of which interrupts may have half, and other threads keep %d, so this one "+
			"waits cooperatively; raise GOMAXPROCS, or set Dispatch.Reserve", ordinaryPs(), keepers.Load()))
	}
	if d.how.Wait == Poll && d.how.Priority > 0 {
		list = append(list, fmt.Errorf("polling with SCHED_FIFO leaves others 50 ms of each second on CPUs %s, and then nothing is served; "+
			"keep others off them, or poll without a priority", d.pinned))
	}
	return errors.Join(list...)
}
