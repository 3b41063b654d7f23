package vfiotest

// edu is QEMU's educational device (docs/specs/edu.txt): a register that raises interrupts, one that acknowledges them,
// a factorial, an inverter to see that it lives, and a DMA engine that moves bytes between memory and a buffer of its own.
// Factorials and transfers are done at once here. QEMU's dies of a transfer beyond its buffer; this one does nothing.
type edu struct {
	function  *function
	liveness  uint32
	factorial uint32
	status    uint32
	causes    uint32

	source, destination, count, command uint64 // of DMA
	buffer                              [eduBufferSize]byte
}

// Registers of BAR 0, of 4 bytes; those of DMA of 8, or 4.
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

	eduDMA            = 0x80 // from here on, registers may be accessed in 8 bytes, too
	eduDMASource      = 0x80
	eduDMADestination = 0x88
	eduDMACount       = 0x90
	eduDMACommand     = 0x98

	eduDMARun       = 0x01 // in eduDMACommand: start; it is cleared at the end
	eduDMAToMemory  = 0x02 // from the buffer to memory; else from memory to the buffer
	eduDMAInterrupt = 0x04 // interrupt at the end
	eduDMACause     = 0x100

	eduBuffer      = 0x40000 // the buffer's address, for the engine only
	eduBufferSize  = 4096
	eduAddressMask = 1<<28 - 1 // what the engine has of an address
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
	}
	if r := e.dmaRegister(off); r != nil {
		return *r & ones(width)
	}
	return ones(width)
}

func (e *edu) write(_ int, off uint64, width int, v uint64) {
	if r := e.dmaRegister(off); r != nil && width >= 4 {
		if off != eduDMACommand {
			*r = v
		} else if v&eduDMARun != 0 {
			*r = v
			e.transfer()
		}
		return
	}
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

// dmaRegister returns a register of the DMA engine; nil for none.
func (e *edu) dmaRegister(off uint64) *uint64 {
	switch off {
	case eduDMASource:
		return &e.source
	case eduDMADestination:
		return &e.destination
	case eduDMACount:
		return &e.count
	case eduDMACommand:
		return &e.command
	}
	return nil
}

// transfer is what the DMA engine does. When the IOMMU stops it, what it read is zero, and it goes on as if nothing had been.
func (e *edu) transfer() {
	own, memory := e.destination, e.source
	toMemory := e.command&eduDMAToMemory != 0
	if toMemory {
		own, memory = memory, own
	}
	if own >= eduBuffer && own <= eduBuffer+eduBufferSize && e.count <= eduBuffer+eduBufferSize-own {
		p := e.buffer[own-eduBuffer:][:e.count]
		if !e.function.accessMemory(p, memory&eduAddressMask, toMemory) && !toMemory {
			clear(p)
		}
	}
	e.command &^= eduDMARun
	if e.command&eduDMAInterrupt != 0 {
		e.raise(eduDMACause)
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
