package cli

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/irqbridge/irqbridge/pci"
	"github.com/irqbridge/irqbridge/vfio"
	"github.com/irqbridge/irqbridge/vfio/host"
)

// resetOptions are the flags of reset.
type resetOptions struct {
	choice
	hot    bool
	dryRun bool
}

func (a *app) resetCommand() *cobra.Command {
	o := resetOptions{choice: choice{verb: "reset"}}
	cmd := &cobra.Command{
		Use:   "reset BDF",
		Short: "Reset a device alone, or with --hot all functions of its slot or bus",
		Long: `reset opens a device and has the kernel reset the function, by whatever way it knows for it. Opening a device through VFIO resets
it where that can be; reset tells whether it can, how long it took, and whether the device answers afterwards with the configuration
space that it had.

--hot resets the device's slot or bus, as the way to bring back a device that no other reset does. It names all functions that are
reset along. The kernel does it only when all of them are on VFIO drivers, and when those that are in use are open in this program,
which opens what nobody has. There is no --force: what another program or another driver has is not reset.`,
		Example: `  irqbridge reset 05:00.0
  irqbridge reset --hot --dry-run 05:00.0      who would be reset along`,
		Args: oneDevice,
		RunE: a.orderly(func(ctx context.Context, args []string) error {
			address, err := parseAddress(args[0])
			if err != nil {
				return err
			}
			open, err := o.openOptions()
			if err != nil {
				return err
			}
			d, err := a.host.Device(address)
			switch {
			case err != nil:
				return explainAbsent(address, err)
			case o.dryRun:
				return a.printResetPlan(d, o.hot)
			case o.hot:
				return a.onDevice(ctx, address, open, func(_ context.Context, device *vfio.Device, _ context.CancelCauseFunc) (int, error) {
					return exitOK, a.hotReset(device)
				})
			}
			return a.onDevice(ctx, address, open, func(_ context.Context, device *vfio.Device, _ context.CancelCauseFunc) (int, error) {
				return exitOK, a.reset(device)
			})
		}),
	}
	o.backendFlag(cmd)
	cmd.Flags().BoolVar(&o.hot, "hot", false, "reset the whole slot or bus")
	cmd.Flags().BoolVar(&o.dryRun, "dry-run", false, "print what would be done, and do not open the device")
	return cmd
}

// printResetPlan is reset --dry-run.
func (a *app) printResetPlan(d host.Device, hot bool) error {
	if !d.VFIO {
		return &failure{exitFailed, fmt.Errorf("%v: reset would fail: the device is not bound to a VFIO driver", d.Address), "irqbridge bind " + d.Address.String()}
	}
	if !hot {
		if users := a.users(d); users != "" {
			return &failure{exitFailed, fmt.Errorf("%v: reset would fail: its IOMMU group is open in process %s", d.Address, users), "end that process, or reset the device in it"}
		}
		a.printf("+ open %v, which resets it alone where that can be\n+ reset %v alone (VFIO_DEVICE_RESET)\n+ close it\n", d.Address, d.Address)
		return nil
	}
	switch above, err := a.host.Above(d.Address); {
	case err != nil:
		return err
	case len(above) == 0:
		return unsupported("irqbridge reset "+d.Address.String(), "%v: the hot reset would fail: the device is on a root bus, which has no bridge above it that could reset it", d.Address)
	}
	devices, err := a.host.Devices()
	if err != nil {
		return err
	}
	t := newTable("FUNCTION", ">GROUP", "DRIVER", "TO DO FIRST")
	var bind, open []string
	for _, each := range devices {
		if each.Address.Domain != d.Address.Domain || each.Address.Bus != d.Address.Bus {
			continue
		}
		first := "-"
		if users := a.users(each); !each.VFIO {
			first = "irqbridge bind " + each.Address.String()
			bind = append(bind, each.Address.String())
		} else if users != "" {
			first = "end process " + users
			open = append(open, each.Address.String())
		}
		t.add(each.Address, groupNumber(each.Group), driverName(each), first)
	}
	a.printf("+ open %v, and one device of each other group\n+ reset its slot or bus (VFIO_DEVICE_PCI_HOT_RESET), which may have these functions:\n", d.Address)
	t.print(a.stdout, "  ", 0)
	a.printf("+ close them\n")
	const fails = "%v: the hot reset would fail, unless only a slot without these is reset: %s: %s"
	switch {
	case len(bind) > 0:
		return &failure{exitFailed, fmt.Errorf(fails, d.Address, "not bound to a VFIO driver", strings.Join(bind, ", ")), "irqbridge bind " + strings.Join(bind, " ")}
	case len(open) > 0:
		return &failure{exitFailed, fmt.Errorf(fails, d.Address, "open in another process", strings.Join(open, ", ")), "end that process, or reset the device in it"}
	}
	return nil
}

