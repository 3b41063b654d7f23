package uapi_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/irqbridge/irqbridge/vfio/internal/uapi"
)

// golden is what scripts/abi found in one version of the kernel's headers.
type golden struct {
	Kernel    string
	Constants map[string]int64
	Structs   map[string]struct {
		Size   int
		Fields map[string]struct{ Offset, Size int }
	}
}

// goldens reads those of a part of the ABI, "vfio" or "iommufd", of which there are at least so many.
func goldens(t *testing.T, part string, atLeast int) []golden {
	t.Helper()
	files, err := filepath.Glob("../../../testdata/abi/" + part + "-*.json")
	require.NoError(t, err)
	if len(files) == 0 && os.Getenv("IRQBRIDGE_VM") != "" {
		t.Skip("the goldens are not in the virtual machine, and do not depend on it")
	}
	require.GreaterOrEqual(t, len(files), atLeast, "kernel headers' versions of %s", part)
	var all []golden
	for _, name := range files {
		data, err := os.ReadFile(name)
		require.NoError(t, err)
		var g golden
		require.NoError(t, json.Unmarshal(data, &g), name)
		all = append(all, g)
	}
	return all
}

func TestConstants(t *testing.T) {
	ours := map[string]int64{
		"VFIO_API_VERSION":                   uapi.APIVersion,
		"VFIO_TYPE1_IOMMU":                   uapi.Type1IOMMU,
		"VFIO_TYPE1v2_IOMMU":                 uapi.Type1v2IOMMU,
		"VFIO_GET_API_VERSION":               uapi.IoctlGetAPIVersion,
		"VFIO_CHECK_EXTENSION":               uapi.IoctlCheckExtension,
		"VFIO_SET_IOMMU":                     uapi.IoctlSetIOMMU,
		"VFIO_GROUP_GET_STATUS":              uapi.IoctlGroupGetStatus,
		"VFIO_GROUP_SET_CONTAINER":           uapi.IoctlGroupSetContainer,
		"VFIO_GROUP_UNSET_CONTAINER":         uapi.IoctlGroupUnsetContainer,
		"VFIO_GROUP_GET_DEVICE_FD":           uapi.IoctlGroupGetDeviceFD,
		"VFIO_DEVICE_GET_INFO":               uapi.IoctlDeviceGetInfo,
		"VFIO_DEVICE_GET_REGION_INFO":        uapi.IoctlDeviceGetRegionInfo,
		"VFIO_DEVICE_GET_IRQ_INFO":           uapi.IoctlDeviceGetIRQInfo,
		"VFIO_DEVICE_SET_IRQS":               uapi.IoctlDeviceSetIRQs,
		"VFIO_DEVICE_RESET":                  uapi.IoctlDeviceReset,
		"VFIO_GROUP_FLAGS_VIABLE":            uapi.GroupFlagsViable,
		"VFIO_GROUP_FLAGS_CONTAINER_SET":     uapi.GroupFlagsContainerSet,
		"VFIO_DEVICE_FLAGS_RESET":            uapi.DeviceFlagsReset,
		"VFIO_DEVICE_FLAGS_PCI":              uapi.DeviceFlagsPCI,
		"VFIO_DEVICE_FLAGS_CAPS":             uapi.DeviceFlagsCaps,
		"VFIO_REGION_INFO_FLAG_READ":         uapi.RegionInfoFlagRead,
		"VFIO_REGION_INFO_FLAG_WRITE":        uapi.RegionInfoFlagWrite,
		"VFIO_REGION_INFO_FLAG_MMAP":         uapi.RegionInfoFlagMmap,
		"VFIO_REGION_INFO_FLAG_CAPS":         uapi.RegionInfoFlagCaps,
		"VFIO_REGION_INFO_CAP_SPARSE_MMAP":   uapi.RegionInfoCapSparseMmapID,
		"VFIO_REGION_INFO_CAP_MSIX_MAPPABLE": uapi.RegionInfoCapMSIXMappableID,
		"VFIO_PCI_BAR0_REGION_INDEX":         uapi.PCIBAR0RegionIndex,
		"VFIO_PCI_BAR5_REGION_INDEX":         uapi.PCIBAR5RegionIndex,
		"VFIO_PCI_ROM_REGION_INDEX":          uapi.PCIROMRegionIndex,
		"VFIO_PCI_CONFIG_REGION_INDEX":       uapi.PCIConfigRegionIndex,
		"VFIO_PCI_VGA_REGION_INDEX":          uapi.PCIVGARegionIndex,
		"VFIO_PCI_NUM_REGIONS":               uapi.PCINumRegions,
		"VFIO_PCI_INTX_IRQ_INDEX":            uapi.PCIINTxIRQIndex,
		"VFIO_PCI_MSI_IRQ_INDEX":             uapi.PCIMSIIRQIndex,
		"VFIO_PCI_MSIX_IRQ_INDEX":            uapi.PCIMSIXIRQIndex,
		"VFIO_PCI_ERR_IRQ_INDEX":             uapi.PCIErrIRQIndex,
		"VFIO_PCI_REQ_IRQ_INDEX":             uapi.PCIReqIRQIndex,
		"VFIO_PCI_NUM_IRQS":                  uapi.PCINumIRQs,
		"VFIO_IRQ_INFO_EVENTFD":              uapi.IRQInfoEventFD,
		"VFIO_IRQ_INFO_MASKABLE":             uapi.IRQInfoMaskable,
		"VFIO_IRQ_INFO_AUTOMASKED":           uapi.IRQInfoAutoMasked,
		"VFIO_IRQ_INFO_NORESIZE":             uapi.IRQInfoNoResize,
		"VFIO_IRQ_SET_DATA_NONE":             uapi.IRQSetDataNone,
		"VFIO_IRQ_SET_DATA_BOOL":             uapi.IRQSetDataBool,
		"VFIO_IRQ_SET_DATA_EVENTFD":          uapi.IRQSetDataEventFD,
		"VFIO_IRQ_SET_ACTION_MASK":           uapi.IRQSetActionMask,
		"VFIO_IRQ_SET_ACTION_UNMASK":         uapi.IRQSetActionUnmask,
		"VFIO_IRQ_SET_ACTION_TRIGGER":        uapi.IRQSetActionTrigger,

		"VFIO_IOMMU_GET_INFO":                  uapi.IoctlIOMMUGetInfo,
		"VFIO_IOMMU_MAP_DMA":                   uapi.IoctlIOMMUMapDMA,
		"VFIO_IOMMU_UNMAP_DMA":                 uapi.IoctlIOMMUUnmapDMA,
		"VFIO_IOMMU_INFO_PGSIZES":              uapi.IOMMUInfoPageSizes,
		"VFIO_IOMMU_INFO_CAPS":                 uapi.IOMMUInfoCaps,
		"VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE": uapi.IOMMUInfoCapIOVARangeID,
		"VFIO_IOMMU_TYPE1_INFO_CAP_MIGRATION":  uapi.IOMMUInfoCapMigrationID,
		"VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL":      uapi.IOMMUInfoCapDMAAvailID,
		"VFIO_DMA_MAP_FLAG_READ":               uapi.DMAMapRead,
		"VFIO_DMA_MAP_FLAG_WRITE":              uapi.DMAMapWrite,
		"VFIO_DMA_UNMAP_FLAG_ALL":              uapi.DMAUnmapAll,

		"VFIO_DEVICE_GET_PCI_HOT_RESET_INFO":              uapi.IoctlDeviceGetPCIHotResetInfo,
		"VFIO_DEVICE_PCI_HOT_RESET":                       uapi.IoctlDevicePCIHotReset,
		"VFIO_DEVICE_IOEVENTFD":                           uapi.IoctlDeviceIOEventFD,
		"VFIO_DEVICE_IOEVENTFD_8":                         uapi.IOEventFD8,
		"VFIO_DEVICE_IOEVENTFD_16":                        uapi.IOEventFD16,
		"VFIO_DEVICE_IOEVENTFD_32":                        uapi.IOEventFD32,
		"VFIO_DEVICE_IOEVENTFD_64":                        uapi.IOEventFD64,
		"VFIO_DEVICE_FEATURE":                             uapi.IoctlDeviceFeature,
		"VFIO_DEVICE_FEATURE_MASK":                        uapi.FeatureMask,
		"VFIO_DEVICE_FEATURE_GET":                         uapi.FeatureGet,
		"VFIO_DEVICE_FEATURE_SET":                         uapi.FeatureSet,
		"VFIO_DEVICE_FEATURE_PROBE":                       uapi.FeatureProbe,
		"VFIO_DEVICE_FEATURE_PCI_VF_TOKEN":                uapi.FeaturePCIVFToken,
		"VFIO_DEVICE_FEATURE_MIGRATION":                   uapi.FeatureMigration,
		"VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE":            uapi.FeatureMigDeviceState,
		"VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY":             uapi.FeatureLowPowerEntry,
		"VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY_WITH_WAKEUP": uapi.FeatureLowPowerEntryWakes,
		"VFIO_DEVICE_FEATURE_LOW_POWER_EXIT":              uapi.FeatureLowPowerExit,
		"VFIO_DEVICE_FEATURE_DMA_LOGGING_START":           uapi.FeatureDMALoggingStart,
		"VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP":            uapi.FeatureDMALoggingStop,
		"VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT":          uapi.FeatureDMALoggingReport,
	}
	for _, g := range goldens(t, "vfio", 2) {
		assert.Equal(t, g.Constants, ours, "Linux %s", g.Kernel)
	}
	ours = map[string]int64{
		"VFIO_DEVICE_BIND_IOMMUFD":      uapi.IoctlDeviceBindIOMMUFD,
		"VFIO_DEVICE_ATTACH_IOMMUFD_PT": uapi.IoctlDeviceAttachIOMMUFDPT,
		"VFIO_DEVICE_DETACH_IOMMUFD_PT": uapi.IoctlDeviceDetachIOMMUFDPT,
		"VFIO_DEVICE_BIND_FLAG_TOKEN":   uapi.DeviceBindFlagToken,
		"IOMMU_DESTROY":                 uapi.IoctlIOMMUDestroy,
		"IOMMU_IOAS_ALLOC":              uapi.IoctlIOMMUIOASAlloc,
		"IOMMU_IOAS_IOVA_RANGES":        uapi.IoctlIOMMUIOASIOVARanges,
		"IOMMU_IOAS_MAP":                uapi.IoctlIOMMUIOASMap,
		"IOMMU_IOAS_UNMAP":              uapi.IoctlIOMMUIOASUnmap,
		"IOMMU_IOAS_MAP_FIXED_IOVA":     uapi.IOASMapFixedIOVA,
		"IOMMU_IOAS_MAP_WRITEABLE":      uapi.IOASMapWriteable,
		"IOMMU_IOAS_MAP_READABLE":       uapi.IOASMapReadable,

		"VFIO_PCI_HOT_RESET_FLAG_DEV_ID":       uapi.PCIHotResetFlagDevID,
		"VFIO_PCI_HOT_RESET_FLAG_DEV_ID_OWNED": uapi.PCIHotResetFlagDevIDOwned,
		"VFIO_PCI_DEVID_OWNED":                 uapi.PCIDevIDOwned,
		"VFIO_PCI_DEVID_NOT_OWNED":             uapi.PCIDevIDNotOwned - 1<<32, // the header has it signed
		"VFIO_DEVICE_FEATURE_MIG_DATA_SIZE":    uapi.FeatureMigDataSize,
		"VFIO_DEVICE_FEATURE_BUS_MASTER":       uapi.FeatureBusMaster,
		"VFIO_DEVICE_FEATURE_DMA_BUF":          uapi.FeatureDMABuf,
	}
	for _, g := range goldens(t, "iommufd", 1) {
		assert.Equal(t, g.Constants, ours, "Linux %s", g.Kernel)
	}
}

