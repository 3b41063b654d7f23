package vfio_test

import (
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

func TestBackendString(t *testing.T) {
	assert.Equal(t, "iommufd", vfio.BackendIOMMUFD.String())
	assert.Equal(t, "group", vfio.BackendGroup.String())
	assert.Equal(t, "no-iommu", vfio.BackendNoIOMMU.String())
	assert.Equal(t, "backend 7", vfio.Backend(7).String())
	for _, b := range []vfio.Backend{vfio.BackendIOMMUFD, vfio.BackendGroup, vfio.BackendNoIOMMU} {
		parsed, err := vfio.ParseBackend(b.String())
		require.NoError(t, err)
		assert.Equal(t, b, parsed)
	}
	_, err := vfio.ParseBackend("backend 7")
	require.ErrorIs(t, err, unix.EINVAL)
	token := vfio.VFToken{0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff}
	assert.Equal(t, "00112233-4455-6677-8899-aabbccddeeff", token.String())
}

// withIOMMUFD runs a test on every machine that has iommufd, once.
func withIOMMUFD(t *testing.T, f func(t *testing.T, m *vfiotest.Machine)) {
	t.Helper()
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		if m.Backend == vfio.BackendIOMMUFD {
			f(t, m)
		}
	})
}

// own is a fake kernel with iommufd, and edu bound to vfio-pci.
func own(t *testing.T, opts ...vfiotest.Option) *vfiotest.Machine {
	t.Helper()
	m := vfiotest.FakeMachine(t, append(opts, vfiotest.WithIOMMUFD())...)
	m.Bind(t, m.EDU)
	return m
}

// Without an option, the nodes that exist decide.
func TestBackendIsChosen(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		want := vfio.BackendGroup
		if m.Host.HasIOMMUFD() {
			want = vfio.BackendIOMMUFD
		}
		backendFor := func() vfio.Backend {
			dev, err := m.Host.Device(m.EDU)
			require.NoError(t, err)
			return vfio.BackendFor(m.Host, dev)
		}
		assert.Equal(t, vfio.BackendGroup, backendFor(), "an unbound device has no node")
		m.Bind(t, m.EDU)
		assert.Equal(t, want, backendFor())
		d, err := vfio.Open(m.EDU, vfio.OnKernel(m.Kernel))
		require.NoError(t, err)
		assert.Equal(t, want, d.Backend())
		require.NoError(t, d.Close())
		assert.Equal(t, want, d.Backend(), "what was learnt stays readable")
		fd, ioas := d.IOMMUFD()
		assert.Equal(t, -1, fd)
		assert.Zero(t, ioas)
	})
}

// An option decides alone.
func TestBackendIsForced(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		m.Bind(t, m.EDU)
		before := openFiles(t)
		d, err := vfio.Open(m.EDU, vfio.OnKernel(m.Kernel), vfio.WithBackend(vfio.BackendGroup))
		require.NoError(t, err)
		assert.Equal(t, vfio.BackendGroup, d.Backend())
		require.NoError(t, d.Close())

		d, err = vfio.Open(m.EDU, vfio.OnKernel(m.Kernel), vfio.WithBackend(vfio.BackendIOMMUFD))
		if m.Host.HasIOMMUFD() {
			require.NoError(t, err)
			assert.Equal(t, vfio.BackendIOMMUFD, d.Backend())
			require.NoError(t, d.Close())
		} else {
			require.ErrorIs(t, err, vfio.ErrNotSupported)
			require.ErrorIs(t, err, unix.ENOENT)
			require.ErrorContains(t, err, "CONFIG_VFIO_DEVICE_CDEV")
		}
		_, err = vfio.Open(m.EDU, vfio.OnKernel(m.Kernel), vfio.WithBackend(7))
		require.ErrorIs(t, err, unix.EINVAL)
		require.ErrorContains(t, err, "there is no backend 7")
		_, err = vfio.Open(m.EDU, vfio.OnKernel(m.Kernel), vfio.WithBackend(vfio.BackendGroup), vfio.WithIOMMUFD(5, 0))
		require.ErrorContains(t, err, "backend group has no use for")
		_, err = vfio.Open(m.EDU, vfio.OnKernel(m.Kernel), vfio.WithBackend(vfio.BackendNoIOMMU))
		require.ErrorIs(t, err, vfio.ErrNotSupported)
		require.ErrorContains(t, err, "the device is behind an IOMMU, in group")
		assert.Equal(t, before, openFiles(t))
	})
}

