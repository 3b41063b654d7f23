package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/irqbridge/irqbridge/pci"
	"github.com/irqbridge/irqbridge/vfio"
	"github.com/irqbridge/irqbridge/vfio/host"
)

// System is what a command line is run on.
type System struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	// Kernel is where devices and their host are; nil for the running one.
	Kernel vfio.Kernel
	// IDs is the file pci.ids to read names from, $PCI_IDS; "" for that of the system.
	IDs string
}

// schema is the version of the JSON output.
const schema = 1

// Main runs a command line, without the program's name, and returns the exit status. Cancelling ctx ends what is under
// way in order: interrupts are disconnected and devices closed.
func Main(ctx context.Context, args []string, sys System) int {
	out := &output{w: sys.Stdout}
	a := &app{stdin: sys.Stdin, stdout: out, stderr: &output{w: sys.Stderr}, kernel: sys.Kernel, host: host.New("/"), idFile: sys.IDs}
	if sys.Kernel != nil {
		a.host = sys.Kernel.Host()
	}
	root := a.command()
	root.SetArgs(args)
	root.SetIn(sys.Stdin)
	root.SetOut(out)
	root.SetErr(sys.Stderr)
	cmd, err := root.ExecuteContextC(ctx)
	if err != nil && !a.started {
		err = &failure{exitUsage, err, cmd.CommandPath() + " --help"}
	}
	code := exitCode(err)
	if err != nil {
		a.complain(err)
	}
	if out.err != nil {
		code = exitFailed
		if !errors.Is(out.err, syscall.EPIPE) { // a reader such as head has seen enough
			a.complain(out.err)
		}
	}
	return code
}

// Commands returns the program's command and all its verbs, for documentation.
func Commands() *cobra.Command { return (&app{}).command() }

// app is one run of the program.
type app struct {
	stdin          io.Reader
	stdout, stderr *output
	kernel         vfio.Kernel // nil: the running one
	host           *host.Host
	idFile         string         // $PCI_IDS
	snapshotOf     *host.Snapshot // what the host is, or the fake kernel was made of; nil for a machine
	started        bool           // a verb began; what failed before that is the command line's fault
	shown          time.Time      // when progress was last
}

// open opens a device on the app's kernel.
func (a *app) open(address pci.Address, opts ...vfio.Option) (*vfio.Device, error) {
	if a.kernel != nil {
		opts = append(opts, vfio.OnKernel(a.kernel))
	}
	return vfio.Open(address, opts...)
}

func (a *app) command() *cobra.Command {
	root := &cobra.Command{
		Use:   "irqbridge",
		Short: "PCI interrupts in user space: see them, map them, connect them, prove them",
		Long: `irqbridge shows the interrupts of a PCI device as resource descriptors, maps them as Windows' IoConnectInterruptEx does
(CONNECT_FULLY_SPECIFIED), and runs service routines for them on pinned threads, through Linux VFIO.

A first look, without hardware:     irqbridge demo
A device on the bench:              irqbridge list
                                    irqbridge show 0000:00:04.0
                                    irqbridge bind 0000:00:04.0
                                    irqbridge connect 0000:00:04.0 --raise 100
                                    irqbridge unbind 0000:00:04.0
No interrupt arrives:               irqbridge doctor 0000:00:04.0`,
		SilenceErrors: true,
		SilenceUsage:  true,

		SuggestionsMinimumDistance: 2,
		Args:                       cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return errors.New("no verb given")
			}
			if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
				return fmt.Errorf("there is no verb %q; did you mean %s?", args[0], strings.Join(near, " or "))
			}
			return fmt.Errorf("there is no verb %q", args[0])
		},
	}
	root.AddCommand(a.listCommand(), a.showCommand(), a.snapshotCommand(), a.resourcesCommand(), a.mapCommand(), a.bindCommand(), a.unbindCommand(),
		a.connectCommand(), a.triggerCommand(), a.maskCommand(), a.unmaskCommand(), a.resetCommand(),
		a.selftestCommand(), a.latencyCommand(), a.doctorCommand(),
		a.regsCommand(),
		a.replayCommand(), a.reportCommand(),
		a.cdiCommand(), a.profileCommand(), a.demoCommand(), a.completionCommand(), a.versionCommand())
	root.CompletionOptions.DisableDefaultCmd = true
	a.completions(root)
	return root
}

