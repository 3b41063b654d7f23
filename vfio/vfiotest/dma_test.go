package vfiotest_test

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/irqbridge/irqbridge/vfio"
	"github.com/irqbridge/irqbridge/vfio/internal/uapi"
	"github.com/irqbridge/irqbridge/vfio/vfiotest"
)

// ioSpace is a container with an IOMMU driver and edu's group.
type ioSpace struct {
	t         *testing.T
	m         *vfiotest.Machine
	container int
	group     int
	device    int // -1 where the group is enough for the IOMMU's limits to be in force
}

// openSpace binds edu, and puts its group into a container of that mode.
func openSpace(t *testing.T, m *vfiotest.Machine, mode iommuMode) *ioSpace {
	t.Helper()
	m.Bind(t, m.EDU)
	s := &ioSpace{t: t, m: m, container: -1, group: -1, device: -1}
	t.Cleanup(s.close)
	var err error
	s.container, err = m.Kernel.Open(mode.space)
	require.NoError(t, err)
	s.group = openGroup(t, m, deviceGroup(t, m))
	require.NoError(t, m.Kernel.GroupSetContainer(s.group, s.container))
	require.NoError(t, m.Kernel.SetIOMMU(s.container, mode.driver))
	if mode.compat() {
		s.device, err = m.Kernel.GroupGetDeviceFD(s.group, m.EDU.String())
		require.NoError(t, err)
	}
	return s
}

func (s *ioSpace) close() {
	for _, fd := range []*int{&s.device, &s.group, &s.container} {
		if *fd >= 0 {
			assert.NoError(s.t, s.m.Kernel.Close(*fd))
			*fd = -1
		}
	}
}

// memory is memory of the process, given back at the end.
func (s *ioSpace) memory(length, hugePage int) uapi.Memory {
	s.t.Helper()
	return allocate(s.t, s.m.Kernel, length, hugePage)
}

const (
	readWrite = uapi.DMAMapRead | uapi.DMAMapWrite
	unmapAll  = uapi.DMAUnmapAll
)

func (s *ioSpace) mapDMA(argsz, flags uint32, vaddr, iova, size uint64) error {
	arg := make([]byte, max(argsz, uapi.IOMMUDMAMapMinSize))
	uapi.Put(arg, uapi.IOMMUDMAMap{Argsz: argsz, Flags: flags, Vaddr: vaddr, Iova: iova, Size: size})
	return s.m.Kernel.IOMMUMapDMA(s.container, arg)
}

// unmapDMA returns what the kernel says that it unmapped.
func (s *ioSpace) unmapDMA(argsz, flags uint32, iova, size uint64) (uint64, error) {
	arg := make([]byte, max(argsz, uapi.IOMMUDMAUnmapMinSize))
	uapi.Put(arg, uapi.IOMMUDMAUnmap{Argsz: argsz, Flags: flags, Iova: iova, Size: size})
	err := s.m.Kernel.IOMMUUnmapDMA(s.container, arg)
	return uapi.Take[uapi.IOMMUDMAUnmap](arg).Size, err
}

// lastIOVA is the last address that can be mapped in a container.
func lastIOVA(t *testing.T, k vfio.Kernel, container int) uint64 {
	t.Helper()
	arg := make([]byte, 4096)
	uapi.Put(arg, uapi.IOMMUInfo{Argsz: uint32(len(arg))})
	require.NoError(t, k.IOMMUGetInfo(container, arg))
	for at := uapi.Take[uapi.IOMMUInfo](arg).CapOffset; at != 0; {
		h := uapi.Take[uapi.InfoCapHeader](arg[at:])
		if h.ID == uapi.IOMMUInfoCapIOVARangeID {
			n := int(uapi.Take[uapi.IOMMUInfoCapIOVARange](arg[at:]).NrIovas)
			return uapi.Take[uapi.IOVARange](arg[int(at)+uapi.Size[uapi.IOMMUInfoCapIOVARange]()+(n-1)*16:]).End
		}
		at = h.Next
	}
	require.Fail(t, "the kernel does not say which addresses can be mapped")
	return 0
}

