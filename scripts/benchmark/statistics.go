package main

import (
	"math"
	"slices"
)

// quantile is the smallest value that at least the share q of the sorted values does not exceed; NaN without values.
func quantile(sorted []float64, q float64) float64 {
	if len(sorted) == 0 {
		return math.NaN()
	}
	rank := int(math.Ceil(q * float64(len(sorted))))
	return sorted[min(max(rank, 1), len(sorted))-1]
}

// median is the middle of values, which need not be sorted: the mean of the two in the middle when their number is even;
// NaN without values.
func median(values []float64) float64 {
	s := slices.Sorted(slices.Values(values))
	if len(s) == 0 {
		return math.NaN()
	}
	return (s[(len(s)-1)/2] + s[len(s)/2]) / 2
}

// spread is the middle of some values and the quartiles around it.
type spread struct {
	Median float64 `json:"median"`
	Q1     float64 `json:"q1"`
	Q3     float64 `json:"q3"`
	Rounds int     `json:"rounds"`
}

func spreadOf(values []float64) spread {
	s := slices.Sorted(slices.Values(values))
	return spread{Median: median(s), Q1: quantile(s, 0.25), Q3: quantile(s, 0.75), Rounds: len(s)}
}

// finite are the values that are numbers.
func finite(values []float64) []float64 {
	return slices.DeleteFunc(slices.Clone(values), func(v float64) bool { return math.IsNaN(v) || math.IsInf(v, 0) })
}

// ratios divides what was measured in the same round, and leaves out the rounds in which one of the two is missing
// (NaN) or the divisor is 0.
func ratios(of, to []float64) []float64 {
	var r []float64
	for i := range min(len(of), len(to)) {
		r = append(r, of[i]/to[i])
	}
	return finite(r)
}
