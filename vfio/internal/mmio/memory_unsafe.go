package mmio

import (
	"math/bits"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Memory is anonymous memory of this process, not Go's, for a device to read and write, too. The accessors are those of
// device memory, which keep their order towards the device.
type Memory struct{ Mapping }

// Allocate maps length bytes of zeroed memory, all of it present. hugePage is the size of the huge pages that it is to be
// made of, in bytes, or 0 for ordinary ones; length is a multiple of the page size. The error is the errno of mmap(2): with
// huge pages, ENOMEM when the pool has too few and EINVAL when the kernel has none of this size.
//
// The memory is there before a device is given it (MAP_POPULATE): a page that nobody has written yet is the kernel's shared
// zero page, which a device that may only read would go on seeing after the first write has replaced it.
func Allocate(length, hugePage int) (*Memory, error) {
	flags := unix.MAP_PRIVATE | unix.MAP_ANONYMOUS | unix.MAP_POPULATE
	if hugePage != 0 {
		if hugePage < 0 || hugePage&(hugePage-1) != 0 {
			return nil, unix.EINVAL
		}
		flags |= unix.MAP_HUGETLB | bits.TrailingZeros(uint(hugePage))<<unix.MAP_HUGE_SHIFT
	}
	mem, err := unix.Mmap(-1, 0, length, unix.PROT_READ|unix.PROT_WRITE, flags)
	if err != nil {
		return nil, err
	}
	return &Memory{Mapping{mem: mem}}, nil
}

// Bytes is the memory, nil after Unmap. Touching what Bytes returned after Unmap ends the program.
func (m *Memory) Bytes() []byte { return m.mem }

// Address is where the memory starts in this process, 0 after Unmap.
func (m *Memory) Address() uint64 {
	// SAFETY: the memory is not Go's, so its address stays as it is. Nothing is made of the number in this program.
	return uint64(uintptr(unsafe.Pointer(unsafe.SliceData(m.mem))))
}
