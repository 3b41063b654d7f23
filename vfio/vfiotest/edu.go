package vfiotest

// edu is QEMU's educational device (docs/specs/edu.txt): a register that raises interrupts, one that acknowledges them,
// a factorial, which is ready at once here, and an inverter to see that it lives. Its DMA engine is not modelled.
type edu struct {
	function  *function
	liveness  uint32
	factorial uint32
	status    uint32
	causes    uint32
}

// Registers of BAR 0, all of 4 bytes.
const (
	eduID        = 0x00
	eduLiveness  = 0x04 // reads as the inverse of what was written
	eduFactorial = 0x08
	eduStatus    = 0x20
	eduCauses    = 0x24
	eduRaise     = 0x60
	eduAck       = 0x64

	eduVersion     = 0x010000ed
	eduIRQOnFinish = 0x80 // in eduStatus: interrupt when the factorial is ready
	eduFactCause   = 0x01
	eduDMA         = 0x80 // from here on, registers may be read in 8 bytes, too
)

func newEDU(f *function) model { return &edu{function: f} }

func (e *edu) read(_ int, off uint64, width int) uint64 {
	switch {
	case width < 4:
		return 0
	case width == 8 && off < eduDMA:
		return ^uint64(0)
	}
	switch off {
	case eduID:
		return eduVersion
	case eduLiveness:
		return uint64(e.liveness)
	case eduFactorial:
		return uint64(e.factorial)
	case eduStatus:
		return uint64(e.status)
	case eduCauses:
		return uint64(e.causes)
	case 0x80, 0x88, 0x90, 0x98:
		return 0
	}
	return ones(width)
}

func (e *edu) write(_ int, off uint64, width int, v uint64) {
	if width != 4 {
		return
	}
	w := uint32(v)
	switch off {
	case eduLiveness:
		e.liveness = ^w
	case eduFactorial:
		e.factorial = 1
		for ; w > 0; w-- {
			e.factorial *= w
			if e.factorial == 0 {
				break // it stays 0
			}
		}
		if e.status&eduIRQOnFinish != 0 {
			e.raise(eduFactCause)
		}
	case eduStatus:
		e.status = w & eduIRQOnFinish
	case eduRaise:
		e.raise(w)
	case eduAck:
		e.causes &^= w
		if e.causes == 0 && !e.function.msiEnabled() {
			e.function.setLine(false)
		}
	}
}

// raise adds causes. Each time that there is any, a message is sent or the line asserted.
func (e *edu) raise(causes uint32) {
	e.causes |= causes
	switch {
	case e.causes == 0:
	case e.function.msiEnabled():
		e.function.send(0)
	default:
		e.function.setLine(true)
	}
}

// reset leaves the registers alone, as QEMU's does.
func (e *edu) reset() {}

// ones is the value of that many bytes of 0xff.
func ones(width int) uint64 { return ^uint64(0) >> (64 - 8*width) }