func TestLayouts(t *testing.T) {
	ours := map[string]any{
		"vfio_group_status":                uapi.GroupStatus{},
		"vfio_device_info":                 uapi.DeviceInfo{},
		"vfio_region_info":                 uapi.RegionInfo{},
		"vfio_info_cap_header":             uapi.InfoCapHeader{},
		"vfio_region_info_cap_sparse_mmap": uapi.RegionInfoCapSparseMmap{},
		"vfio_region_sparse_mmap_area":     uapi.RegionSparseMmapArea{},
		"vfio_irq_info":                    uapi.IRQInfo{},
		"vfio_irq_set":                     uapi.IRQSet{},

		"vfio_iommu_type1_info":                uapi.IOMMUInfo{},
		"vfio_iommu_type1_info_cap_iova_range": uapi.IOMMUInfoCapIOVARange{},
		"vfio_iova_range":                      uapi.IOVARange{},
		"vfio_iommu_type1_info_dma_avail":      uapi.IOMMUInfoCapDMAAvail{},
		"vfio_iommu_type1_dma_map":             uapi.IOMMUDMAMap{},
		"vfio_iommu_type1_dma_unmap":           uapi.IOMMUDMAUnmap{},

		"vfio_pci_hot_reset_info":                 uapi.PCIHotResetInfo{},
		"vfio_pci_dependent_device":               uapi.PCIDependentDevice{},
		"vfio_pci_hot_reset":                      uapi.PCIHotReset{},
		"vfio_device_feature":                     uapi.DeviceFeature{},
		"vfio_device_low_power_entry_with_wakeup": uapi.LowPowerEntryWithWakeup{},
		"vfio_device_ioeventfd":                   uapi.DeviceIOEventFD{},
	}
	compareLayouts(t, goldens(t, "vfio", 2), ours)
	compareLayouts(t, goldens(t, "iommufd", 1), map[string]any{
		"vfio_device_bind_iommufd":      uapi.DeviceBindIOMMUFD{},
		"vfio_device_attach_iommufd_pt": uapi.DeviceAttachIOMMUFDPT{},
		"vfio_device_detach_iommufd_pt": uapi.DeviceDetachIOMMUFDPT{},
		"iommu_destroy":                 uapi.IOMMUDestroy{},
		"iommu_ioas_alloc":              uapi.IOMMUIOASAlloc{},
		"iommu_iova_range":              uapi.IOMMUIOVARange{},
		"iommu_ioas_iova_ranges":        uapi.IOMMUIOASIOVARanges{},
		"iommu_ioas_map":                uapi.IOMMUIOASMap{},
		"iommu_ioas_unmap":              uapi.IOMMUIOASUnmap{},
		"vfio_device_feature_dma_buf":   uapi.DMABuf{},
		"vfio_region_dma_range":         uapi.RegionDMARange{},
	})
}

