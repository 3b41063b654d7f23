package vfio

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/irqbridge/irqbridge/vfio/host"
	"github.com/irqbridge/irqbridge/vfio/internal/uapi"
)

// The nodes of VFIO's groups, Documentation/driver-api/vfio.rst.
const (
	containerNode = host.ContainerNode
	groupNode     = "/dev/vfio/%d"
)

// bindSettles is how long Linux 6.1 may answer ENODEV for a device after its driver link is in place.
const bindSettles = 20 * time.Millisecond

// groupBackend is BackendGroup: the device comes from its group, the group goes into a container, and the container has the
// address space that all devices of its groups see.
type groupBackend struct {
	d         *Device
	container int // these two are -1 while not open
	group     int
}

func (*groupBackend) kind() Backend { return BackendGroup }

// open takes the steps in the order that the kernel wants. The device can be asked for only when the group has a
// container, and the container an IOMMU driver; this needs a group in it.
func (b *groupBackend) open() error {
	d := b.d
	if d.group < 0 || d.host.NoIOMMUGroup(d.group) {
		return d.explainNoIOMMU()
	}
	if err := b.openContainer(); err != nil {
		return err
	}
	has, err := d.kernel.CheckExtension(b.container, uapi.Type1v2IOMMU)
	if err != nil {
		return d.fault("ask "+containerNode+" for the type 1 IOMMU driver", err)
	}
	if has == 0 {
		e := d.fault("open "+containerNode, ErrNotSupported)
		e.Cause, e.Remedy = causeNoType1, remedyNoType1
		return e
	}
	if err := b.openGroup(fmt.Sprintf(groupNode, d.group)); err != nil {
		return err
	}
	if err := d.kernel.GroupSetContainer(b.group, b.container); err != nil {
		return b.explainSetContainer(err)
	}
	if err := d.kernel.SetIOMMU(b.container, uapi.Type1v2IOMMU); err != nil {
		return b.explainSetIOMMU(err)
	}
	d.space = container{kernel: d.kernel, fd: b.container}
	return b.openDevice()
}

// close closes group and container, in this order.
func (b *groupBackend) close() error {
	return errors.Join(b.d.closeFile(&b.group), b.d.closeFile(&b.container))
}

// openContainer opens a container and checks that it is of the version known.
func (b *groupBackend) openContainer() error {
	d := b.d
	fd, err := d.kernel.Open(containerNode)
	if err != nil {
		return b.explainContainerOpen(err)
	}
	b.container = fd
	version, err := d.kernel.GetAPIVersion(fd)
	if err != nil {
		return d.fault("ask "+containerNode+" for its version", err)
	}
	if version != uapi.APIVersion {
		e := d.fault("open "+containerNode, ErrNotSupported)
		e.Cause = fmt.Sprintf("the kernel's VFIO has version %d; this program knows version %d", version, uapi.APIVersion)
		return e
	}
	return nil
}

// openGroup opens the node of the group.
func (b *groupBackend) openGroup(node string) error {
	fd, err := b.d.kernel.Open(node)
	if err != nil {
		return b.explainGroupOpen(node, err)
	}
	b.group = fd
	return nil
}

// openDevice opens the device itself, a second time if the kernel has only just bound it.
func (b *groupBackend) openDevice() error {
	d := b.d
	name := d.address.String()
	if d.token != nil {
		name += " vf_token=" + d.token.String()
	}
	fd, err := d.kernel.GroupGetDeviceFD(b.group, name)
	if errors.Is(err, unix.ENODEV) && d.bound() {
		time.Sleep(bindSettles)
		fd, err = d.kernel.GroupGetDeviceFD(b.group, name)
	}
	if err != nil {
		return b.explainGetDeviceFD(err)
	}
	d.fd = fd
	return nil
}

const (
	causeNoType1  = "the kernel's type 1 IOMMU driver is not loaded"
	remedyNoType1 = "load it: modprobe vfio_iommu_type1"
)

// explainContainerOpen is for open(2) of the container.
func (b *groupBackend) explainContainerOpen(err error) error {
	d := b.d
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
func (b *groupBackend) explainGroupOpen(node string, err error) error {
	d := b.d
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
		denial := d.host.WhyDenied(node)
		e.Cause, e.Remedy = denial.Cause, denial.Remedy()
	case errors.Is(err, unix.EBUSY):
		d.explainBusy(e)
	}
	return e
}

// explainSetContainer is for VFIO_GROUP_SET_CONTAINER.
func (b *groupBackend) explainSetContainer(err error) error {
	d := b.d
	op := fmt.Sprintf("add group %d to a container", d.group)
	e := d.fault(op, err)
	if !errors.Is(err, unix.EPERM) || b.viable() {
		return e
	}
	if unbound := d.explainUnbound(op, err); unbound != nil {
		return unbound
	}
	if !d.explainNotViable(e) {
		e.Kind = ErrNotViable
		e.Cause = fmt.Sprintf("group %d is not viable", d.group)
		e.Remedy = "bind every device of the group to a VFIO driver, or to none"
	}
	return e
}

// viable asks the kernel whether it holds the group for viable; true when it does not answer.
func (b *groupBackend) viable() bool {
	d := b.d
	arg := make([]byte, uapi.Size[uapi.GroupStatus]())
	uapi.Put(arg, uapi.GroupStatus{Argsz: uint32(len(arg))})
	err := d.kernel.GroupGetStatus(b.group, arg)
	return err != nil || uapi.Take[uapi.GroupStatus](arg).Flags&uapi.GroupFlagsViable != 0
}

// explainSetIOMMU is for VFIO_SET_IOMMU.
func (b *groupBackend) explainSetIOMMU(err error) error {
	d := b.d
	e := d.fault("set the container's IOMMU driver", err)
	switch {
	case errors.Is(err, unix.EPERM):
		e.Kind = ErrNoInterruptRemapping
		e.Cause, e.Remedy = d.host.WhyNoRemapping()
		e.Remedy += unsafeRemedy + "/sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts"
	case errors.Is(err, unix.ENODEV):
		e.Cause, e.Remedy = causeNoType1, remedyNoType1
	}
	return e
}

// explainGetDeviceFD is for VFIO_GROUP_GET_DEVICE_FD.
func (b *groupBackend) explainGetDeviceFD(err error) error {
	d := b.d
	op := "open the device in its group"
	e := d.fault(op, err)
	switch {
	case errors.Is(err, unix.ENODEV):
		if unbound := d.explainUnbound(op, err); unbound != nil {
			return unbound
		}
		e.Cause = "the kernel does not find the device in the group, although sysfs shows it there"
		e.Remedy = "see the end of dmesg; bind the device again"
	case d.explainToken(e):
	case errors.Is(err, unix.EBUSY):
		d.explainBusy(e)
	}
	return e
}