// What the container tells about its IOMMU, for every size of the answer.
func TestIOMMUInfo(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		s := openSpace(t, m, modeType1v2)
		var b strings.Builder
		for _, argsz := range []uint32{0, 15, 16, 19, 20, 23, 24, 25, 107, 108, 111, 112, 115, 116, 119, 120, 127, 128, 136, 200} {
			arg := bytes.Repeat([]byte{0xa5}, 200)
			uapi.Put(arg, uapi.GroupStatus{Argsz: argsz, Flags: 0xa5a5a5a5}) // the two that every structure starts with
			err := m.Kernel.IOMMUGetInfo(s.container, arg)
			fmt.Fprintf(&b, "argsz %d: %s %x\n", argsz, errno(err), bytes.TrimRight(arg, "\xa5"))
		}
		memory := s.memory(4096, 0)
		require.NoError(t, s.mapDMA(32, readWrite, memory.Address(), 0, 4096))
		arg := make([]byte, 200)
		uapi.Put(arg, uapi.GroupStatus{Argsz: 200})
		require.NoError(t, m.Kernel.IOMMUGetInfo(s.container, arg))
		fmt.Fprintf(&b, "with a mapping: %x\n", bytes.TrimRight(arg, "\x00"))
		golden(t, m, "iommu-info", b.String())
	})
}

// What MAP_DMA and UNMAP_DMA answer to arguments good and bad, in both versions of the driver, and of an iommufd in its place.
func TestDMAErrnos(t *testing.T) {
	for _, c := range []struct {
		name string
		mode iommuMode
	}{{"type1", modeType1}, {"type1v2", modeType1v2}} {
		t.Run(c.name, func(t *testing.T) {
			vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
				golden(t, m, "dma-"+c.name, dmaErrnos(t, m, c.mode))
			})
		})
	}
	for _, c := range []struct {
		name string
		mode iommuMode
	}{{"compat-type1", modeCompatType1}, {"compat-type1v2", modeCompatType1v2}} {
		t.Run(c.name, func(t *testing.T) {
			withIOMMUFD(t, func(t *testing.T, m *vfiotest.Machine) {
				golden(t, m, "dma-"+c.name, dmaErrnos(t, m, c.mode))
			})
		})
	}
}

