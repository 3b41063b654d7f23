package vfiotest_test

import (
	"encoding/binary"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/irqbridge/irqbridge/vfio/internal/uapi"
	"github.com/irqbridge/irqbridge/vfio/vfiotest"
)

// edu's registers by reads and writes of the file, and by a mapping.
func TestRegisters(t *testing.T) {
	const liveness, factorial = 0x04, 0x08
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		r := openEDU(t, m)
		pread := func(off int64) uint32 {
			t.Helper()
			b := make([]byte, 4)
			n, err := r.k.Pread(r.device, b, off)
			require.NoError(t, err)
			require.Equal(t, 4, n)
			return binary.LittleEndian.Uint32(b)
		}
		assert.Equal(t, uint32(0x010000ed), pread(0))
		assert.Equal(t, uint32(0x010000ed), r.read(0))
		n, err := r.k.Pwrite(r.device, binary.LittleEndian.AppendUint32(nil, 0x12345678), liveness)
		require.NoError(t, err)
		require.Equal(t, 4, n)
		assert.Equal(t, ^uint32(0x12345678), r.read(liveness))
		r.write(liveness, 0xffff0000)
		assert.Equal(t, uint32(0x0000ffff), pread(liveness))
		r.write(factorial, 5)
		require.Eventually(t, func() bool { return r.read(0x20)&1 == 0 }, patience, tick, "it computes")
		assert.Equal(t, uint32(120), r.read(factorial))
	})
}

// What reads of each width give, and what requests at odd offsets and at the end of a BAR do.
func TestRegionAccess(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		r := openEDU(t, m)
		r.write(0x04, 0)
		r.write(0x08, 5)
		require.Eventually(t, func() bool { return r.read(0x20)&1 == 0 }, patience, tick)
		var b strings.Builder
		for _, c := range []struct {
			off  int64
			size int
		}{
			{0, 1},
			{0, 2},
			{0, 4},
			{0, 8},
			{4, 4},
			{4, 8},
			{1, 4},
			{2, 4},
			{2, 2},
			{0, 3},
			{0, 16},
			{0x80, 8},
			{0x84, 4},
			{0x30, 4},
			{0x98, 4},
			{0xffffc, 4},
			{0xffffc, 8},
			{0xfffff, 4},
			{0x100000, 4},
			{0x100000, 0},
			{1 << 40, 4},
			{6 << 40, 4},
			{8 << 40, 4},
		} {
			p := make([]byte, c.size)
			n, err := r.k.Pread(r.device, p, c.off)
			fmt.Fprintf(&b, "read %d at 0x%x: %s, %d bytes, %x\n", c.size, c.off, errno(err), max(n, 0), p)
		}
		mapped := r.registers()
		v8, err := mapped.Load8(0)
		fmt.Fprintf(&b, "load 8 at 0: 0x%x %s\n", v8, errno(err))
		v16, err := mapped.Load16(0)
		fmt.Fprintf(&b, "load 16 at 0: 0x%x %s\n", v16, errno(err))
		v32, err := mapped.Load32(0)
		fmt.Fprintf(&b, "load 32 at 0: 0x%x %s\n", v32, errno(err))
		v64, err := mapped.Load64(0)
		fmt.Fprintf(&b, "load 64 at 0: 0x%x %s\n", v64, errno(err))
		require.NoError(t, mapped.Store8(4, 0xff))
		fmt.Fprintf(&b, "after a store of 8: 0x%x\n", r.read(4))
		require.NoError(t, mapped.Store16(4, 0xffff))
		fmt.Fprintf(&b, "after a store of 16: 0x%x\n", r.read(4))
		require.NoError(t, mapped.Store64(0, math.MaxUint64))
		fmt.Fprintf(&b, "after a store of 64 at 0: 0x%x\n", r.read(4))
		golden(t, m, "region", b.String())
	})
}

