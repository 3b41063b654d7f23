package vfiotest_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/irqbridge/irqbridge/vfio"
	"github.com/irqbridge/irqbridge/vfio/host"
	"github.com/irqbridge/irqbridge/vfio/internal/uapi"
	"github.com/irqbridge/irqbridge/vfio/vfiotest"
)

// status asks a group for its flags.
func groupStatus(t *testing.T, k vfio.Kernel, fd int) uint32 {
	t.Helper()
	arg := make([]byte, 8)
	uapi.Put(arg, uapi.GroupStatus{Argsz: 8})
	require.NoError(t, k.GroupGetStatus(fd, arg))
	return uapi.Take[uapi.GroupStatus](arg).Flags
}

// The container's calls, before and after it has a group.
func TestContainer(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		m.Bind(t, m.EDU)
		k := m.Kernel
		c, err := k.Open("/dev/vfio/vfio")
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, k.Close(c)) })
		version, err := k.GetAPIVersion(c)
		require.NoError(t, err)
		assert.Equal(t, uapi.APIVersion, version)
		var b strings.Builder
		for e := range 16 {
			n, err := k.CheckExtension(c, e)
			fmt.Fprintf(&b, "extension %d: %d %s\n", e, n, errno(err))
		}
		for _, kind := range []int{uapi.Type1IOMMU, uapi.Type1v2IOMMU, 2, 8, 99} {
			fmt.Fprintf(&b, "set IOMMU %d without a group: %s\n", kind, errno(k.SetIOMMU(c, kind)))
		}
		g := openGroup(t, m, deviceGroup(t, m))
		t.Cleanup(func() { require.NoError(t, k.Close(g)) })
		require.NoError(t, k.GroupSetContainer(g, c))
		for _, kind := range []int{2, 8, 99, uapi.Type1v2IOMMU, uapi.Type1v2IOMMU, uapi.Type1IOMMU, 99} {
			fmt.Fprintf(&b, "set IOMMU %d: %s\n", kind, errno(k.SetIOMMU(c, kind)))
		}
		for e := range 16 {
			n, err := k.CheckExtension(c, e)
			fmt.Fprintf(&b, "with an IOMMU, extension %d: %d %s\n", e, n, errno(err))
		}
		golden(t, m, "container", b.String())
	})
}

func deviceGroup(t *testing.T, m *vfiotest.Machine) int {
	t.Helper()
	d, err := m.Host.Device(m.EDU)
	require.NoError(t, err)
	return d.Group
}

// The group's calls in each state, and with each wrong kind of descriptor.
func TestGroup(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		m.Bind(t, m.EDU)
		k := m.Kernel
		name := m.EDU.String()
		var b strings.Builder
		say := func(what string, err error) { fmt.Fprintf(&b, "%s: %s\n", what, errno(err)) }
		g := openGroup(t, m, deviceGroup(t, m))
		c, err := k.Open("/dev/vfio/vfio")
		require.NoError(t, err)
		second, err := k.Open("/dev/vfio/vfio")
		require.NoError(t, err)
		null, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
		require.NoError(t, err)
		fmt.Fprintf(&b, "status 0x%x\n", groupStatus(t, k, g))
		_, err = k.Open(fmt.Sprintf("/dev/vfio/%d", deviceGroup(t, m)))
		say("open again", err)
		_, err = k.Open("/dev/vfio/99")
		say("open a group that is not there", err)
		_, err = k.GroupGetDeviceFD(g, name)
		say("device without a container", err)
		say("unset without a container", k.GroupUnsetContainer(g))
		say("set to -1", k.GroupSetContainer(g, -1))
		say("set to a closed descriptor", k.GroupSetContainer(g, 1_000_000))
		say("set to a file", k.GroupSetContainer(g, null))
		say("set to a group", k.GroupSetContainer(g, g))
		say("set", k.GroupSetContainer(g, c))
		fmt.Fprintf(&b, "status 0x%x\n", groupStatus(t, k, g))
		say("set again", k.GroupSetContainer(g, c))
		say("set to another", k.GroupSetContainer(g, second))
		say("set to a file", k.GroupSetContainer(g, null))
		say("set to a closed descriptor", k.GroupSetContainer(g, 1_000_000))
		_, err = k.GroupGetDeviceFD(g, name)
		say("device without an IOMMU", err)
		say("unset", k.GroupUnsetContainer(g))
		say("set", k.GroupSetContainer(g, c))
		say("set IOMMU", k.SetIOMMU(c, uapi.Type1v2IOMMU))
		for _, bad := range []string{
			"", "nonsense", "0000:00:77.0", "0000:00:04", name + "0", m.EDU2.String(), m.E1000E.String(), name + " ",
			name + " nonsense", name + " vf_token=00000000-0000-0000-0000-000000000000", name + " vf_token=1",
		} {
			fd, err := k.GroupGetDeviceFD(g, bad)
			say(fmt.Sprintf("device %q", bad), err)
			if err == nil {
				require.NoError(t, k.Close(fd))
			}
		}
		d, err := k.GroupGetDeviceFD(g, name)
		say("device", err)
		again, err := k.GroupGetDeviceFD(g, name)
		say("device again", err)
		say("unset with a device open", k.GroupUnsetContainer(g))
		require.NoError(t, k.Close(again))
		say("unset with a device open", k.GroupUnsetContainer(g))
		require.NoError(t, k.Close(d))
		say("unset with no device open", k.GroupUnsetContainer(g))
		fmt.Fprintf(&b, "status 0x%x\n", groupStatus(t, k, g))
		say("set to another", k.GroupSetContainer(g, second))
		say("the IOMMU went with the group", k.SetIOMMU(c, uapi.Type1v2IOMMU))
		say("set IOMMU", k.SetIOMMU(second, uapi.Type1v2IOMMU))

		// Ioctls on the wrong kind of file.
		_, err = k.GetAPIVersion(g)
		say("container's ioctl on a group", err)
		_, err = k.GroupGetDeviceFD(c, name)
		say("group's ioctl on a container", err)
		say("device's ioctl on a group", k.DeviceReset(g))
		say("device's ioctl on a file", k.DeviceReset(null))
		say("device's ioctl on nothing", k.DeviceReset(1_000_000))
		for _, fd := range []int{g, c, second} {
			require.NoError(t, k.Close(fd))
		}
		say("close again", k.Close(c))
		require.NoError(t, unix.Close(null))
		golden(t, m, "group", b.String())
	})
}

