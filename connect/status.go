package connect

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/irqbridge/irqbridge/vfio"
)

// Status is an NTSTATUS. [Connect] and [Disconnect] return one of the constants below and no other value, inside
// a [*StatusError]; errors.Is(err, StatusNotFound) tests for it.
type Status uint32

// The statuses that IoConnectInterruptEx and the pages it links to document, with the values of ntstatus.h.
const (
	// StatusSuccess stands for a nil error and is never inside one.
	StatusSuccess Status = 0x00000000
	// StatusUnsuccessful is any failure of the host that has no status of its own; the errno says which.
	StatusUnsuccessful Status = 0xC0000001
	// StatusInvalidParameter is a missing or contradictory member of the parameters.
	StatusInvalidParameter Status = 0xC000000D
	// StatusInvalidDeviceRequest is a request that the device's present state forbids, such as connecting a
	// message while the line is connected.
	StatusInvalidDeviceRequest Status = 0xC0000010
	// StatusInsufficientResources says that the host ran out of vectors, file descriptors or memory.
	StatusInsufficientResources Status = 0xC000009A
	// StatusNotSupported is a version or a kind of service routine that this package does not offer.
	StatusNotSupported Status = 0xC00000BB
	// StatusInvalidParameter1 is a Version that does not exist.
	StatusInvalidParameter1 Status = 0xC00000EF
	// StatusInvalidParameter10 is a ProcessorEnableMask that leaves no processor. The number is the place of the
	// mask among the arguments of the older IoConnectInterrupt, not among the members of [Parameters].
	StatusInvalidParameter10 Status = 0xC00000F8
	// StatusNotFound says that the device has no such interrupt: nothing was assigned to it that matches Vector,
	// Irql, InterruptMode, Group and ProcessorEnableMask.
	StatusNotFound Status = 0xC0000225
)

// String returns the name that ntstatus.h gives the status.
func (s Status) String() string {
	switch s {
	case StatusSuccess:
		return "STATUS_SUCCESS"
	case StatusUnsuccessful:
		return "STATUS_UNSUCCESSFUL"
	case StatusInvalidParameter:
		return "STATUS_INVALID_PARAMETER"
	case StatusInvalidDeviceRequest:
		return "STATUS_INVALID_DEVICE_REQUEST"
	case StatusInsufficientResources:
		return "STATUS_INSUFFICIENT_RESOURCES"
	case StatusNotSupported:
		return "STATUS_NOT_SUPPORTED"
	case StatusInvalidParameter1:
		return "STATUS_INVALID_PARAMETER_1"
	case StatusInvalidParameter10:
		return "STATUS_INVALID_PARAMETER_10"
	case StatusNotFound:
		return "STATUS_NOT_FOUND"
	}
	return fmt.Sprintf("NTSTATUS(0x%08X)", uint32(s))
}

// Error is String: a Status is an error so that errors.Is can look for it.
func (s Status) Error() string { return s.String() }

// Success is the NT_SUCCESS macro: success and informational values are not negative as an int32.
func (s Status) Success() bool { return int32(s) >= 0 }

// StatusError is the error of [Connect] and [Disconnect], of [ReportActive] and [ReportInactive], and of an interrupt's
// calls that they forbid.
type StatusError struct {
	Status Status
	// Op is the call in lower case: "connect", "disconnect", "report active", "rearm".
	Op string
	// Reason says in words what was refused and what to do about it.
	Reason string
	// Err is the cause below this package, if there is one; an errno is reachable through it with errors.Is.
	Err error
}

func (e *StatusError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s", e.Op, e.Status)
	if e.Reason != "" {
		fmt.Fprintf(&b, ": %s", e.Reason)
	}
	if e.Err != nil {
		fmt.Fprintf(&b, ": %v", e.Err)
	}
	return b.String()
}

// Unwrap gives the status and the cause to errors.Is and errors.As.
func (e *StatusError) Unwrap() []error {
	if e.Err == nil {
		return []error{e.Status}
	}
	return []error{e.Status, e.Err}
}

