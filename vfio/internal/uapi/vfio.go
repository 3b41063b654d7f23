package uapi

import "structs"

// APIVersion is VFIO_API_VERSION, the answer expected from GetAPIVersion.
const APIVersion = 0

// IOMMU types and extensions, for CheckExtension and SetIOMMU.
const (
	Type1IOMMU   = 1 // VFIO_TYPE1_IOMMU
	Type1v2IOMMU = 3 // VFIO_TYPE1v2_IOMMU
	NoIOMMU      = 8 // VFIO_NOIOMMU_IOMMU
)

// ioctl request numbers: _IO(';', 100+n), without size or direction bits, hence the same on every architecture.
const (
	IoctlGetAPIVersion       = 0x3b64 // VFIO_GET_API_VERSION
	IoctlCheckExtension      = 0x3b65 // VFIO_CHECK_EXTENSION
	IoctlSetIOMMU            = 0x3b66 // VFIO_SET_IOMMU
	IoctlGroupGetStatus      = 0x3b67 // VFIO_GROUP_GET_STATUS
	IoctlGroupSetContainer   = 0x3b68 // VFIO_GROUP_SET_CONTAINER
	IoctlGroupUnsetContainer = 0x3b69 // VFIO_GROUP_UNSET_CONTAINER
	IoctlGroupGetDeviceFD    = 0x3b6a // VFIO_GROUP_GET_DEVICE_FD
	IoctlDeviceGetInfo       = 0x3b6b // VFIO_DEVICE_GET_INFO
	IoctlDeviceGetRegionInfo = 0x3b6c // VFIO_DEVICE_GET_REGION_INFO
	IoctlDeviceGetIRQInfo    = 0x3b6d // VFIO_DEVICE_GET_IRQ_INFO
	IoctlDeviceSetIRQs       = 0x3b6e // VFIO_DEVICE_SET_IRQS
	IoctlDeviceReset         = 0x3b6f // VFIO_DEVICE_RESET
)

// Bits of GroupStatus.Flags.
const (
	GroupFlagsViable       = 1 << 0 // VFIO_GROUP_FLAGS_VIABLE
	GroupFlagsContainerSet = 1 << 1 // VFIO_GROUP_FLAGS_CONTAINER_SET
)

// Bits of DeviceInfo.Flags.
const (
	DeviceFlagsReset = 1 << 0 // VFIO_DEVICE_FLAGS_RESET
	DeviceFlagsPCI   = 1 << 1 // VFIO_DEVICE_FLAGS_PCI
	DeviceFlagsCaps  = 1 << 7 // VFIO_DEVICE_FLAGS_CAPS
)

// Bits of RegionInfo.Flags.
const (
	RegionInfoFlagRead  = 1 << 0 // VFIO_REGION_INFO_FLAG_READ
	RegionInfoFlagWrite = 1 << 1 // VFIO_REGION_INFO_FLAG_WRITE
	RegionInfoFlagMmap  = 1 << 2 // VFIO_REGION_INFO_FLAG_MMAP
	RegionInfoFlagCaps  = 1 << 3 // VFIO_REGION_INFO_FLAG_CAPS
)

// Identifiers of a region's capabilities.
const (
	RegionInfoCapSparseMmapID   = 1 // VFIO_REGION_INFO_CAP_SPARSE_MMAP
	RegionInfoCapMSIXMappableID = 3 // VFIO_REGION_INFO_CAP_MSIX_MAPPABLE
)

// Region indexes of a PCI device. BAR n is region n.
const (
	PCIBAR0RegionIndex   = 0 // VFIO_PCI_BAR0_REGION_INDEX
	PCIBAR5RegionIndex   = 5 // VFIO_PCI_BAR5_REGION_INDEX
	PCIROMRegionIndex    = 6 // VFIO_PCI_ROM_REGION_INDEX
	PCIConfigRegionIndex = 7 // VFIO_PCI_CONFIG_REGION_INDEX
	PCIVGARegionIndex    = 8 // VFIO_PCI_VGA_REGION_INDEX
	PCINumRegions        = 9 // VFIO_PCI_NUM_REGIONS
)