// compareLayouts compares structures, by the kernel's tag, with those of the kernel's headers.
func compareLayouts(t *testing.T, kernels []golden, ours map[string]any) {
	t.Helper()
	for _, g := range kernels {
		assert.Len(t, ours, len(g.Structs), "Linux %s", g.Kernel)
		for tag, v := range ours {
			kernel, ok := g.Structs[tag]
			require.True(t, ok, "Linux %s has no struct %s", g.Kernel, tag)
			typ := reflect.TypeOf(v)
			// argsz lets a newer kernel's structure be longer than ours, never shorter.
			assert.LessOrEqual(t, int(typ.Size()), kernel.Size, "Linux %s: struct %s", g.Kernel, tag)
			fields := 0
			for field := range typ.Fields() {
				if field.Name == "_" {
					assert.Equal(t, "structs.HostLayout", field.Type.String(), tag)
					continue
				}
				name := cName(field.Name)
				k, ok := kernel.Fields[name]
				if !ok {
					k, ok = kernel.Fields["__"+name] // how iommufd writes what is reserved
				}
				if !ok && (name == "pad" || name == "reserved") {
					continue // an older kernel's compiler pads there unasked, as the size tells
				}
				fields++
				require.True(t, ok, "Linux %s: struct %s has no field %s", g.Kernel, tag, name)
				assert.Equal(t, k.Offset, int(field.Offset), "Linux %s: offset of %s.%s", g.Kernel, tag, name)
				assert.Equal(t, k.Size, int(field.Type.Size()), "Linux %s: size of %s.%s", g.Kernel, tag, name)
			}
			// What the kernel has beyond our fields lies behind them. Members of a union count once.
			offsets := map[int]bool{}
			for name, k := range kernel.Fields {
				if k.Offset < int(typ.Size()) && !offsets[k.Offset] {
					offsets[k.Offset] = true
					fields--
					assert.Positive(t, k.Size, "%s.%s", tag, name)
				}
			}
			assert.Zero(t, fields, "Linux %s: struct %s: fields missing", g.Kernel, tag)
		}
	}
}

