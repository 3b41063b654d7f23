package connect

import (
	"fmt"
	"reflect"
	"runtime"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/irqbridge/irqbridge/vfio"
	"github.com/irqbridge/irqbridge/vfio/host"
)

// DeferredRoutine is the KDEFERRED_ROUTINE of Windows: what a service routine leaves to be done after it. It gets the
// context of [NewDPC] and the two arguments of the [DPC.Insert] that queued it.
//
// It runs at DISPATCH_LEVEL on an OS thread that is bound to the processors of the service routine, and holds up the
// other routines of that queue. It may use its device, Synchronize, ReportInactive and Insert, itself too; it must not call
// Connect, Disconnect, Assign, Release, Rearm, SetTarget or FlushDPCs, which return a [*BugCheckError]. Work that waits
// belongs in a goroutine. A panic ends this run and nothing else, see [DPC.Err].
type DeferredRoutine func(d *DPC, context, argument1, argument2 any)

// DPCForISR is the IO_DPC_ROUTINE of Windows, a deferred routine that a device's service routine asks for: see
// [InitializeDPCRequest].
type DPCForISR func(d *DPC, device *vfio.Device, request, context any)

// Importance is KDPC_IMPORTANCE: where in its queue a DPC is inserted.
type Importance uint32

// The importances, with the values of wdm.h. Low, medium and medium-high differ on Windows in how soon a processor is
// interrupted to run them. Here a queue that was empty is always woken, so these three are one.
const (
	LowImportance        Importance = 0 // at the tail
	MediumImportance     Importance = 1 // at the tail; what a new DPC has
	HighImportance       Importance = 2 // at the head
	MediumHighImportance Importance = 3 // at the tail
)

// DPC is a deferred procedure call, the KDPC object of Windows. It is in one queue or in none: inserted again before
// its routine has begun it stays where it is, with the arguments that it has. So of n inserts between one and n are
// run, and the routine asks its device what there is to do.
//
// Its methods may be called from service routines and are safe for concurrent use, except where they say otherwise.
type DPC struct {
	routine DeferredRoutine
	context any
	entry   uintptr // of the user's routine

	importance atomic.Uint32
	target     atomic.Pointer[dpcQueue] // nil for the queue of whoever inserts

	// list is where the DPC is queued, nil when it is not. It is changed under the list's lock.
	list atomic.Pointer[dpcList]
	// What follows is guarded by the lock of list.
	prev, next           *DPC
	argument1, argument2 any
	high                 bool
	to                   *dpcQueue // where a service routine's insert is to go when the walk has ended

	runs    atomic.Uint64
	timed   atomic.Bool
	times   timing
	err     atomic.Pointer[error]
	onError atomic.Pointer[func(*DPC, error)]
}

// NewDPC is KeInitializeDpc. The DPC has medium importance and no target processor.
func NewDPC(routine DeferredRoutine, context any) *DPC {
	d := &DPC{routine: routine, context: context, entry: reflect.ValueOf(routine).Pointer()}
	d.SetImportance(MediumImportance)
	return d
}

// InitializeDPCRequest is IoInitializeDpcRequest: it makes the DPC that a device's service routines queue with
// [DPC.Request]. On Windows the device object holds it, one for each device; here it is returned.
func InitializeDPCRequest(device *vfio.Device, routine DPCForISR) *DPC {
	d := NewDPC(func(d *DPC, _, request, context any) { routine(d, device, request, context) }, device)
	d.entry = reflect.ValueOf(routine).Pointer()
	return d
}

// Insert is KeInsertQueueDpc: it queues the DPC, and returns false, with no effect, when it is queued already. The DPC
// leaves the queue before its routine begins, so that an insert during the routine makes it run again.
//
// Where the routine runs is decided by who inserts, unless [DPC.SetTarget] did: from a service routine, on the
// processors of the service routine; from a deferred routine, on its own; from any other goroutine, on any processor.
// What is inserted by a service routine, or with an interrupt lock held, begins when the walk of the chain has ended or
// the lock was released: also on another processor, where Windows might begin earlier. Two inserts from different
// places can make the routine run twice at once, as on Windows; one queue runs one routine after the other.
//
// Insert does not allocate, except for the thread that serves the queue when it is first used. Arguments that are
// pointers cost nothing; other values are allocated by the conversion to any.
func (d *DPC) Insert(argument1, argument2 any) bool {
	return d.insert(lookupThread(), argument1, argument2)
}

func (d *DPC) insert(t *thread, argument1, argument2 any) bool {
	q := d.target.Load()
	switch {
	case q != nil:
	case t != nil && t.queue != nil:
		q = t.queue
	default:
		q = dpcQueueOf(host.CPUSet{})
	}
	if t != nil && t.irql > DispatchLevel {
		t.deferred = true // before FlushDPCs can find something in the list
		return t.pending.insert(d, q, argument1, argument2)
	}
	return q.insert(d, argument1, argument2)
}

// Request is IoRequestDpc: Insert from a service routine, with the request (an IRP on Windows) and the context that the
// routine of [InitializeDPCRequest] gets. Like there it does not tell whether the DPC was queued already. Above
// DISPATCH_LEVEL only, which is in a service routine that is not a passive-level one, or with its lock held; elsewhere
// nothing is queued and the error is a [*BugCheckError].
func (d *DPC) Request(request, context any) error {
	t := lookupThread()
	if t == nil || t.irql <= DispatchLevel {
		e := &BugCheckError{
			Code:       DriverViolation,
			Parameters: [4]uint64{1, uint64(PassiveLevel), uint64(DispatchLevel + 1)},
			Reason:     "Request was called outside of a service routine above passive level; call Insert there",
		}
		if t != nil {
			e.Parameters[1] = uint64(t.irql)
		}
		return e
	}
	d.insert(t, request, context)
	return nil
}

