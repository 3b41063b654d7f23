package uapi

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// CurrentCPU is getcpu(2): the CPU that the calling thread is on at this moment. It neither allocates nor tells the
// scheduler, so that a service routine's thread can ask on every interrupt.
func CurrentCPU() (int, error) {
	var cpu uint32
	// SAFETY: the kernel stores one unsigned int at cpu, which the conversion in the call's argument keeps in place.
	if _, _, errno := unix.RawSyscall(unix.SYS_GETCPU, uintptr(unsafe.Pointer(&cpu)), 0, 0); errno != 0 {
		return 0, errno
	}
	return int(cpu), nil
}
