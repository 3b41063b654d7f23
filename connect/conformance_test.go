package connect_test

import (
	"testing"

	"github.com/irqbridge/irqbridge/vfio/vfiotest"
)

// TestConformance is the table of what CONNECT_FULLY_SPECIFIED promises, one subtest for each numbered row:
// TestConformance/E/072 is row 72, in group E. testdata/conformance.txt says in a line what each of them is about, and where
// it runs; scripts/conformance holds what ran to that list.
func TestConformance(t *testing.T) {
	t.Run("B", mappingRows)
	t.Run("C", descriptorRows)
	t.Run("D", acceptedRows)
	t.Run("E", refusedRows)
	t.Run("F", sharingRows)
	t.Run("G", dispatchRows)
	t.Run("H", lockRows)
	t.Run("I", disconnectRows)
	t.Run("J", passiveRows)
	t.Run("K", dpcRows)
	t.Run("L", activeRows)
	t.Run("M", assignRows)
	t.Run("N", affinityRows)
	t.Run("O", func(t *testing.T) {
		stormRows(t)
		limitRows(t)
	})
}

// onFake runs a row on both fakes: it needs a fault, or processors or a device that the real machine has not.
func onFake(t *testing.T, row string, f func(t *testing.T, fake vfiotest.Option)) {
	t.Run(row, func(t *testing.T) {
		t.Run("fake", func(t *testing.T) {
			for _, v := range []vfiotest.Version{vfiotest.V6_1, vfiotest.Newest} {
				t.Run(v.String(), func(t *testing.T) { f(t, vfiotest.Personality(v)) })
			}
		})
	})
}

// onMachine runs a row on every machine that is at hand.
func onMachine(t *testing.T, row string, f func(t *testing.T, m *vfiotest.Machine)) {
	t.Run(row, func(t *testing.T) { vfiotest.Run(t, f) })
}
