package cli

import (
	"context"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/irqbridge/irqbridge/pci"
	"github.com/irqbridge/irqbridge/vfio/host"
)

func (a *app) bindCommand() *cobra.Command {
	var (
		driver        string
		force, dryRun bool
	)
	cmd := &cobra.Command{
		Use:   "bind BDF...",
		Short: "Take devices from their drivers and bind them to vfio-pci",
		Long: `bind gives devices to a VFIO driver through driver_override, and records which driver each had before, for unbind. It refuses a
device that the host uses: a mounted disk, an interface that is up, the boot display. All devices are checked before the first one is
touched.`,
		Example: `  irqbridge bind --dry-run 05:00.0       show the writes
  sudo irqbridge bind 05:00.0`,
		Args: someDevices,
		RunE: a.orderly(func(ctx context.Context, args []string) error {
			plans, err := a.planAll(args, func(address pci.Address) (*host.Plan, error) { return a.host.PlanBind(address, driver, force) })
			if err != nil {
				return err
			}
			if err := a.runAll(ctx, plans, dryRun); err != nil || dryRun {
				return err
			}
			a.adviseAfterBind(plans)
			return nil
		}),
	}
	cmd.Flags().StringVar(&driver, "driver", "vfio-pci", "the driver to bind to")
	cmd.Flags().BoolVar(&force, "force", false, "also take a device that the host uses")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "print what would be written, and write nothing")
	return cmd
}

func (a *app) unbindCommand() *cobra.Command {
	var dryRun bool
	cmd := &cobra.Command{
		Use:   "unbind BDF...",
		Short: "Give devices back to the drivers that they had before bind",
		Long: `unbind gives devices back to the drivers that they had before bind. An irqbridge that has one open lets it go; for any other
process that does not, the kernel waits, until it ends or Ctrl-C ends this.`,
		Args: someDevices,
		RunE: a.orderly(func(ctx context.Context, args []string) error {
			plans, err := a.planAll(args, a.host.PlanUnbind)
			if err != nil {
				return err
			}
			return a.runAll(ctx, plans, dryRun)
		}),
	}
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "print what would be written, and write nothing")
	return cmd
}

// planAll plans for each device. If one cannot be done, all problems are told and nothing is.
func (a *app) planAll(args []string, plan func(pci.Address) (*host.Plan, error)) ([]*host.Plan, error) {
	addresses, err := parseAddresses(args)
	if err != nil {
		return nil, err
	}
	var plans []*host.Plan
	code := exitOK
	for _, address := range addresses {
		p, err := plan(address)
		if err != nil {
			err = explainAbsentDevice(a.host, address, err)
			a.complain(err)
			code = max(code, exitCode(err))
			continue
		}
		plans = append(plans, p)
	}
	if code != exitOK {
		if len(addresses) > 1 {
			a.note("nothing was changed")
		}
		return nil, exit(code)
	}
	return plans, nil
}

// explainAbsentDevice is explainAbsent where not only the device can be absent.
func explainAbsentDevice(h *host.Host, address pci.Address, err error) error {
	if _, absent := h.Device(address); absent != nil {
		return explainAbsent(address, absent)
	}
	return err
}

// runAll carries the plans out one after another, and goes on after one that failed.
func (a *app) runAll(ctx context.Context, plans []*host.Plan, dryRun bool) error {
	code := exitOK
	for _, p := range plans {
		for _, note := range p.Notes {
			if !namesOther(note, p, plans) { // what it says of a device of the same command line is about to change
				a.note("%v: %s", p.Address, note)
			}
		}
		if dryRun {
			for _, step := range p.Steps {
				a.printf("%v\n", step)
			}
			if len(p.Steps) == 0 {
				a.note("%v: nothing to do: %s", p.Address, a.binding(p.Address))
			}
			continue
		}
		before := a.binding(p.Address)
		if err := p.Run(ctx); err != nil {
			a.complain(err)
			code = max(code, exitCode(err))
			continue
		}
		if after := a.binding(p.Address); after == before {
			a.printf("%v: %s, as before\n", p.Address, after)
		} else {
			a.printf("%v: %s, was %s\n", p.Address, after, strings.TrimPrefix(before, "bound to "))
		}
	}
	return exit(code)
}

// namesOther tells whether a note of one plan is about the device of another.
func namesOther(note string, of *host.Plan, plans []*host.Plan) bool {
	return slices.ContainsFunc(plans, func(p *host.Plan) bool { return p != of && strings.Contains(note, p.Address.String()) })
}

// binding says which driver has a device now.
func (a *app) binding(address pci.Address) string {
	d, err := a.host.Device(address)
	switch {
	case err != nil:
		return "gone"
	case d.Driver == "":
		return "without a driver"
	default:
		return "bound to " + d.Driver
	}
}

// adviseAfterBind says what to type next: the rest of a group that is not viable, or the device's first command. Of
// devices that were given to another driver than VFIO's there is nothing to say.
func (a *app) adviseAfterBind(plans []*host.Plan) {
	if d, err := a.host.Device(plans[0].Address); err != nil || !d.VFIO {
		return
	}
	for _, p := range plans {
		if rest := slices.DeleteFunc(a.blockers(p.Address), func(s string) bool { return s == p.Address.String() }); len(rest) > 0 {
			a.next("irqbridge bind %s", strings.Join(rest, " "))
			return
		}
	}
	a.next("irqbridge connect %v", plans[0].Address)
}
