package pci_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/irqbridge/irqbridge/pci"
)

// counting gives n bytes 00 01 02 and so on.
func counting(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = uint8(i)
	}
	return b
}

const row00 = "00: 00 01 02 03 04 05 06 07 08 09 0a 0b 0c 0d 0e 0f\n"

func TestReadDump(t *testing.T) {
	row10 := "10: 10 11 12 13 14 15 16 17 18 19 1a 1b 1c 1d 1e 1f\n"
	for name, tc := range map[string]struct {
		text string
		want []pci.Dump
	}{
		"one device, short address": {
			"00:04.0 Unclassified device [00ff]: Device 1234:11e8 (rev 10)\n" + row00 + row10 + "\n",
			[]pci.Dump{{
				Address: pci.Address{Device: 4}, Header: "Unclassified device [00ff]: Device 1234:11e8 (rev 10)", Config: counting(32),
			}},
		},
		"several, with and without an empty line between": {
			"0000:00:04.0 a\n" + row00 + "\n\n10000:e1:1f.7 b\n" + row00 + "00:05.0 c\n" + row00,
			[]pci.Dump{
				{Address: pci.Address{Device: 4}, Header: "a", Config: counting(16)},
				{Address: pci.Address{Domain: 0x10000, Bus: 0xe1, Device: 0x1f, Function: 7}, Header: "b", Config: counting(16)},
				{Address: pci.Address{Device: 5}, Header: "c", Config: counting(16)},
			},
		},
		"decoded lines between": {
			"# taken by hand\n\n00:04.0 a\n\tSubsystem: Red Hat [1af4:1100]\n\tCapabilities: [40] MSI: Enable- Count=1/1\n" +
				"\t\tAddress: 0000  Data: 0000\npcilib: Cannot open /sys/x\n\tKernel driver in use: vfio-pci\n" + row00,
			[]pci.Dump{{Address: pci.Address{Device: 4}, Header: "a", Config: counting(16)}},
		},
		"carriage returns, upper case, trailing blanks, no newline at the end": {
			"00:04.0 a \r\n00: 00 01 02 03 04 05 06 07 08 09 0A 0B 0C 0D 0E 0F \t\r\n10: 10 11",
			[]pci.Dump{{Address: pci.Address{Device: 4}, Header: "a", Config: counting(18)}},
		},
		"no header text, no rows": {
			"00:04.0\n00:05.0 \n" + row00,
			[]pci.Dump{{Address: pci.Address{Device: 4}}, {Address: pci.Address{Device: 5}, Config: counting(16)}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := pci.ReadDump(strings.NewReader(tc.text))
			require.NoError(t, err)
			assert.Equal(t, tc.want, got)

			got, err = pci.ReadDump(iotest.OneByteReader(strings.NewReader(tc.text)))
			require.NoError(t, err)
			assert.Equal(t, tc.want, got)
		})
	}
}

