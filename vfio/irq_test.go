package vfio_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/irqbridge/irqbridge/pci"
	"github.com/irqbridge/irqbridge/vfio"
	"github.com/irqbridge/irqbridge/vfio/vfiotest"
)

func TestINTx(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		d := m.Open(t, m.EDU)
		regs := bar0(t, d)
		fd := newEventFD(t)
		require.NoError(t, d.EnableIRQs(vfio.INTx, 0, []int{fd}))
		index, vectors, enabled := d.EnabledIRQs()
		assert.True(t, enabled)
		assert.Equal(t, vfio.INTx, index)
		assert.Equal(t, 1, vectors)
		assert.Zero(t, command(t, d)&uint8(pci.CommandBusMaster), "a line needs no bus mastering")

		require.NoError(t, regs.Write32(eduRaise, 1))
		assert.Equal(t, uint64(1), wait(t, fd))
		assert.Equal(t, uint32(1), read32(t, regs, eduStatus))
		// Unmasked with the cause still there, it comes again; masked by the kernel meanwhile, it does not.
		require.NoError(t, d.UnmaskIRQ(vfio.INTx))
		assert.Equal(t, uint64(1), wait(t, fd))
		require.NoError(t, regs.Write32(eduAck, 1))
		require.NoError(t, d.UnmaskIRQ(vfio.INTx))
		require.NoError(t, d.MaskIRQ(vfio.INTx))
		require.NoError(t, regs.Write32(eduRaise, 2))
		assert.Equal(t, uint32(2), read32(t, regs, eduStatus))
		assert.Zero(t, count(t, fd), "masked")
		require.NoError(t, d.UnmaskIRQ(vfio.INTx))
		assert.Equal(t, uint64(1), wait(t, fd), "held back until unmasked")
		require.NoError(t, regs.Write32(eduAck, 2))
		require.NoError(t, d.UnmaskIRQ(vfio.INTx))

		require.NoError(t, d.TriggerIRQ(vfio.INTx, 0, 1))
		assert.Equal(t, uint64(1), wait(t, fd), "loopback")
		require.NoError(t, d.DisableIRQs(vfio.INTx))
		require.NoError(t, d.DisableIRQs(vfio.INTx), "nothing to disable is no error")
		_, _, enabled = d.EnabledIRQs()
		assert.False(t, enabled)
	})
}

func TestMSI(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		d := m.Open(t, m.EDU)
		regs := bar0(t, d)
		fd := newEventFD(t)
		require.NoError(t, d.EnableIRQs(vfio.MSI, 0, []int{fd}))
		assert.NotZero(t, command(t, d)&uint8(pci.CommandBusMaster), "messages need bus mastering")
		for range 3 {
			require.NoError(t, regs.Write32(eduRaise, 1))
			assert.Equal(t, uint64(1), wait(t, fd))
			require.NoError(t, regs.Write32(eduAck, 1))
		}
		// The other eventfd takes over.
		second := newEventFD(t)
		require.NoError(t, d.EnableIRQs(vfio.MSI, 0, []int{second}))
		require.NoError(t, regs.Write32(eduRaise, 1))
		assert.Equal(t, uint64(1), wait(t, second))
		assert.Zero(t, count(t, fd))
		require.NoError(t, regs.Write32(eduAck, 1))
	})
}

func TestMSIX(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		d := m.Open(t, m.E1000E)
		fds := newEventFDs(t, 5)
		require.NoError(t, d.EnableIRQs(vfio.MSIX, 0, fds))
		_, vectors, _ := d.EnabledIRQs()
		assert.Equal(t, 5, vectors)
		require.NoError(t, d.TriggerIRQ(vfio.MSIX, 1, 3))
		for i, fd := range fds {
			if i >= 1 && i <= 3 {
				assert.Equal(t, uint64(1), wait(t, fd), i)
			} else {
				assert.Zero(t, count(t, fd), i)
			}
		}
		// The device itself: cause "other" on vector 4 (82574 data sheet, 10.2.4: ICS 0xc8, IMS 0xd0, IVAR 0xe4).
		regs := bar0(t, d)
		require.NoError(t, regs.Write32(0xe4, 1<<19|4<<16))
		require.NoError(t, regs.Write32(0xd0, 1<<24))
		require.NoError(t, regs.Write32(0xc8, 1<<24))
		assert.Equal(t, uint64(1), wait(t, fds[4]))
		// QEMU 7.2 ends with a failed assertion when MSI-X is disabled while e1000e throttles an interrupt, which it does for
		// 128 µs after each. That timer and the one of this sleep are in one queue, so the order is certain.
		time.Sleep(2 * time.Millisecond)
	})
}

