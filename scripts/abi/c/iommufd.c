/* What vfio/internal/uapi declares of iommufd and of VFIO's character devices, in C, as in vfio.c, and what else only the
   headers of Linux 6.6 and later have. See ../update. */
#include <linux/version.h>
#include <linux/vfio.h>
#include <linux/iommufd.h>

struct vfio_device_bind_iommufd vfio_device_bind_iommufd_;
struct vfio_device_attach_iommufd_pt vfio_device_attach_iommufd_pt_;
struct vfio_device_detach_iommufd_pt vfio_device_detach_iommufd_pt_;
struct iommu_destroy iommu_destroy_;
struct iommu_ioas_alloc iommu_ioas_alloc_;
struct iommu_iova_range iommu_iova_range_;
struct iommu_ioas_iova_ranges iommu_ioas_iova_ranges_;
struct iommu_ioas_map iommu_ioas_map_;
struct iommu_ioas_unmap iommu_ioas_unmap_;
struct vfio_device_feature_dma_buf vfio_device_feature_dma_buf_;
struct vfio_region_dma_range vfio_region_dma_range_;

#define K(name) K_##name = (name)

enum constants {
	K(LINUX_VERSION_MAJOR),
	K(LINUX_VERSION_PATCHLEVEL),
	K(VFIO_DEVICE_BIND_IOMMUFD),
	K(VFIO_DEVICE_ATTACH_IOMMUFD_PT),
	K(VFIO_DEVICE_DETACH_IOMMUFD_PT),
	K(VFIO_DEVICE_BIND_FLAG_TOKEN),
	K(IOMMU_DESTROY),
	K(IOMMU_IOAS_ALLOC),
	K(IOMMU_IOAS_IOVA_RANGES),
	K(IOMMU_IOAS_MAP),
	K(IOMMU_IOAS_UNMAP),
	K(IOMMU_IOAS_MAP_FIXED_IOVA),
	K(IOMMU_IOAS_MAP_WRITEABLE),
	K(IOMMU_IOAS_MAP_READABLE),
	K(VFIO_PCI_HOT_RESET_FLAG_DEV_ID),
	K(VFIO_PCI_HOT_RESET_FLAG_DEV_ID_OWNED),
	K(VFIO_PCI_DEVID_OWNED),
	K(VFIO_PCI_DEVID_NOT_OWNED),
	K(VFIO_DEVICE_FEATURE_MIG_DATA_SIZE),
	K(VFIO_DEVICE_FEATURE_BUS_MASTER),
	K(VFIO_DEVICE_FEATURE_DMA_BUF),
} constants_;
