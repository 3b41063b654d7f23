package main

import (
	"fmt"
	"html"
	"math"
	"os"
	"path/filepath"
	"strings"
)

// The plots are rows of marks over one axis, with the names at the left and the numbers at the right.
const (
	plotWidth  = 860
	plotLeft   = 230 // where the axis begins
	plotRight  = 700 // and ends
	rowHeight  = 22
	plotTop    = 66 // of the first row
	plotBottom = 44 // below the last

	colorOurs   = "#c2410c"
	colorOthers = "#475569"
	colorGrid   = "#d4d4d8"
	colorText   = "#18181b"
)

// plot is one being drawn. The axis is logarithmic from low to high.
type plot struct {
	title, axis string
	machine     string // where and when it was measured
	low, high   float64
	rows        int
	marks       strings.Builder
}

// x is where a value is on the axis.
func (p *plot) x(v float64) float64 {
	share := math.Log(min(max(v, p.low), p.high)/p.low) / math.Log(p.high/p.low)
	return plotLeft + share*(plotRight-plotLeft)
}

// row begins the next row, and returns the height of its middle.
func (p *plot) row(name, numbers, color string) float64 {
	y := plotTop + (float64(p.rows)+0.5)*rowHeight
	p.rows++
	p.text(plotLeft-10, y+4, "end", color, name)
	p.text(plotRight+12, y+4, "start", color, numbers)
	return y
}

func (p *plot) text(x, y float64, anchor, color, text string) {
	fmt.Fprintf(&p.marks, `<text x="%.1f" y="%.1f" text-anchor="%s" fill="%s">%s</text>`+"\n", x, y, anchor, color, html.EscapeString(text))
}

// bar is a horizontal stroke from one value to another.
func (p *plot) bar(y, from, to, width float64, color string, opacity float64) {
	fmt.Fprintf(&p.marks, `<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="%s" stroke-width="%g" stroke-opacity="%g"/>`+"\n",
		p.x(from), y, p.x(to), y, color, width, opacity)
}

// tick is a vertical stroke at a value.
func (p *plot) tick(y, at, height float64, color string) {
	fmt.Fprintf(&p.marks, `<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="%s" stroke-width="2"/>`+"\n",
		p.x(at), y-height/2, p.x(at), y+height/2, color)
}

func (p *plot) dot(y, at float64, color string) {
	fmt.Fprintf(&p.marks, `<circle cx="%.1f" cy="%.1f" r="4.5" fill="%s"/>`+"\n", p.x(at), y, color)
}

// String is the plot as an SVG document.
func (p *plot) String() string {
	var b strings.Builder
	end := plotTop + p.rows*rowHeight
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" font-family="sans-serif" font-size="12">`+"\n",
		plotWidth, end+plotBottom, plotWidth, end+plotBottom)
	fmt.Fprintf(&b, `<rect width="100%%" height="100%%" fill="#ffffff"/>`+"\n")
	fmt.Fprintf(&b, `<text x="12" y="24" font-size="15" font-weight="bold" fill="%s">%s</text>`+"\n", colorText, html.EscapeString(p.title))
	fmt.Fprintf(&b, `<text x="12" y="41" font-size="11" fill="%s">%s</text>`+"\n", colorOthers, html.EscapeString(p.machine))
	for _, v := range gridLines(p.low, p.high) {
		fmt.Fprintf(&b, `<line x1="%.1f" y1="%d" x2="%.1f" y2="%d" stroke="%s"/>`+"\n", p.x(v), plotTop-8, p.x(v), end, colorGrid)
		fmt.Fprintf(&b, `<text x="%.1f" y="%d" text-anchor="middle" fill="%s">%g</text>`+"\n", p.x(v), end+16, colorOthers, v)
	}
	fmt.Fprintf(&b, `<text x="%d" y="%d" text-anchor="middle" fill="%s">%s</text>`+"\n", (plotLeft+plotRight)/2, end+34, colorText, html.EscapeString(p.axis))
	b.WriteString(p.marks.String())
	b.WriteString("</svg>\n")
	return b.String()
}

