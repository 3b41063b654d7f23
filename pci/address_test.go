package pci_test

import (
	"encoding/json"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/irqbridge/irqbridge/pci"
)

func TestParseAddress(t *testing.T) {
	for _, tc := range []struct {
		text string
		want pci.Address
		form string // what String gives
	}{
		{"0000:00:04.0", pci.Address{Device: 4}, "0000:00:04.0"},
		{"00:04.0", pci.Address{Device: 4}, "0000:00:04.0"},
		{"0:4.0", pci.Address{Device: 4}, "0000:00:04.0"},
		{"FF:1F.7", pci.Address{Bus: 0xff, Device: 0x1f, Function: 7}, "0000:ff:1f.7"},
		{"1:e1:00.3", pci.Address{Domain: 1, Bus: 0xe1, Function: 3}, "0001:e1:00.3"},
		{"10000:e1:00.0", pci.Address{Domain: 0x10000, Bus: 0xe1}, "10000:e1:00.0"},
		{"ffffffff:ff:1f.7", pci.Address{Domain: 0xffffffff, Bus: 0xff, Device: 0x1f, Function: 7}, "ffffffff:ff:1f.7"},
	} {
		t.Run(tc.text, func(t *testing.T) {
			got, err := pci.ParseAddress(tc.text)
			require.NoError(t, err)
			assert.Equal(t, tc.want, got)
			assert.Equal(t, tc.form, got.String())
		})
	}
}

func TestParseAddressRefuses(t *testing.T) {
	for text, reason := range map[string]string{
		"":                   "no function",
		"04":                 "no function",
		"00:04":              "no function",
		"4.0":                "separated by a colon",
		"0:0:0:4.0":          "separated by a colon",
		"00:20.0":            "device 0x20 is above 0x1f",
		"00:04.8":            "function 0x8 is above 0x7",
		"00:04.":             `function "" is not`,
		"00:04.00":           `function "00" is not`,
		"00:004.0":           `device "004" is not`,
		"100:04.0":           `bus "100" is not`,
		"123456789:00:04.0":  `domain "123456789" is not`,
		":00:04.0":           `domain "" is not`,
		"0000:00:04.0\n":     `function "0\n" is not`,
		" 0000:00:04.0":      `domain " 0000" is not`,
		"0x0:00:04.0":        `domain "0x0" is not`,
		"+0:04.0":            `bus "+0" is not`,
		"0_0:04.0":           `bus "0_0" is not`,
		"0000:00:04.0.0":     `function "0.0" is not`,
		"0000:0g:04.0":       `bus "0g" is not`,
		"٠٠:٠٤.٠":            "is not",
		"\xff\x00:\x01.\x02": "is not",
	} {
		t.Run(text, func(t *testing.T) {
			got, err := pci.ParseAddress(text)
			require.ErrorContains(t, err, reason)
			require.ErrorContains(t, err, "such as 0000:00:04.0", "the next step")
			assert.Zero(t, got)
		})
	}
}

func TestAddressCompareOrders(t *testing.T) {
	ordered := []pci.Address{
		{},
		{Function: 1},
		{Device: 1},
		{Bus: 1},
		{Bus: 1, Device: 2, Function: 3},
		{Domain: 1},
		{Domain: 0x10000},
		{Domain: 0xffffffff},
	}
	shuffled := slices.Clone(ordered)
	slices.Reverse(shuffled)
	slices.SortFunc(shuffled, pci.Address.Compare)
	assert.Equal(t, ordered, shuffled)
	assert.Zero(t, ordered[4].Compare(ordered[4]))
}

func TestAddressInJSON(t *testing.T) {
	in := map[pci.Address]pci.Address{{Device: 4}: {Domain: 0x10000, Bus: 0xe1}}
	text, err := json.Marshal(in)
	require.NoError(t, err)
	assert.JSONEq(t, `{"0000:00:04.0":"10000:e1:00.0"}`, string(text))

	var out map[pci.Address]pci.Address
	require.NoError(t, json.Unmarshal(text, &out))
	assert.Equal(t, in, out)

	address := pci.Address{Device: 4}
	require.Error(t, json.Unmarshal([]byte(`"00:20.0"`), &address))
	assert.Equal(t, pci.Address{Device: 4}, address, "an error leaves the address alone")
}

func addresses() *rapid.Generator[pci.Address] {
	return rapid.Custom(func(t *rapid.T) pci.Address {
		return pci.Address{
			Domain:   rapid.Uint32().Draw(t, "domain"),
			Bus:      rapid.Uint8().Draw(t, "bus"),
			Device:   rapid.Uint8Max(0x1f).Draw(t, "device"),
			Function: rapid.Uint8Max(7).Draw(t, "function"),
		}
	})
}

func TestAddressRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := addresses().Draw(t, "address")
		got, err := pci.ParseAddress(want.String())
		require.NoError(t, err)
		assert.Equal(t, want, got)
	})
}

func TestKindText(t *testing.T) {
	for kind, text := range map[pci.Kind]string{pci.KindINTx: "intx", pci.KindMSI: "msi", pci.KindMSIX: "msix"} {
		assert.Equal(t, text, kind.String())
		got, err := pci.ParseKind(text)
		require.NoError(t, err)
		assert.Equal(t, kind, got)

		encoded, err := json.Marshal(kind)
		require.NoError(t, err)
		var decoded pci.Kind
		require.NoError(t, json.Unmarshal(encoded, &decoded))
		assert.Equal(t, kind, decoded)
	}

	for _, text := range []string{"", "auto", "INTX", "kind(0)"} {
		_, err := pci.ParseKind(text)
		require.ErrorContains(t, err, "want intx, msi or msix", text)
	}
	_, err := json.Marshal(pci.Kind(0))
	require.Error(t, err, "the zero value is no kind")
	kind := pci.KindMSI
	require.Error(t, json.Unmarshal([]byte(`"msi-x"`), &kind))
	assert.Equal(t, pci.KindMSI, kind, "an error leaves the kind alone")
}
