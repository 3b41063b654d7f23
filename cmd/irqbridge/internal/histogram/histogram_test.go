package histogram

import (
	"encoding/json"
	"math"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestBucketsCoverAllDurationsInOrder(t *testing.T) {
	for i := range buckets - 1 {
		require.Equal(t, i, index(lower(i)))
		require.Equal(t, i, index(lower(i+1)-1))
		require.Less(t, lower(i), lower(i+1))
		width := lower(i+1) - lower(i)
		require.True(t, width == 1 || width*sub <= lower(i), "bucket %d is wider than 1/%d of its durations", i, sub)
	}
	assert.Equal(t, uint64(1)<<rangeBits, lower(buckets))
	assert.Equal(t, buckets-1, index(math.MaxInt64))
}

func of(durations ...time.Duration) *Histogram {
	h := new(Histogram)
	for _, d := range durations {
		h.Add(d)
	}
	return h
}

func TestSummary(t *testing.T) {
	h := of(5, 1000, 3, 1<<50, -1)
	assert.EqualValues(t, 5, h.Count())
	assert.EqualValues(t, 0, h.Min(), "a negative duration is none")
	assert.EqualValues(t, 1<<50, h.Max(), "exact, also beyond the last bucket")
	assert.EqualValues(t, (5+1000+3+1<<50)/5, h.Mean())
	assert.EqualValues(t, 5, h.Quantile(0.5))
	assert.EqualValues(t, 0, h.Quantile(0))
	assert.EqualValues(t, 0, h.Quantile(math.NaN()))
	assert.EqualValues(t, 1<<50, h.Quantile(1))

	var empty Histogram
	assert.Zero(t, empty.Min()+empty.Max()+empty.Mean()+empty.Quantile(0.5))
}

// TestQuantileIsOffByOneSixtyFourth compares with the sorted durations.
func TestQuantileIsOffByOneSixtyFourth(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		list := rapid.SliceOfN(rapid.Int64Range(0, 1<<rangeBits-1), 1, 200).Draw(t, "ns")
		q := rapid.Float64Range(0.001, 0.999).Draw(t, "q")
		h := new(Histogram)
		for _, ns := range list {
			h.Add(time.Duration(ns))
		}
		slices.Sort(list)
		want := list[max(int(math.Ceil(q*float64(len(list)))), 1)-1]
		got := int64(h.Quantile(q))
		if off := max(got-want, want-got); off*64 > want {
			t.Fatalf("quantile %v is %d, want %d", q, got, want)
		}
	})
}

// TestPartsMakeTheWhole reads a histogram in parts, as a recording does, and merges these.
func TestPartsMakeTheWhole(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var h, seen, merged Histogram
		for _, list := range rapid.SliceOfN(rapid.SliceOfN(rapid.Int64Range(0, 1<<44), 0, 20), 0, 6).Draw(t, "parts") {
			for _, ns := range list {
				h.Add(time.Duration(ns))
			}
			part := h.Since(&seen)
			if (part == nil) != (len(list) == 0) {
				t.Fatal("a part is nil when there is nothing new, and only then")
			}
			if part == nil {
				continue
			}
			if part.Count() != uint64(len(list)) || part.Min() > time.Duration(slices.Min(list)) || part.Max() < time.Duration(slices.Max(list)) {
				t.Fatalf("part %v to %v of %d", part.Min(), part.Max(), part.Count())
			}
			text, err := json.Marshal(part)
			if err != nil {
				t.Fatal(err)
			}
			var read Histogram
			if err := json.Unmarshal(text, &read); err != nil {
				t.Fatal(err)
			}
			merged.Merge(&read)
		}
		want, _ := json.Marshal(&h)
		got, _ := json.Marshal(&merged)
		if string(want) != string(got) {
			t.Fatalf("the parts make\n%s, the whole is\n%s", got, want)
		}
	})
}

func TestAddDoesNotAllocate(t *testing.T) {
	var h Histogram
	assert.Zero(t, testing.AllocsPerRun(100, func() { h.Add(12345) }))
}

// TestReadersDoNotDisturbTheWriter is for the race detector.
func TestReadersDoNotDisturbTheWriter(t *testing.T) {
	var h, seen Histogram
	var writer sync.WaitGroup
	const n = 10000
	writer.Go(func() {
		for i := range n {
			h.Add(time.Duration(i))
		}
	})
	var total uint64
	for total < n {
		if part := h.Since(&seen); part != nil {
			total += part.Count()
		}
		_ = h.Quantile(0.5)
	}
	writer.Wait()
	assert.EqualValues(t, n, total)
	assert.EqualValues(t, n, seen.Count())
}

func TestJSONOfNoHistogram(t *testing.T) {
	for text, why := range map[string]string{
		`{`:                                  "unexpected end",
		`{"counts":1}`:                       "unknown field",
		`{"count":1,"buckets":[[1,2]]}`:      "2 durations, not 1",
		`{"count":0,"maxNS":4,"buckets":[]}`: "without durations",
		`{"count":2,"sumNS":2,"minNS":1,"maxNS":1,"buckets":[[1,1],[1,1]]}`:                          "after a later one",
		`{"count":1,"sumNS":1,"minNS":1,"maxNS":1,"buckets":[[1,1],[2,0]]}`:                          "is empty",
		`{"count":1,"sumNS":129,"minNS":129,"maxNS":129,"buckets":[[129,1]]}`:                        "no bucket begins at 129",
		`{"count":1,"sumNS":1,"minNS":1,"maxNS":9,"buckets":[[1,1]]}`:                                "not in the first and the last",
		`{"count":1,"sumNS":1,"minNS":9,"maxNS":1,"buckets":[[1,1]]}`:                                "not in the first and the last",
		`{"count":0,"buckets":[[1,18446744073709551615],[2,1]]}`:                                     "exceed 64 bits",
		`{"count":1,"sumNS":1,"minNS":1,"maxNS":18446744073709551615,"buckets":[[4329327034368,1]]}`: "not in the first and the last",
	} {
		h := of(7)
		err := json.Unmarshal([]byte(text), h)
		if assert.Error(t, err, text) {
			assert.Contains(t, err.Error(), why, text)
		}
		assert.EqualValues(t, 7, h.Max(), "the content is as before")
	}
}

func FuzzJSON(f *testing.F) {
	text, err := json.Marshal(of(1, 1000, 1<<60))
	require.NoError(f, err)
	f.Add(text)
	f.Fuzz(func(t *testing.T, text []byte) {
		var h Histogram
		if json.Unmarshal(text, &h) != nil {
			return
		}
		again, err := json.Marshal(&h)
		require.NoError(t, err)
		var second Histogram
		require.NoError(t, json.Unmarshal(again, &second))
		if q := h.Quantile(0.9); h.Count() > 0 {
			assert.True(t, h.Min() <= q && q <= h.Max())
		}
	})
}

func BenchmarkAdd(b *testing.B) {
	var h Histogram
	for i := 0; b.Loop(); i++ {
		h.Add(time.Duration(i))
	}
}
