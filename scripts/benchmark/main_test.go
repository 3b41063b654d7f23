package main

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestParse(t *testing.T) {
	o, err := parse(nil)
	require.NoError(t, err)
	assert.Len(t, o.scenarios, len(scenarios()))
	assert.True(t, o.pauses)
	assert.Equal(t, o.scenarios[0].rounds, o.roundsOf(o.scenarios[0]))

	o, err = parse([]string{"--short", "--only", "flood-1,same-cpu"})
	require.NoError(t, err)
	require.Len(t, o.scenarios, 2)
	assert.Equal(t, "same-cpu", o.scenarios[0].name)
	assert.False(t, o.pauses)
	assert.Equal(t, o.scenarios[0].shortRounds, o.roundsOf(o.scenarios[0]))

	o, err = parse([]string{"--rounds", "3", "--only", stopTheWorld})
	require.NoError(t, err)
	assert.Empty(t, o.scenarios)
	assert.True(t, o.pauses)
	assert.Equal(t, 3, o.roundsOf(scenarios()[0]))

	o, err = parse([]string{"--help"})
	require.NoError(t, err)
	assert.True(t, o.help)
}

func TestParseRefuses(t *testing.T) {
	for _, c := range []struct{ args, want string }{
		{"--fast", "not defined: -fast"},
		{"extra", `unexpected argument "extra"`},
		{"--only nothing", `there is no scenario "nothing"; want same-cpu, `},
		{"--only same-cpu,", `there is no scenario ""`},
		{"--rounds -1", "-1 rounds; want 1 or more"},
		{"--rounds many", `invalid value "many"`},
		{"--out", "flag needs an argument"},
		{"--vm --only same-cpu", "--only is for measurements outside"},
		{"--kernel stable", "--kernel is for --vm"},
		{"--vm --kernel own", `there is no kernel "own" for this; want stable, newest`},
	} {
		_, err := parse(strings.Fields(c.args))
		require.ErrorContains(t, err, c.want, c.args)
		var wrong usageError
		assert.ErrorAs(t, err, &wrong, c.args)
	}
}

func TestReceiverRefuses(t *testing.T) {
	for _, c := range []struct{ args, want string }{
		{"", "want VARIANT CPU PRIORITY VECTORS LOAD"},
		{"block 1 80 1 none more", "want VARIANT CPU PRIORITY VECTORS LOAD"},
		{"block x 80 1 none", `"x"`},
		{"block 1 80 0 none", "0 vectors"},
		{"block 1 80 2049 none", "2049 vectors"},
		{"block 1 80 1 heavy", `there is no load "heavy"`},
	} {
		_, err := parseReceiver(strings.Fields(c.args))
		assert.ErrorContains(t, err, c.want, c.args)
	}
}

// What is compared is measured, in the same scenario, and every scenario has a name and rounds.
func TestComparisonsAreMeasured(t *testing.T) {
	by := map[string]*scenario{}
	for _, s := range scenarios() {
		assert.Nil(t, by[s.name], "%s is there twice", s.name)
		by[s.name] = s
		assert.GreaterOrEqual(t, s.rounds, 12, s.name)
		assert.NotNil(t, loads[s.load], s.name)
	}
	keys := map[string]bool{}
	for _, c := range comparisons() {
		assert.False(t, keys[c.key], "%s is there twice", c.key)
		keys[c.key] = true
		s := by[c.scenario]
		require.NotNil(t, s, c.key)
		names := []string{}
		for _, v := range s.variants {
			names = append(names, v.name)
		}
		assert.Contains(t, names, c.of.name, c.key)
		assert.Contains(t, names, c.to.name, c.key)
	}
	for _, key := range []string{
		"block_p50_vs_c_epoll", "block_p99_vs_c_epoll", "block_p50_vs_c_read", "block_p50_vs_dpdk_msix", "block_p50_vs_go_read",
		"hybrid_p50_vs_c_hybrid", "poll_p50_vs_c_busy", "poll_p50_vs_dpdk_msix", "vectors2048_p50_vs_dpdk",
	} {
		assert.True(t, keys[key], "%s is asked for by name", key)
	}
}

// found are findings with two rounds of two variants, of which the second failed once.
func found() *findings {
	measured := func(ns, mallocs float64) *result {
		return &result{samples: []float64{ns, 2 * ns}, counts: map[string]float64{"mallocs": mallocs, "interrupts": 1000}}
	}
	flood := func(calls float64) *result {
		return &result{counts: map[string]float64{"flood_fired": 2 * calls, "flood_calls": calls, "sleeps": 3, "elapsed": 1e9}}
	}
	var list []*scenario
	for _, s := range scenarios() {
		if s.name == "same-cpu" || s.name == "flood-64" {
			list = append(list, s)
		}
	}
	f := newFindings(list, comparisons())
	f.total = 8
	f.results = map[string]map[string][]*result{
		"same-cpu": {block.name: {measured(1100, 0), measured(900, 6)}, cEpollET.name: {measured(1000, 0), nil}},
		"flood-64": {block.name: {flood(500), flood(700)}, cEpollET.name: {flood(1000), flood(1000)}},
	}
	f.failures = []failure{{"same-cpu, C epoll-ET", errors.New("1 of 1150 interrupts were lost"), 1}}
	f.pauses = []pause{{Variant: block.name, Stops: 10, P50: 80, P99: 200, Max: 300}}
	return f
}

