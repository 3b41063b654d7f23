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
	args    []string // for the guest
	files   []file
	outputs []wire.Output // under the same names on the host
	timeout time.Duration // 0: none
	brief   bool          // it was not to be verbose, and is all the same
}

// bootAndReturn is what a test's own timeout does not cover.
const bootAndReturn = 3 * time.Minute

// profiles are the flags of a test binary that name a file which it writes and somebody wants.
var profiles = []string{"coverprofile", "cpuprofile", "memprofile", "blockprofile", "mutexprofile", "trace"}

// otherOutput are the flags with which a test binary prints something else than what failed.
var otherOutput = []string{"v", "bench", "fuzz", "list"}

func inspectTest(args []string, dir string) (*testBinary, error) {
	t := &testBinary{files: []file{{source: dir, name: dir, onlyFiles: true}}}
	// Without this log go test does not keep the result in its cache, and it must not: it does not know that the
	// kernel is an input too.
	t.args = slices.DeleteFunc(slices.Clone(args), func(arg string) bool { return strings.HasPrefix(arg, "-test.testlogfile=") })
	for _, testdata := range testdataDirs(dir) {
		t.files = append(t.files, file{source: testdata, name: testdata})
	}

	flags := map[string]string{}
	for _, arg := range args {
		name, value, _ := strings.Cut(strings.TrimLeft(arg, "-"), "=")
		if name, isTest := strings.CutPrefix(name, "test."); isTest && strings.HasPrefix(arg, "-") {
			flags[name] = value
		}
	}
	given := func(name string) bool { _, ok := flags[name]; return ok }
	if t.brief = !slices.ContainsFunc(otherOutput, given); t.brief {
		t.args = slices.Insert(t.args, 0, "-test.v=test2json")
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
