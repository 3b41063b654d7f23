package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/irqbridge/irqbridge/connect"
	"github.com/irqbridge/irqbridge/pci"
	"github.com/irqbridge/irqbridge/vfio"
	"github.com/irqbridge/irqbridge/vfio/host"
)

// selftestOptions are the flags of selftest.
type selftestOptions struct {
	choice
	count  int
	json   bool
	tap    bool
	dryRun bool
}

// allKinds is the value of --kind for one kind after another.
const allKinds = "all"

func (a *app) selftestCommand() *cobra.Command {
	o := selftestOptions{choice: choice{verb: "selftest"}}
	var cmd *cobra.Command
	cmd = &cobra.Command{
		Use:   "selftest BDF",
		Short: "Test each interrupt of a device: loopback, delivery and affinity, as separate results",
		Long: `selftest tests every message of every kind of interrupt that a device has, three times over:

  loopback   the kernel signals in place of the device; proves the way from the eventfd to the service routine
  delivery   the device interrupts, told to by a register of its profile; proves the device, its message, the IOMMU's remapping and
             the host's delivery
  affinity   the service routine runs where it was asked to, and the host delivers there: wanted, set, effective, and proved by
             the CPU that the routine asked the kernel for and by /proc/interrupts

Each message of MSI-X gets one of the CPUs, in turn; MSI and the line get the last one, since the first is where interrupts go anyway.
What cannot be tested is told with what that leaves unproved, and is no failure: the exit status is 3 then, 1 if anything failed, and 4
if there is nothing to test. After three messages in a row that do not arrive, the rest of them is not tried.`,
		Example: `  irqbridge selftest 05:00.0
  irqbridge selftest 05:00.0 --kind msix --tap
  irqbridge selftest 05:00.0 --profile ./board.json --json`,
		Args: oneDevice,
		RunE: a.orderly(func(ctx context.Context, args []string) error {
			if o.count < 2 {
				return usage("--count %d: want 2 or more: the first interrupt may still go where the former ones went", o.count)
			}
			stages, err := a.stages(cmd, args[0], o)
			if err != nil {
				return err
			}
			if o.dryRun {
				return a.printStages(stages, o)
			}
			return a.selftest(ctx, stages, o)
		}),
	}
	o.backendFlag(cmd)
	f := cmd.Flags()
	f.StringVar(&o.kind, "kind", allKinds, "all, intx, msi or msix")
	o.messagesFlag(cmd)
	o.cpusFlag(cmd, "")
	o.profileFlag(cmd)
	f.IntVar(&o.count, "count", 10, "raise each interrupt `N` times")
	f.BoolVar(&o.json, "json", false, "print one JSON object")
	f.BoolVar(&o.tap, "tap", false, "print TAP, version 14")
	f.BoolVar(&o.dryRun, "dry-run", false, "print what would be done, and do not open the device")
	cmd.MarkFlagsMutuallyExclusive("json", "tap")
	return cmd
}

// stage is the test of one kind of interrupt.
type stage struct {
	loopback *prepared
	delivery *prepared // nil: it is not possible
	why      string    // then
}

// stages prepares the tests of the kinds asked for, without opening the device.
func (a *app) stages(cmd *cobra.Command, arg string, o selftestOptions) ([]stage, error) {
	kinds := []string{o.kind}
	if o.kind == allKinds {
		address, err := parseAddress(arg)
		if err != nil {
			return nil, err
		}
		if kinds, err = a.kindsOf(address); err != nil {
			return nil, err
		}
	}
	var stages []stage
	for _, kind := range kinds {
		c := o.choice
		c.kind, c.spread = kind, true
		if kind != pci.KindMSIX.String() && c.cpus == "" && !cmd.Flags().Changed("cpus") {
			usable, err := a.usableCPUs()
			if err != nil {
				return nil, err
			}
			list := usable.CPUs()
			c.cpus = host.CPUSetOf(list[len(list)-1]).List()
		}
		var s stage
		var err error
		c.loopback, c.profile = true, ""
		if s.loopback, err = a.prepare(cmd, arg, c, nil); err != nil {
			return nil, err
		}
		c.loopback, c.profile = false, o.profile
		var no *failure
		s.delivery, err = a.prepare(cmd, arg, c, new(""))
		if errors.As(err, &no) && no.code == exitUnsupported {
			s.delivery, s.why = nil, strings.TrimPrefix(no.Error(), s.loopback.device.Address.String()+": ")
		} else if err != nil {
			return nil, err
		}
		stages = append(stages, s)
	}
	return stages, nil
}

