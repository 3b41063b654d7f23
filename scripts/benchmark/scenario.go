package main

import (
	"math"
	"strconv"
	"time"
)

// scenario is one setting, in which every variant is measured once in every round.
type scenario struct {
	name     string // of files
	title    string
	from, to string // what the samples are between; the signal and the callback if empty
	mode     string // of the device
	sameCPU  bool
	awake    bool // a process of the lowest priority keeps the receiver's CPU from halting
	vectors  int
	load     string        // what else the receiver's process does; a receiver in C has a process beside it that does
	procs    int           // GOMAXPROCS of the receivers in Go
	gap      [2]int        // between interrupts, microseconds
	warmup   int           // of a closed loop: how many interrupts are not counted
	samples  int           // how many are
	duration time.Duration // of the others
	variants []variant
	// in the full run, and in the short one
	rounds, shortRounds int
}

// measure is what of a scenario a ratio compares.
type measure struct {
	name  string
	value func(*result) float64 // NaN when there is none
}

var (
	p50        = measure{"p50", func(r *result) float64 { return quantile(r.samples, 0.50) }}
	p75        = measure{"p75", func(r *result) float64 { return quantile(r.samples, 0.75) }}
	p99        = measure{"p99", func(r *result) float64 { return quantile(r.samples, 0.99) }}
	dispatches = measure{"dispatches/s", func(r *result) float64 { return r.rate("flood_calls") }}
	fires      = measure{"fires/s", func(r *result) float64 { return r.rate("flood_fired") }}
	sleeps     = measure{"sleeps/s", func(r *result) float64 { return r.rate("sleeps") }}
)

// comparison is a ratio that is reported, and what is wanted of it.
type comparison struct {
	key      string // in the JSON
	scenario string
	measure  measure
	of, to   variant
	target   float64 // 0: none
	atLeast  bool    // the target is a lower bound
}

// met tells whether a ratio is as wanted.
func (c comparison) met(ratio float64) bool {
	if c.atLeast {
		return ratio >= c.target
	}
	return ratio <= c.target && !math.IsNaN(ratio)
}

// scenarios are all that there are. Every one of a comparison's variants is in its scenario.
func scenarios() []*scenario {
	gap := [2]int{50, 150}
	return []*scenario{
		{
			name: "same-cpu", title: "one vector, device on the same CPU", mode: "closed", sameCPU: true, vectors: 1,
			load: "none", procs: 2, gap: gap, warmup: 150, samples: 1000, rounds: 40, shortRounds: 6,
			variants: []variant{cRead, cEpoll, cEpollET, dpdkEXT, dpdkMSIX, libuv, readInGo, cooperative, block},
		},
		{
			name: "cross-cpu", title: "one vector, device on another CPU", mode: "closed", awake: true, vectors: 1,
			load: "none", procs: 2, gap: gap, warmup: 150, samples: 1000, rounds: 40, shortRounds: 6,
			variants: []variant{cRead, cEpollET, cHybrid, cBusy, dpdkEXT, dpdkMSIX, readInGo, block, hybrid, poll},
		},
		{
			name: "vectors-64", title: "64 vectors in random order, device on the same CPU", mode: "closed", sameCPU: true,
			vectors: 64, load: "none", procs: 2, gap: gap, warmup: 150, samples: 1000, rounds: 15, shortRounds: 5,
			variants: []variant{cEpollET, dpdkEXT, dpdkMSIX, libuv, block},
		},
		{
			name: "vectors-2048", title: "2048 vectors in random order, device on the same CPU", mode: "closed", sameCPU: true,
			vectors: 2048, load: "none", procs: 2, gap: gap, warmup: 150, samples: 1000, rounds: 15, shortRounds: 4,
			variants: []variant{cEpollET, dpdkEXT, dpdkMSIX, block},
		},
		{
			name: "sparse", title: "one vector, 33 to 66 interrupts a second, device on another CPU", mode: "closed",
			awake: true, vectors: 1, load: "none", procs: 2, gap: [2]int{15000, 30000}, warmup: 20, samples: 80, rounds: 12, shortRounds: 1,
			variants: []variant{cRead, cEpollET, readInGo, block},
		},
		{
			name: "busy", title: "4 busy threads beside it on another CPU (Go: GOMAXPROCS 6)", mode: "open", awake: true,
			vectors: 1, load: "busy", procs: busyThreads + 2, gap: gap, duration: time.Second, rounds: 12, shortRounds: 3,
			variants: []variant{cRead, dpdkMSIX, readInGo, block, poll},
		},
		{
			name: "gc", title: "garbage collection beside it (Go: GOMAXPROCS 3; C: busy threads)", mode: "open", awake: true,
			vectors: 1, load: "gc", procs: 3, gap: gap, duration: time.Second, rounds: 12, shortRounds: 3,
			variants: []variant{cRead, dpdkMSIX, readInGo, block, poll},
		},
		flood(1, cRead, cEpollET, dpdkEXT, dpdkMSIX, block),
		flood(64, cEpollET, dpdkEXT, dpdkMSIX, block),
		flood(2048, cEpollET, dpdkEXT, dpdkMSIX, block),
	}
}

