package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/irqbridge/irqbridge/cmd/irqbridge/internal/profile"
	"github.com/irqbridge/irqbridge/cmd/irqbridge/internal/recording"
	"github.com/irqbridge/irqbridge/pci"
	"github.com/irqbridge/irqbridge/vfio/host"
	"github.com/irqbridge/irqbridge/vfio/vfiotest"
)

// connectOptions are the flags of connect.
type connectOptions struct {
	choice
	raise    int
	duration time.Duration
	json     bool
	lines    bool
	record   string
	metrics  string
	dryRun   bool
	snapshot string
}

func (a *app) connectCommand() *cobra.Command {
	o := connectOptions{choice: choice{verb: "connect"}}
	var cmd *cobra.Command
	cmd = &cobra.Command{
		Use:   "connect BDF",
		Short: "Connect a service routine to every interrupt of a device, raise them, and tell what arrived where",
		Long: `connect opens a device that is bound to VFIO, assigns interrupts to it, maps the descriptors, connects a service routine to each on
pinned threads, and switches the interrupts on in the device by a profile: a small file that names the board's registers. With
--raise it makes the device interrupt and waits for each interrupt to be serviced; without, it counts what arrives until --duration
or Ctrl-C, and says, with exit status 1, what in the device holds messages back of which none came. Then the device is switched off
again, disconnected and closed. That is also done when the host wants the device back, because somebody unbinds or removes it: what
was counted so far is printed, and the exit status is 1.

The profiles of "irqbridge profile list" are part of the program, and one that fits the device's ids is used by itself. --loopback needs
none: the kernel signals in place of the device, which proves the way from the eventfd to the service routine and nothing before it.
Where a profile tells the causes of a message apart, they are raised in turn and counted; where it says how often they are expected, what
arrives without --raise is compared with that.

With --snapshot the device is a fake one, made of a file that irqbridge snapshot wrote, on any machine: its registers are modelled if it
is one of QEMU's that the program knows, and otherwise read zero, so that it takes --loopback to interrupt.`,
		Example: `  irqbridge connect 04:00.0 --raise 100
  irqbridge connect 05:00.0 --kind msix --cpus 1 --raise 100 --json
  irqbridge connect 05:00.0 --loopback --raise 10
  irqbridge connect 05:00.0 --profile ./board.json --duration 1m
  irqbridge connect --snapshot board.snapshot --loopback --raise 10`,
		Args: oneDeviceOrSnapshot,
		RunE: a.orderly(func(ctx context.Context, args []string) error {
			switch {
			case o.raise < 0:
				return usage("--raise %d: want 0 or more", o.raise)
			case o.duration < 0:
				return usage("--duration %v: want a time that is not negative", o.duration)
			}
			var raising *string
			if o.raise > 0 {
				raising = new(fmt.Sprintf(" --raise %d", o.raise))
			}
			run := func(a *app, arg string) error {
				p, err := a.prepare(cmd, arg, o.choice, raising)
				if err != nil {
					return err
				}
				if o.dryRun {
					return a.printPlan(p, o.choice, plannedRaises{message: everyMessage, times: o.raise})
				}
				return a.connect(ctx, p, o)
			}
			switch {
			case o.snapshot == "":
				return run(a, args[0])
			case len(args) > 0:
				return usage("give a device or --snapshot, not both")
			}
			s, err := a.readSnapshot(o.snapshot)
			if err != nil {
				return err
			}
			return a.onFake(ctx, s, func(fake *app, _ *vfiotest.Kernel) error { return run(fake, s.Address.String()) })
		}),
	}
	o.backendFlag(cmd)
	o.kindFlag(cmd)
	o.messagesFlag(cmd)
	o.cpusFlag(cmd, "")
	o.spreadFlag(cmd)
	o.profileFlag(cmd)
	o.loopbackFlag(cmd)
	f := cmd.Flags()
	f.IntVar(&o.raise, "raise", 0, "raise each interrupt `N` times")
	f.DurationVar(&o.duration, "duration", 0, "stop after this time, such as 10s (default: when all is raised, or at Ctrl-C)")
	f.StringVar(&o.snapshot, "snapshot", "", "connect a fake device that is made of a snapshot in `FILE`, on a fake kernel and this machine's CPUs")
	f.BoolVar(&o.json, "json", false, "print one JSON object at the end")
	f.BoolVar(&o.lines, "json-lines", false, "print JSON objects while it runs, one a line, as --record writes them")
	f.StringVar(&o.record, "record", "", "write what happens to `FILE`, once a second and at the end, for irqbridge report")
	f.StringVar(&o.metrics, "metrics", "", "serve metrics for Prometheus at `ADDRESS`, such as :9100; only this host is served unless the address names one")
	f.BoolVar(&o.dryRun, "dry-run", false, "print what would be done, and do not open the device")
	cmd.MarkFlagsMutuallyExclusive("json", "json-lines")
	return cmd
}

