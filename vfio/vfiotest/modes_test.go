package vfiotest_test

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/irqbridge/irqbridge/pci"
	"github.com/irqbridge/irqbridge/vfio"
	"github.com/irqbridge/irqbridge/vfio/internal/uapi"
	"github.com/irqbridge/irqbridge/vfio/vfiotest"
)

// iommuMode is a way in which a process can have the IOMMU give its memory to a device. The names are those of the kernel's
// own selftests.
type iommuMode struct {
	name    string
	backend vfio.Backend // of the machines that have it
	open    func(t *testing.T, m *vfiotest.Machine, a pci.Address) *raw
}

var iommuModes = []iommuMode{
	{"vfio_type1_iommu", vfio.BackendGroup, func(t *testing.T, m *vfiotest.Machine, a pci.Address) *raw {
		t.Helper()
		return openInContainer(t, m, a, uapi.Type1IOMMU)
	}},
	{"vfio_type1v2_iommu", vfio.BackendGroup, openByGroup},
	{"iommufd", vfio.BackendIOMMUFD, openByNode},
}

// inEachMode runs a test on every machine, in each of the modes that it has.
func inEachMode(t *testing.T, f func(t *testing.T, m *vfiotest.Machine, mode iommuMode)) {
	t.Helper()
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		for _, mode := range iommuModes {
			if mode.backend == m.Backend {
				t.Run(mode.name, func(t *testing.T) { f(t, m, mode) })
			}
		}
	})
}

// mapAt gives the device the memory of this process at vaddr, to read and write at iova.
func (r *raw) mapAt(vaddr, iova, size uint64) error {
	if r.ioas != 0 {
		return r.k.IOASMap(r.container, sized(uapi.IOMMUIOASMap{
			Flags:  uapi.IOASMapFixedIOVA | uapi.IOASMapReadable | uapi.IOASMapWriteable,
			IoasID: r.ioas, UserVa: vaddr, Length: size, Iova: iova,
		}))
	}
	return r.k.IOMMUMapDMA(r.container, sized(uapi.IOMMUDMAMap{Flags: readWrite, Vaddr: vaddr, Iova: iova, Size: size}))
}

// unmapAt takes it back, and returns how much that was.
func (r *raw) unmapAt(iova, size uint64) (uint64, error) {
	if r.ioas != 0 {
		arg := sized(uapi.IOMMUIOASUnmap{IoasID: r.ioas, Iova: iova, Length: size})
		err := r.k.IOASUnmap(r.container, arg)
		return uapi.Take[uapi.IOMMUIOASUnmap](arg).Length, err
	}
	arg := sized(uapi.IOMMUDMAUnmap{Iova: iova, Size: size})
	err := r.k.IOMMUUnmapDMA(r.container, arg)
	return uapi.Take[uapi.IOMMUDMAUnmap](arg).Size, err
}

// unmapAll takes everything back, and returns how much that was.
func (r *raw) unmapAll() (uint64, error) {
	if r.ioas != 0 {
		return r.unmapAt(0, math.MaxUint64)
	}
	arg := sized(uapi.IOMMUDMAUnmap{Flags: unmapAll})
	err := r.k.IOMMUUnmapDMA(r.container, arg)
	return uapi.Take[uapi.IOMMUDMAUnmap](arg).Size, err
}

// lastIOVA is the last address that can be mapped.
func (r *raw) lastIOVA() uint64 {
	r.t.Helper()
	if r.ioas == 0 {
		return lastIOVA(r.t, r.k, r.container)
	}
	ranges := make([]uapi.IOMMUIOVARange, 16)
	arg := sized(uapi.IOMMUIOASIOVARanges{IoasID: r.ioas})
	require.NoError(r.t, r.k.IOASIOVARanges(r.container, arg, ranges))
	return ranges[uapi.Take[uapi.IOMMUIOASIOVARanges](arg).NumIovas-1].Last
}

// memory is memory of the process, given back at the end. hugePage is as for Allocate.
func (r *raw) memory(length, hugePage int) uapi.Memory {
	r.t.Helper()
	return allocate(r.t, r.k, length, hugePage)
}

// allocate is Allocate, given back at the end.
func allocate(t *testing.T, k vfio.Kernel, length, hugePage int) uapi.Memory {
	t.Helper()
	memory, err := k.Allocate(length, hugePage)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, memory.Unmap()) })
	return memory
}
