package pci_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/irqbridge/irqbridge/pci"
)

// uncorrectableRows and correctableRows are bits and fields, the same in each register of the kind.
const (
	uncorrectableRows = `
		00000001 undefined
		00000010 dataLinkProtocol
		00000020 surpriseDown
		00001000 poisonedTlp
		00002000 flowControl
		00004000 completionTimeout
		00008000 completerAbort
		00010000 unexpectedCompletion
		00020000 receiverOverflow
		00040000 malformedTlp
		00080000 ecrc
		00100000 unsupportedRequest
		00200000 acsViolation
		00400000 internal
		00800000 multicastBlocked
		01000000 atomicEgressBlocked
		02000000 prefixBlocked
		04000000 poisonedEgress
		08000000 dmwrEgressBlocked
		10000000 ideCheckFailed
		20000000 misroutedIde
		40000000 pcrcCheckFailed`
	correctableRows = `
		00000001 receiver
		00000040 badTlp
		00000080 badDllp
		00000100 replayRollover
		00001000 replayTimeout
		00002000 advisoryNonFatal
		00004000 internal
		00008000 headerLogOverflow`
)

// rowsAt makes a register table of rows of bits and fields: each field is set in the named part.
func rowsAt(offset, part, rows string) string {
	var table strings.Builder
	for line := range strings.Lines(rows) {
		if columns := strings.Fields(line); len(columns) == 2 {
			table.WriteString(offset + " " + columns[0] + " " + part + "." + columns[1] + "=true\n")
		}
	}
	return table.String()
}

func TestAER(t *testing.T) {
	checkRegisters(t, withExpress(pci.ExpressRootPort, pci.ExtCapAER, 2), 0x100,
		rowsAt("04", "uncorrectable", uncorrectableRows)+
			rowsAt("08", "uncorrectableMask", uncorrectableRows)+
			rowsAt("0c", "uncorrectableSeverity", uncorrectableRows)+
			rowsAt("10", "correctable", correctableRows)+
			rowsAt("14", "correctableMask", correctableRows)+`
		18 0000001f firstError=31
		18 00000020 ecrcGenerationCapable=true
		18 00000040 ecrcGeneration=true
		18 00000080 ecrcCheckCapable=true
		18 00000100 ecrcCheck=true
		18 00000200 multipleHeadersCapable=true
		18 00000400 multipleHeaders=true
		18 00000800 prefixLogPresent=true, length=72, prefixLog[0]=0x0, prefixLog[1]=0x0, prefixLog[2]=0x0, prefixLog[3]=0x0
		18 00001000 timeoutHeaderCapable=true
		1c 04000001 headerLog[0]=0x4000001
		20 0000220f headerLog[1]=0x220f
		24 01070000 headerLog[2]=0x1070000
		28 89abcdef headerLog[3]=0x89abcdef
		2c 00000001 root.correctableInterrupt=true
		2c 00000002 root.nonFatalInterrupt=true
		2c 00000004 root.fatalInterrupt=true
		30 00000001 root.correctable=true
		30 00000002 root.multipleCorrectable=true
		30 00000004 root.uncorrectable=true
		30 00000008 root.multipleUncorrectable=true
		30 00000010 root.firstFatal=true
		30 00000020 root.nonFatal=true
		30 00000040 root.fatal=true
		30 f8000000 root.interruptMessage=31
		34 00000128 root.correctableSource=0x0128
		34 01280000 root.uncorrectableSource=0x0128
		18 00000800
		38 00000091 prefixLog[0]=0x91
		44 00000092 prefixLog[3]=0x92
	`)
}

func TestAERParts(t *testing.T) {
	for kind, root := range map[pci.ExpressType]bool{
		pci.ExpressRootPort: true, pci.ExpressEventCollector: true, pci.ExpressEndpoint: false, pci.ExpressDownstreamPort: false,
	} {
		f := decode(t, withExpress(kind, pci.ExtCapAER, 1))
		assert.Equal(t, root, pci.Find[pci.AER](f).Root != nil, "%s", kind)
		assert.Nil(t, pci.Find[pci.AER](f).PrefixLog)
	}
	// What is not there does not take away what is.
	s := withExpress(pci.ExpressRootPort, pci.ExtCapAER, 1)
	s.put32(0x118, 0x800)
	f := decode(t, s[:0x130])
	a := pci.Find[pci.AER](f)
	assert.NotNil(t, a)
	assert.Nil(t, a.Root)
	assert.Nil(t, a.PrefixLog)
	assert.Len(t, f.Warnings, 2)
	assert.True(t, f.Truncated)
}
