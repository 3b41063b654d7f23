package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/irqbridge/irqbridge/cmd/irqbridge/internal/histogram"
	"github.com/irqbridge/irqbridge/cmd/irqbridge/internal/recording"
	"github.com/irqbridge/irqbridge/connect"
	"github.com/irqbridge/irqbridge/pci"
	"github.com/irqbridge/irqbridge/vfio"
	"github.com/irqbridge/irqbridge/vfio/vfiotest"
)

// wholeRun is a recording, read back.
type wholeRun struct {
	header recording.Header
	ticks  []*recording.Tick
	events []*recording.Event
	end    *recording.End
	sums   []recording.Counts
}

func readRecording(t *testing.T, in io.Reader) wholeRun {
	t.Helper()
	r, err := recording.NewReader(in, "run")
	require.NoError(t, err)
	all := wholeRun{header: r.Header}
	for {
		line, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		switch line := line.(type) {
		case *recording.Tick:
			all.ticks = append(all.ticks, line)
		case *recording.Event:
			all.events = append(all.events, line)
		case *recording.End:
			all.end = line
		}
	}
	assert.False(t, r.Partial())
	all.sums = r.Totals()
	return all
}

func TestARunIsRecorded(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
		for _, c := range []struct {
			address  pci.Address
			args     []string
			messages int
		}{
			{m.EDU, []string{"--kind", "intx"}, 1},
			{m.EDU, []string{"--kind", "msi"}, 1},
			{m.E1000E, nil, 5},
			{m.E1000E, []string{"--kind", "intx"}, 1},
			{m.NVMe, []string{"--loopback", "--messages", "8"}, 8},
		} {
			t.Run(fmt.Sprint(c.address, c.args), func(t *testing.T) {
				bound(t, m, c.address)
				file := filepath.Join(t.TempDir(), "run.jsonl")
				got := fromJSON[connectJSON](t, m, 0, append([]string{"connect", c.address.String(), "--record", file, "--raise", "50"}, c.args...)...)
				assert.Equal(t, "done", got.Ended)
				f, err := os.Open(file)
				require.NoError(t, err)
				defer f.Close()
				run := readRecording(t, f)
				assert.Equal(t, c.address, run.header.Device.Address)
				assert.Equal(t, got.Kind, run.header.Kind)
				assert.Equal(t, 50, run.header.Options.Raise)
				assert.NotEmpty(t, run.header.Kernel)
				assert.Contains(t, run.header.Snapshot, c.address.String(), "for irqbridge replay")
				require.Len(t, run.header.Messages, c.messages)
				assert.Len(t, run.header.Translated, c.messages)
				require.NotNil(t, run.end)
				assert.Equal(t, recording.OutcomeDone, run.end.Outcome)
				require.Len(t, run.end.Totals, c.messages)
				for i, total := range run.end.Totals {
					assert.EqualValues(t, 50, total.Raised)
					assert.EqualValues(t, 50, total.Serviced)
					assert.Equal(t, got.Interrupts[i].Calls, total.Calls)
					assert.Equal(t, got.Interrupts[i].Delivered, orEmpty(total.Delivered))
					assert.Equal(t, *got.Interrupts[i].HostIRQ, *run.header.Messages[i].HostIRQ)
					require.NotNil(t, run.sums[i].Latency, "the ticks have it")
					assert.EqualValues(t, 50, run.sums[i].Latency.Count())
				}
				replayed := fromJSON[connectJSON](t, m, 0, "replay", file, "--speed", "0")
				assert.Equal(t, c.address, replayed.Address)
				require.Len(t, replayed.Interrupts, c.messages)
				for i, each := range replayed.Interrupts {
					assert.Equal(t, got.Interrupts[i].Calls, each.Calls)
					assert.Equal(t, got.Interrupts[i].Claimed, each.Claimed)
				}
				page := irqbridge(t, m, "report", file)
				require.Zero(t, page.code)
				assert.Contains(t, page.stdout, fmt.Sprintf("<title>Done: %v – irqbridge</title>", c.address))
				assert.Contains(t, page.stdout, fmt.Sprintf("%d raised, %d serviced, 0 calls outside the CPUs asked for", 50*c.messages, 50*c.messages))
				assert.Equal(t, strings.Contains(strings.Join(c.args, " "), "--loopback"), strings.Contains(page.stdout, "The run was a loopback"))
			})
		}
	})
}

