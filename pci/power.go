package pci

// PowerManagement is the power management capability, PCI_CAP_ID_PM: PCI Express Base Specification 7.5.2 and the PCI
// Bus Power Management Interface Specification 3.2.
type PowerManagement struct {
	Version                      int         `json:"version"`                      // PCI_PM_CAP_VER_MASK: 3 is that of PCI Express
	PMEClock                     bool        `json:"pmeClock"`                     // PCI_PM_CAP_PME_CLOCK: PME# needs the PCI clock
	ImmediateReadiness           bool        `json:"immediateReadiness"`           // bit 4: ready at once when back in D0
	DeviceSpecificInitialization bool        `json:"deviceSpecificInitialization"` // PCI_PM_CAP_DSI
	AuxCurrent                   int         `json:"auxCurrent"`                   // PCI_PM_CAP_AUX_POWER: mA of 3.3 V auxiliary power that it takes
	D1                           bool        `json:"d1"`                           // PCI_PM_CAP_D1: it has this state
	D2                           bool        `json:"d2"`                           // PCI_PM_CAP_D2
	PMEFrom                      PowerStates `json:"pmeFrom"`                      // PCI_PM_CAP_PME_MASK: states that it can wake from

	// The control and status register, PCI_PM_CTRL at 0x04.
	State       PowerState `json:"state"`       // PCI_PM_CTRL_STATE_MASK: where the function is now
	NoSoftReset bool       `json:"noSoftReset"` // PCI_PM_CTRL_NO_SOFT_RESET: going from D3hot to D0 does not reset it
	PMEEnabled  bool       `json:"pmeEnabled"`  // PCI_PM_CTRL_PME_ENABLE
	DataSelect  int        `json:"dataSelect"`  // PCI_PM_CTRL_DATA_SEL_MASK: what Data reports
	DataScale   int        `json:"dataScale"`   // PCI_PM_CTRL_DATA_SCALE_MASK
	PMEStatus   bool       `json:"pmeStatus"`   // PCI_PM_CTRL_PME_STATUS: it asks to be woken

	// The bridge extensions, PCI_PM_PPB_EXTENSIONS at 0x06, of conventional bridges.
	BridgeB3           bool `json:"bridgeB3"`           // PCI_PM_PPB_B2_B3: D3hot stops the secondary bus' clock
	BridgeClockControl bool `json:"bridgeClockControl"` // PCI_PM_BPCC_ENABLE

	Data int `json:"data"` // PCI_PM_DATA_REGISTER at 0x07
}

// PowerState is D0 (working) to D3hot (off, with power). A function in D3cold does not answer at all.
type PowerState uint8

// String gives "D0", "D1", "D2" or "D3hot".
func (s PowerState) String() string { return [...]string{"D0", "D1", "D2", "D3hot"}[s&3] }

// MarshalText gives the form of String.
func (s PowerState) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// PowerStates is a set of power states.
type PowerStates struct {
	D0     bool `json:"d0"`
	D1     bool `json:"d1"`
	D2     bool `json:"d2"`
	D3hot  bool `json:"d3hot"`
	D3cold bool `json:"d3cold"`
}

// auxCurrents is the meaning of PCI_PM_CAP_AUX_POWER, in mA.
var auxCurrents = [...]int{0, 55, 100, 160, 220, 270, 320, 375}

func (s *structure) powerManagement() any {
	if !s.need(8) {
		return nil
	}
	pmc, control, bridge := s.u16(0x02), s.u16(0x04), s.u8(0x06)
	return &PowerManagement{
		Version:                      pmc.field(0x0007),
		PMEClock:                     pmc.has(0x0008),
		ImmediateReadiness:           pmc.has(0x0010),
		DeviceSpecificInitialization: pmc.has(0x0020),
		AuxCurrent:                   auxCurrents[pmc.field(0x01c0)],
		D1:                           pmc.has(0x0200),
		D2:                           pmc.has(0x0400),
		PMEFrom: PowerStates{
			D0: pmc.has(0x0800), D1: pmc.has(0x1000), D2: pmc.has(0x2000), D3hot: pmc.has(0x4000), D3cold: pmc.has(0x8000),
		},
		State:              PowerState(control.field(0x0003)),
		NoSoftReset:        control.has(0x0008),
		PMEEnabled:         control.has(0x0100),
		DataSelect:         control.field(0x1e00),
		DataScale:          control.field(0x6000),
		PMEStatus:          control.has(0x8000),
		BridgeB3:           bridge&0x40 != 0,
		BridgeClockControl: bridge&0x80 != 0,
		Data:               int(s.u8(0x07)),
	}
}
