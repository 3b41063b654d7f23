package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/irqbridge/irqbridge/pci"
	"github.com/irqbridge/irqbridge/vfio"
)

// maskOptions are the flags of mask and unmask.
type maskOptions struct {
	choice
	hold     bool // mask
	duration time.Duration
	json     bool
	dryRun   bool
}

// silence is how long a masked line is listened to before it is said that nothing came.
const silence = 100 * time.Millisecond

func (a *app) maskCommand() *cobra.Command {
	return a.maskVerb(maskOptions{choice: choice{verb: "mask"}, hold: true}, &cobra.Command{
		Use:   "mask BDF",
		Short: "Hold a device's line masked, and prove from the hardware that it is",
		Long: `mask connects the INTx line of a device, masks it through VFIO, looks in the hardware's COMMAND.INTxDisable whether it is masked,
has the device assert it by the profile, and holds it masked until --duration or Ctrl-C. Then it unmasks the line, and what was pending
has to arrive. A mask does not outlive the program that has the device open: when that ends, the kernel disables the line. So mask is
for a look at the silent device with other tools, and for the proof that masking works.

VFIO masks no messages. A message is masked in the device, by its own interrupt enable register: irqbridge regs, or the disable steps
of a profile.`,
		Example: `  irqbridge mask 04:00.0
  irqbridge mask 04:00.0 --duration 10s --json`,
	})
}

func (a *app) unmaskCommand() *cobra.Command {
	return a.maskVerb(maskOptions{choice: choice{verb: "unmask"}}, &cobra.Command{
		Use:   "unmask BDF",
		Short: "Prove that a line which was asserted while it was masked gets through when it is unmasked",
		Long: `unmask does what mask does, without holding the line: it masks the INTx line of a device, has the device assert it, unmasks it, and
tells after how long the service routine ran. A line that another program left masked needs no verb: opening the device unmasks it.

VFIO masks no messages. A message is masked in the device, by its own interrupt enable register: irqbridge regs, or the enable steps
of a profile.`,
		Example: `  irqbridge unmask 04:00.0`,
	})
}

func (a *app) maskVerb(o maskOptions, cmd *cobra.Command) *cobra.Command {
	cmd.Args = oneDevice
	cmd.RunE = a.orderly(func(ctx context.Context, args []string) error {
		if o.duration < 0 {
			return usage("--duration %v: want a time that is not negative", o.duration)
		}
		if err := a.refuseMessages(args[0], o.choice); err != nil {
			return err
		}
		p, err := a.prepare(cmd, args[0], o.choice, nil)
		if err != nil {
			return err
		}
		if o.dryRun {
			return a.printPlan(p, o.choice, plannedRaises{
				message: 0, times: 1, before: "+ mask INTx (VFIO_DEVICE_SET_IRQS, MASK)\n", after: "+ unmask INTx\n",
			})
		}
		return a.maskLine(ctx, p, o)
	})
	o.backendFlag(cmd)
	f := cmd.Flags()
	f.StringVar(&o.kind, "kind", "intx", "intx; what VFIO cannot mask is refused")
	o.cpusFlag(cmd, "")
	o.profileFlag(cmd)
	if o.hold {
		f.DurationVar(&o.duration, "duration", 0, "unmask after this time, such as 10s (default: at Ctrl-C)")
	}
	f.BoolVar(&o.json, "json", false, "print one JSON object")
	f.BoolVar(&o.dryRun, "dry-run", false, "print what would be done, and do not open the device")
	return cmd
}

// refuseMessages says that VFIO masks no messages, also of a device that has nothing else.
func (a *app) refuseMessages(arg string, c choice) error {
	address, err := parseAddress(arg)
	if err != nil {
		return err
	}
	if c.kind == "msi" || c.kind == "msix" {
		return unsupported("irqbridge regs --help, for the device's own interrupt enable register",
			"%v: --kind %s: VFIO has no mask for messages", address, c.kind)
	}
	f, err := a.function(address)
	if err == nil && f.INTx == nil {
		return unsupported("irqbridge regs --help, for the device's own interrupt enable register",
			"%v: the device has no line to mask, and VFIO has no mask for messages; it offers: %s", address, offers(f))
	}
	return nil // prepare tells of errors
}

