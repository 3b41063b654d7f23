package host

import (
	"fmt"
	"iter"
	"math/bits"
	"slices"
	"strconv"
	"strings"
)

// MaxCPUs bounds the CPU numbers of a [CPUSet]: 0 to MaxCPUs-1. It is the largest NR_CPUS that an architecture's Kconfig
// offers (8192, x86 with MAXSMP).
const MaxCPUs = 8192

// CPUSet is a set of CPU numbers, as Linux numbers them. The zero value is the empty set. It is a value: methods return
// new sets, == compares, and it can be the key of a map.
type CPUSet struct {
	// bits has CPU n at bit n%8 of byte n/8, and no zero byte at its end, so that equal sets are equal strings.
	bits string
}

// CPUSetOf returns the set of the given CPUs. Numbers outside 0 to [MaxCPUs]-1 are left out, as CPU_SET(3) does.
func CPUSetOf(cpus ...int) CPUSet {
	var raw []byte
	for _, cpu := range cpus {
		raw = setBit(raw, cpu)
	}
	return fromBytes(raw)
}

// FromGroupMask returns the CPUs of a Windows processor group: bit i of mask is CPU 64*group+i (KAFFINITY and GROUP_AFFINITY,
// wdm.h). Bits beyond [MaxCPUs] name CPUs that cannot exist and are left out.
func FromGroupMask(group int, mask uint64) CPUSet {
	var raw []byte
	if group < 0 || group >= MaxCPUs/64 {
		return CPUSet{}
	}
	for mask != 0 {
		raw = setBit(raw, 64*group+bits.TrailingZeros64(mask))
		mask &= mask - 1
	}
	return fromBytes(raw)
}

// ParseCPUList reads the kernel's list format: "0-3,8", also with a stride "0-31:2/8" (the first 2 of every 8). Blanks
// around the text are accepted, inside it they are not. Empty text is the empty set.
// The format is that of bitmap_parselist, lib/bitmap-str.c, without its "all" and "N".
func ParseCPUList(s string) (CPUSet, error) {
	text := strings.TrimSpace(s)
	if text == "" {
		return CPUSet{}, nil
	}
	var raw []byte
	for item := range strings.SplitSeq(text, ",") {
		span, pattern, strided := strings.Cut(item, ":")
		low, high, isRange := strings.Cut(span, "-")
		first, err := parseCPU(low)
		if err != nil {
			return CPUSet{}, fmt.Errorf("CPU list %q: %w", text, err)
		}
		last := first
		if isRange {
			if last, err = parseCPU(high); err != nil {
				return CPUSet{}, fmt.Errorf("CPU list %q: %w", text, err)
			}
		}
		if last < first {
			return CPUSet{}, fmt.Errorf("CPU list %q: %q ends before it starts", text, item)
		}
		used, group := 1, 1
		if strided {
			if used, group, err = parseStride(pattern); err != nil || !isRange {
				return CPUSet{}, fmt.Errorf("CPU list %q: %q is not FIRST-LAST:USED/GROUP with USED <= GROUP", text, item)
			}
		}
		for cpu := first; cpu <= last; cpu++ {
			if (cpu-first)%group < used {
				raw = setBit(raw, cpu)
			}
		}
	}
	return fromBytes(raw), nil
}

// parseStride reads USED/GROUP of a strided range.
func parseStride(s string) (used, group int, err error) {
	left, right, _ := strings.Cut(s, "/")
	if used, err = parseCPU(left); err != nil {
		return 0, 0, err
	}
	if group, err = parseCPU(right); err != nil {
		return 0, 0, err
	}
	if group == 0 || used > group {
		return 0, 0, strconv.ErrRange
	}
	return used, group, nil
}

// parseCPU reads one CPU number: decimal digits only, since strconv also takes signs.
func parseCPU(s string) (int, error) {
	if s == "" {
		return 0, fmt.Errorf("a CPU number is missing")
	}
	for _, c := range []byte(s) {
		if c < '0' || c > '9' {
			return 0, fmt.Errorf("%q is not a CPU number", s)
		}
	}
	n, err := strconv.Atoi(s)
	if err != nil || n >= MaxCPUs {
		return 0, fmt.Errorf("CPU %s is above %d, the largest that Linux can number", s, MaxCPUs-1)
	}
	return n, nil
}

// ParseCPUMask reads the kernel's mask format: hexadecimal groups of 32 bits, the highest first, separated by commas:
// "ff", "3,00000000". A leading 0x and a single group of any length are accepted too.
func ParseCPUMask(s string) (CPUSet, error) {
	text := strings.TrimSpace(s)
	digits := strings.TrimPrefix(strings.TrimPrefix(text, "0x"), "0X")
	groups := strings.Split(digits, ",")
	var raw []byte
	for i, group := range groups {
		if group == "" || len(group) > 8 && len(groups) > 1 {
			return CPUSet{}, fmt.Errorf("CPU mask %q: a group has 1 to 8 hexadecimal digits", text)
		}
		base := 32 * (len(groups) - 1 - i)
		for j := range len(group) {
			nibble, err := strconv.ParseUint(group[len(group)-1-j:len(group)-j], 16, 8)
			if err != nil {
				return CPUSet{}, fmt.Errorf("CPU mask %q: %q is not hexadecimal", text, group)
			}
			for ; nibble != 0; nibble &= nibble - 1 {
				cpu := base + 4*j + bits.TrailingZeros64(nibble)
				if cpu >= MaxCPUs {
					return CPUSet{}, fmt.Errorf("CPU mask %q: CPU %d is above %d, the largest that Linux can number", text, cpu, MaxCPUs-1)
				}
				raw = setBit(raw, cpu)
			}
		}
	}
	return fromBytes(raw), nil
}

