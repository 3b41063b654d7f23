package host

import (
	"fmt"
	"io/fs"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/irqbridge/irqbridge/pci"
)

func TestNodes(t *testing.T) {
	edu := pci.Address{Device: 4}
	tr := newTree(t)
	tr.device("0000:00:04.0", "1234:11e8", "00ff00", "vfio-pci", 3)
	h := tr.host()
	assert.False(t, h.HasIOMMUFD())
	assert.Empty(t, h.DeviceNode(edu))
	tr.file("/dev/iommu", "")
	assert.True(t, h.HasIOMMUFD())

	const class = "/sys/bus/pci/devices/0000:00:04.0/vfio-dev/"
	tr.dir(class + "vfio2")
	assert.Empty(t, h.DeviceNode(edu), "sysfs alone is no node")
	tr.file("/dev/vfio/devices/vfio2", "")
	assert.Equal(t, "/dev/vfio/devices/vfio2", h.DeviceNode(edu))

	tr.process("42", "a", "/dev/vfio/devices/vfio2")
	tr.process("43", "b", "/dev/vfio/devices/vfio3")
	assert.Equal(t, []string{"42 (a)"}, h.Holders(3), "the node of a device of the group")
}

// A device without an IOMMU has a node of another name, which is not the way to it.
func TestNodeWithoutIOMMU(t *testing.T) {
	tr := newTree(t)
	tr.device("0000:00:04.0", "1234:11e8", "00ff00", "vfio-pci", 0)
	tr.dir("/sys/bus/pci/devices/0000:00:04.0/vfio-dev/noiommu-vfio0")
	tr.file("/dev/vfio/devices/noiommu-vfio0", "")
	h := tr.host()
	assert.Empty(t, h.DeviceNode(pci.Address{Device: 4}))
	assert.False(t, h.NoIOMMUGroup(0))
	tr.file("/sys/kernel/iommu_groups/0/name", "vfio-noiommu\n")
	assert.True(t, h.NoIOMMUGroup(0))
	assert.False(t, h.NoIOMMUGroup(1))
	tr.process("42", "a", "/dev/vfio/noiommu-0")
	assert.Equal(t, []string{"42 (a)"}, h.Holders(0))
}

func TestNoIOMMUMode(t *testing.T) {
	tr := newTree(t)
	on, present := tr.host().NoIOMMUMode()
	assert.False(t, on || present)
	tr.file("/sys/module/vfio/parameters/enable_unsafe_noiommu_mode", "N\n")
	on, present = tr.host().NoIOMMUMode()
	assert.False(t, on)
	assert.True(t, present)
	tr.file("/sys/module/vfio/parameters/enable_unsafe_noiommu_mode", "Y\n")
	on, _ = tr.host().NoIOMMUMode()
	assert.True(t, on)
}

func TestDeviceOf(t *testing.T) {
	tr := newTree(t)
	h := tr.host()
	_, err := h.DeviceOf(511, 0)
	require.ErrorIs(t, err, fs.ErrNotExist)
	tr.link("/sys/dev/char/511:0", "/sys/devices/pci0000:00/0000:00:04.0/vfio-dev/vfio0")
	a, err := h.DeviceOf(511, 0)
	require.NoError(t, err)
	assert.Equal(t, pci.Address{Device: 4}, a)
	for i, other := range []string{
		"/sys/devices/virtual/mem/null", "/sys/devices/virtual/vfio/12", "/sys/devices/platform/thing/vfio-dev/vfio1", "/sys/dev/char/null", "/",
	} {
		minor := uint32(i + 1)
		tr.link(fmt.Sprintf("/sys/dev/char/511:%d", minor), other)
		_, err = h.DeviceOf(511, minor)
		require.ErrorIs(t, err, unix.ENODEV, other)
	}
}

// guarded is a tree whose nodes have owners, and are not all open to this process.
type guarded struct {
	OS
	nodes map[string]Permissions
	open  string // the only one
}

func (g guarded) Permissions(name string) (Permissions, error) {
	n, ok := g.nodes[name]
	if !ok {
		return n, &fs.PathError{Op: "stat", Path: name, Err: unix.ENOENT}
	}
	return n, nil
}

