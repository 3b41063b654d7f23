package profile

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"math/bits"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/irqbridge/irqbridge/pci"
)

// FormatVersion is the version of the file format that this package reads.
const FormatVersion = 1

// maxMessages is the largest MSI-X table (PCI Express 4.0, 7.7.2.2: table size is an 11-bit field).
const maxMessages = 2048

// Parse reads a profile. It is strict: an unknown, missing or repeated field, a wrong type, a number that does not fit
// or text after the end is an *Error that tells the line, the column and the field. The file name is only used in
// errors.
func Parse(file string, data []byte) (*Profile, error) {
	root, err := parseTree(file, data)
	if err != nil {
		return nil, err
	}
	r := &reader{file: file, data: data}
	p := r.profile(root)
	if r.err != nil {
		return nil, r.err
	}
	return p, nil
}

// A reader takes typed values from the tree. It keeps the first error and yields zero values after it, so that the code
// below reads as the format does.
type reader struct {
	file      string
	data      []byte
	registers map[string]Register
	err       error
}

func (r *reader) fail(n *node, format string, args ...any) {
	r.failAt(n.offset, n.field, format, args...)
}

func (r *reader) failAt(offset int, field, format string, args ...any) {
	if r.err == nil {
		r.err = newError(r.file, r.data, offset, field, fmt.Sprintf(format, args...))
	}
}

// fields takes an object apart. A name that ends in "?" is optional; any other must be there, and nothing else may be.
// The result has an entry for each field present.
func (r *reader) fields(n *node, names ...string) map[string]*node {
	fields, known := map[string]*node{}, make([]string, len(names))
	for i, name := range names {
		known[i] = strings.TrimSuffix(name, "?")
	}
	members, ok := n.value.([]member)
	if !ok {
		r.fail(n, "wants an object { … }, is %s", kindOf(n))
		return fields
	}
	for _, m := range members {
		if !slices.Contains(known, m.name) {
			r.failAt(m.offset, join(n.field, m.name), "unknown field; known here: %s", strings.Join(known, ", "))
		}
		fields[m.name] = m.value
	}
	for _, name := range names {
		if !strings.HasSuffix(name, "?") && fields[name] == nil {
			r.fail(n, "field %q is missing", name)
		}
	}
	return fields
}

func (r *reader) list(n *node) []*node {
	if n == nil {
		return nil
	}
	list, ok := n.value.([]*node)
	if !ok {
		r.fail(n, "wants a list [ … ], is %s", kindOf(n))
	}
	return list
}

func (r *reader) text(n *node) string {
	if n == nil {
		return ""
	}
	s, ok := n.value.(string)
	if !ok {
		r.fail(n, "wants text, is %s", kindOf(n))
	}
	return s
}

// integer reads a JSON number from low to high.
func (r *reader) integer(n *node, low, high int) int {
	if n == nil {
		return 0
	}
	number, ok := n.value.(json.Number)
	if !ok {
		r.fail(n, "wants a number, is %s", kindOf(n))
		return 0
	}
	i, err := strconv.Atoi(number.String())
	if err != nil || i < low || i > high {
		r.fail(n, "wants a whole number from %d to %d, is %s", low, high, number)
		return 0
	}
	return i
}

// hex reads a string such as "0x64" of at most the given width in bits. Register values are hex because data sheets
// are.
func (r *reader) hex(n *node, width int) uint64 {
	if n == nil {
		return 0
	}
	s, ok := n.value.(string)
	digits, prefixed := strings.CutPrefix(s, "0x")
	v, err := strconv.ParseUint(digits, 16, 64)
	switch {
	case !ok:
		r.fail(n, "wants a hex number in quotation marks such as \"0x64\", is %s", kindOf(n))
		return 0
	case !prefixed || strings.Contains(digits, "_") || (err != nil && !errors.Is(err, strconv.ErrRange)):
		r.fail(n, "wants a hex number such as \"0x64\", is %q", s)
		return 0
	case err != nil || (width > 0 && bits.Len64(v) > width):
		r.fail(n, "%s does not fit in %d bits", s, width)
		return 0
	}
	return v
}

