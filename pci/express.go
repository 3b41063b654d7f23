package pci

import "fmt"

// Express is the PCI Express capability, PCI_CAP_ID_EXP: PCI Express Base Specification 7.5.3. Which of its parts a
// function has follows from its type.
type Express struct {
	Version         int         `json:"version"`         // PCI_EXP_FLAGS_VERS: 2 since PCI Express 2.0
	Type            ExpressType `json:"type"`            // PCI_EXP_FLAGS_TYPE
	SlotImplemented bool        `json:"slotImplemented"` // PCI_EXP_FLAGS_SLOT: the port leads to a slot, not to a soldered device

	// InterruptMessage is PCI_EXP_FLAGS_IRQ: the message, counted from 0, of MSI or MSI-X that the function's hot-plug,
	// power management and link events come by. See Function.Interrupts for the others that events may have.
	InterruptMessage int `json:"interruptMessage"`

	Device ExpressDevice `json:"device"`
	Link   *ExpressLink  `json:"link,omitempty"` // nil for functions that are integrated into the root complex
	Slot   *ExpressSlot  `json:"slot,omitempty"` // nil for ports without a slot and for endpoints
	Root   *ExpressRoot  `json:"root,omitempty"` // nil for all but root ports and event collectors

	// The registers that version 2 added; nil in version 1.
	Device2 *ExpressDevice2 `json:"device2,omitempty"`
	Link2   *ExpressLink2   `json:"link2,omitempty"`
	Slot2   *ExpressSlot2   `json:"slot2,omitempty"`
}

// ExpressType is what a PCI Express function is in the hierarchy, PCI_EXP_TYPE_*.
type ExpressType uint8

// The device and port types.
const (
	ExpressEndpoint           ExpressType = 0x0
	ExpressLegacyEndpoint     ExpressType = 0x1
	ExpressRootPort           ExpressType = 0x4
	ExpressUpstreamPort       ExpressType = 0x5
	ExpressDownstreamPort     ExpressType = 0x6
	ExpressToPCIBridge        ExpressType = 0x7 // PCI Express above, conventional PCI below
	ExpressFromPCIBridge      ExpressType = 0x8 // conventional PCI above, PCI Express below
	ExpressIntegratedEndpoint ExpressType = 0x9 // in the root complex, without a link
	ExpressEventCollector     ExpressType = 0xa // of the root complex
)

// String gives the type in lower case: "endpoint", "root port".
func (t ExpressType) String() string {
	switch t {
	case ExpressEndpoint:
		return "endpoint"
	case ExpressLegacyEndpoint:
		return "legacy endpoint"
	case ExpressRootPort:
		return "root port"
	case ExpressUpstreamPort:
		return "upstream port"
	case ExpressDownstreamPort:
		return "downstream port"
	case ExpressToPCIBridge:
		return "PCI Express to PCI bridge"
	case ExpressFromPCIBridge:
		return "PCI to PCI Express bridge"
	case ExpressIntegratedEndpoint:
		return "root complex integrated endpoint"
	case ExpressEventCollector:
		return "root complex event collector"
	}
	return fmt.Sprintf("type %d", uint8(t))
}

// MarshalText gives the form of String.
func (t ExpressType) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// hasLink, isDownstream and isRoot say which registers a type has: a port that looks down may have a slot.
func (t ExpressType) hasLink() bool {
	return t != ExpressIntegratedEndpoint && t != ExpressEventCollector
}

func (t ExpressType) isDownstream() bool {
	return t == ExpressRootPort || t == ExpressDownstreamPort || t == ExpressFromPCIBridge
}
func (t ExpressType) isRoot() bool { return t == ExpressRootPort || t == ExpressEventCollector }

