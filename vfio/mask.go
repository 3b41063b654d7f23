package vfio

import (
	"encoding/binary"
	"errors"
	"os"

	"golang.org/x/sys/unix"

	"github.com/irqbridge/irqbridge/vfio/internal/uapi"
)

// MaskIRQ holds interrupts of INTx back until UnmaskIRQ. MSI and MSI-X have no such thing in VFIO: ErrNotSupported.
func (d *Device) MaskIRQ(index IRQIndex) error { return d.mask("mask", index, d.maskINTx) }

// UnmaskIRQ lets INTx interrupt again: the kernel masks the line at each interrupt. Clear the cause in the device first;
// if the line is still asserted, the eventfd is signalled again at once. It does nothing when the line is not masked,
// and does not allocate. MSI and MSI-X have no such thing in VFIO: ErrNotSupported.
func (d *Device) UnmaskIRQ(index IRQIndex) error { return d.mask("unmask", index, d.unmaskINTx) }

// UnmaskIRQOnEventFD has the kernel unmask INTx, as UnmaskIRQ does, whenever the eventfd fd is signalled, and take its
// count (VFIO_DEVICE_SET_IRQS, EVENTFD and UNMASK). So another process, such as a virtual machine, can say that it
// served an interrupt. An eventfd that has been signalled already unmasks at once. -1 takes the eventfd back, as does
// DisableIRQs; as long as there is one, another is ErrBusy. The kernel keeps its own reference to it. INTx has to be
// enabled. MSI and MSI-X have no such thing in VFIO: ErrNotSupported.
func (d *Device) UnmaskIRQOnEventFD(index IRQIndex, fd int) error {
	const op = "set the unmask eventfd of"
	if index != INTx {
		return d.refuseMask(op, index)
	}
	d.life.RLock()
	defer d.life.RUnlock()
	if d.closed {
		return d.irqFault(op, index, -1, os.ErrClosed)
	}
	data := binary.NativeEndian.AppendUint32(nil, uint32(int32(fd)))
	_, err := d.kernel.DeviceSetIRQs(d.fd, irqSet(uapi.IRQSetDataEventFD|uapi.IRQSetActionUnmask, index, 0, 1, data))
	if err == nil {
		return nil
	}
	e := d.irqFault(op, index, -1, err)
	switch {
	case errors.Is(err, unix.EBUSY):
		e.Kind, e.Cause, e.Remedy = ErrBusy, "it has one already", "take that back first, with descriptor -1"
	case errors.Is(err, unix.EBADF):
		e.Cause, e.Remedy = causeNotOpen, remedyNotOpen
	case errors.Is(err, unix.EINVAL):
		e.Cause, e.Remedy = "INTx is not enabled, or the descriptor is not an eventfd", "enable it first, and check the descriptor"
	}
	return e
}

// refuseMask is the error for an index that VFIO does not mask.
func (d *Device) refuseMask(op string, index IRQIndex) error {
	e := d.irqFault(op, index, -1, unix.ENOTTY)
	e.Kind = ErrNotSupported
	e.Cause = "VFIO masks INTx only"
	e.Remedy = "use the device's own interrupt enable register"
	return e
}

// mask makes a prepared call for INTx.
func (d *Device) mask(op string, index IRQIndex, arg []byte) error {
	if index != INTx {
		return d.refuseMask(op, index)
	}
	d.life.RLock()
	defer d.life.RUnlock()
	if d.closed {
		return d.irqFault(op, index, -1, os.ErrClosed)
	}
	if _, err := d.kernel.DeviceSetIRQs(d.fd, arg); err != nil {
		e := d.irqFault(op, index, -1, err)
		if errors.Is(err, unix.EINVAL) {
			e.Cause, e.Remedy = "INTx is not enabled", "enable it first"
		}
		return e
	}
	return nil
}
