package vfio_test

import (
	"encoding/binary"
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/irqbridge/irqbridge/pci"
	"github.com/irqbridge/irqbridge/vfio"
	"github.com/irqbridge/irqbridge/vfio/vfiotest"
)

// signal adds one to an eventfd.
func signal(t *testing.T, fd int) {
	t.Helper()
	_, err := unix.Write(fd, binary.NativeEndian.AppendUint64(nil, 1))
	require.NoError(t, err)
}

// masked tells whether the kernel has the device's line masked, which it does by COMMAND.INTxDisable of the hardware.
func masked(t *testing.T, m *vfiotest.Machine, address pci.Address) bool {
	t.Helper()
	config, err := m.Host.Config(address)
	require.NoError(t, err)
	return pci.Command(binary.LittleEndian.Uint16(config[4:]))&pci.CommandINTxDisable != 0
}

// TestUnmaskOnEventFD serves a line without a system call for it: who serves it signals an eventfd.
func TestUnmaskOnEventFD(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		d := m.Open(t, m.EDU)
		regs, fd, served := bar0(t, d), newEventFD(t), newEventFD(t)
		err := d.UnmaskIRQOnEventFD(vfio.INTx, served)
		require.ErrorIs(t, err, unix.EINVAL)
		require.ErrorContains(t, err, "0000:00:04.0: set the unmask eventfd of INTx: invalid argument: INTx is not enabled")
		require.NoError(t, d.EnableIRQs(vfio.INTx, 0, []int{fd}))
		require.NoError(t, d.UnmaskIRQOnEventFD(vfio.INTx, served))

		for n := range uint32(3) {
			require.NoError(t, regs.Write32(eduRaise, 1<<n))
			assert.Equal(t, uint64(1), wait(t, fd))
			assert.True(t, masked(t, m, m.EDU), "by the kernel, until it is served")
			signal(t, served)
			assert.Equal(t, uint64(1), wait(t, fd), "it is still asserted")
			require.NoError(t, regs.Write32(eduAck, 1<<n))
			signal(t, served)
			eventually(t, func() bool { return !masked(t, m, m.EDU) }, "it is unmasked")
			assert.Zero(t, count(t, served), "the kernel took the count")
			assert.Zero(t, count(t, fd))
		}

		// The calls go on working beside it.
		require.NoError(t, d.MaskIRQ(vfio.INTx))
		require.NoError(t, regs.Write32(eduRaise, 1))
		assert.Zero(t, count(t, fd))
		signal(t, served)
		assert.Equal(t, uint64(1), wait(t, fd), "a mask of the user's is taken off as well")
		require.NoError(t, regs.Write32(eduAck, 1))
		require.NoError(t, d.UnmaskIRQ(vfio.INTx))
		assert.False(t, masked(t, m, m.EDU))

		// One at a time, until it is taken back.
		other := newEventFD(t)
		err = d.UnmaskIRQOnEventFD(vfio.INTx, other)
		require.ErrorIs(t, err, vfio.ErrBusy)
		require.ErrorIs(t, err, unix.EBUSY)
		require.ErrorContains(t, err, "it has one already; take that back first, with descriptor -1")
		require.NoError(t, d.UnmaskIRQOnEventFD(vfio.INTx, -1))
		require.NoError(t, d.UnmaskIRQOnEventFD(vfio.INTx, -1), "nothing to take back is no error")
		require.NoError(t, regs.Write32(eduRaise, 1))
		assert.Equal(t, uint64(1), wait(t, fd))
		signal(t, served)
		assert.Equal(t, uint64(1), count(t, served), "nobody takes it")
		assert.True(t, masked(t, m, m.EDU))
		signal(t, other)
		require.NoError(t, d.UnmaskIRQOnEventFD(vfio.INTx, other))
		assert.Equal(t, uint64(1), wait(t, fd), "one that was signalled before unmasks at once")
		require.NoError(t, regs.Write32(eduAck, 1))

		// It ends with the index.
		require.NoError(t, d.DisableIRQs(vfio.INTx))
		require.NoError(t, d.EnableIRQs(vfio.INTx, 0, []int{fd}))
		require.NoError(t, d.UnmaskIRQOnEventFD(vfio.INTx, served))
	})
}

func TestUnmaskOnEventFDRefusals(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		d := m.Open(t, m.EDU)
		fd := newEventFD(t)
		require.NoError(t, d.EnableIRQs(vfio.INTx, 0, []int{fd}))
		err := d.UnmaskIRQOnEventFD(vfio.INTx, 1<<20)
		require.ErrorIs(t, err, unix.EBADF)
		require.ErrorContains(t, err, "a descriptor is not open")
		require.ErrorIs(t, d.UnmaskIRQOnEventFD(vfio.INTx, 0), unix.EINVAL, "standard input is no eventfd")
		for _, index := range []vfio.IRQIndex{vfio.MSI, vfio.MSIX, vfio.Req, 7} {
			require.ErrorIs(t, d.UnmaskIRQOnEventFD(index, fd), vfio.ErrNotSupported)
		}
		require.NoError(t, d.Close())
		require.ErrorIs(t, d.UnmaskIRQOnEventFD(vfio.INTx, fd), os.ErrClosed)
	})
}
