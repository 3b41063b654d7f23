package connect_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/irqbridge/irqbridge/connect"
	"github.com/irqbridge/irqbridge/pci"
	"github.com/irqbridge/irqbridge/vfio/vfiotest"
)

// The driver of the example serves the line and the message of an edu, and leaves nothing behind.
func TestExampleDriver(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		device := m.Open(t, m.EDU)
		for _, kind := range []pci.Kind{pci.KindINTx, pci.KindMSI, pci.KindINTx} {
			files := takeFootprint(t)
			var d factorials
			require.NoError(t, d.start(device, connect.Policy{Kind: kind}))
			assert.Equal(t, kind, d.intObj.Kind())
			product := uint32(1)
			for n := range uint32(12) {
				product *= n + 1
				result, err := d.compute(n + 1)
				require.NoError(t, err)
				assert.Equal(t, product, result, "%d!", n+1)
			}
			require.NoError(t, d.stop())
			assert.EqualValues(t, 12, d.intObj.Stats().Claimed)
			files.requireNothingLeft(t)
		}
	})
}
