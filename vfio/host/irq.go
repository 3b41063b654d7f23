package host

import (
	"bytes"
	"fmt"
	"io/fs"
	"strconv"
	"strings"

	"github.com/irqbridge/irqbridge/pci"
)

// IRQ is one line of /proc/interrupts: a Linux interrupt, and where it was delivered so far.
type IRQ struct {
	Number  int      // the host IRQ number, as in /proc/irq/N
	Trigger string   // "edge" or "level"; "" when the host does not say
	Chip    string   // the irq_chip: "IR-PCI-MSIX-0000:00:05.0", "IR-IO-APIC"
	Action  string   // the handler's name: "vfio-msix[3](0000:00:05.0)"
	Shared  []string // the other handlers on the same line
	// Counts is how often it was delivered since it was requested, by CPU number, for the CPUs that are online. VFIO's
	// loopback trigger is no interrupt and does not count.
	Counts map[int]uint64
}

// FindIRQ returns the host IRQ behind a message of the device at a, while VFIO has it enabled and connected to an eventfd.
// For INTx, message is 0. fs.ErrNotExist when there is none.
func (h *Host) FindIRQ(a pci.Address, kind pci.Kind, message int) (IRQ, error) {
	op := fmt.Sprintf("find the host IRQ of %v message %d", kind, message)
	action := ""
	switch { // the names under which vfio_pci_intrs.c requests them
	case kind == pci.KindINTx && message == 0:
		op = "find the host IRQ of the INTx line"
		action = fmt.Sprintf("vfio-intx(%s)", a)
	case kind == pci.KindMSI && message >= 0:
		action = fmt.Sprintf("vfio-msi[%d](%s)", message, a)
	case kind == pci.KindMSIX && message >= 0:
		action = fmt.Sprintf("vfio-msix[%d](%s)", message, a)
	default:
		return IRQ{}, deviceError(a, op, fs.ErrInvalid, "no device has such a message", "")
	}
	table, err := h.interrupts()
	if err != nil {
		return IRQ{}, deviceError(a, op, err, "", "")
	}
	irq, ok := table.byAction(action)
	if !ok {
		return IRQ{}, deviceError(a, op, fs.ErrNotExist, "/proc/interrupts has no "+action,
			"it is there while the message is enabled with an eventfd")
	}
	if b, err := h.os.ReadFile("/sys/kernel/irq/" + strconv.Itoa(irq.Number) + "/type"); err == nil {
		if t := strings.TrimSpace(string(b)); t == "edge" || t == "level" {
			irq.Trigger = t
		}
	}
	return irq, nil
}

// IRQsInUse returns how many host IRQs have a handler.
func (h *Host) IRQsInUse() (int, error) {
	table, err := h.interrupts()
	if err != nil {
		return 0, &Error{Op: "count the host IRQs", Err: err}
	}
	n := 0
	for line := range bytes.Lines(table.rows) {
		label, _, _ := bytes.Cut(bytes.TrimLeft(line, " "), []byte(":"))
		if _, err := strconv.ParseUint(string(label), 10, 31); err == nil {
			n++
		}
	}
	return n, nil
}

// IRQNumbers returns the host IRQs behind all messages of the device at a that VFIO has enabled and connected to eventfds, by
// message number, 0 for the line. It reads /proc/interrupts once, where FindIRQ does for each.
func (h *Host) IRQNumbers(a pci.Address, kind pci.Kind) (map[int]int, error) {
	if kind == pci.KindINTx {
		irq, err := h.FindIRQ(a, kind, 0)
		if err != nil {
			return nil, err
		}
		return map[int]int{0: irq.Number}, nil
	}
	table, err := h.interrupts()
	if err != nil {
		return nil, deviceError(a, fmt.Sprintf("find the host IRQs of %v", kind), err, "", "")
	}
	return table.numbered(fmt.Sprintf("vfio-%s[", strings.ToLower(kind.String())), fmt.Sprintf("](%s)", a)), nil
}

// IRQCounts returns how often a host IRQ was delivered, by online CPU; fs.ErrNotExist when there is no such IRQ.
func (h *Host) IRQCounts(number int) (map[int]uint64, error) {
	table, err := h.interrupts()
	if err != nil {
		return nil, irqError(number, "read its counts", err, "", "")
	}
	counts, ok := table.byNumber(number)
	if !ok {
		return nil, irqError(number, "read its counts", fs.ErrNotExist, "/proc/interrupts has no such line", "")
	}
	return counts, nil
}

// IRQCountsOf is IRQCounts of several host IRQs, by their numbers, from one reading of /proc/interrupts. Those that are not there
// are left out.
func (h *Host) IRQCountsOf(numbers ...int) (map[int]map[int]uint64, error) {
	table, err := h.interrupts()
	if err != nil {
		return nil, &Error{Subject: "interrupts", Op: "read their counts", Err: err}
	}
	all := make(map[int]map[int]uint64, len(numbers))
	wanted := make(map[string]int, len(numbers))
	for _, n := range numbers {
		wanted[strconv.Itoa(n)] = n
	}
	for line := range bytes.Lines(table.rows) {
		label, rest, _ := bytes.Cut(bytes.TrimLeft(line, " "), []byte(":"))
		if n, ok := wanted[string(label)]; ok {
			if counts, _, ok := table.counts(string(rest)); ok {
				all[n] = counts
			}
		}
	}
	return all, nil
}

