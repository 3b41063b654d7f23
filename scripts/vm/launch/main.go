package main

import (
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/irqbridge/irqbridge/scripts/vm/internal/wire"
)

// Exit statuses that are not the program's.
const (
	exitUsage     = 2
	exitTimeout   = 124
	exitMachine   = 125
	exitCannotRun = 126
)

// exitError is an error with the exit status that goes with it.
type exitError struct {
	status int
	err    error
}

func (e exitError) Error() string { return e.err.Error() }
func (e exitError) Unwrap() error { return e.err }

func main() {
	o, err := parse(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "scripts/vm/run:", err)
		os.Exit(exitUsage)
	}
	status, err := launch(o)
	if err != nil {
		fmt.Fprintln(os.Stderr, "scripts/vm:", err)
		status = exitMachine
		if e, ok := errors.AsType[exitError](err); ok {
			status = e.status
		}
	}
	os.Exit(status)
}

// launch gives the exit status of the program, or why there is none.
func launch(o *options) (int, error) {
	dir, err := os.Getwd()
	if err != nil {
		return 0, err
	}
	job := &wire.Job{Args: o.command, Dir: dir, Env: environment(o), User: o.user}
	var files []file
	back := map[string]string{} // guest path to host path
	tests := &testOutput{w: os.Stdout}
	stdout := io.Writer(os.Stdout)

	if strings.Contains(o.command[0], "/") {
		program := absolute(dir, o.command[0])
		if err := checkRunnable(program); err != nil {
			return 0, exitError{exitCannotRun, err}
		}
		job.Args = slices.Concat([]string{program}, o.command[1:])
		files = append(files, file{source: program, name: program})
	}
	for _, f := range o.files {
		source := absolute(dir, f.from)
		name := source
		if f.to != "" {
			name = absolute(dir, f.to)
		}
		files = append(files, file{source: source, name: name})
	}
	if o.goTest {
		t, err := inspectTest(o.command[1:], dir)
		if err != nil {
			return 0, exitError{exitUsage, err}
		}
		job.Args = slices.Concat(job.Args[:1], t.args)
		files = append(files, t.files...)
		for _, output := range t.outputs {
			back[output.Path] = output.Path
		}
		job.Output = t.outputs
		tests.brief, stdout = t.brief, tests
		if o.timeout < 0 {
			o.timeout = t.timeout
		}
	}
	if d := os.Getenv("GOCOVERDIR"); d != "" {
		d = absolute(dir, d)
		job.Output = append(job.Output, wire.Output{Path: d, Dir: true})
		back[d] = d
	}
	var wanted []string // what it is worth a word when missing
	for _, p := range o.bringBack {
		guest := absolute(dir, p.from)
		back[guest] = guest
		if p.to != "" {
			back[guest] = absolute(dir, p.to)
		}
		job.Output = append(job.Output, wire.Output{Path: guest})
		wanted = append(wanted, guest)
	}

	kernelDir, busybox, err := prepare(o)
	if err != nil {
		return 0, err
	}
	boot := func() (*session, *wire.Result, error) {
		image, err := initrd(o.init, busybox, kernelDir, job, files)
		if err != nil {
			return nil, nil, err
		}
		s, err := newSession(o, filepath.Join(kernelDir, "vmlinuz"), image, input(), stdout)
		if err != nil {
			return nil, nil, err
		}
		result, err := s.run()
		if closeErr := tests.Close(); err == nil {
			err = closeErr
		}
		if err != nil {
			return s, nil, explain(err, o, tests.begun, s.console)
		}
		return s, result, nil
	}
	s, result, err := boot()
	if _, ok := errors.AsType[bootError](err); ok {
		// An emulated machine on a loaded host may panic at boot. Nothing was run and no input was read, so a second
		// try hides nothing of what is tested.
		fmt.Fprintf(os.Stderr, "scripts/vm: %v\nscripts/vm: once more\n", err)
		s, result, err = boot()
	}
	if err != nil {
		return 0, err
	}
	var missing []string
	if s.archive.Len() > 0 {
		if missing, err = extract(&s.archive, back); err != nil {
			return 0, fmt.Errorf("files from the guest: %w", err)
		}
	}
	switch {
	case result.Error != "":
		return 0, exitError{exitCannotRun, errors.New(result.Error)}
	case result.Signal != "":
		fmt.Fprintf(os.Stderr, "scripts/vm: the program was killed: %s\n", result.Signal)
	}
	for _, name := range wanted {
		// A program that failed has an excuse, and its own exit status.
		if slices.Contains(missing, name) && result.Status == 0 {
			return 0, fmt.Errorf("--bring-back %s: the guest has no such file", name)
		}
	}
	return result.Status, nil
}

