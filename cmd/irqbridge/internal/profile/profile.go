package profile

import (
	"fmt"
	"slices"

	"github.com/irqbridge/irqbridge/pci"
)

// Profile tells how the interrupts of one kind of board are exercised. The package documentation describes its file
// format.
type Profile struct {
	Name        string
	Description string
	Match       []ID
	Registers   map[string]Register
	Interrupts  []Interrupts
}

// ID names a device by its configuration-space vendor and device ids.
type ID struct{ Vendor, Device uint16 }

// Register is one device register in memory space.
type Register struct {
	BAR    int    // 0 to 5
	Offset uint64 // in bytes, a multiple of Width/8
	Width  int    // 8, 16, 32 or 64: each access is exactly one of this width
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
	Raise       []Step // empty: this program cannot raise it
	Status      Status
	Acknowledge []Step // empty: reading the status register clears it
}

// Status is the condition by which a service routine recognises its interrupt: a bit of Mask is set in Register.
type Status struct {
	Register string
	Mask     uint64
}

// Action is what a Step does with its register.
type Action uint8

// The actions. Set and Clear read the register, change the bits of Value and write it back.
const (
	Write Action = iota
	WriteStatus
	Read
	Set
	Clear
)

// Step is one register access.
type Step struct {
	Action   Action
	Register string
	Value    uint64 // Write: the value; Set and Clear: the bits; otherwise unused
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
	default:
		return fmt.Sprintf("clear %s 0x%x", s.Register, s.Value)
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
