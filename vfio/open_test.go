package vfio_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/irqbridge/irqbridge/pci"
	"github.com/irqbridge/irqbridge/vfio"
	"github.com/irqbridge/irqbridge/vfio/internal/uapi"
	"github.com/irqbridge/irqbridge/vfio/vfiotest"
)

func TestOpen(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		d := m.Open(t, m.EDU)
		assert.Equal(t, m.EDU, d.Address())
		assert.Same(t, m.Host, d.Host())
		assert.GreaterOrEqual(t, d.Group(), 0)
		assert.False(t, d.CanReset(), "edu knows no reset")
		assert.Equal(t, uint8(pci.CommandMemory), command(t, d)&0x06, "memory decoding on, bus mastering off")

		regions := d.Regions()
		require.Len(t, regions, 9)
		for i, r := range regions {
			assert.Equal(t, i, r.Index)
		}
		assert.Equal(t, uint64(1<<20), regions[0].Size)
		assert.True(t, regions[0].Read && regions[0].Write && regions[0].Mmap)
		assert.Zero(t, regions[1].Size)
		assert.Equal(t, uint64(256), regions[7].Size)

		f, err := d.Function()
		require.NoError(t, err)
		assert.Equal(t, uint16(0x1234), f.VendorID)
		assert.Equal(t, uint16(0x11e8), f.DeviceID)
	})
}

func TestIRQInformation(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		counts := func(d *vfio.Device) (n [5]int) {
			for i := range n {
				info, err := d.IRQ(vfio.IRQIndex(i))
				require.NoError(t, err)
				assert.Equal(t, vfio.IRQIndex(i), info.Index)
				n[i] = info.Count
			}
			return n
		}
		edu := m.Open(t, m.EDU)
		errs := 1
		if m.Version == vfiotest.V6_1 {
			errs = 0 // no ERR on conventional PCI
		}
		assert.Equal(t, [5]int{1, 1, 0, errs, 1}, counts(edu))
		e1000e := m.Open(t, m.E1000E)
		assert.Equal(t, [5]int{1, 1, 5, 1, 1}, counts(e1000e))

		line, err := edu.IRQ(vfio.INTx)
		require.NoError(t, err)
		assert.Equal(t, vfio.IRQInfo{Index: vfio.INTx, Count: 1, EventFD: true, Maskable: true, AutoMasked: true}, line)
		msix, err := e1000e.IRQ(vfio.MSIX)
		require.NoError(t, err)
		assert.Equal(t, m.Version == vfiotest.V6_1, msix.NoResize, "MSI-X grows on newer kernels")

		_, err = edu.IRQ(5)
		require.ErrorIs(t, err, vfio.ErrNotFound)
		_, err = edu.IRQ(vfio.NoIndex)
		require.ErrorIs(t, err, vfio.ErrNotFound)
	})
}

func TestOpenTwiceIsBusy(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		d := m.Open(t, m.EDU)
		before := openFiles(t)
		_, err := vfio.Open(m.EDU, m.Options()...)
		require.ErrorIs(t, err, vfio.ErrBusy)
		if m.Backend == vfio.BackendIOMMUFD {
			require.ErrorIs(t, err, unix.EINVAL, "what BIND answers")
		} else {
			require.ErrorIs(t, err, unix.EBUSY)
		}
		if m.Real {
			require.ErrorContains(t, err, fmt.Sprintf("open in process %d", os.Getpid()))
		}
		assert.Equal(t, before, openFiles(t))
		require.NoError(t, d.Close())
		again, err := vfio.Open(m.EDU, m.Options()...)
		require.NoError(t, err, "after Close")
		require.NoError(t, again.Close())
	})
}

func TestOpenUnboundDevice(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		before := openFiles(t)
		_, err := vfio.Open(m.EDU, m.Options()...)
		require.ErrorIs(t, err, vfio.ErrNotBound)
		require.ErrorIs(t, err, unix.ENOENT)
		require.ErrorContains(t, err, "irqbridge bind 0000:00:04.0")

		_, err = vfio.Open(m.E1000E, m.Options()...)
		require.ErrorIs(t, err, vfio.ErrNotBound)
		require.ErrorContains(t, err, "bound to e1000e")

		_, err = vfio.Open(m.Bridge, m.Options()...)
		require.ErrorIs(t, err, vfio.ErrNotBound)
		require.ErrorContains(t, err, "is a bridge")
		assert.Equal(t, before, openFiles(t))
	})
}

