package pci_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/irqbridge/irqbridge/pci"
)

func TestACS(t *testing.T) {
	checkRegisters(t, withExpress(pci.ExpressDownstreamPort, pci.ExtCapACS, 1), 0x100, `
		04 00000001 supported.sourceValidation=true
		04 00000002 supported.translationBlocking=true
		04 00000004 supported.requestRedirect=true
		04 00000008 supported.completionRedirect=true
		04 00000010 supported.upstreamForwarding=true
		04 00000040 supported.directTranslated=true
		04 00000080 enhancedCapable=true
		04 00010000 enabled.sourceValidation=true
		04 00020000 enabled.translationBlocking=true
		04 00040000 enabled.requestRedirect=true
		04 00080000 enabled.completionRedirect=true
		04 00100000 enabled.upstreamForwarding=true
		04 00200000 enabled.egressControl=true
		04 00400000 enabled.directTranslated=true
		04 00800000 ioRequestBlocking=true
		04 03000000 downstreamMemoryAccess=3
		04 0c000000 upstreamMemoryAccess=3
		04 10000000 unclaimedRequestRedirect=true
		04 00002120 supported.egressControl=true, egressBits=33, length=16, egressVector[0]=0x0, egressVector[1]=0x0
		04 00002120
		08 80000001 egressVector[0]=0x80000001
		0c 00000001 egressVector[1]=0x1
	`)
	s := withExpress(pci.ExpressDownstreamPort, pci.ExtCapACS, 1)
	s.put16(0x104, 0x0020)
	f := decode(t, s)
	a := pci.Find[pci.ACS](f)
	assert.Equal(t, 256, a.EgressBits)
	assert.Len(t, a.EgressVector, 8)
	assert.Equal(t, 40, f.ExtendedCapabilities[0].Length)

	f = decode(t, s[:0x110])
	assert.NotNil(t, pci.Find[pci.ACS](f))
	assert.Nil(t, pci.Find[pci.ACS](f).EgressVector)
	requireWarning(t, f, 0x100, "of 40 bytes ends after the 272 bytes")
}
