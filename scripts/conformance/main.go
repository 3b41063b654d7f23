package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
)

func main() {
	run, args := report, os.Args[1:]
	if len(args) > 0 && args[0] == "vfio" {
		run, args = reportVFIO, args[1:]
	}
	if err := run(args, os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "conformance:", err)
		os.Exit(1)
	}
}

// report runs the suite on the backends of that names, or on all, and prints the table.
func report(names []string, stdout, stderr io.Writer) error {
	root, err := os.Getwd()
	if err != nil {
		return err
	}
	f, err := os.Open(list)
	if err != nil {
		return fmt.Errorf("%w; run it from the top of the repository", err)
	}
	defer func() { _ = f.Close() }()
	rows, err := readList(f)
	if err != nil {
		return fmt.Errorf("%s: %w", list, err)
	}
	chosen, err := choose(root, names)
	if err != nil {
		return err
	}
	t := newTable(rows)
	var failed []error
	for _, b := range chosen {
		outcomes, err := b.run(stdout, stderr)
		failed = append(failed, err)
		t.add(b, outcomes)
	}
	if _, err := io.WriteString(stdout, t.String()); err != nil {
		failed = append(failed, err)
	}
	if len(t.problems) > 0 {
		failed = append(failed, fmt.Errorf("%d times a row is not as the list says:\n%s", len(t.problems), strings.Join(t.problems, "\n")))
	}
	return errors.Join(failed...)
}

// choose returns the backends of that names, all when there are none.
func choose(root string, names []string) ([]backend, error) {
	all := backends(root)
	for _, name := range names {
		if !slices.ContainsFunc(all, func(b backend) bool { return b.name == name }) {
			return nil, fmt.Errorf("there is no backend %q; want fake, stable, newest or own", name)
		}
	}
	if len(names) == 0 {
		return all, nil
	}
	return slices.DeleteFunc(all, func(b backend) bool { return !slices.Contains(names, b.name) }), nil
}

// table counts the rows that passed.
type table struct {
	rows     []row
	columns  []string                  // the titles of the machines
	passed   map[string]map[string]int // by title and group
	problems []string
}

// noDevice is the column of the rows that need none. Once is enough for them, and that is with the fakes: in the virtual
// machine there is no go command, which one of them needs.
const noDevice = "no device"

func newTable(rows []row) *table {
	return &table{rows: rows, passed: map[string]map[string]int{}}
}

// add holds what ran on a backend to the list.
func (t *table) add(b backend, outcomes map[string]*outcome) {
	column := func(title string) {
		t.columns = append(t.columns, title)
		t.passed[title] = map[string]int{}
	}
	if b.name == "fake" {
		column(noDevice)
	}
	for _, m := range b.machines {
		column(m.title)
	}
	problem := func(row, format string, args ...any) {
		t.problems = append(t.problems, fmt.Sprintf("%s on %s: ", row, b.name)+fmt.Sprintf(format, args...))
	}
	listed := map[string]bool{}
	for _, r := range t.rows {
		listed[r.name] = true
		o := outcomes[r.name]
		switch {
		case r.where == nowhere && o != nil:
			problem(r.name, "ran, and is listed as one that cannot hold")
		case r.where == nowhere:
		case o == nil:
			problem(r.name, "missing: %s", r.text)
		case o.group != r.group:
			problem(r.name, "is in group %s, and listed in %s", o.group, r.group)
		case r.where == once && b.name != "fake" && o.whole == "skip":
		case o.whole != "pass":
			problem(r.name, "%s: %s", result(o.whole), r.text)
		default:
			for _, wrong := range t.count(b, r, o) {
				problem(r.name, "%s", wrong)
			}
		}
	}
	for name, o := range outcomes {
		if !listed[name] {
			problem(name, "is not listed (group %s)", o.group)
		}
	}
	slices.Sort(t.problems)
}

// count counts a row that passed as a whole, and says where it ran without the list's leave, or did not with it.
func (t *table) count(b backend, r row, o *outcome) (wrong []string) {
	if r.where == once && b.name == "fake" {
		t.passed[noDevice][r.group]++
	}
	for _, m := range b.machines {
		got, ran := o.machines[m.subtest]
		wanted := r.where == onReal || r.where == onFake && m.subtest != "real"
		switch {
		case wanted && got == "pass":
			t.passed[m.title][r.group]++
		case wanted:
			wrong = append(wrong, fmt.Sprintf("%s on %s: %s", result(got), m.title, r.text))
		case ran:
			wrong = append(wrong, fmt.Sprintf("ran on %s, and is listed as %q", m.title, r.where))
		}
	}
	return wrong
}

// result is a word for what became of a test.
func result(action string) string {
	switch action {
	case "pass":
		return "passed"
	case "fail":
		return "failed"
	case "skip":
		return "skipped"
	}
	return "did not run"
}

// String is the table: the counts by group, and the rows that do not run on the real kernel.
func (t *table) String() string {
	var cells strings.Builder
	fmt.Fprintf(&cells, "group\trows\t%s\t\n", strings.Join(t.columns, "\t"))
	var groups []string
	size := map[string]int{}
	names := map[where][]string{}
	for _, r := range t.rows {
		if size[r.group]++; size[r.group] == 1 {
			groups = append(groups, r.group)
		}
		names[r.where] = append(names[r.where], r.name)
	}
	all := map[string]int{}
	for _, g := range groups {
		fmt.Fprintf(&cells, "%s\t%d\t", g, size[g])
		for _, c := range t.columns {
			fmt.Fprintf(&cells, "%d\t", t.passed[c][g])
			all[c] += t.passed[c][g]
		}
		cells.WriteByte('\n')
	}
	fmt.Fprintf(&cells, "all\t%d\t", len(t.rows))
	for _, c := range t.columns {
		fmt.Fprintf(&cells, "%d\t", all[c])
	}
	cells.WriteByte('\n')

	var b strings.Builder
	tw := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
	_, _ = io.WriteString(tw, cells.String()) // to memory, as the flush
	_ = tw.Flush()
	fmt.Fprintf(&b, "%d rows are to hold on the real kernel.\n", len(names[onReal]))
	for _, n := range []struct {
		where where
		why   string
	}{
		{once, "need no device"},
		{onFake, "need a fault, processors or a device that the virtual machine has not"},
		{nowhere, "cannot hold; the documentation of package connect says why"},
	} {
		fmt.Fprintf(&b, "%d %s: %s\n", len(names[n.where]), n.why, strings.Join(names[n.where], " "))
	}
	return b.String()
}
