package profile

import (
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/irqbridge/irqbridge/pci"
)

// trace is a BAR of 256 bytes that writes down each access and answers reads from values.
type trace struct {
	values map[uint64]uint64
	log    []string
	fail   error
}

func (b *trace) Size() uint64 { return 0x100 }

func (b *trace) read(width int, off uint64) (uint64, error) {
	b.log = append(b.log, fmt.Sprintf("r%d %x", width, off))
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
		return []Step{{Set, reg, 0x80}, {Clear, reg, 0x01}, {Read, reg, 0}, {Write, reg, 0x7f}}
	}
	p := &Profile{
		Name: "p", Registers: map[string]Register{"A": {0, 0, 8}, "B": {0, 2, 16}, "C": {0, 4, 32}, "D": {0, 8, 64}},
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
		"r8 0", "w8 0=83", "r8 0", "w8 0=2", "r8 0", "w8 0=7f",
		"r16 2", "w16 2=83", "r16 2", "w16 2=2", "r16 2", "w16 2=7f",
		"r32 4", "w32 4=83", "r32 4", "w32 4=2", "r32 4", "w32 4=7f",
		"r64 8", "w64 8=83", "r64 8", "w64 8=2", "r64 8", "w64 8=7f",
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
			Name: "p", Registers: map[string]Register{"S": {0, offset, 32}},
			Interrupts: []Interrupts{{Kinds: []pci.Kind{pci.KindMSI}, Messages: []Message{{Status: Status{"S", 1}}}}},
		}
		_, err := p.On(pci.KindMSI, newTrace().bar)
		assert.Equal(t, fits, err == nil, "offset 0x%x: %v", offset, err)
	}
}
