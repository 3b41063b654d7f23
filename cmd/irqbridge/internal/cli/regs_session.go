package cli

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/irqbridge/irqbridge/cmd/irqbridge/internal/profile"
	"github.com/irqbridge/irqbridge/vfio"
)

// operation is one thing to do with registers: a word of the command line, or a line of a script.
type operation struct {
	verb     string // read, write, poll or sleep
	target   target
	value    uint64 // write and poll: bits of the register
	mask     uint64 // poll: the bits to look at
	interval time.Duration
	timeout  time.Duration // poll: the longest to wait; sleep: the time
	where    string        // "script:3: ", for errors; "" on the command line
}

// outcome is what an operation did.
type outcome struct {
	target  target
	value   uint64 // read, or written
	old     uint64 // write of a field: what was read before
	reads   int    // poll
	elapsed time.Duration
	met     bool // poll: the bits are as wanted
}

// registerSession is an open device whose registers are accessed.
type registerSession struct {
	*registers
	device *vfio.Device
}

// read makes one access of the place's width.
func (s *registerSession) read(p place) (uint64, error) {
	if p.space == configSpace {
		var b [8]byte
		err := s.device.ReadConfig(b[:p.bytes()], int(p.offset))
		return binary.LittleEndian.Uint64(b[:]), err
	}
	bar, err := s.device.BAR(p.space)
	if err != nil {
		return 0, err
	}
	return profile.Load(bar, p.offset, p.width)
}

// write makes one access of the place's width.
func (s *registerSession) write(p place, v uint64) error {
	if p.space == configSpace {
		return s.device.WriteConfig(binary.LittleEndian.AppendUint64(nil, v)[:p.bytes()], int(p.offset))
	}
	bar, err := s.device.BAR(p.space)
	if err != nil {
		return err
	}
	return profile.Store(bar, p.offset, p.width, v)
}

// rmw tells whether a write changes some bits only, and has to read the others to write them back.
func (o operation) rmw() bool {
	t := o.target
	return t.field != nil && t.register.Access != profile.WriteOnly && t.register.Access != profile.WriteOneToClear
}

// changed is what is written to a register that reads as old.
func (o operation) changed(old uint64) uint64 {
	if !o.rmw() {
		return o.value
	}
	return old&^o.target.register.Clearing()&^o.target.mask() | o.value
}

// do does one operation.
func (s *registerSession) do(ctx context.Context, o operation, waiting func(outcome)) (outcome, error) {
	result := outcome{target: o.target, value: o.value}
	var err error
	switch o.verb {
	case "read":
		result.value, err = s.read(o.target.place)
	case "write":
		if o.rmw() {
			if result.old, err = s.read(o.target.place); err != nil {
				return result, err
			}
		}
		result.value = o.changed(result.old)
		err = s.write(o.target.place, result.value)
	case "poll":
		return s.poll(ctx, o, waiting)
	case "sleep":
		err = sleep(ctx, o.timeout)
	}
	return result, err
}

// poll reads until the bits are as wanted or the time is over, and then once more: this thread may have had no CPU.
func (s *registerSession) poll(ctx context.Context, o operation, waiting func(outcome)) (outcome, error) {
	result := outcome{target: o.target}
	for begin := time.Now(); ; {
		late := time.Since(begin) >= o.timeout
		v, err := s.read(o.target.place)
		if err != nil {
			return result, err
		}
		result.value, result.elapsed = v, time.Since(begin)
		result.reads++
		if result.met = o.met(v); result.met || late {
			return result, nil
		}
		waiting(result)
		if err := sleep(ctx, o.interval); err != nil {
			return result, err
		}
	}
}

// met tells whether a register reads as a poll wants it. All ones is taken for no answer, unless all of it was asked for.
func (o operation) met(v uint64) bool {
	p := o.target.place
	noAnswer := p.width >= 32 && v == p.ones() && o.mask != p.ones()
	return v&o.mask == o.value && !noAnswer
}

// errInterrupted is why an operation that waits ended early.
var errInterrupted = errors.New("interrupted")

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return errInterrupted
	}
}

// readBack reads what was written to configuration space, where reading does nothing else.
func (s *registerSession) readBack(t target) (uint64, error) {
	if t.space != configSpace {
		return 0, errors.ErrUnsupported
	}
	return s.read(t.place)
}

// tellReset says what opening and closing the device does to the registers. wrote tells that there were writes.
func (a *app) tellReset(s *registerSession, wrote bool) {
	address := s.device.Address()
	how := ""
	if methods, err := a.host.ResetMethods(address); err == nil && len(methods) > 0 {
		how = " (" + strings.Join(methods, ", ") + ")"
	}
	switch {
	case !s.device.CanReset():
	case wrote:
		a.note("%v: the kernel resets the device%s when it is opened and closed: what was written may be gone (see irqbridge regs run --help)", address, how)
	default:
		a.note("%v: the kernel has reset the device%s, to open it: this is what the reset leaves", address, how)
	}
}

// errNotInTime says that a poll did not find what it waits for.
var errNotInTime = errors.New("not in time")

func notInTime(o operation, result outcome) error {
	t := o.target
	return fmt.Errorf("%s reads %s after %v, which & %s is %s and not %s: %w",
		t.registerName(), t.hex(result.value), o.timeout, t.hex(o.mask), t.hex(result.value&o.mask), t.hex(o.value), errNotInTime)
}
