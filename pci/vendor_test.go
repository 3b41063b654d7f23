package pci_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/irqbridge/irqbridge/pci"
)

func TestVendorSpecific(t *testing.T) {
	s := withCapability(pci.CapVendorSpecific)
	s.put32(0x40, 0xab_06_00_09)
	s.put16(0x44, 0x1234)
	f := decode(t, s)
	v := pci.Find[pci.VendorSpecific](f)
	assert.Equal(t, "ab3412", v.Data.String())
	assert.Nil(t, v.Virtio)
	assert.Equal(t, 6, f.Capabilities[0].Length)
	clear(s)
	assert.Equal(t, "ab3412", v.Data.String(), "a copy")

	s = withCapability(pci.CapVendorSpecific)
	f = decode(t, s)
	requireWarning(t, f, 0x42, "vendor-specific capability of 0 bytes, which is less than its header of 3")
	assert.Empty(t, pci.Find[pci.VendorSpecific](f).Data)
	s.put8(0x42, 0xc1)
	f = decode(t, s)
	requireWarning(t, f, 0x40, "of 193 bytes runs past the end of its space at 0x100")
	assert.Nil(t, pci.Find[pci.VendorSpecific](f))
	requireWarning(t, decode(t, s[:0x42]), 0x40, "of 3 bytes ends after")
}

func TestVirtioRegions(t *testing.T) {
	virtio := func(length, kind uint8) space {
		s := withCapability(pci.CapVendorSpecific)
		s.put16(0x00, 0x1af4)
		s.put16(0x02, 0x1041)
		s.put8(0x42, length)
		s.put8(0x43, kind)
		s.put8(0x44, 4)
		s.put8(0x45, 1)
		s.put32(0x48, 0x3000)
		s.put32(0x4c, 0x1000)
		s.put32(0x50, 4)
		return s
	}
	for kind, name := range map[uint8]string{
		0: "type 0", 1: "common", 3: "isr", 4: "device", 5: "pci", 7: "type 7", 8: "shared memory", 9: "vendor", 10: "type 10",
	} {
		assert.Equal(t, &pci.VirtioRegion{Type: name, BAR: 4, ID: 1, Offset: 0x3000, Length: 0x1000},
			pci.Find[pci.VendorSpecific](decode(t, virtio(16, kind))).Virtio)
	}
	assert.Equal(t, uint32(4), pci.Find[pci.VendorSpecific](decode(t, virtio(20, 2))).Virtio.NotifyMultiplier)
	assert.Equal(t, uint32(0), pci.Find[pci.VendorSpecific](decode(t, virtio(16, 2))).Virtio.NotifyMultiplier)
	assert.Nil(t, pci.Find[pci.VendorSpecific](decode(t, virtio(15, 1))).Virtio)
	for _, id := range []uint16{0x0fff, 0x1080} {
		s := virtio(16, 1)
		s.put16(0x02, id)
		assert.Nil(t, pci.Find[pci.VendorSpecific](decode(t, s)).Virtio, "device %#x", id)
	}
}

func TestVSEC(t *testing.T) {
	checkRegisters(t, withExpress(pci.ExpressEndpoint, pci.ExtCapVendorSpecific, 1), 0x100, `
		04 00c00000
		04 00000012 vsecId=0x0012
		04 000f0000 revision=15
		08 04030201 data=01020304
		04 00200000 length=14, data=000000000000
	`)
	s := withExpress(pci.ExpressEndpoint, pci.ExtCapVendorSpecific, 1)
	f := decode(t, s)
	requireWarning(t, f, 0x104, "Vendor-Specific capability of 0 bytes, which is less than its header of 8")
	assert.NotNil(t, pci.Find[pci.VSEC](f))
	s.put32(0x104, 0xf01<<20)
	f = decode(t, s)
	requireWarning(t, f, 0x100, "of 3841 bytes runs past the end of its space at 0x1000")
	assert.Nil(t, pci.Find[pci.VSEC](f))
	requireWarning(t, decode(t, s[:0x107]), 0x100, "of 8 bytes ends after")
}

func TestDVSEC(t *testing.T) {
	checkRegisters(t, withExpress(pci.ExpressEndpoint, pci.ExtCapDVSEC, 1), 0x100, `
		04 00c00000
		04 00001e98 dvsecVendorId=0x1e98
		04 000f0000 revision=15
		08 00000008 dvsecId=0x0008
		08 02010000 data=0102
	`)
	s := withExpress(pci.ExpressEndpoint, pci.ExtCapDVSEC, 1)
	requireWarning(t, decode(t, s), 0x104, "which is less than its header of 10")
	s.put32(0x104, 0xf01<<20)
	f := decode(t, s)
	requireWarning(t, f, 0x100, "runs past the end")
	assert.Nil(t, pci.Find[pci.DVSEC](f))
	requireWarning(t, decode(t, s[:0x109]), 0x100, "of 10 bytes ends after")
}

func TestVPD(t *testing.T) {
	checkRegisters(t, withCapability(pci.CapVPD), 0x40, `
		00 7fff0000 address=32767
		00 80000000 complete=true
		04 00048000 data=0x48000
	`)
}
