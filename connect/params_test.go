package connect_test

import (
	"bufio"
	"encoding/hex"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/irqbridge/irqbridge/connect"
	"github.com/irqbridge/irqbridge/pci"
)

// descriptor decodes the 20 bytes of a translated descriptor of 64-bit Windows.
func descriptor(t *testing.T, text string) pci.TranslatedDescriptor {
	t.Helper()
	b, err := hex.DecodeString(text)
	require.NoError(t, err)
	d, err := pci.DecodeTranslated(b, pci.Bits64)
	require.NoError(t, err)
	return d
}

const (
	line = connect.LevelSensitive
	edge = connect.Latched
)

// pageCases are the golden vectors: descriptors, and what the page's own code made of them when it was compiled and run.
// SynchronizeIrql is Irql in all of them.
var pageCases = []struct {
	row   string
	bytes []string
	want  []connect.Parameters
}{
	{"020", []string{
		"0203000009000000910000000f00000000000000", // line, shared, level
	}, []connect.Parameters{
		{Vector: 0x91, Irql: 9, InterruptMode: line, ShareVector: true, ProcessorEnableMask: 0xf},
	}},
	{"021", []string{
		"0201000009000000910000000f00000000000000", // line, device exclusive
	}, []connect.Parameters{
		{Vector: 0x91, Irql: 9, InterruptMode: line, ShareVector: false, ProcessorEnableMask: 0xf},
	}},
	{"022", []string{
		"0202000009000000910000000f00000000000000", // line, driver exclusive
	}, []connect.Parameters{
		{Vector: 0x91, Irql: 9, InterruptMode: line, ShareVector: false, ProcessorEnableMask: 0xf},
	}},
	{"023", []string{
		"0200000009000000910000000f00000000000000", // line, undetermined
	}, []connect.Parameters{
		{Vector: 0x91, Irql: 9, InterruptMode: line, ShareVector: false, ProcessorEnableMask: 0xf},
	}},
	{"024", []string{
		"0213000009000000910000000f00000000000000", // line, disposition 0x13
	}, []connect.Parameters{
		{Vector: 0x91, Irql: 9, InterruptMode: line, ShareVector: false, ProcessorEnableMask: 0xf},
	}},
	{"025", []string{
		"0201010006000000630000000100000000000000", // line, latched, exclusive
	}, []connect.Parameters{
		{Vector: 0x63, Irql: 6, InterruptMode: edge, ShareVector: false, ProcessorEnableMask: 1},
	}},
	{"026", []string{
		"0201030007000000720000000400000000000000", // MSI-X, exclusive
	}, []connect.Parameters{
		{Vector: 0x72, Irql: 7, InterruptMode: edge, ShareVector: false, ProcessorEnableMask: 4},
	}},
	{"027", []string{
		"0203030007000000720000000400000000000000", // MSI-X, shared
	}, []connect.Parameters{
		{Vector: 0x72, Irql: 7, InterruptMode: edge, ShareVector: true, ProcessorEnableMask: 4},
	}},
	{"028", []string{
		"0201020007000000720000000400000000000000", // MESSAGE without LATCHED
	}, []connect.Parameters{
		{Vector: 0x72, Irql: 7, InterruptMode: line, ShareVector: false, ProcessorEnableMask: 4},
	}},
	{"029", []string{
		"020304000500000051000000ff00000000000000", // POLICY_INCLUDED ignored
	}, []connect.Parameters{
		{Vector: 0x51, Irql: 5, InterruptMode: line, ShareVector: true, ProcessorEnableMask: 0xff},
	}},
	{"030", []string{
		"020331000500000051000000ff00000000000000", // SECONDARY, WAKE and LATCHED
	}, []connect.Parameters{
		{Vector: 0x51, Irql: 5, InterruptMode: edge, ShareVector: true, ProcessorEnableMask: 0xff},
	}},
	{"031", []string{
		"0203ffff0500000051000000ff00000000000000", // flags 0xffff
	}, []connect.Parameters{
		{Vector: 0x51, Irql: 5, InterruptMode: edge, ShareVector: true, ProcessorEnableMask: 0xff},
	}},
	{"032", []string{
		"0203fcff0500000051000000ff00000000000000", // flags 0xfffc
	}, []connect.Parameters{
		{Vector: 0x51, Irql: 5, InterruptMode: line, ShareVector: true, ProcessorEnableMask: 0xff},
	}},
	{"033", []string{
		"0203000005010000510000000100000000000000", // Level 0x105
	}, []connect.Parameters{
		{Vector: 0x51, Irql: 5, InterruptMode: line, ShareVector: true, ProcessorEnableMask: 1},
	}},
	{"034", []string{
		"0203000000010000510000000100000000000000", // Level 0x100
	}, []connect.Parameters{
		{Vector: 0x51, Irql: 0, InterruptMode: line, ShareVector: true, ProcessorEnableMask: 1},
	}},
	{"035", []string{
		"0201030007000100720000000400000000000000", // Group 1 is not copied
	}, []connect.Parameters{
		{Vector: 0x72, Irql: 7, InterruptMode: edge, ShareVector: false, ProcessorEnableMask: 4},
	}},
	{"037", []string{
		"020300000900ffff91000000ffffffffffffffff", // Group 0xffff, any CPU
		"020300000900000091000000ffffffffffffffff", // Affinity -1
		"0203000009000000910000000000000000000000", // Affinity 0
	}, []connect.Parameters{
		{Vector: 0x91, Irql: 9, InterruptMode: line, ShareVector: true, ProcessorEnableMask: ^uint64(0)},
		{Vector: 0x91, Irql: 9, InterruptMode: line, ShareVector: true, ProcessorEnableMask: ^uint64(0)},
		{Vector: 0x91, Irql: 9, InterruptMode: line, ShareVector: true, ProcessorEnableMask: 0},
	}},
	{"038", []string{
		"020103000b000000b30000000000000000000080", // Affinity bit 63
	}, []connect.Parameters{
		{Vector: 0xb3, Irql: 11, InterruptMode: edge, ShareVector: false, ProcessorEnableMask: 1 << 63},
	}},
	{"039", []string{
		"0201030007000000000000000100000000000000", // Vector 0
		"0201030000000800f9ffffffff00000000000000", // a raw MSI misread as translated
	}, []connect.Parameters{
		{Vector: 0, Irql: 7, InterruptMode: edge, ShareVector: false, ProcessorEnableMask: 1},
		{Vector: 0xfffffff9, Irql: 0, InterruptMode: edge, ShareVector: false, ProcessorEnableMask: 0xff},
	}},
}

