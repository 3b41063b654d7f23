package cli

import (
	"bytes"
	"fmt"
	"html"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/irqbridge/irqbridge/cmd/irqbridge/internal/histogram"
	"github.com/irqbridge/irqbridge/pci"
)

// latencyReport is what was measured.
type latencyReport struct {
	session  *session
	prepared *prepared
	options  latencyOptions
	started  time.Time
	took     time.Duration
	code     int

	byMicrosecond []map[int64]uint64 // by message, up to -h
}

// add counts one interrupt.
func (l *latencyReport) add(r *row, after time.Duration) {
	i := r.message.Index
	if l.byMicrosecond[i] == nil {
		l.byMicrosecond[i] = map[int64]uint64{}
	}
	if us := after.Microseconds(); l.options.histogram == 0 || us < int64(l.options.histogram) {
		l.byMicrosecond[i][us]++
	}
}

// latencyJSON is the output of latency --json. sysinfo, cmdline, histogram and return_code are as in cyclictest's.
type latencyJSON struct {
	Schema     int                  `json:"schema"`
	Cmdline    string               `json:"cmdline"`
	Sysinfo    sysinfoJSON          `json:"sysinfo"`
	Started    time.Time            `json:"started"`
	Seconds    float64              `json:"seconds"`
	Address    pci.Address          `json:"address"`
	Backend    string               `json:"backend"`
	Kind       string               `json:"kind"`
	Source     string               `json:"source"`
	Wait       string               `json:"wait"`
	Priority   int                  `json:"priority"`
	IntervalUS int                  `json:"intervalUS"`
	Includes   string               `json:"includes"`
	Excludes   string               `json:"excludes"`
	Messages   []messageLatencyJSON `json:"messages"`
	ReturnCode int                  `json:"return_code"`
}

// sysinfoJSON is uname(2).
type sysinfoJSON struct {
	Sysname string `json:"sysname"`
	Release string `json:"release"`
	Version string `json:"version"`
	Machine string `json:"machine"`
}

// messageLatencyJSON is one message. The histogram counts by whole microseconds; what took -h or longer is in Overflows.
type messageLatencyJSON struct {
	Message   int               `json:"message"`
	HostIRQ   *int              `json:"hostIRQ"`
	CPUs      string            `json:"cpus"`
	Raised    uint64            `json:"raised"`
	Cycles    uint64            `json:"cycles"` // those that were serviced
	MinNS     int64             `json:"minNS"`
	AvgNS     int64             `json:"avgNS"`
	P50NS     int64             `json:"p50NS"`
	P99NS     int64             `json:"p99NS"`
	P999NS    int64             `json:"p999NS"`
	MaxNS     int64             `json:"maxNS"`
	RanOn     map[string]uint64 `json:"ranOn"`
	Histogram map[string]uint64 `json:"histogram"`
	Overflows uint64            `json:"overflows"`
}

// path is what the time includes, and what it does not.
func (l *latencyReport) path() (includes, excludes string) {
	end := "the eventfd, the wake-up of the thread, dispatch"
	if l.options.wait == "poll" {
		end = "the eventfd, the thread's look at it, dispatch"
	}
	if l.prepared.source.loopback {
		return "the system call that triggers, " + end, "the device, its message, the IOMMU's remapping, the host's interrupt"
	}
	return "the raise steps of the profile, the device, its message, the IOMMU's remapping, the host's interrupt, " + end, "the acknowledge steps"
}

func (l *latencyReport) json() latencyJSON {
	s := l.session
	j := latencyJSON{
		Schema: schema, Cmdline: strings.Join(os.Args, " "), Started: l.started, Seconds: l.took.Seconds(), Address: s.device.Address(),
		Backend: s.device.Backend().String(), Kind: s.resources.Kind.String(), Source: l.prepared.how, Wait: l.options.wait, Priority: l.options.priority,
		IntervalUS: l.options.interval, Messages: []messageLatencyJSON{}, ReturnCode: l.code,
	}
	j.Includes, j.Excludes = l.path()
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		j.Sysinfo = sysinfoJSON{
			unix.ByteSliceToString(u.Sysname[:]), unix.ByteSliceToString(u.Release[:]), unix.ByteSliceToString(u.Version[:]), unix.ByteSliceToString(u.Machine[:]),
		}
	}
	for i, r := range s.rows {
		if r.latency == nil {
			continue
		}
		h := r.latency
		m := messageLatencyJSON{
			Message: r.message.Index, CPUs: r.routine.cpus.List(), Raised: r.raised.Load(), Cycles: h.Count(), MinNS: int64(h.Min()), AvgNS: int64(h.Mean()),
			P50NS: int64(h.Quantile(0.5)), P99NS: int64(h.Quantile(0.99)), P999NS: int64(h.Quantile(0.999)), MaxNS: int64(h.Max()),
			RanOn: countsByCPU(r.routine.callsByCPU()), Histogram: map[string]uint64{}, Overflows: h.Count(),
		}
		if r.irqFound {
			m.HostIRQ = &r.irq
		}
		for us, n := range l.byMicrosecond[i] {
			m.Histogram[strconv.FormatInt(us, 10)] = n
			m.Overflows -= n
		}
		j.Messages = append(j.Messages, m)
	}
	return j
}

