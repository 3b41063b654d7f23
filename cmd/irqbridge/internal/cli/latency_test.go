package cli

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/irqbridge/irqbridge/pci"
	"github.com/irqbridge/irqbridge/vfio/vfiotest"
)

func TestTimesAreReadAsCyclictestDoes(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"": 0, "30": 30 * time.Second, "10m": 10 * time.Minute, "2h": 2 * time.Hour, "1d": 24 * time.Hour, "1.5s": 1500 * time.Millisecond,
	} {
		got, err := parseTime(text)
		require.NoError(t, err, text)
		assert.Equal(t, want, got, text)
	}
	for _, text := range []string{"0", "0d", "-1", "-1s", "d", "4294967295d", "99999999999", "soon"} {
		_, err := parseTime(text)
		assert.Error(t, err, text)
	}
}

func TestQuartersMeetWithoutGaps(t *testing.T) {
	for d := range time.Duration(5000) {
		from, to := quarter(d)
		require.True(t, from <= d && d < to, "%d is in [%d, %d)", d, from, to)
		next, _ := quarter(to)
		require.Equal(t, to, next)
	}
}

// TestLatencyCountsEachInterrupt: as many as were asked for, and the histogram and the overflow add up to them.
func TestLatencyCountsEachInterrupt(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		for _, c := range []struct {
			address  pci.Address
			args     string
			messages int
		}{
			{m.EDU, "--kind intx", 1},
			{m.EDU, "--kind msi --wait hybrid", 1},
			{m.E1000E, "--wait cooperative", 5},
			{m.NVMe, "--loopback --messages 4", 4},
		} {
			t.Run(fmt.Sprint(c.address, c.args), func(t *testing.T) {
				bound(t, m, c.address)
				got := fromJSON[latencyJSON](t, m, 0, append([]string{"latency", c.address.String(), "-l", "20", "-i", "100", "-h", "50"}, strings.Fields(c.args)...)...)
				require.Len(t, got.Messages, c.messages)
				for _, each := range got.Messages {
					assert.EqualValues(t, 20, each.Cycles)
					sum := each.Overflows
					for _, n := range each.Histogram {
						sum += n
					}
					assert.EqualValues(t, 20, sum)
					assert.Positive(t, each.MinNS)
					assert.LessOrEqual(t, each.MinNS, each.P50NS)
					assert.LessOrEqual(t, each.P50NS, each.MaxNS)
				}
			})
		}
	})
}