// mapped fails unless the page's mapping of a descriptor is exactly want: the fields that the page leaves alone are zero.
func mapped(t *testing.T, bytes string, want connect.Parameters) {
	t.Helper()
	got := connect.FullySpecified(descriptor(t, bytes))
	// Two functions cannot be compared; everything else can.
	assert.Nil(t, got.ServiceRoutine, bytes)
	got.ServiceRoutine = nil
	assert.Equal(t, want, got, bytes)
}

// mappingRows are the rows of group B: the page, bit for bit.
func mappingRows(t *testing.T) {
	for _, c := range pageCases {
		t.Run(c.row, func(t *testing.T) {
			for i, bytes := range c.bytes {
				want := c.want[i]
				want.Version, want.SynchronizeIrql = 1, want.Irql
				mapped(t, bytes, want)
			}
		})
	}
	t.Run("036", func(t *testing.T) {
		d := descriptor(t, "0201030007000100720000000400000000000000")
		p, err := connect.FromDescriptor(d)
		require.NoError(t, err)
		want := connect.FullySpecified(d)
		want.Version, want.Group = 4, 1
		assert.Equal(t, want, p, "all else is the page's")
		d.Group = 0
		p, err = connect.FromDescriptor(d)
		require.NoError(t, err)
		assert.Equal(t, connect.FullySpecified(d), p)
	})
	t.Run("040", func(t *testing.T) {
		const memory = "0301000000100000000000000040000000000000"
		mapped(t, memory, connect.Parameters{Version: 1, ProcessorEnableMask: 0x4000})
		_, err := connect.FromDescriptor(descriptor(t, memory))
		assert.ErrorContains(t, err, "type 3")
	})
	t.Run("041", func(t *testing.T) {
		p := connect.FullySpecified(descriptor(t, "0203ffffffffffffffffffffffffffffffffffff"))
		assert.Nil(t, p.PhysicalDeviceObject)
		assert.Nil(t, p.InterruptObject)
		assert.Nil(t, p.ServiceRoutine)
		assert.Nil(t, p.ServiceContext)
	})
	t.Run("042", func(t *testing.T) {
		d := descriptor(t, "0201030007000100720000000400000000000000")
		before := d
		assert.Equal(t, connect.FullySpecified(d), connect.FullySpecified(d))
		assert.Equal(t, before, d)
	})
	t.Run("043", func(t *testing.T) {
		f, err := os.Open("testdata/page.golden")
		require.NoError(t, err)
		defer f.Close()
		n := 0
		for lines := bufio.NewScanner(f); lines.Scan(); {
			text := lines.Text()
			if strings.HasPrefix(text, "#") {
				continue
			}
			var bytes string
			var share int
			var want connect.Parameters
			_, err := fmt.Sscanf(text, "%s %d 0x%x %d %d %d %d 0x%x %d", &bytes, &want.Version, &want.Vector, &want.Irql,
				&want.SynchronizeIrql, &want.InterruptMode, &share, &want.ProcessorEnableMask, &want.Group)
			require.NoError(t, err, text)
			want.ShareVector = share != 0
			mapped(t, bytes, want)
			n++
		}
		assert.Equal(t, 256, n)
	})
}

