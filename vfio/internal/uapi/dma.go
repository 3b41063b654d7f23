package uapi

import "structs"

// ioctl request numbers of a container that has an IOMMU driver.
const (
	IoctlIOMMUGetInfo  = 0x3b70 // VFIO_IOMMU_GET_INFO
	IoctlIOMMUMapDMA   = 0x3b71 // VFIO_IOMMU_MAP_DMA
	IoctlIOMMUUnmapDMA = 0x3b72 // VFIO_IOMMU_UNMAP_DMA
)

// Bits of IOMMUInfo.Flags.
const (
	IOMMUInfoPageSizes = 1 << 0 // VFIO_IOMMU_INFO_PGSIZES: IovaPgsizes is valid
	IOMMUInfoCaps      = 1 << 1 // VFIO_IOMMU_INFO_CAPS
)

// Identifiers of a container's capabilities.
const (
	IOMMUInfoCapIOVARangeID = 1 // VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE
	IOMMUInfoCapMigrationID = 2 // VFIO_IOMMU_TYPE1_INFO_CAP_MIGRATION
	IOMMUInfoCapDMAAvailID  = 3 // VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL
)

// Bits of IOMMUDMAMap.Flags: what the device may do.
const (
	DMAMapRead  = 1 << 0 // VFIO_DMA_MAP_FLAG_READ: the device may read
	DMAMapWrite = 1 << 1 // VFIO_DMA_MAP_FLAG_WRITE: the device may write
)

// DMAUnmapAll is VFIO_DMA_UNMAP_FLAG_ALL, a bit of IOMMUDMAUnmap.Flags: everything; Iova and Size are 0.
const DMAUnmapAll = 1 << 1

// IOMMUInfo is struct vfio_iommu_type1_info. IovaPgsizes has a bit for each size of page that the IOMMU has.
type IOMMUInfo struct {
	_           structs.HostLayout
	Argsz       uint32
	Flags       uint32
	IovaPgsizes uint64
	CapOffset   uint32
	Pad         uint32 // in 6.1 it is not declared, and lies in the structure's padding
}

// IOMMUInfoCapIOVARange is struct vfio_iommu_type1_info_cap_iova_range; NrIovas times IOVARange follow it.
type IOMMUInfoCapIOVARange struct {
	_        structs.HostLayout
	Header   InfoCapHeader
	NrIovas  uint32
	Reserved uint32
}

// IOVARange is struct vfio_iova_range: I/O virtual addresses that can be mapped, the last one included.
type IOVARange struct {
	_     structs.HostLayout
	Start uint64
	End   uint64
}

// IOMMUInfoCapDMAAvail is struct vfio_iommu_type1_info_dma_avail: how many more mappings the container takes.
type IOMMUInfoCapDMAAvail struct {
	_      structs.HostLayout
	Header InfoCapHeader
	Avail  uint32
}

// IOMMUDMAMap is struct vfio_iommu_type1_dma_map. Vaddr is an address of the calling process, [Memory.Address]; Iova and
// Size are multiples of the smallest page size.
type IOMMUDMAMap struct {
	_     structs.HostLayout
	Argsz uint32
	Flags uint32
	Vaddr uint64
	Iova  uint64
	Size  uint64
}

// IOMMUDMAUnmap is struct vfio_iommu_type1_dma_unmap. The kernel sets Size to how many bytes were mapped.
type IOMMUDMAUnmap struct {
	_     structs.HostLayout
	Argsz uint32
	Flags uint32
	Iova  uint64
	Size  uint64
}

// Sizes that the kernel insists on, in bytes.
const (
	IOMMUInfoMinSize     = 16
	IOMMUDMAMapMinSize   = 32
	IOMMUDMAUnmapMinSize = 24
)

// Memory is fresh, zeroed memory of this process, outside of Go's heap, that a device may be given to read and write.
//
// Each Load and Store is exactly one access of the stated width, in the machine's byte order. A store comes after the
// program's earlier stores, and a load before its later loads, also for a device that looks at the memory. An offset
// that is out of range or not a multiple of the width is EINVAL.
//
// Everything may run concurrently with everything but Unmap; once Unmap has returned, accesses give os.ErrClosed.
type Memory interface {
	Mapping
	// Address is where the memory starts in this process, for IOMMUDMAMap.Vaddr. It is a multiple of the page size.
	Address() uint64
	// Bytes is the memory, nil after Unmap. Touching what Bytes returned after Unmap ends the program.
	Bytes() []byte
}

// LockedMemory is what the kernel counts of a process' memory that cannot be paged out, in bytes. Memory mapped for DMA
// counts as long as it is mapped; with a container the process' own count is what is held against the limit.
type LockedMemory struct {
	Locked    uint64 // VmLck of /proc/PID/status
	Limit     uint64 // the soft limit RLIMIT_MEMLOCK; the largest uint64 for none
	Unlimited bool   // the calling thread has CAP_IPC_LOCK, and the limit does not apply to it
}