func TestOpenAbsentDevice(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		_, err := vfio.Open(pci.Address{Bus: 0x7f, Device: 3}, m.Options()...)
		require.ErrorIs(t, err, vfio.ErrNotFound)
		require.ErrorIs(t, err, fs.ErrNotExist)
		var op *vfio.OpError
		require.ErrorAs(t, err, &op)
		assert.Equal(t, pci.Address{Bus: 0x7f, Device: 3}, op.Address)
		assert.NotEmpty(t, op.Remedy)
	})
}

func TestOpenGroupThatIsNotViable(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		m.Bind(t, m.BridgeEDU)
		before := openFiles(t)
		_, err := vfio.Open(m.BridgeEDU, m.Options()...)
		require.ErrorIs(t, err, vfio.ErrNotViable)
		require.ErrorIs(t, err, unix.EPERM)
		require.ErrorContains(t, err, "0000:01:05.0, bound to e1000", "the member in the way is named")
		assert.NotContains(t, err.Error(), m.Bridge.String(), "a bridge is in nobody's way")
		assert.Equal(t, before, openFiles(t))

		// The member in the way is itself asked for: what it lacks is a VFIO driver.
		_, err = vfio.Open(m.BridgeE1000, m.Options()...)
		require.ErrorIs(t, err, vfio.ErrNotBound)

		m.Bind(t, m.BridgeE1000)
		d, err := vfio.Open(m.BridgeEDU, m.Options()...)
		require.NoError(t, err, "with the whole group on VFIO drivers")
		require.NoError(t, d.Close())
	})
}

// TestOpenUnboundMemberOfAnOpenGroup: the group has its node and is viable, but the device without a driver is not in it.
func TestOpenUnboundMemberOfAnOpenGroup(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		m.Bind(t, m.BridgeE1000)
		before := openFiles(t)
		_, err := vfio.Open(m.BridgeEDU, m.Options()...)
		require.ErrorIs(t, err, vfio.ErrNotBound)
		if m.Backend == vfio.BackendIOMMUFD {
			require.ErrorIs(t, err, unix.ENOENT, "it has no node")
		} else {
			require.ErrorIs(t, err, unix.ENODEV)
		}
		require.ErrorContains(t, err, "irqbridge bind "+m.BridgeEDU.String())
		assert.Equal(t, before, openFiles(t))
	})
}

func TestOpenWithoutIOMMU(t *testing.T) {
	m := vfiotest.FakeMachine(t, vfiotest.WithoutIOMMU())
	_, err := vfio.Open(m.EDU, m.Options()...)
	require.ErrorIs(t, err, vfio.ErrNoIOMMU)
	require.ErrorContains(t, err, "intel_iommu=on")
}

func TestOpenNodeWithoutPermission(t *testing.T) {
	m := vfiotest.FakeMachine(t, vfiotest.NodeMode(unix.EACCES))
	m.Bind(t, m.EDU)
	_, err := vfio.Open(m.EDU, m.Options()...)
	require.ErrorIs(t, err, os.ErrPermission)
	require.ErrorIs(t, err, unix.EACCES)
	require.ErrorContains(t, err, "chown $USER /dev/vfio/")
}