// Has tells whether cpu is in the set. It does not allocate.
func (s CPUSet) Has(cpu int) bool {
	return cpu >= 0 && cpu/8 < len(s.bits) && s.bits[cpu/8]&(1<<(cpu%8)) != 0
}

// Empty tells whether the set has no CPU.
func (s CPUSet) Empty() bool { return s.bits == "" }

// Len returns the number of CPUs in the set.
func (s CPUSet) Len() int {
	n := 0
	for i := range len(s.bits) {
		n += bits.OnesCount8(s.bits[i])
	}
	return n
}

// All yields the CPUs in ascending order.
func (s CPUSet) All() iter.Seq[int] {
	return func(yield func(int) bool) {
		for i := range len(s.bits) {
			for b := s.bits[i]; b != 0; b &= b - 1 {
				if !yield(8*i + bits.TrailingZeros8(b)) {
					return
				}
			}
		}
	}
}

// CPUs returns the CPUs in ascending order; nil when there are none.
func (s CPUSet) CPUs() []int { return slices.Collect(s.All()) }

// Add returns the set with the given CPUs added. Numbers outside 0 to [MaxCPUs]-1 are left out.
func (s CPUSet) Add(cpus ...int) CPUSet { return s.Or(CPUSetOf(cpus...)) }

// And returns the CPUs that are in both sets.
func (s CPUSet) And(o CPUSet) CPUSet {
	raw := make([]byte, min(len(s.bits), len(o.bits)))
	for i := range raw {
		raw[i] = s.bits[i] & o.bits[i]
	}
	return fromBytes(raw)
}

// Or returns the CPUs that are in either set.
func (s CPUSet) Or(o CPUSet) CPUSet {
	if len(s.bits) < len(o.bits) {
		s, o = o, s
	}
	raw := []byte(s.bits)
	for i := range len(o.bits) {
		raw[i] |= o.bits[i]
	}
	return fromBytes(raw)
}

// Minus returns the CPUs that are in s and not in o.
func (s CPUSet) Minus(o CPUSet) CPUSet {
	raw := []byte(s.bits)
	for i := range min(len(raw), len(o.bits)) {
		raw[i] &^= o.bits[i]
	}
	return fromBytes(raw)
}

// GroupMask returns the 64 CPUs of a Windows processor group as a KAFFINITY: bit i is CPU 64*group+i.
func (s CPUSet) GroupMask(group int) uint64 {
	var mask uint64
	if group < 0 || group >= MaxCPUs/64 {
		return 0
	}
	for i := range 8 {
		if at := 8*group + i; at < len(s.bits) {
			mask |= uint64(s.bits[at]) << (8 * i)
		}
	}
	return mask
}

// List returns the set in the kernel's list format, "0-3,8", as smp_affinity_list and taskset -c take it; "" when empty.
func (s CPUSet) List() string {
	var b strings.Builder
	cpus := s.CPUs()
	for i := 0; i < len(cpus); {
		j := i
		for j+1 < len(cpus) && cpus[j+1] == cpus[j]+1 {
			j++
		}
		if b.Len() > 0 {
			b.WriteByte(',')
		}
		b.WriteString(strconv.Itoa(cpus[i]))
		if j > i {
			b.WriteByte('-')
			b.WriteString(strconv.Itoa(cpus[j]))
		}
		i = j + 1
	}
	return b.String()
}

// Mask returns the set in the kernel's mask format, "3,00000000", as smp_affinity takes it; "0" when empty.
func (s CPUSet) Mask() string {
	var b strings.Builder
	for word := (len(s.bits) - 1) / 4; word >= 0; word-- {
		w := uint32(s.GroupMask(word/2) >> (32 * (word % 2)))
		if b.Len() == 0 {
			b.WriteString(strconv.FormatUint(uint64(w), 16))
		} else {
			fmt.Fprintf(&b, ",%08x", w)
		}
	}
	return b.String()
}

// String returns the list format.
func (s CPUSet) String() string { return s.List() }

// MarshalText writes the list format.
func (s CPUSet) MarshalText() ([]byte, error) { return []byte(s.List()), nil }

// UnmarshalText reads the list format.
func (s *CPUSet) UnmarshalText(text []byte) error {
	v, err := ParseCPUList(string(text))
	if err == nil {
		*s = v
	}
	return err
}

// setBit sets bit cpu, growing raw; a number that no CPU can have is left out.
func setBit(raw []byte, cpu int) []byte {
	if cpu < 0 || cpu >= MaxCPUs {
		return raw
	}
	if need := cpu/8 + 1; need > len(raw) {
		raw = append(raw, make([]byte, need-len(raw))...)
	}
	raw[cpu/8] |= 1 << (cpu % 8)
	return raw
}

// fromBytes makes the set of the bits in raw.
func fromBytes(raw []byte) CPUSet {
	n := len(raw)
	for n > 0 && raw[n-1] == 0 {
		n--
	}
	return CPUSet{bits: string(raw[:n])}
}
