package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"text/tabwriter"
)

const (
	suite    = "./vfio/vfiotest/"
	recorded = "vfio/vfiotest/testdata"
)

// reportVFIO runs the suite of vfio/vfiotest on the backends of that names, or on the fake, and prints its table.
func reportVFIO(names []string, stdout, stderr io.Writer) error {
	root, err := os.Getwd()
	if err != nil {
		return err
	}
	if len(names) == 0 {
		names = []string{"fake"}
	}
	chosen, err := choose(root, names)
	if err != nil {
		return err
	}
	files, err := readGoldens(recorded)
	if err != nil {
		return fmt.Errorf("%w; run it from the top of the repository", err)
	}
	held := map[string]map[string]bool{}
	var columns []string
	var failed []error
	for _, b := range chosen {
		for _, m := range vfioMachines(b) {
			columns = append(columns, m.title)
			held[m.title] = map[string]bool{}
		}
		failed = append(failed, b.goTest(nil, suite, stdout, stderr, func(r io.Reader) (string, error) {
			return collectHeld(r, vfioMachines(b), held)
		}))
	}
	for _, f := range files {
		compared := func(column string) bool { return held[column][f.name] }
		if slices.ContainsFunc(chosen, func(b backend) bool { return b.name == "fake" }) && !slices.ContainsFunc(columns, compared) {
			failed = append(failed, fmt.Errorf("%s.txt is recorded, and no test compares it", f.name))
		}
	}
	tests, err := readLines(recorded + "/selftests.txt")
	if err != nil {
		return err
	}
	_, err = io.WriteString(stdout, vfioTable(files, columns, held)+vfioDifferences(files)+selftests(tests))
	return errors.Join(append(failed, err)...)
}

// selftests counts the kernel's own selftests, each in every variant, and those that have a counterpart: a case that has one, in
// a variant that has one. The file itself says what is in it.
func selftests(lines []string) string {
	variants, covered := map[string]int{"-": 1}, map[string]int{"-": 1}
	none := func(counterpart string) bool { return strings.HasPrefix(counterpart, "none: ") }
	for _, line := range lines {
		if f := strings.SplitN(line, " ", 4); f[0] == "variant" {
			variants[f[1]]++
			if !none(f[3]) {
				covered[f[1]]++
			}
		}
	}
	all, have := 0, 0
	var missing []string
	for _, line := range lines {
		f := strings.SplitN(line, " ", 5)
		if f[0] != "case" {
			continue
		}
		n, m := 1, 1
		for set := range strings.SplitSeq(f[3], ",") {
			n, m = n*variants[set], m*covered[set]
		}
		all += n
		if none(f[4]) {
			missing = append(missing, fmt.Sprintf("  %s: %s\n", f[2], strings.TrimPrefix(f[4], "none: ")))
			continue
		}
		have += m
	}
	for _, line := range lines {
		if f := strings.SplitN(line, " ", 4); f[0] == "variant" && none(f[3]) {
			missing = append(missing, fmt.Sprintf("  %s: %s\n", f[2], strings.TrimPrefix(f[3], "none: ")))
		}
	}
	without := "\n"
	if len(missing) > 0 {
		without = " Without:\n" + strings.Join(missing, "")
	}
	return fmt.Sprintf("\nThe kernel's own selftests of VFIO are %d cases with their variants; %d have a counterpart here.%s",
		all, have, without)
}

// vfioMachines are those of a backend on which the suite of vfio/vfiotest runs: there is a fake more.
func vfioMachines(b backend) []machine {
	if b.name == "fake" {
		return append(slices.Clone(b.machines), machine{"fake/own", "fake own"})
	}
	return b.machines
}

// golden is one file of answers: of Linux 6.1, and of the newest kernel, which "own" is another build of. What only that has
// the file for has no lines of Linux 6.1.
type golden struct {
	name        string
	old, newest []string
}

