package vfiotest_test

import (
	"fmt"
	"math"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/irqbridge/irqbridge/pci"
	"github.com/irqbridge/irqbridge/vfio"
	"github.com/irqbridge/irqbridge/vfio/internal/uapi"
	"github.com/irqbridge/irqbridge/vfio/vfiotest"
)

// withIOMMUFD runs a test on every machine with iommufd. A machine without has no such node.
func withIOMMUFD(t *testing.T, f func(t *testing.T, m *vfiotest.Machine)) {
	t.Helper()
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		switch {
		case !m.Host.HasIOMMUFD():
			_, err := m.Kernel.Open("/dev/iommu")
			assert.Equal(t, "ENOENT", errno(err))
		case m.Backend == vfio.BackendIOMMUFD: // once
			f(t, m)
		}
	})
}

// sized is a structure as the argument of an ioctl, with its size, which it starts with, set.
func sized[T uapi.Struct](v T) []byte {
	arg := make([]byte, uapi.Size[T]())
	uapi.Put(arg, v)
	setSize(arg, len(arg))
	return arg
}

func setSize(arg []byte, n int) { copy(arg, fdData(n)) }

// openIOMMUFD opens /dev/iommu.
func openIOMMUFD(t *testing.T, m *vfiotest.Machine) int {
	t.Helper()
	fd, err := m.Kernel.Open("/dev/iommu")
	require.NoError(t, err)
	return fd
}

// openNode opens a device's own node.
func openNode(t *testing.T, m *vfiotest.Machine, a pci.Address) int {
	t.Helper()
	node := m.Host.DeviceNode(a)
	require.NotEmpty(t, node)
	fd, err := m.Kernel.Open(node)
	require.NoError(t, err)
	return fd
}

// newIOAS makes an address space.
func newIOAS(t *testing.T, m *vfiotest.Machine, iommufd int) uint32 {
	t.Helper()
	arg := sized(uapi.IOMMUIOASAlloc{})
	require.NoError(t, m.Kernel.IOASAlloc(iommufd, arg))
	return uapi.Take[uapi.IOMMUIOASAlloc](arg).OutIoasID
}

// destroy ends an object of an iommufd.
func destroy(m *vfiotest.Machine, iommufd int, id uint32) error {
	return m.Kernel.IOMMUDestroy(iommufd, sized(uapi.IOMMUDestroy{ID: id}))
}

// bind binds the device to an iommufd.
func (r *raw) bind(iommufd int) (id uint32, err error) {
	arg := sized(uapi.DeviceBindIOMMUFD{Iommufd: int32(iommufd)})
	err = r.k.DeviceBindIOMMUFD(r.device, arg, nil)
	return uapi.Take[uapi.DeviceBindIOMMUFD](arg).OutDevid, err
}

// attach attaches the device to an address space or a page table.
func (r *raw) attach(id *uint32) error {
	_, err := r.attachTo(*id)
	return err
}

// attachTo is attach, with what the kernel made of the identifier.
func (r *raw) attachTo(id uint32) (uint32, error) {
	arg := sized(uapi.DeviceAttachIOMMUFDPT{PtID: id})
	err := r.k.DeviceAttachIOMMUFDPT(r.device, arg)
	return uapi.Take[uapi.DeviceAttachIOMMUFDPT](arg).PtID, err
}

func (r *raw) detach() error {
	return r.k.DeviceDetachIOMMUFDPT(r.device, sized(uapi.DeviceDetachIOMMUFDPT{}))
}

func (r *raw) info() error { return r.k.DeviceGetInfo(r.device, sized(uapi.DeviceInfo{})) }

// unboundRaw is a device of which only the own node is open, and an iommufd beside it.
func unboundRaw(t *testing.T, m *vfiotest.Machine, a pci.Address) *raw {
	t.Helper()
	m.Bind(t, a)
	r := newRaw(t, m, a)
	r.container, r.device = openIOMMUFD(t, m), openNode(t, m, a)
	return r
}

