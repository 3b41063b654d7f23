package report

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// count is a number with its thousands apart.
func count(n uint64) string {
	s := strconv.FormatUint(n, 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "\u202f" + s[i:] // a narrow space at which no line is broken
	}
	return s
}

// large is a number in large letters, for which there is room for seven digits.
func large(n uint64) string {
	if n < 1e7 {
		return count(n)
	}
	return short(float64(n))
}

// short is a number of few letters, for an axis.
func short(v float64) string {
	for _, unit := range []struct {
		size float64
		name string
	}{{1e12, "T"}, {1e9, "G"}, {1e6, "M"}, {1e3, "k"}} {
		if v >= unit.size {
			return trimmed(v/unit.size) + unit.name
		}
	}
	return trimmed(v)
}

// duration is a time in three digits, in the unit that fits: "4.12 µs", "1.5 s", "2 h 5 min".
func duration(d time.Duration) string {
	switch {
	case d >= 48*time.Hour:
		return trimmed(d.Hours()/24) + "\u00a0d"
	case d >= time.Hour:
		return twoUnits(d, time.Hour, "h", time.Minute, "min")
	case d >= time.Minute:
		return twoUnits(d, time.Minute, "min", time.Second, "s")
	case d >= time.Second:
		return trimmed(d.Seconds()) + "\u00a0s"
	case d >= time.Millisecond:
		return trimmed(float64(d)/1e6) + "\u00a0ms"
	case d >= time.Microsecond:
		return trimmed(float64(d)/1e3) + "\u00a0µs"
	case d == 0:
		return "0"
	}
	return strconv.FormatInt(int64(d), 10) + "\u00a0ns"
}

func twoUnits(d, large time.Duration, largeName string, small time.Duration, smallName string) string {
	d = d.Round(small)
	text := fmt.Sprintf("%d\u00a0%s", d/large, largeName)
	if rest := d % large / small; rest > 0 {
		text += fmt.Sprintf(" %d\u00a0%s", rest, smallName)
	}
	return text
}

// trimmed is a number in about three digits.
func trimmed(v float64) string {
	decimals := 2
	switch {
	case v >= 99.95:
		decimals = 0
	case v >= 9.995:
		decimals = 1
	}
	s := strconv.FormatFloat(v, 'f', decimals, 64)
	if decimals > 0 {
		s = strings.TrimRight(strings.TrimRight(s, "0"), ".")
	}
	return s
}

// byCPU is "cpu1 100, cpu2 7".
func byCPU(counts map[string]uint64) string {
	var list []string
	for _, cpu := range sortedCPUs(counts) {
		if n := counts[cpu]; n > 0 {
			list = append(list, fmt.Sprintf("cpu%s\u00a0%s", cpu, count(n)))
		}
	}
	if len(list) == 0 {
		return "–"
	}
	return strings.Join(list, ", ")
}

// sortedCPUs are the keys, which the recording's reader has found to be numbers.
func sortedCPUs(counts map[string]uint64) []string {
	var cpus []string
	for cpu := range counts {
		cpus = append(cpus, cpu)
	}
	slices.SortFunc(cpus, func(a, b string) int {
		if len(a) != len(b) {
			return len(a) - len(b)
		}
		return strings.Compare(a, b)
	})
	return cpus
}

func plural(n uint64, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return count(n) + " " + noun + "s"
}
