package pci

// Bridge is what the header of a PCI-to-PCI bridge has in the place of further BARs: PCI Express Base Specification
// 7.5.1.3.
type Bridge struct {
	PrimaryBus       uint8 `json:"primaryBus"`       // PCI_PRIMARY_BUS: the bus that the bridge is on
	SecondaryBus     uint8 `json:"secondaryBus"`     // PCI_SECONDARY_BUS: the bus right behind it
	SubordinateBus   uint8 `json:"subordinateBus"`   // PCI_SUBORDINATE_BUS: the last bus behind it
	SecondaryLatency uint8 `json:"secondaryLatency"` // PCI_SEC_LATENCY_TIMER, in clocks of conventional PCI

	// What the bridge passes down. A window has no way to say that the bridge has none: one that is not there reads as
	// zeros.
	IO           Window `json:"io"`           // PCI_IO_BASE, PCI_IO_LIMIT
	Memory       Window `json:"memory"`       // PCI_MEMORY_BASE, PCI_MEMORY_LIMIT
	Prefetchable Window `json:"prefetchable"` // PCI_PREF_MEMORY_BASE, PCI_PREF_MEMORY_LIMIT

	SecondaryStatus Hex           `json:"secondaryStatus"` // PCI_SEC_STATUS: the bits of PCI_STATUS, for the bus behind
	Control         BridgeControl `json:"control"`         // PCI_BRIDGE_CONTROL
}

// Window is a range of addresses that a bridge passes down.
type Window struct {
	Base  Hex  `json:"base"`
	Limit Hex  `json:"limit"` // the last address of it
	Bits  int  `json:"bits"`  // width of the addresses: 16, 32 or 64
	Open  bool `json:"open"`  // Base is not above Limit
}

// BridgeControl is PCI_BRIDGE_CONTROL at 0x3e. CardBus bridges have the same bits in the same place, up to Reset.
type BridgeControl struct {
	ParityResponse   bool `json:"parityResponse"`   // PCI_BRIDGE_CTL_PARITY
	SystemError      bool `json:"systemError"`      // PCI_BRIDGE_CTL_SERR: pass errors up
	ISA              bool `json:"isa"`              // PCI_BRIDGE_CTL_ISA: keep the ISA aliases out of the I/O window
	VGA              bool `json:"vga"`              // PCI_BRIDGE_CTL_VGA: pass the VGA addresses down
	VGA16            bool `json:"vga16"`            // bit 4: decode 16 bits of VGA's I/O addresses
	MasterAbort      bool `json:"masterAbort"`      // PCI_BRIDGE_CTL_MASTER_ABORT
	Reset            bool `json:"reset"`            // PCI_BRIDGE_CTL_BUS_RESET: the bus behind is held in reset
	FastBackToBack   bool `json:"fastBackToBack"`   // PCI_BRIDGE_CTL_FAST_BACK
	DiscardPrimary   bool `json:"discardPrimary"`   // bit 8: the primary discard timer is the short one
	DiscardSecondary bool `json:"discardSecondary"` // bit 9
	DiscardStatus    bool `json:"discardStatus"`    // bit 10: the discard timer ran out
	DiscardError     bool `json:"discardError"`     // bit 11: that is an error
}

// CardBus is what the header of a CardBus bridge has: PC Card Standard, volume 7.
type CardBus struct {
	PrimaryBus       uint8 `json:"primaryBus"`       // PCI_CB_PRIMARY_BUS
	CardBus          uint8 `json:"cardBus"`          // PCI_CB_CARD_BUS: the bus behind the bridge
	SubordinateBus   uint8 `json:"subordinateBus"`   // PCI_CB_SUBORDINATE_BUS
	SecondaryLatency uint8 `json:"secondaryLatency"` // PCI_CB_LATENCY_TIMER

	Memory [2]Window `json:"memory"` // PCI_CB_MEMORY_BASE_0 and _1, in steps of 4 KiB
	IO     [2]Window `json:"io"`     // PCI_CB_IO_BASE_0 and _1, in steps of 4 bytes

	SecondaryStatus Hex           `json:"secondaryStatus"` // PCI_CB_SEC_STATUS
	Control         BridgeControl `json:"control"`         // PCI_CB_BRIDGE_CONTROL, up to Reset

	CardInterrupt bool    `json:"cardInterrupt"` // PCI_CB_BRIDGE_CTL_16BIT_INT: 16-bit cards interrupt by ISA lines
	Prefetch      [2]bool `json:"prefetch"`      // PCI_CB_BRIDGE_CTL_PREFETCH_MEM0 and _MEM1: the memory windows are prefetchable
	PostWrites    bool    `json:"postWrites"`    // PCI_CB_BRIDGE_CTL_POST_WRITES
}

// ROM is the expansion ROM's base address register, PCI_ROM_ADDRESS at 0x30 or, in bridges, PCI_ROM_ADDRESS1 at 0x38:
// PCI Express Base Specification 7.5.1.2.4.
type ROM struct {
	Address Hex    `json:"address"`        // 0 when none was assigned
	Enabled bool   `json:"enabled"`        // PCI_ROM_ADDRESS_ENABLE: it answers, if memory space is on too
	Size    uint64 `json:"size,omitempty"` // bytes; 0 when it is not known, see Function.SetSizes
}