// TestIOMMUFDSetup has the cases of the kernel's own test vfio_iommufd_setup_test (tools/testing/selftests/vfio).
func TestIOMMUFDSetup(t *testing.T) {
	withIOMMUFD(t, func(t *testing.T, m *vfiotest.Machine) {
		t.Run("Bind", func(t *testing.T) {
			r := unboundRaw(t, m, m.EDU)
			_, err := r.bind(r.container)
			require.NoError(t, err)
			assert.NoError(t, r.info())
		})
		t.Run("GetInfoWithoutBind", func(t *testing.T) {
			r := unboundRaw(t, m, m.EDU)
			assert.Equal(t, "EINVAL", errno(r.info()))
		})
		t.Run("BadIOMMUFD", func(t *testing.T) {
			r := unboundRaw(t, m, m.EDU)
			_, err := r.bind(-2)
			assert.Equal(t, "EINVAL", errno(err))
			assert.Equal(t, "EINVAL", errno(r.info()), "it is not bound")
		})
		t.Run("RepeatedBind", func(t *testing.T) {
			r := unboundRaw(t, m, m.EDU)
			_, err := r.bind(r.container)
			require.NoError(t, err)
			_, err = r.bind(r.container)
			assert.Equal(t, "EINVAL", errno(err))
			assert.NoError(t, r.info())
		})
		t.Run("AttachDetach", func(t *testing.T) {
			r := unboundRaw(t, m, m.EDU)
			_, err := r.bind(r.container)
			require.NoError(t, err)
			id := newIOAS(t, m, r.container)
			table, err := r.attachTo(id)
			require.NoError(t, err)
			assert.NotZero(t, table)
			assert.NotEqual(t, id, table)
			assert.NoError(t, r.detach())
		})
		t.Run("AttachInvalidPT", func(t *testing.T) {
			r := unboundRaw(t, m, m.EDU)
			_, err := r.bind(r.container)
			require.NoError(t, err)
			_, err = r.attachTo(math.MaxUint32)
			assert.Equal(t, "ENOENT", errno(err))
		})
	})
}

// Before BIND, an open of a device's node is good for nothing else, and in nobody's way.
func TestUnboundNode(t *testing.T) {
	withIOMMUFD(t, func(t *testing.T, m *vfiotest.Machine) {
		r := unboundRaw(t, m, m.EDU)
		second := newRaw(t, m, m.EDU)
		second.device = openNode(t, m, m.EDU)
		_, setErr := r.set(none|trigger, intx, 0, 0, nil)
		_, readErr := r.k.Pread(r.device, make([]byte, 4), 0)
		_, writeErr := r.k.Pwrite(r.device, make([]byte, 4), 0)
		_, mapErr := r.k.Mmap(r.device, 0, 4096)
		_, attachErr := r.attachTo(1)
		for what, err := range map[string]error{
			"info": r.info(), "region info": r.k.DeviceGetRegionInfo(r.device, sized(uapi.RegionInfo{})),
			"irq info": r.k.DeviceGetIRQInfo(r.device, sized(uapi.IRQInfo{})), "set irqs": setErr, "reset": r.k.DeviceReset(r.device),
			"read": readErr, "write": writeErr, "map": mapErr, "attach": attachErr, "detach": r.detach(),
			"a group's ioctl": r.k.GroupUnsetContainer(r.device),
		} {
			assert.Equal(t, "EINVAL", errno(err), what)
		}
		group := openGroup(t, m, deviceGroup(t, m))
		_, err := r.bind(r.container)
		assert.Equal(t, "EBUSY", errno(err), "while the group is open")
		require.NoError(t, r.k.Close(group))
		_, err = r.bind(r.container)
		require.NoError(t, err)
		_, err = r.k.Open(fmt.Sprintf("/dev/vfio/%d", deviceGroup(t, m)))
		assert.Equal(t, "EBUSY", errno(err), "the group, while the device is bound")
		_, err = second.bind(r.container)
		assert.Equal(t, "EINVAL", errno(err), "by another open of it")
		require.NoError(t, r.k.Close(r.device))
		r.device = -1
		_, err = second.bind(r.container)
		assert.NoError(t, err, "which is free to be once the first is closed")
	})
}