func TestOneKindAtATime(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		d := m.Open(t, m.E1000E, vfio.Unwatched())
		fd := newEventFD(t)
		require.NoError(t, d.EnableIRQs(vfio.MSI, 0, []int{fd}))
		for _, index := range []vfio.IRQIndex{vfio.INTx, vfio.MSIX} {
			err := d.EnableIRQs(index, 0, []int{fd})
			require.ErrorIs(t, err, vfio.ErrBusy)
			require.ErrorIs(t, err, unix.EINVAL)
			require.ErrorContains(t, err, "disable MSI first")
		}
		require.NoError(t, d.EnableIRQs(vfio.Req, 0, []int{fd}), "REQ stands beside them")
		require.NoError(t, d.EnableIRQs(vfio.Err, 0, []int{fd}), "so does ERR")
		require.NoError(t, d.TriggerIRQ(vfio.Req, 0, 1))
		assert.Equal(t, uint64(1), wait(t, fd))
		require.NoError(t, d.EnableIRQs(vfio.Err, 0, []int{-1}))
		require.NoError(t, d.DisableIRQs(vfio.Err), "the kernel has it disabled since -1")
		require.NoError(t, d.DisableIRQs(vfio.Req))
		require.NoError(t, d.DisableIRQs(vfio.MSI))
		require.NoError(t, d.EnableIRQs(vfio.MSIX, 0, []int{fd}))
		require.NoError(t, d.DisableIRQs(vfio.MSIX))
		require.NoError(t, d.EnableIRQs(vfio.INTx, 0, []int{fd}))
	})
}

func TestGrowth(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		d := m.Open(t, m.E1000E)
		fds := newEventFDs(t, 5)
		require.NoError(t, d.EnableIRQs(vfio.MSIX, 0, fds[:2]))
		info, err := d.IRQ(vfio.MSIX)
		require.NoError(t, err)
		err = d.EnableIRQs(vfio.MSIX, 3, fds[3:4])
		if info.NoResize {
			require.ErrorIs(t, err, vfio.ErrNotSupported)
			require.ErrorContains(t, err, "descriptor -1")
			_, vectors, _ := d.EnabledIRQs()
			assert.Equal(t, 2, vectors)
			require.NoError(t, d.DisableIRQs(vfio.MSIX))
			// The way on such a kernel: name all at first, fill them later.
			require.NoError(t, d.EnableIRQs(vfio.MSIX, 0, []int{fds[0], fds[1], -1, -1, -1}))
			require.NoError(t, d.EnableIRQs(vfio.MSIX, 3, fds[3:4]))
		} else {
			require.NoError(t, err)
			_, vectors, _ := d.EnabledIRQs()
			assert.Equal(t, 4, vectors)
		}
		require.NoError(t, d.TriggerIRQ(vfio.MSIX, 3, 1))
		assert.Equal(t, uint64(1), wait(t, fds[3]))
		err = d.TriggerIRQ(vfio.MSIX, 1, 2)
		require.ErrorContains(t, err, "vector 2 has no eventfd", "which the kernel would let pass")
		assert.Zero(t, count(t, fds[1]), "refused as a whole")
	})
}