// ExpressDevice is the device capabilities, control and status: PCI_EXP_DEVCAP at 0x04, PCI_EXP_DEVCTL at 0x08,
// PCI_EXP_DEVSTA at 0x0a.
type ExpressDevice struct {
	MaxPayloadSupported     int     `json:"maxPayloadSupported"`     // PCI_EXP_DEVCAP_PAYLOAD, bytes; 0 for a reserved value
	PhantomFunctionBits     int     `json:"phantomFunctionBits"`     // PCI_EXP_DEVCAP_PHANTOM
	ExtendedTagSupported    bool    `json:"extendedTagSupported"`    // PCI_EXP_DEVCAP_EXT_TAG: 8 bits
	AcceptableL0sNs         int     `json:"acceptableL0sNs"`         // PCI_EXP_DEVCAP_L0S: exit latency that it bears, ns; 0 for no limit
	AcceptableL1Ns          int     `json:"acceptableL1Ns"`          // PCI_EXP_DEVCAP_L1: the same for L1
	AttentionButton         bool    `json:"attentionButton"`         // PCI_EXP_DEVCAP_ATN_BUT
	AttentionIndicator      bool    `json:"attentionIndicator"`      // PCI_EXP_DEVCAP_ATN_IND
	PowerIndicator          bool    `json:"powerIndicator"`          // PCI_EXP_DEVCAP_PWR_IND
	RoleBasedErrorReporting bool    `json:"roleBasedErrorReporting"` // PCI_EXP_DEVCAP_RBER
	SlotPowerLimitWatts     float64 `json:"slotPowerLimitWatts"`     // PCI_EXP_DEVCAP_PWR_VAL and _SCL: what the slot gives it
	FunctionLevelReset      bool    `json:"functionLevelReset"`      // PCI_EXP_DEVCAP_FLR
	CorrectableReporting    bool    `json:"correctableReporting"`    // PCI_EXP_DEVCTL_CERE: it sends ERR_COR messages
	NonFatalReporting       bool    `json:"nonFatalReporting"`       // PCI_EXP_DEVCTL_NFERE
	FatalReporting          bool    `json:"fatalReporting"`          // PCI_EXP_DEVCTL_FERE
	UnsupportedReporting    bool    `json:"unsupportedReporting"`    // PCI_EXP_DEVCTL_URRE: unsupported requests
	RelaxedOrdering         bool    `json:"relaxedOrdering"`         // PCI_EXP_DEVCTL_RELAX_EN
	MaxPayload              int     `json:"maxPayload"`              // PCI_EXP_DEVCTL_PAYLOAD, bytes; 0 for a reserved value
	ExtendedTag             bool    `json:"extendedTag"`             // PCI_EXP_DEVCTL_EXT_TAG
	PhantomFunctions        bool    `json:"phantomFunctions"`        // PCI_EXP_DEVCTL_PHANTOM
	AuxPower                bool    `json:"auxPower"`                // PCI_EXP_DEVCTL_AUX_PME
	NoSnoop                 bool    `json:"noSnoop"`                 // PCI_EXP_DEVCTL_NOSNOOP_EN
	MaxReadRequest          int     `json:"maxReadRequest"`          // PCI_EXP_DEVCTL_READRQ, bytes; 0 for a reserved value
	BridgeConfigRetry       bool    `json:"bridgeConfigRetry"`       // PCI_EXP_DEVCTL_BCR_FLR of a PCI Express to PCI bridge
	CorrectableError        bool    `json:"correctableError"`        // PCI_EXP_DEVSTA_CED: detected since last cleared
	NonFatalError           bool    `json:"nonFatalError"`           // PCI_EXP_DEVSTA_NFED
	FatalError              bool    `json:"fatalError"`              // PCI_EXP_DEVSTA_FED
	UnsupportedRequest      bool    `json:"unsupportedRequest"`      // PCI_EXP_DEVSTA_URD
	AuxPowerDetected        bool    `json:"auxPowerDetected"`        // PCI_EXP_DEVSTA_AUXPD
	TransactionsPending     bool    `json:"transactionsPending"`     // PCI_EXP_DEVSTA_TRPND: requests that were not answered yet
	EmergencyPowerReduction bool    `json:"emergencyPowerReduction"` // bit 6 of the status: detected
}

// ExpressLink is the link capabilities, control and status: PCI_EXP_LNKCAP at 0x0c, PCI_EXP_LNKCTL at 0x10,
// PCI_EXP_LNKSTA at 0x12.
type ExpressLink struct {
	Port                int     `json:"port"`                // PCI_EXP_LNKCAP_PN
	MaxSpeedGTs         float64 `json:"maxSpeedGTs"`         // PCI_EXP_LNKCAP_SLS, GT/s; 0 for a reserved value
	MaxWidth            int     `json:"maxWidth"`            // PCI_EXP_LNKCAP_MLW, lanes
	ASPMSupported       ASPM    `json:"aspmSupported"`       // PCI_EXP_LNKCAP_ASPMS
	ExitL0sNs           int     `json:"exitL0sNs"`           // PCI_EXP_LNKCAP_L0SEL: takes less than this, ns; 0 for no bound (above 4 µs)
	ExitL1Ns            int     `json:"exitL1Ns"`            // PCI_EXP_LNKCAP_L1EL: the same, 0 above 64 µs
	ClockPM             bool    `json:"clockPm"`             // PCI_EXP_LNKCAP_CLKPM: it may be without the reference clock
	SurpriseDown        bool    `json:"surpriseDown"`        // PCI_EXP_LNKCAP_SDERC: it reports when the link fails
	ActiveReporting     bool    `json:"activeReporting"`     // PCI_EXP_LNKCAP_DLLLARC: Active below is valid
	BandwidthNotice     bool    `json:"bandwidthNotice"`     // PCI_EXP_LNKCAP_LBNC: it can interrupt when speed or width change
	ASPMOptionality     bool    `json:"aspmOptionality"`     // bit 22
	ASPM                ASPM    `json:"aspm"`                // PCI_EXP_LNKCTL_ASPMC
	ReadBoundary        int     `json:"readBoundary"`        // PCI_EXP_LNKCTL_RCB: read completion boundary, 64 or 128 bytes
	Disabled            bool    `json:"disabled"`            // PCI_EXP_LNKCTL_LD
	Retrain             bool    `json:"retrain"`             // PCI_EXP_LNKCTL_RL
	CommonClock         bool    `json:"commonClock"`         // PCI_EXP_LNKCTL_CCC
	ExtendedSynch       bool    `json:"extendedSynch"`       // PCI_EXP_LNKCTL_ES
	ClockPMEnabled      bool    `json:"clockPmEnabled"`      // PCI_EXP_LNKCTL_CLKREQ_EN
	WidthFixed          bool    `json:"widthFixed"`          // PCI_EXP_LNKCTL_HAWD: hardware does not change the width by itself
	BandwidthInterrupt  bool    `json:"bandwidthInterrupt"`  // PCI_EXP_LNKCTL_LBMIE: interrupt on Bandwidth below
	AutonomousInterrupt bool    `json:"autonomousInterrupt"` // PCI_EXP_LNKCTL_LABIE: interrupt on Autonomous below
	DRSSignaling        int     `json:"drsSignaling"`        // bits 15:14 of the control register: a device readiness message is 0 not told, 1 an interrupt, 2 passed on
	SpeedGTs            float64 `json:"speedGTs"`            // PCI_EXP_LNKSTA_CLS, GT/s; 0 for a reserved value
	Width               int     `json:"width"`               // PCI_EXP_LNKSTA_NLW, lanes; 0 while the link is down
	TrainingError       bool    `json:"trainingError"`       // bit 10, of PCI Express 1.0
	Training            bool    `json:"training"`            // PCI_EXP_LNKSTA_LT
	SlotClock           bool    `json:"slotClock"`           // PCI_EXP_LNKSTA_SLC: it uses the connector's reference clock
	Active              bool    `json:"active"`              // PCI_EXP_LNKSTA_DLLLA
	Bandwidth           bool    `json:"bandwidth"`           // PCI_EXP_LNKSTA_LBMS: speed or width were changed on request or for reliability
	Autonomous          bool    `json:"autonomous"`          // PCI_EXP_LNKSTA_LABS: the other side changed them for its own reasons
}

