package vfiotest

import (
	"encoding/binary"

	"github.com/irqbridge/irqbridge/pci"
	"github.com/irqbridge/irqbridge/vfio/internal/uapi"
)

// view is configuration space as VFIO shows it to the user of a device. For each bit it says whether the user sees the
// hardware's or a copy, and whether a write changes it.
type view struct {
	copied   []byte // the values of the virtual bits
	virtual  []byte // the bits that are read and written in copied
	writable []byte // the bits that a write changes
	disabled bool   // what the user set COMMAND.INTxDisable to
	power    int    // offset of the power management control register; 0 without
	msi      int    // offset of the MSI capability; 0 without
	express  int    // offset of the PCI Express device control register; 0 without
	queue    uint16 // the largest MME that the user may set; 0 until messages were enabled
}

// newView makes the view of a function that is being opened.
func newView(f *function) view {
	v := view{
		copied:   append([]byte(nil), f.config...),
		virtual:  make([]byte, len(f.config)),
		writable: make([]byte, len(f.config)),
	}
	set := func(b []byte, off int, bits uint64, width int) {
		for i := range width {
			b[off+i] = byte(bits >> (8 * i))
		}
	}
	const all = ^uint64(0)
	set(v.virtual, 0x00, all, 4) // vendor and device
	set(v.virtual, offCommand, uint64(pci.CommandINTxDisable), 2)
	set(v.writable, offCommand, all, 2)
	set(v.virtual, offStatus, statusCapList, 2)
	set(v.writable, 0x0c, all, 2) // cache line size, latency timer
	set(v.writable, 0x0f, all, 1) // BIST
	for off := offBAR0; off < offBAR0+24; off += 4 {
		set(v.virtual, off, all, 4)
		set(v.writable, off, all, 4)
	}
	set(v.virtual, offROM, all, 4)
	set(v.writable, offROM, all, 4)
	set(v.virtual, offCapList, all, 1)
	set(v.virtual, offIntLine, all, 2) // and the pin
	set(v.writable, offIntLine, all, 1)

	// What is in no capability goes to the hardware; capabilities are read only, but for what follows.
	for off := headerSize; off < len(f.config); off++ {
		v.writable[off] = 0xff
	}
	decoded, err := pci.Decode(f.config)
	if err != nil {
		return v // a function that is gone
	}
	for _, c := range decoded.Capabilities {
		clear(v.writable[c.Offset : c.Offset+capabilitySize(f.config, c)])
		set(v.virtual, c.Offset+1, all, 1) // the pointer to the next one
		switch c.ID {
		case pci.CapPowerManagement:
			v.power = c.Offset + pmControl
			set(v.writable, v.power, all&^pmState, 4)
		case pci.CapMSI:
			v.msi = c.Offset
			set(v.virtual, c.Offset+msiFlags, all, 1)
			set(v.writable, c.Offset+msiFlags, all, 1)
			end := c.Offset + msiData32 + 2
			if f.msi.Address64 {
				end = c.Offset + msiData64 + 2
			}
			for off := c.Offset + msiAddress; off < end; off++ {
				v.virtual[off], v.writable[off] = 0xff, 0xff
			}
			if f.msi.Maskable {
				set(v.writable, f.msiMask(), all, 8) // and the pending bits
			}
		case pci.CapPCIExpress:
			v.express = c.Offset + expControl
			set(v.virtual, v.express, expReset|expSizes, 2)
			set(v.writable, v.express, all&^expPhantom, 2)
			if capabilitySize(f.config, c) > expControl2 {
				set(v.writable, c.Offset+expControl2, all&^expForwarding, 2)
			}
		}
	}
	for _, c := range decoded.ExtendedCapabilities {
		clear(v.writable[c.Offset:min(c.Offset+0x48, len(v.writable))])
		set(v.virtual, c.Offset, all, 4)
	}
	return v
}

