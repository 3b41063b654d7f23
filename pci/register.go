package pci

// CommandBits are the fields of the command register: PCI Express Base Specification 7.5.1.1.3. Those that PCI Express
// has no use for read zero there.
type CommandBits struct {
	IO               bool `json:"io"`               // PCI_COMMAND_IO: it answers in I/O space
	Memory           bool `json:"memory"`           // PCI_COMMAND_MEMORY: it answers in memory space
	BusMaster        bool `json:"busMaster"`        // PCI_COMMAND_MASTER: it may write to memory and send messages
	SpecialCycle     bool `json:"specialCycle"`     // PCI_COMMAND_SPECIAL
	WriteInvalidate  bool `json:"writeInvalidate"`  // PCI_COMMAND_INVALIDATE
	PaletteSnoop     bool `json:"paletteSnoop"`     // PCI_COMMAND_VGA_PALETTE
	ParityResponse   bool `json:"parityResponse"`   // PCI_COMMAND_PARITY
	Stepping         bool `json:"stepping"`         // PCI_COMMAND_WAIT
	SystemError      bool `json:"systemError"`      // PCI_COMMAND_SERR
	FastBackToBack   bool `json:"fastBackToBack"`   // PCI_COMMAND_FAST_BACK
	InterruptDisable bool `json:"interruptDisable"` // PCI_COMMAND_INTX_DISABLE: its line stays silent
}

// Bits takes the register apart.
func (c Command) Bits() CommandBits {
	b := bits16(c)
	return CommandBits{
		IO:               b.has(0x0001),
		Memory:           b.has(0x0002),
		BusMaster:        b.has(0x0004),
		SpecialCycle:     b.has(0x0008),
		WriteInvalidate:  b.has(0x0010),
		PaletteSnoop:     b.has(0x0020),
		ParityResponse:   b.has(0x0040),
		Stepping:         b.has(0x0080),
		SystemError:      b.has(0x0100),
		FastBackToBack:   b.has(0x0200),
		InterruptDisable: b.has(0x0400),
	}
}

// StatusBits are the fields of the status register: PCI Express Base Specification 7.5.1.1.4. The secondary status of a
// bridge has the same ones, for the bus behind it.
type StatusBits struct {
	ImmediateReadiness  bool   `json:"immediateReadiness"`  // PCI_STATUS_IMM_READY
	Interrupt           bool   `json:"interrupt"`           // PCI_STATUS_INTERRUPT: its line is asserted, or would be if not disabled
	Capabilities        bool   `json:"capabilities"`        // PCI_STATUS_CAP_LIST
	MHz66               bool   `json:"mhz66"`               // PCI_STATUS_66MHZ
	UserDefinable       bool   `json:"userDefinable"`       // PCI_STATUS_UDF
	FastBackToBack      bool   `json:"fastBackToBack"`      // PCI_STATUS_FAST_BACK
	DataParityError     bool   `json:"dataParityError"`     // PCI_STATUS_PARITY: as a master
	DeviceSelect        string `json:"deviceSelect"`        // PCI_STATUS_DEVSEL_MASK: "fast", "medium", "slow" or "reserved"
	SignaledTargetAbort bool   `json:"signaledTargetAbort"` // PCI_STATUS_SIG_TARGET_ABORT
	ReceivedTargetAbort bool   `json:"receivedTargetAbort"` // PCI_STATUS_REC_TARGET_ABORT
	ReceivedMasterAbort bool   `json:"receivedMasterAbort"` // PCI_STATUS_REC_MASTER_ABORT
	SignaledSystemError bool   `json:"signaledSystemError"` // PCI_STATUS_SIG_SYSTEM_ERROR
	DetectedParityError bool   `json:"detectedParityError"` // PCI_STATUS_DETECTED_PARITY
}

// StatusRegister takes a status register apart: Function.Status, or the secondary one of a bridge.
func StatusRegister(status uint16) StatusBits {
	b := bits16(status)
	return StatusBits{
		ImmediateReadiness:  b.has(0x0001),
		Interrupt:           b.has(0x0008),
		Capabilities:        b.has(statusCapabilityList),
		MHz66:               b.has(0x0020),
		UserDefinable:       b.has(0x0040),
		FastBackToBack:      b.has(0x0080),
		DataParityError:     b.has(0x0100),
		DeviceSelect:        [...]string{"fast", "medium", "slow", "reserved"}[b.field(0x0600)],
		SignaledTargetAbort: b.has(0x0800),
		ReceivedTargetAbort: b.has(0x1000),
		ReceivedMasterAbort: b.has(0x2000),
		SignaledSystemError: b.has(0x4000),
		DetectedParityError: b.has(0x8000),
	}
}
