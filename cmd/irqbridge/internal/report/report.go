package report

import (
	_ "embed" // the page
	"encoding/hex"
	"errors"
	"fmt"
	"html/template"
	"io"
	"strings"
	"time"

	"github.com/irqbridge/irqbridge/cmd/irqbridge/internal/histogram"
	"github.com/irqbridge/irqbridge/cmd/irqbridge/internal/recording"
	"github.com/irqbridge/irqbridge/pci"
)

//go:embed page.html
var pageText string

//go:embed style.css
var style string

var pageTemplate = template.Must(template.New("page").Parse(pageText))

const (
	// maxPictures is how many messages have pictures of their own, those that did the most.
	maxPictures = 12
	// maxSparks is how many have a small one in the table.
	maxSparks = 128
	// maxEvents and maxProblems keep a run that went wrong all the time readable.
	maxEvents, maxProblems = 200, 20
)

// page is what the template shows.
type page struct {
	Style      template.CSS // this package's own
	Device     recording.Device
	Name       string
	Verdict    verdict
	Problems   []string
	MoreThan   int // problems that are not listed
	Tiles      []tile
	Facts      []fact
	Timeline   []*chart
	Latency    []*chart
	Quantiles  []quantiles // of all, and of each message, where it was measured
	Messages   []message
	Sparks     bool // not all messages have one
	CPUs       []cpuRow
	Each       []pictures
	Undrawn    int // messages without pictures of their own
	Events     []eventRow
	MoreEvents int
	Raw        []descriptor
	Translated []descriptor
	Snapshot   string
	Loopback   bool
	HasRaised  bool
	HasCPUs    bool // deliveries or calls by CPU were recorded
	Measured   bool
}

type verdict struct{ Class, Word, Text string }

type tile struct{ Name, Value, Class string }

type fact struct{ Name, Value string }

type quantiles struct {
	Name                              string
	Count                             string
	Min, Median, P90, P99, P999, Most string
}

type message struct {
	recording.Message
	Number                                    int
	HostIRQ                                   string
	Raised, Serviced, Calls, Claimed, Outside string
	Bad                                       bool // lost some, or ran on other CPUs
	Delivered, RanOn                          string
	Spark                                     string
}

type cpuRow struct {
	CPU              string
	Delivered, RanOn string
	DeliveredBar     string // widths, of 100
	RanOnBar         string
}

type pictures struct {
	Number   int
	Timeline []*chart
	Latency  []*chart
}

type eventRow struct {
	at         time.Duration
	Time, Word string
	Message    string
	Text       string
}

type descriptor struct {
	Share, Flags, Level, Group, Count, Vector, Affinity string
	Bytes                                               string
	Wrong                                               string // why it is none
}

// Write reads a recorded run to its end and writes the page.
func Write(w io.Writer, run *recording.Reader) error {
	lines := newTimeline(len(run.Header.Messages))
	p := page{Style: template.CSS(style)} //nolint:gosec // this package's own
	var end *recording.End
	var last time.Duration
	for {
		line, err := run.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		switch line := line.(type) {
		case *recording.Tick:
			for i := range line.Messages {
				c := &line.Messages[i]
				lines.add(c.Message, last, line.T, c.Calls)
			}
			last = line.T
		case *recording.Event:
			p.event(line)
		case *recording.End:
			end = line
		}
		lines.reach(run.Elapsed())
	}
	p.fill(run, end, lines)
	return pageTemplate.Execute(w, &p)
}

func (p *page) event(e *recording.Event) {
	if len(p.Events) == maxEvents {
		p.MoreEvents++
		return
	}
	row := eventRow{at: e.T, Time: duration(e.T), Word: e.Event, Text: e.Text, Message: "–"}
	if e.Message != nil {
		row.Message = fmt.Sprint(*e.Message)
	}
	p.Events = append(p.Events, row)
}

// fill works out what the page shows of a run that was read to its end.
func (p *page) fill(run *recording.Reader, end *recording.End, lines *timeline) {
	h := &run.Header
	p.Device, p.Loopback, p.Snapshot = h.Device, h.Options.Loopback, h.Snapshot
	if p.Name = h.Device.Description; p.Name == "" {
		p.Name = "PCI device " + h.Device.Vendor + ":" + h.Device.Device
	}
	totals := run.Totals()
	var sum recording.Counts
	for i := range totals {
		sum.Add(&totals[i])
	}
	p.HasRaised = sum.Raised > 0
	p.HasCPUs = len(sum.Delivered)+len(sum.RanOn) > 0
	p.Measured = sum.Latency != nil && sum.Latency.Count() > 0
	p.judge(end, totals, &sum, run.Elapsed())
	p.tiles(&sum, run.Elapsed())
	p.facts(h, run.Elapsed())
	events := p.Events
	p.Timeline = timelineCharts("rate", "Calls of service routines a second, of all messages", lines.rates(lines.total), lines.width, lines.end, events)
	if p.Measured {
		p.Latency = latencyCharts("latency", "Latency of all messages", sum.Latency)
		p.Quantiles = append(p.Quantiles, newQuantiles("all", sum.Latency))
	}
	for i := range totals {
		p.message(h.Messages[i], &totals[i], lines)
	}
	p.pictures(totals, lines)
	p.cpus(&sum)
	for _, bytes := range h.Raw {
		p.Raw = append(p.Raw, rawRow(bytes))
	}
	for _, bytes := range h.Translated {
		p.Translated = append(p.Translated, translatedRow(bytes))
	}
}

