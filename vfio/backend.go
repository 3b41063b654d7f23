package vfio

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/irqbridge/irqbridge/vfio/host"
)

// Backend is a way in which the kernel hands a device to a program (Documentation/driver-api/vfio.rst). The devices are
// the same on all; what differs is the nodes, who else can have a device of the same IOMMU group, and the memory that
// the device can reach.
type Backend int

// The backends.
const (
	// BackendIOMMUFD is the node of the device itself, /dev/vfio/devices/vfioN, bound to an address space of
	// /dev/iommu. Linux has it since 6.6 when built with CONFIG_IOMMUFD and CONFIG_VFIO_DEVICE_CDEV.
	BackendIOMMUFD Backend = iota + 1
	// BackendGroup is the node of the IOMMU group, /dev/vfio/N, in a container with the type 1 IOMMU driver.
	BackendGroup
	// BackendNoIOMMU is the node of a group that VFIO made up for a device without an IOMMU, /dev/vfio/noiommu-N. Nothing
	// keeps such a device from writing to any memory of the host. It is taken only when asked for, with WithBackend.
	BackendNoIOMMU
)

// String returns "iommufd", "group" or "no-iommu".
func (b Backend) String() string {
	switch b {
	case BackendIOMMUFD:
		return "iommufd"
	case BackendGroup:
		return "group"
	case BackendNoIOMMU:
		return "no-iommu"
	}
	return fmt.Sprintf("backend %d", int(b))
}

// ParseBackend is the inverse of String. EINVAL when s is the name of none.
func ParseBackend(s string) (Backend, error) {
	for _, b := range []Backend{BackendIOMMUFD, BackendGroup, BackendNoIOMMU} {
		if b.String() == s {
			return b, nil
		}
	}
	return 0, fmt.Errorf("no backend %q: %w", s, unix.EINVAL)
}

// BackendFor returns the backend that Open takes for a device unless told otherwise: BackendIOMMUFD where /dev/iommu and the
// device's own node exist, else BackendGroup. It only looks at what there is; permissions are not tried.
func BackendFor(h *host.Host, dev host.Device) Backend {
	if h.HasIOMMUFD() && h.DeviceNode(dev.Address) != "" {
		return BackendIOMMUFD
	}
	return BackendGroup
}

// Nodes returns the nodes that a program has to open, for reading and writing, to have a device by a backend: what a container
// or another user has to be given. It is nil when the device has none of that backend at this moment: no VFIO driver has the
// device, the kernel has no such nodes, or the device is behind an IOMMU and b is BackendNoIOMMU, or the other way round.
func Nodes(h *host.Host, dev host.Device, b Backend) []string {
	madeUp := dev.Group >= 0 && h.NoIOMMUGroup(dev.Group)
	own := h.DeviceNode(dev.Address)
	switch {
	case !dev.VFIO:
	case b == BackendIOMMUFD && own != "" && h.HasIOMMUFD():
		return []string{iommufdNode, own}
	case b == BackendGroup && dev.Group >= 0 && !madeUp:
		return []string{containerNode, fmt.Sprintf(groupNode, dev.Group)}
	case b == BackendNoIOMMU && madeUp:
		return []string{containerNode, fmt.Sprintf(noIOMMUNode, dev.Group)}
	}
	return nil
}

// backend is what differs between the backends. Each is one file: group.go, iommufd.go, noiommu.go.
type backend interface {
	kind() Backend
	// open opens the device, and leaves its descriptor in fd of the device as soon as there is one. What it opens
	// beside that is for close, also after an error.
	open() error
	// close closes what open opened beside the device, whose descriptor is closed by then.
	close() error
}

// newBackend returns the implementation of a backend; nil when b is none.
func (d *Device) newBackend(b Backend, o *options) backend {
	switch b {
	case BackendIOMMUFD:
		return &iommufdBackend{d: d, given: o.iommufd, fd: -1, ioas: o.ioas}
	case BackendGroup:
		return &groupBackend{d: d, container: -1, group: -1}
	case BackendNoIOMMU:
		return &noIOMMUBackend{groupBackend{d: d, container: -1, group: -1}}
	}
	return nil
}
