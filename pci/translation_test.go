package pci_test

import (
	"testing"

	"github.com/irqbridge/irqbridge/pci"
)

func TestATS(t *testing.T) {
	checkRegisters(t, withExpress(pci.ExpressEndpoint, pci.ExtCapATS, 1), 0x100, `
		04 0000001f queueDepth=31
		04 00000020 pageAligned=true
		04 00000040 globalInvalidate=true
		04 00000080 relaxedOrdering=true
		04 00010000 smallestUnit=8192
		04 001f0000 smallestUnit=8.796093022208e+12
		04 80000000 enabled=true
		04 00000001
		04 00000002 queueDepth=3
	`)
}

func TestPageRequest(t *testing.T) {
	checkRegisters(t, withExpress(pci.ExpressEndpoint, pci.ExtCapPageRequest, 1), 0x100, `
		04 00000001 enabled=true
		04 00000002 reset=true
		04 00010000 responseFailure=true
		04 00020000 unexpectedGroup=true
		04 01000000 stopped=true
		04 80000000 pasidRequired=true
		08 00000200 maxRequests=0x200
		0c ffffffff allowedRequests=0xffffffff
	`)
}

func TestPASID(t *testing.T) {
	checkRegisters(t, withExpress(pci.ExpressEndpoint, pci.ExtCapPASID, 1), 0x100, `
		04 00000002 executeSupported=true
		04 00000004 privilegedSupported=true
		04 00001400 bits=20
		04 00010000 enabled=true
		04 00020000 execute=true
		04 00040000 privileged=true
	`)
}
