package vfio_test

import (
	"fmt"
	"io"
	"math"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/irqbridge/irqbridge/vfio"
	"github.com/irqbridge/irqbridge/vfio/internal/uapi"
	"github.com/irqbridge/irqbridge/vfio/vfiotest"
)

func TestIOVARanges(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		d := m.Open(t, m.EDU)
		ranges, err := d.IOVARanges()
		require.NoError(t, err)
		assert.Equal(t, []vfio.IOVARange{{0, 0xfedf_ffff}, {0xfef0_0000, 0x7f_ffff_ffff}}, ranges, "all but the messages' window")
		ranges[0] = vfio.IOVARange{}
		require.NoError(t, d.Close())
		again, err := d.IOVARanges()
		require.NoError(t, err, "what was learnt stays readable")
		assert.Equal(t, uint64(0xfedf_ffff), again[0].Last)
	})
}

// A buffer is zeroed, page-aligned memory that every accessor reaches, until it is closed.
func TestAllocDMA(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		d := m.Open(t, m.EDU)
		page := os.Getpagesize()
		b, err := d.AllocDMA(page + 1)
		require.NoError(t, err)
		assert.Equal(t, 2*page, b.Size())
		assert.Equal(t, uint64(page), b.IOVA(), "the lowest, but not 0")
		require.NoError(t, b.View(func(p []byte) { assert.Equal(t, make([]byte, 2*page), p) }))

		require.NoError(t, b.Store8(0, 0x11))
		require.NoError(t, b.Store16(2, 0x2222))
		require.NoError(t, b.Store32(4, 0x33333333))
		require.NoError(t, b.Store64(8, 0x4444444444444444))
		got := make([]byte, 16)
		n, err := b.ReadAt(got, 0)
		require.NoError(t, err)
		assert.Equal(t, 16, n)
		assert.Equal(t, []byte{0x11, 0, 0x22, 0x22, 0x33, 0x33, 0x33, 0x33, 0x44, 0x44, 0x44, 0x44, 0x44, 0x44, 0x44, 0x44}, got)
		n, err = b.WriteAt([]byte{1, 2, 3, 4, 5, 6, 7, 8}, int64(2*page-8))
		require.NoError(t, err)
		assert.Equal(t, 8, n)
		v8, err := b.Load8(2*page - 8)
		require.NoError(t, err)
		assert.Equal(t, uint8(1), v8)
		v16, err := b.Load16(2*page - 8)
		require.NoError(t, err)
		assert.Equal(t, uint16(0x0201), v16)
		v32, err := b.Load32(2*page - 8)
		require.NoError(t, err)
		assert.Equal(t, uint32(0x04030201), v32)
		v64, err := b.Load64(2*page - 8)
		require.NoError(t, err)
		assert.Equal(t, uint64(0x0807060504030201), v64)

		// Outside, and across the end.
		n, err = b.ReadAt(got, int64(2*page-8))
		assert.Equal(t, io.EOF, err)
		assert.Equal(t, 8, n)
		n, err = b.WriteAt(got, int64(2*page-8))
		assert.ErrorIs(t, err, unix.EINVAL)
		assert.Zero(t, n)
		_, err = b.ReadAt(got, -1)
		assert.ErrorIs(t, err, unix.EINVAL)
		_, err = b.ReadAt(got, math.MaxInt64)
		assert.Equal(t, io.EOF, err)
		_, err = b.WriteAt(got, math.MinInt64)
		assert.ErrorIs(t, err, unix.EINVAL)
		_, err = b.Load32(2*page - 2)
		assert.ErrorContains(t, err, "the buffer has 0x2000 bytes")
		_, err = b.Load32(2)
		assert.ErrorContains(t, err, "load 4 bytes at 0x2 of DMA buffer 0x1000-0x2fff: invalid argument: the offset is not a multiple of 4")
		assert.ErrorIs(t, b.Store64(-8, 0), unix.EINVAL)

		require.NoError(t, b.Close())
		require.NoError(t, b.Close())
		_, err = b.Load8(0)
		assert.ErrorIs(t, err, os.ErrClosed)
		assert.ErrorIs(t, b.Store8(0, 1), os.ErrClosed)
		_, err = b.ReadAt(got, 0)
		assert.ErrorIs(t, err, os.ErrClosed)
		_, err = b.WriteAt(got, 0)
		assert.ErrorIs(t, err, os.ErrClosed)
		assert.ErrorIs(t, b.View(func([]byte) { assert.Fail(t, "called") }), os.ErrClosed)
		assert.Equal(t, uint64(page), b.IOVA(), "what was known stays readable")
	})
}

