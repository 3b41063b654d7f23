package vfio

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/irqbridge/irqbridge/pci"
	"github.com/irqbridge/irqbridge/vfio/internal/uapi"
)

// Open opens the device at addr. The device has to be bound to vfio-pci or another VFIO driver, and the nodes of its
// [Backend] to be open to the caller. Memory and I/O decoding are switched on; bus mastering is off until messages are
// enabled, as the kernel leaves it. From then on the device listens for the host: see [Device.OnRequest] and
// [Device.OnError].
//
// A device can be opened once at a time, and all opened devices of one IOMMU group have to be opened by one process: on
// BackendGroup one per group, on BackendIOMMUFD several (see WithIOMMUFD). Errors are *OpError with cause and remedy;
// nothing stays open.
func Open(addr pci.Address, opts ...Option) (*Device, error) {
	o := newOptions(opts)
	d := newDevice(addr, o)
	if err := d.open(o); err != nil {
		return nil, errors.Join(err, d.unwatch(), d.closeFiles())
	}
	return d, nil
}

// FromFD makes a Device of an open of a device's own node, /dev/vfio/devices/vfioN, that another program made, as a service
// manager does for one that may not open it itself. On success the Device owns fd, and Close closes it; on an error it
// stays the caller's, but may be bound by then, which only closing it undoes. It should be close-on-exec: a child that has a
// device open keeps it busy.
//
// A descriptor that is not bound yet is bound to the iommufd of WithIOMMUFD, or to a new one, for which /dev/iommu has to
// be open to the caller. One that is bound already can be used at once; WithIOMMUFD then names the iommufd that it was bound
// to. Without that, the device sees the address space that it was given, but no memory can be mapped for it here.
func FromFD(fd int, opts ...Option) (*Device, error) {
	o := newOptions(opts)
	major, minor, err := o.kernel.DeviceNumber(fd)
	if err != nil {
		return nil, fmt.Errorf("descriptor %d: %w", fd, err)
	}
	addr, err := o.kernel.Host().DeviceOf(major, minor)
	if err != nil {
		return nil, fmt.Errorf("descriptor %d is not an open of a device's node /dev/vfio/devices/vfioN: %w", fd, errnoOf(err))
	}
	d := newDevice(addr, o)
	if o.backend != 0 && o.backend != BackendIOMMUFD {
		return nil, d.invalid(fmt.Sprintf("use descriptor %d", fd), fmt.Sprintf("a descriptor of a device's own node is not of backend %v", o.backend))
	}
	o.backend, d.fd = BackendIOMMUFD, fd
	if err := d.open(o); err != nil {
		d.leave()
		return nil, errors.Join(err, d.unwatch(), d.closeFiles())
	}
	return d, nil
}

func newOptions(opts []Option) *options {
	o := &options{kernel: running{uapi.Real()}, iommufd: -1}
	for _, set := range opts {
		set(o)
	}
	return o
}

func newDevice(addr pci.Address, o *options) *Device {
	return &Device{
		address:    addr,
		kernel:     o.kernel,
		host:       o.kernel.Host(),
		token:      o.token,
		fd:         -1,
		maskINTx:   irqSet(uapi.IRQSetDataNone|uapi.IRQSetActionMask, INTx, 0, 1, nil),
		unmaskINTx: irqSet(uapi.IRQSetDataNone|uapi.IRQSetActionUnmask, INTx, 0, 1, nil),
	}
}

