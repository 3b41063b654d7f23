package profile

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/irqbridge/irqbridge/pci"
)

// trace is a BAR of 256 bytes that writes down each access and answers reads from values.
type trace struct {
	values map[uint64]uint64
	log    []string
	fail   error

	reading func() // called at each read, if it is there
}

func (b *trace) Size() uint64 { return 0x100 }

func (b *trace) read(width int, off uint64) (uint64, error) {
	b.log = append(b.log, fmt.Sprintf("r%d %x", width, off))
	if b.reading != nil {
		b.reading()
	}
	return b.values[off], b.fail
}

func (b *trace) write(width int, off, v uint64) error {
	b.log = append(b.log, fmt.Sprintf("w%d %x=%x", width, off, v))
	return b.fail
}

func (b *trace) Read8(off uint64) (uint8, error) { v, err := b.read(8, off); return uint8(v), err }

func (b *trace) Read16(off uint64) (uint16, error) { v, err := b.read(16, off); return uint16(v), err }

func (b *trace) Read32(off uint64) (uint32, error)  { v, err := b.read(32, off); return uint32(v), err }
func (b *trace) Read64(off uint64) (uint64, error)  { return b.read(64, off) }
func (b *trace) Write8(off uint64, v uint8) error   { return b.write(8, off, uint64(v)) }
func (b *trace) Write16(off uint64, v uint16) error { return b.write(16, off, uint64(v)) }
func (b *trace) Write32(off uint64, v uint32) error { return b.write(32, off, uint64(v)) }
func (b *trace) Write64(off uint64, v uint64) error { return b.write(64, off, v) }
func (b *trace) bar(int) (BAR, error)               { return b, nil }
func (b *trace) taken() (log []string)              { log, b.log = b.log, nil; return log }
func (b *trace) set(off, v uint64)                  { b.values[off] = v }
func newTrace() *trace                              { return &trace{values: map[uint64]uint64{}} }
func on(t *testing.T, p *Profile, kind pci.Kind, b *trace) *Board {
	t.Helper()
	board, err := p.On(kind, b.bar)
	require.NoError(t, err)
	return board
}

// hugeBAR has every offset.
type hugeBAR struct{ *trace }

func (hugeBAR) Size() uint64 { return 1<<64 - 1 }

func TestServiceClaimsOnlyWhatTheStatusSays(t *testing.T) {
	b := newTrace()
	h := on(t, Named("edu"), pci.KindMSI, b).Handler(0)
	assert.False(t, h.Service())
	assert.Equal(t, []string{"r32 24"}, b.taken(), "an interrupt of another device is looked at and left alone")

	b.set(0x24, 0x81)
	assert.True(t, h.Service())
	assert.Equal(t, []string{"r32 24", "w32 64=81"}, b.taken(), "what was seen is acknowledged, no more")
	assert.NoError(t, h.Fault())
}

func TestServiceLooksAtItsOwnBits(t *testing.T) {
	b := newTrace()
	board := on(t, Named("e1000e"), pci.KindMSIX, b)
	b.set(0xc8, 1<<21|1<<24|4)
	assert.False(t, board.Handler(0).Service())
	b.taken()
	assert.True(t, board.Handler(1).Service())
	assert.Equal(t, []string{"r32 c8", "w32 c0=200000"}, b.taken())
}

func TestServiceDoesNotClaimADeviceThatIsGone(t *testing.T) {
	b := newTrace()
	h := on(t, Named("edu"), pci.KindINTx, b).Handler(0)
	b.set(0x24, 0xffffffff)
	assert.False(t, h.Service())
	assert.Equal(t, []string{"r32 24"}, b.taken())
	require.ErrorIs(t, h.Fault(), ErrNoAnswer)
	_, err := h.Status()
	assert.ErrorIs(t, err, ErrNoAnswer)
}

func TestServiceKeepsTheFirstFault(t *testing.T) {
	b := newTrace()
	h := on(t, Named("edu"), pci.KindINTx, b).Handler(0)
	first := errors.New("first")
	b.fail = first
	assert.False(t, h.Service())
	b.fail = errors.New("second")
	assert.False(t, h.Service())
	assert.ErrorIs(t, h.Fault(), first)
}