// Where a buffer goes is up to the options.
func TestAllocDMAOptions(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		d := m.Open(t, m.EDU)
		at := func(size int, opts ...vfio.DMAOption) uint64 {
			t.Helper()
			b, err := d.AllocDMA(size, opts...)
			require.NoError(t, err)
			t.Cleanup(func() { require.NoError(t, b.Close()) })
			return b.IOVA()
		}
		assert.Equal(t, uint64(0x1000), at(0x2000))
		assert.Equal(t, uint64(0x4000), at(0x2000), "a page is left free between two")
		assert.Equal(t, uint64(0x10000), at(0x2000, vfio.AlignIOVA(0x10000)))
		assert.Equal(t, uint64(0x7000), at(0x2000, vfio.AddressBits(28)))
		assert.Equal(t, uint64(0xa000), at(0x2000, vfio.AlignIOVA(1)), "never less than a page")
		assert.Equal(t, uint64(0), at(0x1000, vfio.AtIOVA(0), vfio.AddressBits(12)), "whoever wants 0 gets it")
		assert.Equal(t, uint64(0x12000), at(0x1000, vfio.AtIOVA(0x12000)), "and may go without the free page")
		assert.Equal(t, uint64(0x7f_ffff_f000), at(0x1000, vfio.AtIOVA(0x7f_ffff_f000)), "the last there is")

		fails := func(want error, text string, size int, opts ...vfio.DMAOption) {
			t.Helper()
			b, err := d.AllocDMA(size, opts...)
			assert.Nil(t, b)
			assert.ErrorIs(t, err, want)
			assert.ErrorContains(t, err, text)
		}
		fails(unix.EINVAL, "one byte or more", 0)
		fails(unix.EINVAL, "one byte or more", -1)
		fails(unix.EINVAL, "not that much memory", math.MaxInt)
		fails(unix.ENOSPC, "no 274877906944 bytes are free at a multiple of 0x4000000000, up to 0x7fffffffff, of "+
			"[0x0-0xfedfffff 0xfef00000-0x7fffffffff]", 1<<38, vfio.AlignIOVA(1<<38), vfio.AddressBits(39))
		fails(unix.ENOSPC, "close buffers, or use smaller ones", 0x2000, vfio.AddressBits(13))
		fails(unix.EINVAL, "an address has 1 to 64 bits, not 0", 1, vfio.AddressBits(0))
		fails(unix.EINVAL, "an address has 1 to 64 bits, not 65", 1, vfio.AddressBits(65))
		fails(unix.EINVAL, "the alignment 3 is not a power of two", 1, vfio.AlignIOVA(3))
		fails(unix.EINVAL, "the alignment 0 is not a power of two", 1, vfio.AlignIOVA(0))
		fails(unix.EINVAL, "address 0x800 is not a multiple of 0x1000", 1, vfio.AtIOVA(0x800))
		fails(unix.EINVAL, "end behind address 0xffff, the device's last", 0x2000, vfio.AtIOVA(0xf000), vfio.AddressBits(16))
		fails(unix.EINVAL, "0xfee00000-0xfee00fff is not within what can be mapped: [0x0-0xfedfffff 0xfef00000-0x7fffffffff]; "+
			"choose an address of these, or none", 1, vfio.AtIOVA(0xfee0_0000))
		fails(unix.EINVAL, "is not within what can be mapped", 1, vfio.AtIOVA(0x80_0000_0000))
		fails(unix.EINVAL, "the device's last", 0x2000, vfio.AtIOVA(math.MaxUint64-0xfff))
		fails(unix.EEXIST, "0x11000-0x12fff overlaps the buffer at 0x10000-0x11fff; choose another address, or none", 0x2000, vfio.AtIOVA(0x11000))
		fails(unix.EINVAL, "3000 bytes are not the size of a huge page", 1, vfio.HugePages(3000))
		fails(unix.EINVAL, "-4096 bytes are not the size of a huge page", 1, vfio.HugePages(-4096))
		fails(unix.EINVAL, "the host has no huge pages of this size; see those that it has: ls /sys/kernel/mm/hugepages", 1, vfio.HugePages(8192))
		fails(unix.ENOMEM, "the host's pool has not enough free huge pages of this size; "+
			"add some: echo N > /sys/kernel/mm/hugepages/hugepages-1048576kB/nr_hugepages", 1, vfio.HugePages(1<<30))
		assert.Equal(t, uint64(0xd000), at(0x1000, vfio.AddressBits(28)), "what failed has taken nothing")
	})
}

