package pci

// SecondaryExpress is the secondary PCI Express capability, PCI_EXT_CAP_ID_SECPCI: PCI Express Base Specification
// 7.7.3. A link of 8 GT/s has it.
type SecondaryExpress struct {
	// Link control 3, at 0x04.
	PerformEqualization   bool `json:"performEqualization"`   // bit 0
	EqualizationInterrupt bool `json:"equalizationInterrupt"` // bit 1: interrupt on an equalization request, by the message of the Express capability
	LowerSKPGeneration    Hex  `json:"lowerSkpGeneration"`    // bits 15:9: a bit for each speed

	LaneErrors Hex `json:"laneErrors"` // lane error status at 0x08: a bit for each lane

	// Lanes is the equalization control at 0x0c, 16 bits for each lane that the link can have.
	Lanes []LaneEqualization `json:"lanes"`
}

// LaneEqualization is what the two sides of a lane are told to send with and to expect, as the numbers of the
// specification's table of presets.
type LaneEqualization struct {
	DownstreamPreset int `json:"downstreamPreset"` // bits 3:0: transmitter of the downstream port
	DownstreamHint   int `json:"downstreamHint"`   // bits 6:4: its receiver
	UpstreamPreset   int `json:"upstreamPreset"`   // bits 11:8
	UpstreamHint     int `json:"upstreamHint"`     // bits 14:12
}

func (s *structure) secondaryExpress() any {
	if !s.need(12) {
		return nil
	}
	control := s.u32(0x04)
	e := &SecondaryExpress{
		PerformEqualization:   control.has(0x0001),
		EqualizationInterrupt: control.has(0x0002),
		LowerSKPGeneration:    Hex(control.field(0xfe00)),
		LaneErrors:            Hex(s.u32(0x08)),
		Lanes:                 []LaneEqualization{},
	}
	express := Find[Express](s.d.f)
	if express == nil || express.Link == nil || express.Link.MaxWidth > 32 || !s.need(12+2*express.Link.MaxWidth) {
		return e
	}
	for i := range express.Link.MaxWidth {
		lane := s.u16(12 + 2*i)
		e.Lanes = append(e.Lanes, LaneEqualization{
			DownstreamPreset: lane.field(0x000f), DownstreamHint: lane.field(0x0070),
			UpstreamPreset: lane.field(0x0f00), UpstreamHint: lane.field(0x7000),
		})
	}
	return e
}

// DataObjectExchange is the data object exchange capability, PCI_EXT_CAP_ID_DOE: PCI Express Base Specification 7.9.24.
// It is a mailbox, by which CXL tables and security protocols go.
type DataObjectExchange struct {
	InterruptSupported bool `json:"interruptSupported"` // PCI_DOE_CAP_INT_SUP
	InterruptMessage   int  `json:"interruptMessage"`   // PCI_DOE_CAP_INT_MSG_NUM: as in Express, valid with InterruptSupported

	Interrupt bool `json:"interrupt"` // PCI_DOE_CTRL_INT_EN

	Busy            bool `json:"busy"`            // PCI_DOE_STATUS_BUSY
	InterruptStatus bool `json:"interruptStatus"` // PCI_DOE_STATUS_INT_STATUS
	Error           bool `json:"error"`           // PCI_DOE_STATUS_ERROR
	Ready           bool `json:"ready"`           // PCI_DOE_STATUS_DATA_OBJECT_READY
}

func (s *structure) dataObjectExchange() any {
	if !s.need(0x18) {
		return nil
	}
	capable, control, status := s.u32(0x04), s.u32(0x08), s.u32(0x0c)
	return &DataObjectExchange{
		InterruptSupported: capable.has(0x00000001),
		InterruptMessage:   capable.field(0x00000ffe),
		Interrupt:          control.has(0x00000002),
		Busy:               status.has(0x00000001),
		InterruptStatus:    status.has(0x00000002),
		Error:              status.has(0x00000004),
		Ready:              status.has(0x80000000),
	}
}

// TPH is the TPH requester capability, PCI_EXT_CAP_ID_TPH: PCI Express Base Specification 7.9.13. It marks writes with
// hints on which cache the data is for.
type TPH struct {
	NoSteering      bool   `json:"noSteering"`      // bit 0: mode without steering tags is supported
	InterruptVector bool   `json:"interruptVector"` // bit 1: so is the mode with one tag for each interrupt vector
	DeviceSpecific  bool   `json:"deviceSpecific"`  // bit 2: so is the device specific mode
	Extended        bool   `json:"extendedTags"`    // bit 8: it can send 16-bit tags
	TableLocation   string `json:"tableLocation"`   // PCI_TPH_CAP_LOC_MASK: "none", "capability", "MSI-X" or "reserved"
	TableSize       int    `json:"tableSize"`       // PCI_TPH_CAP_ST_MASK: tags in the table; 0 without one

	Mode      int    `json:"mode"`      // control bits 2:0: 0 no steering tags, 1 interrupt vector, 2 device specific
	Requester string `json:"requester"` // control bits 9:8: "no", "TPH", "reserved" or "extended TPH"

	Tags []Hex `json:"tags,omitempty"` // from 0x0c on, when TableLocation is "capability"
}

func (s *structure) tph() any {
	if !s.need(12) {
		return nil
	}
	capable, control := s.u32(0x04), s.u32(0x08)
	t := &TPH{
		NoSteering:      capable.has(0x00000001),
		InterruptVector: capable.has(0x00000002),
		DeviceSpecific:  capable.has(0x00000004),
		Extended:        capable.has(0x00000100),
		TableLocation:   [...]string{"none", "capability", "MSI-X", "reserved"}[capable.field(0x00000600)],
		Mode:            control.field(0x00000007),
		Requester:       [...]string{"no", "TPH", "reserved", "extended TPH"}[control.field(0x00000300)],
	}
	if t.TableLocation == "none" {
		return t
	}
	t.TableSize = capable.field(0x07ff0000) + 1
	if t.TableLocation == "capability" && s.need(12+2*t.TableSize) {
		for i := range t.TableSize {
			t.Tags = append(t.Tags, Hex(s.u16(12+2*i)))
		}
	}
	return t
}
