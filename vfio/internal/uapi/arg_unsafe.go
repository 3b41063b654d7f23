package uapi

import (
	"encoding/binary"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Struct is the set of structures that make up ioctl arguments: fixed-size integers only, no pointers, no padding.
type Struct interface {
	GroupStatus | DeviceInfo | RegionInfo | InfoCapHeader | RegionInfoCapSparseMmap | RegionSparseMmapArea | IRQInfo | IRQSet |
		IOMMUInfo | IOMMUInfoCapIOVARange | IOVARange | IOMMUInfoCapDMAAvail | IOMMUDMAMap | IOMMUDMAUnmap |
		DeviceBindIOMMUFD | DeviceAttachIOMMUFDPT | DeviceDetachIOMMUFDPT | IOMMUDestroy | IOMMUIOASAlloc | IOMMUIOVARange |
		IOMMUIOASIOVARanges | IOMMUIOASMap | IOMMUIOASUnmap |
		PCIHotResetInfo | PCIDependentDevice | PCIHotReset |
		DeviceFeature | LowPowerEntryWithWakeup | DMABuf | RegionDMARange | DeviceIOEventFD
}

// Size is the size of a structure in bytes.
func Size[T Struct]() int {
	var v T
	return int(unsafe.Sizeof(v))
}

// Put copies v to the start of arg, in the machine's byte order. What does not fit is left out.
func Put[T Struct](arg []byte, v T) {
	// SAFETY: every T of Struct is plain integers without padding, so all of its bytes are initialised.
	copy(arg, unsafe.Slice((*byte)(unsafe.Pointer(&v)), Size[T]()))
}

// Take returns the structure at the start of arg. Where arg is too short, the rest of it is zero.
func Take[T Struct](arg []byte) T {
	var v T
	// SAFETY: every bit pattern is a value of T, and v is aligned because it is a T.
	copy(unsafe.Slice((*byte)(unsafe.Pointer(&v)), Size[T]()), arg)
	return v
}

// CheckArg returns EFAULT when arg does not hold minimum bytes, the part that the kernel reads in any case, or when its
// argsz claims more than len(arg), up to which the kernel would write.
func CheckArg(arg []byte, minimum int) error {
	if len(arg) < max(minimum, 4) || uint64(binary.NativeEndian.Uint32(arg)) > uint64(len(arg)) {
		return unix.EFAULT
	}
	return nil
}
