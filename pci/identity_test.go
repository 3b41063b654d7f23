package pci_test

import (
	"testing"

	"github.com/irqbridge/irqbridge/pci"
)

func TestSubsystem(t *testing.T) {
	checkRegisters(t, withCapability(pci.CapSubsystem), 0x40, `
		04 00001af4 subsystemVendorId=0x1af4
		04 11000000 subsystemId=0x1100
	`)
}

func TestSerialNumber(t *testing.T) {
	checkRegisters(t, withExpress(pci.ExpressEndpoint, pci.ExtCapSerialNumber, 1), 0x100, `
		04 ff123456 serialNumber=00-00-00-00-ff-12-34-56
		08 001b21ff serialNumber=00-1b-21-ff-00-00-00-00
	`)
}
