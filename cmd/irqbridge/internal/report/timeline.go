package report

import "time"

const (
	firstWidth = time.Millisecond
	maxBins    = 240
)

// timeline is how many things happened when: counts in bins of one width, which doubles whenever there are too many bins. Its
// memory does not grow with the run.
type timeline struct {
	width time.Duration // of a bin
	end   time.Duration // of the run so far
	total []float64     // by bin
	by    [][]float64   // by message, nil while nothing happened
}

func newTimeline(messages int) *timeline {
	return &timeline{width: firstWidth, by: make([][]float64, messages)}
}

// reach makes the bins last until t.
func (l *timeline) reach(t time.Duration) {
	l.end = max(l.end, t)
	for (l.end-1)/l.width >= maxBins {
		l.width *= 2
		l.total = halve(l.total)
		for i := range l.by {
			l.by[i] = halve(l.by[i])
		}
	}
}

func halve(bins []float64) []float64 {
	for i := range (len(bins) + 1) / 2 {
		sum := bins[2*i]
		if 2*i+1 < len(bins) {
			sum += bins[2*i+1]
		}
		bins[i] = sum
	}
	return bins[:(len(bins)+1)/2]
}

// add spreads n of a message evenly over the time between two ticks, which is all that is known of when they were.
func (l *timeline) add(message int, from, to time.Duration, n uint64) {
	l.reach(to)
	for each := range l.parts(from, to) {
		l.total = addAt(l.total, each.bin, float64(n)*each.share)
		l.by[message] = addAt(l.by[message], each.bin, float64(n)*each.share)
	}
}

func addAt(bins []float64, at int, n float64) []float64 {
	for len(bins) <= at {
		bins = append(bins, 0)
	}
	bins[at] += n
	return bins
}

type part struct {
	bin   int
	share float64
}

// parts are the bins that a time lies in, and the share of it that each has.
func (l *timeline) parts(from, to time.Duration) func(func(part) bool) {
	return func(yield func(part) bool) {
		if to <= from {
			yield(part{int(max(to-1, 0) / l.width), 1})
			return
		}
		for at := from; at < to; {
			bin := at / l.width
			next := min((bin+1)*l.width, to)
			if !yield(part{int(bin), float64(next-at) / float64(to-from)}) {
				return
			}
			at = next
		}
	}
}

// rates are the bins as counts in a second, and as many as the run has. The last bin may be shorter than the others.
func (l *timeline) rates(bins []float64) []float64 {
	n := int((max(l.end, 1)-1)/l.width) + 1
	rates := make([]float64, n)
	for i := range min(n, len(bins)) {
		covered := min(l.width, l.end-time.Duration(i)*l.width)
		rates[i] = bins[i] / max(covered, time.Microsecond).Seconds()
	}
	return rates
}