// Remove is KeRemoveQueueDpc: it takes the DPC out of its queue. True means that it was queued and does not run. False
// means that it was not, and its routine may be running; [FlushDPCs] waits for it.
func (d *DPC) Remove() bool {
	for {
		l := d.list.Load()
		if l == nil {
			return false
		}
		l.mu.Lock()
		if d.list.Load() == l {
			l.remove(d)
			l.mu.Unlock()
			return true
		}
		l.mu.Unlock() // it was handed on from the service routine's list to its queue
	}
}

// SetImportance is KeSetImportanceDpc. It has an effect on later inserts. Of several high ones the last comes first.
func (d *DPC) SetImportance(i Importance) { d.importance.Store(uint32(i)) }

// SetTarget is KeSetTargetProcessorDpc: it makes later inserts run on one CPU, by its Linux number. A CPU that is not
// online or not allowed to the process is refused. It reads files, so it is for ordinary goroutines, though Windows
// allows it at any IRQL: elsewhere the error is a [*BugCheckError].
func (d *DPC) SetTarget(cpu int) error {
	if err := requirePassive("SetTarget"); err != nil {
		return err
	}
	h, cpus := host.New("/"), host.CPUSetOf(cpu)
	if cpus.Empty() {
		return fmt.Errorf("set the target processor of a DPC: there is no CPU %d", cpu)
	}
	if _, err := usable(h, cpus); err != nil {
		return fmt.Errorf("set the target processor of a DPC: %w", err)
	}
	q := dpcQueueOf(cpus)
	q.pinBy(h)
	q.addressed.Store(true)
	d.target.Store(q)
	return nil
}

// Runs is how often the routine was begun: once for each Insert that returned true, unless it was removed.
func (d *DPC) Runs() uint64 { return d.runs.Load() }

// Err returns the first error of the DPC's runs, nil if there is none: a [*DeferredRoutineError], or a [*BugCheckError]
// with DPCWatchdogViolation for a run that did not end in 10 s. The DPC can be inserted all the same.
func (d *DPC) Err() error {
	if err := d.err.Load(); err != nil {
		return *err
	}
	return nil
}

// OnError sets who is told of each error of the DPC's runs; nil for nobody. It is called in a goroutine of its own. The
// error handler of a device is not told: a DPC belongs to no interrupt.
func (d *DPC) OnError(handler func(d *DPC, err error)) { d.onError.Store(&handler) }

func (d *DPC) report(err error) {
	d.err.CompareAndSwap(nil, &err)
	if handler := d.onError.Load(); handler != nil && *handler != nil {
		go (*handler)(d, err)
	}
}

// run calls the routine. A routine that ends the goroutine (runtime.Goexit) is reported too, and the goroutine goes on
// ending.
func (d *DPC) run(argument1, argument2 any) {
	returned := false
	defer func() {
		if !returned {
			d.report(&DeferredRoutineError{DPC: d, Value: recover(), Stack: debug.Stack()})
		}
	}()
	d.runs.Add(1)
	timed := d.timed.Load()
	var begun time.Time
	if timed {
		begun = time.Now()
	}
	d.routine(d, d.context, argument1, argument2)
	returned = true
	if timed {
		d.times.add(time.Since(begun), DeferredRoutineLimit)
	}
}

// String names the DPC for people, by its routine's name in the program.
func (d *DPC) String() string {
	name := "unknown"
	if f := runtime.FuncForPC(d.entry); f != nil {
		name = f.Name()
	}
	return "DPC " + name
}

// FlushDPCs is KeFlushQueuedDpcs: it returns when every DPC of the process that was inserted before has ended, those
// of service routines that have not returned yet included. A driver calls it after its device is quiet and before it
// frees what the routines use; Disconnect does not wait for them.
//
// It is for ordinary goroutines. From a service or deferred routine, or with an interrupt lock held, it would wait for
// itself: the error is a [*BugCheckError].
func FlushDPCs() error {
	if err := requirePassive("FlushDPCs"); err != nil {
		return err
	}
	// What service routines have queued comes into the queues first; what is in the queues then ends.
	var handedOn, ended dpcFlush
	for _, t := range allThreads() {
		handedOn.followPending(&t.pending)
	}
	handedOn.wait()
	for _, t := range allThreads() {
		// The marker may have been run while the rest of its list is still on its way to other queues.
		t.pending.mu.Lock()
		t.pending.mu.Unlock() //nolint:staticcheck // to have waited for who holds it
	}
	for _, q := range dpcQueues.all() {
		ended.follow(q)
	}
	ended.wait()
	return nil
}

// DeferredRoutineError says that a deferred routine panicked, or ended its goroutine with runtime.Goexit as FailNow of a
// test does. The other routines of its queue are run.
type DeferredRoutineError struct {
	DPC *DPC
	// Value is what was passed to panic, nil for runtime.Goexit.
	Value any
	// Stack is the stack of the routine, as runtime/debug.Stack formats it.
	Stack []byte
}

func (e *DeferredRoutineError) Error() string {
	what := "ended its goroutine (runtime.Goexit)"
	if e.Value != nil {
		what = fmt.Sprintf("panicked: %v", e.Value)
	}
	return fmt.Sprintf("the routine of %s %s; it can be inserted again", e.DPC, what)
}

// Unwrap returns the panic's value if that is an error.
func (e *DeferredRoutineError) Unwrap() error {
	err, _ := e.Value.(error)
	return err
}
