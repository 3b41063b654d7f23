package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/irqbridge/irqbridge/cmd/irqbridge/internal/recording"
	"github.com/irqbridge/irqbridge/pci"
	"github.com/irqbridge/irqbridge/vfio/vfiotest"
)

// recorded writes a run of a device: ticks of a second, with calls and claimed calls by message.
func recorded(t *testing.T, m *vfiotest.Machine, address pci.Address, kind string, loopback, end bool, ticks ...[]recording.Counts) string {
	t.Helper()
	s, err := m.Host.Snapshot(address)
	require.NoError(t, err)
	h := recording.Header{Kind: kind, Snapshot: string(s.Text()), Messages: make([]recording.Message, len(ticks[0]))}
	h.Device.Address, h.Options.Loopback = address, loopback
	var file bytes.Buffer
	w, err := recording.NewWriter(&file, h)
	require.NoError(t, err)
	totals := make([]recording.Counts, len(ticks[0]))
	for i, tick := range ticks {
		for n := range tick {
			tick[n].Message, totals[n].Message = n, n
			totals[n].Add(&tick[n])
		}
		require.NoError(t, w.Tick(time.Duration(i+1)*time.Second, tick))
	}
	require.NoError(t, w.Event(recording.Event{T: time.Duration(len(ticks)) * time.Second, Event: recording.EventError, Text: "it was \x1b[31mhot"}))
	if end {
		require.NoError(t, w.End(recording.End{T: time.Duration(len(ticks)) * time.Second, Outcome: recording.OutcomeDone, Totals: totals}))
	}
	name := filepath.Join(t.TempDir(), "run.jsonl")
	require.NoError(t, os.WriteFile(name, file.Bytes(), 0o600))
	return name
}

func TestAReplayCountsWhatWasRecorded(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	m := vfiotest.FakeMachine(t)
	for name, c := range map[string]struct {
		address  pci.Address
		kind     string
		loopback bool
		ticks    [][]recording.Counts
	}{
		"line":     {m.EDU, "intx", false, [][]recording.Counts{{{Calls: 7, Claimed: 7}}, {{Calls: 5, Claimed: 3}}}},
		"MSI":      {m.EDU2, "msi", false, [][]recording.Counts{{{Calls: 10, Claimed: 10, Raised: 11, Serviced: 10}}}},
		"16 MSIs":  {m.XHCI, "msi", false, [][]recording.Counts{{3: {Calls: 2, Claimed: 2}, 9: {Calls: 30, Claimed: 1}, 15: {}}}},
		"MSI-X":    {m.E1000E, "msix", false, [][]recording.Counts{{{Calls: 50, Claimed: 50}, {Calls: 5}, {Calls: 8, Claimed: 8}}, {{Calls: 1, Claimed: 1}, {}, {Calls: 90, Claimed: 89}}}},
		"loopback": {m.NVMe, "msix", true, [][]recording.Counts{{{Calls: 4, Claimed: 4}, {Calls: 40, Claimed: 40}}}},
		"in group": {m.BridgeEDU, "msi", false, [][]recording.Counts{{{Calls: 3, Claimed: 3}}}},
	} {
		t.Run(name, func(t *testing.T) {
			file := recorded(t, m, c.address, c.kind, c.loopback, true, c.ticks...)
			r := irqbridge(t, m, "replay", file, "--speed", "0", "--json")
			require.Zero(t, r.code)
			assert.Contains(t, r.stderr, `: "error": "it was \x1b[31mhot"`)
			var got connectJSON
			require.NoError(t, json.Unmarshal([]byte(r.stdout), &got))
			assert.Equal(t, c.address, got.Address)
			require.Len(t, got.Interrupts, len(c.ticks[0]))
			for n, i := range got.Interrupts {
				var want recording.Counts
				for _, tick := range c.ticks {
					want.Add(&tick[n])
				}
				assert.Equal(t, want.Calls, i.Calls, "message %d", n)
				assert.Equal(t, want.Claimed, i.Claimed)
				assert.Equal(t, want.Raised, i.Raised)
				assert.Equal(t, want.Serviced, i.Serviced)
				assert.Zero(t, i.WrongCPU)
				delivered := uint64(0)
				for _, count := range i.Delivered {
					delivered += count
				}
				if c.loopback {
					want.Calls = 0
				}
				assert.Equal(t, want.Calls, delivered)
			}
		})
	}
}

