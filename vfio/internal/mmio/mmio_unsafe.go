package mmio

import (
	"os"
	"runtime"
	"runtime/debug"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The accessors, in mmio_GOARCH.s: exactly one access of the width in the name.
//
// The pointers are noescape: they are not kept.

//go:noescape
func load8(p unsafe.Pointer) uint8

//go:noescape
func load16(p unsafe.Pointer) uint16

//go:noescape
func load32(p unsafe.Pointer) uint32

//go:noescape
func load64(p unsafe.Pointer) uint64

//go:noescape
func store8(p unsafe.Pointer, v uint8)

//go:noescape
func store16(p unsafe.Pointer, v uint16)

//go:noescape
func store32(p unsafe.Pointer, v uint32)

//go:noescape
func store64(p unsafe.Pointer, v uint64)

// Mapping is a part of a device file in this process' memory. Accesses may run concurrently with each other, but not
// with Unmap.
type Mapping struct {
	mem []byte // nil after Unmap; never handed out
}

// Map maps length bytes of fd from offset, shared, for reading and writing. Both are multiples of the page size. The
// error is the errno of mmap(2).
func Map(fd int, offset int64, length int) (*Mapping, error) {
	mem, err := unix.Mmap(fd, offset, length, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, err
	}
	return &Mapping{mem: mem}, nil
}

// Len is the size of the mapping in bytes, 0 after Unmap.
func (m *Mapping) Len() int { return len(m.mem) }

// Unmap ends the mapping. A second call does nothing.
func (m *Mapping) Unmap() error {
	if m.mem == nil {
		return nil
	}
	mem := m.mem
	m.mem = nil
	return unix.Munmap(mem)
}

// at returns the address of the width bytes at off.
func (m *Mapping) at(off, width int) (unsafe.Pointer, error) {
	if m.mem == nil {
		return nil, os.ErrClosed
	}
	if off < 0 || off > len(m.mem)-width || off%width != 0 {
		return nil, unix.EINVAL
	}
	// SAFETY: off and the width bytes that follow lie within mem, which is not Go memory and stays mapped until Unmap.
	return unsafe.Pointer(&m.mem[off]), nil
}

// caught is deferred around an access: it restores the goroutine's fault behaviour and turns a fault into EFAULT. A
// panic of another kind is not ours and goes on.
func caught(before bool, err *error) {
	debug.SetPanicOnFault(before)
	r := recover()
	if r == nil {
		return
	}
	if fault, ok := r.(interface {
		runtime.Error
		Addr() uintptr
	}); ok && fault.Addr() != 0 {
		*err = unix.EFAULT
		return
	}
	panic(r)
}

// Load8 reads one byte at off.
func (m *Mapping) Load8(off int) (v uint8, err error) {
	p, err := m.at(off, 1)
	if err != nil {
		return 0, err
	}
	defer caught(debug.SetPanicOnFault(true), &err)
	return load8(p), nil
}

// Load16 reads two bytes at off.
func (m *Mapping) Load16(off int) (v uint16, err error) {
	p, err := m.at(off, 2)
	if err != nil {
		return 0, err
	}
	defer caught(debug.SetPanicOnFault(true), &err)
	return load16(p), nil
}

// Load32 reads four bytes at off.
func (m *Mapping) Load32(off int) (v uint32, err error) {
	p, err := m.at(off, 4)
	if err != nil {
		return 0, err
	}
	defer caught(debug.SetPanicOnFault(true), &err)
	return load32(p), nil
}

// Load64 reads eight bytes at off.
func (m *Mapping) Load64(off int) (v uint64, err error) {
	p, err := m.at(off, 8)
	if err != nil {
		return 0, err
	}
	defer caught(debug.SetPanicOnFault(true), &err)
	return load64(p), nil
}

// Store8 writes one byte at off.
func (m *Mapping) Store8(off int, v uint8) (err error) {
	p, err := m.at(off, 1)
	if err != nil {
		return err
	}
	defer caught(debug.SetPanicOnFault(true), &err)
	store8(p, v)
	return nil
}

// Store16 writes two bytes at off.
func (m *Mapping) Store16(off int, v uint16) (err error) {
	p, err := m.at(off, 2)
	if err != nil {
		return err
	}
	defer caught(debug.SetPanicOnFault(true), &err)
	store16(p, v)
	return nil
}

// Store32 writes four bytes at off.
func (m *Mapping) Store32(off int, v uint32) (err error) {
	p, err := m.at(off, 4)
	if err != nil {
		return err
	}
	defer caught(debug.SetPanicOnFault(true), &err)
	store32(p, v)
	return nil
}

// Store64 writes eight bytes at off.
func (m *Mapping) Store64(off int, v uint64) (err error) {
	p, err := m.at(off, 8)
	if err != nil {
		return err
	}
	defer caught(debug.SetPanicOnFault(true), &err)
	store64(p, v)
	return nil
}
