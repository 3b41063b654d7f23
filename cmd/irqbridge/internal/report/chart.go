package report

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/irqbridge/irqbridge/cmd/irqbridge/internal/histogram"
)

// chart is a picture, as the template draws it. Lengths are those of its viewBox.
type chart struct {
	ID, Title, Desc  string
	Class            string // "wide" or "narrow": which screens it is for
	Width, Height    int
	Left, Right      float64 // the edges of the plot
	Top, Bottom      float64
	XTicks, YTicks   []tick
	XLabel, YLabel   string
	Area, Line, Bars string // paths; "" for none
	Marks            []mark

	ticked float64 // where the word of the last tick of the x axis ends, about
}

type tick struct {
	At     string
	Label  string
	Anchor string // of the text: start, middle or end
}

// mark is a vertical line with a word at its head.
type mark struct {
	At, TextAt, TextY string
	Label             string
	Anchor            string
	Class             string
	from, to          float64 // about where its word stands
}

// num is a coordinate in text. A tenth is finer than a screen.
func num(v float64) string {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		v = 0
	}
	s := strconv.FormatFloat(v, 'f', 1, 64)
	return strings.TrimSuffix(s, ".0")
}

// The two widths that a chart is drawn in, so that its letters have their size on a telephone, too.
var widths = []struct {
	class string
	width int
}{{"wide", 1000}, {"narrow", 340}}

func newChart(id, class string, width, height int) *chart {
	return &chart{
		ID: id + "-" + class, Class: class, Width: width, Height: height, Left: 52, Right: float64(width) - 12, Top: 26, Bottom: float64(height) - 38,
	}
}

// timelineCharts draws a rate over the time of the run, with the events, in each width.
func timelineCharts(id, title string, rates []float64, width, end time.Duration, events []eventRow) []*chart {
	var list []*chart
	for _, w := range widths {
		c := newChart(id, w.class, w.width, 220)
		c.Title, c.XLabel, c.YLabel = title, "time since the run started", "calls a second"
		top := 0.0
		for _, r := range rates {
			top = max(top, r)
		}
		top = c.linearY(top)
		c.timeX(end)
		x := func(t time.Duration) float64 {
			return c.Left + (c.Right-c.Left)*float64(min(t, end))/float64(max(end, 1))
		}
		y := func(v float64) float64 { return c.Bottom - (c.Bottom-c.Top)*v/top }
		var line strings.Builder
		for i, r := range rates {
			from, to := x(time.Duration(i)*width), x(time.Duration(i+1)*width)
			command := "L"
			if i == 0 {
				command = "M"
			}
			fmt.Fprintf(&line, "%s%s %sH%s", command, num(from), num(y(r)), num(to))
		}
		c.Line = line.String()
		c.Area = c.Line + fmt.Sprintf("V%sH%sZ", num(c.Bottom), num(c.Left))
		for _, e := range events {
			if len(c.Marks) == maxMarks {
				break
			}
			c.mark(x(e.at), e.Word, "event", 0)
			if last := len(c.Marks) - 1; last > 0 && c.Marks[last].overlaps(c.Marks[:last]) {
				c.Marks[last].Label = "" // the table has it
			}
		}
		c.Desc = fmt.Sprintf("%s calls a second at most, over %s.", count(uint64(top)), duration(end))
		list = append(list, c)
	}
	return list
}

// maxMarks is how many events a chart shows; the table has all.
const maxMarks = 12

// mark adds a mark whose word stands on the side where there is room, row lines above the first.
func (c *chart) mark(x float64, label, class string, row int) {
	m := mark{At: num(x), TextAt: num(x + 4), TextY: num(c.Top - 12 - float64(row)*13), Label: label, Anchor: "start", Class: class}
	m.from, m.to = x+4, x+4+textWidth(label)
	if x > (c.Left+c.Right)/2 {
		m.TextAt, m.Anchor = num(x-4), "end"
		m.from, m.to = x-4-textWidth(label), x-4
	}
	c.Marks = append(c.Marks, m)
}

// overlaps tells whether the word of a mark would stand on one of others in the same row.
func (m *mark) overlaps(others []mark) bool {
	for i := range others {
		if o := &others[i]; o.Label != "" && o.TextY == m.TextY && m.from < o.to && o.from < m.to {
			return true
		}
	}
	return false
}

// textWidth is about how wide a text is in a chart.
func textWidth(s string) float64 { return float64(utf8.RuneCountInString(s)) * 7 }

// linearY makes round ticks from 0 to beyond top, and returns where they end.
func (c *chart) linearY(top float64) float64 {
	step := roundStep(top / 4)
	end := math.Max(math.Ceil(top/step), 1) * step
	for v := 0.0; v <= end*1.0001; v += step {
		at := c.Bottom - (c.Bottom-c.Top)*v/end
		c.YTicks = append(c.YTicks, tick{At: num(at), Label: short(v)})
	}
	return end
}

// roundStep is the least of 1, 2 and 5 times a power of ten that is not less than v.
func roundStep(v float64) float64 {
	if !(v > 1e-9) {
		return 1
	}
	power := math.Pow(10, math.Floor(math.Log10(v)))
	for _, m := range []float64{1, 2, 5} {
		if v <= m*power*1.0001 {
			return m * power
		}
	}
	return 10 * power
}

// timeSteps are the distances of ticks that people count in.
var timeSteps = []time.Duration{
	time.Minute, 2 * time.Minute, 5 * time.Minute, 10 * time.Minute, 30 * time.Minute, time.Hour, 2 * time.Hour, 6 * time.Hour, 12 * time.Hour, 24 * time.Hour,
	7 * 24 * time.Hour, 28 * 24 * time.Hour, 364 * 24 * time.Hour,
}

