package cli

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/irqbridge/irqbridge/cmd/irqbridge/internal/recording"
	"github.com/irqbridge/irqbridge/connect"
)

// latencyOptions are the flags of latency; its letters are those of cyclictest.
type latencyOptions struct {
	choice
	priority  int
	lock      bool
	interval  int // µs
	duration  string
	loops     int
	histogram int // µs
	quiet     bool
	wait      string
	json      bool
	svg       string
	dryRun    bool

	limit time.Duration // duration, read
}

func (a *app) latencyCommand() *cobra.Command {
	o := latencyOptions{choice: choice{verb: "latency"}}
	var cmd *cobra.Command
	cmd = &cobra.Command{
		Use:   "latency BDF",
		Short: "Measure the time from an interrupt's raise to its service routine",
		Long: `latency raises the interrupts of a device one after another, again and again, and measures each time from before the raise to the
first instruction of the service routine. The letters of the flags are those of cyclictest.

With a profile the raise is its register write, so that the time includes the device, its message, the IOMMU's remapping and the host's
interrupt; with --loopback it is a system call by which the kernel signals in place of the device, and the time includes none of these.
Both include the eventfd, the wake-up of the thread that serves it (or its look at the eventfd, when it polls), and dispatch. Two readings
of the clock are in it, too. The program that raises is not pinned.

Without -l and -D it goes on until Ctrl-C.`,
		Example: `  irqbridge latency 05:00.0 -l 10000
  sudo irqbridge latency 05:00.0 -a 3 -p 80 -m -i 500 -D 1m -h 100
  irqbridge latency 05:00.0 --loopback --wait poll -l 10000 --json
  irqbridge latency 05:00.0 -l 10000 -q --svg latency.svg`,
		Args: oneDevice,
		RunE: a.orderly(func(ctx context.Context, args []string) error {
			dispatch, err := o.read()
			if err != nil {
				return err
			}
			p, err := a.prepare(cmd, args[0], o.choice, new(""))
			if err != nil {
				return err
			}
			p.source.dispatch = dispatch
			if o.dryRun {
				return a.printPlan(p, o.choice, plannedRaises{message: everyMessage, times: max(o.loops, 1)})
			}
			return a.latency(ctx, p, o)
		}),
	}
	o.backendFlag(cmd)
	o.kindFlag(cmd)
	o.messagesFlag(cmd)
	o.cpusFlag(cmd, "a")
	o.spreadFlag(cmd)
	o.profileFlag(cmd)
	o.loopbackFlag(cmd)
	f := cmd.Flags()
	f.Bool("help", false, "help for latency") // -h is cyclictest's
	f.IntVarP(&o.priority, "priority", "p", 0, "serve with SCHED_FIFO at this priority, 1 to 99; 0 is an ordinary thread")
	f.BoolVarP(&o.lock, "mlockall", "m", false, "lock the program's memory, also what it takes later")
	f.IntVarP(&o.interval, "interval", "i", 1000, "time from one round of all messages to the next, in `US`")
	f.StringVarP(&o.duration, "duration", "D", "", "stop after this `TIME`: seconds, or 10m, 2h, 1d")
	f.IntVarP(&o.loops, "loops", "l", 0, "raise each message `N` times; 0 for no limit")
	f.IntVarP(&o.histogram, "histogram", "h", 0, "show a histogram, up to `US`; what takes longer is counted as overflow")
	f.BoolVarP(&o.quiet, "quiet", "q", false, "show nothing but the summary at the end")
	f.StringVar(&o.wait, "wait", connect.Block.String(), "how the thread waits: block, cooperative, hybrid or poll")
	f.BoolVar(&o.json, "json", false, "print one JSON object at the end")
	f.StringVar(&o.svg, "svg", "", "write the histogram as a picture to `FILE`")
	f.BoolVar(&o.dryRun, "dry-run", false, "print what would be done, and do not open the device")
	return cmd
}

// maxInterval and maxHistogram bound what is given in microseconds: a minute, and a second.
const (
	maxInterval  = 60_000_000
	maxHistogram = 1_000_000
)

// read checks the flags that are latency's own.
func (o *latencyOptions) read() (connect.Dispatch, error) {
	d := connect.Dispatch{Priority: o.priority}
	var err error
	switch {
	case o.priority < 0 || o.priority > 99:
		return d, usage("-p %d: want 1 to 99, or 0 for an ordinary thread", o.priority)
	case o.interval < 0 || o.interval > maxInterval:
		return d, usage("-i %d: want microseconds, 0 to %d", o.interval, maxInterval)
	case o.loops < 0:
		return d, usage("-l %d: want 0 or more", o.loops)
	case o.histogram < 0 || o.histogram > maxHistogram:
		return d, usage("-h %d: want microseconds, 1 to %d; --help is the help", o.histogram, maxHistogram)
	}
	if o.limit, err = parseTime(o.duration); err != nil {
		return d, usage("-D %s: want a time such as 30, 10m, 2h or 1d", o.duration)
	}
	if d.Wait, err = connect.ParseWait(o.wait); err != nil {
		return d, usage("--wait %s: want block, cooperative, hybrid or poll", o.wait)
	}
	return d, nil
}

