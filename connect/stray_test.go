package connect_test

import (
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/irqbridge/irqbridge/connect"
	"github.com/irqbridge/irqbridge/pci"
	"github.com/irqbridge/irqbridge/vfio/vfiotest"
)

// eachFake runs a test on each fake.
func eachFake(t *testing.T, f func(t *testing.T, m *vfiotest.Machine)) {
	t.Helper()
	for _, v := range []vfiotest.Version{vfiotest.V6_1, vfiotest.Newest} {
		t.Run(v.String(), func(t *testing.T) { f(t, vfiotest.FakeMachine(t, vfiotest.Personality(v))) })
	}
}

// An interrupt that its device has no cause for is nobody's, is counted, and disturbs none of those that follow.
func TestSpuriousInterrupts(t *testing.T) {
	for _, kind := range []pci.Kind{pci.KindINTx, pci.KindMSI} {
		t.Run(kind.String(), func(t *testing.T) {
			eachFake(t, func(t *testing.T, m *vfiotest.Machine) {
				r := edu(t, m, kind)
				isr, calls := r.reporting(0)
				i := r.connect(0, isr)
				stray := func() bool {
					if kind == pci.KindMSI {
						return m.Fake.SendMessage(m.EDU, 0)
					}
					return m.Fake.PulseLine(m.EDU)
				}
				for n := range uint64(3) {
					before := i.Stats().UnclaimedWalks
					eventually(t, "it is nobody's", func() bool { // a line is still masked, for a moment, after it was served
						assert.True(t, stray())
						return i.Stats().UnclaimedWalks > before
					})
					serviced(r, 0, calls)
					eventually(t, "the next one is the device's", func() bool { return i.Stats().Claimed == n+1 })
				}
				r.disconnect(i)
			})
		})
	}
}

// A message that arrives when nobody is connected any more is lost. One that arrives when somebody else is connected finds its
// cause or finds none, and either way the next one is served.
func TestLateInterrupts(t *testing.T) {
	eachFake(t, func(t *testing.T, m *vfiotest.Machine) {
		r := edu(t, m, pci.KindMSI)
		var gone atomic.Bool
		first := func(*connect.Interrupt, any) bool {
			assert.False(t, gone.Load(), "called after Disconnect")
			return r.serve(0)
		}
		i := r.connect(0, first)
		arrive := m.Fake.Delay(m.EDU)
		r.raise(0)
		r.disconnect(i)
		gone.Store(true)
		arrive()
		r.board.acknowledge(r, 0)

		gone.Store(false)
		i = r.connect(0, first)
		arrive = m.Fake.Delay(m.EDU)
		r.raise(0)
		r.disconnect(i)
		gone.Store(true)
		r.board.acknowledge(r, 0)
		isr, calls := r.reporting(0)
		second := r.connect(0, isr)
		arrive()
		eventually(t, "the late one is nobody's", func() bool { return second.Stats().UnclaimedWalks == 1 })
		serviced(r, 0, calls)
		eventually(t, "the next one is the device's", func() bool { return second.Stats().Claimed == 1 })

		arrive = m.Fake.Delay(m.EDU)
		r.raise(0)
		r.disconnect(second)
		r.close()
		arrive()
	})
}
