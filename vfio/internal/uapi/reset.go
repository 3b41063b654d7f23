package uapi

import "structs"

// ioctl request numbers of the reset of a bus or a slot.
const (
	IoctlDeviceGetPCIHotResetInfo = 0x3b70 // VFIO_DEVICE_GET_PCI_HOT_RESET_INFO
	IoctlDevicePCIHotReset        = 0x3b71 // VFIO_DEVICE_PCI_HOT_RESET
)

// Bits of PCIHotResetInfo.Flags, since Linux 6.5.
const (
	PCIHotResetFlagDevID      = 1 << 0 // VFIO_PCI_HOT_RESET_FLAG_DEV_ID: PCIDependentDevice.GroupID is a device's number
	PCIHotResetFlagDevIDOwned = 1 << 1 // VFIO_PCI_HOT_RESET_FLAG_DEV_ID_OWNED: none of them is PCIDevIDNotOwned
)

// What PCIDependentDevice.GroupID is with PCIHotResetFlagDevID beside a number in the caller's iommufd.
const (
	PCIDevIDOwned    = 0         // VFIO_PCI_DEVID_OWNED: not bound, but of a group that the iommufd has
	PCIDevIDNotOwned = 1<<32 - 1 // VFIO_PCI_DEVID_NOT_OWNED, -1
)

// PCIHotResetInfo is struct vfio_pci_hot_reset_info; Count times PCIDependentDevice follow it.
type PCIHotResetInfo struct {
	_     structs.HostLayout
	Argsz uint32
	Flags uint32
	Count uint32
}

// PCIDependentDevice is struct vfio_pci_dependent_device: a function that is reset, too. Devfn is the device times 8 plus
// the function.
type PCIDependentDevice struct {
	_       structs.HostLayout
	GroupID uint32 // of the IOMMU group, or, by PCIHotResetFlagDevID, devid
	Segment uint16
	Bus     uint8
	Devfn   uint8
}

// PCIHotReset is struct vfio_pci_hot_reset; Count times the int32 of an open group follow it.
type PCIHotReset struct {
	_     structs.HostLayout
	Argsz uint32
	Flags uint32
	Count uint32
}

// Sizes that the kernel insists on, in bytes.
const (
	PCIHotResetInfoMinSize = 12
	PCIHotResetMinSize     = 12
)
