package cli

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/irqbridge/irqbridge/cmd/irqbridge/internal/profile"
	"github.com/irqbridge/irqbridge/pci"
)

// registerJSON is one register that was read or written. Register and Fields are absent where the profile has none; Field is
// the one that was asked for.
type registerJSON struct {
	Register string      `json:"register,omitempty"`
	Space    string      `json:"space"` // bar0 to bar5, or config
	Offset   string      `json:"offset"`
	Width    int         `json:"width"`
	Value    string      `json:"value"`
	AllOnes  bool        `json:"allOnes"`
	Field    *fieldJSON  `json:"field,omitempty"`
	Fields   []fieldJSON `json:"fields,omitempty"`
}

type fieldJSON struct {
	Name    string `json:"name"`
	Bits    string `json:"bits"`
	Value   string `json:"value"`
	Meaning string `json:"meaning,omitempty"` // the name that the profile gives the value
}

func newRegisterJSON(t target, value uint64) registerJSON {
	j := registerJSON{
		Register: t.name, Space: spaceName(t.space), Offset: fmt.Sprintf("0x%x", t.offset), Width: t.width,
		Value: t.hex(value), AllOnes: value == t.ones(),
	}
	if t.register == nil {
		return j
	}
	for _, f := range t.register.Fields {
		j.Fields = append(j.Fields, newFieldJSON(f, value))
	}
	if t.field != nil {
		f := newFieldJSON(*t.field, value)
		j.Field = &f
	}
	return j
}

func newFieldJSON(f profile.Field, value uint64) fieldJSON {
	v := f.Of(value)
	return fieldJSON{f.Name, f.Bits(), fmt.Sprintf("0x%x", v), f.ValueName(v)}
}

// registersJSON is the output of regs read --json and regs dump --json.
type registersJSON struct {
	deviceRegistersJSON
	Registers []registerJSON `json:"registers"`
	Skipped   []skippedJSON  `json:"skipped,omitempty"` // dump: what was not read
}

// deviceRegistersJSON says whose registers they are.
type deviceRegistersJSON struct {
	Schema      int         `json:"schema"`
	Address     pci.Address `json:"address"`
	Profile     string      `json:"profile"`     // "" for none
	ResetByOpen bool        `json:"resetByOpen"` // opening the device has reset it, and closing it does
}

type skippedJSON struct {
	Register string `json:"register"`
	Reason   string `json:"reason"`
}

// performedJSON is the output of regs write, poll and run --json.
type performedJSON struct {
	deviceRegistersJSON
	Operations []performedOneJSON `json:"operations"`
}

// performedOneJSON is one operation that was done; of a poll also one that was not in time.
type performedOneJSON struct {
	Operation string        `json:"operation"`
	Register  *registerJSON `json:"register,omitempty"` // with the value that was read, or written
	Old       string        `json:"old,omitempty"`      // write of a field: what was read before
	Mask      string        `json:"mask,omitempty"`     // poll
	Wanted    string        `json:"wanted,omitempty"`   // poll
	Met       *bool         `json:"met,omitempty"`      // poll
	Reads     int           `json:"reads,omitempty"`    // poll
	Seconds   float64       `json:"seconds,omitempty"`  // poll and sleep
}

func newDeviceRegistersJSON(s *registerSession) deviceRegistersJSON {
	j := deviceRegistersJSON{Schema: schema, Address: s.device.Address(), ResetByOpen: s.device.CanReset()}
	if s.profile != nil {
		j.Profile = s.profile.Name
	}
	return j
}

func newRegistersJSON(s *registerSession, results []outcome) registersJSON {
	j := registersJSON{deviceRegistersJSON: newDeviceRegistersJSON(s), Registers: []registerJSON{}}
	for _, r := range results {
		j.Registers = append(j.Registers, newRegisterJSON(r.target, r.value))
	}
	return j
}

func newPerformedJSON(s *registerSession) performedJSON {
	return performedJSON{newDeviceRegistersJSON(s), []performedOneJSON{}}
}

func newPerformedOneJSON(o operation, done outcome) performedOneJSON {
	j := performedOneJSON{Operation: o.verb}
	if o.verb == "sleep" {
		j.Seconds = o.timeout.Seconds()
		return j
	}
	t := o.target
	r := newRegisterJSON(t, done.value)
	j.Register = &r
	if o.rmw() && o.verb == "write" {
		j.Old = t.hex(done.old)
	}
	if o.verb == "poll" {
		j.Mask, j.Wanted, j.Met, j.Reads, j.Seconds = t.hex(o.mask), t.hex(o.value), &done.met, done.reads, done.elapsed.Seconds()
	}
	return j
}

// printDone tells one operation that was done.
func (a *app) printDone(o operation, done outcome) {
	t := o.target
	where := t.place.String()
	if t.register != nil {
		where = t.String() + "  " + where
	}
	switch {
	case o.verb == "read":
		a.printValues([]outcome{done})
	case o.verb == "write" && o.rmw():
		a.printf("%s  %s -> %s, read and written back\n", where, t.hex(done.old), t.hex(done.value))
	case o.verb == "write":
		a.printf("%s  <- %s\n", where, t.hex(done.value))
	case o.verb == "poll":
		a.printf("%s  %s after %v, %s\n", where, t.hex(done.value), done.elapsed.Round(time.Microsecond), plural(done.reads, "read"))
	}
}

// registerName is the name of a target's register, or its place.
func (t target) registerName() string {
	if t.register == nil {
		return t.place.String()
	}
	return t.name
}

// fieldWord shows a field: "LU+" or "LU-" for one bit, "SPEED=0x2 (1000 Mb/s)" for more.
func fieldWord(f profile.Field, value uint64) string {
	v := f.Of(value)
	word := fmt.Sprintf("%s=0x%x", f.Name, v)
	switch {
	case f.Width() > 1:
	case v == 1:
		word = f.Name + "+"
	default:
		word = f.Name + "-"
	}
	if name := f.ValueName(v); name != "" {
		word += " (" + name + ")"
	}
	return word
}

// fieldWords shows the fields of a register, the highest first, as data sheets draw them.
func fieldWords(t target, value uint64) []string {
	if t.register == nil {
		return nil
	}
	var words []string
	for _, f := range slices.Backward(t.register.Fields) {
		words = append(words, fieldWord(f, value))
	}
	return words
}

// printValues prints registers with their fields, in columns.
func (a *app) printValues(results []outcome) {
	name, at, digits := 0, 0, 0
	for _, r := range results {
		if r.target.register != nil {
			name = max(name, len(r.target.String()))
		}
		at, digits = max(at, len(r.target.place.String())), max(digits, len(r.target.hex(0)))
	}
	for _, r := range results {
		t := r.target
		label := fmt.Sprintf("%-*s  %-*s", at, t.place, digits, t.hex(r.value))
		if name > 0 {
			called := ""
			if t.register != nil {
				called = t.String()
			}
			label = fmt.Sprintf("%-*s  %s", name, called, label)
		}
		words := fieldWords(t, r.value)
		if t.field != nil {
			words = []string{fieldWord(*t.field, r.value)}
		}
		if label = strings.TrimRight(label, " "); len(words) == 0 {
			a.printf("%s\n", label)
		} else {
			printWords(a.stdout, "", label, words)
		}
	}
}
