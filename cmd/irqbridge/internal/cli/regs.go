package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/irqbridge/irqbridge/cmd/irqbridge/internal/profile"
	"github.com/irqbridge/irqbridge/pci"
)

// regsOptions are the flags of regs and its verbs; each has some of them.
type regsOptions struct {
	choice
	json     bool
	force    bool
	dryRun   bool
	duration time.Duration // watch
	operationFlags
}

// operationFlags are the flags of one operation, on the command line and in a line of a script.
type operationFlags struct {
	width    int
	mask     string
	timeout  time.Duration
	interval time.Duration
}

// The defaults of poll and watch.
const (
	pollTimeout   = time.Second
	pollInterval  = time.Millisecond
	watchInterval = 100 * time.Millisecond
)

func (f *operationFlags) add(flags *pflag.FlagSet, verb string) {
	if verb != "sleep" {
		flags.IntVar(&f.width, "width", 0, "the access's `BITS`: 8, 16, 32 or 64 (default: that of the profile, else 32)")
	}
	if verb == "poll" {
		flags.StringVar(&f.mask, "mask", "", "look at these bits only (default: all, or those of the field)")
		flags.DurationVar(&f.timeout, "timeout", pollTimeout, "how long to wait")
		flags.DurationVar(&f.interval, "interval", pollInterval, "how long to leave the device alone between two reads")
	}
}

func (a *app) regsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "regs",
		Short: "Read, write, dump, watch and poll registers: of BARs, and of configuration space",
		Long: `regs accesses the registers of a device that is bound to VFIO. Each access is a single one, of the width that is stated. A register
is given by its place, bar0+0x8 or config+0x4, or by the name that a profile gives it, STATUS, also with a field, CTRL.RST. The
profile is the one that is part of the program for the device (irqbridge profile list), or that of --profile. Numbers are decimal,
or hexadecimal behind 0x.

What opening does. The kernel opens a device for one user at a time, and so do these verbs, for as long as they run. Opening wakes
the device up (D0), switches memory decoding on and bus mastering off, and resets the function where the kernel has a way to
(reset_method in sysfs); closing resets it again, and lets it sleep. So what one regs reads of a device with a reset is what the
reset leaves, and what it writes may be gone when it ends; a device without a reset, as edu, keeps it. Several operations in one
open are a script: irqbridge regs run.

What is refused without --force, before the device is opened: writes to what the profile says is read only, to the MSI-X table, and
to the parts of configuration space that VFIO keeps to itself (BARs, MSI, MSI-X, header); memory decoding off, power states other
than D0, and resets by configuration space. Configuration space is seen as VFIO shows it; irqbridge show has it as the hardware
does.`,
		Args: cobra.ArbitraryArgs,
		RunE: func(_ *cobra.Command, args []string) error {
			const verbs = "want one of read, write, dump, watch, poll and run"
			if len(args) == 0 {
				return errors.New(verbs)
			}
			return fmt.Errorf("there is no %q of registers: %s", args[0], verbs)
		},
	}
	cmd.AddCommand(a.regsReadCommand(), a.regsWriteCommand(), a.regsDumpCommand(), a.regsWatchCommand(), a.regsPollCommand(), a.regsRunCommand())
	return cmd
}

// regsVerb fills in what the verbs of regs have in common. f gets what is known of the registers, and the words after the device.
func (a *app) regsVerb(cmd *cobra.Command, o *regsOptions, least int, wanted string, f func(ctx context.Context, r *registers, words []string) error) *cobra.Command {
	cmd.Args = func(_ *cobra.Command, args []string) error {
		if len(args) < 1+least {
			return fmt.Errorf("want a device, such as 0000:00:04.0, and %s; have %s", wanted, plural(len(args), "word"))
		}
		return nil
	}
	cmd.RunE = a.orderly(func(ctx context.Context, args []string) error {
		address, err := parseAddress(args[0])
		if err != nil {
			return err
		}
		if _, err := o.openOptions(); err != nil {
			return err
		}
		r, err := a.readRegisters(address, o.profile)
		if err != nil {
			return err
		}
		return f(ctx, r, args[1:])
	})
	o.profileFlag(cmd)
	o.backendFlag(cmd)
	cmd.Flags().BoolVar(&o.json, "json", false, "print one JSON object")
	return cmd
}

