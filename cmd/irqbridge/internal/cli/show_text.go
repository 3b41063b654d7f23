package cli

import (
	"fmt"
	"math/bits"
	"slices"
	"strings"

	"github.com/irqbridge/irqbridge/pci"
	"github.com/irqbridge/irqbridge/vfio/host"
)

// view is how show prints a device for people.
type view struct {
	naming
	depth int // how often -v was given: 1 adds a line for each part, 2 adds every field of every register
}

// The depths of a view.
const (
	depthParts     = 1
	depthRegisters = 2
)

func (v view) rows() int {
	if v.depth >= depthRegisters {
		return 0 // no limit
	}
	return tableLimit
}

// print writes first what the device is and who has it, then its interrupts and what is wrong with them, then the rest
// of its configuration space, and last what connect would make of it.
func (s *shown) print(w *output, v view) {
	f := s.function
	w.printf("%v  %s\n", s.address, v.ids.Describe(f, v.form))
	if subsystem := v.ids.DescribeSubsystem(f, v.form); subsystem != "" {
		w.printf("  subsystem %s\n", subsystem)
	}
	if s.host != nil {
		s.printHost(w)
	}
	interrupts := f.Interrupts()
	s.printHeader(w, v)
	s.printInterrupts(w, &interrupts)
	if v.depth >= depthParts {
		printMessages(w, f, &interrupts)
	}
	for _, warning := range interrupts.Warnings {
		printWarning(w, warning)
	}
	if v.depth >= depthParts {
		s.printParts(w, v)
	} else {
		s.printCapabilities(w)
	}
	for _, warning := range f.Warnings {
		if !slices.Contains(interrupts.Warnings, warning) {
			printWarning(w, warning)
		}
	}
	s.printAssignment(w, v)
	if s.host != nil {
		s.printLive(w, v)
	}
}

func printWarning(w *output, warning pci.Warning) {
	w.printf("  warning   0x%02x: %s\n", warning.Offset, warning.Text)
}

func (s *shown) printHost(w *output) {
	driver := "none"
	if s.host.Driver != "" {
		driver = s.host.Driver
	}
	if s.host.VFIO {
		driver += " (VFIO), backend " + s.backend
	}
	if s.host.PowerState != "" && s.host.PowerState != "unknown" {
		driver += ", power " + s.host.PowerState
	}
	if s.host.NUMANode >= 0 {
		driver += fmt.Sprintf(", NUMA node %d", s.host.NUMANode)
	}
	w.printf("  driver    %s\n", driver)
	if s.group == nil {
		w.printf("  IOMMU     in no group: VFIO cannot take the device\n")
		return
	}
	blockers := s.group.Blockers()
	var others []string
	for _, m := range s.group.Members {
		if m.Address == s.address {
			continue
		}
		text := fmt.Sprintf("%v (%s)", m.Address, driverName(m))
		if slices.ContainsFunc(blockers, func(b host.Device) bool { return b.Address == m.Address }) {
			text = fmt.Sprintf("%v (%s, in the way)", m.Address, m.Driver)
		}
		others = append(others, text)
	}
	with := "alone"
	if len(others) > 0 {
		with = "with " + strings.Join(others, ", ")
	}
	w.printf("  IOMMU     group %d, %s\n", s.group.ID, with)
}

