package vfio

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/irqbridge/irqbridge/pci"
	"github.com/irqbridge/irqbridge/vfio/internal/uapi"
)

// What callers branch on, with errors.Is. A missing permission is os.ErrPermission and a closed device os.ErrClosed.
// Since EPERM also answers to os.ErrPermission, and the kernel uses it for groups that are not viable and for platforms
// without interrupt remapping, ask for ErrNotViable and ErrNoInterruptRemapping first.
var (
	// ErrNotFound says that there is no such device, BAR or interrupt index.
	ErrNotFound = errors.New("not found")
	// ErrNotBound says that the device is not bound to a VFIO driver.
	ErrNotBound = errors.New("not bound to a VFIO driver")
	// ErrNoIOMMU says that the device is in no IOMMU group: the platform has no IOMMU, or it is off.
	ErrNoIOMMU = errors.New("no IOMMU")
	// ErrNotViable says that a device of the same IOMMU group is in use by the host.
	ErrNotViable = errors.New("IOMMU group is not viable")
	// ErrNoInterruptRemapping says that the platform cannot keep a device's messages from reaching any vector.
	ErrNoInterruptRemapping = errors.New("no interrupt remapping")
	// ErrBusy says that something else is in the way: another owner of the group, or another kind of interrupt.
	ErrBusy = errors.New("busy")
	// ErrNotSupported says that the device or the kernel cannot do it.
	ErrNotSupported = errors.New("not supported")
	// ErrReleased says that the device was closed because the host wants it back: it was unbound from its VFIO driver, or
	// removed. It is os.ErrClosed as well.
	ErrReleased error = releasedError{}
	// ErrGone says that the device does not answer, not even in its configuration space: it was pulled out, or lost its power
	// or its link. All that is left to do is to Close it.
	ErrGone = errors.New("the device has gone")
	// ErrUncorrectable says that an uncorrectable error of the device was reported on its link. See [Device.OnError].
	ErrUncorrectable = errors.New("an uncorrectable error was reported for the device")
)

type releasedError struct{}

func (releasedError) Error() string { return "released because the host wants the device back" }

func (releasedError) Is(target error) bool { return target == os.ErrClosed }

// OpError says which operation failed on which device, index and vector, why, and what to do about it.
type OpError struct {
	Op      string      // what was attempted: "enable", "read 4 bytes at 0x10 of BAR 0"
	Address pci.Address // of the device
	Index   IRQIndex    // NoIndex when it is not about interrupts
	Vector  int         // -1 when it is not about one vector
	Err     error       // what the kernel answered, a unix.Errno wherever there was an answer
	Kind    error       // one of this package's Err variables; nil when none of them applies
	Cause   string      // why, in words; may be ""
	Remedy  string      // the next step, in words; may be ""
}

// Error returns "address: op: err: cause; remedy" on one line, without what is empty.
func (e *OpError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%v: %s", e.Address, e.Op)
	if e.Index != NoIndex {
		fmt.Fprintf(&b, " %v", e.Index)
	}
	if e.Vector >= 0 {
		fmt.Fprintf(&b, " vector %d", e.Vector)
	}
	if e.Err != nil {
		fmt.Fprintf(&b, ": %v", e.Err)
	}
	if e.Cause != "" {
		fmt.Fprintf(&b, ": %s", e.Cause)
	}
	if e.Remedy != "" {
		fmt.Fprintf(&b, "; %s", e.Remedy)
	}
	return b.String()
}

// Unwrap returns Err.
func (e *OpError) Unwrap() error { return e.Err }

// Is tells whether target is Kind; errors.Is goes on to Err by itself.
func (e *OpError) Is(target error) bool { return e.Kind != nil && target == e.Kind }

// FewerVectorsError says that the host has fewer interrupt vectors for the device than were asked for. Nothing was
// enabled. Ask again for Available, or for fewer: without interrupt remapping a host gives a device one MSI vector.
type FewerVectorsError struct {
	Requested int // vectors asked for, counted from 0
	Available int // vectors that the host would give, at least 1
}

// Error gives both numbers.
func (e *FewerVectorsError) Error() string {
	return fmt.Sprintf("the host has %d of the %d vectors asked for, and enabled none", e.Available, e.Requested)
}

// opError is an OpError that is not about interrupts. It says why the device is closed.
func (d *Device) opError(op string, err error) *OpError {
	if err == os.ErrClosed && d.released.Load() { //nolint:errorlint // what this package says itself
		err = ErrReleased
	}
	return &OpError{Op: op, Address: d.address, Index: NoIndex, Vector: -1, Err: err}
}

// fault is opError for what the device was asked for. It says when the device has gone, for which the caller holds life if the
// kernel was asked.
func (d *Device) fault(op string, err error) *OpError {
	e := d.opError(op, err)
	if errors.Is(err, unix.ENODEV) || errors.Is(err, unix.EIO) || errors.Is(err, unix.EFAULT) {
		d.explainGone(e)
	}
	return e
}

// explainGone looks whether what failed did so because the device has gone. Where there is no device, configuration space
// reads all ones; VFIO makes up the vendor and the device ID, and not the class. The caller holds life.
func (d *Device) explainGone(e *OpError) {
	if d.fd < 0 || len(d.regions) <= uapi.PCIConfigRegionIndex || d.regions[uapi.PCIConfigRegionIndex].Size == 0 {
		return
	}
	var class [4]byte
	n, err := d.kernel.Pread(d.fd, class[:], int64(d.regions[uapi.PCIConfigRegionIndex].Offset)+offsetClass)
	if n != len(class) || err != nil || class != [4]byte{0xff, 0xff, 0xff, 0xff} {
		return
	}
	e.Kind = ErrGone
	e.Cause = "the device has gone, or lost its power or its link: its configuration space reads all ones"
	e.Remedy = "close it; see the end of dmesg"
}

// invalid is the refusal of an argument that the kernel would answer with EINVAL, with the reason that it would not give.
func (d *Device) invalid(op, cause string) *OpError {
	e := d.fault(op, unix.EINVAL)
	e.Cause = cause
	return e
}
