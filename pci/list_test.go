package pci_test

import (
	"bytes"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/irqbridge/irqbridge/pci"
)

// Lists that were measured on structures compiled against wdm.h: interface PCIBus, bus 0.
const (
	lineList64 = "01000000" + "0500000000000000" + "0100010001000000" + "0203000009000000910000000f00000000000000"
	lineList32 = "01000000" + "0500000000000000" + "0100010001000000" + "0203000009000000910000000f000000"
	twoMSIX64  = "010000000500000000000000010001000200000002010300070000007000000001000000000000000201030007000000710000000200000000000000"
	twoMSIX32  = "01000000050000000000000001000100020000000201030007000000700000000100000002010300070000007100000002000000"
	rawMSI64   = "0201030000000800f7ffffffff00000000000000"
)

// device specific of 24 bytes, as one descriptor; and its data.
const (
	specific64 = "0501000018000000" + "0000000000000000" + "00000000"
	specific32 = "0501000018000000" + "0000000000000000"
	data24     = "000102030405060708090a0b0c0d0e0f1011121314151617"
)

func translatedList(descriptors ...pci.TranslatedDescriptor) pci.FullList[pci.TranslatedDescriptor] {
	return pci.ResourceList{InterfaceType: pci.InterfacePCIBus, Translated: descriptors}.TranslatedList()
}

