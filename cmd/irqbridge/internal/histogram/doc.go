// Package histogram counts durations, such as latencies of interrupts, in buckets of constant relative width.
//
// Up to 64 ns each nanosecond has a bucket; from there on each power of two has 32. A duration is thus known to 1/32 of
// itself, and what is computed from the middle of its bucket is off by at most 1/64. Count, sum, minimum and maximum are exact.
// The memory is fixed, an Add takes some nanoseconds and no allocation, so that a service routine can do it.
//
// The JSON form is
//
//	{"count": 3, "sumNS": 5300, "minNS": 1000, "maxNS": 3100, "buckets": [[992, 1], [1184, 1], [3072, 1]]}
//
// with the buckets that are not empty, each by its shortest duration in ns and its count.
package histogram