// ASPM is a set of link states that Active State Power Management enters by itself.
type ASPM struct {
	L0s bool `json:"l0s"`
	L1  bool `json:"l1"`
}

// ExpressSlot is the slot capabilities, control and status: PCI_EXP_SLTCAP at 0x14, PCI_EXP_SLTCTL at 0x18,
// PCI_EXP_SLTSTA at 0x1a.
type ExpressSlot struct {
	Number             int     `json:"number"`             // PCI_EXP_SLTCAP_PSN: the physical slot
	AttentionButton    bool    `json:"attentionButton"`    // PCI_EXP_SLTCAP_ABP
	PowerController    bool    `json:"powerController"`    // PCI_EXP_SLTCAP_PCP
	RetentionSensor    bool    `json:"retentionSensor"`    // PCI_EXP_SLTCAP_MRLSP: the latch's sensor
	AttentionIndicator bool    `json:"attentionIndicator"` // PCI_EXP_SLTCAP_AIP
	PowerIndicator     bool    `json:"powerIndicator"`     // PCI_EXP_SLTCAP_PIP
	HotPlugSurprise    bool    `json:"hotPlugSurprise"`    // PCI_EXP_SLTCAP_HPS: a card may go without notice
	HotPlugCapable     bool    `json:"hotPlugCapable"`     // PCI_EXP_SLTCAP_HPC
	PowerLimitWatts    float64 `json:"powerLimitWatts"`    // PCI_EXP_SLTCAP_SPLV and _SPLS
	Interlock          bool    `json:"interlock"`          // PCI_EXP_SLTCAP_EIP
	NoCommandCompleted bool    `json:"noCommandCompleted"` // PCI_EXP_SLTCAP_NCCS: it does not tell when a command is done

	// What may interrupt; HotPlugInterrupt is the switch before all the others.
	AttentionButtonEnable  bool `json:"attentionButtonEnable"`  // PCI_EXP_SLTCTL_ABPE
	PowerFaultEnable       bool `json:"powerFaultEnable"`       // PCI_EXP_SLTCTL_PFDE
	RetentionChangeEnable  bool `json:"retentionChangeEnable"`  // PCI_EXP_SLTCTL_MRLSCE
	PresenceChangeEnable   bool `json:"presenceChangeEnable"`   // PCI_EXP_SLTCTL_PDCE
	CommandCompletedEnable bool `json:"commandCompletedEnable"` // PCI_EXP_SLTCTL_CCIE
	HotPlugInterrupt       bool `json:"hotPlugInterrupt"`       // PCI_EXP_SLTCTL_HPIE
	LinkChangeEnable       bool `json:"linkChangeEnable"`       // PCI_EXP_SLTCTL_DLLSCE

	AttentionIndicatorState Indicator `json:"attentionIndicatorState"` // PCI_EXP_SLTCTL_AIC
	PowerIndicatorState     Indicator `json:"powerIndicatorState"`     // PCI_EXP_SLTCTL_PIC
	PowerOff                bool      `json:"powerOff"`                // PCI_EXP_SLTCTL_PCC
	InterlockControl        bool      `json:"interlockControl"`        // PCI_EXP_SLTCTL_EIC
	AutoPowerLimitDisable   bool      `json:"autoPowerLimitDisable"`   // PCI_EXP_SLTCTL_ASPL_DISABLE
	InBandPresenceDisable   bool      `json:"inBandPresenceDisable"`   // PCI_EXP_SLTCTL_IBPD_DISABLE

	AttentionButtonPressed bool `json:"attentionButtonPressed"` // PCI_EXP_SLTSTA_ABP
	PowerFault             bool `json:"powerFault"`             // PCI_EXP_SLTSTA_PFD
	RetentionChanged       bool `json:"retentionChanged"`       // PCI_EXP_SLTSTA_MRLSC
	PresenceChanged        bool `json:"presenceChanged"`        // PCI_EXP_SLTSTA_PDC
	CommandCompleted       bool `json:"commandCompleted"`       // PCI_EXP_SLTSTA_CC
	RetentionOpen          bool `json:"retentionOpen"`          // PCI_EXP_SLTSTA_MRLSS
	CardPresent            bool `json:"cardPresent"`            // PCI_EXP_SLTSTA_PDS
	InterlockEngaged       bool `json:"interlockEngaged"`       // PCI_EXP_SLTSTA_EIS
	LinkChanged            bool `json:"linkChanged"`            // PCI_EXP_SLTSTA_DLLSC
}

