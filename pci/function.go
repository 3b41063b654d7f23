package pci

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Function is what the configuration space of one PCI function says. Decode makes it.
//
// The numbers are those of the bytes at the time they were read: a driver changes the command register, the BARs and
// the enable bits of the capabilities.
type Function struct {
	VendorID   uint16 // PCI_VENDOR_ID
	DeviceID   uint16 // PCI_DEVICE_ID
	Command    Command
	Status     uint16 // PCI_STATUS
	RevisionID uint8  // PCI_REVISION_ID
	Class      Class

	// HeaderType is the layout of bytes 0x10 to 0x3f: one of the HeaderType constants, or a reserved value with a
	// warning. The multi-function bit is not in it.
	HeaderType    uint8
	MultiFunction bool // the device has more functions than number 0; set in function 0 only

	// The subsystem ids. A PCI-to-PCI bridge has them in a capability, and zeros here when that is absent.
	SubsystemVendorID uint16
	SubsystemID       uint16

	CacheLineSize uint8 // PCI_CACHE_LINE_SIZE, in words of 4 bytes
	LatencyTimer  uint8 // PCI_LATENCY_TIMER, in clocks of conventional PCI
	BIST          uint8 // PCI_BIST: built-in self test
	MinGrant      uint8 // PCI_MIN_GNT of an endpoint, in units of 250 ns
	MaxLatency    uint8 // PCI_MAX_LAT of an endpoint, in units of 250 ns

	BARs    []BAR    // in register order, without those that read zero
	ROM     *ROM     // nil when its register reads zero
	Bridge  *Bridge  // nil unless HeaderType is HeaderTypeBridge
	CardBus *CardBus // nil unless HeaderType is HeaderTypeCardBus

	Capabilities         []Capability         // in the order of the device's list
	ExtendedCapabilities []ExtendedCapability // in the order of the device's list; PCI Express and PCI-X only

	INTx *INTx // nil when the function has no interrupt line
	MSI  *MSI  // nil when the function has no MSI capability
	MSIX *MSIX // nil when the function has no MSI-X capability

	// Warnings lists what contradicts the specification, in the order in which it was met.
	Warnings []Warning

	Size int // bytes of configuration space that were decoded, 64 to 4096

	// Truncated means that the bytes ended before the device's own lists did: more capabilities exist, MSI and MSI-X
	// perhaps among them, or extended ones. Linux gives 64 bytes to a reader without CAP_SYS_ADMIN.
	Truncated bool
}

// Warning is one inconsistency in a configuration space.
type Warning struct {
	Offset int    `json:"offset"` // of the byte in configuration space where it shows
	Text   string `json:"text"`   // in lower case, without the offset
}

// String gives the offset and the text on one line.
func (w Warning) String() string {
	return fmt.Sprintf("config 0x%02x: %s", w.Offset, w.Text)
}

// Command is the command register, PCI_COMMAND at 0x04.
type Command uint16

// The bits of the command register that decide whether a device works and interrupts.
const (
	CommandIO          Command = 0x0001 // PCI_COMMAND_IO: it answers in I/O space
	CommandMemory      Command = 0x0002 // PCI_COMMAND_MEMORY: it answers in memory space; needed for any BAR access
	CommandBusMaster   Command = 0x0004 // PCI_COMMAND_MASTER: it may write to memory; without it MSI and MSI-X are lost in silence
	CommandINTxDisable Command = 0x0400 // PCI_COMMAND_INTX_DISABLE: its interrupt line stays silent
)

// statusCapabilityList is PCI_STATUS_CAP_LIST: the capabilities pointer is valid.
const statusCapabilityList = 0x0010

// Class is the 24-bit class code at 0x09: base class, sub-class and programming interface, from the high byte down.
type Class uint32

// Base is the base class: 0x01 mass storage, 0x02 network, 0x06 bridge and so on.
func (c Class) Base() uint8 { return uint8(c >> 16) }

// Sub is the sub-class within the base class.
func (c Class) Sub() uint8 { return uint8(c >> 8) }

// ProgIF is the register-level programming interface within the sub-class.
func (c Class) ProgIF() uint8 { return uint8(c) }

// String gives the six hexadecimal digits: "010802" is an NVMe controller.
func (c Class) String() string { return fmt.Sprintf("%06x", uint32(c)) }

// The header types, PCI_HEADER_TYPE_*.
const (
	HeaderTypeNormal  uint8 = 0 // an endpoint: six BARs
	HeaderTypeBridge  uint8 = 1 // a PCI-to-PCI bridge: two BARs
	HeaderTypeCardBus uint8 = 2 // a CardBus bridge: one BAR
)

// The sizes of configuration space: the header that every function has, the space of conventional PCI, and that of
// PCI Express (PCI_CFG_SPACE_SIZE and PCI_CFG_SPACE_EXP_SIZE of the Linux kernel).
const (
	headerSize       = 64
	conventionalSize = 256
	maxConfigSize    = 4096
)

// Offsets in the header, pci_regs.h.
const (
	offsetVendorID            = 0x00
	offsetDeviceID            = 0x02
	offsetCommand             = 0x04
	offsetStatus              = 0x06
	offsetRevisionID          = 0x08
	offsetCacheLineSize       = 0x0c
	offsetLatencyTimer        = 0x0d
	offsetHeaderType          = 0x0e
	offsetBIST                = 0x0f
	offsetBARs                = 0x10
	offsetCardBusCapabilities = 0x14
	offsetSubsystemVendorID   = 0x2c
	offsetSubsystemID         = 0x2e
	offsetCapabilities        = 0x34
	offsetInterruptLine       = 0x3c
	offsetInterruptPin        = 0x3d
	offsetMinGrant            = 0x3e
	offsetMaxLatency          = 0x3f
	offsetCardBusSubsystem    = 0x40
)

