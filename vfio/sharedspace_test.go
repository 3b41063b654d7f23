package vfio_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/irqbridge/irqbridge/vfio"
	"github.com/irqbridge/irqbridge/vfio/internal/uapi"
	"github.com/irqbridge/irqbridge/vfio/vfiotest"
)

// sharedSpace is a kernel in whose address spaces another device has memory, or addresses that only it cannot use.
type sharedSpace struct {
	*vfiotest.Kernel
	taken   []vfio.IOVARange // memory of another device
	allowed []vfio.IOVARange // nil for what the machine allows
	maps    int              // calls of IOASMap
}

func (k *sharedSpace) IOASMap(fd int, arg []byte) error {
	k.maps++
	m := uapi.Take[uapi.IOMMUIOASMap](arg)
	for _, r := range k.taken {
		if m.Iova <= r.Last && r.First <= m.Iova+m.Length-1 {
			return unix.EEXIST
		}
	}
	return k.Kernel.IOASMap(fd, arg)
}

func (k *sharedSpace) IOASIOVARanges(fd int, arg []byte, ranges []uapi.IOMMUIOVARange) error {
	if k.allowed == nil {
		return k.Kernel.IOASIOVARanges(fd, arg, ranges)
	}
	query := uapi.Take[uapi.IOMMUIOASIOVARanges](arg)
	query.NumIovas, query.OutIovaAlignment = uint32(len(k.allowed)), 4096
	uapi.Put(arg, query)
	if len(ranges) < len(k.allowed) {
		return unix.EMSGSIZE
	}
	for i, r := range k.allowed {
		ranges[i] = uapi.IOMMUIOVARange{Start: r.First, Last: r.Last}
	}
	return nil
}

// openShared opens edu on a machine with a shared address space.
func openShared(t *testing.T) (*vfio.Device, *sharedSpace) {
	t.Helper()
	m := own(t)
	k := &sharedSpace{Kernel: m.Fake}
	m.Kernel = k
	return m.Open(t, m.EDU), k
}

// However much memory another device has, addresses behind it are found in few calls, also when little is left there.
func TestAllocDMABehindAnother(t *testing.T) {
	for _, c := range []struct {
		name  string
		taken vfio.IOVARange
		opts  []vfio.DMAOption
	}{
		{"1 GiB", vfio.IOVARange{First: 0x1000, Last: 1 << 30}, nil},
		{"all but the last page of 256 MiB", vfio.IOVARange{First: 0x1000, Last: 1<<28 - 4097}, []vfio.DMAOption{vfio.AddressBits(28)}},
		{"much, with a large alignment", vfio.IOVARange{First: 0x1000, Last: 1 << 30}, []vfio.DMAOption{vfio.AlignIOVA(1 << 24)}},
	} {
		t.Run(c.name, func(t *testing.T) {
			d, k := openShared(t)
			k.taken = []vfio.IOVARange{c.taken}
			b, err := d.AllocDMA(4096, c.opts...)
			require.NoError(t, err)
			assert.Greater(t, b.IOVA(), c.taken.Last)
			assert.Less(t, k.maps, 200)

			k.taken = nil
			free, err := d.AllocDMA(4096)
			require.NoError(t, err)
			assert.Equal(t, uint64(0x1000), free.IOVA(), "what another device has given back can be had")
		})
	}
}

// When all is taken, it says so, and keeps nothing.
func TestAllocDMAWithoutRoom(t *testing.T) {
	d, k := openShared(t)
	k.allowed = []vfio.IOVARange{{First: 0, Last: 1<<64 - 1}}
	k.taken = k.allowed
	_, err := d.AllocDMA(4096)
	require.ErrorIs(t, err, unix.ENOSPC)
	require.ErrorContains(t, err, "another device that sees the same address space has memory there")
	assert.Less(t, k.maps, 10_000)
	_, err = d.AllocDMA(4096, vfio.AtIOVA(0x1000))
	require.ErrorIs(t, err, unix.EEXIST)

	k.taken = nil
	b, err := d.AllocDMA(4096)
	require.NoError(t, err)
	assert.Equal(t, uint64(0x1000), b.IOVA())
}

// A device that joins an address space takes addresses away, which are not used from then on.
func TestIOVARangesShrink(t *testing.T) {
	d, k := openShared(t)
	_, err := d.AllocDMA(4096)
	require.NoError(t, err)
	k.allowed = []vfio.IOVARange{{First: 0x100000, Last: 0x1fffff}}
	ranges, err := d.IOVARanges()
	require.NoError(t, err)
	assert.Equal(t, k.allowed, ranges)
	b, err := d.AllocDMA(4096)
	require.NoError(t, err)
	assert.Equal(t, uint64(0x100000), b.IOVA())
}
