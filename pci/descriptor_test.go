package pci_test

import (
	"encoding/hex"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/irqbridge/irqbridge/pci"
)

// goldenDescriptors are 20-byte descriptors that were run through the code of Microsoft's page on
// CONNECT_FULLY_SPECIFIED, compiled against wdm.h. Here they hold the codec; what they map to is for package connect.
var goldenDescriptors = []struct {
	name string
	hex  string
	want pci.TranslatedDescriptor
}{
	{"line, shared, level", "0203000009000000910000000f00000000000000", descriptor(3, 0, 9, 0, 0x91, 0xf)},
	{"line, device exclusive", "0201000009000000910000000f00000000000000", descriptor(1, 0, 9, 0, 0x91, 0xf)},
	{"line, driver exclusive", "0202000009000000910000000f00000000000000", descriptor(2, 0, 9, 0, 0x91, 0xf)},
	{"line, undetermined", "0200000009000000910000000f00000000000000", descriptor(0, 0, 9, 0, 0x91, 0xf)},
	{"line, disposition 0x13", "0213000009000000910000000f00000000000000", descriptor(0x13, 0, 9, 0, 0x91, 0xf)},
	{"line, latched, exclusive", "0201010006000000630000000100000000000000", descriptor(1, 1, 6, 0, 0x63, 1)},
	{"MSI-X, exclusive", "0201030007000000720000000400000000000000", descriptor(1, 3, 7, 0, 0x72, 4)},
	{"MSI-X, shared", "0203030007000000720000000400000000000000", descriptor(3, 3, 7, 0, 0x72, 4)},
	{"message without latched", "0201020007000000720000000400000000000000", descriptor(1, 2, 7, 0, 0x72, 4)},
	{"policy included", "020304000500000051000000ff00000000000000", descriptor(3, 4, 5, 0, 0x51, 0xff)},
	{"secondary, wake, latched", "020331000500000051000000ff00000000000000", descriptor(3, 0x31, 5, 0, 0x51, 0xff)},
	{"flags 0xffff", "0203ffff0500000051000000ff00000000000000", descriptor(3, 0xffff, 5, 0, 0x51, 0xff)},
	{"flags 0xfffc", "0203fcff0500000051000000ff00000000000000", descriptor(3, 0xfffc, 5, 0, 0x51, 0xff)},
	{"level 0x105", "0203000005010000510000000100000000000000", descriptor(3, 0, 0x105, 0, 0x51, 1)},
	{"level 0x100", "0203000000010000510000000100000000000000", descriptor(3, 0, 0x100, 0, 0x51, 1)},
	{"group 1", "0201030007000100720000000400000000000000", descriptor(1, 3, 7, 1, 0x72, 4)},
	{"group 0xffff", "020300000900ffff91000000ffffffffffffffff", descriptor(3, 0, 9, 0xffff, 0x91, ^uint64(0))},
	{"affinity -1", "020300000900000091000000ffffffffffffffff", descriptor(3, 0, 9, 0, 0x91, ^uint64(0))},
	{"affinity 0", "0203000009000000910000000000000000000000", descriptor(3, 0, 9, 0, 0x91, 0)},
	{"affinity bit 63", "020103000b000000b30000000000000000000080", descriptor(1, 3, 11, 0, 0xb3, 1<<63)},
	{"vector 0", "0201030007000000000000000100000000000000", descriptor(1, 3, 7, 0, 0, 1)},
	{"raw MSI read as translated", "0201030000000800f9ffffffff00000000000000", descriptor(1, 3, 0, 8, 0xfffffff9, 0xff)},
	{"memory", "0301000000100000000000000040000000000000", pci.TranslatedDescriptor{
		Type: pci.ResourceMemory, Share: 1, Level: 0x1000, Affinity: 0x4000,
	}},
}

