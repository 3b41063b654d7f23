package vfio_test

import (
	"os"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/irqbridge/irqbridge/pci"
	"github.com/irqbridge/irqbridge/vfio"
	"github.com/irqbridge/irqbridge/vfio/vfiotest"
)

// openNeighbours opens the two devices behind the bridge, in one iommufd.
func openNeighbours(t *testing.T, m *vfiotest.Machine) (edu, nic *vfio.Device) {
	t.Helper()
	m.Bind(t, m.BridgeE1000)
	edu = m.Open(t, m.BridgeEDU)
	nic, err := vfio.Open(m.BridgeE1000, append(m.Options(), vfio.WithIOMMUFD(edu.IOMMUFD()))...)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, nic.Close()) })
	return edu, nic
}

func TestHotResetOnTheRootBus(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		d := m.Open(t, m.E1000E)
		_, err := d.HotResetInfo()
		require.ErrorIs(t, err, vfio.ErrNotSupported)
		require.ErrorIs(t, err, unix.ENODEV)
		err = d.HotReset()
		require.ErrorIs(t, err, vfio.ErrNotSupported)
		assert.ErrorContains(t, err, "a root bus")
		assert.ErrorContains(t, err, "with Reset")
	})
}

// A device that cannot be reset alone is reset with its neighbour, which is not open; its interrupts stay enabled.
func TestHotReset(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		before, err := m.Host.Device(m.BridgeE1000)
		require.NoError(t, err)
		m.Bind(t, m.BridgeE1000)
		d := m.Open(t, m.BridgeEDU)
		require.ErrorIs(t, d.Reset(), vfio.ErrNotSupported)
		functions, err := d.HotResetInfo()
		require.NoError(t, err)
		require.Len(t, functions, 2)
		for i, want := range []pci.Address{m.BridgeEDU, m.BridgeE1000} {
			f := functions[i]
			assert.Equal(t, want, f.Address)
			assert.Equal(t, before.Group, f.Group)
			assert.Equal(t, "vfio-pci", f.Driver)
			assert.True(t, f.VFIO)
			assert.Equal(t, m.Backend == vfio.BackendIOMMUFD, f.Owned)
			assert.Equal(t, m.Backend == vfio.BackendIOMMUFD && want == m.BridgeEDU, f.DevID != 0)
			if m.Real {
				assert.Len(t, f.Holders, 1, "this test")
			}
		}
		fd := newEventFD(t)
		regs := bar0(t, d)
		require.NoError(t, d.EnableIRQs(vfio.MSI, 0, []int{fd}))
		require.NoError(t, d.HotReset())
		assert.Equal(t, uint8(pci.CommandMemory|pci.CommandBusMaster), command(t, d)&0x06)
		assert.Equal(t, uint32(0x010000ed), read32(t, regs, eduID), "the mapping is still good")
		require.NoError(t, regs.Write32(eduRaise, 1))
		assert.Equal(t, uint64(1), wait(t, fd))
		require.NoError(t, regs.Write32(eduAck, 1))

		require.NoError(t, d.DisableIRQs(vfio.MSI))
		require.NoError(t, d.EnableIRQs(vfio.INTx, 0, []int{fd}))
		require.NoError(t, d.HotReset())
		require.NoError(t, regs.Write32(eduRaise, 1))
		assert.Equal(t, uint64(1), wait(t, fd))
		require.NoError(t, regs.Write32(eduAck, 1))
		require.NoError(t, d.UnmaskIRQ(vfio.INTx))

		require.NoError(t, d.Close())
		require.ErrorIs(t, d.HotReset(), os.ErrClosed)
		_, err = d.HotResetInfo()
		require.ErrorIs(t, err, os.ErrClosed)
	})
}

// Both devices are open: the neighbour has to be given, and is reset, too.
func TestHotResetOfTwo(t *testing.T) {
	withIOMMUFD(t, func(t *testing.T, m *vfiotest.Machine) {
		edu, nic := openNeighbours(t, m)
		const ims = 0xd0
		regs := bar0(t, nic)
		require.NoError(t, regs.Write32(ims, 4))
		err := edu.HotReset()
		require.ErrorIs(t, err, vfio.ErrBusy)
		assert.ErrorContains(t, err, "0000:01:05.0 of group 6 is open in the same iommufd, and was not given")
		assert.Equal(t, uint32(4), read32(t, regs, ims), "it was left alone")
		require.NoError(t, nic.SetBusMaster(true))
		require.NoError(t, edu.HotReset(nic, edu, nic), "which may be given more than once")
		assert.Zero(t, read32(t, regs, ims))
		assert.Equal(t, uint8(pci.CommandMemory|pci.CommandBusMaster), command(t, nic)&0x06)

		other := m.Open(t, m.EDU)
		err = edu.HotReset(nic, other)
		require.ErrorIs(t, err, unix.EINVAL)
		assert.ErrorContains(t, err, "0000:00:04.0 was given, which it does not reset")

		require.NoError(t, nic.Close())
		require.ErrorIs(t, edu.HotReset(nic), os.ErrClosed)
		require.NoError(t, edu.HotReset())
	})
}

