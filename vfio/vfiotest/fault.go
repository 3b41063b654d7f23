package vfiotest

import (
	"slices"

	"golang.org/x/sys/unix"

	"github.com/irqbridge/irqbridge/pci"
)

// fault is a call that is to fail.
type fault struct {
	call  string
	errno unix.Errno
	left  int // calls until it fails, this one included
}

// Fail has the nth call from now on (1 is the next) of the named method fail with errno and do nothing else; the calls
// before and after are not touched. The names are those of the methods that the fake has as a vfio.Kernel and as a
// host.OS: "DeviceSetIRQs", "Open", "WriteFile". Close and CurrentCPU cannot fail.
func (k *Kernel) Fail(call string, errno unix.Errno, nth int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.faults = append(k.faults, &fault{call: call, errno: errno, left: nth})
}

// injected returns the error that this call is to fail with.
func (k *Kernel) injected(call string) error {
	for i, f := range k.faults {
		if f.call != call {
			continue
		}
		if f.left--; f.left == 0 {
			k.faults = slices.Delete(k.faults, i, i+1)
			return f.errno
		}
	}
	return nil
}

// Remove pulls the device at a out of its slot. Its memory does not answer any more, its configuration space reads all
// ones, and it raises no interrupts. Who has it open is asked to let go (the REQ interrupt) and, until then, keeps the
// host from forgetting it.
func (k *Kernel) Remove(a pci.Address) {
	k.mu.Lock()
	defer k.mu.Unlock()
	f := k.function(a)
	if f == nil || f.gone {
		return
	}
	f.gone = true
	k.unplugged = append(k.unplugged, a)
	f.setLine(false)
	if f.device != nil {
		f.device.requestBack()
		return
	}
	k.forget(f)
}

// remove is a write to a device's attribute remove: those behind it and itself are taken from their drivers, which waits
// for a user of VFIO, and then forgotten.
func (k *Kernel) remove(f *function) error {
	for _, behind := range slices.Clone(k.functions) {
		if behind.behind == f {
			k.forget(behind)
		}
	}
	k.forget(f)
	if k.down {
		return unix.ENODEV
	}
	return nil
}

// forget takes a removed function out of the host's books.
func (k *Kernel) forget(f *function) {
	k.detach(f)
	k.functions = slices.DeleteFunc(k.functions, func(g *function) bool { return g == f })
	if f.group != nil {
		f.group.members = slices.DeleteFunc(f.group.members, func(g *function) bool { return g == f })
	}
}

// ReportError has the link report an uncorrectable error of the device at a, as PCI Express does by Advanced Error
// Reporting. It tells whether anybody is told: who has the device open and has armed the ERR interrupt.
func (k *Kernel) ReportError(a pci.Address) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	f := k.function(a)
	if f == nil || f.gone || f.device == nil || f.device.err == nil {
		return false
	}
	f.device.err.signal()
	return true
}

// SetLine has the device at a drive its interrupt line, as its registers would: asserted or not. It tells whether there
// is such a device with a line.
func (k *Kernel) SetLine(a pci.Address, asserted bool) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	f := k.function(a)
	if f == nil || f.gone || f.pin == 0 {
		return false
	}
	f.setLine(asserted)
	return true
}

// PulseLine has the device at a assert its interrupt line and let go of it before anybody looks, which is a spurious interrupt.
// It tells whether there is such a device with a line.
func (k *Kernel) PulseLine(a pci.Address) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	f := k.function(a)
	if f == nil || f.gone || f.pin == 0 {
		return false
	}
	before := f.asserted
	f.setLine(true)
	f.setLine(before)
	return true
}

// SendMessage has the device at a send MSI or MSI-X message n, whichever is enabled. It tells whether the host took it:
// false when there is no such device or message, when it may not master the bus, or when the message is masked. A message
// that no register has a cause for is a spurious interrupt.
func (k *Kernel) SendMessage(a pci.Address, n int) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	f := k.function(a)
	return f != nil && f.send(n)
}

// Delay holds back the messages that the device at a sends from now on, until the function that it returns is called: then they
// arrive, in their order, and those that follow are not held back. Messages are writes on their way to the host, so that one may
// arrive late, when its interrupt is disabled, which loses it, or serves somebody else, who finds no cause for it.
func (k *Kernel) Delay(a pci.Address) (arrive func()) {
	k.mu.Lock()
	defer k.mu.Unlock()
	f := k.function(a)
	if f == nil {
		return func() {}
	}
	held := &[]func(){}
	f.underWay = held
	return func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		if f.underWay == held {
			f.underWay = nil
		}
		for _, arrive := range *held {
			arrive()
		}
		*held = nil
	}
}
