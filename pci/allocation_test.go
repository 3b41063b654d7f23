package pci_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/irqbridge/irqbridge/pci"
)

func TestEnhancedAllocation(t *testing.T) {
	s := withCapability(pci.CapEnhancedAllocation)
	s.put8(0x42, 3)
	s.put32(0x44, 0x80ff0002) // BAR 0: memory, secondary unavailable, enabled
	s.put32(0x48, 0xfea00000)
	s.put32(0x4c, 0x00000ffc)
	s.put32(0x50, 0xc0040394) // VF BAR 0: VF prefetchable memory, writable, enabled, four words
	s.put32(0x54, 0x00000002)
	s.put32(0x58, 0x00fffffe)
	s.put32(0x5c, 0x00000038)
	s.put32(0x60, 0x00000001)
	s.put32(0x64, 0x00fffe83) // ROM: I/O that is not for use; three words
	s.put32(0x68, 0xfeb00000)
	s.put32(0x6c, 0x0000fffe)
	s.put32(0x70, 0x00000002)
	f := decode(t, s)
	assert.Empty(t, f.Warnings)
	assert.Equal(t, 0x34, f.Capabilities[0].Length)
	assert.Equal(t, &pci.EnhancedAllocation{Entries: []pci.EnhancedAllocationEntry{
		{Indicator: 0, Primary: 0, Secondary: 0xff, Enabled: true, Base: 0xfea00000, Last: 0xfea00fff},
		{
			Indicator: 9, Primary: 3, Secondary: 4, Writable: true, Enabled: true,
			Base: 0x38_00000000, Last: 0x39_00ffffff,
		},
		{Indicator: 8, Primary: 0xfe, Secondary: 0xff, Base: 0xfeb00000, Last: 0x2_feb0ffff},
	}}, pci.Find[pci.EnhancedAllocation](f))

	s = bridge(256)
	s.only(0x40, pci.CapEnhancedAllocation)
	s.put8(0x42, 1)
	s.put16(0x44, 0x0302)
	s.put32(0x48, 0x00000062)
	s.put32(0x4c, 0xfea00000)
	e := pci.Find[pci.EnhancedAllocation](decode(t, s))
	assert.Equal(t, 2, e.SecondaryBus)
	assert.Equal(t, 3, e.SubordinateBus)
	assert.Equal(t, "behind the bridge", e.Entries[0].Indicator.String())
	requireWarning(t, decode(t, s[:0x47]), 0x40, "of 8 bytes ends after")
}

func TestEnhancedAllocationCutShort(t *testing.T) {
	s := withCapability(pci.CapEnhancedAllocation)
	s.put8(0x42, 2)
	s.put32(0x44, 0x00000002)
	s.put32(0x50, 0x00000002)
	for size, entries := range map[int]int{0x47: 0, 0x4f: 0, 0x50: 1, 0x53: 1, 0x5b: 1, 0x5c: 2} {
		f := decode(t, s[:size])
		assert.Len(t, pci.Find[pci.EnhancedAllocation](f).Entries, entries, "%#x bytes", size)
		assert.Equal(t, entries < 2, f.Truncated, "%#x bytes", size)
	}
	requireWarning(t, decode(t, s[:0x43]), 0x40, "of 4 bytes ends after")
	s.put32(0x44, 0x00000001)
	s.put8(0x42, 1)
	f := decode(t, s)
	requireWarning(t, f, 0x44, "enhanced allocation entry of 8 bytes has no base and offset")
	assert.Len(t, pci.Find[pci.EnhancedAllocation](f).Entries, 1)

	s.put32(0x44, 0x00000002) // the upper half of the base would be the next entry
	s.put32(0x48, 0x00001002)
	assert.Equal(t, pci.Hex(0x1000), pci.Find[pci.EnhancedAllocation](decode(t, s)).Entries[0].Base)
}

func TestEnhancedAllocationNames(t *testing.T) {
	for i, want := range map[pci.EAIndicator]string{
		0: "BAR 0", 5: "BAR 5", 6: "behind the bridge", 7: "none", 8: "ROM", 9: "VF BAR 0", 14: "VF BAR 5", 15: "reserved",
	} {
		text, err := i.MarshalText()
		require.NoError(t, err)
		assert.Equal(t, want, string(text))
	}
	for p, want := range map[pci.EAProperties]string{
		0: "memory", 7: "bridge I/O", 8: "reserved 0x08", 0xfd: "memory, not for use", 0xfe: "I/O, not for use", 0xff: "unavailable",
	} {
		text, err := p.MarshalText()
		require.NoError(t, err)
		assert.Equal(t, want, string(text))
	}
}

func TestAdvancedFeatures(t *testing.T) {
	checkRegisters(t, withCapability(pci.CapAdvancedFeatures), 0x40, `
		00 01000000 transactionsPendingSupported=true
		00 02000000 functionLevelReset=true
		04 00000100 transactionsPending=true
	`)
}
