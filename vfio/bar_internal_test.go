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
	"golang.org/x/sys/unix"

	"github.com/irqbridge/irqbridge/pci"
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

func (c configOnly) Pwrite(_ int, p []byte, offset int64) (int, error) {
	return copy(c.config[offset:], p), nil
}

// TestDecoding: I/O decoding is for devices with an I/O BAR, which the upper half of a memory BAR's address is not.
func TestDecoding(t *testing.T) {
	config := make([]byte, 256)
	binary.LittleEndian.PutUint32(config[0x10:], 0xfe000004) // BAR 0: memory of 64 bits
	binary.LittleEndian.PutUint32(config[0x14:], 0x00000001) // its upper half
	binary.LittleEndian.PutUint32(config[0x18:], 0x0000c001) // BAR 2: I/O
	d := &Device{kernel: configOnly{config: config}, regions: make([]RegionInfo, uapi.PCINumRegions)}
	d.regions[uapi.PCIConfigRegionIndex].Size = 256
	d.regions[0].Size = 0x1000
	require.NoError(t, d.decodeOn())
	assert.Equal(t, uint8(pci.CommandMemory), config[4])
	d.regions[2].Size = 32
	require.NoError(t, d.decodeOn())
	assert.Equal(t, uint8(pci.CommandMemory|pci.CommandIO), config[4])
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
		"beyond any offset":        {RegionInfo{Size: page, Offset: -page, Mmap: true}, nil},
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

// resetting is a device that can be reset. It notes whether an access could have been made meanwhile.
type resetting struct {
	configOnly
	device *Device
	open   bool
}

func (r *resetting) DeviceReset(int) error {
	if r.device.life.TryRLock() {
		r.open = true
		r.device.life.RUnlock()
	}
	return nil
}

// TestResetKeepsAccessesOut: the kernel takes the mappings away during a reset, and reads give all ones.
func TestResetKeepsAccessesOut(t *testing.T) {
	kernel := &resetting{configOnly: configOnly{config: make([]byte, 256)}}
	d := &Device{kernel: kernel, canReset: true, regions: make([]RegionInfo, uapi.PCINumRegions)}
	d.regions[uapi.PCIConfigRegionIndex].Size = 256
	kernel.device = d
	require.NoError(t, d.Reset())
	assert.False(t, kernel.open)
	require.True(t, d.life.TryLock(), "and lets them in again")
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

	for _, base := range []uint64{0, page} {
		_, err := b.Read32(base + 2)
		require.ErrorIs(t, err, unix.EINVAL)
		require.ErrorContains(t, err, "not a multiple of 4")
		require.ErrorIs(t, b.Write64(base+4, 0), unix.EINVAL)
	}
	assert.Len(t, kernel.calls, 8, "the kernel would split them")

	// The device's file ends within the region: the answer is short.
	require.NoError(t, file.Truncate(int64(page+2)))
	_, err = b.Read32(page)
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
}

// mapped counts the mappings that are in place, of which there can be limit, and notes where each began.
type mapped struct {
	Kernel
	limit, now int
	offsets    []int64
}

type countedMapping struct {
	uapi.Mapping
	of *mapped
}

func (m *mapped) Mmap(_ int, offset int64, _ int) (uapi.Mapping, error) {
	m.offsets = append(m.offsets, offset)
	if m.now == m.limit {
		return nil, unix.ENOMEM
	}
	m.now++
	return countedMapping{of: m}, nil
}

func (c countedMapping) Unmap() error {
	c.of.now--
	return nil
}

// TestBARMappedInPart: when the second of two areas cannot be mapped, the first does not stay.
func TestBARMappedInPart(t *testing.T) {
	page := uint64(os.Getpagesize())
	kernel := &mapped{limit: 1}
	d := &Device{kernel: kernel, regions: make([]RegionInfo, uapi.PCINumRegions)}
	d.regions[0] = RegionInfo{Offset: 3 << 40, Size: 4 * page, Mmap: true, Sparse: []Area{{0, page}, {2 * page, page}}}
	_, err := d.BAR(0)
	require.ErrorIs(t, err, unix.ENOMEM)
	assert.Zero(t, kernel.now)

	kernel.limit = 2
	b, err := d.BAR(0)
	require.NoError(t, err)
	assert.Equal(t, 2, kernel.now)
	areas := []int64{3 << 40, 3<<40 + 2*int64(page)}
	assert.Equal(t, append(areas, areas...), kernel.offsets, "of the device's file")
	require.NoError(t, b.unmap())
	assert.Zero(t, kernel.now)
}