// IRQ indexes of a PCI device.
const (
	PCIINTxIRQIndex = 0 // VFIO_PCI_INTX_IRQ_INDEX
	PCIMSIIRQIndex  = 1 // VFIO_PCI_MSI_IRQ_INDEX
	PCIMSIXIRQIndex = 2 // VFIO_PCI_MSIX_IRQ_INDEX
	PCIErrIRQIndex  = 3 // VFIO_PCI_ERR_IRQ_INDEX
	PCIReqIRQIndex  = 4 // VFIO_PCI_REQ_IRQ_INDEX
	PCINumIRQs      = 5 // VFIO_PCI_NUM_IRQS
)

// Bits of IRQInfo.Flags.
const (
	IRQInfoEventFD    = 1 << 0 // VFIO_IRQ_INFO_EVENTFD
	IRQInfoMaskable   = 1 << 1 // VFIO_IRQ_INFO_MASKABLE
	IRQInfoAutoMasked = 1 << 2 // VFIO_IRQ_INFO_AUTOMASKED
	IRQInfoNoResize   = 1 << 3 // VFIO_IRQ_INFO_NORESIZE
)

// Bits of IRQSet.Flags: exactly one data bit and one action bit.
const (
	IRQSetDataNone      = 1 << 0 // VFIO_IRQ_SET_DATA_NONE
	IRQSetDataBool      = 1 << 1 // VFIO_IRQ_SET_DATA_BOOL: one byte per vector
	IRQSetDataEventFD   = 1 << 2 // VFIO_IRQ_SET_DATA_EVENTFD: one int32 per vector
	IRQSetActionMask    = 1 << 3 // VFIO_IRQ_SET_ACTION_MASK
	IRQSetActionUnmask  = 1 << 4 // VFIO_IRQ_SET_ACTION_UNMASK
	IRQSetActionTrigger = 1 << 5 // VFIO_IRQ_SET_ACTION_TRIGGER
)

// GroupStatus is struct vfio_group_status.
type GroupStatus struct {
	_     structs.HostLayout
	Argsz uint32
	Flags uint32
}

// DeviceInfo is struct vfio_device_info as of Linux 6.1. Its first version ended before CapOffset.
type DeviceInfo struct {
	_          structs.HostLayout
	Argsz      uint32
	Flags      uint32
	NumRegions uint32
	NumIRQs    uint32
	CapOffset  uint32
}

// RegionInfo is struct vfio_region_info. Size and Offset are bytes; Offset is where the region starts in the device's
// file.
type RegionInfo struct {
	_         structs.HostLayout
	Argsz     uint32
	Flags     uint32
	Index     uint32
	CapOffset uint32
	Size      uint64
	Offset    uint64
}

// InfoCapHeader is struct vfio_info_cap_header, at the start of every capability. Next is an offset from the start of
// the structure that the chain belongs to; 0 ends the chain.
type InfoCapHeader struct {
	_       structs.HostLayout
	ID      uint16
	Version uint16
	Next    uint32
}

// RegionInfoCapSparseMmap is struct vfio_region_info_cap_sparse_mmap; NrAreas times RegionSparseMmapArea follow it.
type RegionInfoCapSparseMmap struct {
	_        structs.HostLayout
	Header   InfoCapHeader
	NrAreas  uint32
	Reserved uint32
}

// RegionSparseMmapArea is struct vfio_region_sparse_mmap_area: a part of the region, in bytes from its start, that may
// be mapped.
type RegionSparseMmapArea struct {
	_      structs.HostLayout
	Offset uint64
	Size   uint64
}

// IRQInfo is struct vfio_irq_info. Count is the number of vectors of the index.
type IRQInfo struct {
	_     structs.HostLayout
	Argsz uint32
	Flags uint32
	Index uint32
	Count uint32
}

// IRQSet is struct vfio_irq_set without its data, which follows at once: Count times a byte or an int32, or nothing.
type IRQSet struct {
	_     structs.HostLayout
	Argsz uint32
	Flags uint32
	Index uint32
	Start uint32
	Count uint32
}

// Sizes that the kernel insists on, in bytes: those of the first version of each structure.
const (
	GroupStatusMinSize = 8
	DeviceInfoMinSize  = 16
	RegionInfoMinSize  = 32
	IRQInfoMinSize     = 16
	IRQSetMinSize      = 20
)
