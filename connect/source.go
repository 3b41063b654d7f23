package connect

import (
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/irqbridge/irqbridge/pci"
	"github.com/irqbridge/irqbridge/vfio"
)

// source is an armed interrupt source of a device, a line or a message, with the chain of the interrupts that are
// connected to it. It lives from the first connect of its vector to the last disconnect.
type source struct {
	device     *device
	kind       pci.Kind
	message    pci.Message
	latched    bool
	firstSpare int // of the entries of the MSI-X table that deliver message 0 too, when this is message 0
	spares     int
	eventfd    *eventfd
	dispatcher *dispatcher
	slot       int32
	generation int32
	chain      *chain
	worker     *worker // runs the routines of a passive-level source, nil where the dispatcher does

	err       atomic.Pointer[error] // why the source is silenced, nil while it is not
	reports   sync.Mutex            // held while the members are told of an error, or a storm is taken back
	unclaimed atomic.Uint64
	storm     storm // of a line

	// active counts the connected interrupts that are active. It changes under gate, together with the line's mask. The
	// gate is taken under an interrupt lock, and nothing is taken under it.
	gate   sync.Mutex
	active atomic.Int32

	steered atomic.Pointer[error] // what came of moving the host IRQ to the dispatcher's CPUs
}

// start has the source served.
func (s *source) start() error {
	if err := s.dispatcher.add(s); err != nil {
		return err
	}
	if s.worker != nil {
		go s.work()
	}
	return nil
}

// stop ends that, and returns when nobody is serving it any more. Then it can be disarmed: whoever served it neither
// unmasks nor silences what is disabled.
func (s *source) stop() {
	s.active.Store(0)
	s.dispatcher.remove(s)
	if s.worker != nil {
		s.worker.stop()
	}
}

// members are the interrupts of the chain that are this source's: all of them but on a modelled line.
func (s *source) members() []*Interrupt {
	return slices.DeleteFunc(slices.Clone(*s.chain.Load()), func(i *Interrupt) bool { return i.source != s })
}

// outcome is what came of calling one service routine, or of walking a chain.
type outcome uint8

const (
	skipped  outcome = iota // nobody was called: the interrupt is inactive, silenced or being disconnected
	declined                // returned false
	claimed                 // returned true
	crashed                 // panicked; the source has been silenced
)

// String names the source for people: "0000:00:05.0 msix 3 (vector 0x33)".
func (s *source) String() string {
	return fmt.Sprintf("%s %s %d (vector 0x%x)", s.device.vfio.Address(), s.kind, s.message.Index, s.message.Translated.Vector)
}

// maxPasses bounds the passes over a latched chain. One service routine that always claims would otherwise keep the
// walk going for ever, as it does on Windows.
const maxPasses = 10_000

// fire takes one event of the source. It runs on the dispatcher's thread.
func (s *source) fire(t *thread) {
	if s.worker != nil {
		s.worker.wake()
		return
	}
	s.serve(t)
}

// serve walks the chain and then, for the line, lets the kernel signal again.
func (s *source) serve(t *thread) {
	if s.err.Load() != nil {
		return
	}
	chain := *s.chain.Load()
	o := s.walk(t, chain)
	if t.deferred {
		t.handOn()
	}
	switch o {
	case crashed:
		return // a line stays masked
	case declined:
		s.unclaimed.Add(1)
	}
	if s.kind == pci.KindINTx && (o == skipped || !s.storm.walked(s, chain, o)) {
		_ = s.unmask() // which reports its own failure
	}
}

// walk calls the service routines of the chain, in the order in which they were connected.
func (s *source) walk(t *thread, chain []*Interrupt) outcome {
	switch {
	case len(chain) == 1:
		// Unchained: called once, in both modes. Its answer is counted and decides nothing.
		return s.call(t, chain[0])
	case s.latched:
		return s.walkLatched(t, chain)
	default:
		return s.walkLevel(t, chain)
	}
}

// call calls one routine of a line's chain, or the only one. If it ends badly and is that of another device on a
// modelled line, that device's source is silenced, and this one is served on.
func (s *source) call(t *thread, i *Interrupt) outcome {
	o := i.service(t)
	if o == crashed && i.source != s {
		return declined
	}
	return o
}

// walkLevel ends at the first claim. If the line is still asserted then, for another device or for nobody, the unmask
// that follows makes the kernel signal again.
func (s *source) walkLevel(t *thread, chain []*Interrupt) outcome {
	result := skipped
	for _, i := range chain {
		switch o := s.call(t, i); o {
		case claimed, crashed:
			return o
		case declined:
			result = declined
		}
	}
	return result
}

