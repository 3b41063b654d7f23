package cli

import (
	"context"
	"errors"
	"fmt"
	"os/user"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/irqbridge/irqbridge/pci"
	"github.com/irqbridge/irqbridge/vfio/host"
)

func (a *app) bindCommand() *cobra.Command {
	var (
		driver, name  string
		force, dryRun bool
	)
	var cmd *cobra.Command
	cmd = &cobra.Command{
		Use:   "bind BDF...",
		Short: "Take devices from their drivers and bind them to vfio-pci",
		Long: `bind gives devices to a VFIO driver through driver_override, and records which driver each had before, for unbind. It refuses a
device that the host uses: a mounted disk, an interface that is up, the boot display. All devices are checked before the first one is
touched.

With --user, the nodes by which the devices are opened become that user's until unbind, so that connect needs no root. The node of
an IOMMU group opens every device in it: one that is another user's, or opens devices that are not named here, is not given away.`,
		Example: `  irqbridge bind --dry-run 05:00.0           show the writes
  sudo irqbridge bind 05:00.0
  sudo irqbridge bind --user $USER 05:00.0   for use without root`,
		Args: someDevices,
		RunE: a.orderly(func(ctx context.Context, args []string) error {
			addresses, err := parseAddresses(args)
			if err != nil {
				return err
			}
			plan := func(address pci.Address) (*host.Plan, error) { return a.host.PlanBind(address, driver, force) }
			if cmd.Flags().Changed("user") {
				u, err := lookUpUser(name)
				if err != nil {
					return err
				}
				plan = func(address pci.Address) (*host.Plan, error) { return a.planFor(u, address, addresses, driver, force) }
			}
			plans, err := a.planAll(addresses, plan)
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
	cmd.Flags().StringVar(&name, "user", "", "give the devices to the user `NAME`, until unbind")
	cmd.Flags().BoolVar(&force, "force", false, "also take a device that the host uses, and give one that others have, too")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "print what would be written, and write nothing")
	return cmd
}

func (a *app) unbindCommand() *cobra.Command {
	var dryRun bool
	cmd := &cobra.Command{
		Use:   "unbind BDF...",
		Short: "Give devices back to the drivers that they had before bind",
		Long: `unbind gives devices back to the drivers that they had before bind. An irqbridge that has one open lets it go; for any other
process that does not, the kernel waits, until it ends or Ctrl-C ends this. Nodes that bind gave to a user are taken back.`,
		Example: `  irqbridge unbind --dry-run 05:00.0
  sudo irqbridge unbind 05:00.0 06:00.0`,
		Args: someDevices,
		RunE: a.orderly(func(ctx context.Context, args []string) error {
			addresses, err := parseAddresses(args)
			if err != nil {
				return err
			}
			plans, err := a.planAll(addresses, a.host.PlanUnbind)
			if err != nil {
				return err
			}
			return a.runAll(ctx, plans, dryRun)
		}),
	}
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "print what would be written, and write nothing")
	return cmd
}

// planFor plans to bind a device and to give it to a user together with those along.
func (a *app) planFor(u host.User, address pci.Address, along []pci.Address, driver string, force bool) (*host.Plan, error) {
	p, err := a.host.PlanBind(address, driver, force)
	if err != nil {
		return nil, err
	}
	err = p.GiveTo(u, along, force)
	if onHost, ok := errors.AsType[*host.Error](err); ok && errors.Is(err, host.ErrShared) {
		onHost.Remedy = fmt.Sprintf("if that is meant: irqbridge bind --force --user %v %v", u, address)
		if rest := a.alsoOnVFIO(address, along); len(rest) > 0 {
			onHost.Remedy = fmt.Sprintf("irqbridge bind --user %v %v %s", u, address, strings.Join(rest, " "))
		}
	}
	return p, err
}

// alsoOnVFIO lists the devices of the device's group that VFIO has, but for those along.
func (a *app) alsoOnVFIO(address pci.Address, along []pci.Address) []string {
	d, err := a.host.Device(address)
	if err != nil || d.Group < 0 {
		return nil
	}
	g, _ := a.host.Group(d.Group)
	var list []string
	for _, m := range g.Members {
		if m.VFIO && !slices.Contains(along, m.Address) {
			list = append(list, m.Address.String())
		}
	}
	return list
}

// lookUpUser finds a user of this host by name or number.
func lookUpUser(name string) (host.User, error) {
	u, err := user.Lookup(name)
	if err != nil {
		if u, err = user.LookupId(name); err != nil {
			return host.User{}, &failure{exitUsage, fmt.Errorf("--user %s: this host has no such user", name), "getent passwd"}
		}
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return host.User{}, usage("--user %s: its number is %q", name, u.Uid)
	}
	known := host.User{Name: u.Username, UID: uint32(uid)}
	groups, err := u.GroupIds()
	if err != nil {
		return known, &failure{exitFailed, fmt.Errorf("--user %s: its groups: %w", name, err), "getent group"}
	}
	for _, g := range groups {
		if gid, err := strconv.ParseUint(g, 10, 32); err == nil {
			known.GIDs = append(known.GIDs, uint32(gid))
		}
	}
	return known, nil
}

// planAll plans for each device. If one cannot be done, all problems are told and nothing is.
func (a *app) planAll(addresses []pci.Address, plan func(pci.Address) (*host.Plan, error)) ([]*host.Plan, error) {
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
		after := a.binding(p.Address)
		change := "was " + strings.TrimPrefix(before, "bound to ")
		if after == before {
			change = "as before"
		}
		if p.GivenTo != "" {
			change += "; given to " + p.GivenTo
		}
		a.printf("%v: %s, %s\n", p.Address, after, change)
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
