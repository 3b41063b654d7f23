package histogram

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"math/bits"
)

// histogramJSON is the JSON form.
type histogramJSON struct {
	Count   uint64      `json:"count"`
	Sum     uint64      `json:"sumNS"`
	Min     uint64      `json:"minNS"`
	Max     uint64      `json:"maxNS"`
	Buckets [][2]uint64 `json:"buckets"`
}

// MarshalJSON writes the form that the package documentation shows. What it writes is whole in itself, also while durations
// are being added.
func (h *Histogram) MarshalJSON() ([]byte, error) {
	j := histogramJSON{Sum: h.sum.Load(), Min: uint64(h.Min()), Max: uint64(h.Max()), Buckets: [][2]uint64{}}
	for b := range h.Buckets() {
		j.Count += b.Count
		j.Buckets = append(j.Buckets, [2]uint64{uint64(b.From), b.Count})
	}
	return json.Marshal(j)
}

// UnmarshalJSON replaces the content. It takes nothing that no histogram can hold: buckets that are out of order or empty, counts
// that do not add up, a minimum or a maximum that does not fit the buckets. After an error the content is as before.
func (h *Histogram) UnmarshalJSON(text []byte) error {
	var j histogramJSON
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&j); err != nil {
		return fmt.Errorf("histogram: %w", err)
	}
	if len(j.Buckets) > buckets {
		return fmt.Errorf("histogram: %d buckets; there are no more than %d", len(j.Buckets), buckets)
	}
	var count uint64
	last := -1
	for _, b := range j.Buckets {
		from, n := b[0], b[1]
		i := index(from)
		var carry uint64
		count, carry = bits.Add64(count, n, 0)
		switch {
		case lower(i) != from:
			return fmt.Errorf("histogram: no bucket begins at %d ns", from)
		case i <= last:
			return fmt.Errorf("histogram: the bucket at %d ns comes after a later one", from)
		case n == 0:
			return fmt.Errorf("histogram: the bucket at %d ns is empty", from)
		case carry != 0:
			return fmt.Errorf("histogram: the counts exceed 64 bits")
		}
		last = i
	}
	switch {
	case count != j.Count:
		return fmt.Errorf("histogram: the buckets have %d durations, not %d", count, j.Count)
	case count == 0:
		if j.Sum|j.Min|j.Max != 0 {
			return fmt.Errorf("histogram: without durations there is no sum, minimum or maximum")
		}
	case j.Max > math.MaxInt64 || j.Min > j.Max || index(j.Min) != index(j.Buckets[0][0]) || index(j.Max) != last:
		return fmt.Errorf("histogram: the minimum of %d and the maximum of %d ns are not in the first and the last bucket", j.Min, j.Max)
	}
	for i := range h.counts {
		h.counts[i].Store(0)
	}
	for _, b := range j.Buckets {
		h.counts[index(b[0])].Store(b[1])
	}
	h.count.Store(count)
	h.sum.Store(j.Sum)
	h.most.Store(j.Max)
	h.least.Store(0)
	if count > 0 {
		h.least.Store(j.Min + 1)
	}
	return nil
}