// A device whose group is in use is not to be had in the other way either.
func TestBackendsExcludeEachOther(t *testing.T) {
	withIOMMUFD(t, func(t *testing.T, m *vfiotest.Machine) {
		m.Bind(t, m.EDU)
		ways := []vfio.Backend{vfio.BackendIOMMUFD, vfio.BackendGroup}
		for i, way := range ways {
			d, err := vfio.Open(m.EDU, vfio.OnKernel(m.Kernel), vfio.WithBackend(way))
			require.NoError(t, err)
			_, err = vfio.Open(m.EDU, vfio.OnKernel(m.Kernel), vfio.WithBackend(ways[1-i]))
			require.ErrorIs(t, err, vfio.ErrBusy)
			require.ErrorIs(t, err, unix.EBUSY)
			require.NoError(t, d.Close())
		}
	})
}

// TestEachStepOfIOMMUFDFailing is TestEachStepOfOpenFailing for that backend.
func TestEachStepOfIOMMUFDFailing(t *testing.T) {
	for _, c := range []struct {
		call  string
		errno unix.Errno
		nth   int
		kind  error
		says  string
	}{
		{"Open", unix.ENODEV, 1, nil, "unbound meanwhile"},
		{"Open", unix.EACCES, 1, os.ErrPermission, "start it with --device /dev/vfio/devices/vfio0"},
		{"Open", unix.ENOENT, 2, nil, "modprobe iommufd"},
		{"Open", unix.EACCES, 2, os.ErrPermission, "start it with --device /dev/iommu"},
		{"Open", unix.EMFILE, 2, nil, "open /dev/iommu"},
		{"DeviceBindIOMMUFD", unix.EBUSY, 1, vfio.ErrBusy, "open elsewhere"},
		{"DeviceBindIOMMUFD", unix.EINVAL, 1, vfio.ErrBusy, "open elsewhere"},
		{"DeviceBindIOMMUFD", unix.EPERM, 1, vfio.ErrNoInterruptRemapping, "/sys/module/iommufd/parameters/allow_unsafe_interrupts"},
		{"DeviceBindIOMMUFD", unix.EACCES, 1, os.ErrPermission, "VF token"},
		{"DeviceBindIOMMUFD", unix.ENODEV, 1, nil, "bind the device to an iommufd"},
		{"IOASAlloc", unix.ENOMEM, 1, nil, "address space"},
		{"DeviceAttachIOMMUFDPT", unix.EBUSY, 1, nil, "being reset"},
		{"DeviceAttachIOMMUFDPT", unix.EINVAL, 1, vfio.ErrBusy, "WithIOMMUFD"},
		{"DeviceAttachIOMMUFDPT", unix.EADDRINUSE, 1, nil, "an address space of its own"},
		{"DeviceGetInfo", unix.EINVAL, 1, nil, "describe the device"},
		{"Pread", unix.EIO, 1, nil, "memory decoding"},
	} {
		t.Run(c.call+" "+c.errno.Error(), func(t *testing.T) {
			m := own(t)
			before := openFiles(t)
			m.Fake.Fail(c.call, c.errno, c.nth)
			d, err := vfio.Open(m.EDU, m.Options()...)
			require.ErrorIs(t, err, c.errno)
			assert.Nil(t, d)
			if c.kind != nil {
				require.ErrorIs(t, err, c.kind)
			}
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

func TestIOMMUFDWithoutInterruptRemapping(t *testing.T) {
	m := own(t, vfiotest.WithoutInterruptRemapping())
	_, err := vfio.Open(m.EDU, m.Options()...)
	require.ErrorIs(t, err, vfio.ErrNoInterruptRemapping)
	require.ErrorIs(t, err, unix.EPERM)
}

// A token for a device that wants none is refused in both ways.
func TestVFTokenThatIsNotWanted(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		m.Bind(t, m.EDU)
		before := openFiles(t)
		_, err := vfio.Open(m.EDU, append(m.Options(), vfio.WithVFToken(vfio.VFToken{1}))...)
		require.ErrorIs(t, err, unix.EINVAL)
		require.ErrorContains(t, err, "a VF token was given to a device that has no use for one")
		assert.Equal(t, before, openFiles(t))
	})
}

// Several devices of one group are opened in one address space, and do not come into each other's way in it.
func TestDevicesOfOneGroup(t *testing.T) {
	withIOMMUFD(t, func(t *testing.T, m *vfiotest.Machine) {
		m.Bind(t, m.BridgeE1000)
		first := m.Open(t, m.BridgeEDU)
		before := openFiles(t)
		_, err := vfio.Open(m.BridgeE1000, m.Options()...)
		require.ErrorIs(t, err, vfio.ErrBusy)
		require.ErrorIs(t, err, unix.EPERM)
		require.ErrorContains(t, err, m.BridgeEDU.String())
		fd, _ := first.IOMMUFD()
		_, err = vfio.Open(m.BridgeE1000, append(m.Options(), vfio.WithIOMMUFD(fd, 0))...)
		require.ErrorIs(t, err, vfio.ErrBusy)
		require.ErrorIs(t, err, unix.EINVAL, "another address space")
		assert.Equal(t, before, openFiles(t))
		_, err = vfio.Open(m.BridgeE1000, append(m.Options(), vfio.WithIOMMUFD(fd, 999))...)
		require.ErrorIs(t, err, unix.ENOENT, "no address space")
		require.ErrorContains(t, err, "Device.IOMMUFD")

		second, err := vfio.Open(m.BridgeE1000, append(m.Options(), vfio.WithIOMMUFD(first.IOMMUFD()))...)
		require.NoError(t, err)
		t.Cleanup(func() { assert.NoError(t, second.Close()) })
		assert.Equal(t, vfio.BackendIOMMUFD, second.Backend())
		assert.NotEqual(t, command(t, first), uint8(0))
		assert.NotEqual(t, command(t, second), uint8(0))

		a, err := first.AllocDMA(3 * 4096)
		require.NoError(t, err)
		b, err := second.AllocDMA(4096)
		require.NoError(t, err)
		assert.Greater(t, b.IOVA(), a.IOVA()+2*4096, "the next free address")
		_, err = second.AllocDMA(4096, vfio.AtIOVA(a.IOVA()+4096))
		require.ErrorIs(t, err, unix.EEXIST)
		require.ErrorContains(t, err, "another device")

		// The one that has made the address space can go first.
		require.NoError(t, first.Close())
		c, err := second.AllocDMA(4096)
		require.NoError(t, err)
		require.NoError(t, b.Store32(0, 1))
		require.NoError(t, c.Close())
	})
}

// An iommufd of the caller's holds devices of several groups, each in an address space of its own that ends with it.
func TestGivenIOMMUFD(t *testing.T) {
	withIOMMUFD(t, func(t *testing.T, m *vfiotest.Machine) {
		m.Bind(t, m.EDU)
		m.Bind(t, m.EDU2)
		before := openFiles(t)
		fd, err := m.Kernel.Open("/dev/iommu")
		require.NoError(t, err)
		one, err := vfio.Open(m.EDU, vfio.OnKernel(m.Kernel), vfio.WithIOMMUFD(fd, 0))
		require.NoError(t, err)
		two, err := vfio.Open(m.EDU2, vfio.OnKernel(m.Kernel), vfio.WithIOMMUFD(fd, 0))
		require.NoError(t, err)
		require.NoError(t, m.Kernel.Close(fd), "they have duplicates")
		_, ioasOne := one.IOMMUFD()
		_, ioasTwo := two.IOMMUFD()
		assert.NotEqual(t, ioasOne, ioasTwo)
		for _, d := range []*vfio.Device{one, two} {
			b, err := d.AllocDMA(4096)
			require.NoError(t, err)
			assert.Equal(t, uint64(4096), b.IOVA())
			require.NoError(t, d.Close())
		}
		assert.Equal(t, before, openFiles(t))

		_, err = vfio.Open(m.EDU, vfio.OnKernel(m.Kernel), vfio.WithIOMMUFD(1_000_000, 0))
		require.ErrorIs(t, err, unix.EBADF)
		event := newEventFD(t)
		before = openFiles(t)
		_, err = vfio.Open(m.EDU, vfio.OnKernel(m.Kernel), vfio.WithIOMMUFD(event, 0))
		require.ErrorIs(t, err, unix.EBADFD)
		require.ErrorContains(t, err, "not an open of /dev/iommu")
		assert.Equal(t, before, openFiles(t))
	})
}

// A descriptor that was passed is used as far as it was prepared.
func TestFromFD(t *testing.T) {
	withIOMMUFD(t, func(t *testing.T, m *vfiotest.Machine) {
		m.Bind(t, m.EDU)
		k := vfio.OnKernel(m.Kernel)
		before := openFiles(t)
		pass := func() int {
			fd, err := m.Kernel.Open(m.Host.DeviceNode(m.EDU))
			require.NoError(t, err)
			return fd
		}
		use := func(d *vfio.Device) {
			t.Helper()
			assert.Equal(t, m.EDU, d.Address())
			assert.Equal(t, vfio.BackendIOMMUFD, d.Backend())
			assert.Equal(t, uint32(0x010000ed), read32(t, bar0(t, d), eduID))
		}
		// Only open.
		d, err := vfio.FromFD(pass(), k)
		require.NoError(t, err)
		use(d)
		_, err = d.AllocDMA(4096)
		require.NoError(t, err)

		// Bound and attached; what is given names the rest.
		fd, ioas := d.IOMMUFD()
		require.NoError(t, d.Close(), "which closes the descriptor")
		assert.Equal(t, before, openFiles(t))
		assert.Positive(t, fd)
		assert.NotZero(t, ioas)
		holder := m.Open(t, m.EDU2) // for an iommufd and an address space
		before = openFiles(t)
		d, err = vfio.FromFD(pass(), k, vfio.WithIOMMUFD(holder.IOMMUFD()))
		require.NoError(t, err)
		use(d)
		require.NoError(t, d.Close())
		assert.Equal(t, before, openFiles(t))

		// Bound by somebody whose iommufd is not known here.
		raw := pass()
		iommufd, err := m.Kernel.Open("/dev/iommu")
		require.NoError(t, err)
		require.NoError(t, m.Kernel.DeviceBindIOMMUFD(raw, bindArgument(iommufd), nil))
		d, err = vfio.FromFD(raw, k)
		require.NoError(t, err)
		use(d)
		_, err = d.AllocDMA(4096)
		require.ErrorIs(t, err, vfio.ErrNotSupported)
		require.ErrorContains(t, err, "WithIOMMUFD")
		none, _ := d.IOMMUFD()
		assert.Equal(t, -1, none)
		require.NoError(t, d.Close())

		// Bound, and the iommufd is passed along.
		raw = pass()
		require.NoError(t, m.Kernel.DeviceBindIOMMUFD(raw, bindArgument(iommufd), nil))
		d, err = vfio.FromFD(raw, k, vfio.WithIOMMUFD(iommufd, 0))
		require.NoError(t, err)
		_, err = d.AllocDMA(4096)
		require.NoError(t, err)
		require.NoError(t, d.Close())
		require.NoError(t, m.Kernel.Close(iommufd))
		assert.Equal(t, before, openFiles(t))
	})
}

// What a FromFD that fails made in the caller's iommufd is gone.
func TestFromFDFailingLeavesNoAddressSpace(t *testing.T) {
	m := own(t)
	iommufd, err := m.Kernel.Open("/dev/iommu")
	require.NoError(t, err)
	fd, err := m.Kernel.Open(m.Host.DeviceNode(m.EDU))
	require.NoError(t, err)
	m.Fake.Fail("Pread", unix.EIO, 1)
	_, err = vfio.FromFD(fd, vfio.OnKernel(m.Kernel), vfio.WithIOMMUFD(iommufd, 0))
	require.ErrorIs(t, err, unix.EIO)
	for id := range uint32(10) { // whatever the device and the address space were
		attach := argumentOf(uapi.DeviceAttachIOMMUFDPT{Argsz: 12, PtID: id})
		assert.Error(t, m.Kernel.DeviceAttachIOMMUFDPT(fd, attach), "identifier %d is an address space", id)
	}
	d, err := vfio.FromFD(fd, vfio.OnKernel(m.Kernel), vfio.WithIOMMUFD(iommufd, 0))
	require.NoError(t, err)
	require.NoError(t, d.Close())
	require.NoError(t, m.Kernel.Close(iommufd))
}

func argumentOf(attach uapi.DeviceAttachIOMMUFDPT) []byte {
	arg := make([]byte, attach.Argsz)
	uapi.Put(arg, attach)
	return arg
}

// bindArgument is a struct vfio_device_bind_iommufd.
func bindArgument(iommufd int) []byte {
	arg := make([]byte, 24)
	arg[0] = 24
	arg[8] = byte(iommufd) // a small number, in a little-endian field
	return arg
}

func TestFromFDThatIsNone(t *testing.T) {
	withIOMMUFD(t, func(t *testing.T, m *vfiotest.Machine) {
		k := vfio.OnKernel(m.Kernel)
		_, err := vfio.FromFD(1_000_000, k)
		require.ErrorIs(t, err, unix.EBADF)
		_, err = vfio.FromFD(newEventFD(t), k)
		require.ErrorContains(t, err, "is not an open of a device's node /dev/vfio/devices/vfioN")

		d := m.Open(t, m.EDU)
		m.Bind(t, m.EDU2)
		fd, err := m.Kernel.Open(m.Host.DeviceNode(m.EDU))
		require.NoError(t, err)
		before := openFiles(t)
		_, err = vfio.FromFD(fd, k)
		require.ErrorIs(t, err, vfio.ErrBusy, "the device is open already")
		_, err = vfio.FromFD(fd, k, vfio.WithBackend(vfio.BackendGroup))
		require.ErrorIs(t, err, unix.EINVAL)
		assert.Equal(t, before, openFiles(t), "it stays the caller's")
		require.NoError(t, d.Close())
		d, err = vfio.FromFD(fd, k)
		require.NoError(t, err, "and is still good")
		require.NoError(t, d.Close())
	})
}

// TestNoIOMMU follows a device on a platform without an IOMMU from its refusal to its interrupt. In the virtual machine it
// wants a kernel with the mode, and no IOMMU:
//
//	IRQBRIDGE_VM_KERNEL=own IRQBRIDGE_VM_NO_IOMMU=1 CGO_ENABLED=0 go test -exec "$PWD/scripts/vm/exec" -run TestNoIOMMU ./vfio/
func TestNoIOMMU(t *testing.T) {
	test := func(t *testing.T, m *vfiotest.Machine, set func(knob string)) {
		before := openFiles(t)
		k, byName := vfio.OnKernel(m.Kernel), vfio.WithBackend(vfio.BackendNoIOMMU)
		open := func() error {
			_, err := vfio.Open(m.EDU, k, byName)
			return err
		}
		set("N")
		err := open()
		require.ErrorIs(t, err, vfio.ErrNotSupported)
		require.ErrorContains(t, err, "the mode is off")
		require.ErrorContains(t, err, "enable_unsafe_noiommu_mode")
		_, err = vfio.Open(m.EDU, k)
		require.ErrorIs(t, err, vfio.ErrNoIOMMU)
		set("Y")
		require.ErrorIs(t, open(), vfio.ErrNotBound)
		m.Bind(t, m.EDU)
		for _, b := range []vfio.Backend{vfio.BackendGroup, 0} {
			_, err = vfio.Open(m.EDU, k, vfio.WithBackend(b))
			require.ErrorIs(t, err, vfio.ErrNoIOMMU, "never unless it is asked for by name")
			require.ErrorContains(t, err, "no-iommu")
		}
		assert.Equal(t, before, openFiles(t))

		d, err := vfio.Open(m.EDU, k, byName)
		require.NoError(t, err)
		t.Cleanup(func() { assert.NoError(t, d.Close()) })
		assert.Equal(t, vfio.BackendNoIOMMU, d.Backend())
		_, err = d.AllocDMA(4096)
		require.ErrorIs(t, err, vfio.ErrNotSupported)
		require.ErrorContains(t, err, "physical memory")
		_, err = d.IOVARanges()
		require.ErrorIs(t, err, vfio.ErrNotSupported)

		event := newEventFD(t)
		require.NoError(t, d.EnableIRQs(vfio.MSI, 0, []int{event}))
		require.NoError(t, bar0(t, d).Write32(eduRaise, 1))
		assert.Equal(t, uint64(1), wait(t, event), "interrupts are the same")
		require.ErrorIs(t, open(), vfio.ErrBusy)
	}
	const knob = "/sys/module/vfio/parameters/enable_unsafe_noiommu_mode"
	if os.Getenv("IRQBRIDGE_VM") == "" {
		m := vfiotest.FakeMachine(t, vfiotest.WithoutIOMMU(), vfiotest.NoIOMMUMode(false))
		test(t, m, func(v string) { require.NoError(t, m.Fake.WriteFile(knob, []byte(v))) })
		return
	}
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		if _, present := m.Host.NoIOMMUMode(); !present || m.Host.HasIOMMU() || m.Backend != vfio.BackendIOMMUFD {
			t.Skip("this machine has an IOMMU, or no mode without one")
		}
		test(t, m, func(v string) { require.NoError(t, os.WriteFile(knob, []byte(v), 0)) })
	})
}

