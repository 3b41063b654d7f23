/* What vfio/internal/uapi declares, in C: one variable for each structure, and the constants as an enum, so that both are
   in the debug information. See ../update. */
#include <linux/version.h>
#include <linux/vfio.h>

struct vfio_group_status vfio_group_status_;
struct vfio_device_info vfio_device_info_;
struct vfio_region_info vfio_region_info_;
struct vfio_info_cap_header vfio_info_cap_header_;
struct vfio_region_info_cap_sparse_mmap vfio_region_info_cap_sparse_mmap_;
struct vfio_region_sparse_mmap_area vfio_region_sparse_mmap_area_;
struct vfio_irq_info vfio_irq_info_;
struct vfio_irq_set vfio_irq_set_;
struct vfio_iommu_type1_info vfio_iommu_type1_info_;
struct vfio_iommu_type1_info_cap_iova_range vfio_iommu_type1_info_cap_iova_range_;
struct vfio_iova_range vfio_iova_range_;
struct vfio_iommu_type1_info_dma_avail vfio_iommu_type1_info_dma_avail_;
struct vfio_iommu_type1_dma_map vfio_iommu_type1_dma_map_;
struct vfio_iommu_type1_dma_unmap vfio_iommu_type1_dma_unmap_;
struct vfio_pci_hot_reset_info vfio_pci_hot_reset_info_;
struct vfio_pci_dependent_device vfio_pci_dependent_device_;
struct vfio_pci_hot_reset vfio_pci_hot_reset_;
struct vfio_device_feature vfio_device_feature_;
struct vfio_device_low_power_entry_with_wakeup vfio_device_low_power_entry_with_wakeup_;
struct vfio_device_ioeventfd vfio_device_ioeventfd_;

#define K(name) K_##name = (name)

enum constants {
	K(LINUX_VERSION_MAJOR),
	K(LINUX_VERSION_PATCHLEVEL),
	K(VFIO_API_VERSION),
	K(VFIO_TYPE1_IOMMU),
	K(VFIO_TYPE1v2_IOMMU),
	K(VFIO_GET_API_VERSION),
	K(VFIO_CHECK_EXTENSION),
	K(VFIO_SET_IOMMU),
	K(VFIO_GROUP_GET_STATUS),
	K(VFIO_GROUP_SET_CONTAINER),
	K(VFIO_GROUP_UNSET_CONTAINER),
	K(VFIO_GROUP_GET_DEVICE_FD),
	K(VFIO_DEVICE_GET_INFO),
	K(VFIO_DEVICE_GET_REGION_INFO),
	K(VFIO_DEVICE_GET_IRQ_INFO),
	K(VFIO_DEVICE_SET_IRQS),
	K(VFIO_DEVICE_RESET),
	K(VFIO_GROUP_FLAGS_VIABLE),
	K(VFIO_GROUP_FLAGS_CONTAINER_SET),
	K(VFIO_DEVICE_FLAGS_RESET),
	K(VFIO_DEVICE_FLAGS_PCI),
	K(VFIO_DEVICE_FLAGS_CAPS),
	K(VFIO_REGION_INFO_FLAG_READ),
	K(VFIO_REGION_INFO_FLAG_WRITE),
	K(VFIO_REGION_INFO_FLAG_MMAP),
	K(VFIO_REGION_INFO_FLAG_CAPS),
	K(VFIO_REGION_INFO_CAP_SPARSE_MMAP),
	K(VFIO_REGION_INFO_CAP_MSIX_MAPPABLE),
	K(VFIO_PCI_BAR0_REGION_INDEX),
	K(VFIO_PCI_BAR5_REGION_INDEX),
	K(VFIO_PCI_ROM_REGION_INDEX),
	K(VFIO_PCI_CONFIG_REGION_INDEX),
	K(VFIO_PCI_VGA_REGION_INDEX),
	K(VFIO_PCI_NUM_REGIONS),
	K(VFIO_PCI_INTX_IRQ_INDEX),
	K(VFIO_PCI_MSI_IRQ_INDEX),
	K(VFIO_PCI_MSIX_IRQ_INDEX),
	K(VFIO_PCI_ERR_IRQ_INDEX),
	K(VFIO_PCI_REQ_IRQ_INDEX),
	K(VFIO_PCI_NUM_IRQS),
	K(VFIO_IRQ_INFO_EVENTFD),
	K(VFIO_IRQ_INFO_MASKABLE),
	K(VFIO_IRQ_INFO_AUTOMASKED),
	K(VFIO_IRQ_INFO_NORESIZE),
	K(VFIO_IRQ_SET_DATA_NONE),
	K(VFIO_IRQ_SET_DATA_BOOL),
	K(VFIO_IRQ_SET_DATA_EVENTFD),
	K(VFIO_IRQ_SET_ACTION_MASK),
	K(VFIO_IRQ_SET_ACTION_UNMASK),
	K(VFIO_IRQ_SET_ACTION_TRIGGER),
	K(VFIO_IOMMU_GET_INFO),
	K(VFIO_IOMMU_MAP_DMA),
	K(VFIO_IOMMU_UNMAP_DMA),
	K(VFIO_IOMMU_INFO_PGSIZES),
	K(VFIO_IOMMU_INFO_CAPS),
	K(VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE),
	K(VFIO_IOMMU_TYPE1_INFO_CAP_MIGRATION),
	K(VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL),
	K(VFIO_DMA_MAP_FLAG_READ),
	K(VFIO_DMA_MAP_FLAG_WRITE),
	K(VFIO_DMA_UNMAP_FLAG_ALL),
	K(VFIO_DEVICE_GET_PCI_HOT_RESET_INFO),
	K(VFIO_DEVICE_PCI_HOT_RESET),
	K(VFIO_DEVICE_IOEVENTFD),
	K(VFIO_DEVICE_IOEVENTFD_8),
	K(VFIO_DEVICE_IOEVENTFD_16),
	K(VFIO_DEVICE_IOEVENTFD_32),
	K(VFIO_DEVICE_IOEVENTFD_64),
	K(VFIO_DEVICE_FEATURE),
	K(VFIO_DEVICE_FEATURE_MASK),
	K(VFIO_DEVICE_FEATURE_GET),
	K(VFIO_DEVICE_FEATURE_SET),
	K(VFIO_DEVICE_FEATURE_PROBE),
	K(VFIO_DEVICE_FEATURE_PCI_VF_TOKEN),
	K(VFIO_DEVICE_FEATURE_MIGRATION),
	K(VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE),
	K(VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY),
	K(VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY_WITH_WAKEUP),
	K(VFIO_DEVICE_FEATURE_LOW_POWER_EXIT),
	K(VFIO_DEVICE_FEATURE_DMA_LOGGING_START),
	K(VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP),
	K(VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT),
} constants_;