// Offsets in the headers of bridges, pci_regs.h.
const (
	offsetROM       = 0x30
	offsetBridgeROM = 0x38
)

// rom decodes an expansion ROM register; one that reads zero is not there, or has no address and is off.
func (d *decoder) rom(offset int) *ROM {
	v := d.u32(offset)
	if v == 0 {
		return nil
	}
	return &ROM{Address: Hex(v &^ 0x7ff), Enabled: v&1 != 0}
}

// window puts the parts of a range together. The limit's low bits, which the registers do not have, are all ones.
func window(base, limit uint64, bits int) Window {
	return Window{Base: Hex(base), Limit: Hex(limit), Bits: bits, Open: base <= limit}
}

func (d *decoder) bridge() *Bridge {
	b := &Bridge{
		PrimaryBus:       d.config[0x18],
		SecondaryBus:     d.config[0x19],
		SubordinateBus:   d.config[0x1a],
		SecondaryLatency: d.config[0x1b],
		SecondaryStatus:  Hex(d.u16(0x1e)),
		Control:          bridgeControl(bits16(d.u16(0x3e))),
	}

	// The low four bits of base and limit tell the width: 0 is the narrow one, 1 the wide one.
	base, limit := uint64(d.config[0x1c]), uint64(d.config[0x1d])
	width := d.windowWidth(0x1c, "I/O", base, limit, 16)
	base, limit = base&0xf0<<8, limit&0xf0<<8|0xfff
	if width == 32 {
		base |= uint64(d.u16(0x30)) << 16  // PCI_IO_BASE_UPPER16
		limit |= uint64(d.u16(0x32)) << 16 // PCI_IO_LIMIT_UPPER16
	}
	b.IO = window(base, limit, width)

	base, limit = uint64(d.u16(0x20)), uint64(d.u16(0x22))
	b.Memory = window(base&0xfff0<<16, limit&0xfff0<<16|0xfffff, 32)

	base, limit = uint64(d.u16(0x24)), uint64(d.u16(0x26))
	width = d.windowWidth(0x24, "prefetchable memory", base, limit, 32)
	base, limit = base&0xfff0<<16, limit&0xfff0<<16|0xfffff
	if width == 64 {
		base |= uint64(d.u32(0x28)) << 32  // PCI_PREF_BASE_UPPER32
		limit |= uint64(d.u32(0x2c)) << 32 // PCI_PREF_LIMIT_UPPER32
	}
	b.Prefetchable = window(base, limit, width)
	return b
}

// windowWidth gives the width of a window, the narrow one or its double.
func (d *decoder) windowWidth(offset int, name string, base, limit uint64, narrow int) int {
	kind := base & 0xf
	if kind != limit&0xf || kind > 1 {
		d.warn(offset, "%s window has type %d in its base and %d in its limit; want both 0 (%d bits) or both 1 (%d bits)",
			name, kind, limit&0xf, narrow, 2*narrow)
		return narrow
	}
	return narrow << kind
}

func bridgeControl(b bits16) BridgeControl {
	return BridgeControl{
		ParityResponse:   b.has(0x0001),
		SystemError:      b.has(0x0002),
		ISA:              b.has(0x0004),
		VGA:              b.has(0x0008),
		VGA16:            b.has(0x0010),
		MasterAbort:      b.has(0x0020),
		Reset:            b.has(0x0040),
		FastBackToBack:   b.has(0x0080),
		DiscardPrimary:   b.has(0x0100),
		DiscardSecondary: b.has(0x0200),
		DiscardStatus:    b.has(0x0400),
		DiscardError:     b.has(0x0800),
	}
}

func (d *decoder) cardBus() *CardBus {
	control := bits16(d.u16(0x3e))
	c := &CardBus{
		PrimaryBus:       d.config[0x18],
		CardBus:          d.config[0x19],
		SubordinateBus:   d.config[0x1a],
		SecondaryLatency: d.config[0x1b],
		SecondaryStatus:  Hex(d.u16(0x16)),
		Control:          bridgeControl(control & 0x006f),
		CardInterrupt:    control.has(0x0080),
		Prefetch:         [2]bool{control.has(0x0100), control.has(0x0200)},
		PostWrites:       control.has(0x0400),
	}
	for i := range 2 {
		memory, io := 0x1c+8*i, 0x2c+8*i
		c.Memory[i] = window(uint64(d.u32(memory)&^0xfff), uint64(d.u32(memory+4)|0xfff), 32)
		base, limit := d.u32(io), d.u32(io+4)
		if base&1 == 0 { // 16 bits: the upper halves do not count
			c.IO[i] = window(uint64(base&0xfffc), uint64(limit&0xffff|3), 16)
		} else {
			c.IO[i] = window(uint64(base&^3), uint64(limit|3), 32)
		}
	}
	return c
}
