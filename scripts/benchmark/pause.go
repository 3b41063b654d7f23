package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/metrics"
	"time"

	"golang.org/x/sys/unix"
)

// pause is how long the garbage collector took to stop the world in a process whose device is silent. The runtime keeps
// a histogram only, so each number is the upper end of the class that the value is in.
type pause struct {
	Variant   string  `json:"variant"`
	NoSignals bool    `json:"asyncpreemptoff"` // GODEBUG=asyncpreemptoff=1
	Stops     uint64  `json:"stops"`
	P50       float64 `json:"p50Microseconds"`
	P99       float64 `json:"p99Microseconds"`
	Max       float64 `json:"maxMicroseconds"`
}

const (
	stopping = "/sched/pauses/stopping/gc:seconds"
	// Each part of a measurement begins with an interrupt, after which the thread keeps its P for a while.
	pauseParts = 2
	pausePart  = 800 * time.Millisecond
)

// pauses measures those of all ways to wait, with and without the signals by which the runtime stops a goroutine.
func (b *bench) pauses(f *findings, progress io.Writer) {
	begin := time.Now()
	for _, v := range []variant{readInGo, cooperative, block, hybrid, poll} {
		for _, off := range []bool{false, true} {
			f.total++
			p, err := b.pause(v, off)
			if err != nil {
				f.fail("stop of the world, "+v.name, err)
				continue
			}
			f.pauses = append(f.pauses, *p)
		}
	}
	_, _ = fmt.Fprintf(progress, "bench: stops of the world in %.1f s\n", time.Since(begin).Seconds())
}

func (b *bench) pause(v variant, noSignals bool) (*pause, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := b.gate.wait(1); err != nil {
		return nil, err
	}
	args := b.receiver(v, &scenario{vectors: 1, load: "none"})
	args[1] = "pause"
	p := newProcess(ctx, args, nil, nil)
	p.Env = append(os.Environ(), "GOMAXPROCS=2")
	if noSignals {
		p.Env = append(p.Env, "GODEBUG=asyncpreemptoff=1")
	}
	r, err := p.counts()
	if err != nil {
		return nil, err
	}
	return &pause{
		Variant: v.name, NoSignals: noSignals, Stops: uint64(r.counts["stops"]),
		P50: r.counts["p50"], P99: r.counts["p99"], Max: r.counts["max"],
	}, nil
}

// pauseIn is the process of one: the arguments are those of receive.
func pauseIn(args []string, stdout io.Writer) error {
	r, err := parseReceiver(args)
	if err != nil {
		return err
	}
	r.shared = make([]byte, sharedSize)
	fds, end, err := r.begin()
	if err != nil {
		return err
	}
	defer end()
	before := histogram()
	for range pauseParts {
		if _, err := unix.Write(fds[0], oneSignal); err != nil {
			return os.NewSyscallError("write", err)
		}
		for begin := time.Now(); time.Since(begin) < pausePart; {
			runtime.GC()
		}
	}
	after := histogram()
	for i := range after.Counts {
		after.Counts[i] -= before.Counts[i]
	}
	total, _ := upperEnd(after, 1)
	if total == 0 {
		return errors.New(stopping + " counted nothing")
	}
	_, err = fmt.Fprintf(stdout, "stops %d\n", total)
	for _, q := range []struct {
		name  string
		share float64
	}{{"p50", 0.5}, {"p99", 0.99}, {"max", 1}} {
		if err == nil {
			_, end := upperEnd(after, q.share)
			_, err = fmt.Fprintf(stdout, "%s %g\n", q.name, end*1e6)
		}
	}
	return err
}

var oneSignal = []byte{1, 0, 0, 0, 0, 0, 0, 0}

func histogram() *metrics.Float64Histogram {
	sample := []metrics.Sample{{Name: stopping}}
	metrics.Read(sample)
	h := sample[0].Value.Float64Histogram()
	return &metrics.Float64Histogram{Counts: append([]uint64(nil), h.Counts...), Buckets: h.Buckets}
}

// upperEnd is the upper end of the class of a histogram that holds the quantile q, and how many values there are.
func upperEnd(h *metrics.Float64Histogram, q float64) (total uint64, end float64) {
	for _, n := range h.Counts {
		total += n
	}
	var below uint64
	for i, n := range h.Counts {
		below += n
		if n > 0 && float64(below) >= q*float64(total) {
			return total, h.Buckets[i+1]
		}
	}
	return total, 0
}