func descriptor(
	share pci.ShareDisposition, flags pci.InterruptFlags, level, group uint16, vector uint32, affinity uint64,
) pci.TranslatedDescriptor {
	return pci.TranslatedDescriptor{
		Type: pci.ResourceInterrupt, Share: share, Flags: flags, Level: level, Group: group, Vector: vector, Affinity: affinity,
	}
}

func fromHex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	require.NoError(t, err)
	return b
}

func TestDescriptorConstants(t *testing.T) {
	assert.Equal(t, []pci.InterruptFlags{1, 2, 4, 0x10, 0x20}, []pci.InterruptFlags{
		pci.InterruptLatched, pci.InterruptMessage, pci.InterruptPolicyIncluded, pci.InterruptSecondary, pci.InterruptWakeHint,
	})
	assert.Equal(t, uint32(0xfffffffe), pci.MessageToken)
	assert.Equal(t, []pci.ShareDisposition{0, 1, 2, 3}, []pci.ShareDisposition{
		pci.ShareUndetermined, pci.ShareDeviceExclusive, pci.ShareDriverExclusive, pci.ShareShared,
	})
	assert.Equal(t, []pci.ResourceType{2, 3, 5, 129, 132}, []pci.ResourceType{
		pci.ResourceInterrupt, pci.ResourceMemory, pci.ResourceDeviceSpecific, pci.ResourceDevicePrivate, pci.ResourceConnection,
	})
	assert.Equal(t, int32(5), pci.InterfacePCIBus)
}

func TestGoldenDescriptors(t *testing.T) {
	for _, tc := range goldenDescriptors {
		t.Run(tc.name, func(t *testing.T) {
			b := fromHex(t, tc.hex)
			d, err := pci.DecodeTranslated(b, pci.Bits64)
			require.NoError(t, err)
			assert.Equal(t, tc.want, d)
			again, err := d.Encode(pci.Bits64)
			require.NoError(t, err)
			assert.Equal(t, b, again)

			raw, err := pci.DecodeRaw(b, pci.Bits64)
			require.NoError(t, err)
			again, err = raw.Encode(pci.Bits64)
			require.NoError(t, err)
			assert.Equal(t, b, again)
		})
	}
}

func TestEncode32Bit(t *testing.T) {
	d := descriptor(3, 0, 9, 0, 0x91, 0xf)
	b, err := d.Encode(pci.Bits32)
	require.NoError(t, err)
	assert.Equal(t, "0203000009000000910000000f000000", hex.EncodeToString(b))
	again, err := pci.DecodeTranslated(b, pci.Bits32)
	require.NoError(t, err)
	assert.Equal(t, d, again)

	d.Affinity = 1 << 40
	_, err = d.Encode(pci.Bits32)
	require.ErrorContains(t, err, "affinity 0x10000000000")
	d.Affinity = 0xffffffff
	_, err = d.Encode(pci.Bits32)
	require.NoError(t, err)
}

func TestDecodeRawMSI(t *testing.T) {
	want := pci.RawDescriptor{
		Type: pci.ResourceInterrupt, Share: pci.ShareDeviceExclusive, Flags: pci.InterruptMessage | pci.InterruptLatched,
		MessageCount: 8, Vector: 0xfffffff7, Affinity: 0xff,
	}
	for width, text := range map[pci.Bits]string{
		pci.Bits64: "0201030000000800f7ffffffff00000000000000",
		pci.Bits32: "0201030000000800f7ffffffff000000",
	} {
		b := fromHex(t, text)
		d, err := pci.DecodeRaw(b, width)
		require.NoError(t, err)
		assert.Equal(t, want, d)
		again, err := d.Encode(width)
		require.NoError(t, err)
		assert.Equal(t, b, again)

		// The mistake that two types are to prevent: the message count lies where a translated descriptor has its group.
		misread, err := pci.DecodeTranslated(b, width)
		require.NoError(t, err)
		assert.Equal(t, uint16(8), misread.Group)
		assert.Zero(t, misread.Level)
		require.ErrorContains(t, misread.Validate(), "vector 0xfffffff7 is a message token")
	}
}

