package profile

import (
	"slices"
	"strings"
)

// Near returns the names that somebody may have meant who typed name: those that differ in case alone or, else, in up to
// two characters, or which begin with it. At most three, the nearest first.
func Near(name string, names []string) []string {
	type candidate struct {
		name     string
		distance int
	}
	lower := strings.ToLower(name)
	var near []candidate
	for _, n := range names {
		other := strings.ToLower(n)
		d := distance(lower, other)
		if d > 2 && len(lower) >= 2 && strings.HasPrefix(other, lower) {
			d = 2
		}
		if d <= 2 && d < max(len(lower), len(other)) {
			near = append(near, candidate{n, d})
		}
	}
	slices.SortStableFunc(near, func(a, b candidate) int { return a.distance - b.distance })
	var list []string
	for _, c := range near[:min(3, len(near))] {
		list = append(list, c.name)
	}
	return list
}

// distance is how many characters have to be put in, taken out, replaced or swapped with their neighbour to make b of a.
func distance(a, b string) int {
	if len(a)-len(b) > 2 || len(b)-len(a) > 2 {
		return 3 // or more: nobody asks
	}
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := range a {
		row[0] = i + 1
		for j := range b {
			d := last[j]
			if a[i] != b[j] {
				d++
			}
			d = min(d, last[j+1]+1, row[j]+1)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				d = min(d, before[j-1]+1)
			}
			row[j+1] = d
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}
