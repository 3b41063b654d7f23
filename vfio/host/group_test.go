package host

import (
	"io/fs"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func addresses(devices []Device) []string {
	var list []string
	for _, d := range devices {
		list = append(list, d.Address.String())
	}
	return list
}

// machine makes the devices of the project's VM: two behind a PCIe-to-PCI bridge share a group with it.
func (tr *tree) machine() {
	tr.device("0000:00:04.0", "1234:11e8", "00ff00", "", 2)
	tr.device("0000:00:05.0", "8086:10d3", "020000", "e1000e", 3)
	tr.device("0000:00:09.0", "1b36:000e", "060400", "", 10)
	tr.device("0000:01:01.0", "1234:11e8", "00ff00", "", 10)
	tr.device("0000:01:05.0", "8086:100e", "020000", "e1000", 10)
	tr.driver("vfio-pci")
}

func TestGroups(t *testing.T) {
	tr := newTree(t)
	tr.machine()
	groups, err := tr.host().Groups()
	require.NoError(t, err)
	require.Len(t, groups, 3)
	assert.Equal(t, 2, groups[0].ID)
	assert.Equal(t, 3, groups[1].ID)
	assert.Equal(t, 10, groups[2].ID, "numbers are sorted as numbers")
	assert.Equal(t, []string{"0000:00:09.0", "0000:01:01.0", "0000:01:05.0"}, addresses(groups[2].Members))
	assert.True(t, tr.host().HasIOMMU())
}

func TestBlockers(t *testing.T) {
	for _, c := range []struct {
		name, class, driver string
		blocks              bool
	}{
		{"unbound", "020000", "", false},
		{"vfio-pci", "020000", "vfio-pci", false},
		{"a variant driver of VFIO", "020000", "mlx5-vfio-pci", false},
		{"pci-stub", "020000", "pci-stub", false},
		{"a host driver", "020000", "e1000", true},
		{"uio, which is not VFIO", "020000", "uio_pci_generic", true},
		{"a bridge", "060400", "", false},
		{"a bridge with its port driver", "060400", "pcieport", false},
		{"a bridge with a hotplug driver", "060401", "shpchp", true},
		{"an ISA bridge, which is a function like others", "060100", "lpc_ich", true},
		{"a port driver on an odd class", "088000", "pcieport", false},
	} {
		tr := newTree(t)
		tr.device("0000:01:01.0", "1234:11e8", "00ff00", "vfio-pci", 5)
		tr.device("0000:01:05.0", "8086:100e", c.class, c.driver, 5)
		g, err := tr.host().Group(5)
		require.NoError(t, err)
		if c.blocks {
			assert.Equal(t, []string{"0000:01:05.0"}, addresses(g.Blockers()), c.name)
		} else {
			assert.Empty(t, g.Blockers(), c.name)
		}
	}
}

func TestGroupWithOtherDevices(t *testing.T) {
	tr := newTree(t)
	tr.device("0000:01:01.0", "1234:11e8", "00ff00", "", 5)
	tr.dir("/sys/devices/platform/arm-smmu.0")
	tr.link("/sys/kernel/iommu_groups/5/devices/arm-smmu.0", "/sys/devices/platform/arm-smmu.0")
	g, err := tr.host().Group(5)
	require.NoError(t, err)
	assert.Equal(t, []string{"arm-smmu.0"}, g.Others)
	assert.Len(t, g.Members, 1)
}

func TestGroupThatIsNotThere(t *testing.T) {
	_, err := newTree(t).host().Group(99)
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.ErrorContains(t, err, "IOMMU group 99")
}

func TestHasIOMMU(t *testing.T) {
	assert.False(t, New(t.TempDir()).HasIOMMU(), "no such directory")
	tr := newTree(t)
	assert.False(t, tr.host().HasIOMMU(), "no groups")
	groups, err := tr.host().Groups()
	require.NoError(t, err)
	assert.Empty(t, groups)
	tr.device("0000:00:04.0", "1234:11e8", "00ff00", "vfio-pci", 0)
	tr.file("/sys/kernel/iommu_groups/0/name", "vfio-noiommu\n")
	assert.False(t, tr.host().HasIOMMU(), "VFIO's own group without an IOMMU")
	tr.device("0000:00:05.0", "8086:10d3", "020000", "", 1)
	assert.True(t, tr.host().HasIOMMU())
}

func TestNotViable(t *testing.T) {
	tr := newTree(t)
	tr.device("0000:01:01.0", "1234:11e8", "00ff00", "other", 6)
	tr.device("0000:01:05.0", "8086:100e", "020000", "e1000", 6)
	tr.device("0000:01:06.0", "8086:100e", "020000", "e1000", 6)
	tr.device("0000:01:07.0", "8086:100e", "020000", "", 6)
	g, err := tr.host().Group(6)
	require.NoError(t, err)
	cause, blockers := g.NotViable(addr(t, "0000:01:01.0"))
	assert.Equal(t, "group 6 is not viable: the IOMMU cannot keep the device apart from 0000:01:05.0, bound to e1000, 0000:01:06.0, bound to e1000", cause)
	assert.Len(t, blockers, 2)
	g.Members = g.Members[:1]
	cause, blockers = g.NotViable(addr(t, "0000:01:01.0"))
	assert.Empty(t, cause, "its own driver is another matter")
	assert.Empty(t, blockers)
}
