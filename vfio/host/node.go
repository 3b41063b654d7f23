package host

import (
	"fmt"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/irqbridge/irqbridge/pci"
)

// The nodes of VFIO, Documentation/driver-api/vfio.rst: IOMMUFDNode is that of iommufd, ContainerNode that of containers.
const (
	IOMMUFDNode   = "/dev/iommu"
	ContainerNode = "/dev/vfio/vfio"

	nodesDir       = "/dev/vfio"         // has one node for each group
	deviceNodesDir = "/dev/vfio/devices" // has one node for each device that VFIO hands out alone
)

// HasIOMMUFD tells whether /dev/iommu is there: whether the kernel was built with iommufd, and has it loaded.
func (h *Host) HasIOMMUFD() bool { return h.os.Exists(IOMMUFDNode) }

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

// Access tells whether this process may open a node for reading and writing: nil, or why not. fs.ErrNotExist when it is not
// there; [Host.WhyDenied] explains fs.ErrPermission.
func (h *Host) Access(node string) error { return h.os.Access(node) }

// DeviceNodes returns the nodes by which VFIO hands out devices at this moment: those of groups, and those of single devices.
func (h *Host) DeviceNodes() []string {
	var nodes []string
	for _, dir := range []string{nodesDir, deviceNodesDir} {
		names, _ := h.os.ReadDir(dir)
		for _, name := range names {
			if node := dir + "/" + name; node != ContainerNode && node != deviceNodesDir {
				nodes = append(nodes, node)
			}
		}
	}
	return nodes
}

// Denial is why a node is closed to this process, and how to open it.
type Denial struct {
	Cause   string
	Command string // opens it, for now or for ever
	Rule    string // of udev: opens it for ever; "" when Command does
}

// Remedy is the ways out in one line.
func (d Denial) Remedy() string {
	if d.Rule == "" {
		return d.Command
	}
	return "run as root, or: " + d.Command + ", or a udev rule: " + d.Rule
}

// WhyDenied says why this process may not open a node that is there. It makes sense when [Host.Access] or
// the kernel refuses it.
func (h *Host) WhyDenied(node string) Denial {
	d := Denial{
		Cause:   "the node belongs to root alone unless a udev rule or an administrator changed that",
		Command: "sudo chown $USER " + node,
		Rule:    `SUBSYSTEM=="vfio", KERNEL=="[0-9]*", GROUP="vfio", MODE="0660"`, // as scripts/udev has it
	}
	switch {
	case node == IOMMUFDNode:
		d.Rule = `SUBSYSTEM=="misc", KERNEL=="iommu", GROUP="vfio", MODE="0660"`
	case node == ContainerNode:
		d.Rule = `KERNEL=="vfio", SUBSYSTEM=="misc", MODE="0666"`
	case strings.HasPrefix(node, deviceNodesDir+"/"):
		d.Rule = `SUBSYSTEM=="vfio-dev", KERNEL=="vfio[0-9]*", GROUP="vfio", MODE="0660"`
	}
	n, err := h.os.Permissions(node)
	if err != nil {
		return d
	}
	if h.os.Access(node) == nil {
		d.Cause = "its permissions allow it, and yet the kernel refuses, as it does in a container that was not given the device"
		d.Command, d.Rule = "run outside of the container, or start it with --device "+node, ""
		return d
	}
	owner, group := h.name("/etc/passwd", n.UID), h.name("/etc/group", n.GID)
	d.Cause = fmt.Sprintf("the node is for %s alone (%s:%s %04o)", owner, owner, group, uint32(n.Mode))
	if n.Mode&0o060 == 0o060 && n.GID != 0 {
		d.Cause = fmt.Sprintf("the node is for %s and the group %s, which this process is not in (%04o)", owner, group, uint32(n.Mode))
		d.Command, d.Rule = "sudo usermod -aG "+group+" $USER, and log in again", ""
	}
	return d
}

// name returns the name of a user or group ID by passwd(5) or group(5), or the number where there is none.
func (h *Host) name(file string, id uint32) string {
	number := strconv.FormatUint(uint64(id), 10)
	for line := range strings.Lines(h.contents(file)) {
		if fields := strings.Split(line, ":"); len(fields) > 2 && fields[2] == number {
			return fields[0]
		}
	}
	if id == 0 {
		return "root"
	}
	return number
}
