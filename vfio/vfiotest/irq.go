package vfiotest

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/irqbridge/irqbridge/vfio/host"
)

// firstMessageIRQ is the lowest number that a message gets; those below belong to the I/O APIC and to the IOMMU.
const firstMessageIRQ = 25

// irq is one Linux interrupt: a descriptor that exists from the time that a function is enabled (a line) or a message
// is allocated.
type irq struct {
	kernel   *Kernel
	number   int
	chip     string
	hwirq    int
	flow     string // "fasteoi" for lines, "edge" for messages
	users    int    // of a line: the enabled functions that are wired to it
	handlers []*handler
	shown    bool // a handler was requested before: /proc/irq/N is there
	counts   map[int]uint64
	affinity host.CPUSet
	cpu      int // where the next interrupt arrives: the effective affinity
	moved    int // where the one after it arrives
	disabled bool
}

// handler is one action of an irq. run tells whether the interrupt was its device's.
type handler struct {
	name string
	run  func() bool
}

// newIRQ makes an interrupt. Where it arrives is chosen when it is requested.
func (k *Kernel) newIRQ(number int, chip string, hwirq int, flow string) *irq {
	if k.withoutRemapping {
		chip = strings.TrimPrefix(chip, "IR-")
	}
	i := &irq{kernel: k, number: number, chip: chip, hwirq: hwirq, flow: flow, counts: map[int]uint64{}, affinity: k.cpus}
	k.irqs[number] = i
	i.place()
	i.cpu = i.moved
	return i
}

// freeIRQNumber returns the number for the next message.
func (k *Kernel) freeIRQNumber() int {
	n := firstMessageIRQ
	for k.irqs[n] != nil {
		n++
	}
	return n
}

// line returns the interrupt of an I/O APIC input, and makes it at its first user.
func (k *Kernel) line(gsi int) *irq {
	i := k.irqs[gsi]
	if i == nil {
		i = k.newIRQ(gsi, "IR-IO-APIC", gsi, "fasteoi")
	}
	i.users++
	return i
}

// leaveLine takes one user off a line; with the last one the interrupt goes.
func (k *Kernel) leaveLine(i *irq) {
	if i.users--; i.users == 0 {
		delete(k.irqs, i.number)
	}
}

// request adds a handler.
func (i *irq) request(name string, run func() bool) *handler {
	h := &handler{name: name, run: run}
	i.handlers = append(i.handlers, h)
	i.shown = true
	return h
}

// release removes a handler.
func (i *irq) release(h *handler) {
	i.handlers = slices.DeleteFunc(i.handlers, func(g *handler) bool { return g == h })
}

// deliver is one interrupt: it counts on the CPU where it arrives, and runs the handlers. It tells whether any of them
// took it.
func (i *irq) deliver() bool {
	if len(i.handlers) == 0 || i.disabled {
		return false
	}
	i.counts[i.cpu]++
	i.cpu = i.moved
	taken := false
	for _, h := range i.handlers {
		if h.run() {
			taken = true
		}
	}
	return taken
}

// place chooses the one CPU of the affinity that gets the interrupt: where it is already or, else, where the fewest
// interrupts arrive.
func (i *irq) place() {
	if i.affinity.Has(i.moved) && i.kernel.cpus.Has(i.moved) {
		return
	}
	load := map[int]int{}
	for _, other := range i.kernel.irqs {
		load[other.moved]++
	}
	best, least := -1, math.MaxInt
	for cpu := range i.affinity.And(i.kernel.cpus).All() {
		if load[cpu] < least {
			best, least = cpu, load[cpu]
		}
	}
	i.moved = best
}

// setAffinity is a write to smp_affinity or smp_affinity_list.
func (i *irq) setAffinity(cpus host.CPUSet) error {
	if cpus.And(i.kernel.cpus).Empty() {
		return unix.EINVAL
	}
	i.affinity = cpus
	i.place()
	if !i.kernel.withoutRemapping {
		i.cpu = i.moved
	}
	return nil
}

// trigger is what /sys/kernel/irq/N/type says.
func (i *irq) trigger() string {
	if i.flow == "fasteoi" {
		return "level"
	}
	return "edge"
}

// names are the actions' names, as /sys/kernel/irq/N/actions has them.
func (i *irq) names() []string {
	names := make([]string, 0, len(i.handlers))
	for _, h := range i.handlers {
		names = append(names, h.name)
	}
	return names
}

// interruptTable renders /proc/interrupts.
func (k *Kernel) interruptTable() string {
	numbers, chips := 3, 8
	if k.version == Newest { // columns as wide as their longest entry
		numbers = 4
		for _, i := range k.irqs {
			chips = max(chips, len(i.chip))
		}
	}
	cpus := k.cpus.CPUs()
	var b strings.Builder
	fmt.Fprintf(&b, "%*s", numbers+8, "")
	for _, cpu := range cpus {
		fmt.Fprintf(&b, "%-11s", fmt.Sprintf("CPU%d", cpu))
	}
	b.WriteByte('\n')
	for _, n := range k.irqNumbers() {
		i := k.irqs[n]
		if len(i.handlers) == 0 && len(i.counts) == 0 {
			continue
		}
		fmt.Fprintf(&b, "%*d:", numbers, n)
		for _, cpu := range cpus {
			fmt.Fprintf(&b, " %10d", i.counts[cpu])
		}
		fmt.Fprintf(&b, "  %-*s %*d-%-8s", chips, i.chip, numbers, i.hwirq, i.flow)
		if names := i.names(); len(names) > 0 {
			fmt.Fprintf(&b, "  %s", strings.Join(names, ", "))
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// irqNumbers returns the numbers of all interrupts, sorted.
func (k *Kernel) irqNumbers() []int {
	numbers := make([]int, 0, len(k.irqs))
	for n := range k.irqs {
		numbers = append(numbers, n)
	}
	slices.Sort(numbers)
	return numbers
}
