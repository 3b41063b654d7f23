package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

func (a *app) regsDumpCommand() *cobra.Command {
	var o regsOptions
	cmd := a.regsVerb(&cobra.Command{
		Use:   "dump BDF [RANGE...]",
		Short: "Read all registers that a profile names, or a range of places",
		Long: `dump reads every register of the profile once and shows its fields, or a range such as bar0+0x0..0x100, which ends before 0x100.
Registers that the profile says are cleared by reading, or write only, are left out and named; --force reads them. Of what the
profile does not name, nobody knows what reading does. See irqbridge regs --help for what opening a device does to it.`,
		Example: `  irqbridge regs dump 05:00.0
  irqbridge regs dump 05:00.0 bar0+0x0..0x100 --width 32
  irqbridge regs dump 05:00.0 config+0x40..0x80 --width 8 --json`,
	}, &o, 0, "at most ranges", func(_ context.Context, r *registers, words []string) error {
		d := dump{registers: r, force: o.force}
		if err := d.plan(words, o.width); err != nil {
			return err
		}
		return a.withRegisters(r, &o, func(s *registerSession) error {
			for _, t := range d.targets {
				v, err := s.read(t.place)
				if err != nil {
					return err
				}
				d.results = append(d.results, outcome{target: t, value: v})
			}
			switch {
			case o.json:
				j := newRegistersJSON(s, d.results)
				j.Skipped = d.skipped
				a.printJSON(j)
			case len(d.spans) > 0:
				a.printSpans(d.spans, d.results)
			default:
				a.printValues(d.results)
			}
			a.tellDump(s, &d)
			return nil
		})
	})
	o.add(cmd.Flags(), "dump")
	cmd.Flags().BoolVar(&o.force, "force", false, "also read registers whose reading changes them, or means nothing")
	return cmd
}

// dump is what is to be read of a device, and what was.
type dump struct {
	*registers
	force   bool
	spans   []span
	targets []target
	skipped []skippedJSON
	results []outcome
}

// plan chooses the registers: those of the ranges or, without any, those of the profile.
func (d *dump) plan(words []string, width int) error {
	if len(words) == 0 {
		return d.planAll(width)
	}
	for _, word := range words {
		s, err := d.span(word, width)
		if err != nil {
			return err
		}
		d.spans = append(d.spans, s)
		for i := range s.count {
			t := s.at(d.registers, i)
			if name, reg := d.harmful(t.place); name != "" && !d.force {
				d.skip(name, whyNotRead(reg.Access))
				continue
			}
			d.targets = append(d.targets, t)
		}
	}
	return nil
}

func (d *dump) planAll(width int) error {
	if d.profile == nil {
		return usage("the program has no profile for %04x:%04x: give a range such as bar0+0x0..0x100, or --profile FILE", d.device.VendorID, d.device.DeviceID)
	}
	if width != 0 {
		return usage("--width %d: the profile has the widths; it is for ranges", width)
	}
	for _, name := range d.profile.Names() {
		t, err := d.target(name, 0)
		if err != nil {
			return err
		}
		if !t.quiet() && !d.force {
			d.skip(name, whyNotRead(t.register.Access))
			continue
		}
		d.targets = append(d.targets, t)
	}
	return nil
}

// skip leaves a register out. Of one that a range covers by several accesses it is said once.
func (d *dump) skip(name, why string) {
	if n := len(d.skipped); n == 0 || d.skipped[n-1].Register != name {
		d.skipped = append(d.skipped, skippedJSON{name, why})
	}
}

// bytesOfLine is how many bytes a line of a range shows.
const bytesOfLine = 16

// printSpans prints ranges as memory is dumped. What was left out is dots.
func (a *app) printSpans(spans []span, results []outcome) {
	read := map[place]uint64{}
	for _, r := range results {
		read[r.target.place] = r.value
	}
	for _, s := range spans {
		p := s.first.place
		digits := len(fmt.Sprintf("%x", p.offset+uint64(s.count)*p.bytes()-1))
		perLine := int(bytesOfLine / p.bytes())
		for i := 0; i < s.count; i += perLine {
			var line strings.Builder
			for j := i; j < min(i+perLine, s.count); j++ {
				at := p
				at.offset += uint64(j) * p.bytes()
				if v, ok := read[at]; ok {
					fmt.Fprintf(&line, " %0*x", p.width/4, v)
				} else {
					line.WriteString(" " + strings.Repeat(".", p.width/4))
				}
			}
			a.printf("%s+0x%0*x:%s\n", spaceName(p.space), digits, p.offset+uint64(i)*p.bytes(), line.String())
		}
	}
}

// tellDump says what was left out, and what it means that all that was read is ones.
func (a *app) tellDump(s *registerSession, d *dump) {
	address := s.device.Address()
	reasons := map[string][]string{}
	var order []string
	for _, skipped := range d.skipped {
		if reasons[skipped.Reason] == nil {
			order = append(order, skipped.Reason)
		}
		reasons[skipped.Reason] = append(reasons[skipped.Reason], skipped.Register)
	}
	for _, reason := range order {
		a.note("%v: not read without --force, being %s: %s", address, reason, strings.Join(reasons[reason], ", "))
	}
	ones := len(d.results) > 0
	for _, r := range d.results {
		ones = ones && r.target.space != configSpace && r.value == r.target.ones()
	}
	if ones {
		a.note("%v: all that was read is ones, as with memory decoding off, or a device that is in reset, asleep or gone", address)
		a.next("irqbridge show %v", address)
	}
	a.tellReset(s, false)
}
