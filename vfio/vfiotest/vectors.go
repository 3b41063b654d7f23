package vfiotest

import (
	"fmt"
	"math/bits"

	"golang.org/x/sys/unix"

	"github.com/irqbridge/irqbridge/pci"
	"github.com/irqbridge/irqbridge/vfio/internal/uapi"
)

// vector is one allocated message of MSI or MSI-X.
type vector struct {
	trigger *eventfd // nil: what comes is not heard
	handler *handler // nil without trigger
}

// setMessageTrigger is TRIGGER of MSI and MSI-X.
func (d *device) setMessageTrigger(r request) (int, error) {
	enabled := d.live == r.index
	switch {
	case enabled && r.disables():
		d.disableMessages()
		return 0, nil
	case !enabled && d.live != idle:
		return 0, unix.EINVAL
	case r.kind == uapi.IRQSetDataEventFD && enabled:
		return 0, d.setBlock(r)
	case r.kind == uapi.IRQSetDataEventFD:
		if available, err := d.enableMessages(r.index, r.start+r.count); available > 0 || err != nil {
			return available, err
		}
		err := d.setBlock(r)
		if err != nil {
			d.disableMessages()
		}
		return 0, err
	case !enabled, !d.canGrowTo(r.start + r.count):
		return 0, unix.EINVAL
	}
	for i := range r.count {
		if v := d.vectors[r.start+i]; v != nil && v.trigger != nil && r.flag(i) {
			v.trigger.signal()
		}
	}
	return 0, nil
}

// canGrowTo tells whether a request may reach up to message n-1: Linux 6.1 knows but what it allocated.
func (d *device) canGrowTo(n int) bool {
	return d.function.kernel.version != V6_1 || n <= len(d.vectors)
}

// withMemory has the host do something with the function's MSI-X table: for that time it decodes memory.
func (d *device) withMemory(do func()) {
	f := d.function
	before := f.command()
	f.changeCommand(pci.CommandMemory, 0)
	do()
	f.changeCommand(before, ^before)
}

// enableMessages allocates the messages 0 to n-1.
func (d *device) enableMessages(index uint32, n int) (available int, err error) {
	f := d.function
	d.withMemory(func() { available, err = f.allocate(index == uapi.PCIMSIXIRQIndex, n) })
	if available > 0 || err != nil {
		return available, err
	}
	d.live = index
	d.vectors = make(map[int]*vector, n)
	for i := range n {
		d.vectors[i] = &vector{}
	}
	if index == uapi.PCIMSIIRQIndex {
		d.config.queue = uint16(bits.Len(uint(n - 1)))
	}
	return 0, nil
}

// disableMessages frees the messages and switches them off.
func (d *device) disableMessages() {
	for n := range d.vectors {
		d.disarm(n)
	}
	d.withMemory(d.function.deallocate)
	d.vectors = nil
	d.live = idle
}

// setBlock gives a row of messages their eventfds. When one fails, all that were touched are without one.
func (d *device) setBlock(r request) error {
	version := d.function.kernel.version
	if version == V6_1 && (r.start >= len(d.vectors) || r.start+r.count > len(d.vectors)) {
		return unix.EINVAL
	}
	for i := range r.count {
		if err := d.arm(r.start+i, r.fd(i)); err != nil {
			for j := range i + 1 {
				d.disarm(r.start + j)
			}
			return err
		}
	}
	return nil
}

// arm gives a message another eventfd, or none, and allocates it if need be.
func (d *device) arm(n, fd int) error {
	d.disarm(n)
	if fd < 0 {
		return nil
	}
	f := d.function
	v := d.vectors[n]
	if v == nil {
		if !d.grows() || d.live != uapi.PCIMSIXIRQIndex {
			return unix.EINVAL
		}
		if err := f.allocateOne(n); err != nil {
			return err
		}
		v = &vector{}
		d.vectors[n] = v
	}
	taken, err := takeEventfd(fd)
	if err != nil {
		return err
	}
	if limit := f.kernel.armedLimit; limit > 0 && f.kernel.armedMessages() >= limit {
		taken.put()
		return unix.ENOSPC
	}
	v.trigger = taken
	name := fmt.Sprintf("vfio-msi[%d](%v)", n, f.address)
	if d.live == uapi.PCIMSIXIRQIndex {
		name = fmt.Sprintf("vfio-msix[%d](%v)", n, f.address)
		f.table[n].message = f.hostMessage(n) // whatever a user made of it
	}
	v.handler = f.messages[n].request(name, func() bool {
		v.trigger.signal()
		return true
	})
	f.mask(n, false)
	return nil
}

// armedMessages is how many messages of all devices have an eventfd.
func (k *Kernel) armedMessages() int {
	n := 0
	for _, f := range k.functions {
		if f.device == nil {
			continue
		}
		for _, v := range f.device.vectors {
			if v.trigger != nil {
				n++
			}
		}
	}
	return n
}

// disarm takes the eventfd of a message away.
func (d *device) disarm(n int) {
	v := d.vectors[n]
	if v == nil || v.trigger == nil {
		return
	}
	d.function.mask(n, true)
	d.function.messages[n].release(v.handler)
	v.trigger.put()
	v.trigger, v.handler = nil, nil
}

// MessageEventFD returns another descriptor of the eventfd that message n of a device has, for whoever plays the device from
// another process and so signals it as the kernel does: the descriptor can be inherited, or passed over a socket. It is
// the caller's to close, and of no use once the message has another eventfd or none. What it signals is not seen in
// /proc/interrupts. EINVAL: the message is not armed; ENODEV: no such device is open.
func (k *Kernel) MessageEventFD(a pci.Address, n int) (int, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	f := k.function(a)
	if k.down || f == nil || f.device == nil {
		return -1, unix.ENODEV
	}
	v := f.device.vectors[n]
	if v == nil || v.trigger == nil {
		return -1, unix.EINVAL
	}
	return unix.FcntlInt(uintptr(v.trigger.fd), unix.F_DUPFD_CLOEXEC, 0)
}