func orEmpty(m map[string]uint64) map[string]uint64 {
	if m == nil {
		return map[string]uint64{}
	}
	return m
}

// TestJSONLinesAreARecording: what arrives is told while it does, and in the end as --record has it.
func TestJSONLinesAreARecording(t *testing.T) {
	m := vfiotest.FakeMachine(t)
	m.Bind(t, m.NVMe)
	ctx, cancel := context.WithCancel(t.Context())
	var sent sync.WaitGroup
	seen := &lineWatcher{f: func(line string) {
		switch {
		case strings.Contains(line, `"type":"run"`):
			sent.Go(func() {
				for range 20 {
					assert.True(t, m.Fake.SendMessage(m.NVMe, 3))
					time.Sleep(time.Millisecond) // messages may be served together otherwise
				}
			})
		case strings.Contains(line, `"type":"tick"`):
			cancel()
		}
	}}
	r := irqbridgeUntil(ctx, t, m, seen, "connect", m.NVMe.String(), "--json-lines")
	sent.Wait()
	assert.Zero(t, r.code)
	run := readRecording(t, strings.NewReader(r.stdout))
	assert.NotEmpty(t, run.ticks)
	require.NotNil(t, run.end)
	assert.Equal(t, recording.OutcomeDone, run.end.Outcome, "to watch until Ctrl-C is what was asked for")
	assert.EqualValues(t, 20, run.end.Totals[3].Delivered[onlyKey(t, run.end.Totals[3].Delivered)])
	assert.Equal(t, "interrupt", run.events[len(run.events)-1].Event)
}

func onlyKey(t *testing.T, m map[string]uint64) string {
	t.Helper()
	require.Len(t, m, 1)
	for k := range m {
		return k
	}
	return ""
}

// lineWatcher calls f with each line.
type lineWatcher struct {
	f    func(string)
	text bytes.Buffer
}

func (w *lineWatcher) Write(p []byte) (int, error) {
	w.text.Write(p)
	for {
		line, err := w.text.ReadString('\n')
		if err != nil {
			w.text.WriteString(line)
			return len(p), nil
		}
		w.f(line)
	}
}

// TestTheReasonOfTheEndIsTold: on the terminal, in JSON, in the recording and by the exit status.
func TestTheReasonOfTheEndIsTold(t *testing.T) {
	stuck := withoutAcknowledge(t)
	for name, c := range map[string]struct {
		args    []string
		during  func(*vfiotest.Machine, func())
		code    int
		ended   string
		outcome string
		event   string
		says    string
	}{
		"duration":    {[]string{"--duration", "10ms"}, nil, 0, "done", recording.OutcomeDone, "", ""},
		"raised":      {[]string{"--raise", "1"}, nil, 0, "done", recording.OutcomeDone, "", ""},
		"Ctrl-C":      {nil, func(_ *vfiotest.Machine, cancel func()) { cancel() }, 0, "interrupt", recording.OutcomeDone, "interrupt", ""},
		"before done": {[]string{"--raise", "1000000"}, func(_ *vfiotest.Machine, cancel func()) { cancel() }, 1, "interrupt", recording.OutcomeStopped, "interrupt", "stopped before all was raised"},
		"gone":        {nil, func(m *vfiotest.Machine, _ func()) { m.Fake.Remove(m.EDU) }, 1, "gone", recording.OutcomeFailed, "gone", ": the device has gone: it was pulled out, or lost its power or its link\n"},
		"failed":      {[]string{"--raise", "2", "--kind", "intx", "--profile", stuck}, nil, 1, "done", recording.OutcomeFailed, "", "the line is still asserted"},
	} {
		t.Run(name, func(t *testing.T) {
			waitForService(t, 300*time.Millisecond)
			m := vfiotest.FakeMachine(t)
			require.Zero(t, irqbridge(t, m, "bind", m.EDU.String()).code)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			file := filepath.Join(t.TempDir(), "run.jsonl")
			begun := &notifier{func() {
				if c.during != nil {
					c.during(m, cancel)
				}
			}}
			r := irqbridgeUntil(ctx, t, m, begun, append([]string{"connect", m.EDU.String(), "--json", "--record", file}, c.args...)...)
			assert.Equal(t, c.code, r.code)
			assert.Contains(t, r.stderr, c.says)
			var got connectJSON
			require.NoError(t, json.Unmarshal([]byte(r.stdout), &got))
			assert.Equal(t, c.ended, got.Ended)
			text, err := os.ReadFile(file)
			require.NoError(t, err)
			run := readRecording(t, bytes.NewReader(text))
			require.NotNil(t, run.end)
			assert.Equal(t, c.outcome, run.end.Outcome)
			assert.Equal(t, c.code, run.end.Exit)
			if c.event != "" {
				require.NotEmpty(t, run.events)
				assert.Equal(t, c.event, run.events[len(run.events)-1].Event)
				return
			}
			for _, e := range run.events { // of a line that stays asserted, on a machine that is fast enough
				assert.Equal(t, recording.EventStorm, e.Event)
			}
		})
	}
}

