package pci

// ATS is the address translation services capability, PCI_EXT_CAP_ID_ATS: PCI Express Base Specification 10.5.1.
type ATS struct {
	QueueDepth       int    `json:"queueDepth"`       // PCI_ATS_CAP_QDEP: invalidations that it takes at once, 1 to 32
	PageAligned      bool   `json:"pageAligned"`      // PCI_ATS_CAP_PAGE_ALIGNED: it asks for whole pages only
	GlobalInvalidate bool   `json:"globalInvalidate"` // bit 6
	RelaxedOrdering  bool   `json:"relaxedOrdering"`  // bit 7
	SmallestUnit     uint64 `json:"smallestUnit"`     // PCI_ATS_CTRL_STU, bytes
	Enabled          bool   `json:"enabled"`          // PCI_ATS_CTRL_ENABLE
}

func (s *structure) ats() any {
	if !s.need(8) {
		return nil
	}
	capable, control := s.u16(0x04), s.u16(0x06)
	a := &ATS{
		QueueDepth:       capable.field(0x001f),
		PageAligned:      capable.has(0x0020),
		GlobalInvalidate: capable.has(0x0040),
		RelaxedOrdering:  capable.has(0x0080),
		SmallestUnit:     4096 << uint(control.field(0x001f)),
		Enabled:          control.has(0x8000),
	}
	if a.QueueDepth == 0 {
		a.QueueDepth = 32
	}
	return a
}

// PageRequest is the page request interface, PCI_EXT_CAP_ID_PRI: PCI Express Base Specification 10.5.2.
type PageRequest struct {
	Enabled         bool `json:"enabled"`         // PCI_PRI_CTRL_ENABLE
	Reset           bool `json:"reset"`           // PCI_PRI_CTRL_RESET
	ResponseFailure bool `json:"responseFailure"` // PCI_PRI_STATUS_RF
	UnexpectedGroup bool `json:"unexpectedGroup"` // PCI_PRI_STATUS_UPRGI: an answer to what it did not ask
	Stopped         bool `json:"stopped"`         // PCI_PRI_STATUS_STOPPED: all its requests were answered
	PASIDRequired   bool `json:"pasidRequired"`   // PCI_PRI_STATUS_PASID: answers are to have one
	MaxRequests     Hex  `json:"maxRequests"`     // PCI_PRI_MAX_REQ at 0x08: what it can have outstanding
	AllowedRequests Hex  `json:"allowedRequests"` // PCI_PRI_ALLOC_REQ at 0x0c: what it may
}

func (s *structure) pageRequest() any {
	if !s.need(16) {
		return nil
	}
	control, status := s.u16(0x04), s.u16(0x06)
	return &PageRequest{
		Enabled:         control.has(0x0001),
		Reset:           control.has(0x0002),
		ResponseFailure: status.has(0x0001),
		UnexpectedGroup: status.has(0x0002),
		Stopped:         status.has(0x0100),
		PASIDRequired:   status.has(0x8000),
		MaxRequests:     Hex(s.u32(0x08)),
		AllowedRequests: Hex(s.u32(0x0c)),
	}
}

// PASID is the process address space id capability, PCI_EXT_CAP_ID_PASID: PCI Express Base Specification 7.8.9.
type PASID struct {
	ExecuteSupported    bool `json:"executeSupported"`    // PCI_PASID_CAP_EXEC
	PrivilegedSupported bool `json:"privilegedSupported"` // PCI_PASID_CAP_PRIV
	Bits                int  `json:"bits"`                // bits 12:8: width of the ids, up to 20
	Enabled             bool `json:"enabled"`             // PCI_PASID_CTRL_ENABLE
	Execute             bool `json:"execute"`             // PCI_PASID_CTRL_EXEC
	Privileged          bool `json:"privileged"`          // PCI_PASID_CTRL_PRIV
}

func (s *structure) pasid() any {
	if !s.need(8) {
		return nil
	}
	capable, control := s.u16(0x04), s.u16(0x06)
	return &PASID{
		ExecuteSupported:    capable.has(0x0002),
		PrivilegedSupported: capable.has(0x0004),
		Bits:                capable.field(0x1f00),
		Enabled:             control.has(0x0001),
		Execute:             control.has(0x0002),
		Privileged:          control.has(0x0004),
	}
}
