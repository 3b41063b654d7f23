package pci_test

import (
	"bytes"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/irqbridge/irqbridge/pci"
)

func FuzzDecode(f *testing.F) {
	for _, d := range deviceDumps(f) {
		f.Add(d.Config)
		f.Add(d.Config[:64])
	}
	f.Add([]byte(everything()))
	f.Add([]byte(rootPort()))
	f.Add([]byte(nil))
	f.Add(bytes.Repeat([]byte{0xff}, 4096))

	loop := endpoint(256)
	loop.only(0x40, pci.CapMSI)
	loop.put8(0x41, 0x40)
	f.Add([]byte(loop))
	edge := express(4096)
	edge.put8(0x41, 0xfc)
	edge.put8(0xfc, uint8(pci.CapMSIX))
	edge.extended(0x100, 1, 1, 0xffc)
	f.Add([]byte(edge))

	f.Fuzz(func(t *testing.T, config []byte) {
		before := bytes.Clone(config)
		function, err := pci.Decode(config)
		assert.Equal(t, before, config, "the input is not changed")
		if err != nil {
			assert.Nil(t, function)
			if len(config) >= 64 {
				require.ErrorIs(t, err, pci.ErrNoAnswer)
			}
			return
		}
		checkInvariants(t, config, function)
		function.SetSizes(pci.Sizes{BARs: [6]uint64{0x1000, 0x4000, 0, 0x20, 1, ^uint64(0)}, ROM: 0x800})
		checkInvariants(t, config, function)
	})
}

func FuzzDecodeTranslated(f *testing.F) {
	for _, golden := range goldenDescriptors {
		b, err := pci.TranslatedDescriptor.Encode(golden.want, pci.Bits64)
		require.NoError(f, err)
		f.Add(b, 64)
		f.Add(b[:16], 32)
	}
	f.Add([]byte(nil), 64)
	f.Add(make([]byte, 20), 0)

	f.Fuzz(func(t *testing.T, b []byte, width int) {
		bits := pci.Bits(width)
		translated, err := pci.DecodeTranslated(b, bits)
		raw, rawErr := pci.DecodeRaw(b, bits)
		good := bits == pci.Bits64 && len(b) == 20 || bits == pci.Bits32 && len(b) == 16
		require.Equal(t, good, err == nil)
		require.Equal(t, good, rawErr == nil)
		if !good {
			return
		}
		again, err := translated.Encode(bits)
		require.NoError(t, err)
		require.Equal(t, b, again)
		again, err = raw.Encode(bits)
		require.NoError(t, err)
		require.Equal(t, b, again)

		if translated.Validate() == nil {
			assert.Equal(t, pci.ResourceInterrupt, translated.Type)
			assert.NotZero(t, translated.Vector)
			assert.NotZero(t, translated.Affinity)
			assert.LessOrEqual(t, translated.Level, uint16(15), "what passes survives the cut to 8 bits")
		}
		for _, w := range translated.Warnings() {
			assert.NotEmpty(t, w)
		}
		list := pci.ResourceList{Raw: []pci.RawDescriptor{raw}, Translated: []pci.TranslatedDescriptor{translated}}
		if list.Validate() == nil {
			for i, m := range list.Expand() {
				assert.Equal(t, i, m.Index)
				assert.Equal(t, translated.Vector+uint32(i), m.Translated.Vector)
			}
		}
	})
}

func FuzzDecodeFullList(f *testing.F) {
	for _, text := range []string{lineList64, lineList32, twoMSIX64, twoMSIX32, "", "00000000", "ffffffff" + lineList64[8:]} {
		b, err := hex.DecodeString(text)
		require.NoError(f, err)
		f.Add(b, true)
		f.Add(b, false)
	}
	specific, err := hex.DecodeString("01000000" + "0500000001000000" + "0100010001000000" + specific64 + data24)
	require.NoError(f, err)
	f.Add(specific, true)

	f.Fuzz(func(t *testing.T, b []byte, wide bool) {
		width := pci.Bits32
		if wide {
			width = pci.Bits64
		}
		before := bytes.Clone(b)
		translated, err := pci.DecodeFullList[pci.TranslatedDescriptor](b, width)
		raw, rawErr := pci.DecodeFullList[pci.RawDescriptor](b, width)
		require.Equal(t, err, rawErr, "the two forms differ in what fields mean, not in their sizes")
		require.Equal(t, before, b, "the input is not changed")
		if err != nil {
			return
		}
		again, err := translated.Encode(width)
		require.NoError(t, err)
		require.Equal(t, b, again)
		again, err = raw.Encode(width)
		require.NoError(t, err)
		require.Equal(t, b, again)
		for _, full := range translated {
			_ = full.Warnings()
		}
		if list, err := pci.NewResourceList(raw, translated); err == nil {
			if list.Validate() == nil {
				assert.LessOrEqual(t, len(list.Expand()), 2*len(b), "32 messages at most for a descriptor of 16 bytes or more")
			}
		}
	})
}

func FuzzReadDump(f *testing.F) {
	f.Add("00:04.0 a\n" + row00)
	f.Add("0000:00:04.0 a\n\tCapabilities: [40] MSI\n" + row00 + "\n10000:e1:00.0\n00: 00\n")
	f.Add("00:04.0 a\r\n00: 00 01\r\n\r\n")
	f.Add("00:20.0\n")
	f.Add("1000: 00\n")
	f.Add("")

	f.Fuzz(func(t *testing.T, text string) {
		dumps, err := pci.ReadDump(strings.NewReader(text))
		if err != nil {
			require.Nil(t, dumps)
			require.True(t, strings.HasPrefix(err.Error(), "dump: "), "%v", err)
			return
		}
		require.NotEmpty(t, dumps)
		for _, d := range dumps {
			require.LessOrEqual(t, len(d.Config), 4096)
			if strings.Contains(d.Header, "\r") || len(d.Header) > 60000 {
				return // read, and not to be written in this form
			}
		}
		var written bytes.Buffer
		require.NoError(t, pci.WriteDump(&written, dumps))
		again, err := pci.ReadDump(&written)
		require.NoError(t, err)
		require.Equal(t, dumps, again)
	})
}

func FuzzParseAddress(f *testing.F) {
	for _, text := range []string{
		"0000:00:04.0", "00:04.0", "10000:e1:00.0", "ffffffff:ff:1f.7", "0:0.0", "00:20.0", "00:04.8", "", ":.", "0:0:0:0.0",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		address, err := pci.ParseAddress(text)
		if err != nil {
			require.Zero(t, address)
			// 40 and 20 characters of it are quoted, each as \U0010ffff at worst.
			require.Less(t, len(err.Error()), 60*10+200, "a long input makes no long error")
			return
		}
		require.LessOrEqual(t, address.Device, uint8(31))
		require.LessOrEqual(t, address.Function, uint8(7))
		again, err := pci.ParseAddress(address.String())
		require.NoError(t, err)
		require.Equal(t, address, again)
	})
}