// verb makes a RunE of f. From its first line on, a failure is no longer one of the command line, unless it says so
// itself.
func (a *app) verb(f func(ctx context.Context, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		a.started = true
		err := f(cmd.Context(), args)
		var wrong *failure
		if errors.As(err, &wrong) && wrong.code == exitUsage && wrong.next == "" {
			wrong.next = cmd.CommandPath() + " --help"
		}
		return err
	}
}

// orderly makes a RunE of a verb that changes a device, as verb does. Signals that end a program cancel its context, so
// that it leaves the device in order; the second one kills. A reader of its output that goes away does not end it.
func (a *app) orderly(f func(ctx context.Context, args []string) error) func(*cobra.Command, []string) error {
	return a.verb(func(ctx context.Context, args []string) error {
		signal.Ignore(syscall.SIGPIPE)
		signals := []os.Signal{os.Interrupt, syscall.SIGTERM}
		if !signal.Ignored(syscall.SIGHUP) { // as it is below nohup
			signals = append(signals, syscall.SIGHUP)
		}
		ctx, stop := signal.NotifyContext(ctx, signals...)
		defer stop()
		context.AfterFunc(ctx, stop)
		return f(ctx, args)
	})
}

// usage is a mistake in the command line that cobra does not see.
func usage(format string, args ...any) error {
	return &failure{code: exitUsage, err: fmt.Errorf(format, args...)}
}

// someDevices wants one device or more on the command line.
func someDevices(_ *cobra.Command, args []string) error {
	if len(args) == 0 {
		return errors.New("want a device, such as 0000:00:04.0; have none")
	}
	return nil
}

// parseAddress reads a device's address from the command line.
func parseAddress(s string) (pci.Address, error) {
	address, err := pci.ParseAddress(s)
	if err != nil {
		return address, &failure{exitUsage, err, "irqbridge list"}
	}
	return address, nil
}

// parseAddresses reads devices' addresses, each once.
func parseAddresses(args []string) ([]pci.Address, error) {
	var addresses []pci.Address
	for _, arg := range args {
		address, err := parseAddress(arg)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(addresses, address) {
			addresses = append(addresses, address)
		}
	}
	return addresses, nil
}

func (a *app) printf(format string, args ...any) { a.stdout.printf(format, args...) }

// note tells the user something that is not data.
func (a *app) note(format string, args ...any) {
	a.stderr.printf("irqbridge: "+format+"\n", args...)
}

// next tells the user what to type.
func (a *app) next(format string, args ...any) { a.stderr.printf("next: "+format+"\n", args...) }

// printJSON prints one value, indented.
func (a *app) printJSON(v any) {
	e := json.NewEncoder(a.stdout)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	_ = e.Encode(v) // the output keeps the error
}

// progress shows what is under way on a terminal, in place and ten times a second at most; elsewhere it shows nothing.
// An empty text clears the line.
func (a *app) progress(format string, args ...any) {
	if now := time.Now(); format == "" || now.Sub(a.shown) >= 100*time.Millisecond {
		if f, ok := a.stderr.w.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
			a.stderr.printf("\r\x1b[K"+format, args...)
		}
		a.shown = now
	}
}

// output keeps the first error of writing to w, so that a full disk is not a success.
type output struct {
	w   io.Writer
	err error
}

func (o *output) printf(format string, args ...any) {
	_, _ = fmt.Fprintf(o, format, args...) // Write keeps the error
}

func (o *output) Write(p []byte) (int, error) {
	n, err := o.w.Write(p)
	if err != nil && o.err == nil {
		o.err = fmt.Errorf("write standard output: %w", err)
	}
	return n, err
}
