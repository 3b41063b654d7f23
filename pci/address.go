package pci

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
)

// Address says where a PCI function sits: its domain (Linux also calls it a segment), bus, device and function. It is
// comparable, and its zero value is 0000:00:00.0.
//
// The domain has 32 bits because Linux numbers the domains behind an Intel VMD controller from 0x10000 upward.
// Device is below 32 and Function below 8; ParseAddress makes no others.
type Address struct {
	Domain   uint32
	Bus      uint8
	Device   uint8
	Function uint8
}

// The largest device and function numbers: PCI_SLOT and PCI_FUNC of include/uapi/linux/pci.h keep 5 and 3 bits.
const (
	maxDevice   = 0x1f
	maxFunction = 0x7
)

// ParseAddress reads "[domain:]bus:device.function", every number in hexadecimal, as sysfs and lspci write it:
// "0000:00:04.0", "00:04.0", "10000:e1:00.0". The domain has 1 to 8 digits and is 0 when left out; bus and device have
// 1 or 2, the function has 1.
func ParseAddress(s string) (Address, error) {
	fail := func(reason string) (Address, error) {
		return Address{}, fmt.Errorf(
			"pci address %.40q: %s; want [domain:]bus:device.function in hexadecimal, such as 0000:00:04.0", s, reason)
	}
	place, function, found := strings.Cut(s, ".")
	if !found {
		return fail("no function after a dot")
	}
	fields := strings.Split(place, ":")
	switch len(fields) {
	case 2:
		fields = append([]string{"0"}, fields...)
	case 3:
	default:
		return fail("bus and device are to be separated by a colon")
	}
	numbers := [4]struct {
		name   string
		text   string
		digits int
		limit  uint64
	}{
		{"domain", fields[0], 8, 0xffffffff},
		{"bus", fields[1], 2, 0xff},
		{"device", fields[2], 2, maxDevice},
		{"function", function, 1, maxFunction},
	}
	var values [4]uint64
	for i, n := range numbers {
		v, err := strconv.ParseUint(n.text, 16, 64)
		switch {
		case err != nil || len(n.text) > n.digits:
			return fail(fmt.Sprintf("%s %.20q is not a hexadecimal number of 1 to %d digits", n.name, n.text, n.digits))
		case v > n.limit:
			return fail(fmt.Sprintf("%s %#x is above %#x", n.name, v, n.limit))
		}
		values[i] = v
	}
	return Address{
		Domain: uint32(values[0]), Bus: uint8(values[1]), Device: uint8(values[2]), Function: uint8(values[3]),
	}, nil
}

// String gives the full form that sysfs uses, domain included: "0000:00:04.0". The domain has 4 digits, or as many as
// it needs.
func (a Address) String() string {
	return fmt.Sprintf("%04x:%02x:%02x.%x", a.Domain, a.Bus, a.Device, a.Function)
}

// Compare orders addresses by domain, bus, device and function: negative when a comes before b, 0 when they are equal.
// It fits slices.SortFunc.
func (a Address) Compare(b Address) int {
	return cmp.Or(
		cmp.Compare(a.Domain, b.Domain),
		cmp.Compare(a.Bus, b.Bus),
		cmp.Compare(a.Device, b.Device),
		cmp.Compare(a.Function, b.Function),
	)
}

// MarshalText gives the form of String, so that an Address is a string in JSON and may be a key there.
func (a Address) MarshalText() ([]byte, error) {
	return []byte(a.String()), nil
}

// UnmarshalText takes what ParseAddress takes and leaves the address as it was on an error.
func (a *Address) UnmarshalText(text []byte) error {
	parsed, err := ParseAddress(string(text))
	if err != nil {
		return err
	}
	*a = parsed
	return nil
}
