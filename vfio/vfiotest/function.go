package vfiotest

import (
	"encoding/binary"
	"strings"

	"github.com/irqbridge/irqbridge/pci"
)

// model is what a device does when its registers are read and written. Offsets are bytes from the start of the BAR,
// widths are 1, 2, 4 or 8. It is called with the kernel's lock held.
type model interface {
	read(bar int, off uint64, width int) uint64
	write(bar int, off uint64, width int, v uint64)
	// reset is a reset through the bus or a function level reset.
	reset()
}

// memory is the model of a device of which nothing but its configuration space is modelled: its BARs read zero.
type memory struct{}

func (memory) read(int, uint64, int) uint64   { return 0 }
func (memory) write(int, uint64, int, uint64) {}
func (memory) reset()                         {}

// barSize is the size of one BAR in bytes; 0 for none.
type barSize struct {
	size uint64
	io   bool
}

// function is one PCI function: the hardware, and what the host knows about it.
type function struct {
	kernel  *Kernel
	address pci.Address
	behind  *function // the bridge that it is behind; nil on the root bus
	root    string    // of its hierarchy: the directory in /sys/devices
	gone    bool      // pulled out

	config   []byte // the registers, 256 or 4096 bytes
	writable []byte // the bits of config that a write changes
	bars     [6]barSize
	model    model
	pm       int       // offset of the power management capability; 0 without
	express  int       // of the PCI Express capability
	msi      *pci.MSI  // of Offset, Messages and the like only; nil without
	msix     *pci.MSIX // the same
	table    []entry   // of MSI-X
	physical bool      // an SR-IOV physical function: a VF token can be set. It has no virtual functions that would want it
	underWay *[]func() // has the messages arrive that are held back; nil while none are

	pin      uint8 // 1 to 4 for INTA to INTD; 0 without a line
	gsi      int   // the I/O APIC input that the line is wired to
	asserted bool  // the device drives its line

	reset resetMethod

	// The host's view.
	group       *group
	driver      *driver
	override    string
	enables     int          // pci_enable_device: while it is not 0, line is valid
	line        *irq         // nil without a pin
	shownIRQ    int          // what the attribute irq says while no message is enabled
	messages    map[int]*irq // the allocated ones; nil while MSI and MSI-X are off
	hadMessages bool         // since the driver was bound: the directory msi_irqs is there
	stateKnown  bool         // Linux 6.1 looked at the power state
	device      *device      // open through VFIO; nil when not
	opens       int          // of its own node, bound or not
	vfioDev     int          // the number in vfio-dev/vfioN while a VFIO driver is bound; -1 when not
	netdev      string       // its network interface while its own driver is bound; "" without
	numaNode    string
	resource    string // what the attribute says of the BARs; "" to make it of bars
}

// entry is one entry of the MSI-X table.
type entry struct {
	message message
	masked  bool
	pending bool
}

// message is what an MSI writes where: it decides which interrupt the host takes it for.
type message struct {
	address uint64
	data    uint32
}

// resetMethod is how the kernel can reset a function alone; it is what the attribute reset_method says.
type resetMethod string

const (
	resetNone resetMethod = ""
	resetFLR  resetMethod = "flr" // the function starts anew
	resetPM   resetMethod = "pm"  // power states D3hot and D0; QEMU's devices keep their registers over it
	resetBus  resetMethod = "bus" // offered by sysfs, but not while the function shares its bus

	resetFLRBus resetMethod = "flr bus" // the first of several
)

// first is the kernel's choice.
func (r resetMethod) first() resetMethod {
	first, _, _ := strings.Cut(string(r), " ")
	return resetMethod(first)
}

// isFLR tells whether the kernel's choice has the function start anew.
func (r resetMethod) isFLR() bool {
	switch r.first() {
	case resetFLR, "af_flr", "acpi", "device_specific":
		return true
	}
	return false
}

// The registers of configuration space that the machine acts on.
const (
	offCommand   = 0x04
	offStatus    = 0x06
	offBAR0      = 0x10
	offSecondary = 0x19 // the bus behind a bridge
	offROM       = 0x30
	offCapList   = 0x34
	offIntLine   = 0x3c
	offIntPin    = 0x3d
	headerSize   = 0x40
	legacySize   = 0x100
	extendedSize = 0x1000

	statusInterrupt = 0x08 // PCI_STATUS_INTERRUPT
	statusCapList   = 0x10 // PCI_STATUS_CAP_LIST

	// In the MSI capability.
	msiFlags    = 0x02
	msiAddress  = 0x04
	msiData32   = 0x08
	msiData64   = 0x0c
	msiEnable   = 0x0001 // PCI_MSI_FLAGS_ENABLE
	msiQueue    = 0x0070 // PCI_MSI_FLAGS_QSIZE
	msiMaskable = 0x0100 // PCI_MSI_FLAGS_MASKBIT

	// In the MSI-X capability.
	msixFlags     = 0x02
	msixEnable    = 0x8000 // PCI_MSIX_FLAGS_ENABLE
	msixMaskAll   = 0x4000 // PCI_MSIX_FLAGS_MASKALL
	msixEntrySize = 16

	// In the PCI Express capability.
	expControl    = 0x08   // PCI_EXP_DEVCTL
	expReset      = 0x8000 // PCI_EXP_DEVCTL_BCR_FLR
	expSizes      = 0x70e0 // PCI_EXP_DEVCTL_PAYLOAD, PCI_EXP_DEVCTL_READRQ
	expPhantom    = 0x0200 // PCI_EXP_DEVCTL_PHANTOM
	expControl2   = 0x28   // PCI_EXP_DEVCTL2
	expForwarding = 0x0020 // PCI_EXP_DEVCTL2_ARI
	expPrefixes   = 0x8000 // PCI_EXP_DEVCTL2_EETLPPB

	// In the power management capability.
	pmControl = 0x04
	pmState   = 0x03 // PCI_PM_CTRL_STATE_MASK
)

