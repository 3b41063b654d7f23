package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// patience is how long one measurement may take.
const patience = 60 * time.Second

// result is what one measurement of a variant found.
type result struct {
	samples []float64          // latencies in nanoseconds, sorted
	counts  map[string]float64 // by the words that c/device.c and the receivers print
}

// rate is how many of these there were in a second of a flood; NaN when it was none.
func (r *result) rate(count string) float64 {
	n, ok := r.counts[count]
	if !ok {
		return math.NaN()
	}
	return n / r.counts["elapsed"] * float64(time.Second)
}

// check says what is wrong with a measurement: each interrupt has to be answered, and whoever reads the eventfds has to have
// read all that was signalled.
func (r *result) check(s *scenario, v variant) error {
	var wrong []error
	if n := r.counts["lost"]; n > 0 {
		wrong = append(wrong, fmt.Errorf("%.0f of %.0f interrupts were lost", n, r.counts["fired"]))
	}
	if fired, signals := r.counts["fired"], r.counts["signals"]; v.drains && signals != fired {
		wrong = append(wrong, fmt.Errorf("%.0f interrupts, and the reads of the eventfds returned %.0f", fired, signals))
	}
	if s.mode == "closed" && len(r.samples)+int(r.counts["lost"]) < s.samples {
		wrong = append(wrong, fmt.Errorf("%d samples of %d", len(r.samples), s.samples))
	}
	return errors.Join(wrong...)
}

// bench measures.
type bench struct {
	self     string // this program
	peers    string // where the peers are
	scripts  string // the directory of scripts/bench
	cpus     cpus
	priority int // SCHED_FIFO, of the receiver's thread, and of a device on the other CPU; 0 for none
	gate     gate
}

// cpus are where things run: the receiver's thread always on one CPU, the device on the same or the other, where all else is, too.
type cpus struct{ device, receiver int }

// measure runs one variant in a scenario once: the receiver and the device are fresh processes.
func (b *bench) measure(s *scenario, v variant, seed int) (*result, error) {
	r, err := b.run(s, v, seed)
	if err == nil {
		err = r.check(s, v)
	}
	if err != nil {
		return nil, err
	}
	return r, nil
}

func (b *bench) run(s *scenario, v variant, seed int) (*result, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	base := 1
	if s.awake && !v.stays {
		stop, err := b.background(ctx, "burn", strconv.Itoa(b.cpus.receiver), "idle")
		if err != nil {
			return nil, err
		}
		defer stop()
		base++
	}
	if err := b.gate.wait(base); err != nil {
		return nil, err
	}
	if s.load != "none" && !v.inGo() {
		stop, err := b.background(ctx, "burn", strconv.Itoa(b.cpus.device), strconv.Itoa(busyThreads))
		if err != nil {
			return nil, err
		}
		defer stop()
	}

	shared, err := memory()
	if err != nil {
		return nil, err
	}
	defer func() { _ = shared.Close() }()
	ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socketpair", err)
	}
	receiver := newProcess(ctx, b.receiver(v, s), os.NewFile(uintptr(ends[0]), "receiver"), shared)
	receiver.Env = append(os.Environ(), "GOMAXPROCS="+strconv.Itoa(s.procs))
	device := newProcess(ctx, append([]string{b.peers + "/device"}, b.deviceArgs(s, seed)...), os.NewFile(uintptr(ends[1]), "device"), shared)

	err = receiver.start()
	if err != nil {
		device.closeSocket()
		return nil, err
	}
	if err = device.start(); err == nil {
		err = device.wait() // which ends the receiver
	}
	if err = errors.Join(err, receiver.wait()); err != nil {
		return nil, err
	}
	r := &result{counts: map[string]float64{}}
	for _, out := range []*bytes.Buffer{&device.stdout, &receiver.stdout} {
		if err := r.read(out); err != nil {
			return nil, err
		}
	}
	slices.Sort(r.samples)
	return r, nil
}

