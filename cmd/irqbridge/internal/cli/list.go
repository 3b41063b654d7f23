package cli

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/irqbridge/irqbridge/pci"
	"github.com/irqbridge/irqbridge/vfio/host"
)

// listJSON is the output of list --json.
type listJSON struct {
	Schema  int          `json:"schema"`
	Devices []deviceJSON `json:"devices"`
}

func (a *app) listCommand() *cobra.Command {
	var (
		asJSON, vfioOnly bool
		slot, snapshot   string
		numbers          int
	)
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the PCI devices of this host and the interrupts that they offer",
		Long: `list shows every PCI device: its name, its driver, its IOMMU group and the interrupts that it offers. Without root the kernel
gives only the first 64 bytes of configuration space, which do not tell about MSI and MSI-X: the exit status is then 3.`,
		Example: `  irqbridge list --vfio
  irqbridge list -s 01:            every device on bus 01
  irqbridge list -s 00:1f.3`,
		Args: cobra.NoArgs,
		RunE: a.verb(func(context.Context, []string) error {
			match, err := parseSlot(slot)
			if err != nil {
				return err
			}
			there := a
			if snapshot != "" {
				s, err := a.readSnapshot(snapshot)
				if err != nil {
					return err
				}
				there = a.on(s)
			}
			return there.list(asJSON, a.naming(numbers), func(d host.Device) bool { return match(d.Address) && (d.VFIO || !vfioOnly) })
		}),
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	cmd.Flags().BoolVar(&vfioOnly, "vfio", false, "only devices that are bound to a VFIO driver")
	numbersFlag(cmd, &numbers)
	cmd.Flags().StringVar(&snapshot, "snapshot", "", "list the devices in a snapshot in `FILE`: those of an IOMMU group")
	cmd.Flags().StringVarP(&slot, "slot", "s", "", "only these: [[[[domain]:]bus]:][device][.[function]], as lspci -s")
	return cmd
}

func (a *app) list(asJSON bool, n naming, wanted func(host.Device) bool) error {
	devices, err := a.host.Devices()
	code := exitOK
	if err != nil {
		a.complain(err)
		if code = exitFailed; len(devices) > 0 {
			code = exitPartial
		}
	}
	result := listJSON{schema, []deviceJSON{}}
	showNumbers, showNames := n.ids == nil || n.form != pci.Names, n.ids != nil && n.form != pci.Numbers
	headings := []string{"ADDRESS"}
	if showNumbers {
		headings = append(headings, "ID", "CLASS")
	}
	headings = append(headings, "DRIVER", "VFIO", ">GROUP", "INTERRUPTS")
	if showNames {
		headings = append(headings, "DEVICE")
	}
	rows := newTable(headings...)
	hidden := 0
	for _, d := range devices {
		if !wanted(d) {
			continue
		}
		f, err := a.function(d.Address)
		offered := ""
		switch {
		case err != nil:
			a.note("%v: %v", d.Address, err)
			code, offered = exitPartial, "not readable"
			f = &pci.Function{VendorID: d.VendorID, DeviceID: d.DeviceID, Class: pci.Class(d.Class), Truncated: true}
		default:
			offered = offers(f)
			if hidesInterrupts(f) {
				hidden++
			}
		}
		row := newDeviceJSON(d.Address, f, n)
		row.hostJSON = newHostJSON(d, a.backend(d))
		result.Devices = append(result.Devices, row)
		bound, group := "-", "-"
		if d.VFIO {
			bound = "bound"
		}
		if d.Group >= 0 {
			group = strconv.Itoa(d.Group)
		}
		cells := []any{d.Address}
		if showNumbers {
			cells = append(cells, fmt.Sprintf("%04x:%04x", d.VendorID, d.DeviceID), f.Class)
		}
		cells = append(cells, driverName(d), bound, group, offered)
		if showNames {
			cells = append(cells, n.ids.Describe(f, pci.Names))
		}
		rows.add(cells...)
	}
	if asJSON {
		a.printJSON(result)
	} else if len(rows.rows) > 0 {
		rows.print(a.stdout, "", 0)
	}
	if hidden > 0 {
		a.note("configuration space of %d of %d devices is readable to byte 64 only: MSI and MSI-X are not known", hidden, len(result.Devices))
		a.next("%s", a.asRoot("list", pci.Address{}))
		code = max(code, exitPartial)
	}
	return exit(code)
}

// function decodes a device's configuration space as the hardware has it, and adds the sizes of the BARs, which are not
// in it. Where the kernel does not give them they are not known.
func (a *app) function(address pci.Address) (*pci.Function, error) {
	config, err := a.host.Config(address)
	if err != nil {
		return nil, err
	}
	f, err := pci.Decode(config)
	if err != nil {
		return nil, err
	}
	if sizes, err := a.host.Sizes(address); err == nil {
		f.SetSizes(sizes)
	}
	return f, nil
}

// parseSlot reads lspci's form of a part of an address; what is left out matches all.
func parseSlot(s string) (func(pci.Address) bool, error) {
	wrong := usage("-s %s: want [[[[domain]:]bus]:][device][.[function]] in hexadecimal, with * or nothing for any", s)
	rest, function, _ := strings.Cut(s, ".")
	parts := strings.Split(rest, ":")
	if len(parts) > 3 {
		return nil, wrong
	}
	parts = append(make([]string, 3-len(parts)), parts...)
	parts = append(parts, function)
	tests := make([]func(uint32) bool, 4)
	for i, limit := range []uint64{1<<32 - 1, 0xff, 0x1f, 7} {
		if parts[i] == "" || parts[i] == "*" {
			tests[i] = func(uint32) bool { return true }
			continue
		}
		want, err := strconv.ParseUint(parts[i], 16, 32)
		if err != nil || want > limit {
			return nil, wrong
		}
		tests[i] = func(v uint32) bool { return v == uint32(want) }
	}
	return func(a pci.Address) bool {
		return tests[0](a.Domain) && tests[1](uint32(a.Bus)) && tests[2](uint32(a.Device)) && tests[3](uint32(a.Function))
	}, nil
}
