package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/irqbridge/irqbridge/vfio/host"
)

func main() {
	args := os.Args[1:]
	command, name := benchmark, "bench"
	if len(args) > 0 {
		// The processes that are measured are this program, too.
		if inner, ok := inner[args[0]]; ok {
			command, name, args = inner, "bench: "+args[0], args[1:]
		}
	}
	err := command(args, os.Stdout)
	var wrong usageError
	switch {
	case err == nil:
	case errors.As(err, &wrong):
		fmt.Fprintf(os.Stderr, "%s: %v\nnext: scripts/bench --help\n", name, err)
		os.Exit(2)
	default:
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		os.Exit(1)
	}
}

// inner are what this program is in other processes.
var inner = map[string]func(args []string, stdout io.Writer) error{
	"receive":   receive,
	"pause":     pauseIn,
	"guest":     guestIn,
	"interrupt": interruptIn,
	"open":      openIn,
}

const usage = `usage: scripts/bench [--short] [--json] [--out DIR] [--svg DIR] [--only SCENARIO,…] [--rounds N]
       scripts/bench --vm [--kernel KERNEL,…] [--short] [--json] [--out DIR] [--svg DIR] [--rounds N]

Measures the time from an eventfd's signal to the service routine, through connect.Connect, beside programs in C, DPDK's
interrupt thread, libuv and plain Go, and prints ratios. "go doc ./scripts/benchmark" tells how, and how to read them.
It wants two processors that nobody else uses, and root for SCHED_FIFO; progress goes to standard error. With --vm it
measures interrupts of devices, in the virtual machine of scripts/vm, beside a driver in C and the kernel's libvfio.

  --short        fewer rounds: under five minutes, in place of a quarter of an hour
  --json         print one line of JSON in place of the tables
  --out DIR      also write table.txt, result.json and the plots into DIR
  --svg DIR      also write the plots into DIR
  --only LIST    these scenarios only: %s
  --rounds N     this many rounds of each scenario
  --vm           measure in the virtual machine, and nothing else
  --kernel LIST  the virtual machine's kernels: stable and newest if not given
  --help         this text

Exit status: 0 when all was measured; 1 when a variant did not run, an interrupt was lost or irqbridge allocates for an
interrupt, whatever the times are; 2 for wrong usage.
`

// fifo is the priority of those who have SCHED_FIFO.
const fifo = 80

// stopTheWorld is the name of the scenario that measures the garbage collector.
const stopTheWorld = "stop-the-world"

// usageError is one of the person who called.
type usageError struct{ error }

type options struct {
	help, short, json bool
	vm                bool
	kernels           []string
	out, svg          string
	rounds            int
	scenarios         []*scenario
	pauses            bool
}

func parse(args []string) (*options, error) {
	o := &options{pauses: true, scenarios: scenarios()}
	only, kernels := "", ""
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.BoolVar(&o.short, "short", false, "")
	flags.BoolVar(&o.json, "json", false, "")
	flags.StringVar(&o.out, "out", "", "")
	flags.StringVar(&o.svg, "svg", "", "")
	flags.StringVar(&only, "only", "", "")
	flags.IntVar(&o.rounds, "rounds", 0, "")
	flags.BoolVar(&o.vm, "vm", false, "")
	flags.StringVar(&kernels, "kernel", "", "")
	err := flags.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		o.help = true
		return o, nil
	case err != nil:
		return nil, usageError{err}
	case flags.NArg() > 0:
		return nil, usageError{fmt.Errorf("unexpected argument %q", flags.Arg(0))}
	case o.rounds < 0:
		return nil, usageError{fmt.Errorf("%d rounds; want 1 or more", o.rounds)}
	case o.vm && only != "":
		return nil, usageError{errors.New("--only is for measurements outside the virtual machine")}
	case !o.vm && kernels != "":
		return nil, usageError{errors.New("--kernel is for --vm")}
	}
	o.kernels = []string{"stable", "newest"}
	if kernels != "" {
		o.kernels = strings.Split(kernels, ",")
	}
	for _, k := range o.kernels {
		if k != "stable" && k != "newest" {
			return nil, usageError{fmt.Errorf("there is no kernel %q for this; want stable, newest", k)}
		}
	}
	if only != "" {
		return o, o.choose(strings.Split(only, ","))
	}
	return o, nil
}

