package pci_test

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/irqbridge/irqbridge/pci"
)

// space is a configuration space that a test writes byte by byte.
type space []byte

// endpoint gives a space of that size with a plausible header of type 0 and no capabilities.
func endpoint(size int) space {
	s := make(space, size)
	s.put16(0x00, 0x1234)
	s.put16(0x02, 0x11e8)
	return s
}

func (s space) put8(offset int, v uint8)   { s[offset] = v }
func (s space) put16(offset int, v uint16) { binary.LittleEndian.PutUint16(s[offset:], v) }
func (s space) put32(offset int, v uint32) { binary.LittleEndian.PutUint32(s[offset:], v) }

// capability puts a capability header and says in the status register that there is a list.
func (s space) capability(offset int, id pci.CapabilityID, next uint8) {
	s.put8(0x06, s[0x06]|0x10)
	s.put8(offset, uint8(id))
	s.put8(offset+1, next)
}

// only makes the capability at the offset the only one.
func (s space) only(offset int, id pci.CapabilityID) {
	s.put8(0x34, uint8(offset))
	s.capability(offset, id, 0)
}

func decode(t *testing.T, s space) *pci.Function {
	t.Helper()
	f, err := pci.Decode(s)
	require.NoError(t, err)
	return f
}

// requireWarning checks that there is exactly one warning, at that offset, with that text in it.
func requireWarning(t *testing.T, f *pci.Function, offset int, text string) {
	t.Helper()
	require.Len(t, f.Warnings, 1)
	assert.Equal(t, offset, f.Warnings[0].Offset, f.Warnings[0].Text)
	assert.Contains(t, f.Warnings[0].Text, text)
}

func TestDecodeRefuses(t *testing.T) {
	for _, size := range []int{0, 1, 63} {
		_, err := pci.Decode(make([]byte, size))
		require.ErrorContains(t, err, "shorter than its header of 64", "%d bytes", size)
	}
	_, err := pci.Decode(nil)
	require.Error(t, err)

	for _, size := range []int{64, 256, 4096} {
		silent := make([]byte, size)
		for i := range silent {
			silent[i] = 0xff
		}
		_, err := pci.Decode(silent)
		require.ErrorIs(t, err, pci.ErrNoAnswer, "%d bytes", size)
	}
}

func TestDecodeHeader(t *testing.T) {
	s := endpoint(64)
	s.put16(0x04, 0x0407)
	s.put16(0x06, 0x0008)
	s.put32(0x08, 0x01080210)
	s.put8(0x0e, 0x80)
	s.put16(0x2c, 0x1af4)
	s.put16(0x2e, 0x1100)
	s.put8(0x3c, 11)
	s.put8(0x3d, 2)

	f := decode(t, s)
	assert.Equal(t, &pci.Function{
		VendorID: 0x1234, DeviceID: 0x11e8,
		Command:    pci.CommandIO | pci.CommandMemory | pci.CommandBusMaster | pci.CommandINTxDisable,
		Status:     0x0008,
		RevisionID: 0x10, Class: 0x010802,
		HeaderType: pci.HeaderTypeNormal, MultiFunction: true,
		SubsystemVendorID: 0x1af4, SubsystemID: 0x1100,
		INTx: &pci.INTx{Pin: 2, Line: 11},
		Size: 64,
	}, f)
	assert.Equal(t, "010802", f.Class.String())
	assert.Equal(t, uint8(0x01), f.Class.Base())
	assert.Equal(t, uint8(0x08), f.Class.Sub())
	assert.Equal(t, uint8(0x02), f.Class.ProgIF())
}

func TestDecodeVendorNobodyHas(t *testing.T) {
	for vendor, text := range map[uint16]string{0x0000: "belongs to nobody", 0xffff: "virtual function"} {
		s := endpoint(64)
		s.put16(0x00, vendor)
		requireWarning(t, decode(t, s), 0x00, text)
	}
}

