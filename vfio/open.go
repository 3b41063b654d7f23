package vfio

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/irqbridge/irqbridge/pci"
	"github.com/irqbridge/irqbridge/vfio/host"
	"github.com/irqbridge/irqbridge/vfio/internal/uapi"
)

// Kernel is the system that a device is opened on. It is the running one unless [OnKernel] says otherwise; the only
// other implementation is the fake of package vfiotest, and there cannot be one outside of this module.
type Kernel interface {
	uapi.Kernel
	// Host is the host's sysfs and procfs, of the same system.
	Host() *host.Host
}

// Option is an optional setting of Open.
type Option func(*options)

type options struct {
	kernel    Kernel
	unwatched bool
}

// OnKernel has Open use k in place of the running kernel.
func OnKernel(k Kernel) Option {
	return func(o *options) { o.kernel = k }
}

// running is the running kernel with its own sysfs.
type running struct{ uapi.Kernel }

func (running) Host() *host.Host { return host.New("/") }

// The nodes of VFIO, Documentation/driver-api/vfio.rst.
const (
	containerNode = "/dev/vfio/vfio"
	groupNode     = "/dev/vfio/%d"
)

// bindSettles is how long Linux 6.1 may answer ENODEV for a device after its driver link is in place.
const bindSettles = 20 * time.Millisecond