func readGoldens(dir string) ([]golden, error) {
	names, err := filepath.Glob(dir + "/newest/*.txt")
	if err == nil && len(names) == 0 {
		err = fmt.Errorf("there is nothing in %s/newest", dir)
	}
	if err != nil {
		return nil, err
	}
	var files []golden
	for _, name := range names {
		r := golden{name: strings.TrimSuffix(filepath.Base(name), ".txt")}
		if r.newest, err = readLines(name); err != nil {
			return nil, err
		}
		if r.old, err = readLines(filepath.Join(dir, "6.1", filepath.Base(name))); err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
		files = append(files, r)
	}
	return files, nil
}

func readLines(name string) ([]string, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	return strings.Split(strings.TrimSuffix(string(text), "\n"), "\n"), nil
}

// isMatrix tells whether a line has a cell for each state of a device, behind the request.
func (r golden) isMatrix() bool { return strings.HasPrefix(r.name, "setirqs-") }

// cells counts them.
func (r golden) cells(lines []string) int {
	if !r.isMatrix() {
		return len(lines)
	}
	n := 0
	for _, line := range lines {
		n += strings.Count(line, " | ")
	}
	return n
}

var (
	heldFile    = regexp.MustCompile(`testdata/(6\.1|newest)/([^/ ]+)\.txt is as recorded`)
	heldMachine = regexp.MustCompile(`/(fake/6\.1|fake/newest|fake/own|real)(/|$)`)
)

// collectHeld notes which files were as recorded on which machines, from the events of a run.
func collectHeld(r io.Reader, machines []machine, held map[string]map[string]bool) (failures string, err error) {
	output := map[string]*strings.Builder{}
	var failed strings.Builder
	for d := json.NewDecoder(r); ; {
		var e event
		switch err := d.Decode(&e); {
		case errors.Is(err, io.EOF):
			return failed.String(), nil
		case err != nil:
			return "", fmt.Errorf("output of go test: %w", err)
		}
		switch e.Action {
		case "output", "build-output":
			if output[e.Test] == nil {
				output[e.Test] = &strings.Builder{}
			}
			output[e.Test].WriteString(e.Output)
		case "fail", "build-fail":
			if output[e.Test] != nil {
				failed.WriteString(output[e.Test].String())
			}
		}
		file, on := heldFile.FindStringSubmatch(e.Output), heldMachine.FindStringSubmatch(e.Test)
		if file == nil || on == nil {
			continue
		}
		for _, m := range machines {
			if m.subtest == on[1] {
				held[m.title][file[2]] = true
			}
		}
	}
}

// vfioTable is how many cells each file has, and how many of them were the same on each machine.
func vfioTable(files []golden, columns []string, held map[string]map[string]bool) string {
	var b strings.Builder
	tw := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
	_, _ = fmt.Fprintf(tw, "recorded\t6.1\tnewest\town\tdiffer\t%s\t\n", strings.Join(columns, "\t")) // to memory, as the rest
	total := make([]int, 4+len(columns))
	row := func(name string, cells []int) {
		_, _ = fmt.Fprintf(tw, "%s\t", name)
		for _, n := range cells {
			_, _ = fmt.Fprintf(tw, "%d\t", n)
		}
		_, _ = fmt.Fprintln(tw)
	}
	for _, f := range files {
		own := f.cells(f.newest)
		cells := []int{f.cells(f.old), own, own, 0}
		if f.old == nil {
			cells[1] = 0 // Debian's newest has none of it
		}
		for _, d := range f.differences() {
			cells[3] += d.cells
		}
		for _, c := range columns {
			n := 0
			if held[c][f.name] {
				n = own
				if strings.HasSuffix(c, "6.1") || strings.HasSuffix(c, "stable") {
					n = cells[0]
				}
			}
			cells = append(cells, n)
		}
		row(f.name, cells)
		for i, n := range cells {
			total[i] += n
		}
	}
	row("all", total)
	_ = tw.Flush()
	b.WriteString(`A cell is what one request was answered with in one state of the device; outside of setirqs, it is a line.
In setirqs, requests that are not recorded are EINVAL in every state, and compared, too.
own is the newest kernel in a build of our own, which answers as newest does and has iommufd.
"more" is compared on real kernels where there are more devices (IRQBRIDGE_VM_DEVICES=more).
`)
	return b.String()
}
