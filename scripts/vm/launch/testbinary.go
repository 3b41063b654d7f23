package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/irqbridge/irqbridge/scripts/vm/internal/wire"
)

// testBinary is what a Go test binary needs beside itself, told from its arguments and its working directory, which is
// the package's directory.
type testBinary struct {
	files   []file
	outputs []wire.Output // under the same names on the host
	timeout time.Duration // 0: none
}

// bootAndReturn is what a test's own timeout does not cover.
const bootAndReturn = 3 * time.Minute

// profiles are the flags of a test binary that name a file which it writes. -test.testlogfile is not among them: go
// test would take the log for a licence to answer from its cache, and it does not know that the kernel is an input.
var profiles = []string{"coverprofile", "cpuprofile", "memprofile", "blockprofile", "mutexprofile", "trace"}

func inspectTest(args []string, dir string) (*testBinary, error) {
	t := &testBinary{files: []file{{source: dir, name: dir, onlyFiles: true}}}
	for _, testdata := range testdataDirs(dir) {
		t.files = append(t.files, file{source: testdata, name: testdata})
	}

	flags := map[string]string{}
	for _, arg := range args {
		name, value, ok := strings.Cut(strings.TrimLeft(arg, "-"), "=")
		if name, isTest := strings.CutPrefix(name, "test."); isTest && ok && strings.HasPrefix(arg, "-") {
			flags[name] = value
		}
	}
	outputDir := dir
	if d := flags["outputdir"]; d != "" {
		outputDir = absolute(dir, d)
	}
	for _, name := range profiles {
		if flags[name] != "" {
			t.outputs = append(t.outputs, wire.Output{Path: absolute(outputDir, flags[name])})
		}
	}
	if d := flags["gocoverdir"]; d != "" {
		t.outputs = append(t.outputs, wire.Output{Path: absolute(dir, d), Dir: true})
	}
	if limit := flags["timeout"]; limit != "" {
		d, err := time.ParseDuration(limit)
		if err != nil {
			return nil, fmt.Errorf("-test.timeout: %w", err)
		}
		if d > 0 {
			t.timeout = d + bootAndReturn
		}
	}
	return t, nil
}

// neededDirs gives the directories that the test binary writes to and nobody wants back.
func neededDirs(args []string) []string {
	var dirs []string
	for _, arg := range args {
		if log, ok := strings.CutPrefix(arg, "-test.testlogfile="); ok {
			dirs = append(dirs, filepath.Dir(log))
		}
	}
	return dirs
}

// testdataDirs gives the testdata directories that a package may read: its own and its module's.
func testdataDirs(dir string) []string {
	candidates := []string{filepath.Join(dir, "testdata")}
	for d := dir; ; d = filepath.Dir(d) {
		if _, err := os.Stat(filepath.Join(d, "go.mod")); err == nil {
			candidates = append(candidates, filepath.Join(d, "testdata"))
			break
		}
		if d == filepath.Dir(d) {
			break
		}
	}
	slices.Sort(candidates)
	return slices.DeleteFunc(slices.Compact(candidates), func(d string) bool {
		info, err := os.Stat(d)
		return err != nil || !info.IsDir()
	})
}

func absolute(dir, name string) string {
	if filepath.IsAbs(name) {
		return filepath.Clean(name)
	}
	return filepath.Join(dir, name)
}