// judge says in one word and one sentence how the run went, and lists what went wrong.
func (p *page) judge(end *recording.End, totals []recording.Counts, sum *recording.Counts, elapsed time.Duration) {
	p.Verdict.Text = plural(sum.Calls, "call") + " of service routines in " + duration(elapsed)
	if sum.Raised > 0 {
		p.Verdict.Text = fmt.Sprintf("%s raised, %s serviced, %s outside the CPUs asked for", count(sum.Raised), count(sum.Serviced), plural(sum.WrongCPU, "call"))
	}
	switch {
	case end == nil:
		p.Verdict.Class, p.Verdict.Word = "warn", "Cut off"
		p.problem("The recording has no end: the program was killed, or still runs. What was counted after %s is not here.", duration(elapsed))
	case end.Outcome == recording.OutcomeDone:
		p.Verdict.Class, p.Verdict.Word = "good", "Done"
	case end.Outcome == recording.OutcomeFailed:
		p.Verdict.Class, p.Verdict.Word = "bad", "Failed"
	default:
		p.Verdict.Class, p.Verdict.Word = "warn", "Done in part"
		if end.Outcome == recording.OutcomeStopped {
			p.Verdict.Word = "Stopped"
		}
	}
	if end != nil {
		for line := range strings.Lines(end.Text) {
			p.problem("%s", strings.TrimSpace(line))
		}
	}
	for i := range totals {
		c := &totals[i]
		if c.Raised > c.Serviced {
			p.problem("Message %d: of %s raised, %s serviced.", c.Message, count(c.Raised), count(c.Serviced))
		}
		if c.WrongCPU > 0 {
			p.problem("Message %d: %s outside the CPUs asked for.", c.Message, plural(c.WrongCPU, "call"))
		}
		if c.Calls > c.Claimed {
			p.problem("Message %d: %s not claimed; the device did not say that it interrupts.", c.Message, plural(c.Calls-c.Claimed, "call"))
		}
	}
	if p.Verdict.Class == "good" && (sum.Raised > sum.Serviced || sum.WrongCPU > 0) {
		p.Verdict.Class = "warn"
	}
}

func (p *page) problem(format string, args ...any) {
	if len(p.Problems) == maxProblems {
		p.MoreThan++
		return
	}
	p.Problems = append(p.Problems, fmt.Sprintf(format, args...))
}

func (p *page) tiles(sum *recording.Counts, elapsed time.Duration) {
	bad := func(is bool) string {
		if is {
			return "bad"
		}
		return ""
	}
	if sum.Raised > 0 {
		p.Tiles = append(p.Tiles, tile{"raised", large(sum.Raised), ""}, tile{"serviced", large(sum.Serviced), bad(sum.Serviced < sum.Raised)})
	}
	p.Tiles = append(p.Tiles, tile{"calls", large(sum.Calls), ""}, tile{"calls a second", short(float64(sum.Calls) / max(elapsed, 1).Seconds()), ""})
	if h := sum.Latency; p.Measured {
		p.Tiles = append(p.Tiles, tile{"median latency", duration(h.Quantile(0.5)), ""}, tile{"99 % within", duration(h.Quantile(0.99)), ""}, tile{"longest", duration(h.Max()), ""})
	}
	p.Tiles = append(p.Tiles, tile{"on other CPUs", large(sum.WrongCPU), bad(sum.WrongCPU > 0)})
}

func (p *page) facts(h *recording.Header, elapsed time.Duration) {
	kind := map[string]string{"intx": "INTx", "msi": "MSI", "msix": "MSI-X"}[h.Kind]
	add := func(name, value string) {
		if value != "" {
			p.Facts = append(p.Facts, fact{name, value})
		}
	}
	add("Device", h.Device.Address.String())
	add("Identity", h.Device.Vendor+":"+h.Device.Device+", class "+h.Device.Class)
	add("Interrupts", plural(uint64(len(h.Messages)), kind+" interrupt"))
	add("Raised by", h.Source)
	add("Opened by", h.Device.Backend)
	if h.Device.IOMMUGroup >= 0 {
		add("IOMMU group", fmt.Sprint(h.Device.IOMMUGroup))
	}
	if !h.Time.IsZero() {
		add("Started", h.Time.UTC().Format("2006-01-02 15:04:05 UTC"))
	}
	add("Lasted", duration(elapsed))
	add("Kernel", h.Kernel)
	add("Recorded by", h.Program)
	add("CPUs asked for", h.Options.CPUs)
}

