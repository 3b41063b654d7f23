package pci_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/irqbridge/irqbridge/pci"
)

// TestDecodeMSILayouts fills the longest layout's bytes and lets the control word say which of them are what.
func TestDecodeMSILayouts(t *testing.T) {
	fill := func(control uint16) space {
		s := endpoint(256)
		s.only(0x50, pci.CapMSI)
		s.put16(0x52, control)
		s.put32(0x54, 0xfee00008)
		s.put32(0x58, 0x11112222)
		s.put32(0x5c, 0x33334444)
		s.put32(0x60, 0x55556666)
		s.put32(0x64, 0x77778888)
		return s
	}
	for name, tc := range map[string]struct {
		control uint16
		want    pci.MSI
	}{
		"32 bits": {0x0000, pci.MSI{
			Messages: 1, EnabledMessages: 1, Address: 0xfee00008, Data: 0x2222,
		}},
		"32 bits, mask": {0x0100, pci.MSI{
			Messages: 1, EnabledMessages: 1, Maskable: true,
			Address: 0xfee00008, Data: 0x2222, Mask: 0x33334444, Pending: 0x55556666,
		}},
		"64 bits": {0x0080, pci.MSI{
			Messages: 1, EnabledMessages: 1, Address64: true, Address: 0x11112222_fee00008, Data: 0x4444,
		}},
		"64 bits, mask, 8 of 32 enabled": {0x01bb, pci.MSI{
			Enabled: true, Messages: 32, EnabledMessages: 8, Address64: true, Maskable: true,
			Address: 0x11112222_fee00008, Data: 0x4444, Mask: 0x55556666, Pending: 0x77778888,
		}},
		"32 bits, extended data off": {0x0200, pci.MSI{
			Messages: 1, EnabledMessages: 1, ExtendedData: true, Address: 0xfee00008, Data: 0x2222,
		}},
		"32 bits, extended data on": {0x0600, pci.MSI{
			Messages: 1, EnabledMessages: 1, ExtendedData: true, ExtendedDataEnabled: true,
			Address: 0xfee00008, Data: 0x11112222,
		}},
		"64 bits, mask, extended data on": {0x0780, pci.MSI{
			Messages: 1, EnabledMessages: 1, Address64: true, Maskable: true, ExtendedData: true, ExtendedDataEnabled: true,
			Address: 0x11112222_fee00008, Data: 0x33334444, Mask: 0x55556666, Pending: 0x77778888,
		}},
	} {
		t.Run(name, func(t *testing.T) {
			tc.want.Offset, tc.want.Control = 0x50, tc.control
			f := decode(t, fill(tc.control))
			assert.Equal(t, &tc.want, f.MSI)
			assert.Empty(t, f.Warnings)
		})
	}
}

// TestDecodeMSILength places each layout so that it just fits, and 4 bytes later.
func TestDecodeMSILength(t *testing.T) {
	for _, tc := range []struct {
		control uint16
		length  int
	}{
		{0x0000, 10},
		{0x0100, 20},
		{0x0080, 14},
		{0x0180, 24},
		{0x0200, 12},
		{0x0280, 16},
		{0x0300, 20},
		{0x0380, 24},
	} {
		s := endpoint(256)
		fits := (256 - tc.length) &^ 3
		s.only(fits, pci.CapMSI)
		s.put16(fits+2, tc.control)
		assert.NotNil(t, decode(t, s).MSI, "control %#04x", tc.control)

		s = endpoint(256)
		s.only(fits+4, pci.CapMSI)
		s.put16(fits+6, tc.control)
		f := decode(t, s)
		assert.Nil(t, f.MSI, "control %#04x", tc.control)
		requireWarning(t, f, fits+4, "runs past the end")
	}
}

func TestDecodeMSIMessageCounts(t *testing.T) {
	for capable := range uint16(8) {
		for enabled := range uint16(8) {
			s := endpoint(256)
			s.only(0x40, pci.CapMSI)
			s.put16(0x42, capable<<1|enabled<<4)
			f := decode(t, s)
			count := func(encoded uint16) int {
				if encoded > 5 {
					return 0
				}
				return 1 << encoded
			}
			assert.Equal(t, count(capable), f.MSI.Messages)
			assert.Equal(t, count(enabled), f.MSI.EnabledMessages)
			switch {
			case capable > 5:
				requireWarning(t, f, 0x42, "Multiple Message Capable")
			case enabled > 5:
				requireWarning(t, f, 0x42, "Multiple Message Enable")
			case enabled > capable:
				requireWarning(t, f, 0x42, "enabled and is capable of")
			default:
				assert.Empty(t, f.Warnings)
			}
		}
	}
}

