package recording

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/irqbridge/irqbridge/cmd/irqbridge/internal/histogram"
	"github.com/irqbridge/irqbridge/pci"
)

// lines counts its writes.
type lines struct {
	bytes.Buffer
	writes int
}

func (l *lines) Write(p []byte) (int, error) {
	l.writes++
	return l.Buffer.Write(p)
}

func header() Header {
	return Header{
		Time: time.Date(2026, 3, 1, 2, 0, 0, 0, time.UTC), Kernel: "6.1.0", Kind: "msix",
		Device:   Device{Address: pci.Address{Device: 5}, Vendor: "0x8086", Device: "0x10d3"},
		Messages: []Message{{Vector: 0x30, Mode: "Latched", CPUs: "0"}, {Vector: 0x31, Mode: "Latched", CPUs: "1"}},
	}
}

func latency(durations ...time.Duration) *histogram.Histogram {
	h := new(histogram.Histogram)
	for _, d := range durations {
		h.Add(d)
	}
	return h
}

// record writes a run of two ticks, an event and an end.
func record(t testing.TB) *lines {
	out := new(lines)
	w, err := NewWriter(out, header())
	require.NoError(t, err)
	first := Counts{Message: 1, Raised: 2, Serviced: 2, Calls: 3, Claimed: 2, WrongCPU: 1, Delivered: map[string]uint64{"1": 2}, RanOn: map[string]uint64{"1": 2, "0": 1}, Latency: latency(1000, 2000)}
	second := Counts{Message: 1, Calls: 1, Delivered: map[string]uint64{"0": 1}, Latency: latency(500)}
	require.NoError(t, w.Tick(time.Second, []Counts{{Message: 0}, first}))
	require.NoError(t, w.Tick(2*time.Second, []Counts{{Message: 0}, {Message: 1}}))
	message := 1
	require.NoError(t, w.Event(Event{T: 2500 * time.Millisecond, Event: EventStorm, Message: &message, Text: "message 1 was silenced"}))
	require.NoError(t, w.Tick(3*time.Second, []Counts{second}))
	first.Add(&second)
	require.NoError(t, w.End(End{T: 3 * time.Second, Outcome: OutcomeFailed, Exit: 1, Text: "silenced", Totals: []Counts{{}, first}}))
	return out
}

// readAll reads a run to its end.
func readAll(text []byte) (*Reader, []any, error) {
	r, err := NewReader(bytes.NewReader(text), "run.jsonl")
	if err != nil {
		return nil, nil, err
	}
	var all []any
	for {
		line, err := r.Next()
		if errors.Is(err, io.EOF) {
			return r, all, nil
		}
		if err != nil {
			return r, all, err
		}
		all = append(all, line)
	}
}

func TestARunIsReadAsItWasWritten(t *testing.T) {
	out := record(t)
	assert.Equal(t, 5, out.writes, "one write for each line; an empty tick is none")
	assert.Equal(t, 5, strings.Count(out.String(), "\n"))
	r, all, err := readAll(out.Bytes())
	require.NoError(t, err)
	want := header()
	want.Schema, want.Type, want.Raw, want.Translated = 1, "run", []string{}, []string{}
	assert.Equal(t, want, r.Header)
	require.Len(t, all, 4)
	assert.Equal(t, time.Second, all[0].(*Tick).T)
	assert.Len(t, all[0].(*Tick).Messages, 1, "messages without a change are left out")
	assert.Equal(t, "message 1 was silenced", all[1].(*Event).Text)
	assert.Equal(t, OutcomeFailed, all[3].(*End).Outcome)
	assert.False(t, r.Partial())
	assert.Equal(t, 3*time.Second, r.Elapsed())
	total := r.Totals()[1]
	assert.Equal(t, []uint64{2, 2, 4, 2, 1}, []uint64{total.Raised, total.Serviced, total.Calls, total.Claimed, total.WrongCPU})
	assert.Equal(t, map[string]uint64{"1": 2, "0": 1}, total.Delivered)
	assert.EqualValues(t, 3, total.Latency.Count())
	assert.EqualValues(t, 500, total.Latency.Min())
	assert.EqualValues(t, 2000, total.Latency.Max())
}

