package pci

import "fmt"

// HyperTransport is a HyperTransport capability, PCI_CAP_ID_HT: HyperTransport I/O Link Specification 7. Its type is
// told; what it says is decoded for the MSI mapping, which turns messages into HyperTransport interrupts.
type HyperTransport struct {
	Type       HyperTransportType `json:"type"`
	MSIMapping *HyperTransportMSI `json:"msiMapping,omitempty"` // nil for other types
}

// HyperTransportMSI is the MSI mapping of a bridge.
type HyperTransportMSI struct {
	Enabled bool `json:"enabled"` // HT_MSI_FLAGS_ENABLE: without it messages from below are plain writes to memory
	Fixed   bool `json:"fixed"`   // HT_MSI_FLAGS_FIXED: the address is 0xfee00000 and has no register
	Address Hex  `json:"address"` // HT_MSI_ADDR_LO, HT_MSI_ADDR_HI: 1 MiB from here on is taken for messages
}

// HyperTransportType is HT_CAPTYPE_*: the upper five bits of the command register's high byte.
type HyperTransportType uint8

// HyperTransportMSIMapping is HT_CAPTYPE_MSI_MAPPING.
const HyperTransportMSIMapping HyperTransportType = 0xa8

// String gives the type in lower case: "MSI mapping", "slave or primary".
func (t HyperTransportType) String() string {
	switch t & 0xe0 { // HT_3BIT_CAP_MASK
	case 0x00:
		return "slave or primary"
	case 0x20:
		return "host or secondary"
	}
	switch t {
	case 0x40:
		return "switch"
	case 0x80:
		return "interrupt discovery and configuration"
	case 0x88:
		return "revision"
	case 0x90:
		return "unit id clumping"
	case 0x98:
		return "extended configuration space access"
	case 0xa0:
		return "address mapping"
	case HyperTransportMSIMapping:
		return "MSI mapping"
	case 0xb0:
		return "direct route"
	case 0xb8:
		return "virtual channel set"
	case 0xc0:
		return "retry mode"
	case 0xc8:
		return "X86 encoding"
	case 0xd0:
		return "generation 3"
	case 0xd8:
		return "function level extension"
	case 0xe0:
		return "power management"
	}
	return fmt.Sprintf("type 0x%02x", uint8(t))
}

// MarshalText gives the form of String.
func (t HyperTransportType) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

func (s *structure) hyperTransport() any {
	if !s.need(4) {
		return nil
	}
	h := &HyperTransport{Type: HyperTransportType(s.u8(0x03) & 0xf8)}
	if h.Type&0xe0 <= 0x20 {
		h.Type &= 0xe0 // the two types of 3 bits
	}
	if h.Type != HyperTransportMSIMapping {
		s.length = 0 // how long it is depends on the type
		return h
	}
	flags := s.u16(0x02)
	m := &HyperTransportMSI{Enabled: flags.has(0x1), Fixed: flags.has(0x2), Address: 0xfee00000}
	if !m.Fixed {
		if !s.need(12) {
			return nil
		}
		m.Address = Hex(s.u64(0x04) &^ 0xfffff)
	}
	h.MSIMapping = m
	return h
}