// descriptorRows are the rows of group C: what FromDescriptor refuses, and what it accepts and package pci warns of.
func descriptorRows(t *testing.T) {
	good := pci.TranslatedDescriptor{
		Type: pci.ResourceInterrupt, Share: pci.ShareShared, Level: 9, Vector: 0x91, Affinity: 0xF,
	}
	type change struct {
		change  func(d *pci.TranslatedDescriptor)
		refuse  string // part of the error; empty for a descriptor that is accepted
		warning string // part of the warning; empty for none
	}
	for _, c := range []struct {
		row     string
		changes []change
	}{
		{"044", []change{{func(d *pci.TranslatedDescriptor) { d.Vector = 0 }, "vector 0", ""}}},
		{"045", []change{{func(d *pci.TranslatedDescriptor) { d.Vector = pci.MessageToken }, "token", ""}}},
		{"046", []change{{func(d *pci.TranslatedDescriptor) { d.Level = 16 }, "level 0x10", ""}}},
		{"047", []change{{func(d *pci.TranslatedDescriptor) { d.Level = 0x100 }, "level 0x100", ""}}},
		{"048", []change{
			{func(d *pci.TranslatedDescriptor) { d.Level = 1 }, "level 1", ""},
			{func(d *pci.TranslatedDescriptor) { d.Level = 2 }, "level 2", ""},
			{func(d *pci.TranslatedDescriptor) { d.Level = 3 }, "", ""},
			{func(d *pci.TranslatedDescriptor) { d.Level = 11 }, "", ""},
			{func(d *pci.TranslatedDescriptor) { d.Level = 12 }, "", "level 12"},
			{func(d *pci.TranslatedDescriptor) { d.Level = 15 }, "", "level 15"},
		}},
		{"049", []change{{func(d *pci.TranslatedDescriptor) { d.Affinity = 0 }, "affinity 0", ""}}},
		{"050", []change{
			{func(d *pci.TranslatedDescriptor) { d.Share = 0 }, "share disposition 0", ""},
			{func(d *pci.TranslatedDescriptor) { d.Share = 4 }, "share disposition 4", ""},
			{func(d *pci.TranslatedDescriptor) { d.Share = 2 }, "", "driver exclusive"},
		}},
		{"051", []change{{func(d *pci.TranslatedDescriptor) { d.Flags = pci.InterruptMessage }, "latched", ""}}},
		{"052", []change{{func(d *pci.TranslatedDescriptor) { d.Flags = pci.InterruptLatched }, "", "a latched line"}}},
		{"053", []change{{func(d *pci.TranslatedDescriptor) { d.Group, d.Affinity = 0xFFFF, ^uint64(0) }, "", ""}}},
		{"055", []change{{func(d *pci.TranslatedDescriptor) { d.Flags = 0x40 }, "", "0x0040 are not known and are ignored"}}},
	} {
		t.Run(c.row, func(t *testing.T) {
			for _, change := range c.changes {
				d := good
				change.change(&d)
				p, err := connect.FromDescriptor(d)
				if change.refuse != "" {
					require.ErrorContains(t, err, change.refuse)
					assert.Equal(t, connect.Parameters{}, p)
					continue
				}
				require.NoError(t, err)
				assert.Equal(t, d.Vector, p.Vector)
				assert.EqualValues(t, d.Level, p.Irql)
				assert.Equal(t, d.Affinity, p.ProcessorEnableMask)
				if change.warning == "" {
					assert.Empty(t, d.Warnings())
					continue
				}
				require.Len(t, d.Warnings(), 1)
				assert.Contains(t, d.Warnings()[0], change.warning)
			}
		})
	}
	t.Run("054", func(t *testing.T) {
		// Only who knows the machine can tell. Connect does: a group without processors is STATUS_NOT_FOUND, row 97.
		d := good
		d.Group = 5
		require.ErrorContains(t, d.ValidateFor(1), "group 5 does not exist")
		require.NoError(t, d.ValidateFor(6))
	})
}

// FuzzFullySpecified holds the mapping to the page's rules, written down a second time.
func FuzzFullySpecified(f *testing.F) {
	f.Add([]byte("\x02\x03\x00\x00\x09\x00\x00\x00\x91\x00\x00\x00\x0f\x00\x00\x00\x00\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := pci.DecodeTranslated(b, pci.Bits64)
		if err != nil {
			return
		}
		p := connect.FullySpecified(d)
		assert.EqualValues(t, 1, p.Version)
		assert.Equal(t, uint32(b[8])|uint32(b[9])<<8|uint32(b[10])<<16|uint32(b[11])<<24, p.Vector)
		assert.Equal(t, b[4], p.Irql)
		assert.Equal(t, b[4], p.SynchronizeIrql)
		assert.Equal(t, b[1] == 3, p.ShareVector)
		assert.Equal(t, b[2]&1 == 1, p.InterruptMode == connect.Latched)
		assert.Zero(t, p.Group)
		assert.False(t, p.FloatingSave)
	})
}
