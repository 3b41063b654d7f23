package report

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/irqbridge/irqbridge/cmd/irqbridge/internal/histogram"
	"github.com/irqbridge/irqbridge/cmd/irqbridge/internal/recording"
	"github.com/irqbridge/irqbridge/pci"
)

// run writes a recorded run of a network card with five messages, of which the last loses some.
func run(t testing.TB, change func(*recording.Header, *recording.Event), end bool) []byte {
	t.Helper()
	irq := 28
	h := recording.Header{
		Time: time.Date(2026, 3, 1, 2, 4, 5, 0, time.UTC), Program: "irqbridge v0.1.0", Kernel: "6.1.0-37-amd64", Kind: "msix", Source: "profile e1000e", Profile: "e1000e",
		Device: recording.Device{
			Address: pci.Address{Bus: 5}, Vendor: "0x8086", Device: "0x10d3", Class: "0x020000", Backend: "group", IOMMUGroup: 12,
			Description: "Ethernet controller: Intel Corporation 82574L Gigabit Network Connection",
		},
		Snapshot: "irqbridge-snapshot 1\ndevice 0000:05:00.0\n",
	}
	for i := range 5 {
		h.Messages = append(h.Messages, recording.Message{Vector: uint32(0x30 + i), Irql: 3, SynchronizeIrql: 3, Mode: "Latched", CPUs: fmt.Sprint(i % 2), HostIRQ: &irq, Effective: fmt.Sprint(i % 2)})
		raw, err := pci.RawDescriptor{Type: pci.ResourceInterrupt, Share: 1, Flags: 3, MessageCount: 1, Vector: uint32(0xfffffffe - i), Affinity: math.MaxUint64}.Encode(pci.Bits64)
		require.NoError(t, err)
		h.Raw = append(h.Raw, fmt.Sprintf("%x", raw))
		h.Translated = append(h.Translated, fmt.Sprintf("020103000300000%d300000000300000000000000"[:40], 0))
	}
	event := recording.Event{T: 41 * time.Second, Event: recording.EventStorm, Message: new(4), Text: "message 4 was called 12000 times in a second without a cause, and is silenced"}
	if change != nil {
		change(&h, &event)
	}
	var out bytes.Buffer
	w, err := recording.NewWriter(&out, h)
	require.NoError(t, err)
	totals := make([]recording.Counts, 5)
	for second := 1; second <= 60; second++ {
		counts := make([]recording.Counts, 5)
		for i := range counts {
			n := uint64(400+300*math.Sin(float64(second)/7+float64(i)))*uint64(i+1) + 3
			c := recording.Counts{Message: i, Raised: n, Serviced: n, Calls: n, Claimed: n, Delivered: map[string]uint64{fmt.Sprint(i % 2): n}, RanOn: map[string]uint64{fmt.Sprint(i % 2): n}, Latency: new(histogram.Histogram)}
			if i == 4 && second > 41 {
				c = recording.Counts{Message: i, Raised: 3}
			}
			for k := range c.Calls {
				c.Latency.Add(time.Duration(4000 + 900*float64(i) + 2500*math.Abs(math.Sin(float64(k*k+uint64(second))))))
			}
			if second%20 == 0 && c.Latency != nil {
				c.Latency.Add(time.Duration(second) * 20 * time.Microsecond)
			}
			counts[i] = c
			totals[i].Message = i
			totals[i].Add(&c)
		}
		require.NoError(t, w.Tick(time.Duration(second)*time.Second, counts))
		if second == 41 {
			require.NoError(t, w.Event(event))
		}
	}
	if end {
		require.NoError(t, w.End(recording.End{T: 60 * time.Second, Outcome: recording.OutcomeFailed, Exit: 1, Text: "0000:05:00.0: message 4 was silenced", Totals: totals}))
	}
	return out.Bytes()
}

func pageOf(t testing.TB, text []byte) string {
	t.Helper()
	r, err := recording.NewReader(bytes.NewReader(text), "run")
	require.NoError(t, err)
	var page bytes.Buffer
	require.NoError(t, Write(&page, r))
	return page.String()
}

func TestThePageSaysWhatTheRunDid(t *testing.T) {
	page := pageOf(t, run(t, nil, true))
	if name := os.Getenv("REPORT_PAGE"); name != "" { // to look at it
		require.NoError(t, os.WriteFile(name, []byte(page), 0o600))
	}
	for _, part := range []string{
		"<title>Failed: 0000:05:00.0 – irqbridge</title>", "82574L Gigabit Network Connection", "Message 4: of ", "<strong>Failed</strong>",
		"message 4 was silenced", ">storm<", "latched|message", "0xfffffffe", "0201030003000000", "device 0000:05:00.0", "6.1.0-37-amd64", "5 MSI-X interrupts", "<dd>irqbridge v0.1.0</dd>",
	} {
		assert.Contains(t, page, part)
	}
	assert.NotContains(t, page, "ZgotmplZ")
	assert.NotContains(t, page, "NaN")
	cut := pageOf(t, run(t, nil, false))
	assert.Contains(t, cut, "<strong>Cut off</strong>")
}

