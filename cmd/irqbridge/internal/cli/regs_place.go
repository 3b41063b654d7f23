package cli

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/irqbridge/irqbridge/cmd/irqbridge/internal/profile"
	"github.com/irqbridge/irqbridge/pci"
	"github.com/irqbridge/irqbridge/vfio/host"
)

// place is where a register is, and how wide an access to it.
type place struct {
	space  int // 0 to 5 for a BAR, or configSpace
	offset uint64
	width  int // in bits
}

const configSpace = -1

func spaceName(space int) string {
	if space == configSpace {
		return "config"
	}
	return fmt.Sprintf("bar%d", space)
}

func (p place) String() string { return fmt.Sprintf("%s+0x%x", spaceName(p.space), p.offset) }

// bytes is the width.
func (p place) bytes() uint64 { return uint64(p.width / 8) }

// hex prints a value with all the digits that the width has.
func (p place) hex(v uint64) string { return fmt.Sprintf("0x%0*x", p.width/4, v) }

// ones is what a device that does not answer reads as.
func (p place) ones() uint64 { return ^uint64(0) >> (64 - p.width) }

// target is what a word of the command line names: a register, or a field of one.
type target struct {
	place
	name     string            // of the register in the profile; "" when it has none there
	register *profile.Register // nil when it is not in the profile
	field    *profile.Field    // nil: the whole register
}

// String is how the target is called: by its name, or else by its place.
func (t target) String() string {
	switch {
	case t.register == nil:
		return t.place.String()
	case t.field == nil:
		return t.name
	default:
		return t.name + "." + t.field.Name
	}
}

// mask is the bits of the register that the target is.
func (t target) mask() uint64 {
	if t.field != nil {
		return t.field.Mask()
	}
	return t.ones()
}

// access is what the profile says about the target, rw when it says nothing.
func (t target) access() profile.Access {
	switch {
	case t.register == nil:
		return profile.ReadWrite
	case t.field != nil && t.register.Access == profile.ReadWrite:
		return t.field.Access
	default:
		return t.register.Access
	}
}

// quiet tells whether reading the register is known to do nothing else. Nothing is known of what the profile does not name.
func (t target) quiet() bool {
	return t.space == configSpace || t.register != nil && t.register.Access.Quiet()
}

// registers is what is known of a device's registers before it is opened.
type registers struct {
	device  host.Device
	profile *profile.Profile // nil for none
	config  []byte           // configuration space as the hardware has it, as far as it can be read
	decoded *pci.Function    // of it
	sizes   pci.Sizes
	sized   bool // sizes are known
}

// readRegisters finds out what is known of a device's registers, and opens nothing. The profile is the named one, or that of the
// program for the device.
func (a *app) readRegisters(address pci.Address, name string) (*registers, error) {
	p, err := readProfile(name)
	if err != nil {
		return nil, err
	}
	d, err := a.host.Device(address)
	if err != nil {
		return nil, explainAbsent(address, err)
	}
	r := &registers{device: d, profile: p}
	if p == nil {
		r.profile = profile.ForDevice(profile.ID{Vendor: d.VendorID, Device: d.DeviceID})
	}
	if r.config, err = a.host.Config(address); err != nil {
		return nil, err
	}
	if r.decoded, err = pci.Decode(r.config); err != nil {
		return nil, fmt.Errorf("%v: %w", address, err)
	}
	if sizes, err := a.host.Sizes(address); err == nil {
		r.sizes, r.sized = sizes, true
	}
	return r, nil
}

var placePattern = regexp.MustCompile(`^(bar[0-9]+|config)\+(0x[0-9a-fA-F]+|[0-9]+)$`)

// placeLike matches what is meant as a place, well-formed or not.
var placeLike = regexp.MustCompile(`^(bar[0-9]|config\+)`)

const placeForms = "want a place such as bar0+0x8 or config+0x4, or the name of a register in a profile such as STATUS or CTRL.RST"

