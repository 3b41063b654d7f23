package main

import (
	"math"
	"testing"

	"github.com/stretchr/testify/assert"
	"pgregory.net/rapid"
)

func TestQuantile(t *testing.T) {
	ten := []float64{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}
	for _, c := range []struct {
		values []float64
		q      float64
		want   float64
	}{
		{ten, 0, 1},
		{ten, 0.1, 1},
		{ten, 0.11, 2},
		{ten, 0.5, 5},
		{ten, 0.99, 10},
		{ten, 1, 10},
		{[]float64{7}, 0.5, 7},
		{[]float64{7}, 0.999, 7},
	} {
		assert.InDelta(t, c.want, quantile(c.values, c.q), 0, "%v of %v", c.q, c.values)
	}
	assert.True(t, math.IsNaN(quantile(nil, 0.5)))
}

func TestMedian(t *testing.T) {
	assert.InDelta(t, 3, median([]float64{5, 1, 3}), 0)
	assert.InDelta(t, 2.5, median([]float64{4, 1, 3, 2}), 0)
	assert.True(t, math.IsNaN(median(nil)))
	values := []float64{3, 1, 2}
	median(values)
	assert.Equal(t, []float64{3, 1, 2}, values, "the order is the caller's")
}

func TestSpread(t *testing.T) {
	assert.Equal(t, spread{Median: 4.5, Q1: 2, Q3: 6, Rounds: 8}, spreadOf([]float64{8, 7, 6, 5, 4, 3, 2, 1}))
	assert.Equal(t, spread{Median: 3, Q1: 3, Q3: 3, Rounds: 1}, spreadOf([]float64{3}))
	assert.Zero(t, spreadOf(nil).Rounds)
}

// A round counts when both were measured in it, so a ratio is always one of the same round.
func TestRatios(t *testing.T) {
	nan := math.NaN()
	assert.Equal(t, []float64{2, 0.5}, ratios([]float64{4, 9, nan, 1, 5}, []float64{2, nan, 3, 2, 0}))
	assert.Empty(t, ratios([]float64{nan}, []float64{1}))
	assert.Equal(t, []float64{3}, ratios([]float64{3, 4}, []float64{1}))
}

// Whatever is measured, half of it is not above the median, and the quartiles are around it.
func TestSpreadProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		values := rapid.SliceOfN(rapid.Float64Range(0.001, 1000), 1, 50).Draw(t, "values")
		s := spreadOf(values)
		assert.LessOrEqual(t, s.Q1, s.Median)
		assert.LessOrEqual(t, s.Median, s.Q3)
		below := 0
		for _, v := range values {
			if v <= s.Median {
				below++
			}
		}
		assert.GreaterOrEqual(t, 2*below, len(values))
	})
}