// A buffer of huge pages starts at a multiple of them, and takes them from the host's pool.
func TestHugePages(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		const huge, pool = 2 << 20, "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages"
		resize := func(n string) {
			t.Helper()
			if m.Fake != nil {
				require.NoError(t, m.Fake.WriteFile(pool, []byte(n)))
			} else {
				require.NoError(t, os.WriteFile(pool, []byte(n), 0))
			}
		}
		resize("2")
		t.Cleanup(func() { resize("0") })
		d := m.Open(t, m.EDU)
		b, err := d.AllocDMA(1, vfio.HugePages(huge))
		require.NoError(t, err)
		assert.Equal(t, huge, b.Size())
		assert.Equal(t, uint64(huge), b.IOVA())
		require.NoError(t, b.Store64(huge-8, 1))
		_, err = d.AllocDMA(huge+1, vfio.HugePages(huge))
		assert.ErrorIs(t, err, unix.ENOMEM)
		assert.ErrorContains(t, err, "add some: echo N > "+pool)
		_, err = d.AllocDMA(huge, vfio.HugePages(huge), vfio.AtIOVA(0x1000))
		assert.ErrorContains(t, err, "address 0x1000 is not a multiple of 0x200000")
		require.NoError(t, b.Close())
		_, err = d.AllocDMA(huge+1, vfio.HugePages(huge))
		require.NoError(t, err)
	})
}

// What a buffer that is closed had is free again.
func TestClosedAddressesAreFree(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		d := m.Open(t, m.EDU)
		for range 3 {
			b, err := d.AllocDMA(4096)
			require.NoError(t, err)
			assert.Equal(t, uint64(0x1000), b.IOVA())
			require.NoError(t, b.Close())
		}
	})
}

// A buffer is closed with its device, and the device does not wait for those who use it.
func TestDeviceClosesBuffers(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		d := m.Open(t, m.EDU)
		b, err := d.AllocDMA(4096)
		require.NoError(t, err)
		other, err := d.AllocDMA(4096)
		require.NoError(t, err)
		require.NoError(t, b.View(func(p []byte) {
			require.NoError(t, d.Close())
			p[0] = 1 // still there, and it is nobody else's
			assert.ErrorIs(t, b.Store8(0, 1), os.ErrClosed)
			assert.ErrorIs(t, b.View(func([]byte) {}), os.ErrClosed)
		}))
		_, err = other.Load8(0)
		assert.ErrorIs(t, err, os.ErrClosed)
		require.NoError(t, other.Close())
		require.NoError(t, b.Close())
		_, err = d.AllocDMA(4096)
		assert.ErrorIs(t, err, os.ErrClosed)
	})
}

// An address space was never asked for when the device is closed.
func TestIOVARangesAfterClose(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		d := m.Open(t, m.EDU)
		require.NoError(t, d.Close())
		_, err := d.IOVARanges()
		assert.ErrorIs(t, err, os.ErrClosed)
		assert.ErrorContains(t, err, "describe the IOMMU")
	})
}

// Everybody may use and close a buffer at once.
func TestDMAConcurrency(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		d := m.Open(t, m.EDU)
		for range 20 {
			b, err := d.AllocDMA(4096)
			require.NoError(t, err)
			var users sync.WaitGroup
			for i := range 4 {
				users.Go(func() {
					for {
						err := b.Store32(4*i, 1)
						if err == nil {
							err = b.View(func(p []byte) { p[100+i]++ })
						}
						if err != nil {
							assert.ErrorIs(t, err, os.ErrClosed)
							return
						}
						runtime.Gosched()
					}
				})
			}
			users.Go(func() { assert.NoError(t, b.Close()) })
			users.Go(func() { assert.NoError(t, b.Close()) })
			users.Wait()
		}
	})
}

