package vfiotest

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/irqbridge/irqbridge/pci"
	"github.com/irqbridge/irqbridge/vfio/host"
)

// NewKernelFromSnapshot returns a machine that has the device of a snapshot and the others of its IOMMU group, and no others, as
// they were when it was taken: with their configuration spaces, BARs, drivers and groups. The kernel answers as the one that
// the snapshot is from, if that was Linux 6.1, and else as the newest does; options change that. A device that was open is not:
// it is as its user left it.
//
// Behind the BARs there is nothing but memory that reads zero, unless the device is one of those of QEMU that the fake knows; it
// interrupts by [Kernel.SendMessage] and [Kernel.SetLine], and by VFIO's loopback. A snapshot of less than 256 bytes of configuration
// space, which one has that root did not take, is an error.
func NewKernelFromSnapshot(s *host.Snapshot, opts ...Option) (*Kernel, error) {
	machine, err := newSnapshot(s)
	if err != nil {
		return nil, err
	}
	return newKernel(machine, append(machine.options(), opts...)), nil
}

// FromSnapshot returns a machine that is made of the snapshot in a file, and closed at the end of the test. Of the machine's
// devices it has only the one in Device.
//
//	m := vfiotest.FromSnapshot(t, "testdata/board.snapshot") // made by: sudo irqbridge snapshot 05:00.0
//	device := m.Open(t, m.Device)
func FromSnapshot(t *testing.T, file string, opts ...Option) *Machine {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	s, err := host.ParseSnapshot(file, text)
	if err != nil {
		t.Fatal(err)
	}
	k, err := NewKernelFromSnapshot(s, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Shutdown)
	m := newMachine(t, k)
	m.Fake, m.Version, m.Device = k, k.version, s.Address
	return m
}

// snapshot is a snapshot whose devices can be made.
type snapshot struct {
	*host.Snapshot
	host      *host.Host
	functions []recorded // by address
}

// recorded is one function of a snapshot.
type recorded struct {
	dump    pci.Dump
	decoded *pci.Function
	device  host.Device
	design  design
}

func newSnapshot(s *host.Snapshot) (*snapshot, error) {
	machine := &snapshot{Snapshot: s, host: s.Host()}
	devices, err := machine.host.Devices()
	if err != nil {
		return nil, fmt.Errorf("snapshot of %v: %w", s.Address, err)
	}
	for _, d := range devices {
		r, err := machine.record(d)
		if err != nil && d.Address != s.Address {
			err = fmt.Errorf("%v: %w", d.Address, err)
		}
		if err != nil {
			return nil, fmt.Errorf("snapshot of %v: %w", s.Address, err)
		}
		machine.functions = append(machine.functions, r)
	}
	return machine, nil
}

// record reads one function. Of the others in the group, which are there for the group's sake, less is enough.
func (s *snapshot) record(d host.Device) (recorded, error) {
	config, err := s.host.Config(d.Address)
	if d.Address != s.Address && len(config) < legacySize {
		config = headerOf(d)
	}
	switch {
	case err != nil && config == nil:
		return recorded{}, err
	case len(config) < legacySize:
		return recorded{}, fmt.Errorf("%d bytes of configuration space: a fake takes 256 or 4096, which a snapshot has that root takes", len(config))
	case len(config) != legacySize && len(config) != extendedSize:
		return recorded{}, fmt.Errorf("%d bytes of configuration space: want 256 or 4096", len(config))
	}
	decoded, err := pci.Decode(config)
	if err != nil {
		return recorded{}, err
	}
	for _, c := range decoded.Capabilities {
		if end := c.Offset + capabilitySize(config, c); end > legacySize {
			return recorded{}, fmt.Errorf("the capability %v at 0x%02x ends at 0x%x, beyond the first 256 bytes", c.ID, c.Offset, end)
		}
	}
	r := recorded{dump: pci.Dump{Address: d.Address, Config: config}, decoded: decoded, device: d}
	r.design = design{group: d.Group, reset: resetMethod(s.Attribute(d.Address, "reset_method")), model: models[[2]uint16{d.VendorID, d.DeviceID}]}
	if s.Attribute(d.Address, "resource") == "" {
		return r, nil
	}
	sizes, err := s.host.Sizes(d.Address)
	if err != nil {
		return recorded{}, err
	}
	for i, size := range sizes.BARs {
		if size&(size-1) != 0 || size >= 1<<regionShift {
			return recorded{}, fmt.Errorf("BAR %d of 0x%x bytes: want a power of two, less than 0x%x", i, size, uint64(1)<<regionShift)
		}
		r.design.bars[i] = barSize{size: size, io: config[offBAR0+4*i]&1 != 0}
	}
	return r, nil
}

// models are the devices that the fake has a model of, by vendor and device.
var models = map[[2]uint16]func(*function) model{
	{0x1234, 0x11e8}: newEDU, {0x8086, 0x10d3}: newE1000E, {0x8086, 0x100e}: newE1000,
}