// target reads a word of the command line. width is of the flag, 0 when it was not given.
func (r *registers) target(word string, width int) (target, error) {
	switch width {
	case 0, 8, 16, 32, 64:
	default:
		return target{}, usage("--width %d: want 8, 16, 32 or 64 bits", width)
	}
	if !placeLike.MatchString(word) {
		return r.named(word, width)
	}
	m := placePattern.FindStringSubmatch(word)
	if m == nil {
		return target{}, usage("%s: %s", word, placeForms)
	}
	t := target{place: place{space: configSpace, width: cmp.Or(width, 32)}}
	if m[1] != "config" {
		space, err := strconv.Atoi(strings.TrimPrefix(m[1], "bar"))
		if err != nil || space > 5 {
			return t, usage("%s: a device has bar0 to bar5", word)
		}
		t.space = space
	}
	var err error
	if t.offset, err = parseNumber(m[2]); err != nil {
		return t, usage("%s: %s is no offset: want a number such as 0x40", word, m[2])
	}
	if err := r.fits(word, t.place); err != nil {
		return t, err
	}
	r.recognise(&t)
	return t, nil
}

// recognise gives a target that is a place the register that the profile has there.
func (r *registers) recognise(t *target) {
	if r.profile == nil {
		return
	}
	for _, name := range r.profile.Names() {
		if reg := r.profile.Registers[name]; reg.BAR == t.space && reg.Offset == t.offset && reg.Width == t.width {
			t.name, t.register = name, &reg
			return
		}
	}
}

// named finds a register, or a field of one, by its name.
func (r *registers) named(word string, width int) (target, error) {
	id := fmt.Sprintf("%04x:%04x", r.device.VendorID, r.device.DeviceID)
	if r.profile == nil {
		return target{}, usage("%s: the program has no profile for %s: %s, which takes --profile FILE", word, id, placeForms)
	}
	name, fieldName := word, ""
	reg, ok := r.profile.Registers[name]
	if i := strings.LastIndexByte(word, '.'); !ok && i >= 0 {
		name, fieldName = word[:i], word[i+1:]
		reg, ok = r.profile.Registers[name]
	}
	if !ok {
		if near := profile.Near(name, r.profile.Names()); len(near) > 0 {
			return target{}, usage("%s: profile %s has no register %s; did you mean %s?", word, r.profile.Name, name, strings.Join(near, " or "))
		}
		return target{}, usage("%s: profile %s has no register %s: %s", word, r.profile.Name, name, placeForms)
	}
	if width != 0 && width != reg.Width {
		return target{}, usage("--width %d: profile %s has %s with %d bits", width, r.profile.Name, name, reg.Width)
	}
	t := target{place: place{reg.BAR, reg.Offset, reg.Width}, name: name, register: &reg}
	if fieldName == "" {
		return t, r.fits(word, t.place)
	}
	if t.field = reg.Field(fieldName); t.field != nil {
		return t, r.fits(word, t.place)
	}
	var fields []string
	for _, f := range reg.Fields {
		fields = append(fields, f.Name)
	}
	switch near := profile.Near(fieldName, fields); {
	case len(fields) == 0:
		return t, usage("%s: profile %s names no fields of %s", word, r.profile.Name, name)
	case len(near) > 0:
		return t, usage("%s: %s has no field %s; did you mean %s?", word, name, fieldName, strings.Join(near, " or "))
	default:
		return t, usage("%s: %s has no field %s; it has %s", word, name, fieldName, strings.Join(fields, ", "))
	}
}

// fits refuses what cannot be accessed, before the device is opened.
func (r *registers) fits(word string, p place) error {
	size := uint64(len(r.config))
	if hidesInterrupts(r.decoded) { // there is more than this user may see
		size = 4096
	}
	switch {
	case p.space == configSpace && p.width == 64:
		return usage("%s: configuration space is accessed by 8, 16 or 32 bits, not by 64", word)
	case p.space != configSpace && !r.sized:
		size = 1 << 63 // the kernel knows
	case p.space != configSpace:
		size = r.sizes.BARs[p.space]
	}
	switch {
	case size == 0:
		return &failure{exitFailed, fmt.Errorf("%s: %v has no BAR %d; it has %s", word, r.device.Address, p.space, r.bars()), fmt.Sprintf("irqbridge show %v", r.device.Address)}
	case p.offset >= size || p.bytes() > size-p.offset:
		return usage("%s: %s of %v ends at 0x%x", word, spaceName(p.space), r.device.Address, size)
	case p.offset%p.bytes() != 0:
		return usage("%s: 0x%x is not a multiple of %d bytes, so that one access of %d bits cannot have it: see --width", word, p.offset, p.bytes(), p.width)
	}
	return nil
}

