package pci_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/irqbridge/irqbridge/pci"
)

func bridge(size int) space {
	s := endpoint(size)
	s.put8(0x0e, 0x01)
	return s
}

func TestBridge(t *testing.T) {
	s := bridge(64)
	s.put32(0x18, 0x20_05_03_01)
	s.put32(0x1c, 0x2000_d1_c1) // I/O c000 to dfff, 32 bits; status: received master abort
	s.put32(0x30, 0x0001_0001)
	s.put32(0x20, 0xfeb0_fea0)
	s.put32(0x24, 0x0011_0001) // prefetchable, 64 bits
	s.put32(0x28, 0x38)
	s.put32(0x2c, 0x39)
	s.put32(0x38, 0xfec00001)
	s.put16(0x3e, 0x0043)
	f := decode(t, s)
	assert.Empty(t, f.Warnings)
	assert.Equal(t, &pci.Bridge{
		PrimaryBus: 1, SecondaryBus: 3, SubordinateBus: 5, SecondaryLatency: 0x20,
		IO:              pci.Window{Base: 0x1c000, Limit: 0x1dfff, Bits: 32, Open: true},
		Memory:          pci.Window{Base: 0xfea00000, Limit: 0xfebfffff, Bits: 32, Open: true},
		Prefetchable:    pci.Window{Base: 0x38_00000000, Limit: 0x39_001fffff, Bits: 64, Open: true},
		SecondaryStatus: 0x2000,
		Control:         pci.BridgeControl{ParityResponse: true, SystemError: true, Reset: true},
	}, f.Bridge)
	assert.Equal(t, &pci.ROM{Address: 0xfec00000, Enabled: true}, f.ROM)
	assert.Zero(t, f.MinGrant, "a bridge has its control register there")

	s = bridge(64)
	s.put16(0x1c, 0x00f0)
	s.put32(0x20, 0x0000_fff0)
	s.put32(0x24, 0x0000_fff0)
	f = decode(t, s)
	assert.Equal(t, pci.Window{Base: 0xf000, Limit: 0xfff, Bits: 16}, f.Bridge.IO)
	assert.Equal(t, pci.Window{Base: 0xfff00000, Limit: 0xfffff, Bits: 32}, f.Bridge.Memory)
	assert.Equal(t, pci.Window{Base: 0xfff00000, Limit: 0xfffff, Bits: 32}, f.Bridge.Prefetchable)
	assert.Nil(t, f.ROM)

	for bit, get := range map[uint16]func(c pci.BridgeControl) bool{
		0x0001: func(c pci.BridgeControl) bool { return c.ParityResponse },
		0x0002: func(c pci.BridgeControl) bool { return c.SystemError },
		0x0004: func(c pci.BridgeControl) bool { return c.ISA },
		0x0008: func(c pci.BridgeControl) bool { return c.VGA },
		0x0010: func(c pci.BridgeControl) bool { return c.VGA16 },
		0x0020: func(c pci.BridgeControl) bool { return c.MasterAbort },
		0x0040: func(c pci.BridgeControl) bool { return c.Reset },
		0x0080: func(c pci.BridgeControl) bool { return c.FastBackToBack },
		0x0100: func(c pci.BridgeControl) bool { return c.DiscardPrimary },
		0x0200: func(c pci.BridgeControl) bool { return c.DiscardSecondary },
		0x0400: func(c pci.BridgeControl) bool { return c.DiscardStatus },
		0x0800: func(c pci.BridgeControl) bool { return c.DiscardError },
	} {
		s := bridge(64)
		s.put16(0x3e, bit)
		assert.True(t, get(decode(t, s).Bridge.Control), "%#x", bit)
		s.put16(0x3e, ^bit)
		assert.False(t, get(decode(t, s).Bridge.Control), "%#x", bit)
	}
}

func TestBridgeWindowsThatDisagree(t *testing.T) {
	s := bridge(64)
	s.put16(0x1c, 0xd0c1)
	requireWarning(t, decode(t, s), 0x1c, "I/O window has type 1 in its base and 0 in its limit; want both 0 (16 bits) or both 1 (32 bits)")
	s = bridge(64)
	s.put32(0x24, 0x0002_0002)
	requireWarning(t, decode(t, s), 0x24, "prefetchable memory window has type 2 in its base and 2 in its limit")
}

