package vfio_test

import (
	"os"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/irqbridge/irqbridge/pci"
	"github.com/irqbridge/irqbridge/vfio"
	"github.com/irqbridge/irqbridge/vfio/vfiotest"
)

func TestConfig(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		d := m.Open(t, m.E1000E)
		config, err := d.Config()
		require.NoError(t, err)
		assert.Len(t, config, 4096, "PCI Express")
		assert.Equal(t, []byte{0x86, 0x80, 0xd3, 0x10}, config[:4])

		p := make([]byte, 3)
		require.NoError(t, d.ReadConfig(p, 1))
		assert.Equal(t, config[1:4], p)
		require.NoError(t, d.ReadConfig(nil, 4096))
		for _, bad := range []struct{ off, n int }{{-1, 1}, {4096, 1}, {4095, 2}, {0, 4097}, {int(^uint(0) >> 1), 1}} {
			require.ErrorIs(t, d.ReadConfig(make([]byte, bad.n), bad.off), unix.EINVAL)
			require.ErrorIs(t, d.WriteConfig(make([]byte, bad.n), bad.off), unix.EINVAL)
		}
		// The interrupt line register is storage.
		require.NoError(t, d.WriteConfig([]byte{0x5a}, 0x3c))
		require.NoError(t, d.ReadConfig(p[:1], 0x3c))
		assert.Equal(t, byte(0x5a), p[0])
	})
}

// short is the fake with reads that stop after two bytes, and then at all.
type short struct {
	*vfiotest.Kernel
	left int
}

func (s *short) Pread(fd int, p []byte, offset int64) (int, error) {
	n := min(len(p), 2, s.left)
	s.left -= n
	return s.Kernel.Pread(fd, p[:n], offset)
}

func TestConfigReadInPieces(t *testing.T) {
	m := vfiotest.FakeMachine(t)
	m.Bind(t, m.EDU)
	k := &short{Kernel: m.Fake, left: 1 << 20}
	d, err := vfio.Open(m.EDU, vfio.OnKernel(k))
	require.NoError(t, err)
	t.Cleanup(func() { k.left = 1 << 20; assert.NoError(t, d.Close()) })
	p := make([]byte, 4)
	require.NoError(t, d.ReadConfig(p, 0))
	assert.Equal(t, []byte{0x34, 0x12, 0xe8, 0x11}, p)
	k.left = 2
	require.ErrorContains(t, d.ReadConfig(p, 0), "unexpected EOF")
}

func TestBAR(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		d := m.Open(t, m.EDU)
		b := bar0(t, d)
		assert.Same(t, b, bar0(t, d), "mapped once")
		assert.True(t, b.Mapped())
		assert.Equal(t, uint64(1<<20), b.Size())
		assert.Equal(t, uint32(0x010000ed), read32(t, b, eduID))
		require.NoError(t, b.Write32(eduLiveness, 0x12345678))
		assert.Equal(t, ^uint32(0x12345678), read32(t, b, eduLiveness))

		for _, off := range []uint64{b.Size(), b.Size() - 2, ^uint64(0), ^uint64(0) - 3, 2} {
			_, err := b.Read32(off)
			require.ErrorIs(t, err, unix.EINVAL, "0x%x", off)
			require.ErrorIs(t, b.Write32(off, 0), unix.EINVAL, "0x%x", off)
		}
		_, err := b.Read16(1)
		require.ErrorIs(t, err, unix.EINVAL)
		_, err = b.Read64(4)
		require.ErrorIs(t, err, unix.EINVAL)
		for _, i := range []int{-1, 1, 6} {
			_, err := d.BAR(i)
			require.ErrorIs(t, err, vfio.ErrNotFound)
		}
	})
}

// TestIOBAR goes through the I/O BAR of e1000e (82574 data sheet, 10.2.1: IOADDR at 0, IODATA at 4): there the kernel maps
// nothing.
func TestIOBAR(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		d := m.Open(t, m.E1000E)
		assert.NotZero(t, command(t, d)&uint8(pci.CommandIO))
		b, err := d.BAR(2)
		require.NoError(t, err)
		assert.False(t, b.Mapped())
		assert.Equal(t, uint64(32), b.Size())
		require.NoError(t, b.Write32(0, 0x00d8))
		assert.Equal(t, uint32(0x00d8), read32(t, b, 0))
	})
}

