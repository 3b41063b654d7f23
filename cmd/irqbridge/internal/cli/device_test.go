package cli

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/irqbridge/irqbridge/pci"
	"github.com/irqbridge/irqbridge/vfio/host"
)

func TestKubernetesAttributes(t *testing.T) {
	for want, d := range map[string]host.Device{
		`{"resource.kubernetes.io/pciBusID":"0000:05:00.0","resource.kubernetes.io/pcieRoot":"pci0000:00","resource.kubernetes.io/numaNode":0}`: {
			Address: pci.Address{Bus: 5}, HostBridge: "pci0000:00",
		},
		// A VMD's domain has no place in pciBusID, and a device without a node must not be said to be on one.
		`{"resource.kubernetes.io/pcieRoot":"pci0000:00"}`: {
			Address: pci.Address{Domain: 0x10000, Bus: 0xe1}, HostBridge: "pci0000:00", NUMANode: -1,
		},
		`{"resource.kubernetes.io/pciBusID":"ffff:00:1f.7"}`: {
			Address: pci.Address{Domain: 0xffff, Device: 0x1f, Function: 7}, NUMANode: -1,
		},
	} {
		got, err := json.Marshal(newAttributesJSON(d))
		require.NoError(t, err)
		assert.Equal(t, want, string(got))
	}
}