// headerOf is a configuration space that has what sysfs tells, and no capabilities.
func headerOf(d host.Device) []byte {
	c := make([]byte, legacySize)
	putLittleEndian(c[0x00:0x02], uint64(d.VendorID))
	putLittleEndian(c[0x02:0x04], uint64(d.DeviceID))
	c[0x08] = d.Revision
	putLittleEndian(c[0x09:0x0c], uint64(d.Class))
	if d.Bridge {
		c[0x0e] = 1
	} else {
		putLittleEndian(c[0x2c:0x2e], uint64(d.SubsystemVendorID))
		putLittleEndian(c[0x2e:0x30], uint64(d.SubsystemID))
	}
	return c
}

// options are those of the kernel that the snapshot is from.
func (s *snapshot) options() []Option {
	version := Newest
	if strings.HasPrefix(s.Kernel(), "6.1.") {
		version = V6_1
	}
	opts := []Option{Personality(version)}
	if version == Newest && s.host.HasIOMMUFD() {
		opts = append(opts, WithIOMMUFD())
	}
	if on, has := s.host.NoIOMMUMode(); has {
		opts = append(opts, NoIOMMUMode(on))
	}
	if d, err := s.host.Device(s.Address); err != nil || d.Group < 0 || s.host.NoIOMMUGroup(d.Group) {
		opts = append(opts, WithoutIOMMU())
	}
	return opts
}

// bootSnapshot makes the machine of a snapshot as it was.
func (k *Kernel) bootSnapshot() {
	for _, r := range k.snapshot.functions {
		if name := r.device.Driver; name != "" && k.driver(name) == nil {
			k.drivers = append(k.drivers, &driver{name: name, module: name, foreign: true, vfio: r.device.VFIO, own: !r.device.VFIO})
		}
		if !k.withoutIOMMU && r.device.Group >= 0 && !slices.ContainsFunc(k.groups, func(g *group) bool { return g.id == r.device.Group }) {
			k.groups = append(k.groups, &group{id: r.device.Group, design: r.device.Group})
		}
	}
	for _, f := range k.addSnapshot() {
		k.resume(f)
	}
}

// addSnapshot finds the functions of the snapshot that are not in the machine.
func (k *Kernel) addSnapshot() []*function {
	var found []*function
	for _, r := range k.snapshot.functions {
		if k.function(r.dump.Address) != nil || slices.Contains(k.unplugged, r.dump.Address) {
			continue
		}
		f := k.newFunction(r.dump, r.decoded, r.design)
		attribute := func(name string) string { return k.snapshot.Attribute(f.address, name) }
		f.stateKnown = attribute("power_state") != "unknown"
		f.shownIRQ = r.device.IRQ
		f.numaNode = strconv.Itoa(r.device.NUMANode)
		if text := attribute("resource"); text != "" {
			f.resource = text + "\n"
		}
		if r.device.HostBridge != "" {
			f.root = r.device.HostBridge
		}
		k.functions, found = append(k.functions, f), append(found, f)
	}
	slices.SortFunc(k.functions, func(a, b *function) int { return a.address.Compare(b.address) })
	return found
}

// driver returns a driver by its name; nil when there is none.
func (k *Kernel) driver(name string) *driver {
	for _, d := range k.drivers {
		if d.name == name {
			return d
		}
	}
	return nil
}

// resume has a function be in the hands of the driver that it was in. The registers are as that driver left them already.
func (k *Kernel) resume(f *function) {
	i := slices.IndexFunc(k.snapshot.functions, func(r recorded) bool { return r.dump.Address == f.address })
	was := k.snapshot.functions[i].device
	f.override = was.DriverOverride
	d := k.driver(was.Driver)
	if d != nil && d.vfio {
		if f.group == nil {
			if !k.noIOMMU {
				return // it cannot have been
			}
			f.group = k.makeUpGroup(f)
		}
		if f.disarm() { // somebody had it open
			f.changeCommand(0, pci.CommandBusMaster)
			f.setPower(3)
		}
		f.vfioDev, f.driver = k.freeVFIODev(), d
		return
	}
	if d != nil && !d.knows(f) {
		d.ids = append(d.ids, [2]uint16{f.word(0x00), f.word(0x02)})
	}
	f.driver = d
	if n, _ := strconv.Atoi(k.snapshot.Attribute(f.address, "enable")); n <= 0 {
		f.disarm()
		return
	}
	f.enables = 1
	msix := f.msixEnabled()
	if n := k.snapshot.MessageIRQs(f.address); n > 0 && (msix || f.msiEnabled()) {
		f.messages, f.hadMessages = map[int]*irq{}, true
		for i := range min(n, max(len(f.table), 32)) {
			f.addMessage(msix, i)
		}
	}
	if f.pin != 0 {
		f.line = k.line(f.gsi)
	}
}

// disarm switches MSI and MSI-X off, which nobody would take, and tells whether any of them was on.
func (f *function) disarm() bool {
	was := f.msiEnabled() || f.msixEnabled()
	if was {
		f.deallocate()
	}
	return was
}