// open finds the device and its backend, has that open it, and sees what was opened.
func (d *Device) open(o *options) error {
	dev, err := d.host.Device(d.address)
	if err != nil {
		return d.explainAbsent(err)
	}
	d.group = dev.Group
	choice := o.backend
	switch {
	case choice == 0 && o.iommufd >= 0:
		choice = BackendIOMMUFD
	case choice == 0:
		choice = BackendFor(d.host, dev)
	}
	b := d.newBackend(choice, o)
	switch {
	case b == nil:
		return d.invalid("open", fmt.Sprintf("there is no %v", choice))
	case choice != BackendIOMMUFD && o.iommufd >= 0:
		return d.invalid("open", fmt.Sprintf("an iommufd was given, which backend %v has no use for", choice))
	}
	d.backend = b
	if err := b.open(); err != nil {
		return err
	}
	if err := d.query(); err != nil {
		return err
	}
	if err := d.decodeOn(); err != nil || o.unwatched {
		return err
	}
	return d.watch()
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
	if size := d.regions[uapi.PCIConfigRegionIndex].Size; size > maxConfigSize {
		e := d.fault("describe the device", ErrNotSupported)
		e.Cause = fmt.Sprintf("VFIO presents 0x%x bytes of configuration space", size)
		return e
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

// unsafeRemedy ends a remedy against missing interrupt remapping with how the risk is accepted.
const unsafeRemedy = "; or accept the risk: echo 1 > "

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

// explainNoIOMMU is for a device without an IOMMU group, or in one that VFIO made up.
func (d *Device) explainNoIOMMU() error {
	e := d.fault("open", ErrNoIOMMU)
	switch {
	case d.group >= 0:
		e.Cause = "the device is bound to VFIO in its mode without an IOMMU"
		e.Remedy = "give it an IOMMU; or ask for backend no-iommu by name, if the device may write to any memory of the host"
		return e
	case d.host.HasIOMMU():
		e.Cause = "the device is in no IOMMU group: the platform's IOMMU does not cover it"
		return e
	}
	e.Cause, e.Remedy = d.host.WhyNoIOMMU()
	e.Cause = "the device is in no IOMMU group, nor is any other: " + e.Cause
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
	e.Cause = dev.Unsuited()
	e.Remedy = fmt.Sprintf("bind it: irqbridge bind %v", d.address)
	if dev.Bridge {
		e.Remedy = "open a device behind it"
	}
	return e
}

// explainNotViable adds to an error that the device's group has members in the host's hands, if that is so.
func (d *Device) explainNotViable(e *OpError) bool {
	group, err := d.host.Group(d.group)
	cause, blockers := group.NotViable(d.address)
	if err != nil || len(blockers) == 0 {
		return false
	}
	e.Kind, e.Cause = ErrNotViable, cause
	e.Remedy = "bind to vfio-pci as well, or unbind:"
	for i, b := range blockers {
		if i > 0 {
			e.Remedy += ","
		}
		e.Remedy += " " + b.Address.String()
	}
	return true
}

// explainToken adds to an error that the VF token is missing or wrong, or not wanted, if the errno says so.
func (d *Device) explainToken(e *OpError) bool {
	dev, _ := d.host.Device(d.address)
	whose := "its virtual functions, which are open, were opened with"
	if dev.PhysicalFunction != nil {
		whose = fmt.Sprintf("the program with its physical function, %v, has set", *dev.PhysicalFunction)
	}
	switch {
	case errors.Is(e.Err, unix.EACCES) && d.token == nil:
		e.Cause = "the device wants the VF token that " + whose
		e.Remedy = "give it (vfio.WithVFToken)"
		if dev.PhysicalFunction != nil {
			e.Remedy += ", or bind the physical function to its host driver"
		}
	case errors.Is(e.Err, unix.EACCES):
		e.Cause = "the VF token is not the one that " + whose
		e.Remedy = "give that one"
	case errors.Is(e.Err, unix.EINVAL) && d.token != nil:
		e.Cause = "a VF token was given to a device that has no use for one"
		if dev.PhysicalFunction != nil {
			e.Cause += fmt.Sprintf(": the physical function %v is not on vfio-pci", *dev.PhysicalFunction)
		}
		if d.backend.kind() == BackendIOMMUFD {
			e.Cause += ", or the kernel takes none at a device's own node, as those before Linux 6.17"
		}
		e.Remedy = "leave it out"
	default:
		return false
	}
	return true
}

// explainBusy names the processes that have the group, as far as this one may see them. This one may have opened it just now, on
// the way to what failed.
func (d *Device) explainBusy(e *OpError) {
	e.Kind = ErrBusy
	if holders := d.host.Holders(d.group); len(holders) > 0 {
		e.Cause = fmt.Sprintf("group %d is open in process %s", d.group, strings.Join(holders, ", "))
		e.Remedy = "close it there; a group is open once at a time"
		if len(holders) == 1 && strings.HasPrefix(strings.TrimPrefix(holders[0], "possibly "), fmt.Sprintf("%d (", os.Getpid())) {
			e.Cause += ", which is this one, or open elsewhere, where it cannot be seen from here"
		}
		return
	}
	e.Cause = fmt.Sprintf("group %d is open elsewhere, in another process or by an earlier Open in this one", d.group)
	e.Remedy = "find who has it, as root: ls -l /proc/*/fd 2>/dev/null | grep vfio"
}