func (f *function) word(off int) uint16 { return binary.LittleEndian.Uint16(f.config[off:]) }

func (f *function) setWord(off int, v uint16) { binary.LittleEndian.PutUint16(f.config[off:], v) }

func (f *function) command() pci.Command { return pci.Command(f.word(offCommand)) }

// isBridge tells whether the function has a header of another kind than a device has.
func (f *function) isBridge() bool { return f.config[0x0e]&0x7f != 0 }

// changeCommand sets and clears bits of the command register, as the host does.
func (f *function) changeCommand(set, clear pci.Command) {
	f.setWord(offCommand, uint16(f.command()&^clear|set))
	f.evaluateLine()
}

// readConfig is a read of the hardware's configuration space.
func (f *function) readConfig(p []byte, off int) {
	if f.gone {
		for i := range p {
			p[i] = 0xff
		}
		return
	}
	copy(p, f.config[off:])
}

// writeConfig is a write to the hardware's configuration space: it changes the bits that can be changed.
func (f *function) writeConfig(p []byte, off int) {
	if f.gone {
		return
	}
	for i, v := range p {
		w := f.writable[off+i]
		f.config[off+i] = f.config[off+i]&^w | v&w
	}
	f.messagesChanged()
	f.evaluateLine()
}

// power is the power state, 0 for D0 to 3 for D3hot.
func (f *function) power() int {
	if f.pm == 0 {
		return 0
	}
	return int(f.config[f.pm+pmControl] & pmState)
}

// setPower changes the power state of a function that has one.
func (f *function) setPower(state int) {
	if f.pm != 0 {
		f.config[f.pm+pmControl] = f.config[f.pm+pmControl]&^pmState | byte(state)
	}
}

// decodes tells whether the BAR answers.
func (f *function) decodes(bar int) bool {
	need := pci.CommandMemory
	if f.bars[bar].io {
		need = pci.CommandIO
	}
	return !f.gone && f.command()&need != 0 && f.power() == 0
}

// load reads a register. Whether the BAR answers at all is decided before.
func (f *function) load(bar int, off uint64, width int) uint64 {
	if n, ok := f.tableOffset(bar, off); ok {
		return f.loadTable(n, width)
	}
	return f.model.read(bar, off, width)
}

// store writes a register.
func (f *function) store(bar int, off uint64, width int, v uint64) {
	if n, ok := f.tableOffset(bar, off); ok {
		f.storeTable(n, width, v)
		return
	}
	f.model.write(bar, off, width, v)
}

// setLine drives the interrupt line.
func (f *function) setLine(asserted bool) {
	f.asserted = asserted && f.pin != 0
	if f.asserted {
		f.config[offStatus] |= statusInterrupt
	} else {
		f.config[offStatus] &^= statusInterrupt
	}
	f.evaluateLine()
}

// interrupting tells whether the function pulls the wire: it asserts its line and is not told to keep it silent.
func (f *function) interrupting() bool {
	return f.asserted && f.command()&pci.CommandINTxDisable == 0
}

// evaluateLine delivers the interrupt of the function's wire for as long as it is pulled and somebody takes it. The
// handlers silence their device, so that it ends.
func (f *function) evaluateLine() {
	for f.line != nil && f.kernel.pulled(f.line) && f.line.deliver() {
	}
}

// pulled tells whether any function pulls the wire of a line.
func (k *Kernel) pulled(line *irq) bool {
	for _, f := range k.functions {
		if f.line == line && f.interrupting() {
			return true
		}
	}
	return false
}

// enable is pci_enable_device: the BARs answer, and the line is routed.
func (f *function) enable() {
	if f.enables++; f.enables > 1 {
		return
	}
	f.setPower(0)
	f.stateKnown = true
	var decode pci.Command
	for _, b := range f.bars {
		switch {
		case b.size == 0:
		case b.io:
			decode |= pci.CommandIO
		default:
			decode |= pci.CommandMemory
		}
	}
	if f.pin != 0 {
		f.line = f.kernel.line(f.gsi)
		f.shownIRQ = f.gsi
	}
	f.changeCommand(decode, 0)
}

// disable is pci_disable_device: bus mastering ends, and the line is let go.
func (f *function) disable() {
	if f.enables--; f.enables > 0 {
		return
	}
	f.changeCommand(0, pci.CommandBusMaster)
	if f.line != nil {
		f.kernel.leaveLine(f.line)
		f.line = nil
	}
}
