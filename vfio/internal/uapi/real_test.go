package uapi_test

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/irqbridge/irqbridge/vfio/internal/uapi"
)

// openFile opens a file of one page that is not VFIO's.
func openFile(t *testing.T) int {
	t.Helper()
	name := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(name, make([]byte, os.Getpagesize()), 0o600))
	fd, err := uapi.Real().Open(name)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, uapi.Real().Close(fd)) })
	return fd
}

func argument(size int, argsz uint32) []byte {
	arg := make([]byte, size)
	binary.NativeEndian.PutUint32(arg, argsz)
	return arg
}

func TestOpenAndClose(t *testing.T) {
	k := uapi.Real()
	flags, err := unix.FcntlInt(uintptr(openFile(t)), unix.F_GETFD, 0)
	require.NoError(t, err)
	assert.Equal(t, unix.FD_CLOEXEC, flags&unix.FD_CLOEXEC)

	_, err = k.Open(filepath.Join(t.TempDir(), "absent"))
	assert.Equal(t, unix.ENOENT, err, "the bare errno")
	assert.Equal(t, unix.EBADF, k.Close(-1))
}

// TestErrnoIsKept makes every ioctl on a file that knows none.
func TestErrnoIsKept(t *testing.T) {
	k, fd := uapi.Real(), openFile(t)
	calls := map[string]func() error{
		"GetAPIVersion":       func() error { _, err := k.GetAPIVersion(fd); return err },
		"CheckExtension":      func() error { _, err := k.CheckExtension(fd, uapi.Type1v2IOMMU); return err },
		"SetIOMMU":            func() error { return k.SetIOMMU(fd, uapi.Type1v2IOMMU) },
		"IOMMUGetInfo":        func() error { return k.IOMMUGetInfo(fd, argument(24, 24)) },
		"IOMMUMapDMA":         func() error { return k.IOMMUMapDMA(fd, argument(32, 32)) },
		"IOMMUUnmapDMA":       func() error { return k.IOMMUUnmapDMA(fd, argument(24, 24)) },
		"GroupGetStatus":      func() error { return k.GroupGetStatus(fd, argument(8, 8)) },
		"GroupSetContainer":   func() error { return k.GroupSetContainer(fd, fd) },
		"GroupUnsetContainer": func() error { return k.GroupUnsetContainer(fd) },
		"GroupGetDeviceFD":    func() error { _, err := k.GroupGetDeviceFD(fd, "0000:00:04.0"); return err },
		"DeviceGetInfo":       func() error { return k.DeviceGetInfo(fd, argument(20, 20)) },
		"DeviceGetRegionInfo": func() error { return k.DeviceGetRegionInfo(fd, argument(32, 32)) },
		"DeviceGetIRQInfo":    func() error { return k.DeviceGetIRQInfo(fd, argument(16, 16)) },
		"DeviceSetIRQs":       func() error { _, err := k.DeviceSetIRQs(fd, argument(20, 20)); return err },
		"DeviceReset":         func() error { return k.DeviceReset(fd) },

		"DeviceBindIOMMUFD":     func() error { return k.DeviceBindIOMMUFD(fd, argument(24, 24), nil) },
		"with a token":          func() error { return k.DeviceBindIOMMUFD(fd, argument(24, 24), &[16]byte{}) },
		"DeviceAttachIOMMUFDPT": func() error { return k.DeviceAttachIOMMUFDPT(fd, argument(12, 12)) },
		"DeviceDetachIOMMUFDPT": func() error { return k.DeviceDetachIOMMUFDPT(fd, argument(8, 8)) },
		"IOMMUDestroy":          func() error { return k.IOMMUDestroy(fd, argument(8, 8)) },
		"IOASAlloc":             func() error { return k.IOASAlloc(fd, argument(12, 12)) },
		"IOASIOVARanges":        func() error { return k.IOASIOVARanges(fd, argument(32, 32), nil) },
		"IOASMap":               func() error { return k.IOASMap(fd, argument(40, 40)) },
		"IOASUnmap":             func() error { return k.IOASUnmap(fd, argument(24, 24)) },
	}
	for name, call := range calls {
		assert.Equal(t, unix.ENOTTY, call(), name)
	}
	_, err := k.GroupGetDeviceFD(fd, "0000:00:04.0\x00")
	assert.Equal(t, unix.EINVAL, err, "a name with a NUL in it")
}

