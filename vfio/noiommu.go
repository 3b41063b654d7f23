package vfio

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/irqbridge/irqbridge/vfio/internal/uapi"
)

// noIOMMUNode is the node of a group that VFIO made up.
const noIOMMUNode = "/dev/vfio/noiommu-%d"

// noIOMMUBackend is BackendNoIOMMU: the way through a group and a container, but the group is made up, and the container has
// no address space: the device sees physical memory, all of it.
type noIOMMUBackend struct{ groupBackend }

func (*noIOMMUBackend) kind() Backend { return BackendNoIOMMU }

// open takes the steps of a group; the mode itself is never switched on here.
func (b *noIOMMUBackend) open() error {
	d := b.d
	if err := b.check(); err != nil {
		return err
	}
	if err := b.openContainer(); err != nil {
		return err
	}
	node := fmt.Sprintf(noIOMMUNode, d.group)
	if err := b.openGroup(node); errors.Is(err, unix.EPERM) {
		e := d.fault("open "+node, unix.EPERM)
		e.Cause, e.Remedy = "a device without an IOMMU is for programs with CAP_SYS_RAWIO alone", "run as root"
		return e
	} else if err != nil {
		return err
	}
	if err := d.kernel.GroupSetContainer(b.group, b.container); err != nil {
		return b.explainSetContainer(err)
	}
	if err := d.kernel.SetIOMMU(b.container, uapi.NoIOMMU); err != nil {
		return d.fault("set the container's IOMMU driver to none", err)
	}
	d.space = noSpace{fmt.Errorf("without an IOMMU a device sees physical memory, at addresses that the kernel does not tell: %w", ErrNotSupported)}
	return b.openDevice()
}

// check tells why the device has no group that VFIO made up.
func (b *noIOMMUBackend) check() error {
	const op = "open without an IOMMU"
	d := b.d
	on, present := d.host.NoIOMMUMode()
	if d.group >= 0 && d.host.NoIOMMUGroup(d.group) {
		return nil
	}
	e := d.fault(op, ErrNotSupported)
	switch {
	case d.group >= 0:
		e.Cause = fmt.Sprintf("the device is behind an IOMMU, in group %d, and cannot be opened as if it were not", d.group)
		e.Remedy = "use another backend"
	case !present:
		e.Cause = "the kernel has no such mode (CONFIG_VFIO_NOIOMMU), or the module vfio is not loaded"
		e.Remedy = "load it: modprobe vfio-pci; otherwise an IOMMU is the only way"
	case !on:
		e.Cause = "the mode is off"
		e.Remedy = "if the device may write to any memory of the host, switch it on, which taints the kernel: " +
			"echo 1 > /sys/module/vfio/parameters/enable_unsafe_noiommu_mode; then bind the device again"
	default:
		if unbound := d.explainUnbound(op, unix.ENODEV); unbound != nil {
			return unbound
		}
		e.Cause = "a VFIO driver has the device, but VFIO made no group for it"
		e.Remedy = "bind it again, now that the mode is on"
	}
	return e
}
