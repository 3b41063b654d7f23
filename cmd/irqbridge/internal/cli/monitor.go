package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/irqbridge/irqbridge/cmd/irqbridge/internal/histogram"
	"github.com/irqbridge/irqbridge/cmd/irqbridge/internal/recording"
	"github.com/irqbridge/irqbridge/connect"
	"github.com/irqbridge/irqbridge/pci"
	"github.com/irqbridge/irqbridge/vfio"
)

const (
	drawPeriod   = 250 * time.Millisecond
	recordPeriod = time.Second
)

// monitor looks at a session while it runs: it draws the live table, writes recordings, and notices that the device has gone.
type monitor struct {
	session *session
	begin   time.Time
	writers []*recording.Writer
	live    *liveTable // nil off a terminal

	recorded []recording.Counts     // what the recordings have, by message
	measured []*histogram.Histogram // and of the latencies
	told     []error                // what the recordings have of each interrupt's errors
	err      error                  // of the recordings

	stop chan struct{}
	done sync.WaitGroup
}

// startMonitor begins to look. The recordings go to outs.
func (s *session) startMonitor(h recording.Header, outs []io.Writer, live *liveTable) (*monitor, error) {
	m := &monitor{
		session: s, begin: h.Time, live: live, stop: make(chan struct{}),
		recorded: make([]recording.Counts, len(s.rows)), measured: make([]*histogram.Histogram, len(s.rows)), told: make([]error, len(s.rows)),
	}
	for i, r := range s.rows {
		m.recorded[i].Message = i
		if len(outs) > 0 && r.latency != nil {
			m.measured[i] = new(histogram.Histogram)
		}
	}
	for _, out := range outs {
		w, err := recording.NewWriter(out, h)
		if err != nil {
			return nil, err
		}
		m.writers = append(m.writers, w)
	}
	m.done.Go(m.run)
	return m, nil
}

func (m *monitor) run() {
	record, draw := time.NewTicker(recordPeriod), time.NewTicker(drawPeriod)
	defer record.Stop()
	defer draw.Stop()
	for {
		select {
		case <-m.stop:
			return
		case <-record.C:
			if _, _, err := m.session.hardware(); errors.Is(err, vfio.ErrGone) {
				m.session.end(errGone)
			}
			if len(m.writers) > 0 {
				delivered, _ := m.session.deliveredTo(m.session.rows) // what was not read now is at the next time
				m.record(delivered)
			}
		case <-draw.C:
			if m.live != nil {
				m.live.draw(m.session, time.Since(m.begin))
			}
		}
	}
}

// pause ends the looking. What is counted from then on, finish records.
func (m *monitor) pause() {
	close(m.stop)
	m.done.Wait()
	if m.live != nil {
		m.live.erase()
	}
}

// record writes a tick, with what the host delivered by message, and what went wrong.
func (m *monitor) record(delivered []map[int]uint64) {
	if len(m.writers) == 0 || m.err != nil {
		return
	}
	now := time.Since(m.begin)
	tick := make([]recording.Counts, len(m.session.rows))
	for i, r := range m.session.rows {
		total := r.counts()
		if delivered[i] != nil {
			total.Delivered = countsByCPU(delivered[i])
		} else {
			total.Delivered = m.recorded[i].Delivered
		}
		tick[i] = beyond(&total, &m.recorded[i])
		if r.latency != nil {
			tick[i].Latency = r.latency.Since(m.measured[i])
		}
		m.recorded[i] = total
	}
	m.write(func(w *recording.Writer) error { return w.Tick(now, tick) })
	for i, r := range m.session.rows {
		err := r.interrupt.Err()
		if err == nil || m.told[i] != nil || errors.Is(err, os.ErrClosed) {
			continue
		}
		m.told[i] = err
		event := recording.Event{T: now, Event: recording.EventError, Message: &r.message.Index, Text: err.Error()}
		if isStorm(err) {
			event.Event = recording.EventStorm
		}
		m.write(func(w *recording.Writer) error { return w.Event(event) })
	}
}

// write has each recording written to. The first error ends them.
func (m *monitor) write(f func(*recording.Writer) error) {
	for _, w := range m.writers {
		if err := f(w); err != nil && m.err == nil {
			m.err = fmt.Errorf("record: %w", err)
			m.session.end(m.err)
		}
	}
}

// finish records the rest, after the session was stopped, and how it ended.
func (m *monitor) finish(code int, text string) error {
	delivered := make([]map[int]uint64, len(m.session.rows))
	for i, r := range m.session.rows {
		delivered[i] = r.delivered
	}
	m.record(delivered)
	e := recording.End{T: time.Since(m.begin), Exit: code, Text: text, Totals: m.recorded}
	if ended := m.session.ended; ended == endInterrupt || ended == endRequest || ended == endGone {
		m.write(func(w *recording.Writer) error { return w.Event(recording.Event{T: e.T, Event: ended}) })
	}
	switch {
	case code == exitOK:
		e.Outcome = recording.OutcomeDone
	case code == exitPartial:
		e.Outcome = recording.OutcomePartial
	case m.session.ended == endInterrupt:
		e.Outcome = recording.OutcomeStopped
	default:
		e.Outcome = recording.OutcomeFailed
	}
	m.write(func(w *recording.Writer) error { return w.End(e) })
	return m.err
}

