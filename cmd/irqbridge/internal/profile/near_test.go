package profile

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestNearFindsWhatWasMeant(t *testing.T) {
	names := []string{"CTRL", "CTRL_EXT", "STATUS", "ICR", "ICS", "IMS", "IMC", "A"}
	for name, want := range map[string][]string{
		"STATSU":  {"STATUS"},
		"status":  {"STATUS"},
		"CTR":     {"CTRL", "CTRL_EXT", "ICR"},
		"CTRL_":   {"CTRL", "CTRL_EXT"},
		"ICX":     {"ICR", "ICS", "IMS"},
		"B":       nil,
		"":        nil,
		"VERSION": nil,
	} {
		assert.Equal(t, want, Near(name, names), name)
	}
}