// Whatever step fails, nothing is left of it.
func TestAllocDMAFailures(t *testing.T) {
	m := vfiotest.FakeMachine(t)
	d := m.Open(t, m.EDU)
	m.Fake.Fail("IOMMUGetInfo", unix.EIO, 1)
	_, err := d.AllocDMA(4096)
	assert.ErrorIs(t, err, unix.EIO)
	m.Fake.Fail("IOMMUGetInfo", unix.EIO, 1)
	_, err = d.IOVARanges()
	assert.ErrorIs(t, err, unix.EIO)

	m.Fake.Fail("Allocate", unix.ENOMEM, 1)
	_, err = d.AllocDMA(4096)
	assert.ErrorIs(t, err, unix.ENOMEM)
	assert.EqualError(t, err, "0000:00:04.0: map 4096 bytes for DMA: cannot allocate memory: the process cannot have so much memory; "+
		"see ulimit -v, /proc/sys/vm/overcommit_memory and memory.max of the cgroup in /proc/self/cgroup")
	m.Fake.Fail("Allocate", unix.EPERM, 1)
	_, err = d.AllocDMA(4096)
	assert.EqualError(t, err, "0000:00:04.0: map 4096 bytes for DMA: operation not permitted")
	m.Fake.Fail("IOMMUMapDMA", unix.EIO, 1)
	_, err = d.AllocDMA(4096)
	assert.EqualError(t, err, "0000:00:04.0: map 4096 bytes for DMA: input/output error")

	b, err := d.AllocDMA(4096)
	require.NoError(t, err)
	assert.Equal(t, uint64(0x1000), b.IOVA(), "the address is free")
	m.Fake.Fail("IOMMUUnmapDMA", unix.EIO, 1)
	err = b.Close()
	assert.EqualError(t, err, "0000:00:04.0: unmap DMA buffer 0x1000-0x1fff: input/output error")
	require.NoError(t, b.Close())
	b, err = d.AllocDMA(4096)
	require.NoError(t, err)
	assert.Equal(t, uint64(0x3000), b.IOVA(), "the device may still reach what was at the first")
	m.Fake.Fail("IOMMUUnmapDMA", unix.EIO, 1)
	assert.ErrorIs(t, d.Close(), unix.EIO)
	_, err = b.Load8(0)
	assert.ErrorIs(t, err, os.ErrClosed)
}

// failing is the fake with memory that does not answer.
type failing struct {
	*vfiotest.Kernel
	looked int // calls of Pread
}

type failedMemory struct{ uapi.Memory }

func (k *failing) Allocate(length, hugePage int) (uapi.Memory, error) {
	m, err := k.Kernel.Allocate(length, hugePage)
	return failedMemory{m}, err
}

func (k *failing) Pread(fd int, p []byte, offset int64) (int, error) {
	k.looked++
	return k.Kernel.Pread(fd, p, offset)
}

func (failedMemory) Load32(int) (uint32, error) { return 0, unix.EFAULT }

// Memory that fails is no matter of the device, which may be closed meanwhile: it is not looked at.
func TestMemoryFails(t *testing.T) {
	m := vfiotest.FakeMachine(t)
	k := &failing{Kernel: m.Fake}
	m.Kernel = k
	b, err := m.Open(t, m.EDU).AllocDMA(4096)
	require.NoError(t, err)
	k.looked = 0
	_, err = b.Load32(8)
	require.ErrorIs(t, err, unix.EFAULT)
	require.EqualError(t, err, "0000:00:04.0: load 4 bytes at 0x8 of DMA buffer 0x1000-0x1fff: bad address: the host's memory has failed; "+
		"see the end of dmesg; close the buffer")
	assert.Zero(t, k.looked)
}