// What keeps a device without an IOMMU from being opened, that the mode being off is not.
func TestNoIOMMURefused(t *testing.T) {
	byName := vfio.WithBackend(vfio.BackendNoIOMMU)
	m := vfiotest.FakeMachine(t, vfiotest.WithoutIOMMU())
	_, err := vfio.Open(m.EDU, vfio.OnKernel(m.Kernel), byName)
	require.ErrorIs(t, err, vfio.ErrNotSupported)
	require.ErrorContains(t, err, "CONFIG_VFIO_NOIOMMU")

	for _, c := range []struct {
		call  string
		errno unix.Errno
		nth   int
		says  string
	}{
		{"Open", unix.ENOENT, 1, "modprobe vfio-pci"},
		{"Open", unix.EPERM, 2, "CAP_SYS_RAWIO"},
		{"Open", unix.EACCES, 2, "start it with --device /dev/vfio/noiommu-0"},
		{"GroupSetContainer", unix.EINVAL, 1, "container"},
		{"SetIOMMU", unix.ENODEV, 1, "IOMMU driver to none"},
		{"GroupGetDeviceFD", unix.ENODEV, 2, "open the device"},
	} {
		m := vfiotest.FakeMachine(t, vfiotest.WithoutIOMMU(), vfiotest.NoIOMMUMode(true))
		m.Bind(t, m.EDU)
		before := openFiles(t)
		if c.call == "GroupGetDeviceFD" {
			m.Fake.Fail(c.call, c.errno, 1)
			c.nth--
		}
		m.Fake.Fail(c.call, c.errno, c.nth)
		_, err := vfio.Open(m.EDU, vfio.OnKernel(m.Kernel), byName)
		require.ErrorIs(t, err, c.errno)
		require.ErrorContains(t, err, c.says)
		var op *vfio.OpError
		require.ErrorAs(t, err, &op)
		assert.Equal(t, pci.Address{Device: 4}, op.Address)
		assert.Equal(t, before, openFiles(t))
	}
}