// TestAKilledRunIsGoodUpToItsLastLine cuts a run off at each byte.
func TestAKilledRunIsGoodUpToItsLastLine(t *testing.T) {
	text := record(t).Bytes()
	first := bytes.IndexByte(text, '\n')
	for n := range text {
		r, all, err := readAll(text[:n])
		if n < first {
			require.Error(t, err)
			continue
		}
		require.NoError(t, err, "cut off after %d bytes", n)
		whole := bytes.Count(text[:n], []byte("\n")) - 1
		if text[n] == '\n' {
			whole++ // all but the line end
		}
		assert.Len(t, all, whole)
		assert.Equal(t, whole < 4, r.Partial())
	}
}

func TestWhatIsNoRun(t *testing.T) {
	good := strings.SplitAfter(strings.TrimSuffix(record(t).String(), "\n"), "\n")
	with := func(line string) string { return good[0] + line + "\n" }
	for text, want := range map[string]string{
		"":                                 "run.jsonl: the file has no line that is whole",
		"hello":                            "run.jsonl: the file has no line that is whole",
		"7\n":                              "run.jsonl:1: this is not a recorded run",
		"{}\n":                             "run.jsonl:1: this is not a recorded run",
		"\x7fE\n":                          "run.jsonl:1: this is not a recorded run",
		`{"schema":2,"type":"run"}` + "\n": "run.jsonl:1: schema 2, of a newer program: this one reads 1",
		`{"schema":0,"type":"run"}` + "\n": "run.jsonl:1: schema 0: want 1",
		`{"schema":1,"type":"run","messages":{}}` + "\n":                                                   "run.jsonl:1: json: cannot unmarshal object",
		`{"schema":1,"type":"run","kind":"x"}` + "\n":                                                      `run.jsonl:1: kind "x": want intx`,
		`{"schema":1,"type":"run","kind":"msi","messages":[` + strings.Repeat("{},", 2048) + `{}]}` + "\n": "run.jsonl:1: 2049 messages; a device has 2048 at most",
		with("{"):                      "run.jsonl:2: unexpected end",
		with("\x00\x00"):               "run.jsonl:2: invalid character",
		with(`{"t":1}`):                `run.jsonl:2: type "": want tick`,
		with(`{"type":"run"}`):         `run.jsonl:2: type "run": want tick`,
		with(`{"type":"tick","t":-1}`): "run.jsonl:2: t -1 comes after 0",
		with(`{"type":"tick","t":9000000000000000000}`):                                                     "run of more than",
		with(`{"type":"tick","t":1,"messages":[{"message":2}]}`):                                            "run.jsonl:2: message 2: the run has 2",
		with(`{"type":"tick","t":1,"messages":[{"message":-1}]}`):                                           "message -1: the run has 2",
		with(`{"type":"tick","t":1,"messages":[{},{}]}`):                                                    "message 0 comes after message 0",
		with(`{"type":"tick","t":1,"messages":[{"calls":-1}]}`):                                             "run.jsonl:2: json: cannot unmarshal number -1",
		with(`{"type":"tick","t":1,"messages":[{"calls":1152921504606846976}]}`):                            "a count of 1152921504606846976",
		with(`{"type":"tick","t":1,"messages":[{"ranOn":{"x":1}}]}`):                                        `1 on CPU "x"`,
		with(`{"type":"tick","t":1,"messages":[{"ranOn":{"007":1}}]}`):                                      `1 on CPU "007"`,
		with(`{"type":"tick","t":1,"messages":[{"latency":{"count":1}}]}`):                                  "histogram: the buckets have 0",
		with(`{"type":"event","t":1,"event":"storm","message":7}`):                                          "message 7: the run has 2",
		with(`{"type":"end","t":1,"totals":[{}]}`):                                                          "totals of 1 messages: the run has 2",
		with(`{"type":"end","t":1,"totals":[{},{"message":1,"calls":1}]}`):                                  "the totals of message 1 are not what the ticks add up to",
		strings.Join(good, "") + "\n" + good[1]:                                                             "run.jsonl:6: a line after the end",
		good[0] + strings.Repeat(" ", maxLine+1):                                                            "run.jsonl:2: longer than",
		good[0] + strings.Repeat(`{"type":"tick","t":1,"messages":[{"calls":144115188075855872}]}`+"\n", 2): "run.jsonl:3: message 0: a count of",
	} {
		_, _, err := readAll([]byte(text))
		if assert.Error(t, err, "%.200s", text) {
			assert.Contains(t, err.Error(), want)
		}
	}
	_, all, err := readAll([]byte(with(`{"type":"later","t":1}`) + `{"type":"tick","t":1,"later":1}`))
	require.NoError(t, err, "what a later version adds is passed over")
	assert.Len(t, all, 1)
}