func TestRawForms(t *testing.T) {
	line := fromHex(t, "020300000b0002000b000000ffffffffffffffff")
	d, err := pci.DecodeRaw(line, pci.Bits64)
	require.NoError(t, err)
	assert.Equal(t, uint16(11), d.Level)
	assert.Equal(t, uint16(2), d.Group)
	assert.Zero(t, d.MessageCount)

	message := fromHex(t, "0201030002000100feffffffffffffffffffffff")
	d, err = pci.DecodeRaw(message, pci.Bits64)
	require.NoError(t, err)
	assert.Zero(t, d.Level)
	assert.Equal(t, uint16(2), d.Group)
	assert.Equal(t, uint16(1), d.MessageCount)

	// Bit 1 of a memory descriptor's flags says write-only, not message.
	memory := fromHex(t, "030102000010000000000000004000000000a0fe")
	d, err = pci.DecodeRaw(memory, pci.Bits64)
	require.NoError(t, err)
	assert.Zero(t, d.MessageCount)
	assert.Equal(t, uint16(0x1000), d.Level)

	_, err = pci.RawDescriptor{Type: pci.ResourceInterrupt, Flags: pci.InterruptMessage, Level: 9}.Encode(pci.Bits64)
	require.ErrorContains(t, err, "level 9")
	_, err = pci.RawDescriptor{Type: pci.ResourceInterrupt, MessageCount: 4}.Encode(pci.Bits64)
	require.ErrorContains(t, err, "message count 4")
	_, err = pci.RawDescriptor{Type: pci.ResourceMemory, Flags: 2, MessageCount: 4}.Encode(pci.Bits64)
	require.ErrorContains(t, err, "message count 4")
}

func TestCodecRefusesSizes(t *testing.T) {
	for _, size := range []int{0, 1, 15, 16, 17, 19, 20, 21, 40} {
		for _, width := range []pci.Bits{pci.Bits64, pci.Bits32} {
			b := make([]byte, size)
			_, translated := pci.DecodeTranslated(b, width)
			_, raw := pci.DecodeRaw(b, width)
			if size == 20 && width == pci.Bits64 || size == 16 && width == pci.Bits32 {
				require.NoError(t, translated)
				require.NoError(t, raw)
				continue
			}
			require.ErrorContains(t, translated, "want ", "%d bytes, %d bits", size, width)
			require.ErrorContains(t, raw, "want ", "%d bytes, %d bits", size, width)
		}
	}
	for _, width := range []pci.Bits{0, 1, 16, -64, 128} {
		_, err := pci.DecodeTranslated(make([]byte, 20), width)
		require.ErrorContains(t, err, "want 64 or 32")
		_, err = pci.DecodeRaw(make([]byte, 20), width)
		require.ErrorContains(t, err, "want 64 or 32")
		_, err = pci.TranslatedDescriptor{}.Encode(width)
		require.ErrorContains(t, err, "want 64 or 32")
		_, err = pci.RawDescriptor{}.Encode(width)
		require.ErrorContains(t, err, "want 64 or 32")
	}
}

func TestDescriptorBytesRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		width := rapid.SampledFrom([]pci.Bits{pci.Bits64, pci.Bits32}).Draw(t, "bits")
		size := map[pci.Bits]int{pci.Bits64: 20, pci.Bits32: 16}[width]
		b := rapid.SliceOfN(rapid.Byte(), size, size).Draw(t, "bytes")

		translated, err := pci.DecodeTranslated(b, width)
		require.NoError(t, err)
		again, err := translated.Encode(width)
		require.NoError(t, err)
		assert.Equal(t, b, again)

		raw, err := pci.DecodeRaw(b, width)
		require.NoError(t, err)
		again, err = raw.Encode(width)
		require.NoError(t, err)
		assert.Equal(t, b, again)
	})
}

func TestDescriptorValuesRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := pci.TranslatedDescriptor{
			Type:     pci.ResourceType(rapid.Uint8().Draw(t, "type")),
			Share:    pci.ShareDisposition(rapid.Uint8().Draw(t, "share")),
			Flags:    pci.InterruptFlags(rapid.Uint16().Draw(t, "flags")),
			Level:    rapid.Uint16().Draw(t, "level"),
			Group:    rapid.Uint16().Draw(t, "group"),
			Vector:   rapid.Uint32().Draw(t, "vector"),
			Affinity: rapid.Uint64().Draw(t, "affinity"),
		}
		width := rapid.SampledFrom([]pci.Bits{pci.Bits64, pci.Bits32}).Draw(t, "bits")
		b, err := want.Encode(width)
		if width == pci.Bits32 && want.Affinity > 0xffffffff {
			require.Error(t, err)
			return
		}
		require.NoError(t, err)
		got, err := pci.DecodeTranslated(b, width)
		require.NoError(t, err)
		assert.Equal(t, want, got)
	})
}

// TestValidate has one row for each rule. The base of each is a descriptor that passes.
func TestValidate(t *testing.T) {
	line := descriptor(3, 0, 9, 0, 0x91, 0xf)
	message := descriptor(1, 3, 7, 0, 0x72, 4)
	for name, tc := range map[string]struct {
		base     pci.TranslatedDescriptor
		change   func(d *pci.TranslatedDescriptor)
		err      string // empty for a good one
		warnings []string
	}{
		"line":               {line, func(*pci.TranslatedDescriptor) {}, "", nil},
		"message":            {message, func(*pci.TranslatedDescriptor) {}, "", nil},
		"shared message":     {message, func(d *pci.TranslatedDescriptor) { d.Share = 3 }, "", nil},
		"memory":             {line, func(d *pci.TranslatedDescriptor) { d.Type = 3 }, "type 3 (memory)", nil},
		"device private":     {line, func(d *pci.TranslatedDescriptor) { d.Type = 129 }, "type 129 (device private)", nil},
		"vector 0":           {line, func(d *pci.TranslatedDescriptor) { d.Vector = 0 }, "vector 0", nil},
		"message token":      {message, func(d *pci.TranslatedDescriptor) { d.Vector = pci.MessageToken }, "vector 0xfffffffe", nil},
		"lowest token":       {message, func(d *pci.TranslatedDescriptor) { d.Vector = 0xffffff00 }, "vector 0xffffff00", nil},
		"highest vector":     {message, func(d *pci.TranslatedDescriptor) { d.Vector = 0xfffffeff }, "", nil},
		"level 0 is passive": {line, func(d *pci.TranslatedDescriptor) { d.Level = 0 }, "", nil},
		"level 1":            {line, func(d *pci.TranslatedDescriptor) { d.Level = 1 }, "level 1", nil},
		"level 2":            {line, func(d *pci.TranslatedDescriptor) { d.Level = 2 }, "level 2", nil},
		"level 3":            {line, func(d *pci.TranslatedDescriptor) { d.Level = 3 }, "", nil},
		"level 11":           {line, func(d *pci.TranslatedDescriptor) { d.Level = 11 }, "", nil},
		"level 12":           {line, func(d *pci.TranslatedDescriptor) { d.Level = 12 }, "", []string{"level 12 is above"}},
		"level 15":           {line, func(d *pci.TranslatedDescriptor) { d.Level = 15 }, "", []string{"level 15 is above"}},
		"level 16":           {line, func(d *pci.TranslatedDescriptor) { d.Level = 16 }, "level 0x10", nil},
		"level 0x100":        {line, func(d *pci.TranslatedDescriptor) { d.Level = 0x100 }, "low byte, 0x00", nil},
		"affinity 0":         {line, func(d *pci.TranslatedDescriptor) { d.Affinity = 0 }, "affinity 0", nil},
		"share 0":            {line, func(d *pci.TranslatedDescriptor) { d.Share = 0 }, "share disposition 0", nil},
		"share 1":            {line, func(d *pci.TranslatedDescriptor) { d.Share = 1 }, "", nil},
		"share 2":            {line, func(d *pci.TranslatedDescriptor) { d.Share = 2 }, "", []string{"driver exclusive"}},
		"share 4":            {line, func(d *pci.TranslatedDescriptor) { d.Share = 4 }, "share disposition 4", nil},
		"message, not latched": {
			message, func(d *pci.TranslatedDescriptor) { d.Flags = 2 }, "flags 0x0002", nil,
		},
		"latched line": {line, func(d *pci.TranslatedDescriptor) { d.Flags = 1 }, "", []string{"latched line"}},
		"policy included": {
			line, func(d *pci.TranslatedDescriptor) { d.Flags = 4 }, "", []string{"policy included"},
		},
		"secondary and wake": {line, func(d *pci.TranslatedDescriptor) { d.Flags = 0x30 }, "", nil},
		"unknown flag": {
			line, func(d *pci.TranslatedDescriptor) { d.Flags = 0x40 }, "", []string{"bits 0x0040 are not known and are ignored"},
		},
		"unknown flags and more": {
			line, func(d *pci.TranslatedDescriptor) { d.Flags = 0x8009 }, "",
			[]string{"latched line", "bits 0x8008"},
		},
		"any group": {line, func(d *pci.TranslatedDescriptor) { d.Group = 0xffff; d.Affinity = ^uint64(0) }, "", nil},
		"group 5":   {line, func(d *pci.TranslatedDescriptor) { d.Group = 5 }, "", nil},
	} {
		t.Run(name, func(t *testing.T) {
			d := tc.base
			tc.change(&d)
			if tc.err != "" {
				require.ErrorContains(t, d.Validate(), tc.err)
				require.ErrorContains(t, d.ValidateFor(1), tc.err)
				return
			}
			require.NoError(t, d.Validate())
			warnings := d.Warnings()
			require.Len(t, warnings, len(tc.warnings), "%q", warnings)
			for i, text := range tc.warnings {
				assert.Contains(t, warnings[i], text)
			}
		})
	}
	assert.Empty(t, pci.TranslatedDescriptor{Type: pci.ResourceMemory, Flags: 0xffff}.Warnings(),
		"the flags of memory are not those of interrupts")
}

