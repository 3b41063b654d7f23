package vfiotest

import (
	"encoding/binary"
	"math"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/irqbridge/irqbridge/vfio/internal/uapi"
)

// iommufdFile is an open of /dev/iommu. It lives as long as its descriptors, the groups that have it in the place of a container, and
// the devices bound to it.
type iommufdFile struct {
	kernel  *Kernel
	objects map[uint32]any // *ioas, *pageTable or *binding, by identifier
	closed  bool           // it has no descriptor any more
	users   int            // the groups and the devices
	compat  *ioas          // what a container's ioctls are about; nil until it is one, see compat.go
}

func (f *iommufdFile) release() {
	f.closed = true
	f.settle()
}

// settle ends what is mapped when neither the iommufd nor what uses it is open any more.
func (f *iommufdFile) settle() {
	if !f.closed || f.users > 0 {
		return
	}
	for _, object := range f.objects {
		if s, ok := object.(*ioas); ok {
			s.unmap(0, len(s.mappings))
		}
	}
	clear(f.objects)
}

// add gives an object the lowest identifier that is free.
func (f *iommufdFile) add(object any) uint32 {
	id := uint32(1)
	for f.objects[id] != nil {
		id++
	}
	f.objects[id] = object
	return id
}

// ioas is an address space of an iommufd.
type ioas struct {
	addressSpace
	iommufd *iommufdFile
	table   *pageTable // nil while no device is attached
	divide  bool       // mappings can be divided by unmapping a part: no page of the table is a huge one
}

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

// ranges are the addresses that can be mapped, and what they have to be a multiple of. The devices narrow them.
func (s *ioas) ranges() (usable []uapi.IOVARange, alignment uint64) {
	if s.table == nil {
		alignment = 1
		if s.divide {
			alignment = iommuPage
		}
		return []uapi.IOVARange{{End: math.MaxUint64}}, alignment
	}
	return iovaRanges, iommuPage
}

// unfit tells why no device can be given the address space with what is mapped in it; 0 when it can.
func (s *ioas) unfit() unix.Errno {
	for _, m := range s.mappings {
		switch {
		case !within(iovaRanges, m.iova, m.last), (m.iova|m.size())%iommuPage != 0:
			return unix.EADDRINUSE
		case m.memory == nil:
			return unix.EFAULT
		case m.flags == 0:
			return unix.EINVAL
		}
	}
	return 0
}

// within tells whether an area lies in one of the ranges.
func within(ranges []uapi.IOVARange, iova, last uint64) bool {
	return slices.ContainsFunc(ranges, func(r uapi.IOVARange) bool { return r.Start <= iova && last <= r.End })
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
		object.unmap(0, len(object.mappings))
		delete(f.objects, destroy.ID)
		if f.compat == object {
			f.compat = nil
		}
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
	alloc.OutIoasID = f.add(&ioas{addressSpace: addressSpace{kernel: k}, iommufd: f})
	uapi.Put(arg, alloc)
	return nil
}

// IOASIOVARanges tells which addresses of an address space can be mapped.
func (k *Kernel) IOASIOVARanges(fd int, arg []byte, ranges []uapi.IOMMUIOVARange) error {
	f, query, err := enterIOMMUFD[uapi.IOMMUIOASIOVARanges](k, "IOASIOVARanges", fd, arg)
	defer k.mu.Unlock()
	if err != nil {
		return err
	}
	query.NumIovas = uint32(len(ranges))
	uapi.Put(arg, query)
	if query.Reserved != 0 {
		return unix.EOPNOTSUPP
	}
	s, ok := f.objects[query.IoasID].(*ioas)
	if !ok {
		return unix.ENOENT
	}
	usable, alignment := s.ranges()
	for i := range min(len(ranges), len(usable)) {
		ranges[i] = uapi.IOMMUIOVARange{Start: usable[i].Start, Last: usable[i].End}
	}
	query.NumIovas, query.OutIovaAlignment = uint32(len(usable)), alignment
	uapi.Put(arg, query)
	if len(usable) > len(ranges) {
		return unix.EMSGSIZE
	}
	return nil
}

// IOASMap maps memory of the process.
func (k *Kernel) IOASMap(fd int, arg []byte) error {
	const known = uapi.IOASMapFixedIOVA | uapi.IOASMapReadable | uapi.IOASMapWriteable
	f, m, err := enterIOMMUFD[uapi.IOMMUIOASMap](k, "IOASMap", fd, arg)
	defer k.mu.Unlock()
	switch {
	case err != nil:
		return err
	case m.Flags&^known != 0 || m.Reserved != 0:
		return unix.EOPNOTSUPP
	case m.Iova == math.MaxUint64 || m.Length == math.MaxUint64:
		return unix.EOVERFLOW
	case m.Flags&(uapi.IOASMapReadable|uapi.IOASMapWriteable) == 0:
		return unix.EINVAL
	}
	s, ok := f.objects[m.IoasID].(*ioas)
	if !ok {
		return unix.ENOENT
	}
	if m.Iova, err = s.insert(m); err != nil {
		return err
	}
	uapi.Put(arg, m)
	return nil
}

