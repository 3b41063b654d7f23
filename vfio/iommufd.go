package vfio

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/irqbridge/irqbridge/vfio/host"
	"github.com/irqbridge/irqbridge/vfio/internal/uapi"
)

// iommufdNode is the node of iommufd, Documentation/userspace-api/iommufd.rst.
const iommufdNode = host.IOMMUFDNode

// iommufdBackend is BackendIOMMUFD: the device is opened by its own node, bound to an iommufd, and attached to an address
// space (IOAS) of it. Other devices can be in the same iommufd, and in the same address space.
type iommufdBackend struct {
	d     *Device
	given int    // the iommufd of WithIOMMUFD; -1 for none
	fd    int    // ours, or the duplicate of the one given; -1 while not open
	ioas  uint32 // the address space; 0 for none
	own   bool   // the address space is ours, in an iommufd that may outlive this device
}

func (*iommufdBackend) kind() Backend { return BackendIOMMUFD }

// open takes the steps in the order that the kernel wants. Before BIND the device's descriptor is good for nothing else. With
// FromFD there is a descriptor already, which may be bound.
func (b *iommufdBackend) open() error {
	d := b.d
	bound := false
	if d.fd < 0 {
		if err := b.openDevice(); err != nil {
			return err
		}
	} else {
		bound = b.isBound()
	}
	if bound && b.given < 0 {
		d.space = noSpace{fmt.Errorf("the device was bound to an iommufd that is not known here (see vfio.WithIOMMUFD): %w", ErrNotSupported)}
		return nil
	}
	if err := b.openIOMMUFD(); err != nil {
		return err
	}
	if !bound {
		if err := b.bind(); err != nil {
			return b.explainBind(err)
		}
	}
	if b.ioas == 0 {
		alloc := uapi.IOMMUIOASAlloc{Size: uint32(uapi.Size[uapi.IOMMUIOASAlloc]())}
		arg := argument(alloc)
		if err := d.kernel.IOASAlloc(b.fd, arg); err != nil {
			return d.fault("make an address space", err)
		}
		b.ioas, b.own = uapi.Take[uapi.IOMMUIOASAlloc](arg).OutIoasID, b.given >= 0
	}
	attach := uapi.DeviceAttachIOMMUFDPT{Argsz: uint32(uapi.Size[uapi.DeviceAttachIOMMUFDPT]()), PtID: b.ioas}
	if err := d.kernel.DeviceAttachIOMMUFDPT(d.fd, argument(attach)); err != nil {
		return b.explainAttach(err)
	}
	d.space = ioas{kernel: d.kernel, fd: b.fd, id: b.ioas}
	return nil
}

// argument is a structure as the argument of an ioctl.
func argument[T uapi.Struct](v T) []byte {
	arg := make([]byte, uapi.Size[T]())
	uapi.Put(arg, v)
	return arg
}

// openDevice opens the device's node.
func (b *iommufdBackend) openDevice() error {
	const op = "open the device's own node"
	d := b.d
	node := d.host.DeviceNode(d.address)
	if node == "" {
		if unbound := d.explainUnbound(op, unix.ENOENT); unbound != nil {
			return unbound
		}
		e := d.fault(op, unix.ENOENT)
		e.Kind = ErrNotSupported
		e.Cause = "a VFIO driver has the device, but there is no /dev/vfio/devices/vfioN for it: the kernel has none " +
			"(before Linux 6.6, or without CONFIG_VFIO_DEVICE_CDEV), or udev has not made it yet"
		e.Remedy = "use backend group; or wait for udev (udevadm settle); in a container, pass the node in"
		return e
	}
	fd, err := d.kernel.Open(node)
	if err == nil {
		d.fd = fd
		return nil
	}
	e := d.fault("open "+node, err)
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENODEV), errors.Is(err, unix.ENXIO):
		if unbound := d.explainUnbound(op, err); unbound != nil {
			return unbound
		}
		e.Cause, e.Remedy = "the device was unbound meanwhile", "try again"
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		denial := d.host.WhyDenied(node)
		e.Cause, e.Remedy = denial.Cause, denial.Remedy()
	}
	return e
}

// isBound tells whether a descriptor that was passed is bound: before that, the kernel answers nothing.
func (b *iommufdBackend) isBound() bool {
	info := uapi.DeviceInfo{Argsz: uint32(uapi.Size[uapi.DeviceInfo]())}
	return b.d.kernel.DeviceGetInfo(b.d.fd, argument(info)) == nil
}

// openIOMMUFD opens an iommufd, or duplicates the one given.
func (b *iommufdBackend) openIOMMUFD() error {
	d := b.d
	if b.given >= 0 {
		fd, err := d.kernel.Dup(b.given)
		if err != nil {
			return d.fault(fmt.Sprintf("use iommufd %d", b.given), err)
		}
		b.fd = fd
		return nil
	}
	fd, err := d.kernel.Open(iommufdNode)
	if err == nil {
		b.fd = fd
		return nil
	}
	e := d.fault("open "+iommufdNode, err)
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENODEV), errors.Is(err, unix.ENXIO):
		e.Cause, e.Remedy = "the kernel has no iommufd, or has not loaded it", "load it: modprobe iommufd; or use backend group"
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		denial := d.host.WhyDenied(iommufdNode)
		e.Cause, e.Remedy = denial.Cause, denial.Remedy()
	}
	return e
}

