package connect_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/irqbridge/irqbridge/connect"
	"github.com/irqbridge/irqbridge/pci"
	"github.com/irqbridge/irqbridge/vfio"
	"github.com/irqbridge/irqbridge/vfio/vfiotest"
)

// serviced raises interrupt n of the rig once and waits for its service routine.
func serviced(r *rig, n int, calls <-chan *connect.Interrupt) *connect.Interrupt {
	r.Helper()
	select {
	case <-calls: // of what the device raised by itself
	default:
	}
	r.raise(n)
	return received(r, calls)
}

// reporting is the board's service routine for interrupt n, which sends what it was called with when it claims.
func (r *rig) reporting(n int) (connect.ServiceRoutine, <-chan *connect.Interrupt) {
	calls := make(chan *connect.Interrupt, 1)
	return func(i *connect.Interrupt, _ any) bool {
		if !r.serve(n) {
			return false
		}
		tell(calls, i)
		return true
	}, calls
}

// acceptedRows are the rows of group D.
func acceptedRows(t *testing.T) {
	onMachine(t, "056", func(t *testing.T, m *vfiotest.Machine) {
		r := edu(t, m, pci.KindINTx)
		isr, calls := r.reporting(0)
		p := r.params(0, isr)
		require.NoError(t, connect.Connect(p))
		require.NotNil(t, *p.InterruptObject)
		assert.EqualValues(t, 1, p.Version)
		for range 3 {
			assert.Same(t, *p.InterruptObject, serviced(r, 0, calls))
		}
	})
	onMachine(t, "057", func(t *testing.T, m *vfiotest.Machine) {
		var k *altered
		if m.Fake != nil {
			k = intercept(m)
		}
		r := open(t, m, m.E1000E, connect.Policy{Messages: 3})
		require.Equal(t, pci.KindMSIX, r.resources.Kind)
		var ranges [][2]uint32 // the vectors of each enable: first and number
		if k != nil {
			k.set(func(k *altered) {
				k.setIRQs = func(call setIRQs) (int, error, bool) {
					ranges = append(ranges, [2]uint32{call.start, call.count})
					return 0, nil, false
				}
			})
		}
		require.Len(t, r.messages, 3)
		seen := make(map[*connect.Interrupt]bool)
		var all [3]<-chan *connect.Interrupt
		for n := range 3 {
			var isr connect.ServiceRoutine
			isr, all[n] = r.reporting(n)
			assert.Error(t, r.dev.TriggerIRQ(vfio.MSIX, n, 1), "message %d has no eventfd yet", n)
			i := r.connect(n, isr)
			assert.False(t, seen[i])
			seen[i] = true
			index, vectors, on := r.dev.EnabledIRQs()
			require.True(t, on)
			assert.Equal(t, vfio.MSIX, index)
			assert.Equal(t, 3, vectors, "all were enabled with the first")
		}
		if k != nil {
			k.set(func(k *altered) { k.setIRQs = nil })
			assert.Equal(t, [][2]uint32{{0, 3}, {1, 1}, {2, 1}}, ranges)
		}
		for n := range 3 {
			assert.Equal(t, n, serviced(r, n, all[n]).Message())
		}
	})
	onMachine(t, "058", func(t *testing.T, m *vfiotest.Machine) {
		r := e1000e(t, m)
		isr, calls := r.reporting(2)
		i := r.connect(2, isr)
		assert.Same(t, i, serviced(r, 2, calls))
		for _, n := range []int{0, 1, 3, 4} {
			assert.Error(t, r.dev.TriggerIRQ(vfio.MSIX, n, 1), "message %d has no eventfd", n)
		}
		require.NoError(t, r.dev.TriggerIRQ(vfio.MSIX, 2, 1))
		for _, n := range []int{0, 1, 4, 3} {
			isr, calls := r.reporting(n)
			i := r.connect(n, isr)
			assert.Same(t, i, serviced(r, n, calls))
		}
	})
	onMachine(t, "059", func(t *testing.T, m *vfiotest.Machine) {
		r := edu(t, m, pci.KindINTx)
		isr, calls := r.reporting(0)
		p := r.params(0, isr)
		p.Version, p.Group = connect.VersionFullySpecifiedGroup, 0
		require.NoError(t, connect.Connect(p))
		assert.EqualValues(t, 4, p.Version)
		serviced(r, 0, calls)
	})
	onMachine(t, "060", func(t *testing.T, m *vfiotest.Machine) {
		r := edu(t, m, pci.KindINTx)
		isr, calls := r.reporting(0)
		r.connect(0, isr, func(p *connect.Parameters) { p.Group = 7 })
		serviced(r, 0, calls)
	})
	onMachine(t, "061", func(t *testing.T, m *vfiotest.Machine) {
		r := edu(t, m, pci.KindINTx)
		isr, calls := r.reporting(0)
		i := r.connect(0, isr, func(p *connect.Parameters) { p.SynchronizeIrql = 11 })
		require.Less(t, i.Descriptor().Level, uint16(11))
		serviced(r, 0, calls)
		assert.Equal(t, connect.KIRQL(11), levelUnderLock(r, i))
	})
	onMachine(t, "062", func(t *testing.T, m *vfiotest.Machine) {
		r := edu(t, m, pci.KindMSI)
		contexts := make(chan any, 1)
		r.connect(0, func(_ *connect.Interrupt, context any) bool { tell(contexts, context); return true })
		r.trigger(0)
		assert.Nil(t, received(t, contexts))
	})
	onMachine(t, "063", func(t *testing.T, m *vfiotest.Machine) {
		r := edu(t, m, pci.KindMSI)
		contexts := make(chan any, 1)
		context := new(int)
		r.connect(0, func(_ *connect.Interrupt, context any) bool { tell(contexts, context); return true },
			func(p *connect.Parameters) { p.ServiceContext = context })
		r.trigger(0)
		assert.Same(t, context, received(t, contexts))
	})
	onMachine(t, "064", func(t *testing.T, m *vfiotest.Machine) {
		r := edu(t, m, pci.KindINTx)
		isr, calls := r.reporting(0)
		r.connect(0, isr, func(p *connect.Parameters) { p.FloatingSave = true })
		serviced(r, 0, calls)
	})
	onMachine(t, "065", func(t *testing.T, m *vfiotest.Machine) {
		r := e1000e(t, m)
		isr, calls := r.reporting(1)
		i := r.connect(1, isr)
		assert.Same(t, i, serviced(r, 1, calls))
	})
	onMachine(t, "066", func(t *testing.T, m *vfiotest.Machine) {
		r := edu(t, m, pci.KindINTx)
		r.raise(0) // pending before anybody is connected
		p := r.params(0, nil)
		same := make(chan bool, 1)
		p.ServiceRoutine = func(i *connect.Interrupt, _ any) bool {
			tell(same, *p.InterruptObject == i)
			return r.serve(0)
		}
		require.NoError(t, connect.Connect(p))
		assert.True(t, received(t, same))
	})
}
