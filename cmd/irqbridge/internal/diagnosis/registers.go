package diagnosis

import (
	"fmt"
	"slices"

	"github.com/irqbridge/irqbridge/pci"
)

// The checks in this file are about the registers of a device whose interrupts of one kind are enabled. The host's diagnosis
// and that of a run (connect) both use them.

// setpci is the command that changes a register of configuration space, of which mask says the bits.
func setpci(a pci.Address, register string, value, mask uint32) string {
	return fmt.Sprintf("sudo setpci -s %v %s=%x:%x", a, register, value, mask)
}

// Memory tells whether register writes reach the device.
func Memory(a pci.Address, f *pci.Function) Check {
	const id = "memory"
	virtual := f.VendorID == 0xffff // a virtual function's memory is switched by its physical one
	if virtual || f.Command&pci.CommandMemory != 0 || len(f.BARs) > 0 && !slices.ContainsFunc(f.BARs, func(b pci.BAR) bool { return b.Type != pci.BARIO }) {
		return ok(id, "the device answers at its BARs")
	}
	return fail(id, "memory decoding is off, so register writes do not reach the device", setpci(a, "COMMAND", 2, 2))
}

// BusMaster tells whether the device's messages may leave it.
func BusMaster(a pci.Address, f *pci.Function) Check {
	const id = "bus-master"
	if f.Command&pci.CommandBusMaster != 0 {
		return ok(id, "the device may send messages")
	}
	return fail(id, "bus mastering is off, so the device's messages are lost without a trace", setpci(a, "COMMAND", 4, 4))
}

// Enabled tells whether the device has the kind of messages enabled that the host has.
func Enabled(a pci.Address, f *pci.Function, kind pci.Kind) Check {
	const id, cause = "enabled", " is off in the device's capability, while the host has it on: a reset or a write to configuration space did that"
	next := fmt.Sprintf("start its program anew, or: irqbridge connect %v", a)
	switch {
	case kind == pci.KindMSI && f.MSI != nil && !f.MSI.Enabled:
		return fail(id, "MSI"+cause, next)
	case kind == pci.KindMSIX && f.MSIX != nil && !f.MSIX.Enabled:
		return fail(id, "MSI-X"+cause, next)
	}
	return ok(id, "the device has them enabled, as the host has")
}

// Masked tells whether the device holds any of these messages back.
func Masked(a pci.Address, f *pci.Function, kind pci.Kind, messages []int) Check {
	const id = "masked"
	switch {
	case kind == pci.KindMSI && f.MSI != nil && f.MSI.Maskable:
		var mask uint32
		for _, m := range messages {
			mask |= f.MSI.Mask & (1 << m)
		}
		register := "CAP_MSI+c.L"
		if f.MSI.Address64 {
			register = "CAP_MSI+10.L"
		}
		if mask != 0 {
			return fail(id, fmt.Sprintf("messages are masked in the MSI capability (mask 0x%x, pending 0x%x)", f.MSI.Mask, f.MSI.Pending), setpci(a, register, 0, mask))
		}
	case kind == pci.KindMSIX && f.MSIX != nil && f.MSIX.FunctionMask:
		return fail(id, "all messages are masked in the MSI-X capability", setpci(a, "CAP_MSIX+2.W", 0, 0x4000))
	}
	return ok(id, "no message is held back by the capability")
}

// address tells whether MSI has an address to be sent to. Those of MSI-X are not looked at.
func address(a pci.Address, f *pci.Function) Check {
	const id = "message-address"
	if f.MSI.Enabled && f.MSI.Address == 0 {
		return fail(id, "MSI is enabled with address 0, where no interrupt controller is: a reset or a write to configuration space did that",
			fmt.Sprintf("start its program anew, or: irqbridge connect %v", a))
	}
	return ok(id, fmt.Sprintf("MSI goes to 0x%x with data 0x%x", f.MSI.Address, f.MSI.Data))
}

// TableEntry is what the MSI-X table has for one message.
type TableEntry struct {
	Address uint64
	Masked  bool
}

// TableEntrySize is the size of one in the device's memory (PCI Express 4.0, 7.7.2.5 ff.).
const TableEntrySize = 16

// Entry tells whether the MSI-X table lets a message out. The table is in the device's memory, where a reset within the
// device gets at it that the kernel knows nothing of. Only who has the device open can read it.
func Entry(a pci.Address, f *pci.Function, message int, e TableEntry) Check {
	const id, why = "table", ": a reset within the device did that, or a write to its BAR"
	at := fmt.Sprintf("BAR %d at 0x%x", f.MSIX.Table.BAR, uint64(f.MSIX.Table.Offset)+uint64(message)*TableEntrySize)
	next := fmt.Sprintf("have nothing reset the device once its interrupts are connected, then: irqbridge connect %v", a)
	switch {
	case e.Address == 0:
		return fail(id, "the MSI-X table ("+at+") has address 0 for it, where no interrupt controller is"+why, next)
	case e.Masked:
		return fail(id, "it is masked in the MSI-X table ("+at+")"+why, next)
	}
	return ok(id, "the MSI-X table lets it out")
}

// notLookedAt is about the table of MSI-X.
func notLookedAt(a pci.Address, m *pci.MSIX) string {
	return fmt.Sprintf("the table of MSI-X in BAR %d at 0x%x (address, data and mask bit of each message) and its pending bits: they are the device's memory, "+
		"and to map that while somebody else has the device can go wrong; irqbridge connect %v looks, when a message does not come", m.Table.BAR, m.Table.Offset, a)
}
