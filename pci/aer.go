package pci

// AER is the advanced error reporting capability, PCI_EXT_CAP_ID_ERR: PCI Express Base Specification 7.8.4.
type AER struct {
	Uncorrectable UncorrectableErrors `json:"uncorrectable"` // PCI_ERR_UNCOR_STATUS at 0x04: seen since last cleared

	// UncorrectableMask holds errors back (PCI_ERR_UNCOR_MASK at 0x08). UncorrectableSeverity makes an error fatal, where
	// it is non-fatal without (PCI_ERR_UNCOR_SEVER at 0x0c).
	UncorrectableMask     UncorrectableErrors `json:"uncorrectableMask"`
	UncorrectableSeverity UncorrectableErrors `json:"uncorrectableSeverity"`

	Correctable     CorrectableErrors `json:"correctable"`     // PCI_ERR_COR_STATUS at 0x10
	CorrectableMask CorrectableErrors `json:"correctableMask"` // PCI_ERR_COR_MASK at 0x14

	// Capabilities and control, PCI_ERR_CAP at 0x18.
	FirstError             int  `json:"firstError"`             // PCI_ERR_CAP_FEP: bit number in the uncorrectable status
	ECRCGenerationCapable  bool `json:"ecrcGenerationCapable"`  // PCI_ERR_CAP_ECRC_GENC
	ECRCGeneration         bool `json:"ecrcGeneration"`         // PCI_ERR_CAP_ECRC_GENE
	ECRCCheckCapable       bool `json:"ecrcCheckCapable"`       // PCI_ERR_CAP_ECRC_CHKC
	ECRCCheck              bool `json:"ecrcCheck"`              // PCI_ERR_CAP_ECRC_CHKE
	MultipleHeadersCapable bool `json:"multipleHeadersCapable"` // bit 9: it logs the headers of several errors
	MultipleHeaders        bool `json:"multipleHeaders"`        // bit 10
	PrefixLogPresent       bool `json:"prefixLogPresent"`       // bit 11
	TimeoutHeaderCapable   bool `json:"timeoutHeaderCapable"`   // bit 12: it logs the header of a request that timed out

	HeaderLog [4]Hex  `json:"headerLog"`           // PCI_ERR_HEADER_LOG at 0x1c: start of the packet of the first error
	PrefixLog *[4]Hex `json:"prefixLog,omitempty"` // at 0x38; nil unless PrefixLogPresent

	Root *AERRoot `json:"root,omitempty"` // nil for all but root ports and event collectors
}

// UncorrectableErrors is one of the three registers of uncorrectable errors, PCI_ERR_UNC_*.
type UncorrectableErrors struct {
	Undefined            bool `json:"undefined"`            // PCI_ERR_UNC_UND: link training error in PCI Express 1.0
	DataLinkProtocol     bool `json:"dataLinkProtocol"`     // PCI_ERR_UNC_DLP
	SurpriseDown         bool `json:"surpriseDown"`         // PCI_ERR_UNC_SURPDN
	PoisonedTLP          bool `json:"poisonedTlp"`          // PCI_ERR_UNC_POISON_TLP
	FlowControl          bool `json:"flowControl"`          // PCI_ERR_UNC_FCP
	CompletionTimeout    bool `json:"completionTimeout"`    // PCI_ERR_UNC_COMP_TIME
	CompleterAbort       bool `json:"completerAbort"`       // PCI_ERR_UNC_COMP_ABORT
	UnexpectedCompletion bool `json:"unexpectedCompletion"` // PCI_ERR_UNC_UNX_COMP
	ReceiverOverflow     bool `json:"receiverOverflow"`     // PCI_ERR_UNC_RX_OVER
	MalformedTLP         bool `json:"malformedTlp"`         // PCI_ERR_UNC_MALF_TLP
	ECRC                 bool `json:"ecrc"`                 // PCI_ERR_UNC_ECRC
	UnsupportedRequest   bool `json:"unsupportedRequest"`   // PCI_ERR_UNC_UNSUP
	ACSViolation         bool `json:"acsViolation"`         // PCI_ERR_UNC_ACSV
	Internal             bool `json:"internal"`             // PCI_ERR_UNC_INTN
	MulticastBlocked     bool `json:"multicastBlocked"`     // PCI_ERR_UNC_MCBTLP
	AtomicEgressBlocked  bool `json:"atomicEgressBlocked"`  // PCI_ERR_UNC_ATOMEG
	PrefixBlocked        bool `json:"prefixBlocked"`        // PCI_ERR_UNC_TLPPRE
	PoisonedEgress       bool `json:"poisonedEgress"`       // bit 26: a poisoned packet was blocked on its way out
	DMWrEgressBlocked    bool `json:"dmwrEgressBlocked"`    // bit 27: a deferrable memory write was
	IDECheckFailed       bool `json:"ideCheckFailed"`       // bit 28: integrity and data encryption
	MisroutedIDE         bool `json:"misroutedIde"`         // bit 29
	PCRCCheckFailed      bool `json:"pcrcCheckFailed"`      // bit 30
}

