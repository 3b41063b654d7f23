package main

import (
	"bytes"
	"io"
	"slices"
	"strings"
)

// testOutput passes on the standard output of a Go test binary, and remembers which test it began last: there is
// nothing else to tell where it was when the machine ends under it.
//
// A test binary names the tests that it begins only with -test.v. One that was not to be verbose is run with
// -test.v=test2json, which marks the lines of package testing, and testOutput is brief: of a test that failed it passes
// on that and then what it printed, of one that did not end what it printed, and of the others nothing.
type testOutput struct {
	w     io.Writer
	brief bool

	line    []byte        // what is not a whole line yet
	begun   string        // the test that began last
	current string        // the test that prints; empty outside of all
	running []*testPrints // in the order in which they began
}

// testPrints is what a test that runs has printed.
type testPrints struct {
	name string
	text strings.Builder
}

// marker precedes what package testing prints, even in the middle of a line (cmd/internal/test2json).
const marker = "\x16"

func (o *testOutput) Write(p []byte) (int, error) {
	if !o.brief {
		if n, err := o.w.Write(p); err != nil {
			return n, err
		}
	}
	o.line = append(o.line, p...)
	for {
		line, rest, whole := bytes.Cut(o.line, []byte("\n"))
		if !whole {
			return len(p), nil
		}
		o.line = rest
		if err := o.take(string(line) + "\n"); err != nil {
			return 0, err
		}
	}
}

// Close passes on what was printed by tests that did not end.
func (o *testOutput) Close() error {
	var text []byte
	for _, t := range o.running {
		text = append(text, t.text.String()...)
	}
	text = append(text, o.line...)
	if !o.brief || len(text) == 0 {
		return nil
	}
	_, err := o.w.Write(text)
	return err
}

// take takes one line.
func (o *testOutput) take(line string) error {
	text, report, marked := strings.Cut(line, marker)
	if !marked && !o.brief {
		text, report = "", line
	}
	if err := o.print(text); err != nil {
		return err
	}
	fields := strings.Fields(report)
	if len(fields) < 3 || fields[0] != "===" && fields[0] != "---" {
		return o.print(report) // PASS or FAIL of all of them
	}
	switch name := fields[2]; fields[1] {
	case "RUN":
		o.begun, o.current = name, name
		o.running = append(o.running, &testPrints{name: name})
	case "NAME", "CONT":
		o.current = name
	case "PASS:", "SKIP:":
		o.end(name)
	case "FAIL:":
		return o.print(report + o.end(name))
	}
	return nil
}

// end forgets a test, and returns what it printed.
func (o *testOutput) end(name string) (text string) {
	o.running = slices.DeleteFunc(o.running, func(t *testPrints) bool {
		if t.name == name {
			text = t.text.String()
		}
		return t.name == name
	})
	o.current = ""
	return text
}

// print takes what the current test prints.
func (o *testOutput) print(text string) error {
	if !o.brief || text == "" {
		return nil
	}
	for _, t := range o.running {
		if t.name == o.current {
			t.text.WriteString(text)
			return nil
		}
	}
	_, err := io.WriteString(o.w, text)
	return err
}
