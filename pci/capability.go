package pci

import "fmt"

// Capability is one entry of the list in the first 256 bytes: PCI Express Base Specification 7.5.3 and 7.7.
type Capability struct {
	ID     CapabilityID
	Offset int // of the capability's first byte, the id; 0x40 to 0xfc

	// Length is the number of bytes from Offset on: those of the structure where Decode knows it, else those up to the
	// next capability or the end of the space.
	Length int

	Raw []byte // the bytes themselves; fewer than Length when the configuration space was not read to their end

	// Decoded is a pointer to what the registers say: *PowerManagement, *MSI, *Express and so on, see Find. It is nil
	// for a capability that this package knows by name only, and for one whose bytes are not all there.
	Decoded any
}

// ExtendedCapability is one entry of the list above 0x100: PCI Express Base Specification 7.6.3.
type ExtendedCapability struct {
	ID      ExtendedCapabilityID
	Version uint8 // 0 to 15, of the structure's layout
	Offset  int   // of the capability's header; 0x100 to 0xffc
	Length  int   // as in Capability
	Raw     []byte
	Decoded any // as in Capability: *AER, *SRIOV, *ACS and so on
}

// CapabilityID names a capability of the first 256 bytes, PCI_CAP_ID_*.
type CapabilityID uint8

// The capability ids of the PCI Code and ID Assignment Specification, section 2.
const (
	CapNull               CapabilityID = 0x00
	CapPowerManagement    CapabilityID = 0x01
	CapAGP                CapabilityID = 0x02
	CapVPD                CapabilityID = 0x03
	CapSlotID             CapabilityID = 0x04
	CapMSI                CapabilityID = 0x05
	CapHotSwap            CapabilityID = 0x06
	CapPCIX               CapabilityID = 0x07
	CapHyperTransport     CapabilityID = 0x08
	CapVendorSpecific     CapabilityID = 0x09
	CapDebugPort          CapabilityID = 0x0a
	CapCompactPCI         CapabilityID = 0x0b
	CapHotPlug            CapabilityID = 0x0c
	CapSubsystem          CapabilityID = 0x0d
	CapAGP8x              CapabilityID = 0x0e
	CapSecureDevice       CapabilityID = 0x0f
	CapPCIExpress         CapabilityID = 0x10
	CapMSIX               CapabilityID = 0x11
	CapSATA               CapabilityID = 0x12
	CapAdvancedFeatures   CapabilityID = 0x13
	CapEnhancedAllocation CapabilityID = 0x14
	CapFlatteningPortal   CapabilityID = 0x15
)

// extendedCapabilityBase is where the extended list starts; it has no pointer to it.
const extendedCapabilityBase = 0x100

// What a device that stopped answering gives for the first bytes of a capability in either list.
const (
	capabilityUnreadable = 0xff
	extendedUnreadable   = 0xffffffff
)

var capabilityNames = [...]string{
	CapNull:               "Null",
	CapPowerManagement:    "Power Management",
	CapAGP:                "AGP",
	CapVPD:                "Vital Product Data",
	CapSlotID:             "Slot Identification",
	CapMSI:                "MSI",
	CapHotSwap:            "CompactPCI Hot Swap",
	CapPCIX:               "PCI-X",
	CapHyperTransport:     "HyperTransport",
	CapVendorSpecific:     "Vendor Specific",
	CapDebugPort:          "Debug Port",
	CapCompactPCI:         "CompactPCI Central Resource Control",
	CapHotPlug:            "PCI Hot-Plug",
	CapSubsystem:          "Bridge Subsystem ID",
	CapAGP8x:              "AGP 8x",
	CapSecureDevice:       "Secure Device",
	CapPCIExpress:         "PCI Express",
	CapMSIX:               "MSI-X",
	CapSATA:               "SATA Data/Index",
	CapAdvancedFeatures:   "Advanced Features",
	CapEnhancedAllocation: "Enhanced Allocation",
	CapFlatteningPortal:   "Flattening Portal Bridge",
}

// String gives the capability's name, or its number when the specification has none for it.
func (id CapabilityID) String() string {
	if int(id) < len(capabilityNames) {
		return capabilityNames[id]
	}
	return fmt.Sprintf("capability 0x%02x", uint8(id))
}

// ExtendedCapabilityID names a capability above 0x100, PCI_EXT_CAP_ID_*. Its numbers have nothing to do with those of
// CapabilityID.
type ExtendedCapabilityID uint16