// iommufd counts what all processes of a user have locked, and says so when it is too much.
func TestIOMMUFDMemlock(t *testing.T) {
	m := own(t, vfiotest.MemlockLimit(64<<10))
	d := m.Open(t, m.EDU)
	b, err := d.AllocDMA(60 << 10)
	require.NoError(t, err)
	_, err = d.AllocDMA(8 << 10)
	require.ErrorIs(t, err, unix.ENOMEM)
	require.ErrorContains(t, err, "all processes of this user together may lock 64 KiB")
	require.ErrorContains(t, err, "8 KiB more are needed")
	require.ErrorContains(t, err, "ulimit -l")
	require.NoError(t, b.Close())
	_, err = d.AllocDMA(8 << 10)
	require.NoError(t, err)

	m.Fake.Fail("IOASMap", unix.ENOSPC, 1)
	_, err = d.AllocDMA(4096)
	require.ErrorIs(t, err, unix.ENOSPC)
	m.Fake.Fail("IOASUnmap", unix.EBUSY, 1)
	require.ErrorIs(t, d.Close(), unix.EBUSY)
}

// What the errno of BIND says about a token that was given.
func TestVFTokenThatIsWrong(t *testing.T) {
	m := own(t)
	m.Fake.Fail("DeviceBindIOMMUFD", unix.EACCES, 1)
	_, err := vfio.Open(m.EDU, append(m.Options(), vfio.WithVFToken(vfio.VFToken{1}))...)
	require.ErrorIs(t, err, os.ErrPermission)
	require.ErrorContains(t, err, "the VF token is not the one")
}

