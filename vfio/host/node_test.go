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