// TestArgumentsAreBounded has the kernel never see an argument that it could read or write beyond.
func TestArgumentsAreBounded(t *testing.T) {
	k, fd := uapi.Real(), openFile(t)
	calls := map[string]struct {
		minimum int
		call    func(arg []byte) error
	}{
		"IOMMUGetInfo":        {uapi.IOMMUInfoMinSize, func(arg []byte) error { return k.IOMMUGetInfo(fd, arg) }},
		"IOMMUMapDMA":         {uapi.IOMMUDMAMapMinSize, func(arg []byte) error { return k.IOMMUMapDMA(fd, arg) }},
		"IOMMUUnmapDMA":       {uapi.IOMMUDMAUnmapMinSize, func(arg []byte) error { return k.IOMMUUnmapDMA(fd, arg) }},
		"GroupGetStatus":      {uapi.GroupStatusMinSize, func(arg []byte) error { return k.GroupGetStatus(fd, arg) }},
		"DeviceGetInfo":       {uapi.DeviceInfoMinSize, func(arg []byte) error { return k.DeviceGetInfo(fd, arg) }},
		"DeviceGetRegionInfo": {uapi.RegionInfoMinSize, func(arg []byte) error { return k.DeviceGetRegionInfo(fd, arg) }},
		"DeviceGetIRQInfo":    {uapi.IRQInfoMinSize, func(arg []byte) error { return k.DeviceGetIRQInfo(fd, arg) }},
		"DeviceSetIRQs":       {uapi.IRQSetMinSize, func(arg []byte) error { _, err := k.DeviceSetIRQs(fd, arg); return err }},

		"DeviceBindIOMMUFD":     {uapi.DeviceBindIOMMUFDMinSize, func(arg []byte) error { return k.DeviceBindIOMMUFD(fd, arg, nil) }},
		"with a token":          {24, func(arg []byte) error { return k.DeviceBindIOMMUFD(fd, arg, &[16]byte{}) }},
		"DeviceAttachIOMMUFDPT": {uapi.DeviceAttachIOMMUFDPTMinSize, func(arg []byte) error { return k.DeviceAttachIOMMUFDPT(fd, arg) }},
		"DeviceDetachIOMMUFDPT": {uapi.DeviceDetachIOMMUFDPTMinSize, func(arg []byte) error { return k.DeviceDetachIOMMUFDPT(fd, arg) }},
		"IOMMUDestroy":          {uapi.IOMMUDestroyMinSize, func(arg []byte) error { return k.IOMMUDestroy(fd, arg) }},
		"IOASAlloc":             {uapi.IOMMUIOASAllocMinSize, func(arg []byte) error { return k.IOASAlloc(fd, arg) }},
		"IOASIOVARanges": {uapi.IOMMUIOASIOVARangesMinSize, func(arg []byte) error {
			return k.IOASIOVARanges(fd, arg, make([]uapi.IOMMUIOVARange, 2))
		}},
		"IOASMap":   {uapi.IOMMUIOASMapMinSize, func(arg []byte) error { return k.IOASMap(fd, arg) }},
		"IOASUnmap": {uapi.IOMMUIOASUnmapMinSize, func(arg []byte) error { return k.IOASUnmap(fd, arg) }},
	}
	for name, c := range calls {
		assert.Equal(t, unix.EFAULT, c.call(nil), name)
		assert.Equal(t, unix.EFAULT, c.call(argument(c.minimum-1, uint32(c.minimum-1))), name)
		assert.Equal(t, unix.EFAULT, c.call(argument(c.minimum, uint32(c.minimum+1))), name)
		assert.Equal(t, unix.EFAULT, c.call(argument(c.minimum, ^uint32(0))), name)
		assert.Equal(t, unix.ENOTTY, c.call(argument(c.minimum, 0)), "%s: too small an argsz is the kernel's to refuse", name)
	}
}

func TestDupAndDeviceNumber(t *testing.T) {
	k, fd := uapi.Real(), openFile(t)
	second, err := k.Dup(fd)
	require.NoError(t, err)
	assert.NotEqual(t, fd, second)
	_, err = k.Pwrite(second, []byte{7}, 0)
	require.NoError(t, err)
	p := make([]byte, 1)
	_, err = k.Pread(fd, p, 0)
	require.NoError(t, err)
	assert.Equal(t, byte(7), p[0], "the same file")
	flags, err := unix.FcntlInt(uintptr(second), unix.F_GETFD, 0)
	require.NoError(t, err)
	assert.Equal(t, unix.FD_CLOEXEC, flags&unix.FD_CLOEXEC)
	require.NoError(t, k.Close(second))
	_, err = k.Dup(second)
	assert.Equal(t, unix.EBADF, err)

	major, minor, err := k.DeviceNumber(fd)
	require.NoError(t, err)
	assert.Equal(t, [2]uint32{}, [2]uint32{major, minor}, "a regular file")
	null, err := k.Open("/dev/null")
	require.NoError(t, err)
	major, minor, err = k.DeviceNumber(null)
	require.NoError(t, err)
	assert.Equal(t, [2]uint32{1, 3}, [2]uint32{major, minor}, "Documentation/admin-guide/devices.txt")
	require.NoError(t, k.Close(null))
	_, _, err = k.DeviceNumber(null)
	assert.Equal(t, unix.EBADF, err)
}