// newResult is one of which nothing but the samples is known.
func newResult(samples []float64) *result {
	return &result{samples: slices.Sorted(slices.Values(samples)), counts: map[string]float64{}}
}

// read takes what a process printed.
func (r *result) read(out *bytes.Buffer) error {
	for lines := bufio.NewScanner(out); lines.Scan(); {
		word, number, _ := strings.Cut(lines.Text(), " ")
		n, err := strconv.ParseFloat(number, 64)
		if err != nil {
			return fmt.Errorf("not a count: %q", lines.Text())
		}
		if word == "sample" {
			r.samples = append(r.samples, n)
		} else {
			r.counts[word] = n
		}
	}
	return nil
}

// receiver is how a variant is started. One that never sleeps has no priority: with SCHED_FIFO the kernel would take its CPU
// away for 50 ms of each second for whoever is left there.
func (b *bench) receiver(v variant, s *scenario) []string {
	urgency := b.priority
	if v.stays {
		urgency = 0
	}
	where := []string{strconv.Itoa(b.cpus.receiver), strconv.Itoa(urgency), strconv.Itoa(s.vectors)}
	if v.inGo() {
		return append(append([]string{b.self, "receive", v.args[0]}, where...), s.load)
	}
	return append([]string{filepath.Join(b.peers, v.program), v.args[0]}, where...)
}

// deviceArgs are those of c/device.c. A device on the receiver's CPU is an ordinary process, so that the receiver takes the
// CPU from it.
func (b *bench) deviceArgs(s *scenario, seed int) []string {
	cpu, urgency := b.cpus.device, b.priority
	if s.sameCPU {
		cpu, urgency = b.cpus.receiver, 0
	}
	skip, count := s.warmup, s.samples
	switch s.mode {
	case "open":
		count = int(s.duration.Milliseconds())
		skip = 1500 // longer than 100 ms
	case "flood":
		count = int(s.duration.Milliseconds())
		skip = 20 // of these, too
	}
	args := []string{s.mode}
	for _, n := range []int{cpu, urgency, skip, count, s.gap[0], s.gap[1], seed} {
		args = append(args, strconv.Itoa(n))
	}
	return args
}

// memory is what the receiver and the device share.
func memory() (*os.File, error) {
	fd, err := unix.MemfdCreate("bench", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	f := os.NewFile(uintptr(fd), "bench")
	if err := f.Truncate(sharedSize); err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

// process is the receiver or the device or, in a virtual machine, both in one, without a socket.
type process struct {
	*exec.Cmd
	socket         *os.File
	stdout, stderr bytes.Buffer
}

func newProcess(ctx context.Context, args []string, socket, shared *os.File) *process {
	p := &process{Cmd: exec.CommandContext(ctx, args[0], args[1:]...), socket: socket}
	if socket != nil {
		p.ExtraFiles = []*os.File{socket, shared}
	}
	p.Stdout, p.Stderr = &p.stdout, &p.stderr
	p.SysProcAttr = &unix.SysProcAttr{Pdeathsig: unix.SIGKILL}
	return p
}

// start starts the process, which alone has its end of the socket then.
func (p *process) start() error {
	defer p.closeSocket()
	return p.Start()
}

func (p *process) closeSocket() { _ = p.socket.Close() }

func (p *process) wait() error {
	if err := p.Wait(); err != nil {
		return fmt.Errorf("%s: %w\n%s", strings.Join(p.Args, " "), err, p.stderr.String())
	}
	return nil
}

// counts runs a process that needs no other, and returns what it printed.
func (p *process) counts() (*result, error) {
	if err := p.Start(); err != nil {
		return nil, err
	}
	if err := p.wait(); err != nil {
		return nil, err
	}
	r := &result{counts: map[string]float64{}}
	return r, r.read(&p.stdout)
}

// background starts one of the peers' programs until stop is called.
func (b *bench) background(ctx context.Context, program string, args ...string) (stop func(), err error) {
	cmd := exec.CommandContext(ctx, b.peers+"/"+program, args...)
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // killed
	}, nil
}
