package cli

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/irqbridge/irqbridge/pci"
)

func TestParseSlotReadsWhatLspciReads(t *testing.T) {
	for slot, want := range map[string]map[string]bool{
		"":             {"0000:00:00.0": true, "10000:e1:1f.7": true},
		"4":            {"0000:00:04.0": true, "0000:07:04.1": true, "0000:00:05.0": false},
		".1":           {"0000:00:04.1": true, "0000:00:04.0": false},
		"1f.":          {"0000:00:1f.3": true, "0000:00:1e.3": false},
		"01:":          {"0000:01:05.0": true, "0001:01:00.0": true, "0000:00:01.0": false},
		"1:*.*":        {"0000:01:05.0": true},
		"10000::":      {"10000:e1:00.0": true, "0000:e1:00.0": false},
		"0000:00:04.0": {"0000:00:04.0": true, "0000:00:04.1": false, "0001:00:04.0": false},
	} {
		match, err := parseSlot(slot)
		require.NoError(t, err, slot)
		for text, matches := range want {
			address, err := pci.ParseAddress(text)
			require.NoError(t, err)
			assert.Equal(t, matches, match(address), "%q of %s", slot, text)
		}
	}
	for _, slot := range []string{"x", "20", "100:", ".8", "0:0:0:0", "100000000::", "0.0.0", "-1", "+1"} {
		_, err := parseSlot(slot)
		assert.ErrorContains(t, err, "-s "+slot, slot)
	}
}
