package connect_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/irqbridge/irqbridge/connect"
	"github.com/irqbridge/irqbridge/pci"
	"github.com/irqbridge/irqbridge/vfio/vfiotest"
)

// Interrupts that are connected stay so over a reset of the function, on their host IRQs: only the device's own enables have
// to be set up again.
func TestInterruptsSurviveReset(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		r := e1000e(t, m)
		came := make(chan int, 16)
		interrupts := make([]*connect.Interrupt, 4)
		for n := range interrupts {
			interrupts[n] = r.connect(n, func(*connect.Interrupt, any) bool {
				if !r.serve(n) {
					return false
				}
				tell(came, n)
				return true
			})
		}
		for range 3 {
			irqs := make([]int, len(interrupts))
			for n, i := range interrupts {
				irq, err := i.HostIRQ()
				require.NoError(t, err)
				irqs[n] = irq.Number
			}
			r.settle()
			require.NoError(t, r.dev.Reset())
			r.board.setUp(r)
			for n, i := range interrupts {
				r.raise(n)
				for received(t, came) != n { // e1000e repeats messages that it held back
				}
				irq, err := i.HostIRQ()
				require.NoError(t, err)
				assert.Equal(t, irqs[n], irq.Number)
				require.NoError(t, i.Err())
			}
		}
		r.settle()
	})
}

// The same for a reset of the bus, with the line as well as with a message.
func TestInterruptsSurviveHotReset(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		m.Bind(t, m.BridgeE1000)
		for _, kind := range []pci.Kind{pci.KindINTx, pci.KindMSI} {
			r := open(t, m, m.BridgeEDU, connect.Policy{Kind: kind})
			came := make(chan struct{}, 16)
			i := r.connect(0, func(*connect.Interrupt, any) bool {
				if !r.serve(0) {
					return false
				}
				tell(came, struct{}{})
				return true
			})
			for range 3 {
				require.NoError(t, r.dev.HotReset())
				r.raise(0)
				received(t, came)
			}
			require.NoError(t, i.Err())
			r.disconnect(i)
			r.close()
		}
	})
}