// bars names the BARs that the device has.
func (r *registers) bars() string {
	var list []string
	for i, size := range r.sizes.BARs {
		if size > 0 {
			list = append(list, fmt.Sprintf("bar%d of 0x%x bytes", i, size))
		}
	}
	if list == nil {
		return "none"
	}
	return strings.Join(list, ", ")
}

// maxSpan is how many registers a range has at most: all are kept until the last is read. A large BAR would fill the memory.
const maxSpan = 1 << 20

// span is a range of registers without names.
type span struct {
	first target
	count int
}

var spanPattern = regexp.MustCompile(`^(.+)\.\.(0x[0-9a-fA-F]+|[0-9]+)$`)

// span reads a range such as bar0+0x0..0x100, which ends before 0x100.
func (r *registers) span(word string, width int) (span, error) {
	m := spanPattern.FindStringSubmatch(word)
	if m == nil {
		return span{}, usage("%s: want a range such as bar0+0x0..0x100", word)
	}
	first, err := r.target(m[1], width)
	if err != nil {
		return span{}, err
	}
	end, err := parseNumber(m[2])
	if err != nil || end <= first.offset || (end-first.offset)%first.bytes() != 0 {
		return span{}, usage("%s: want an end behind 0x%x, by a multiple of %d bytes", word, first.offset, first.bytes())
	}
	count := (end - first.offset) / first.bytes()
	last := first.place
	last.offset = end - first.bytes()
	if err := r.fits(word, last); err != nil {
		return span{}, err
	}
	if count > maxSpan {
		return span{}, usage("%s: it has %d registers, and %d at most are read at once: give a part of it", word, count, maxSpan)
	}
	return span{first, int(count)}, nil
}

// at is the register number i of the range.
func (s span) at(r *registers, i int) target {
	t := target{place: s.first.place}
	t.offset += uint64(i) * t.bytes()
	r.recognise(&t)
	return t
}

// harmful finds a register of the profile that a place covers in whole or in part, and that is not to be read without asking.
func (r *registers) harmful(p place) (name string, reg profile.Register) {
	if r.profile == nil || p.space == configSpace {
		return "", reg
	}
	names := r.profile.Names()
	i := slices.IndexFunc(names, func(name string) bool {
		reg := r.profile.Registers[name]
		return reg.BAR == p.space && !reg.Access.Quiet() && reg.Offset < p.offset+p.bytes() && p.offset < reg.Offset+uint64(reg.Width/8)
	})
	if i < 0 {
		return "", reg
	}
	return names[i], r.profile.Registers[names[i]]
}

// value reads a value for a target: a number, or a name that the profile gives a value of the field. It is the bits of the
// register, in the field's place.
func (t target) value(word string) (uint64, error) {
	v, err := parseNumber(word)
	width := t.width
	if t.field != nil {
		width = t.field.Width()
		if i := slices.IndexFunc(t.field.Values, func(v profile.Value) bool { return v.Name == word }); i >= 0 {
			return t.field.Values[i].Value << t.field.Low, nil
		}
		if err != nil && len(t.field.Values) > 0 {
			var names []string
			for _, v := range t.field.Values {
				names = append(names, strconv.Quote(v.Name))
			}
			return 0, usage("%v=%s: want a number such as 0x1, or one of %s", t, word, strings.Join(names, ", "))
		}
	}
	switch {
	case errors.Is(err, strconv.ErrRange):
		return 0, usage("%v=%s: it does not fit in 64 bits", t, word)
	case err != nil:
		return 0, usage("%v=%s: want a number such as 0x4", t, word)
	case v > ^uint64(0)>>(64-width):
		return 0, usage("%v=%s: it does not fit in %s", t, word, plural(width, "bit"))
	}
	if t.field != nil {
		v <<= t.field.Low
	}
	return v, nil
}

// parseNumber reads a number, in hexadecimal behind 0x and else in decimal.
func parseNumber(s string) (uint64, error) {
	if digits, ok := strings.CutPrefix(s, "0x"); ok {
		return strconv.ParseUint(digits, 16, 64)
	}
	return strconv.ParseUint(s, 10, 64)
}
