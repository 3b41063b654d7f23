package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/irqbridge/irqbridge/cmd/irqbridge/internal/recording"
	"github.com/irqbridge/irqbridge/connect"
	"github.com/irqbridge/irqbridge/pci"
	"github.com/irqbridge/irqbridge/vfio/host"
	"github.com/irqbridge/irqbridge/vfio/vfiotest"
)

func (a *app) replayCommand() *cobra.Command {
	var (
		speed  float64
		asJSON bool
	)
	cmd := &cobra.Command{
		Use:   "replay FILE",
		Short: "Have a fake device interrupt as the device of a recorded run did",
		Long: `replay makes a fake device of the snapshot in a recorded run (connect --record), connects its interrupts as that run did, and has
it interrupt as often, by message and second by second, as was recorded: on a fake kernel, with real threads on this machine's CPUs. A
call that the recorded service routine did not claim is not claimed here, either. How often interrupts were raised and serviced is taken
from the recording; which CPUs deliver and serve them is this machine's matter. A run that was a loopback is replayed as one.

The exit status is 0 when all calls that were recorded have come again, 3 when the recording was cut off.`,
		Example: `  irqbridge connect 05:00.0 --duration 1m --record run.jsonl
  irqbridge replay run.jsonl --speed 10`,
		Args: oneFile,
		RunE: a.orderly(func(ctx context.Context, args []string) error {
			if speed < 0 || speed != speed || speed > 1e9 {
				return usage("--speed %v: want 0 or more: 2 is twice as fast as recorded", speed)
			}
			return a.replay(ctx, args[0], speed, asJSON)
		}),
	}
	cmd.Flags().Float64Var(&speed, "speed", 1, "how many `times` as fast as it was recorded; 0 without waiting")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object, as connect does")
	return cmd
}

// oneFile wants one file on the command line.
func oneFile(_ *cobra.Command, args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("want one file, or - for standard input; have %d", len(args))
	}
	return nil
}

// openRecording opens a recorded run, "-" for standard input, and has f read it.
func (a *app) openRecording(file string, f func(*recording.Reader) error) error {
	const next = "irqbridge connect BDF --record FILE"
	in := a.stdin
	if file != "-" {
		opened, err := os.Open(file)
		if err != nil {
			return &failure{exitFailed, err, next}
		}
		defer func() { _ = opened.Close() }()
		in = opened
	}
	r, err := recording.NewReader(in, inputName(file))
	if err != nil {
		return &failure{exitFailed, err, next}
	}
	return f(r)
}

func (a *app) replay(ctx context.Context, file string, speed float64, asJSON bool) error {
	return a.openRecording(file, func(r *recording.Reader) error {
		if r.Header.Snapshot == "" {
			return unsupported("irqbridge report "+file, "%s: there is no snapshot in it to make a fake device of", inputName(file))
		}
		snapshot, err := host.ParseSnapshot(inputName(file)+": snapshot", []byte(r.Header.Snapshot))
		if err != nil {
			return err
		}
		return a.onFake(ctx, snapshot, func(fake *app, k *vfiotest.Kernel) error {
			kind, err := pci.ParseKind(r.Header.Kind)
			if err != nil {
				return fmt.Errorf("%s: %w", inputName(file), err)
			}
			d, err := fake.host.Device(snapshot.Address)
			if err != nil {
				return err
			}
			p := &prepared{device: d, policy: connect.Policy{Kind: kind, Messages: len(r.Header.Messages)}, source: source{verb: "replay", loopback: true}}
			p.how = "replay of " + inputName(file)
			if r.Header.Options.Spread {
				p.policy.Affinity = connect.SpreadMessagesAcrossAllProcessors
			}
			return fake.inSession(ctx, p, func(ctx context.Context, s *session) (int, error) {
				if want, have := len(r.Header.Messages), len(s.rows); want != have {
					return exitFailed, fmt.Errorf("%s: the recording has %d interrupts, and the fake of its device was given %d", inputName(file), want, have)
				}
				player := &player{app: fake, session: s, run: r, kernel: k, speed: speed}
				playErr := player.play(ctx)
				fake.progress("")
				if err := errors.Join(playErr, s.observe(s.rows...)); err != nil {
					return exitFailed, err
				}
				s.noteEnd(ctx)
				code := player.compare(ctx)
				stopErr := s.stop()
				if asJSON {
					fake.printJSON(s.json())
				} else {
					s.print(fake, p.how, r.Header.Options.Loopback)
				}
				return code, stopErr
			})
		})
	})
}

