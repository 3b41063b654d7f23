package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/irqbridge/irqbridge/cmd/irqbridge/internal/profile"
)

// profileListJSON is the output of profile list --json.
type profileListJSON struct {
	Schema   int          `json:"schema"`
	Profiles []listedJSON `json:"profiles"`
}

type listedJSON struct {
	Name        string   `json:"name"`
	Description string   `json:"description"`
	Devices     []string `json:"devices"` // "8086:10d3"
	Kinds       []string `json:"kinds"`
	Registers   int      `json:"registers"`
}

// profileShowJSON is the output of profile show --json: the profile is the file itself.
type profileShowJSON struct {
	Schema  int             `json:"schema"`
	Profile json.RawMessage `json:"profile"`
}

// profileCheckJSON is the output of profile check --json.
type profileCheckJSON struct {
	Schema int           `json:"schema"`
	Files  []checkedJSON `json:"files"`
}

type checkedJSON struct {
	File   string        `json:"file"`
	Name   string        `json:"name,omitempty"` // of the profile, when it is a good one
	Errors []mistakeJSON `json:"errors"`
}

type mistakeJSON struct {
	Line   int    `json:"line"`
	Column int    `json:"column"`
	Field  string `json:"field"`
	Text   string `json:"text"`
}

func (a *app) profileCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "profile",
		Short: "Check, list and show profiles, which name a board's registers and tell how its interrupts are exercised",
		Long: `A profile is a small JSON file with the registers of a board's data sheet. connect exercises interrupts by it, and regs takes names
of registers and fields from it. Begin one with a copy:

    irqbridge profile show edu --json | jq .profile > board.json
    irqbridge profile check board.json

` + profile.Manual(),
		Args: cobra.ArbitraryArgs,
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return errors.New("want one of list, show, check and schema")
			}
			return fmt.Errorf("there is no %q of a profile: want one of list, show, check and schema", args[0])
		},
	}
	cmd.AddCommand(a.profileListCommand(), a.profileShowCommand(), a.profileCheckCommand(), a.profileSchemaCommand())
	return cmd
}

func (a *app) profileListCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the profiles that are part of the program",
		Long: `list shows the profiles in the program, and by which vendor and device IDs each is chosen when a verb is given none. A profile of
your own is a file, and is given by its name: --profile ./board.json.`,
		Example: `  irqbridge profile list
  irqbridge profile list --json`,
		Args: cobra.NoArgs,
		RunE: a.verb(func(context.Context, []string) error {
			result := profileListJSON{Schema: schema}
			rows := newTable("NAME", "DEVICES", "INTERRUPTS", ">REGISTERS", "DESCRIPTION")
			for _, p := range profile.Embedded() {
				l := listedJSON{Name: p.Name, Description: p.Description, Kinds: []string{}, Registers: len(p.Registers)}
				for _, id := range p.Match {
					l.Devices = append(l.Devices, fmt.Sprintf("%04x:%04x", id.Vendor, id.Device))
				}
				for _, k := range p.Kinds() {
					l.Kinds = append(l.Kinds, k.String())
				}
				result.Profiles = append(result.Profiles, l)
				kinds := kindNames(p.Kinds())
				if kinds == "" {
					kinds = "-"
				}
				rows.add(p.Name, strings.Join(l.Devices, ", "), kinds, l.Registers, p.Description)
			}
			if asJSON {
				a.printJSON(result)
			} else {
				rows.print(a.stdout, "", 0)
			}
			return nil
		}),
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return cmd
}

func (a *app) profileShowCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "show NAME|FILE",
		Short: "Show a profile: its registers with their fields, and how each interrupt is driven",
		Long: `show prints a profile of the program, or one in a file: registers, fields and steps as they are understood. --json prints the
profile itself, for a copy to begin with.`,
		Example: `  irqbridge profile show e1000e
  irqbridge profile show edu --json | jq .profile > board.json     a copy to begin with`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return fmt.Errorf("want one profile, by its name or file; have %d", len(args))
			}
			return nil
		},
		RunE: a.verb(func(_ context.Context, args []string) error {
			p, text, err := findProfile(args[0], args[0])
			if err != nil {
				return err
			}
			if asJSON {
				a.printJSON(profileShowJSON{schema, text})
			} else {
				a.printProfile(p)
			}
			return nil
		}),
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object, with the profile's file in it")
	return cmd
}

func (a *app) profileSchemaCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "schema",
		Short: "Print a JSON Schema of profiles, for editors",
		Long: `schema prints the JSON Schema of the profiles that this program reads. Editors complete and check a file by it; profile check knows
more.`,
		Example: `  irqbridge profile schema > profile.schema.json`,
		Args:    cobra.NoArgs,
		RunE: a.verb(func(context.Context, []string) error {
			a.printf("%s", profile.Schema)
			return nil
		}),
	}
}

