package pci

// Interrupts is all that a function's configuration space says about its interrupts, in one place.
type Interrupts struct {
	INTx *INTx `json:"intx,omitempty"` // nil when the function has no interrupt line
	MSI  *MSI  `json:"msi,omitempty"`  // nil when it has no such capability
	MSIX *MSIX `json:"msix,omitempty"` // nil when it has no such capability

	// LineAsserted means that the function asks for service by its line (PCI_STATUS_INTERRUPT), which nobody hears while
	// LineDisabled (PCI_COMMAND_INTX_DISABLE).
	LineAsserted bool `json:"lineAsserted,omitempty"`
	LineDisabled bool `json:"lineDisabled,omitempty"`

	// Regions are the MSI-X table and the pending bit array: which bytes and pages of which BAR they take.
	Regions []MSIXRegion `json:"regions,omitempty"`

	// Sources are the services of the function that interrupt by a fixed message, in the order of the capabilities.
	Sources []MessageSource `json:"sources,omitempty"`

	// Warnings is what is inconsistent about all this: those of Function.Warnings that are about the interrupt pin, MSI,
	// MSI-X or the lists that lead there, and those that show only when the parts are seen together.
	Warnings []Warning `json:"warnings,omitempty"`
}

// MSIXRegion is a part of a BAR that belongs to MSI-X. A user-space driver keeps its hands off these pages: Linux does
// not always let them be mapped.
type MSIXRegion struct {
	Name   string `json:"name"`   // "table" or "pending bit array"
	BAR    int    `json:"bar"`    // 0 to 5
	Offset uint64 `json:"offset"` // in the BAR
	Length uint64 `json:"length"` // bytes

	// FirstPage and EndPage are the offsets of the first page of 4 KiB and of that after the last. OtherBytes is how many
	// bytes of these pages belong neither to the table nor to the array: registers of the device may be there, which then
	// cannot be mapped apart from MSI-X. The specification advises against it.
	FirstPage  uint64 `json:"firstPage"`
	EndPage    uint64 `json:"endPage"`
	OtherBytes uint64 `json:"otherBytes"`
}

// MessageSource is a service of the function that interrupts by a message which the hardware chose. When MSI is enabled
// with fewer messages than it has, the number may change with that.
type MessageSource struct {
	Service string `json:"service"` // "hot-plug", "error reporting" and so on
	Message int    `json:"message"` // counted from 0
	Enabled bool   `json:"enabled"` // the service's own interrupt enable bit is set
	Offset  int    `json:"offset"`  // of the capability that says so
}

// The sizes of what MSI-X has in memory: PCI_MSIX_ENTRY_SIZE, and a 64-bit word of pending bits for 64 messages.
const (
	msixEntrySize = 16
	pageSize      = 4096
)

// Interrupts draws out what matters to interrupts. It never fails. After SetSizes it also finds an MSI-X table that
// reaches out of its BAR.
func (f *Function) Interrupts() Interrupts {
	r := Interrupts{
		INTx: f.INTx, MSI: f.MSI, MSIX: f.MSIX,
		LineAsserted: StatusRegister(f.Status).Interrupt,
		LineDisabled: f.Command&CommandINTxDisable != 0,
		Sources:      f.messageSources(),
	}
	for _, w := range f.Warnings {
		if f.aboutInterrupts(w.Offset) {
			r.Warnings = append(r.Warnings, w)
		}
	}
	if f.MSIX != nil {
		r.regions(f)
	}
	r.checkEnabled(f)
	r.checkSources()
	return r
}

func (r *Interrupts) warn(offset int, format string, args ...any) {
	r.Warnings = append(r.Warnings, warning(offset, format, args...))
}

// aboutInterrupts reports whether a warning at that offset is of interest: it is at the pin and line, in one of the
// list pointers, behind which MSI may be lost, or in MSI or MSI-X.
func (f *Function) aboutInterrupts(offset int) bool {
	switch offset {
	case offsetInterruptLine, offsetInterruptPin, offsetCapabilities, offsetHeaderType:
		return true
	case offsetCardBusCapabilities:
		return f.HeaderType == HeaderTypeCardBus
	}
	for _, c := range f.Capabilities {
		within := offset >= c.Offset && offset < c.Offset+c.Length
		if offset == c.Offset+1 || within && (c.ID == CapMSI || c.ID == CapMSIX) {
			return true
		}
	}
	return false
}

// regions finds where the table and the pending bit array are, and whether that is a good place.
func (r *Interrupts) regions(f *Function) {
	m := f.MSIX
	table := MSIXRegion{
		Name: "table", BAR: m.Table.BAR, Offset: uint64(m.Table.Offset), Length: uint64(m.Messages) * msixEntrySize,
	}
	pba := MSIXRegion{
		Name: "pending bit array", BAR: m.PBA.BAR, Offset: uint64(m.PBA.Offset), Length: uint64(m.Messages+63) / 64 * 8,
	}
	table.pages(pba, f.bar(table.BAR))
	pba.pages(table, f.bar(pba.BAR))
	r.Regions = []MSIXRegion{table, pba}

	if table.overlap(pba, table.Offset, table.Offset+table.Length) > 0 {
		r.warn(m.Offset+8, "MSI-X pending bit array at 0x%x of BAR %d lies in the table, which ends at 0x%x",
			pba.Offset, pba.BAR, table.Offset+table.Length)
	}
	for i, region := range r.Regions {
		bar := f.bar(region.BAR)
		if bar != nil && bar.Size != 0 && region.Offset+region.Length > bar.Size {
			r.warn(m.Offset+4+4*i, "MSI-X %s ends at 0x%x of BAR %d, which has 0x%x bytes",
				region.Name, region.Offset+region.Length, region.BAR, bar.Size)
		}
	}
}