// kindsOf are the kinds of interrupt that a device has, or auto when this user cannot see them.
func (a *app) kindsOf(address pci.Address) ([]string, error) {
	if _, err := a.host.Device(address); err != nil {
		return nil, explainAbsent(address, err)
	}
	f, err := a.function(address)
	if err != nil {
		return nil, fmt.Errorf("%v: read configuration space: %w", address, err)
	}
	if hidesInterrupts(f) {
		return []string{"auto"}, nil
	}
	var kinds []string
	for kind, has := range map[pci.Kind]bool{pci.KindINTx: f.INTx != nil, pci.KindMSI: f.MSI != nil, pci.KindMSIX: f.MSIX != nil} {
		if has {
			kinds = append(kinds, kind.String())
		}
	}
	slices.Sort(kinds)
	if len(kinds) == 0 {
		return nil, unsupported("irqbridge list", "%v: the device has no interrupts", address)
	}
	return kinds, nil
}

// printStages is selftest --dry-run.
func (a *app) printStages(stages []stage, o selftestOptions) error {
	code := exitOK
	for _, s := range stages {
		for _, p := range []*prepared{s.loopback, s.delivery} {
			if p == nil {
				a.note("%v: delivery of %v is not possible: %s", s.loopback.device.Address, s.loopback.policy.Kind, s.why)
				code = exitPartial
				continue
			}
			if err := a.printPlan(p, o.choice, plannedRaises{message: everyMessage, times: o.count}); err != nil {
				return err
			}
		}
	}
	return exit(code)
}

// finding is one result: what came of it, and what was seen or why it was not possible.
type finding struct {
	Result   verdict `json:"result"`
	Seen     string  `json:"seen"`
	Unproved string  `json:"unproved,omitempty"` // what a test that was not possible leaves open
	Next     string  `json:"next,omitempty"`
}

// tested is one message of one kind, and what came of its tests.
type tested struct {
	kind                         pci.Kind
	message                      int
	vector                       uint32
	irq                          string // "-" for none
	loopback, delivery, affinity finding
	wanted, set, effective       host.CPUSet
	delivered, ran               map[int]uint64
}

// selftest runs the stages on one open device.
func (a *app) selftest(ctx context.Context, stages []stage, o selftestOptions) error {
	first := stages[0].loopback
	return a.onDevice(ctx, first.device.Address, first.open, func(ctx context.Context, device *vfio.Device, _ context.CancelCauseFunc) (int, error) {
		report := selftestReport{device: device, how: "no profile"}
		for _, stage := range stages {
			list, err := a.runStage(ctx, device, stage, o.count)
			if err != nil {
				return exitFailed, err
			}
			report.tests = append(report.tests, list...)
			if stage.delivery != nil {
				report.how = stage.delivery.how
			}
		}
		a.progress("")
		code := report.print(a, o)
		if ctx.Err() != nil {
			if errors.Is(context.Cause(ctx), errWantedBack) {
				a.tellEnded(device.Address(), endRequest)
			}
			code = exitFailed
		}
		return code, nil
	})
}

