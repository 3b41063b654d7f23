package diagnosis

import (
	"errors"
	"io/fs"
	"maps"
	"slices"
	"time"

	"github.com/irqbridge/irqbridge/pci"
	"github.com/irqbridge/irqbridge/vfio"
	"github.com/irqbridge/irqbridge/vfio/host"
)

// Device is the facts about a device and what is around it, at one moment.
type Device struct {
	host.Device
	Runtime   host.RuntimePower
	Above     []Bridge      // the nearest first
	AboveErr  error         // why some of them may be missing
	Config    *pci.Function // as the hardware has it; nil when it cannot be read
	ConfigErr error         // pci.ErrNoAnswer when it reads all ones

	Group      *host.Group // nil without one, or when it cannot be read
	GroupErr   error
	Nodes      []Node         // that it is opened by, while VFIO has it
	Holders    []host.Process // who has it, or its group, open
	Possible   []host.Process // who has some device of VFIO's open, which may be this one
	Pinned     []host.CPUSet  // the CPUs of their threads, of those that may not run on all
	Online     host.CPUSet    // CPUs
	Isolated   host.CPUSet    // those of them that the scheduler leaves alone
	NoMessages advice         // why it may use neither MSI nor MSI-X; zero when it may

	IRQs      []IRQ // what VFIO has connected
	IRQsErr   error
	IRQsInUse int // of the whole host

	LineState LineState
}

// Bridge is a bridge above the device.
type Bridge struct {
	host.Device
	Runtime   host.RuntimePower
	Enables   int           // how many users have it enabled
	Config    *pci.Function // nil when it cannot be read
	ConfigErr error
}

// IRQ is the host IRQ of one interrupt that VFIO has connected, and where it goes.
type IRQ struct {
	Kind        pci.Kind
	Message     int // 0 for the line
	Number      int // of the host
	Affinity    host.Affinity
	AffinityErr error
}

// LineState is what the interrupt line of the device did while it was looked at for a moment.
type LineState uint8

// The states. A line that VFIO masks and unmasks at each interrupt changes between them, which is LineMoving.
const (
	LineMoving  LineState = iota
	LineQuiet             // neither masked nor asserted
	LineMasked            // by COMMAND.INTxDisable, and not asserted
	LinePending           // asserted and masked
	LineUnheard           // asserted, not masked, and not delivered
)

// How often, and how far apart, the line is looked at.
const (
	lineLooks    = 5
	lineInterval = 10 * time.Millisecond
)

// ReadDevice gathers the facts about the device at a. The error is that it is not there.
func ReadDevice(h *host.Host, a pci.Address) (Device, error) {
	var f Device
	var err error
	if f.Device, err = h.Device(a); err != nil {
		return f, err
	}
	// Reading configuration space wakes the bridges above: how things are at rest comes first, from the root down.
	f.Runtime = h.RuntimePower(a)
	above, err := h.Above(a)
	f.AboveErr = err
	for _, d := range above {
		f.Above = append(f.Above, Bridge{Device: d, Runtime: h.RuntimePower(d.Address), Enables: h.Enables(d.Address)})
	}
	for i := range slices.Backward(f.Above) {
		f.Above[i].Config, f.Above[i].ConfigErr = readConfig(h, f.Above[i].Address)
	}
	f.Config, f.ConfigErr = readConfig(h, a)
	f.readGroup(h)
	f.NoMessages.cause, f.NoMessages.next = h.WhyNoMessages(a)
	f.Online, _ = h.OnlineCPUs() // empty: whoever compares with it has to do without
	f.Isolated = h.IsolatedCPUs()
	f.readIRQs(h)
	return f, nil
}

func readConfig(h *host.Host, a pci.Address) (*pci.Function, error) {
	config, err := h.Config(a)
	if err != nil {
		return nil, err
	}
	return pci.Decode(config)
}

// readGroup reads with whom the device shares its group, by which nodes it is opened, and who has it open.
func (f *Device) readGroup(h *host.Host) {
	if f.Device.Group < 0 {
		return
	}
	group, err := h.Group(f.Device.Group)
	if f.GroupErr = err; err == nil {
		f.Group = &group
	}
	if !f.VFIO {
		return
	}
	backend := vfio.BackendFor(h, f.Device)
	if h.NoIOMMUGroup(f.Device.Group) {
		backend = vfio.BackendNoIOMMU
	}
	for _, path := range vfio.Nodes(h, f.Device, backend) {
		f.Nodes = append(f.Nodes, readNode(h, path))
	}
	f.Holders, f.Possible = h.HolderProcesses(f.Device.Group)
}