// TestFailedBlock holds the kernel's rule: what a failing call named is without an eventfd afterwards.
func TestFailedBlock(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		d := m.Open(t, m.E1000E)
		fds := newEventFDs(t, 4)
		require.NoError(t, d.EnableIRQs(vfio.MSIX, 0, fds))

		closed := 1 << 20
		err := d.EnableIRQs(vfio.MSIX, 0, []int{fds[0], closed})
		require.ErrorIs(t, err, unix.EBADF)
		for v := range 2 {
			require.ErrorContains(t, d.TriggerIRQ(vfio.MSIX, v, 1), "has no eventfd", v)
		}
		require.NoError(t, d.TriggerIRQ(vfio.MSIX, 2, 2))
		assert.Equal(t, uint64(1), wait(t, fds[2]), "the others keep theirs")
		assert.Equal(t, uint64(1), wait(t, fds[3]))
		require.NoError(t, d.EnableIRQs(vfio.MSIX, 0, fds[:2]))
		require.NoError(t, d.TriggerIRQ(vfio.MSIX, 0, 1))
		assert.Equal(t, uint64(1), wait(t, fds[0]), "armed anew")
		_, vectors, _ := d.EnabledIRQs()
		assert.Equal(t, 4, vectors, "a call that names some leaves the others")
		require.NoError(t, d.TriggerIRQ(vfio.MSIX, 3, 1))
		assert.Equal(t, uint64(1), wait(t, fds[3]))
		require.NoError(t, d.DisableIRQs(vfio.MSIX))

		err = d.EnableIRQs(vfio.MSIX, 0, []int{fds[0], closed})
		require.ErrorIs(t, err, unix.EBADF)
		_, _, enabled := d.EnabledIRQs()
		assert.False(t, enabled, "a first call that fails leaves the index disabled")
		require.NoError(t, d.EnableIRQs(vfio.INTx, 0, fds[:1]))
	})
}

func TestFailedFirstEnableLeavesBusMasteringAsItWas(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		d := m.Open(t, m.E1000E)
		bad := []int{1 << 20}
		require.ErrorIs(t, d.EnableIRQs(vfio.MSI, 0, bad), unix.EBADF)
		assert.Zero(t, command(t, d)&uint8(pci.CommandBusMaster))
		require.NoError(t, d.SetBusMaster(true))
		require.ErrorIs(t, d.EnableIRQs(vfio.MSI, 0, bad), unix.EBADF)
		assert.NotZero(t, command(t, d)&uint8(pci.CommandBusMaster))
		require.NoError(t, d.SetBusMaster(false))
		assert.Zero(t, command(t, d)&uint8(pci.CommandBusMaster))
	})
}

// Who takes a trigger away gets bus mastering neither switched on nor off: a driver has ended its device's DMA before.
func TestTakingATriggerAwayLeavesBusMasteringOff(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		d := m.Open(t, m.E1000E)
		require.NoError(t, d.EnableIRQs(vfio.MSIX, 0, newEventFDs(t, 2)))
		require.NoError(t, d.EnableIRQs(vfio.MSIX, 1, []int{-1}))
		assert.NotZero(t, command(t, d)&uint8(pci.CommandBusMaster))
		require.NoError(t, d.SetBusMaster(false))
		require.NoError(t, d.EnableIRQs(vfio.MSIX, 0, []int{-1}))
		assert.Zero(t, command(t, d)&uint8(pci.CommandBusMaster))
		require.NoError(t, d.EnableIRQs(vfio.MSIX, 0, newEventFDs(t, 1)))
		assert.NotZero(t, command(t, d)&uint8(pci.CommandBusMaster))
	})
}

func TestFewerVectors(t *testing.T) {
	m := vfiotest.FakeMachine(t, vfiotest.VectorLimit(2))
	d := m.Open(t, m.E1000E)
	fds := newEventFDs(t, 5)
	err := d.EnableIRQs(vfio.MSIX, 0, fds)
	var fewer *vfio.FewerVectorsError
	require.ErrorAs(t, err, &fewer)
	assert.Equal(t, vfio.FewerVectorsError{Requested: 5, Available: 2}, *fewer)
	_, _, enabled := d.EnabledIRQs()
	assert.False(t, enabled)
	assert.Zero(t, command(t, d)&uint8(pci.CommandBusMaster))
	require.NoError(t, d.EnableIRQs(vfio.MSIX, 0, fds[:2]), "with the number that was named")
}

