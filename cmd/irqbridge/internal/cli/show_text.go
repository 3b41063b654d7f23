package cli

import (
	"fmt"
	"slices"
	"strings"

	"github.com/irqbridge/irqbridge/pci"
	"github.com/irqbridge/irqbridge/vfio/host"
)

func (s *shown) print(w *output) {
	f := s.function
	w.printf("%v  %04x:%04x  class %v  revision %02x  subsystem %04x:%04x\n",
		s.address, f.VendorID, f.DeviceID, f.Class, f.RevisionID, f.SubsystemVendorID, f.SubsystemID)
	if s.host != nil {
		s.printHost(w)
	}
	w.printf("  command   memory %s, bus master %s, INTx %s\n", onOff(f.Command&pci.CommandMemory != 0),
		onOff(f.Command&pci.CommandBusMaster != 0), enabled(f.Command&pci.CommandINTxDisable == 0))
	var bars []string
	for _, b := range f.BARs {
		bars = append(bars, fmt.Sprintf("%d %v 0x%x", b.Index, b.Type, b.Address))
	}
	if len(bars) > 0 {
		w.printf("  BARs      %s\n", strings.Join(bars, ", "))
	}
	s.printInterrupts(w)
	s.printCapabilities(w)
	for _, warning := range f.Warnings {
		w.printf("  warning   0x%02x: %s\n", warning.Offset, warning.Text)
	}
	s.printAssignment(w)
	if s.host != nil {
		s.printLive(w)
	}
}

func (s *shown) printHost(w *output) {
	driver := "none"
	if s.host.Driver != "" {
		driver = s.host.Driver
	}
	if s.host.VFIO {
		driver += " (VFIO)"
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

func (s *shown) printInterrupts(w *output) {
	f := s.function
	if f.INTx != nil {
		w.printf("  INTx      %s, line %d\n", pinName(f.INTx), f.INTx.Line)
	}
	if m := f.MSI; m != nil {
		w.printf("  MSI       %s%s%s, %s", plural(m.Messages, "message"), when(m.Address64, ", 64-bit address"),
			when(m.Maskable, ", maskable"), enabled(m.Enabled))
		if m.Enabled {
			w.printf(": %d in use, address 0x%x, data 0x%x", m.EnabledMessages, m.Address, m.Data)
		}
		w.printf("\n")
	}
	if m := f.MSIX; m != nil {
		w.printf("  MSI-X     %s, table in BAR %d at 0x%x, pending bits in BAR %d at 0x%x, %s%s\n", plural(m.Messages, "message"),
			m.Table.BAR, m.Table.Offset, m.PBA.BAR, m.PBA.Offset, enabled(m.Enabled), when(m.FunctionMask, ", all masked"))
	}
	switch {
	case hidesInterrupts(f):
		w.printf("  MSI, MSI-X not readable\n")
	case f.INTx == nil && f.MSI == nil && f.MSIX == nil:
		w.printf("  the device has no interrupts\n")
	}
}

func (s *shown) printCapabilities(w *output) {
	f := s.function
	var list []string
	for _, c := range f.Capabilities {
		list = append(list, fmt.Sprintf("[%02x] %v", c.Offset, c.ID))
	}
	for _, c := range f.ExtendedCapabilities {
		list = append(list, fmt.Sprintf("[%03x] %v", c.Offset, c.ID))
	}
	for i, line := range wrap(list, 86) {
		label := ""
		if i == 0 {
			label = "caps"
		}
		w.printf("  %-9s %s\n", label, line)
	}
}

func (s *shown) printAssignment(w *output) {
	if s.kind == 0 {
		return
	}
	w.printf("\nAssignment, planned: connect would get %s on CPUs %s\n", interruptsOf(s.kind, len(s.list.Expand())), s.cpus)
	printDescriptors(w, s.list, "  ", tableLimit)
	w.printf("\nCONNECT_FULLY_SPECIFIED parameters, from the translated descriptors\n")
	printParameters(w, s.list, "  ", tableLimit)
}

func (s *shown) printLive(w *output) {
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
	t.print(w, "  ", tableLimit)
}
