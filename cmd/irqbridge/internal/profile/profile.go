package profile

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/irqbridge/irqbridge/pci"
)

// Profile names the registers of one kind of board, and tells how its interrupts are exercised. The package
// documentation describes its file format.
type Profile struct {
	Name        string
	Description string
	Match       []ID
	Registers   map[string]Register
	Interrupts  []Interrupts // none: the profile is for registers only
	Unraisable  string       // why no register makes the device interrupt; "" when nothing is said about it
}

// ID names a device by its configuration-space vendor and device ids.
type ID struct{ Vendor, Device uint16 }

// Register is one device register in memory space.
type Register struct {
	BAR         int    // 0 to 5
	Offset      uint64 // in bytes, a multiple of Width/8
	Width       int    // 8, 16, 32 or 64: each access is exactly one of this width
	Access      Access
	Description string
	Fields      []Field // from bit 0 up; they do not overlap
}

// Access is what reading and writing a register, or a field of one, does.
type Access uint8

// The kinds of access, by their names in data sheets: rw, ro, w1c, wo, rc.
const (
	ReadWrite       Access = iota
	ReadOnly               // writes do nothing
	WriteOneToClear        // writing 1 to a bit clears it; reading does nothing
	WriteOnly              // what it reads means nothing
	ReadClears             // reading clears it
)

var accessNames = []string{"rw", "ro", "w1c", "wo", "rc"}

func (a Access) String() string { return accessNames[a] }

// Quiet tells whether reading gives the value and does nothing else.
func (a Access) Quiet() bool { return a != WriteOnly && a != ReadClears }

// Field is one or more bits of a register.
type Field struct {
	Name        string
	High, Low   int // bits, both included
	Access      Access
	Description string
	Values      []Value // those that have a name, in ascending order
}

// Value is a value of a field, counted from the field's lowest bit, with its name.
type Value struct {
	Value uint64
	Name  string
}

// Interrupts is how the messages of one or several kinds are driven.
type Interrupts struct {
	Kinds    []pci.Kind
	Enable   []Step    // before the messages' own Enable steps
	Disable  []Step    // after the messages' own Disable steps
	Messages []Message // by number
}

// Message is how one message (or the line, as message 0) is enabled, raised, recognised and acknowledged.
type Message struct {
	Message     int
	Enable      []Step
	Disable     []Step
	Raise       []Step // empty: its causes are raised in turn; when those have none either, this program cannot raise it
	Status      Status
	Acknowledge []Step  // empty: reading the status register clears it
	Causes      []Cause // what the bits of the status say, to be counted apart
	Rate        *Rate   // nil: nothing is known about it
}

// Status is the condition by which a service routine recognises its interrupt: a bit of Mask is set in Register.
type Status struct {
	Register string
	Mask     uint64
}

// Cause is one reason for which a message is sent. Its bits are some of the message's status.
type Cause struct {
	Name        string
	Mask        uint64
	Description string
	Raise       []Step
	Rate        *Rate
}

// Rate is how often an interrupt is expected when the device does its work.
type Rate struct {
	PerSecond float64
	Tolerance float64 // in percent of it
}

// Fits tells whether count interrupts within a time are as many as are expected. One more or less, which the ends of the
// time decide, always fits.
func (r *Rate) Fits(count uint64, within time.Duration) bool {
	want := r.PerSecond * within.Seconds()
	return max(want-float64(count), float64(count)-want) <= max(1, want*r.Tolerance/100)
}

func (r *Rate) String() string {
	return fmt.Sprintf("%s/s ± %s %%", decimal(r.PerSecond), decimal(r.Tolerance))
}

func decimal(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }

// Action is what a Step does with its register.
type Action uint8

// The actions. Set, Clear and Modify read the register, change bits of it and write it back; of fields that are cleared by
// writing 1 they write 0.
const (
	Write Action = iota
	WriteStatus
	Read
	Set
	Clear
	Modify
	Wait
)

