package vfio_test

import (
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/irqbridge/irqbridge/vfio"
	"github.com/irqbridge/irqbridge/vfio/vfiotest"
)

// A virtual function wants the token of its physical function, and the errors say which of the two is meant.
func TestVFToken(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		if _, err := m.Host.Device(m.PF); err != nil {
			t.Skip("it takes --devices more (IRQBRIDGE_VM_DEVICES=more)")
		}
		token, other := vfio.VFToken{1}, vfio.VFToken{2}
		pf := m.Open(t, m.PF)
		address := m.VirtualFunctions(t, 1)[0]
		require.NoError(t, pf.SetVFToken(token))
		have, err := pf.Features()
		require.NoError(t, err)
		assert.Contains(t, have, vfio.FeatureInfo{Feature: vfio.FeatureVFToken, Set: true})

		_, err = vfio.Open(address, m.Options()...)
		require.ErrorIs(t, err, unix.EACCES)
		require.ErrorIs(t, err, os.ErrPermission)
		require.ErrorContains(t, err, "the device wants the VF token that the program with its physical function, 0000:02:00.0, has set")
		_, err = vfio.Open(address, append(m.Options(), vfio.WithVFToken(other))...)
		require.ErrorIs(t, err, unix.EACCES)
		require.ErrorContains(t, err, "the VF token is not the one that the program with its physical function, 0000:02:00.0, has set")
		vf, err := vfio.Open(address, append(m.Options(), vfio.WithVFToken(token))...)
		require.NoError(t, err)
		info, err := vf.IRQ(vfio.INTx)
		require.NoError(t, err)
		assert.Zero(t, info.Count, "virtual functions have no line")
		fd := newEventFD(t)
		require.NoError(t, vf.EnableIRQs(vfio.MSIX, 0, []int{fd}))
		require.NoError(t, vf.TriggerIRQ(vfio.MSIX, 0, 1))
		assert.Equal(t, uint64(1), wait(t, fd))

		err = pf.HotReset(vf)
		require.ErrorIs(t, err, unix.EINVAL)
		require.ErrorContains(t, err, "is a virtual function of 0000:02:00.0, which can be reset only alone")
		require.NoError(t, vf.Reset())
		require.NoError(t, vf.TriggerIRQ(vfio.MSIX, 0, 1))
		assert.Equal(t, uint64(1), wait(t, fd))

		require.NoError(t, pf.Close())
		_, err = vfio.Open(m.PF, m.Options()...)
		require.ErrorIs(t, err, unix.EACCES)
		require.ErrorContains(t, err, "the device wants the VF token that its virtual functions, which are open, were opened with")
		pf, err = vfio.Open(m.PF, append(m.Options(), vfio.WithVFToken(token))...)
		require.NoError(t, err)
		require.NoError(t, vf.Close())
		require.NoError(t, pf.Close())
	})
}

// Without virtual functions, the bus of a physical function can be reset.
func TestHotResetOfPhysicalFunction(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		if _, err := m.Host.Device(m.PF); err != nil {
			t.Skip("it takes --devices more (IRQBRIDGE_VM_DEVICES=more)")
		}
		d := m.Open(t, m.PF)
		fd := newEventFD(t)
		require.NoError(t, d.EnableIRQs(vfio.MSIX, 0, []int{fd}))
		functions, err := d.HotResetInfo()
		require.NoError(t, err)
		assert.Len(t, functions, 1)
		err = d.HotReset()
		require.ErrorIs(t, err, unix.ENOTTY, "QEMU's root port does not say that its link is up again")
		require.ErrorContains(t, err, "the reset was made")
		require.NoError(t, d.TriggerIRQ(vfio.MSIX, 0, 1))
		assert.Equal(t, uint64(1), wait(t, fd))
	}, vfiotest.MoreDevices())
}
