package vfio

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/irqbridge/irqbridge/vfio/internal/uapi"
)

// configOnly is a kernel with a device that has a configuration space and nothing else.
type configOnly struct {
	Kernel
	config []byte
}

func (c configOnly) Pread(_ int, p []byte, offset int64) (int, error) {
	return copy(p, c.config[offset:]), nil
}

// TestMappable checks which parts of a BAR are mapped, in pages of the running machine.
func TestMappable(t *testing.T) {
	page := uint64(os.Getpagesize())
	config := make([]byte, 256)
	copy(config, []byte{0x34, 0x12})
	config[0x06] = 0x10                     // a capability list,
	config[0x34] = 0x40                     // at 0x40:
	copy(config[0x40:], []byte{0x11, 0, 3}) // MSI-X with four messages,
	table := uint32(3*page) | 2             // the table in the fourth page of BAR 2,
	binary.LittleEndian.PutUint32(config[0x44:], table)
	binary.LittleEndian.PutUint32(config[0x48:], table+0x800)
	d := &Device{kernel: configOnly{config: config}, regions: make([]RegionInfo, uapi.PCINumRegions)}
	d.regions[uapi.PCIConfigRegionIndex].Size = 256
	d.irqs[MSIX].Count = 4

	for name, c := range map[string]struct {
		region RegionInfo
		want   []Area
	}{
		"whole":                    {RegionInfo{Size: 4 * page, Mmap: true}, []Area{{0, 4 * page}}},
		"not mappable":             {RegionInfo{Size: 4 * page}, nil},
		"less than a page":         {RegionInfo{Size: page / 2, Mmap: true}, nil},
		"whole pages only":         {RegionInfo{Size: 2*page + 16, Mmap: true}, []Area{{0, 2 * page}}},
		"too large for an offset":  {RegionInfo{Size: page, Offset: math.MaxInt64, Mmap: true}, nil},
		"sparse":                   {RegionInfo{Size: 4 * page, Mmap: true, Sparse: []Area{{page, page}, {3 * page, page}}}, []Area{{page, page}, {3 * page, page}}},
		"sparse, not in pages":     {RegionInfo{Size: 4 * page, Mmap: true, Sparse: []Area{{16, 2 * page}, {3*page + 16, 64}}}, []Area{{page, page}}},
		"sparse without an area":   {RegionInfo{Size: 4 * page, Mmap: true, Sparse: []Area{}}, nil},
		"table page kept":          {RegionInfo{Index: 2, Size: 8 * page, Mmap: true}, []Area{{0, 3 * page}, {4 * page, 4 * page}}},
		"table at the end":         {RegionInfo{Index: 2, Size: 4 * page, Mmap: true}, []Area{{0, 3 * page}}},
		"table mappable":           {RegionInfo{Index: 2, Size: 8 * page, Mmap: true, MSIXMappable: true}, []Area{{0, 8 * page}}},
		"table beyond the BAR":     {RegionInfo{Index: 2, Size: 2 * page, Mmap: true}, []Area{{0, 2 * page}}},
		"sparse goes before table": {RegionInfo{Index: 2, Size: 8 * page, Mmap: true, Sparse: []Area{{2 * page, 2 * page}}}, []Area{{2 * page, 2 * page}}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := d.mappable(c.region)
			require.NoError(t, err)
			assert.Equal(t, c.want, got)
		})
	}
}

// memory is a device whose BAR 0 is a file, in two pages of which the second cannot be mapped. It records the accesses
// that go through the kernel.
type memory struct {
	Kernel
	calls []string
}

func (m *memory) Mmap(fd int, offset int64, length int) (uapi.Mapping, error) {
	return uapi.Real().Mmap(fd, offset, length)
}

func (m *memory) Pread(fd int, p []byte, offset int64) (int, error) {
	m.calls = append(m.calls, fmt.Sprintf("read %d at %d", len(p), offset-int64(os.Getpagesize())))
	return uapi.Real().Pread(fd, p, offset)
}

func (m *memory) Pwrite(fd int, p []byte, offset int64) (int, error) {
	m.calls = append(m.calls, fmt.Sprintf("write %d at %d", len(p), offset-int64(os.Getpagesize())))
	return uapi.Real().Pwrite(fd, p, offset)
}

// TestEveryWidth makes all accesses to the mapped page and to the one behind it. There, each is one system call of just
// its width.
func TestEveryWidth(t *testing.T) {
	page := uint64(os.Getpagesize())
	file, err := os.CreateTemp(t.TempDir(), "device")
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, file.Close()) })
	require.NoError(t, file.Truncate(int64(2*page)))
	kernel := &memory{}
	d := &Device{kernel: kernel, fd: int(file.Fd()), regions: make([]RegionInfo, uapi.PCINumRegions)}
	d.regions[0] = RegionInfo{Size: 2 * page, Mmap: true, Sparse: []Area{{0, page}}}
	b, err := d.BAR(0)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, b.unmap()) })

	for _, base := range []uint64{0, page} {
		require.NoError(t, b.Write8(base+1, 0x11))
		require.NoError(t, b.Write16(base+2, 0x3322))
		require.NoError(t, b.Write32(base+4, 0x77665544))
		require.NoError(t, b.Write64(base+8, 0xffeeddccbbaa9988))
		want := []byte{0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff}
		got := make([]byte, len(want))
		_, err := file.ReadAt(got, int64(base))
		require.NoError(t, err)
		assert.Equal(t, want, got, "PCI is little-endian")

		v8, err := b.Read8(base + 1)
		require.NoError(t, err)
		assert.Equal(t, uint8(0x11), v8)
		v16, err := b.Read16(base + 2)
		require.NoError(t, err)
		assert.Equal(t, uint16(0x3322), v16)
		v32, err := b.Read32(base + 4)
		require.NoError(t, err)
		assert.Equal(t, uint32(0x77665544), v32)
		v64, err := b.Read64(base + 8)
		require.NoError(t, err)
		assert.Equal(t, uint64(0xffeeddccbbaa9988), v64)
	}
	assert.Equal(t, []string{
		"write 1 at 1", "write 2 at 2", "write 4 at 4", "write 8 at 8",
		"read 1 at 1", "read 2 at 2", "read 4 at 4", "read 8 at 8",
	}, kernel.calls, "only the page that is not mapped")

	// The device's file ends within the region: the answer is short.
	require.NoError(t, file.Truncate(int64(page+2)))
	_, err = b.Read32(page)
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
}