func TestServiceDoesNotAllocate(t *testing.T) {
	b := &quiet{}
	board, err := Named("edu").On(pci.KindMSI, func(int) (BAR, error) { return b, nil })
	require.NoError(t, err)
	h := board.Handler(0)
	assert.Zero(t, testing.AllocsPerRun(100, func() { h.Service() }))
	assert.NotZero(t, b.writes)
}

// quiet is a device that always interrupts.
type quiet struct {
	trace
	writes int
}

func (b *quiet) Read32(uint64) (uint32, error)      { return 1, nil }
func (b *quiet) Write32(off uint64, v uint32) error { b.writes++; return nil }

func TestEnableGoesFromTheWholeToTheMessages(t *testing.T) {
	b := newTrace()
	board := on(t, Named("e1000e"), pci.KindMSIX, b)
	require.NoError(t, board.Enable(2))
	assert.Equal(t, []string{"w32 d8=ffffffff", "w32 c0=ffffffff", "w32 e4=cba98", "w32 d0=100000", "w32 d0=200000"}, b.taken())
	require.NoError(t, board.Handler(4).Raise())
	assert.Equal(t, []string{"w32 c8=1000000"}, b.taken())
	require.NoError(t, board.Disable(2))
	assert.Equal(t, []string{"w32 d8=200000", "w32 d8=100000", "w32 d8=ffffffff", "w32 c0=ffffffff"}, b.taken(), "in the reverse order")
	assert.Nil(t, board.Handler(5))
}

func TestDisableGoesOnAfterAFailure(t *testing.T) {
	b := newTrace()
	board := on(t, Named("e1000e"), pci.KindMSIX, b)
	b.fail = errors.New("broken")
	require.ErrorContains(t, board.Disable(5), "register IMC: broken")
	assert.Len(t, b.taken(), 6)
}

func TestStepsChangeBitsAtTheirWidth(t *testing.T) {
	steps := func(reg string) []Step {
		return []Step{
			{Action: Set, Register: reg, Value: 0x80},
			{Action: Clear, Register: reg, Value: 0x01},
			{Action: Read, Register: reg},
			{Action: Write, Register: reg, Value: 0x7f},
			{Action: Modify, Register: reg, Mask: 0x0f, Value: 0x05},
			{Action: Wait, Register: reg, Mask: 0x02, Value: 0x02, Within: time.Minute},
		}
	}
	p := &Profile{
		Name: "p", Registers: map[string]Register{"A": {Width: 8}, "B": {Offset: 2, Width: 16}, "C": {Offset: 4, Width: 32}, "D": {Offset: 8, Width: 64}},
		Interrupts: []Interrupts{{
			Kinds:    []pci.Kind{pci.KindINTx},
			Messages: []Message{{Status: Status{"A", 1}, Raise: append(append(append(steps("A"), steps("B")...), steps("C")...), steps("D")...)}},
		}},
	}
	b := newTrace()
	for _, off := range []uint64{0, 2, 4, 8} {
		b.set(off, 0x03)
	}
	require.NoError(t, on(t, p, pci.KindINTx, b).Handler(0).Raise())
	assert.Equal(t, []string{
		"r8 0", "w8 0=83", "r8 0", "w8 0=2", "r8 0", "w8 0=7f", "r8 0", "w8 0=5", "r8 0",
		"r16 2", "w16 2=83", "r16 2", "w16 2=2", "r16 2", "w16 2=7f", "r16 2", "w16 2=5", "r16 2",
		"r32 4", "w32 4=83", "r32 4", "w32 4=2", "r32 4", "w32 4=7f", "r32 4", "w32 4=5", "r32 4",
		"r64 8", "w64 8=83", "r64 8", "w64 8=2", "r64 8", "w64 8=7f", "r64 8", "w64 8=5", "r64 8",
	}, b.taken())
}

