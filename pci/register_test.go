package pci_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/irqbridge/irqbridge/pci"
)

// setIn gives the names of the fields of a value that are true in its JSON form.
func setIn(t *testing.T, value any) string {
	t.Helper()
	b, err := json.Marshal(value)
	require.NoError(t, err)
	var fields map[string]any
	require.NoError(t, json.Unmarshal(b, &fields))
	var names []string
	for name, v := range fields {
		if v == true {
			names = append(names, name)
		}
	}
	return strings.Join(names, " ")
}

func TestCommandBits(t *testing.T) {
	for i, name := range []string{
		"io", "memory", "busMaster", "specialCycle", "writeInvalidate", "paletteSnoop", "parityResponse", "stepping",
		"systemError", "fastBackToBack", "interruptDisable", "", "", "", "", "",
	} {
		assert.Equal(t, name, setIn(t, pci.Command(1<<i).Bits()), "bit %d", i)
	}
}

func TestStatusBits(t *testing.T) {
	for i, name := range []string{
		"immediateReadiness", "", "", "interrupt", "capabilities", "mhz66", "userDefinable", "fastBackToBack", "dataParityError",
		"", "", "signaledTargetAbort", "receivedTargetAbort", "receivedMasterAbort", "signaledSystemError", "detectedParityError",
	} {
		assert.Equal(t, name, setIn(t, pci.StatusRegister(1<<i)), "bit %d", i)
	}
	for i, name := range []string{"fast", "medium", "slow", "reserved"} {
		assert.Equal(t, name, pci.StatusRegister(uint16(i)<<9).DeviceSelect)
	}
}