// A neighbour that no VFIO driver has is in the way, and named.
func TestHotResetNeedsAllBound(t *testing.T) {
	for name, driver := range map[string]string{"without a driver": "", "of the host": "pci-stub"} {
		m := vfiotest.FakeMachine(t)
		k := m.Fake
		const e1000 = "0000:01:05.0"
		require.NoError(t, k.WriteFile("/sys/bus/pci/drivers/e1000/unbind", []byte(e1000)), name)
		want := "0000:01:05.0 of group 6 has no driver"
		if driver != "" {
			require.NoError(t, k.WriteFile("/sys/bus/pci/devices/"+e1000+"/driver_override", []byte(driver)))
			require.NoError(t, k.WriteFile("/sys/bus/pci/drivers_probe", []byte(e1000)))
			want = "0000:01:05.0 of group 6 is bound to pci-stub"
		}
		d := m.Open(t, m.BridgeEDU)
		err := d.HotReset()
		require.ErrorIs(t, err, vfio.ErrNotBound)
		require.ErrorIs(t, err, unix.EINVAL)
		assert.ErrorContains(t, err, "it would reset 0000:01:01.0 and 0000:01:05.0: "+want)
		assert.ErrorContains(t, err, "irqbridge bind 0000:01:05.0")
	}
}

func TestHotResetFails(t *testing.T) {
	m := vfiotest.FakeMachine(t)
	m.Bind(t, m.BridgeE1000)
	d := m.Open(t, m.BridgeEDU)
	m.Fake.Fail("DevicePCIHotReset", unix.EBUSY, 1)
	err := d.HotReset()
	require.ErrorIs(t, err, vfio.ErrBusy)
	assert.ErrorContains(t, err, "try again")
	m.Fake.Fail("DeviceGetPCIHotResetInfo", unix.EAGAIN, 2)
	require.NoError(t, d.HotReset(), "a function that comes meanwhile is counted")
	m.Fake.Fail("DeviceGetPCIHotResetInfo", unix.EPERM, 1)
	_, err = d.HotResetInfo()
	require.ErrorIs(t, err, vfio.ErrNoIOMMU)

	// Two devices of one address are of two machines.
	other := vfiotest.FakeMachine(t)
	other.Bind(t, other.BridgeE1000)
	twin := other.Open(t, other.BridgeEDU)
	require.ErrorIs(t, d.HotReset(twin), unix.EINVAL)

	for range 100 {
		m.Fake.Fail("DeviceGetPCIHotResetInfo", unix.EAGAIN, 1)
	}
	err = d.HotReset()
	require.ErrorIs(t, err, unix.EAGAIN, "not for ever")
	require.ErrorIs(t, err, vfio.ErrBusy)
}

// hotResetting calls during while the kernel resets.
type hotResetting struct {
	*vfiotest.Kernel
	during func()
}

func (k *hotResetting) DevicePCIHotReset(fd int, arg []byte) error {
	k.during()
	return k.Kernel.DevicePCIHotReset(fd, arg)
}

// The kernel takes the mappings away during a reset, so nobody gets to the devices meanwhile.
func TestHotResetKeepsAccessesOut(t *testing.T) {
	m := vfiotest.FakeMachine(t, vfiotest.WithIOMMUFD())
	kernel := &hotResetting{Kernel: m.Fake}
	m.Kernel = kernel
	edu, nic := openNeighbours(t, m)
	eduRegs, nicRegs := bar0(t, edu), bar0(t, nic)
	through := make(chan error, 2)
	kernel.during = func() {
		for _, regs := range []*vfio.BAR{eduRegs, nicRegs} {
			go func() {
				_, err := regs.Read32(0)
				through <- err
			}()
		}
		select {
		case <-through:
			t.Error("a register was read during the reset")
		case <-time.After(50 * time.Millisecond):
		}
	}
	require.NoError(t, nic.HotReset(edu))
	for range 2 {
		require.NoError(t, <-through, "they are let in again")
	}
}

// Resets that name the devices in different orders, and accesses meanwhile, do not wait for each other for ever.
func TestHotResetOrder(t *testing.T) {
	m := vfiotest.FakeMachine(t, vfiotest.WithIOMMUFD())
	edu, nic := openNeighbours(t, m)
	regs := bar0(t, nic)
	var all sync.WaitGroup
	for _, f := range []func() error{
		func() error { return edu.HotReset(nic) },
		func() error { return nic.HotReset(edu) },
		func() error { _, err := regs.Read32(0); return err },
		func() error { return edu.SetBusMaster(true) },
	} {
		all.Go(func() {
			for range 200 {
				assert.NoError(t, f())
			}
		})
	}
	all.Wait()
}
