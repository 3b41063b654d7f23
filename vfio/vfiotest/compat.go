package vfiotest

import (
	"math"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/irqbridge/irqbridge/vfio/internal/uapi"
)

// An iommufd knows a container's ioctls, too (drivers/iommu/iommufd/vfio_compat.c), for programs that are handed one in the place
// of a container. They are about one address space, which is made when the first group is put into the iommufd. Its devices see it as
// soon as they are open.

// take puts a group into the iommufd.
func (f *iommufdFile) take(g *group) {
	if f.compat == nil {
		f.compat = &ioas{addressSpace: addressSpace{kernel: f.kernel}, iommufd: f}
		f.add(f.compat)
	}
	g.iommufd = f
	f.users++
}

// bindCompat is what the first open of a device through a group does that is in the iommufd.
func (f *iommufdFile) bindCompat(fn *function) (*binding, error) {
	if err := fn.refusal(f); err != nil {
		return nil, err
	}
	if f.compat == nil { // it was destroyed
		return nil, unix.ENODEV
	}
	b := &binding{function: fn}
	b.bind(f)
	if err := b.attach(f.compat); err != nil {
		b.unbind()
		return nil, err
	}
	return b, nil
}

// checkExtension knows what an iommufd can do of what a container can.
func (f *iommufdFile) checkExtension(extension int) (int, error) {
	const coherent = 4 // VFIO_DMA_CC_IOMMU
	known := false
	switch extension {
	case uapi.Type1IOMMU, uapi.Type1v2IOMMU, extensionUnmapAll:
		known = true
	case uapi.NoIOMMU:
		known = f.kernel.hasNoIOMMU
	case coherent:
		if f.compat == nil {
			return 0, unix.ENODEV
		}
		known = f.compat.table == nil // the virtual machine's IOMMU cannot see to it
	}
	if known {
		return 1, nil
	}
	return 0, nil
}

// setIOMMU may be called again. To be the first version of the type 1 driver is to unmap parts of mappings, which takes that none was
// mapped before.
func (f *iommufdFile) setIOMMU(iommuType int) error {
	switch {
	case iommuType != uapi.Type1IOMMU && iommuType != uapi.Type1v2IOMMU:
		return unix.EINVAL
	case f.compat == nil:
		return unix.ENODEV
	case iommuType == uapi.Type1v2IOMMU || f.compat.divide:
		return nil
	case f.compat.table != nil && len(f.compat.mappings) > 0:
		return unix.EINVAL
	}
	f.compat.divide = true
	return nil
}

// info tells the sizes of pages and the addresses that can be mapped. What does not fit of it is left out.
func (f *iommufdFile) info(arg []byte) error {
	if err := uapi.CheckArg(arg, uapi.IOMMUInfoMinSize); err != nil {
		return err
	}
	info := uapi.Take[uapi.IOMMUInfo](arg)
	switch {
	case info.Argsz < uapi.IOMMUInfoMinSize:
		return unix.EINVAL
	case f.compat == nil:
		return unix.ENODEV
	}
	const dmaAvailSize = 16 // with what makes it a multiple of eight
	given := int(info.Argsz)
	avail := uapi.Size[uapi.IOMMUInfo]()
	ranges := avail + dmaAvailSize
	usable, _ := f.compat.ranges()
	first := ranges + uapi.Size[uapi.IOMMUInfoCapIOVARange]()
	end := first + len(usable)*uapi.Size[uapi.IOVARange]()

	if given >= avail+uapi.Size[uapi.IOMMUInfoCapDMAAvail]() {
		header := uapi.InfoCapHeader{ID: uapi.IOMMUInfoCapDMAAvailID, Version: 1}
		if given >= ranges {
			header.Next = uint32(ranges)
		}
		uapi.Put(arg[avail:], uapi.IOMMUInfoCapDMAAvail{Header: header, Avail: math.MaxUint32})
	}
	for i, r := range usable {
		if at := first + i*uapi.Size[uapi.IOVARange](); given >= at+uapi.Size[uapi.IOVARange]() {
			uapi.Put(arg[at:], r)
		}
	}
	info.CapOffset = 0
	if given >= end {
		uapi.Put(arg[ranges:], uapi.IOMMUInfoCapIOVARange{
			Header: uapi.InfoCapHeader{ID: uapi.IOMMUInfoCapIOVARangeID, Version: 1}, NrIovas: uint32(len(usable)),
		})
		info.CapOffset = uint32(avail)
	}
	info.Flags, info.Pad = uapi.IOMMUInfoPageSizes|uapi.IOMMUInfoCaps, 0
	info.IovaPgsizes = math.MaxUint64 &^ (iommuPage - 1)
	if f.compat.table != nil {
		info.IovaPgsizes = iommuPageSizes
	}
	info.Argsz = uint32(end)
	uapi.Put(arg[:min(given, avail)], info)
	return nil
}