// TestThePageLoadsNothing has it be one file, whose every picture says what it shows.
func TestThePageLoadsNothing(t *testing.T) {
	page := pageOf(t, run(t, nil, true))
	lower := strings.ToLower(page)
	for _, part := range []string{"<script", "<link rel=\"style", "http:", "https:", "url(", "@import", "<img", "<iframe", " onload", "src="} {
		assert.NotContains(t, lower, part)
	}
	assert.Contains(t, page, "default-src 'none'")
	assert.Equal(t, strings.Count(page, `<svg class="chart`), strings.Count(page, "-title\">"))
	assert.Equal(t, strings.Count(page, "<table"), strings.Count(page, "<caption>"))
	assert.Contains(t, page, "@media print")
	assert.Contains(t, page, "prefers-color-scheme: dark")
	assert.Contains(t, page, `name="viewport"`)
}

const hostile = `</title></script><script>alert(1)</script><svg/onload=alert(1)>"' onclick=x {{.}} javascript:x`

// TestAHostileRecordingInjectsNothing puts markup into every text of a recording.
func TestAHostileRecordingInjectsNothing(t *testing.T) {
	page := pageOf(t, run(t, func(h *recording.Header, e *recording.Event) {
		h.Program, h.Kernel, h.Source, h.Profile, h.Snapshot, h.Options.CPUs = hostile, hostile, hostile, hostile, hostile, hostile
		h.Device.Vendor, h.Device.Device, h.Device.Class, h.Device.Description, h.Device.Backend = hostile, hostile, hostile, hostile, hostile
		for i := range h.Messages {
			h.Messages[i].Mode, h.Messages[i].CPUs, h.Messages[i].Effective = hostile, hostile, hostile
		}
		h.Raw, h.Translated = []string{hostile, "00", ""}, []string{hostile, "0201"}
		e.Event, e.Text = hostile, hostile
	}, true))
	want := pageOf(t, run(t, func(h *recording.Header, e *recording.Event) {
		h.Options.CPUs = "0"
		h.Raw, h.Translated = []string{"x", "00", ""}, []string{"x", "0201"}
	}, true))
	// The same elements, in the same order, whatever the texts are.
	assert.Equal(t, elements(t, want), elements(t, page))
	assert.NotContains(t, page, "<script")
	assert.NotContains(t, page, "<svg/")
}

// elements are the names of the page's elements and of their attributes.
func elements(t *testing.T, page string) []string {
	t.Helper()
	d := xml.NewDecoder(strings.NewReader(page))
	d.Strict, d.AutoClose, d.Entity = false, xml.HTMLAutoClose, xml.HTMLEntity
	var list []string
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return list
		}
		require.NoError(t, err)
		if e, ok := token.(xml.StartElement); ok {
			name := e.Name.Local
			for _, a := range e.Attr {
				name += " " + a.Name.Local
			}
			list = append(list, name)
		}
	}
}

func TestTimelineAddsUp(t *testing.T) {
	l := newTimeline(1)
	total := 0.0
	for i := range 1000 {
		l.add(0, time.Duration(i*i)*time.Millisecond, time.Duration((i+1)*(i+1))*time.Millisecond, uint64(i))
		total += float64(i)
	}
	assert.LessOrEqual(t, len(l.total), maxBins)
	sum := 0.0
	for _, n := range l.total {
		sum += n
	}
	assert.InDelta(t, total, sum, 0.001)
	assert.Equal(t, l.total, l.by[0])
}

func TestWords(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0", 7: "7 ns", 999: "999 ns", 4123: "4.12 µs", 999999: "1000 µs", 1500 * time.Millisecond: "1.5 s", 125 * time.Second: "2 min 5 s",
		2*time.Hour + 5*time.Minute: "2 h 5 min", 72 * time.Hour: "3 d",
	} {
		assert.Equal(t, want, strings.ReplaceAll(duration(d), "\u00a0", " "))
	}
	assert.Equal(t, "1\u202f234\u202f567", count(1234567))
	assert.Equal(t, []string{"0", "950", "1.5k", "2M"}, []string{short(0), short(950), short(1500), short(2e6)})
}

func FuzzReport(f *testing.F) {
	f.Add([]byte(`{"schema":1,"type":"run","kind":"intx","messages":[{}]}` + "\n" + `{"type":"tick","t":5,"messages":[{"raised":1,"calls":3,"latency":{"count":1,"sumNS":5,"minNS":5,"maxNS":5,"buckets":[[5,1]]}}]}`))
	f.Add([]byte(`{"schema":1,"type":"run","kind":"msi","messages":[{},{}],"raw":["00"]}` + "\n" + `{"type":"event","t":90000000000000,"event":"<b>","message":1}`))
	f.Add([]byte(`{"schema":1,"type":"run","kind":"intx","messages":[{}]}` + "\n" + `{"type":"event","t":90,"event":"storm"}` + "\n" + `{"type":"event","t":90,"event":"error","text":"x"}` + "\n" + `{"type":"tick","t":100,"messages":[{"calls":3}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		r, err := recording.NewReader(bytes.NewReader(text), "run")
		if err != nil {
			return
		}
		var page bytes.Buffer
		if Write(&page, r) != nil {
			return
		}
		assert.NotContains(t, page.String(), "NaN")
		assert.NotContains(t, page.String(), "ZgotmplZ")
		assert.NotContains(t, page.String(), "></text>", "a word that is left out")
	})
}