// ErrNoAnswer is returned by Decode for a header of nothing but 0xff: the function did not answer the reads.
var ErrNoAnswer = errors.New("every byte of the header reads 0xff: the device does not answer; " +
	"it is powered down (D3cold), in reset, its link is down, or it is gone")

// Decode reads the configuration space of one function. It wants the first bytes of it, from offset 0: 64 for the
// header alone, 256 for the capabilities, 4096 for the extended ones.
//
// Decode is made for hostile bytes: it ends, it never reads outside config, and it keeps no reference to it. Only two
// things make it fail, fewer than 64 bytes and a header of nothing but 0xff (ErrNoAnswer). All else that is wrong is
// listed in Function.Warnings.
func Decode(config []byte) (*Function, error) {
	if len(config) < headerSize {
		return nil, fmt.Errorf("config space of %d bytes is shorter than its header of %d; read it from offset 0",
			len(config), headerSize)
	}
	if allOnes(config[:headerSize]) {
		return nil, ErrNoAnswer
	}
	d := decoder{config: config[:min(len(config), maxConfigSize)], f: new(Function)}
	d.header()
	return d.f, nil
}

func allOnes(b []byte) bool {
	for _, v := range b {
		if v != 0xff {
			return false
		}
	}
	return true
}

// decoder holds the bytes and the Function that is made of them. Its methods read at offsets that were checked to lie
// inside config.
type decoder struct {
	config []byte
	f      *Function
}

func (d *decoder) u16(offset int) uint16 { return binary.LittleEndian.Uint16(d.config[offset:]) }
func (d *decoder) u32(offset int) uint32 { return binary.LittleEndian.Uint32(d.config[offset:]) }

func (d *decoder) warn(offset int, format string, args ...any) {
	d.f.Warnings = append(d.f.Warnings, warning(offset, format, args...))
}

func warning(offset int, format string, args ...any) Warning {
	return Warning{Offset: offset, Text: fmt.Sprintf(format, args...)}
}

// header decodes the first 64 bytes and then, where the header type is known, what they point to.
// Common fields: PCI Express Base Specification 7.5.1.1.
func (d *decoder) header() {
	f := d.f
	f.Size = len(d.config)
	f.VendorID = d.u16(offsetVendorID)
	f.DeviceID = d.u16(offsetDeviceID)
	f.Command = Command(d.u16(offsetCommand))
	f.Status = d.u16(offsetStatus)
	f.RevisionID = d.config[offsetRevisionID]
	f.Class = Class(d.u32(offsetRevisionID) >> 8)
	f.HeaderType = d.config[offsetHeaderType] & 0x7f
	f.CacheLineSize = d.config[offsetCacheLineSize]
	f.LatencyTimer = d.config[offsetLatencyTimer]
	f.BIST = d.config[offsetBIST]
	f.MultiFunction = d.config[offsetHeaderType]&0x80 != 0

	switch f.VendorID {
	case 0xffff:
		d.warn(offsetVendorID, "vendor id 0xffff: an SR-IOV virtual function, which leaves its ids to the physical one")
	case 0:
		d.warn(offsetVendorID, "vendor id 0x0000 belongs to nobody")
	}

	if f.HeaderType > HeaderTypeCardBus {
		d.warn(offsetHeaderType, "header type 0x%02x is not known: BARs, capabilities and interrupt pin are not decoded",
			f.HeaderType)
		return
	}
	f.BARs = d.bars(offsetBARs, barCount[f.HeaderType], "BAR")
	switch f.HeaderType {
	case HeaderTypeNormal:
		f.ROM = d.rom(offsetROM)
		f.MinGrant = d.config[offsetMinGrant]
		f.MaxLatency = d.config[offsetMaxLatency]
	case HeaderTypeBridge:
		f.Bridge = d.bridge()
		f.ROM = d.rom(offsetBridgeROM)
	case HeaderTypeCardBus:
		f.CardBus = d.cardBus()
	}
	d.intx()
	d.capabilities()
	d.subsystem()
	if f.MSI != nil && f.MSIX != nil && f.MSI.Enabled && f.MSIX.Enabled {
		d.warn(f.MSIX.Offset, "MSI and MSI-X are both enabled, which the specification forbids")
	}
}

// subsystem finds the subsystem ids, which each header type keeps elsewhere. It needs the capabilities.
func (d *decoder) subsystem() {
	f := d.f
	switch f.HeaderType {
	case HeaderTypeNormal:
		f.SubsystemVendorID = d.u16(offsetSubsystemVendorID)
		f.SubsystemID = d.u16(offsetSubsystemID)
	case HeaderTypeBridge:
		if s := Find[Subsystem](f); s != nil {
			f.SubsystemVendorID, f.SubsystemID = uint16(s.VendorID), uint16(s.ID)
		}
	case HeaderTypeCardBus:
		if len(d.config) < offsetCardBusSubsystem+4 {
			f.Truncated = true
			return
		}
		f.SubsystemVendorID = d.u16(offsetCardBusSubsystem)
		f.SubsystemID = d.u16(offsetCardBusSubsystem + 2)
	}
}