// The extended capabilities that this package decodes.
const (
	ExtCapAER                ExtendedCapabilityID = 0x01
	ExtCapSerialNumber       ExtendedCapabilityID = 0x03
	ExtCapVendorSpecific     ExtendedCapabilityID = 0x0b
	ExtCapACS                ExtendedCapabilityID = 0x0d
	ExtCapARI                ExtendedCapabilityID = 0x0e
	ExtCapATS                ExtendedCapabilityID = 0x0f
	ExtCapSRIOV              ExtendedCapabilityID = 0x10
	ExtCapPageRequest        ExtendedCapabilityID = 0x13
	ExtCapResizableBAR       ExtendedCapabilityID = 0x15
	ExtCapTPH                ExtendedCapabilityID = 0x17
	ExtCapLTR                ExtendedCapabilityID = 0x18
	ExtCapSecondaryExpress   ExtendedCapabilityID = 0x19
	ExtCapPASID              ExtendedCapabilityID = 0x1b
	ExtCapDPC                ExtendedCapabilityID = 0x1d
	ExtCapL1Substates        ExtendedCapabilityID = 0x1e
	ExtCapPTM                ExtendedCapabilityID = 0x1f
	ExtCapDVSEC              ExtendedCapabilityID = 0x23
	ExtCapVFResizableBAR     ExtendedCapabilityID = 0x24
	ExtCapDataObjectExchange ExtendedCapabilityID = 0x2e
)

// extendedCapabilityNames follows the PCI Code and ID Assignment Specification, section 3.
var extendedCapabilityNames = [...]string{
	0x00: "Null",
	0x01: "Advanced Error Reporting",
	0x02: "Virtual Channel",
	0x03: "Device Serial Number",
	0x04: "Power Budgeting",
	0x05: "Root Complex Link Declaration",
	0x06: "Root Complex Internal Link Control",
	0x07: "Root Complex Event Collector Endpoint Association",
	0x08: "Multi-Function Virtual Channel",
	0x09: "Virtual Channel (with MFVC)",
	0x0a: "Root Complex Register Block Header",
	0x0b: "Vendor-Specific",
	0x0c: "Configuration Access Correlation",
	0x0d: "Access Control Services",
	0x0e: "Alternative Routing-ID Interpretation",
	0x0f: "Address Translation Services",
	0x10: "Single Root I/O Virtualization",
	0x11: "Multi-Root I/O Virtualization",
	0x12: "Multicast",
	0x13: "Page Request Interface",
	0x14: "reserved for AMD",
	0x15: "Resizable BAR",
	0x16: "Dynamic Power Allocation",
	0x17: "TPH Requester",
	0x18: "Latency Tolerance Reporting",
	0x19: "Secondary PCI Express",
	0x1a: "Protocol Multiplexing",
	0x1b: "Process Address Space ID",
	0x1c: "LN Requester",
	0x1d: "Downstream Port Containment",
	0x1e: "L1 PM Substates",
	0x1f: "Precision Time Measurement",
	0x20: "PCI Express over M-PHY",
	0x21: "FRS Queueing",
	0x22: "Readiness Time Reporting",
	0x23: "Designated Vendor-Specific",
	0x24: "VF Resizable BAR",
	0x25: "Data Link Feature",
	0x26: "Physical Layer 16.0 GT/s",
	0x27: "Lane Margining at the Receiver",
	0x28: "Hierarchy ID",
	0x29: "Native PCIe Enclosure Management",
	0x2a: "Physical Layer 32.0 GT/s",
	0x2b: "Alternate Protocol",
	0x2c: "System Firmware Intermediary",
	0x2d: "Shadow Functions",
	0x2e: "Data Object Exchange",
	0x2f: "Device 3",
	0x30: "Integrity and Data Encryption",
	0x31: "Physical Layer 64.0 GT/s",
	0x32: "Flit Logging",
	0x33: "Flit Performance Measurement",
	0x34: "Flit Error Injection",
}

// String gives the capability's name, or its number when it is not known.
func (id ExtendedCapabilityID) String() string {
	if int(id) < len(extendedCapabilityNames) {
		return extendedCapabilityNames[id]
	}
	return fmt.Sprintf("extended capability 0x%04x", uint16(id))
}

