package main

import (
	"cmp"
	"fmt"
	"io"
	"math"
	"strings"
	"text/tabwriter"
)

// report is what a run found, as it is printed and kept.
type report struct {
	Schema  int     `json:"schema"`
	Machine machine `json:"machine"`
	Short   bool    `json:"short"`
	// Ratios are the medians of what Spreads tells more of.
	Ratios             map[string]float64         `json:"ratios"`
	AllocsPerInterrupt float64                    `json:"allocsPerInterrupt"`
	Throughput         map[string]map[string]rate `json:"throughput"` // by vectors and variant
	Spreads            []judged                   `json:"spreads"`
	Latencies          []latencies                `json:"latencies"`
	Pauses             []pause                    `json:"stopTheWorld,omitempty"`
	Measurements       int                        `json:"measurements"`
	Noisy              *int                       `json:"noisyMeasurements,omitempty"` // nil where nobody looked
	Failures           []string                   `json:"failures,omitempty"`
}

// rate is of a second.
type rate struct {
	Fires      float64 `json:"fires"`
	Dispatches float64 `json:"dispatches"`
	Sleeps     float64 `json:"sleeps"` // of the receiver's thread
}

// judged is a ratio with its spread, and what is wanted of it.
type judged struct {
	Key      string `json:"key"`
	Scenario string `json:"scenario"`
	Of       string `json:"of"`
	To       string `json:"to"`
	Measure  string `json:"measure"`
	spread
	AtMost  float64 `json:"atMost,omitempty"`
	AtLeast float64 `json:"atLeast,omitempty"`
	Met     *bool   `json:"met,omitempty"`
}

// latencies are a scenario's, in microseconds.
type latencies struct {
	Scenario string    `json:"scenario"`
	Title    string    `json:"title"`
	From     string    `json:"from"`
	To       string    `json:"to"`
	Variants []latency `json:"variants"`
}

type latency struct {
	Variant string  `json:"variant"`
	Samples int     `json:"samples"`
	P50     float64 `json:"p50"`
	P99     float64 `json:"p99"`
	P999    float64 `json:"p99.9"`
	Max     float64 `json:"max"`
}

func (f *findings) report(m machine, short bool) *report {
	r := &report{
		Schema: 1, Machine: m, Short: short, Ratios: map[string]float64{}, AllocsPerInterrupt: f.allocations(),
		Throughput: map[string]map[string]rate{}, Pauses: f.pauses, Measurements: f.total, Noisy: f.noisy,
	}
	for _, c := range f.compared {
		s := f.ratio(c)
		if s.Rounds == 0 {
			continue // what failed is among the failures
		}
		j := judged{Key: c.key, Scenario: c.scenario, Of: c.of.name, To: c.to.name, Measure: c.measure.name, spread: s}
		if c.target > 0 {
			j.Met = new(bool)
			*j.Met = c.met(s.Median)
			if c.atLeast {
				j.AtLeast = c.target
			} else {
				j.AtMost = c.target
			}
		}
		r.Ratios[c.key] = s.Median
		r.Spreads = append(r.Spreads, j)
	}
	for _, s := range f.scenarios {
		l := latencies{Scenario: s.name, Title: s.title, From: cmp.Or(s.from, "the signal"), To: cmp.Or(s.to, "the callback")}
		for _, v := range s.variants {
			if s.mode == "flood" {
				r.addRate(f, s, v)
				continue
			}
			all := f.pooled(s.name, v)
			if len(all) == 0 {
				continue
			}
			l.Variants = append(l.Variants, latency{
				Variant: v.name, Samples: len(all), P50: quantile(all, 0.5) / 1e3, P99: quantile(all, 0.99) / 1e3,
				P999: quantile(all, 0.999) / 1e3, Max: quantile(all, 1) / 1e3,
			})
		}
		if len(l.Variants) > 0 {
			r.Latencies = append(r.Latencies, l)
		}
	}
	for _, l := range f.failures {
		r.Failures = append(r.Failures, fmt.Sprintf("%s (%d times): %v", l.where, l.times, l.err))
	}
	return r
}