// maskStep is one step of masking a line, and what was seen.
type maskStep struct {
	Step   string  `json:"step"` // mask, raise, hold or unmask
	Result verdict `json:"result"`
	Seen   string  `json:"seen"`
}

// maskJSON is the output of mask --json and unmask --json.
type maskJSON struct {
	Schema  int         `json:"schema"`
	Address pci.Address `json:"address"`
	Backend string      `json:"backend"`
	Kind    string      `json:"kind"`
	Steps   []maskStep  `json:"steps"`
}

// maskLine masks the line, raises it, holds it and unmasks it.
func (a *app) maskLine(ctx context.Context, p *prepared, o maskOptions) error {
	return a.inSession(ctx, p, func(ctx context.Context, s *session) (int, error) {
		a.tellBeginning(s, p, o.json)
		if !o.json {
			a.printf("%v  %s  %s  backend %v\n", s.device.Address(), interruptsOf(s.resources.Kind, len(s.rows)), p.how, s.device.Backend())
		}
		line := maskedLine{session: s, row: s.rows[0]}
		result := maskJSON{Schema: schema, Address: s.device.Address(), Backend: s.device.Backend().String(), Kind: s.resources.Kind.String()}
		steps := []func(context.Context) (maskStep, error){line.mask, line.raise}
		if o.hold {
			steps = append(steps, func(ctx context.Context) (maskStep, error) { return line.hold(ctx, a, o.duration) })
		}
		code := exitOK
		for _, step := range append(steps, line.unmask) {
			m, err := step(ctx)
			if err != nil {
				return exitFailed, err
			}
			if m.Step == "" {
				continue
			}
			result.Steps = append(result.Steps, m)
			code = m.Result.exit(code)
			if !o.json {
				a.printf("%-6s  %-12s  %s\n", m.Step, m.Result, m.Seen)
			}
		}
		s.noteEnd(ctx)
		if err := s.stop(); err != nil {
			return exitFailed, err
		}
		if o.json {
			a.printJSON(result)
		}
		return worse(code, a.tellEnd(ctx, s, nil)), nil
	})
}

// maskedLine is a line that is being masked.
type maskedLine struct {
	*session
	row     *row
	visible bool   // COMMAND.INTxDisable follows the mask
	calls   uint64 // of the service routine when it was masked
	pending bool   // the device asserts it
}

// registers tells whether the hardware has the line disabled, and whether the device asserts it.
func (l *maskedLine) registers() (disabled, asserted bool, err error) {
	command, status, err := l.hardware()
	if err != nil {
		return false, false, fmt.Errorf("%v: read configuration space: %w", l.device.Address(), err)
	}
	return command&pci.CommandINTxDisable != 0, status.Interrupt, nil
}

func (l *maskedLine) mask(context.Context) (maskStep, error) {
	before, _, err := l.registers()
	if err != nil {
		return maskStep{}, err
	}
	if err := l.device.MaskIRQ(vfio.INTx); err != nil {
		return maskStep{}, err
	}
	l.calls = l.row.routine.calls.Load()
	if l.visible, _, err = l.registers(); err != nil {
		return maskStep{}, err
	}
	switch {
	case before:
		return maskStep{"mask", failed, "COMMAND.INTxDisable is 1 in the hardware before it is masked: the line was off already"}, nil
	case !l.visible:
		return maskStep{"mask", notPossible, "COMMAND.INTxDisable stays 0: the kernel masks this line in the interrupt controller, where nobody can look"}, nil
	}
	return maskStep{"mask", passed, "COMMAND.INTxDisable is 1 in the hardware, and was 0 before"}, nil
}

