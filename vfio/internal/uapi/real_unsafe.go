package uapi

import (
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/irqbridge/irqbridge/vfio/internal/mmio"
)

// Real is the running kernel.
func Real() Kernel { return realKernel{} }

type realKernel struct{}

func (realKernel) Open(path string) (int, error) {
	for {
		fd, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0)
		if err != unix.EINTR {
			return fd, err
		}
	}
}

// Close does not repeat an interrupted close: Linux has released the descriptor by then, and its number may be in use
// again.
func (realKernel) Close(fd int) error {
	if err := unix.Close(fd); err != nil && err != unix.EINTR {
		return err
	}
	return nil
}

func (realKernel) Dup(fd int) (int, error) {
	return unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
}

func (realKernel) DeviceNumber(fd int) (major, minor uint32, err error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return 0, 0, err
	}
	return unix.Major(uint64(st.Rdev)), unix.Minor(uint64(st.Rdev)), nil
}

func (realKernel) GetAPIVersion(container int) (int, error) {
	return ioctlInt(container, IoctlGetAPIVersion, 0)
}

func (realKernel) CheckExtension(container, extension int) (int, error) {
	return ioctlInt(container, IoctlCheckExtension, extension)
}

func (realKernel) SetIOMMU(container, iommuType int) error {
	_, err := ioctlInt(container, IoctlSetIOMMU, iommuType)
	return err
}

func (realKernel) GroupGetStatus(group int, arg []byte) error {
	_, err := ioctlArg(group, IoctlGroupGetStatus, arg, GroupStatusMinSize)
	return err
}

func (realKernel) GroupSetContainer(group, container int) error {
	fd := int32(container)
	for {
		// SAFETY: the kernel reads one int32; the conversion is in the call expression, which keeps fd alive.
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(group), IoctlGroupSetContainer, uintptr(unsafe.Pointer(&fd)))
		if errno == 0 {
			return nil
		}
		if errno != unix.EINTR {
			return errno
		}
	}
}

func (realKernel) GroupUnsetContainer(group int) error {
	_, err := ioctlInt(group, IoctlGroupUnsetContainer, 0)
	return err
}

func (realKernel) GroupGetDeviceFD(group int, name string) (int, error) {
	p, err := unix.BytePtrFromString(name)
	if err != nil {
		return -1, err
	}
	for {
		// SAFETY: p points to a NUL-terminated string; the conversion is in the call expression, which keeps it alive.
		r1, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(group), IoctlGroupGetDeviceFD, uintptr(unsafe.Pointer(p)))
		if errno == 0 {
			return int(r1), nil
		}
		if errno != unix.EINTR {
			return -1, errno
		}
	}
}

func (realKernel) DeviceBindIOMMUFD(device int, arg []byte, token *[16]byte) error {
	if token != nil {
		if err := CheckArg(arg, Size[DeviceBindIOMMUFD]()); err != nil {
			return err
		}
		var pin runtime.Pinner
		pin.Pin(token)
		defer pin.Unpin()
		bind := Take[DeviceBindIOMMUFD](arg)
		// SAFETY: the kernel reads 16 bytes, the size of what token points to, which stays pinned until the return.
		bind.TokenUUIDPtr = uint64(uintptr(unsafe.Pointer(token)))
		Put(arg, bind)
	}
	_, err := ioctlArg(device, IoctlDeviceBindIOMMUFD, arg, DeviceBindIOMMUFDMinSize)
	return err
}

func (realKernel) DeviceAttachIOMMUFDPT(device int, arg []byte) error {
	_, err := ioctlArg(device, IoctlDeviceAttachIOMMUFDPT, arg, DeviceAttachIOMMUFDPTMinSize)
	return err
}

func (realKernel) DeviceDetachIOMMUFDPT(device int, arg []byte) error {
	_, err := ioctlArg(device, IoctlDeviceDetachIOMMUFDPT, arg, DeviceDetachIOMMUFDPTMinSize)
	return err
}

func (realKernel) IOMMUDestroy(iommufd int, arg []byte) error {
	_, err := ioctlArg(iommufd, IoctlIOMMUDestroy, arg, IOMMUDestroyMinSize)
	return err
}

func (realKernel) IOASAlloc(iommufd int, arg []byte) error {
	_, err := ioctlArg(iommufd, IoctlIOMMUIOASAlloc, arg, IOMMUIOASAllocMinSize)
	return err
}

func (realKernel) IOASIOVARanges(iommufd int, arg []byte, ranges []IOMMUIOVARange) error {
	if err := CheckArg(arg, IOMMUIOASIOVARangesMinSize); err != nil {
		return err
	}
	query := Take[IOMMUIOASIOVARanges](arg)
	query.NumIovas, query.AllowedIovas = uint32(len(ranges)), 0
	if len(ranges) > 0 {
		var pin runtime.Pinner
		pin.Pin(&ranges[0])
		defer pin.Unpin()
		// SAFETY: the kernel writes up to NumIovas elements, the length of ranges, which stays pinned until the return.
		query.AllowedIovas = uint64(uintptr(unsafe.Pointer(&ranges[0])))
	}
	Put(arg, query)
	_, err := ioctlArg(iommufd, IoctlIOMMUIOASIOVARanges, arg, IOMMUIOASIOVARangesMinSize)
	return err
}

