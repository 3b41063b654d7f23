package connect_test

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/irqbridge/irqbridge/connect"
	"github.com/irqbridge/irqbridge/pci"
	"github.com/irqbridge/irqbridge/vfio"
	"github.com/irqbridge/irqbridge/vfio/vfiotest"
)

// TestAssignKnowsWhatCanBeArmed: a host may let a device have messages that cannot be armed, and has no vectors for them
// then. The device gets one message before the first is connected.
func TestAssignKnowsWhatCanBeArmed(t *testing.T) {
	for _, v := range []vfiotest.Version{vfiotest.V6_1, vfiotest.Newest} {
		m := vfiotest.FakeMachine(t, vfiotest.Personality(v), vfiotest.ArmedLimit(3))
		r := open(t, m, m.E1000E, connect.Policy{})
		assert.Equal(t, pci.KindMSIX, r.resources.Kind)
		assert.Len(t, r.messages, 1)
		require.ErrorIs(t, r.resources.Shortfall, unix.ENOSPC)
		isr, calls := r.reporting(0)
		i := r.connect(0, isr)
		serviced(r, 0, calls)
		r.disconnect(i)

		r.assign(connect.Policy{Messages: 3})
		assert.Len(t, r.messages, 3, "as many as there are")
		require.NoError(t, r.resources.Shortfall)
	}
}

// TestTwoThousandMessages connects all the messages that a device can have, one by one, and has each served once. It takes
// fewer of the fake, which makes up all of /proc and /sys anew for each look at a file. In the virtual machine it takes IRQBRIDGE_VM_DEVICES=more and IRQBRIDGE_VM_CPUS=12.
func TestTwoThousandMessages(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		if _, err := m.Host.Device(m.Vectors); m.Real && err != nil {
			t.Skip("this machine has no device with so many")
		}
		dev := m.Open(t, m.Vectors)
		want := 2048
		if !m.Real {
			want = 128
		}
		begin := time.Now()
		resources, err := connect.Assign(dev, connect.Policy{Messages: want})
		require.NoError(t, err)
		messages := resources.Expand()
		t.Logf("%d messages assigned in %v", len(messages), time.Since(begin))
		if m.Real && m.CPUs.Len() < 11 {
			require.ErrorIs(t, resources.Shortfall, unix.ENOSPC)
			require.Len(t, messages, 1)
			return
		}
		require.NoError(t, resources.Shortfall)
		require.Len(t, messages, want)

		calls := make([]atomic.Int64, len(messages))
		interrupts := make([]*connect.Interrupt, len(messages))
		begin = time.Now()
		for n, message := range messages {
			p, err := connect.FromDescriptor(message.Translated)
			require.NoError(t, err)
			p.PhysicalDeviceObject = dev
			p.InterruptObject = &interrupts[n]
			p.ServiceRoutine = func(*connect.Interrupt, any) bool { calls[n].Add(1); return true }
			require.NoError(t, connect.Connect(&p))
		}
		t.Logf("connected in %v", time.Since(begin))
		begin = time.Now()
		require.NoError(t, dev.TriggerIRQ(vfio.MSIX, 0, len(messages)))
		eventually(t, "each was served once", func() bool {
			for n := range calls {
				if calls[n].Load() != 1 {
					return false
				}
			}
			return true
		})
		t.Logf("triggered and served in %v", time.Since(begin))
		begin = time.Now()
		for _, i := range interrupts {
			require.NoError(t, disconnect(i))
		}
		t.Logf("disconnected in %v", time.Since(begin))
	}, vfiotest.MoreDevices())
}
