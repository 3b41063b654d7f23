package connect_test

import (
	"errors"
	"os"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/irqbridge/irqbridge/connect"
	"github.com/irqbridge/irqbridge/pci"
	"github.com/irqbridge/irqbridge/vfio"
	"github.com/irqbridge/irqbridge/vfio/vfiotest"
)

// Whoever may run user code may close the device, and nothing is left of it.
func TestCloseFromEveryCallback(t *testing.T) {
	m := vfiotest.FakeMachine(t)
	for name, closeIt := range map[string]func(r *rig, i *connect.Interrupt, close func()){
		"deferred routine": func(_ *rig, i *connect.Interrupt, close func()) {
			d := connect.NewDPC(func(*connect.DPC, any, any, any) { close() }, nil)
			i.Synchronize(func() bool { return d.Insert(nil, nil) })
		},
		"Synchronize": func(_ *rig, i *connect.Interrupt, close func()) {
			i.Synchronize(func() bool { close(); return true })
		},
		"AcquireLock": func(_ *rig, i *connect.Interrupt, close func()) {
			before, err := i.AcquireLock()
			assert.NoError(t, err)
			close()
			assert.NoError(t, i.ReleaseLock(before))
		},
		"error handler": func(r *rig, i *connect.Interrupt, close func()) {
			r.resources.OnError(func(_ *connect.Interrupt, err error) {
				if !errors.Is(err, os.ErrClosed) { // which closing tells in turn
					close()
				}
			})
			r.trigger(0)
		},
		"AtClose": func(r *rig, _ *connect.Interrupt, close func()) { r.dev.AtClose(func() { go close() }); close() },
	} {
		t.Run(name, func(t *testing.T) {
			files := takeFootprint(t)
			t.Run("", func(t *testing.T) { // at whose end the fake's files are closed
				r := edu(t, m, pci.KindMSI)
				closed := make(chan error, 2)
				i := r.connect(0, func(*connect.Interrupt, any) bool { panic("out of order") })
				closeIt(r, i, func() { closed <- r.dev.Close() })
				require.NoError(t, received(t, closed))
				eventually(t, "the interrupt is disconnected", func() bool {
					return errors.Is(disconnect(i), connect.StatusInvalidParameter)
				})
			})
			files.requireNothingLeft(t)
		})
	}
}

// Everything that can be done with interrupts at the time that their device is closed, by its user or for the host: all of
// it returns, no service routine is called when Close has returned, and nothing is left.
func TestCloseAgainstEverything(t *testing.T) {
	m := vfiotest.FakeMachine(t)
	m.Bind(t, m.BridgeE1000)
	for _, c := range []struct {
		name    string
		policy  connect.Policy
		change  func(p *connect.Parameters)
		release bool
	}{
		{"line", connect.Policy{Kind: pci.KindINTx, StormLimit: 3}, shared, false},
		{"passive", connect.Policy{Kind: pci.KindINTx, StormLimit: 3}, passive, false},
		{"message", connect.Policy{Kind: pci.KindMSI}, shared, false},
		{"modelled line", connect.Policy{Kind: pci.KindINTx, ModelSharedLines: true, StormLimit: 3}, shared, false},
		{"release", connect.Policy{Kind: pci.KindINTx, StormLimit: 3}, shared, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			files := takeFootprint(t)
			for range 30 {
				t.Run("", func(t *testing.T) { closeAgainstEverything(t, m, c.policy, c.change, c.release) })
			}
			files.requireNothingLeft(t)
		})
	}
}

func closeAgainstEverything(
	t *testing.T, m *vfiotest.Machine, policy connect.Policy, change func(p *connect.Parameters), release bool,
) {
	r, neighbour := open(t, m, m.EDU2, policy), open(t, m, m.BridgeEDU, policy)
	var gone atomic.Int32
	d := connect.NewDPC(func(*connect.DPC, any, any, any) {}, nil)
	member := func(r *rig) *connect.Parameters {
		var inside atomic.Int32
		p := r.params(0, func(*connect.Interrupt, any) bool {
			assert.EqualValues(t, 1, inside.Add(1), "twice at once")
			defer inside.Add(-1)
			assert.Zero(t, gone.Load(), "called after Close has returned")
			d.Insert(nil, nil)
			return r.serve(0)
		})
		change(p)
		p.ShareVector = true
		return p
	}
	first, second := member(r), member(r)
	other := neighbour.params(0, claim)
	change(other)
	other.ShareVector = true
	for _, p := range []*connect.Parameters{first, second, other} {
		require.NoError(t, connect.Connect(p))
	}
	i, j := *first.InterruptObject, *second.InterruptObject

	begin := make(chan struct{})
	var all sync.WaitGroup
	start := func(f func()) { all.Go(func() { <-begin; f() }) }
	many := func(f func()) {
		start(func() {
			for range 20 {
				f()
			}
		})
	}
	many(func() { _ = r.dev.TriggerIRQ(vfio.IndexOf(policy.Kind), 0, 1) })
	many(func() { _ = neighbour.dev.TriggerIRQ(vfio.IndexOf(policy.Kind), 0, 1) })
	many(func() { _, _ = reportInactive(j), reportActive(j) })
	many(func() { _, _ = reportInactive(i), reportActive(i) })
	many(func() { _ = i.Rearm() })
	many(func() { _, _, _ = j.Stats(), j.Affinity(), j.Err() })
	many(func() { i.Synchronize(func() bool { return true }) })
	many(func() { assert.NoError(t, connect.FlushDPCs()) })
	many(func() {
		if p := member(r); connect.Connect(p) == nil {
			_ = disconnect(*p.InterruptObject)
		}
	})
	start(func() { _ = disconnect(i) })
	start(func() {
		if release {
			_ = r.dev.TriggerIRQ(vfio.Req, 0, 1)
		}
		assert.NoError(t, r.dev.Close())
		gone.Store(1)
	})
	close(begin)
	all.Wait()
	require.ErrorIs(t, disconnect(j), connect.StatusInvalidParameter)
	neighbour.close()
}
