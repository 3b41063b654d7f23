package connect_test

import (
	"os"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/irqbridge/irqbridge/connect"
	"github.com/irqbridge/irqbridge/pci"
	"github.com/irqbridge/irqbridge/vfio"
	"github.com/irqbridge/irqbridge/vfio/vfiotest"
)

// TestAReleaseWaitsForTheServiceRoutine has the host want the device back while a service routine is at work with it.
func TestAReleaseWaitsForTheServiceRoutine(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		for _, kind := range []pci.Kind{pci.KindINTx, pci.KindMSI} {
			r := edu(t, m, kind)
			told := make(chan error, 1)
			r.resources.OnError(func(_ *connect.Interrupt, err error) { tell(told, err) })
			begun, goOn, ended := make(chan struct{}, 1), make(chan struct{}), make(chan error, 1)
			once := sync.Once{}
			i := r.connect(0, func(*connect.Interrupt, any) bool {
				once.Do(func() {
					tell(begun, struct{}{})
					<-goOn
					_, err := r.bar.Read32(0x24)
					tell(ended, err)
				})
				return true
			})
			r.trigger(0)
			received(t, begun)
			require.NoError(t, r.dev.TriggerIRQ(vfio.Req, 0, 1))
			err := received(t, told) // the release has come as far as this interrupt
			require.ErrorIs(t, err, vfio.ErrReleased)
			require.ErrorIs(t, err, os.ErrClosed)
			require.ErrorContains(t, err, i.String()+" was connected when its device was closed: released because the host wants the device back")
			select {
			case <-ended:
				require.Fail(t, "the service routine was not held")
			default:
			}
			close(goOn)
			require.NoError(t, received(t, ended), "the device was there as long as the routine ran")
			eventually(t, "the device is released", func() bool { _, err := r.dev.Config(); return err != nil })
			require.ErrorIs(t, i.Err(), vfio.ErrReleased)
			assert.EqualValues(t, 1, i.Stats().Claimed)
			require.ErrorIs(t, disconnect(i), connect.StatusInvalidParameter, "it is disconnected")
			_, err = connect.Assign(r.dev, connect.Policy{})
			require.ErrorIs(t, err, vfio.ErrReleased)
		}
	})
}

// TestInterruptsOfADeviceThatIsPulledOut report that it is no longer theirs.
func TestInterruptsOfADeviceThatIsPulledOut(t *testing.T) {
	for _, v := range []vfiotest.Version{vfiotest.V6_1, vfiotest.Newest} {
		m := vfiotest.FakeMachine(t, vfiotest.Personality(v))
		plan, err := m.Host.PlanBind(m.E1000E, "vfio-pci", false) // there will be nothing to give back
		require.NoError(t, err)
		require.NoError(t, plan.Run(t.Context()))
		dev, err := vfio.Open(m.E1000E, m.Options()...)
		require.NoError(t, err)
		resources, err := connect.Assign(dev, connect.Policy{})
		require.NoError(t, err)
		told := make(chan error, 5)
		resources.OnError(func(_ *connect.Interrupt, err error) { told <- err })
		for _, message := range resources.Expand() {
			p, err := connect.FromDescriptor(message.Translated)
			require.NoError(t, err)
			p.PhysicalDeviceObject, p.InterruptObject = dev, new(*connect.Interrupt)
			p.ServiceRoutine = func(*connect.Interrupt, any) bool { return true }
			require.NoError(t, connect.Connect(&p))
		}
		m.Fake.Remove(m.E1000E)
		for range 5 {
			require.ErrorIs(t, received(t, told), vfio.ErrReleased)
		}
		require.NoError(t, dev.Close())
	}
}