// The limit of locked memory is said, with what is locked and what is needed.
func TestMemlock(t *testing.T) {
	const message = "cannot allocate memory: a device's memory is locked, and this process may lock 64 KiB (RLIMIT_MEMLOCK); " +
		"%d KiB are locked, 64 KiB more are needed; raise the limit: ulimit -l %d, LimitMEMLOCK= in a systemd unit"
	check := func(t *testing.T, d *vfio.Device, lockedBefore int) {
		t.Helper()
		b, err := d.AllocDMA(4096)
		require.NoError(t, err)
		_, err = d.AllocDMA(64 << 10)
		assert.ErrorIs(t, err, unix.ENOMEM)
		if d.Backend() == vfio.BackendIOMMUFD { // it counts what a user locks, and nothing tells how much that is
			assert.ErrorContains(t, err, "all processes of this user together may lock 64 KiB of it")
		} else {
			assert.ErrorContains(t, err, fmt.Sprintf(message, lockedBefore+4, lockedBefore+68))
		}
		require.NoError(t, b.Close())
	}
	if os.Getenv("IRQBRIDGE_VM") == "" {
		m := vfiotest.FakeMachine(t, vfiotest.MemlockLimit(64<<10))
		d := m.Open(t, m.EDU)
		check(t, d, 0)
		b, err := d.AllocDMA(64 << 10)
		require.NoError(t, err)
		require.NoError(t, b.Close())
		return
	}
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		d := m.Open(t, m.EDU)
		var before unix.Rlimit
		require.NoError(t, unix.Getrlimit(unix.RLIMIT_MEMLOCK, &before))
		require.NoError(t, unix.Setrlimit(unix.RLIMIT_MEMLOCK, &unix.Rlimit{Cur: 64 << 10, Max: before.Max}))
		defer func() { require.NoError(t, unix.Setrlimit(unix.RLIMIT_MEMLOCK, &before)) }()
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer setCapability(t, unix.CAP_IPC_LOCK, true)
		setCapability(t, unix.CAP_IPC_LOCK, false)
		check(t, d, 0)
	})
}

// setCapability gives the calling thread an effective capability that it is permitted, or takes it.
func setCapability(t *testing.T, capability int, on bool) {
	t.Helper()
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	require.NoError(t, unix.Capget(&header, &data[0]))
	if on {
		data[capability/32].Effective |= 1 << (capability % 32)
	} else {
		data[capability/32].Effective &^= 1 << (capability % 32)
	}
	require.NoError(t, unix.Capset(&header, &data[0]))
}

// Open, map a lot, close, ten times: nothing is left.
func TestNothingIsLeft(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		size := 32 << 20 // on the fake, which takes it from whoever runs the test
		if m.Real {
			size = 64 << 20
			if total := statusOf(t, "/proc/meminfo", "MemTotal:"); total >= 3<<30 {
				size = 1 << 30
			}
		}
		t.Logf("%d MiB each time", size>>20)
		m.Bind(t, m.EDU)
		measure := func() (files, locked, large int) {
			l, err := m.Kernel.LockedMemory()
			require.NoError(t, err)
			return openFiles(t), int(l.Locked) + statusOf(t, "/proc/self/status", "VmPin:"), mappingsOf(t, size)
		}
		round := func(closeBuffer bool) {
			d, err := vfio.Open(m.EDU, m.Options()...)
			require.NoError(t, err)
			b, err := d.AllocDMA(size)
			require.NoError(t, err)
			l, err := m.Kernel.LockedMemory()
			require.NoError(t, err)
			if m.Real && d.Backend() == vfio.BackendIOMMUFD { // which counts it elsewhere
				l.Locked = uint64(statusOf(t, "/proc/self/status", "VmPin:"))
			}
			assert.GreaterOrEqual(t, l.Locked, uint64(size))
			assert.Positive(t, mappingsOf(t, size))
			if closeBuffer {
				require.NoError(t, b.Close())
			}
			require.NoError(t, d.Close())
		}
		round(true) // what the runtime opens once, such as its epoll, is not ours
		files, locked, large := measure()
		resident := statusOf(t, "/proc/self/status", "RssAnon:")
		for i := range 10 {
			round(i%2 == 0)
		}
		filesAfter, lockedAfter, largeAfter := measure()
		assert.Equal(t, files, filesAfter, "descriptors")
		assert.Equal(t, locked, lockedAfter, "locked memory")
		assert.Equal(t, large, largeAfter, "mappings")
		assert.Less(t, statusOf(t, "/proc/self/status", "RssAnon:"), resident+size/2, "memory")
	})
}