func TestOnRefusesWhatTheDeviceHasNot(t *testing.T) {
	edu := Named("edu")
	_, err := edu.On(pci.KindMSIX, newTrace().bar)
	require.EqualError(t, err, "profile edu describes [intx msi], not msix")

	absent := errors.New("no BAR 0")
	_, err = edu.On(pci.KindMSI, func(int) (BAR, error) { return nil, absent })
	require.ErrorIs(t, err, absent)

	for offset, fits := range map[uint64]bool{0xfc: true, 0x100: false, 0xfffffffffffffffc: false} {
		p := &Profile{
			Name: "p", Registers: map[string]Register{"S": {Offset: offset, Width: 32}},
			Interrupts: []Interrupts{{Kinds: []pci.Kind{pci.KindMSI}, Messages: []Message{{Status: Status{"S", 1}}}}},
		}
		_, err := p.On(pci.KindMSI, newTrace().bar)
		assert.Equal(t, fits, err == nil, "offset 0x%x: %v", offset, err)
	}
}

// TestBitsThatWritingClearsAreNotWrittenBack: a read-modify-write of a neighbour must not clear what happened.
func TestBitsThatWritingClearsAreNotWrittenBack(t *testing.T) {
	p, err := Parse("b", []byte(`{
		"profile": 1, "name": "b", "match": [{"vendor": "0x1", "device": "0x1"}],
		"registers": {"C": {"bar": 0, "offset": "0x8", "width": 32, "fields": {"DONE": {"bits": "4", "access": "w1c"}}}},
		"interrupts": [{"kinds": ["msi"], "messages": [{"message": 0, "status": {"register": "C", "mask": "0x10"}, "acknowledge": [],
			"raise": [{"set": "C", "bits": "0x1"}, {"clear": "C", "bits": "0x2"}, {"modify": "C", "mask": "0xc", "value": "0x4"}, {"set": "C", "bits": "0x10"}]}]}]
	}`))
	require.NoError(t, err)
	b := newTrace()
	b.set(8, 0x1a)
	require.NoError(t, on(t, p, pci.KindMSI, b).Handler(0).Raise())
	assert.Equal(t, []string{"r32 8", "w32 8=b", "r32 8", "w32 8=8", "r32 8", "w32 8=6", "r32 8", "w32 8=1a"}, b.taken())
}

func waiting(t *testing.T, b *trace, within time.Duration) error {
	t.Helper()
	p := &Profile{
		Name: "p", Registers: map[string]Register{"S": {Width: 32}},
		Interrupts: []Interrupts{{
			Kinds:    []pci.Kind{pci.KindMSI},
			Enable:   []Step{{Action: Wait, Register: "S", Mask: 0xf0, Value: 0x30, Within: within}},
			Messages: []Message{{Status: Status{"S", 1}}},
		}},
	}
	return on(t, p, pci.KindMSI, b).Enable(1)
}

func TestWaitEndsWhenTheBitsAreAsWanted(t *testing.T) {
	b := newTrace()
	b.set(0, 0x13)
	b.reading = func() {
		if len(b.log) == 3 {
			b.set(0, 0x35)
		}
	}
	require.NoError(t, waiting(t, b, time.Minute))
	assert.Equal(t, []string{"r32 0", "r32 0", "r32 0"}, b.taken())
}

func TestWaitIsBounded(t *testing.T) {
	b := newTrace()
	b.set(0, 0x13)
	err := waiting(t, b, time.Millisecond)
	require.ErrorIs(t, err, ErrNotInTime)
	assert.ErrorContains(t, err, "register S: reads 0x13 after 1ms, so that & 0xf0 it is 0x10 and not 0x30: not in time")
	assert.GreaterOrEqual(t, len(b.taken()), 2, "once more when the time is over")

	broken := errors.New("broken")
	b.fail = broken
	assert.ErrorIs(t, waiting(t, b, time.Minute), broken)
}

// TestWaitTakesAllOnesForNoAnswer: a device that has gone would be ready at once.
func TestWaitTakesAllOnesForNoAnswer(t *testing.T) {
	b := newTrace()
	b.set(0, 0xffffffff)
	p := &Profile{
		Name: "p", Registers: map[string]Register{"S": {Width: 32}},
		Interrupts: []Interrupts{{
			Kinds:    []pci.Kind{pci.KindMSI},
			Enable:   []Step{{Action: Wait, Register: "S", Mask: 1, Value: 1, Within: time.Millisecond}},
			Messages: []Message{{Status: Status{"S", 1}}},
		}},
	}
	assert.ErrorIs(t, on(t, p, pci.KindMSI, b).Enable(1), ErrNotInTime)
}