// The calls of a device's node in each state, and with each wrong argument.
func TestNode(t *testing.T) {
	withIOMMUFD(t, func(t *testing.T, m *vfiotest.Machine) {
		r := unboundRaw(t, m, m.EDU)
		k := m.Kernel
		var b strings.Builder
		say := func(what string, err error) { fmt.Fprintf(&b, "%s: %s\n", what, errno(err)) }
		bind := func(what string, size int, v uapi.DeviceBindIOMMUFD, tail byte) {
			arg := append(sized(v), make([]byte, 40)...)
			setSize(arg, size)
			arg[24] = tail
			say("bind, "+what, k.DeviceBindIOMMUFD(r.device, arg, nil))
		}
		container, err := k.Open("/dev/vfio/vfio")
		require.NoError(t, err)
		fd := int32(r.container)
		bind("size 0", 0, uapi.DeviceBindIOMMUFD{Iommufd: fd}, 0)
		bind("size 15", 15, uapi.DeviceBindIOMMUFD{Iommufd: fd}, 0)
		bind("something behind the structure", 64, uapi.DeviceBindIOMMUFD{Iommufd: fd}, 1)
		bind("an unknown flag", 24, uapi.DeviceBindIOMMUFD{Iommufd: fd, Flags: 2}, 0)
		bind("iommufd -1", 24, uapi.DeviceBindIOMMUFD{Iommufd: -1}, 0)
		bind("a closed descriptor", 24, uapi.DeviceBindIOMMUFD{Iommufd: 1_000_000}, 0)
		bind("a container", 24, uapi.DeviceBindIOMMUFD{Iommufd: int32(container)}, 0)
		bind("the device", 24, uapi.DeviceBindIOMMUFD{Iommufd: int32(r.device)}, 0)
		token := sized(uapi.DeviceBindIOMMUFD{Iommufd: fd, Flags: uapi.DeviceBindFlagToken})
		say("bind, a token that is not wanted", k.DeviceBindIOMMUFD(r.device, token, &[16]byte{1}))
		bind("an older structure", 16, uapi.DeviceBindIOMMUFD{Iommufd: fd}, 0)
		bind("again", 24, uapi.DeviceBindIOMMUFD{Iommufd: fd}, 0)
		bind("again, a closed descriptor", 24, uapi.DeviceBindIOMMUFD{Iommufd: 1_000_000}, 0)
		say("device's info", r.info())
		say("group's ioctl on a device", k.GroupUnsetContainer(r.device))

		say("detach while not attached", r.detach())
		attach := func(what string, size int, flags, id uint32) {
			arg := append(sized(uapi.DeviceAttachIOMMUFDPT{Flags: flags, PtID: id}), fdData(5, 0)...) // PASID 5
			setSize(arg, size)
			say("attach, "+what, k.DeviceAttachIOMMUFDPT(r.device, arg))
		}
		first, second := newIOAS(t, m, r.container), newIOAS(t, m, r.container)
		attach("size 11", 11, 0, first)
		attach("an unknown flag", 12, 2, first)
		attach("a PASID without room for it", 12, 1, first)
		attach("a PASID", 16, 1, first)
		attach("no such object", 12, 0, 99)
		attach("object 0", 12, 0, 0)
		attach("", 12, 0, first)
		attach("again", 12, 0, first)
		say("destroy the address space in use", destroy(m, r.container, first))
		attach("another address space", 12, 0, second)
		say("destroy the address space that was left", destroy(m, r.container, first))
		table, err := r.attachTo(second)
		say("attach to the same", err)
		say("destroy the page table in use", destroy(m, r.container, table))
		detach := func(what string, size int, flags uint32) {
			arg := append(sized(uapi.DeviceDetachIOMMUFDPT{Flags: flags}), fdData(5, 0)...)
			setSize(arg, size)
			say("detach, "+what, k.DeviceDetachIOMMUFDPT(r.device, arg))
		}
		detach("size 7", 7, 0)
		detach("an unknown flag", 8, 2)
		detach("a PASID without room for it", 8, 1)
		detach("a PASID that is not attached", 12, 1)
		detach("", 8, 0)
		detach("again", 8, 0)
		say("attach to the page table that ended with it", func() error { _, err := r.attachTo(table); return err }())
		say("destroy the address space", destroy(m, r.container, second))
		say("destroy it again", destroy(m, r.container, second))

		// On other files.
		say("bind of an iommufd", k.DeviceBindIOMMUFD(r.container, sized(uapi.DeviceBindIOMMUFD{Iommufd: fd}), nil))
		say("bind of a container", k.DeviceBindIOMMUFD(container, sized(uapi.DeviceBindIOMMUFD{Iommufd: fd}), nil))
		say("IOAS alloc on a device", k.IOASAlloc(r.device, sized(uapi.IOMMUIOASAlloc{})))
		say("IOAS alloc on a container", k.IOASAlloc(container, sized(uapi.IOMMUIOASAlloc{})))
		say("device's ioctl on an iommufd", k.DeviceReset(r.container))
		_, err = k.Pread(r.container, make([]byte, 4), 0)
		say("read of an iommufd", err)
		_, err = k.Mmap(r.container, 0, 4096)
		say("map of an iommufd", err)
		say("close", k.Close(container))
		golden(t, m, "node", b.String())
	})
}