// interrupts reads /proc/interrupts.
func (h *Host) interrupts() (interruptTable, error) {
	b, err := h.os.ReadFile("/proc/interrupts")
	if err != nil {
		return interruptTable{}, err
	}
	return newInterruptTable(b), nil
}

// interruptTable is the text of /proc/interrupts (show_interrupts, kernel/irq/proc.c). On a large host it has megabytes, so
// that only the line asked for is taken apart.
type interruptTable struct {
	cpus []int  // the CPU of each column; the offline ones have none
	rows []byte // the lines after the header
}

func newInterruptTable(text []byte) interruptTable {
	header, rows, _ := bytes.Cut(text, []byte("\n"))
	t := interruptTable{rows: rows}
	for field := range bytes.FieldsSeq(header) {
		cpu, err := parseCPU(strings.TrimPrefix(string(field), "CPU"))
		if err != nil {
			return interruptTable{} // not the table that is known: better no answer than a wrong column
		}
		t.cpus = append(t.cpus, cpu)
	}
	return t
}

// byAction returns the interrupt that has a handler of exactly this name.
func (t interruptTable) byAction(action string) (IRQ, bool) {
	for at := 0; ; {
		i := bytes.Index(t.rows[at:], []byte(action))
		if i < 0 {
			return IRQ{}, false
		}
		begin := bytes.LastIndexByte(t.rows[:at+i], '\n') + 1
		end := len(t.rows)
		if n := bytes.IndexByte(t.rows[at+i:], '\n'); n >= 0 {
			end = at + i + n
		}
		if irq, ok := t.parse(string(t.rows[begin:end]), action); ok {
			return irq, true
		}
		at = end
	}
}

// numbered returns the numbers of the interrupts that have a handler named before, a number and after, by that number.
func (t interruptTable) numbered(before, after string) map[int]int {
	found := map[int]int{}
	for line := range bytes.Lines(t.rows) {
		label, rest, _ := bytes.Cut(line, []byte(":"))
		_, name, _ := bytes.Cut(rest, []byte(before))
		digits, _, ok := bytes.Cut(name, []byte(after))
		irq, err := strconv.Atoi(strings.TrimLeft(string(label), " "))
		if !ok || err != nil {
			continue
		}
		if n, err := strconv.ParseUint(string(digits), 10, 16); err == nil {
			found[int(n)] = irq
		}
	}
	return found
}

// byNumber returns the counts of the interrupt with this number.
func (t interruptTable) byNumber(number int) (map[int]uint64, bool) {
	label := []byte(strconv.Itoa(number) + ":")
	for line := range bytes.Lines(t.rows) {
		if rest, ok := bytes.CutPrefix(bytes.TrimLeft(line, " "), label); ok {
			counts, _, ok := t.counts(string(rest))
			return counts, ok
		}
	}
	return nil, false
}

// counts takes the columns off the front of a line, and returns them and the rest.
func (t interruptTable) counts(line string) (map[int]uint64, string, bool) {
	counts := make(map[int]uint64, len(t.cpus))
	for _, cpu := range t.cpus {
		line = strings.TrimLeft(line, " ")
		column, rest, _ := strings.Cut(line, " ")
		n, err := strconv.ParseUint(column, 10, 64)
		if err != nil {
			return nil, "", false
		}
		counts[cpu], line = n, rest
	}
	return counts, line, len(t.cpus) > 0
}

// parse takes one line apart, if it is an interrupt with this handler:
//
//	NUMBER: COUNT… CHIP HWIRQ-FLOW  HANDLER, HANDLER
//	NUMBER: COUNT… CHIP HWIRQ Level  HANDLER, HANDLER
//
// x86 writes the first form; arm64 the second (CONFIG_GENERIC_IRQ_SHOW_LEVEL).
func (t interruptTable) parse(line, action string) (IRQ, bool) {
	label, rest, ok := strings.Cut(line, ":")
	number, err := strconv.ParseUint(strings.TrimLeft(label, " "), 10, 31)
	if !ok || err != nil {
		return IRQ{}, false
	}
	irq := IRQ{Number: int(number), Action: action}
	if irq.Counts, rest, ok = t.counts(rest); !ok {
		return IRQ{}, false
	}
	// The handlers come after two blanks, and none of their names has two: chip and flow are padded with more.
	at := strings.LastIndex(rest, "  ")
	if at < 0 {
		return IRQ{}, false
	}
	found := false
	for name := range strings.SplitSeq(rest[at+2:], ", ") {
		if name == action && !found {
			found = true
		} else {
			irq.Shared = append(irq.Shared, name)
		}
	}
	source := strings.Fields(rest[:at])
	if !found || len(source) == 0 {
		return IRQ{}, false
	}
	flow := source[len(source)-1]
	if last := len(source) - 1; (flow == "Level" || flow == "Edge") && last > 0 {
		source = source[:last]
	}
	irq.Chip = strings.Join(source[:max(len(source)-1, 1)], " ")
	switch flow = strings.ToLower(flow); {
	case strings.Contains(flow, "edge"):
		irq.Trigger = "edge"
	case strings.Contains(flow, "level"), strings.Contains(flow, "fasteoi"):
		irq.Trigger = "level"
	}
	return irq, true
}
