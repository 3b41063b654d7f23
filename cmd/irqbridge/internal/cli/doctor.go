package cli

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/irqbridge/irqbridge/cmd/irqbridge/internal/diagnosis"
	"github.com/irqbridge/irqbridge/pci"
)

// doctorJSON is the output of doctor --json.
type doctorJSON struct {
	Schema  int          `json:"schema"`
	Address *pci.Address `json:"address"` // null when only the host was looked at
	System  string       `json:"system"`
	Kernel  string       `json:"kernel"`
	// Checks are in the order in which to mend what is in the way; those that passed are last.
	Checks      []diagnosis.Check `json:"checks"`
	NotLookedAt []string          `json:"notLookedAt"`
}

func (a *app) doctorCommand() *cobra.Command {
	var asJSON, verbose bool
	cmd := &cobra.Command{
		Use:   "doctor [BDF]",
		Short: "Say why no interrupt arrives: what is in the way on this host, or of this device, and what to type next",
		Long: `doctor looks at the host and, given a device, at everything between its interrupts and a program: the IOMMU, modules, nodes and
their permissions, its group, its driver, who has it open, and its registers as the hardware has them. It reads, and changes and
opens nothing. Problems come first, in the order in which to mend them, each with its cause and what to type next; then warnings,
and what could not be checked. While a program has the device open, run doctor beside it: only then do its registers tell much.

Exit status: 0 nothing is in the way, 1 something is, 3 nothing is that was seen, but some checks could not be made.`,
		Example: `  irqbridge doctor
  sudo irqbridge doctor 05:00.0
  sudo irqbridge doctor -v 05:00.0
  irqbridge doctor --json | jq '.checks[] | select(.status == "fail")'`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 1 {
				return fmt.Errorf("want one device at most, such as 0000:00:04.0; have %d", len(args))
			}
			return nil
		},
		RunE: a.verb(func(_ context.Context, args []string) error {
			result := doctorJSON{Schema: schema, NotLookedAt: []string{}}
			on := diagnosis.ReadHost(a.host)
			result.System, result.Kernel = on.System.Name, on.System.Release
			var next string
			if len(args) == 0 {
				result.Checks, next = on.Checks(), "irqbridge list"
			} else {
				address, err := parseAddress(args[0])
				if err != nil {
					return err
				}
				f, err := diagnosis.ReadDevice(a.host, address)
				if err != nil {
					return explainAbsent(address, err)
				}
				result.Address, result.Checks = &address, f.Checks(on)
				if unseen := f.NotLookedAt(); unseen != "" {
					result.NotLookedAt = append(result.NotLookedAt, unseen)
				}
				if next = "irqbridge show " + address.String(); f.Live() == 0 {
					next = "irqbridge connect " + address.String()
				}
			}
			diagnosis.Sort(result.Checks)
			if asJSON {
				a.printJSON(result)
			} else {
				a.printDiagnosis(result, verbose, next)
			}
			return exit(diagnosed(result.Checks))
		}),
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	cmd.Flags().BoolVarP(&verbose, "verbose", "v", false, "say what was found by the checks that passed, too")
	return cmd
}

// diagnosed is the exit status: a check that could not be made is no reassurance, and a warning is not in the way.
func diagnosed(checks []diagnosis.Check) int {
	code := exitOK
	for _, c := range checks {
		switch c.Status {
		case diagnosis.Failure:
			return exitFailed
		case diagnosis.Unknown:
			code = exitPartial
		default:
		}
	}
	return code
}

// printDiagnosis prints a check that did not pass in two lines: its cause, and what to type next. Of those that passed it
// prints the names, or with verbose what they found.
func (a *app) printDiagnosis(r doctorJSON, verbose bool, next string) {
	about := "this host"
	if r.Address != nil {
		about = r.Address.String()
	}
	var system []string
	for _, s := range []string{r.System, "Linux " + r.Kernel} {
		if s != "" && s != "Linux " {
			system = append(system, s)
		}
	}
	a.printf("%s%s\n", about, when(len(system) > 0, "  on "+strings.Join(system, ", ")))
	counts := map[diagnosis.Status]int{}
	var passed []string
	for _, c := range r.Checks {
		if counts[c.Status]++; c.Status == diagnosis.OK && !verbose {
			passed = append(passed, c.ID)
			continue
		}
		a.printf("%s  %-17s %s\n", a.mark(c.Status), c.ID, c.Cause)
		if c.Next != "" {
			a.printf("      next: %s\n", c.Next)
		}
		if verbose && c.Detail != "" {
			a.printf("      %s\n", c.Detail)
		}
	}
	for i, line := range wrap(passed, 100) {
		lead := "    "
		if i == 0 {
			lead = a.mark(diagnosis.OK)
		}
		a.printf("%s  %s\n", lead, line)
	}
	for _, unseen := range r.NotLookedAt {
		a.printf("not looked at: %s\n", unseen)
	}
	if n := counts[diagnosis.Failure]; n > 0 {
		a.printf("%s in the way, %s\n", plural(n, "thing"), tally(counts))
		return
	}
	a.printf("nothing that was seen is in the way, %s\n      next: %s\n", tally(counts), next)
}

// tally counts the checks that did not fail.
func tally(counts map[diagnosis.Status]int) string {
	text := plural(counts[diagnosis.Warning], "warning")
	if n := counts[diagnosis.Unknown]; n > 0 {
		text += ", " + plural(n, "check") + " not made"
	}
	return text + ", " + plural(counts[diagnosis.OK], "check") + " passed"
}

// mark is a status in four characters, and on a terminal in its colour.
func (a *app) mark(s diagnosis.Status) string {
	marks := [...]struct{ text, colour string }{
		diagnosis.OK: {"ok  ", "32"}, diagnosis.Unknown: {"?   ", "36"}, diagnosis.Warning: {"warn", "33"}, diagnosis.Failure: {"FAIL", "31"},
	}
	if m := marks[s]; a.coloured() {
		return "\x1b[" + m.colour + "m" + m.text + "\x1b[0m"
	}
	return marks[s].text
}

// coloured tells whether standard output is a terminal whose user has nothing against colours (https://no-color.org).
func (a *app) coloured() bool {
	f, ok := a.stdout.w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd())) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
}
