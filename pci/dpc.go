package pci

// DPC is the downstream port containment capability, PCI_EXT_CAP_ID_DPC: PCI Express Base Specification 7.9.14. The
// port takes its link down when an error comes from below, and interrupts.
type DPC struct {
	// PCI_EXP_DPC_CAP at 0x04.
	InterruptMessage        int  `json:"interruptMessage"`        // PCI_EXP_DPC_IRQ: as in Express
	RootPortExtensions      bool `json:"rootPortExtensions"`      // PCI_EXP_DPC_CAP_RP_EXT: RootPort is there
	PoisonedBlockingCapable bool `json:"poisonedBlockingCapable"` // PCI_EXP_DPC_CAP_POISONED_TLP
	SoftwareTriggerCapable  bool `json:"softwareTriggerCapable"`  // PCI_EXP_DPC_CAP_SW_TRIGGER
	LogSize                 int  `json:"logSize"`                 // PCI_EXP_DPC_RP_PIO_LOG_SIZE, words of the logs of RootPort
	LinkActiveCapable       bool `json:"linkActiveCapable"`       // PCI_EXP_DPC_CAP_DL_ACTIVE: ERR_COR when the link comes up

	// PCI_EXP_DPC_CTL at 0x06.
	Trigger            DPCTrigger `json:"trigger"`            // bits 1:0: which errors trigger it
	CompletionUR       bool       `json:"completionUr"`       // bit 2: answers "unsupported request" while contained, not "completer abort"
	Interrupt          bool       `json:"interrupt"`          // PCI_EXP_DPC_CTL_INT_EN
	CorrectableMessage bool       `json:"correctableMessage"` // bit 4: sends ERR_COR when triggered
	PoisonedBlocking   bool       `json:"poisonedBlocking"`   // bit 5
	SoftwareTrigger    bool       `json:"softwareTrigger"`    // bit 6
	LinkActiveMessage  bool       `json:"linkActiveMessage"`  // bit 7: sends ERR_COR when the link comes up

	// PCI_EXP_DPC_STATUS at 0x08 and PCI_EXP_DPC_SOURCE_ID at 0x0a.
	Triggered       bool   `json:"triggered"`       // PCI_EXP_DPC_STATUS_TRIGGER: the link is held down
	Reason          string `json:"reason"`          // PCI_EXP_DPC_STATUS_TRIGGER_RSN and _EXT, valid while Triggered
	InterruptStatus bool   `json:"interruptStatus"` // PCI_EXP_DPC_STATUS_INTERRUPT
	RootPortBusy    bool   `json:"rootPortBusy"`    // PCI_EXP_DPC_RP_BUSY
	FirstPIOError   int    `json:"firstPioError"`   // PCI_EXP_DPC_RP_PIO_FEP: bit number in RootPort.Status
	Source          ID     `json:"source"`          // bus, device, function that sent the error message

	RootPort *DPCRootPort `json:"rootPort,omitempty"` // nil without RootPortExtensions
}

// DPCTrigger is which errors trigger containment.
type DPCTrigger uint8

// String gives "disabled", "fatal", "non-fatal or fatal" or "reserved".
func (t DPCTrigger) String() string {
	return [...]string{"disabled", "fatal", "non-fatal or fatal", "reserved"}[t&3]
}

// MarshalText gives the form of String.
func (t DPCTrigger) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// DPCRootPort is what DPC of a root port has about errors of the processor's own requests (programmed I/O).
type DPCRootPort struct {
	Status      PIOErrors `json:"status"`      // PCI_EXP_DPC_RP_PIO_STATUS at 0x0c
	Mask        PIOErrors `json:"mask"`        // PCI_EXP_DPC_RP_PIO_MASK at 0x10
	Severity    PIOErrors `json:"severity"`    // PCI_EXP_DPC_RP_PIO_SEVERITY at 0x14: those that are uncorrectable
	SystemError PIOErrors `json:"systemError"` // PCI_EXP_DPC_RP_PIO_SYSERROR at 0x18
	Exception   PIOErrors `json:"exception"`   // PCI_EXP_DPC_RP_PIO_EXCEPTION at 0x1c

	HeaderLog  *[4]Hex `json:"headerLog,omitempty"`  // PCI_EXP_DPC_RP_PIO_HEADER_LOG at 0x20, with a LogSize of 4 or more
	ImpSpecLog *Hex    `json:"impSpecLog,omitempty"` // PCI_EXP_DPC_RP_PIO_IMPSPEC_LOG at 0x30, with a LogSize of 5 or more
	PrefixLog  []Hex   `json:"prefixLog,omitempty"`  // PCI_EXP_DPC_RP_PIO_TLPPREFIX_LOG at 0x34, the rest of LogSize
}