// A device that was opened through its group knows nothing of iommufds.
func TestIOMMUFDOnGroupsDevice(t *testing.T) {
	withIOMMUFD(t, func(t *testing.T, m *vfiotest.Machine) {
		m.Bind(t, m.EDU)
		r := openByGroup(t, m, m.EDU)
		iommufd := openIOMMUFD(t, m)
		_, err := r.bind(iommufd)
		assert.Equal(t, "EINVAL", errno(err))
		_, err = r.attachTo(1)
		assert.Equal(t, "ENOTTY", errno(err))
		assert.Equal(t, "ENOTTY", errno(r.detach()))
		require.NoError(t, m.Kernel.Close(iommufd))
	})
}

// Devices of one group are in one iommufd and one address space.
func TestGroupInOneAddressSpace(t *testing.T) {
	withIOMMUFD(t, func(t *testing.T, m *vfiotest.Machine) {
		one := unboundRaw(t, m, m.BridgeEDU)
		_, err := one.bind(one.container)
		assert.Equal(t, "EPERM", errno(err), "the e1000 is with its driver")
		two := unboundRaw(t, m, m.BridgeE1000)
		_, err = one.bind(one.container)
		require.NoError(t, err)
		_, err = two.bind(two.container)
		assert.Equal(t, "EPERM", errno(err), "another iommufd")
		_, err = two.bind(one.container)
		require.NoError(t, err)

		first, second := newIOAS(t, m, one.container), newIOAS(t, m, one.container)
		table, err := one.attachTo(first)
		require.NoError(t, err)
		_, err = two.attachTo(second)
		assert.Equal(t, "EINVAL", errno(err), "another address space")
		same, err := two.attachTo(first)
		require.NoError(t, err)
		assert.Equal(t, table, same)

		// To move one is to move both.
		moved, err := one.attachTo(second)
		require.NoError(t, err)
		assert.NotEqual(t, table, moved)
		assert.NoError(t, destroy(m, one.container, first))
		same, err = two.attachTo(second)
		require.NoError(t, err)
		assert.Equal(t, moved, same)

		// The iommufd lives as long as its devices; the group is free when they are closed.
		require.NoError(t, m.Kernel.Close(one.container))
		one.container = -1
		require.NoError(t, m.Kernel.Close(one.device))
		one.device = -1
		assert.NoError(t, two.info())
		require.NoError(t, m.Kernel.Close(two.device))
		two.device = openNode(t, m, m.BridgeE1000)
		_, err = two.bind(two.container)
		assert.NoError(t, err)
	})
}