// TestConformance has the rows of group A, constants and codec, of the list of what CONNECT_FULLY_SPECIFIED promises,
// by their numbers. Rows 1, 4 and 5 are about constants of package connect and are tested there.
func TestConformance(t *testing.T) {
	line := descriptor(3, 0, 9, 0, 0x91, 0xf)
	twoMSIX := translatedList(descriptor(1, 3, 7, 0, 0x70, 1), descriptor(1, 3, 7, 0, 0x71, 2))
	encodes := func(t *testing.T, want string, width pci.Bits, encode func(pci.Bits) ([]byte, error)) {
		t.Helper()
		b, err := encode(width)
		require.NoError(t, err)
		assert.Equal(t, want, hex.EncodeToString(b))
	}

	t.Run("A/002", func(t *testing.T) {
		assert.Equal(t, []pci.InterruptFlags{1, 2, 4, 0x10, 0x20}, []pci.InterruptFlags{
			pci.InterruptLatched, pci.InterruptMessage, pci.InterruptPolicyIncluded, pci.InterruptSecondary, pci.InterruptWakeHint,
		})
		assert.False(t, pci.InterruptFlags(0).Latched(), "level-sensitive is 0")
		assert.Equal(t, uint32(0xfffffffe), pci.MessageToken)
	})
	t.Run("A/003", func(t *testing.T) {
		assert.Equal(t, []pci.ShareDisposition{0, 1, 2, 3}, []pci.ShareDisposition{
			pci.ShareUndetermined, pci.ShareDeviceExclusive, pci.ShareDriverExclusive, pci.ShareShared,
		})
		assert.Equal(t, []pci.ResourceType{2, 3, 129, 132}, []pci.ResourceType{
			pci.ResourceInterrupt, pci.ResourceMemory, pci.ResourceDevicePrivate, pci.ResourceConnection,
		})
		for typ := range 256 {
			assert.NotContains(t, pci.ResourceType(typ).String(), "message", "a message has no type of its own")
		}
	})
	t.Run("A/006", func(t *testing.T) { encodes(t, "0203000009000000910000000f00000000000000", pci.Bits64, line.Encode) })
	t.Run("A/007", func(t *testing.T) { encodes(t, "0203000009000000910000000f000000", pci.Bits32, line.Encode) })
	t.Run("A/008", func(t *testing.T) {
		encodes(t, lineList64, pci.Bits64, translatedList(line).Encode)
		encodes(t, lineList32, pci.Bits32, translatedList(line).Encode)
		assert.Len(t, lineList64, 2*40)
		assert.Len(t, lineList32, 2*36)
	})
	t.Run("A/009", func(t *testing.T) {
		encodes(t, twoMSIX64, pci.Bits64, twoMSIX.Encode)
		encodes(t, twoMSIX32, pci.Bits32, twoMSIX.Encode)
		for width, text := range map[pci.Bits]string{pci.Bits64: twoMSIX64, pci.Bits32: twoMSIX32} {
			b := fromHex(t, text)
			size := map[pci.Bits]int{pci.Bits64: 20, pci.Bits32: 16}[width]
			assert.Len(t, b, 20+2*size)
			list, err := pci.DecodeFullList[pci.TranslatedDescriptor](b, width)
			require.NoError(t, err)
			assert.Equal(t, twoMSIX, list)
			for i, want := range twoMSIX[0].Descriptors {
				d, err := pci.DecodeTranslated(b[20+size*i:][:size], width)
				require.NoError(t, err)
				assert.Equal(t, want, d)
			}
		}
	})
	t.Run("A/010", func(t *testing.T) {
		d, err := pci.DecodeRaw(fromHex(t, rawMSI64), pci.Bits64)
		require.NoError(t, err)
		assert.Equal(t, pci.RawDescriptor{Type: 2, Share: 1, Flags: 3, MessageCount: 8, Vector: 0xfffffff7, Affinity: 0xff}, d)
	})
	t.Run("A/011", func(t *testing.T) {
		d, err := pci.DecodeTranslated(fromHex(t, rawMSI64), pci.Bits64)
		require.NoError(t, err)
		assert.Equal(t, uint16(8), d.Group)
		assert.Zero(t, d.Level)
		require.ErrorContains(t, d.Validate(), "vector 0xfffffff7 is a message token")
	})
	t.Run("A/012", func(t *testing.T) {
		for _, golden := range goldenDescriptors {
			d, err := pci.DecodeTranslated(fromHex(t, golden.hex), pci.Bits64)
			require.NoError(t, err)
			encodes(t, golden.hex, pci.Bits64, d.Encode)
		}
	})
	t.Run("A/013", func(t *testing.T) {
		for _, size := range []int{19, 0} {
			_, err := pci.DecodeTranslated(make([]byte, size), pci.Bits64)
			require.Error(t, err)
			_, err = pci.DecodeRaw(make([]byte, size), pci.Bits64)
			require.Error(t, err)
		}
	})
	t.Run("A/014", func(t *testing.T) {
		b := fromHex(t, lineList64)
		b[16] = 2 // descriptors
		_, err := pci.DecodeFullList[pci.TranslatedDescriptor](b, pci.Bits64)
		require.ErrorContains(t, err, "partial list: count 2 before byte 20 is more than the 20 bytes after it can hold")
		copy(b[16:], "\xff\xff\xff\xff")
		_, err = pci.DecodeFullList[pci.TranslatedDescriptor](b, pci.Bits64)
		require.ErrorContains(t, err, "count 4294967295")
		copy(b, "\xff\xff\xff\xff") // full descriptors
		_, err = pci.DecodeFullList[pci.TranslatedDescriptor](b, pci.Bits64)
		require.ErrorContains(t, err, "resource list: count 4294967295 at byte 0")
	})
	t.Run("A/015", func(t *testing.T) {
		for _, version := range []string{"02000100", "01000200", "00000000"} {
			b := fromHex(t, strings.Replace(lineList64, "01000100", version, 1))
			list, err := pci.DecodeFullList[pci.TranslatedDescriptor](b, pci.Bits64)
			require.NoError(t, err)
			require.Len(t, list[0].Warnings(), 1)
			assert.Contains(t, list[0].Warnings()[0], "both should be 1")
		}
		assert.Empty(t, twoMSIX[0].Warnings())
	})
	t.Run("A/016", func(t *testing.T) {
		for width, text := range map[pci.Bits]string{
			pci.Bits64: "02000000" +
				"0500000001000000" + "0100010002000000" + "0203000009000000910000000f00000000000000" + specific64 + data24 +
				"0500000002000000" + "0100010001000000" + "0203000009000000920000000f00000000000000",
			pci.Bits32: "02000000" +
				"0500000001000000" + "0100010002000000" + "0203000009000000910000000f000000" + specific32 + data24 +
				"0500000002000000" + "0100010001000000" + "0203000009000000920000000f000000",
		} {
			list, err := pci.DecodeFullList[pci.TranslatedDescriptor](fromHex(t, text), width)
			require.NoError(t, err)
			require.Len(t, list, 2)
			assert.Equal(t, fromHex(t, data24), list[0].Data)
			assert.Equal(t, uint32(2), list[1].BusNumber)
			assert.Equal(t, uint32(0x92), list[1].Descriptors[0].Vector)
			encodes(t, text, width, list.Encode)
		}
		short := fromHex(t, "0100010001000000"+specific64+data24)
		_, err := pci.DecodePartialList[pci.RawDescriptor](short[:len(short)-1], pci.Bits64)
		require.ErrorContains(t, err, "device specific data at byte 28 has 24 bytes, and 23 are left")
		_, err = pci.DecodePartialList[pci.RawDescriptor](
			fromHex(t, "0100010002000000"+specific64+"0203000009000000910000000f00000000000000"+data24), pci.Bits64)
		require.ErrorContains(t, err, "descriptor 0 at byte 8 is device specific and not the last of 2")
	})
	t.Run("A/017", func(t *testing.T) {
		d := line
		d.Affinity = 1 << 40
		_, err := translatedList(line, d).Encode(pci.Bits32)
		require.ErrorContains(t, err, "full descriptor 0: descriptor 1: descriptor: affinity 0x10000000000")
	})
	t.Run("A/018", func(t *testing.T) {
		list := msiList()
		raw, err := list.RawList().Encode(pci.Bits64)
		require.NoError(t, err)
		translated, err := list.TranslatedList().Encode(pci.Bits64)
		require.NoError(t, err)
		rawBack, err := pci.DecodeFullList[pci.RawDescriptor](raw, pci.Bits64)
		require.NoError(t, err)
		translatedBack, err := pci.DecodeFullList[pci.TranslatedDescriptor](translated, pci.Bits64)
		require.NoError(t, err)
		back, err := pci.NewResourceList(rawBack, translatedBack)
		require.NoError(t, err)
		assert.Equal(t, list, back)
		assert.Equal(t, pci.ResourceDevicePrivate, back.Raw[1].Type)
		assert.Len(t, back.Expand(), 8, "the interrupts alone")
	})
	t.Run("A/019", func(t *testing.T) {
		list := msiList()
		_, err := pci.NewResourceList(pci.ResourceList{Raw: list.Raw[:2]}.RawList(), pci.ResourceList{Translated: list.Translated}.TranslatedList())
		require.ErrorContains(t, err, "2 raw and 3 translated descriptors")
		list.Raw[1].Type = pci.ResourcePort
		_, err = pci.NewResourceList(list.RawList(), list.TranslatedList())
		require.ErrorContains(t, err, "descriptor 1: raw type 1 (port) and translated type 129 (device private) differ")
	})
}

