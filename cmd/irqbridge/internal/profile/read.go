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
	"time"

	"github.com/irqbridge/irqbridge/pci"
)

// FormatVersion is the version of the file format that this package reads.
const FormatVersion = 1

// maxMessages is the largest MSI-X table (PCI Express 4.0, 7.7.2.2: table size is an 11-bit field).
const maxMessages = 2048

// The bounds of what a profile may say of time.
const (
	maxWait = time.Minute // a device that takes longer is not waited for but broken
	maxRate = 1e9         // interrupts a second
)

// Parse reads a profile. It is strict: an unknown, missing or repeated field, a wrong type, a number that does not fit
// or text after the end is an *Error that tells the line, the column and the field. Of several it returns the first;
// Check returns all. The file name is only used in errors.
func Parse(file string, data []byte) (*Profile, error) {
	p, mistakes := read(file, data)
	if len(mistakes) > 0 {
		return nil, mistakes[0]
	}
	return p, nil
}

// Check reads a profile as Parse does, and returns every mistake in it, by place. A mistake in JSON's syntax hides what
// follows.
func Check(file string, data []byte) (*Profile, []*Error) {
	p, mistakes := read(file, data)
	if len(mistakes) == 0 {
		return p, nil
	}
	slices.SortStableFunc(mistakes, func(a, b *Error) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	return nil, mistakes
}

func read(file string, data []byte) (*Profile, []*Error) {
	root, repeated, err := parseTree(file, data)
	if err != nil {
		return nil, []*Error{err}
	}
	r := &reader{file: file, data: data, mistakes: repeated}
	p := r.profile(root)
	return p, r.mistakes
}

// A reader takes typed values from the tree. It collects the mistakes and goes on with zero values, so that the code
// below reads as the format does. What was read wrongly is not judged further: a mistake is told once.
type reader struct {
	file      string
	data      []byte
	registers map[string]Register // of width 0 where the file has it wrong
	mistakes  []*Error
}

func (r *reader) fail(n *node, format string, args ...any) {
	r.failAt(n.offset, n.field, format, args...)
}

func (r *reader) failAt(offset int, field, format string, args ...any) {
	r.mistakes = append(r.mistakes, newError(r.file, r.data, offset, field, fmt.Sprintf(format, args...)))
}

// fields takes an object apart. A name that ends in "?" is optional; any other must be there, and nothing else may be.
// The result has an entry for each field present.
func (r *reader) fields(n *node, names ...string) map[string]*node {
	fields, known, unknown := map[string]*node{}, make([]string, len(names)), []string(nil)
	for i, name := range names {
		known[i] = strings.TrimSuffix(name, "?")
	}
	for _, m := range r.members(n) {
		if slices.Contains(known, m.name) {
			fields[m.name] = m.value
			continue
		}
		r.failAt(m.offset, join(n.field, m.name), "unknown field; known here: %s", strings.Join(known, ", "))
		unknown = append(unknown, m.name)
	}
	if _, ok := n.value.([]member); !ok {
		return fields
	}
	for _, name := range names {
		// One that is there under a name much like it is misspelt, which was told.
		if !strings.HasSuffix(name, "?") && fields[name] == nil && len(Near(name, unknown)) == 0 {
			r.fail(n, "field %q is missing", name)
		}
	}
	return fields
}

// members are the names and values of an object, in file order.
func (r *reader) members(n *node) []member {
	if n == nil {
		return nil
	}
	members, ok := n.value.([]member)
	if !ok {
		r.fail(n, "wants an object { … }, is %s", kindOf(n))
	}
	return members
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

func (r *reader) text(n *node) (string, bool) {
	if n == nil {
		return "", false
	}
	s, ok := n.value.(string)
	if !ok {
		r.fail(n, "wants text, is %s", kindOf(n))
	}
	return s, ok
}

// line reads text for people, which is one line.
func (r *reader) line(n *node) string {
	s, _ := r.text(n)
	return s
}

// integer reads a JSON number from low to high.
func (r *reader) integer(n *node, low, high int) (int, bool) {
	if n == nil {
		return 0, false
	}
	number, ok := n.value.(json.Number)
	if !ok {
		r.fail(n, "wants a number, is %s", kindOf(n))
		return 0, false
	}
	i, err := strconv.Atoi(number.String())
	if err != nil || i < low || i > high {
		r.fail(n, "wants a whole number from %d to %d, is %s", low, high, number)
		return 0, false
	}
	return i, true
}

// hex reads a string such as "0x64" of at most the given width in bits; a width of 0 is not known. Register values are hex
// because data sheets are.
func (r *reader) hex(n *node, width int) (uint64, bool) {
	if n == nil {
		return 0, false
	}
	s, ok := n.value.(string)
	if !ok {
		r.fail(n, "wants a hex number in quotation marks such as \"0x64\", is %s", kindOf(n))
		return 0, false
	}
	v, err := parseHex(s)
	switch {
	case err != nil && !errors.Is(err, strconv.ErrRange):
		r.fail(n, "wants a hex number such as \"0x64\", is %q", s)
		return 0, false
	case err != nil || width > 0 && bits.Len64(v) > width:
		r.fail(n, "%s does not fit in %d bits", s, cmp.Or(width, 64))
		return 0, false
	}
	return v, true
}

// parseHex reads a number such as "0x64".
func parseHex(s string) (uint64, error) {
	digits, prefixed := strings.CutPrefix(s, "0x")
	if !prefixed || strings.Contains(digits, "_") {
		return 0, strconv.ErrSyntax
	}
	return strconv.ParseUint(digits, 16, 64)
}

// oneOf reads text that must be one of the given words, and returns its place among them.
func (r *reader) oneOf(n *node, words ...string) (int, bool) {
	s, ok := r.text(n)
	if !ok {
		return 0, false
	}
	i := slices.Index(words, s)
	if i < 0 {
		r.fail(n, "wants one of %s, is %q", strings.Join(words, ", "), s)
		return 0, false
	}
	return i, true
}

// duration reads a time such as "500ms" of at most limit.
func (r *reader) duration(n *node, limit time.Duration) time.Duration {
	s, ok := r.text(n)
	if !ok {
		return 0
	}
	d, err := time.ParseDuration(s)
	if err != nil || d <= 0 || d > limit {
		r.fail(n, "wants a time of more than 0 and at most %v, such as \"500ms\" or \"2s\", is %q", limit, s)
		return 0
	}
	return d
}

// number reads a JSON number, a fraction or not, from low to high.
func (r *reader) number(n *node, low, high float64) float64 {
	if n == nil {
		return 0
	}
	number, ok := n.value.(json.Number)
	if !ok {
		r.fail(n, "wants a number, is %s", kindOf(n))
		return 0
	}
	f, err := number.Float64()
	if err != nil || f < low || f > high {
		r.fail(n, "wants a number from %s to %s, is %s", decimal(low), decimal(high), number)
		return 0
	}
	return f
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

// The name of a field of a register has no point, which is what stands between the register's name and its own.
var fieldPattern = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_-]*$`)

func (r *reader) profile(n *node) *Profile {
	f := r.fields(n, "profile", "name", "description?", "match", "registers", "interrupts?", "unraisable?")
	if v, ok := r.integer(f["profile"], 1, 1<<30); ok && v != FormatVersion {
		r.fail(f["profile"], "this program reads version %d of the format, the file says %d", FormatVersion, v)
	}
	p := &Profile{Description: r.line(f["description"]), Unraisable: r.line(f["unraisable"])}
	var ok bool
	if p.Name, ok = r.text(f["name"]); ok && !namePattern.MatchString(p.Name) {
		r.fail(f["name"], "wants a letter, then letters, digits, '_', '.' or '-', is %q", p.Name)
	}
	p.Match = r.match(f["match"])
	p.Registers = r.readRegisters(f["registers"])
	r.registers = p.Registers
	described := map[pci.Kind]bool{}
	for _, item := range r.list(f["interrupts"]) {
		p.Interrupts = append(p.Interrupts, r.interrupts(item, described))
	}
	if isEmpty(f["interrupts"]) {
		r.fail(f["interrupts"], "describes no interrupt: leave it out of a profile that is for registers only")
	}
	return p
}

// isEmpty tells whether a node is the empty list.
func isEmpty(n *node) bool {
	if n == nil {
		return false
	}
	list, ok := n.value.([]*node)
	return ok && len(list) == 0
}

func (r *reader) match(n *node) []ID {
	var ids []ID
	for _, item := range r.list(n) {
		f := r.fields(item, "vendor", "device")
		vendor, _ := r.hex(f["vendor"], 16)
		device, _ := r.hex(f["device"], 16)
		ids = append(ids, ID{uint16(vendor), uint16(device)})
	}
	if isEmpty(n) {
		r.fail(n, "names no device: give at least one {\"vendor\": \"0x…\", \"device\": \"0x…\"}")
	}
	return ids
}

func (r *reader) readRegisters(n *node) map[string]Register {
	registers := map[string]Register{}
	for _, m := range r.members(n) {
		if !namePattern.MatchString(m.name) {
			r.failAt(m.offset, m.value.field, "a register's name is a letter, then letters, digits, '_', '.' or '-'")
		}
		registers[m.name] = r.readRegister(m.value)
	}
	return registers
}

func (r *reader) readRegister(n *node) Register {
	f := r.fields(n, "bar", "offset", "width", "access?", "description?", "fields?")
	reg := Register{Access: r.access(f["access"], ReadWrite), Description: r.line(f["description"])}
	reg.BAR, _ = r.integer(f["bar"], 0, 5)
	reg.Width = r.width(f["width"])
	var ok bool
	if reg.Offset, ok = r.hex(f["offset"], 64); ok && reg.Width > 0 && reg.Offset%uint64(reg.Width/8) != 0 {
		r.fail(f["offset"], "0x%x is not a multiple of the register's %d bytes", reg.Offset, reg.Width/8)
	}
	var taken uint64
	for _, m := range r.members(f["fields"]) {
		if !fieldPattern.MatchString(m.name) {
			r.failAt(m.offset, m.value.field, "a field's name is a letter, then letters, digits, '_' or '-'")
		}
		field, ok := r.registerField(m, reg)
		if !ok {
			continue
		}
		if taken&field.Mask() != 0 {
			i := slices.IndexFunc(reg.Fields, func(other Field) bool { return other.Mask()&field.Mask() != 0 })
			r.fail(m.value, "its bits %s are those of field %s (%s), too", field.Bits(), reg.Fields[i].Name, reg.Fields[i].Bits())
		}
		taken |= field.Mask()
		reg.Fields = append(reg.Fields, field)
	}
	slices.SortStableFunc(reg.Fields, func(a, b Field) int { return cmp.Compare(a.Low, b.Low) })
	return reg
}

// width reads a width in bits; it is 0 when it is wrong.
func (r *reader) width(n *node) int {
	width, ok := r.integer(n, 8, 64)
	if ok && !slices.Contains([]int{8, 16, 32, 64}, width) {
		r.fail(n, "wants 8, 16, 32 or 64 bits, is %d", width)
		return 0
	}
	return width
}

func (r *reader) access(n *node, otherwise Access) Access {
	if i, ok := r.oneOf(n, accessNames...); ok {
		return Access(i)
	}
	return otherwise
}

// registerField reads a field of a register; ok is false when its bits are not known.
func (r *reader) registerField(m member, reg Register) (field Field, ok bool) {
	f := r.fields(m.value, "bits", "access?", "description?", "values?")
	field = Field{Name: m.name, Access: r.access(f["access"], reg.Access), Description: r.line(f["description"])}
	field.High, field.Low, ok = r.bits(f["bits"], reg.Width)
	named := map[uint64]string{}
	for _, v := range r.members(f["values"]) {
		name, isText := r.text(v.value)
		value, err := parseHex(v.name)
		switch {
		case err != nil:
			r.failAt(v.offset, v.value.field, "wants a hex number such as \"0x1\" for a name")
		case ok && bits.Len64(value) > field.Width():
			r.failAt(v.offset, v.value.field, "0x%x does not fit in the field's %s", value, count(field.Width(), "bit"))
		case named[value] != "":
			r.failAt(v.offset, v.value.field, "0x%x has a name already, %q", value, named[value])
		case isText && name == "":
			r.fail(v.value, "wants a name, is empty")
		case isText:
			named[value] = name
			field.Values = append(field.Values, Value{value, name})
		}
	}
	slices.SortFunc(field.Values, func(a, b Value) int { return cmp.Compare(a.Value, b.Value) })
	return field, ok
}

func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

var bitsPattern = regexp.MustCompile(`^(\d{1,2})(?::(\d{1,2}))?$`)

// bits reads the place of a field, "7:4" or "3", in a register of that width; a width of 0 is not known.
func (r *reader) bits(n *node, width int) (high, low int, ok bool) {
	s, ok := r.text(n)
	if !ok {
		return 0, 0, false
	}
	match := bitsPattern.FindStringSubmatch(s)
	if match == nil {
		r.fail(n, "wants a bit such as \"3\", or bits such as \"7:4\", is %q", s)
		return 0, 0, false
	}
	high, _ = strconv.Atoi(match[1])
	if low = high; match[2] != "" {
		low, _ = strconv.Atoi(match[2])
	}
	switch width = cmp.Or(width, 64); {
	case high < low:
		r.fail(n, "wants the higher bit first, such as \"%d:%d\", is %q", low, high, s)
		return 0, 0, false
	case high >= width:
		r.fail(n, "the register has bits 0 to %d, not %d", width-1, high)
		return 0, 0, false
	}
	return high, low, true
}

func (r *reader) interrupts(n *node, described map[pci.Kind]bool) Interrupts {
	f := r.fields(n, "kinds", "enable?", "disable?", "messages")
	var i Interrupts
	limit := maxMessages
	for _, item := range r.list(f["kinds"]) {
		word, ok := r.oneOf(item, "intx", "msi", "msix")
		if !ok {
			continue
		}
		kind := []pci.Kind{pci.KindINTx, pci.KindMSI, pci.KindMSIX}[word]
		if described[kind] {
			r.fail(item, "%s is described twice", kind)
		}
		described[kind] = true
		i.Kinds = append(i.Kinds, kind)
		limit = min(limit, map[pci.Kind]int{pci.KindINTx: 1, pci.KindMSI: 32, pci.KindMSIX: maxMessages}[kind])
	}
	if isEmpty(f["kinds"]) {
		r.fail(f["kinds"], "names no kind: give \"intx\", \"msi\" or \"msix\"")
	}
	i.Enable, i.Disable = r.steps(f["enable"], nil), r.steps(f["disable"], nil)
	seen := map[int]bool{}
	for _, item := range r.list(f["messages"]) {
		m, numbered := r.message(item, limit)
		if numbered && seen[m.Message] {
			r.fail(item, "message %d is described twice", m.Message)
		}
		seen[m.Message] = seen[m.Message] || numbered
		i.Messages = append(i.Messages, m)
	}
	slices.SortFunc(i.Messages, func(a, b Message) int { return cmp.Compare(a.Message, b.Message) })
	if isEmpty(f["messages"]) {
		r.fail(f["messages"], "describes no message")
	}
	return i
}

// message reads a message; numbered tells whether its number is known.
func (r *reader) message(n *node, limit int) (m Message, numbered bool) {
	f := r.fields(n, "message", "enable?", "disable?", "raise?", "status", "acknowledge", "causes?", "rate?")
	m.Message, numbered = r.integer(f["message"], 0, limit-1)
	m.Enable, m.Disable, m.Raise = r.steps(f["enable"], nil), r.steps(f["disable"], nil), r.steps(f["raise"], nil)
	if f["status"] != nil {
		s := r.fields(f["status"], "register", "mask")
		m.Status.Register = r.register(s["register"])
		reg := r.registers[m.Status.Register]
		if reg.Access == WriteOnly {
			r.fail(s["register"], "%s is write only, and tells nothing when it is read", m.Status.Register)
		}
		m.Status.Mask = r.mask(s["mask"], reg.Width)
	}
	m.Acknowledge = r.steps(f["acknowledge"], &m.Status)
	named := map[string]bool{}
	for _, item := range r.list(f["causes"]) {
		m.Causes = append(m.Causes, r.cause(item, m.Status, named))
	}
	m.Rate = r.rate(f["rate"])
	return m, numbered
}

// mask reads a mask of bits to look at; it is 0 when it is wrong.
func (r *reader) mask(n *node, width int) uint64 {
	mask, ok := r.hex(n, width)
	if ok && mask == 0 {
		r.fail(n, "a mask of 0 recognises nothing")
	}
	return mask
}

func (r *reader) cause(n *node, status Status, named map[string]bool) Cause {
	f := r.fields(n, "name", "mask", "description?", "raise?", "rate?")
	c := Cause{Description: r.line(f["description"]), Rate: r.rate(f["rate"])}
	var ok bool
	switch c.Name, ok = r.text(f["name"]); {
	case !ok:
	case !namePattern.MatchString(c.Name):
		r.fail(f["name"], "wants a letter, then letters, digits, '_', '.' or '-', is %q", c.Name)
	case named[c.Name]:
		r.fail(f["name"], "the message has a cause %s already", c.Name)
	}
	named[c.Name] = true
	c.Mask = r.mask(f["mask"], r.registers[status.Register].Width)
	if status.Mask != 0 && c.Mask&^status.Mask != 0 {
		r.fail(f["mask"], "0x%x has bits that the mask of \"status\", 0x%x, has not", c.Mask, status.Mask)
	}
	c.Raise = r.steps(f["raise"], nil)
	return c
}

func (r *reader) rate(n *node) *Rate {
	if n == nil {
		return nil
	}
	f := r.fields(n, "perSecond", "tolerance")
	return &Rate{r.number(f["perSecond"], 0, maxRate), r.number(f["tolerance"], 0, 100)}
}

func (r *reader) register(n *node) string {
	name, ok := r.text(n)
	if _, known := r.registers[name]; !known && ok {
		text := fmt.Sprintf("register %q is not in \"registers\"", name)
		if near := Near(name, (&Profile{Registers: r.registers}).Names()); len(near) > 0 {
			text += "; did you mean " + strings.Join(near, " or ") + "?"
		}
		r.fail(n, "%s", text)
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

// stepForms are the steps by the field that names the register, with the other fields that each wants.
var stepForms = []struct {
	name     string
	action   Action
	operands []string
}{
	{"write", Write, []string{"value"}},
	{"read", Read, nil},
	{"set", Set, []string{"bits"}},
	{"clear", Clear, []string{"bits"}},
	{"modify", Modify, []string{"mask", "value"}},
	{"wait", Wait, []string{"mask", "value", "within"}},
}

const wantsOneStep = "wants one of write, read, set, clear, modify and wait"

func (r *reader) step(n *node, status *Status) Step {
	f := r.fields(n, "write?", "read?", "set?", "clear?", "modify?", "wait?", "value?", "bits?", "mask?", "within?")
	for _, form := range stepForms {
		if f[form.name] == nil {
			continue
		}
		for _, other := range stepForms {
			if f[other.name] != nil && other.name != form.name {
				r.fail(n, "%s, has %q and %q", wantsOneStep, form.name, other.name)
				return Step{}
			}
		}
		for _, operand := range []string{"value", "bits", "mask", "within"} {
			switch wanted := slices.Contains(form.operands, operand); {
			case wanted && f[operand] == nil:
				r.fail(n, "%q wants a field %q", form.name, operand)
			case !wanted && f[operand] != nil:
				r.fail(f[operand], "does not belong to %q", form.name)
			}
		}
		s := Step{Action: form.action, Register: r.register(f[form.name])}
		r.allowed(f[form.name], s.Action, s.Register)
		// Two dispatchers may acknowledge at once, and a read-modify-write of a write-one-to-clear register clears what
		// it read; and a service routine does not wait.
		if status != nil && s.Action != Write && s.Action != Read {
			r.fail(n, "an acknowledgement writes or reads a register; it does not change bits of it, nor wait")
		}
		r.operands(&s, f, status)
		return s
	}
	if n.isObject() {
		r.fail(n, wantsOneStep)
	}
	return Step{}
}

func (n *node) isObject() bool {
	_, ok := n.value.([]member)
	return ok
}

// allowed refuses an action that the register's access does not let do what it says.
func (r *reader) allowed(n *node, action Action, name string) {
	reg := r.registers[name]
	switch changes := action == Set || action == Clear || action == Modify; {
	case (action == Write || changes) && reg.Access == ReadOnly:
		r.fail(n, "%s is read only", name)
	case (action == Read || action == Wait) && reg.Access == WriteOnly:
		r.fail(n, "%s is write only, and tells nothing when it is read", name)
	case changes && reg.Access == WriteOnly:
		r.fail(n, "%s is write only, so its bits cannot be changed one by one: write it", name)
	case changes && reg.Access == WriteOneToClear:
		r.fail(n, "%s is cleared by writing 1, so its bits cannot be changed one by one: write it", name)
	case (changes || action == Wait) && reg.Access == ReadClears:
		r.fail(n, "%s is cleared by reading, which changes what is in it", name)
	}
}

// operands reads what a step has beside its register.
func (r *reader) operands(s *Step, f map[string]*node, status *Status) {
	width := r.registers[s.Register].Width
	v := f["value"]
	switch s.Action {
	case Write:
		if v != nil && v.value == "status" {
			s.Action = WriteStatus
			if status == nil {
				r.fail(v, "\"status\" is only known in \"acknowledge\"; give a hex number such as \"0x64\"")
			} else if width > 0 && r.registers[status.Register].Width > width {
				r.fail(v, "the status of %s does not fit in %s (%d bits)", status.Register, s.Register, width)
			}
			return
		}
		s.Value, _ = r.hex(v, width)
	case Set, Clear:
		s.Value, _ = r.hex(f["bits"], width)
	case Modify, Wait:
		s.Mask = r.mask(f["mask"], width)
		value, ok := r.hex(v, width)
		if s.Value = value; ok && s.Mask != 0 && value&^s.Mask != 0 {
			r.fail(v, "0x%x has bits that the mask, 0x%x, has not", value, s.Mask)
		}
		s.Within = r.duration(f["within"], maxWait)
	}
}