// users names the processes that have a device or its group open, as far as this user may see; "" when it sees none.
func (a *app) users(d host.Device) string {
	if d.Group < 0 {
		return ""
	}
	holders, _ := a.host.HolderProcesses(d.Group)
	var names []string
	for _, p := range holders {
		names = append(names, p.String())
	}
	return strings.Join(names, ", ")
}

func groupNumber(group int) string {
	if group < 0 {
		return "-"
	}
	return strconv.Itoa(group)
}

// reset resets the function alone.
func (a *app) reset(device *vfio.Device) error {
	if !device.CanReset() {
		next := fmt.Sprintf("irqbridge reset --hot %v", device.Address())
		if _, err := device.HotResetInfo(); err != nil {
			next = "use the device's own reset register, if it has one"
		}
		return unsupported(next, "%v: reset: the kernel knows no way to reset this function alone", device.Address())
	}
	return a.resetAndLook(device, "reset alone", func() error { return device.Reset() })
}

// hotReset resets the slot or bus.
func (a *app) hotReset(device *vfio.Device) (err error) {
	functions, err := device.HotResetInfo()
	if err != nil {
		return err
	}
	a.printf("%v: a hot reset resets %s\n", device.Address(), plural(len(functions), "function"))
	t := newTable("FUNCTION", ">GROUP", "DRIVER", "OPEN IN")
	for _, f := range functions {
		t.add(f.Address, groupNumber(f.Group), cmp.Or(f.Driver, "-"), cmp.Or(strings.Join(f.Holders, ", "), "-"))
	}
	t.print(a.stdout, "", 0)
	others, err := a.openOtherGroups(device, functions)
	defer func() {
		for _, other := range others {
			err = errors.Join(err, other.Close())
		}
	}()
	if err != nil {
		return err
	}
	return a.resetAndLook(device, fmt.Sprintf("hot reset, of %s", plural(len(functions), "function")), func() error { return device.HotReset(others...) })
}

// openOtherGroups opens one device of each IOMMU group that a hot reset of device touches, and that device is not of. What
// is in the way of the rest, HotReset says.
func (a *app) openOtherGroups(device *vfio.Device, functions []vfio.HotResetFunction) ([]*vfio.Device, error) {
	var others []*vfio.Device
	have := map[int]bool{device.Group(): true}
	for _, f := range functions {
		if !f.VFIO || f.Group < 0 || have[f.Group] {
			continue
		}
		have[f.Group] = true
		options := []vfio.Option{vfio.WithBackend(device.Backend())}
		if device.Backend() == vfio.BackendIOMMUFD {
			options = append(options, vfio.WithIOMMUFD(device.IOMMUFD()))
		}
		other, err := a.open(f.Address, options...)
		if err != nil {
			return others, err
		}
		others = append(others, other)
	}
	return others, nil
}

// resetAndLook resets, and looks whether the device answers, with the configuration space that it had.
func (a *app) resetAndLook(device *vfio.Device, what string, reset func() error) error {
	before, err := device.Config()
	if err != nil {
		return err
	}
	begin := time.Now()
	if err := reset(); err != nil {
		return err
	}
	took := time.Since(begin)
	after, err := device.Config()
	if err != nil {
		return err
	}
	if f, err := pci.Decode(after); err != nil || f.VendorID == 0xffff {
		return &failure{exitFailed, fmt.Errorf("%v: %s in %v; since then the device does not answer", device.Address(), what, took.Round(time.Microsecond)), "see the end of dmesg"}
	}
	as := "its configuration space is as before"
	if places := differences(before, after); len(places) > 0 {
		as = "its configuration space differs from before at " + strings.Join(wrap(places, 80)[:1], "")
	}
	a.printf("%v: %s in %v; it answers, and %s\n", device.Address(), what, took.Round(time.Microsecond), as)
	return nil
}

// differences are the registers of 32 bits in which two configuration spaces differ.
func differences(before, after []byte) []string {
	var places []string
	for i := 0; i+4 <= min(len(before), len(after)); i += 4 {
		if !bytes.Equal(before[i:i+4], after[i:i+4]) {
			places = append(places, fmt.Sprintf("0x%03x", i))
		}
	}
	return places
}
