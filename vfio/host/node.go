package host

import (
	"fmt"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/irqbridge/irqbridge/pci"
)

// iommufdNode is the node of iommufd; deviceNodesDir has one node for each device that VFIO hands out alone.
const (
	iommufdNode    = "/dev/iommu"
	deviceNodesDir = "/dev/vfio/devices"
)

// HasIOMMUFD tells whether /dev/iommu is there: whether the kernel was built with iommufd, and has it loaded.
func (h *Host) HasIOMMUFD() bool { return h.os.Exists(iommufdNode) }

// DeviceNode returns the node by which VFIO hands out the device alone, /dev/vfio/devices/vfioN; "" when there is none: no
// VFIO driver has the device, or the kernel has no such nodes (before Linux 6.6, or built without
// CONFIG_VFIO_DEVICE_CDEV). That sysfs has vfio-dev/vfioN does not mean that the node exists. A noiommu-vfioN is left out.
func (h *Host) DeviceNode(a pci.Address) string {
	names, _ := h.os.ReadDir(devicesDir + "/" + a.String() + "/vfio-dev")
	for _, name := range names {
		node := deviceNodesDir + "/" + name
		if strings.HasPrefix(name, "vfio") && h.os.Exists(node) {
			return node
		}
	}
	return ""
}

// DeviceOf returns the device whose node, in /dev/vfio/devices, has this device number. fs.ErrNotExist when there is no node
// of this number, ENODEV when it is something else's.
func (h *Host) DeviceOf(major, minor uint32) (pci.Address, error) {
	target, err := h.os.Readlink(fmt.Sprintf("/sys/dev/char/%d:%d", major, minor))
	if err != nil {
		return pci.Address{}, err
	}
	// ../../devices/pci0000:00/0000:00:04.0/vfio-dev/vfio0
	class := path.Dir(target)
	if path.Base(class) != "vfio-dev" {
		return pci.Address{}, unix.ENODEV
	}
	a, err := pci.ParseAddress(path.Base(path.Dir(class)))
	if err != nil {
		return pci.Address{}, unix.ENODEV
	}
	return a, nil
}

// NoIOMMUMode tells whether VFIO's mode without an IOMMU is on (enable_unsafe_noiommu_mode), and whether the kernel has it
// at all.
func (h *Host) NoIOMMUMode() (on, present bool) {
	b, err := h.os.ReadFile("/sys/module/vfio/parameters/enable_unsafe_noiommu_mode")
	return strings.TrimSpace(string(b)) == "Y", err == nil
}

// NoIOMMUGroup tells whether a group is one that VFIO made up for a device without an IOMMU.
func (h *Host) NoIOMMUGroup(id int) bool {
	label, err := h.os.ReadFile(groupsDir + "/" + strconv.Itoa(id) + "/name")
	return err == nil && strings.TrimSpace(string(label)) == "vfio-noiommu"
}
