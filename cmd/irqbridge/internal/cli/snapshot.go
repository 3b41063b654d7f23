package cli

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/irqbridge/irqbridge/pci"
	"github.com/irqbridge/irqbridge/vfio/host"
	"github.com/irqbridge/irqbridge/vfio/vfiotest"
)

func (a *app) snapshotCommand() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "snapshot BDF",
		Short: "Write what the host knows of a device into one text file, with nothing private in it",
		Long: `snapshot writes the configuration space of a device and of the others in its IOMMU group, the sizes of their BARs, their drivers and
other facts of sysfs, their host IRQs and where these are delivered, the kernel's release and what IOMMU it has. It only reads.

What tells whose machine it is is left out, and the file says what that was: serial numbers, MAC addresses, vital product data, names
of the host and of network interfaces. No BAR and no ROM is read. The file is text in a fixed order, for diff, and can be attached to a
report: show, list, map and resources read it with --snapshot, connect --snapshot makes a fake device of it, which Go programs get
from vfiotest.FromSnapshot, and lspci -F reads the configuration space in it.

Without root the kernel gives only 64 bytes of configuration space. The file then says so, and the exit status is 3.`,
		Example: `  sudo irqbridge snapshot 05:00.0 -o board.snapshot
  irqbridge show --snapshot board.snapshot
  irqbridge connect --snapshot board.snapshot --loopback --raise 10`,
		Args: oneDevice,
		RunE: a.verb(func(_ context.Context, args []string) error {
			address, err := parseAddress(args[0])
			if err != nil {
				return err
			}
			return a.snapshot(address, output)
		}),
	}
	cmd.Flags().StringVarP(&output, "output", "o", "", "write to `FILE` in place of standard output")
	return cmd
}

func (a *app) snapshot(address pci.Address, output string) error {
	s, err := a.host.Snapshot(address)
	if err != nil {
		return explainAbsent(address, err)
	}
	if output == "" {
		_, _ = a.stdout.Write(s.Text()) // the output keeps the error
	} else if err := os.WriteFile(output, s.Text(), 0o644); err != nil {
		return unwritable(output, err)
	}
	if len(s.Unreadable) == 0 {
		return nil
	}
	for _, what := range s.Unreadable {
		a.note("not in the snapshot: %s", what)
	}
	into := ""
	if output != "" {
		into = " -o " + output
	}
	a.next("sudo irqbridge snapshot %v%s", address, into)
	return exit(exitPartial)
}

// snapshotFlag adds the flag --snapshot.
func snapshotFlag(cmd *cobra.Command, file *string) {
	cmd.Flags().StringVar(file, "snapshot", "", "read the device from a snapshot in `FILE`, which irqbridge snapshot made")
}

// maxSnapshot bounds what is read of a file that is meant to be a snapshot.
const maxSnapshot = 16 << 20

// readSnapshot reads a snapshot from a file, "-" for standard input.
func (a *app) readSnapshot(file string) (*host.Snapshot, error) {
	const next = "sudo irqbridge snapshot BDF -o FILE"
	in := a.stdin
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return nil, &failure{exitFailed, err, next}
		}
		defer func() { _ = f.Close() }()
		in = f
	}
	text, err := io.ReadAll(io.LimitReader(in, maxSnapshot+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", inputName(file), err)
	}
	s, err := host.ParseSnapshot(inputName(file), text)
	if err != nil {
		return nil, &failure{exitFailed, err, next}
	}
	return s, nil
}

// at is the program on the host of a snapshot, and the device that the snapshot is of or, given one, the one on the command
// line. Without a file it is the program on this host.
func (a *app) at(file string, args []string) (*app, pci.Address, error) {
	if file == "" {
		address, err := parseAddress(args[0])
		return a, address, err
	}
	s, err := a.readSnapshot(file)
	if err != nil {
		return nil, pci.Address{}, err
	}
	there := a.on(s)
	if len(args) == 0 {
		return there, s.Address, nil
	}
	address, err := parseAddress(args[0])
	return there, address, err
}

// on is the program on the host of a snapshot.
func (a *app) on(s *host.Snapshot) *app {
	there := *a
	there.kernel, there.host, there.snapshotOf = nil, s.Host(), s
	return &there
}

// oneDeviceOrSnapshot wants one device on the command line, or none beside --snapshot.
func oneDeviceOrSnapshot(cmd *cobra.Command, args []string) error {
	if len(args) == 0 && cmd.Flags().Changed("snapshot") {
		return nil
	}
	return oneDevice(cmd, args)
}

// asRoot is what to type for what only root can read: the same verb again, or another snapshot.
func (a *app) asRoot(verb string, address pci.Address) string {
	if a.snapshotOf != nil {
		return fmt.Sprintf("sudo irqbridge snapshot %v, where the snapshot was taken", a.snapshotOf.Address)
	}
	if address == (pci.Address{}) {
		return "sudo irqbridge " + verb
	}
	return fmt.Sprintf("sudo irqbridge %s %v", verb, address)
}

// onFake runs f as the program on a fake kernel that is made of a snapshot. The device is bound to vfio-pci there, as are those
// that keep its group from being viable: nobody uses them.
func (a *app) onFake(ctx context.Context, s *host.Snapshot, f func(*app, *vfiotest.Kernel) error) (err error) {
	k, err := vfiotest.NewKernelFromSnapshot(s)
	if err != nil {
		return &failure{exitFailed, err, fmt.Sprintf("sudo irqbridge snapshot %v, where the snapshot was taken", s.Address)}
	}
	defer k.Shutdown()
	fake := *a
	fake.kernel, fake.host, fake.snapshotOf = k, k.Host(), s
	toBind := []pci.Address{s.Address}
	d, err := fake.host.Device(s.Address)
	if err != nil {
		return err
	}
	if d.VFIO {
		toBind = nil
	}
	if g, err := fake.host.Group(d.Group); d.Group >= 0 && err == nil {
		for _, b := range g.Blockers() {
			if b.Address != s.Address {
				toBind = append(toBind, b.Address)
			}
		}
	}
	for _, address := range toBind {
		plan, err := fake.host.PlanBind(address, "vfio-pci", true)
		if err == nil {
			err = plan.Run(ctx)
		}
		if err != nil {
			return fmt.Errorf("on the fake that the snapshot makes: %w", err)
		}
	}
	return f(&fake, k)
}
