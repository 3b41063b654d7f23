package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"github.com/irqbridge/irqbridge/connect"
	"github.com/irqbridge/irqbridge/pci"
	"github.com/irqbridge/irqbridge/vfio/host"
)

// tableLimit is how many rows of a table a person gets to see: devices may have 2048 messages.
const tableLimit = 8

func (a *app) showCommand() *cobra.Command {
	var (
		asJSON                bool
		dump, snapshot        string
		depth, numbers, bytes int
	)
	cmd := &cobra.Command{
		Use:   "show BDF | show --snapshot FILE | show --dump FILE",
		Short: "Show a device's capabilities, its interrupt descriptors and the parameters that they map to",
		Long: `show reads sysfs and nothing else: it does not open the device and does not disturb who uses it. The assignment it shows is
what connect would get, since nothing is assigned before. With --dump it reads the text of lspci -xxxx instead ("-" is standard
input), for one or many devices, on any machine; with --snapshot a file that irqbridge snapshot made, which has the host's side, too.

-v adds a line for each BAR, capability, MSI-X region and service with a message of its own; -vv adds every field of every
register, under the names that --json has. Names come from the system's pci.ids or from $PCI_IDS. -x, -xxx and -xxxx print 64
bytes, 256 bytes and all of configuration space as lspci does, for lspci -F to read.`,
		Example: `  irqbridge show 05:00.0
  irqbridge show -vv 05:00.0
  irqbridge show -xxxx 05:00.0 > FILE; lspci -vvv -F FILE
  lspci -xxxx -s 05:00.0 | irqbridge show --dump -`,
		Args: func(cmd *cobra.Command, args []string) error {
			switch {
			case cmd.Flags().Changed("dump") && len(args) > 0:
				return errors.New("give a device or --dump, not both")
			case cmd.Flags().Changed("dump"):
				return nil
			case !cmd.Flags().Changed("snapshot") && len(args) != 1:
				return fmt.Errorf("want one device, such as 0000:00:04.0, or --dump or --snapshot FILE; have %d", len(args))
			}
			return oneDeviceOrSnapshot(cmd, args)
		},
		RunE: a.verb(func(_ context.Context, args []string) error {
			if bytes > 0 && (asJSON || depth > 0) {
				return usage("-x prints bytes and nothing else: leave out --json and -v")
			}
			read := func() ([]pci.Dump, error) { return a.readDump(dump) }
			show := func(print func([]shown)) error { return a.showDump(dump, print) }
			if dump == "" {
				there, address, err := a.at(snapshot, args)
				if err != nil {
					return err
				}
				read = func() ([]pci.Dump, error) { return there.bytesOf(address) }
				show = func(print func([]shown)) error { return there.showDevice(address, print) }
			}
			n := a.naming(numbers)
			switch {
			case bytes > 0:
				dumps, err := read()
				if err != nil {
					return err
				}
				return a.showBytes(dumps, n, bytes)
			case asJSON:
				return show(func(devices []shown) { a.printShownJSON(devices, n) })
			}
			return show(func(devices []shown) { a.printShown(devices, view{n, depth}) })
		}),
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	cmd.Flags().CountVarP(&depth, "verbose", "v", "show more; -vv shows every field of every register")
	cmd.Flags().CountVarP(&bytes, "hex", "x", "print the first 64 bytes of configuration space; -xxx 256, -xxxx all")
	numbersFlag(cmd, &numbers)
	snapshotFlag(cmd, &snapshot)
	cmd.Flags().StringVar(&dump, "dump", "", "read the output of lspci -xxxx from `FILE`")
	cmd.MarkFlagsMutuallyExclusive("dump", "snapshot")
	return cmd
}

// shown is a device to be shown.
type shown struct {
	address  pci.Address
	function *pci.Function
	host     *host.Device // nil for a dump
	backend  string       // "" when no VFIO driver has it
	group    *host.Group  // nil without one
	live     []liveIRQ
	planned  bool
	list     pci.ResourceList // what follows, if planned
	kind     pci.Kind
	cpus     host.CPUSet
}

// liveIRQ is a host interrupt that is enabled through VFIO.
type liveIRQ struct {
	kind     pci.Kind
	message  int
	irq      host.IRQ
	affinity host.Affinity
}

func (a *app) showDevice(address pci.Address, print func([]shown)) error {
	d, err := a.host.Device(address)
	if err != nil {
		return explainAbsent(address, err)
	}
	f, err := a.function(address)
	if err != nil {
		return fmt.Errorf("%v: read configuration space: %w", address, err)
	}
	s := shown{address: address, function: f, host: &d, backend: a.backend(d)}
	if d.Group >= 0 {
		if g, err := a.host.Group(d.Group); err == nil {
			s.group = &g
		}
	}
	if d.VFIO {
		if s.live, err = a.liveIRQs(address, f); err != nil {
			return err
		}
	}
	code, err := a.plan(&s)
	if err != nil {
		return err
	}
	print([]shown{s})
	if f.Truncated {
		who := "readable by this user"
		if a.snapshotOf != nil {
			who = "in the snapshot"
		}
		a.note("%v: only %d bytes of configuration space are %s: what stands after them is missing%s", address, f.Size, who, missing(f))
		a.next("%s", a.asRoot("show", address))
		code = exitPartial
	}
	return exit(code)
}

// explainAbsent says where to look when there is no such device.
func explainAbsent(address pci.Address, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return &failure{exitFailed, fmt.Errorf("%v: there is no PCI device at this address", address), "irqbridge list"}
	}
	return err
}

