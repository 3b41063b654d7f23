package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"
)

// kernels are the names of the kernels, as setup knows them.
var kernels = []string{"stable", "newest", "own"}

// options is what the command line and the environment say.
type options struct {
	kernel    string
	noIOMMU   bool
	user      string
	append    string
	cpus      int
	devices   string
	mem       string
	timeout   time.Duration
	accel     string
	verbose   bool
	goTest    bool
	files     pairs
	bringBack pairs

	init, cache, setup string
	command            []string
}

// pair is "SOURCE[:DESTINATION]".
type pair struct{ from, to string }

type pairs []pair

func (p *pairs) String() string { return "" }

func (p *pairs) Set(s string) error {
	from, to, _ := strings.Cut(s, ":")
	if from == "" {
		return errors.New("a path is missing")
	}
	*p = append(*p, pair{from, to})
	return nil
}

const usage = `usage: scripts/vm/run [options] -- COMMAND [ARG…]
       scripts/vm/exec BINARY [ARG…]        (go test -exec "$PWD/scripts/vm/exec" ./vfio/...)

Runs a program on a real Linux kernel in a virtual machine with an IOMMU and PCI devices, as root, in the same working
directory, and ends as it ended. Standard output and error come back as they are written; standard input goes in unless
it is a terminal. (scripts/vm/doc.go lists the devices.)

COMMAND with a slash is a static program (CGO_ENABLED=0) or a shell script of this machine; without a slash, one of
busybox's commands in the guest: run --file ./irqbridge:/bin/irqbridge -- sh -c 'irqbridge list; irqbridge show 0000:00:04.0'

Options; each can also be given in the environment, which is the way for exec:
`

const usageEnd = `
Environment: of this machine's, the guest gets IRQBRIDGE_*, GOCOVERDIR (what is written there comes back), GODEBUG, GOGC,
GOMAXPROCS, GOMEMLIMIT, GOTRACEBACK, CI, NO_COLOR, LANG, TERM and TZ, and IRQBRIDGE_VM, the name of the kernel.
exec also takes along the package's directory, its testdata and the module's, and brings back what the -test.*profile
flags name.

Exit status: the program's; 128 and the signal's number when a signal killed it; 124 when the time was up; 125 when the
machine failed (no QEMU, a kernel panic, …); 126 when the program cannot be run. The last three come with a message, and
where it helps with the last lines of the guest's console.
`

// parse reads the options. Each one's default comes from the environment: --no-iommu from IRQBRIDGE_VM_NO_IOMMU.
func parse(args []string) (*options, error) {
	o := &options{}
	flags := flag.NewFlagSet("run", flag.ContinueOnError)
	flags.StringVar(&o.kernel, "kernel", "stable", "`NAME`: stable (Debian's), newest (of its backports) or own (newest, built here with all of VFIO)")
	flags.BoolVar(&o.noIOMMU, "no-iommu", false, "leave the IOMMU off")
	flags.StringVar(&o.user, "user", "root", "run as `NAME|UID`: root, user, nobody or a number")
	flags.StringVar(&o.append, "append", "", "more kernel `ARGUMENTS`; module.parameter=value works too")
	flags.IntVar(&o.cpus, "cpus", 2, "`NUMBER` of processors")
	flags.StringVar(&o.devices, "devices", "usual", "usual or more: `WHICH` PCI devices the machine has (scripts/vm/doc.go)")
	flags.StringVar(&o.mem, "mem", "1024", "memory in `MIB`")
	flags.DurationVar(&o.timeout, "timeout", 10*time.Minute, "end it after `DURATION` (0: never); exec adds 3m to -test.timeout")
	flags.StringVar(&o.accel, "accel", "tcg", "tcg or kvm: `HOW` QEMU runs the guest; tcg works everywhere")
	flags.BoolVar(&o.verbose, "v", false, "show the guest's console on standard error")
	flags.Var(&o.files, "file", "take along `SOURCE[:GUESTPATH]`, a file or directory; repeatable")
	flags.Var(&o.bringBack, "bring-back", "bring back `GUESTPATH[:PATH]` at the end, a file or directory; repeatable")
	flags.BoolVar(&o.goTest, "go-test", false, "COMMAND is a Go test binary (what exec uses)")
	// What scripts/vm/run passes.
	flags.StringVar(&o.init, "init", "", "")
	flags.StringVar(&o.cache, "cache", "", "")
	flags.StringVar(&o.setup, "setup", "", "")
	flags.Usage = func() {}
	flags.SetOutput(new(strings.Builder))

	timeoutGiven := false
	var err error
	flags.VisitAll(func(f *flag.Flag) {
		name := "IRQBRIDGE_VM_" + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))
		if f.Name == "v" {
			name = "IRQBRIDGE_VM_VERBOSE"
		}
		value := os.Getenv(name)
		if value == "" || f.Usage == "" || f.Name == "go-test" || f.Name == "file" || f.Name == "bring-back" {
			return
		}
		if e := f.Value.Set(value); e != nil {
			err = fmt.Errorf("%s=%s: %w", name, value, e)
		}
		timeoutGiven = timeoutGiven || f.Name == "timeout"
	})
	if err != nil {
		return nil, err
	}
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			_, _ = os.Stdout.WriteString(help(flags))
		}
		return nil, err
	}
	flags.Visit(func(f *flag.Flag) { timeoutGiven = timeoutGiven || f.Name == "timeout" })
	o.command = flags.Args()

	if !slices.Contains(kernels, o.kernel) {
		return nil, fmt.Errorf("--kernel %s: want %s", o.kernel, strings.Join(kernels, ", "))
	}
	if o.devices != "usual" && o.devices != "more" {
		return nil, fmt.Errorf("--devices %s: want usual or more", o.devices)
	}
	if o.accel != "tcg" && o.accel != "kvm" {
		return nil, fmt.Errorf("--accel %s: want tcg or kvm", o.accel)
	}
	if len(o.command) == 0 {
		return nil, errors.New("no COMMAND; --help tells more")
	}
	if o.goTest && !timeoutGiven {
		o.timeout = -1 // from -test.timeout
	}
	return o, nil
}

func help(flags *flag.FlagSet) string {
	var b strings.Builder
	b.WriteString(usage)
	flags.VisitAll(func(f *flag.Flag) {
		if f.Usage == "" {
			return
		}
		value, text := flag.UnquoteUsage(f)
		dashes := "--"
		if len(f.Name) == 1 {
			dashes = "-"
		}
		if f.DefValue != "" && f.DefValue != "false" {
			text += " (" + f.DefValue + ")"
		}
		fmt.Fprintf(&b, "  %-28s %s\n", strings.TrimSpace(dashes+f.Name+" "+value), text)
	})
	b.WriteString(usageEnd)
	return b.String()
}