// Indicator is the state of a light at a slot.
type Indicator uint8

// String gives "reserved", "on", "blink" or "off".
func (i Indicator) String() string { return [...]string{"reserved", "on", "blink", "off"}[i&3] }

// MarshalText gives the form of String.
func (i Indicator) MarshalText() ([]byte, error) { return []byte(i.String()), nil }

// ExpressRoot is the root control, capabilities and status: PCI_EXP_RTCTL at 0x1c, PCI_EXP_RTCAP at 0x1e,
// PCI_EXP_RTSTA at 0x20.
type ExpressRoot struct {
	CorrectableSystemError bool `json:"correctableSystemError"` // PCI_EXP_RTCTL_SECEE: such an error below is a system error
	NonFatalSystemError    bool `json:"nonFatalSystemError"`    // PCI_EXP_RTCTL_SENFEE
	FatalSystemError       bool `json:"fatalSystemError"`       // PCI_EXP_RTCTL_SEFEE
	PMEInterrupt           bool `json:"pmeInterrupt"`           // PCI_EXP_RTCTL_PMEIE: interrupt when a device wakes
	RetryVisible           bool `json:"retryVisible"`           // PCI_EXP_RTCTL_CRSSVE
	RetryVisibleSupported  bool `json:"retryVisibleSupported"`  // PCI_EXP_RTCAP_CRSVIS
	PMERequester           ID   `json:"pmeRequester"`           // low word of PCI_EXP_RTSTA: bus, device, function that wakes
	PMEStatus              bool `json:"pmeStatus"`              // PCI_EXP_RTSTA_PME
	PMEPending             bool `json:"pmePending"`             // PCI_EXP_RTSTA_PENDING: another one waits
}

