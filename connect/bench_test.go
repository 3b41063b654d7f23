package connect

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"golang.org/x/sys/unix"

	"github.com/irqbridge/irqbridge/connect/internal/epoll"
	"github.com/irqbridge/irqbridge/pci"
)

// The parts of the way of an interrupt, in nanoseconds: what scripts/bench measures as a whole. BenchmarkFire, BenchmarkInsertDPC
// and the others that are beside what they measure belong to them.

// batch serves an event of each source, as a dispatcher that has fetched them does.
func batch(sources []*source) (serve func()) {
	d := &dispatcher{set: &epoll.Set{}}
	d.table.Store(sources[0].dispatcher.table.Load())
	self := &thread{tid: -1}
	for n, s := range sources {
		d.set.Events[n] = unix.EpollEvent{Events: unix.EPOLLIN, Fd: s.slot, Pad: s.generation}
	}
	return func() {
		d.n, d.next = len(sources), 0
		d.dispatch(self)
	}
}

// BenchmarkDispatch is all that lies between epoll's return and the service routines, and after them, with locks and counters:
// for one source, for a batch of them, and for chains, in which nobody claims. ns/call is the share of one routine.
func BenchmarkDispatch(b *testing.B) {
	for _, c := range []struct{ sources, members int }{{1, 1}, {64, 1}, {1, 2}, {1, 8}} {
		b.Run(fmt.Sprintf("sources=%d/members=%d", c.sources, c.members), func(b *testing.B) {
			d := startTestDispatcher(b)
			calls := 0
			var routines []ServiceRoutine
			for range c.members {
				routines = append(routines, func(*Interrupt, any) bool { calls++; return false })
			}
			var sources []*source
			for range c.sources {
				sources = append(sources, messageSource(b, d, routines...))
			}
			serve := batch(sources)
			b.ReportAllocs()
			for b.Loop() {
				serve()
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(calls), "ns/call")
		})
	}
}

// BenchmarkLock is the interrupt lock, with nobody else there.
func BenchmarkLock(b *testing.B) {
	i := loneInterrupt(b)
	b.ReportAllocs()
	for b.Loop() {
		i.lock.acquire(1)
		i.lock.release()
	}
}

// BenchmarkSynchronize is a routine under the interrupt lock, with nobody else there.
func BenchmarkSynchronize(b *testing.B) {
	i := loneInterrupt(b)
	b.ReportAllocs()
	for b.Loop() {
		i.Synchronize(func() bool { return true })
	}
}

// BenchmarkFullySpecified is the mapping of a descriptor to parameters.
func BenchmarkFullySpecified(b *testing.B) {
	d := pci.TranslatedDescriptor{Type: pci.ResourceInterrupt, Level: 9, Vector: 0x91, Affinity: 0xf}
	b.ReportAllocs()
	for b.Loop() {
		if p := FullySpecified(d); p.Vector != d.Vector {
			b.Fatal(p.Vector)
		}
	}
}

// Neither the mapping nor the lock allocates. (That dispatch does not is TestDispatchDoesNotAllocate.)
func TestPartsDoNotAllocate(t *testing.T) {
	i := loneInterrupt(t)
	d := pci.TranslatedDescriptor{Type: pci.ResourceInterrupt, Level: 9, Vector: 0x91, Affinity: 0xf}
	assert.Zero(t, testing.AllocsPerRun(1000, func() {
		i.lock.acquire(1)
		if FullySpecified(d).Vector != d.Vector {
			t.Error("not so")
		}
		i.lock.release()
	}))
}

// loneInterrupt is an interrupt that nothing happens to.
func loneInterrupt(tb testing.TB) *Interrupt {
	tb.Helper()
	return (*messageSource(tb, startTestDispatcher(tb), func(*Interrupt, any) bool { return true }).chain.Load())[0]
}
