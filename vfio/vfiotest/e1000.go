package vfiotest

// The interrupt registers that e1000 and e1000e have in common (Intel 82540EM and 82574L manuals, "Interrupt
// Register Descriptions"): 4 bytes each, in BAR 0.
const (
	regCtrl    = 0x0000
	regStatus  = 0x0008
	regCtrlExt = 0x0018
	regICR     = 0x00c0 // the causes
	regITR     = 0x00c4
	regICS     = 0x00c8 // sets causes
	regIMS     = 0x00d0 // enables causes
	regIMC     = 0x00d8 // disables causes
	regEIAC    = 0x00dc // causes that a message clears
	regIAM     = 0x00e0 // causes that an acknowledgement disables
	regIVAR    = 0x00e4 // which message a cause is sent as
	regEITR    = 0x00e8 // five of them

	ctrlReset   = 1 << 26
	icrAsserted = 1 << 31
)

// e1000 is QEMU's e1000, an Intel 82540EM, as far as it interrupts: by its line only.
type e1000 struct {
	function *function
	causes   uint32
	enabled  uint32
}

func newE1000(f *function) model { return &e1000{function: f} }

func (e *e1000) read(bar int, off uint64, width int) uint64 {
	if bar != 0 || width != 4 {
		return 0
	}
	switch off {
	case regStatus:
		return 0x80080783 // link up
	case regICR:
		v := e.causes
		e.set(0)
		return uint64(v)
	case regICS:
		return uint64(e.causes)
	case regIMS, regIMC:
		return uint64(e.enabled)
	}
	return 0
}

func (e *e1000) write(bar int, off uint64, width int, v uint64) {
	if bar != 0 || width != 4 {
		return
	}
	w := uint32(v)
	switch off {
	case regICR:
		e.set(e.causes &^ w)
	case regICS:
		e.set(e.causes | w)
	case regIMS:
		e.enabled |= w
		e.set(e.causes)
	case regIMC:
		e.enabled &^= w
		e.set(e.causes)
	case regCtrl:
		if w&ctrlReset != 0 {
			e.reset()
		}
	}
}

// set changes the causes, and with them the line.
func (e *e1000) set(causes uint32) {
	causes &^= icrAsserted
	if causes != 0 {
		causes |= icrAsserted
	}
	e.causes = causes
	e.function.setLine(e.causes&e.enabled != 0)
}

func (e *e1000) reset() {
	e.enabled = 0
	e.set(0)
}
