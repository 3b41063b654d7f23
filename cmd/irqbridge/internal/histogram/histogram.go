package histogram

import (
	"iter"
	"math"
	"math/bits"
	"sync/atomic"
	"time"
)

const (
	// subBits: each power of two is divided into this many bits' worth of buckets.
	subBits = 5
	sub     = 1 << subBits
	// rangeBits: durations of 1<<rangeBits ns (73 minutes) and more share the last bucket. Max still has them exactly.
	rangeBits = 42
	buckets   = (rangeBits - subBits + 1) * sub
)

// Histogram counts durations. The zero value is empty and ready; it is 10 kB, and is not to be copied.
//
// One goroutine at a time may change it (Add, Merge, UnmarshalJSON); any number may read it meanwhile, without waiting or
// making the writer wait. A reader that comes in the middle of an Add may see it in part.
type Histogram struct {
	counts [buckets]atomic.Uint64
	count  atomic.Uint64
	sum    atomic.Uint64 // ns
	least  atomic.Uint64 // the minimum + 1, so that 0 is none
	most   atomic.Uint64
}

// Bucket is one bucket that is not empty: Count durations d with From <= d < To. Those of the last bucket may be longer.
type Bucket struct {
	From, To time.Duration
	Count    uint64
}

// Add counts one duration. It does not allocate; a negative duration, of a clock that was set back, counts as 0.
func (h *Histogram) Add(d time.Duration) { h.add(uint64(max(d, 0)), 1) }

func (h *Histogram) add(ns, n uint64) {
	if m := h.least.Load(); m == 0 || ns+1 < m {
		h.least.Store(ns + 1)
	}
	if ns > h.most.Load() {
		h.most.Store(ns)
	}
	h.counts[index(ns)].Add(n)
	h.sum.Add(ns * n)
	h.count.Add(n)
}

// index is the bucket of a duration in ns.
func index(ns uint64) int {
	if ns < sub {
		return int(ns)
	}
	shift := bits.Len64(ns) - 1 - subBits
	return min((shift<<subBits)+int(ns>>shift), buckets-1)
}

// lower is the shortest duration of a bucket, in ns; below lower(i+1) bucket i ends, unless it is the last.
func lower(i int) uint64 {
	if i < 2*sub {
		return uint64(i)
	}
	shift := i>>subBits - 1
	return uint64(i&(sub-1)|sub) << shift
}

// Count is how many durations were added.
func (h *Histogram) Count() uint64 { return h.count.Load() }

// Min is the shortest duration, exactly; 0 when there is none.
func (h *Histogram) Min() time.Duration { return time.Duration(max(h.least.Load(), 1) - 1) }

// Max is the longest duration, exactly; 0 when there is none.
func (h *Histogram) Max() time.Duration { return time.Duration(h.most.Load()) }

// SumNS is the sum of all durations in nanoseconds. It never becomes less.
func (h *Histogram) SumNS() uint64 { return h.sum.Load() }

// Mean is the arithmetic mean, rounded down to a nanosecond; 0 when there is none.
func (h *Histogram) Mean() time.Duration {
	n := h.count.Load()
	if n == 0 {
		return 0
	}
	return min(max(time.Duration(h.sum.Load()/n), h.Min()), h.Max()) // not so by itself while an Add is under way
}

// Quantile is the shortest duration that at least the share q of all durations does not exceed: 0.5 is the median, 0 and 1 are
// Min and Max. It is off by at most 1/64 of itself, if that is less than 73 minutes, and exact below 64 ns and at 0 and 1. It is 0
// when there is none.
func (h *Histogram) Quantile(q float64) time.Duration {
	n := h.count.Load()
	switch {
	case n == 0:
		return 0
	case !(q > 0): // NaN, too
		return h.Min()
	case q >= 1:
		return h.Max()
	}
	rank := max(uint64(math.Ceil(q*float64(n))), 1)
	for b := range h.Buckets() {
		if b.Count >= rank {
			return min(max((b.From+b.To-1)/2, h.Min()), h.Max())
		}
		rank -= b.Count
	}
	return h.Max()
}

// Buckets yields the buckets that are not empty, by ascending duration.
func (h *Histogram) Buckets() iter.Seq[Bucket] {
	return func(yield func(Bucket) bool) {
		for i := range h.counts {
			n := h.counts[i].Load()
			if n > 0 && !yield(Bucket{time.Duration(lower(i)), time.Duration(lower(i + 1)), n}) {
				return
			}
		}
	}
}

// Merge adds all that other has counted.
func (h *Histogram) Merge(other *Histogram) {
	if other.count.Load() == 0 {
		return
	}
	for i := range other.counts {
		if n := other.counts[i].Load(); n > 0 {
			h.counts[i].Add(n)
		}
	}
	h.sum.Add(other.sum.Load())
	h.count.Add(other.count.Load())
	if m := other.least.Load(); h.least.Load() == 0 || m < h.least.Load() {
		h.least.Store(m)
	}
	h.most.Store(max(h.most.Load(), other.most.Load()))
}

// Since returns what h has counted beyond seen, and merges that into seen, which is the caller's own and belongs to h. The
// minimum and the maximum of a part are those of its buckets where h's own are older; of all parts merged, they are exact.
// It returns nil when there is nothing new.
func (h *Histogram) Since(seen *Histogram) *Histogram {
	if h.count.Load() == seen.count.Load() {
		return nil
	}
	part := new(Histogram)
	// The count comes from the buckets: an Add may be under way.
	for i := range h.counts {
		n := h.counts[i].Load() - seen.counts[i].Load()
		if n == 0 {
			continue
		}
		part.counts[i].Store(n)
		part.count.Add(n)
		if part.least.Load() == 0 {
			part.least.Store(max(lower(i)+1, h.least.Load()))
		}
		part.most.Store(h.most.Load())
		if i < buckets-1 {
			part.most.Store(min(lower(i+1)-1, h.most.Load()))
		}
	}
	if part.count.Load() == 0 {
		return nil
	}
	if m := h.most.Load(); m > seen.most.Load() {
		part.most.Store(m)
	}
	if m := h.least.Load(); m < seen.least.Load() {
		part.least.Store(m)
	}
	part.sum.Store(h.sum.Load() - seen.sum.Load())
	seen.Merge(part)
	return part
}
