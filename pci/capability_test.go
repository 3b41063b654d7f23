package pci_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/irqbridge/irqbridge/pci"
)

func TestCapabilityWalk(t *testing.T) {
	s := endpoint(256)
	s.put8(0x34, 0xa0)
	s.capability(0xa0, pci.CapPowerManagement, 0x40)
	s.capability(0x40, pci.CapNull, 0xfc)
	s.capability(0xfc, 0x42, 0)
	f := decode(t, s)
	assert.Empty(t, f.Warnings)
	assert.False(t, f.Truncated)
	assert.Equal(t, []string{"a0 Power Management 8", "40 Null 96", "fc capability 0x42 4"}, listed(f))
	assert.Equal(t, "Power Management", f.Capabilities[0].ID.String())
	assert.Equal(t, "Null", f.Capabilities[1].ID.String())
	assert.Equal(t, "capability 0x42", f.Capabilities[2].ID.String())
}

// listed gives the capabilities of both lists with their lengths.
func listed(f *pci.Function) []string {
	var list []string
	for _, c := range f.Capabilities {
		list = append(list, fmt.Sprintf("%02x %s %d", c.Offset, c.ID, c.Length))
	}
	for _, c := range f.ExtendedCapabilities {
		list = append(list, fmt.Sprintf("%03x v%d %s %d", c.Offset, c.Version, c.ID, c.Length))
	}
	return list
}

func TestCapabilityListNeedsItsStatusBit(t *testing.T) {
	s := endpoint(256)
	s.only(0x40, pci.CapMSI)
	s.put16(0x06, 0)
	f := decode(t, s)
	assert.Empty(t, f.Capabilities)
	assert.Nil(t, f.MSI)
	assert.Empty(t, f.Warnings)
}

func TestCapabilityWalkVisitsAtMost48(t *testing.T) {
	s := endpoint(256)
	s.put8(0x34, 0x40)
	for offset := 0x40; offset < 0x100; offset += 4 {
		s.capability(offset, pci.CapDebugPort, uint8(offset+4)) // the last one points to 0
	}
	f := decode(t, s)
	assert.Len(t, f.Capabilities, 48)
	assert.Empty(t, f.Warnings)
}

func TestCapabilityWalkWarns(t *testing.T) {
	for name, tc := range map[string]struct {
		prepare func(s space)
		count   int // capabilities found all the same
		offset  int
		text    string
	}{
		"first pointer into the header": {
			func(s space) { s.put8(0x34, 0x3c) }, 0, 0x34, "0x3c leads into the header",
		},
		"next pointer into the header": {
			func(s space) { s.put8(0x41, 0x10) }, 1, 0x41, "0x10 leads into the header",
		},
		"misaligned pointer is masked": {
			func(s space) { s.put8(0x34, 0x43) }, 1, 0x34, "0x43 is not a multiple of 4: taken as 0x40",
		},
		"misaligned end": {
			func(s space) { s.put8(0x41, 0x02) }, 1, 0x41, "taken as 0x00",
		},
		"loop to itself": {
			func(s space) { s.put8(0x41, 0x40) }, 1, 0x41, "a loop",
		},
		"loop over two": {
			func(s space) { s.put8(0x41, 0x50); s.capability(0x50, pci.CapVPD, 0x40) }, 2, 0x51, "a loop",
		},
		"id 0xff": {
			func(s space) { s.put8(0x41, 0x50); s.put8(0x50, 0xff); s.put8(0x51, 0xff) }, 1, 0x50, "does not answer",
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := endpoint(256)
			s.only(0x40, pci.CapPowerManagement)
			tc.prepare(s)
			f := decode(t, s)
			assert.Len(t, f.Capabilities, tc.count)
			assert.False(t, f.Truncated)
			requireWarning(t, f, tc.offset, tc.text)
		})
	}
}

