package pci

// ACS is the access control services capability, PCI_EXT_CAP_ID_ACS: PCI Express Base Specification 7.7.11. What it
// keeps apart decides which devices share an IOMMU group.
type ACS struct {
	Supported ACSServices `json:"supported"` // PCI_ACS_CAP at 0x04
	Enabled   ACSServices `json:"enabled"`   // PCI_ACS_CTRL at 0x06

	// EnhancedCapable and the fields after it are those of PCI Express 5.0: bit 7 of the capabilities, bits 12:7 of the
	// control register.
	EnhancedCapable          bool `json:"enhancedCapable"`
	IORequestBlocking        bool `json:"ioRequestBlocking"`
	DownstreamMemoryAccess   int  `json:"downstreamMemoryAccess"` // 0 direct, 1 blocked, 2 redirected
	UpstreamMemoryAccess     int  `json:"upstreamMemoryAccess"`
	UnclaimedRequestRedirect bool `json:"unclaimedRequestRedirect"`

	// EgressBits is the size of the egress control vector, PCI_ACS_EGRESS_BITS: 1 to 256, 0 without egress control.
	// EgressVector is the vector, PCI_ACS_EGRESS_CTL_V at 0x08: bit n of word n/32 blocks port or function n.
	EgressBits   int   `json:"egressBits"`
	EgressVector []Hex `json:"egressVector,omitempty"`
}

// ACSServices is a set of access control services, PCI_ACS_*.
type ACSServices struct {
	SourceValidation    bool `json:"sourceValidation"`    // PCI_ACS_SV
	TranslationBlocking bool `json:"translationBlocking"` // PCI_ACS_TB
	RequestRedirect     bool `json:"requestRedirect"`     // PCI_ACS_RR: peer-to-peer requests go up to the root
	CompletionRedirect  bool `json:"completionRedirect"`  // PCI_ACS_CR
	UpstreamForwarding  bool `json:"upstreamForwarding"`  // PCI_ACS_UF
	EgressControl       bool `json:"egressControl"`       // PCI_ACS_EC
	DirectTranslated    bool `json:"directTranslated"`    // PCI_ACS_DT
}

func (s *structure) acs() any {
	if !s.need(8) {
		return nil
	}
	capable, control := s.u16(0x04), s.u16(0x06)
	a := &ACS{
		Supported:                acsServices(capable),
		Enabled:                  acsServices(control),
		EnhancedCapable:          capable.has(0x0080),
		IORequestBlocking:        control.has(0x0080),
		DownstreamMemoryAccess:   control.field(0x0300),
		UpstreamMemoryAccess:     control.field(0x0c00),
		UnclaimedRequestRedirect: control.has(0x1000),
	}
	if !a.Supported.EgressControl {
		return a
	}
	if a.EgressBits = capable.field(0xff00); a.EgressBits == 0 {
		a.EgressBits = 256
	}
	words := (a.EgressBits + 31) / 32
	if !s.need(8 + 4*words) {
		return a
	}
	a.EgressVector = make([]Hex, words)
	for i := range a.EgressVector {
		a.EgressVector[i] = Hex(s.u32(8 + 4*i))
	}
	return a
}

func acsServices(b bits16) ACSServices {
	return ACSServices{
		SourceValidation:    b.has(0x0001),
		TranslationBlocking: b.has(0x0002),
		RequestRedirect:     b.has(0x0004),
		CompletionRedirect:  b.has(0x0008),
		UpstreamForwarding:  b.has(0x0010),
		EgressControl:       b.has(0x0020),
		DirectTranslated:    b.has(0x0040),
	}
}