// withRegisters opens the device for f, and closes it.
func (a *app) withRegisters(r *registers, o *regsOptions, f func(*registerSession) error) error {
	options, err := o.openOptions()
	if err != nil {
		return err
	}
	device, err := a.open(r.device.Address, options...)
	if err != nil {
		return err
	}
	return errors.Join(f(&registerSession{r, device}), device.Close())
}

func (a *app) regsReadCommand() *cobra.Command {
	var o regsOptions
	cmd := a.regsVerb(&cobra.Command{
		Use:   "read BDF REGISTER...",
		Short: "Read registers, each by one access",
		Long: `read reads registers one after another and shows their fields, if a profile names them. A register that is cleared by reading is
read, too, when it is asked for; it is said. See irqbridge regs --help for what opening a device does to it.`,
		Example: `  irqbridge regs read 05:00.0 STATUS CTRL.SPEED
  irqbridge regs read 05:00.0 bar0+0x8 --width 32
  irqbridge regs read 05:00.0 config+0x4 --width 16 --json`,
	}, &o, 1, "a register, such as bar0+0x8 or STATUS", func(ctx context.Context, r *registers, words []string) error {
		operations, err := r.operations("read", words, o.operationFlags)
		if err != nil {
			return err
		}
		return a.withRegisters(r, &o, func(s *registerSession) error {
			var results []outcome
			for _, op := range operations {
				result, err := s.do(ctx, op, nil)
				if err != nil {
					return err
				}
				results = append(results, result)
			}
			if o.json {
				a.printJSON(newRegistersJSON(s, results))
			} else {
				a.printValues(results)
			}
			for i, op := range operations {
				a.tellRead(s, op, results[i])
			}
			a.tellReset(s, false)
			return nil
		})
	})
	o.add(cmd.Flags(), "read")
	return cmd
}

func (a *app) regsWriteCommand() *cobra.Command {
	var o regsOptions
	cmd := a.regsVerb(&cobra.Command{
		Use:   "write BDF REGISTER=VALUE... | REGISTER VALUE",
		Short: "Write registers, each by one access",
		Long: `write writes registers one after another. A field of a register is changed by reading the register, changing the field's bits and
writing it back, which is said; bits that are cleared by writing 1 are then written as 0. In a register that is write only, or
cleared by writing 1, the field alone is written and every other bit as 0. VALUE may be a name that the profile gives the value.

What would do nothing or harm is refused without --force: see irqbridge regs --help, also for what opening a device does to it.
--dry-run opens a device only when that does not reset it, to read what is there where reading does nothing else.`,
		Example: `  irqbridge regs write 05:00.0 bar0+0xc8 0x4
  irqbridge regs write 05:00.0 CTRL.SLU=1 CTRL.FD=1 --dry-run
  irqbridge regs write 05:00.0 config+0x3c=0x0b --width 8 --force`,
	}, &o, 1, "what to write, such as bar0+0xc8=0x4", func(ctx context.Context, r *registers, words []string) error {
		operations, err := r.operations("write", words, o.operationFlags)
		if err == nil {
			err = r.refuse(operations, o.force)
		}
		if err != nil {
			return err
		}
		if o.dryRun {
			return a.dryWrite(r, operations, &o)
		}
		return a.perform(ctx, r, operations, &o)
	})
	o.add(cmd.Flags(), "write")
	cmd.Flags().BoolVar(&o.force, "force", false, "also write what would do nothing or harm")
	cmd.Flags().BoolVar(&o.dryRun, "dry-run", false, "print what would be written, and write nothing")
	return cmd
}

func (a *app) regsPollCommand() *cobra.Command {
	var o regsOptions
	cmd := a.regsVerb(&cobra.Command{
		Use:   "poll BDF REGISTER=VALUE | REGISTER VALUE",
		Short: "Wait until a register has a value, or the bits of a mask have",
		Long: `poll reads a register until REGISTER & MASK is VALUE. The exit status is 1 when it is not in time. See irqbridge regs --help for
what opening a device does to it.`,
		Example: `  irqbridge regs poll 07:00.0 CSTS.RDY=0 --timeout 5s
  irqbridge regs poll 05:00.0 bar0+0x8 0x2 --mask 0x2`,
	}, &o, 1, "what to wait for, such as STATUS=0x1", func(ctx context.Context, r *registers, words []string) error {
		operations, err := r.operations("poll", words, o.operationFlags)
		if err != nil {
			return err
		}
		return a.perform(ctx, r, operations, &o)
	})
	o.add(cmd.Flags(), "poll")
	return cmd
}

