package main

import (
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// sleepAlone is nanosleep(2) and nothing else.
func sleepAlone(d time.Duration) {
	t := unix.NsecToTimespec(d.Nanoseconds())
	// SAFETY: the kernel reads one timespec, which lives until the return.
	_, _, _ = unix.RawSyscall(unix.SYS_NANOSLEEP, uintptr(unsafe.Pointer(&t)), 0, 0)
}
