package connect_test

import (
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/irqbridge/irqbridge/connect"
	"github.com/irqbridge/irqbridge/pci"
	"github.com/irqbridge/irqbridge/vfio/host"
	"github.com/irqbridge/irqbridge/vfio/vfiotest"
)

// wired opens two devices whose lines are one interrupt of the host: an edu, and another one behind a bridge.
func wired(t *testing.T, m *vfiotest.Machine, p connect.Policy) (a, b *rig) {
	t.Helper()
	m.Bind(t, m.BridgeE1000) // which is in the second one's IOMMU group
	p.Kind = pci.KindINTx
	a, b = open(t, m, m.EDU2, p), open(t, m, m.BridgeEDU, p)
	require.Equal(t, hostIRQ(t, a), hostIRQ(t, b))
	return a, b
}

// hostIRQ is the number of the rig's line in Linux.
func hostIRQ(t *testing.T, r *rig) int {
	t.Helper()
	h, err := r.m.Host.Device(r.dev.Address())
	require.NoError(t, err)
	require.NotZero(t, h.IRQ)
	return h.IRQ
}

func modelled(t *testing.T, m *vfiotest.Machine) (a, b *rig) {
	t.Helper()
	return wired(t, m, connect.Policy{ModelSharedLines: true})
}

// Two devices on one wire, each with a line of its own here: the kernel asks the devices whose interrupt it is, and
// neither routine is called for the other's.
func TestTwoDevicesOnOneWire(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		a, b := wired(t, m, connect.Policy{})
		require.NotEqual(t, a.messages[0].Translated.Vector, b.messages[0].Translated.Vector)
		isrA, callsA := a.reporting(0)
		isrB, callsB := b.reporting(0)
		ia, ib := a.connect(0, isrA), b.connect(0, isrB)
		irqA, err := ia.HostIRQ()
		require.NoError(t, err)
		irqB, err := ib.HostIRQ()
		require.NoError(t, err)
		assert.Equal(t, irqA.Number, irqB.Number)
		assert.Equal(t, []string{irqB.Action}, irqA.Shared)
		for range 10 {
			assert.Same(t, ia, serviced(a, 0, callsA))
			assert.Same(t, ib, serviced(b, 0, callsB))
			a.raise(0)
			b.raise(0)
			assert.Same(t, ib, received(t, callsB))
			assert.Same(t, ia, received(t, callsA))
		}
		a.disconnect(ia)
		serviced(b, 0, callsB)
		b.disconnect(ib)
		assert.EqualValues(t, 20, ia.Stats().Claimed)
		assert.EqualValues(t, 21, ib.Stats().Claimed)
	})
}

// lineTrace writes down which member of a modelled line was called.
type lineTrace struct {
	mu    sync.Mutex
	calls []string
}

func (c *lineTrace) member(name string, routine func() bool) connect.ServiceRoutine {
	return func(*connect.Interrupt, any) bool {
		c.mu.Lock()
		c.calls = append(c.calls, name)
		c.mu.Unlock()
		return routine()
	}
}

func (c *lineTrace) take() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	calls := c.calls
	c.calls = nil
	return calls
}

// quietened waits until the device is served and its line unmasked: the walk is over.
func quietened(r *rig) {
	r.Helper()
	eventually(r, "the line is served", func() bool { return !r.board.raised(r, 0) && !r.silenced() })
}

func TestModelledLine(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		for _, c := range []struct {
			name string
			run  func(t *testing.T, a, b *rig)
		}{
			{"one vector", oneVector},
			{"walk to the first claim", walkToTheFirstClaim},
			{"sharing is refused", sharingIsRefused},
			{"members leave", membersLeave},
			{"one dies", oneDies},
			{"never twice at once", neverTwiceAtOnce},
			{"passive", passiveLine},
			{"inactive neighbour", inactiveNeighbour},
			{"storm", stormOfOne},
		} {
			t.Run(c.name, func(t *testing.T) {
				a, b := modelled(t, m)
				c.run(t, a, b)
				a.close()
				b.close()
			})
		}
	})
}

