package host

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestModule(t *testing.T) {
	tr := newTree(t)
	assert.Equal(t, ModuleNotLoaded, tr.host().Module("vfio_pci"), "whether the kernel has it is not known")

	tr.file("/proc/sys/kernel/osrelease", "6.1.0\n")
	tr.file("/lib/modules/6.1.0/modules.builtin", "kernel/drivers/vfio/vfio.ko\n")
	tr.file("/lib/modules/6.1.0/modules.dep", "kernel/drivers/vfio/pci/vfio-pci.ko.xz: kernel/drivers/vfio/pci/vfio-pci-core.ko.xz\nkernel/drivers/vfio/pci/vfio-pci-core.ko.xz:\n")
	tr.file("/sys/module/vfio_iommu_type1/initstate", "live\n")
	tr.dir("/sys/module/iommufd/parameters")
	for name, want := range map[string]ModuleState{
		"vfio": ModuleBuiltIn, "vfio_pci": ModuleNotLoaded, "vfio_pci_core": ModuleNotLoaded, "vfio_iommu_type1": ModuleLoaded,
		"iommufd": ModuleBuiltIn, "vfio_virqfd": ModuleAbsent,
	} {
		assert.Equal(t, want.String(), tr.host().Module(name).String(), name)
	}

	assert.False(t, tr.host().HasDriver("vfio-pci"))
	tr.driver("vfio-pci")
	assert.True(t, tr.host().HasDriver("vfio-pci"))
}