// find gives the first capability with that id, as the kernel's pci_find_capability does.
func (d *decoder) find(id CapabilityID) (Capability, bool) {
	for _, c := range d.f.Capabilities {
		if c.ID == id {
			return c, true
		}
	}
	return Capability{}, false
}

// conventional gives the bytes in which the first capability list and all its structures lie.
func (d *decoder) conventional() []byte {
	return d.config[:min(len(d.config), conventionalSize)]
}

// capabilities walks both lists and then decodes what they lead to.
func (d *decoder) capabilities() {
	if d.f.Status&statusCapabilityList == 0 {
		return
	}
	d.walk()
	d.extendedWalk()
	d.structures()
}

// walk lists the capabilities of the first 256 bytes.
//
// No offset is visited twice and all are multiples of 4 from 0x40 to 0xfc, so that the walk ends after 48 steps at most
// whatever the pointers say.
func (d *decoder) walk() {
	pointerAt := offsetCapabilities
	if d.f.HeaderType == HeaderTypeCardBus {
		pointerAt = offsetCardBusCapabilities
	}
	config := d.conventional()
	var visited [conventionalSize / 4]bool
	for {
		pointer := int(config[pointerAt])
		if pointer&3 != 0 {
			// The specification has software mask the reserved low bits, and Linux does.
			d.warn(pointerAt, "capability pointer 0x%02x is not a multiple of 4: taken as 0x%02x", pointer, pointer&^3)
			pointer &^= 3
		}
		switch {
		case pointer == 0:
			return
		case pointer < headerSize:
			d.warn(pointerAt, "capability pointer 0x%02x leads into the header: the list ends here", pointer)
		case visited[pointer/4]:
			d.warn(pointerAt, "capability pointer 0x%02x leads back into the list: a loop, the list ends here", pointer)
		case pointer+2 > len(config):
			d.f.Truncated = true
			d.warn(pointerAt, "the capability at 0x%02x lies after the %d bytes that were read; "+
				"the kernel gives all of them to root only", pointer, len(config))
		case config[pointer] == capabilityUnreadable:
			d.warn(pointer, "capability id 0xff: the device does not answer here, the list ends")
		default:
			visited[pointer/4] = true
			d.f.Capabilities = append(d.f.Capabilities, Capability{ID: CapabilityID(config[pointer]), Offset: pointer})
			pointerAt = pointer + 1
			continue
		}
		return
	}
}

// extendedWalk lists the capabilities above 0x100.
//
// Only PCI Express and PCI-X 2.0 functions have that space; behind a bridge to conventional PCI the same bytes may
// mirror the first 256. As above, no offset is visited twice, which bounds the walk.
func (d *decoder) extendedWalk() {
	_, express := d.find(CapPCIExpress)
	_, pcix := d.find(CapPCIX)
	if !express && !pcix || len(d.config) < extendedCapabilityBase+4 {
		return
	}
	if first := d.u32(extendedCapabilityBase); first == 0 || first == extendedUnreadable {
		return // the specification's empty list, and what a host gives that cannot reach the extended space
	}
	var visited [maxConfigSize / 4]bool
	for offset := extendedCapabilityBase; ; {
		visited[offset/4] = true
		header := d.u32(offset)
		switch header {
		case 0:
			return
		case extendedUnreadable:
			d.warn(offset, "extended capability header 0xffffffff: the device does not answer here, the list ends")
			return
		}
		d.f.ExtendedCapabilities = append(d.f.ExtendedCapabilities, ExtendedCapability{
			ID: ExtendedCapabilityID(header), Version: uint8(header>>16) & 0xf, Offset: offset,
		})
		next := int(header >> 20)
		if next&3 != 0 {
			d.warn(offset, "extended capability pointer 0x%03x is not a multiple of 4: taken as 0x%03x", next, next&^3)
			next &^= 3
		}
		switch {
		case next == 0:
			return
		case next < extendedCapabilityBase:
			d.warn(offset, "extended capability pointer 0x%03x leads below 0x100: the list ends here", next)
			return
		case visited[next/4]:
			d.warn(offset, "extended capability pointer 0x%03x leads back into the list: a loop, the list ends here", next)
			return
		case next+4 > len(d.config):
			d.f.Truncated = true
			d.warn(offset, "the extended capability at 0x%03x lies after the %d bytes that were read", next, len(d.config))
			return
		}
		offset = next
	}
}
