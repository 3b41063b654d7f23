package vfiotest_test

import (
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/irqbridge/irqbridge/vfio/vfiotest"
)

// kernels is what the configurations of the virtual machine's kernels have of VFIO beside groups and containers. Nothing
// else that this suite finds differs between newest and own.
var kernels = map[string]struct{ iommufd, devices, noIOMMU bool }{
	"stable": {},
	"newest": {},
	"own":    {iommufd: true, devices: true, noIOMMU: true},
}

// A test that passes for want of what its kernel has none of would show nothing.
func TestKernels(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		if !m.Real {
			t.Skip("about the virtual machine")
		}
		want, known := kernels[os.Getenv("IRQBRIDGE_VM")]
		require.True(t, known)
		m.Bind(t, m.EDU)
		for name, expected := range map[string]bool{
			"/dev/vfio/vfio":          true,
			"/dev/vfio/1":             true, // edu's group
			"/dev/iommu":              want.iommufd,
			"/dev/vfio/devices/vfio0": want.devices,
			"/sys/module/vfio/parameters/enable_unsafe_noiommu_mode": want.noIOMMU,
		} {
			_, err := os.Stat(name)
			if expected {
				assert.NoError(t, err)
			} else {
				assert.ErrorIs(t, err, os.ErrNotExist, name)
			}
		}
	})
}