// The device's descriptor alone keeps everything alive, the group busy included.
func TestDeviceKeepsGroup(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		r, e := openEDU(t, m), newEvent(t)
		node := fmt.Sprintf("/dev/vfio/%d", deviceGroup(t, m))
		for _, fd := range []*int{&r.group, &r.container} {
			if *fd >= 0 {
				require.NoError(t, r.k.Close(*fd))
				*fd = -1
			}
		}
		r.enable(intx, 0, e.fd)
		r.write(eduRaise, 1)
		assert.Equal(t, uint64(1), e.await())
		r.write(eduAck, 1)
		_, err := r.k.Open(node)
		assert.Equal(t, "EBUSY", errno(err))

		// So does a mapping, even when the descriptor is closed.
		require.NoError(t, r.k.Close(r.device))
		r.device = -1
		assert.Equal(t, uint32(0x010000ed), r.read(0))
		_, err = r.k.Open(node)
		assert.Equal(t, "EBUSY", errno(err))
		require.NoError(t, r.bar.Unmap())
		r.bar = nil
		fd, err := r.k.Open(node)
		require.NoError(t, err)
		require.NoError(t, r.k.Close(fd))
	})
}

// Two descriptors of one device are one device.
func TestSecondDescriptor(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		m.Bind(t, m.EDU)
		r, e := openByGroup(t, m, m.EDU), newEvent(t)
		second, err := r.k.GroupGetDeviceFD(r.group, r.address.String())
		require.NoError(t, err)
		r.enable(intx, 0, e.fd)
		first := r.device
		r.device = second
		assert.Equal(t, "INTx", indexNames[r.live()])
		require.NoError(t, r.k.Close(first))
		assert.Equal(t, "INTx", indexNames[r.live()], "it is still open")
		r.fire(intx, 0, 1)
		assert.Equal(t, uint64(1), e.take())
	})
}

// The last close frees what was enabled, and the eventfd with it.
func TestCloseFrees(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		r, e := openRaw(t, m, m.E1000E), newEvent(t)
		r.enable(msix, 0, e.fd, e.fd)
		r.change(busMaster, 0)
		r.close()
		irqs, err := r.irqs()
		require.NoError(t, err)
		assert.Empty(t, irqs)
		assert.Zero(t, r.physical(command)&uint16(busMaster))
		r = openBound(t, m, m.E1000E)
		assert.Equal(t, "idle", indexNames[r.live()])
		assert.Zero(t, e.take())
	})
}

// A group is viable when no member's driver does DMA for the host. Bridges do not count.
func TestViability(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		m.Bind(t, m.BridgeEDU)
		k := m.Kernel
		d, err := m.Host.Device(m.BridgeEDU)
		require.NoError(t, err)
		g := openGroup(t, m, d.Group)
		t.Cleanup(func() { require.NoError(t, k.Close(g)) })
		c, err := k.Open("/dev/vfio/vfio")
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, k.Close(c)) })
		assert.Zero(t, groupStatus(t, k, g), "the e1000 is with its driver")
		assert.Equal(t, "EPERM", errno(k.GroupSetContainer(g, c)))
		group, err := m.Host.Group(d.Group)
		require.NoError(t, err)
		assert.Equal(t, []string{m.BridgeE1000.String()}, addresses(group.Blockers()))

		plan, err := m.Host.PlanBind(m.BridgeE1000, "vfio-pci", false)
		require.NoError(t, err)
		require.NoError(t, plan.Run(t.Context()))
		assert.Equal(t, uint32(uapi.GroupFlagsViable), groupStatus(t, k, g))
		require.NoError(t, k.GroupSetContainer(g, c))
		assert.Equal(t, uint32(uapi.GroupFlagsViable|uapi.GroupFlagsContainerSet), groupStatus(t, k, g))

		// While a user has the group, no driver of the host gets a member.
		r := &raw{t: t, m: m, k: k, address: m.BridgeE1000}
		base := "/sys/bus/pci/"
		require.NoError(t, r.writeFile(base+"drivers/vfio-pci/unbind", m.BridgeE1000.String()))
		require.NoError(t, r.writeFile(base+"devices/"+m.BridgeE1000.String()+"/driver_override", "\n"))
		assert.Equal(t, "EBUSY", errno(r.writeFile(base+"drivers/e1000/bind", m.BridgeE1000.String())))
		require.NoError(t, k.GroupUnsetContainer(g))
		require.NoError(t, r.writeFile(base+"drivers/e1000/bind", m.BridgeE1000.String()))
		assert.Zero(t, groupStatus(t, k, g))
		undo, err := m.Host.PlanUnbind(m.BridgeE1000)
		require.NoError(t, err)
		require.NoError(t, undo.Run(t.Context()))
	})
}

func addresses(devices []host.Device) []string {
	var list []string
	for _, d := range devices {
		list = append(list, d.Address.String())
	}
	return list
}