// oneOf reads text that must be one of the given words, and returns its place among them.
func (r *reader) oneOf(n *node, words ...string) int {
	if n == nil {
		return 0
	}
	i := slices.Index(words, r.text(n))
	if i < 0 {
		r.fail(n, "wants one of %s, is %q", strings.Join(words, ", "), r.text(n))
		return 0
	}
	return i
}

func kindOf(n *node) string {
	switch v := n.value.(type) {
	case nil:
		return "null"
	case bool:
		return strconv.FormatBool(v)
	case string:
		return "the text " + strconv.Quote(v)
	case json.Number:
		return "the number " + v.String()
	case []*node:
		return "a list"
	default:
		return "an object"
	}
}

var namePattern = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_.-]*$`)

func (r *reader) profile(n *node) *Profile {
	f := r.fields(n, "profile", "name", "description?", "match", "registers", "interrupts")
	if v := r.integer(f["profile"], 1, 1<<30); r.err == nil && v != FormatVersion {
		r.fail(f["profile"], "this program reads version %d of the format, the file says %d", FormatVersion, v)
	}
	p := &Profile{Name: r.text(f["name"]), Description: r.text(f["description"])}
	if f["name"] != nil && !namePattern.MatchString(p.Name) {
		r.fail(f["name"], "wants a letter, then letters, digits, '_', '.' or '-', is %q", p.Name)
	}
	p.Match = r.match(f["match"])
	p.Registers = r.readRegisters(f["registers"])
	r.registers = p.Registers
	described := map[pci.Kind]bool{}
	for _, item := range r.list(f["interrupts"]) {
		p.Interrupts = append(p.Interrupts, r.interrupts(item, described))
	}
	if r.err == nil && len(p.Interrupts) == 0 {
		r.fail(f["interrupts"], "describes no interrupt")
	}
	return p
}

func (r *reader) match(n *node) []ID {
	var ids []ID
	for _, item := range r.list(n) {
		f := r.fields(item, "vendor", "device")
		ids = append(ids, ID{uint16(r.hex(f["vendor"], 16)), uint16(r.hex(f["device"], 16))})
	}
	if r.err == nil && len(ids) == 0 {
		r.fail(n, "names no device: give at least one {\"vendor\": \"0x…\", \"device\": \"0x…\"}")
	}
	return ids
}

func (r *reader) readRegisters(n *node) map[string]Register {
	registers := map[string]Register{}
	if n == nil {
		return registers
	}
	members, ok := n.value.([]member)
	if !ok {
		r.fail(n, "wants an object { … }, is %s", kindOf(n))
	}
	for _, m := range members {
		if !namePattern.MatchString(m.name) {
			r.failAt(m.offset, m.value.field, "a register's name is a letter, then letters, digits, '_', '.' or '-'")
		}
		f := r.fields(m.value, "bar", "offset", "width")
		reg := Register{BAR: r.integer(f["bar"], 0, 5), Offset: r.hex(f["offset"], 64)}
		reg.Width = 8 << r.widthIndex(f["width"])
		if r.err == nil && reg.Offset%uint64(reg.Width/8) != 0 {
			r.fail(f["offset"], "0x%x is not a multiple of the register's %d bytes", reg.Offset, reg.Width/8)
		}
		registers[m.name] = reg
	}
	return registers
}

// widthIndex reads a width in bits: 0 for 8, 1 for 16, 2 for 32, 3 for 64.
func (r *reader) widthIndex(n *node) int {
	width := r.integer(n, 8, 64)
	i := slices.Index([]int{8, 16, 32, 64}, width)
	if i < 0 {
		if n != nil {
			r.fail(n, "wants 8, 16, 32 or 64 bits, is %d", width)
		}
		return 0
	}
	return i
}

func (r *reader) interrupts(n *node, described map[pci.Kind]bool) Interrupts {
	f := r.fields(n, "kinds", "enable?", "disable?", "messages")
	var i Interrupts
	limit := maxMessages
	for _, item := range r.list(f["kinds"]) {
		kind := []pci.Kind{pci.KindINTx, pci.KindMSI, pci.KindMSIX}[r.oneOf(item, "intx", "msi", "msix")]
		if described[kind] {
			r.fail(item, "%s is described twice", kind)
		}
		described[kind] = true
		i.Kinds = append(i.Kinds, kind)
		limit = min(limit, map[pci.Kind]int{pci.KindINTx: 1, pci.KindMSI: 32, pci.KindMSIX: maxMessages}[kind])
	}
	if r.err == nil && len(i.Kinds) == 0 {
		r.fail(f["kinds"], "names no kind: give \"intx\", \"msi\" or \"msix\"")
	}
	i.Enable, i.Disable = r.steps(f["enable"], nil), r.steps(f["disable"], nil)
	seen := map[int]bool{}
	for _, item := range r.list(f["messages"]) {
		m := r.message(item, limit)
		if seen[m.Message] {
			r.fail(item, "message %d is described twice", m.Message)
		}
		seen[m.Message] = true
		i.Messages = append(i.Messages, m)
	}
	slices.SortFunc(i.Messages, func(a, b Message) int { return cmp.Compare(a.Message, b.Message) })
	if r.err == nil && len(i.Messages) == 0 {
		r.fail(f["messages"], "describes no message")
	}
	return i
}

func (r *reader) message(n *node, limit int) Message {
	f := r.fields(n, "message", "enable?", "disable?", "raise?", "status", "acknowledge")
	m := Message{Message: r.integer(f["message"], 0, limit-1)}
	m.Enable, m.Disable, m.Raise = r.steps(f["enable"], nil), r.steps(f["disable"], nil), r.steps(f["raise"], nil)
	if f["status"] != nil {
		s := r.fields(f["status"], "register", "mask")
		m.Status.Register = r.register(s["register"])
		m.Status.Mask = r.hex(s["mask"], r.registers[m.Status.Register].Width)
		if r.err == nil && m.Status.Mask == 0 {
			r.fail(s["mask"], "a mask of 0 recognises nothing")
		}
	}
	m.Acknowledge = r.steps(f["acknowledge"], &m.Status)
	return m
}

func (r *reader) register(n *node) string {
	name := r.text(n)
	if _, ok := r.registers[name]; !ok && n != nil {
		r.fail(n, "register %q is not in \"registers\"", name)
	}
	return name
}

// steps reads a list of register accesses. status is the status condition that the steps acknowledge, nil elsewhere.
func (r *reader) steps(n *node, status *Status) []Step {
	var steps []Step
	for _, item := range r.list(n) {
		steps = append(steps, r.step(item, status))
	}
	return steps
}

func (r *reader) step(n *node, status *Status) Step {
	f := r.fields(n, "write?", "read?", "set?", "clear?", "value?", "bits?")
	for i, name := range []string{"write", "read", "set", "clear"} {
		if f[name] == nil {
			continue
		}
		s := Step{Action: []Action{Write, Read, Set, Clear}[i], Register: r.register(f[name])}
		operand := []string{"value", "", "bits", "bits"}[i]
		for _, other := range []string{"read", "set", "clear", "value", "bits"} {
			switch {
			case f[other] == nil || other == name || other == operand:
			case other == "value" || other == "bits":
				r.fail(f[other], "does not belong to %q", name)
			default:
				r.fail(n, "wants one of write, read, set and clear, has %q and %q", name, other)
			}
		}
		if operand != "" && f[operand] == nil {
			r.fail(n, "%q wants a field %q", name, operand)
			return s
		}
		width := r.registers[s.Register].Width
		switch v := f["value"]; {
		case s.Action == Write && v.value == "status":
			s.Action = WriteStatus
			if status == nil {
				r.fail(v, "\"status\" is only known in \"acknowledge\"; give a hex number such as \"0x64\"")
			} else if r.err == nil && r.registers[status.Register].Width > width {
				r.fail(v, "the status of %s does not fit in %s (%d bits)", status.Register, s.Register, width)
			}
		case operand != "":
			s.Value = r.hex(f[operand], width)
		}
		// Two dispatchers may acknowledge at once, and a read-modify-write of a write-one-to-clear register clears what
		// it read.
		if status != nil && (s.Action == Set || s.Action == Clear) {
			r.fail(n, "an acknowledgement writes or reads a register; it does not change bits of it")
		}
		return s
	}
	r.fail(n, "wants one of write, read, set and clear")
	return Step{}
}