func dmaErrnos(t *testing.T, m *vfiotest.Machine, mode iommuMode) string {
	const page = 4096
	s := openSpace(t, m, mode)
	memory, last := s.memory(64*page, 0), lastIOVA(t, m.Kernel, s.container)
	at, end := memory.Address(), memory.Address()+64*page
	var b strings.Builder
	say := func(what string, err error) { fmt.Fprintf(&b, "%s: %s\n", what, errno(err)) }
	mapping := func(what string, flags uint32, vaddr, iova, size uint64) {
		say(fmt.Sprintf("map %s, flags %d at 0x%x size 0x%x", what, flags, iova, size), s.mapDMA(32, flags, vaddr, iova, size))
	}
	unmapping := func(what string, flags uint32, iova, size uint64) {
		n, err := s.unmapDMA(24, flags, iova, size)
		fmt.Fprintf(&b, "unmap %s, flags %d at 0x%x size 0x%x: %s 0x%x\n", what, flags, iova, size, errno(err), n)
	}

	for _, argsz := range []uint32{0, 31, 32, 33, 64} {
		say(fmt.Sprintf("map with argsz %d", argsz), s.mapDMA(argsz, readWrite, at, 0x10000, page))
		_, err := s.unmapDMA(24, 0, 0x10000, page)
		require.NoError(t, err)
	}
	for _, argsz := range []uint32{0, 23, 24, 25, 64} {
		_, err := s.unmapDMA(argsz, 0, 0x10000, page)
		say(fmt.Sprintf("unmap with argsz %d", argsz), err)
	}
	for flags := range uint32(9) {
		mapping("with flags", flags, at, 0x10000, page)
		unmapping("it", 0, 0x10000, page)
	}
	for _, flags := range []uint32{1, 3, 4, 6, 7, 8, 0x80000000} {
		unmapping("with flags", flags, 0, 0)
	}

	mapping("good", readWrite, at, 0x10000, page)
	mapping("again", readWrite, at, 0x10000, page)
	mapping("over it", readWrite, at, 0xf000, 3*page)
	mapping("over its start", readWrite, at, 0xf000, 2*page)
	mapping("before it", readWrite, at, 0xf000, page)
	mapping("behind it", readWrite, at, 0x11000, page)
	mapping("the same memory elsewhere", readWrite, at, 0x20000, page)
	mapping("nothing", readWrite, at, 0x30000, 0)
	mapping("less than a page", readWrite, at, 0x30000, 1)
	mapping("at an odd address", readWrite, at, 0x30001, page)
	mapping("odd memory", readWrite, at+1, 0x30000, page)
	mapping("the messages' window", readWrite, at, 0xfee00000, page)
	mapping("up to the messages' window", readWrite, at, 0xfedff000, page)
	mapping("into the messages' window", readWrite, at, 0xfedfe000, 3*page)
	mapping("the last page", readWrite, at, last-page+1, page)
	mapping("beyond the last page", readWrite, at, last-page+1, 2*page)
	mapping("behind the last page", readWrite, at, last+1, page)
	mapping("the top of all addresses", readWrite, at, math.MaxUint64-page+1, page)
	mapping("over the top of all addresses", readWrite, at, math.MaxUint64-page+1, 2*page)
	mapping("everything", readWrite, at, 0, math.MaxUint64-page+1)
	mapping("no memory", readWrite, 0, 0x30000, page)
	mapping("memory that is not there", readWrite, 1<<46, 0x30000, page)
	mapping("memory that wraps", readWrite, math.MaxUint64-page+1, 0x30000, 2*page)
	mapping("memory and what is behind it", readWrite, end-page, 0x30000, 1<<30)
	unmapping("what is not mapped", 0, 0x30000, page)
	unmapping("all", unmapAll, 0, 0)
	unmapping("all again", unmapAll, 0, 0)

	for i := range uint64(4) { // four of two pages each, with a hole before the last
		iova := 0x100000 + i*2*page
		if i == 3 {
			iova += 2 * page
		}
		mapping("two pages", readWrite, at, iova, 2*page)
	}
	unmapping("with a size for all", unmapAll, 0, page)
	unmapping("with an address for all", unmapAll, 0x100000, 0)
	unmapping("nothing", 0, 0x100000, 0)
	unmapping("less than a page", 0, 0x100000, 1)
	unmapping("at an odd address", 0, 0x100001, page)
	unmapping("over the top", 0, math.MaxUint64-page+1, 2*page)
	unmapping("a second page", 0, 0x101000, page)
	unmapping("a first page", 0, 0x100000, page)
	unmapping("from a second page", 0, 0x103000, 3*page)
	unmapping("to a first page", 0, 0x102000, 3*page)
	unmapping("two and a hole", 0, 0x102000, 6*page)
	unmapping("from a hole", 0, 0x106000, 4*page)
	unmapping("a hole", 0, 0x106000, 2*page)
	unmapping("everything", 0, 0, math.MaxUint64-page+1)

	say("map on the group", m.Kernel.IOMMUMapDMA(s.group, make([]byte, 32)))
	say("unmap on the group", m.Kernel.IOMMUUnmapDMA(s.group, make([]byte, 24)))
	say("info on the group", m.Kernel.IOMMUGetInfo(s.group, make([]byte, 16)))
	empty, err := m.Kernel.Open(mode.space)
	require.NoError(t, err)
	s.container, empty = empty, s.container
	say("map without an IOMMU", s.mapDMA(32, readWrite, at, 0x10000, page))
	_, err = s.unmapDMA(24, 0, 0x10000, page)
	say("unmap without an IOMMU", err)
	say("info without an IOMMU", m.Kernel.IOMMUGetInfo(s.container, make([]byte, 16)))
	require.NoError(t, m.Kernel.Close(s.container))
	s.container = empty
	say("map on nothing", m.Kernel.IOMMUMapDMA(1_000_000, make([]byte, 32)))
	return b.String()
}

