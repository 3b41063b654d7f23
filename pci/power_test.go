package pci_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/irqbridge/irqbridge/pci"
)

func TestPowerManagement(t *testing.T) {
	checkRegisters(t, withCapability(pci.CapPowerManagement), 0x40, `
		00 00030000 version=3
		00 00080000 pmeClock=true
		00 00100000 immediateReadiness=true
		00 00200000 deviceSpecificInitialization=true
		00 00400000 auxCurrent=55
		00 01c00000 auxCurrent=375
		00 02000000 d1=true
		00 04000000 d2=true
		00 08000000 pmeFrom.d0=true
		00 10000000 pmeFrom.d1=true
		00 20000000 pmeFrom.d2=true
		00 40000000 pmeFrom.d3hot=true
		00 80000000 pmeFrom.d3cold=true
		04 00000001 state=D1
		04 00000002 state=D2
		04 00000003 state=D3hot
		04 00000008 noSoftReset=true
		04 00000100 pmeEnabled=true
		04 00001e00 dataSelect=15
		04 00006000 dataScale=3
		04 00008000 pmeStatus=true
		04 00400000 bridgeB3=true
		04 00800000 bridgeClockControl=true
		04 7f000000 data=127
	`)
	pm := pci.Find[pci.PowerManagement](decode(t, withCapability(pci.CapPowerManagement)))
	assert.Equal(t, &pci.PowerManagement{}, pm)
	assert.Equal(t, "D0", pm.State.String())
}
