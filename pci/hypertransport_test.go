package pci_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/irqbridge/irqbridge/pci"
)

func TestHyperTransportMSIMapping(t *testing.T) {
	checkRegisters(t, withCapability(pci.CapHyperTransport), 0x40, `
		00 a8000000
		00 00010000 msiMapping.enabled=true
		00 00020000 msiMapping.fixed=true, msiMapping.address=0xfee00000, length=4
		04 fef00000 msiMapping.address=0xfef00000
		04 001fffff msiMapping.address=0x100000
		08 00000001 msiMapping.address=0x100000000
	`)
	s := withCapability(pci.CapHyperTransport)
	s.put16(0x42, 0xa800)
	f := decode(t, s[:0x4b])
	assert.Nil(t, pci.Find[pci.HyperTransport](f))
	requireWarning(t, f, 0x40, "of 12 bytes ends after")
	requireWarning(t, decode(t, s[:0x43]), 0x40, "of 4 bytes ends after")
	s.put16(0x42, 0xa802)
	assert.Equal(t, pci.Hex(0xfee00000), pci.Find[pci.HyperTransport](decode(t, s[:0x44])).MSIMapping.Address)
}

func TestHyperTransportTypes(t *testing.T) {
	names := map[string]bool{}
	for command := range 256 {
		s := withCapability(pci.CapHyperTransport)
		s.put8(0x43, uint8(command))
		f := decode(t, s)
		h := pci.Find[pci.HyperTransport](f)
		assert.Equal(t, command&0xf8 == 0xa8, h.MSIMapping != nil)
		if h.MSIMapping == nil {
			assert.Equal(t, 0xc0, f.Capabilities[0].Length, "up to the end: its own length is not known")
		}
		text, err := h.Type.MarshalText()
		require.NoError(t, err)
		names[string(text)] = true
	}
	assert.Len(t, names, 2+24, "two types of 3 bits, and 24 of 5")
	assert.True(t, names["MSI mapping"])
	assert.True(t, names["slave or primary"])
	assert.True(t, names["type 0xf8"])
}