func TestAReplayKeepsTheTime(t *testing.T) {
	m := vfiotest.FakeMachine(t)
	file := recorded(t, m, m.EDU, "msi", false, true, []recording.Counts{{Calls: 3, Claimed: 3}})
	begin := time.Now()
	require.Zero(t, irqbridge(t, m, "replay", file, "--speed", "4").code)
	assert.GreaterOrEqual(t, time.Since(begin), 250*time.Millisecond, "a second, four times as fast")

	// A tick that comes in a year can be interrupted, once the fake is set up: how long that takes is the machine's affair. So can
	// one that comes later than a clock can tell.
	for _, speed := range []string{"0.0000001", "1e-300"} {
		for patience := 50 * time.Millisecond; ; patience *= 2 {
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			r := irqbridgeUntil(ctx, t, m, &bytes.Buffer{}, "replay", file, "--speed", speed)
			cancel()
			require.Equal(t, 1, r.code)
			if strings.Contains(r.stderr, "stopped before the end of the recording") {
				break
			}
			require.Less(t, patience, time.Minute, r.stderr)
		}
	}
}

// TestWhatDidNotComeAgainOutweighsACutOff by the exit status.
func TestWhatDidNotComeAgainOutweighsACutOff(t *testing.T) {
	run, err := recording.NewReader(strings.NewReader(`{"schema":1,"type":"run","kind":"msi","messages":[{}]}
{"type":"tick","t":5,"messages":[{"message":0,"calls":2,"claimed":1}]}
`), "run")
	require.NoError(t, err)
	for err == nil {
		_, err = run.Next()
	}
	require.True(t, run.Partial())
	var told bytes.Buffer
	r := &routine{}
	p := &player{app: &app{stderr: &output{w: &told}}, session: &session{rows: []*row{{routine: r}}}, run: run}
	assert.Equal(t, exitFailed, p.compare(t.Context()))
	assert.Contains(t, told.String(), "message 0: 0 calls, 0 claimed; recorded were 2 and 1")
	r.calls.Store(2)
	r.claimed.Store(1)
	assert.Equal(t, exitPartial, p.compare(t.Context()))
}

func TestAReplayOfARunThatWasCutOff(t *testing.T) {
	m := vfiotest.FakeMachine(t)
	file := recorded(t, m, m.EDU, "msi", false, false, []recording.Counts{{Calls: 3, Claimed: 3}})
	r := irqbridge(t, m, "replay", file, "--speed", "0")
	assert.Equal(t, 3, r.code)
	assert.Contains(t, r.stderr, "the recording was cut off after 1s, and has no end")
}

func TestWhatIsNotReplayed(t *testing.T) {
	m := vfiotest.FakeMachine(t)
	good := recorded(t, m, m.EDU, "msi", false, true, []recording.Counts{{Calls: 3, Claimed: 3}})
	text, err := os.ReadFile(good)
	require.NoError(t, err)
	for want, change := range map[string][2]string{
		"there is no snapshot in it":               {`"snapshot":"`, `"snapshots":"`},
		": snapshot:1: this is no snapshot":        {`irqbridge-snapshot 1`, `snapshot`},
		"and the fake of its device was given":     {`"messages":[{`, `"messages":[{},{`},
		":1: kind":                                 {`"kind":"msi"`, `"kind":"x"`},
		"the device has no MSI-X; it offers: INTA": {`"kind":"msi"`, `"kind":"msix"`},
		":2: message 7: the run has 1":             {`"messages":[{"message":0`, `"messages":[{"message":7`},
		":1: this is not a recorded run":           {`"type":"run"`, `"type":"ran"`},
	} {
		t.Run(want, func(t *testing.T) {
			changed := bytes.Replace(text, []byte(change[0]), []byte(change[1]), 1)
			require.NotEqual(t, string(text), string(changed))
			file := filepath.Join(t.TempDir(), "run.jsonl")
			require.NoError(t, os.WriteFile(file, changed, 0o600))
			r := irqbridge(t, m, "replay", file, "--speed", "0")
			assert.NotZero(t, r.code)
			assert.Contains(t, r.stderr, want)
		})
	}
}
