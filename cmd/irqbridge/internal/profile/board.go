package profile

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/irqbridge/irqbridge/pci"
)

// BAR is what a profile needs of a base address register: accesses of one width at a byte offset. *vfio.BAR has it.
type BAR interface {
	Size() uint64
	Read8(offset uint64) (uint8, error)
	Read16(offset uint64) (uint16, error)
	Read32(offset uint64) (uint32, error)
	Read64(offset uint64) (uint64, error)
	Write8(offset uint64, v uint8) error
	Write16(offset uint64, v uint16) error
	Write32(offset uint64, v uint32) error
	Write64(offset uint64, v uint64) error
}

// ErrNoAnswer says that a status register read as all ones, which is what the bus answers for a device that does not.
var ErrNoAnswer = errors.New("the status register reads all ones: the device does not answer (memory decoding off, reset, or gone)")

// Board is a profile at work on one device, for one kind of interrupt. It touches the device only when told to.
// Handlers of different messages may be used at the same time; Enable and Disable are for one goroutine.
type Board struct {
	enable, disable []op
	handlers        map[int]*Handler
}

// Handler drives one message of a Board.
type Handler struct {
	enable, disable, acknowledge []op
	raises                       []raise // taken in turn
	turn                         atomic.Uint32
	name                         string // of the status register
	status                       register
	mask                         uint64
	causes                       []cause
	rate                         *Rate
	fault                        atomic.Pointer[error]
}

// raise is one way to make the device send a message.
type raise struct {
	ops   []op
	cause int // index of the cause that it raises; -1 when that is not said
}

// cause is a Cause that is counted.
type cause struct {
	Cause
	raised, seen atomic.Uint64
}

// CauseCount is what was counted of one cause of a message.
type CauseCount struct {
	Name   string
	Raised uint64 // times that its own raise steps were done; 0 where the message's were
	Seen   uint64 // times that a service routine found it in the status
	Rate   *Rate  // expected; nil for unknown
	Own    bool   // it has raise steps of its own, and the message has none
}

// register is a Register found in a device.
type register struct {
	bar      BAR
	offset   uint64
	width    int
	clearing uint64 // the bits that writing 1 clears
}

// op is a Step found in a device.
type op struct {
	action Action
	name   string
	reg    register
	value  uint64
	mask   uint64
	within time.Duration
}

// On finds the profile's registers in a device whose BARs bar returns, for interrupts of the given kind. It fails when
// the profile does not describe the kind, and when a register that it uses lies outside of its BAR.
func (p *Profile) On(kind pci.Kind, bar func(index int) (BAR, error)) (*Board, error) {
	described := p.For(kind)
	if described == nil {
		return nil, fmt.Errorf("profile %s describes %v, not %v", p.Name, p.Kinds(), kind)
	}
	f := finder{profile: p, bar: bar, bars: map[int]BAR{}}
	b := &Board{handlers: map[int]*Handler{}}
	b.enable, b.disable = f.ops(described.Enable), f.ops(described.Disable)
	for _, m := range described.Messages {
		h := &Handler{
			enable: f.ops(m.Enable), disable: f.ops(m.Disable), acknowledge: f.ops(m.Acknowledge),
			name: m.Status.Register, status: f.register(m.Status.Register), mask: m.Status.Mask,
			causes: make([]cause, len(m.Causes)), rate: m.Rate,
		}
		if len(m.Raise) > 0 {
			h.raises = []raise{{f.ops(m.Raise), -1}}
		}
		for i, c := range m.Causes {
			h.causes[i].Cause = c
			if len(m.Raise) == 0 && len(c.Raise) > 0 {
				h.raises = append(h.raises, raise{f.ops(c.Raise), i})
			}
		}
		b.handlers[m.Message] = h
	}
	if f.err != nil {
		return nil, f.err
	}
	return b, nil
}

// A finder resolves register names; it keeps the first error.
type finder struct {
	profile *Profile
	bar     func(int) (BAR, error)
	bars    map[int]BAR
	err     error
}

func (f *finder) register(name string) register {
	r := f.profile.Registers[name]
	b, ok := f.bars[r.BAR]
	if !ok && f.err == nil {
		if b, f.err = f.bar(r.BAR); f.err != nil {
			f.err = fmt.Errorf("profile %s, register %s: %w", f.profile.Name, name, f.err)
		}
		f.bars[r.BAR] = b
	}
	if f.err != nil {
		return register{}
	}
	if size := b.Size(); r.Offset >= size || size-r.Offset < uint64(r.Width/8) {
		f.err = fmt.Errorf("profile %s, register %s: offset 0x%x lies outside BAR %d of 0x%x bytes", f.profile.Name, name, r.Offset, r.BAR, size)
	}
	return register{b, r.Offset, r.Width, r.Clearing()}
}

func (f *finder) ops(steps []Step) []op {
	ops := make([]op, len(steps))
	for i, s := range steps {
		ops[i] = op{s.Action, s.Register, f.register(s.Register), s.Value, s.Mask, s.Within}
	}
	return ops
}

// Handler returns the handler of a message, nil when the profile does not describe it.
func (b *Board) Handler(message int) *Handler { return b.handlers[message] }

// Enable switches the device's interrupts on for messages 0 to messages-1. The eventfds are connected by then.
func (b *Board) Enable(messages int) error {
	if err := run(b.enable, 0); err != nil {
		return err
	}
	for m := range messages {
		if h := b.handlers[m]; h != nil {
			if err := run(h.enable, 0); err != nil {
				return err
			}
		}
	}
	return nil
}

