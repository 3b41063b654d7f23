package vfiotest

import (
	"encoding/binary"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/irqbridge/irqbridge/vfio/internal/uapi"
)

// iommufdFile is an open of /dev/iommu. It lives as long as its descriptors or the devices bound to it.
type iommufdFile struct {
	objects map[uint32]any // *ioas, *pageTable or *cdevFile, by identifier
}

func (f *iommufdFile) release() {}

// add gives an object the lowest identifier that is free.
func (f *iommufdFile) add(object any) uint32 {
	id := uint32(1)
	for f.objects[id] != nil {
		id++
	}
	f.objects[id] = object
	return id
}

// ioas is an address space: I/O virtual addresses and what they are mapped to.
type ioas struct {
	iommufd *iommufdFile
	table   *pageTable // nil while no device is attached
	areas   []area     // sorted
}

// area is a mapping: the addresses from first to last, inclusive.
type area struct{ first, last uint64 }

// pageTable is what the IOMMU walks for the devices that are attached to an address space. The first of them makes it, the
// last one ends it.
type pageTable struct {
	ioas  *ioas
	id    uint32
	users int
}

func (p *pageTable) put() {
	if p == nil {
		return
	}
	if p.users--; p.users == 0 {
		delete(p.ioas.iommufd.objects, p.id)
		p.ioas.table = nil
	}
}

// usableIOVAs are the addresses that a device of this machine can use: what the IOMMU translates, without the window where
// writes are interrupts.
var usableIOVAs = []uapi.IOMMUIOVARange{{Start: 0, Last: 0xfedfffff}, {Start: 0xfef00000, Last: 1<<39 - 1}}

// ranges are the addresses that can be mapped, and what they have to be a multiple of.
func (s *ioas) ranges() (usable []uapi.IOMMUIOVARange, alignment uint64) {
	if s.table == nil {
		return []uapi.IOMMUIOVARange{{Start: 0, Last: ^uint64(0)}}, 1
	}
	return usableIOVAs, uint64(os.Getpagesize())
}

// usable tells whether an area is within the usable addresses.
func (a area) usable(ranges []uapi.IOMMUIOVARange) bool {
	return slices.ContainsFunc(ranges, func(r uapi.IOMMUIOVARange) bool { return r.Start <= a.first && a.last <= r.Last })
}

// conflicts tells whether something is mapped that no device of this machine could be given.
func (s *ioas) conflicts() bool {
	return slices.ContainsFunc(s.areas, func(a area) bool { return !a.usable(usableIOVAs) })
}

// checkSize is how the kernel takes a structure that has grown, or may: at least minimum bytes, and zeros behind those that
// it knows.
func checkSize(arg []byte, minimum, known int) error {
	if err := uapi.CheckArg(arg, minimum); err != nil {
		return err
	}
	size := int(binary.NativeEndian.Uint32(arg))
	switch {
	case size < minimum:
		return unix.EINVAL
	case slices.ContainsFunc(arg[min(known, size):size], func(b byte) bool { return b != 0 }):
		return unix.E2BIG
	}
	return nil
}

// enterIOMMUFD is enter for an ioctl on /dev/iommu, which takes a structure of a fixed size.
func enterIOMMUFD[T uapi.Struct](k *Kernel, call string, fd int, arg []byte) (*iommufdFile, T, error) {
	var none T
	f, err := enterFile[*iommufdFile](k, call, fd)
	if err != nil {
		return nil, none, err
	}
	if err := checkSize(arg, uapi.Size[T](), uapi.Size[T]()); err != nil {
		return nil, none, err
	}
	return f, uapi.Take[T](arg), nil
}

// IOMMUDestroy ends an object that nothing uses.
func (k *Kernel) IOMMUDestroy(fd int, arg []byte) error {
	f, destroy, err := enterIOMMUFD[uapi.IOMMUDestroy](k, "IOMMUDestroy", fd, arg)
	defer k.mu.Unlock()
	if err != nil {
		return err
	}
	switch object := f.objects[destroy.ID].(type) {
	case nil:
		return unix.ENOENT
	case *ioas:
		if object.table != nil {
			return unix.EBUSY
		}
		delete(f.objects, destroy.ID)
		return nil
	}
	return unix.EBUSY
}

// IOASAlloc makes an address space.
func (k *Kernel) IOASAlloc(fd int, arg []byte) error {
	f, alloc, err := enterIOMMUFD[uapi.IOMMUIOASAlloc](k, "IOASAlloc", fd, arg)
	defer k.mu.Unlock()
	switch {
	case err != nil:
		return err
	case alloc.Flags != 0:
		return unix.EOPNOTSUPP
	}
	alloc.OutIoasID = f.add(&ioas{iommufd: f})
	uapi.Put(arg, alloc)
	return nil
}

// IOASIOVARanges tells which addresses of an address space can be mapped.
func (k *Kernel) IOASIOVARanges(fd int, arg []byte, ranges []uapi.IOMMUIOVARange) error {
	f, query, err := enterIOMMUFD[uapi.IOMMUIOASIOVARanges](k, "IOASIOVARanges", fd, arg)
	defer k.mu.Unlock()
	switch {
	case err != nil:
		return err
	case query.Reserved != 0:
		return unix.EOPNOTSUPP
	}
	s, ok := f.objects[query.IoasID].(*ioas)
	if !ok {
		return unix.ENOENT
	}
	usable, alignment := s.ranges()
	copy(ranges, usable)
	query.NumIovas, query.OutIovaAlignment = uint32(len(usable)), alignment
	uapi.Put(arg, query)
	if len(usable) > len(ranges) {
		return unix.EMSGSIZE
	}
	return nil
}

