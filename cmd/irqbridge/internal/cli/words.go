package cli

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/irqbridge/irqbridge/pci"
	"github.com/irqbridge/irqbridge/vfio"
)

// byCPU is counts by CPU for people: "cpu1 100".
func byCPU(counts map[int]uint64) string {
	var cpus []int
	for cpu, n := range counts {
		if n > 0 {
			cpus = append(cpus, cpu)
		}
	}
	if len(cpus) == 0 {
		return "-"
	}
	slices.Sort(cpus)
	var list []string
	for _, cpu := range cpus {
		list = append(list, fmt.Sprintf("cpu%d %d", cpu, counts[cpu]))
	}
	return strings.Join(list, ", ")
}

// byMessage is counts by message for people: "message 1: 3 calls".
func byMessage(calls map[int]uint64) string {
	var list []string
	for _, message := range slices.Sorted(maps.Keys(calls)) {
		list = append(list, fmt.Sprintf("message %d: %s", message, plural(int(calls[message]), "call")))
	}
	if len(list) == 0 {
		return "-"
	}
	return strings.Join(list, ", ")
}

// microseconds is a time for people, with as many digits as are of use.
func microseconds(d time.Duration) string {
	us := float64(d) / float64(time.Microsecond)
	switch {
	case us < 10:
		return fmt.Sprintf("%.2f µs", us)
	case us < 100:
		return fmt.Sprintf("%.1f µs", us)
	case us < 10_000:
		return fmt.Sprintf("%.0f µs", us)
	default:
		return fmt.Sprintf("%.1f ms", us/1000)
	}
}

// kindNames is "INTx, MSI".
func kindNames(kinds []pci.Kind) string {
	var names []string
	for _, k := range kinds {
		names = append(names, vfio.IndexOf(k).String())
	}
	return strings.Join(names, ", ")
}

// interruptsOf is "1 INTx interrupt", "5 MSI-X interrupts".
func interruptsOf(kind pci.Kind, n int) string {
	return plural(n, vfio.IndexOf(kind).String()+" interrupt")
}

func enabled(on bool) string {
	if on {
		return "enabled"
	}
	return "disabled"
}

func onOff(on bool) string {
	if on {
		return "on"
	}
	return "off"
}

func when(condition bool, text string) string {
	if condition {
		return text
	}
	return ""
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// wrap joins words with commas into lines of at most width characters.
func wrap(words []string, width int) []string {
	var lines []string
	line := ""
	for _, word := range words {
		switch {
		case line == "":
			line = word
		case len(line)+2+len(word) > width:
			lines = append(lines, line+",")
			line = word
		default:
			line += ", " + word
		}
	}
	if line != "" {
		lines = append(lines, line)
	}
	return lines
}