func oneVector(t *testing.T, a, b *rig) {
	da, db := a.messages[0].Translated, b.messages[0].Translated
	assert.Equal(t, da.Vector, db.Vector)
	assert.Equal(t, da.Level, db.Level)
	// Assigned without the model, the device has a vector of its own again; the vector stays while it has a user.
	b.assign(connect.Policy{Kind: pci.KindINTx})
	assert.NotEqual(t, da.Vector, b.messages[0].Translated.Vector)
	require.NoError(t, a.resources.Release())
	a.assign(connect.Policy{Kind: pci.KindINTx, ModelSharedLines: true})
	b.assign(connect.Policy{Kind: pci.KindINTx, ModelSharedLines: true})
	assert.Equal(t, a.messages[0].Translated.Vector, b.messages[0].Translated.Vector)
	// Messages are nobody else's.
	b.assign(connect.Policy{Kind: pci.KindMSI, ModelSharedLines: true})
	assert.NotEqual(t, a.messages[0].Translated.Vector, b.messages[0].Translated.Vector)
}

func walkToTheFirstClaim(t *testing.T, a, b *rig) {
	var c lineTrace
	a.connect(0, c.member("a", func() bool { return a.serve(0) }), shared)
	b.connect(0, c.member("b", func() bool { return b.serve(0) }), shared)
	second := a.connect(0, c.member("second", func() bool { t.Error("nothing is left for it"); return false }), shared)
	for range 3 {
		a.raise(0)
		quietened(a)
		assert.Equal(t, []string{"a"}, c.take())
		b.raise(0)
		quietened(b)
		assert.Equal(t, []string{"a", "b"}, c.take(), "in the order of the connects, on whichever thread")
	}
	assert.Zero(t, second.Stats().UnclaimedWalks)
}

func sharingIsRefused(t *testing.T, a, b *rig) {
	exclusive := func(p *connect.Parameters) { p.ShareVector = false }
	i := a.connect(0, claim, exclusive)
	refused(b, connect.StatusInvalidParameter, b.params(0, never(t)))
	a.disconnect(i)
	i = a.connect(0, claim, shared)
	p := b.params(0, never(t))
	p.ShareVector = false
	refused(b, connect.StatusInvalidParameter, p)
	p = b.params(0, never(t))
	passive(p)
	refused(b, connect.StatusInvalidParameter, p)
	if cpus := b.m.CPUs; cpus.Len() > 1 {
		b.assign(connect.Policy{Kind: pci.KindINTx, ModelSharedLines: true, CPUs: host.CPUSetOf(cpus.CPUs()[0])})
		refused(b, connect.StatusInvalidParameter, b.params(0, never(t)))
	}
	a.disconnect(i)
	isr, calls := b.reporting(0)
	b.connect(0, isr, exclusive) // now that nobody else is there
	serviced(b, 0, calls)
}

func membersLeave(t *testing.T, a, b *rig) {
	isrA, callsA := a.reporting(0)
	isrB, callsB := b.reporting(0)
	for range 3 {
		ia := a.connect(0, isrA, shared)
		ib := b.connect(0, isrB, shared)
		serviced(a, 0, callsA)
		serviced(b, 0, callsB)
		a.disconnect(ia)
		assert.False(t, a.enabled())
		assert.Same(t, ib, serviced(b, 0, callsB))
		ia = a.connect(0, isrA, shared) // now behind b
		assert.Same(t, ia, serviced(a, 0, callsA))
		b.disconnect(ib)
		assert.Same(t, ia, serviced(a, 0, callsA))
		a.disconnect(ia)
	}
	a.connect(0, isrA, shared)
	ib := b.connect(0, isrB, shared)
	a.close()
	assert.Same(t, ib, serviced(b, 0, callsB))
	require.NoError(t, ib.Err())
}

// The routine of one device that ends badly on the other's interrupt is silenced, and the line that fired is served.
func oneDies(t *testing.T, a, b *rig) {
	reports := make(chan *connect.Interrupt, 4)
	for _, r := range []*rig{a, b} {
		r.resources.OnError(func(i *connect.Interrupt, _ error) { reports <- i })
	}
	isr, calls := b.reporting(0)
	for _, end := range []func(){func() { panic("out of order") }, runtime.Goexit} {
		var died atomic.Int64
		ia := a.connect(0, func(*connect.Interrupt, any) bool {
			died.Add(1)
			end()
			return true
		}, shared)
		ib := b.connect(0, isr, shared)
		for range 3 {
			assert.Same(t, ib, serviced(b, 0, calls))
			quietened(b)
		}
		assert.Same(t, ia, received(t, reports))
		assert.Empty(t, reports, "nobody else")
		require.Error(t, ia.Err())
		require.NoError(t, ib.Err())
		assert.EqualValues(t, 1, died.Load())
		a.disconnect(ia)
		serviced(b, 0, calls)
		b.disconnect(ib)
	}
}

