package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func (a *app) regsRunCommand() *cobra.Command {
	var o regsOptions
	cmd := a.regsVerb(&cobra.Command{
		Use:   "run BDF FILE|-",
		Short: "Do the operations of a script in one open of the device",
		Long: `run opens the device once and does the lines of a script, which is a file or, for -, standard input. A line is what stands behind
"irqbridge regs" on a command line, without the device: read, write and poll with their flags, and sleep TIME. What is behind # is a
comment. It ends at the first operation that fails, as a poll does that is not in time, with exit status 1.

The whole script is read and judged before the device is opened. Closing resets a device that has a reset: see irqbridge regs
--help.`,
		Example: `  irqbridge regs run 04:00.0 - <<'END'
  write LIVENESS=0x12345678
  read LIVENESS                       # the inverse
  write FACTORIAL 5
  poll CONTROL.COMPUTING=0 --timeout 100ms
  read FACTORIAL
  END
  irqbridge regs run 05:00.0 bringup.regs --dry-run`,
	}, &o, 1, "a script, or - for standard input", func(ctx context.Context, r *registers, words []string) error {
		if len(words) != 1 {
			return usage("want one script, have %d", len(words))
		}
		operations, err := a.readScript(r, words[0])
		if err == nil {
			err = r.refuse(operations, o.force)
		}
		if err != nil {
			return err
		}
		if o.dryRun {
			for _, op := range operations {
				a.printf("+ %v\n", op)
			}
			if !r.device.VFIO {
				return &failure{exitFailed, fmt.Errorf("%v: run would fail: the device is not bound to a VFIO driver", r.device.Address), "irqbridge bind " + r.device.Address.String()}
			}
			return nil
		}
		return a.perform(ctx, r, operations, &o)
	})
	cmd.Flags().BoolVar(&o.force, "force", false, "also write what would do nothing or harm")
	cmd.Flags().BoolVar(&o.dryRun, "dry-run", false, "print what would be done, and do not open the device")
	return cmd
}

// readScript reads the operations of a script, and tells every line that is wrong.
func (a *app) readScript(r *registers, file string) ([]operation, error) {
	name := file
	var text []byte
	var err error
	if file == "-" {
		name = "standard input"
		text, err = readLimited(a.stdin, name)
	} else {
		text, err = readSmall(file)
	}
	if err != nil {
		return nil, &failure{exitFailed, fmt.Errorf("the script: %w", err), "irqbridge regs run --help"}
	}
	var operations []operation
	var wrong []error
	for i, line := range strings.Split(string(text), "\n") {
		where := fmt.Sprintf("%s:%d: ", name, i+1)
		line, _, _ = strings.Cut(line, "#")
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		list, err := r.line(words)
		if err != nil {
			wrong = append(wrong, &failure{exitCode(err), fmt.Errorf("%s%w", where, err), fmt.Sprintf("correct line %d of %s", i+1, name)})
			continue
		}
		for _, op := range list {
			op.where = where
			operations = append(operations, op)
		}
	}
	if len(wrong) == 0 && len(operations) == 0 {
		return nil, &failure{exitFailed, fmt.Errorf("%s has no operation in it", name), "irqbridge regs run --help"}
	}
	return operations, errors.Join(wrong...)
}

// line reads one line of a script.
func (r *registers) line(words []string) ([]operation, error) {
	var f operationFlags
	verb := words[0]
	switch verb {
	case "read", "write", "poll", "sleep":
	default:
		return nil, usage("there is no operation %q: want read, write, poll or sleep", verb)
	}
	flags := pflag.NewFlagSet(verb, pflag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.Usage = func() {}
	f.add(flags, verb)
	if err := flags.Parse(words[1:]); err != nil {
		return nil, usage("%s: %w", verb, err)
	}
	return r.operations(verb, flags.Args(), f)
}
