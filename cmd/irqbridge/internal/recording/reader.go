package recording

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/irqbridge/irqbridge/vfio/host"
)

const (
	// maxLine is the length of a line in bytes that is too long, so that no line takes much memory: a header with 2048 messages
	// and a snapshot has less than a megabyte, and a longer tick is written as several.
	maxLine = 4 << 20
	// maxPairs is how many different CPUs of messages a run can have been counted on, 128 of each of 2048 messages.
	maxPairs = 128 * MaxMessages
	// maxTime keeps sums of times apart from what a time.Duration can hold: three years.
	maxTime = 3 * 365 * 24 * time.Hour
)

// Reader reads a run, line by line: what it keeps of it does not grow with its length.
type Reader struct {
	Header Header

	name    string
	in      *bufio.Reader
	line    int
	t       time.Duration
	sums    []Counts // of the ticks so far, by message
	pairs   int      // the CPUs in them
	ended   bool
	partial bool
}

// NewReader reads the header. Errors begin with name and the line, as "run.jsonl:3: …".
func NewReader(in io.Reader, name string) (*Reader, error) {
	r := &Reader{name: name, in: bufio.NewReader(in)}
	text, err := r.next()
	if errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%s: the file has no line that is whole: it is not a recorded run, or was cut off at once", name)
	}
	if err != nil {
		return nil, err
	}
	var kind struct {
		Schema int    `json:"schema"`
		Type   string `json:"type"`
	}
	switch err := json.Unmarshal(text, &kind); {
	case err != nil || kind.Type != "run":
		return nil, r.fail("this is not a recorded run, whose first line is {\"schema\":%d,\"type\":\"run\",…}", Schema)
	case kind.Schema > Schema:
		return nil, r.fail("schema %d, of a newer program: this one reads %d", kind.Schema, Schema)
	case kind.Schema != Schema:
		return nil, r.fail("schema %d: want %d", kind.Schema, Schema)
	}
	if err := json.Unmarshal(text, &r.Header); err != nil {
		return nil, r.fail("%w", err)
	}
	if err := r.Header.validate(); err != nil {
		return nil, r.fail("%w", err)
	}
	r.sums = make([]Counts, len(r.Header.Messages))
	for i := range r.sums {
		r.sums[i].Message = i
	}
	return r, nil
}

// Next returns the next line, a *Tick, *Event or *End, in the order of their times; lines of a type that this version does not
// know are passed over. At the end of the file it returns io.EOF: after an End, or when the run was cut off, see Partial.
func (r *Reader) Next() (any, error) {
	for {
		text, err := r.next()
		if errors.Is(err, io.EOF) {
			r.partial = r.partial || !r.ended
			return nil, io.EOF
		}
		if err != nil {
			return nil, err
		}
		if r.ended {
			return nil, r.fail("a line after the end")
		}
		var kind struct {
			Type string `json:"type"`
		}
		if err := json.Unmarshal(text, &kind); err != nil {
			return nil, r.fail("%w", err)
		}
		switch kind.Type {
		case "tick":
			return read(r, text, r.takeTick)
		case "event":
			return read(r, text, func(e *Event) error {
				if e.Message != nil && (*e.Message < 0 || *e.Message >= len(r.sums)) {
					return fmt.Errorf("message %d: the run has %d", *e.Message, len(r.sums))
				}
				return r.advance(e.T)
			})
		case "end":
			return read(r, text, r.takeEnd)
		case "", "run":
			return nil, r.fail("type %q: want tick, event or end", kind.Type)
		}
	}
}

// read decodes one line and checks it.
func read[T any](r *Reader, text []byte, check func(*T) error) (any, error) {
	v := new(T)
	if err := json.Unmarshal(text, v); err != nil {
		return nil, r.fail("%w", err)
	}
	if err := check(v); err != nil {
		return nil, r.fail("%w", err)
	}
	return v, nil
}

// Partial tells, once Next has returned io.EOF, that the run has no end: the program was killed, or still runs.
func (r *Reader) Partial() bool { return r.partial }

