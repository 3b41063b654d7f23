package pci

import "fmt"

// EnhancedAllocation is the enhanced allocation capability, PCI_CAP_ID_EA: PCI Express Base Specification 7.8.5. It
// takes the place of BARs for resources whose addresses are fixed.
type EnhancedAllocation struct {
	// SecondaryBus and SubordinateBus are fixed bus numbers, of a bridge only; 0 for those that are not fixed.
	SecondaryBus   int `json:"secondaryBus"`
	SubordinateBus int `json:"subordinateBus"`

	Entries []EnhancedAllocationEntry `json:"entries"`
}

// EnhancedAllocationEntry is one resource.
type EnhancedAllocationEntry struct {
	Indicator EAIndicator  `json:"indicator"` // PCI_EA_BEI: which BAR it stands for
	Primary   EAProperties `json:"primary"`   // PCI_EA_PP
	Secondary EAProperties `json:"secondary"` // PCI_EA_SP: for software that does not know the primary ones
	Writable  bool         `json:"writable"`  // PCI_EA_WRITABLE: the address can be changed
	Enabled   bool         `json:"enabled"`   // PCI_EA_ENABLE
	Base      Hex          `json:"base"`      // PCI_EA_BASE
	Last      Hex          `json:"last"`      // the last address: Base and PCI_EA_MAX_OFFSET added
}

// EAIndicator is a BAR equivalent indicator, PCI_EA_BEI_*.
type EAIndicator uint8

// String gives "BAR 0", "behind the bridge", "none", "ROM", "VF BAR 0" or "reserved".
func (i EAIndicator) String() string {
	switch {
	case i <= 5:
		return fmt.Sprintf("BAR %d", uint8(i))
	case i == 6:
		return "behind the bridge"
	case i == 7:
		return "none"
	case i == 8:
		return "ROM"
	case i <= 14:
		return fmt.Sprintf("VF BAR %d", i-9)
	}
	return "reserved"
}

// MarshalText gives the form of String.
func (i EAIndicator) MarshalText() ([]byte, error) { return []byte(i.String()), nil }

// EAProperties is the kind of a resource, PCI_EA_P_*.
type EAProperties uint8

// String gives the kind in lower case: "memory", "I/O", "VF prefetchable memory".
func (p EAProperties) String() string {
	names := [...]string{
		"memory", "prefetchable memory", "I/O", "VF prefetchable memory", "VF memory",
		"bridge memory", "bridge prefetchable memory", "bridge I/O",
	}
	switch {
	case int(p) < len(names):
		return names[p]
	case p == 0xfd:
		return "memory, not for use"
	case p == 0xfe:
		return "I/O, not for use"
	case p == 0xff:
		return "unavailable"
	}
	return fmt.Sprintf("reserved 0x%02x", uint8(p))
}

// MarshalText gives the form of String.
func (p EAProperties) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

func (s *structure) enhancedAllocation() any {
	if !s.need(4) {
		return nil
	}
	count, at := int(s.u8(0x02)&0x3f), 4 // PCI_EA_NUM_ENT, PCI_EA_FIRST_ENT
	e := &EnhancedAllocation{Entries: []EnhancedAllocationEntry{}}
	if s.d.f.HeaderType == HeaderTypeBridge {
		if !s.need(8) {
			return nil
		}
		e.SecondaryBus, e.SubordinateBus = int(s.u8(0x04)), int(s.u8(0x05))
		at = 8 // PCI_EA_FIRST_ENT_BRIDGE
	}
	for range count {
		if !s.need(at + 4) {
			return e
		}
		header := s.u32(at)
		size := 4 + 4*header.field(0x7) // PCI_EA_ES: words after the first
		if !s.need(at + size) {
			return e
		}
		e.Entries = append(e.Entries, s.enhancedAllocationEntry(at, size))
		at += size
	}
	return e
}

func (s *structure) enhancedAllocationEntry(at, size int) EnhancedAllocationEntry {
	header := s.u32(at)
	entry := EnhancedAllocationEntry{
		Indicator: EAIndicator(header.field(0x000000f0)),
		Primary:   EAProperties(header.field(0x0000ff00)),
		Secondary: EAProperties(header.field(0x00ff0000)),
		Writable:  header.has(0x40000000),
		Enabled:   header.has(0x80000000),
	}
	// The upper halves follow both lower ones, and each is there when its lower half has bit 1 set (PCI_EA_IS_64).
	next, end := at+12, at+size
	if next > end {
		s.warn(at, "enhanced allocation entry of %d bytes has no base and offset", size)
		return entry
	}
	half := func(low bits32) uint64 {
		v := uint64(low) &^ 3
		if low.has(0x2) && next+4 <= end {
			v |= uint64(s.u32(next)) << 32
			next += 4
		}
		return v
	}
	base := half(s.u32(at + 4))
	entry.Base = Hex(base)
	entry.Last = Hex(base + (half(s.u32(at+8)) | 3))
	return entry
}

// AdvancedFeatures is the advanced features capability, PCI_CAP_ID_AF: the engineering change notice of 2006 to the PCI
// Local Bus Specification. It gives a conventional function the function level reset.
type AdvancedFeatures struct {
	TransactionsPendingSupported bool `json:"transactionsPendingSupported"` // PCI_AF_CAP_TP
	FunctionLevelReset           bool `json:"functionLevelReset"`           // PCI_AF_CAP_FLR
	TransactionsPending          bool `json:"transactionsPending"`          // PCI_AF_STATUS_TP
}

func (s *structure) advancedFeatures() any {
	if !s.need(6) {
		return nil
	}
	return &AdvancedFeatures{
		TransactionsPendingSupported: s.u8(0x03)&0x01 != 0,
		FunctionLevelReset:           s.u8(0x03)&0x02 != 0,
		TransactionsPending:          s.u8(0x05)&0x01 != 0,
	}
}