// CorrectableErrors is one of the two registers of correctable errors, PCI_ERR_COR_*.
type CorrectableErrors struct {
	Receiver          bool `json:"receiver"`          // PCI_ERR_COR_RCVR
	BadTLP            bool `json:"badTlp"`            // PCI_ERR_COR_BAD_TLP
	BadDLLP           bool `json:"badDllp"`           // PCI_ERR_COR_BAD_DLLP
	ReplayRollover    bool `json:"replayRollover"`    // PCI_ERR_COR_REP_ROLL
	ReplayTimeout     bool `json:"replayTimeout"`     // PCI_ERR_COR_REP_TIMER
	AdvisoryNonFatal  bool `json:"advisoryNonFatal"`  // PCI_ERR_COR_ADV_NFAT
	Internal          bool `json:"internal"`          // PCI_ERR_COR_INTERNAL: corrected
	HeaderLogOverflow bool `json:"headerLogOverflow"` // PCI_ERR_COR_LOG_OVER
}

// AERRoot is what a root port adds: it collects the errors of what is below it and interrupts. PCI_ERR_ROOT_COMMAND at
// 0x2c, PCI_ERR_ROOT_STATUS at 0x30, PCI_ERR_ROOT_ERR_SRC at 0x34.
type AERRoot struct {
	CorrectableInterrupt  bool `json:"correctableInterrupt"`  // PCI_ERR_ROOT_CMD_COR_EN: interrupt on ERR_COR
	NonFatalInterrupt     bool `json:"nonFatalInterrupt"`     // PCI_ERR_ROOT_CMD_NONFATAL_EN
	FatalInterrupt        bool `json:"fatalInterrupt"`        // PCI_ERR_ROOT_CMD_FATAL_EN
	Correctable           bool `json:"correctable"`           // PCI_ERR_ROOT_COR_RCV: one was received
	MultipleCorrectable   bool `json:"multipleCorrectable"`   // PCI_ERR_ROOT_MULTI_COR_RCV
	Uncorrectable         bool `json:"uncorrectable"`         // PCI_ERR_ROOT_UNCOR_RCV
	MultipleUncorrectable bool `json:"multipleUncorrectable"` // PCI_ERR_ROOT_MULTI_UNCOR_RCV
	FirstFatal            bool `json:"firstFatal"`            // PCI_ERR_ROOT_FIRST_FATAL
	NonFatal              bool `json:"nonFatal"`              // PCI_ERR_ROOT_NONFATAL_RCV
	Fatal                 bool `json:"fatal"`                 // PCI_ERR_ROOT_FATAL_RCV
	InterruptMessage      int  `json:"interruptMessage"`      // PCI_ERR_ROOT_AER_IRQ: as in Express
	CorrectableSource     ID   `json:"correctableSource"`     // bus, device, function of the first
	UncorrectableSource   ID   `json:"uncorrectableSource"`
}