func TestCapabilityWalkOfTruncatedSpace(t *testing.T) {
	t.Run("the first pointer leads out", func(t *testing.T) {
		s := endpoint(256)
		s.only(0x40, pci.CapMSI)
		f := decode(t, s[:64])
		assert.True(t, f.Truncated)
		assert.Equal(t, 64, f.Size)
		requireWarning(t, f, 0x34, "the capability at 0x40 lies after the 64 bytes that were read")

		_, err := pci.RawResources(f, pci.KindMSI, 0)
		require.ErrorContains(t, err, "as root", "the missing capability is put down to the missing bytes")
	})
	t.Run("half of a capability header", func(t *testing.T) {
		s := endpoint(256)
		s.only(0x40, pci.CapMSI)
		f := decode(t, s[:65])
		assert.True(t, f.Truncated)
		requireWarning(t, f, 0x34, "lies after the 65 bytes")
	})
	t.Run("the capability ends outside", func(t *testing.T) {
		s := endpoint(256)
		s.only(0x40, pci.CapMSI)
		for _, size := range []int{66, 67, 68, 73} {
			f := decode(t, s[:size])
			assert.True(t, f.Truncated, size)
			assert.Len(t, f.Capabilities, 1, size)
			assert.Nil(t, f.MSI, size)
			requireWarning(t, f, 0x40, "ends after the")
		}
		f := decode(t, s[:74])
		assert.False(t, f.Truncated)
		assert.NotNil(t, f.MSI, "10 bytes are all that this MSI capability has")
	})
	t.Run("no list, nothing missing", func(t *testing.T) {
		assert.False(t, decode(t, endpoint(64)).Truncated)
	})
}

func TestCapabilityPastTheEndOfItsSpace(t *testing.T) {
	for _, size := range []int{256, 4096} {
		for _, tc := range []struct {
			offset int
			id     pci.CapabilityID
		}{{0xfc, pci.CapMSI}, {0xf8, pci.CapMSIX}, {0xfc, pci.CapMSIX}} {
			s := endpoint(size)
			s.only(tc.offset, tc.id)
			f := decode(t, s)
			assert.Nil(t, f.MSI)
			assert.Nil(t, f.MSIX)
			assert.False(t, f.Truncated, "all bytes of the list are here")
			requireWarning(t, f, tc.offset, "runs past the end of its space")
		}
	}
	s := endpoint(256)
	s.put8(0x0e, 0x01)
	s.only(0xfc, pci.CapSubsystem)
	requireWarning(t, decode(t, s), 0xfc, "runs past the end")
}

func TestCapabilityTwice(t *testing.T) {
	s := endpoint(256)
	s.put8(0x34, 0x40)
	s.capability(0x40, pci.CapMSI, 0x60)
	s.capability(0x60, pci.CapMSI, 0)
	s.put16(0x62, 0x0001)
	f := decode(t, s)
	assert.Len(t, f.Capabilities, 2)
	assert.Equal(t, 0x40, f.MSI.Offset)
	assert.False(t, f.MSI.Enabled)
	requireWarning(t, f, 0x60, "a second MSI capability")

	s = endpoint(256)
	s.put8(0x34, 0x40)
	s.capability(0x40, pci.CapMSIX, 0x60)
	s.capability(0x60, pci.CapMSIX, 0)
	f = decode(t, s)
	assert.Equal(t, 0x40, f.MSIX.Offset)
	requireWarning(t, f, 0x60, "a second MSI-X capability")
}

// express gives the space of a PCI Express endpoint without extended capabilities.
func express(size int) space {
	s := endpoint(size)
	s.only(0x40, pci.CapPCIExpress)
	s.put16(0x42, 0x0002)
	return s
}

func (s space) extended(offset int, id uint16, version uint8, next int) {
	s.put32(offset, uint32(id)|uint32(version)<<16|uint32(next)<<20)
}

func TestExtendedCapabilityWalk(t *testing.T) {
	s := express(4096)
	s.extended(0x100, 0x0001, 2, 0xffc)
	s.extended(0xffc, 0x0002, 1, 0x200)
	s.extended(0x200, 0x7fff, 15, 0)
	f := decode(t, s)
	assert.Empty(t, f.Warnings)
	assert.Equal(t, []string{
		"40 PCI Express 52",
		"100 v2 Advanced Error Reporting 44", "ffc v1 Virtual Channel 4", "200 v15 extended capability 0x7fff 3580",
	}, listed(f))
	assert.Equal(t, "Advanced Error Reporting", f.ExtendedCapabilities[0].ID.String())
	assert.Equal(t, "Virtual Channel", f.ExtendedCapabilities[1].ID.String())
	assert.Equal(t, "extended capability 0x7fff", f.ExtendedCapabilities[2].ID.String())
}

