package vfio

import (
	"encoding/binary"
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
