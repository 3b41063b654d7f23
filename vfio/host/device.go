package host

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/irqbridge/irqbridge/pci"
)

// devicesDir has one link for each PCI function, named by its address.
const devicesDir = "/sys/bus/pci/devices"

// Device is what sysfs tells about one PCI function, as it was at one moment (Documentation/ABI/testing/sysfs-bus-pci).
type Device struct {
	Address           pci.Address
	VendorID          uint16
	DeviceID          uint16
	SubsystemVendorID uint16
	SubsystemID       uint16
	Class             uint32 // base class<<16 | subclass<<8 | programming interface
	Revision          uint8

	Driver         string // the driver it is bound to; "" when unbound
	DriverOverride string // the only driver that may bind to it; "" when any may
	VFIO           bool   // bound to a VFIO driver: the directory vfio-dev is there, or, as Linux before 6.1 has none, its name says so
	Group          int    // its IOMMU group; -1 without one

	HostBridge string // the root of its hierarchy as sysfs names it, "pci0000:00"; "" when it is not directly below /sys/devices
	NUMANode   int    // -1 when the host does not say
	IRQ        int    // the host IRQ of the INTx line, or of the first MSI message while MSI is enabled; 0 for none
	PowerState string // "D0", "D3hot", "unknown"; "" when the kernel is too old to say
	BootVGA    bool   // the display that the firmware used
	Bridge     bool   // a PCI-to-PCI or CardBus bridge: it has a bus behind it and a configuration header of type 1 or 2

	PhysicalFunction *pci.Address // of an SR-IOV virtual function, the function that it is a part of; else nil
	VirtualFunctions int          // of an SR-IOV physical function, how many virtual functions are enabled
}

// Unsuited says in words why the device cannot be opened through VFIO as its driver is now; "" when it can.
func (d Device) Unsuited() string {
	switch {
	case d.VFIO:
		return ""
	case d.Bridge:
		return "the device is a bridge, which no VFIO driver takes"
	case d.Driver == "":
		return "the device has no driver, and wants a VFIO driver"
	}
	return fmt.Sprintf("the device is bound to %s, and wants a VFIO driver", d.Driver)
}

// Devices returns every PCI function, sorted by address. One that vanishes during the scan is left out. An error names
// the functions that could not be read; the others are returned all the same.
func (h *Host) Devices() ([]Device, error) {
	names, err := h.os.ReadDir(devicesDir)
	if err != nil {
		return nil, &Error{Op: "list PCI devices", Err: err, Remedy: "is sysfs mounted at /sys, and does this machine have PCI?"}
	}
	devices, _, err := h.devices(names)
	return devices, err
}

// devices reads the functions with these names, and returns the names that are no PCI addresses apart.
func (h *Host) devices(names []string) (devices []Device, others []string, err error) {
	var failed []error
	for _, name := range names {
		a, err := pci.ParseAddress(name)
		if err != nil {
			others = append(others, name)
			continue
		}
		d, err := h.Device(a)
		switch {
		case err == nil:
			devices = append(devices, d)
		case !errors.Is(err, fs.ErrNotExist):
			failed = append(failed, err)
		}
	}
	slices.SortFunc(devices, func(a, b Device) int { return a.Address.Compare(b.Address) })
	return devices, others, errors.Join(failed...)
}

// Device returns the function at a; fs.ErrNotExist when there is none.
func (h *Host) Device(a pci.Address) (Device, error) {
	r := attributes{host: h, dir: devicesDir + "/" + a.String()}
	d := Device{
		Address:           a,
		VendorID:          uint16(r.number("vendor", 16)),
		DeviceID:          uint16(r.number("device", 16)),
		SubsystemVendorID: uint16(r.number("subsystem_vendor", 16)),
		SubsystemID:       uint16(r.number("subsystem_device", 16)),
		Class:             uint32(r.number("class", 24)),
		Revision:          uint8(r.number("revision", 8)),
		Driver:            r.link("driver"),
		DriverOverride:    r.text("driver_override"),
		VFIO:              h.os.Exists(r.dir + "/vfio-dev"),
		Group:             r.group(),
		HostBridge:        r.hostBridge(),
		NUMANode:          r.numaNode(),
		IRQ:               int(r.number("irq", 31)),
		PowerState:        r.text("power_state"),
		BootVGA:           r.number("boot_vga", 1) == 1,
		VirtualFunctions:  int(r.number("sriov_numvfs", 16)),
	}
	d.VFIO = d.VFIO || isVFIO(d.Driver)
	if d.DriverOverride == "(null)" { // how the kernel prints an override that was never set
		d.DriverOverride = ""
	}
	d.Bridge = d.Class>>8 == 0x0604 || d.Class>>8 == 0x0607
	if pf, err := pci.ParseAddress(r.link("physfn")); err == nil {
		d.PhysicalFunction = &pf
	}
	// Attributes that are optional read as zero when they are missing. Asking for one that always exists, last, tells a
	// device that lacks them from one that went away in between.
	if !h.os.Exists(r.dir + "/vendor") {
		return Device{}, deviceError(a, "look up the device", unix.ENOENT, "there is no PCI device at this address", "lspci -D lists the addresses")
	}
	if r.err != nil {
		return Device{}, deviceError(a, "read the device's attributes", r.err, "", "")
	}
	return d, nil
}