// connect connects, raises or watches, reports and disconnects. What it needs beside the device comes first: a device is not
// touched for a run that could not be recorded.
func (a *app) connect(ctx context.Context, p *prepared, o connectOptions) (err error) {
	var outs []io.Writer
	var server *metrics
	if o.lines {
		outs = append(outs, a.stdout)
	}
	if o.metrics != "" {
		if server, err = serveMetrics(o.metrics); err != nil {
			return err
		}
		defer server.close()
	}
	if o.record != "" {
		f, err := openFresh(o.record)
		if err != nil {
			return unwritable(o.record, fmt.Errorf("--record: %w", err))
		}
		defer func() { err = errors.Join(err, f.Close()) }()
		outs = append(outs, f)
	}
	header := recording.Header{}
	if len(outs) > 0 {
		if header, err = a.header(p, o); err != nil {
			return err
		}
	}
	return a.inSession(ctx, p, func(ctx context.Context, s *session) (int, error) {
		a.tellBeginning(s, p, o.json || o.lines)
		if server != nil {
			server.session.Store(s)
			a.note("metrics: %s", server.url())
		}
		m, err := a.monitor(s, p, o, header, outs)
		if err != nil {
			return exitFailed, err
		}
		if o.duration > 0 { // of interrupts, not of opening the device
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, o.duration)
			defer cancel()
		}
		runErr := a.run(ctx, s, m, o)
		m.pause()
		s.noteEnd(ctx)
		observeErr := s.observe(s.rows...)
		problems := slices.Concat(s.diagnose(), s.held(), s.causeProblems())
		stopErr := s.stop()
		switch {
		case o.json:
			a.printJSON(s.json())
		case !o.lines:
			s.print(a, p.how, o.loopback)
		}
		code := a.tellEnd(ctx, s, problems)
		recordErr := m.finish(code, problemText(problems))
		return code, errors.Join(runErr, observeErr, stopErr, recordErr)
	})
}

// fresh is a file that is emptied when it is first written to, so that a run which cannot begin leaves what is there from the last.
type fresh struct {
	*os.File
	begun bool
}

func openFresh(name string) (*fresh, error) {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE, 0o666)
	return &fresh{File: f}, err
}

func (f *fresh) Write(p []byte) (int, error) {
	if !f.begun {
		f.begun = true
		if err := f.Truncate(0); err != nil && !errors.Is(err, syscall.EINVAL) { // which a pipe or a device gives
			return 0, err
		}
	}
	return f.File.Write(p)
}

// monitor begins to look at the session: for the terminal, and for the recordings.
func (a *app) monitor(s *session, p *prepared, o connectOptions, h recording.Header, outs []io.Writer) (*monitor, error) {
	var live *liveTable
	if !o.json && !o.lines {
		live = liveTableOn(a.stdout, fmt.Sprintf("%v  %s  %s  backend %v", s.device.Address(), interruptsOf(s.resources.Kind, len(s.rows)), p.how, s.device.Backend()))
	}
	if len(outs) > 0 {
		if err := s.describe(&h); err != nil {
			return nil, err
		}
	}
	h.Time = time.Now()
	return s.startMonitor(h, outs, live)
}

// run raises what is to be raised, or watches what arrives, until the end.
func (a *app) run(ctx context.Context, s *session, m *monitor, o connectOptions) error {
	triggers := make(chan struct{}, 1)
	if m.live != nil {
		if k := openKeyboard(a.stdin); k != nil {
			defer k.close()
			reading, stop := context.WithCancel(ctx)
			var reader sync.WaitGroup
			defer s.unmask() // when no key can mask it again
			defer reader.Wait()
			defer stop()
			m.live.keys.Store(new("q ends" + when(o.raise == 0 && s.canRaise(), ", t triggers each once") +
				when(o.raise == 0 && s.resources.Kind == pci.KindINTx, ", m masks the line and unmasks it")))
			reader.Go(func() {
				k.read(reading, func(key byte) { m.live.answer.Store(new(s.press(key, o.raise > 0, triggers))) })
			})
		}
	}
	progress := a.progress
	if m.live != nil {
		progress = func(string, ...any) {}
	}
	defer progress("")
	if o.raise > 0 {
		return s.raise(ctx, s.rows, o.raise, func(r *row, _ time.Duration) {
			progress("message %d: %d of %d", r.message.Index, r.raised.Load(), o.raise)
		})
	}
	begin := time.Now()
	defer func() { s.watched = time.Since(begin) }()
	return s.watch(ctx, triggers, progress)
}