// PIOErrors is a set of ways in which requests of the processor failed: each of configuration, I/O and memory.
type PIOErrors struct {
	ConfigUnsupported bool `json:"configUnsupported"` // bit 0: completion with "unsupported request"
	ConfigAbort       bool `json:"configAbort"`       // bit 1: with "completer abort"
	ConfigTimeout     bool `json:"configTimeout"`     // bit 2: none
	IOUnsupported     bool `json:"ioUnsupported"`     // bits 8 to 10
	IOAbort           bool `json:"ioAbort"`
	IOTimeout         bool `json:"ioTimeout"`
	MemoryUnsupported bool `json:"memoryUnsupported"` // bits 16 to 18
	MemoryAbort       bool `json:"memoryAbort"`
	MemoryTimeout     bool `json:"memoryTimeout"`
}

func (s *structure) dpc() any {
	if !s.need(0x0c) {
		return nil
	}
	capable, control, status := s.u16(0x04), s.u16(0x06), s.u16(0x08)
	d := &DPC{
		InterruptMessage:        capable.field(0x001f),
		RootPortExtensions:      capable.has(0x0020),
		PoisonedBlockingCapable: capable.has(0x0040),
		SoftwareTriggerCapable:  capable.has(0x0080),
		LogSize:                 capable.field(0x0f00),
		LinkActiveCapable:       capable.has(0x1000),
		Trigger:                 DPCTrigger(control.field(0x0003)),
		CompletionUR:            control.has(0x0004),
		Interrupt:               control.has(0x0008),
		CorrectableMessage:      control.has(0x0010),
		PoisonedBlocking:        control.has(0x0020),
		SoftwareTrigger:         control.has(0x0040),
		LinkActiveMessage:       control.has(0x0080),
		Triggered:               status.has(0x0001),
		Reason:                  dpcReason(status),
		InterruptStatus:         status.has(0x0008),
		RootPortBusy:            status.has(0x0010),
		FirstPIOError:           status.field(0x1f00),
		Source:                  ID(s.u16(0x0a)),
	}
	if d.RootPortExtensions && s.need(0x20+4*d.LogSize) {
		d.RootPort = s.dpcRootPort(d.LogSize)
	}
	return d
}

func dpcReason(status bits16) string {
	switch status.field(0x0006) {
	case 0:
		return "unmasked uncorrectable error"
	case 1:
		return "ERR_NONFATAL received"
	case 2:
		return "ERR_FATAL received"
	}
	return [...]string{"root port PIO error", "software trigger", "reserved", "reserved"}[status.field(0x0060)]
}

func (s *structure) dpcRootPort(logSize int) *DPCRootPort {
	p := &DPCRootPort{
		Status:      pioErrors(s.u32(0x0c)),
		Mask:        pioErrors(s.u32(0x10)),
		Severity:    pioErrors(s.u32(0x14)),
		SystemError: pioErrors(s.u32(0x18)),
		Exception:   pioErrors(s.u32(0x1c)),
	}
	if logSize >= 4 {
		log := s.log(0x20)
		p.HeaderLog = &log
	}
	if logSize >= 5 {
		log := Hex(s.u32(0x30))
		p.ImpSpecLog = &log
	}
	for word := 5; word < logSize; word++ {
		p.PrefixLog = append(p.PrefixLog, Hex(s.u32(0x20+4*word)))
	}
	return p
}

func pioErrors(b bits32) PIOErrors {
	return PIOErrors{
		ConfigUnsupported: b.has(0x00000001),
		ConfigAbort:       b.has(0x00000002),
		ConfigTimeout:     b.has(0x00000004),
		IOUnsupported:     b.has(0x00000100),
		IOAbort:           b.has(0x00000200),
		IOTimeout:         b.has(0x00000400),
		MemoryUnsupported: b.has(0x00010000),
		MemoryAbort:       b.has(0x00020000),
		MemoryTimeout:     b.has(0x00040000),
	}
}