// Disable switches the device's interrupts off, messages-1 to 0 first. It goes on after a failure and returns the first: a
// device that does not answer fails all of them.
func (b *Board) Disable(messages int) error {
	var first error
	for m := messages - 1; m >= 0; m-- {
		if h := b.handlers[m]; h != nil {
			first = cmp.Or(first, run(h.disable, 0))
		}
	}
	return cmp.Or(first, run(b.disable, 0))
}

// CanRaise tells whether the profile knows how to make the device interrupt.
func (h *Handler) CanRaise() bool { return len(h.raises) > 0 }

// Raise makes the device interrupt: by the message's own steps, or else by those of its causes in turn.
func (h *Handler) Raise() error {
	if len(h.raises) == 0 {
		return errors.ErrUnsupported
	}
	r := &h.raises[(h.turn.Add(1)-1)%uint32(len(h.raises))]
	if err := run(r.ops, 0); err != nil {
		return err
	}
	if r.cause >= 0 {
		h.causes[r.cause].raised.Add(1)
	}
	return nil
}

// Causes is what was counted of each cause of the message, in the order of the profile.
func (h *Handler) Causes() []CauseCount {
	var list []CauseCount
	for i := range h.causes {
		c := &h.causes[i]
		list = append(list, CauseCount{
			Name: c.Name, Raised: c.raised.Load(), Seen: c.seen.Load(), Rate: c.Rate,
			Own: slices.ContainsFunc(h.raises, func(r raise) bool { return r.cause == i }),
		})
	}
	return list
}

// Rate is how often the message is expected, nil when nothing is known about it.
func (h *Handler) Rate() *Rate { return h.rate }

// Service is the body of a service routine: it tells whether the device interrupts and, if so, acknowledges it. It does
// not allocate. A register that cannot be accessed is not claimed; Fault tells.
func (h *Handler) Service() bool {
	v, err := h.Status()
	if err != nil {
		h.fail(err)
		return false
	}
	pending := v & h.mask
	if pending == 0 {
		return false
	}
	for i := range h.causes {
		if c := &h.causes[i]; pending&c.Mask != 0 {
			c.seen.Add(1)
		}
	}
	if err := run(h.acknowledge, pending); err != nil {
		h.fail(err)
	}
	return true
}

// fail is apart from Service so that its variable is allocated on failure only.
func (h *Handler) fail(err error) { h.fault.CompareAndSwap(nil, &err) }

// Fault is the first error that Service met, nil when it met none.
func (h *Handler) Fault() error {
	if err := h.fault.Load(); err != nil {
		return *err
	}
	return nil
}

// StatusRegister is the name and the mask of the status condition.
func (h *Handler) StatusRegister() (name string, mask uint64) { return h.name, h.mask }

// Status reads the status register. For a device whose status is cleared by reading, that loses an interrupt. All ones
// in 32 bits or more are ErrNoAnswer.
func (h *Handler) Status() (uint64, error) {
	v, err := h.status.read()
	if err == nil && h.status.width >= 32 && v == ones(h.status.width) {
		err = ErrNoAnswer
	}
	return v, err
}

func run(ops []op, status uint64) error {
	for i := range ops {
		if err := ops[i].do(status); err != nil {
			return fmt.Errorf("register %s: %w", ops[i].name, err)
		}
	}
	return nil
}

func (o *op) do(status uint64) error {
	switch o.action {
	case Write:
		return o.reg.write(o.value)
	case WriteStatus:
		return o.reg.write(status)
	case Wait:
		return o.wait()
	}
	v, err := o.reg.read()
	if err != nil || o.action == Read {
		return err
	}
	v &^= o.reg.clearing
	switch o.action {
	case Set:
		v |= o.value
	case Clear:
		v &^= o.value
	case Modify:
		v = v&^o.mask | o.value
	}
	return o.reg.write(v)
}

// ErrNotInTime says that a register did not become what a step waits for.
var ErrNotInTime = errors.New("not in time")

// wait reads the register until the bits are as wanted. It reads once more when the time is over: this thread may have had no
// CPU.
func (o *op) wait() error {
	for deadline := time.Now().Add(o.within); ; time.Sleep(waitInterval) {
		late := time.Now().After(deadline)
		v, err := o.reg.read()
		switch {
		case err != nil:
			return err
		case v&o.mask == o.value && (o.reg.width < 32 || v != ones(o.reg.width)): // all ones is no answer
			return nil
		case late:
			return fmt.Errorf("reads 0x%x after %v, so that & 0x%x it is 0x%x and not 0x%x: %w", v, o.within, o.mask, v&o.mask, o.value, ErrNotInTime)
		}
	}
}

// waitInterval is how long a wait leaves the device alone between two reads.
const waitInterval = 100 * time.Microsecond

func (r *register) read() (uint64, error) { return Load(r.bar, r.offset, r.width) }

func (r *register) write(v uint64) error { return Store(r.bar, r.offset, r.width, v) }

// Load reads a register of 8, 16, 32 or 64 bits by one access.
func Load(b BAR, offset uint64, width int) (uint64, error) {
	switch width {
	case 8:
		v, err := b.Read8(offset)
		return uint64(v), err
	case 16:
		v, err := b.Read16(offset)
		return uint64(v), err
	case 32:
		v, err := b.Read32(offset)
		return uint64(v), err
	default:
		return b.Read64(offset)
	}
}

// Store writes a register of 8, 16, 32 or 64 bits by one access.
func Store(b BAR, offset uint64, width int, v uint64) error {
	switch width {
	case 8:
		return b.Write8(offset, uint8(v))
	case 16:
		return b.Write16(offset, uint16(v))
	case 32:
		return b.Write32(offset, uint32(v))
	default:
		return b.Write64(offset, v)
	}
}