// Step is one register access, or for Wait as many as it takes.
type Step struct {
	Action   Action
	Register string
	Value    uint64        // Write: the value; Set and Clear: the bits; Modify and Wait: that of the bits in Mask
	Mask     uint64        // Modify and Wait
	Within   time.Duration // Wait: the longest that it may take
}

// Matches reports whether the profile is for the device with these ids.
func (p *Profile) Matches(id ID) bool { return slices.Contains(p.Match, id) }

// Kinds lists the kinds of interrupt that the profile describes, in the order INTx, MSI, MSI-X.
func (p *Profile) Kinds() []pci.Kind {
	var kinds []pci.Kind
	for _, i := range p.Interrupts {
		kinds = append(kinds, i.Kinds...)
	}
	slices.Sort(kinds)
	return kinds
}

// String gives the step as the format describes it: "write IMS 0x4".
func (s Step) String() string {
	switch s.Action {
	case Write:
		return fmt.Sprintf("write %s 0x%x", s.Register, s.Value)
	case WriteStatus:
		return fmt.Sprintf("write %s status", s.Register)
	case Read:
		return "read " + s.Register
	case Set:
		return fmt.Sprintf("set %s 0x%x", s.Register, s.Value)
	case Clear:
		return fmt.Sprintf("clear %s 0x%x", s.Register, s.Value)
	case Modify:
		return fmt.Sprintf("modify %s 0x%x under mask 0x%x", s.Register, s.Value, s.Mask)
	default:
		return fmt.Sprintf("wait until %s & 0x%x is 0x%x, %v at most", s.Register, s.Mask, s.Value, s.Within)
	}
}

// For returns how interrupts of a kind are driven, nil when the profile does not describe the kind.
func (p *Profile) For(kind pci.Kind) *Interrupts {
	i := slices.IndexFunc(p.Interrupts, func(i Interrupts) bool { return slices.Contains(i.Kinds, kind) })
	if i < 0 {
		return nil
	}
	return &p.Interrupts[i]
}

// CanRaise tells whether the profile knows how to make the device send the message.
func (m *Message) CanRaise() bool {
	return len(m.Raise) > 0 || slices.ContainsFunc(m.Causes, func(c Cause) bool { return len(c.Raise) > 0 })
}

// Names lists the registers by BAR and offset.
func (p *Profile) Names() []string {
	return slices.SortedFunc(maps.Keys(p.Registers), func(a, b string) int {
		x, y := p.Registers[a], p.Registers[b]
		return cmp.Or(cmp.Compare(x.BAR, y.BAR), cmp.Compare(x.Offset, y.Offset), cmp.Compare(a, b))
	})
}

// Field returns the field of that name, nil when the register has none.
func (r *Register) Field(name string) *Field {
	if i := slices.IndexFunc(r.Fields, func(f Field) bool { return f.Name == name }); i >= 0 {
		return &r.Fields[i]
	}
	return nil
}

// Clearing is the bits that writing 1 clears, so that what was read cannot be written back.
func (r *Register) Clearing() uint64 {
	if r.Access == WriteOneToClear {
		return ones(r.Width)
	}
	var mask uint64
	for _, f := range r.Fields {
		if f.Access == WriteOneToClear {
			mask |= f.Mask()
		}
	}
	return mask
}

// Width is the number of bits.
func (f *Field) Width() int { return f.High - f.Low + 1 }

// Mask is the field's bits in the register.
func (f *Field) Mask() uint64 { return ones(f.Width()) << f.Low }

// Of is the field's value in a value of the register.
func (f *Field) Of(register uint64) uint64 { return register & f.Mask() >> f.Low }

// Bits is the field's place as the format has it: "7:4", or "3".
func (f *Field) Bits() string {
	if f.High == f.Low {
		return strconv.Itoa(f.Low)
	}
	return fmt.Sprintf("%d:%d", f.High, f.Low)
}

// ValueName is the name of a value, "" when it has none.
func (f *Field) ValueName(value uint64) string {
	for _, v := range f.Values {
		if v.Value == value {
			return v.Name
		}
	}
	return ""
}

// ones is a number of that many bits, 1 to 64, all of them set.
func ones(width int) uint64 { return ^uint64(0) >> (64 - width) }
