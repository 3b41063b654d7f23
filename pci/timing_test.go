package pci_test

import (
	"testing"

	"github.com/irqbridge/irqbridge/pci"
)

func TestLTR(t *testing.T) {
	checkRegisters(t, withExpress(pci.ExpressEndpoint, pci.ExtCapLTR, 1), 0x100, `
		04 000003ff maxSnoopNs=1023
		04 00001003 maxSnoopNs=3.145728e+06
		04 00001bff
		04 08050000 maxNoSnoopNs=5120
		04 14010000 maxNoSnoopNs=3.3554432e+07
	`)
}

func TestL1Substates(t *testing.T) {
	checkRegisters(t, withExpress(pci.ExpressEndpoint, pci.ExtCapL1Substates, 1), 0x100, `
		04 00000001 supported.pciPmL12=true
		04 00000002 supported.pciPmL11=true
		04 00000004 supported.aspmL12=true
		04 00000008 supported.aspmL11=true
		04 00000010 substatesSupported=true
		04 00000020 linkActivation=true
		04 0000ff00 commonModeRestoreUs=255
		04 00280000 portPowerOnUs=10
		04 00290000 portPowerOnUs=50
		04 00f80000 portPowerOnUs=62
		08 00000001 enabled.pciPmL12=true
		08 00000002 enabled.pciPmL11=true
		08 00000004 enabled.aspmL12=true
		08 00000008 enabled.aspmL11=true
		08 00000010 linkActivationInterrupt=true
		08 00000020 linkActivationControl=true
		08 00003200 restoreUs=50
		08 40370000 ltrThresholdNs=56320
		0c 0000002a powerOnUs=500
		0c 000000f8 powerOnUs=62
	`)
}

func TestPTM(t *testing.T) {
	checkRegisters(t, withExpress(pci.ExpressEndpoint, pci.ExtCapPTM, 1), 0x100, `
		04 00000001 requester=true
		04 00000002 responder=true
		04 00000004 root=true
		04 0000ff00 granularity=255
		08 00000001 enabled=true
		08 00000002 rootSelected=true
		08 00001000 effectiveGranularity=16
	`)
}
