package pci

// LTR is the latency tolerance reporting capability, PCI_EXT_CAP_ID_LTR: PCI Express Base Specification 7.8.2.
type LTR struct {
	MaxSnoopNs   uint64 `json:"maxSnoopNs"`   // PCI_LTR_MAX_SNOOP_LAT at 0x04, ns
	MaxNoSnoopNs uint64 `json:"maxNoSnoopNs"` // PCI_LTR_MAX_NOSNOOP_LAT at 0x06, ns
}

func (s *structure) ltr() any {
	if !s.need(8) {
		return nil
	}
	snoop, noSnoop := s.u16(0x04), s.u16(0x06)
	return &LTR{
		MaxSnoopNs:   scaledNs(snoop.field(0x03ff), snoop.field(0x1c00)),
		MaxNoSnoopNs: scaledNs(noSnoop.field(0x03ff), noSnoop.field(0x1c00)),
	}
}

// scaledNs gives value * 32^scale, the form that latencies have; scales 6 and 7 are reserved and give 0.
func scaledNs(value, scale int) uint64 {
	if scale > 5 {
		return 0
	}
	return uint64(value) << (5 * scale)
}

// L1Substates is the L1 PM substates capability, PCI_EXT_CAP_ID_L1SS: PCI Express Base Specification 7.8.3.
type L1Substates struct {
	// PCI_L1SS_CAP at 0x04.
	Supported           L1States `json:"supported"`
	SubstatesSupported  bool     `json:"substatesSupported"`  // PCI_L1SS_CAP_L1_PM_SS
	LinkActivation      bool     `json:"linkActivation"`      // bit 5: it can wake the link from L1.0
	CommonModeRestoreUs int      `json:"commonModeRestoreUs"` // PCI_L1SS_CAP_CM_RESTORE_TIME: of this port, µs
	PortPowerOnUs       int      `json:"portPowerOnUs"`       // PCI_L1SS_CAP_P_PWR_ON_*: of this port, µs; 0 for a reserved scale

	// PCI_L1SS_CTL1 at 0x08 and PCI_L1SS_CTL2 at 0x0c.
	Enabled                 L1States `json:"enabled"`
	LinkActivationInterrupt bool     `json:"linkActivationInterrupt"` // bit 4: by the message of the Express capability
	LinkActivationControl   bool     `json:"linkActivationControl"`   // bit 5
	RestoreUs               int      `json:"restoreUs"`               // PCI_L1SS_CTL1_CM_RESTORE_TIME, µs
	LTRThresholdNs          uint64   `json:"ltrThresholdNs"`          // PCI_L1SS_CTL1_LTR_L12_TH_*: tolerance from which on L1.2 is entered
	PowerOnUs               int      `json:"powerOnUs"`               // T_POWER_ON, µs; 0 for a reserved scale
}

// L1States is a set of L1 substates, and of who enters them: ASPM by itself, or power management by software.
type L1States struct {
	PCIPML12 bool `json:"pciPmL12"` // PCI_L1SS_CAP_PCIPM_L1_2
	PCIPML11 bool `json:"pciPmL11"` // PCI_L1SS_CAP_PCIPM_L1_1
	ASPML12  bool `json:"aspmL12"`  // PCI_L1SS_CAP_ASPM_L1_2
	ASPML11  bool `json:"aspmL11"`  // PCI_L1SS_CAP_ASPM_L1_1
}

func (s *structure) l1Substates() any {
	if !s.need(16) {
		return nil
	}
	capable, control, control2 := s.u32(0x04), s.u32(0x08), s.u32(0x0c)
	return &L1Substates{
		Supported:               l1States(capable),
		SubstatesSupported:      capable.has(0x00000010),
		LinkActivation:          capable.has(0x00000020),
		CommonModeRestoreUs:     capable.field(0x0000ff00),
		PortPowerOnUs:           powerOnUs(capable.field(0x00f80000), capable.field(0x00030000)),
		Enabled:                 l1States(control),
		LinkActivationInterrupt: control.has(0x00000010),
		LinkActivationControl:   control.has(0x00000020),
		RestoreUs:               control.field(0x0000ff00),
		LTRThresholdNs:          scaledNs(control.field(0x03ff0000), control.field(0xe0000000)),
		PowerOnUs:               powerOnUs(control2.field(0x000000f8), control2.field(0x00000003)),
	}
}

func l1States(b bits32) L1States {
	return L1States{PCIPML12: b.has(0x1), PCIPML11: b.has(0x2), ASPML12: b.has(0x4), ASPML11: b.has(0x8)}
}

// powerOnUs gives a T_POWER_ON in µs; scale 3 is reserved and gives 0.
func powerOnUs(value, scale int) int {
	return value * [...]int{2, 10, 100, 0}[scale]
}

// PTM is the precision time measurement capability, PCI_EXT_CAP_ID_PTM: PCI Express Base Specification 7.9.15.
type PTM struct {
	Requester   bool `json:"requester"`   // PCI_PTM_CAP_REQ
	Responder   bool `json:"responder"`   // bit 1
	Root        bool `json:"root"`        // PCI_PTM_CAP_ROOT: it can be the source of the time
	Granularity int  `json:"granularity"` // PCI_PTM_GRANULARITY_MASK: of its clock, ns; 0 for none, 255 for more than 254

	Enabled              bool `json:"enabled"`              // PCI_PTM_CTRL_ENABLE
	RootSelected         bool `json:"rootSelected"`         // PCI_PTM_CTRL_ROOT: it is the source of the time
	EffectiveGranularity int  `json:"effectiveGranularity"` // bits 15:8 of the control register, ns as above
}

func (s *structure) ptm() any {
	if !s.need(12) {
		return nil
	}
	capable, control := s.u32(0x04), s.u32(0x08)
	return &PTM{
		Requester:            capable.has(0x1),
		Responder:            capable.has(0x2),
		Root:                 capable.has(0x4),
		Granularity:          capable.field(0x0000ff00),
		Enabled:              control.has(0x1),
		RootSelected:         control.has(0x2),
		EffectiveGranularity: control.field(0x0000ff00),
	}
}