// Two descriptors of an iommufd are one iommufd.
func TestDupIOMMUFD(t *testing.T) {
	withIOMMUFD(t, func(t *testing.T, m *vfiotest.Machine) {
		first := openIOMMUFD(t, m)
		second, err := m.Kernel.Dup(first)
		require.NoError(t, err)
		id := newIOAS(t, m, first)
		require.NoError(t, m.Kernel.Close(first))
		assert.NoError(t, destroy(m, second, id))
		require.NoError(t, m.Kernel.Close(second))
		_, err = m.Kernel.Dup(second)
		assert.Equal(t, "EBADF", errno(err))
	})
}

// A node's number leads to the device.
func TestDeviceNumber(t *testing.T) {
	withIOMMUFD(t, func(t *testing.T, m *vfiotest.Machine) {
		r := unboundRaw(t, m, m.EDU)
		major, minor, err := m.Kernel.DeviceNumber(r.device)
		require.NoError(t, err)
		a, err := m.Host.DeviceOf(major, minor)
		require.NoError(t, err)
		assert.Equal(t, m.EDU, a)
		major, minor, err = m.Kernel.DeviceNumber(r.container)
		require.NoError(t, err)
		_, err = m.Host.DeviceOf(major, minor)
		assert.Error(t, err, "no device's")
		_, _, err = m.Kernel.DeviceNumber(1_000_000)
		assert.Equal(t, "EBADF", errno(err))
	})
}