func TestReport(t *testing.T) {
	f := found()
	r := f.report(machine{CPU: "a processor", Kernel: "6.1"}, true)
	assert.InDelta(t, 1.1, r.Ratios["block_p50_vs_c_epoll"], 1e-9, "of the one round that both have")
	assert.NotContains(t, r.Ratios, "block_p50_vs_c_read", "nothing was measured")
	assert.InDelta(t, 0.6, r.Ratios["throughput64_vs_c_epoll"], 1e-9)
	assert.InDelta(t, 0, r.AllocsPerInterrupt, 0)
	assert.Equal(t, rate{Fires: 1200, Dispatches: 600, Sleeps: 3}, r.Throughput["64"][block.name])

	var text bytes.Buffer
	require.NoError(t, r.write(&text))
	for _, want := range []string{
		"block_p50_vs_c_epoll     irqbridge block  C epoll-ET  p50           1.10    1.10 to 1.10  <= 1.08 missed",
		"throughput64_vs_c_epoll  irqbridge block  C epoll-ET  dispatches/s  0.60    0.50 to 0.70  >= 0.75 missed",
		"FAILED: same-cpu, C epoll-ET (1 times): 1 of 1150 interrupts were lost",
	} {
		assert.Contains(t, text.String(), want)
	}
	require.ErrorContains(t, f.err(), "1 of 1150 interrupts were lost", "a lost interrupt fails the run")
}

// Nothing but what was lost, did not run or was allocated fails a run.
func TestErr(t *testing.T) {
	f := found()
	f.failures = nil
	require.NoError(t, f.err(), "however slow it is")
	for _, r := range f.results["same-cpu"][block.name] {
		r.counts["mallocs"] = 1000
	}
	require.ErrorContains(t, f.err(), "1 allocations for each interrupt")
}

func TestCheck(t *testing.T) {
	s := &scenario{mode: "closed", samples: 2}
	r := &result{samples: []float64{1, 2}, counts: map[string]float64{"fired": 152, "signals": 152}}
	require.NoError(t, r.check(s, cRead))
	r.counts["signals"] = 151
	require.ErrorContains(t, r.check(s, cRead), "152 interrupts, and the reads of the eventfds returned 151")
	require.NoError(t, r.check(s, cEpollET), "which reads none")
	r.counts["lost"] = 1
	require.ErrorContains(t, r.check(s, cEpollET), "1 of 152 interrupts were lost")
	r.counts["lost"], r.samples = 0, nil
	require.ErrorContains(t, r.check(s, cEpollET), "0 samples of 2")
}

// The last line of standard output is the JSON, and the files are what --out says.
func TestPublish(t *testing.T) {
	r := found().report(machine{CPU: "a & b"}, true)
	dir := filepath.Join(t.TempDir(), "new")
	var stdout bytes.Buffer
	require.NoError(t, r.publish(&options{json: true, out: dir}, &stdout))
	assert.Equal(t, 1, strings.Count(stdout.String(), "\n"))
	var got struct {
		Schema             int                `json:"schema"`
		Ratios             map[string]float64 `json:"ratios"`
		AllocsPerInterrupt *float64           `json:"allocsPerInterrupt"`
		Throughput         map[string]map[string]struct {
			Fires, Dispatches float64
		} `json:"throughput"`
	}
	require.NoError(t, json.Unmarshal(stdout.Bytes(), &got))
	assert.Equal(t, 1, got.Schema)
	assert.InDelta(t, 1.1, got.Ratios["block_p50_vs_c_epoll"], 1e-9)
	assert.NotNil(t, got.AllocsPerInterrupt)
	assert.InDelta(t, 600, got.Throughput["64"]["irqbridge block"].Dispatches, 0)

	for _, name := range []string{"table.txt", "result.json", "ratios.svg", "latency-same-cpu.svg", "throughput.svg"} {
		b, err := os.ReadFile(filepath.Join(dir, name))
		require.NoError(t, err)
		if strings.HasSuffix(name, ".svg") {
			wellFormed(t, name, string(b))
		}
	}
}

func wellFormed(t *testing.T, name, document string) {
	t.Helper()
	assert.NotContains(t, document, "NaN", name)
	assert.NotContains(t, document, "Inf", name)
	for d := xml.NewDecoder(strings.NewReader(document)); ; {
		_, err := d.Token()
		if errors.Is(err, io.EOF) {
			return
		}
		require.NoError(t, err, name)
	}
}

func TestGridLines(t *testing.T) {
	assert.Equal(t, []float64{0.1, 0.2, 0.5, 1, 2}, gridLines(0.09, 3))
	assert.Equal(t, []float64{1, 10, 100, 1000}, gridLines(1, 5000))
	low, high := around([]float64{0, 4, 1})
	assert.InDelta(t, 0.8, low, 1e-9)
	assert.InDelta(t, 5, high, 1e-9)
}

func TestMet(t *testing.T) {
	most, least := comparison{target: 1.08}, comparison{target: 0.75, atLeast: true}
	assert.True(t, most.met(1.08))
	assert.False(t, most.met(1.09))
	assert.True(t, least.met(0.75))
	assert.False(t, least.met(0.74))
	assert.False(t, most.met(math.NaN()))
}
