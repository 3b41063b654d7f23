package cli

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/irqbridge/irqbridge/pci"
)

// leaves collects the keys of a JSON value that have bits, numbers or texts.
func leaves(value any, key string, keys map[string]bool) {
	switch value := value.(type) {
	case map[string]any:
		for key, inside := range value {
			leaves(inside, key, keys)
		}
	case []any:
		for _, inside := range value {
			leaves(inside, key, keys)
		}
	case nil:
	default:
		keys[key] = true
	}
}

// onHost leaves tests of dumps, which know no kernel, out of the virtual machine, which has neither lspci nor the files.
func onHost(t *testing.T) {
	t.Helper()
	if os.Getenv("IRQBRIDGE_VM") != "" {
		t.Skip("compares texts: runs on the host")
	}
}

// TestEveryFieldOfJSONIsPrinted looks for each field of each capability of the devices of package pci in the text.
func TestEveryFieldOfJSONIsPrinted(t *testing.T) {
	onHost(t)
	files, err := filepath.Glob("../../../../pci/testdata/devices/*.txt")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	fields := 0
	for _, file := range files {
		dumps, err := (&app{}).readDump(file)
		require.NoError(t, err)
		f, err := pci.Decode(dumps[0].Config)
		require.NoError(t, err)
		var decoded []any
		for _, c := range f.Capabilities {
			decoded = append(decoded, c.Decoded)
		}
		for _, c := range f.ExtendedCapabilities {
			decoded = append(decoded, c.Decoded)
		}
		for _, d := range decoded {
			if d == nil {
				continue
			}
			b, err := json.Marshal(d)
			require.NoError(t, err)
			var value any
			require.NoError(t, json.Unmarshal(b, &value))
			keys := map[string]bool{}
			leaves(value, "", keys)
			var text bytes.Buffer
			printRegisters(&output{w: &text}, "", "", d)
			words := " " + strings.Join(strings.Fields(text.String()), " ")
			for key := range keys {
				assert.Regexp(t, " "+key+`(\+|-|=)`, words)
				fields++
			}
			for line := range strings.Lines(text.String()) {
				assert.LessOrEqual(t, len(line), registerWidth+1, line)
			}
		}
	}
	assert.Greater(t, fields, 100)
}

func TestRegistersArePrintedInTheirOrder(t *testing.T) {
	digits := strings.Repeat("0123456789", 20)
	var text bytes.Buffer
	printRegisters(&output{w: &text}, "  ", "top", struct {
		B      bool            `json:"b"`
		Inside struct{ X int } `json:"inside"`
		A      int             `json:"a"`
		Text   string          `json:"text"`
		Offset int             `json:"offset"`
		List   []bool          `json:"list"`
		Empty  []int           `json:"empty"`
		Parts  []struct{ Y bool }
		Data   string `json:"data"`
	}{
		B: true, Text: "two words", Offset: 64, List: []bool{true, false}, Parts: []struct{ Y bool }{{true}, {false}},
		Data: digits,
	})
	assert.Equal(t, strings.Join([]string{
		`  top: b+ a=0 text="two words" offset=0x40 list=+,- data=` + digits[:53],
		`    ` + digits[53:159],
		`    ` + digits[159:],
		`  top.inside: X=0`,
		`  top.Parts[0]: Y+`,
		`  top.Parts[1]: Y-`,
		``,
	}, "\n"), text.String())
}