func TestExtendedCapabilitiesOfPCIX(t *testing.T) {
	s := endpoint(4096)
	s.only(0x40, pci.CapPCIX)
	s.extended(0x100, 0x0003, 1, 0)
	assert.Len(t, decode(t, s).ExtendedCapabilities, 1)
}

func TestExtendedCapabilitiesAbsent(t *testing.T) {
	t.Run("conventional", func(t *testing.T) {
		// Behind a bridge to conventional PCI the upper bytes may repeat the lower ones.
		s := endpoint(4096)
		copy(s[256:], s[:256])
		f := decode(t, s)
		assert.Empty(t, f.ExtendedCapabilities)
		assert.Empty(t, f.Warnings)
	})
	for name, header := range map[string]uint32{"empty": 0, "unreachable": 0xffffffff} {
		t.Run(name, func(t *testing.T) {
			s := express(4096)
			s.put32(0x100, header)
			f := decode(t, s)
			assert.Empty(t, f.ExtendedCapabilities)
			assert.Empty(t, f.Warnings)
		})
	}
	for _, size := range []int{256, 257, 259} {
		f := decode(t, express(size))
		assert.Empty(t, f.ExtendedCapabilities)
		assert.False(t, f.Truncated)
	}
}

func TestExtendedCapabilityWalkEndsAtAZeroHeader(t *testing.T) {
	s := express(4096)
	s.extended(0x100, 0x0001, 1, 0x200)
	f := decode(t, s)
	assert.Len(t, f.ExtendedCapabilities, 1)
	assert.Empty(t, f.Warnings)
}

func TestExtendedCapabilityWalkVisitsAtMost960(t *testing.T) {
	s := express(4096)
	for offset := 0x100; offset < 0x1000; offset += 4 {
		s.extended(offset, 0x0012, 1, (offset+4)&0xfff)
	}
	f := decode(t, s)
	assert.Len(t, f.ExtendedCapabilities, 960)
	assert.Empty(t, f.Warnings)
}

func TestExtendedCapabilityWalkWarns(t *testing.T) {
	for name, tc := range map[string]struct {
		next      int
		count     int
		offset    int
		text      string
		truncated bool
	}{
		"below 0x100":     {0x040, 1, 0x100, "0x040 leads below 0x100", false},
		"loop":            {0x100, 1, 0x100, "a loop", false},
		"misaligned":      {0x142, 2, 0x100, "taken as 0x140", false},
		"no answer":       {0x180, 1, 0x180, "0xffffffff", false},
		"after the bytes": {0x200, 1, 0x100, "0x200 lies after the 512 bytes", true},
		"misaligned end":  {0x002, 1, 0x100, "taken as 0x000", false},
	} {
		t.Run(name, func(t *testing.T) {
			s := express(512)
			s.extended(0x100, 0x0001, 1, tc.next)
			s.extended(0x140, 0x0002, 1, 0)
			s.put32(0x180, 0xffffffff)
			f := decode(t, s)
			assert.Len(t, f.ExtendedCapabilities, tc.count)
			assert.Equal(t, tc.truncated, f.Truncated)
			requireWarning(t, f, tc.offset, tc.text)
		})
	}
}

func TestCapabilityNames(t *testing.T) {
	for id := range pci.CapFlatteningPortal + 1 {
		assert.NotEmpty(t, id.String(), "id %#x", uint8(id))
		assert.NotContains(t, id.String(), "capability 0x")
	}
	assert.Equal(t, "MSI", pci.CapMSI.String())
	assert.Equal(t, "MSI-X", pci.CapMSIX.String())
	assert.Equal(t, "PCI Express", pci.CapPCIExpress.String())
	assert.Equal(t, "Single Root I/O Virtualization", pci.ExtendedCapabilityID(0x10).String())
	assert.Equal(t, "Data Object Exchange", pci.ExtendedCapabilityID(0x2e).String())
	for id := range pci.ExtendedCapabilityID(0x35) {
		assert.NotEmpty(t, id.String(), "id %#x", uint16(id))
	}
}
