package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/irqbridge/irqbridge/pci"
)

// changeJSON is a line of regs watch --json: a register as it was at first, and each change of it.
type changeJSON struct {
	Schema  int         `json:"schema"`
	Address pci.Address `json:"address"`
	Time    time.Time   `json:"time"`
	Seconds float64     `json:"seconds"` // since the first read
	Old     string      `json:"old,omitempty"`
	registerJSON
}

func (a *app) regsWatchCommand() *cobra.Command {
	var o regsOptions
	cmd := a.regsVerb(&cobra.Command{
		Use:   "watch BDF REGISTER...",
		Short: "Show registers as they change, until Ctrl-C or --duration",
		Long: `watch reads registers at an interval and shows when they change: in place on a terminal, else a line for each change, behind those
of how they were at first. What changes and changes back between two reads is not seen. Reading a register that is cleared by
reading changes it; it is said. --json prints one object a line. See irqbridge regs --help for what opening a device does to it.`,
		Example: `  irqbridge regs watch 05:00.0 STATUS CTRL
  irqbridge regs watch 05:00.0 bar0+0x8 --interval 10ms --duration 1m --json > changes`,
	}, &o, 1, "a register, such as bar0+0x8 or STATUS", func(ctx context.Context, r *registers, words []string) error {
		switch {
		case o.interval <= 0:
			return usage("--interval %v: want a time of more than 0", o.interval)
		case o.duration < 0:
			return usage("--duration %v: want a time that is not negative", o.duration)
		}
		operations, err := r.operations("read", words, o.operationFlags)
		if err != nil {
			return err
		}
		return a.withRegisters(r, &o, func(s *registerSession) error {
			if o.duration > 0 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, o.duration)
				defer cancel()
			}
			return a.watchRegisters(ctx, s, operations, &o)
		})
	})
	o.add(cmd.Flags(), "watch")
	cmd.Flags().DurationVar(&o.interval, "interval", watchInterval, "how long to leave the device alone between two reads")
	cmd.Flags().DurationVar(&o.duration, "duration", 0, "stop after this time, such as 10s (default: at Ctrl-C)")
	return cmd
}

// watched is a register under watch.
type watched struct {
	outcome
	changes int
	last    time.Duration // when it changed last
}

func (a *app) watchRegisters(ctx context.Context, s *registerSession, operations []operation, o *regsOptions) error {
	a.tellReset(s, false)
	for _, op := range operations {
		if t := op.target; t.register != nil && !t.quiet() {
			a.note("%v: %s is %s", s.device.Address(), t.name, whyNotRead(t.register.Access))
		}
	}
	screen := a.screen(o.json)
	list := make([]watched, len(operations))
	var begin time.Time // of the first read
	ones := false
	for first := true; ; first = false {
		changed := first
		for i, op := range operations {
			v, err := s.read(op.target.place)
			if err != nil {
				return err
			}
			now, w := time.Now(), &list[i]
			if begin.IsZero() {
				begin = now
			}
			old := w.value
			if !first && (v^old)&op.target.mask() == 0 {
				continue
			}
			changed = true
			w.outcome = outcome{target: op.target, value: v, old: old}
			if !first {
				w.changes++
				w.last = now.Sub(begin)
			}
			switch {
			case o.json:
				a.printChangeJSON(s, w, first, now, now.Sub(begin))
			case screen == nil:
				a.printChange(w, first, now.Sub(begin))
			}
			if v == op.target.ones() && op.target.width >= 32 && op.target.space != configSpace && !ones {
				ones = true // once is enough: it may go on for ever
				a.tellRead(s, op, w.outcome)
				if screen != nil {
					screen.lines = 0 // what was said stands between
				}
			}
		}
		if screen != nil && changed {
			screen.draw(list)
		}
		if sleep(ctx, o.interval) != nil {
			return nil
		}
	}
}

func (a *app) printChangeJSON(s *registerSession, w *watched, first bool, now time.Time, since time.Duration) {
	j := changeJSON{Schema: schema, Address: s.device.Address(), Time: now, Seconds: since.Seconds(), registerJSON: newRegisterJSON(w.target, w.value)}
	if !first {
		j.Old = w.target.hex(w.old)
	}
	_ = json.NewEncoder(a.stdout).Encode(j) // the output keeps the error
}

// printChange prints a register as it was at first, or a change of it with the fields that changed.
func (a *app) printChange(w *watched, first bool, since time.Duration) {
	t := w.target
	label := fmt.Sprintf("%9.3fs  %v", since.Seconds(), t)
	words := fieldWords(t, w.value)
	if first {
		label += "  " + t.hex(w.value)
	} else {
		label += fmt.Sprintf("  %s -> %s", t.hex(w.old), t.hex(w.value))
		words = changedWords(t, w.old, w.value)
	}
	if t.field != nil {
		words = []string{fieldWord(*t.field, w.value)}
	}
	if len(words) == 0 {
		a.printf("%s\n", label)
		return
	}
	printWords(a.stdout, "", label, words)
}

// changedWords shows the fields of a register that changed.
func changedWords(t target, old, value uint64) []string {
	if t.register == nil {
		return nil
	}
	var words []string
	for _, f := range slices.Backward(t.register.Fields) {
		if f.Of(old) != f.Of(value) {
			words = append(words, fieldWord(f, value))
		}
	}
	return words
}

// screen is a terminal on which a table is drawn in place.
type screen struct {
	out   *output
	file  *os.File
	lines int // of the table before
}

// screen is standard output, nil when it is no terminal or is to have JSON.
func (a *app) screen(asJSON bool) *screen {
	f, ok := a.stdout.w.(*os.File)
	if !ok || asJSON || !term.IsTerminal(int(f.Fd())) {
		return nil
	}
	return &screen{out: a.stdout, file: f}
}

// draw draws the registers over what was drawn before. Lines end at the terminal's edge, so that each is one.
func (s *screen) draw(list []watched) {
	t := newTable("REGISTER", "ADDRESS", "VALUE", ">CHANGES", ">LAST", "FIELDS")
	for _, w := range list {
		last := "-"
		if w.changes > 0 {
			last = fmt.Sprintf("%.3fs", w.last.Seconds())
		}
		words := fieldWords(w.target, w.value)
		if w.target.field != nil {
			words = []string{fieldWord(*w.target.field, w.value)}
		}
		name := "-"
		if w.target.register != nil {
			name = w.target.String()
		}
		t.add(name, w.target.place, w.target.hex(w.value), w.changes, last, strings.Join(words, " "))
	}
	var text bytes.Buffer
	t.print(&output{w: &text}, "", 0)
	width, _, err := term.GetSize(int(s.file.Fd()))
	if err != nil || width <= 0 {
		width = 80
	}
	if s.lines > 0 {
		s.out.printf("\x1b[%dA", s.lines)
	}
	s.lines = 0
	for line := range bytes.Lines(text.Bytes()) {
		runes := []rune(string(bytes.TrimSuffix(line, []byte("\n"))))
		s.out.printf("\x1b[K%s\n", string(runes[:min(len(runes), width-1)]))
		s.lines++
	}
}
