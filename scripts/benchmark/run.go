package main

import (
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"slices"
	"time"
)

// findings are the results by scenario, variant and round.
type findings struct {
	scenarios []*scenario
	compared  []comparison                    // those whose scenarios were measured
	results   map[string]map[string][]*result // nil for a measurement that failed
	pauses    []pause
	noisy     *int // measurements that began while others ran; nil where nobody looked
	total     int
	failures  []failure
}

// failure is what came of a variant that could not be measured.
type failure struct {
	where string
	err   error
	times int
}

// newFindings keeps of the comparisons those between what is to be measured.
func newFindings(scenarios []*scenario, all []comparison) *findings {
	f := &findings{scenarios: scenarios, results: map[string]map[string][]*result{}}
	for _, c := range all {
		if slices.ContainsFunc(scenarios, func(s *scenario) bool { return s.name == c.scenario }) {
			f.compared = append(f.compared, c)
		}
	}
	return f
}

func (f *findings) fail(where string, err error) {
	for i := range f.failures {
		if f.failures[i].where == where {
			f.failures[i].times++
			return
		}
	}
	f.failures = append(f.failures, failure{where, err, 1})
}

func (f *findings) failed(where string) bool {
	return slices.ContainsFunc(f.failures, func(l failure) bool { return l.where == where })
}

// measureAll measures all that is chosen, the variants of a round one after the other in random order. A failure is kept, and
// the rest goes on, so that one run shows everything.
func (b *bench) measureAll(o *options, progress io.Writer) *findings {
	f := newFindings(o.scenarios, comparisons())
	random := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 0))
	for _, s := range o.scenarios {
		begin, rounds := time.Now(), o.roundsOf(s)
		of := map[string][]*result{}
		for _, v := range s.variants {
			of[v.name] = make([]*result, rounds)
		}
		f.results[s.name] = of
		for round := range rounds {
			order := slices.Clone(s.variants)
			random.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
			for _, v := range order {
				f.total++
				r, err := b.measure(s, v, random.IntN(1<<20))
				if err != nil {
					f.fail(s.name+", "+v.name, err)
				}
				of[v.name][round] = r
			}
		}
		_, _ = fmt.Fprintf(progress, "bench: %s: %d rounds of %d variants in %.1f s\n", s.name, rounds, len(s.variants), time.Since(begin).Seconds())
	}
	if o.pauses {
		b.pauses(f, progress)
	}
	f.noisy = &b.gate.noisy
	return f
}

// values are what a measure found of a variant in each round, NaN for a round that failed.
func (f *findings) values(scenario string, v variant, m measure) []float64 {
	var values []float64
	for _, r := range f.results[scenario][v.name] {
		value := math.NaN()
		if r != nil {
			value = m.value(r)
		}
		values = append(values, value)
	}
	return values
}

// ratio is how the two of a comparison are to each other, round by round.
func (f *findings) ratio(c comparison) spread {
	return spreadOf(ratios(f.values(c.scenario, c.of, c.measure), f.values(c.scenario, c.to, c.measure)))
}

// pooled are the samples of all rounds, sorted.
func (f *findings) pooled(scenario string, v variant) []float64 {
	var all []float64
	for _, r := range f.results[scenario][v.name] {
		if r != nil {
			all = append(all, r.samples...)
		}
	}
	slices.Sort(all)
	return all
}

// allocations are the allocations for each interrupt in the processes of irqbridge, in the worst scenario without a load and
// with many interrupts. That is the median of the rounds, cut after two places: the runtime itself allocates a few times in a
// process's life, when it makes a thread, and connect's watchdog when it looks, once a second.
func (f *findings) allocations() float64 {
	worst := 0.0
	for _, s := range f.scenarios {
		for _, v := range s.variants {
			if !v.inGo() || v.name == goRead || s.load != "none" || s.mode != "closed" || s.samples < 1000 {
				continue
			}
			of := f.values(s.name, v, measure{"allocations", func(r *result) float64 { return r.counts["mallocs"] / r.counts["interrupts"] }})
			if of = finite(of); len(of) > 0 {
				worst = max(worst, median(of))
			}
		}
	}
	return math.Floor(worst*100) / 100
}

// err is what a run is failed for: never for its times.
func (f *findings) err() error {
	var list []error
	for _, l := range f.failures {
		list = append(list, fmt.Errorf("%s failed %d times, at first with: %w", l.where, l.times, l.err))
	}
	if a := f.allocations(); a > 0 {
		list = append(list, fmt.Errorf("%g allocations for each interrupt", a))
	}
	return errors.Join(list...)
}