func TestValidateForAMachine(t *testing.T) {
	d := descriptor(3, 0, 9, 5, 0x91, 0xf)
	require.ErrorContains(t, d.ValidateFor(1), "group 5 does not exist; this machine has 1")
	require.ErrorContains(t, d.ValidateFor(5), "group 5")
	require.NoError(t, d.ValidateFor(6))
	d.Group = 0xffff
	require.NoError(t, d.ValidateFor(1))
}

func TestDescriptorStrings(t *testing.T) {
	assert.Equal(t, "interrupt", pci.ResourceInterrupt.String())
	assert.Equal(t, "type 8", pci.ResourceType(8).String())
	for typ := range 256 {
		assert.NotEmpty(t, pci.ResourceType(typ).String())
	}
	assert.Equal(t, "undetermined", pci.ShareUndetermined.String())
	assert.Equal(t, "device exclusive", pci.ShareDeviceExclusive.String())
	assert.Equal(t, "driver exclusive", pci.ShareDriverExclusive.String())
	assert.Equal(t, "shared", pci.ShareShared.String())
	assert.Equal(t, "share 19", pci.ShareDisposition(0x13).String())
	for flags, want := range map[pci.InterruptFlags]string{
		0:      "level",
		1:      "latched",
		2:      "level|message",
		3:      "latched|message",
		0x34:   "level|policy included|secondary|wake hint",
		0x8008: "level|0x8008",
	} {
		assert.Equal(t, want, flags.String())
	}
}