func TestReadDumpRefuses(t *testing.T) {
	var full bytes.Buffer
	require.NoError(t, pci.WriteDump(&full, []pci.Dump{{Config: make([]byte, 4096)}}))
	whole := strings.TrimSuffix(full.String(), "\n")

	for name, tc := range map[string]struct {
		text string
		err  string
	}{
		"nothing":              {"", "no device in 0 lines; want the output of lspci -xxxx"},
		"no device":            {"hello\nworld\n", "no device in 2 lines"},
		"device above 1f":      {"\n00:20.0 a\n", "line 2: pci address \"00:20.0\": device 0x20 is above 0x1f"},
		"row before a device":  {row00, "line 1: row 00: belongs to no device"},
		"row after the end":    {"00:04.0 a\n" + row00 + "\n10: 00\n", "line 4: row 10: belongs to no device"},
		"missing first row":    {"00:04.0 a\n10: 00\n", "line 2: row 10 comes where row 00 is due"},
		"missing row":          {"00:04.0 a\n" + row00 + "20: 00\n", "line 3: row 20 comes where row 10 is due"},
		"row twice":            {"00:04.0 a\n" + row00 + row00, "line 3: row 00 comes where row 10 is due"},
		"row after a short":    {"00:04.0 a\n00: 00 01\n10: 00\n", "line 3: row 10 comes where row 02 is due"},
		"not a byte":           {"00:04.0 a\n00: 00 0g\n", `line 2: row 00: "0g" is not a byte`},
		"one digit":            {"00:04.0 a\n00: 00 1\n", `line 2: row 00: "1" is not a byte`},
		"three digits":         {"00:04.0 a\n00: 001\n", `line 2: row 00: "001" is not a byte`},
		"a sign":               {"00:04.0 a\n00: +1\n", `line 2: row 00: "+1" is not a byte`},
		"text after the bytes": {"00:04.0 a\n00: 00 01 ..\n", `line 2: row 00: ".." is not a byte`},
		"17 bytes":             {"00:04.0 a\n" + strings.TrimSpace(row00) + " 10\n", "line 2: row 00 has more than 16 bytes"},
		"past 4096":            {whole + "1000: 00\n", "line 258: row 1000 starts after the end"},
		"far past 4096":        {"00:04.0 a\nfffffffffffffffffff: 00\n", "line 2: row fffffffffffffffffff starts after the end"},
		"long line":            {"00:04.0 a\n" + strings.Repeat("x", 70000) + "\n", "line 2: longer than 65536 bytes"},
		"too many devices":     {strings.Repeat("00:04.0\n", 65537), "line 65537: more than 65536 devices"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := pci.ReadDump(strings.NewReader(tc.text))
			require.ErrorContains(t, err, tc.err)
			assert.Nil(t, got)
		})
	}

	broken := errors.New("the disk is gone")
	_, err := pci.ReadDump(iotest.ErrReader(broken))
	require.ErrorIs(t, err, broken)
}

func TestWriteDump(t *testing.T) {
	var text bytes.Buffer
	require.NoError(t, pci.WriteDump(&text, []pci.Dump{
		{Address: pci.Address{Device: 4}, Header: "first", Config: counting(18)},
		{Address: pci.Address{Domain: 0x10000}},
	}))
	assert.Equal(t, "0000:00:04.0 first\n"+row00+"10: 10 11\n\n10000:00:00.0 \n\n", text.String())

	text.Reset()
	config := make([]byte, 4096)
	require.NoError(t, pci.WriteDump(&text, []pci.Dump{{Config: config}}))
	assert.Contains(t, text.String(), "\nf0: 00 ")
	assert.Contains(t, text.String(), "\n100: 00 ")
	assert.Contains(t, text.String(), "\nff0: 00 ")
}

func TestWriteDumpRefuses(t *testing.T) {
	for _, d := range []pci.Dump{
		{Header: "two\nlines"},
		{Header: "two\rlines"},
		{Config: make([]byte, 4097)},
	} {
		var text bytes.Buffer
		require.ErrorContains(t, pci.WriteDump(&text, []pci.Dump{{}, d}), "dump of 0000:00:00.0: ")
		assert.Empty(t, text.String(), "nothing is written by halves")
	}
	broken := errors.New("the pipe is gone")
	require.ErrorIs(t, pci.WriteDump(errorWriter{broken}, []pci.Dump{{}}), broken)
}

type errorWriter struct{ err error }

func (w errorWriter) Write([]byte) (int, error) { return 0, w.err }

func TestDumpRoundTrip(t *testing.T) {
	dump := rapid.Custom(func(t *rapid.T) pci.Dump {
		d := pci.Dump{
			Address: addresses().Draw(t, "address"),
			Header:  strings.TrimSpace(rapid.StringMatching(`[ -~]{0,40}`).Draw(t, "header")),
		}
		if size := rapid.SampledFrom([]int{0, 1, 16, 17, 64, 256, 4096}).Draw(t, "size"); size > 0 {
			d.Config = rapid.SliceOfN(rapid.Byte(), size, size).Draw(t, "config")
		}
		return d
	})
	rapid.Check(t, func(t *rapid.T) {
		want := rapid.SliceOfN(dump, 1, 3).Draw(t, "dumps")
		var text bytes.Buffer
		require.NoError(t, pci.WriteDump(&text, want))
		got, err := pci.ReadDump(&text)
		require.NoError(t, err)
		assert.Equal(t, want, got)
	})
}