func neverTwiceAtOnce(t *testing.T, a, b *rig) {
	rounds := 2000
	if a.m.Real {
		rounds = 200
	}
	var running [2]atomic.Int64
	var overlaps, served atomic.Int64
	for n, r := range []*rig{a, b} {
		r.connect(0, func(*connect.Interrupt, any) bool {
			if running[n].Add(1) > 1 {
				overlaps.Add(1)
			}
			defer running[n].Add(-1)
			if !r.serve(0) {
				return false
			}
			served.Add(1)
			return true
		}, shared)
	}
	var raising sync.WaitGroup
	for _, r := range []*rig{a, b} {
		raising.Go(func() {
			for range rounds {
				r.write(0x60, 1)
				runtime.Gosched()
			}
		})
	}
	raising.Wait()
	quietened(a)
	quietened(b)
	assert.Zero(t, overlaps.Load())
	assert.NotZero(t, served.Load())
}

func passiveLine(t *testing.T, a, b *rig) {
	isrA, callsA := a.reporting(0)
	isrB, callsB := b.reporting(0)
	ia := a.connect(0, isrA, shared, passive)
	ib := b.connect(0, isrB, shared, passive)
	for range 3 {
		assert.Same(t, ia, serviced(a, 0, callsA))
		assert.Same(t, ib, serviced(b, 0, callsB))
	}
	a.disconnect(ia)
	dying := a.connect(0, func(*connect.Interrupt, any) bool { runtime.Goexit(); return true }, shared, passive)
	b.disconnect(ib)
	ib = b.connect(0, isrB, shared, passive) // behind the one that dies
	for range 2 {
		assert.Same(t, ib, serviced(b, 0, callsB))
	}
	require.Error(t, dying.Err())
}

func inactiveNeighbour(t *testing.T, a, b *rig) {
	isrA, callsA := a.reporting(0)
	isrB, callsB := b.reporting(0)
	ia := a.connect(0, isrA, shared)
	b.connect(0, isrB, shared)
	require.NoError(t, reportInactive(ia))
	assert.True(t, a.silenced())
	assert.False(t, b.silenced(), "masked is the line of the device")
	a.raise(0)
	serviced(b, 0, callsB)
	assert.Empty(t, callsA)
	require.NoError(t, reportActive(ia))
	assert.Same(t, ia, received(t, callsA))
}

// A storm silences the line of the device that asserts it, and the neighbour is served.
func stormOfOne(t *testing.T, a, b *rig) {
	a.assign(connect.Policy{Kind: pci.KindINTx, ModelSharedLines: true, StormLimit: 10})
	reports := make(chan *connect.Interrupt, 4)
	for _, r := range []*rig{a, b} {
		r.resources.OnError(func(i *connect.Interrupt, _ error) { reports <- i })
	}
	var mended atomic.Bool
	served := make(chan *connect.Interrupt, 1)
	ia := a.connect(0, func(i *connect.Interrupt, _ any) bool {
		if !mended.Load() || !a.serve(0) {
			return false
		}
		tell(served, i)
		return true
	}, shared)
	isr, calls := b.reporting(0)
	ib := b.connect(0, isr, shared)
	a.raise(0)
	assert.Same(t, ia, received(t, reports))
	bugCheck(t, ia.Err(), connect.HardwareInterruptStorm)
	for range 3 {
		assert.Same(t, ib, serviced(b, 0, calls))
	}
	require.NoError(t, ib.Err())
	mended.Store(true)
	require.NoError(t, ib.Rearm(), "it has no storm")
	require.Error(t, ia.Err())
	require.NoError(t, ia.Rearm())
	assert.Same(t, ia, received(t, served))
	require.NoError(t, ia.Err())
	assert.Empty(t, reports)
}

// A vector is given back with its last user, and a device without an interrupt in the host cannot share one.
func TestModelledLinesAreGivenBack(t *testing.T) {
	m := vfiotest.FakeMachine(t)
	a, b := modelled(t, m)
	vector := a.messages[0].Translated.Vector
	require.NoError(t, a.resources.Release())
	c := open(t, m, m.EDU, connect.Policy{Kind: pci.KindINTx, ModelSharedLines: true})
	assert.NotEqual(t, vector, c.messages[0].Translated.Vector, "b still has it")
	require.NoError(t, b.resources.Release())
	require.NoError(t, c.resources.Release())
	a.assign(connect.Policy{Kind: pci.KindINTx})
	assert.Equal(t, vector, a.messages[0].Translated.Vector, "0x%x is free", vector)
}