func TestDecodeMSIExtendedDataWithoutTheAbility(t *testing.T) {
	s := endpoint(256)
	s.only(0x40, pci.CapMSI)
	s.put16(0x42, 0x0400)
	s.put32(0x48, 0x11112222)
	f := decode(t, s)
	assert.Equal(t, uint32(0x2222), f.MSI.Data)
	requireWarning(t, f, 0x42, "not capable of it")
}

func TestDecodeMSIX(t *testing.T) {
	s := endpoint(256)
	s.put32(0x10, 0xfea00000)
	s.put32(0x1c, 0xfeb00004)
	s.put32(0x20, 0x00000001)
	s.only(0xa0, pci.CapMSIX)
	s.put16(0xa2, 0xc004)
	s.put32(0xa4, 0x00000003)
	s.put32(0xa8, 0x00002000)
	f := decode(t, s)
	assert.Equal(t, &pci.MSIX{
		Offset: 0xa0, Enabled: true, FunctionMask: true, Messages: 5,
		Table: pci.Location{BAR: 3, Offset: 0}, PBA: pci.Location{BAR: 0, Offset: 0x2000}, Control: 0xc004,
	}, f.MSIX)
	assert.Empty(t, f.Warnings)

	s.put16(0xa2, 0x07ff)
	s.put32(0xa4, 0xfffffff8)
	f = decode(t, s)
	assert.Equal(t, 2048, f.MSIX.Messages)
	assert.False(t, f.MSIX.Enabled)
	assert.False(t, f.MSIX.FunctionMask)
	assert.Equal(t, pci.Location{BAR: 0, Offset: 0xfffffff8}, f.MSIX.Table)
}

func TestDecodeMSIXLocationWarns(t *testing.T) {
	for name, tc := range map[string]struct {
		word uint32
		text string
	}{
		"reserved 6":               {0x1006, "table is in BAR 6: 6 and 7 are reserved"},
		"reserved 7":               {0x1007, "table is in BAR 7: 6 and 7 are reserved"},
		"I/O":                      {0x1002, "BAR 2, which is not memory"},
		"upper half of BAR 3":      {0x1004, "BAR 4, which is the upper half of BAR 3"},
		"not there, perhaps later": {0x1005, ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := endpoint(256)
			s.put32(0x10, 0xfea00000)
			s.put32(0x18, 0x0000c001)
			s.put32(0x1c, 0xfeb00004)
			s.only(0xa0, pci.CapMSIX)
			s.put32(0xa4, tc.word)
			f := decode(t, s)
			assert.Equal(t, pci.Location{BAR: int(tc.word & 7), Offset: 0x1000}, f.MSIX.Table)
			if tc.text == "" {
				assert.Empty(t, f.Warnings, "a BAR that reads zero may have no address yet")
				return
			}
			requireWarning(t, f, 0xa4, tc.text)
		})
	}
	t.Run("pending bit array", func(t *testing.T) {
		s := endpoint(256)
		s.only(0xa0, pci.CapMSIX)
		s.put32(0xa8, 0x7)
		requireWarning(t, decode(t, s), 0xa8, "pending bit array is in BAR 7")
	})
	t.Run("bridge", func(t *testing.T) {
		s := endpoint(256)
		s.put8(0x0e, 1)
		s.only(0xa0, pci.CapMSIX)
		s.put32(0xa4, 0x2)
		requireWarning(t, decode(t, s), 0xa4, "BAR 2 and header type 1 has 2")
	})
}

func TestDecodeBothKindsEnabled(t *testing.T) {
	s := endpoint(256)
	s.put8(0x34, 0x40)
	s.capability(0x40, pci.CapMSI, 0x60)
	s.put16(0x42, 0x0001)
	s.capability(0x60, pci.CapMSIX, 0)
	s.put16(0x62, 0x8000)
	requireWarning(t, decode(t, s), 0x60, "both enabled")
}