func (s *structure) aer() any {
	if !s.need(0x2c) {
		return nil
	}
	control := s.u32(0x18)
	a := &AER{
		Uncorrectable:          uncorrectableErrors(s.u32(0x04)),
		UncorrectableMask:      uncorrectableErrors(s.u32(0x08)),
		UncorrectableSeverity:  uncorrectableErrors(s.u32(0x0c)),
		Correctable:            correctableErrors(s.u32(0x10)),
		CorrectableMask:        correctableErrors(s.u32(0x14)),
		FirstError:             control.field(0x001f),
		ECRCGenerationCapable:  control.has(0x0020),
		ECRCGeneration:         control.has(0x0040),
		ECRCCheckCapable:       control.has(0x0080),
		ECRCCheck:              control.has(0x0100),
		MultipleHeadersCapable: control.has(0x0200),
		MultipleHeaders:        control.has(0x0400),
		PrefixLogPresent:       control.has(0x0800),
		TimeoutHeaderCapable:   control.has(0x1000),
		HeaderLog:              s.log(0x1c),
	}
	if express := Find[Express](s.d.f); express != nil && express.Type.isRoot() && s.need(0x38) {
		a.Root = s.aerRoot()
	}
	if a.PrefixLogPresent && s.need(0x48) {
		log := s.log(0x38)
		a.PrefixLog = &log
	}
	return a
}

// log reads the four words of a packet's header or prefixes.
func (s *structure) log(offset int) [4]Hex {
	return [4]Hex{Hex(s.u32(offset)), Hex(s.u32(offset + 4)), Hex(s.u32(offset + 8)), Hex(s.u32(offset + 12))}
}

func uncorrectableErrors(b bits32) UncorrectableErrors {
	return UncorrectableErrors{
		Undefined:            b.has(0x00000001),
		DataLinkProtocol:     b.has(0x00000010),
		SurpriseDown:         b.has(0x00000020),
		PoisonedTLP:          b.has(0x00001000),
		FlowControl:          b.has(0x00002000),
		CompletionTimeout:    b.has(0x00004000),
		CompleterAbort:       b.has(0x00008000),
		UnexpectedCompletion: b.has(0x00010000),
		ReceiverOverflow:     b.has(0x00020000),
		MalformedTLP:         b.has(0x00040000),
		ECRC:                 b.has(0x00080000),
		UnsupportedRequest:   b.has(0x00100000),
		ACSViolation:         b.has(0x00200000),
		Internal:             b.has(0x00400000),
		MulticastBlocked:     b.has(0x00800000),
		AtomicEgressBlocked:  b.has(0x01000000),
		PrefixBlocked:        b.has(0x02000000),
		PoisonedEgress:       b.has(0x04000000),
		DMWrEgressBlocked:    b.has(0x08000000),
		IDECheckFailed:       b.has(0x10000000),
		MisroutedIDE:         b.has(0x20000000),
		PCRCCheckFailed:      b.has(0x40000000),
	}
}

func correctableErrors(b bits32) CorrectableErrors {
	return CorrectableErrors{
		Receiver:          b.has(0x0001),
		BadTLP:            b.has(0x0040),
		BadDLLP:           b.has(0x0080),
		ReplayRollover:    b.has(0x0100),
		ReplayTimeout:     b.has(0x1000),
		AdvisoryNonFatal:  b.has(0x2000),
		Internal:          b.has(0x4000),
		HeaderLogOverflow: b.has(0x8000),
	}
}

func (s *structure) aerRoot() *AERRoot {
	command, status, source := s.u32(0x2c), s.u32(0x30), s.u32(0x34)
	return &AERRoot{
		CorrectableInterrupt:  command.has(0x1),
		NonFatalInterrupt:     command.has(0x2),
		FatalInterrupt:        command.has(0x4),
		Correctable:           status.has(0x01),
		MultipleCorrectable:   status.has(0x02),
		Uncorrectable:         status.has(0x04),
		MultipleUncorrectable: status.has(0x08),
		FirstFatal:            status.has(0x10),
		NonFatal:              status.has(0x20),
		Fatal:                 status.has(0x40),
		InterruptMessage:      status.field(0xf8000000),
		CorrectableSource:     ID(source.field(0x0000ffff)),
		UncorrectableSource:   ID(source.field(0xffff0000)),
	}
}
