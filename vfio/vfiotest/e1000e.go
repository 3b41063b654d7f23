package vfiotest

// e1000e is QEMU's e1000e, an Intel 82574L, as far as it interrupts: by its line, by one MSI message, and by five MSI-X
// messages, to which the register IVAR assigns the causes. The timers that hold interrupts back (ITR, EITR) do not run:
// every interrupt comes at once.
type e1000e struct {
	function *function
	ctrl     uint32
	ctrlExt  uint32
	causes   uint32 // ICR
	shown    uint32 // ICS: the causes as they were before messages cleared any
	enabled  uint32 // IMS
	clearing uint32 // EIAC
	masking  uint32 // IAM
	routes   uint32 // IVAR
	sent     uint32 // the causes that were sent as a message and not acknowledged since
	window   uint32 // IOADDR: the register that IODATA shows
}

// The I/O BAR is a window on the registers of BAR 0.
const (
	ioBAR     = 2
	regIOAddr = 0
	regIOData = 4
)

// Bits of the registers.
const (
	causeRXQ0  = 1 << 20
	causeOther = 1 << 24
	// causesOther are those that with MSI-X are summed up as causeOther.
	causesOther = 1<<2 | 1<<6 | 1<<9 | 1<<16 | 1<<17 | 1<<18
	// causesKnown are those that can be enabled.
	causesKnown = 1<<0 | 1<<1 | 1<<2 | 1<<4 | 1<<6 | 1<<7 | 1<<9 | 1<<15 | 1<<16 | 1<<17 | 1<<18 | 0x1f<<20

	ctrlExtEIAME = 1 << 24 // a message takes its cause out of IAM
	ctrlExtIAME  = 1 << 27 // an acknowledgement disables the causes of IAM; EIAC leaves the enables alone

	e1000eMessages = 5
	ivarValid      = 1 << 3
)

func newE1000E(f *function) model { return &e1000e{function: f} }

func (e *e1000e) read(bar int, off uint64, width int) uint64 {
	if bar == ioBAR && width == 4 {
		switch off {
		case regIOAddr:
			return uint64(e.window)
		case regIOData:
			return e.read(0, uint64(e.window), width)
		}
	}
	if bar != 0 || width != 4 {
		return 0
	}
	switch off {
	case regCtrl:
		return uint64(e.ctrl)
	case regStatus:
		return 0x283 // full duplex, 1000 Mb/s, link up
	case regCtrlExt:
		return uint64(e.ctrlExt)
	case regICR:
		return uint64(e.acknowledgeAll())
	case regICS:
		return uint64(e.shown)
	case regIMS, regIMC:
		return uint64(e.enabled)
	case regEIAC:
		return uint64(e.clearing)
	case regIAM:
		return uint64(e.masking)
	case regIVAR:
		return uint64(e.routes)
	}
	return 0
}

func (e *e1000e) write(bar int, off uint64, width int, v uint64) {
	if bar == ioBAR && width == 4 {
		switch off {
		case regIOAddr:
			e.window = uint32(v)
		case regIOData:
			e.write(0, uint64(e.window), width, v)
		}
	}
	if bar != 0 || width != 4 {
		return
	}
	w := uint32(v)
	switch off {
	case regCtrl:
		if w&ctrlReset != 0 {
			e.reset()
			return
		}
		e.ctrl = w
	case regCtrlExt:
		e.ctrlExt = w
	case regICR:
		e.acknowledge(w)
	case regICS:
		e.causes |= w
		e.update()
	case regIMS:
		e.enabled |= w & causesKnown
		e.update()
	case regIMC:
		e.enabled &^= w
		e.update()
	case regEIAC:
		e.clearing = w & (0x1f << 20)
	case regIAM:
		e.masking = w
	case regIVAR:
		e.routes = w
	}
}

// acknowledgeAll is a read of ICR, which clears the causes unless they go out as MSI-X.
func (e *e1000e) acknowledgeAll() uint32 {
	v := e.causes
	if e.enabled == 0 || !e.function.msixEnabled() {
		e.causes = 0
	}
	if e.causes&icrAsserted != 0 && e.ctrlExt&ctrlExtIAME != 0 {
		e.causes = 0
		e.enabled &^= e.masking
	}
	e.update()
	return v
}

// acknowledge is a write to ICR.
func (e *e1000e) acknowledge(causes uint32) {
	if e.causes&icrAsserted != 0 && e.ctrlExt&ctrlExtIAME != 0 {
		e.enabled &^= e.masking
	}
	if causes&causeOther != 0 {
		causes |= causesOther
	}
	e.causes &^= causes
	e.update()
}

// update sends and asserts what follows from the registers.
func (e *e1000e) update() {
	f := e.function
	msix := f.msixEnabled()
	if msix && e.causes&causesOther != 0 {
		e.causes |= causeOther
	}
	e.causes &^= icrAsserted
	if e.causes != 0 {
		e.causes |= icrAsserted
	}
	e.shown = e.causes
	pending := e.causes & e.enabled &^ icrAsserted
	if pending == 0 {
		e.sent = 0
	}
	if !msix && !f.msiEnabled() {
		f.setLine(pending != 0)
		return
	}
	e.sent &= pending
	fresh := pending &^ e.sent
	e.sent |= fresh
	switch {
	case fresh == 0:
	case msix:
		for n := range e1000eMessages {
			if cause := uint32(causeRXQ0 << n); fresh&cause != 0 {
				e.sendCause(n, cause)
			}
		}
	default:
		f.send(0)
	}
}

// sendCause sends the message of a cause; field n of IVAR tells which. It then clears what it is to clear.
func (e *e1000e) sendCause(n int, cause uint32) {
	if route := e.routes >> (4 * n) & 0xf; route&ivarValid != 0 {
		if to := int(route &^ ivarValid); to < e1000eMessages {
			e.function.send(to)
		}
	}
	if e.ctrlExt&ctrlExtEIAME != 0 {
		e.masking &^= cause
	}
	cleared := e.clearing & cause
	e.causes &^= cleared
	e.sent &^= cleared
	if e.ctrlExt&ctrlExtIAME == 0 {
		e.enabled &^= cleared
	}
}

func (e *e1000e) reset() {
	*e = e1000e{function: e.function}
	e.function.setLine(false)
}