// TestAGoneDeviceIsNoticed: also where nothing is asked of it, and the host asks for nothing.
func TestAGoneDeviceIsNoticed(t *testing.T) {
	m := vfiotest.FakeMachine(t)
	require.Zero(t, irqbridge(t, m, "bind", m.EDU2.String()).code) // there will be nothing to give back
	device, err := vfio.Open(m.EDU2, append(m.Options(), vfio.Unwatched())...)
	require.NoError(t, err)
	defer device.Close()
	s, err := startSession(device, connect.Policy{}, source{}, func() {})
	require.NoError(t, err)
	ended := make(chan error, 1)
	s.end = func(cause error) {
		select {
		case ended <- cause:
		default:
		}
	}
	mon, err := s.startMonitor(recording.Header{Time: time.Now()}, nil, nil)
	require.NoError(t, err)
	m.Fake.Remove(m.EDU2)
	assert.ErrorIs(t, <-ended, errGone)
	mon.pause()
}

func TestARecordingThatCannotBeWrittenEndsTheRun(t *testing.T) {
	m := vfiotest.FakeMachine(t)
	m.Bind(t, m.EDU)
	before := state(t, m, m.EDU)
	r := irqbridge(t, m, "connect", m.EDU.String(), "--raise", "1", "--record", "/dev/full")
	assert.Equal(t, 1, r.code)
	assert.Contains(t, r.stderr, "no space left on device")
	r = irqbridge(t, m, "connect", m.EDU.String(), "--raise", "1", "--record", filepath.Join(t.TempDir(), "none", "run"))
	assert.Equal(t, 1, r.code)
	assert.Contains(t, r.stderr, "irqbridge: --record: open ")
	assert.Empty(t, r.stdout, "the device was not touched")
	assert.Equal(t, before, state(t, m, m.EDU))
}

// TestARunThatDoesNotBeginLeavesTheLastRecording, and one that does replaces all of it.
func TestARunThatDoesNotBeginLeavesTheLastRecording(t *testing.T) {
	m := vfiotest.FakeMachine(t)
	dir := t.TempDir()
	run, picture := filepath.Join(dir, "run.jsonl"), filepath.Join(dir, "latency.svg")
	last := strings.Repeat("of the last run\n", 10_000)
	for _, file := range []string{run, picture} {
		require.NoError(t, os.WriteFile(file, []byte(last), 0o600))
	}
	connectIt, measureIt := []string{"connect", m.EDU.String(), "--raise", "1", "--record", run}, []string{"latency", m.EDU.String(), "-l", "1", "--svg", picture}
	assert.Equal(t, 1, irqbridge(t, m, connectIt...).code, "it is not bound")
	assert.Equal(t, 1, irqbridge(t, m, measureIt...).code)
	for _, file := range []string{run, picture} {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		assert.Equal(t, last, string(text))
	}
	m.Bind(t, m.EDU)
	require.Zero(t, irqbridge(t, m, connectIt...).code)
	require.Zero(t, irqbridge(t, m, measureIt...).code)
	for _, file := range []string{run, picture} {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		assert.NotEmpty(t, text)
		assert.NotContains(t, string(text), "of the last run")
	}
}

