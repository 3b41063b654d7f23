package uapi

// Kernel is one method per system call on VFIO's files. An error is the bare unix.Errno of the call; a call that a
// signal interrupted is made again. All methods are safe for concurrent use, as the system calls are; that a file
// descriptor is not closed while another call uses it is the caller's duty.
//
// A parameter named arg is the ioctl's argument as the kernel reads and writes it, its size first (argsz or, on
// /dev/iommu, size), in the machine's byte order (see [Put] and [Take]). Two things about arg are checked on this side of the boundary, because the kernel
// trusts the caller with them: it must hold the first version of the structure, and argsz must not claim more than
// len(arg). A violation is EFAULT (see [CheckArg]).
type Kernel interface {
	// Open is open(2) with O_RDWR and O_CLOEXEC: of the container /dev/vfio/vfio, of a group /dev/vfio/12, of a device
	// /dev/vfio/devices/vfio0, or of /dev/iommu.
	Open(path string) (fd int, err error)
	// Close is close(2). The file descriptor is gone even when an error is returned.
	Close(fd int) error
	// Dup is fcntl(2) with F_DUPFD_CLOEXEC: another descriptor of the same open file.
	Dup(fd int) (int, error)
	// DeviceNumber is the st_rdev of fstat(2): the number of the device node that fd is an open of; 0, 0 when it is
	// an open of something else.
	DeviceNumber(fd int) (major, minor uint32, err error)

	// GetAPIVersion is VFIO_GET_API_VERSION on a container; [APIVersion] is the only answer known.
	GetAPIVersion(container int) (int, error)
	// CheckExtension is VFIO_CHECK_EXTENSION on a container, with Type1v2IOMMU and the like: 0 is no, else yes.
	CheckExtension(container, extension int) (int, error)
	// SetIOMMU is VFIO_SET_IOMMU on a container that has a group. EPERM: the platform lacks interrupt remapping.
	SetIOMMU(container, iommuType int) error

	// IOMMUGetInfo is VFIO_IOMMU_GET_INFO on a container that has an IOMMU driver; arg is an [IOMMUInfo], and room for
	// its capability chain.
	IOMMUGetInfo(container int, arg []byte) error
	// IOMMUMapDMA is VFIO_IOMMU_MAP_DMA; arg is an [IOMMUDMAMap]. Whoever masters the bus can then reach the memory at
	// Vaddr, whatever the process has come to use it for: only [Memory] stays what it is.
	IOMMUMapDMA(container int, arg []byte) error
	// IOMMUUnmapDMA is VFIO_IOMMU_UNMAP_DMA; arg is an [IOMMUDMAUnmap].
	IOMMUUnmapDMA(container int, arg []byte) error
	// Allocate is mmap(2) of length bytes of private anonymous memory, present from the start (MAP_POPULATE). hugePage is
	// the size of the huge pages that it is made of, 0 for ordinary pages; length is a multiple of the page size.
	Allocate(length, hugePage int) (Memory, error)
	// LockedMemory tells how much memory of this process is locked, and how much may be.
	LockedMemory() (LockedMemory, error)

	// GroupGetStatus is VFIO_GROUP_GET_STATUS; arg is a [GroupStatus].
	GroupGetStatus(group int, arg []byte) error
	// GroupSetContainer is VFIO_GROUP_SET_CONTAINER. EPERM: the group is not viable.
	GroupSetContainer(group, container int) error
	// GroupUnsetContainer is VFIO_GROUP_UNSET_CONTAINER. EBUSY: a device of the group is open.
	GroupUnsetContainer(group int) error
	// GroupGetDeviceFD is VFIO_GROUP_GET_DEVICE_FD; name is "0000:00:05.0", optionally followed by
	// " vf_token=UUID". The descriptor returned is close-on-exec.
	GroupGetDeviceFD(group int, name string) (fd int, err error)

	// DeviceBindIOMMUFD is VFIO_DEVICE_BIND_IOMMUFD on an open of /dev/vfio/devices/vfioN, for which it comes before
	// everything else; arg is a [DeviceBindIOMMUFD]. A token, which may be nil, is the UUID of DeviceBindFlagToken.
	// EPERM: the group is not viable or has another owner, or the platform lacks interrupt remapping. EINVAL: also
	// when the device is bound already. EBUSY: the group is open.
	DeviceBindIOMMUFD(device int, arg []byte, token *[16]byte) error
	// DeviceAttachIOMMUFDPT is VFIO_DEVICE_ATTACH_IOMMUFD_PT; arg is a [DeviceAttachIOMMUFDPT]. ENOENT: no such
	// address space.
	DeviceAttachIOMMUFDPT(device int, arg []byte) error
	// DeviceDetachIOMMUFDPT is VFIO_DEVICE_DETACH_IOMMUFD_PT; arg is a [DeviceDetachIOMMUFDPT].
	DeviceDetachIOMMUFDPT(device int, arg []byte) error

	// IOMMUDestroy is IOMMU_DESTROY on an open of /dev/iommu; arg is an [IOMMUDestroy]. EBUSY: it is in use.
	IOMMUDestroy(iommufd int, arg []byte) error
	// IOASAlloc is IOMMU_IOAS_ALLOC; arg is an [IOMMUIOASAlloc].
	IOASAlloc(iommufd int, arg []byte) error
	// IOASIOVARanges is IOMMU_IOAS_IOVA_RANGES; arg is an [IOMMUIOASIOVARanges], whose NumIovas and AllowedIovas
	// it sets for ranges, which may be empty. EMSGSIZE: there are more ranges; NumIovas says how many.
	IOASIOVARanges(iommufd int, arg []byte, ranges []IOMMUIOVARange) error
	// IOASMap is IOMMU_IOAS_MAP; arg is an [IOMMUIOASMap]. The memory at UserVa must be mapped outside of Go's heap,
	// which moves and frees what nobody but a device refers to.
	IOASMap(iommufd int, arg []byte) error
	// IOASUnmap is IOMMU_IOAS_UNMAP; arg is an [IOMMUIOASUnmap]. ENOENT: a mapping lies in the range in part only.
	IOASUnmap(iommufd int, arg []byte) error

	// DeviceGetInfo is VFIO_DEVICE_GET_INFO; arg is a [DeviceInfo].
	DeviceGetInfo(device int, arg []byte) error
	// DeviceGetRegionInfo is VFIO_DEVICE_GET_REGION_INFO; arg is a [RegionInfo] with Index set, and room for
	// its capability chain.
	DeviceGetRegionInfo(device int, arg []byte) error
	// DeviceGetIRQInfo is VFIO_DEVICE_GET_IRQ_INFO; arg is an [IRQInfo] with Index set.
	DeviceGetIRQInfo(device int, arg []byte) error
	// DeviceSetIRQs is VFIO_DEVICE_SET_IRQS; arg is an [IRQSet] followed by its data. The result is the ioctl's
	// return value: a positive number is how many vectors the host could give, and then nothing was enabled.
	DeviceSetIRQs(device int, arg []byte) (int, error)
	// DeviceReset is VFIO_DEVICE_RESET. EINVAL: DeviceFlagsReset is clear.
	DeviceReset(device int) error
	// DeviceGetPCIHotResetInfo is VFIO_DEVICE_GET_PCI_HOT_RESET_INFO; arg is a [PCIHotResetInfo], and room for what
	// follows it. ENOSPC: there is too little; Count says how many there are. ENODEV: neither the slot nor the bus that
	// the device is on can be reset.
	DeviceGetPCIHotResetInfo(device int, arg []byte) error
	// DevicePCIHotReset is VFIO_DEVICE_PCI_HOT_RESET; arg is a [PCIHotReset] and the open groups, of which there are none
	// for a device that was opened by its own node. EINVAL: also when an affected function has no VFIO driver, or is in
	// none of the groups or of another iommufd. EBUSY: an affected device is being accessed.
	DevicePCIHotReset(device int, arg []byte) error
	// DeviceFeature is VFIO_DEVICE_FEATURE; arg is a [DeviceFeature] and the feature's data. The result is the ioctl's
	// return value, which is a descriptor for FeatureDMABuf. ENOTTY: there is no such feature.
	DeviceFeature(device int, arg []byte) (int, error)
	// DeviceIOEventFD is VFIO_DEVICE_IOEVENTFD; arg is a [DeviceIOEventFD]. EEXIST: it is arranged already.
	DeviceIOEventFD(device int, arg []byte) error

	// Pread is pread(2) on a device, at the offset of a region plus an offset within it.
	Pread(fd int, p []byte, offset int64) (int, error)
	// Pwrite is pwrite(2) on a device, at the offset of a region plus an offset within it.
	Pwrite(fd int, p []byte, offset int64) (int, error)
	// Mmap is mmap(2) of a device with MAP_SHARED, PROT_READ and PROT_WRITE; offset and length are multiples
	// of the page size.
	Mmap(fd int, offset int64, length int) (Mapping, error)
}

// Mapping is device memory in this process. Each access is exactly one access of the stated width, in the machine's
// byte order. An offset that is out of range or not a multiple of the width is EINVAL. An access that the device or
// the kernel did not serve (memory decoding off, device in reset, powered down or gone: SIGBUS) is EFAULT.
//
// Accesses may run concurrently with each other, but not with Unmap; once Unmap has returned they give os.ErrClosed.
type Mapping interface {
	// Len is the size in bytes.
	Len() int
	Load8(off int) (uint8, error)
	Load16(off int) (uint16, error)
	Load32(off int) (uint32, error)
	Load64(off int) (uint64, error)
	Store8(off int, v uint8) error
	Store16(off int, v uint16) error
	Store32(off int, v uint32) error
	Store64(off int, v uint64) error
	// Unmap is munmap(2). A second call does nothing.
	Unmap() error
}