// print is the summary for people.
func (l *latencyReport) print(a *app) {
	s := l.session
	a.printf("%v  %s  %s  backend %v  wait %s%s\n", s.device.Address(), interruptsOf(s.resources.Kind, len(s.rows)), l.prepared.how, s.device.Backend(),
		l.options.wait, when(l.options.priority > 0, fmt.Sprintf("  SCHED_FIFO %d", l.options.priority)))
	t := newTable(">MSG", ">VECTOR", ">HOST IRQ", "CPUS", ">COUNT", ">MIN", ">AVG", ">P50", ">P99", ">P99.9", ">MAX", "RAN ON")
	for _, r := range s.rows {
		cells := []any{r.message.Index, fmt.Sprintf("0x%x", r.parameters.Vector), r.hostIRQ(), r.routine.cpus}
		if h := r.latency; h == nil || h.Count() == 0 {
			cells = append(cells, 0, "-", "-", "-", "-", "-", "-")
		} else {
			cells = append(cells, h.Count(), microseconds(h.Min()), microseconds(h.Mean()), microseconds(h.Quantile(0.5)), microseconds(h.Quantile(0.99)),
				microseconds(h.Quantile(0.999)), microseconds(h.Max()))
		}
		t.add(append(cells, byCPU(r.routine.callsByCPU()))...)
	}
	t.print(a.stdout, "", 0)
	if l.options.histogram > 0 {
		l.printHistogram(a)
	}
	includes, excludes := l.path()
	a.printf("includes: %s\nnot: %s\n", includes, excludes)
}

// bar is how many interrupts took from From to To.
type bar struct {
	from, to time.Duration
	count    uint64
}

// bars are all messages together, in steps of a quarter of a power of two.
func (l *latencyReport) bars() (all *histogram.Histogram, list []bar) {
	all = new(histogram.Histogram)
	for _, r := range l.session.rows {
		if r.latency != nil {
			all.Merge(r.latency)
		}
	}
	for b := range all.Buckets() {
		from, to := quarter(b.From)
		if n := len(list); n > 0 && list[n-1].from == from {
			list[n-1].count += b.Count
			continue
		}
		for n := len(list); n > 0 && list[n-1].to < from; n = len(list) {
			between, end := quarter(list[n-1].to)
			list = append(list, bar{between, end, 0})
		}
		list = append(list, bar{from, to, b.Count})
	}
	return all, list
}

// quarter is the quarter of a power of two that a time is in; below 4 ns there is one for all.
func quarter(d time.Duration) (from, to time.Duration) {
	low := time.Duration(4)
	if d < low {
		return 0, low
	}
	for low*2 <= d {
		low *= 2
	}
	step := low / 4
	from = low + (d-low)/step*step
	return from, from + step
}

// barWidth is the length of the longest bar in characters.
const barWidth = 50

func (l *latencyReport) printHistogram(a *app) {
	_, list := l.bars()
	limit, highest, over := time.Duration(l.options.histogram)*time.Microsecond, uint64(1), uint64(0)
	for _, b := range list {
		highest = max(highest, b.count)
	}
	t := newTable(">FROM", ">TO", ">COUNT", "")
	for _, b := range list {
		if b.from >= limit {
			over += b.count
			continue
		}
		length := int(b.count * barWidth / highest)
		if b.count > 0 {
			length = max(length, 1)
		}
		t.add(microseconds(b.from), microseconds(b.to), b.count, strings.Repeat("#", length))
	}
	a.printf("all messages together:\n")
	t.print(a.stdout, "", 0)
	if over > 0 {
		a.printf("%d took longer than these\n", over)
	}
}

// svg is the histogram of all messages as a picture, with the percentiles.
func (l *latencyReport) svg() []byte {
	const width, height, left, top, bottom = 800, 400, 60, 60, 60
	all, list := l.bars()
	highest := uint64(1)
	for _, b := range list {
		highest = max(highest, b.count)
	}
	var out bytes.Buffer
	text := func(x, y float64, anchor, s string) {
		fmt.Fprintf(&out, `<text x="%.1f" y="%.1f" text-anchor="%s">%s</text>`+"\n", x, y, anchor, html.EscapeString(s))
	}
	fmt.Fprintf(&out, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12">`+"\n", width, height)
	fmt.Fprintf(&out, `<rect width="%d" height="%d" fill="white"/>`+"\n", width, height)
	includes, excludes := l.path()
	text(left, 20, "start", fmt.Sprintf("%v, %s, wait %s: %d interrupts, raise to service routine", l.session.device.Address(), l.prepared.how, l.options.wait, all.Count()))
	text(left, 36, "start", "includes: "+includes)
	text(left, 52, "start", "not: "+excludes)
	plot := float64(height - top - bottom)
	step := float64(width-left-20) / float64(max(len(list), 1))
	for i, b := range list {
		x, h := left+float64(i)*step, plot*float64(b.count)/float64(highest)
		fmt.Fprintf(&out, `<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" fill="#4878a8"><title>%s to %s: %d</title></rect>`+"\n",
			x, top+plot-h, max(step-1, 0.5), h, microseconds(b.from), microseconds(b.to), b.count)
		if i%max(1, len(list)/8) == 0 {
			text(x, top+plot+16, "start", microseconds(b.from))
		}
	}
	text(left-6, top+10, "end", strconv.FormatUint(highest, 10))
	text(left-6, top+plot, "end", "0")
	if all.Count() > 0 {
		text(left, float64(height)-12, "start", fmt.Sprintf("min %s  avg %s  p50 %s  p99 %s  p99.9 %s  max %s", microseconds(all.Min()), microseconds(all.Mean()),
			microseconds(all.Quantile(0.5)), microseconds(all.Quantile(0.99)), microseconds(all.Quantile(0.999)), microseconds(all.Max())))
	}
	out.WriteString("</svg>\n")
	return out.Bytes()
}
