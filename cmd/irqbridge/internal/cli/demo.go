package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/irqbridge/irqbridge/cmd/irqbridge/internal/profile"
	"github.com/irqbridge/irqbridge/connect"
	"github.com/irqbridge/irqbridge/pci"
	"github.com/irqbridge/irqbridge/vfio/host"
	"github.com/irqbridge/irqbridge/vfio/vfiotest"
)

// demoRaises is how often the demonstration raises each interrupt.
const demoRaises = 100

func (a *app) demoCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "demo",
		Short: "Show the whole way of an interrupt on a fake kernel: no hardware, no privileges",
		Long: `demo takes two devices of a fake kernel, a network card and edu, from list to connect through the code of the other verbs, and
prints what they print. Nothing on this machine is touched; the threads and their CPUs are real.`,
		Example: `  irqbridge demo`,
		Args:    cobra.NoArgs,
		RunE:    a.verb(func(ctx context.Context, _ []string) error { return a.demo(ctx) }),
	}
}

// demo takes two devices of the fake kernel through the same code that the other verbs use.
func (a *app) demo(ctx context.Context) error {
	k := vfiotest.NewKernel()
	defer k.Shutdown()
	fake := &app{stdin: a.stdin, stdout: a.stdout, stderr: a.stderr, kernel: k, host: k.Host()}

	a.printf("The way of a PCI interrupt on a fake kernel: the devices are models, the threads are this machine's.\n")
	a.printf("\n1. Which devices are there?  (irqbridge list -n)\n")
	// By number: with names the lines would be long, and differ from machine to machine.
	if err := fake.list(false, a.naming(1), func(host.Device) bool { return true }); err != nil {
		return err
	}
	network := demonstration{
		address: pci.Address{Device: 5}, policy: connect.Policy{Affinity: connect.SpreadMessagesAcrossAllProcessors},
		descriptors: "2. What does 0000:00:05.0 ask for, and what is it given and connected by?  (irqbridge show; here with --spread)",
		result:      fmt.Sprintf("3. Each message raised %d times by a register of the device  (irqbridge bind, connect --spread --raise %d)", demoRaises, demoRaises),
	}
	line := demonstration{
		address: pci.Address{Device: 4}, policy: connect.Policy{Kind: pci.KindINTx},
		result: "4. The same with a line, which the kernel masks at each interrupt until the device is acknowledged",
	}
	for _, d := range []demonstration{network, line} {
		if err := fake.demonstrate(ctx, d); err != nil {
			return err
		}
	}
	return nil
}

// demonstration is one device on its way.
type demonstration struct {
	address     pci.Address
	policy      connect.Policy
	descriptors string // heading; "" shows none
	result      string // heading
}

func (a *app) demonstrate(ctx context.Context, d demonstration) (err error) {
	plan, err := a.host.PlanBind(d.address, "vfio-pci", false)
	if err == nil {
		err = plan.Run(ctx)
	}
	if err != nil {
		return err
	}
	device, err := a.open(d.address)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, device.Close()) }()
	f, err := device.Function()
	if err != nil {
		return err
	}
	src := source{profile: profile.ForDevice(profile.ID{Vendor: f.VendorID, Device: f.DeviceID})}
	s, err := startSession(device, d.policy, src, func() {})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	if d.descriptors != "" {
		a.printf("\n%s\n", d.descriptors)
		printWay(a, s.resources.ResourceList)
	}
	if err := s.raise(ctx, s.rows, demoRaises, func(*row, time.Duration) {}); err != nil {
		return err
	}
	if err := s.observe(s.rows...); err != nil {
		return err
	}
	a.printf("\n%s\n", d.result)
	s.table().print(a.stdout, "", 0)
	s.printTotals(a)
	return nil
}

// printWay prints the way from descriptors to parameters, one line an interrupt.
func printWay(a *app, l pci.ResourceList) {
	t := newTable(">MSG", ">RAW VECTOR", "FLAGS", "DISPOSITION", ">LEVEL", ">VECTOR", ">AFFINITY", "=>", ">IRQL", "MODE", "SHARE", ">MASK")
	for _, m := range l.Expand() {
		p := parameters(m.Translated)
		t.add(m.Index, fmt.Sprintf("0x%x", m.Raw.Vector), fmt.Sprintf("0x%x", uint16(m.Translated.Flags)), m.Translated.Share, m.Translated.Level,
			fmt.Sprintf("0x%x", m.Translated.Vector), affinity(m.Translated.Affinity), "=>",
			p.Irql, p.InterruptMode, p.ShareVector, fmt.Sprintf("0x%x", p.ProcessorEnableMask))
	}
	t.print(a.stdout, "", 0)
}