// insert maps memory of the process, and returns where.
func (s *ioas) insert(m uapi.IOMMUIOASMap) (iova uint64, err error) {
	k := s.kernel
	usable, alignment := s.ranges()
	switch {
	case m.UserVa+m.Length < m.UserVa:
		return 0, unix.EOVERFLOW
	case m.Length == 0 || m.Length%alignment != 0:
		return 0, unix.EINVAL
	}
	if m.Flags&uapi.IOASMapFixedIOVA == 0 {
		if m.Iova, err = s.choose(m.UserVa, m.Length); err != nil {
			return 0, err
		}
	}
	last := m.Iova + m.Length - 1
	memory, offset := k.bufferAt(m.UserVa, m.Length)
	switch {
	case m.Iova%alignment != 0:
		return 0, unix.EINVAL
	case last < m.Iova:
		return 0, unix.EOVERFLOW
	case !within(usable, m.Iova, last):
		return 0, unix.EINVAL
	case s.overlaps(m.Iova, last):
		return 0, unix.EEXIST
	case m.UserVa%alignment != 0:
		return 0, unix.EINVAL
	case s.table != nil && memory == nil: // without a device, the memory is not looked at yet
		return 0, unix.EFAULT
	case s.table != nil && k.memlock != 0 && m.Length > k.memlock-min(k.memlock, k.locked):
		return 0, unix.ENOMEM
	case s.table != nil && m.Flags&(uapi.IOASMapReadable|uapi.IOASMapWriteable) == 0: // the IOMMU's driver
		return 0, unix.EINVAL
	}
	mapping := dmaMapping{iova: m.Iova, last: last, memory: memory, offset: offset}
	if m.Flags&uapi.IOASMapReadable != 0 {
		mapping.flags |= uapi.DMAMapRead
	}
	if m.Flags&uapi.IOASMapWriteable != 0 {
		mapping.flags |= uapi.DMAMapWrite
	}
	k.locked += m.Length
	s.mappings = slices.Insert(s.mappings, s.find(m.Iova), mapping)
	return m.Iova, nil
}

// choose finds addresses for a mapping: the first that are free, never 0, as aligned as the memory is, up to a huge page.
func (s *ioas) choose(va, length uint64) (uint64, error) {
	const hugePage = 2 << 20
	if length >= math.MaxUint64/2 {
		return 0, unix.EOVERFLOW
	}
	alignment := uint64(1)
	for alignment < length && va&alignment == 0 && alignment < hugePage {
		alignment *= 2
	}
	usable, least := s.ranges()
	if alignment < least {
		return 0, unix.EINVAL
	}
	for _, r := range usable {
		for at := max(r.Start, iommuPage); ; {
			at = (at+alignment-1)&^(alignment-1) | va%iommuPage
			last := at + length - 1
			if last < at || last > r.End {
				break
			}
			if !s.overlaps(at, last) {
				return at, nil
			}
			at = s.mappings[s.find(at)].last + 1
		}
	}
	return 0, unix.ENOSPC
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
	last := m.Iova + m.Length - 1
	everything := m.Iova == 0 && m.Length == math.MaxUint64
	switch {
	case everything:
		last = math.MaxUint64
	case m.Iova == math.MaxUint64 || m.Length == math.MaxUint64:
		return unix.EOVERFLOW
	case m.Length == 0:
		return unix.EINVAL
	case last < m.Iova:
		return unix.EOVERFLOW
	}
	size, err := s.remove(m.Iova, last)
	switch {
	case err != nil:
		return err
	case size == 0 && !everything:
		return unix.ENOENT
	}
	m.Length = size
	uapi.Put(arg, m)
	return nil
}

// remove ends the mappings in a range, up to one that lies across an end of it (ENOENT), and returns how many bytes they were.
func (s *ioas) remove(iova, last uint64) (size uint64, err error) {
	from := s.find(iova)
	to := from
	for to < len(s.mappings) && s.mappings[to].iova <= last {
		if s.mappings[to].iova < iova || s.mappings[to].last > last {
			err = unix.ENOENT
			break
		}
		to++
	}
	return s.unmap(from, to), err
}