// statusOf is the status for a failure of the host while an interrupt was armed, disarmed, masked or unmasked.
func statusOf(err error) Status {
	var fewer *vfio.FewerVectorsError
	switch {
	case errors.As(err, &fewer),
		errors.Is(err, unix.ENOMEM), errors.Is(err, unix.EMFILE),
		errors.Is(err, unix.ENFILE), errors.Is(err, unix.ENOSPC):
		return StatusInsufficientResources
	case errors.Is(err, unix.ENODEV):
		return StatusNotFound
	case errors.Is(err, unix.EINVAL):
		return StatusInvalidDeviceRequest
	}
	return StatusUnsuccessful
}

// Bug check codes that a [BugCheckError] carries, as the Windows debugger's documentation numbers them.
const (
	// IRQLNotGreaterOrEqual is IRQL_NOT_GREATER_OR_EQUAL: a lock was released with another level than it was taken at.
	// Windows documents no parameters; here parameter 1 is the level given and 2 the one that is right.
	IRQLNotGreaterOrEqual uint32 = 0x9
	// SpinLockAlreadyOwned is SPIN_LOCK_ALREADY_OWNED: a thread asked for a lock that it holds.
	SpinLockAlreadyOwned uint32 = 0xF
	// SpinLockNotOwned is SPIN_LOCK_NOT_OWNED: a thread released a lock that it does not hold.
	SpinLockNotOwned uint32 = 0x10
	// PNPDetectedFatalError is PNP_DETECTED_FATAL_ERROR: parameter 1 is 9 for a disconnect, and here also for
	// a report, of the wrong Version, parameter 2 the Version.
	PNPDetectedFatalError uint32 = 0xCA
	// HardwareInterruptStorm is HARDWARE_INTERRUPT_STORM: parameters 1 to 3 are the addresses of the service routine, of
	// its context (0 where that is no pointer) and of the interrupt object, parameter 4 is 1 for an unchained interrupt
	// and 2 for a chain, of which the first interrupt is told.
	HardwareInterruptStorm uint32 = 0xF2
	// DriverViolation is DRIVER_VIOLATION: parameter 1 is 1 for a call at the wrong IRQL, parameter 2 the IRQL of
	// the caller, parameter 3 the one required.
	DriverViolation uint32 = 0x121
	// DPCWatchdogViolation is DPC_WATCHDOG_VIOLATION: parameter 1 is 0 for a single service or deferred routine that does
	// not return, parameter 2 how long it has run and parameter 3 the limit. These are milliseconds; Windows has ticks.
	DPCWatchdogViolation uint32 = 0x133
	// PassiveInterruptError is PASSIVE_INTERRUPT_ERROR: parameter 1 is 1 for the spin lock of an interrupt whose service
	// routine runs at passive level.
	PassiveInterruptError uint32 = 0x13B
)

// BugCheckError reports what would have stopped Windows with a bug check. Here the call is refused, or the source
// of the interrupt is silenced, or it is only told, and the process goes on.
type BugCheckError struct {
	// Code is the bug check code, such as [DriverViolation].
	Code uint32
	// Parameters are the four parameters that Windows documents for the code.
	Parameters [4]uint64
	// Interrupt is the interrupt at fault, nil when none is.
	Interrupt *Interrupt
	// DPC is the DPC at fault, nil when none is.
	DPC *DPC
	// Stopped tells of a storm that the line was left masked and the service routine is called no more until
	// [Interrupt.Rearm]. A storm of claims is only reported.
	Stopped bool
	// Reason says in words what happened and what to do about it.
	Reason string
}

func (e *BugCheckError) Error() string {
	name := ""
	switch e.Code {
	case IRQLNotGreaterOrEqual:
		name = " (IRQL_NOT_GREATER_OR_EQUAL)"
	case SpinLockNotOwned:
		name = " (SPIN_LOCK_NOT_OWNED)"
	case PassiveInterruptError:
		name = " (PASSIVE_INTERRUPT_ERROR)"
	case SpinLockAlreadyOwned:
		name = " (SPIN_LOCK_ALREADY_OWNED)"
	case PNPDetectedFatalError:
		name = " (PNP_DETECTED_FATAL_ERROR)"
	case HardwareInterruptStorm:
		name = " (HARDWARE_INTERRUPT_STORM)"
	case DPCWatchdogViolation:
		name = " (DPC_WATCHDOG_VIOLATION)"
	case DriverViolation:
		name = " (DRIVER_VIOLATION)"
	}
	return fmt.Sprintf("bug check 0x%X%s: %s", e.Code, name, e.Reason)
}