func (l *maskedLine) raise(ctx context.Context) (maskStep, error) {
	if l.row.trigger == nil {
		return maskStep{"raise", notPossible, "the profile does not say how to raise it: nothing proves that an asserted line is held back"}, nil
	}
	if err := l.row.trigger(); err != nil {
		return maskStep{}, fmt.Errorf("%v: raise INTx: %w", l.device.Address(), err)
	}
	err := l.until(ctx, serviceDeadline, func() (bool, error) {
		_, asserted, err := l.registers()
		l.pending = asserted
		return asserted, err
	})
	if err != nil {
		return maskStep{}, err
	}
	if !l.pending && ctx.Err() != nil {
		return maskStep{"raise", notPossible, "stopped before the device was seen to assert its line"}, nil
	}
	if !l.pending {
		return maskStep{"raise", failed, "the device does not assert its line: STATUS.Interrupt is 0; check the raise steps of the profile"}, nil
	}
	if err := l.until(ctx, silence, func() (bool, error) { return l.leaked() > 0, nil }); err != nil {
		return maskStep{}, err
	}
	if n := l.leaked(); n > 0 {
		return maskStep{"raise", failed, fmt.Sprintf("the service routine ran %s, though the line is masked", plural(int(n), "time"))}, nil
	}
	if ctx.Err() != nil {
		return maskStep{"raise", notPossible, "the device asserts its line (STATUS.Interrupt is 1); stopped before it was seen whether it is held back"}, nil
	}
	return maskStep{"raise", passed, fmt.Sprintf("the device asserts its line (STATUS.Interrupt is 1), and no service routine ran in %v", silence)}, nil
}

// leaked is how often the service routine ran since the line was masked.
func (l *maskedLine) leaked() uint64 { return l.row.routine.calls.Load() - l.calls }

// until looks every millisecond until there is what is waited for, ctx ends, or the time is over.
func (l *maskedLine) until(ctx context.Context, limit time.Duration, there func() (bool, error)) error {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(limit); time.Now().Before(end); {
		if ok, err := there(); ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
	return nil
}

// hold keeps the line masked until the time is over or ctx ends.
func (l *maskedLine) hold(ctx context.Context, a *app, duration time.Duration) (maskStep, error) {
	if duration > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, duration)
		defer cancel()
	}
	begin := time.Now()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for ctx.Err() == nil {
		a.progress("masked for %v; Ctrl-C unmasks", time.Since(begin).Round(time.Second))
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
	a.progress("")
	held := time.Since(begin).Round(time.Millisecond)
	disabled, _, err := l.registers()
	switch n := l.leaked(); {
	case err != nil:
		return maskStep{}, err
	case n > 0:
		return maskStep{"hold", failed, fmt.Sprintf("the service routine ran %s in %v, though the line is masked", plural(int(n), "time"), held)}, nil
	case l.visible && !disabled:
		return maskStep{"hold", failed, fmt.Sprintf("after %v COMMAND.INTxDisable is 0: somebody else cleared it", held)}, nil
	}
	return maskStep{"hold", passed, fmt.Sprintf("masked for %v, and no service routine ran", held)}, nil
}

func (l *maskedLine) unmask(ctx context.Context) (maskStep, error) {
	l.row.routine.entered.Store(awaited)
	claimed, begin := l.row.routine.claimed.Load(), now()
	if err := l.device.UnmaskIRQ(vfio.INTx); errors.Is(err, os.ErrClosed) && ctx.Err() != nil {
		return maskStep{}, nil
	} else if err != nil {
		return maskStep{}, err
	}
	arrived := func() bool { return l.row.routine.claimed.Load() > claimed }
	if l.pending {
		// Not with ctx: what Ctrl-C ends is the holding.
		if err := l.until(context.Background(), serviceDeadline, func() (bool, error) { return arrived(), nil }); err != nil {
			return maskStep{}, err
		}
		if !arrived() {
			return maskStep{"unmask", failed, "the line is asserted, but its service routine did not run"}, nil
		}
	}
	l.awaitUnmask()
	disabled, _, err := l.registers()
	switch {
	case err != nil:
		return maskStep{}, err
	case disabled:
		return maskStep{"unmask", failed, "COMMAND.INTxDisable is still 1 in the hardware"}, nil
	case !l.pending:
		return maskStep{"unmask", passed, "COMMAND.INTxDisable is 0 in the hardware; nothing was pending"}, nil
	}
	after := max(time.Duration(l.row.routine.entered.Load()-begin), 0)
	return maskStep{"unmask", passed, fmt.Sprintf("what was pending arrived %s after the unmask; COMMAND.INTxDisable is 0 in the hardware", microseconds(after))}, nil
}