func TestCausesAreRaisedInTurnAndCountedApart(t *testing.T) {
	b := newTrace()
	h := on(t, Named("e1000"), pci.KindINTx, b).Handler(0)
	require.True(t, h.CanRaise())
	for range 7 {
		require.NoError(t, h.Raise())
	}
	assert.Equal(t, []string{"w32 c8=1", "w32 c8=2", "w32 c8=4", "w32 c8=10", "w32 c8=40", "w32 c8=80", "w32 c8=1"}, b.taken())

	b.set(0xc0, 0x80000015) // two known causes and one more, at once
	require.True(t, h.Service())
	b.set(0xc0, 0x4)
	require.True(t, h.Service())
	b.set(0xc0, 0x8) // one that the profile does not look at
	require.False(t, h.Service())
	assert.Equal(t, []string{"r32 c0", "r32 c0", "r32 c0"}, b.taken(), "reading acknowledges")
	assert.Equal(t, []CauseCount{
		{Name: "TXDW", Raised: 2, Seen: 1, Own: true},
		{Name: "TXQE", Raised: 1, Own: true},
		{Name: "LSC", Raised: 1, Seen: 2, Own: true},
		{Name: "RXDMT0", Raised: 1, Seen: 1, Own: true},
		{Name: "RXO", Raised: 1, Own: true},
		{Name: "RXT0", Raised: 1, Own: true},
	}, h.Causes())
}

func TestCountingCausesDoesNotAllocate(t *testing.T) {
	b := &quiet{}
	board, err := Named("e1000").On(pci.KindINTx, func(int) (BAR, error) { return b, nil })
	require.NoError(t, err)
	h := board.Handler(0)
	assert.Zero(t, testing.AllocsPerRun(100, func() { h.Service() }))
	assert.NotZero(t, h.Causes()[0].Seen)
}

func TestTheMessagesOwnStepsRaiseIt(t *testing.T) {
	p := &Profile{
		Name: "p", Registers: map[string]Register{"S": {Width: 32}},
		Interrupts: []Interrupts{{Kinds: []pci.Kind{pci.KindMSI}, Messages: []Message{{
			Status: Status{"S", 3}, Raise: []Step{{Action: Write, Register: "S", Value: 3}},
			Causes: []Cause{{Name: "A", Mask: 1, Raise: []Step{{Action: Write, Register: "S", Value: 1}}}},
		}}}},
	}
	b := newTrace()
	h := on(t, p, pci.KindMSI, b).Handler(0)
	require.NoError(t, h.Raise())
	assert.Equal(t, []string{"w32 0=3"}, b.taken())
	assert.Equal(t, []CauseCount{{Name: "A"}}, h.Causes())

	p.Interrupts[0].Messages[0] = Message{Status: Status{"S", 3}}
	h = on(t, p, pci.KindMSI, b).Handler(0)
	assert.False(t, h.CanRaise())
	assert.ErrorIs(t, h.Raise(), errors.ErrUnsupported)
}

func TestRateFitsWithinItsTolerance(t *testing.T) {
	for _, c := range []struct {
		rate   Rate
		count  uint64
		within time.Duration
		want   bool
	}{
		{Rate{100, 5}, 100, time.Second, true},
		{Rate{100, 5}, 95, time.Second, true},
		{Rate{100, 5}, 105, time.Second, true},
		{Rate{100, 5}, 94, time.Second, false},
		{Rate{100, 5}, 106, time.Second, false},
		{Rate{100, 5}, 1000, 10 * time.Second, true},
		{Rate{100, 0}, 99, time.Second, true},  // the ends
		{Rate{100, 0}, 98, time.Second, false}, // more than those
		{Rate{0.1, 10}, 0, time.Second, true},
		{Rate{0.1, 10}, 0, time.Minute, false},
		{Rate{0, 0}, 0, time.Minute, true},
		{Rate{0, 0}, 2, time.Minute, false},
	} {
		assert.Equal(t, c.want, c.rate.Fits(c.count, c.within), "%d in %v at %v", c.count, c.within, &c.rate)
	}
	assert.Equal(t, "0.5/s ± 10 %", (&Rate{0.5, 10}).String())
}