// printHeader prints what the header says beside the interrupts.
func (s *shown) printHeader(w *output, v view) {
	f := s.function
	w.printf("  command   memory %s, bus master %s, INTx %s\n", onOff(f.Command&pci.CommandMemory != 0),
		onOff(f.Command&pci.CommandBusMaster != 0), enabled(f.Command&pci.CommandINTxDisable == 0))
	if v.depth >= depthRegisters {
		printRegisters(w, "              ", "command", f.Command.Bits())
		printRegisters(w, "              ", "status", pci.StatusRegister(f.Status))
		printRegisters(w, "              ", "header", newHeaderJSON(f))
	}
	if v.depth >= depthParts {
		for _, b := range f.BARs {
			w.printf("  BAR %d     %s%s\n", b.Index, describeBAR(b), when(b.Prefetchable, ", prefetchable"))
		}
	} else {
		var bars []string
		for _, b := range f.BARs {
			bars = append(bars, fmt.Sprintf("%d %s", b.Index, describeBAR(b)))
		}
		for i, line := range wrap(bars, 86) {
			w.printf("  %-9s %s\n", when(i == 0, "BARs"), line)
		}
	}
	if v.depth < depthParts {
		return
	}
	if f.ROM != nil {
		w.printf("  ROM       %v%s, %s\n", f.ROM.Address, describeSize(f.ROM.Size), enabled(f.ROM.Enabled))
	}
	if b := f.Bridge; b != nil {
		w.printf("  bridge    from bus %02x to %02x, and %02x the last below\n", b.PrimaryBus, b.SecondaryBus, b.SubordinateBus)
		for _, passed := range []struct {
			name   string
			window pci.Window
		}{{"I/O", b.IO}, {"memory", b.Memory}, {"prefetchable memory", b.Prefetchable}} {
			w.printf("            %s %s\n", passed.name, describeWindow(passed.window))
		}
		if v.depth >= depthRegisters {
			printRegisters(w, "              ", "bridge", b)
			printRegisters(w, "              ", "bridge.secondaryStatus", pci.StatusRegister(uint16(b.SecondaryStatus)))
		}
	}
	if c := f.CardBus; c != nil {
		w.printf("  CardBus   from bus %02x to %02x, and %02x the last below\n", c.PrimaryBus, c.CardBus, c.SubordinateBus)
		if v.depth >= depthRegisters {
			printRegisters(w, "              ", "cardBus", c)
			printRegisters(w, "              ", "cardBus.secondaryStatus", pci.StatusRegister(uint16(c.SecondaryStatus)))
		}
	}
}

func describeBAR(b pci.BAR) string {
	return fmt.Sprintf("%v 0x%x%s", b.Type, b.Address, describeSize(b.Size))
}

// describeSize is " (128 KiB)", nothing when the size is not known.
func describeSize(size uint64) string {
	units := [...]string{"bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"}
	if size == 0 {
		return ""
	}
	unit := min(bits.TrailingZeros64(size)/10, len(units)-1)
	return fmt.Sprintf(" (%d %s)", size>>(10*unit), units[unit])
}

func describeWindow(w pci.Window) string {
	if !w.Open {
		return "closed"
	}
	return fmt.Sprintf("%v-%v, %d bits", w.Base, w.Limit, w.Bits)
}

func (s *shown) printInterrupts(w *output, r *pci.Interrupts) {
	if r.INTx != nil {
		w.printf("  INTx      %s, line %d", pinName(r.INTx), r.INTx.Line)
		switch {
		case r.LineAsserted && r.LineDisabled:
			w.printf(", pending, but disabled")
		case r.LineAsserted:
			w.printf(", asserted")
		}
		w.printf("\n")
	}
	if m := r.MSI; m != nil {
		w.printf("  MSI       %s%s%s, %s", plural(m.Messages, "message"), when(m.Address64, ", 64-bit address"),
			when(m.Maskable, ", maskable"), enabled(m.Enabled))
		if m.Enabled {
			w.printf(": %d in use, address 0x%x, data 0x%x", m.EnabledMessages, m.Address, m.Data)
		}
		if m.Mask != 0 || m.Pending != 0 {
			w.printf(", masked 0x%x, pending 0x%x", m.Mask, m.Pending)
		}
		w.printf("\n")
	}
	if m := r.MSIX; m != nil {
		w.printf("  MSI-X     %s, table in BAR %d at 0x%x, pending bits in BAR %d at 0x%x, %s%s\n", plural(m.Messages, "message"),
			m.Table.BAR, m.Table.Offset, m.PBA.BAR, m.PBA.Offset, enabled(m.Enabled), when(m.FunctionMask, ", all masked"))
	}
	switch {
	case hidesInterrupts(s.function):
		w.printf("  MSI, MSI-X not readable\n")
	case r.INTx == nil && r.MSI == nil && r.MSIX == nil:
		w.printf("  the device has no interrupts\n")
	}
}

