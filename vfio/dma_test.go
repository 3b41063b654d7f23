package vfio_test

import (
	"io"
	"math"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/irqbridge/irqbridge/vfio"
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
