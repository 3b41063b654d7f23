package uapi

import "structs"

// ioctl request numbers of what only some devices and kernels have.
const (
	IoctlDeviceIOEventFD = 0x3b74 // VFIO_DEVICE_IOEVENTFD
	IoctlDeviceFeature   = 0x3b75 // VFIO_DEVICE_FEATURE
)

// Bits of DeviceFeature.Flags.
const (
	FeatureMask  = 0xffff  // VFIO_DEVICE_FEATURE_MASK: the number of the feature
	FeatureGet   = 1 << 16 // VFIO_DEVICE_FEATURE_GET
	FeatureSet   = 1 << 17 // VFIO_DEVICE_FEATURE_SET
	FeatureProbe = 1 << 18 // VFIO_DEVICE_FEATURE_PROBE: do nothing but say whether it could be done
)

// Numbers of features.
const (
	FeaturePCIVFToken         = 0  // VFIO_DEVICE_FEATURE_PCI_VF_TOKEN
	FeatureMigration          = 1  // VFIO_DEVICE_FEATURE_MIGRATION
	FeatureMigDeviceState     = 2  // VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE
	FeatureLowPowerEntry      = 3  // VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY
	FeatureLowPowerEntryWakes = 4  // VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY_WITH_WAKEUP
	FeatureLowPowerExit       = 5  // VFIO_DEVICE_FEATURE_LOW_POWER_EXIT
	FeatureDMALoggingStart    = 6  // VFIO_DEVICE_FEATURE_DMA_LOGGING_START
	FeatureDMALoggingStop     = 7  // VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP
	FeatureDMALoggingReport   = 8  // VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT
	FeatureMigDataSize        = 9  // VFIO_DEVICE_FEATURE_MIG_DATA_SIZE
	FeatureBusMaster          = 10 // VFIO_DEVICE_FEATURE_BUS_MASTER
	FeatureDMABuf             = 11 // VFIO_DEVICE_FEATURE_DMA_BUF
)

// Bits of DeviceIOEventFD.Flags, of which there is exactly one: the width of the write in bytes.
const (
	IOEventFD8  = 1 << 0 // VFIO_DEVICE_IOEVENTFD_8
	IOEventFD16 = 1 << 1 // VFIO_DEVICE_IOEVENTFD_16
	IOEventFD32 = 1 << 2 // VFIO_DEVICE_IOEVENTFD_32
	IOEventFD64 = 1 << 3 // VFIO_DEVICE_IOEVENTFD_64
)

// DeviceFeature is struct vfio_device_feature without its data, which follows at once.
type DeviceFeature struct {
	_     structs.HostLayout
	Argsz uint32
	Flags uint32
}

// LowPowerEntryWithWakeup is struct vfio_device_low_power_entry_with_wakeup.
type LowPowerEntryWithWakeup struct {
	_             structs.HostLayout
	WakeupEventfd int32
	Reserved      uint32
}

// DMABuf is struct vfio_device_feature_dma_buf; NrRanges times RegionDMARange follow it.
type DMABuf struct {
	_           structs.HostLayout
	RegionIndex uint32
	OpenFlags   uint32 // O_CLOEXEC, O_RDWR and the like
	Flags       uint32
	NrRanges    uint32
}

// RegionDMARange is struct vfio_region_dma_range: a part of a region, in bytes from its start.
type RegionDMARange struct {
	_      structs.HostLayout
	Offset uint64
	Length uint64
}

// DeviceIOEventFD is struct vfio_device_ioeventfd. Offset is one of the device's file; Fd -1 ends what was arranged with
// the same width, offset and data.
type DeviceIOEventFD struct {
	_        structs.HostLayout
	Argsz    uint32
	Flags    uint32
	Offset   uint64
	Data     uint64
	Fd       int32
	Reserved uint32 // in 6.1 it is not declared, and lies in the structure's padding
}

// Sizes that the kernel insists on, in bytes.
const (
	DeviceFeatureMinSize   = 8
	DeviceIOEventFDMinSize = 28
)