func (g guarded) Access(name string) error {
	if name == g.open {
		return nil
	}
	return unix.EACCES
}

func TestWhyDenied(t *testing.T) {
	tr := newTree(t)
	tr.file("/etc/group", "root:x:0:\nkvm:x:104:ada\n")
	tr.file("/etc/passwd", "root:x:0:0:root:/root:/bin/sh\nada:x:1000:1000::/home/ada:/bin/sh\n")
	h := NewOn(guarded{newLocal(tr.root), map[string]Permissions{
		"/dev/vfio/3":             {Mode: 0o600},
		"/dev/vfio/4":             {Mode: 0o660, GID: 104},
		"/dev/vfio/5":             {Mode: 0o600, UID: 1000, GID: 1001},
		"/dev/vfio/6":             {Mode: 0o666},
		"/dev/vfio/devices/vfio0": {Mode: 0o600},
		"/dev/iommu":              {Mode: 0o660},
		"/dev/vfio/vfio":          {Mode: 0o600},
	}, "/dev/vfio/6"})
	for node, want := range map[string]Denial{
		"/dev/vfio/3": {"the node is for root alone (root:root 0600)", "sudo chown $USER /dev/vfio/3", `SUBSYSTEM=="vfio", KERNEL=="[0-9]*", GROUP="vfio", MODE="0660"`},
		"/dev/vfio/4": {"the node is for root and the group kvm, which this process is not in (0660)", "sudo usermod -aG kvm $USER, and log in again", ""},
		"/dev/vfio/5": {"the node is for ada alone (ada:1001 0600)", "sudo chown $USER /dev/vfio/5", `SUBSYSTEM=="vfio", KERNEL=="[0-9]*", GROUP="vfio", MODE="0660"`},
		"/dev/vfio/6": {
			"its permissions allow it, and yet the kernel refuses, as it does in a container that was not given the device",
			"run outside of the container, or start it with --device /dev/vfio/6", "",
		},
		"/dev/vfio/devices/vfio0": {"the node is for root alone (root:root 0600)", "sudo chown $USER /dev/vfio/devices/vfio0", `SUBSYSTEM=="vfio-dev", KERNEL=="vfio[0-9]*", GROUP="vfio", MODE="0660"`},
		"/dev/iommu":              {"the node is for root alone (root:root 0660)", "sudo chown $USER /dev/iommu", `SUBSYSTEM=="misc", KERNEL=="iommu", GROUP="vfio", MODE="0660"`},
		"/dev/vfio/vfio":          {"the node is for root alone (root:root 0600)", "sudo chown $USER /dev/vfio/vfio", `KERNEL=="vfio", SUBSYSTEM=="misc", MODE="0666"`},
		"/dev/vfio/7": {
			"the node belongs to root alone unless a udev rule or an administrator changed that",
			"sudo chown $USER /dev/vfio/7", `SUBSYSTEM=="vfio", KERNEL=="[0-9]*", GROUP="vfio", MODE="0660"`,
		},
	} {
		assert.Equal(t, want, h.WhyDenied(node), node)
	}
	assert.Equal(t, `run as root, or: sudo chown $USER /dev/iommu, or a udev rule: SUBSYSTEM=="misc", KERNEL=="iommu", GROUP="vfio", MODE="0660"`, h.WhyDenied("/dev/iommu").Remedy())
	assert.Equal(t, "sudo usermod -aG kvm $USER, and log in again", h.WhyDenied("/dev/vfio/4").Remedy())
}

func TestAccess(t *testing.T) {
	h := New("/")
	require.NoError(t, h.Access("/dev/null"))
	require.ErrorIs(t, h.Access("/dev/nonexistent"), fs.ErrNotExist)
}

func TestDeviceNodes(t *testing.T) {
	tr := newTree(t)
	assert.Empty(t, tr.host().DeviceNodes())
	for _, node := range []string{"/dev/vfio/vfio", "/dev/vfio/3", "/dev/vfio/noiommu-1", "/dev/vfio/devices/vfio0"} {
		tr.file(node, "")
	}
	assert.Equal(t, []string{"/dev/vfio/3", "/dev/vfio/noiommu-1", "/dev/vfio/devices/vfio0"}, tr.host().DeviceNodes())
}
