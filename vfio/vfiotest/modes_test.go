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
	space   string       // the file whose ioctls map memory
	driver  int          // the IOMMU driver that the file is told to be a container with; 0 where the device has its own node
}

// The two called compat have /dev/iommu in the place of a container, which knows a container's ioctls, too.
var (
	modeType1         = iommuMode{"vfio_type1_iommu", vfio.BackendGroup, "/dev/vfio/vfio", uapi.Type1IOMMU}
	modeType1v2       = iommuMode{"vfio_type1v2_iommu", vfio.BackendGroup, "/dev/vfio/vfio", uapi.Type1v2IOMMU}
	modeCompatType1   = iommuMode{"iommufd_compat_type1", vfio.BackendIOMMUFD, "/dev/iommu", uapi.Type1IOMMU}
	modeCompatType1v2 = iommuMode{"iommufd_compat_type1v2", vfio.BackendIOMMUFD, "/dev/iommu", uapi.Type1v2IOMMU}
	modeIOMMUFD       = iommuMode{"iommufd", vfio.BackendIOMMUFD, "/dev/iommu", 0}

	iommuModes = []iommuMode{modeType1, modeType1v2, modeCompatType1, modeCompatType1v2, modeIOMMUFD}
)

// inContainer tells whether memory is mapped by a container's ioctls, and not by those of an address space of an iommufd.
func (mode iommuMode) inContainer() bool { return mode.driver != 0 }

// compat tells whether the container is an iommufd.
func (mode iommuMode) compat() bool { return mode.inContainer() && mode.backend == vfio.BackendIOMMUFD }

// open opens a device that is bound to vfio-pci.
func (mode iommuMode) open(t *testing.T, m *vfiotest.Machine, a pci.Address) *raw {
	t.Helper()
	r := newRaw(t, m, a)
	require.NoError(t, r.open(mode, nil))
	return r
}

// open has the device opened in a mode, with a VF token or nil. It may be called by any goroutine.
func (r *raw) open(mode iommuMode, token *vfio.VFToken) error {
	var err error
	if r.container, err = r.k.Open(mode.space); err != nil {
		return err
	}
	if !mode.inContainer() {
		return r.openNode(token)
	}
	d, err := r.m.Host.Device(r.address)
	if err != nil {
		return err
	}
	if r.group, err = awaitGroup(r.k, d.Group); err != nil {
		return err
	}
	if err := r.k.GroupSetContainer(r.group, r.container); err != nil {
		return err
	}
	if err := r.k.SetIOMMU(r.container, mode.driver); err != nil {
		return err
	}
	name := r.address.String()
	if token != nil {
		name += " vf_token=" + token.String()
	}
	r.device, err = r.k.GroupGetDeviceFD(r.group, name)
	return err
}

// openNode is open by the device's own node, in an address space of its own.
func (r *raw) openNode(token *vfio.VFToken) error {
	var err error
	if r.device, err = r.k.Open(r.m.Host.DeviceNode(r.address)); err != nil {
		return err
	}
	bind := uapi.DeviceBindIOMMUFD{Iommufd: int32(r.container)}
	if token != nil {
		bind.Flags = uapi.DeviceBindFlagToken
	}
	if err := r.k.DeviceBindIOMMUFD(r.device, sized(bind), (*[16]byte)(token)); err != nil {
		return err
	}
	arg := sized(uapi.IOMMUIOASAlloc{})
	if err := r.k.IOASAlloc(r.container, arg); err != nil {
		return err
	}
	r.ioas = uapi.Take[uapi.IOMMUIOASAlloc](arg).OutIoasID
	return r.attach(&r.ioas)
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