// canRaise tells whether any of the interrupts can be raised.
func (s *session) canRaise() bool {
	return slices.ContainsFunc(s.rows, func(r *row) bool { return r.trigger != nil })
}

// press does what a key says, and answers.
func (s *session) press(key byte, raising bool, triggers chan<- struct{}) string {
	switch {
	case key == 'q':
		s.end(context.Canceled)
		return "ending"
	case key == 'm' && !raising:
		return s.toggle()
	case key == 't' && !raising && !s.canRaise():
		return "nothing says how to raise an interrupt: give a profile, or --loopback"
	case key == 't' && !raising && s.inactive.Load():
		return "the line is masked"
	case key == 't' && !raising:
		select {
		case triggers <- struct{}{}:
			return "triggered"
		default:
			return "a moment: the last one is under way"
		}
	}
	return ""
}

// watch waits for the end, raises each interrupt once for each trigger, and tells that something happens.
func (s *session) watch(ctx context.Context, triggers <-chan struct{}, progress func(string, ...any)) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		var calls uint64
		for _, n := range s.calls() {
			calls += n
		}
		progress("%d calls of service routines; Ctrl-C ends", calls)
		select {
		case <-ctx.Done():
			return nil
		case <-triggers:
			if err := s.raise(ctx, s.rows, 1, func(*row, time.Duration) {}); err != nil {
				return err
			}
		case <-tick.C:
		}
	}
}

// problemText is what went wrong, a line each.
func problemText(problems []problem) string {
	var lines []string
	for _, p := range problems {
		lines = append(lines, p.what)
	}
	return strings.Join(lines, "\n")
}

// readProfile finds a profile by the flag's value: one of the program's, or a file; nil when it is "".
func readProfile(name string) (*profile.Profile, error) {
	if name == "" {
		return nil, nil
	}
	p, _, err := findProfile("--profile "+name, name)
	return p, err
}

// findProfile finds a profile and its text by its name in the program or by its file; what is how the command line has it.
func findProfile(what, name string) (*profile.Profile, []byte, error) {
	if p := profile.Named(name); p != nil {
		return p, profile.Source(name), nil
	}
	data, err := readSmall(name)
	if errors.Is(err, fs.ErrNotExist) {
		var names []string
		for _, p := range profile.Embedded() {
			names = append(names, p.Name)
		}
		return nil, nil, usage("%s: there is no file of that name, nor is it one of the program's: %s", what, strings.Join(names, ", "))
	}
	if err != nil {
		return nil, nil, &failure{exitFailed, fmt.Errorf("the profile: %w", err), "irqbridge profile --help"}
	}
	p, err := profile.Parse(name, data)
	return p, data, err
}

// profileLimit is the size of a file, in bytes, that no profile has: one of 2048 messages has a quarter of that.
const profileLimit = 4 << 20

// readSmall reads a file of less than profileLimit.
func readSmall(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	return readLimited(f, name)
}

// readLimited reads less than profileLimit; the name is for errors.
func readLimited(f io.Reader, name string) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(f, profileLimit))
	if err == nil && len(data) == profileLimit {
		err = fmt.Errorf("%s has more than %d bytes, which is too long", name, profileLimit-1)
	}
	return data, err
}

// checkCPUs refuses CPUs that the host does not have or the process may not use, before the device is touched.
func (a *app) checkCPUs(verb string, address pci.Address, cpus host.CPUSet) error {
	bindable, err := a.host.BindableCPUs()
	if err != nil {
		return err
	}
	outside := cpus.Minus(bindable)
	if outside.Empty() {
		return nil
	}
	online, err := a.host.OnlineCPUs()
	if err != nil {
		return err
	}
	next := fmt.Sprintf("irqbridge %s %v --cpus %s", verb, address, bindable)
	if absent := cpus.Minus(online); !absent.Empty() {
		return &failure{exitFailed, fmt.Errorf("--cpus %s: CPU %s is not online; the host has %s", cpus, absent, online), next}
	}
	return &failure{exitFailed, fmt.Errorf("--cpus %s: CPU %s is outside this process's cpuset, which has %s", cpus, outside, bindable), next}
}

// usableCPUs are the CPUs that are online and allowed to this process.
func (a *app) usableCPUs() (host.CPUSet, error) {
	online, err := a.host.OnlineCPUs()
	if err != nil {
		return online, err
	}
	allowed, err := a.host.AllowedCPUs()
	return online.And(allowed), err
}