func TestDecodeHeaderTypes(t *testing.T) {
	t.Run("bridge", func(t *testing.T) {
		s := endpoint(256)
		s.put8(0x0e, 0x01)
		s.put32(0x10, 0xfea00000)
		s.put32(0x18, 0x00020100) // bus numbers, where type 0 has BAR 2
		s.put8(0x3d, 1)
		s.only(0x40, pci.CapSubsystem)
		s.put16(0x44, 0x8086)
		s.put16(0x46, 0x7270)
		f := decode(t, s)
		assert.Empty(t, f.Warnings)
		assert.Equal(t, pci.HeaderTypeBridge, f.HeaderType)
		assert.Equal(t, []pci.BAR{{Index: 0, Type: pci.BARMemory32, Address: 0xfea00000}}, f.BARs)
		assert.Equal(t, uint16(0x8086), f.SubsystemVendorID)
		assert.Equal(t, uint16(0x7270), f.SubsystemID)
		assert.NotNil(t, f.INTx)
	})
	t.Run("bridge without subsystem", func(t *testing.T) {
		s := endpoint(256)
		s.put8(0x0e, 0x01)
		s.put32(0x2c, 0x12345678) // the upper half of the prefetchable limit
		f := decode(t, s)
		assert.Zero(t, f.SubsystemVendorID)
		assert.Zero(t, f.SubsystemID)
	})
	t.Run("cardbus", func(t *testing.T) {
		s := endpoint(256)
		s.put8(0x0e, 0x02)
		s.put32(0x10, 0xfea00000)
		s.put8(0x14, 0x80) // the list starts here, not at 0x34
		s.put8(0x34, 0x90)
		s.capability(0x80, pci.CapPowerManagement, 0)
		s.put16(0x40, 0x104c)
		s.put16(0x42, 0xac56)
		f := decode(t, s)
		assert.Empty(t, f.Warnings)
		assert.Len(t, f.BARs, 1)
		assert.Equal(t, []string{"80 Power Management 8"}, listed(f))
		assert.Equal(t, uint16(0x104c), f.SubsystemVendorID)
		assert.Equal(t, uint16(0xac56), f.SubsystemID)
	})
	t.Run("cardbus of 64 bytes", func(t *testing.T) {
		s := endpoint(64)
		s.put8(0x0e, 0x02)
		f := decode(t, s)
		assert.True(t, f.Truncated, "its subsystem ids are at 0x40")
		assert.Zero(t, f.SubsystemVendorID)
	})
	t.Run("reserved", func(t *testing.T) {
		s := endpoint(256)
		s.put8(0x0e, 0x83)
		s.put32(0x10, 0xfea00000)
		s.put8(0x3d, 1)
		s.only(0x40, pci.CapMSI)
		f := decode(t, s)
		requireWarning(t, f, 0x0e, "header type 0x03 is not known")
		assert.True(t, f.MultiFunction)
		assert.Empty(t, f.BARs)
		assert.Empty(t, f.Capabilities)
		assert.Nil(t, f.INTx)
	})
}

func TestDecodeBARs(t *testing.T) {
	s := endpoint(64)
	s.put32(0x10, 0xfea0000c) // 64 bits, prefetchable
	s.put32(0x14, 0x00000038)
	s.put32(0x18, 0x0000c001) // I/O
	s.put32(0x20, 0xfeb00000) // 32 bits
	f := decode(t, s)
	assert.Empty(t, f.Warnings)
	assert.Equal(t, []pci.BAR{
		{Index: 0, Type: pci.BARMemory64, Prefetchable: true, Address: 0x38_fea00000},
		{Index: 2, Type: pci.BARIO, Address: 0xc000},
		{Index: 4, Type: pci.BARMemory32, Address: 0xfeb00000},
	}, f.BARs)
	assert.Equal(t, "mem64", f.BARs[0].Type.String())
	assert.Equal(t, "io", f.BARs[1].Type.String())
	assert.Equal(t, "mem32", f.BARs[2].Type.String())
	assert.Equal(t, "bartype(0)", pci.BARType(0).String())
}

