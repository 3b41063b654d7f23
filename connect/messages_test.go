package connect_test

import (
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/irqbridge/irqbridge/connect"
	"github.com/irqbridge/irqbridge/pci"
	"github.com/irqbridge/irqbridge/vfio/vfiotest"
)

// One routine serves every kind of interrupt and gets the number of what arrived.
func TestConnectMessages(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		for _, c := range []struct {
			address pci.Address
			policy  connect.Policy
			n       int
		}{
			{m.E1000E, connect.Policy{}, 5},
			{m.E1000E, connect.Policy{Affinity: connect.SpreadMessagesAcrossAllProcessors}, 5},
			{m.EDU, connect.Policy{}, 1},
			{m.EDU, connect.Policy{Kind: pci.KindINTx}, 1},
		} {
			t.Run(fmt.Sprintf("%s %v %s", c.address, c.policy.Kind, c.policy.Affinity), func(t *testing.T) {
				before := takeFootprint(t)
				r := open(t, m, c.address, c.policy)
				var connected atomic.Pointer[connect.Messages]
				served := make(chan int, 8)
				messages, err := r.resources.ConnectMessages(nil, func(message int) bool {
					if !r.serve(message) {
						return false
					}
					if connected.Load() != nil {
						bugCheck(t, connected.Load().Disconnect(), connect.DriverViolation, 1)
					}
					tell(served, message)
					return true
				})
				require.NoError(t, err)
				connected.Store(messages)
				require.Len(t, messages.Interrupts(), c.n)
				for n, i := range messages.Interrupts() {
					assert.Equal(t, n, i.Message())
					r.raise(n)
					for received(t, served) != n { // 4 is also the link's
					}
				}
				r.quiet()
				require.NoError(t, messages.Disconnect())
				assert.False(t, r.enabled())
				require.NoError(t, messages.Disconnect(), "a second time")
				r.close()
				before.requireNothingLeft(t)
			})
		}
	})
}

// With a common lock the routine is in one message at a time, whatever threads serve them, and any of them keeps it out.
func TestConnectMessagesWithALock(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		r := open(t, m, m.E1000E, connect.Policy{Affinity: connect.SpreadMessagesAcrossAllProcessors})
		var lock connect.SpinLock
		var inside, overlaps, calls atomic.Int64
		enter := func() {
			if inside.Add(1) > 1 {
				overlaps.Add(1)
			}
			calls.Add(1)
			inside.Add(-1)
		}
		messages, err := r.resources.ConnectMessages(&lock, func(int) bool { enter(); return true })
		require.NoError(t, err)
		for range 200 {
			for n, i := range messages.Interrupts() {
				r.trigger(n)
				i.Synchronize(func() bool { enter(); return true })
			}
		}
		eventually(t, "some were served", func() bool { return calls.Load() > 1000 })
		require.NoError(t, messages.Disconnect())
		assert.Zero(t, overlaps.Load())
	})
}

// When one message cannot be connected, none is.
func TestConnectMessagesIsAllOrNothing(t *testing.T) {
	m := vfiotest.FakeMachine(t)
	before := takeFootprint(t)
	r := open(t, m, m.E1000E, connect.Policy{})
	m.Fake.Fail("DeviceSetIRQs", unix.EIO, 1)
	messages, err := r.resources.ConnectMessages(nil, func(int) bool { return true })
	require.ErrorIs(t, err, unix.EIO)
	require.ErrorIs(t, err, connect.StatusUnsuccessful)
	assert.Nil(t, messages)
	assert.False(t, r.enabled())
	messages, err = r.resources.ConnectMessages(nil, func(int) bool { return true })
	require.NoError(t, err)
	_, err = r.resources.ConnectMessages(nil, func(int) bool { return true })
	require.ErrorIs(t, err, connect.StatusInvalidParameter, "they are exclusive")
	r.trigger(0)
	eventually(t, "those of before go on", func() bool { return messages.Interrupts()[0].Stats().Calls == 1 })
	r.close()
	require.NoError(t, messages.Disconnect(), "closing the device has done it")
	before.requireNothingLeft(t)
}

func TestConnectMessagesRefuses(t *testing.T) {
	m := vfiotest.FakeMachine(t)
	none, err := connect.Assign(m.Open(t, m.TestDev), connect.Policy{})
	require.NoError(t, err)
	routine := func(int) bool { return true }
	_, err = none.ConnectMessages(nil, routine)
	require.ErrorIs(t, err, connect.StatusNotFound)
	_, err = (*connect.Resources)(nil).ConnectMessages(nil, routine)
	require.ErrorIs(t, err, connect.StatusInvalidParameter)
	r := edu(t, m, pci.KindMSI)
	_, err = r.resources.ConnectMessages(nil, nil)
	require.ErrorIs(t, err, connect.StatusInvalidParameter)
	require.NoError(t, r.resources.Release())
	_, err = r.resources.ConnectMessages(nil, routine)
	require.ErrorIs(t, err, connect.StatusNotFound)
}