// walkLatched makes whole passes until one in which nobody claims. An edge that arrives during a pass does not come
// again, so every routine has to look once more after the last claim.
func (s *source) walkLatched(t *thread, chain []*Interrupt) outcome {
	result := skipped
	for range maxPasses {
		again := false
		for _, i := range chain {
			switch i.service(t) {
			case crashed:
				return crashed
			case claimed:
				again, result = true, claimed
			case declined:
				result = max(result, declined)
			}
		}
		if !again {
			return result
		}
	}
	s.tellStorm(stormError(chain, false, fmt.Sprintf("the service routines of %s claimed in %d passes of one walk; "+
		"one of them claims what its device did not raise", s, maxPasses)))
	return result
}

// unmask tells the kernel, which masked the line before it signalled, that the line was served. If the line is still
// asserted the kernel signals again at once, and the eventfd makes a new event. Messages have no such rule: the
// kernel answers ENOTTY. A failure silences the source. That the device is closed is none: whoever closes it tells.
//
// This is a call and not an eventfd by which the kernel unmasks (UnmaskIRQOnEventFD). That saves a fifth of the call on the
// kernels of the virtual machine, tells no errors, and of a line that is still asserted the kernel signals four times as late, from
// a work queue: 20 us against 5.
//
// The line stays masked when nobody is active. Otherwise it is unmasked also if nobody was called: one member may have
// left, or become inactive, just before its turn, when another had come, or become active, after its own.
func (s *source) unmask() error {
	if s.active.Load() == 0 {
		return nil
	}
	err := s.device.vfio.UnmaskIRQ(vfio.INTx)
	if errors.Is(err, os.ErrClosed) {
		return err
	}
	if err != nil {
		s.fail(fmt.Errorf("the line of %s stays masked after service; disconnect it and connect again: %w",
			s.device.vfio.Address(), err))
		return err
	}
	if s.active.Load() == 0 {
		s.remask()
	}
	return nil
}

// service calls the interrupt's routine under its lock.
func (i *Interrupt) service(t *thread) (o outcome) {
	i.lock.acquire(t.tid) // never recursive: no routine runs on this thread now
	if i.disconnected || i.activity != active && !i.due() || i.source.err.Load() != nil {
		i.lock.release()
		return skipped
	}
	t.irql = i.synchronizeIRQL
	returned := false
	defer func() {
		t.irql = PassiveLevel
		i.lock.release()
		if !returned {
			i.declines.Add(1)
			// A panic, or runtime.Goexit: then recover returns nil, and the goroutine goes on ending.
			i.source.fail(&ServiceRoutineError{Interrupt: i, Value: recover(), Stack: debug.Stack()})
			o = crashed
		}
	}()
	i.calls.Add(1)
	timed := i.timed()
	var begun time.Time
	if timed {
		begun = time.Now()
	}
	claim := i.routine(i, i.context)
	returned = true
	if timed {
		i.times.add(time.Since(begun), ServiceRoutineLimit)
	}
	if !claim {
		i.declines.Add(1)
		return declined
	}
	i.claims.Add(1)
	return claimed
}

// fail silences the source and reports why, so that one fault leaves the other sources alone. The kernel has masked a
// line already; a message loses its trigger. Only a storm can be ended, by Rearm.
func (s *source) fail(err error) {
	s.reports.Lock()
	defer s.reports.Unlock()
	if !s.err.CompareAndSwap(nil, &err) {
		return
	}
	if s.kind != pci.KindINTx {
		_ = s.hand(-1)
	}
	for _, i := range s.members() {
		i.report(err)
	}
}

// tellStorm reports a storm that does not silence the source.
func (s *source) tellStorm(err error) {
	s.reports.Lock()
	defer s.reports.Unlock()
	for _, i := range s.members() {
		i.reportStorm(err)
	}
}

// ServiceRoutineError says that a service routine panicked, or ended its goroutine with runtime.Goexit as FailNow of a
// test does. Its source has been silenced: the line is masked, the message has no trigger any more. Disconnect
// it as usual.
type ServiceRoutineError struct {
	Interrupt *Interrupt
	// Value is what was passed to panic, nil for runtime.Goexit.
	Value any
	// Stack is the stack of the service routine, as runtime/debug.Stack formats it.
	Stack []byte
}

func (e *ServiceRoutineError) Error() string {
	what := "ended its goroutine (runtime.Goexit)"
	if e.Value != nil {
		what = fmt.Sprintf("panicked: %v", e.Value)
	}
	return fmt.Sprintf("the service routine of %s %s; the source is silenced, disconnect it", e.Interrupt, what)
}

// Unwrap returns the panic's value if that is an error.
func (e *ServiceRoutineError) Unwrap() error {
	err, _ := e.Value.(error)
	return err
}