func TestMetricsAreServed(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	m := vfiotest.FakeMachine(t)
	m.Bind(t, m.E1000E)
	ctx, cancel := context.WithCancel(t.Context())
	var scraped sync.WaitGroup
	var text string
	seen := &lineWatcher{f: func(line string) {
		url := regexp.MustCompile(`metrics: (http://127\.0\.0\.1:\d+/metrics)`).FindStringSubmatch(line)
		if url == nil {
			return
		}
		scraped.Go(func() {
			defer cancel()
			client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
			for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); {
				response, err := client.Get(url[1])
				if !assert.NoError(t, err) {
					return
				}
				body, err := io.ReadAll(response.Body)
				assert.NoError(t, err)
				assert.NoError(t, response.Body.Close())
				if text = string(body); regexp.MustCompile(`serviced_total\{[^}]*message="0"\} [1-9]`).MatchString(text) {
					break
				}
			}
			cancel()
			for { // and on, until the run has ended
				response, err := client.Get(url[1])
				if err != nil {
					return
				}
				_ = response.Body.Close()
			}
		})
	}}
	r := irqbridgeUntil(ctx, t, m, seen, "connect", m.E1000E.String(), "--raise", "1000000", "--metrics", ":0", "--cpus", fmt.Sprint(m.CPUs.CPUs()[0]))
	scraped.Wait()
	assert.Equal(t, 1, r.code, "it was stopped before all was raised")
	cpu := m.CPUs.CPUs()[0]
	label := `device="0000:00:05.0",kind="msix",message="0"`
	for _, want := range []string{
		fmt.Sprintf(`irqbridge_interrupt_calls_total\{cpu="%d",%s\} [1-9]`, cpu, label),
		fmt.Sprintf(`irqbridge_interrupt_delivered_total\{cpu="%d",%s\} [1-9]`, cpu, label),
		fmt.Sprintf(`irqbridge_interrupt_raised_total\{%s\} [1-9]`, label),
		fmt.Sprintf(`irqbridge_interrupt_wrong_cpu_total\{%s\} 0\n`, label),
		fmt.Sprintf(`irqbridge_interrupt_error\{%s\} 0\n`, label),
		fmt.Sprintf(`irqbridge_interrupt_latency_seconds_bucket\{%s,le="\+Inf"\} [1-9]`, label),
		`irqbridge_interrupt_raised_total\{device="0000:00:05.0",kind="msix",message="4"\} 0`,
	} {
		assert.Regexp(t, want, text)
	}
}

// metric has a registry collect one.
type metric struct{ prometheus.Metric }

func (m metric) Describe(descriptions chan<- *prometheus.Desc) { descriptions <- m.Desc() }
func (m metric) Collect(metrics chan<- prometheus.Metric)      { metrics <- m }

// TestTheSumOfLatenciesNeverFalls: to Prometheus that would be a program that began anew.
func TestTheSumOfLatenciesNeverFalls(t *testing.T) {
	var h histogram.Histogram
	var last float64
	for _, d := range []time.Duration{10, 0, 1, 0, 0, 0, time.Hour, 0} {
		h.Add(d)
		registry := prometheus.NewPedanticRegistry()
		registry.MustRegister(metric{latencyMetric(&h, []string{"0000:00:05.0", "msix", "0"})})
		families, err := registry.Gather()
		require.NoError(t, err)
		sum := families[0].GetMetric()[0].GetHistogram().GetSampleSum()
		assert.GreaterOrEqual(t, sum, last)
		last = sum
	}
	assert.InDelta(t, 3600+11e-9, last, 1e-12)
}

// TestATakenAddressIsToldBeforeTheDeviceIsTouched also goes through what is no address.
func TestATakenAddressIsToldBeforeTheDeviceIsTouched(t *testing.T) {
	m := vfiotest.FakeMachine(t)
	m.Bind(t, m.EDU)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	r := irqbridge(t, m, "connect", m.EDU.String(), "--raise", "1", "--metrics", l.Addr().String())
	assert.Equal(t, 1, r.code)
	assert.Regexp(t, `^irqbridge: --metrics 127\.0\.0\.1:\d+: listen tcp .*: address already in use\nnext: give another address, or --metrics :0 for any port that is free\n$`, r.stderr)
	for _, bad := range []string{"9100", ":port", ":70000", ":-1", "[::1"} {
		r = irqbridge(t, m, "connect", m.EDU.String(), "--metrics", bad)
		assert.Equal(t, 2, r.code)
		assert.Contains(t, r.stderr, "irqbridge: --metrics "+bad+": want ")
	}
}