func TestReadWriteAndMap(t *testing.T) {
	k, fd := uapi.Real(), openFile(t)
	n, err := k.Pwrite(fd, []byte{1, 2, 3, 4}, 8)
	require.NoError(t, err)
	assert.Equal(t, 4, n)
	p := make([]byte, 2)
	n, err = k.Pread(fd, p, 9)
	require.NoError(t, err)
	assert.Equal(t, 2, n)
	assert.Equal(t, []byte{2, 3}, p)
	_, err = k.Pread(-1, p, 0)
	assert.Equal(t, unix.EBADF, err)
	_, err = k.Pwrite(-1, p, 0)
	assert.Equal(t, unix.EBADF, err)

	m, err := k.Mmap(fd, 0, os.Getpagesize())
	require.NoError(t, err)
	v, err := m.Load16(10)
	require.NoError(t, err)
	assert.Equal(t, binary.NativeEndian.Uint16([]byte{3, 4}), v)
	require.NoError(t, m.Unmap())

	m, err = k.Mmap(-1, 0, os.Getpagesize())
	assert.Equal(t, unix.EBADF, err)
	assert.Nil(t, m)
}

func TestPutAndTake(t *testing.T) {
	want := uapi.RegionInfo{Argsz: 32, Flags: 1, Index: 2, CapOffset: 3, Size: 1 << 40, Offset: 2 << 40}
	arg := make([]byte, 40)
	uapi.Put(arg, want)
	assert.Equal(t, want, uapi.Take[uapi.RegionInfo](arg))
	assert.Equal(t, uint64(2<<40), binary.NativeEndian.Uint64(arg[24:]))

	// Too short a buffer: the rest is left out, or zero.
	uapi.Put(arg[:4], uapi.GroupStatus{Argsz: 7, Flags: 9})
	assert.Equal(t, uapi.GroupStatus{Argsz: 7}, uapi.Take[uapi.GroupStatus](arg[:4]))
	assert.Equal(t, uint32(1), uapi.Take[uapi.GroupStatus](arg).Flags, "the bytes behind are untouched")
}

func TestMemory(t *testing.T) {
	k := uapi.Real()
	m, err := k.Allocate(os.Getpagesize(), 0)
	require.NoError(t, err)
	assert.Len(t, m.Bytes(), os.Getpagesize())
	require.NoError(t, m.Unmap())
	m, err = k.Allocate(0, 0)
	assert.Equal(t, unix.EINVAL, err)
	assert.Nil(t, m)
}

// Memory that the process locks is what LockedMemory counts.
func TestLockedMemory(t *testing.T) {
	k := uapi.Real()
	before, err := k.LockedMemory()
	require.NoError(t, err)
	var limit unix.Rlimit
	require.NoError(t, unix.Getrlimit(unix.RLIMIT_MEMLOCK, &limit))
	assert.Equal(t, limit.Cur, before.Limit)
	m, err := k.Allocate(os.Getpagesize(), 0)
	require.NoError(t, err)
	defer func() { require.NoError(t, m.Unmap()) }()
	require.NoError(t, unix.Mlock(m.Bytes()))
	after, err := k.LockedMemory()
	require.NoError(t, err)
	assert.Equal(t, before.Locked+uint64(os.Getpagesize()), after.Locked)
}

func TestDecodeLocked(t *testing.T) {
	assert.Equal(t, uapi.LockedMemory{Locked: 12 << 10, Unlimited: true},
		uapi.DecodeLocked([]byte("Name:\tx\nVmLck:\t      12 kB\nVmPin:\t 7 kB\nCapPrm:\t0\nCapEff:\t000001ffffffffff\n")))
	assert.Equal(t, uapi.LockedMemory{}, uapi.DecodeLocked([]byte("VmLck:\nCapEff:\t000001ffffffbfff\n")))
	assert.Equal(t, uapi.LockedMemory{}, uapi.DecodeLocked([]byte("VmLck: many kB\nCapEff: all\n")))
	assert.Equal(t, uapi.LockedMemory{}, uapi.DecodeLocked(nil))
}

// The kernel reads as many groups and ranges as it is told of, whatever argsz says.
func TestCountsAreChecked(t *testing.T) {
	fd := openFile(t)
	reset := argument(16, 16)
	binary.NativeEndian.PutUint32(reset[8:], 1)
	require.ErrorIs(t, uapi.Real().DevicePCIHotReset(fd, reset), unix.ENOTTY)
	for _, count := range []uint32{2, 1<<32 - 1} {
		binary.NativeEndian.PutUint32(reset[8:], count)
		require.ErrorIs(t, uapi.Real().DevicePCIHotReset(fd, reset), unix.EFAULT)
	}
	require.ErrorIs(t, uapi.Real().DevicePCIHotReset(fd, reset[:8]), unix.EFAULT)

	feature := argument(8+16+16, 40)
	binary.NativeEndian.PutUint32(feature[4:], uapi.FeatureDMABuf|uapi.FeatureGet)
	binary.NativeEndian.PutUint32(feature[8+12:], 1)
	_, err := uapi.Real().DeviceFeature(fd, feature)
	require.ErrorIs(t, err, unix.ENOTTY)
	for _, count := range []uint32{2, 1<<32 - 1} {
		binary.NativeEndian.PutUint32(feature[8+12:], count)
		_, err = uapi.Real().DeviceFeature(fd, feature)
		require.ErrorIs(t, err, unix.EFAULT)
	}
}