func (r *report) addRate(f *findings, s *scenario, v variant) {
	vectors := fmt.Sprint(s.vectors)
	of := func(m measure) float64 { return math.Round(spreadOf(finite(f.values(s.name, v, m))).Median) }
	x := rate{Fires: of(fires), Dispatches: of(dispatches), Sleeps: of(sleeps)}
	if math.IsNaN(x.Fires) {
		return
	}
	if r.Throughput[vectors] == nil {
		r.Throughput[vectors] = map[string]rate{}
	}
	r.Throughput[vectors][v.name] = x
}

// write prints the report for people.
func (r *report) write(w io.Writer) error {
	var b strings.Builder
	kind := "full run"
	if r.Short {
		kind = "short run"
	}
	fmt.Fprintf(&b, "%s\n%s: %d measurements", r.Machine, kind, r.Measurements)
	if r.Noisy != nil {
		fmt.Fprintf(&b, ", of which %d began while others ran on the machine", *r.Noisy)
	}
	b.WriteByte('\n')

	fmt.Fprint(&b, "\nRatios: median of the rounds, and quartiles\n")
	table(&b, "RATIO\tOF\tTO\tMEASURE\tMEDIAN\tQUARTILES\tTARGET\t", func(row func(...any)) {
		for _, j := range r.Spreads {
			row(j.Key, j.Of, j.To, j.Measure, ratioText(j.Median), ratioText(j.Q1)+" to "+ratioText(j.Q3), j.verdict())
		}
	})
	fmt.Fprintf(&b, "allocations for each interrupt: %g\n", r.AllocsPerInterrupt)

	for _, l := range r.Latencies {
		fmt.Fprintf(&b, "\n%s: %s, microseconds from %s to %s, all rounds\n", l.Scenario, l.Title, l.From, l.To)
		table(&b, "VARIANT\tSAMPLES\tP50\tP99\tP99.9\tMAX\t", func(row func(...any)) {
			for _, v := range l.Variants {
				row(v.Variant, v.Samples, micros(v.P50), micros(v.P99), micros(v.P999), micros(v.Max))
			}
		})
	}
	if len(r.Throughput) > 0 {
		fmt.Fprint(&b, "\nThroughput: a device that signals as fast as it can, thousands a second, median of the rounds\n")
		table(&b, "VECTORS\tVARIANT\tFIRES\tDISPATCHES\tSLEEPS\t", func(row func(...any)) {
			for _, s := range scenarios() {
				for _, v := range s.variants {
					if x, ok := r.Throughput[fmt.Sprint(s.vectors)][v.name]; ok && s.mode == "flood" {
						row(s.vectors, v.name, thousands(x.Fires), thousands(x.Dispatches), thousands(x.Sleeps))
					}
				}
			}
		})
	}
	if len(r.Pauses) > 0 {
		fmt.Fprint(&b, "\nStopping the world for a garbage collection while the device is silent, microseconds at most\n")
		table(&b, "VARIANT\tGODEBUG\tSTOPS\tP50\tP99\tMAX\t", func(row func(...any)) {
			for _, p := range r.Pauses {
				debug := "-"
				if p.NoSignals {
					debug = "asyncpreemptoff=1"
				}
				row(p.Variant, debug, p.Stops, micros(p.P50), micros(p.P99), micros(p.Max))
			}
		})
	}
	for _, failure := range r.Failures {
		fmt.Fprintf(&b, "\nFAILED: %s\n", failure)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// verdict is a ratio's target, and whether it was met.
func (j judged) verdict() string {
	if j.Met == nil {
		return "-"
	}
	text, word := "<= "+ratioText(j.AtMost), "missed"
	if j.AtLeast > 0 {
		text = ">= " + ratioText(j.AtLeast)
	}
	if *j.Met {
		word = "met"
	}
	return text + " " + word
}

// ratioText, micros and thousands have three figures at least where that says something.
func ratioText(v float64) string { return fmt.Sprintf("%.2f", v) }

func micros(v float64) string {
	if v >= 1000 {
		return fmt.Sprintf("%.0f", v)
	}
	return fmt.Sprintf("%.2f", v)
}

func thousands(v float64) string { return fmt.Sprintf("%.1f", v/1e3) }

// table prints rows below a head, columns aligned.
func table(w io.Writer, head string, rows func(row func(cells ...any))) {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(tw, head) // to memory, as the flush
	rows(func(cells ...any) {
		for _, c := range cells {
			_, _ = fmt.Fprintf(tw, "%v\t", c)
		}
		_, _ = fmt.Fprintln(tw)
	})
	_ = tw.Flush()
}