func (p *page) message(m recording.Message, c *recording.Counts, lines *timeline) {
	row := message{
		Message: m, Number: c.Message, HostIRQ: "–", Raised: count(c.Raised), Serviced: count(c.Serviced), Calls: count(c.Calls),
		Claimed: count(c.Claimed), Outside: count(c.WrongCPU), Bad: c.Raised > c.Serviced || c.WrongCPU > 0,
		Delivered: byCPU(c.Delivered), RanOn: byCPU(c.RanOn),
	}
	if m.HostIRQ != nil {
		row.HostIRQ = fmt.Sprint(*m.HostIRQ)
	}
	if len(p.Messages) < maxSparks {
		row.Spark = sparkline(lines.rates(lines.by[c.Message]))
	} else {
		p.Sparks = true
	}
	p.Messages = append(p.Messages, row)
	if c.Latency != nil && c.Latency.Count() > 0 && len(p.Messages) > 0 && len(lines.by) > 1 {
		p.Quantiles = append(p.Quantiles, newQuantiles(fmt.Sprint(c.Message), c.Latency))
	}
}

func newQuantiles(name string, h *histogram.Histogram) quantiles {
	return quantiles{
		Name: name, Count: count(h.Count()), Min: duration(h.Min()), Median: duration(h.Quantile(0.5)), P90: duration(h.Quantile(0.9)),
		P99: duration(h.Quantile(0.99)), P999: duration(h.Quantile(0.999)), Most: duration(h.Max()),
	}
}

// pictures draws the messages that had the most calls, if there is more than one.
func (p *page) pictures(totals []recording.Counts, lines *timeline) {
	if len(totals) < 2 {
		return
	}
	drawn := busiest(totals)
	for i := range totals {
		c := &totals[i]
		if !drawn[i] {
			if c.Calls > 0 {
				p.Undrawn++
			}
			continue
		}
		id := fmt.Sprintf("message-%d", i)
		each := pictures{Number: i, Timeline: timelineCharts(id+"-rate", fmt.Sprintf("Message %d: calls a second", i), lines.rates(lines.by[i]), lines.width, lines.end, nil)}
		if c.Latency != nil && c.Latency.Count() > 0 {
			each.Latency = latencyCharts(id+"-latency", fmt.Sprintf("Message %d: latency", i), c.Latency)
		}
		p.Each = append(p.Each, each)
	}
}

// busiest are the messages with the most calls, maxPictures at most, and none without any.
func busiest(totals []recording.Counts) map[int]bool {
	chosen := map[int]bool{}
	for range maxPictures {
		best := -1
		for i := range totals {
			if !chosen[i] && totals[i].Calls > 0 && (best < 0 || totals[i].Calls > totals[best].Calls) {
				best = i
			}
		}
		if best < 0 {
			break
		}
		chosen[best] = true
	}
	return chosen
}

// cpus compares where the hardware interrupted with where the routines ran.
func (p *page) cpus(sum *recording.Counts) {
	all := map[string]uint64{}
	top := uint64(1)
	for _, m := range []map[string]uint64{sum.Delivered, sum.RanOn} {
		for cpu, n := range m {
			all[cpu] += n
			top = max(top, n)
		}
	}
	bar := func(n uint64) string { return num(100 * float64(n) / float64(top)) }
	for _, cpu := range sortedCPUs(all) {
		p.CPUs = append(p.CPUs, cpuRow{cpu, count(sum.Delivered[cpu]), count(sum.RanOn[cpu]), bar(sum.Delivered[cpu]), bar(sum.RanOn[cpu])})
	}
}

func rawRow(digits string) descriptor {
	b, err := hex.DecodeString(digits)
	if err == nil {
		var d pci.RawDescriptor
		if d, err = pci.DecodeRaw(b, pci.Bits64); err == nil {
			row := newDescriptor(digits, d.Share, d.Flags, d.Level, d.Group, d.Vector, d.Affinity)
			row.Count = fmt.Sprint(d.MessageCount)
			return row
		}
	}
	return descriptor{Bytes: digits, Wrong: err.Error()}
}

func translatedRow(digits string) descriptor {
	b, err := hex.DecodeString(digits)
	if err == nil {
		var d pci.TranslatedDescriptor
		if d, err = pci.DecodeTranslated(b, pci.Bits64); err == nil {
			return newDescriptor(digits, d.Share, d.Flags, d.Level, d.Group, d.Vector, d.Affinity)
		}
	}
	return descriptor{Bytes: digits, Wrong: err.Error()}
}

func newDescriptor(digits string, share pci.ShareDisposition, flags pci.InterruptFlags, level, group uint16, vector uint32, affinity uint64) descriptor {
	mask := fmt.Sprintf("0x%x", affinity)
	if affinity == 1<<64-1 {
		mask = "any"
	}
	return descriptor{
		Share: share.String(), Flags: flags.String(), Level: fmt.Sprint(level), Group: fmt.Sprint(group), Vector: fmt.Sprintf("0x%x", vector),
		Affinity: mask, Bytes: digits,
	}
}
