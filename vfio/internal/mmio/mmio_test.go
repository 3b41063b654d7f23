package mmio_test

import (
	"encoding/binary"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/irqbridge/irqbridge/vfio/internal/mmio"
)

// mapFile maps a file of n pages.
func mapFile(t *testing.T, pages int) (*os.File, *mmio.Mapping) {
	t.Helper()
	f, err := os.CreateTemp(t.TempDir(), "bar")
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, f.Close()) })
	size := pages * os.Getpagesize()
	require.NoError(t, f.Truncate(int64(size)))
	m, err := mmio.Map(int(f.Fd()), 0, size)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, m.Unmap()) })
	assert.Equal(t, size, m.Len())
	return f, m
}

func TestValuesOfEveryWidth(t *testing.T) {
	f, m := mapFile(t, 1)
	require.NoError(t, m.Store8(1, 0x12))
	require.NoError(t, m.Store16(2, 0x3456))
	require.NoError(t, m.Store32(4, 0x789abcde))
	require.NoError(t, m.Store64(8, 0xf0e1d2c3b4a59687))

	inFile := make([]byte, 16)
	_, err := f.ReadAt(inFile, 0)
	require.NoError(t, err)
	want := []byte{0, 0x12}
	want = binary.NativeEndian.AppendUint16(want, 0x3456)
	want = binary.NativeEndian.AppendUint32(want, 0x789abcde)
	want = binary.NativeEndian.AppendUint64(want, 0xf0e1d2c3b4a59687)
	assert.Equal(t, want, inFile)

	v8, err := m.Load8(1)
	require.NoError(t, err)
	assert.Equal(t, uint8(0x12), v8)
	v16, err := m.Load16(2)
	require.NoError(t, err)
	assert.Equal(t, uint16(0x3456), v16)
	v32, err := m.Load32(4)
	require.NoError(t, err)
	assert.Equal(t, uint32(0x789abcde), v32)
	v64, err := m.Load64(8)
	require.NoError(t, err)
	assert.Equal(t, uint64(0xf0e1d2c3b4a59687), v64)
}

// each calls every accessor at off and returns their errors by width.
func each(m *mmio.Mapping, off int) map[string]error {
	errs := map[string]error{}
	_, errs["load8"] = m.Load8(off)
	_, errs["load16"] = m.Load16(off)
	_, errs["load32"] = m.Load32(off)
	_, errs["load64"] = m.Load64(off)
	errs["store8"] = m.Store8(off, 1)
	errs["store16"] = m.Store16(off, 1)
	errs["store32"] = m.Store32(off, 1)
	errs["store64"] = m.Store64(off, 1)
	return errs
}

func TestFaultIsAnError(t *testing.T) {
	f, m := mapFile(t, 2)
	page := os.Getpagesize()
	for what, err := range each(m, page) {
		require.NoError(t, err, what)
	}
	// What lies beyond the end of a mapped file raises SIGBUS, as does a BAR with memory decoding off.
	require.NoError(t, f.Truncate(int64(page)))
	for _, before := range []bool{false, true} {
		debug.SetPanicOnFault(before)
		for what, err := range each(m, page) {
			require.ErrorIs(t, err, unix.EFAULT, what)
		}
		assert.Equal(t, before, debug.SetPanicOnFault(false), "the goroutine's setting is back")
	}
	for what, err := range each(m, 0) {
		require.NoError(t, err, "%s beside the fault", what)
	}
	require.NoError(t, f.Truncate(int64(2*page)))
	for what, err := range each(m, page) {
		require.NoError(t, err, "%s once the memory is back", what)
	}
}

func TestOffsetsAreChecked(t *testing.T) {
	_, m := mapFile(t, 1)
	for _, off := range []int{-8, m.Len(), m.Len() + 8, int(^uint(0) >> 1)} {
		for what, err := range each(m, off) {
			require.ErrorIs(t, err, unix.EINVAL, "%s at %d", what, off)
		}
	}
	for _, off := range []int{1, 2, 4} {
		for what, err := range each(m, off) {
			bits, convErr := strconv.Atoi(strings.TrimPrefix(strings.TrimPrefix(what, "load"), "store"))
			require.NoError(t, convErr)
			if off%(bits/8) != 0 {
				require.ErrorIs(t, err, unix.EINVAL, "%s at %d", what, off)
			} else {
				require.NoError(t, err, "%s at %d", what, off)
			}
		}
	}
}

func TestUnmap(t *testing.T) {
	_, m := mapFile(t, 1)
	require.NoError(t, m.Unmap())
	require.NoError(t, m.Unmap(), "a second time")
	assert.Zero(t, m.Len())
	for what, err := range each(m, 0) {
		assert.ErrorIs(t, err, os.ErrClosed, what)
	}
}

func TestMapRefused(t *testing.T) {
	_, err := mmio.Map(-1, 0, os.Getpagesize())
	assert.ErrorIs(t, err, unix.EBADF)
}

func TestAccessDoesNotAllocate(t *testing.T) {
	_, m := mapFile(t, 1)
	assert.Zero(t, testing.AllocsPerRun(100, func() {
		_, _ = m.Load32(0)
		_ = m.Store32(4, 1)
	}))
}

func BenchmarkLoad32(b *testing.B) {
	m, err := mmio.Map(memfd(b), 0, os.Getpagesize())
	require.NoError(b, err)
	defer func() { _ = m.Unmap() }()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := m.Load32(0); err != nil {
			b.Fatal(err)
		}
	}
}

func memfd(b *testing.B) int {
	b.Helper()
	fd, err := unix.MemfdCreate("bar", unix.MFD_CLOEXEC)
	require.NoError(b, err)
	b.Cleanup(func() { _ = unix.Close(fd) })
	require.NoError(b, unix.Ftruncate(fd, int64(os.Getpagesize())))
	return fd
}