// operations reads the words of an operation: several reads or writes, one poll, one sleep.
func (r *registers) operations(verb string, words []string, f operationFlags) ([]operation, error) {
	switch {
	case f.timeout < 0:
		return nil, usage("--timeout %v: want a time that is not negative", f.timeout)
	case verb == "poll" && f.interval <= 0:
		return nil, usage("--interval %v: want a time of more than 0", f.interval)
	case len(words) == 0 && verb == "sleep":
		return nil, usage("sleep: want a time, such as 10ms")
	case len(words) == 0:
		return nil, usage("%s: want a register", verb)
	case verb == "sleep":
		d, err := time.ParseDuration(words[0])
		if err != nil || d < 0 || len(words) > 1 {
			return nil, usage("sleep %s: want one time, such as 10ms", strings.Join(words, " "))
		}
		return []operation{{verb: verb, timeout: d}}, nil
	}
	var list []operation
	for i := 0; i < len(words); i++ {
		word, value, given := strings.Cut(words[i], "=")
		if verb == "read" && given {
			return nil, usage("%s: a read takes no value; see: irqbridge regs write --help", words[i])
		}
		if verb != "read" && !given {
			if i++; i == len(words) {
				return nil, usage("%s: want a value: %s=VALUE", word, word)
			}
			value = words[i]
		}
		t, err := r.target(word, f.width)
		if err != nil {
			return nil, err
		}
		o := operation{verb: verb, target: t, timeout: f.timeout, interval: f.interval}
		if verb != "read" {
			if o.value, err = t.value(value); err != nil {
				return nil, err
			}
		}
		if verb == "poll" {
			if o.mask, err = t.pollMask(f.mask, o.value); err != nil {
				return nil, err
			}
		}
		list = append(list, o)
	}
	if verb == "poll" && len(list) > 1 {
		return nil, usage("poll: want one register and its value, have %d", len(list))
	}
	return list, nil
}

// pollMask reads the flag --mask.
func (t target) pollMask(flag string, value uint64) (uint64, error) {
	switch {
	case flag == "":
		return t.mask(), nil
	case t.field != nil:
		return 0, usage("--mask %s: the field %v is a mask already", flag, t)
	}
	mask, err := parseNumber(flag)
	switch {
	case err != nil:
		return 0, usage("--mask %s: want a number such as 0x1", flag)
	case mask == 0 || mask > t.ones():
		return 0, usage("--mask %s: want bits of %d", flag, t.width)
	case value&^mask != 0:
		return 0, usage("--mask %s: the value 0x%x has bits outside of it, so that it never comes", flag, value)
	}
	return mask, nil
}

// refuse tells what is against the writes among the operations.
func (r *registers) refuse(operations []operation, force bool) error {
	var against []error
	for _, o := range operations {
		if o.verb != "write" || force {
			continue
		}
		if why := r.objection(o); why != "" {
			against = append(against, &failure{
				exitFailed, fmt.Errorf("%v: %swrite %v: %s", r.device.Address, o.where, o.target, why),
				"add --force if that is meant",
			})
		}
	}
	if len(against) == 0 {
		return nil
	}
	return errors.Join(against...)
}

// perform opens the device, does the operations until one fails, and tells each.
func (a *app) perform(ctx context.Context, r *registers, operations []operation, o *regsOptions) error {
	return a.withRegisters(r, o, func(s *registerSession) error {
		result := newPerformedJSON(s)
		wrote, failed := false, error(nil)
		for _, op := range operations {
			done, err := s.do(ctx, op, func(now outcome) {
				t := op.target
				a.progress("%s & %s is %s for %v; Ctrl-C ends", t.registerName(), t.hex(op.mask), t.hex(now.value&op.mask), now.elapsed.Round(time.Millisecond))
			})
			if op.verb == "poll" {
				a.progress("")
				if err == nil && !done.met {
					err = notInTime(op, done)
				}
			}
			if err == nil || done.reads > 0 {
				result.Operations = append(result.Operations, newPerformedOneJSON(op, done))
			}
			if err == nil && !o.json {
				a.printDone(op, done)
			}
			if err == nil || done.reads > 0 {
				a.tellRead(s, op, done)
			}
			if err != nil {
				failed = op.failure(r.device.Address, err)
				break
			}
			wrote = wrote || op.verb == "write"
		}
		if o.json {
			a.printJSON(result)
		}
		a.tellReset(s, wrote)
		return failed
	})
}

