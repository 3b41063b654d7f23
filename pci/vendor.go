package pci

import "fmt"

// VendorSpecific is a capability that only its vendor knows the meaning of, PCI_CAP_ID_VNDR: PCI Express Base
// Specification 7.9.4. The bytes are in Capability.Raw.
type VendorSpecific struct {
	Data   HexBytes      `json:"data"`             // from 0x03 on, after the length
	Virtio *VirtioRegion `json:"virtio,omitempty"` // of a virtio device; nil for others
}

// VirtioRegion says where a virtio device has a part of its registers: Virtual I/O Device Specification 4.1.4.
type VirtioRegion struct {
	Type             string `json:"type"`             // "common", "notify", "isr", "device", "pci" or "type 7"
	BAR              int    `json:"bar"`              // 0 to 5
	ID               int    `json:"regionId"`         // tells several of one type apart
	Offset           uint32 `json:"regionOffset"`     // in the BAR
	Length           uint32 `json:"regionLength"`     // bytes
	NotifyMultiplier uint32 `json:"notifyMultiplier"` // of "notify": bytes from one queue's address to the next one's
}

// HexBytes are bytes that are a string of hexadecimal digits in JSON.
type HexBytes []byte

// String gives two digits for each byte: "0a0034".
func (b HexBytes) String() string { return fmt.Sprintf("%x", []byte(b)) }

// MarshalText gives the form of String.
func (b HexBytes) MarshalText() ([]byte, error) { return []byte(b.String()), nil }

// bytes gives a copy of a part of the structure.
func (s *structure) bytes(from, to int) HexBytes {
	return append(HexBytes{}, s.d.config[s.offset+from:s.offset+to]...)
}

func (s *structure) vendorSpecific() any {
	if !s.need(3) {
		return nil
	}
	length := int(s.u8(0x02))
	if length < 3 {
		s.warn(0x02, "vendor-specific capability of %d bytes, which is less than its header of 3", length)
		length = 3
	}
	if !s.need(length) {
		return nil
	}
	v := &VendorSpecific{Data: s.bytes(3, length)}
	// PCI device ids 0x1000 to 0x107f of this vendor are virtio.
	if f := s.d.f; f.VendorID == 0x1af4 && f.DeviceID >= 0x1000 && f.DeviceID <= 0x107f && length >= 16 {
		kind := int(s.u8(0x03))
		v.Virtio = &VirtioRegion{
			Type: fmt.Sprintf("type %d", kind), BAR: int(s.u8(0x04)), ID: int(s.u8(0x05)),
			Offset: uint32(s.u32(0x08)), Length: uint32(s.u32(0x0c)),
		}
		names := [...]string{1: "common", 2: "notify", 3: "isr", 4: "device", 5: "pci", 8: "shared memory", 9: "vendor"}
		if kind < len(names) && names[kind] != "" {
			v.Virtio.Type = names[kind]
		}
		if kind == 2 && length >= 20 {
			v.Virtio.NotifyMultiplier = uint32(s.u32(0x10))
		}
	}
	return v
}

// VSEC is an extended capability that only its vendor knows the meaning of, PCI_EXT_CAP_ID_VNDR: PCI Express Base
// Specification 7.9.5. The vendor is that of the function.
type VSEC struct {
	ID       ID       `json:"vsecId"`   // PCI_VNDR_HEADER_ID at 0x04
	Revision int      `json:"revision"` // PCI_VNDR_HEADER_REV
	Data     HexBytes `json:"data"`     // from 0x08 on
}

func (s *structure) vsec() any {
	if !s.need(8) {
		return nil
	}
	header := s.u32(0x04)
	length, ok := s.ownLength(header, 8) // PCI_VNDR_HEADER_LEN
	if !ok {
		return nil
	}
	return &VSEC{ID: ID(header & 0xffff), Revision: header.field(0x000f0000), Data: s.bytes(8, length)}
}

// DVSEC is an extended capability of a vendor who need not be that of the function, PCI_EXT_CAP_ID_DVSEC: PCI Express
// Base Specification 7.9.6. CXL devices have those of vendor 0x1e98.
type DVSEC struct {
	VendorID ID       `json:"dvsecVendorId"` // PCI_DVSEC_HEADER1_VID at 0x04
	Revision int      `json:"revision"`      // PCI_DVSEC_HEADER1_REV
	ID       ID       `json:"dvsecId"`       // PCI_DVSEC_HEADER2_ID at 0x08
	Data     HexBytes `json:"data"`          // from 0x0a on
}

func (s *structure) dvsec() any {
	if !s.need(10) {
		return nil
	}
	header := s.u32(0x04)
	length, ok := s.ownLength(header, 10) // PCI_DVSEC_HEADER1_LEN
	if !ok {
		return nil
	}
	return &DVSEC{
		VendorID: ID(header & 0xffff), Revision: header.field(0x000f0000), ID: ID(s.u16(0x08)), Data: s.bytes(10, length),
	}
}

// ownLength is the length that a vendor's structure says itself, in bits 31:20 of the word at 0x04, and whether it is
// all there.
func (s *structure) ownLength(header bits32, least int) (int, bool) {
	length := header.field(0xfff00000)
	if length < least {
		s.warn(0x04, "%s capability of %d bytes, which is less than its header of %d", s.name, length, least)
		length = least
	}
	return length, s.need(length)
}

// VPD is the vital product data capability, PCI_CAP_ID_VPD: PCI Local Bus Specification 3.0, appendix I. It is a door
// to the data, which are read a word at a time through it; Linux does that for the file vpd in sysfs.
type VPD struct {
	Address  int  `json:"address"`  // PCI_VPD_ADDR_MASK at 0x02: of the last access
	Complete bool `json:"complete"` // PCI_VPD_ADDR_F: a read that is done, or a write that is not
	Data     Hex  `json:"data"`     // PCI_VPD_DATA at 0x04
}

func (s *structure) vpd() any {
	if !s.need(8) {
		return nil
	}
	address := s.u16(0x02)
	return &VPD{Address: address.field(0x7fff), Complete: address.has(0x8000), Data: Hex(s.u32(0x04))}
}
