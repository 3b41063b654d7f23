package vfio_test

import (
	"encoding/binary"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/irqbridge/irqbridge/vfio"
)

// Registers of edu in BAR 0 (QEMU docs/specs/edu.rst).
const (
	eduID       = 0x00 // 0x010000edu: version 1.0
	eduLiveness = 0x04 // reads the inverse of what was written
	eduStatus   = 0x24 // pending interrupts
	eduRaise    = 0x60 // write: set bits of the status
	eduAck      = 0x64 // write: clear them
)

// openFiles is how many descriptors this process has.
func openFiles(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	return len(entries)
}

// newEventFD returns an eventfd that is closed at the end of the test.
func newEventFD(t *testing.T) int {
	t.Helper()
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, unix.Close(fd)) })
	return fd
}

func newEventFDs(t *testing.T, n int) []int {
	t.Helper()
	fds := make([]int, n)
	for i := range fds {
		fds[i] = newEventFD(t)
	}
	return fds
}

// wait waits for the eventfd to be signalled and returns its count.
func wait(t *testing.T, fd int) uint64 {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(time.Until(deadline).Milliseconds()))
		if err == unix.EINTR {
			continue
		}
		require.NoError(t, err)
		require.Equal(t, 1, n, "no interrupt in time")
		return count(t, fd)
	}
}

// count returns how often the eventfd was signalled since it was last read, without waiting.
func count(t *testing.T, fd int) uint64 {
	t.Helper()
	var p [8]byte
	_, err := unix.Read(fd, p[:])
	if err == unix.EAGAIN {
		return 0
	}
	require.NoError(t, err)
	return binary.NativeEndian.Uint64(p[:])
}

// command returns the low byte of the command register, where the decode and bus master bits are.
func command(t *testing.T, d *vfio.Device) uint8 {
	t.Helper()
	p := make([]byte, 1)
	require.NoError(t, d.ReadConfig(p, 4))
	return p[0]
}

// bar0 returns BAR 0 of a device.
func bar0(t *testing.T, d *vfio.Device) *vfio.BAR {
	t.Helper()
	b, err := d.BAR(0)
	require.NoError(t, err)
	return b
}

// read32 reads a register.
func read32(t *testing.T, b *vfio.BAR, off uint64) uint32 {
	t.Helper()
	v, err := b.Read32(off)
	require.NoError(t, err)
	return v
}
