package vfiotest

// nvme is QEMU's NVMe controller as far as its registers go (NVM Express base specification, "Controller Registers"): it
// can be looked at and configured, but has no queues, so that it never becomes ready and never interrupts.
type nvme struct {
	capabilities uint64
	masked       uint32 // INTMS and INTMC
	config       uint32
	queueSizes   uint32 // AQA
	submission   uint64 // ASQ
	completion   uint64 // ACQ
}

// Registers of BAR 0.
const (
	nvmeCAP   = 0x00 // 8 bytes, or its halves
	nvmeVS    = 0x08
	nvmeINTMS = 0x0c
	nvmeINTMC = 0x10
	nvmeCC    = 0x14
	nvmeAQA   = 0x24
	nvmeASQ   = 0x28
	nvmeACQ   = 0x30

	nvmeVersion = 0x00010400 // 1.4
)

// newNVMe makes the disk of the virtual machine, as the firmware leaves it, which looks at it for something to boot.
func newNVMe(*function) model {
	return &nvme{capabilities: 0x004018200f0107ff, queueSizes: 0x00ff003f, submission: 0x3ffdd000, completion: 0x3ffde000}
}

func (n *nvme) read(_ int, off uint64, width int) uint64 {
	var register uint64 // the 8 bytes that it is in
	switch off &^ 7 {
	case nvmeCAP:
		register = n.capabilities
	case nvmeVS:
		register = nvmeVersion | uint64(n.masked)<<32
	case nvmeINTMC:
		register = uint64(n.masked) | uint64(n.config)<<32
	case nvmeAQA - 4:
		register = uint64(n.queueSizes) << 32
	case nvmeASQ:
		register = n.submission
	case nvmeACQ:
		register = n.completion
	}
	return register >> (8 * (off & 7)) & ones(width)
}

func (n *nvme) write(_ int, off uint64, width int, v uint64) {
	w := uint32(v)
	switch off {
	case nvmeINTMS:
		n.masked |= w
	case nvmeINTMC:
		n.masked &^= w
	case nvmeCC:
		n.config = w
	case nvmeAQA:
		n.queueSizes = w
	case nvmeASQ:
		n.submission = merged(n.submission, 0, width, v)
	case nvmeASQ + 4:
		n.submission = merged(n.submission, 4, width, v)
	case nvmeACQ:
		n.completion = merged(n.completion, 0, width, v)
	case nvmeACQ + 4:
		n.completion = merged(n.completion, 4, width, v)
	}
}

// merged is a register of 8 bytes after a write of width bytes at off in it.
func merged(register uint64, off, width int, v uint64) uint64 {
	mask := ones(width) << (8 * off)
	return register&^mask | v<<(8*off)&mask
}

// reset leaves where the admin queues are, as the specification has it.
func (n *nvme) reset() { n.masked, n.config = 0, 0 }