func TestDecodeBARsWarns(t *testing.T) {
	for name, tc := range map[string]struct {
		offset int
		value  uint32
		want   pci.BAR
		text   string
	}{
		"reserved I/O bit": {0x10, 0x0000c003, pci.BAR{Type: pci.BARIO, Address: 0xc000}, "bit 1"},
		"below 1 MiB":      {0x10, 0x000c0002, pci.BAR{Type: pci.BARMemory32, Address: 0xc0000}, "below 1 MiB"},
		"memory type 3":    {0x10, 0xfea00006, pci.BAR{Type: pci.BARMemory32, Address: 0xfea00000}, "reserved"},
		"64 bits in the last register": {
			0x24, 0xfea00004, pci.BAR{Index: 5, Type: pci.BARMemory32, Address: 0xfea00000}, "no register for the upper half",
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := endpoint(64)
			s.put32(tc.offset, tc.value)
			f := decode(t, s)
			assert.Equal(t, []pci.BAR{tc.want}, f.BARs)
			requireWarning(t, f, tc.offset, tc.text)
		})
	}
}

func TestDecodeINTx(t *testing.T) {
	for pin := range 256 {
		s := endpoint(64)
		s.put8(0x3c, 0xff)
		s.put8(0x3d, uint8(pin))
		f := decode(t, s)
		switch {
		case pin == 0:
			assert.Nil(t, f.INTx)
			assert.Empty(t, f.Warnings)
		case pin <= 4:
			assert.Equal(t, &pci.INTx{Pin: uint8(pin), Line: 0xff}, f.INTx)
			assert.Empty(t, f.Warnings)
		default:
			assert.Nil(t, f.INTx)
			requireWarning(t, f, 0x3d, "reserved")
		}
	}
}

// TestDecodeHostileBytes feeds bytes that look like a device more often than noise does: with a list of capabilities,
// a known header type and ids that get decoded.
func TestDecodeHostileBytes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.SampledFrom([]int{64, 65, 66, 67, 68, 128, 255, 256, 257, 259, 260, 512, 4095, 4096, 5000}).Draw(t, "size")
		s := make(space, size)
		seed := rapid.Uint64().Draw(t, "seed")
		random := rand.New(rand.NewPCG(seed, seed))
		ids := []pci.CapabilityID{
			pci.CapMSI, pci.CapMSIX, pci.CapPCIExpress, pci.CapSubsystem, pci.CapPowerManagement, pci.CapVendorSpecific,
			pci.CapEnhancedAllocation, pci.CapHyperTransport, pci.CapVPD, 0xff,
		}
		for i := range s {
			s[i] = uint8(random.Uint32())
			if i >= 64 && i%4 == 0 && random.IntN(2) == 0 {
				s[i] = uint8(ids[random.IntN(len(ids))])
			}
		}
		s[0x06] |= 0x10
		s[0x0e] &= 0x83
		if rapid.Bool().Draw(t, "pointers") {
			for i := 0x34; i < min(size, 256); i++ {
				if i == 0x34 || i%4 == 1 {
					s[i] = uint8(0x40 + 4*random.IntN(48))
				}
			}
		}
		for offset := 0x100; offset+4 <= size && rapid.Bool().Draw(t, "more"); offset += 4 * (1 + random.IntN(32)) {
			id := everyExtended[random.IntN(len(everyExtended))]
			s.extended(offset, uint16(id), uint8(random.IntN(4)), random.IntN(4096))
		}
		f, err := pci.Decode(s)
		require.NoError(t, err)
		checkInvariants(t, s, f)
	})
}

