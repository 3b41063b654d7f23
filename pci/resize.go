package pci

// ResizableBAR is the resizable BAR capability, PCI_EXT_CAP_ID_REBAR, and that of virtual functions,
// PCI_EXT_CAP_ID_VF_REBAR: PCI Express Base Specification 7.8.6 and 7.8.7.
type ResizableBAR struct {
	BARs []ResizableBAREntry `json:"bars"`
}

// ResizableBAREntry is one BAR whose size can be changed. Entry n has its capabilities at 0x04+8n (PCI_REBAR_CAP) and
// its control register at 0x08+8n (PCI_REBAR_CTRL).
type ResizableBAREntry struct {
	Index int   `json:"index"` // PCI_REBAR_CTRL_BAR_IDX: the BAR
	Size  Hex   `json:"size"`  // PCI_REBAR_CTRL_BAR_SIZE: bytes that it has now; 0 for a size above 64 bits
	Sizes []Hex `json:"sizes"` // PCI_REBAR_CAP_SIZES and bits 31:16 of the control register: bytes that it can have, from 1 MiB on
}

func (s *structure) resizableBAR() any {
	if !s.need(0x0c) {
		return nil
	}
	count := s.u32(0x08).field(0x000000e0)
	if count < 1 || count > 6 {
		s.warn(0x08, "%s capability has %d BARs; want 1 to 6", s.name, count)
		return &ResizableBAR{BARs: []ResizableBAREntry{}}
	}
	if !s.need(4 + 8*count) {
		return nil
	}
	r := &ResizableBAR{BARs: make([]ResizableBAREntry, count)}
	for i := range r.BARs {
		capable, control := s.u32(4+8*i), s.u32(8+8*i)
		entry := ResizableBAREntry{
			Index: control.field(0x00000007),
			Size:  Hex(uint64(1) << 20 << control.field(0x00003f00)),
			Sizes: []Hex{},
		}
		// Bit n of the sizes is 1 MiB << n: 28 bits of the one register, 16 of the other.
		sizes := uint64(capable)>>4 | uint64(control>>16)<<28
		for n := range 44 {
			if sizes>>n&1 != 0 {
				entry.Sizes = append(entry.Sizes, Hex(uint64(1)<<20<<n))
			}
		}
		r.BARs[i] = entry
	}
	return r
}
