package pci_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/irqbridge/irqbridge/pci"
)

func TestSRIOV(t *testing.T) {
	checkRegisters(t, withExpress(pci.ExpressEndpoint, pci.ExtCapSRIOV, 1), 0x100, `
		04 00000001 migrationCapable=true, migrationState.bar=0, migrationState.offset=0
		04 00000002 ariPreserved=true
		04 00000004 tenBitTagRequester=true
		04 ffe00000 interruptMessage=2047
		08 00000001 enabled=true
		08 00000002 migration=true
		08 00000004 migrationInterrupt=true
		08 00000008 memorySpace=true
		08 00000010 ariHierarchy=true
		08 00000020 tenBitTag=true
		08 00010000 migrationStatus=true
		0c 00000008 initialVfs=8
		0c 00080000 totalVfs=8
		10 00000004 vfs=4
		10 00ff0000 dependencyLink=255
		14 00000080 firstVfOffset=128
		14 00020000 vfStride=2
		18 10ed0000 vfDeviceId=0x10ed
		1c 00000553 supportedPageSizes=0x553
		20 00000001 pageSize=0x1
		24 fea00000 bars[0].index=0, bars[0].type=mem32, bars[0].prefetchable=false, bars[0].address=0xfea00000
		38 fea00008 bars[0].index=5, bars[0].type=mem32, bars[0].prefetchable=true, bars[0].address=0xfea00000
		04 00000001
		3c 00001003 migrationState.bar=3, migrationState.offset=4096
	`)

	s := withExpress(pci.ExpressEndpoint, pci.ExtCapSRIOV, 1)
	s.put16(0x10e, 4)
	s.put16(0x110, 5)
	s.put32(0x134, 0x0000000c)
	s.put32(0x138, 0x00000038)
	f := decode(t, s)
	requireWarning(t, f, 0x110, "5 virtual functions set and 4 in total")
	assert.Equal(t, []pci.BAR{
		{Index: 4, Type: pci.BARMemory64, Prefetchable: true, Address: 0x38_00000000},
	}, pci.Find[pci.SRIOV](f).BARs)

	s.put16(0x110, 4)
	s.put32(0x138, 0x0000000c)
	s.put32(0x134, 0)
	requireWarning(t, decode(t, s), 0x138, "VF BAR 5 reads 0x0000000c: 64 bits wide")
}

func TestARI(t *testing.T) {
	checkRegisters(t, withExpress(pci.ExpressEndpoint, pci.ExtCapARI, 1), 0x100, `
		04 00000001 mfvcGroupsCapable=true
		04 00000002 acsGroupsCapable=true
		04 0000ff00 nextFunction=255
		04 00010000 mfvcGroups=true
		04 00020000 acsGroups=true
		04 00700000 functionGroup=7
	`)
}
