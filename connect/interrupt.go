package connect

import (
	"sync/atomic"

	"github.com/irqbridge/irqbridge/pci"
	"github.com/irqbridge/irqbridge/vfio"
	"github.com/irqbridge/irqbridge/vfio/host"
)

// Interrupt is a connected interrupt: the KINTERRUPT object of Windows. [Connect] makes it, [Disconnect] ends it; after
// that it only reports. Its methods are safe for concurrent use and may be called from service routines, except where
// they say otherwise. The zero value is of no use.
type Interrupt struct {
	source          *source
	routine         ServiceRoutine
	context         any
	lock            *SpinLock
	synchronizeIRQL KIRQL
	share           bool
	wanted          host.CPUSet

	// disconnected is guarded by lock: whoever has set it under the lock knows that the routine neither runs nor will.
	disconnected bool
	private      SpinLock

	// These two are guarded by lock, too. resumedAt is the kernel's count when the interrupt was resumed.
	activity  activity
	resumedAt uint64

	calls    atomic.Uint64
	claims   atomic.Uint64
	dropped  atomic.Uint64
	declines atomic.Uint64 // calls that ended in another way
	times    timing        // of the calls
	holds    timing        // of the lock, by others than the routine
	// The source's counts when this interrupt joined it.
	firesBefore     uint64
	unclaimedBefore uint64

	// What Err tells, the gravest first.
	err    atomic.Pointer[error]     // why the routine is called no more
	storms atomic.Pointer[error]     // a storm in which it is called on
	stuck  atomic.Pointer[stuckCall] // the last call that the watchdog reported
}

// passive tells whether the service routine runs at PASSIVE_LEVEL.
func (i *Interrupt) passive() bool { return i.synchronizeIRQL == PassiveLevel }

// Stats counts what an interrupt did since it was connected. The numbers are read one after another while interrupts
// go on.
type Stats struct {
	// Fires is how often the kernel signalled the source. The kernel counts, so fires that one service served together
	// are in it; of a chain it goes on while somebody is connected. On a modelled line it counts the own device only, while
	// Calls counts those for others too. It is 0 where /proc is not mounted.
	Fires uint64
	// Calls is how often the service routine was called; Claimed how often it returned true.
	Calls   uint64
	Claimed uint64
	// UnclaimedWalks is how often nobody in the source's chain claimed. Many of them on a line mean that another device
	// asserts it, or that the routine does not recognise its own.
	UnclaimedWalks uint64
	// DroppedInactive is how often the service routine was not called because the interrupt was inactive: once for each
	// event, in which the kernel's signals may have come together, and in a chain of messages once for each pass. A line
	// is masked while nobody is active, so it makes no events then.
	DroppedInactive uint64
	// Routine tells of the calls, and Lock of Synchronize and AcquireLock, while [Resources.MeasureTimes] was on.
	Routine, Lock Timing
}

// Stats reads the counters. It is not for service routines: it reads a file of /proc for Fires.
func (i *Interrupt) Stats() Stats {
	fires, err := i.source.eventfd.count()
	if err != nil {
		fires = i.firesBefore
	}
	return Stats{
		Fires:           fires - i.firesBefore,
		Calls:           i.calls.Load(),
		Claimed:         i.claims.Load(),
		UnclaimedWalks:  i.source.unclaimed.Load() - i.unclaimedBefore,
		DroppedInactive: i.dropped.Load(),
		Routine:         i.times.read(),
		Lock:            i.holds.read(),
	}
}

// Device returns the device that interrupts.
func (i *Interrupt) Device() *vfio.Device { return i.source.device.vfio }

// Kind tells whether the interrupt is the line or a message.
func (i *Interrupt) Kind() pci.Kind { return i.source.kind }

// Message returns the message number, 0 for the line. It is the number within VFIO's interrupt index too.
func (i *Interrupt) Message() int { return i.source.message.Index }

// Descriptor returns the translated descriptor that the interrupt was matched with, its Vector that of this message.
func (i *Interrupt) Descriptor() pci.TranslatedDescriptor { return i.source.message.Translated }

// String names the interrupt for people: "0000:00:05.0 msix 3 (vector 0x33)".
func (i *Interrupt) String() string { return i.source.String() }

// Err tells what is wrong with the interrupt, nil if nothing is. Of several it is the first of these that holds:
//
//   - The service routine is called no more. The error is the first cause, and stays after Disconnect: a
//     [*ServiceRoutineError]; a [*BugCheckError] with HardwareInterruptStorm and Stopped, which [Interrupt.Rearm] ends; what
//     the kernel said when it could not go on; or, for an interrupt that was connected when its device was closed, an
//     error that is os.ErrClosed.
//   - There is a storm in which the routine is called on: a [*BugCheckError] with HardwareInterruptStorm, Stopped
//     false, until Rearm.
//   - The routine does not return: a [*BugCheckError] with DPCWatchdogViolation from 10 s on, until that call returns.
//
// The handler of [Resources.OnError] is told of each when it begins to hold. An ordinary Disconnect is no error.
func (i *Interrupt) Err() error {
	if err := i.err.Load(); err != nil {
		return *err
	}
	if err := i.storms.Load(); err != nil {
		return *err
	}
	if s := i.stuck.Load(); s != nil && i.ended() < s.number {
		return s.err
	}
	return nil
}

// report keeps why the routine is called no more, and tells of it.
func (i *Interrupt) report(err error) {
	if i.err.CompareAndSwap(nil, &err) {
		i.notify(err)
	}
}

// reportStorm keeps a storm in which the routine is called on, and tells of it.
func (i *Interrupt) reportStorm(err error) {
	if i.storms.CompareAndSwap(nil, &err) {
		i.notify(err)
	}
}

// notify tells the device's error handler, in a goroutine of its own: the handler may disconnect.
func (i *Interrupt) notify(err error) {
	if handler := i.source.device.onError.Load(); handler != nil && *handler != nil {
		go (*handler)(i, err)
	}
}

// HostIRQ returns the Linux interrupt behind this one with its delivery counts by CPU: a line of /proc/interrupts.
// Loopback triggers are not among the counts.
func (i *Interrupt) HostIRQ() (host.IRQ, error) {
	return i.Device().Host().FindIRQ(i.Device().Address(), i.Kind(), i.Message())
}