// Open opens the device at addr through its IOMMU group and a container of its own, with the type 1 IOMMU driver. The
// device has to be bound to vfio-pci or another VFIO driver, and the group's node to be open to the caller. Memory and
// I/O decoding are switched on; bus mastering is off until messages are enabled, as the kernel leaves it. From then on the
// device listens for the host: see [Device.OnRequest] and [Device.OnError].
//
// A device can be opened once at a time, and all opened devices of one IOMMU group have to be opened by one process;
// this version opens one per group. Errors are *OpError with cause and remedy; nothing stays open.
func Open(addr pci.Address, opts ...Option) (*Device, error) {
	o := options{kernel: running{uapi.Real()}}
	for _, set := range opts {
		set(&o)
	}
	d := &Device{
		address:    addr,
		kernel:     o.kernel,
		host:       o.kernel.Host(),
		container:  -1,
		groupFD:    -1,
		fd:         -1,
		maskINTx:   irqSet(uapi.IRQSetDataNone|uapi.IRQSetActionMask, INTx, 0, 1, nil),
		unmaskINTx: irqSet(uapi.IRQSetDataNone|uapi.IRQSetActionUnmask, INTx, 0, 1, nil),
	}
	if err := d.open(); err != nil {
		return nil, errors.Join(err, d.closeFiles())
	}
	if o.unwatched {
		return d, nil
	}
	if err := d.watch(); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

// open takes the steps in the order that the kernel wants.
func (d *Device) open() error {
	dev, err := d.host.Device(d.address)
	if err != nil {
		return d.explainAbsent(err)
	}
	d.group = dev.Group
	if dev.Group < 0 {
		return d.explainNoIOMMU()
	}
	if d.container, err = d.openContainer(); err != nil {
		return err
	}
	node := fmt.Sprintf(groupNode, d.group)
	if d.groupFD, err = d.kernel.Open(node); err != nil {
		d.groupFD = -1
		return d.explainGroupOpen(node, err)
	}
	if err := d.kernel.GroupSetContainer(d.groupFD, d.container); err != nil {
		return d.explainSetContainer(err)
	}
	if err := d.kernel.SetIOMMU(d.container, uapi.Type1v2IOMMU); err != nil {
		return d.explainSetIOMMU(err)
	}
	d.space = container{kernel: d.kernel, fd: d.container}
	if d.fd, err = d.getDeviceFD(); err != nil {
		d.fd = -1
		return d.explainGetDeviceFD(err)
	}
	if err := d.query(); err != nil {
		return err
	}
	return d.decodeOn()
}

// openContainer opens a container and checks that it can do what is needed.
func (d *Device) openContainer() (int, error) {
	fd, err := d.kernel.Open(containerNode)
	if err != nil {
		return -1, d.explainContainerOpen(err)
	}
	version, err := d.kernel.GetAPIVersion(fd)
	if err != nil {
		return fd, d.fault("ask "+containerNode+" for its version", err)
	}
	if version != uapi.APIVersion {
		e := d.fault("open "+containerNode, ErrNotSupported)
		e.Cause = fmt.Sprintf("the kernel's VFIO has version %d; this program knows version %d", version, uapi.APIVersion)
		return fd, e
	}
	has, err := d.kernel.CheckExtension(fd, uapi.Type1v2IOMMU)
	if err != nil {
		return fd, d.fault("ask "+containerNode+" for the type 1 IOMMU driver", err)
	}
	if has == 0 {
		e := d.fault("open "+containerNode, ErrNotSupported)
		e.Cause, e.Remedy = causeNoType1, remedyNoType1
		return fd, e
	}
	return fd, nil
}

// getDeviceFD opens the device itself, a second time if the kernel has only just bound it.
func (d *Device) getDeviceFD() (int, error) {
	name := d.address.String()
	fd, err := d.kernel.GroupGetDeviceFD(d.groupFD, name)
	if errors.Is(err, unix.ENODEV) && d.bound() {
		time.Sleep(bindSettles)
		return d.kernel.GroupGetDeviceFD(d.groupFD, name)
	}
	return fd, err
}

// bound tells whether sysfs has the device bound to a VFIO driver.
func (d *Device) bound() bool {
	dev, err := d.host.Device(d.address)
	return err == nil && dev.VFIO
}

// query asks the kernel about the device, its regions and its interrupts.
func (d *Device) query() error {
	arg := make([]byte, uapi.Size[uapi.DeviceInfo]())
	uapi.Put(arg, uapi.DeviceInfo{Argsz: uint32(len(arg))})
	if err := d.kernel.DeviceGetInfo(d.fd, arg); err != nil {
		return d.fault("describe the device", err)
	}
	info := uapi.Take[uapi.DeviceInfo](arg)
	if info.Flags&uapi.DeviceFlagsPCI == 0 || info.NumRegions <= uapi.PCIConfigRegionIndex {
		e := d.fault("describe the device", ErrNotSupported)
		e.Cause = "VFIO does not present it as a PCI device"
		return e
	}
	d.canReset = info.Flags&uapi.DeviceFlagsReset != 0
	d.regions = make([]RegionInfo, uapi.PCINumRegions)
	for i := range d.regions {
		d.regions[i].Index = i
		if i >= int(info.NumRegions) {
			continue
		}
		r, err := queryRegion(d.kernel, d.fd, i)
		if err != nil {
			return d.fault(fmt.Sprintf("describe region %d", i), err)
		}
		d.regions[i] = r
	}
	for i := range d.irqs {
		d.irqs[i].Index = IRQIndex(i)
		if i >= int(info.NumIRQs) {
			continue
		}
		q, err := queryIRQ(d.kernel, d.fd, IRQIndex(i))
		if err != nil {
			return d.irqFault("describe", IRQIndex(i), -1, err)
		}
		d.irqs[i] = q
	}
	return nil
}

// decodeOn lets the device answer at its BARs. Nobody else has the device yet, so no lock is taken.
func (d *Device) decodeOn() error {
	const op = "switch memory decoding on"
	if err := d.setCommand(op, pci.CommandMemory, 0); err != nil {
		return err
	}
	for i := range d.bars {
		if d.regions[i].Size == 0 {
			continue
		}
		var register [4]byte
		if err := d.config(op, register[:], offsetBARs+4*i, d.kernel.Pread); err != nil {
			return err
		}
		if register[0]&1 != 0 { // PCI_BASE_ADDRESS_SPACE_IO
			return d.setCommand(op, pci.CommandIO, 0)
		}
	}
	return nil
}

const (
	causeNoType1  = "the kernel's type 1 IOMMU driver is not loaded"
	remedyNoType1 = "load it: modprobe vfio_iommu_type1"
)

// explainAbsent is for a device that sysfs does not show.
func (d *Device) explainAbsent(err error) error {
	e := d.fault("open", err)
	if errors.Is(err, fs.ErrNotExist) {
		e.Kind = ErrNotFound
		e.Err = errnoOf(err)
		e.Cause = "there is no PCI device at this address"
		e.Remedy = "list the addresses with: lspci -D"
	}
	return e
}

// errnoOf is the errno in err, so that a message does not repeat another's context; err itself when there is none.
func errnoOf(err error) error {
	if errno, ok := errors.AsType[unix.Errno](err); ok {
		return errno
	}
	return err
}

// explainNoIOMMU is for a device without an IOMMU group.
func (d *Device) explainNoIOMMU() error {
	e := d.fault("open", ErrNoIOMMU)
	if d.host.HasIOMMU() {
		e.Cause = "the device is in no IOMMU group: the platform's IOMMU does not cover it"
		return e
	}
	e.Cause = "the device is in no IOMMU group, nor is any other: the platform has no IOMMU, or it is off"
	e.Remedy = "switch VT-d or AMD-Vi on in the firmware, and on Intel boot with the kernel argument intel_iommu=on"
	return e
}

// explainUnbound is for a device that a step failed on because no VFIO driver has it; nil when one does.
func (d *Device) explainUnbound(op string, errno error) error {
	dev, err := d.host.Device(d.address)
	if err != nil || dev.VFIO {
		return nil
	}
	e := d.fault(op, errno)
	e.Kind = ErrNotBound
	if dev.Bridge {
		e.Cause = "the device is a bridge, which no VFIO driver takes"
		e.Remedy = "open a device behind it"
		return e
	}
	e.Cause = "the device has no driver, and wants a VFIO driver"
	if dev.Driver != "" {
		e.Cause = fmt.Sprintf("the device is bound to %s, and wants a VFIO driver", dev.Driver)
	}
	e.Remedy = fmt.Sprintf("bind it: irqbridge bind %v", d.address)
	return e
}

// explainContainerOpen is for open(2) of the container.
func (d *Device) explainContainerOpen(err error) error {
	e := d.fault("open "+containerNode, err)
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENODEV), errors.Is(err, unix.ENXIO):
		e.Cause, e.Remedy = "the kernel module vfio is not loaded", "load it: modprobe vfio-pci"
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		e.Cause = "the node is not open to this user, unlike where udev set it up"
		e.Remedy = "run as root, or: chmod 0666 " + containerNode
	}
	return e
}

