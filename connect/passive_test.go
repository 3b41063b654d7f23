package connect_test

import (
	"errors"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/irqbridge/irqbridge/connect"
	"github.com/irqbridge/irqbridge/pci"
	"github.com/irqbridge/irqbridge/vfio/host"
	"github.com/irqbridge/irqbridge/vfio/vfiotest"
)

// passive asks for a service routine at passive level.
func passive(p *connect.Parameters) {
	p.Irql, p.SynchronizeIrql = connect.PassiveLevel, connect.PassiveLevel
}

// silenced tells whether the host keeps the device's line from being asserted: COMMAND.INTxDisable, as the hardware has
// it. That is how VFIO masks a line.
func (r *rig) silenced() bool {
	config, err := r.m.Host.Config(r.dev.Address())
	assert.NoError(r, err)
	return config[5]&byte(pci.CommandINTxDisable>>8) != 0
}

// passiveRows are the rows of group J.
func passiveRows(t *testing.T) {
	onMachine(t, "169", func(t *testing.T, m *vfiotest.Machine) {
		r := edu(t, m, pci.KindINTx)
		isr, calls := r.reporting(0)
		i := r.connect(0, func(i *connect.Interrupt, context any) bool {
			time.Sleep(50 * time.Millisecond)
			return isr(i, context)
		}, passive)
		for range 2 {
			assert.Same(t, i, serviced(r, 0, calls))
		}
		r.disconnect(i)
		require.NoError(t, i.Err())
		assert.EqualValues(t, 2, i.Stats().Claimed)
	})
	onMachine(t, "170", func(t *testing.T, m *vfiotest.Machine) {
		r := edu(t, m, pci.KindINTx)
		masked := make(chan bool, 1)
		r.connect(0, func(*connect.Interrupt, any) bool {
			if !r.serve(0) {
				return false
			}
			tell(masked, r.silenced())
			return true
		}, passive)
		for range 3 {
			r.raise(0)
			assert.True(t, received(t, masked), "while the routine runs")
			eventually(t, "the line is unmasked", func() bool { return !r.silenced() })
		}
	})
	onFake(t, "170b", func(t *testing.T, fake vfiotest.Option) {
		m, k := alter(t, fake)
		r := edu(t, m, pci.KindINTx)
		inside, goOn := make(chan struct{}), make(chan struct{})
		i := r.connect(0, func(*connect.Interrupt, any) bool {
			inside <- struct{}{}
			<-goOn
			return r.serve(0)
		}, passive)
		before := k.unmasks()
		r.raise(0)
		received(t, inside)
		assert.Equal(t, before, k.unmasks())
		close(goOn)
		eventually(t, "the line is unmasked", func() bool { return k.unmasks() > before })
		r.disconnect(i)
		assert.Equal(t, before+1, k.unmasks())
	})
	onMachine(t, "171", func(t *testing.T, m *vfiotest.Machine) {
		r := edu(t, m, pci.KindINTx)
		var running, overlaps, calls atomic.Int64
		inside, goOn := make(chan struct{}, 3), make(chan struct{})
		i := r.connect(0, func(*connect.Interrupt, any) bool {
			if running.Add(1) > 1 {
				overlaps.Add(1)
			}
			defer running.Add(-1)
			calls.Add(1)
			tell(inside, struct{}{})
			<-goOn
			return true
		}, passive)
		r.trigger(0)
		received(t, inside)
		r.trigger(0)
		r.trigger(0)
		close(goOn)
		received(t, inside)
		r.disconnect(i)
		assert.Zero(t, overlaps.Load())
		assert.LessOrEqual(t, calls.Load(), int64(3))
		assert.EqualValues(t, 3, i.Stats().Fires)
	})
	onMachine(t, "172", func(t *testing.T, m *vfiotest.Machine) {
		if m.CPUs.Len() < 2 {
			t.Skip("on one CPU nothing can be pinned elsewhere")
		}
		all, err := m.Host.AllowedCPUs()
		require.NoError(t, err)
		r := open(t, m, m.EDU, connect.Policy{Kind: pci.KindINTx, CPUs: host.CPUSetOf(0)})
		allowed := make(chan host.CPUSet, 1)
		i := r.connect(0, func(*connect.Interrupt, any) bool {
			cpus, err := m.Host.AllowedCPUs()
			assert.NoError(t, err)
			tell(allowed, cpus)
			return r.serve(0)
		}, passive)
		r.raise(0)
		assert.Equal(t, all, received(t, allowed), "the routine's thread is not pinned to the mask")
		a := i.Affinity()
		assert.Equal(t, host.CPUSetOf(0), a.Wanted)
		assert.True(t, a.Thread.Empty())
	})
	onMachine(t, "172b", func(t *testing.T, m *vfiotest.Machine) {
		// The routines share their line as those of a level chain do.
		r := edu(t, m, pci.KindINTx)
		var calls []int
		served := make(chan struct{}, 1)
		member := func(n int, answer func() bool) *connect.Interrupt {
			return r.connect(0, func(*connect.Interrupt, any) bool {
				calls = append(calls, n)
				if !answer() {
					return false
				}
				tell(served, struct{}{})
				return true
			}, passive, shared)
		}
		members := []*connect.Interrupt{
			member(0, func() bool { return false }),
			member(1, func() bool { return r.serve(0) }),
			member(2, func() bool { t.Error("called after a claim"); return false }),
		}
		r.raise(0)
		received(t, served)
		for _, i := range members[:2] {
			r.disconnect(i) // waits for the routines
		}
		assert.Equal(t, []int{0, 1}, calls)
	})
	onMachine(t, "172c", func(t *testing.T, m *vfiotest.Machine) {
		// What would wait for the routine refuses to.
		r := edu(t, m, pci.KindINTx)
		results := make(chan error, 4)
		i := r.connect(0, func(i *connect.Interrupt, _ any) bool {
			if !r.serve(0) {
				return false
			}
			tell(results, connect.Connect(r.params(0, never(t))))
			tell(results, disconnect(i))
			_, err := connect.Assign(r.dev, connect.Policy{})
			tell(results, err)
			tell(results, r.resources.Release())
			return true
		}, passive)
		r.raise(0)
		for range 4 {
			err := received(t, results)
			bugCheck(t, err, connect.DriverViolation, 1, 0, 0)
			assert.ErrorContains(t, err, "from a service routine")
		}
		r.disconnect(i)
	})
	onMachine(t, "172d", func(t *testing.T, m *vfiotest.Machine) {
		// A routine that blocks holds up nobody but its Disconnect, which waits for it.
		a, b := edu(t, m, pci.KindINTx), open(t, m, m.EDU2, connect.Policy{Kind: pci.KindINTx})
		inside, goOn := make(chan struct{}), make(chan struct{})
		var ended atomic.Bool
		i := a.connect(0, func(*connect.Interrupt, any) bool {
			inside <- struct{}{}
			<-goOn
			ended.Store(true)
			return a.serve(0)
		}, passive)
		a.raise(0)
		received(t, inside)
		isr, calls := b.reporting(0)
		b.connect(0, isr, passive)
		serviced(b, 0, calls)
		result := make(chan error)
		go func() { result <- disconnect(i) }()
		select {
		case <-result:
			t.Error("Disconnect returned while the service routine ran")
		default:
		}
		close(goOn)
		require.NoError(t, received(t, result))
		assert.True(t, ended.Load())
	})
	onMachine(t, "172e", func(t *testing.T, m *vfiotest.Machine) {
		// As at a higher level, a routine that ends badly is reported and its line stays masked.
		for _, end := range []struct {
			how  string
			call func()
		}{{"panicked: out of order", func() { panic(errors.New("out of order")) }}, {"runtime.Goexit", runtime.Goexit}} {
			r := edu(t, m, pci.KindINTx)
			reports := make(chan error, 1)
			r.resources.OnError(func(i *connect.Interrupt, err error) { reports <- err })
			i := r.connect(0, func(*connect.Interrupt, any) bool { end.call(); return true }, passive)
			r.raise(0)
			err := received(t, reports)
			require.ErrorContains(t, err, end.how)
			assert.Equal(t, err, i.Err())
			assert.True(t, i.Synchronize(func() bool { return true }), "the lock was released")
			assert.True(t, r.silenced())
			r.disconnect(i)
			isr, calls := r.reporting(0)
			r.connect(0, isr, passive) // the line is still asserted
			received(t, calls)
			r.close()
		}
	})
	onMachine(t, "172f", func(t *testing.T, m *vfiotest.Machine) {
		// The routine may close its device, which then disconnects it when it has returned.
		r := edu(t, m, pci.KindINTx)
		closed := make(chan error, 1)
		i := r.connect(0, func(*connect.Interrupt, any) bool { tell(closed, r.dev.Close()); return true }, passive)
		r.raise(0)
		require.NoError(t, received(t, closed))
		eventually(t, "the interrupt is disconnected", func() bool {
			return errors.Is(disconnect(i), connect.StatusInvalidParameter)
		})
	})
}