func (realKernel) IOASMap(iommufd int, arg []byte) error {
	_, err := ioctlArg(iommufd, IoctlIOMMUIOASMap, arg, IOMMUIOASMapMinSize)
	return err
}

func (realKernel) IOASUnmap(iommufd int, arg []byte) error {
	_, err := ioctlArg(iommufd, IoctlIOMMUIOASUnmap, arg, IOMMUIOASUnmapMinSize)
	return err
}

func (realKernel) DeviceGetInfo(device int, arg []byte) error {
	_, err := ioctlArg(device, IoctlDeviceGetInfo, arg, DeviceInfoMinSize)
	return err
}

func (realKernel) DeviceGetRegionInfo(device int, arg []byte) error {
	_, err := ioctlArg(device, IoctlDeviceGetRegionInfo, arg, RegionInfoMinSize)
	return err
}

func (realKernel) DeviceGetIRQInfo(device int, arg []byte) error {
	_, err := ioctlArg(device, IoctlDeviceGetIRQInfo, arg, IRQInfoMinSize)
	return err
}

func (realKernel) DeviceSetIRQs(device int, arg []byte) (int, error) {
	return ioctlArg(device, IoctlDeviceSetIRQs, arg, IRQSetMinSize)
}

func (realKernel) DeviceReset(device int) error {
	_, err := ioctlInt(device, IoctlDeviceReset, 0)
	return err
}

func (realKernel) DeviceGetPCIHotResetInfo(device int, arg []byte) error {
	_, err := ioctlArg(device, IoctlDeviceGetPCIHotResetInfo, arg, PCIHotResetInfoMinSize)
	return err
}

func (realKernel) DevicePCIHotReset(device int, arg []byte) error {
	// Here the kernel does not go by argsz: it reads as many groups as Count says.
	if n := Take[PCIHotReset](arg).Count; uint64(n)*4+PCIHotResetMinSize > uint64(len(arg)) {
		return unix.EFAULT
	}
	_, err := ioctlArg(device, IoctlDevicePCIHotReset, arg, PCIHotResetMinSize)
	return err
}

func (realKernel) DeviceFeature(device int, arg []byte) (int, error) {
	const header = DeviceFeatureMinSize
	ranges := header + Size[DMABuf]()
	if Take[DeviceFeature](arg).Flags&FeatureMask == FeatureDMABuf && len(arg) >= ranges {
		// And as many ranges as NrRanges says.
		n := Take[DMABuf](arg[header:]).NrRanges
		if uint64(n)*uint64(Size[RegionDMARange]()) > uint64(len(arg)-ranges) {
			return 0, unix.EFAULT
		}
	}
	return ioctlArg(device, IoctlDeviceFeature, arg, DeviceFeatureMinSize)
}

func (realKernel) DeviceIOEventFD(device int, arg []byte) error {
	_, err := ioctlArg(device, IoctlDeviceIOEventFD, arg, DeviceIOEventFDMinSize)
	return err
}

func (realKernel) Pread(fd int, p []byte, offset int64) (int, error) {
	for {
		n, err := unix.Pread(fd, p, offset)
		if err != unix.EINTR {
			return n, err
		}
	}
}

func (realKernel) Pwrite(fd int, p []byte, offset int64) (int, error) {
	for {
		n, err := unix.Pwrite(fd, p, offset)
		if err != unix.EINTR {
			return n, err
		}
	}
}

func (realKernel) Mmap(fd int, offset int64, length int) (Mapping, error) {
	m, err := mmio.Map(fd, offset, length)
	if err != nil {
		return nil, err // not a nil *mmio.Mapping in a non-nil interface
	}
	return m, nil
}

// ioctlInt makes an ioctl whose argument is a number, and keeps its return value.
func ioctlInt(fd int, request uintptr, value int) (int, error) {
	for {
		r1, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, uintptr(value))
		if errno == 0 {
			return int(r1), nil
		}
		if errno != unix.EINTR {
			return 0, errno
		}
	}
}

// ioctlArg makes an ioctl whose argument is a structure that starts with argsz, and keeps its return value.
func ioctlArg(fd int, request uintptr, arg []byte, minimum int) (int, error) {
	if err := CheckArg(arg, minimum); err != nil {
		return 0, err
	}
	for {
		// SAFETY: CheckArg has seen to it that the kernel neither reads nor writes beyond arg.
		r1, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, uintptr(unsafe.Pointer(&arg[0])))
		runtime.KeepAlive(arg)
		if errno == 0 {
			return int(r1), nil
		}
		if errno != unix.EINTR {
			return 0, errno
		}
	}
}
