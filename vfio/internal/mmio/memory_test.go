package mmio_test

import (
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/irqbridge/irqbridge/vfio/internal/mmio"
)

func TestAllocate(t *testing.T) {
	page := os.Getpagesize()
	m, err := mmio.Allocate(2*page, 0)
	require.NoError(t, err)
	assert.Equal(t, 2*page, m.Len())
	assert.Zero(t, m.Address()%uint64(page))
	assert.NotZero(t, m.Address())
	assert.Equal(t, make([]byte, 2*page), m.Bytes(), "it is zeroed")

	// The accessors and the bytes are the same memory.
	require.NoError(t, m.Store32(page, 0x11223344))
	v, err := m.Load16(page)
	require.NoError(t, err)
	assert.Equal(t, uint16(0x3344), v)
	m.Bytes()[page] = 0x55
	v, err = m.Load16(page)
	require.NoError(t, err)
	assert.Equal(t, uint16(0x3355), v)
	_, err = m.Load64(2*page - 4)
	assert.Equal(t, unix.EINVAL, err)

	require.NoError(t, m.Unmap())
	require.NoError(t, m.Unmap())
	assert.Nil(t, m.Bytes())
	assert.Zero(t, m.Address())
	assert.Zero(t, m.Len())
	_, err = m.Load8(0)
	assert.Equal(t, os.ErrClosed, err)
}

// The memory is there at once: a device must not be given the shared zero page, which the first write replaces.
func TestAllocatedMemoryIsPresent(t *testing.T) {
	page := os.Getpagesize()
	m, err := mmio.Allocate(64*page, 0)
	require.NoError(t, err)
	defer func() { require.NoError(t, m.Unmap()) }()
	present := make([]byte, 64)
	pagemap, err := os.Open("/proc/self/pagemap")
	require.NoError(t, err)
	defer func() { require.NoError(t, pagemap.Close()) }()
	for i := range present {
		entry := make([]byte, 8)
		_, err := pagemap.ReadAt(entry, int64(m.Address())/int64(page)*8+int64(i)*8)
		require.NoError(t, err)
		present[i] = entry[7] >> 7 // bit 63: the page is in memory
	}
	for i, p := range present {
		assert.Equal(t, byte(1), p, "page %d", i)
	}
}

func TestAllocateRefusals(t *testing.T) {
	for name, c := range map[string]struct {
		length, huge int
		want         unix.Errno
	}{
		"nothing":                        {0, 0, unix.EINVAL},
		"more than there are addresses":  {1 << 62, 0, unix.ENOMEM},
		"a page that is no power of two": {4096, 3000, unix.EINVAL},
		"a page of negative size":        {4096, -4096, unix.EINVAL},
		"huge pages of a size unknown":   {1 << 13, 1 << 13, unix.EINVAL},
	} {
		m, err := mmio.Allocate(c.length, c.huge)
		assert.Equal(t, c.want, err, name)
		assert.Nil(t, m, name)
	}
}