// timeX makes ticks from 0 to end.
func (c *chart) timeX(end time.Duration) {
	target := float64(end) / math.Max(2, math.Floor(float64(c.Width)/110))
	step := time.Duration(math.Max(roundStep(target), 1))
	if step > 20*time.Second {
		for _, step = range timeSteps {
			if float64(step) >= target {
				break
			}
		}
	}
	for t := time.Duration(0); t <= end; t += step {
		at := c.Left + (c.Right-c.Left)*float64(t)/float64(max(end, 1))
		c.xTick(at, duration(t))
	}
}

// xTick adds a tick, whose word is left out where it would stand on that of the one before.
func (c *chart) xTick(at float64, label string) {
	t := tick{At: num(at), Label: label, Anchor: "middle"}
	from := at - textWidth(label)/2
	if at > c.Right-14 {
		t.Anchor, from = "end", at-textWidth(label)
	}
	if from < c.ticked {
		t.Label = ""
	} else {
		c.ticked = from + textWidth(label)
	}
	c.XTicks = append(c.XTicks, t)
}

// latencyCharts draws a histogram, both axes logarithmic, so that one late interrupt of a million is seen.
func latencyCharts(id, title string, h *histogram.Histogram) []*chart {
	var list []*chart
	for _, w := range widths {
		c := newChart(id, w.class, w.width, 220)
		c.Top += 26 // the marks have three rows
		c.Title, c.XLabel, c.YLabel = title, "from raise to service routine", "interrupts"
		least, most := math.Max(float64(h.Min())*0.9, 1), math.Max(float64(h.Max())*1.1, 2)
		if most < 4*least { // else there may be no round time between them
			least, most = math.Max(least/2, 1), most*2
		}
		low, high := math.Log10(least), math.Log10(most)
		x := func(d float64) float64 {
			v := (math.Log10(math.Max(d, 1)) - low) / (high - low)
			return c.Left + (c.Right-c.Left)*math.Min(math.Max(v, 0), 1)
		}
		c.logX(least, most, x)
		top := uint64(1)
		for b := range h.Buckets() {
			top = max(top, b.Count)
		}
		y := c.logY(float64(top))
		var bars strings.Builder
		for b := range h.Buckets() {
			from, to := x(float64(b.From)), x(float64(b.To))
			if to-from < 1.5 {
				to = from + 1.5
			}
			fmt.Fprintf(&bars, "M%s %sV%sH%sV%sZ", num(from), num(c.Bottom), num(y(float64(b.Count))), num(to), num(c.Bottom))
		}
		c.Bars = bars.String()
		for _, q := range []struct {
			of    float64
			label string
			class string
			row   int
		}{{0.5, "median ", "median", 0}, {0.99, "99 % ", "p99", 1}, {1, "max ", "max", 2}} {
			d := h.Quantile(q.of)
			c.mark(x(float64(d)), q.label+duration(d), q.class, q.row)
		}
		c.Desc = fmt.Sprintf("%s interrupts: median %s, 99 of 100 within %s, the longest %s.", count(h.Count()), duration(h.Quantile(0.5)),
			duration(h.Quantile(0.99)), duration(h.Max()))
		list = append(list, c)
	}
	return list
}

// logX makes ticks at 1, 2 and 5 times powers of ten, or at the powers alone where these are many.
func (c *chart) logX(least, most float64, x func(float64) float64) {
	multiples := []float64{1, 2, 5}
	if math.Log10(most/least)*3 > float64(c.Width)/70 {
		multiples = multiples[:1]
	}
	for power := math.Floor(math.Log10(least)); power <= math.Log10(most); power++ {
		for _, m := range multiples {
			v := m * math.Pow(10, power)
			if v >= least && v <= most {
				c.xTick(x(v), duration(time.Duration(v)))
			}
		}
	}
	if len(c.XTicks) == 0 {
		c.XTicks = append(c.XTicks, tick{At: num(c.Left), Label: duration(time.Duration(least)), Anchor: "start"})
	}
}

// logY makes ticks at powers of ten, and returns where a count is. A count of 1 is seen.
func (c *chart) logY(top float64) func(float64) float64 {
	decades := math.Max(math.Ceil(math.Log10(top)), 1)
	y := func(v float64) float64 {
		return c.Bottom - (c.Bottom-c.Top)*(math.Log10(math.Max(v, 0.5))-math.Log10(0.5))/(decades-math.Log10(0.5))
	}
	every := math.Ceil(decades / 5)
	for d := 0.0; d <= decades; d += every {
		c.YTicks = append(c.YTicks, tick{At: num(y(math.Pow(10, d))), Label: short(math.Pow(10, d))})
	}
	return y
}

// The size of a sparkline.
const (
	sparkWidth, sparkHeight = 120, 24
	sparkPoints             = 60
)

// sparkline is a path of rates, from the left to the right edge; "" when all are 0.
func sparkline(rates []float64) string {
	n := min(len(rates), sparkPoints)
	points := make([]float64, n)
	top := 0.0
	for i, r := range rates {
		p := &points[i*n/len(rates)]
		*p = max(*p, r)
		top = max(top, r)
	}
	if top == 0 {
		return ""
	}
	var b strings.Builder
	fmt.Fprintf(&b, "M0 %d", sparkHeight)
	for i, p := range points {
		fmt.Fprintf(&b, "V%sH%s", num(sparkHeight-(sparkHeight-2)*p/top), num(float64(i+1)*sparkWidth/float64(n)))
	}
	fmt.Fprintf(&b, "V%dZ", sparkHeight)
	return b.String()
}