// Drivers returns the names of the PCI drivers that are loaded.
func (h *Host) Drivers() ([]string, error) {
	names, err := h.os.ReadDir(driversDir)
	if err != nil {
		return nil, &Error{Op: "list PCI drivers", Err: err, Remedy: "is sysfs mounted at /sys, and does this machine have PCI?"}
	}
	return names, nil
}

// Config returns the function's configuration space as the hardware has it, which for MSI differs from what VFIO shows. It is
// 256 or 4096 bytes, or only the first 64 when the caller lacks CAP_SYS_ADMIN.
func (h *Host) Config(a pci.Address) ([]byte, error) {
	b, err := h.os.ReadFile(devicesDir + "/" + a.String() + "/config")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, deviceError(a, "read the configuration space", err, "there is no PCI device at this address", "lspci -D lists the addresses")
	}
	if err != nil {
		return nil, deviceError(a, "read the configuration space", err, "", "")
	}
	return b, nil
}

// Sizes returns the sizes of the function's memory and I/O regions, which are not in its configuration space. Any user may
// read them.
func (h *Host) Sizes(a pci.Address) (pci.Sizes, error) {
	b, err := h.os.ReadFile(devicesDir + "/" + a.String() + "/resource")
	if err != nil {
		return pci.Sizes{}, deviceError(a, "read the sizes of the BARs", err, "", "")
	}
	sizes, err := pci.ParseSizes(b)
	if err != nil {
		return pci.Sizes{}, deviceError(a, "read the sizes of the BARs", err, "", "")
	}
	return sizes, nil
}

// ResetMethods returns the ways in which the kernel can try to reset the function alone, in the order in which it tries them:
// "flr", "pm", "bus" and others; none when it cannot. VFIO resets a device by the first that works when it is opened, and
// again when it is closed. Linux has told them since 5.15.
func (h *Host) ResetMethods(a pci.Address) ([]string, error) {
	b, err := h.os.ReadFile(devicesDir + "/" + a.String() + "/reset_method")
	switch {
	case errors.Is(err, fs.ErrNotExist):
		_, err = h.Device(a) // it has the attribute when there is a way
		return nil, err
	case err != nil:
		return nil, deviceError(a, "read how the device can be reset", err, "", "")
	}
	return strings.Fields(string(b)), nil
}

// attributes reads the attributes of one directory. A missing attribute is empty; the first one that is there and
// cannot be read or understood is kept in err.
type attributes struct {
	host *Host
	dir  string
	err  error
}

// gone tells that an attribute, or the device with all its attributes, is not there (any more): sysfs answers ENOENT when
// the file is opened, ENODEV when it is read after the device was removed.
func gone(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV)
}

func (r *attributes) fail(err error) {
	if r.err == nil {
		r.err = err
	}
}

// text returns an attribute without the newline at its end.
func (r *attributes) text(name string) string {
	b, err := r.host.os.ReadFile(r.dir + "/" + name)
	if err != nil {
		if !gone(err) {
			r.fail(err)
		}
		return ""
	}
	return strings.TrimRight(string(b), "\n\x00")
}

// number returns an attribute that is an unsigned number in C notation, of at most that many bits.
func (r *attributes) number(name string, bits int) uint64 {
	text := r.text(name)
	if text == "" {
		return 0
	}
	n, err := strconv.ParseUint(text, 0, bits)
	if err != nil {
		r.fail(fmt.Errorf("%s/%s holds %.40q, which is not a number of %d bits", r.dir, name, text, bits))
	}
	return n
}

// numaNode returns the node, or -1, which is what the kernel itself says when it does not know.
func (r *attributes) numaNode() int {
	text := r.text("numa_node")
	if text == "" {
		return -1
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < -1 {
		r.fail(fmt.Errorf("%s/numa_node holds %.40q, which is not a node number", r.dir, text))
		return -1
	}
	return n
}

// link returns the last component of a link's target; "" without a link.
func (r *attributes) link(name string) string {
	target, err := r.host.os.Readlink(r.dir + "/" + name)
	if err != nil {
		if !gone(err) {
			r.fail(err)
		}
		return ""
	}
	return path.Base(target)
}

// hostBridge returns the first directory of the device's place below /sys/devices, if that is a PCI host bridge. Of a device
// behind a VMD it is the bridge that the VMD itself is behind; on machines that find their bridges through a device tree it
// is none, since these are further down.
func (r *attributes) hostBridge() string {
	target, err := r.host.os.Readlink(r.dir)
	if err != nil {
		if !gone(err) && !errors.Is(err, unix.EINVAL) { // a directory, in a copy of the tree
			r.fail(err)
		}
		return ""
	}
	if !path.IsAbs(target) {
		target = path.Join(path.Dir(r.dir), target)
	}
	below, ok := strings.CutPrefix(target, "/sys/devices/")
	first, _, _ := strings.Cut(below, "/")
	if !ok || !strings.HasPrefix(first, "pci") {
		return ""
	}
	return first
}

// group returns the number of the IOMMU group, or -1.
func (r *attributes) group() int {
	name := r.link("iommu_group")
	if name == "" {
		return -1
	}
	n, err := strconv.ParseUint(name, 10, 31)
	if err != nil {
		r.fail(fmt.Errorf("%s/iommu_group leads to %.40q, which is not a group number", r.dir, name))
		return -1
	}
	return int(n)
}