// ExpressDevice2 is the device capabilities 2 and control 2: PCI_EXP_DEVCAP2 at 0x24, PCI_EXP_DEVCTL2 at 0x28.
type ExpressDevice2 struct {
	CompletionTimeoutRanges      string `json:"completionTimeoutRanges"`      // bits 3:0 as letters, "ABC"; empty when not programmable
	CompletionTimeoutDisableable bool   `json:"completionTimeoutDisableable"` // PCI_EXP_DEVCAP2_COMP_TMOUT_DIS
	ARIForwardingSupported       bool   `json:"ariForwardingSupported"`       // PCI_EXP_DEVCAP2_ARI
	AtomicRouting                bool   `json:"atomicRouting"`                // PCI_EXP_DEVCAP2_ATOMIC_ROUTE
	AtomicCompleter32            bool   `json:"atomicCompleter32"`            // PCI_EXP_DEVCAP2_ATOMIC_COMP32
	AtomicCompleter64            bool   `json:"atomicCompleter64"`            // PCI_EXP_DEVCAP2_ATOMIC_COMP64
	AtomicCompleter128           bool   `json:"atomicCompleter128"`           // PCI_EXP_DEVCAP2_ATOMIC_COMP128
	NoRelaxedPeerPassing         bool   `json:"noRelaxedPeerPassing"`         // bit 10, NROPrPrP
	LTRSupported                 bool   `json:"ltrSupported"`                 // PCI_EXP_DEVCAP2_LTR
	TPHCompleter                 bool   `json:"tphCompleter"`                 // bit 12
	ExtendedTPHCompleter         bool   `json:"extendedTphCompleter"`         // bit 13, with bit 12
	LNSystemCLS                  int    `json:"lnSystemCls"`                  // bits 15:14: 0 none, 1 cache lines of 64 bytes, 2 of 128
	TenBitTagCompleter           bool   `json:"tenBitTagCompleter"`           // bit 16
	TenBitTagRequester           bool   `json:"tenBitTagRequester"`           // bit 17
	OBFFMessage                  bool   `json:"obffMessage"`                  // PCI_EXP_DEVCAP2_OBFF_MSG
	OBFFWake                     bool   `json:"obffWake"`                     // PCI_EXP_DEVCAP2_OBFF_WAKE
	ExtendedFormat               bool   `json:"extendedFormat"`               // bit 20
	EndToEndPrefix               bool   `json:"endToEndPrefix"`               // PCI_EXP_DEVCAP2_EE_PREFIX: TLP prefixes
	MaxEndToEndPrefixes          int    `json:"maxEndToEndPrefixes"`          // bits 23:22, 1 to 4; 0 without EndToEndPrefix
	EmergencyPowerReduction      int    `json:"emergencyPowerReduction"`      // bits 25:24 as they read
	EmergencyPowerInit           bool   `json:"emergencyPowerInit"`           // bit 26: must be initialized again after it
	FRS                          bool   `json:"frs"`                          // bit 31: function readiness status messages

	CompletionTimeout         string `json:"completionTimeout"`         // PCI_EXP_DEVCTL2_COMP_TIMEOUT: "50 us to 50 ms"
	CompletionTimeoutDisabled bool   `json:"completionTimeoutDisabled"` // PCI_EXP_DEVCTL2_COMP_TMOUT_DIS
	ARIForwarding             bool   `json:"ariForwarding"`             // PCI_EXP_DEVCTL2_ARI
	AtomicRequester           bool   `json:"atomicRequester"`           // PCI_EXP_DEVCTL2_ATOMIC_REQ
	AtomicEgressBlocked       bool   `json:"atomicEgressBlocked"`       // PCI_EXP_DEVCTL2_ATOMIC_EGRESS_BLOCK
	IDORequest                bool   `json:"idoRequest"`                // PCI_EXP_DEVCTL2_IDO_REQ_EN: ordering by requester id
	IDOCompletion             bool   `json:"idoCompletion"`             // PCI_EXP_DEVCTL2_IDO_CMP_EN
	LTR                       bool   `json:"ltr"`                       // PCI_EXP_DEVCTL2_LTR_EN
	EmergencyPowerRequest     bool   `json:"emergencyPowerRequest"`     // bit 11
	TenBitTag                 bool   `json:"tenBitTag"`                 // bit 12: the requester uses them
	OBFF                      string `json:"obff"`                      // bits 14:13: "disabled", "message A", "message B" or "wake"
	EndToEndPrefixBlocked     bool   `json:"endToEndPrefixBlocked"`     // bit 15
}

// ExpressLink2 is the link capabilities 2, control 2 and status 2: PCI_EXP_LNKCAP2 at 0x2c, PCI_EXP_LNKCTL2 at 0x30,
// PCI_EXP_LNKSTA2 at 0x32.
type ExpressLink2 struct {
	SpeedsGTs            []float64 `json:"speedsGTs"`            // bits 7:1: every speed that it can do, GT/s
	CrosslinkSupported   bool      `json:"crosslinkSupported"`   // PCI_EXP_LNKCAP2_CROSSLINK
	RetimerDetection     bool      `json:"retimerDetection"`     // bit 23
	TwoRetimersDetection bool      `json:"twoRetimersDetection"` // bit 24
	DRSSupported         bool      `json:"drsSupported"`         // bit 31: device readiness status messages
	TargetSpeedGTs       float64   `json:"targetSpeedGTs"`       // PCI_EXP_LNKCTL2_TLS; 0 for a reserved value
	EnterCompliance      bool      `json:"enterCompliance"`      // PCI_EXP_LNKCTL2_ENTER_COMP
	SpeedFixed           bool      `json:"speedFixed"`           // PCI_EXP_LNKCTL2_HASD: hardware does not change the speed by itself
	DeemphasisSelect     bool      `json:"deemphasisSelect"`     // bit 6: -3.5 dB rather than -6 dB
	TransmitMargin       int       `json:"transmitMargin"`       // PCI_EXP_LNKCTL2_TX_MARGIN; 0 is normal operation
	ModifiedCompliance   bool      `json:"modifiedCompliance"`   // bit 10
	ComplianceSOS        bool      `json:"complianceSos"`        // bit 11
	CompliancePreset     int       `json:"compliancePreset"`     // bits 15:12
	Deemphasis35         bool      `json:"deemphasis35"`         // status bit 0: -3.5 dB is in use, at 5 GT/s
	EqualizationComplete bool      `json:"equalizationComplete"` // status bit 1, at 8 GT/s
	EqualizationPhase1   bool      `json:"equalizationPhase1"`   // status bit 2: was successful
	EqualizationPhase2   bool      `json:"equalizationPhase2"`   // status bit 3
	EqualizationPhase3   bool      `json:"equalizationPhase3"`   // status bit 4
	EqualizationRequest  bool      `json:"equalizationRequest"`  // status bit 5
	Retimer              bool      `json:"retimer"`              // status bit 6
	TwoRetimers          bool      `json:"twoRetimers"`          // status bit 7
	Crosslink            int       `json:"crosslink"`            // status bits 9:8: 0 unsupported, 1 upstream, 2 downstream, 3 not complete
	DownstreamPresence   int       `json:"downstreamPresence"`   // status bits 14:12
	DRSReceived          bool      `json:"drsReceived"`          // status bit 15
}