// statusOf is a size in bytes that a file of procfs gives in kB.
func statusOf(t *testing.T, file, name string) int {
	t.Helper()
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == name {
			n, err := strconv.Atoi(f[1])
			require.NoError(t, err)
			return n << 10
		}
	}
	require.Fail(t, name+" is not in "+file)
	return 0
}

// mappingsOf counts the process' anonymous mappings that may be read and written and have size bytes or more.
func mappingsOf(t *testing.T, size int) int {
	t.Helper()
	text, err := os.ReadFile("/proc/self/maps")
	require.NoError(t, err)
	n := 0
	for line := range strings.Lines(string(text)) {
		var first, last uint64
		var access string
		_, err := fmt.Sscanf(line, "%x-%x %s", &first, &last, &access)
		require.NoError(t, err)
		if access == "rw-p" && last-first >= uint64(size) {
			n++
		}
	}
	return n
}

// Registers of edu's DMA engine, and its own memory.
const (
	eduSource      = 0x80
	eduDestination = 0x88
	eduCount       = 0x90
	eduCommand     = 0x98

	eduRun      = 1 << 0 // it is cleared at the end
	eduToMemory = 1 << 1 // from the device's buffer to memory
	eduIRQ      = 1 << 2 // interrupt at the end

	eduBuffer = 0x40000 // for the engine, not in the BAR
)

// transfer has edu move n bytes, and waits until it has.
func transfer(t *testing.T, d *vfio.Device, source, destination uint64, n int, command uint64) {
	t.Helper()
	r := bar0(t, d)
	require.NoError(t, r.Write64(eduSource, source))
	require.NoError(t, r.Write64(eduDestination, destination))
	require.NoError(t, r.Write64(eduCount, uint64(n)))
	require.NoError(t, r.Write64(eduCommand, eduRun|command))
	require.Eventually(t, func() bool {
		v, err := r.Read64(eduCommand)
		return err == nil && v&eduRun == 0
	}, 10*time.Second, time.Millisecond)
}

// The device reads what the program wrote and writes what the program reads, through the IOMMU.
func TestDMA(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		d := m.Open(t, m.EDU)
		require.NoError(t, d.SetBusMaster(true))
		from, err := d.AllocDMA(4096, vfio.AddressBits(28), vfio.ToDevice())
		require.NoError(t, err)
		to, err := d.AllocDMA(4096, vfio.AddressBits(28), vfio.FromDevice())
		require.NoError(t, err)
		want := make([]byte, 1000)
		for i := range want {
			want[i] = byte(i*7 + 1)
		}
		_, err = from.WriteAt(want, 96)
		require.NoError(t, err)
		transfer(t, d, from.IOVA()+96, eduBuffer, len(want), 0)
		transfer(t, d, eduBuffer, to.IOVA()+50, len(want), eduToMemory)
		got := make([]byte, len(want))
		_, err = to.ReadAt(got, 50)
		require.NoError(t, err)
		assert.Equal(t, want, got)
		v, err := to.Load16(48)
		require.NoError(t, err)
		assert.Zero(t, v, "what is before is untouched")
		v, err = to.Load16(1050)
		require.NoError(t, err)
		assert.Zero(t, v, "and what is behind")

		// Against the direction, in the free page between, and after the buffer is closed: the IOMMU stops it.
		transfer(t, d, eduBuffer, from.IOVA(), 8, eduToMemory)
		v64, err := from.Load64(0)
		require.NoError(t, err)
		assert.Zero(t, v64)
		transfer(t, d, from.IOVA()+4096, eduBuffer, 8, 0)
		transfer(t, d, eduBuffer, to.IOVA(), 8, eduToMemory)
		v64, err = to.Load64(0)
		require.NoError(t, err)
		assert.Zero(t, v64, "nothing was read")
		require.NoError(t, from.Close())
		transfer(t, d, from.IOVA()+96, eduBuffer, 8, 0)
		transfer(t, d, eduBuffer, to.IOVA(), 8, eduToMemory)
		v64, err = to.Load64(0)
		require.NoError(t, err)
		assert.Zero(t, v64)
	})
}
