package vfiotest

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/irqbridge/irqbridge/pci"
	"github.com/irqbridge/irqbridge/vfio/internal/uapi"
)

// intx is the state of a device's line while it is enabled through VFIO. The kernel masks it, by COMMAND.INTxDisable,
// whenever it fires; the user unmasks it.
type intx struct {
	handler *handler
	trigger *eventfd // nil: what comes is masked and dropped
	masked  bool
	unmask  *resample
}

// setINTxMask is MASK of INTx.
func (d *device) setINTxMask(r request) error {
	if d.live != uapi.PCIINTxIRQIndex || r.count != 1 {
		return unix.EINVAL
	}
	if r.kind == uapi.IRQSetDataEventFD {
		return unix.ENOTTY
	}
	if r.flag(0) {
		d.maskINTx()
	}
	return nil
}

// setINTxUnmask is UNMASK of INTx.
func (d *device) setINTxUnmask(r request) error {
	if d.live != uapi.PCIINTxIRQIndex || r.count != 1 {
		return unix.EINVAL
	}
	if r.kind == uapi.IRQSetDataEventFD {
		return d.setUnmaskEventfd(r.fd(0))
	}
	if r.flag(0) {
		d.unmaskINTx()
	}
	return nil
}

// setUnmaskEventfd installs an eventfd that unmasks when it is signalled, or removes it.
func (d *device) setUnmaskEventfd(fd int) error {
	if fd < 0 {
		d.intx.unmask.stop()
		d.intx.unmask = nil
		return nil
	}
	event, err := takeEventfd(fd)
	if err != nil {
		return err
	}
	if d.intx.unmask != nil {
		event.put()
		return unix.EBUSY
	}
	d.intx.unmask, err = d.function.kernel.newResample(event, d.unmaskINTx)
	if err != nil {
		event.put()
	}
	return err
}

// setINTxTrigger is TRIGGER of INTx.
func (d *device) setINTxTrigger(r request) error {
	enabled := d.live == uapi.PCIINTxIRQIndex
	switch {
	case enabled && r.disables():
		d.disableINTx()
		return nil
	case !enabled && d.live != idle || r.count != 1:
		return unix.EINVAL
	case r.kind == uapi.IRQSetDataEventFD:
		return d.setINTxEventfd(r.fd(0))
	case !enabled:
		return unix.EINVAL
	case r.flag(0):
		d.signalINTx()
	}
	return nil
}

// setINTxEventfd enables the line, or gives it another eventfd.
func (d *device) setINTxEventfd(fd int) error {
	var taken *eventfd
	if fd >= 0 {
		var err error
		if taken, err = takeEventfd(fd); err != nil {
			return err
		}
	}
	if d.live == uapi.PCIINTxIRQIndex {
		d.intx.trigger.put()
		d.intx.trigger = taken
		return nil
	}
	f := d.function
	if f.line == nil {
		taken.put()
		return unix.ENODEV
	}
	if f.kernel.withoutINTxMask && len(f.line.handlers) > 0 {
		taken.put()
		return unix.EBUSY
	}
	d.intx = intx{trigger: taken, masked: d.config.disabled}
	d.live = uapi.PCIINTxIRQIndex
	d.intx.handler = f.line.request(fmt.Sprintf("vfio-intx(%v)", f.address), d.handleINTx)
	d.silence(d.intx.masked)
	return nil
}

// disableINTx ends the use of the line. The device stays silent if it was.
func (d *device) disableINTx() {
	d.intx.unmask.stop()
	d.function.line.release(d.intx.handler)
	d.function.line.disabled = false
	d.intx.trigger.put()
	d.intx = intx{}
	d.live = idle
}

// silence has the device keep its line silent, or lets it speak. Without the bit for it, that is up to the line's interrupt.
func (d *device) silence(on bool) {
	if d.function.kernel.withoutINTxMask {
		if d.live == uapi.PCIINTxIRQIndex {
			d.function.line.disabled = on
			d.function.evaluateLine()
		}
		return
	}
	if on {
		d.function.changeCommand(pci.CommandINTxDisable, 0)
	} else {
		d.function.changeCommand(0, pci.CommandINTxDisable)
	}
}

// maskINTx masks the line on behalf of the user: by MASK, or by writing COMMAND.INTxDisable.
func (d *device) maskINTx() {
	if d.live == uapi.PCIINTxIRQIndex {
		if d.intx.masked {
			return
		}
		d.intx.masked = true
	}
	d.silence(true)
}

// unmaskINTx unmasks the line on behalf of the user. When the device still asserts it, the interrupt is passed on at once
// and the line stays masked.
func (d *device) unmaskINTx() {
	if d.live != uapi.PCIINTxIRQIndex {
		d.silence(false)
		return
	}
	if !d.intx.masked || d.config.disabled {
		return
	}
	if d.function.asserted && !d.function.kernel.withoutINTxMask {
		d.signalINTx()
		return
	}
	d.intx.masked = false
	d.silence(false)
}

// handleINTx is the interrupt handler: if it was this device, the line is masked and the user told.
func (d *device) handleINTx() bool {
	if d.intx.masked || !d.function.interrupting() {
		return false
	}
	d.intx.masked = true
	d.silence(true)
	d.signalINTx()
	return true
}

// signalINTx tells the user of an interrupt, unless the user wrote COMMAND.INTxDisable.
func (d *device) signalINTx() {
	if d.intx.trigger != nil && !d.config.disabled {
		d.intx.trigger.signal()
	}
}