// runStage tests one kind: all messages by loopback, and then all of them by the device.
func (a *app) runStage(ctx context.Context, device *vfio.Device, stage stage, count int) ([]tested, error) {
	var list []tested
	err := a.sessionOf(ctx, device, stage.loopback, func(ctx context.Context, s *session) error {
		list = make([]tested, len(s.rows))
		quiet := 0
		for i, r := range s.rows {
			t := &list[i]
			t.kind, t.message, t.vector, t.wanted = s.resources.Kind, r.message.Index, r.parameters.Vector, r.routine.cpus
			var err error
			if t.loopback, err = a.raiseForTest(ctx, s, r, count, &quiet); err != nil {
				return err
			}
			t.ran = r.routine.callsByCPU()
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if stage.delivery == nil {
		for i := range list {
			list[i].noDelivery(stage.why, fmt.Sprintf("irqbridge selftest %v --profile FILE", device.Address()))
		}
		return list, nil
	}
	err = a.sessionOf(ctx, device, stage.delivery, func(ctx context.Context, s *session) error {
		quiet := 0
		for i, r := range s.rows {
			if i >= len(list) {
				break // the host has more vectors than a moment ago
			}
			if err := a.deliverForTest(ctx, s, r, &list[i], count, &quiet); err != nil {
				return err
			}
		}
		return nil
	})
	return list, err
}

// sessionOf has f use a session on a device that is open.
func (a *app) sessionOf(ctx context.Context, device *vfio.Device, p *prepared, f func(context.Context, *session) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s, err := startSession(device, p.policy, p.source, cancel)
	if err != nil {
		return err
	}
	return errors.Join(f(ctx, s), s.stop())
}

// raiseForTest raises an interrupt count times. quiet counts the messages in a row that never arrived.
func (a *app) raiseForTest(ctx context.Context, s *session, r *row, count int, quiet *int) (finding, error) {
	switch {
	case ctx.Err() != nil:
		return finding{Result: notPossible, Seen: "stopped before it was raised"}, nil
	case r.trigger == nil:
		return finding{Result: notPossible, Seen: "the profile does not say how to raise it"}, nil
	case *quiet >= toleratedMisses:
		return finding{Result: notPossible, Seen: fmt.Sprintf("not tried, after %d messages in a row that did not arrive", *quiet)}, nil
	}
	err := s.raise(ctx, []*row{r}, count, func(*row, time.Duration) {
		a.progress("%v %d: %d of %d", s.resources.Kind, r.message.Index, r.raised.Load(), count)
	})
	if err != nil {
		return finding{}, err
	}
	if err := s.observe(r); err != nil {
		return finding{}, err
	}
	if r.serviced.Load() == 0 {
		*quiet++
	} else {
		*quiet = 0
	}
	seen := fmt.Sprintf("%d of %d serviced", r.serviced.Load(), count)
	if p := s.diagnoseRow(r); p != nil {
		return finding{Result: failed, Seen: seen + ": " + p.what, Next: p.next}, nil
	}
	if r.serviced.Load() < uint64(count) {
		return finding{Result: notPossible, Seen: "stopped, with " + seen}, nil
	}
	return finding{Result: passed, Seen: seen}, nil
}

// What tests that were not possible leave open.
const (
	deliveryUnproved = "the device itself, bus mastering, its message, the IOMMU's remapping and the host's delivery"
	affinityUnproved = "that the host delivers on the CPUs asked for"
)

// noDelivery says that delivery was not possible, and affinity only as far as the thread.
func (t *tested) noDelivery(why, next string) {
	t.delivery = finding{Result: notPossible, Seen: why, Unproved: deliveryUnproved, Next: next}
	t.affinity = finding{Result: notPossible, Seen: "nothing was delivered; the service routine ran on " + byCPU(t.ran), Unproved: affinityUnproved}
	t.irq = "-"
}

// deliverForTest has the device raise an interrupt, and looks where it went.
func (a *app) deliverForTest(ctx context.Context, s *session, r *row, t *tested, count int, quiet *int) error {
	var err error
	if t.delivery, err = a.raiseForTest(ctx, s, r, count, quiet); err != nil {
		return err
	}
	if t.delivery.Result == notPossible {
		t.noDelivery(t.delivery.Seen, "")
		return nil
	}
	affinity := r.interrupt.Affinity()
	t.vector, t.irq, t.set, t.effective = r.parameters.Vector, r.hostIRQ(), affinity.IRQ, affinity.Effective
	t.wanted, t.delivered, t.ran = r.routine.cpus, r.delivered, r.routine.callsByCPU()
	t.affinity = t.judgeAffinity(affinity, r.routine.wrongCPU.Load())
	return nil
}

// judgeAffinity compares where an interrupt was to go with where it went. The first of them does not count: without
// remapping it goes where the one before went.
func (t *tested) judgeAffinity(report connect.AffinityReport, wrong uint64) finding {
	outside, total := uint64(0), uint64(0)
	for cpu, n := range t.delivered {
		total += n
		if !t.wanted.Has(cpu) {
			outside += n
		}
	}
	proof := fmt.Sprintf("delivered on %s, served on %s", byCPU(t.delivered), byCPU(t.ran))
	switch {
	case wrong > 0:
		return finding{Result: failed, Seen: fmt.Sprintf("wanted CPU %s, and the service routine ran elsewhere %s: %s", t.wanted, plural(int(wrong), "time"), proof), Next: "see whether a cpuset or taskset moves the threads of this process"}
	case total == 0:
		return finding{Result: notPossible, Seen: "the host shows no delivery; served on " + byCPU(t.ran), Unproved: affinityUnproved}
	case report.IRQErr != nil:
		return finding{Result: notPossible, Seen: fmt.Sprintf("the host's affinity could not be set: %v; %s", report.IRQErr, proof), Unproved: affinityUnproved, Next: "run as root"}
	case outside > 1 || !t.set.Minus(t.wanted).Empty():
		return finding{Result: failed, Seen: fmt.Sprintf("wanted CPU %s, set %s, effective %s, but %s", t.wanted, orDash(t.set), orDash(t.effective), proof), Next: "see whether irqbalance or somebody else moves it: cat /proc/irq/" + t.irq + "/smp_affinity_list"}
	}
	return finding{Result: passed, Seen: fmt.Sprintf("wanted CPU %s, set %s, effective %s; %s", t.wanted, orDash(t.set), orDash(t.effective), proof)}
}