// isStorm tells a storm from other errors of an interrupt.
func isStorm(err error) bool {
	var check *connect.BugCheckError
	return errors.As(err, &check) && check.Code == connect.HardwareInterruptStorm
}

// counts is what happened to an interrupt so far, without what the host delivered.
func (r *row) counts() recording.Counts {
	return recording.Counts{
		Message: r.message.Index, Raised: r.raised.Load(), Serviced: r.serviced.Load(), Calls: r.routine.calls.Load(),
		Claimed: r.routine.claimed.Load(), WrongCPU: r.routine.wrongCPU.Load(), RanOn: countsByCPU(r.routine.callsByCPU()),
	}
}

// beyond is what total has more than seen.
func beyond(total, seen *recording.Counts) recording.Counts {
	return recording.Counts{
		Message: total.Message, Raised: total.Raised - seen.Raised, Serviced: total.Serviced - seen.Serviced, Calls: total.Calls - seen.Calls,
		Claimed: total.Claimed - seen.Claimed, WrongCPU: total.WrongCPU - seen.WrongCPU,
		Delivered: since(seen.Delivered, total.Delivered), RanOn: since(seen.RanOn, total.RanOn),
	}
}

// header is what a recording says of a device and of what is asked for, before the device is opened, which changes it.
func (a *app) header(p *prepared, o connectOptions) (recording.Header, error) {
	d := p.device
	snapshot, err := a.host.Snapshot(d.Address)
	if err != nil {
		return recording.Header{}, err
	}
	h := recording.Header{
		Program: "irqbridge " + readVersion().Version, Kernel: kernelRelease(), Source: p.how, Snapshot: string(snapshot.Text()),
		Device: recording.Device{
			Address: d.Address, Vendor: hex16(d.VendorID), Device: hex16(d.DeviceID), Class: fmt.Sprintf("0x%06x", d.Class),
			Description: a.naming(0).ids.DescribeDevice(d.VendorID, d.DeviceID, pci.Names), IOMMUGroup: d.Group,
		},
		Options: recording.Options{
			Kind: o.kind, Messages: o.messages, CPUs: o.cpus, Spread: o.spread, Loopback: o.loopback, Raise: o.raise, DurationNS: int64(o.duration),
		},
	}
	if p.source.profile != nil {
		h.Profile = p.source.profile.Name
	}
	return h, nil
}

// describe adds to a header what the session was given.
func (s *session) describe(h *recording.Header) error {
	if err := s.observe(s.rows...); err != nil {
		return err
	}
	h.Kind, h.Device.Backend = s.resources.Kind.String(), s.device.Backend().String()
	for _, m := range s.resources.Expand() {
		h.Raw = append(h.Raw, encoded(m.Raw))
		h.Translated = append(h.Translated, encoded(m.Translated))
	}
	for _, r := range s.rows {
		m := recording.Message{
			Vector: r.parameters.Vector, Irql: r.parameters.Irql, SynchronizeIrql: r.parameters.SynchronizeIrql, Mode: r.parameters.InterruptMode.String(),
			Share: r.parameters.ShareVector, CPUs: r.routine.cpus.List(), Effective: r.effective.List(),
		}
		if r.irqFound {
			m.HostIRQ = &r.irq
		}
		h.Messages = append(h.Messages, m)
	}
	return nil
}

// kernelRelease is uname -r, "" if it cannot be told.
func kernelRelease() string {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return ""
	}
	return unix.ByteSliceToString(u.Release[:])
}

// Why a session ended, in JSON.
const (
	endDone      = "done"
	endInterrupt = recording.EventInterrupt // Ctrl-C, a signal, or the key q
	endRequest   = recording.EventRequest   // the host wants the device back
	endGone      = recording.EventGone
	endError     = recording.EventError // an interrupt was silenced, or a recording could not be written
)

var (
	// errGone is why a verb ends when the device does not answer any more.
	errGone = errors.New("the device has gone: it was pulled out, or lost its power or its link")
	// errSilenced is why a verb ends when an interrupt was silenced, whose own error tells more.
	errSilenced = errors.New("an interrupt was silenced")
)

// noteEnd keeps why the session ended, as long as that can be told.
func (s *session) noteEnd(ctx context.Context) {
	cause := context.Cause(ctx)
	switch _, _, err := s.hardware(); {
	case cause == nil || errors.Is(cause, context.DeadlineExceeded):
		s.ended = endDone
	case errors.Is(cause, errGone), errors.Is(cause, errWantedBack) && errors.Is(err, vfio.ErrGone):
		s.ended = endGone
	case errors.Is(cause, errWantedBack):
		s.ended = endRequest
	case errors.Is(cause, context.Canceled):
		s.ended = endInterrupt
	default:
		s.ended = endError
	}
}

// tellEnded says that the device was let go, if it was, and whether that is so.
func (a *app) tellEnded(address pci.Address, ended string) bool {
	switch ended {
	case endRequest:
		a.note("%v: let go: %v", address, errWantedBack)
	case endGone:
		a.note("%v: %v", address, errGone)
	default:
		return false
	}
	return true
}