// failure is why an operation failed, with its place in the script.
func (o operation) failure(address pci.Address, err error) error {
	switch {
	case errors.Is(err, errNotInTime):
		return &failure{exitFailed, fmt.Errorf("%v: %s%w", address, o.where, err), fmt.Sprintf("irqbridge regs watch %v %s", address, o.target.registerName())}
	case errors.Is(err, errInterrupted):
		return fmt.Errorf("%v: %s%v: %w", address, o.where, o, err)
	case o.where != "":
		return fmt.Errorf("%s%w", o.where, err)
	}
	return err
}

// tellRead says what is to be known of what an operation read, or wrote.
func (a *app) tellRead(s *registerSession, o operation, done outcome) {
	address, t := s.device.Address(), o.target
	switch {
	case o.verb == "sleep":
	case o.verb == "write":
		if now, err := s.readBack(t); err == nil && now != done.value {
			a.note("%v: %v reads %s after %s was written: the device or VFIO keeps some of its bits", address, t, t.hex(now), t.hex(done.value))
		}
	case t.register != nil && !t.quiet():
		a.note("%v: %s is %s", address, t.name, whyNotRead(t.register.Access))
	case t.space != configSpace && t.width >= 32 && done.value == t.ones():
		a.note("%v: %v reads all ones, as everything does when memory decoding is off, or the device is in reset, asleep or gone", address, t)
		a.next("irqbridge show %v", address)
	}
}

// whyNotRead says why a register is not read without being asked for.
func whyNotRead(access profile.Access) string {
	if access == profile.WriteOnly {
		return "write only, so that what it reads means nothing"
	}
	return "cleared by reading"
}

// dryWrite is write --dry-run.
func (a *app) dryWrite(r *registers, operations []operation, o *regsOptions) error {
	address := r.device.Address
	if !r.device.VFIO {
		for _, op := range operations {
			a.printf("+ %s\n", op)
		}
		return &failure{exitFailed, fmt.Errorf("%v: write would fail: the device is not bound to a VFIO driver", address), "irqbridge bind " + address.String()}
	}
	methods, err := a.host.ResetMethods(address)
	if err != nil {
		return err
	}
	if len(methods) > 0 {
		for _, op := range operations {
			a.printf("+ %s\n", op)
		}
		a.note("%v: what is there now is not read, since opening the device resets it", address)
		return nil
	}
	return a.withRegisters(r, o, func(s *registerSession) error {
		after := map[place]uint64{} // what the writes before leave, where that is known
		for _, op := range operations {
			t := op.target
			if !t.quiet() {
				a.printf("+ %s; what is there now is not read, since that may change it\n", op)
				continue
			}
			old, known := after[t.place]
			if !known {
				var err error
				if old, err = s.read(t.place); err != nil {
					return err
				}
			}
			a.printf("+ %s; it %sreads %s%s\n", op, when(known, "then "), t.hex(old), when(op.rmw(), ", so "+t.hex(op.changed(old))))
			if t.access() == profile.ReadWrite && t.space != configSpace {
				after[t.place] = op.changed(old)
			}
		}
		return nil
	})
}

// String says what an operation does: "write CTRL, bar0+0x0, 32 bits: 0x04140240".
func (o operation) String() string {
	if o.verb == "sleep" {
		return fmt.Sprintf("sleep %v", o.timeout)
	}
	t := o.target
	where := fmt.Sprintf("%v, %d bits", t.place, t.width)
	if t.register != nil {
		where = t.name + ", " + where
	}
	switch {
	case o.verb == "read":
		return "read " + where
	case o.verb == "poll":
		return fmt.Sprintf("poll %s until & %s is %s, %v at most", where, t.hex(o.mask), t.hex(o.value), o.timeout)
	case o.rmw():
		return fmt.Sprintf("read %s, and write it with %s under mask %s", where, t.hex(o.value), t.hex(t.mask()))
	default:
		return fmt.Sprintf("write %s: %s", where, t.hex(o.value))
	}
}
