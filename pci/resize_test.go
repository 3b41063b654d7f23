package pci_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/irqbridge/irqbridge/pci"
)

func TestResizableBAR(t *testing.T) {
	for _, id := range []pci.ExtendedCapabilityID{pci.ExtCapResizableBAR, pci.ExtCapVFResizableBAR} {
		checkRegisters(t, withExpress(pci.ExpressEndpoint, id, 1), 0x100, `
			08 00000040
			04 00000010 bars[0].sizes[0]=0x100000
			04 80000000 bars[0].sizes[0]=0x800000000000
			08 80010000 bars[0].sizes[0]=0x1000000000000, bars[0].sizes[1]=0x8000000000000000
			08 00000005 bars[0].index=5
			08 00000800 bars[0].size=0x10000000
			08 00002c00 bars[0].size=0x0
			0c 00000030 bars[1].sizes[0]=0x100000, bars[1].sizes[1]=0x200000
			10 00000102 bars[1].index=2, bars[1].size=0x200000
		`)
	}
}

func TestResizableBARCounts(t *testing.T) {
	s := withExpress(pci.ExpressEndpoint, pci.ExtCapResizableBAR, 1)
	requireWarning(t, decode(t, s), 0x108, "Resizable BAR capability has 0 BARs; want 1 to 6")
	s.put32(0x108, 7<<5)
	f := decode(t, s)
	requireWarning(t, f, 0x108, "has 7 BARs")
	assert.Empty(t, pci.Find[pci.ResizableBAR](f).BARs)

	s.put32(0x108, 6<<5)
	f = decode(t, s[:0x133])
	assert.Nil(t, pci.Find[pci.ResizableBAR](f))
	requireWarning(t, f, 0x100, "of 52 bytes ends after the 307 bytes")
	requireWarning(t, decode(t, s[:0x10b]), 0x100, "of 12 bytes ends after")
}
