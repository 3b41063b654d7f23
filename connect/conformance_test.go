package connect_test

import (
	"testing"

	"github.com/irqbridge/irqbridge/vfio/vfiotest"
)

// TestConformance is the table of what CONNECT_FULLY_SPECIFIED promises, one subtest for each numbered row:
// TestConformance/E/072 is row 72, in group E. Rows that need a device run on the fake and, in the virtual machine, on
// the real kernel.
func TestConformance(t *testing.T) {
	t.Run("A", constantRows)
	t.Run("B", mappingRows)
	t.Run("C", descriptorRows)
	t.Run("D", acceptedRows)
	t.Run("E", refusedRows)
	t.Run("F", sharingRows)
	t.Run("G", dispatchRows)
	t.Run("H", lockRows)
	t.Run("I", disconnectRows)
	t.Run("J", passiveRows)
	t.Run("M", assignRows)
	t.Run("N", affinityRows)
}

// onMachine runs a row on every machine that is at hand.
func onMachine(t *testing.T, row string, f func(t *testing.T, m *vfiotest.Machine)) {
	t.Run(row, func(t *testing.T) { vfiotest.Run(t, f) })
}
