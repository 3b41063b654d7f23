package vfiotest

import (
	"cmp"
	"math"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/irqbridge/irqbridge/pci"
	"github.com/irqbridge/irqbridge/vfio/internal/uapi"
)

// addressSpace is what the devices of a container, or those attached to an IOAS, see as memory: pieces of the process' memory, at addresses of its choice.
type addressSpace struct {
	kernel   *Kernel
	mappings []dmaMapping // by iova
	limit    int          // how many there may be
}

// dmaMapping is one piece.
type dmaMapping struct {
	iova, last uint64 // last is the last byte's
	memory     *buffer
	offset     uint64 // in memory
	flags      uint32 // of uapi.DMAMapRead and DMAMapWrite
}

func (m dmaMapping) size() uint64 { return m.last - m.iova + 1 }

// What the virtual machine's IOMMU has.
const (
	iommuPageSizes = 1<<12 | 1<<21 | 1<<30
	iommuPage      = 1 << 12
	mappingLimit   = math.MaxUint16 // vfio_iommu_type1's module parameter dma_entry_limit, unless it is changed
)

// replaceVaddr is VFIO_DMA_MAP_FLAG_VADDR and VFIO_DMA_UNMAP_FLAG_VADDR, by which a program that replaces itself gives mappings
// new memory. That it can be refused is modelled, and nothing else of it.
const replaceVaddr = 1 << 2

// iovaRanges are the addresses that can be mapped: 39 bits, without the window that messages are written to.
var iovaRanges = []uapi.IOVARange{{End: 0xfedf_ffff}, {Start: 0xfef0_0000, End: 0x7f_ffff_ffff}}

// writeMappingLimit sets the module parameter dma_entry_limit.
func (k *Kernel) writeMappingLimit(s string) error {
	n, err := strconv.ParseUint(strings.TrimSpace(s), 10, 32)
	if err != nil {
		return unix.EINVAL
	}
	k.mappingLimit = int(n)
	return nil
}

// find returns the position of the first mapping that ends at iova or later.
func (s *addressSpace) find(iova uint64) int {
	i, _ := slices.BinarySearchFunc(s.mappings, iova, func(m dmaMapping, iova uint64) int { return cmp.Compare(m.last, iova) })
	return i
}

// at returns the mapping that iova is in.
func (s *addressSpace) at(iova uint64) (dmaMapping, bool) {
	i := s.find(iova)
	if i == len(s.mappings) || s.mappings[i].iova > iova {
		return dmaMapping{}, false
	}
	return s.mappings[i], true
}

// overlaps tells whether anything is mapped of an area.
func (s *addressSpace) overlaps(iova, last uint64) bool {
	i := s.find(iova)
	return i < len(s.mappings) && s.mappings[i].iova <= last
}

// access moves p from or to the memory that a device sees at iova, and tells whether it got to the end: the IOMMU stops it
// where nothing is mapped, or not for that direction.
func (s *addressSpace) access(p []byte, iova uint64, write bool) bool {
	move, need := copyOut, uint32(uapi.DMAMapRead)
	if write {
		move, need = copyIn, uapi.DMAMapWrite
	}
	for len(p) > 0 {
		m, ok := s.at(iova)
		if !ok || m.flags&need == 0 {
			return false
		}
		chunk := p[:min(uint64(len(p)), m.last-iova+1)]
		move(chunk, m.memory.Memory, int(m.offset+iova-m.iova))
		p, iova = p[len(chunk):], iova+uint64(len(chunk))
	}
	return true
}

// copyOut and copyIn move bytes from and to memory that the program looks at meanwhile, in aligned pieces, as a device does.
func copyOut(p []byte, m uapi.Memory, off int) {
	for len(p) > 0 {
		n := piece(off, len(p), 8)
		var v uint64
		if n == 8 {
			v, _ = m.Load64(off) // nothing to read where the process has unmapped it
		} else {
			n = 1
			b, _ := m.Load8(off)
			v = uint64(b)
		}
		putLittleEndian(p[:n], v)
		p, off = p[n:], off+n
	}
}

func copyIn(p []byte, m uapi.Memory, off int) {
	for len(p) > 0 {
		n := piece(off, len(p), 8)
		if n == 8 {
			_ = m.Store64(off, littleEndian(p[:n]))
		} else {
			n = 1
			_ = m.Store8(off, p[0])
		}
		p, off = p[n:], off+n
	}
}

// accessMemory is a device's access to memory. Whether it may master the bus decides first, then the IOMMU.
func (f *function) accessMemory(p []byte, iova uint64, write bool) bool {
	s := f.addressSpace()
	return s != nil && f.command()&pci.CommandBusMaster != 0 && s.access(p, iova, write)
}