func (a *app) profileCheckCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "check FILE...",
		Short: "Tell every mistake in profiles: its line and column, its field, and what is allowed there",
		Long: `check reads profiles as connect and regs do, and prints every mistake in the form FILE:LINE:COLUMN: FIELD: TEXT, which editors know.
A mistake in the syntax of JSON hides what follows. The exit status is 1 when there is any.`,
		Example: `  irqbridge profile check board.json`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return errors.New("want a file; have none")
			}
			return nil
		},
		RunE: a.verb(func(_ context.Context, files []string) error { return a.checkProfiles(files, asJSON) }),
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return cmd
}

func (a *app) checkProfiles(files []string, asJSON bool) error {
	result := profileCheckJSON{Schema: schema}
	code := exitOK
	for _, file := range files {
		text, err := readSmall(file)
		if err != nil {
			a.complain(err)
			code = exitFailed
			continue
		}
		p, mistakes := profile.Check(file, text)
		checked := checkedJSON{File: file, Errors: []mistakeJSON{}}
		for _, m := range mistakes {
			checked.Errors = append(checked.Errors, mistakeJSON{m.Line, m.Column, m.Field, m.Text})
			if !asJSON {
				a.printf("%v\n", m)
			}
		}
		if len(mistakes) > 0 {
			a.note("%s: %s", file, plural(len(mistakes), "mistake"))
			code = exitFailed
		} else {
			checked.Name = p.Name
			if !asJSON {
				a.printf("%s: profile %s is good: %s, %s\n", file, p.Name, plural(len(p.Registers), "register"), describesInterrupts(p))
			}
		}
		result.Files = append(result.Files, checked)
	}
	if asJSON {
		a.printJSON(result)
	}
	return exit(code)
}

// describesInterrupts is "interrupts of INTx, MSI".
func describesInterrupts(p *profile.Profile) string {
	if len(p.Interrupts) == 0 {
		return "no interrupts"
	}
	return "interrupts of " + kindNames(p.Kinds())
}

// printProfile shows a profile to people.
func (a *app) printProfile(p *profile.Profile) {
	var devices []string
	for _, id := range p.Match {
		devices = append(devices, fmt.Sprintf("%04x:%04x", id.Vendor, id.Device))
	}
	a.printf("%s  for %s%s\n", p.Name, strings.Join(devices, ", "), when(p.Description != "", "  "+p.Description))
	a.printf("\nRegisters\n")
	rows := newTable("NAME", "BITS", "ADDRESS", "ACCESS", "DESCRIPTION")
	for _, name := range p.Names() {
		r := p.Registers[name]
		rows.add(name, r.Width, fmt.Sprintf("bar%d+0x%x", r.BAR, r.Offset), r.Access, r.Description)
		for _, f := range r.Fields {
			access := ""
			if f.Access != r.Access {
				access = f.Access.String()
			}
			var values []string
			for _, v := range f.Values {
				values = append(values, fmt.Sprintf("0x%x %s", v.Value, v.Name))
			}
			about := f.Description
			if len(values) > 0 {
				about += when(about != "", ": ") + strings.Join(values, ", ")
			}
			rows.add("  ."+f.Name, f.Bits(), "", access, about)
		}
	}
	rows.print(a.stdout, "  ", 0)
	if p.Unraisable != "" {
		a.printf("\nNo register raises its interrupts: %s\n", p.Unraisable)
	}
	for _, i := range p.Interrupts {
		a.printf("\n%s\n", kindNames(i.Kinds))
		a.printList("enable", i.Enable)
		for _, m := range i.Messages {
			a.printf("  message %d: %s & 0x%x%s\n", m.Message, m.Status.Register, m.Status.Mask, expects(m.Rate))
			a.printList("  enable", m.Enable)
			a.printList("  raise", m.Raise)
			if len(m.Acknowledge) == 0 {
				a.printf("    acknowledge: reading %s does\n", m.Status.Register)
			}
			a.printList("  acknowledge", m.Acknowledge)
			a.printList("  disable", m.Disable)
			for _, c := range m.Causes {
				a.printf("    cause %s: 0x%x%s%s\n", c.Name, c.Mask, expects(c.Rate), when(c.Description != "", "  "+c.Description))
				a.printList("    raise", c.Raise)
			}
		}
		a.printList("disable", i.Disable)
	}
}

func expects(r *profile.Rate) string {
	if r == nil {
		return ""
	}
	return ", expected " + r.String()
}

func (a *app) printList(what string, steps []profile.Step) {
	if len(steps) > 0 {
		a.printf("  %s: %s\n", what, stepList(steps))
	}
}
