package recording

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"
)

// Writer writes a run. Its methods may be called by several goroutines. After an error of the file all of them return that
// error and write nothing.
type Writer struct {
	mu   sync.Mutex
	out  io.Writer
	last time.Duration
	err  error
}

// NewWriter writes the header. Each line is one Write of out, so that a file should not be buffered.
func NewWriter(out io.Writer, h Header) (*Writer, error) {
	h.Schema, h.Type = Schema, "run"
	if err := h.validate(); err != nil {
		return nil, fmt.Errorf("record: %w", err)
	}
	if h.Raw == nil {
		h.Raw = []string{}
	}
	if h.Translated == nil {
		h.Translated = []string{}
	}
	w := &Writer{out: out}
	return w, w.write(h)
}

// Tick writes what happened to messages since the tick before. Those to which nothing did are left out; so is a tick in
// which nothing happened.
func (w *Writer) Tick(t time.Duration, messages []Counts) error {
	line := struct {
		Type string `json:"type"`
		Tick
	}{Type: "tick"}
	for i := range messages {
		if !messages[i].Empty() {
			line.Messages = append(line.Messages, messages[i])
		}
	}
	if len(line.Messages) == 0 {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	line.T = w.at(t)
	all := line.Messages
	for n := len(all); len(all) > 0; {
		line.Messages = all[:n]
		err := w.write(line)
		switch {
		case errors.Is(err, errLong) && n > 1:
			n /= 2
			continue
		case err != nil:
			return err
		}
		all = all[n:]
		n = min(n, len(all))
	}
	return nil
}

// errLong is a line that would not be read again.
var errLong = fmt.Errorf("the line is longer than the %d bytes that are read again", maxLine)

// Event writes an event.
func (w *Writer) Event(e Event) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	e.T = w.at(e.T)
	return w.write(struct {
		Type string `json:"type"`
		Event
	}{"event", e})
}

// End writes the last line. Latencies are left out of the totals.
func (w *Writer) End(e End) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	e.T = w.at(e.T)
	totals := append([]Counts{}, e.Totals...)
	for i := range totals {
		totals[i].Latency = nil
	}
	e.Totals = totals
	return w.write(struct {
		Type string `json:"type"`
		End
	}{"end", e})
}

// at is the time of the next line. Two goroutines may come here in another order than they looked at the clock.
func (w *Writer) at(t time.Duration) time.Duration {
	w.last = max(w.last, t)
	return w.last
}

func (w *Writer) write(line any) error {
	if w.err != nil {
		return w.err
	}
	text, err := json.Marshal(line)
	if err != nil {
		return fmt.Errorf("record: %w", err)
	}
	if len(text) >= maxLine {
		return fmt.Errorf("record: %w", errLong)
	}
	if _, err := w.out.Write(append(text, '\n')); err != nil {
		w.err = fmt.Errorf("record: %w", err)
	}
	return w.err
}