func TestNewResourceListRefuses(t *testing.T) {
	list := msiList()
	_, err := pci.NewResourceList(nil, list.TranslatedList())
	require.ErrorContains(t, err, "0 raw and 1 translated full descriptors")
	other := list
	other.BusNumber = 3
	_, err = pci.NewResourceList(list.RawList(), other.TranslatedList())
	require.ErrorContains(t, err, "raw is of interface 5 bus 0, translated of interface 5 bus 3")
}

func TestListRefuses(t *testing.T) {
	for name, tc := range map[string]struct {
		hex  string
		bits pci.Bits
		err  string
	}{
		"nothing":                 {"", 64, "resource list at byte 0 has 4 bytes, and 0 are left"},
		"a part of the count":     {"010000", 64, "and 3 are left"},
		"no full descriptor":      {"01000000", 64, "count 1 at byte 0 is more than the 0 bytes"},
		"no partial list":         {"02000000" + lineList64[8:], 64, "full descriptor at byte 40 has 8 bytes, and 0 are left"},
		"half a partial list":     {"02000000" + lineList64[8:] + "05000000000000000100", 64, "partial list at byte 48 has 8 bytes, and 2 are left"},
		"a byte too many":         {lineList64 + "00", 64, "ends at byte 40, and 1 bytes follow"},
		"64-bit bytes read as 32": {lineList64, 32, "ends at byte 36, and 4 bytes follow; is it one of the other width?"},
		"32-bit bytes read as 64": {lineList32, 64, "is this a list of 64-bit Windows?"},
		"no such width":           {lineList64, 16, "16-bit Windows"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := pci.DecodeFullList[pci.TranslatedDescriptor](fromHex(t, tc.hex), tc.bits)
			require.ErrorContains(t, err, tc.err)
		})
	}
	_, err := pci.DecodePartialList[pci.RawDescriptor](nil, pci.Bits64)
	require.ErrorContains(t, err, "partial list at byte 0 has 8 bytes, and 0 are left")
	_, err = pci.DecodePartialList[pci.RawDescriptor](make([]byte, 9), pci.Bits64)
	require.ErrorContains(t, err, "1 bytes follow")
	list, err := pci.DecodeFullList[pci.RawDescriptor](make([]byte, 4), pci.Bits64)
	require.NoError(t, err)
	assert.Empty(t, list)
}

func TestListEncodeRefuses(t *testing.T) {
	specific := pci.RawDescriptor{Type: pci.ResourceDeviceSpecific, Level: 24}
	for name, tc := range map[string]struct {
		list pci.PartialList[pci.RawDescriptor]
		err  string
	}{
		"data without a descriptor": {
			pci.PartialList[pci.RawDescriptor]{Data: []byte{1}}, "1 bytes of device specific data, and the last descriptor says 0",
		},
		"no data": {
			pci.PartialList[pci.RawDescriptor]{Descriptors: []pci.RawDescriptor{specific}}, "0 bytes of device specific data, and the last descriptor says 24",
		},
		"not the last": {
			pci.PartialList[pci.RawDescriptor]{Descriptors: []pci.RawDescriptor{specific, {}}, Data: make([]byte, 24)},
			"descriptor 0 is device specific and not the last of 2",
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := tc.list.Encode(pci.Bits64)
			require.ErrorContains(t, err, tc.err)
		})
	}
}

func TestListRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		width := rapid.SampledFrom([]pci.Bits{pci.Bits64, pci.Bits32}).Draw(t, "bits")
		size := map[pci.Bits]int{pci.Bits64: 20, pci.Bits32: 16}[width]
		count := rapid.IntRange(0, 4).Draw(t, "count")
		b := bytes.Join([][]byte{
			rapid.SliceOfN(rapid.Byte(), 4, 4).Draw(t, "version"),
			{uint8(count), 0, 0, 0},
			rapid.SliceOfN(rapid.Byte(), size*count, size*count).Draw(t, "descriptors"),
		}, nil)
		for i := range count {
			if b[8+size*i] == uint8(pci.ResourceDeviceSpecific) {
				b[8+size*i] = uint8(pci.ResourceMemory)
			}
		}
		list, err := pci.DecodePartialList[pci.RawDescriptor](b, width)
		require.NoError(t, err)
		again, err := list.Encode(width)
		require.NoError(t, err)
		assert.Equal(t, b, again)
	})
}
