package uapi

import "structs"

// ioctl request numbers of the character device of one VFIO device, /dev/vfio/devices/vfioN (linux/vfio.h), which Linux
// has since 6.6.
const (
	IoctlDeviceBindIOMMUFD     = 0x3b76 // VFIO_DEVICE_BIND_IOMMUFD
	IoctlDeviceAttachIOMMUFDPT = 0x3b77 // VFIO_DEVICE_ATTACH_IOMMUFD_PT
	IoctlDeviceDetachIOMMUFDPT = 0x3b78 // VFIO_DEVICE_DETACH_IOMMUFD_PT
)

// ioctl request numbers of /dev/iommu (linux/iommufd.h): _IO(';', 0x80+n).
const (
	IoctlIOMMUDestroy        = 0x3b80 // IOMMU_DESTROY
	IoctlIOMMUIOASAlloc      = 0x3b81 // IOMMU_IOAS_ALLOC
	IoctlIOMMUIOASIOVARanges = 0x3b84 // IOMMU_IOAS_IOVA_RANGES
	IoctlIOMMUIOASMap        = 0x3b85 // IOMMU_IOAS_MAP
	IoctlIOMMUIOASUnmap      = 0x3b86 // IOMMU_IOAS_UNMAP
)

// DeviceBindFlagToken is the bit of DeviceBindIOMMUFD.Flags that says that there is a token,
// VFIO_DEVICE_BIND_FLAG_TOKEN. Kernels before about 6.17 refuse it.
const DeviceBindFlagToken = 1 << 0

// Bits of IOMMUIOASMap.Flags.
const (
	IOASMapFixedIOVA = 1 << 0 // IOMMU_IOAS_MAP_FIXED_IOVA
	IOASMapWriteable = 1 << 1 // IOMMU_IOAS_MAP_WRITEABLE
	IOASMapReadable  = 1 << 2 // IOMMU_IOAS_MAP_READABLE
)

// DeviceBindIOMMUFD is struct vfio_device_bind_iommufd. Its first version ended before TokenUUIDPtr.
type DeviceBindIOMMUFD struct {
	_            structs.HostLayout
	Argsz        uint32
	Flags        uint32
	Iommufd      int32
	OutDevid     uint32
	TokenUUIDPtr uint64 // set by [Kernel.DeviceBindIOMMUFD] alone
}

// DeviceAttachIOMMUFDPT is struct vfio_device_attach_iommufd_pt without the field for PASIDs, which this module has no
// use for. PtID is the identifier of an address space in the iommufd; the kernel replaces it by that of the page table
// it made.
type DeviceAttachIOMMUFDPT struct {
	_     structs.HostLayout
	Argsz uint32
	Flags uint32
	PtID  uint32
}

// DeviceDetachIOMMUFDPT is struct vfio_device_detach_iommufd_pt without the field for PASIDs.
type DeviceDetachIOMMUFDPT struct {
	_     structs.HostLayout
	Argsz uint32
	Flags uint32
}

// IOMMUDestroy is struct iommu_destroy.
type IOMMUDestroy struct {
	_    structs.HostLayout
	Size uint32
	ID   uint32
}

// IOMMUIOASAlloc is struct iommu_ioas_alloc. OutIoasID is the identifier of the new address space.
type IOMMUIOASAlloc struct {
	_         structs.HostLayout
	Size      uint32
	Flags     uint32
	OutIoasID uint32
}

// IOMMUIOVARange is struct iommu_iova_range: the addresses from Start to Last, inclusive.
type IOMMUIOVARange struct {
	_     structs.HostLayout
	Start uint64
	Last  uint64
}

// IOMMUIOASIOVARanges is struct iommu_ioas_iova_ranges.
type IOMMUIOASIOVARanges struct {
	_                structs.HostLayout
	Size             uint32
	IoasID           uint32
	NumIovas         uint32 // set by [Kernel.IOASIOVARanges]; on return, how many there are
	Reserved         uint32
	AllowedIovas     uint64 // set by [Kernel.IOASIOVARanges]
	OutIovaAlignment uint64 // in bytes
}

// IOMMUIOASMap is struct iommu_ioas_map. UserVa and IOVA are addresses, Length is bytes.
type IOMMUIOASMap struct {
	_        structs.HostLayout
	Size     uint32
	Flags    uint32
	IoasID   uint32
	Reserved uint32
	UserVa   uint64
	Length   uint64
	Iova     uint64
}

// IOMMUIOASUnmap is struct iommu_ioas_unmap. Length is bytes; on return, those that were mapped. Iova 0 with the greatest
// Length means everything.
type IOMMUIOASUnmap struct {
	_      structs.HostLayout
	Size   uint32
	IoasID uint32
	Iova   uint64
	Length uint64
}

// Sizes that the kernel insists on, in bytes. Those of /dev/iommu are of whole structures.
const (
	DeviceBindIOMMUFDMinSize     = 16
	DeviceAttachIOMMUFDPTMinSize = 12
	DeviceDetachIOMMUFDPTMinSize = 8
	IOMMUDestroyMinSize          = 8
	IOMMUIOASAllocMinSize        = 12
	IOMMUIOASIOVARangesMinSize   = 32
	IOMMUIOASMapMinSize          = 40
	IOMMUIOASUnmapMinSize        = 24
)
