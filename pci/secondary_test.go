package pci_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/irqbridge/irqbridge/pci"
)

func TestSecondaryExpress(t *testing.T) {
	s := withExpress(pci.ExpressRootPort, pci.ExtCapSecondaryExpress, 1)
	s.put32(0x4c, 2<<4) // two lanes
	checkRegisters(t, s, 0x100, `
		04 00000001 performEqualization=true
		04 00000002 equalizationInterrupt=true
		04 00001e00 lowerSkpGeneration=0xf
		08 00000003 laneErrors=0x3
		0c 00007f7f lanes[0].downstreamPreset=15, lanes[0].downstreamHint=7, lanes[0].upstreamPreset=15, lanes[0].upstreamHint=7
		0c 01000000 lanes[1].upstreamPreset=1
	`)
	assert.Equal(t, 16, decode(t, s).ExtendedCapabilities[0].Length)
	f := decode(t, s[:0x10f])
	assert.Empty(t, pci.Find[pci.SecondaryExpress](f).Lanes)
	requireWarning(t, f, 0x100, "of 16 bytes ends after")

	s.put32(0x4c, 33<<4)
	assert.Empty(t, pci.Find[pci.SecondaryExpress](decode(t, s)).Lanes, "no link is that wide")
	s = withExpress(pci.ExpressIntegratedEndpoint, pci.ExtCapSecondaryExpress, 1)
	assert.Empty(t, pci.Find[pci.SecondaryExpress](decode(t, s)).Lanes, "there is no link")
	s = endpoint(4096)
	s.only(0x40, pci.CapPCIX)
	s.extended(0x100, uint16(pci.ExtCapSecondaryExpress), 1, 0)
	assert.Empty(t, pci.Find[pci.SecondaryExpress](decode(t, s)).Lanes, "it is not PCI Express")
}

func TestDataObjectExchange(t *testing.T) {
	checkRegisters(t, withExpress(pci.ExpressEndpoint, pci.ExtCapDataObjectExchange, 1), 0x100, `
		04 00000001 interruptSupported=true
		04 00000ffe interruptMessage=2047
		08 00000002 interrupt=true
		0c 00000001 busy=true
		0c 00000002 interruptStatus=true
		0c 00000004 error=true
		0c 80000000 ready=true
	`)
}

func TestTPH(t *testing.T) {
	checkRegisters(t, withExpress(pci.ExpressEndpoint, pci.ExtCapTPH, 1), 0x100, `
		04 00000001 noSteering=true
		04 00000002 interruptVector=true
		04 00000004 deviceSpecific=true
		04 00000100 extendedTags=true
		04 00010200 tableLocation=capability, tableSize=2, length=16, tags[0]=0x0, tags[1]=0x0
		04 07ff0400 tableLocation=MSI-X, tableSize=2048
		04 00000600 tableLocation=reserved, tableSize=1
		08 00000002 mode=2
		08 00000100 requester=TPH
		08 00000200 requester=reserved
		08 00000300 requester=extended TPH
		04 00010200
		0c 00080001 tags[0]=0x1, tags[1]=0x8
	`)
	s := withExpress(pci.ExpressEndpoint, pci.ExtCapTPH, 1)
	s.put32(0x104, 0x07ff0200)
	f := decode(t, s)
	requireWarning(t, f, 0x100, "of 4108 bytes runs past the end of its space")
	assert.Empty(t, pci.Find[pci.TPH](f).Tags)
}