func TestEnableRefusals(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		d := m.Open(t, m.EDU)
		fd := newEventFD(t)
		require.ErrorIs(t, d.EnableIRQs(vfio.MSIX, 0, []int{fd}), vfio.ErrNotSupported)
		require.ErrorIs(t, d.EnableIRQs(7, 0, []int{fd}), vfio.ErrNotFound)
		require.ErrorIs(t, d.DisableIRQs(7), vfio.ErrNotFound)
		require.ErrorIs(t, d.TriggerIRQ(7, 0, 1), vfio.ErrNotFound)
		for _, err := range []error{
			d.EnableIRQs(vfio.MSI, 0, nil),
			d.EnableIRQs(vfio.MSI, 1, []int{fd}),
			d.EnableIRQs(vfio.MSI, -1, []int{fd}),
			d.EnableIRQs(vfio.MSI, 0, []int{fd, fd}),
			d.EnableIRQs(vfio.MSIX, 0, []int{fd}),
			d.TriggerIRQ(vfio.MSI, 0, 1),
			d.UnmaskIRQ(vfio.INTx),
			d.MaskIRQ(vfio.INTx),
		} {
			require.ErrorIs(t, err, unix.EINVAL)
			var op *vfio.OpError
			require.ErrorAs(t, err, &op)
			assert.NotEmpty(t, op.Cause)
			assert.NotEmpty(t, op.Remedy, op.Cause)
		}
		require.NoError(t, d.EnableIRQs(vfio.MSI, 0, []int{fd}))
		for _, bad := range [][2]int{{-1, 1}, {0, 0}, {0, 2}, {1, 1}} {
			require.ErrorIs(t, d.TriggerIRQ(vfio.MSI, bad[0], bad[1]), unix.EINVAL)
		}
		require.ErrorIs(t, d.UnmaskIRQ(vfio.MSI), vfio.ErrNotSupported)
		require.ErrorIs(t, d.MaskIRQ(vfio.MSIX), vfio.ErrNotSupported)
		err := d.EnableIRQs(vfio.MSI, 0, []int{0})
		require.ErrorIs(t, err, unix.EINVAL, "standard input is no eventfd")
		require.ErrorContains(t, err, "not an eventfd")
	})
}

// TestKernelsReasons has the kernel refuse what passed all checks.
func TestKernelsReasons(t *testing.T) {
	m := vfiotest.FakeMachine(t)
	d := m.Open(t, m.EDU)
	fd := []int{newEventFD(t)}
	for errno, says := range map[unix.Errno]string{
		unix.EBUSY:  "shared with another device",
		unix.ENOSPC: "out of interrupt vectors",
		unix.EBADF:  "not open",
	} {
		m.Fake.Fail("DeviceSetIRQs", errno, 1)
		err := d.EnableIRQs(vfio.INTx, 0, fd)
		require.ErrorIs(t, err, errno)
		require.ErrorContains(t, err, says)
	}
	require.NoError(t, d.EnableIRQs(vfio.INTx, 0, fd))
	m.Fake.Fail("DeviceSetIRQs", unix.EIO, 1)
	require.ErrorIs(t, d.TriggerIRQ(vfio.INTx, 0, 1), unix.EIO)
	m.Fake.Fail("DeviceSetIRQs", unix.EIO, 1)
	require.ErrorIs(t, d.DisableIRQs(vfio.INTx), unix.EIO)
	_, _, enabled := d.EnabledIRQs()
	assert.True(t, enabled, "as far as anyone knows")
	m.Fake.Fail("Pread", unix.EIO, 1)
	require.ErrorIs(t, d.SetBusMaster(true), unix.EIO)
}

func TestUnmaskDoesNotAllocate(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		if !m.Real {
			t.Skip("the fake allocates for itself")
		}
		d := m.Open(t, m.EDU)
		require.NoError(t, d.EnableIRQs(vfio.INTx, 0, []int{newEventFD(t)}))
		assert.Zero(t, testing.AllocsPerRun(100, func() { _ = d.UnmaskIRQ(vfio.INTx) }))
	})
}