// IOASMap maps memory of the process. What is mapped is not read or written by anything here.
func (k *Kernel) IOASMap(fd int, arg []byte) error {
	const known = uapi.IOASMapFixedIOVA | uapi.IOASMapReadable | uapi.IOASMapWriteable
	f, m, err := enterIOMMUFD[uapi.IOMMUIOASMap](k, "IOASMap", fd, arg)
	defer k.mu.Unlock()
	switch {
	case err != nil:
		return err
	case m.Flags&^known != 0 || m.Reserved != 0:
		return unix.EOPNOTSUPP
	case m.Iova == ^uint64(0) || m.Length == ^uint64(0):
		return unix.EOVERFLOW
	case m.Flags&(uapi.IOASMapReadable|uapi.IOASMapWriteable) == 0:
		return unix.EINVAL
	}
	s, ok := f.objects[m.IoasID].(*ioas)
	if !ok {
		return unix.ENOENT
	}
	usable, alignment := s.ranges()
	switch {
	case m.UserVa+m.Length < m.UserVa:
		return unix.EOVERFLOW
	case m.Length == 0 || m.Length%alignment != 0:
		return unix.EINVAL
	}
	if m.Flags&uapi.IOASMapFixedIOVA == 0 {
		if m.Iova, err = s.free(m.UserVa, m.Length); err != nil {
			return err
		}
	}
	a := area{m.Iova, m.Iova + m.Length - 1}
	switch {
	case m.Iova%alignment != 0:
		return unix.EINVAL
	case a.last < a.first:
		return unix.EOVERFLOW
	case !a.usable(usable):
		return unix.EINVAL
	case slices.ContainsFunc(s.areas, a.meets):
		return unix.EEXIST
	case m.UserVa%uint64(os.Getpagesize())%alignment != 0:
		return unix.EINVAL
	case s.table != nil && !readable(m.UserVa, m.Length):
		return unix.EFAULT
	}
	at, _ := slices.BinarySearchFunc(s.areas, a.first, func(b area, first uint64) int {
		if b.first < first {
			return -1
		}
		return 1
	})
	s.areas = slices.Insert(s.areas, at, a)
	uapi.Put(arg, m)
	return nil
}

// meets tells whether two areas have an address in common.
func (a area) meets(b area) bool { return a.first <= b.last && b.first <= a.last }

// free finds addresses for a mapping: the first that are free, never 0, as aligned as the memory is, up to a huge page.
func (s *ioas) free(va, length uint64) (uint64, error) {
	const hugePage = 2 << 20
	page := uint64(os.Getpagesize())
	alignment := uint64(1)
	for alignment < length && va&alignment == 0 && alignment < hugePage {
		alignment *= 2
	}
	usable, least := s.ranges()
	if alignment < least {
		return 0, unix.EINVAL
	}
	for _, r := range usable {
		at := max(r.Start, page)
		for {
			at = (at+alignment-1)&^(alignment-1) | va%page
			a := area{at, at + length - 1}
			if a.last < a.first || a.last > r.Last {
				break
			}
			i := slices.IndexFunc(s.areas, a.meets)
			if i < 0 {
				return at, nil
			}
			at = s.areas[i].last + 1
		}
	}
	return 0, unix.ENOSPC
}

// readable tells whether the process has memory at an address, page by page.
func readable(va, length uint64) bool {
	page := uint64(os.Getpagesize())
	var b [1]byte
	for at := va; at < va+length; at += page {
		local := []unix.Iovec{{Base: &b[0], Len: 1}}
		remote := []unix.RemoteIovec{{Base: uintptr(at), Len: 1}}
		if n, err := unix.ProcessVMReadv(os.Getpid(), local, remote, 0); n != 1 || err != nil {
			return false
		}
	}
	return true
}

// IOASUnmap ends the mappings in a range, none of which may lie across its ends.
func (k *Kernel) IOASUnmap(fd int, arg []byte) error {
	f, m, err := enterIOMMUFD[uapi.IOMMUIOASUnmap](k, "IOASUnmap", fd, arg)
	defer k.mu.Unlock()
	if err != nil {
		return err
	}
	s, ok := f.objects[m.IoasID].(*ioas)
	if !ok {
		return unix.ENOENT
	}
	r := area{m.Iova, m.Iova + m.Length - 1}
	switch {
	case m.Iova == 0 && m.Length == ^uint64(0):
		r.last = ^uint64(0)
		if len(s.areas) == 0 {
			break // everything is nothing
		}
	case m.Iova == ^uint64(0) || m.Length == ^uint64(0):
		return unix.EOVERFLOW
	case m.Length == 0:
		return unix.EINVAL
	case r.last < r.first:
		return unix.EOVERFLOW
	}
	m.Length = 0
	for i := 0; i < len(s.areas); {
		a := s.areas[i]
		switch {
		case !a.meets(r):
			i++
		case a.first < r.first || a.last > r.last:
			return unix.ENOENT // those before are gone
		default:
			m.Length += a.last - a.first + 1
			s.areas = slices.Delete(s.areas, i, i+1)
		}
	}
	uapi.Put(arg, m)
	return nil
}
