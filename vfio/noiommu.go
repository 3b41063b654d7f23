package vfio

import (
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
	if err := b.openGroup(fmt.Sprintf(noIOMMUNode, d.group)); err != nil {
		return err
	}
	if err := d.kernel.GroupSetContainer(b.group, b.container); err != nil {
		return b.explainSetContainer(err)
	}
	if err := d.kernel.SetIOMMU(b.container, uapi.NoIOMMU); err != nil {
		return d.fault("set the container's IOMMU driver to none", err)
	}
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