// TestBARWithoutMemoryDecoding: through a mapping that is SIGBUS, and must not end the program.
func TestBARWithoutMemoryDecoding(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		d := m.Open(t, m.EDU)
		b := bar0(t, d)
		before := make([]byte, 2)
		require.NoError(t, d.ReadConfig(before, 4))
		require.NoError(t, d.WriteConfig([]byte{before[0] &^ byte(pci.CommandMemory), before[1]}, 4))
		_, err := b.Read32(eduID)
		require.ErrorIs(t, err, unix.EFAULT)
		require.ErrorContains(t, err, "memory decoding is off")
		require.ErrorIs(t, b.Write32(eduLiveness, 1), unix.EFAULT)
		require.NoError(t, d.WriteConfig(before, 4))
		assert.Equal(t, uint32(0x010000ed), read32(t, b, eduID))
	})
}

// unmapped is the fake with BARs that cannot be mapped.
type unmapped struct{ *vfiotest.Kernel }

func (u unmapped) DeviceGetRegionInfo(device int, arg []byte) error {
	const flags, mmap = 4, 4 // VFIO_REGION_INFO_FLAG_MMAP, in a little-endian field
	err := u.Kernel.DeviceGetRegionInfo(device, arg)
	arg[flags] &^= mmap
	return err
}

func TestBARThroughTheKernel(t *testing.T) {
	m := vfiotest.FakeMachine(t)
	m.Bind(t, m.EDU)
	d, err := vfio.Open(m.EDU, vfio.OnKernel(unmapped{m.Fake}))
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, d.Close()) })
	b := bar0(t, d)
	assert.False(t, b.Mapped())
	assert.Equal(t, uint32(0x010000ed), read32(t, b, eduID))
	require.NoError(t, b.Write32(eduLiveness, 1))
	assert.Equal(t, ^uint32(1), read32(t, b, eduLiveness))
	_, err = b.Read32(b.Size())
	require.ErrorIs(t, err, unix.EINVAL)

	m.Fake.Fail("Pread", unix.EIO, 1)
	_, err = b.Read32(eduID)
	require.ErrorIs(t, err, unix.EIO)
	require.ErrorContains(t, err, "does not answer")
	m.Fake.Fail("Pwrite", unix.EIO, 1)
	require.ErrorIs(t, b.Write32(eduID, 0), unix.EIO)
}

func TestBARMappingFails(t *testing.T) {
	m := vfiotest.FakeMachine(t)
	d := m.Open(t, m.EDU)
	m.Fake.Fail("Mmap", unix.ENOMEM, 1)
	_, err := d.BAR(0)
	require.ErrorIs(t, err, unix.ENOMEM)
	assert.True(t, bar0(t, d).Mapped(), "the next attempt")
}

func TestReset(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		edu := m.Open(t, m.EDU)
		err := edu.Reset()
		require.ErrorIs(t, err, vfio.ErrNotSupported)
		require.ErrorIs(t, err, unix.EINVAL)

		d := m.Open(t, m.E1000E)
		if !d.CanReset() {
			t.Skip("e1000e cannot be reset here")
		}
		fds := newEventFDs(t, 5)
		require.NoError(t, d.EnableIRQs(vfio.MSIX, 0, fds))
		regs := bar0(t, d)
		require.NoError(t, d.Reset())
		assert.Equal(t, uint8(pci.CommandMemory|pci.CommandBusMaster), command(t, d)&0x06)
		_, err = regs.Read32(8)
		require.NoError(t, err, "the mapping is still good")
		require.NoError(t, d.TriggerIRQ(vfio.MSIX, 4, 1))
		assert.Equal(t, uint64(1), wait(t, fds[4]), "eventfds survive")
	})
}