func TestCardBus(t *testing.T) {
	s := endpoint(128)
	s.put8(0x0e, 0x02)
	s.put16(0x16, 0x2200)
	s.put32(0x18, 0xb0_07_06_00)
	s.put32(0x1c, 0x40000000)
	s.put32(0x20, 0x43fff000)
	s.put32(0x24, 0x44000000)
	s.put32(0x28, 0x40000000)
	s.put32(0x2c, 0x00011000)
	s.put32(0x30, 0x000110fc)
	s.put32(0x34, 0x00011401)
	s.put32(0x38, 0x000114fc)
	s.put16(0x3e, 0x0740)
	assert.Equal(t, &pci.CardBus{
		PrimaryBus: 0, CardBus: 6, SubordinateBus: 7, SecondaryLatency: 0xb0,
		Memory: [2]pci.Window{
			{Base: 0x40000000, Limit: 0x43ffffff, Bits: 32, Open: true}, {Base: 0x44000000, Limit: 0x40000fff, Bits: 32},
		},
		IO: [2]pci.Window{
			{Base: 0x1000, Limit: 0x10ff, Bits: 16, Open: true}, {Base: 0x11400, Limit: 0x114ff, Bits: 32, Open: true},
		},
		SecondaryStatus: 0x2200,
		Control:         pci.BridgeControl{Reset: true},
		Prefetch:        [2]bool{true, true},
		PostWrites:      true,
	}, decode(t, s).CardBus)
	s.put16(0x3e, 0x0080)
	c := decode(t, s).CardBus
	assert.True(t, c.CardInterrupt)
	assert.Zero(t, c.Control)
}

func TestHeaderOfAnEndpoint(t *testing.T) {
	s := endpoint(64)
	s.put32(0x0c, 0x80_00_40_10)
	s.put32(0x30, 0xfeb00000)
	s.put8(0x3e, 8)
	s.put8(0x3f, 9)
	f := decode(t, s)
	assert.Equal(t, uint8(0x10), f.CacheLineSize)
	assert.Equal(t, uint8(0x40), f.LatencyTimer)
	assert.Equal(t, uint8(0x80), f.BIST)
	assert.Equal(t, uint8(8), f.MinGrant)
	assert.Equal(t, uint8(9), f.MaxLatency)
	assert.Equal(t, &pci.ROM{Address: 0xfeb00000}, f.ROM)
	assert.Nil(t, f.Bridge)
	assert.Nil(t, f.CardBus)
}

// sysfsResource is the file of QEMU's e1000e: three memory BARs, one of I/O, and a ROM.
const sysfsResource = `0x00000000fe800000 0x00000000fe81ffff 0x0000000000040200
0x00000000fe820000 0x00000000fe83ffff 0x0000000000040200
0x000000000000d140 0x000000000000d15f 0x0000000000040101
0x00000000fe840000 0x00000000fe843fff 0x0000000000040200
0x0000000000000000 0x0000000000000000 0x0000000000000000
0x0000000000000000 0x0000000000000000 0x0000000000000000
0x00000000fe000000 0x00000000fe03ffff 0x0000000000046200
0x0000000000000000 0x0000000000000000 0x0000000000000000
`

func TestParseSizes(t *testing.T) {
	sizes, err := pci.ParseSizes([]byte(sysfsResource))
	require.NoError(t, err)
	assert.Equal(t, pci.Sizes{BARs: [6]uint64{0x20000, 0x20000, 0x20, 0x4000}, ROM: 0x40000}, sizes)

	for name, text := range map[string]string{
		"nothing":      "",
		"six lines":    "0 0 0\n0 0 0\n0 0 0\n0 0 0\n0 0 0\n0 0 0\n",
		"no numbers":   "a\nb\nc\nd\ne\nf\ng\n",
		"end at start": "0x2 0x1 0x200\n" + sysfsResource,
	} {
		_, err := pci.ParseSizes([]byte(text))
		require.ErrorContains(t, err, "sysfs resource file", name)
	}
}

func TestSetSizes(t *testing.T) {
	s := endpoint(64)
	s.put32(0x10, 0xfea00004)
	s.put32(0x24, 0x0000c001)
	s.put32(0x30, 0xfeb00000)
	f := decode(t, s)
	sizes := pci.Sizes{BARs: [6]uint64{0: 0x4000, 3: 0x1000, 5: 0x20}, ROM: 0x800}
	f.SetSizes(sizes)
	want := []pci.BAR{
		{Index: 0, Type: pci.BARMemory64, Address: 0xfea00000, Size: 0x4000},
		{Index: 3, Type: pci.BARMemory32, Size: 0x1000},
		{Index: 5, Type: pci.BARIO, Address: 0xc000, Size: 0x20},
	}
	assert.Equal(t, want, f.BARs)
	assert.Equal(t, uint64(0x800), f.ROM.Size)
	f.SetSizes(sizes)
	assert.Equal(t, want, f.BARs, "twice is as good as once")

	f = decode(t, bridge(64))
	f.SetSizes(pci.Sizes{BARs: [6]uint64{1: 0x1000, 2: 0x1000}})
	assert.Nil(t, f.ROM)
	assert.Equal(t, []pci.BAR{{Index: 1, Type: pci.BARMemory32, Size: 0x1000}}, f.BARs, "a bridge has two")

	s = endpoint(64)
	s.put8(0x0e, 0x05)
	f = decode(t, s)
	f.SetSizes(sizes)
	assert.Empty(t, f.BARs)
	assert.Nil(t, f.ROM)

	f = decode(t, endpoint(64))
	f.SetSizes(sizes)
	assert.Equal(t, &pci.ROM{Size: 0x800}, f.ROM)
}
