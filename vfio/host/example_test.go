package host_test

import (
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strings"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/irqbridge/irqbridge/pci"
	"github.com/irqbridge/irqbridge/vfio/host"
)

// exampleHost unpacks testdata/machine.txtar and returns the host in it. On a real machine it is host.New("/").
func exampleHost() (h *host.Host, remove func()) {
	archive, err := txtar.ParseFile("testdata/machine.txtar")
	if err != nil {
		log.Fatal(err)
	}
	root, err := os.MkdirTemp("", "irqbridge")
	if err != nil {
		log.Fatal(err)
	}
	for _, f := range archive.Files {
		name := filepath.Join(root, f.Name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			log.Fatal(err)
		}
		if link, ok := strings.CutSuffix(name, "@"); ok {
			err = os.Symlink(strings.TrimSpace(string(f.Data)), link)
		} else {
			err = os.WriteFile(name, f.Data, 0o644)
		}
		if err != nil {
			log.Fatal(err)
		}
	}
	return host.New(root), func() { _ = os.RemoveAll(root) }
}

func ExampleHost_Devices() {
	h, remove := exampleHost()
	defer remove()
	devices, err := h.Devices()
	if err != nil {
		log.Fatal(err)
	}
	for _, d := range devices {
		fmt.Printf("%v %04x:%04x group %d driver %q vfio %v\n", d.Address, d.VendorID, d.DeviceID, d.Group, d.Driver, d.VFIO)
	}
	// Output:
	// 0000:00:05.0 8086:10d3 group 2 driver "vfio-pci" vfio true
	// 0000:00:09.0 1b36:000e group 6 driver "" vfio false
	// 0000:01:01.0 1234:11e8 group 6 driver "" vfio false
	// 0000:01:05.0 8086:100e group 6 driver "e1000" vfio false
}

func ExampleGroup_Blockers() {
	h, remove := exampleHost()
	defer remove()
	group, err := h.Group(6)
	if err != nil {
		log.Fatal(err)
	}
	for _, d := range group.Blockers() {
		fmt.Printf("group %d cannot be handed out: %v is bound to %s\n", group.ID, d.Address, d.Driver)
	}
	// Output:
	// group 6 cannot be handed out: 0000:01:05.0 is bound to e1000
}

func ExampleHost_PlanBind() {
	h, remove := exampleHost()
	defer remove()
	plan, err := h.PlanBind(pci.Address{Bus: 1, Device: 5}, "vfio-pci", false)
	if err != nil {
		log.Fatal(err)
	}
	for _, step := range plan.Steps[1:] { // the first one writes the record
		fmt.Println(step)
	}
	// Then plan.Run(ctx) carries it out, and h.PlanUnbind plans the way back.

	// Output:
	// + echo vfio-pci > /sys/bus/pci/devices/0000:01:05.0/driver_override
	// + echo 0000:01:05.0 > /sys/bus/pci/drivers/e1000/unbind
	// + echo 0000:01:05.0 > /sys/bus/pci/drivers/vfio-pci/bind
}

func ExampleHost_FindIRQ() {
	h, remove := exampleHost()
	defer remove()
	irq, err := h.FindIRQ(pci.Address{Device: 5}, pci.KindMSIX, 1)
	if err != nil {
		log.Fatal(err)
	}
	affinity, err := h.Affinity(irq.Number)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("IRQ %d, %s, on %s\n", irq.Number, irq.Trigger, irq.Chip)
	fmt.Printf("may go to CPU %v, goes to CPU %v\n", affinity.Set, affinity.Effective)
	fmt.Printf("delivered on CPU 0: %d, on CPU 1: %d\n", irq.Counts[0], irq.Counts[1])
	// Output:
	// IRQ 26, edge, on IR-PCI-MSI
	// may go to CPU 0-1, goes to CPU 1
	// delivered on CPU 0: 0, on CPU 1: 9
}

func ExampleCPUSet() {
	cpus, err := host.ParseCPUList("0-3,8,64")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(cpus.Len(), cpus.Mask())
	fmt.Printf("group 0: %#x, group 1: %#x\n", cpus.GroupMask(0), cpus.GroupMask(1))
	fmt.Println(cpus.And(host.FromGroupMask(0, 0xff)))
	// Output:
	// 6 1,00000000,0000010f
	// group 0: 0x10f, group 1: 0x1
	// 0-3
}