// readIRQs reads which interrupts of the device are connected through VFIO, where they go, and where they are served.
func (f *Device) readIRQs(h *host.Host) {
	f.IRQsInUse, f.IRQsErr = h.IRQsInUse()
	for _, kind := range []pci.Kind{pci.KindINTx, pci.KindMSI, pci.KindMSIX} {
		numbers, err := h.IRQNumbers(f.Address, kind)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			f.IRQsErr = err
		}
		for _, message := range slices.Sorted(maps.Keys(numbers)) {
			i := IRQ{Kind: kind, Message: message, Number: numbers[message]}
			i.Affinity, i.AffinityErr = h.Affinity(i.Number)
			f.IRQs = append(f.IRQs, i)
		}
	}
	for _, p := range f.Holders {
		for _, cpus := range h.ThreadCPUs(p.ID) {
			if !f.Online.Minus(cpus).Empty() && !slices.Contains(f.Pinned, cpus) {
				f.Pinned = append(f.Pinned, cpus)
			}
		}
	}
	if len(f.IRQs) > 0 && f.IRQs[0].Kind == pci.KindINTx && f.Config != nil {
		f.LineState = watchLine(h, f.Address, f.IRQs[0].Number)
	}
}

// watchLine looks at the line for a moment. One look would take a line that is being served for one that is stuck.
func watchLine(h *host.Host, a pci.Address, irq int) LineState {
	before, _ := h.IRQCounts(irq)
	state := LineMoving
	for look := range lineLooks {
		if look > 0 {
			time.Sleep(lineInterval)
		}
		config, err := readConfig(h, a)
		if err != nil {
			return LineMoving
		}
		line, now := config.Interrupts(), LineQuiet
		switch {
		case line.LineAsserted && line.LineDisabled:
			now = LinePending
		case line.LineAsserted:
			now = LineUnheard
		case line.LineDisabled:
			now = LineMasked
		}
		if look > 0 && now != state {
			return LineMoving
		}
		state = now
	}
	if after, _ := h.IRQCounts(irq); total(after) != total(before) {
		return LineMoving
	}
	return state
}

func total(counts map[int]uint64) uint64 {
	var n uint64
	for _, c := range counts {
		n += c
	}
	return n
}

// Live is the kind of interrupt that is enabled: by VFIO or else by the device's driver, as the hardware has it. 0 is none,
// or a line that is not VFIO's.
func (f *Device) Live() pci.Kind {
	switch {
	case len(f.IRQs) > 0:
		return f.IRQs[0].Kind
	case f.Config != nil && f.Config.MSIX != nil && f.Config.MSIX.Enabled:
		return pci.KindMSIX
	case f.Config != nil && f.Config.MSI != nil && f.Config.MSI.Enabled:
		return pci.KindMSI
	}
	return 0
}

// messages are those that VFIO has connected.
func (f *Device) messages() []int {
	var list []int
	for _, irq := range f.IRQs {
		list = append(list, irq.Message)
	}
	return list
}

// inUse tells whether somebody has the device open, or its interrupts enabled.
func (f *Device) inUse() bool { return f.Live() != 0 || len(f.Holders) > 0 }

// Cut tells whether this user may read too little of configuration space to see all of the device's interrupts.
func (f *Device) Cut() bool { return f.Config != nil && f.Config.Truncated && f.Config.Size < 256 }

// unread is the check for what was not readable.
func unread(id string, a pci.Address, err error) Check {
	next := "sudo irqbridge doctor " + a.String()
	if errors.Is(err, fs.ErrNotExist) {
		next = "irqbridge list"
	}
	return unknown(id, err.Error(), next)
}

// NotLookedAt says what no check looks at, since looking could disturb the device's user; "" when that is nothing.
func (f *Device) NotLookedAt() string {
	if f.Config == nil || f.Config.MSIX == nil || f.Live() != pci.KindMSIX {
		return ""
	}
	return notLookedAt(f.Address, f.Config.MSIX)
}