// addressSpace is what the function sees as memory; nil while that is up to the host.
func (f *function) addressSpace() *addressSpace {
	switch g := f.group; {
	case g == nil:
		return nil
	case g.container != nil && g.container.iommu == uapi.NoIOMMU:
		return nil // physical memory, which nobody is told the addresses of
	case g.container != nil:
		return &g.container.space
	}
	for _, bound := range f.group.bound { // one table for all of the group
		if bound.table != nil {
			return &bound.table.ioas.addressSpace
		}
	}
	return nil
}

// IOMMUGetInfo tells the sizes of pages, the mappings left and the addresses that can be mapped.
func (k *Kernel) IOMMUGetInfo(fd int, arg []byte) error {
	f, err := enterFile[mapper](k, "IOMMUGetInfo", fd)
	defer k.mu.Unlock()
	if err != nil {
		return err
	}
	return f.info(arg)
}

func (c *container) info(arg []byte) error {
	k := c.space.kernel
	if err := c.ready(); err != nil {
		return err
	}
	if err := uapi.CheckArg(arg, uapi.IOMMUInfoMinSize); err != nil {
		return err
	}
	info := uapi.Take[uapi.IOMMUInfo](arg)
	if info.Argsz < uapi.IOMMUInfoMinSize {
		return unix.EINVAL
	}
	const capOffsetEnd = 20 // where Linux 6.1 ends the structure that it writes
	size := min(info.Argsz, uint32(uapi.Size[uapi.IOMMUInfo]()))
	if k.version == V6_1 {
		size = uapi.IOMMUInfoMinSize
		if info.Argsz >= capOffsetEnd {
			size = capOffsetEnd
		}
	}
	chain := c.capabilities(k.version)
	at := uapi.Size[uapi.IOMMUInfo]()
	info.Flags = uapi.IOMMUInfoPageSizes | uapi.IOMMUInfoCaps
	info.IovaPgsizes, info.CapOffset, info.Pad = iommuPageSizes, 0, 0
	if need := at + len(chain); int(info.Argsz) < need {
		info.Argsz = uint32(need)
	} else {
		info.CapOffset = uint32(at)
		copy(arg[at:], chain)
	}
	uapi.Put(arg[:size], info)
	return nil
}

// capabilities is the chain of a container's capabilities, to be put behind the structure.
func (c *container) capabilities(v Version) []byte {
	var chain []byte
	last := -1 // where the last capability is
	add := func(size int) []byte {
		at := len(chain)
		if v != V6_1 {
			size = (size + 7) &^ 7
		}
		chain = append(chain, make([]byte, size)...)
		if last >= 0 {
			h := uapi.Take[uapi.InfoCapHeader](chain[last:])
			h.Next = uint32(uapi.Size[uapi.IOMMUInfo]() + at)
			uapi.Put(chain[last:], h)
		}
		last = at
		return chain[at:]
	}
	migration := add(32)
	uapi.Put(migration, uapi.InfoCapHeader{ID: uapi.IOMMUInfoCapMigrationID, Version: 1})
	uapi.Put(migration[16:], uapi.IOVARange{Start: iommuPage, End: 1 << 28}) // the page size and the size of a bitmap of dirty pages

	uapi.Put(add(uapi.Size[uapi.IOMMUInfoCapDMAAvail]()), uapi.IOMMUInfoCapDMAAvail{
		Header: uapi.InfoCapHeader{ID: uapi.IOMMUInfoCapDMAAvailID, Version: 1}, Avail: uint32(c.space.limit - len(c.space.mappings)),
	})
	fixed, each := uapi.Size[uapi.IOMMUInfoCapIOVARange](), uapi.Size[uapi.IOVARange]()
	ranges := add(fixed + each*len(iovaRanges))
	uapi.Put(ranges, uapi.IOMMUInfoCapIOVARange{
		Header: uapi.InfoCapHeader{ID: uapi.IOMMUInfoCapIOVARangeID, Version: 1}, NrIovas: uint32(len(iovaRanges)),
	})
	for i, r := range iovaRanges {
		uapi.Put(ranges[fixed+each*i:], r)
	}
	return chain
}

// ready tells why the container has no IOMMU driver that maps; nil when it has.
func (c *container) ready() error {
	switch c.iommu {
	case 0:
		return unix.EINVAL
	case uapi.NoIOMMU:
		return unix.ENOTTY
	}
	return nil
}

// IOMMUMapDMA maps memory of the process.
func (k *Kernel) IOMMUMapDMA(fd int, arg []byte) error {
	f, err := enterFile[mapper](k, "IOMMUMapDMA", fd)
	defer k.mu.Unlock()
	if err != nil {
		return err
	}
	return f.mapDMA(arg)
}

