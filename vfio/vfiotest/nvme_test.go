package vfiotest_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/irqbridge/irqbridge/vfio/vfiotest"
)

// TestRegistersOfNVMe: those that can be looked at without queues, by the widths that the specification allows.
func TestRegistersOfNVMe(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		dev := m.Open(t, m.NVMe)
		bar, err := dev.BAR(0)
		require.NoError(t, err)
		read32 := func(off uint64) uint32 {
			t.Helper()
			v, err := bar.Read32(off)
			require.NoError(t, err)
			return v
		}
		read64 := func(off uint64) uint64 {
			t.Helper()
			v, err := bar.Read64(off)
			require.NoError(t, err)
			return v
		}
		assert.EqualValues(t, 0x004018200f0107ff, read64(0x00), "CAP")
		assert.EqualValues(t, 0x0f0107ff, read32(0x00))
		assert.EqualValues(t, 0x00401820, read32(0x04))
		assert.EqualValues(t, 0x00010400, read32(0x08), "VS")
		assert.Zero(t, read32(0x1c), "CSTS")

		require.NoError(t, bar.Write32(0x0c, 0x5))
		require.NoError(t, bar.Write32(0x10, 0x1))
		assert.EqualValues(t, 0x4, read32(0x0c), "INTMS")
		assert.EqualValues(t, 0x4, read32(0x10), "INTMC")

		require.NoError(t, bar.Write32(0x24, 0x001f001f))
		require.NoError(t, bar.Write64(0x28, 0x123456000))
		require.NoError(t, bar.Write32(0x30, 0x7000))
		require.NoError(t, bar.Write32(0x34, 0x2))
		assert.EqualValues(t, 0x001f001f, read32(0x24), "AQA")
		assert.EqualValues(t, 0x123456000, read64(0x28), "ASQ")
		assert.EqualValues(t, 0x200007000, read64(0x30), "ACQ")

		require.NoError(t, bar.Write32(0x14, 0x00460000))
		assert.EqualValues(t, 0x00460000, read32(0x14), "CC")

		require.NoError(t, dev.Reset())
		assert.Zero(t, read32(0x0c), "INTMS")
		assert.Zero(t, read32(0x14), "CC")
		assert.EqualValues(t, 0x001f001f, read32(0x24), "a reset leaves AQA")
		assert.EqualValues(t, 0x123456000, read64(0x28), "ASQ")
	})
}