// explain adds to a failure of the machine which test began last, unless there was none, and what the console showed
// last, and gives it its exit status.
func explain(err error, o *options, test string, c *console) error {
	if ended, ok := errors.AsType[signalError](err); ok {
		return exitError{128 + int(ended.signal), err}
	}
	status := exitMachine
	if _, late := errors.AsType[timeoutError](err); late {
		status = exitTimeout
	}
	if test != "" {
		test = "\nthe test that began last: " + test
	}
	return exitError{status, fmt.Errorf("%w%s\nkernel %s; the console's last lines:\n%s", err, test, o.kernel, c.Tail("  | "))}
}

// prepare gives the kernel's directory and the busybox program, after calling setup if something is missing.
func prepare(o *options) (kernelDir, busybox string, err error) {
	link, err := kernelLink(o)
	if err != nil {
		return "", "", err
	}
	complete := func() bool {
		_, qemuErr := exec.LookPath("qemu-system-x86_64")
		kernelDir, err = filepath.EvalSymlinks(filepath.Join(o.cache, link))
		busybox = filepath.Join(o.cache, "busybox")
		_, statErr := os.Stat(busybox)
		return qemuErr == nil && err == nil && statErr == nil
	}
	if complete() {
		return kernelDir, busybox, nil
	}
	setup := exec.Command(o.setup, o.kernel)
	setup.Stdout, setup.Stderr = os.Stderr, os.Stderr
	if err := setup.Run(); err != nil {
		return "", "", fmt.Errorf("%s %s: %w", o.setup, o.kernel, err)
	}
	if !complete() {
		return "", "", fmt.Errorf("%s %s left something out", o.setup, o.kernel)
	}
	return kernelDir, busybox, nil
}

// kernelLink is the name that setup gives the kernel's directory in the cache. Kernels that are built here differ with
// their configuration, which each checkout has its own of.
func kernelLink(o *options) (string, error) {
	if o.kernel != "own" {
		return o.kernel, nil
	}
	config, err := os.ReadFile(filepath.Join(filepath.Dir(o.setup), "kernel.config"))
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("own-%.8x", sha256.Sum256(config)), nil
}

// environment is what of this process's environment the program gets.
func environment(o *options) []string {
	pass := []string{
		"GOCOVERDIR", "GODEBUG", "GOGC", "GOMAXPROCS", "GOMEMLIMIT", "GOTRACEBACK", "CI", "NO_COLOR", "LANG", "TERM", "TZ",
	}
	env := slices.DeleteFunc(os.Environ(), func(pair string) bool {
		name, _, _ := strings.Cut(pair, "=")
		return name == "IRQBRIDGE_VM" || !strings.HasPrefix(name, "IRQBRIDGE_") && !slices.Contains(pass, name)
	})
	return append(env, "IRQBRIDGE_VM="+o.kernel)
}

// input is standard input unless it is a terminal, which a program in a test machine is not to read.
func input() io.Reader {
	if _, err := unix.IoctlGetTermios(int(os.Stdin.Fd()), unix.TCGETS); err == nil {
		return nil
	}
	return os.Stdin
}