// A mapping checks its own bounds.
func TestMapping(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		r := openEDU(t, m)
		for _, c := range []struct {
			off    int64
			length int
			want   string
		}{
			{0, 4096, "ok"},
			{0, 1 << 20, "ok"},
			{4096, 4096, "ok"},
			{0, 1<<20 + 4096, "EINVAL"},
			{1 << 20, 4096, "EINVAL"},
			{1, 4096, "EINVAL"},
			{1 << 40, 4096, "EINVAL"},
			{uapi.PCIConfigRegionIndex << 40, 4096, "EINVAL"},
			{99 << 40, 4096, "EINVAL"},
			{0, 0, "EINVAL"},
		} {
			mapped, err := r.k.Mmap(r.device, c.off, c.length)
			require.Equal(t, c.want, errno(err), "%d bytes at 0x%x", c.length, c.off)
			if err == nil {
				assert.Equal(t, c.length, mapped.Len())
				require.NoError(t, mapped.Unmap())
			}
		}
		mapped, err := r.k.Mmap(r.device, 0, 4096)
		require.NoError(t, err)
		for _, c := range []struct{ off, width int }{{-4, 4}, {4096, 4}, {4094, 4}, {2, 4}, {1, 2}, {4, 8}, {math.MaxInt - 3, 4}} {
			_, err := load(mapped, c.off, c.width)
			assert.Equal(t, "EINVAL", errno(err), "%d bytes at %d", c.width, c.off)
		}
		require.NoError(t, mapped.Unmap())
		require.NoError(t, mapped.Unmap(), "a second call does nothing")
		_, err = mapped.Load32(0)
		assert.ErrorContains(t, err, "closed")
		assert.Zero(t, mapped.Len())
	})
}

func load(m uapi.Mapping, off, width int) (uint64, error) {
	switch width {
	case 1:
		v, err := m.Load8(off)
		return uint64(v), err
	case 2:
		v, err := m.Load16(off)
		return uint64(v), err
	case 4:
		v, err := m.Load32(off)
		return uint64(v), err
	}
	return m.Load64(off)
}

// With memory decoding off the file gives EIO; a mapping can be made, and faults when it is used.
func TestMemoryOff(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		r := openEDU(t, m)
		assert.NotZero(t, r.config(command, 2)&memory, "on at open")
		r.change(0, memory)
		b := make([]byte, 4)
		_, err := r.k.Pread(r.device, b, 0)
		assert.Equal(t, "EIO", errno(err))
		_, err = r.k.Pwrite(r.device, b, 0)
		assert.Equal(t, "EIO", errno(err))
		mapped, err := r.k.Mmap(r.device, 0, 4096)
		require.NoError(t, err)
		defer func() { require.NoError(t, mapped.Unmap()) }()
		_, err = mapped.Load32(0)
		assert.Equal(t, "EFAULT", errno(err))
		assert.Equal(t, "EFAULT", errno(mapped.Store32(0, 0)))
		r.change(memory, 0)
		v, err := mapped.Load32(0)
		require.NoError(t, err)
		assert.Equal(t, uint32(0x010000ed), v)
	})
}

// I/O BARs cannot be mapped; they are read and written through the file.
func TestIOBAR(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		r := openRaw(t, m, m.E1000E)
		_, err := r.k.Mmap(r.device, 2<<40, 4096)
		assert.Equal(t, "EINVAL", errno(err))
		b := make([]byte, 4)
		n, err := r.k.Pread(r.device, b, 2<<40)
		require.NoError(t, err)
		assert.Equal(t, 4, n)
	})
}

// Only devices have data.
func TestAccessToOtherFiles(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		m.Bind(t, m.EDU)
		r := openByGroup(t, m, m.EDU)
		for name, fd := range map[string]int{"container": r.container, "group": r.group} {
			_, err := r.k.Pread(fd, make([]byte, 4), 0)
			assert.Equal(t, "EINVAL", errno(err), name)
			_, err = r.k.Pwrite(fd, make([]byte, 4), 0)
			assert.Equal(t, "EINVAL", errno(err), name)
			_, err = r.k.Mmap(fd, 0, 4096)
			assert.Equal(t, "ENODEV", errno(err), name)
		}
		_, err := r.k.Pread(1_000_000, make([]byte, 4), 0)
		assert.Equal(t, "EBADF", errno(err))
		_, err = r.k.Mmap(1_000_000, 0, 4096)
		assert.Equal(t, "EBADF", errno(err))
	})
}