// explainGroupOpen is for open(2) of the group's node.
func (d *Device) explainGroupOpen(node string, err error) error {
	op := "open " + node
	e := d.fault(op, err)
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENODEV), errors.Is(err, unix.ENXIO):
		if unbound := d.explainUnbound(op, err); unbound != nil {
			return unbound
		}
		e.Cause = "a VFIO driver has the device, but its group has no node"
		e.Remedy = "wait for udev (udevadm settle); in a container, pass the node in"
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		e.Cause = "the node belongs to root alone unless a udev rule or an administrator changed that"
		e.Remedy = fmt.Sprintf("run as root, or: chown $USER %s, or a udev rule: SUBSYSTEM==\"vfio\", GROUP=\"vfio\", MODE=\"0660\"", node)
	case errors.Is(err, unix.EBUSY):
		d.explainBusy(e)
	}
	return e
}

// explainBusy names the processes that have the group, as far as this one may see them.
func (d *Device) explainBusy(e *OpError) {
	e.Kind = ErrBusy
	if holders := d.host.Holders(d.group); len(holders) > 0 {
		e.Cause = fmt.Sprintf("group %d is open in process %s", d.group, strings.Join(holders, ", "))
		e.Remedy = "close it there; a group is open once at a time"
		return
	}
	e.Cause = fmt.Sprintf("group %d is open elsewhere, in another process or by an earlier Open in this one", d.group)
	e.Remedy = "find who has it, as root: ls -l /proc/*/fd 2>/dev/null | grep vfio"
}

// explainSetContainer is for VFIO_GROUP_SET_CONTAINER.
func (d *Device) explainSetContainer(err error) error {
	op := fmt.Sprintf("add group %d to a container", d.group)
	e := d.fault(op, err)
	if !errors.Is(err, unix.EPERM) || d.viable() {
		return e
	}
	if unbound := d.explainUnbound(op, err); unbound != nil {
		return unbound
	}
	e.Kind = ErrNotViable
	e.Cause = fmt.Sprintf("group %d is not viable", d.group)
	e.Remedy = "bind every device of the group to a VFIO driver, or to none"
	group, groupErr := d.host.Group(d.group)
	if groupErr != nil {
		return e
	}
	for i, b := range group.Blockers() {
		if i == 0 {
			e.Cause += ": the IOMMU cannot keep the device apart from"
			e.Remedy = "bind to vfio-pci as well, or unbind:"
		} else {
			e.Cause += ","
			e.Remedy += ","
		}
		e.Cause += fmt.Sprintf(" %v, bound to %s", b.Address, b.Driver)
		e.Remedy += " " + b.Address.String()
	}
	return e
}

// viable asks the kernel whether it holds the group for viable; true when it does not answer.
func (d *Device) viable() bool {
	arg := make([]byte, uapi.Size[uapi.GroupStatus]())
	uapi.Put(arg, uapi.GroupStatus{Argsz: uint32(len(arg))})
	err := d.kernel.GroupGetStatus(d.groupFD, arg)
	return err != nil || uapi.Take[uapi.GroupStatus](arg).Flags&uapi.GroupFlagsViable != 0
}

// explainSetIOMMU is for VFIO_SET_IOMMU.
func (d *Device) explainSetIOMMU(err error) error {
	e := d.fault("set the container's IOMMU driver", err)
	switch {
	case errors.Is(err, unix.EPERM):
		e.Kind = ErrNoInterruptRemapping
		e.Cause = "the platform does not remap interrupts, so a device could send any vector of the host"
		e.Remedy = "switch interrupt remapping on in the firmware (VT-d, AMD-Vi); or accept the risk: " +
			"echo 1 > /sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts"
	case errors.Is(err, unix.ENODEV):
		e.Cause, e.Remedy = causeNoType1, remedyNoType1
	}
	return e
}

// explainGetDeviceFD is for VFIO_GROUP_GET_DEVICE_FD.
func (d *Device) explainGetDeviceFD(err error) error {
	op := "open the device in its group"
	e := d.fault(op, err)
	switch {
	case errors.Is(err, unix.ENODEV):
		if unbound := d.explainUnbound(op, err); unbound != nil {
			return unbound
		}
		e.Cause = "the kernel does not find the device in the group, although sysfs shows it there"
		e.Remedy = "see the end of dmesg; bind the device again"
	case errors.Is(err, unix.EACCES):
		e.Cause = "the device is a virtual function whose physical function is on vfio-pci, and wants a VF token"
		e.Remedy = "bind the physical function to its host driver"
	case errors.Is(err, unix.EBUSY):
		d.explainBusy(e)
	}
	return e
}