// TestDMAMapping has the cases of the kernel's own selftest vfio_dma_mapping_test: with each size of page, map and unmap; at
// the last address that there is, unmap what was mapped and unmap everything; and do not take what goes beyond.
func TestDMAMapping(t *testing.T) {
	pages := []struct {
		name       string
		size, huge int
	}{{"4KiB", 4 << 10, 0}, {"2MiB", 2 << 20, 2 << 20}, {"1GiB", 1 << 30, 1 << 30}}
	inEachMode(t, func(t *testing.T, m *vfiotest.Machine, mode iommuMode) {
		m.Bind(t, m.EDU)
		for _, page := range pages {
			t.Run(page.name, func(t *testing.T) {
				takeHugePages(t, m, page.huge, 1)
				r := mode.open(t, m, m.EDU)
				size := uint64(page.size)
				memory := r.memory(page.size, page.huge)
				top := r.lastIOVA() - size + 1

				t.Run("map_unmap", func(t *testing.T) {
					require.NoError(t, r.mapAt(memory.Address(), size, size))
					n, err := r.unmapAt(size, size)
					require.NoError(t, err)
					assert.Equal(t, size, n)
					n, err = r.unmapAt(size, size)
					if mode.name == "iommufd" {
						assert.Equal(t, "ENOENT", errno(err), "it is gone")
					} else {
						require.NoError(t, err)
						assert.Zero(t, n, "it is gone")
					}
				})
				t.Run("unmap_range", func(t *testing.T) {
					require.NoError(t, r.mapAt(memory.Address(), top, size))
					n, err := r.unmapAt(top, size)
					require.NoError(t, err)
					assert.Equal(t, size, n)
				})
				t.Run("unmap_all", func(t *testing.T) {
					require.NoError(t, r.mapAt(memory.Address(), top, size))
					n, err := r.unmapAll()
					require.NoError(t, err)
					assert.Equal(t, size, n)
				})
				t.Run("overflow", func(t *testing.T) {
					want := unix.EOVERFLOW
					if m.Version == vfiotest.V6_1 {
						want = unix.EINVAL
					}
					last := math.MaxUint64 - size + 1
					assert.Equal(t, want, r.mapAt(memory.Address(), last, 2*size))
					_, err := r.unmapAt(last, 2*size)
					assert.Equal(t, want, err)
				})
			})
		}
	})
}

// takeHugePages sees to it that the host's pool has n free huge pages of a size, and skips the test when it cannot.
func takeHugePages(t *testing.T, m *vfiotest.Machine, size, n int) {
	t.Helper()
	if size == 0 {
		return
	}
	r := &raw{t: t, m: m}
	dir := fmt.Sprintf("/sys/kernel/mm/hugepages/hugepages-%dkB/", size>>10)
	number := func(name string) int {
		text, err := r.readFile(dir + name)
		require.NoError(t, err)
		v, err := strconv.Atoi(strings.TrimSpace(text))
		require.NoError(t, err)
		return v
	}
	before := number("nr_hugepages")
	require.NoError(t, r.writeFile(dir+"nr_hugepages", strconv.Itoa(before+n)))
	t.Cleanup(func() { assert.NoError(t, r.writeFile(dir+"nr_hugepages", strconv.Itoa(before))) })
	if free := number("free_hugepages"); free < n {
		t.Skipf("the machine's memory has room for %d huge pages of %d MiB, and %d are needed", free, size>>20, n)
	}
}