func (c *container) mapDMA(arg []byte) error {
	k := c.space.kernel
	if err := c.ready(); err != nil {
		return err
	}
	if err := uapi.CheckArg(arg, uapi.IOMMUDMAMapMinSize); err != nil {
		return err
	}
	m := uapi.Take[uapi.IOMMUDMAMap](arg)
	if m.Argsz < uapi.IOMMUDMAMapMinSize || m.Flags == 0 || m.Flags > replaceVaddr {
		return unix.EINVAL
	}
	if m.Size == 0 || (m.Size|m.Iova|m.Vaddr)%iommuPage != 0 {
		return unix.EINVAL
	}
	last := m.Iova + m.Size - 1
	if last < m.Iova || m.Vaddr+m.Size-1 < m.Vaddr {
		if k.version == V6_1 {
			return unix.EINVAL
		}
		return unix.EOVERFLOW
	}
	s := &c.space
	allowed := func(r uapi.IOVARange) bool { return m.Iova >= r.Start && last <= r.End }
	switch {
	case m.Flags == replaceVaddr && !s.overlaps(m.Iova, last):
		return unix.ENOENT
	case m.Flags == replaceVaddr: // nobody has taken the memory away before, which is not modelled
		return unix.EINVAL
	case s.overlaps(m.Iova, last):
		return unix.EEXIST
	case len(s.mappings) == s.limit:
		return unix.ENOSPC
	case !slices.ContainsFunc(iovaRanges, allowed):
		return unix.EINVAL
	}
	memory, offset := k.bufferAt(m.Vaddr, m.Size)
	switch {
	case memory == nil:
		return unix.EFAULT
	case k.memlock != 0 && m.Size > k.memlock-min(k.memlock, k.locked):
		return unix.ENOMEM
	}
	s.kernel.locked += m.Size
	s.mappings = slices.Insert(s.mappings, s.find(m.Iova),
		dmaMapping{iova: m.Iova, last: last, memory: memory, offset: offset, flags: m.Flags})
	return nil
}

// IOMMUUnmapDMA unmaps whole mappings; what is not mapped does not matter. The first version of the type 1 driver also
// takes a part from the start of a mapping for the whole of it.
func (k *Kernel) IOMMUUnmapDMA(fd int, arg []byte) error {
	f, err := enterFile[mapper](k, "IOMMUUnmapDMA", fd)
	defer k.mu.Unlock()
	if err != nil {
		return err
	}
	return f.unmapDMA(arg)
}

func (c *container) unmapDMA(arg []byte) error {
	k := c.space.kernel
	if err := c.ready(); err != nil {
		return err
	}
	if err := uapi.CheckArg(arg, uapi.IOMMUDMAUnmapMinSize); err != nil {
		return err
	}
	u := uapi.Take[uapi.IOMMUDMAUnmap](arg)
	if u.Argsz < uapi.IOMMUDMAUnmapMinSize || u.Flags&^(uapi.DMAUnmapAll|replaceVaddr) != 0 || u.Iova%iommuPage != 0 {
		return unix.EINVAL
	}
	s := &c.space
	from, to := 0, len(s.mappings)
	if u.Flags&uapi.DMAUnmapAll != 0 {
		if u.Iova != 0 || u.Size != 0 {
			return unix.EINVAL
		}
	} else {
		if u.Size == 0 || u.Size%iommuPage != 0 {
			return unix.EINVAL
		}
		last := u.Iova + u.Size - 1
		if last < u.Iova {
			if k.version == V6_1 {
				return unix.EINVAL
			}
			return unix.EOVERFLOW
		}
		first, inFirst := s.at(u.Iova)
		end, inEnd := s.at(last)
		if c.iommu == uapi.Type1v2IOMMU && (inFirst && first.iova != u.Iova || inEnd && end.last != last) {
			return unix.EINVAL
		}
		from = s.find(u.Iova)
		to = s.find(last)
		if inEnd {
			to++
		}
		if inFirst && first.iova != u.Iova {
			to = from // the first version stops at a mapping that starts before
		}
	}
	if u.Flags&replaceVaddr != 0 {
		from = to
	}
	u.Size = s.unmap(from, to)
	uapi.Put(arg, u)
	return nil
}

// unmap ends mappings from to to-1, and returns how many bytes they were.
func (s *addressSpace) unmap(from, to int) uint64 {
	var size uint64
	for _, m := range s.mappings[from:to] {
		size += m.size()
	}
	s.mappings = slices.Delete(s.mappings, from, to)
	s.kernel.locked -= size
	return size
}
