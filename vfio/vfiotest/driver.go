package vfiotest

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/irqbridge/irqbridge/pci"
)

// driver is a PCI driver of the host.
type driver struct {
	name   string
	module string
	vfio   bool // hands its devices to user space
	// ids are the vendor and device IDs that it takes by itself. A VFIO driver has none: it is told by driver_override.
	ids [][2]uint16
	// own is true for a driver that does DMA on the host's behalf, so that its device cannot share a group with one of
	// user space (driver_managed_dma of struct pci_driver is false).
	own bool
	// vectors is how many MSI-X messages it asks for when it starts.
	vectors int
	network bool // makes a network interface
	foreign bool // of a snapshot: nothing is known of it but its name
}

func newDrivers() []*driver {
	return []*driver{
		{name: "pcieport", module: "pcieportdrv", ids: [][2]uint16{{0x1b36, 0x000c}}, vectors: 1}, // part of the kernel: the first
		{name: "e1000", module: "e1000", own: true, network: true, ids: [][2]uint16{{0x8086, 0x100e}}},
		{name: "e1000e", module: "e1000e", own: true, network: true, ids: [][2]uint16{{0x8086, 0x10d3}}, vectors: 3},
		{name: "pci-stub", module: "pci_stub"},
		{name: "vfio-pci", module: "vfio_pci", vfio: true},
	}
}

// matches tells whether the driver is tried on the function: the one that driver_override names is, and without it one
// that knows the IDs.
func (d *driver) matches(f *function) bool {
	if f.override != "" {
		return f.override == d.name
	}
	return d.knows(f)
}

// knows tells whether the function is one of those that the driver was written for.
func (d *driver) knows(f *function) bool {
	return slices.Contains(d.ids, [2]uint16{f.word(0x00), f.word(0x02)})
}

// bind is a write to drivers/DRIVER/bind.
func (k *Kernel) bind(d *driver, text string) error {
	f := k.named(text)
	if f == nil || !d.matches(f) {
		return unix.ENODEV
	}
	if f.driver != nil {
		return unix.EBUSY
	}
	return k.attach(f, d)
}

// unbind is a write to drivers/DRIVER/unbind. It waits for a user that has the device open.
func (k *Kernel) unbind(d *driver, text string) error {
	f := k.named(text)
	if f == nil || f.driver != d {
		return unix.ENODEV
	}
	k.detach(f)
	if k.down {
		return unix.ENODEV
	}
	return nil
}

// probe is a write to drivers_probe.
func (k *Kernel) probe(text string) error {
	f := k.named(text)
	if f == nil {
		return unix.ENODEV
	}
	if f.driver != nil {
		return nil
	}
	for _, d := range k.drivers {
		if d.matches(f) {
			_ = k.attach(f, d) // whether a driver likes the device is not told here
			return nil
		}
	}
	return nil
}

// named returns the function that a write names, which may end in a newline.
func (k *Kernel) named(text string) *function {
	text = strings.TrimSuffix(text, "\n")
	for _, f := range k.functions {
		if f.address.String() == text {
			return f
		}
	}
	return nil
}

// attach has a driver take a function.
func (k *Kernel) attach(f *function, d *driver) error {
	switch {
	case d.vfio:
		switch {
		case f.isBridge():
			return unix.EINVAL
		case f.group == nil && !k.noIOMMU: // nothing would hold the device
			return unix.EINVAL
		case f.group == nil:
			f.group = k.makeUpGroup(f)
		}
		f.vfioDev = k.freeVFIODev()
		f.setPower(3) // until it is opened
	case len(d.ids) > 0:
		if d.own && f.group != nil && f.group.owned() {
			return unix.EBUSY
		}
		if !d.knows(f) { // driver_override forced it on a stranger, whose registers make no sense to it
			return unix.EIO
		}
		f.enable()
		f.changeCommand(pci.CommandBusMaster, 0)
		if d.vectors > 0 {
			if n, err := f.allocate(true, d.vectors); n != 0 || err != nil {
				f.deallocate() // it does without
			}
		}
		if d.network {
			f.netdev = k.freeNetdev()
		}
	}
	f.driver = d
	f.stateKnown = true
	return nil
}

// detach has the driver of a function, if there is one, let it go. A VFIO driver waits until its user has.
func (k *Kernel) detach(f *function) {
	d := f.driver
	if d == nil {
		return
	}
	if d.vfio {
		for (f.device != nil || f.opens > 0) && !k.down {
			if f.device != nil {
				f.device.requestBack()
			}
			k.released.Wait()
		}
		if f.driver != d { // somebody else unbound it meanwhile
			return
		}
		f.vfioDev = -1
		f.setPower(0)
		if g := f.group; g != nil && g.madeUp {
			f.group = nil
			k.groups = slices.DeleteFunc(k.groups, func(other *group) bool { return other == g })
		}
	}
	if len(d.ids) > 0 {
		if f.messages != nil {
			f.deallocate()
		}
		f.netdev = ""
		f.disable()
	}
	f.driver = nil
	f.stateKnown, f.hadMessages = false, false
	k.dropOwners()
}

// freeVFIODev returns the lowest number without a vfio-dev/vfioN.
func (k *Kernel) freeVFIODev() int {
	n := 0
	for slices.ContainsFunc(k.functions, func(f *function) bool { return f.vfioDev == n }) {
		n++
	}
	return n
}

// freeNetdev returns the first name that no network interface has.
func (k *Kernel) freeNetdev() string {
	for n := 0; ; n++ {
		name := fmt.Sprintf("eth%d", n)
		if !slices.ContainsFunc(k.functions, func(f *function) bool { return f.netdev == name }) {
			return name
		}
	}
}

// group is an IOMMU group.
type group struct {
	id      int // of /dev/vfio/N, in the order of the functions
	design  int // its number in designs
	members []*function
	madeUp  bool // by VFIO, for a device without an IOMMU

	file      *groupFile   // open; nil when not
	devices   int          // open device descriptors
	container *container   // nil when not set
	iommufd   *iommufdFile // set in the place of a container; nil when not

	owner *iommufdFile // what its devices are bound to; nil when none is
	bound []*binding
}

// groupOf returns the group of a number in designs, and makes it when it is new.
func (k *Kernel) groupOf(design int) *group {
	for _, g := range k.groups {
		if g.design == design {
			return g
		}
	}
	g := &group{id: len(k.groups), design: design}
	k.groups = append(k.groups, g)
	return g
}

// makeUpGroup makes a group for a function that no IOMMU holds.
func (k *Kernel) makeUpGroup(f *function) *group {
	id := 0
	for slices.ContainsFunc(k.groups, func(g *group) bool { return g.id == id }) {
		id++
	}
	g := k.groupOf(id)
	g.members, g.madeUp = []*function{f}, true
	return g
}

// nodeName is the name of the group's node in /dev/vfio.
func (g *group) nodeName() string {
	if g.madeUp {
		return fmt.Sprintf("noiommu-%d", g.id)
	}
	return strconv.Itoa(g.id)
}

// owned tells whether a user has the group's DMA.
func (g *group) owned() bool { return g.container != nil || g.owner != nil }

// viable tells whether a user can have the group's DMA: no member's driver does DMA for the host.
func (g *group) viable() bool {
	return !slices.ContainsFunc(g.members, func(f *function) bool { return f.driver != nil && f.driver.own })
}

// hasNode tells whether /dev/vfio/N is there: a member is bound to a VFIO driver.
func (g *group) hasNode() bool {
	return slices.ContainsFunc(g.members, func(f *function) bool { return f.driver != nil && f.driver.vfio })
}