// An address space that others have come to share outlives the device that made it.
func TestGivenIOMMUFDIsShared(t *testing.T) {
	withIOMMUFD(t, func(t *testing.T, m *vfiotest.Machine) {
		m.Bind(t, m.EDU)
		m.Bind(t, m.EDU2)
		fd, err := m.Kernel.Open("/dev/iommu")
		require.NoError(t, err)
		one, err := vfio.Open(m.EDU, vfio.OnKernel(m.Kernel), vfio.WithIOMMUFD(fd, 0))
		require.NoError(t, err)
		two, err := vfio.Open(m.EDU2, vfio.OnKernel(m.Kernel), vfio.WithIOMMUFD(one.IOMMUFD()))
		require.NoError(t, err)
		require.NoError(t, one.Close())
		_, err = two.AllocDMA(4096)
		require.NoError(t, err)
		require.NoError(t, two.Close())
		require.NoError(t, m.Kernel.Close(fd))
	})
}

// TestNodes: what Nodes names are the nodes that an open of the device opens.
func TestNodes(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		nodes := func(b vfio.Backend) []string {
			d, err := m.Host.Device(m.EDU)
			require.NoError(t, err)
			return vfio.Nodes(m.Host, d, b)
		}
		for _, b := range []vfio.Backend{vfio.BackendIOMMUFD, vfio.BackendGroup, vfio.BackendNoIOMMU, 0} {
			assert.Nil(t, nodes(b), "%v: no VFIO driver has the device", b)
		}
		m.Bind(t, m.EDU)
		assert.Nil(t, nodes(vfio.BackendNoIOMMU))
		for b, there := range map[vfio.Backend]bool{vfio.BackendIOMMUFD: m.Host.HasIOMMUFD(), vfio.BackendGroup: true} {
			if !there {
				assert.Nil(t, nodes(b))
				continue
			}
			opened := &opens{Kernel: m.Kernel}
			d, err := vfio.Open(m.EDU, vfio.OnKernel(opened), vfio.WithBackend(b))
			require.NoError(t, err)
			require.NoError(t, d.Close())
			assert.ElementsMatch(t, opened.nodes, nodes(b))
		}
	})
}

// opens notes what is opened.
type opens struct {
	vfio.Kernel
	nodes []string
}

func (o *opens) Open(name string) (int, error) {
	o.nodes = append(o.nodes, name)
	return o.Kernel.Open(name)
}