// checkInvariants holds what is true of every Function, whatever bytes it came from.
func checkInvariants(t require.TestingT, config []byte, f *pci.Function) {
	require.Equal(t, min(len(config), 4096), f.Size)
	require.LessOrEqual(t, len(f.BARs), 6)
	require.LessOrEqual(t, len(f.Capabilities), 48)
	require.LessOrEqual(t, len(f.ExtendedCapabilities), 960)
	seen := map[int]bool{}
	for _, c := range f.Capabilities {
		require.True(t, c.Offset >= 0x40 && c.Offset <= 0xfc && c.Offset%4 == 0, "offset %#x", c.Offset)
		require.Less(t, c.Offset+1, f.Size)
		require.False(t, seen[c.Offset])
		seen[c.Offset] = true
		require.True(t, c.Length >= 3 && c.Offset+c.Length <= 0x100, "%d bytes", c.Length)
		require.Equal(t, config[c.Offset:min(c.Offset+c.Length, len(config))], c.Raw)
	}
	for _, c := range f.ExtendedCapabilities {
		require.True(t, c.Offset >= 0x100 && c.Offset <= 0xffc && c.Offset%4 == 0, "offset %#x", c.Offset)
		require.LessOrEqual(t, c.Offset+4, f.Size)
		require.False(t, seen[c.Offset])
		seen[c.Offset] = true
		require.True(t, c.Length >= 4 && c.Offset+c.Length <= 0x1000, "%d bytes", c.Length)
		require.Equal(t, config[c.Offset:min(c.Offset+c.Length, f.Size)], c.Raw)
	}
	for _, w := range f.Warnings {
		require.True(t, w.Offset >= 0 && w.Offset < f.Size, "%s", w)
		require.NotEmpty(t, w.Text)
	}
	if f.INTx != nil {
		require.True(t, f.INTx.Pin >= 1 && f.INTx.Pin <= 4)
	}
	if m := f.MSI; m != nil {
		require.Contains(t, []int{0, 1, 2, 4, 8, 16, 32}, m.Messages)
		require.Contains(t, []int{0, 1, 2, 4, 8, 16, 32}, m.EnabledMessages)
		require.True(t, seen[m.Offset])
	}
	if m := f.MSIX; m != nil {
		require.True(t, m.Messages >= 1 && m.Messages <= 2048)
		require.Zero(t, m.Table.Offset%8)
		require.Zero(t, m.PBA.Offset%8)
		require.True(t, seen[m.Offset])
	}
	interrupts := f.Interrupts()
	for _, w := range interrupts.Warnings {
		require.True(t, w.Offset >= 0 && w.Offset < f.Size, "%s", w)
	}
	for _, r := range interrupts.Regions {
		require.True(t, r.FirstPage <= r.Offset && r.Offset+r.Length <= r.EndPage, "%+v", r)
		require.LessOrEqual(t, r.OtherBytes, r.EndPage-r.FirstPage)
	}
	for _, part := range []any{f.Capabilities, f.ExtendedCapabilities, f.BARs, f.ROM, f.Bridge, f.CardBus, interrupts} {
		b, err := json.Marshal(part)
		require.NoError(t, err)
		require.False(t, duplicateKeys(b), "%s", b)
	}
	for kind := pci.KindINTx; kind <= pci.KindMSIX; kind++ {
		raw, err := pci.RawResources(f, kind, 0)
		if err != nil {
			require.Empty(t, raw)
			continue
		}
		for _, d := range raw {
			_, err := d.Encode(pci.Bits64)
			require.NoError(t, err)
		}
	}
}

// duplicateKeys reports whether an object of a JSON text has a key twice.
func duplicateKeys(b []byte) bool {
	type level struct {
		keys  map[string]bool // nil for an array
		isKey bool
	}
	decoder := json.NewDecoder(bytes.NewReader(b))
	var levels []level
	for {
		token, err := decoder.Token()
		if err != nil {
			return false
		}
		var top *level
		if len(levels) > 0 {
			top = &levels[len(levels)-1]
		}
		switch {
		case token == json.Delim('}') || token == json.Delim(']'):
			levels = levels[:len(levels)-1]
			continue
		case top != nil && top.keys != nil && top.isKey:
			key, _ := token.(string)
			if top.keys[key] {
				return true
			}
			top.keys[key], top.isKey = true, false
			continue
		case top != nil:
			top.isKey = true
		}
		switch token {
		case json.Delim('{'):
			levels = append(levels, level{keys: map[string]bool{}, isKey: true})
		case json.Delim('['):
			levels = append(levels, level{})
		}
	}
}

func TestDecodeKeepsNoReference(t *testing.T) {
	s := endpoint(256)
	s.only(0x40, pci.CapMSI)
	s.put32(0x44, 0xfee00000)
	f := decode(t, s)
	clear(s)
	assert.Equal(t, uint16(0x1234), f.VendorID)
	assert.Equal(t, uint64(0xfee00000), f.MSI.Address)
}

func TestWarningString(t *testing.T) {
	assert.Equal(t, "config 0x0e: text", pci.Warning{Offset: 0x0e, Text: "text"}.String())
	assert.Equal(t, "config 0x100: text", pci.Warning{Offset: 0x100, Text: "text"}.String())
}
