package connect_test

import (
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/irqbridge/irqbridge/connect"
	"github.com/irqbridge/irqbridge/pci"
	"github.com/irqbridge/irqbridge/vfio/vfiotest"
)

// recorder writes down who of a chain is called, in order, and lets the test decide who claims.
type recorder struct {
	mu      sync.Mutex
	calls   []int
	answers [][]bool // one element for each pass; all false when they are used up
}

func newRecorder(answers ...[]bool) *recorder {
	return &recorder{answers: answers}
}

// member is the service routine at place n of a chain of that size.
func (c *recorder) member(n, size int) connect.ServiceRoutine {
	return func(*connect.Interrupt, any) bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		pass := len(c.calls) / size
		c.calls = append(c.calls, n)
		return pass < len(c.answers) && c.answers[pass][n]
	}
}

// walk triggers one interrupt of the rig and returns who was called. A routine of another message of the same dispatcher
// tells when the walk is over: the dispatcher serves one source after the other.
func (c *recorder) walk(r *rig, n, other int) []int {
	r.Helper()
	over := make(chan struct{}, 1)
	c.mu.Lock()
	c.calls = nil
	c.mu.Unlock()
	i := r.connect(other, func(*connect.Interrupt, any) bool { tell(over, struct{}{}); return true })
	r.trigger(n)
	r.trigger(other)
	received(r, over)
	r.disconnect(i)
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.calls
}

// chain connects a recorder's members to message n of the rig.
func (c *recorder) chain(r *rig, n, size int) []*connect.Interrupt {
	r.Helper()
	var members []*connect.Interrupt
	for m := range size {
		members = append(members, r.connect(n, c.member(m, size), shared))
	}
	return members
}

// sharingRows are the rows of group F. Row 114 cannot be reached: what matches one assigned interrupt has its mode, so
// parameters with another mode are NOT_FOUND before they could meet the chain.
func sharingRows(t *testing.T) {
	onMachine(t, "111", func(t *testing.T, m *vfiotest.Machine) {
		r, c := e1000e(t, m), newRecorder()
		c.chain(r, 0, 2)
		assert.Equal(t, []int{0, 1}, c.walk(r, 0, 1))
	})
	onMachine(t, "112", func(t *testing.T, m *vfiotest.Machine) {
		r := edu(t, m, pci.KindINTx)
		isr, calls := r.reporting(0)
		r.connect(0, isr, func(p *connect.Parameters) { p.ShareVector = false })
		refused(r, connect.StatusInvalidParameter, r.params(0, never(t)))
		serviced(r, 0, calls)
	})
	onMachine(t, "113", func(t *testing.T, m *vfiotest.Machine) {
		r := edu(t, m, pci.KindINTx)
		isr, calls := r.reporting(0)
		r.connect(0, isr)
		p := r.params(0, never(t))
		p.ShareVector = false
		refused(r, connect.StatusInvalidParameter, p)
		serviced(r, 0, calls)
	})
	onMachine(t, "115", func(t *testing.T, m *vfiotest.Machine) {
		r := edu(t, m, pci.KindINTx)
		atLevel := func(*connect.Parameters) {}
		for _, level := range [][2]func(*connect.Parameters){{passive, atLevel}, {atLevel, passive}} {
			isr, calls := r.reporting(0)
			i := r.connect(0, isr, level[0])
			p := r.params(0, never(t))
			level[1](p)
			status := refused(r, connect.StatusInvalidParameter, p)
			require.ErrorContains(t, status, "with their like only")
			serviced(r, 0, calls)
			r.disconnect(i)
		}
	})
	onMachine(t, "116", func(t *testing.T, m *vfiotest.Machine) {
		r, c := e1000e(t, m), newRecorder()
		same := c.member(0, 2)
		one, two := r.connect(0, same, shared), r.connect(0, same, shared)
		assert.NotSame(t, one, two)
		assert.Equal(t, []int{0, 0}, c.walk(r, 0, 1))
		assert.EqualValues(t, 1, one.Stats().Calls)
		assert.EqualValues(t, 1, two.Stats().Calls)
	})
	onMachine(t, "117", func(t *testing.T, m *vfiotest.Machine) {
		r := e1000e(t, m)
		r.disconnect(r.connect(0, never(t)))
		isr, calls := r.reporting(0)
		r.connect(0, isr)
		serviced(r, 0, calls)
	})
	onMachine(t, "118", func(t *testing.T, m *vfiotest.Machine) {
		r, c := e1000e(t, m), newRecorder([]bool{true, false})
		c.chain(r, 0, 2)
		refused(r, connect.StatusInvalidParameter, r.params(0, never(t)))
		assert.Equal(t, []int{0, 1, 0, 1}, c.walk(r, 0, 1), "still a chain, in the same order")
		alone := newRecorder([]bool{true}, []bool{true})
		alone.chain(r, 2, 1)
		refused(r, connect.StatusInvalidParameter, r.params(2, never(t)))
		assert.Equal(t, []int{0}, alone.walk(r, 2, 1), "still alone: called once though it claims")
	})
	onMachine(t, "119", func(t *testing.T, m *vfiotest.Machine) {
		r, c := e1000e(t, m), newRecorder()
		c.chain(r, 0, 3)
		assert.Equal(t, []int{0, 1, 2}, c.walk(r, 0, 1))
	})
}

// Members of a chain have one thread, so they have one mask.
func TestChainHasOneMask(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		if m.CPUs.Len() < 2 {
			t.Skip("a mask of one CPU has no smaller part")
		}
		r := open(t, m, m.EDU, connect.Policy{Kind: pci.KindINTx, AllowSubsetMask: true})
		r.connect(0, claim)
		p := r.params(0, never(t))
		p.ProcessorEnableMask &= p.ProcessorEnableMask - 1
		status := refused(r, connect.StatusInvalidParameter, p)
		require.ErrorContains(t, status, "one thread calls the whole chain")
	})
}
