package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
)

const (
	list    = "connect/testdata/conformance.txt"
	test    = "TestConformance"
	subject = "./connect/"
)

// backend is what the suite runs on in one run of go test.
type backend struct {
	name     string
	machines []machine
	flags    []string
	env      []string
}

// machine is what vfiotest.Run names a subtest by, and what the table calls it.
type machine struct{ subtest, title string }

// backends are all that there are, in the order of the table. The kernels are those of scripts/vm.
func backends(root string) []backend {
	inVM := func(kernel string) backend {
		return backend{
			name:     kernel,
			machines: []machine{{"real", "real " + kernel}},
			flags:    []string{"-timeout=20m", "-exec=" + root + "/scripts/vm/exec"},
			env:      []string{"CGO_ENABLED=0", "IRQBRIDGE_VM_KERNEL=" + kernel},
		}
	}
	return []backend{
		{
			name:     "fake",
			machines: []machine{{"fake/6.1", "fake 6.1"}, {"fake/newest", "fake newest"}},
			flags:    []string{"-race", "-shuffle=on"},
			env:      []string{"CGO_ENABLED=1"},
		},
		inVM("stable"),
		inVM("newest"),
		inVM("own"),
	}
}

// event is a line of go test -json, as cmd/test2json documents it.
type event struct {
	Action string
	Test   string
	Output string
}

// outcome is what became of a row's subtest and of those below it by machine: "pass", "fail" or "skip".
type outcome struct {
	group    string
	whole    string
	machines map[string]string
}

// run runs the suite on a backend and returns what became of each row. What failed it shows.
func (b backend) run(stdout, stderr io.Writer) (outcomes map[string]*outcome, err error) {
	err = b.goTest([]string{"-run=^" + test + "$"}, subject, stdout, stderr, func(r io.Reader) (failures string, err error) {
		outcomes, failures, err = collect(r)
		return failures, err
	})
	return outcomes, err
}

// goTest runs go test -json on a backend, and has read its events, and return the output of what failed, which is shown when
// the command failed.
func (b backend) goTest(args []string, pkg string, stdout, stderr io.Writer, read func(io.Reader) (string, error)) error {
	cmd := exec.Command("go", slices.Concat([]string{"test", "-json", "-count=1"}, args, b.flags, []string{pkg})...)
	cmd.Env = append(os.Environ(), b.env...)
	cmd.Stderr = stderr
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	failures, err := read(pipe)
	if err != nil {
		_ = cmd.Process.Kill()
	}
	if failed := cmd.Wait(); err == nil && failed != nil {
		_, err = io.WriteString(stdout, failures)
		err = errors.Join(fmt.Errorf("go test on %s: %w", b.name, failed), err)
	}
	return err
}

// collect reads the events of a run. The second result is the output of all tests that failed, and of none.
func collect(r io.Reader) (map[string]*outcome, string, error) {
	outcomes := map[string]*outcome{}
	output := map[string]*strings.Builder{}
	var failures strings.Builder
	for d := json.NewDecoder(r); ; {
		var e event
		switch err := d.Decode(&e); {
		case errors.Is(err, io.EOF):
			return outcomes, failures.String(), nil
		case err != nil:
			return nil, "", fmt.Errorf("output of go test: %w", err)
		}
		switch e.Action {
		case "output", "build-output":
			if output[e.Test] == nil {
				output[e.Test] = &strings.Builder{}
			}
			output[e.Test].WriteString(e.Output)
		case "pass", "fail", "skip", "build-fail":
			if e.Action != "pass" && output[e.Test] != nil {
				failures.WriteString(output[e.Test].String())
			}
			record(outcomes, e)
		}
	}
}

// record keeps what became of a row: TestConformance/E/072, or TestConformance/E/072/fake/6.1.
func record(outcomes map[string]*outcome, e event) {
	parts := strings.SplitN(e.Test, "/", 4)
	if len(parts) < 3 || parts[0] != test {
		return
	}
	o := outcomes[parts[2]]
	if o == nil {
		o = &outcome{machines: map[string]string{}}
		outcomes[parts[2]] = o
	}
	o.group = parts[1]
	if len(parts) == 3 {
		o.whole = e.Action
	} else {
		o.machines[parts[3]] = e.Action
	}
}