// readConfig is a read by the user, aligned and at most 4 bytes.
func (d *device) readConfig(p []byte, off int) {
	v := &d.config
	if off >= offBAR0 && off < offROM+4 {
		d.sizeBARs()
	}
	d.function.readConfig(p, off)
	for i := range p {
		p[i] = p[i]&^v.virtual[off+i] | v.copied[off+i]&v.virtual[off+i]
	}
}

// sizeBARs makes the virtual BARs look like hardware's: of what was written, the bits below the size read as the type.
func (d *device) sizeBARs() {
	f := d.function
	for i, b := range f.bars {
		at := offBAR0 + 4*i
		hardware := binary.LittleEndian.Uint32(f.config[at:])
		if b.size == 0 {
			if i == 0 || f.bars[i-1].size == 0 || f.config[at-4]&0x6 != 0x4 || f.bars[i-1].io { // not an upper half
				binary.LittleEndian.PutUint32(d.config.copied[at:], 0)
			}
			continue
		}
		kind := uint32(0xf)
		if b.io {
			kind = 0x3
		}
		written := binary.LittleEndian.Uint32(d.config.copied[at:])
		binary.LittleEndian.PutUint32(d.config.copied[at:], written&^uint32(b.size-1)|hardware&kind)
	}
	binary.LittleEndian.PutUint32(d.config.copied[offROM:], 0) // none of these devices has one
}

// writeConfig is a write by the user, aligned and at most 4 bytes.
func (d *device) writeConfig(p []byte, off int) {
	v := &d.config
	f := d.function
	hardware := make([]byte, len(p))
	f.readConfig(hardware, off)
	physical := false
	for i, b := range p {
		w, virtual := v.writable[off+i], v.virtual[off+i]
		v.copied[off+i] = v.copied[off+i]&^(w&virtual) | b&w&virtual
		if w&^virtual != 0 {
			hardware[i] = hardware[i]&^(w&^virtual) | b&w&^virtual
			physical = true
		}
	}
	if physical {
		f.writeConfig(hardware, off)
	}
	end := off + len(p)
	if off < offCommand+2 && end > offCommand {
		d.commandWritten()
	}
	if v.power != 0 && off <= v.power && end > v.power {
		f.setPower(int(p[v.power-off] & pmState))
	}
	if v.express != 0 && off < v.express+2 && end > v.express {
		d.resetWritten()
	}
	if v.msi != 0 && off <= v.msi+msiFlags && end > v.msi+msiFlags {
		d.msiFlagsWritten()
	}
}

// commandWritten follows what the user did with COMMAND.INTxDisable, which the kernel uses itself.
func (d *device) commandWritten() {
	v := &d.config
	disabled := pci.Command(binary.LittleEndian.Uint16(v.copied[offCommand:]))&pci.CommandINTxDisable != 0
	if disabled == v.disabled {
		return
	}
	v.disabled = disabled
	if disabled {
		d.maskINTx()
	} else {
		d.unmaskINTx()
	}
}

// resetWritten is the user's way of asking for a function level reset. The bit reads as 0.
func (d *device) resetWritten() {
	v := &d.config
	control := binary.LittleEndian.Uint16(v.copied[v.express:])
	if control&expReset == 0 {
		return
	}
	binary.LittleEndian.PutUint16(v.copied[v.express:], control&^expReset)
	if d.function.reset.isFLR() {
		d.resetFunction()
	}
}

// msiFlagsWritten keeps the user from enabling MSI here, and from more messages than there are; the rest goes to the
// hardware.
func (d *device) msiFlagsWritten() {
	v := &d.config
	flags := binary.LittleEndian.Uint16(v.copied[v.msi+msiFlags:])
	if d.live != uapi.PCIMSIIRQIndex {
		flags &^= msiEnable
	}
	if flags&msiQueue>>4 > v.queue {
		flags = flags&^msiQueue | v.queue<<4
	}
	binary.LittleEndian.PutUint16(v.copied[v.msi+msiFlags:], flags)
	d.function.writeConfig(binary.LittleEndian.AppendUint16(nil, flags), v.msi+msiFlags)
}