// TestMinimumSizes compares the sizes of the first versions with the offsets that those ended at.
func TestMinimumSizes(t *testing.T) {
	for _, g := range goldens(t, "vfio", 2) {
		assert.Equal(t, uapi.GroupStatusMinSize, g.Structs["vfio_group_status"].Size)
		assert.Equal(t, uapi.DeviceInfoMinSize, g.Structs["vfio_device_info"].Fields["cap_offset"].Offset)
		assert.Equal(t, uapi.RegionInfoMinSize, g.Structs["vfio_region_info"].Size)
		assert.Equal(t, uapi.IRQInfoMinSize, g.Structs["vfio_irq_info"].Size)
		assert.Equal(t, uapi.IRQSetMinSize, g.Structs["vfio_irq_set"].Fields["data"].Offset)
		assert.Equal(t, uapi.PCIHotResetInfoMinSize, g.Structs["vfio_pci_hot_reset_info"].Fields["devices"].Offset)
		assert.Equal(t, uapi.PCIHotResetMinSize, g.Structs["vfio_pci_hot_reset"].Fields["group_fds"].Offset)
		assert.Equal(t, uapi.DeviceFeatureMinSize, g.Structs["vfio_device_feature"].Fields["data"].Offset)
		assert.Equal(t, uapi.DeviceIOEventFDMinSize, g.Structs["vfio_device_ioeventfd"].Fields["fd"].Offset+4)
		assert.Equal(t, uapi.IOMMUInfoMinSize, g.Structs["vfio_iommu_type1_info"].Fields["cap_offset"].Offset)
		assert.Equal(t, uapi.IOMMUDMAMapMinSize, g.Structs["vfio_iommu_type1_dma_map"].Size)
		assert.Equal(t, uapi.IOMMUDMAUnmapMinSize, g.Structs["vfio_iommu_type1_dma_unmap"].Fields["data"].Offset)
	}
	for _, g := range goldens(t, "iommufd", 1) {
		assert.Equal(t, uapi.DeviceBindIOMMUFDMinSize, g.Structs["vfio_device_bind_iommufd"].Fields["token_uuid_ptr"].Offset)
		assert.Equal(t, uapi.DeviceAttachIOMMUFDPTMinSize, g.Structs["vfio_device_attach_iommufd_pt"].Fields["pasid"].Offset)
		assert.Equal(t, uapi.DeviceDetachIOMMUFDPTMinSize, g.Structs["vfio_device_detach_iommufd_pt"].Fields["pasid"].Offset)
		assert.Equal(t, uapi.IOMMUDestroyMinSize, g.Structs["iommu_destroy"].Size)
		assert.Equal(t, uapi.IOMMUIOASAllocMinSize, g.Structs["iommu_ioas_alloc"].Size)
		assert.Equal(t, uapi.IOMMUIOASIOVARangesMinSize, g.Structs["iommu_ioas_iova_ranges"].Size)
		assert.Equal(t, uapi.IOMMUIOASMapMinSize, g.Structs["iommu_ioas_map"].Size)
		assert.Equal(t, uapi.IOMMUIOASUnmapMinSize, g.Structs["iommu_ioas_unmap"].Size)
	}
	assert.Equal(t, uapi.IRQSetMinSize, uapi.Size[uapi.IRQSet](), "data follows at once, without padding")
}

// cName is the kernel's name of a field: TokenUUIDPtr is token_uuid_ptr.
func cName(name string) string {
	if name == "NumIRQs" {
		return "num_irqs"
	}
	upper := func(i int) bool { return i < len(name) && name[i] >= 'A' && name[i] <= 'Z' }
	var b strings.Builder
	for i := range len(name) {
		// A word starts at a capital that another kind of letter stands before or behind.
		if i > 0 && upper(i) && (!upper(i-1) || i+1 < len(name) && !upper(i+1)) {
			b.WriteByte('_')
		}
		b.WriteByte(name[i])
	}
	return strings.ToLower(b.String())
}
