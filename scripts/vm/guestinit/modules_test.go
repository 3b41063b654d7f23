package main

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestModuleName(t *testing.T) {
	assert.Equal(t, "vfio_pci", moduleName("15-vfio-pci.ko"))
	assert.Equal(t, "vfio_iommu_type1", moduleName("11-vfio_iommu_type1.ko"))
}

func TestModuleParameters(t *testing.T) {
	const cmdline = "console=ttyS0 vfio-pci.nointxmask=1 vfio_pci.enable_sriov=1 vfio_pci_core.x=2 quiet\n"
	assert.Equal(t, "nointxmask=1 enable_sriov=1", moduleParameters(cmdline, "vfio_pci"))
	assert.Empty(t, moduleParameters(cmdline, "e1000"))
}
