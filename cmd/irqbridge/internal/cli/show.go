package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/irqbridge/irqbridge/connect"
	"github.com/irqbridge/irqbridge/pci"
	"github.com/irqbridge/irqbridge/vfio"
	"github.com/irqbridge/irqbridge/vfio/host"
)

// showJSON is the output of show --json.
type showJSON struct {
	Schema  int               `json:"schema"`
	Devices []shownDeviceJSON `json:"devices"`
}

type shownDeviceJSON struct {
	deviceJSON
	ConfigBytes  int              `json:"configBytes"`
	Command      commandJSON      `json:"command"`
	BARs         []barJSON        `json:"bars"`
	Capabilities []capabilityJSON `json:"capabilities"`
	Warnings     []warningJSON    `json:"warnings"`
	Assignment   *assignmentJSON  `json:"assignment"` // null when it is not known
	// HostInterrupts is where Linux delivers what is enabled through VFIO at this moment, by this or another process.
	HostInterrupts []hostInterruptJSON `json:"hostInterrupts"`
}

type commandJSON struct {
	IO               bool `json:"io"`
	Memory           bool `json:"memory"`
	BusMaster        bool `json:"busMaster"`
	InterruptDisable bool `json:"interruptDisable"`
}

type barJSON struct {
	Index        int    `json:"index"`
	Type         string `json:"type"`
	Prefetchable bool   `json:"prefetchable"`
	Address      string `json:"address"`
}

type capabilityJSON struct {
	ID       string `json:"id"`
	Extended bool   `json:"extended"`
	Version  *uint8 `json:"version,omitempty"` // of extended capabilities
	Offset   int    `json:"offset"`
	Name     string `json:"name"`
}

type warningJSON struct {
	Offset int    `json:"offset"`
	Text   string `json:"text"`
}

type hostInterruptJSON struct {
	Kind              string            `json:"kind"`
	Message           int               `json:"message"`
	HostIRQ           int               `json:"hostIRQ"`
	Trigger           string            `json:"trigger"`
	Chip              string            `json:"chip"`
	Action            string            `json:"action"`
	Affinity          string            `json:"affinity"`
	EffectiveAffinity string            `json:"effectiveAffinity"`
	Counts            map[string]uint64 `json:"counts"`
}

// tableLimit is how many rows of a table a person gets to see: devices may have 2048 messages.
const tableLimit = 8

func (a *app) showCommand() *cobra.Command {
	var (
		asJSON bool
		dump   string
	)
	cmd := &cobra.Command{
		Use:   "show BDF | show --dump FILE",
		Short: "Show a device's capabilities, its interrupt descriptors and the parameters that they map to",
		Long: `show reads sysfs and nothing else: it does not open the device and does not disturb who uses it. The assignment it shows is
what connect would get, since nothing is assigned before. With --dump it reads the text of lspci -xxxx instead ("-" is standard
input), for one or many devices, on any machine.`,
		Example: `  irqbridge show 05:00.0
  lspci -xxxx -s 05:00.0 | irqbridge show --dump -`,
		Args: func(cmd *cobra.Command, args []string) error {
			switch {
			case cmd.Flags().Changed("dump") && len(args) > 0:
				return errors.New("give a device or --dump, not both")
			case !cmd.Flags().Changed("dump") && len(args) != 1:
				return fmt.Errorf("want one device, such as 0000:00:04.0, or --dump FILE; have %d", len(args))
			}
			return nil
		},
		RunE: a.verb(func(_ context.Context, args []string) error {
			if len(args) == 0 {
				return a.showDump(dump, asJSON)
			}
			address, err := parseAddress(args[0])
			if err != nil {
				return err
			}
			return a.showDevice(address, asJSON)
		}),
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	cmd.Flags().StringVar(&dump, "dump", "", "read the output of lspci -xxxx from `FILE`")
	return cmd
}

// shown is a device to be shown.
type shown struct {
	address  pci.Address
	function *pci.Function
	host     *host.Device // nil for a dump
	group    *host.Group  // nil without one
	live     []liveIRQ
	planned  bool
	list     pci.ResourceList // what follows, if planned
	kind     pci.Kind
	cpus     host.CPUSet
}

// liveIRQ is a host interrupt that is enabled through VFIO.
type liveIRQ struct {
	kind     pci.Kind
	message  int
	irq      host.IRQ
	affinity host.Affinity
}

func (a *app) showDevice(address pci.Address, asJSON bool) error {
	d, err := a.host.Device(address)
	if err != nil {
		return explainAbsent(address, err)
	}
	f, err := a.function(address)
	if err != nil {
		return fmt.Errorf("%v: read configuration space: %w", address, err)
	}
	s := shown{address: address, function: f, host: &d}
	if d.Group >= 0 {
		if g, err := a.host.Group(d.Group); err == nil {
			s.group = &g
		}
	}
	if d.VFIO {
		if s.live, err = a.liveIRQs(address, f); err != nil {
			return err
		}
	}
	code, err := a.plan(&s)
	if err != nil {
		return err
	}
	if err := a.printShown([]shown{s}, asJSON); err != nil {
		return err
	}
	if f.Truncated {
		a.note("%v: only %d bytes of configuration space are readable by this user: what stands after them is missing%s",
			address, f.Size, missing(f))
		a.next("sudo irqbridge show %v", address)
		code = exitPartial
	}
	return exit(code)
}

// explainAbsent says where to look when there is no such device.
func explainAbsent(address pci.Address, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return &failure{exitFailed, fmt.Errorf("%v: there is no PCI device at this address", address), "irqbridge list"}
	}
	return err
}