func TestClose(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		m.Bind(t, m.EDU)
		before := openFiles(t)
		d, err := vfio.Open(m.EDU, m.Options()...)
		require.NoError(t, err)
		b := bar0(t, d)
		fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
		require.NoError(t, err)
		require.NoError(t, d.EnableIRQs(vfio.MSI, 0, []int{fd}))

		var order []string
		d.AtClose(func() { order = append(order, "first") })
		cancel := d.AtClose(func() { order = append(order, "taken back") })
		d.AtClose(func() {
			order = append(order, "last")
			require.NoError(t, d.DisableIRQs(vfio.MSI), "the device still works")
			assert.Equal(t, uint32(0x010000ed), read32(t, b, eduID))
		})
		cancel()
		require.NoError(t, d.Close())
		require.NoError(t, d.Close(), "a second time")
		assert.Equal(t, []string{"last", "first"}, order)
		d.AtClose(func() { order = append(order, "late") })()
		assert.Equal(t, []string{"last", "first", "late"}, order)
		require.NoError(t, unix.Close(fd))
		assert.Equal(t, before, openFiles(t))

		_, readErr := b.Read32(0)
		_, configErr := d.Config()
		_, functionErr := d.Function()
		_, barErr := d.BAR(0)
		for what, err := range map[string]error{
			"Read32": readErr, "Write32": b.Write32(0, 0), "Config": configErr, "Function": functionErr, "BAR": barErr,
			"WriteConfig": d.WriteConfig([]byte{0}, 4), "EnableIRQs": d.EnableIRQs(vfio.MSI, 0, []int{-1}),
			"DisableIRQs": d.DisableIRQs(vfio.MSI), "TriggerIRQ": d.TriggerIRQ(vfio.MSI, 0, 1),
			"MaskIRQ": d.MaskIRQ(vfio.INTx), "UnmaskIRQ": d.UnmaskIRQ(vfio.INTx), "SetBusMaster": d.SetBusMaster(true),
		} {
			require.ErrorIs(t, err, os.ErrClosed, what)
		}
		assert.False(t, b.Mapped())
		assert.Equal(t, uint64(1<<20), b.Size())
		assert.Equal(t, m.EDU, d.Address())
		_, _, enabled := d.EnabledIRQs()
		assert.False(t, enabled)
	})
}

// TestCloseGoesOn has each call of Close fail: what comes after is done all the same.
func TestCloseGoesOn(t *testing.T) {
	for call, errno := range map[string]unix.Errno{"Pread": unix.EIO, "Pwrite": unix.EIO, "DeviceSetIRQs": unix.EIO} {
		t.Run(call, func(t *testing.T) {
			m := vfiotest.FakeMachine(t)
			m.Bind(t, m.EDU)
			fd := newEventFD(t)
			before := openFiles(t)
			d, err := vfio.Open(m.EDU, m.Options()...)
			require.NoError(t, err)
			bar0(t, d)
			require.NoError(t, d.EnableIRQs(vfio.MSI, 0, []int{fd}))
			m.Fake.Fail(call, errno, 1)
			require.ErrorIs(t, d.Close(), errno)
			_, _, enabled := d.EnabledIRQs()
			assert.False(t, enabled, "nothing outlives the descriptor")
			require.NoError(t, d.Close(), "said once")
			assert.Equal(t, before, openFiles(t))
		})
	}
}

// TestCloseWhileInUse has every method race with Close. Each either does its work or finds the device closed; the race
// detector and a descriptor or address that is reused too early would show what is wrong.
func TestCloseWhileInUse(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		m.Bind(t, m.EDU)
		for range 5 {
			d, err := vfio.Open(m.EDU, m.Options()...)
			require.NoError(t, err)
			fd := newEventFD(t)
			var wg sync.WaitGroup
			started := make(chan struct{}, 8)
			loop := func(f func() error) {
				wg.Go(func() {
					for i := 0; ; i++ {
						if err := f(); err != nil {
							assert.ErrorIs(t, err, os.ErrClosed)
							return
						}
						if i == 0 {
							started <- struct{}{}
						}
					}
				})
			}
			loop(func() error { _, err := d.Config(); return err })
			loop(func() error {
				b, err := d.BAR(0)
				if err != nil {
					return err
				}
				if _, err := b.Read32(eduID); err != nil {
					return err
				}
				return b.Write32(eduLiveness, 1)
			})
			loop(func() error {
				if err := d.EnableIRQs(vfio.INTx, 0, []int{fd}); err != nil {
					return err
				}
				if err := d.UnmaskIRQ(vfio.INTx); err != nil {
					return err
				}
				return d.DisableIRQs(vfio.INTx)
			})
			loop(func() error { d.EnabledIRQs(); d.Regions(); return d.SetBusMaster(false) })
			for range 4 {
				<-started
			}
			wg.Go(func() { assert.NoError(t, d.Close()) })
			require.NoError(t, d.Close())
			wg.Wait()
		}
	})
}