// choose keeps the named scenarios.
func (o *options) choose(names []string) error {
	for _, name := range names {
		if !slices.Contains(scenarioNames(), name) {
			return usageError{fmt.Errorf("there is no scenario %q; want %s", name, strings.Join(scenarioNames(), ", "))}
		}
	}
	o.scenarios = slices.DeleteFunc(o.scenarios, func(s *scenario) bool { return !slices.Contains(names, s.name) })
	o.pauses = slices.Contains(names, stopTheWorld)
	return nil
}

func scenarioNames() []string {
	var names []string
	for _, s := range scenarios() {
		names = append(names, s.name)
	}
	return append(names, stopTheWorld)
}

// roundsOf is how often a scenario is measured.
func (o *options) roundsOf(s *scenario) int {
	switch {
	case o.rounds > 0:
		return o.rounds
	case o.short:
		return s.shortRounds
	}
	return s.rounds
}

func benchmark(args []string, stdout io.Writer) error {
	o, err := parse(args)
	if err != nil {
		return err
	}
	if o.help {
		_, err := fmt.Fprintf(stdout, usage, strings.Join(scenarioNames(), ", "))
		return err
	}
	b := &bench{scripts: os.Getenv(scriptsEnv)}
	if b.self, err = os.Executable(); err != nil {
		return err
	}
	if b.peers, err = os.MkdirTemp("", "irqbridge-bench"); err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(b.peers) }()
	if err := unpack(b.peers); err != nil {
		return err
	}
	measure := b.measureHere
	if o.vm {
		measure = b.measureVM
	}
	f, err := measure(o, os.Stderr)
	if err != nil {
		return err
	}
	if err := f.report(thisMachine(), o.short).publish(o, stdout); err != nil {
		return err
	}
	return f.err()
}

// scriptsEnv is where scripts/bench says which directory it is in.
const scriptsEnv = "IRQBRIDGE_SCRIPTS"

// measureHere measures on this machine, on two of its processors. What cannot be measured is said at once.
func (b *bench) measureHere(o *options, progress io.Writer) (*findings, error) {
	allowed, err := host.New("/").AllowedCPUs()
	if err != nil {
		return nil, err
	}
	if allowed.Len() < 2 {
		return nil, fmt.Errorf("this process may use CPU %s only; two are needed", allowed)
	}
	if err := mayUseFIFO(); err != nil {
		return nil, fmt.Errorf("SCHED_FIFO: %w; run it as root", err)
	}
	b.cpus = cpus{device: allowed.CPUs()[0], receiver: allowed.CPUs()[1]}
	b.priority = fifo
	b.gate.patience = 5 * time.Second
	if o.short {
		b.gate.patience = 100 * time.Millisecond
	}
	if err := build(b.peers); err != nil {
		return nil, err
	}
	return b.measureAll(o, progress), nil
}

// mayUseFIFO tries it with a thread that then ends.
func mayUseFIFO() error {
	c := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		c <- setFIFO(0, fifo)
	}()
	return <-c
}

// publish prints a report and writes the files that were asked for.
func (r *report) publish(o *options, stdout io.Writer) error {
	var text bytes.Buffer
	if err := r.write(&text); err != nil {
		return err
	}
	line, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if o.svg != "" {
		if err := r.writePlots(o.svg); err != nil {
			return err
		}
	}
	if o.out != "" {
		if err := r.writePlots(o.out); err != nil {
			return err
		}
		indented, err := json.MarshalIndent(r, "", "\t")
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(o.out, "result.json"), append(indented, '\n'), 0o644); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(o.out, "table.txt"), text.Bytes(), 0o644); err != nil {
			return err
		}
	}
	if o.json {
		text.Reset()
		text.Write(append(line, '\n'))
	}
	_, err = stdout.Write(text.Bytes())
	return err
}