// printMessages prints where MSI-X lies and what the hardware gave a message of its own.
func printMessages(w *output, f *pci.Function, r *pci.Interrupts) {
	for _, region := range r.Regions {
		w.printf("            BAR %d 0x%x-0x%x %s", region.BAR, region.Offset, region.Offset+region.Length-1, region.Name)
		if region.OtherBytes > 0 {
			w.printf("; pages 0x%x-0x%x have 0x%x other bytes", region.FirstPage, region.EndPage-1, region.OtherBytes)
		}
		w.printf("\n")
	}
	for _, source := range r.Sources {
		w.printf("  message %-2d%s, %s, says %s\n", source.Message, source.Service, enabled(source.Enabled), capabilityAt(f, source.Offset))
	}
}

// capabilityAt names the capability at an offset.
func capabilityAt(f *pci.Function, offset int) string {
	for _, c := range f.Capabilities {
		if c.Offset == offset {
			return fmt.Sprintf("[%02x] %v", offset, c.ID)
		}
	}
	for _, c := range f.ExtendedCapabilities {
		if c.Offset == offset {
			return fmt.Sprintf("[%03x] %v", offset, c.ID)
		}
	}
	return fmt.Sprintf("[%02x]", offset)
}

// printCapabilities names the capabilities.
func (s *shown) printCapabilities(w *output) {
	f := s.function
	var list []string
	for _, c := range f.Capabilities {
		list = append(list, capabilityAt(f, c.Offset))
	}
	for _, c := range f.ExtendedCapabilities {
		list = append(list, capabilityAt(f, c.Offset))
	}
	for i, line := range wrap(list, 86) {
		w.printf("  %-9s %s\n", when(i == 0, "caps"), line)
	}
}

// printParts prints a line for each capability, and in the greatest depth all that it says.
func (s *shown) printParts(w *output, v view) {
	f := s.function
	if len(f.Capabilities)+len(f.ExtendedCapabilities) > 0 {
		w.printf("\nCapabilities\n")
	}
	for _, c := range f.Capabilities {
		w.printf("  [%02x]  %v, %s\n", c.Offset, c.ID, plural(c.Length, "byte"))
		printCapability(w, v, c.Offset, c.Decoded, c.Raw)
	}
	for _, c := range f.ExtendedCapabilities {
		w.printf("  [%03x] %v, version %d, %s\n", c.Offset, c.ID, c.Version, plural(c.Length, "byte"))
		printCapability(w, v, c.Offset, c.Decoded, c.Raw)
	}
}

func printCapability(w *output, v view, offset int, decoded any, raw []byte) {
	const indent = "        "
	switch {
	case v.depth < depthRegisters:
	case decoded != nil:
		printRegisters(w, indent, "", decoded)
	default:
		for start := 0; start < len(raw); start += 16 {
			w.printf("%s%03x: % x\n", indent, offset+start, raw[start:min(start+16, len(raw))])
		}
	}
}

func (s *shown) printAssignment(w *output, v view) {
	if s.kind == 0 {
		return
	}
	w.printf("\nAssignment, planned: connect would get %s on CPUs %s\n", interruptsOf(s.kind, len(s.list.Expand())), s.cpus)
	printDescriptors(w, s.list, "  ", v.rows())
	w.printf("\nCONNECT_FULLY_SPECIFIED parameters, from the translated descriptors\n")
	printParameters(w, s.list, "  ", v.rows())
}

func (s *shown) printLive(w *output, v view) {
	w.printf("\nWhere the host delivers\n")
	if len(s.live) == 0 {
		why := fmt.Sprintf("not known: the interrupts are those of driver %s; only what is enabled through VFIO is looked up", s.host.Driver)
		switch {
		case s.host.VFIO:
			why = "nowhere: no interrupt of the device is enabled through VFIO"
		case s.host.Driver == "":
			why = "nowhere: the device has no driver"
		}
		w.printf("  %s\n", why)
		return
	}
	t := newTable("KIND", ">MSG", ">HOST IRQ", "TRIGGER", "CHIP", "AFFINITY", "EFFECTIVE", "DELIVERED")
	for _, l := range s.live {
		t.add(l.kind, l.message, l.irq.Number, l.irq.Trigger, l.irq.Chip, orDash(l.affinity.Set), orDash(l.affinity.Effective), byCPU(l.irq.Counts))
	}
	t.print(w, "  ", v.rows())
}