func missing(f *pci.Function) string {
	if hidesInterrupts(f) {
		return ", MSI and MSI-X perhaps among it"
	}
	return ": extended capabilities; interrupts are complete"
}

func (a *app) showDump(file string, asJSON bool) error {
	in := a.stdin
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return err
		}
		defer func() { _ = f.Close() }()
		in = f
	}
	dumps, err := pci.ReadDump(in)
	if err != nil {
		if file == "-" {
			file = "standard input"
		}
		return &failure{exitFailed, fmt.Errorf("%s: %w", file, err), "lspci -xxxx > FILE, as root"}
	}
	code := exitOK
	var devices []shown
	for _, d := range dumps {
		f, err := pci.Decode(d.Config)
		if err != nil {
			a.note("%v: %v", d.Address, err)
			code = exitPartial
			continue
		}
		s := shown{address: d.Address, function: f}
		planCode, err := a.plan(&s)
		if err != nil {
			return err
		}
		code = max(code, planCode)
		devices = append(devices, s)
		if f.Truncated {
			a.note("%v: the dump has %d bytes of configuration space: what stands after them is missing%s", d.Address, f.Size, missing(f))
			code = exitPartial
		}
	}
	if len(devices) == 0 {
		return exit(exitFailed)
	}
	if err := a.printShown(devices, asJSON); err != nil {
		return err
	}
	if code == exitPartial {
		a.next("make the dump as root with lspci -xxxx")
	}
	return exit(code)
}

// plan works out what connect would get. A device whose interrupts make no sense, or are not known, is shown without.
func (a *app) plan(s *shown) (int, error) {
	if hidesInterrupts(s.function) {
		return exitPartial, nil
	}
	var err error
	if s.cpus, err = a.usableCPUs(); err != nil {
		return exitFailed, err
	}
	s.list, s.kind, err = connect.Plan(s.function, connect.Policy{}, s.cpus)
	if err != nil {
		a.note("%v: no assignment: %v", s.address, err)
		return exitPartial, nil
	}
	s.list.BusNumber, s.planned = uint32(s.address.Bus), true
	return exitOK, nil
}

// liveIRQs finds the host interrupts of a device that are enabled through VFIO by any process.
func (a *app) liveIRQs(address pci.Address, f *pci.Function) ([]liveIRQ, error) {
	var live []liveIRQ
	counts := map[pci.Kind]int{}
	if f.INTx != nil {
		counts[pci.KindINTx] = 1
	}
	if f.MSI != nil && f.MSI.Enabled {
		counts[pci.KindMSI] = f.MSI.Messages
	}
	if f.MSIX != nil && f.MSIX.Enabled {
		counts[pci.KindMSIX] = f.MSIX.Messages
	}
	for _, kind := range []pci.Kind{pci.KindINTx, pci.KindMSI, pci.KindMSIX} {
		for m := range counts[kind] {
			irq, err := a.host.FindIRQ(address, kind, m)
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return nil, err
			}
			affinity, err := a.host.Affinity(irq.Number)
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return nil, err
			}
			live = append(live, liveIRQ{kind, m, irq, affinity})
		}
	}
	return live, nil
}