// player has a fake device interrupt as a recording says.
type player struct {
	app     *app
	session *session
	run     *recording.Reader
	kernel  *vfiotest.Kernel
	speed   float64 // 0: without waiting
	begin   time.Time
	last    time.Duration // of the recording
}

// play goes through the recording until its end or that of ctx.
func (p *player) play(ctx context.Context) error {
	p.begin = time.Now()
	for ctx.Err() == nil {
		line, err := p.run.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		switch line := line.(type) {
		case *recording.Tick:
			if err := p.tick(ctx, line); err != nil {
				return err
			}
			p.last = line.T
		case *recording.Event:
			p.app.note("recorded after %v: %q: %q", line.T.Round(time.Millisecond), line.Event, line.Text)
		}
	}
	return nil
}

// tick fires what was counted in a tick, evenly over its time, the messages in turn.
func (p *player) tick(ctx context.Context, t *recording.Tick) error {
	var total, fired uint64
	for i := range t.Messages {
		total += t.Messages[i].Calls
	}
	done := make([]uint64, len(t.Messages)) // calls, by place in the tick
	for fired < total {
		for i := range t.Messages {
			c := &t.Messages[i]
			if done[i] == c.Calls {
				continue
			}
			fired++
			if !p.await(ctx, p.last+time.Duration(float64(t.T-p.last)*float64(fired)/float64(total))) {
				return nil
			}
			done[i]++
			// The claimed ones are spread over all.
			claimed := share(done[i], c) > share(done[i]-1, c)
			if err := p.fire(ctx, p.session.rows[c.Message], claimed); err != nil || ctx.Err() != nil {
				return err
			}
			p.app.progress("%v of the recording", t.T.Round(time.Second))
		}
	}
	for i := range t.Messages {
		r := p.session.rows[t.Messages[i].Message]
		r.raised.Add(t.Messages[i].Raised)
		r.serviced.Add(t.Messages[i].Serviced)
	}
	return nil
}

// share is how many of the first n calls are claimed.
func share(n uint64, c *recording.Counts) uint64 {
	high, low := bits.Mul64(n, min(c.Claimed, c.Calls))
	quotient, _ := bits.Div64(high, low, c.Calls)
	return quotient
}

// await waits for a time of the recording. It returns false when ctx ends first.
func (p *player) await(ctx context.Context, t time.Duration) bool {
	if p.speed == 0 {
		return ctx.Err() == nil
	}
	const never = 100 * 365 * 24 * time.Hour // also of a speed so low that the time could not be told
	wait := time.Until(p.begin.Add(time.Duration(min(float64(t)/p.speed, float64(never)))))
	if wait <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// fire has the device interrupt once, and waits for the service routine.
func (p *player) fire(ctx context.Context, r *row, claimed bool) error {
	before := r.routine.calls.Load()
	r.routine.refuses.Store(!claimed)
	address, fired := p.session.device.Address(), false
	switch {
	case p.run.Header.Options.Loopback:
		if err := r.trigger(); err != nil {
			return err
		}
		fired = true
	case p.session.resources.Kind == pci.KindINTx:
		fired = p.kernel.PulseLine(address)
	default:
		fired = p.kernel.SendMessage(address, r.message.Index)
	}
	if !fired {
		return fmt.Errorf("%v: the fake's message %d did not get through", address, r.message.Index)
	}
	deadline := time.NewTimer(serviceDeadline)
	defer deadline.Stop()
	const pause = 50 * time.Microsecond // for a call that is not claimed, of which nobody tells
	for r.routine.calls.Load() == before {
		select {
		case <-r.routine.ran:
		case <-time.After(pause):
		case <-ctx.Done():
			return nil
		case <-deadline.C:
			return fmt.Errorf("%v: message %d was not serviced", address, r.message.Index)
		}
	}
	p.session.awaitUnmask()
	return nil
}

// compare tells whether everything that was recorded came again, and returns the exit status.
func (p *player) compare(ctx context.Context) int {
	code := exitOK
	for i, want := range p.run.Totals() {
		r := p.session.rows[i]
		calls, claimed := r.routine.calls.Load(), r.routine.claimed.Load()
		if calls != want.Calls || claimed != min(want.Claimed, want.Calls) {
			p.app.note("message %d: %d calls, %d claimed; recorded were %d and %d", i, calls, claimed, want.Calls, want.Claimed)
			code = exitFailed
		}
	}
	switch {
	case ctx.Err() != nil:
		p.app.note("stopped before the end of the recording")
		return exitFailed
	case p.run.Partial():
		p.app.note("the recording was cut off after %v, and has no end", p.run.Elapsed().Round(time.Millisecond))
		return worse(code, exitPartial)
	}
	return code
}