// pages fills in which pages the region takes and what else is in them, of which other is known.
func (m *MSIXRegion) pages(other MSIXRegion, bar *BAR) {
	m.FirstPage = m.Offset &^ (pageSize - 1)
	m.EndPage = (m.Offset + m.Length + pageSize - 1) &^ (pageSize - 1)
	end := m.EndPage
	if bar != nil && bar.Size != 0 {
		end = min(end, bar.Size)
	}
	taken := m.overlap(*m, m.FirstPage, end) + m.overlap(other, m.FirstPage, end)
	if have := end - min(m.FirstPage, end); have > taken {
		m.OtherBytes = have - taken
	}
}

// overlap is how many bytes of the other region lie from start to end in the BAR of this one.
func (m *MSIXRegion) overlap(other MSIXRegion, start, end uint64) uint64 {
	first, last := max(start, other.Offset), min(end, other.Offset+other.Length)
	if m.BAR != other.BAR || first >= last {
		return 0
	}
	return last - first
}

// checkEnabled warns of what keeps an enabled kind of interrupt from arriving.
func (r *Interrupts) checkEnabled(f *Function) {
	msi, msix := f.MSI != nil && f.MSI.Enabled, f.MSIX != nil && f.MSIX.Enabled
	if (msi || msix) && f.Command&CommandBusMaster == 0 {
		r.warn(offsetCommand, "messages are enabled and bus mastering is off: the function cannot send any")
	}
	// A virtual function, whose vendor id reads 0xffff, is switched on by the physical one.
	if msix && f.Command&CommandMemory == 0 && f.VendorID != 0xffff {
		r.warn(offsetCommand, "MSI-X is enabled and memory space is off: its table cannot be reached")
	}
	if msi && f.MSI.Address == 0 {
		r.warn(f.MSI.Offset+4, "MSI is enabled and has no address: messages go to memory at 0")
	}
}

// checkSources warns of messages that the function does not have. The limit is that of what is enabled, or else the
// most that it could have.
func (r *Interrupts) checkSources() {
	limit := 0
	switch {
	case r.MSIX != nil && r.MSIX.Enabled:
		limit = r.MSIX.Messages
	case r.MSI != nil && r.MSI.Enabled:
		limit = r.MSI.EnabledMessages
	default:
		if r.MSIX != nil {
			limit = r.MSIX.Messages
		}
		if r.MSI != nil {
			limit = max(limit, r.MSI.Messages)
		}
	}
	for _, s := range r.Sources {
		if limit > 0 && s.Message >= limit {
			r.warn(s.Offset, "%s interrupts by message %d, and there are %d, counted from 0", s.Service, s.Message, limit)
		}
	}
}

// messageSources collects the services that interrupt by a message of their own.
func (f *Function) messageSources() []MessageSource {
	var sources []MessageSource
	express := Find[Express](f)
	for _, c := range f.Capabilities {
		if e, ok := c.Decoded.(*Express); ok {
			sources = append(sources, e.sources(c.Offset)...)
		}
	}
	for _, c := range f.ExtendedCapabilities {
		add := func(service string, message int, enabled bool) {
			sources = append(sources, MessageSource{service, message, enabled, c.Offset})
		}
		switch d := c.Decoded.(type) {
		case *AER:
			if d.Root != nil {
				add("error reporting", d.Root.InterruptMessage,
					d.Root.CorrectableInterrupt || d.Root.NonFatalInterrupt || d.Root.FatalInterrupt)
			}
		case *DPC:
			add("downstream port containment", d.InterruptMessage, d.Interrupt)
		case *SRIOV:
			if d.MigrationCapable {
				add("VF migration", d.InterruptMessage, d.MigrationInterrupt)
			}
		case *DataObjectExchange:
			if d.InterruptSupported {
				add("data object exchange", d.InterruptMessage, d.Interrupt)
			}
		case *SecondaryExpress:
			// Downstream ports only: the others ask them for it.
			if express != nil && express.Type.isDownstream() {
				add("link equalization", express.InterruptMessage, d.EqualizationInterrupt)
			}
		case *L1Substates:
			if express != nil && d.LinkActivation {
				add("link activation", express.InterruptMessage, d.LinkActivationInterrupt)
			}
		}
	}
	return sources
}

// sources are the services that interrupt by the message of the PCI Express capability.
func (e *Express) sources(offset int) []MessageSource {
	var sources []MessageSource
	add := func(service string, enabled bool) {
		sources = append(sources, MessageSource{service, e.InterruptMessage, enabled, offset})
	}
	if e.Slot != nil && e.Slot.HotPlugCapable {
		add("hot-plug", e.Slot.HotPlugInterrupt)
	}
	if e.Root != nil {
		add("power management event", e.Root.PMEInterrupt)
	}
	if e.Link != nil && e.Link.BandwidthNotice {
		add("link bandwidth", e.Link.BandwidthInterrupt || e.Link.AutonomousInterrupt)
	}
	if e.Link2 != nil && e.Link2.DRSSupported && e.Type.isDownstream() {
		add("device readiness", e.Link.DRSSignaling == 1)
	}
	return sources
}
