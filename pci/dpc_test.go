package pci_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/irqbridge/irqbridge/pci"
)

func TestDPC(t *testing.T) {
	const pio = `
		00000001 configUnsupported
		00000002 configAbort
		00000004 configTimeout
		00000100 ioUnsupported
		00000200 ioAbort
		00000400 ioTimeout
		00010000 memoryUnsupported
		00020000 memoryAbort
		00040000 memoryTimeout`
	s := withExpress(pci.ExpressRootPort, pci.ExtCapDPC, 1)
	checkRegisters(t, s, 0x100, `
		04 0000001f interruptMessage=31
		04 00000040 poisonedBlockingCapable=true
		04 00000080 softwareTriggerCapable=true
		04 00000f00 logSize=15
		04 00001000 linkActiveCapable=true
		04 00010000 trigger=fatal
		04 00020000 trigger=non-fatal or fatal
		04 00030000 trigger=reserved
		04 00040000 completionUr=true
		04 00080000 interrupt=true
		04 00100000 correctableMessage=true
		04 00200000 poisonedBlocking=true
		04 00400000 softwareTrigger=true
		04 00800000 linkActiveMessage=true
		08 00000001 triggered=true
		08 00000002 reason=ERR_NONFATAL received
		08 00000004 reason=ERR_FATAL received
		08 00000006 reason=root port PIO error
		08 00000026 reason=software trigger
		08 00000066 reason=reserved
		08 00000008 interruptStatus=true
		08 00000010 rootPortBusy=true
		08 00001f00 firstPioError=31
		08 01280000 source=0x0128
	`)
	d := pci.Find[pci.DPC](decode(t, s))
	assert.Nil(t, d.RootPort)
	assert.Equal(t, "disabled", d.Trigger.String())
	assert.Equal(t, "unmasked uncorrectable error", d.Reason)

	s.put16(0x104, 0x0720)
	checkRegisters(t, s, 0x100,
		rowsAt("0c", "rootPort.status", pio)+rowsAt("10", "rootPort.mask", pio)+rowsAt("14", "rootPort.severity", pio)+
			rowsAt("18", "rootPort.systemError", pio)+rowsAt("1c", "rootPort.exception", pio)+`
		20 00000001 rootPort.headerLog[0]=0x1
		2c 80000000 rootPort.headerLog[3]=0x80000000
		30 00000002 rootPort.impSpecLog=0x2
		34 00000003 rootPort.prefixLog[0]=0x3
		38 00000004 rootPort.prefixLog[1]=0x4
	`)
	assert.Equal(t, 0x3c, decode(t, s).ExtendedCapabilities[0].Length)

	s.put16(0x104, 0x0020)
	d = pci.Find[pci.DPC](decode(t, s))
	assert.NotNil(t, d.RootPort)
	assert.Nil(t, d.RootPort.HeaderLog)
	assert.Nil(t, d.RootPort.ImpSpecLog)

	f := decode(t, s[:0x11f])
	assert.NotNil(t, pci.Find[pci.DPC](f))
	assert.Nil(t, pci.Find[pci.DPC](f).RootPort)
	requireWarning(t, f, 0x100, "of 32 bytes ends after")
}