// parseTime reads a time as cyclictest does, a number of seconds or of a unit, or as Go does; 0 for "".
func parseTime(s string) (time.Duration, error) {
	if s == "" {
		return 0, nil
	}
	number, unit := s, time.Second
	if days, ok := strings.CutSuffix(s, "d"); ok {
		number, unit = days, 24*time.Hour
	}
	if n, err := strconv.ParseUint(number, 10, 32); err == nil {
		if d := time.Duration(n); d > 0 && d <= 1<<62/unit {
			return d * unit, nil
		}
		return 0, strconv.ErrRange
	}
	d, err := time.ParseDuration(s)
	if err == nil && d <= 0 {
		err = strconv.ErrRange
	}
	return d, err
}

// latency measures until the end, and reports.
func (a *app) latency(ctx context.Context, p *prepared, o latencyOptions) (err error) {
	var picture *fresh
	if o.svg != "" {
		if picture, err = openFresh(o.svg); err != nil {
			return unwritable(o.svg, fmt.Errorf("--svg: %w", err))
		}
		defer func() { err = errors.Join(err, picture.Close()) }()
	}
	if o.lock {
		if err := connect.LockMemory(); err != nil {
			return &failure{exitFailed, fmt.Errorf("-m: %w", err), "run as root, or raise the limit: ulimit -l unlimited"}
		}
		defer func() { _ = unix.Munlockall() }()
	}
	return a.inSession(ctx, p, func(ctx context.Context, s *session) (int, error) {
		a.tellBeginning(s, p, o.json)
		if !s.canRaise() {
			return exitPartial, unsupported(fmt.Sprintf("irqbridge latency %v --loopback", s.device.Address()), "%v: the profile does not say how to raise an interrupt", s.device.Address())
		}
		var live *liveTable
		if !o.quiet && !o.json {
			live = liveTableOn(a.stdout, fmt.Sprintf("%v  %s  %s  wait %v", s.device.Address(), interruptsOf(s.resources.Kind, len(s.rows)), p.how, p.source.dispatch.Wait))
		}
		m, err := s.startMonitor(recording.Header{Time: time.Now()}, nil, live)
		if err != nil {
			return exitFailed, err
		}
		if o.limit > 0 {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, o.limit)
			defer cancel()
		}
		report := latencyReport{session: s, prepared: p, options: o, started: time.Now(), byMicrosecond: make([]map[int64]uint64, len(s.rows))}
		measureErr := s.measure(ctx, o, report.add)
		report.took = time.Since(report.started)
		if errors.Is(context.Cause(ctx), context.DeadlineExceeded) { // the time was asked for, as were the loops
			for _, r := range s.rows {
				r.wanted = min(r.wanted, r.raised.Load())
			}
		}
		m.pause()
		s.noteEnd(ctx)
		observeErr := s.observe(s.rows...)
		problems := s.diagnose()
		stopErr := s.stop()
		code := a.tellEnd(ctx, s, problems)
		report.code = code
		if o.json {
			a.printJSON(report.json())
		} else {
			report.print(a)
		}
		if picture != nil {
			_, err = picture.Write(report.svg())
		}
		return code, errors.Join(measureErr, observeErr, stopErr, err)
	})
}

// measure raises each interrupt once a round, until all rounds are done, ctx ends, or one is not serviced again and again.
func (s *session) measure(ctx context.Context, o latencyOptions, add func(*row, time.Duration)) error {
	misses := make([]int, len(s.rows))
	for _, r := range s.rows {
		if r.trigger != nil {
			r.wanted = uint64(o.loops)
		}
	}
	next := time.Now()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for n := 0; o.loops == 0 || n < o.loops; n++ {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		tried := false
		for i, r := range s.rows {
			if r.trigger == nil || misses[i] == toleratedMisses || misses[i] > 0 && r.serviced.Load() == 0 {
				continue
			}
			if ctx.Err() != nil || !s.awaitUnmask() {
				return nil
			}
			tried = true
			after, err := r.raiseOnce(ctx)
			switch {
			case errors.Is(err, context.Canceled):
				return nil
			case err != nil:
				return fmt.Errorf("%v: raise %v %d: %w", s.device.Address(), s.resources.Kind, r.message.Index, err)
			case after == notServiced:
				misses[i]++
			default:
				add(r, after)
			}
		}
		if !tried {
			return nil
		}
		// A round that took longer than the interval moves the later ones: nothing is raised to catch up.
		next = next.Add(time.Duration(o.interval) * time.Microsecond)
		if late := time.Until(next); late < 0 {
			next = time.Now()
		}
		timer.Reset(time.Until(next))
	}
	return nil
}