// TestEachStepOfOpenFailing has each system call of Open fail in turn. Every failure keeps its errno, explains itself where
// the errno has a known cause, and leaves nothing open.
func TestEachStepOfOpenFailing(t *testing.T) {
	for _, c := range []struct {
		call  string
		errno unix.Errno
		nth   int
		kind  error
		says  string
	}{
		{"Open", unix.ENOENT, 1, nil, "modprobe vfio-pci"},
		{"Open", unix.EACCES, 1, os.ErrPermission, "/dev/vfio/vfio"},
		{"GetAPIVersion", unix.ENOTTY, 1, nil, "version"},
		{"CheckExtension", unix.ENOTTY, 1, nil, "type 1"},
		{"Open", unix.ENOENT, 2, nil, "udev"},
		{"Open", unix.EPERM, 2, os.ErrPermission, "start it with --device /dev/vfio/1"},
		{"Open", unix.EBUSY, 2, vfio.ErrBusy, "/proc/*/fd"},
		{"GroupSetContainer", unix.EPERM, 1, nil, "container"},
		{"GroupSetContainer", unix.EINVAL, 1, nil, "container"},
		{"SetIOMMU", unix.EPERM, 1, vfio.ErrNoInterruptRemapping, "allow_unsafe_interrupts"},
		{"SetIOMMU", unix.ENODEV, 1, nil, "modprobe vfio_iommu_type1"},
		{"SetIOMMU", unix.EINVAL, 1, nil, "IOMMU"},
		{"GroupGetDeviceFD", unix.EACCES, 1, os.ErrPermission, "VF token"},
		{"GroupGetDeviceFD", unix.EBUSY, 1, vfio.ErrBusy, "open elsewhere"},
		{"GroupGetDeviceFD", unix.EINVAL, 1, nil, "open the device"},
		{"DeviceGetInfo", unix.EINVAL, 1, nil, "describe the device"},
		{"DeviceGetRegionInfo", unix.ENODEV, 1, nil, "region 0"},
		{"DeviceGetRegionInfo", unix.ENODEV, 9, nil, "region 8"},
		{"DeviceGetIRQInfo", unix.ENODEV, 3, nil, "MSI-X"},
		{"Pread", unix.EIO, 1, nil, "memory decoding"},
	} {
		t.Run(c.call+" "+c.errno.Error(), func(t *testing.T) {
			m := vfiotest.FakeMachine(t)
			m.Bind(t, m.EDU)
			before := openFiles(t)
			m.Fake.Fail(c.call, c.errno, c.nth)
			d, err := vfio.Open(m.EDU, m.Options()...)
			require.ErrorIs(t, err, c.errno)
			assert.Nil(t, d)
			if c.kind != nil {
				require.ErrorIs(t, err, c.kind)
			}
			require.NotErrorIs(t, err, vfio.ErrNotViable, "the group is viable")
			require.ErrorContains(t, err, c.says)
			require.ErrorContains(t, err, "0000:00:04.0")
			assert.Equal(t, before, openFiles(t), "nothing stays open")

			d, err = vfio.Open(m.EDU, m.Options()...)
			require.NoError(t, err, "the next attempt succeeds")
			require.NoError(t, d.Close())
			assert.Equal(t, before, openFiles(t))
		})
	}
}

// TestOpenJustAfterBinding: Linux 6.1 may answer ENODEV at first.
func TestOpenJustAfterBinding(t *testing.T) {
	m := vfiotest.FakeMachine(t)
	m.Bind(t, m.EDU)
	m.Fake.Fail("GroupGetDeviceFD", unix.ENODEV, 1)
	d, err := vfio.Open(m.EDU, m.Options()...)
	require.NoError(t, err)
	require.NoError(t, d.Close())
}

// noDevice is the fake with groups that have no devices.
type noDevice struct{ *vfiotest.Kernel }

func (noDevice) GroupGetDeviceFD(int, string) (int, error) { return -1, unix.ENODEV }

// TestDeviceThatTheGroupDoesNotHave: ENODEV again, although sysfs shows the device bound.
func TestDeviceThatTheGroupDoesNotHave(t *testing.T) {
	m := vfiotest.FakeMachine(t)
	m.Bind(t, m.EDU)
	before := openFiles(t)
	_, err := vfio.Open(m.EDU, vfio.OnKernel(noDevice{m.Fake}))
	require.ErrorIs(t, err, unix.ENODEV)
	require.ErrorContains(t, err, "dmesg")
	assert.Equal(t, before, openFiles(t))
}

// notPCI is the fake with devices that are not PCI's.
type notPCI struct{ *vfiotest.Kernel }

func (n notPCI) DeviceGetInfo(device int, arg []byte) error {
	const flags, pci = 4, 2 // VFIO_DEVICE_FLAGS_PCI, in a little-endian field
	err := n.Kernel.DeviceGetInfo(device, arg)
	arg[flags] &^= pci
	return err
}

func TestOpenWhatIsNotPCI(t *testing.T) {
	m := vfiotest.FakeMachine(t)
	m.Bind(t, m.EDU)
	before := openFiles(t)
	_, err := vfio.Open(m.EDU, vfio.OnKernel(notPCI{m.Fake}))
	require.ErrorIs(t, err, vfio.ErrNotSupported)
	assert.Equal(t, before, openFiles(t))
}

// wideConfig is the fake with devices whose configuration space is larger than there can be.
type wideConfig struct{ *vfiotest.Kernel }

func (k wideConfig) DeviceGetRegionInfo(device int, arg []byte) error {
	err := k.Kernel.DeviceGetRegionInfo(device, arg)
	if info := uapi.Take[uapi.RegionInfo](arg); info.Index == uapi.PCIConfigRegionIndex {
		info.Size = 1 << 63
		uapi.Put(arg, info)
	}
	return err
}

func TestOpenWithConfigSpaceThatCannotBe(t *testing.T) {
	m := vfiotest.FakeMachine(t)
	m.Bind(t, m.EDU)
	before := openFiles(t)
	_, err := vfio.Open(m.EDU, vfio.OnKernel(wideConfig{m.Fake}))
	require.ErrorIs(t, err, vfio.ErrNotSupported)
	require.ErrorContains(t, err, "0x8000000000000000 bytes of configuration space")
	assert.Equal(t, before, openFiles(t))
}