func (a *app) printShown(devices []shown, asJSON bool) error {
	if asJSON {
		result := showJSON{Schema: schema}
		for _, s := range devices {
			result.Devices = append(result.Devices, s.json())
		}
		return a.printJSON(result)
	}
	for i, s := range devices {
		if i > 0 {
			a.printf("\n")
		}
		s.print(a.stdout)
	}
	return nil
}

func (s *shown) json() shownDeviceJSON {
	f := s.function
	j := shownDeviceJSON{
		deviceJSON: newDeviceJSON(s.address, f), ConfigBytes: f.Size,
		Command: commandJSON{
			f.Command&pci.CommandIO != 0, f.Command&pci.CommandMemory != 0, f.Command&pci.CommandBusMaster != 0,
			f.Command&pci.CommandINTxDisable != 0,
		},
		BARs: []barJSON{}, Capabilities: []capabilityJSON{}, Warnings: []warningJSON{}, HostInterrupts: []hostInterruptJSON{},
	}
	if s.planned {
		j.Assignment = newAssignmentJSON(s.list, s.kind)
	}
	if s.host != nil {
		j.hostJSON = newHostJSON(*s.host)
	}
	for _, b := range f.BARs {
		j.BARs = append(j.BARs, barJSON{b.Index, b.Type.String(), b.Prefetchable, fmt.Sprintf("0x%x", b.Address)})
	}
	for _, c := range f.Capabilities {
		j.Capabilities = append(j.Capabilities, capabilityJSON{ID: fmt.Sprintf("0x%02x", uint8(c.ID)), Offset: c.Offset, Name: c.ID.String()})
	}
	for _, c := range f.ExtendedCapabilities {
		j.Capabilities = append(j.Capabilities, capabilityJSON{hex16(uint16(c.ID)), true, &c.Version, c.Offset, c.ID.String()})
	}
	for _, w := range f.Warnings {
		j.Warnings = append(j.Warnings, warningJSON{w.Offset, w.Text})
	}
	for _, l := range s.live {
		j.HostInterrupts = append(j.HostInterrupts, hostInterruptJSON{
			l.kind.String(), l.message, l.irq.Number, l.irq.Trigger, l.irq.Chip, l.irq.Action,
			l.affinity.Set.List(), l.affinity.Effective.List(), countsByCPU(l.irq.Counts),
		})
	}
	return j
}

// countsByCPU makes JSON keys of CPU numbers.
func countsByCPU(counts map[int]uint64) map[string]uint64 {
	m := map[string]uint64{}
	for cpu, n := range counts {
		m[strconv.Itoa(cpu)] = n
	}
	return m
}

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
		why := "nowhere: no interrupt of the device is enabled through VFIO"
		if !s.host.VFIO {
			why += ", and it is not bound to a VFIO driver"
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

// byCPU is counts by CPU for people: "cpu1 100".
func byCPU(counts map[int]uint64) string {
	var cpus []int
	for cpu, n := range counts {
		if n > 0 {
			cpus = append(cpus, cpu)
		}
	}
	if len(cpus) == 0 {
		return "-"
	}
	slices.Sort(cpus)
	var list []string
	for _, cpu := range cpus {
		list = append(list, fmt.Sprintf("cpu%d %d", cpu, counts[cpu]))
	}
	return strings.Join(list, ", ")
}

// kindNames is "INTx, MSI".
func kindNames(kinds []pci.Kind) string {
	var names []string
	for _, k := range kinds {
		names = append(names, vfio.IndexOf(k).String())
	}
	return strings.Join(names, ", ")
}

// interruptsOf is "1 INTx interrupt", "5 MSI-X interrupts".
func interruptsOf(kind pci.Kind, n int) string {
	return plural(n, vfio.IndexOf(kind).String()+" interrupt")
}

func enabled(on bool) string {
	if on {
		return "enabled"
	}
	return "disabled"
}

func onOff(on bool) string {
	if on {
		return "on"
	}
	return "off"
}

func when(condition bool, text string) string {
	if condition {
		return text
	}
	return ""
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// wrap joins words with commas into lines of at most width characters.
func wrap(words []string, width int) []string {
	var lines []string
	line := ""
	for _, word := range words {
		switch {
		case line == "":
			line = word
		case len(line)+2+len(word) > width:
			lines = append(lines, line+",")
			line = word
		default:
			line += ", " + word
		}
	}
	if line != "" {
		lines = append(lines, line)
	}
	return lines
}