// ExpressSlot2 is the slot capabilities 2, PCI_EXP_SLTCAP2 at 0x34. Its control and status have no fields.
type ExpressSlot2 struct {
	InBandPresenceDisableSupported bool `json:"inBandPresenceDisableSupported"` // PCI_EXP_SLTCAP2_IBPD
}

func (s *structure) express() any {
	if !s.need(4) {
		return nil
	}
	flags := s.u16(0x02)
	e := &Express{
		Version:          flags.field(0x000f),
		Type:             ExpressType(flags.field(0x00f0)),
		SlotImplemented:  flags.has(0x0100),
		InterruptMessage: flags.field(0x3e00),
	}
	slot := e.SlotImplemented && e.Type.isDownstream()
	// Version 1 ends with the last register that the type has. Version 2 has them all up to the last one.
	length := 0x0c
	switch {
	case e.Version >= 2 && slot:
		length = 0x3c
	case e.Version >= 2 && e.Type.hasLink():
		length = 0x34
	case e.Version >= 2:
		length = 0x2c
	case e.Type.isRoot():
		length = 0x24
	case slot:
		length = 0x1c
	case e.Type.hasLink():
		length = 0x14
	}
	if !s.need(length) {
		return nil
	}
	e.Device = s.expressDevice()
	if e.Type.hasLink() {
		e.Link = s.expressLink()
	}
	if slot {
		e.Slot = s.expressSlot()
	}
	if e.Type.isRoot() {
		e.Root = s.expressRoot()
	}
	if e.Version >= 2 {
		e.Device2 = s.expressDevice2()
		if e.Type.hasLink() {
			e.Link2 = s.expressLink2()
		}
		if slot {
			e.Slot2 = &ExpressSlot2{InBandPresenceDisableSupported: s.u32(0x34).has(0x1)}
		}
	}
	return e
}

// linkSpeed gives the GT/s that a link speed field stands for, 0 for none.
func linkSpeed(field int) float64 {
	speeds := [...]float64{0, 2.5, 5, 8, 16, 32, 64, 128}
	if field >= len(speeds) {
		return 0
	}
	return speeds[field]
}

// payloadSize gives the bytes that a payload or read request field stands for, 0 for a reserved value.
func payloadSize(field int) int {
	if field > 5 {
		return 0
	}
	return 128 << field
}

// latencyBound gives the bound that a latency field of three bits stands for, in ns; 7 has none. The smallest is that
// of 0, and each is twice the one before.
func latencyBound(field, smallest int) int {
	if field == 7 {
		return 0
	}
	return smallest << field
}

// powerLimit gives the watts of a slot power limit: PCI Express Base Specification 7.5.3.9. Values from 0xf0 on stand
// for powers of their own when the scale is 1.
func powerLimit(value, scale int) float64 {
	if scale == 0 && value >= 0xf0 {
		above := [...]float64{250, 275, 300, 325, 350, 375, 400, 425, 450, 475, 500, 525, 550, 575, 600, 0}
		return above[value-0xf0]
	}
	return float64(value) / [...]float64{1, 10, 100, 1000}[scale]
}

func (s *structure) expressDevice() ExpressDevice {
	capable, control, status := s.u32(0x04), s.u16(0x08), s.u16(0x0a)
	return ExpressDevice{
		MaxPayloadSupported:     payloadSize(capable.field(0x00000007)),
		PhantomFunctionBits:     capable.field(0x00000018),
		ExtendedTagSupported:    capable.has(0x00000020),
		AcceptableL0sNs:         latencyBound(capable.field(0x000001c0), 64),
		AcceptableL1Ns:          latencyBound(capable.field(0x00000e00), 1000),
		AttentionButton:         capable.has(0x00001000),
		AttentionIndicator:      capable.has(0x00002000),
		PowerIndicator:          capable.has(0x00004000),
		RoleBasedErrorReporting: capable.has(0x00008000),
		SlotPowerLimitWatts:     powerLimit(capable.field(0x03fc0000), capable.field(0x0c000000)),
		FunctionLevelReset:      capable.has(0x10000000),
		CorrectableReporting:    control.has(0x0001),
		NonFatalReporting:       control.has(0x0002),
		FatalReporting:          control.has(0x0004),
		UnsupportedReporting:    control.has(0x0008),
		RelaxedOrdering:         control.has(0x0010),
		MaxPayload:              payloadSize(control.field(0x00e0)),
		ExtendedTag:             control.has(0x0100),
		PhantomFunctions:        control.has(0x0200),
		AuxPower:                control.has(0x0400),
		NoSnoop:                 control.has(0x0800),
		MaxReadRequest:          payloadSize(control.field(0x7000)),
		BridgeConfigRetry:       control.has(0x8000),
		CorrectableError:        status.has(0x0001),
		NonFatalError:           status.has(0x0002),
		FatalError:              status.has(0x0004),
		UnsupportedRequest:      status.has(0x0008),
		AuxPowerDetected:        status.has(0x0010),
		TransactionsPending:     status.has(0x0020),
		EmergencyPowerReduction: status.has(0x0040),
	}
}