// TestALongTickIsWrittenAsSeveral has each of 2048 messages have a histogram as wide as they come.
func TestALongTickIsWrittenAsSeveral(t *testing.T) {
	wide := new(histogram.Histogram)
	for ns := time.Duration(1); ns < 1<<40; ns += max(1, ns/40) {
		wide.Add(ns)
	}
	h := header()
	h.Messages = make([]Message, MaxMessages)
	counts := make([]Counts, MaxMessages)
	for i := range counts {
		counts[i] = Counts{Message: i, Calls: 1, Latency: wide}
	}
	var out lines
	w, err := NewWriter(&out, h)
	require.NoError(t, err)
	require.NoError(t, w.Tick(time.Second, counts))
	require.NoError(t, w.End(End{T: time.Second, Outcome: OutcomeDone, Totals: counts}))
	r, all, err := readAll(out.Bytes())
	require.NoError(t, err)
	assert.Greater(t, len(all), 2)
	for _, sum := range r.Totals() {
		require.EqualValues(t, 1, sum.Calls)
		require.Equal(t, wide.Count(), sum.Latency.Count())
	}
}

// failing fails from a Write on.
type failing struct{ good int }

func (f *failing) Write(p []byte) (int, error) {
	if f.good--; f.good < 0 {
		return 0, errors.New("no space left on device")
	}
	return len(p), nil
}

func TestAnErrorOfTheFileStays(t *testing.T) {
	w, err := NewWriter(&failing{1}, header())
	require.NoError(t, err)
	tick := []Counts{{Calls: 1}}
	require.EqualError(t, w.Tick(1, tick), "record: no space left on device")
	require.EqualError(t, w.Event(Event{}), "record: no space left on device")
	require.EqualError(t, w.End(End{}), "record: no space left on device")
	_, err = NewWriter(io.Discard, Header{Kind: "none"})
	require.Error(t, err)
}

// TestLinesOfSeveralGoroutinesStayWhole is for the race detector, too.
func TestLinesOfSeveralGoroutinesStayWhole(t *testing.T) {
	var out lines
	w, err := NewWriter(&out, header())
	require.NoError(t, err)
	var writers sync.WaitGroup
	for g := range 4 {
		writers.Go(func() {
			for i := range 50 {
				assert.NoError(t, w.Event(Event{T: time.Duration(i), Event: EventError, Text: fmt.Sprint(g)}))
			}
		})
	}
	writers.Wait()
	_, all, err := readAll(out.Bytes())
	require.NoError(t, err, "times are in order")
	assert.Len(t, all, 200)
}

func FuzzRead(f *testing.F) {
	f.Add(record(f).Bytes())
	f.Add([]byte(`{"schema":1,"type":"run","kind":"intx","messages":[{}]}` + "\n" + `{"type":"tick","t":5,"messages":[{"raised":1,"latency":{"count":0,"buckets":[]}}]}`))
	f.Add([]byte(`{"schema":1,"type":"run","kind":"intx","messages":[{}]}` + "\n" + `{"type":"tick","t":5,"messages":[{"latency":{"count":0,"buckets":[]}}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		r, all, err := readAll(text)
		if err != nil {
			assert.True(t, strings.HasPrefix(err.Error(), "run.jsonl"), err.Error())
			return
		}
		// What was read can be written, and reads the same.
		var out lines
		w, err := NewWriter(&out, r.Header)
		require.NoError(t, err)
		for _, line := range all {
			switch l := line.(type) {
			case *Tick:
				require.NoError(t, w.Tick(l.T, l.Messages))
			case *Event:
				require.NoError(t, w.Event(*l))
			case *End:
				require.NoError(t, w.End(*l))
			}
		}
		again, _, err := readAll(out.Bytes())
		require.NoError(t, err)
		want, err := json.Marshal(r.Totals())
		require.NoError(t, err)
		got, err := json.Marshal(again.Totals())
		require.NoError(t, err)
		assert.Equal(t, string(want), string(got))
		assert.Equal(t, r.Partial(), again.Partial())
	})
}