// mapDMA maps memory of the process.
func (f *iommufdFile) mapDMA(arg []byte) error {
	if err := uapi.CheckArg(arg, uapi.IOMMUDMAMapMinSize); err != nil {
		return err
	}
	m := uapi.Take[uapi.IOMMUDMAMap](arg)
	switch {
	case m.Argsz < uapi.IOMMUDMAMapMinSize || m.Flags&^(uapi.DMAMapRead|uapi.DMAMapWrite) != 0:
		return unix.EINVAL
	case f.compat == nil:
		return unix.ENODEV
	}
	flags := uint32(uapi.IOASMapFixedIOVA)
	if m.Flags&uapi.DMAMapRead != 0 {
		flags |= uapi.IOASMapReadable
	}
	if m.Flags&uapi.DMAMapWrite != 0 {
		flags |= uapi.IOASMapWriteable
	}
	_, err := f.compat.insert(uapi.IOMMUIOASMap{Flags: flags, UserVa: m.Vaddr, Length: m.Size, Iova: m.Iova})
	return err
}

// unmapDMA unmaps whole mappings, and where they can be divided, parts. It says how much that was even where it fails.
func (f *iommufdFile) unmapDMA(arg []byte) error {
	if err := uapi.CheckArg(arg, uapi.IOMMUDMAUnmapMinSize); err != nil {
		return err
	}
	u := uapi.Take[uapi.IOMMUDMAUnmap](arg)
	s := f.compat
	switch all := u.Flags&uapi.DMAUnmapAll != 0; {
	case u.Argsz < uapi.IOMMUDMAUnmapMinSize || u.Flags&^uapi.DMAUnmapAll != 0:
		return unix.EINVAL
	case s == nil:
		return unix.ENODEV
	case all && (u.Iova != 0 || u.Size != 0):
		return unix.EINVAL
	case all:
		u.Size = s.unmap(0, len(s.mappings))
		uapi.Put(arg, u)
		return nil
	}
	last := u.Iova + u.Size - 1
	if s.divide {
		if err := s.cut(last); err != nil {
			return err
		}
		if u.Iova != 0 {
			if err := s.cut(u.Iova - 1); err != nil {
				return err
			}
		}
	}
	var err error
	switch {
	case u.Size == 0:
		err = unix.EINVAL
	case last < u.Iova:
		u.Size, err = 0, unix.EOVERFLOW
	default:
		u.Size, err = s.remove(u.Iova, last)
	}
	uapi.Put(arg, u)
	return err
}

// cut divides the mapping that iova is in, behind that address. The kernel does nothing where that is the mapping's first byte: it
// never is the last one of a page.
func (s *ioas) cut(iova uint64) error {
	m, found := s.at(iova)
	if !found || iova == m.iova || iova == m.last {
		return nil
	}
	if (iova+1)%iommuPage != 0 {
		return unix.EINVAL
	}
	i := s.find(iova)
	rest := m
	rest.iova = iova + 1
	rest.offset += rest.iova - m.iova
	s.mappings[i].last = iova
	s.mappings = slices.Insert(s.mappings, i+1, rest)
	return nil
}