// A container takes as many mappings as the module's parameter said when it got its IOMMU driver, 65535 unless changed; one
// that is unmapped makes room for another.
func TestMappingLimit(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		const (
			page  = 4096
			limit = 5
			file  = "/sys/module/vfio_iommu_type1/parameters/dma_entry_limit"
		)
		r := &raw{t: t, m: m}
		before, err := r.readFile(file)
		require.NoError(t, err)
		assert.Equal(t, "65535", before)
		require.NoError(t, r.writeFile(file, strconv.Itoa(limit)))
		t.Cleanup(func() { assert.NoError(t, r.writeFile(file, before)) })
		s := openSpace(t, m, modeType1v2)
		memory := s.memory(page, 0)
		for i := range uint64(limit) {
			require.NoError(t, s.mapDMA(32, readWrite, memory.Address(), i*page, page))
		}
		assert.Equal(t, unix.ENOSPC, s.mapDMA(32, readWrite, memory.Address(), limit*page, page))
		assert.Equal(t, unix.EEXIST, s.mapDMA(32, readWrite, memory.Address(), 0, page), "what is wrong with it comes first")
		_, err = s.unmapDMA(24, 0, 0, page)
		require.NoError(t, err)
		require.NoError(t, s.mapDMA(32, readWrite, memory.Address(), limit*page, page))
		size, err := s.unmapDMA(24, unmapAll, 0, 0)
		require.NoError(t, err)
		assert.Equal(t, uint64(limit*page), size)
	})
}

// What is mapped is locked, once for each mapping, until it is unmapped or the container is closed.
func TestLockedMemory(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		const page = 4096
		s := openSpace(t, m, modeType1v2)
		locked := func() uint64 {
			l, err := m.Kernel.LockedMemory()
			require.NoError(t, err)
			assert.True(t, l.Unlimited, "the tests run as root")
			return l.Locked
		}
		before := locked()
		memory := s.memory(8*page, 0)
		assert.Equal(t, before, locked())
		require.NoError(t, s.mapDMA(32, readWrite, memory.Address(), 0, 8*page))
		assert.Equal(t, before+8*page, locked())
		require.NoError(t, s.mapDMA(32, readWrite, memory.Address(), 0x100000, 2*page))
		_, err := s.unmapDMA(24, 0, 0, 8*page)
		require.NoError(t, err)
		after := locked()
		s.close()
		assert.Equal(t, before, locked())
		golden(t, m, "locked", fmt.Sprintf("8 pages mapped, 2 of them twice, 8 unmapped: %d pages\n", (after-before)/page))
	})
}

// Memory that the process has given up stays locked, and the device's.
func TestUnmappedMemoryStaysMapped(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		const page = 4096
		s := openSpace(t, m, modeType1v2)
		memory, err := m.Kernel.Allocate(page, 0)
		require.NoError(t, err)
		require.NoError(t, s.mapDMA(32, readWrite, memory.Address(), 0, page))
		require.NoError(t, memory.Unmap())
		n, err := s.unmapDMA(24, 0, 0, page)
		require.NoError(t, err)
		assert.Equal(t, uint64(page), n)
	})
}

// The pool of huge pages is what there is of them.
func TestHugePages(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		const huge = 2 << 20
		takeHugePages(t, m, huge, 2)
		first, err := m.Kernel.Allocate(huge, huge)
		require.NoError(t, err)
		assert.Equal(t, huge, first.Len())
		require.NoError(t, first.Store64(huge-8, 1))
		_, err = m.Kernel.Allocate(2*huge, huge)
		assert.Equal(t, unix.ENOMEM, err)
		second, err := m.Kernel.Allocate(huge, huge)
		require.NoError(t, err)
		require.NoError(t, first.Unmap())
		require.NoError(t, second.Unmap())
		both, err := m.Kernel.Allocate(2*huge, huge)
		require.NoError(t, err)
		require.NoError(t, both.Unmap())
		_, err = m.Kernel.Allocate(8192, 8192)
		assert.Equal(t, unix.EINVAL, err)
		_, err = m.Kernel.Allocate(0, 0)
		assert.Equal(t, unix.EINVAL, err)
		_, err = m.Kernel.Allocate(os.Getpagesize(), 1<<40)
		assert.Equal(t, unix.EINVAL, err)
	})
}