// bind binds the device to the iommufd, which makes it the process's own.
func (b *iommufdBackend) bind() error {
	bind := uapi.DeviceBindIOMMUFD{Argsz: uint32(uapi.Size[uapi.DeviceBindIOMMUFD]()), Iommufd: int32(b.fd)}
	if b.d.token == nil {
		return b.d.kernel.DeviceBindIOMMUFD(b.d.fd, argument(bind), nil)
	}
	bind.Flags = uapi.DeviceBindFlagToken
	return b.d.kernel.DeviceBindIOMMUFD(b.d.fd, argument(bind), (*[16]byte)(b.d.token))
}

// close ends the address space, if it would stay behind in an iommufd that others have, and closes the iommufd.
func (b *iommufdBackend) close() error {
	d := b.d
	var err error
	if b.own {
		destroy := uapi.IOMMUDestroy{Size: uint32(uapi.Size[uapi.IOMMUDestroy]()), ID: b.ioas}
		// EBUSY: another device has come to share it.
		if errno := d.kernel.IOMMUDestroy(b.fd, argument(destroy)); errno != nil && !errors.Is(errno, unix.EBUSY) {
			err = d.fault("end the address space", errno)
		}
	}
	b.own, b.ioas = false, 0
	return errors.Join(err, d.closeFile(&b.fd))
}

// leave lets go of a descriptor that was passed, and stays its owner's: an address space made for it can end only without it.
func (d *Device) leave() {
	if b, ok := d.backend.(*iommufdBackend); ok && b.own {
		detach := uapi.DeviceDetachIOMMUFDPT{Argsz: uint32(uapi.Size[uapi.DeviceDetachIOMMUFDPT]())}
		_ = d.kernel.DeviceDetachIOMMUFDPT(d.fd, argument(detach)) // it may not have come to be attached
	}
	d.fd = -1
}

// explainBind is for VFIO_DEVICE_BIND_IOMMUFD.
func (b *iommufdBackend) explainBind(err error) error {
	const op = "bind the device to an iommufd"
	d := b.d
	e := d.fault(op, err)
	switch {
	case d.explainToken(e):
	case errors.Is(err, unix.EBUSY): // the group's node is open
		d.explainBusy(e)
	case errors.Is(err, unix.EINVAL): // the device is bound by another descriptor
		d.explainBusy(e)
		if len(d.host.Holders(d.group)) == 0 {
			e.Cause += "; or the IOMMU does not keep the caches coherent, which iommufd wants"
			e.Remedy += "; or use backend group"
		}
	case errors.Is(err, unix.EPERM):
		b.explainOwner(e)
	case errors.Is(err, unix.ENODEV):
		if unbound := d.explainUnbound(op, err); unbound != nil {
			return unbound
		}
	case errors.Is(err, unix.EBADF), errors.Is(err, unix.EBADFD):
		e.Cause, e.Remedy = "what was given as iommufd is not an open of "+iommufdNode, "give one that is"
	}
	return e
}

// explainOwner is for EPERM of BIND, which has three reasons that the kernel does not tell apart.
func (b *iommufdBackend) explainOwner(e *OpError) {
	d := b.d
	if d.explainNotViable(e) {
		return
	}
	var others []string
	group, _ := d.host.Group(d.group)
	for _, m := range group.Members {
		if m.VFIO && m.Address != d.address {
			others = append(others, m.Address.String())
		}
	}
	if len(others) == 0 {
		e.Kind = ErrNoInterruptRemapping
		e.Cause, e.Remedy = d.host.WhyNoRemapping()
		e.Remedy += unsafeRemedy + "/sys/module/iommufd/parameters/allow_unsafe_interrupts"
		return
	}
	e.Kind = ErrBusy
	e.Cause = fmt.Sprintf("group %d has another owner: %s is open in another iommufd", d.group, strings.Join(others, " or "))
	e.Remedy = "open them in one iommufd and one address space (vfio.WithIOMMUFD), or close the other"
	if holders := d.host.Holders(d.group); len(holders) > 0 {
		e.Cause += ", in process " + strings.Join(holders, ", ")
	}
}

// explainAttach is for VFIO_DEVICE_ATTACH_IOMMUFD_PT.
func (b *iommufdBackend) explainAttach(err error) error {
	e := b.d.fault(fmt.Sprintf("attach the device to address space %d", b.ioas), err)
	switch {
	case errors.Is(err, unix.ENOENT):
		e.Cause = "the iommufd that the device is bound to has no such address space"
		e.Remedy = "give the numbers of Device.IOMMUFD together"
	case errors.Is(err, unix.EINVAL):
		e.Kind = ErrBusy
		e.Cause = fmt.Sprintf("another device of group %d is in another address space", b.d.group)
		e.Remedy = "open the devices of a group in one address space (vfio.WithIOMMUFD)"
	case errors.Is(err, unix.EADDRINUSE):
		e.Cause = "memory is mapped in the address space where this device cannot have any"
		e.Remedy = "map it elsewhere, or give the device an address space of its own"
	case errors.Is(err, unix.EBUSY):
		e.Cause, e.Remedy = "a device of the group is being reset", "try again"
	}
	return e
}

// IOMMUFD returns the iommufd that the device is bound to and the number of its address space, for WithIOMMUFD: the
// descriptor is the device's, and closed with it. It is -1 and 0 when the device was not opened so, or is closed.
func (d *Device) IOMMUFD() (fd int, ioas uint32) {
	d.life.RLock()
	defer d.life.RUnlock()
	if b, ok := d.backend.(*iommufdBackend); ok && !d.closed {
		return b.fd, b.ioas
	}
	return -1, 0
}