func missing(f *pci.Function) string {
	if hidesInterrupts(f) {
		return ", MSI and MSI-X perhaps among it"
	}
	return ": extended capabilities; interrupts are complete"
}

// dumpHint is how to make what show --dump reads.
const dumpHint = "lspci -xxxx > FILE, as root"

func (a *app) showDump(file string, print func([]shown)) error {
	dumps, err := a.readDump(file)
	if err != nil {
		return err
	}
	code := exitOK
	var devices []shown
	for _, d := range dumps {
		f, err := pci.Decode(d.Config)
		if err != nil {
			a.note("%v: %v", d.Address, err)
			code = exitPartial
			continue
		}
		s := shown{address: d.Address, function: f}
		planCode, err := a.plan(&s)
		if err != nil {
			return err
		}
		code = max(code, planCode)
		devices = append(devices, s)
		if f.Truncated {
			a.note("%v: the dump has %d bytes of configuration space: what stands after them is missing%s", d.Address, f.Size, missing(f))
			code = exitPartial
		}
	}
	if len(devices) == 0 {
		return exit(exitFailed)
	}
	print(devices)
	if code == exitPartial {
		a.next("make the dump as root with lspci -xxxx")
	}
	return exit(code)
}

// readDump reads the text of lspci -xxxx.
func (a *app) readDump(file string) ([]pci.Dump, error) {
	in := a.stdin
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return nil, &failure{exitFailed, err, dumpHint}
		}
		defer func() { _ = f.Close() }()
		in = f
	}
	dumps, err := pci.ReadDump(in)
	if err != nil {
		return nil, &failure{exitFailed, fmt.Errorf("%s: %w", inputName(file), err), dumpHint}
	}
	return dumps, nil
}

// plan works out what connect would get. A device whose interrupts make no sense, or are not known, is shown without.
func (a *app) plan(s *shown) (int, error) {
	if hidesInterrupts(s.function) {
		return exitPartial, nil
	}
	var err error
	if s.cpus, err = a.usableCPUs(); err != nil {
		return exitFailed, err
	}
	s.list, s.kind, err = connect.Plan(s.function, connect.Policy{}, s.cpus)
	if err != nil {
		a.note("%v: no assignment: %v", s.address, err)
		return exitPartial, nil
	}
	s.list.BusNumber, s.planned = uint32(s.address.Bus), true
	return exitOK, nil
}

// liveIRQs finds the host interrupts of a device that are enabled through VFIO by any process.
func (a *app) liveIRQs(address pci.Address, f *pci.Function) ([]liveIRQ, error) {
	var live []liveIRQ
	counts := map[pci.Kind]int{}
	if f.INTx != nil {
		counts[pci.KindINTx] = 1
	}
	if f.MSI != nil && f.MSI.Enabled {
		counts[pci.KindMSI] = f.MSI.Messages
	}
	if f.MSIX != nil && f.MSIX.Enabled {
		counts[pci.KindMSIX] = f.MSIX.Messages
	}
	for _, kind := range []pci.Kind{pci.KindINTx, pci.KindMSI, pci.KindMSIX} {
		for m := range counts[kind] {
			irq, err := a.host.FindIRQ(address, kind, m)
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return nil, err
			}
			affinity, err := a.host.Affinity(irq.Number)
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return nil, err
			}
			live = append(live, liveIRQ{kind, m, irq, affinity})
		}
	}
	return live, nil
}

func (a *app) printShown(devices []shown, v view) {
	for i, s := range devices {
		if i > 0 {
			a.printf("\n")
		}
		s.print(a.stdout, v)
	}
}

func (a *app) printShownJSON(devices []shown, n naming) {
	result := showJSON{Schema: schema}
	for _, s := range devices {
		result.Devices = append(result.Devices, s.json(n))
	}
	a.printJSON(result)
}