// What can be mapped in an address space, where, and what is answered when it cannot; without a device and with one.
func TestIOAS(t *testing.T) {
	withIOMMUFD(t, func(t *testing.T, m *vfiotest.Machine) {
		r := unboundRaw(t, m, m.EDU)
		k := m.Kernel
		_, err := r.bind(r.container)
		require.NoError(t, err)
		memory, err := k.Allocate(4*os.Getpagesize(), 0)
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, memory.Unmap()) })
		va := memory.Address()
		var b strings.Builder
		say := func(what string, err error) { fmt.Fprintf(&b, "%s: %s\n", what, errno(err)) }

		const fixed, write, read = uapi.IOASMapFixedIOVA, uapi.IOASMapWriteable, uapi.IOASMapReadable
		for _, attached := range []bool{false, true} {
			id := newIOAS(t, m, r.container)
			fmt.Fprintf(&b, "attached: %v\n", attached)
			if attached {
				require.NoError(t, r.attach(&id))
			}
			ranges := func(what string, v uapi.IOMMUIOASIOVARanges, n int) {
				out := make([]uapi.IOMMUIOVARange, n)
				arg := sized(v)
				err := k.IOASIOVARanges(r.container, arg, out)
				answer := uapi.Take[uapi.IOMMUIOASIOVARanges](arg)
				fmt.Fprintf(&b, "  ranges, %s: %s, %d, alignment %d,", what, errno(err), answer.NumIovas, answer.OutIovaAlignment)
				for _, o := range out {
					fmt.Fprintf(&b, " 0x%x-0x%x", o.Start, o.Last)
				}
				b.WriteByte('\n')
			}
			ranges("no room", uapi.IOMMUIOASIOVARanges{IoasID: id}, 0)
			ranges("room for 1", uapi.IOMMUIOASIOVARanges{IoasID: id}, 1)
			ranges("room for 4", uapi.IOMMUIOASIOVARanges{IoasID: id}, 4)
			ranges("no such object", uapi.IOMMUIOASIOVARanges{IoasID: 99}, 1)
			ranges("reserved set", uapi.IOMMUIOASIOVARanges{IoasID: id, Reserved: 1}, 1)

			mapIt := func(what string, v uapi.IOMMUIOASMap) {
				v.IoasID = id
				arg := sized(v)
				err := k.IOASMap(r.container, arg)
				fmt.Fprintf(&b, "  map, %s: %s", what, errno(err))
				if answer := uapi.Take[uapi.IOMMUIOASMap](arg); err == nil && v.Flags&fixed == 0 {
					fmt.Fprintf(&b, ", a multiple of the page %v, not 0 %v", answer.Iova%4096 == 0, answer.Iova != 0)
				}
				b.WriteByte('\n')
			}
			at := func(iova, length uint64) uapi.IOMMUIOASMap {
				return uapi.IOMMUIOASMap{Flags: fixed | write | read, UserVa: va, Length: length, Iova: iova}
			}
			flags := func(flags uint32) uapi.IOMMUIOASMap {
				v := at(0x10000, 4096)
				v.Flags = flags
				return v
			}
			unmap := func(what string, iova, length uint64) {
				arg := sized(uapi.IOMMUIOASUnmap{IoasID: id, Iova: iova, Length: length})
				err := k.IOASUnmap(r.container, arg)
				fmt.Fprintf(&b, "  unmap, %s: %s", what, errno(err))
				if err == nil {
					fmt.Fprintf(&b, ", 0x%x bytes", uapi.Take[uapi.IOMMUIOASUnmap](arg).Length)
				}
				b.WriteByte('\n')
			}
			mapIt("an unknown flag", flags(fixed|write|8))
			mapIt("no access", flags(fixed))
			mapIt("reserved set", uapi.IOMMUIOASMap{Flags: fixed | write, Reserved: 1, UserVa: va, Length: 4096, Iova: 0x10000})
			mapIt("size 0", at(0x10000, 0))
			mapIt("size 1", at(0x10000, 1))
			unmap("size 1", 0x10000, 1)
			mapIt("unaligned IOVA", at(0x10001, 4096))
			unmap("unaligned IOVA", 0x10001, 4096)
			unaligned := at(0x10000, 4096)
			unaligned.UserVa++
			mapIt("unaligned memory", unaligned)
			unmap("unaligned memory", 0x10000, 4096)
			mapIt("greatest size", at(0x10000, math.MaxUint64))
			mapIt("greatest IOVA", at(math.MaxUint64, 4096))
			mapIt("around the end", at(math.MaxUint64-4095, 8192))
			mapIt("in the messages' window", at(0xfee0_0000, 4096))
			unmap("in the messages' window", 0xfee0_0000, 4096)
			mapIt("across the messages' window", at(0xfedf_f000, 8192))
			unmap("across the messages' window", 0xfedf_f000, 8192)
			mapIt("behind 39 bits", at(1<<39, 4096))
			unmap("behind 39 bits", 1<<39, 4096)
			nowhere := at(0x10000, 4096)
			nowhere.UserVa = 0x1000
			mapIt("no memory there", nowhere)
			unmap("no memory there", 0x10000, 4096)
			aroundMemory := at(0x10000, 4096)
			aroundMemory.UserVa = math.MaxUint64 - 4095
			mapIt("memory around the end", aroundMemory)

			mapIt("two pages", at(0x10000, 8192))
			mapIt("the same", at(0x10000, 8192))
			mapIt("the first page of it", at(0x10000, 4096))
			mapIt("across its end", at(0x11000, 8192))
			mapIt("beside it", at(0x12000, 4096))
			mapIt("at address 0", at(0, 4096))
			mapIt("read only", uapi.IOMMUIOASMap{Flags: fixed | read, UserVa: va, Length: 4096, Iova: 0x20000})
			mapIt("write only", uapi.IOMMUIOASMap{Flags: fixed | write, UserVa: va, Length: 4096, Iova: 0x21000})
			mapIt("anywhere", uapi.IOMMUIOASMap{Flags: read | write, UserVa: va, Length: 8192})
			mapIt("anywhere, size 0", uapi.IOMMUIOASMap{Flags: read | write, UserVa: va})

			unmap("the first page of two", 0x10000, 4096)
			unmap("the second page of two", 0x11000, 4096)
			unmap("size 0", 0x10000, 0)
			unmap("around the end", math.MaxUint64-4095, 8192)
			unmap("greatest IOVA", math.MaxUint64, 1)
			unmap("greatest size", 1, math.MaxUint64)
			unmap("both pages", 0x10000, 8192)
			unmap("both pages again", 0x10000, 8192)
			unmap("three mappings and holes", 0x12000, 0x10000)
			unmap("one whole and a part of the next", 0, 0x1000)
			mapIt("three pages", at(0x30000, 3*4096))
			mapIt("one before", at(0x2f000, 4096))
			unmap("one whole and a part of the next", 0x2f000, 0x2000)
			unmap("the one", 0x2f000, 0x1000)
			unmap("everything", 0, math.MaxUint64)
			unmap("everything again", 0, math.MaxUint64)
			if attached {
				say("  detach", r.detach())
			}
			say("  destroy", destroy(m, r.container, id))
		}

		// An address space that has memory mapped is refused by a device that cannot be given it.
		for what, v := range map[string]uapi.IOMMUIOASMap{
			"1: fine":                     {UserVa: va, Iova: 0x10000, Length: 4096},
			"2: unaligned":                {UserVa: va, Iova: 0x10001, Length: 4095},
			"3: in the messages' window":  {UserVa: va, Iova: 0xfee0_0000, Length: 4096},
			"4: beyond the IOMMU":         {UserVa: va, Iova: 1 << 60, Length: 4096},
			"5: where there is no memory": {UserVa: 0x1000, Iova: 0x10000, Length: 4096},
		} {
			id := newIOAS(t, m, r.container)
			v.IoasID, v.Flags = id, fixed|read|write
			require.NoError(t, k.IOASMap(r.container, sized(v)), what)
			golden := map[byte]string{'1': "ok", '2': "EADDRINUSE", '3': "EADDRINUSE", '4': "EADDRINUSE", '5': "EFAULT"}[what[0]]
			assert.Equal(t, golden, errno(r.attach(&id)), what)
			require.NoError(t, r.detach())
			require.NoError(t, destroy(m, r.container, id))
		}
		golden(t, m, "ioas", b.String())
	})
}

