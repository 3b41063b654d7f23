package pci

import "fmt"

// Subsystem is the capability in which a PCI-to-PCI bridge has its subsystem ids, PCI_CAP_ID_SSVID: PCI-to-PCI Bridge
// Architecture Specification 3.2.5.13. Function has them as SubsystemVendorID and SubsystemID.
type Subsystem struct {
	VendorID ID `json:"subsystemVendorId"` // PCI_SSVID_VENDOR_ID at 0x04
	ID       ID `json:"subsystemId"`       // PCI_SSVID_DEVICE_ID at 0x06
}

func (s *structure) subsystem() any {
	if !s.need(8) {
		return nil
	}
	return &Subsystem{VendorID: ID(s.u16(0x04)), ID: ID(s.u16(0x06))}
}

// SerialNumber is the device serial number capability, PCI_EXT_CAP_ID_DSN: PCI Express Base Specification 7.9.3.
type SerialNumber struct {
	Number EUI64 `json:"serialNumber"` // at 0x04, 64 bits
}

// EUI64 is a number that is unique in the world, of 64 bits, the manufacturer's part in the upper 24.
type EUI64 uint64

// String gives eight bytes, the highest first: "00-1b-21-ff-ff-12-34-56".
func (n EUI64) String() string {
	return fmt.Sprintf("%02x-%02x-%02x-%02x-%02x-%02x-%02x-%02x",
		uint8(n>>56), uint8(n>>48), uint8(n>>40), uint8(n>>32), uint8(n>>24), uint8(n>>16), uint8(n>>8), uint8(n))
}

// MarshalText gives the form of String.
func (n EUI64) MarshalText() ([]byte, error) { return []byte(n.String()), nil }

func (s *structure) serialNumber() any {
	if !s.need(12) {
		return nil
	}
	return &SerialNumber{Number: EUI64(s.u64(0x04))}
}