func (s *structure) expressLink() *ExpressLink {
	capable, control, status := s.u32(0x0c), s.u16(0x10), s.u16(0x12)
	l := &ExpressLink{
		Port:                capable.field(0xff000000),
		MaxSpeedGTs:         linkSpeed(capable.field(0x0000000f)),
		MaxWidth:            capable.field(0x000003f0),
		ASPMSupported:       ASPM{L0s: capable.has(0x00000400), L1: capable.has(0x00000800)},
		ExitL0sNs:           latencyBound(capable.field(0x00007000), 64),
		ExitL1Ns:            latencyBound(capable.field(0x00038000), 1000),
		ClockPM:             capable.has(0x00040000),
		SurpriseDown:        capable.has(0x00080000),
		ActiveReporting:     capable.has(0x00100000),
		BandwidthNotice:     capable.has(0x00200000),
		ASPMOptionality:     capable.has(0x00400000),
		ASPM:                ASPM{L0s: control.has(0x0001), L1: control.has(0x0002)},
		ReadBoundary:        64,
		Disabled:            control.has(0x0010),
		Retrain:             control.has(0x0020),
		CommonClock:         control.has(0x0040),
		ExtendedSynch:       control.has(0x0080),
		ClockPMEnabled:      control.has(0x0100),
		WidthFixed:          control.has(0x0200),
		BandwidthInterrupt:  control.has(0x0400),
		AutonomousInterrupt: control.has(0x0800),
		DRSSignaling:        control.field(0xc000),
		SpeedGTs:            linkSpeed(status.field(0x000f)),
		Width:               status.field(0x03f0),
		TrainingError:       status.has(0x0400),
		Training:            status.has(0x0800),
		SlotClock:           status.has(0x1000),
		Active:              status.has(0x2000),
		Bandwidth:           status.has(0x4000),
		Autonomous:          status.has(0x8000),
	}
	if control.has(0x0008) {
		l.ReadBoundary = 128
	}
	return l
}

func (s *structure) expressSlot() *ExpressSlot {
	capable, control, status := s.u32(0x14), s.u16(0x18), s.u16(0x1a)
	return &ExpressSlot{
		Number:                  capable.field(0xfff80000),
		AttentionButton:         capable.has(0x00000001),
		PowerController:         capable.has(0x00000002),
		RetentionSensor:         capable.has(0x00000004),
		AttentionIndicator:      capable.has(0x00000008),
		PowerIndicator:          capable.has(0x00000010),
		HotPlugSurprise:         capable.has(0x00000020),
		HotPlugCapable:          capable.has(0x00000040),
		PowerLimitWatts:         powerLimit(capable.field(0x00007f80), capable.field(0x00018000)),
		Interlock:               capable.has(0x00020000),
		NoCommandCompleted:      capable.has(0x00040000),
		AttentionButtonEnable:   control.has(0x0001),
		PowerFaultEnable:        control.has(0x0002),
		RetentionChangeEnable:   control.has(0x0004),
		PresenceChangeEnable:    control.has(0x0008),
		CommandCompletedEnable:  control.has(0x0010),
		HotPlugInterrupt:        control.has(0x0020),
		AttentionIndicatorState: Indicator(control.field(0x00c0)),
		PowerIndicatorState:     Indicator(control.field(0x0300)),
		PowerOff:                control.has(0x0400),
		InterlockControl:        control.has(0x0800),
		LinkChangeEnable:        control.has(0x1000),
		AutoPowerLimitDisable:   control.has(0x2000),
		InBandPresenceDisable:   control.has(0x4000),
		AttentionButtonPressed:  status.has(0x0001),
		PowerFault:              status.has(0x0002),
		RetentionChanged:        status.has(0x0004),
		PresenceChanged:         status.has(0x0008),
		CommandCompleted:        status.has(0x0010),
		RetentionOpen:           status.has(0x0020),
		CardPresent:             status.has(0x0040),
		InterlockEngaged:        status.has(0x0080),
		LinkChanged:             status.has(0x0100),
	}
}

func (s *structure) expressRoot() *ExpressRoot {
	control, capable, status := s.u16(0x1c), s.u16(0x1e), s.u32(0x20)
	return &ExpressRoot{
		CorrectableSystemError: control.has(0x0001),
		NonFatalSystemError:    control.has(0x0002),
		FatalSystemError:       control.has(0x0004),
		PMEInterrupt:           control.has(0x0008),
		RetryVisible:           control.has(0x0010),
		RetryVisibleSupported:  capable.has(0x0001),
		PMERequester:           ID(status.field(0x0000ffff)),
		PMEStatus:              status.has(0x00010000),
		PMEPending:             status.has(0x00020000),
	}
}