// /dev/iommu takes structures that are larger than it knows only when the rest is zero.
func TestSize(t *testing.T) {
	withIOMMUFD(t, func(t *testing.T, m *vfiotest.Machine) {
		fd := openIOMMUFD(t, m)
		id := newIOAS(t, m, fd)
		k := m.Kernel
		var b strings.Builder
		for _, c := range []struct {
			name string
			arg  []byte
			call func(arg []byte) error
		}{
			{"alloc", sized(uapi.IOMMUIOASAlloc{}), func(arg []byte) error { return k.IOASAlloc(fd, arg) }},
			{"ranges", sized(uapi.IOMMUIOASIOVARanges{IoasID: id}), func(arg []byte) error { return k.IOASIOVARanges(fd, arg, make([]uapi.IOMMUIOVARange, 1)) }},
			{"map", sized(uapi.IOMMUIOASMap{IoasID: id}), func(arg []byte) error { return k.IOASMap(fd, arg) }},
			{"unmap", sized(uapi.IOMMUIOASUnmap{IoasID: id, Length: math.MaxUint64}), func(arg []byte) error { return k.IOASUnmap(fd, arg) }},
			{"destroy", sized(uapi.IOMMUDestroy{ID: id + 10}), func(arg []byte) error { return k.IOMMUDestroy(fd, arg) }},
		} {
			n := len(c.arg)
			for _, size := range []int{0, n - 1, n, n + 1, n + 8, 256} {
				for _, tail := range []byte{0, 1} {
					arg := append(append([]byte{}, c.arg...), make([]byte, 256)...)
					setSize(arg, size)
					arg[n] = tail
					fmt.Fprintf(&b, "%s, size %d, %d behind it: %s\n", c.name, size, tail, errno(c.call(arg)))
				}
			}
		}
		alloc := sized(uapi.IOMMUIOASAlloc{Flags: 1})
		fmt.Fprintf(&b, "alloc with a flag: %s\n", errno(k.IOASAlloc(fd, alloc)))
		fmt.Fprintf(&b, "destroy object 0: %s\n", errno(destroy(m, fd, 0)))
		require.NoError(t, k.Close(fd))
		fmt.Fprintf(&b, "alloc on a closed descriptor: %s\n", errno(k.IOASAlloc(fd, sized(uapi.IOMMUIOASAlloc{}))))
		null, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
		require.NoError(t, err)
		fmt.Fprintf(&b, "alloc on a file: %s\n", errno(k.IOASAlloc(null, sized(uapi.IOMMUIOASAlloc{}))))
		require.NoError(t, unix.Close(null))
		golden(t, m, "iommufd", b.String())
	})
}