// Totals are the sums of the ticks read so far, by message.
func (r *Reader) Totals() []Counts { return r.sums }

// Elapsed is the time of the last line read.
func (r *Reader) Elapsed() time.Duration { return r.t }

func (r *Reader) advance(t time.Duration) error {
	switch {
	case t < r.t:
		return fmt.Errorf("t %d comes after %d", t, r.t)
	case t > maxTime:
		return fmt.Errorf("t %d: a run of more than %v", t, maxTime)
	}
	r.t = t
	return nil
}

func (r *Reader) takeTick(tick *Tick) error {
	if err := r.advance(tick.T); err != nil {
		return err
	}
	if err := r.checkCounts(tick.Messages); err != nil {
		return err
	}
	for i := range tick.Messages {
		c := &tick.Messages[i]
		sum := &r.sums[c.Message]
		r.pairs -= len(sum.Delivered) + len(sum.RanOn)
		sum.Add(c)
		if r.pairs += len(sum.Delivered) + len(sum.RanOn); r.pairs > maxPairs {
			return fmt.Errorf("counts on more than %d CPUs of messages", maxPairs)
		}
	}
	return r.checkCounts(r.sums)
}

func (r *Reader) takeEnd(end *End) error {
	if err := r.advance(end.T); err != nil {
		return err
	}
	if err := r.checkCounts(end.Totals); err != nil {
		return err
	}
	if len(end.Totals) != len(r.sums) {
		return fmt.Errorf("totals of %d messages: the run has %d", len(end.Totals), len(r.sums))
	}
	for i := range end.Totals {
		if !end.Totals[i].equal(&r.sums[i]) {
			return fmt.Errorf("the totals of message %d are not what the ticks add up to", i)
		}
	}
	r.ended = true
	return nil
}

// checkCounts refuses what no run counts.
func (r *Reader) checkCounts(list []Counts) error {
	last := -1
	for i := range list {
		c := &list[i]
		switch {
		case c.Message < 0 || c.Message >= len(r.sums):
			return fmt.Errorf("message %d: the run has %d", c.Message, len(r.sums))
		case c.Message <= last:
			return fmt.Errorf("message %d comes after message %d", c.Message, last)
		}
		last = c.Message
		for _, n := range []uint64{c.Raised, c.Serviced, c.Calls, c.Claimed, c.WrongCPU} {
			if n > maxCount {
				return fmt.Errorf("message %d: a count of %d", c.Message, n)
			}
		}
		for _, m := range []map[string]uint64{c.Delivered, c.RanOn} {
			for cpu, n := range m {
				if v, err := strconv.ParseUint(cpu, 10, 32); err != nil || v >= host.MaxCPUs || strconv.FormatUint(v, 10) != cpu || n > maxCount {
					return fmt.Errorf("message %d: %d on CPU %.20q", c.Message, n, cpu)
				}
			}
		}
	}
	return nil
}

// maxCount keeps sums from wrapping, and is a gigahertz for all of maxTime.
const maxCount = 1 << 57

func (r *Reader) fail(format string, args ...any) error {
	return fmt.Errorf("%s:%d: "+format, append([]any{r.name, r.line}, args...)...)
}

// next returns the next line that is whole. The last one of the file is whole with a line end or, without, when it is JSON.
func (r *Reader) next() ([]byte, error) {
	r.line++
	var text []byte
	for {
		part, err := r.in.ReadSlice('\n')
		text = append(text, part...)
		switch {
		case len(text) > maxLine:
			return nil, r.fail("longer than %d bytes", maxLine)
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case errors.Is(err, io.EOF):
			if len(text) == 0 {
				return nil, io.EOF
			}
			if !json.Valid(text) {
				r.partial = true
				return nil, io.EOF
			}
			return text, nil
		case err != nil:
			return nil, fmt.Errorf("%s:%d: %w", r.name, r.line, err)
		}
		return text, nil
	}
}