// gridLines are the round numbers of an axis: 1, 2 and 5 of each power of ten, or the powers alone where those are many.
func gridLines(low, high float64) []float64 {
	steps := []float64{1, 2, 5}
	if high/low > 2000 {
		steps = steps[:1]
	}
	var lines []float64
	for power := math.Floor(math.Log10(low)); power <= math.Log10(high); power++ {
		for _, s := range steps {
			// Through the text, so that a tenth is one.
			var v float64
			_, _ = fmt.Sscanf(fmt.Sprintf("%ge%d", s, int(power)), "%g", &v) // written by the line itself
			if v >= low && v <= high {
				lines = append(lines, v)
			}
		}
	}
	return lines
}

func colorOf(variant string) string {
	if strings.HasPrefix(variant, "irqbridge") {
		return colorOurs
	}
	return colorOthers
}

// around are the ends of an axis that has the values with some room.
func around(values []float64) (low, high float64) {
	low, high = math.Inf(1), math.Inf(-1)
	for _, v := range values {
		if v > 0 {
			low, high = min(low, v), max(high, v)
		}
	}
	return low / 1.25, high * 1.25
}

// plots draws the report, by the names of the files.
func (r *report) plots() map[string]string {
	files := map[string]string{}
	if len(r.Spreads) > 0 {
		files["ratios.svg"] = r.ratioPlot()
	}
	for _, l := range r.Latencies {
		files["latency-"+l.Scenario+".svg"] = l.plot(r.Machine)
	}
	if len(r.Throughput) > 0 {
		files["throughput.svg"] = r.throughputPlot()
	}
	return files
}

func (r *report) ratioPlot() string {
	var values []float64
	for _, j := range r.Spreads {
		values = append(values, j.Q1, j.Q3, j.Median, j.AtMost, j.AtLeast)
	}
	p := &plot{machine: r.Machine.String(), title: "irqbridge against others: medians of the rounds' ratios", axis: "ratio; bar: quartiles, stroke: target"}
	p.low, p.high = around(values)
	for _, j := range r.Spreads {
		color := colorOthers
		if j.Met != nil && !*j.Met {
			color = colorOurs
		}
		numbers := ratioText(j.Median)
		if j.Met != nil {
			numbers += " (" + j.verdict() + ")"
		}
		y := p.row(j.Key, numbers, color)
		p.bar(y, j.Q1, j.Q3, 7, color, 0.35)
		p.dot(y, j.Median, color)
		if target := max(j.AtMost, j.AtLeast); target > 0 {
			p.tick(y, target, 16, colorText)
		}
	}
	return p.String()
}

func (l latencies) plot(on machine) string {
	var values []float64
	for _, v := range l.Variants {
		values = append(values, v.P50, v.P999)
	}
	p := &plot{machine: on.String(), title: l.Title, axis: "microseconds from " + l.From + " to " + l.To + "; dot: p50, thick to p99, thin to p99.9"}
	p.low, p.high = around(values)
	for _, v := range l.Variants {
		color := colorOf(v.Variant)
		y := p.row(v.Variant, fmt.Sprintf("p50 %s  p99 %s", micros(v.P50), micros(v.P99)), color)
		p.bar(y, v.P50, v.P999, 2, color, 0.6)
		p.bar(y, v.P50, v.P99, 8, color, 0.35)
		p.dot(y, v.P50, color)
	}
	return p.String()
}

func (r *report) throughputPlot() string {
	var values []float64
	p := &plot{machine: r.Machine.String(), title: "Throughput: a device that signals as fast as it can", axis: "thousands a second; dot: callbacks, stroke: signals"}
	for _, of := range r.Throughput {
		for _, x := range of {
			values = append(values, x.Fires/1e3, x.Dispatches/1e3)
		}
	}
	p.low, p.high = around(values)
	for _, s := range scenarios() {
		for _, v := range s.variants {
			x, ok := r.Throughput[fmt.Sprint(s.vectors)][v.name]
			if !ok || s.mode != "flood" {
				continue
			}
			color := colorOf(v.name)
			y := p.row(fmt.Sprintf("%s, %d", v.name, s.vectors), thousands(x.Dispatches), color)
			p.bar(y, p.low, x.Dispatches/1e3, 8, color, 0.35)
			p.dot(y, x.Dispatches/1e3, color)
			p.tick(y, x.Fires/1e3, 14, color)
		}
	}
	return p.String()
}

// writePlots writes the plots into a directory, which it makes.
func (r *report) writePlots(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for name, text := range r.plots() {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}