// fewer is the fake with devices that have fewer regions and interrupts than their kind has today.
type fewer struct {
	*vfiotest.Kernel
	regions, irqs byte
}

func (f fewer) DeviceGetInfo(device int, arg []byte) error {
	const numRegions, numIRQs = 8, 12 // offsets of little-endian fields
	err := f.Kernel.DeviceGetInfo(device, arg)
	arg[numRegions], arg[numIRQs] = f.regions, f.irqs
	return err
}

// TestOpenAsksOnlyForWhatThereIs: an index that the kernel does not count is not asked for.
func TestOpenAsksOnlyForWhatThereIs(t *testing.T) {
	m := vfiotest.FakeMachine(t)
	m.Bind(t, m.EDU)
	_, err := vfio.Open(m.EDU, vfio.OnKernel(fewer{m.Fake, 7, 5}))
	require.ErrorIs(t, err, vfio.ErrNotSupported, "no configuration space")

	m.Fake.Fail("DeviceGetRegionInfo", unix.ENODEV, 9)
	m.Fake.Fail("DeviceGetIRQInfo", unix.ENODEV, 3)
	d, err := vfio.Open(m.EDU, vfio.OnKernel(fewer{m.Fake, 8, 2}))
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, d.Close()) })
	assert.Len(t, d.Regions(), 9, "region i is at position i")
	info, err := d.IRQ(vfio.Req)
	require.NoError(t, err)
	assert.Equal(t, vfio.IRQInfo{Index: vfio.Req}, info)
}

// other is the fake with some answers replaced.
type other struct {
	*vfiotest.Kernel
	version, extension int
}

func (o other) GetAPIVersion(int) (int, error)       { return o.version, nil }
func (o other) CheckExtension(int, int) (int, error) { return o.extension, nil }

func TestOpenOnUnsuitableKernel(t *testing.T) {
	m := vfiotest.FakeMachine(t)
	m.Bind(t, m.EDU)
	before := openFiles(t)
	_, err := vfio.Open(m.EDU, vfio.OnKernel(other{m.Fake, 1, 1}))
	require.ErrorIs(t, err, vfio.ErrNotSupported)
	require.ErrorContains(t, err, "version 1")
	_, err = vfio.Open(m.EDU, vfio.OnKernel(other{m.Fake, 0, 0}))
	require.ErrorIs(t, err, vfio.ErrNotSupported)
	require.ErrorContains(t, err, "modprobe vfio_iommu_type1")
	assert.Equal(t, before, openFiles(t))
}

func TestOpErrorText(t *testing.T) {
	e := &vfio.OpError{
		Op: "enable", Address: pci.Address{Device: 5}, Index: vfio.MSIX, Vector: 3, Err: unix.EINVAL,
		Kind: vfio.ErrBusy, Cause: "MSI is enabled", Remedy: "disable MSI first",
	}
	assert.Equal(t, "0000:00:05.0: enable MSI-X vector 3: invalid argument: MSI is enabled; disable MSI first", e.Error())
	require.ErrorIs(t, e, vfio.ErrBusy)
	require.ErrorIs(t, e, unix.EINVAL)
	require.NotErrorIs(t, e, vfio.ErrNotFound)

	short := &vfio.OpError{Op: "reset", Index: vfio.NoIndex, Vector: -1, Err: errors.New("no")}
	assert.Equal(t, "0000:00:00.0: reset: no", short.Error())
	assert.NoError(t, (&vfio.OpError{}).Unwrap())
}

func TestIRQIndexesAndKinds(t *testing.T) {
	for index, want := range map[vfio.IRQIndex]struct {
		text string
		kind pci.Kind
	}{
		vfio.INTx: {"INTx", pci.KindINTx},
		vfio.MSI:  {"MSI", pci.KindMSI},
		vfio.MSIX: {"MSI-X", pci.KindMSIX},
		vfio.Err:  {"ERR", 0},
		vfio.Req:  {"REQ", 0},
		9:         {"IRQ index 9", 0},
	} {
		assert.Equal(t, want.text, index.String())
		kind, ok := index.Kind()
		assert.Equal(t, want.kind, kind)
		assert.Equal(t, want.kind != 0, ok)
		if ok {
			assert.Equal(t, index, vfio.IndexOf(kind))
		}
	}
	assert.Equal(t, vfio.NoIndex, vfio.IndexOf(0))
}