// flood is a scenario in which the device signals as fast as it can.
func flood(vectors int, variants ...variant) *scenario {
	n := strconv.Itoa(vectors)
	return &scenario{
		name: "flood-" + n, title: "as fast as the device can signal, vectors: " + n, mode: "flood", vectors: vectors,
		load: "none", procs: 2, duration: 300 * time.Millisecond, rounds: 12, shortRounds: 3, variants: variants,
	}
}

// comparisons are the ratios, with the targets for each.
func comparisons() []comparison {
	return []comparison{
		{"block_p50_vs_c_epoll", "same-cpu", p50, block, cEpollET, 1.08, false},
		{"block_p99_vs_c_epoll", "same-cpu", p99, block, cEpollET, 1.35, false},
		{"block_p50_vs_c_read", "same-cpu", p50, block, cRead, 1.30, false},
		{"block_p50_vs_dpdk_ext", "same-cpu", p50, block, dpdkEXT, 0, false},
		{"block_p50_vs_dpdk_msix", "same-cpu", p50, block, dpdkMSIX, 0.95, false},
		{"block_p50_vs_libuv", "same-cpu", p50, block, libuv, 0, false},
		{"block_p50_vs_go_read", "same-cpu", p50, block, readInGo, 0.55, false},
		{"block_p75_vs_go_read", "same-cpu", p75, block, readInGo, 0, false},
		{"cooperative_p50_vs_go_read", "same-cpu", p50, cooperative, readInGo, 0, false},
		{"cross_block_p50_vs_c_epoll", "cross-cpu", p50, block, cEpollET, 1.10, false},
		{"cross_block_p99_vs_c_epoll", "cross-cpu", p99, block, cEpollET, 0, false},
		{"cross_block_p50_vs_dpdk_msix", "cross-cpu", p50, block, dpdkMSIX, 0, false},
		{"hybrid_p50_vs_c_hybrid", "cross-cpu", p50, hybrid, cHybrid, 1.15, false},
		{"poll_p50_vs_c_busy", "cross-cpu", p50, poll, cBusy, 1.15, false},
		{"poll_p50_vs_dpdk_msix", "cross-cpu", p50, poll, dpdkMSIX, 0.10, false},
		{"vectors64_p50_vs_c_epoll", "vectors-64", p50, block, cEpollET, 0, false},
		{"vectors64_p50_vs_dpdk_msix", "vectors-64", p50, block, dpdkMSIX, 0.90, false},
		{"vectors2048_p50_vs_c_epoll", "vectors-2048", p50, block, cEpollET, 0, false},
		{"vectors2048_p50_vs_dpdk", "vectors-2048", p50, block, dpdkEXT, 0.50, false},
		{"sparse_p50_vs_go_read", "sparse", p50, block, readInGo, 0, false},
		{"busy_p50_vs_c_read", "busy", p50, block, cRead, 1.15, false},
		{"busy_p99_vs_c_read", "busy", p99, block, cRead, 0, false},
		{"gc_p50_vs_c_read", "gc", p50, block, cRead, 0, false},
		{"gc_p99_vs_c_read", "gc", p99, block, cRead, 0, false},
		{"throughput1_vs_c_epoll", "flood-1", dispatches, block, cEpollET, 0.75, true},
		{"throughput1_vs_dpdk", "flood-1", dispatches, block, dpdkMSIX, 1.15, true},
		{"throughput64_vs_c_epoll", "flood-64", dispatches, block, cEpollET, 0.75, true},
		{"throughput64_vs_dpdk", "flood-64", dispatches, block, dpdkMSIX, 1.15, true},
		{"throughput2048_vs_c_epoll", "flood-2048", dispatches, block, cEpollET, 0.75, true},
		{"throughput2048_vs_dpdk", "flood-2048", dispatches, block, dpdkMSIX, 1.15, true},
	}
}