// timeoutRanges is the meaning of the completion timeout ranges: which of the ranges A to D can be programmed.
var timeoutRanges = [16]string{
	0x1: "A", 0x2: "B", 0x3: "AB", 0x6: "BC", 0x7: "ABC", 0xe: "BCD", 0xf: "ABCD",
}

// timeouts is the meaning of PCI_EXP_DEVCTL2_COMP_TIMEOUT.
var timeouts = [16]string{
	0x0: "50 us to 50 ms",
	0x1: "50 us to 100 us", 0x2: "1 ms to 10 ms",
	0x5: "16 ms to 55 ms", 0x6: "65 ms to 210 ms",
	0x9: "260 ms to 900 ms", 0xa: "1 s to 3.5 s",
	0xd: "4 s to 13 s", 0xe: "17 s to 64 s",
}

func (s *structure) expressDevice2() *ExpressDevice2 {
	capable, control := s.u32(0x24), s.u16(0x28)
	d := &ExpressDevice2{
		CompletionTimeoutRanges:      timeoutRanges[capable.field(0x0000000f)],
		CompletionTimeoutDisableable: capable.has(0x00000010),
		ARIForwardingSupported:       capable.has(0x00000020),
		AtomicRouting:                capable.has(0x00000040),
		AtomicCompleter32:            capable.has(0x00000080),
		AtomicCompleter64:            capable.has(0x00000100),
		AtomicCompleter128:           capable.has(0x00000200),
		NoRelaxedPeerPassing:         capable.has(0x00000400),
		LTRSupported:                 capable.has(0x00000800),
		TPHCompleter:                 capable.has(0x00001000),
		ExtendedTPHCompleter:         capable.field(0x00003000) == 3,
		LNSystemCLS:                  capable.field(0x0000c000),
		TenBitTagCompleter:           capable.has(0x00010000),
		TenBitTagRequester:           capable.has(0x00020000),
		OBFFMessage:                  capable.has(0x00040000),
		OBFFWake:                     capable.has(0x00080000),
		ExtendedFormat:               capable.has(0x00100000),
		EndToEndPrefix:               capable.has(0x00200000),
		EmergencyPowerReduction:      capable.field(0x03000000),
		EmergencyPowerInit:           capable.has(0x04000000),
		FRS:                          capable.has(0x80000000),
		CompletionTimeout:            timeouts[control.field(0x000f)],
		CompletionTimeoutDisabled:    control.has(0x0010),
		ARIForwarding:                control.has(0x0020),
		AtomicRequester:              control.has(0x0040),
		AtomicEgressBlocked:          control.has(0x0080),
		IDORequest:                   control.has(0x0100),
		IDOCompletion:                control.has(0x0200),
		LTR:                          control.has(0x0400),
		EmergencyPowerRequest:        control.has(0x0800),
		TenBitTag:                    control.has(0x1000),
		OBFF:                         [...]string{"disabled", "message A", "message B", "wake"}[control.field(0x6000)],
		EndToEndPrefixBlocked:        control.has(0x8000),
	}
	if d.CompletionTimeout == "" {
		d.CompletionTimeout = "reserved"
	}
	if d.EndToEndPrefix {
		// 1 to 3, and 0 for 4.
		d.MaxEndToEndPrefixes = (capable.field(0x00c00000)+3)%4 + 1
	}
	return d
}

func (s *structure) expressLink2() *ExpressLink2 {
	capable, control, status := s.u32(0x2c), s.u16(0x30), s.u16(0x32)
	l := &ExpressLink2{
		SpeedsGTs:            []float64{},
		CrosslinkSupported:   capable.has(0x00000100),
		RetimerDetection:     capable.has(0x00800000),
		TwoRetimersDetection: capable.has(0x01000000),
		DRSSupported:         capable.has(0x80000000),
		TargetSpeedGTs:       linkSpeed(control.field(0x000f)),
		EnterCompliance:      control.has(0x0010),
		SpeedFixed:           control.has(0x0020),
		DeemphasisSelect:     control.has(0x0040),
		TransmitMargin:       control.field(0x0380),
		ModifiedCompliance:   control.has(0x0400),
		ComplianceSOS:        control.has(0x0800),
		CompliancePreset:     control.field(0xf000),
		Deemphasis35:         status.has(0x0001),
		EqualizationComplete: status.has(0x0002),
		EqualizationPhase1:   status.has(0x0004),
		EqualizationPhase2:   status.has(0x0008),
		EqualizationPhase3:   status.has(0x0010),
		EqualizationRequest:  status.has(0x0020),
		Retimer:              status.has(0x0040),
		TwoRetimers:          status.has(0x0080),
		Crosslink:            status.field(0x0300),
		DownstreamPresence:   status.field(0x7000),
		DRSReceived:          status.has(0x8000),
	}
	for bit := 1; bit <= 7; bit++ {
		if capable.has(1 << bit) {
			l.SpeedsGTs = append(l.SpeedsGTs, linkSpeed(bit))
		}
	}
	return l
}
