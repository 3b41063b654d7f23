package vfio

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/irqbridge/irqbridge/pci"
	"github.com/irqbridge/irqbridge/vfio/internal/uapi"
)

// IRQIndex selects one of the interrupt sources of a PCI device, VFIO_PCI_*_IRQ_INDEX. INTx, MSI and MSIX are three ways
// of interrupting, of which a device uses one at a time; Err and Req stand beside them.
type IRQIndex uint32

// The interrupt indexes.
const (
	INTx IRQIndex = uapi.PCIINTxIRQIndex // the level-triggered line
	MSI  IRQIndex = uapi.PCIMSIIRQIndex  // up to 32 messages
	MSIX IRQIndex = uapi.PCIMSIXIRQIndex // up to 2048 messages
	Err  IRQIndex = uapi.PCIErrIRQIndex  // an uncorrectable PCI Express error was reported for the device
	Req  IRQIndex = uapi.PCIReqIRQIndex  // the host wants the device back; its unbind waits until the device is closed

	NoIndex IRQIndex = 1<<32 - 1 // in an OpError: none
)

// String gives "INTx", "MSI", "MSI-X", "ERR" or "REQ".
func (i IRQIndex) String() string {
	switch i {
	case INTx:
		return "INTx"
	case MSI:
		return "MSI"
	case MSIX:
		return "MSI-X"
	case Err:
		return "ERR"
	case Req:
		return "REQ"
	}
	return fmt.Sprintf("IRQ index %d", uint32(i))
}

// Kind is the kind of interrupt that the index stands for; false for Err, Req and whatever is not an index.
func (i IRQIndex) Kind() (pci.Kind, bool) {
	switch i {
	case INTx:
		return pci.KindINTx, true
	case MSI:
		return pci.KindMSI, true
	case MSIX:
		return pci.KindMSIX, true
	}
	return 0, false
}

// IndexOf is the index that stands for a kind of interrupt; NoIndex when k is none.
func IndexOf(k pci.Kind) IRQIndex {
	switch k {
	case pci.KindINTx:
		return INTx
	case pci.KindMSI:
		return MSI
	case pci.KindMSIX:
		return MSIX
	}
	return NoIndex
}

// IRQInfo is what the kernel says about one interrupt index, struct vfio_irq_info. Whether the device has such
// interrupts is told by Count alone: the kernel sets the flags even when Count is 0.
type IRQInfo struct {
	Index      IRQIndex
	Count      int  // vectors; 0 when the device has none of this index
	EventFD    bool // VFIO_IRQ_INFO_EVENTFD: it can signal an eventfd
	Maskable   bool // VFIO_IRQ_INFO_MASKABLE: MaskIRQ and UnmaskIRQ work
	AutoMasked bool // VFIO_IRQ_INFO_AUTOMASKED: the kernel masks it when it fires, until UnmaskIRQ
	NoResize   bool // VFIO_IRQ_INFO_NORESIZE: vectors beyond those of the first enable cannot be added later
}

// RegionInfo is what the kernel says about one region of the device, struct vfio_region_info. Regions 0 to 5 are the
// BARs, 6 is the expansion ROM, 7 the configuration space, 8 the VGA window.
type RegionInfo struct {
	Index        int
	Size         uint64 // bytes; 0 when the device has no such region
	Offset       uint64 // of the region in the device's file
	Read, Write  bool   // VFIO_REGION_INFO_FLAG_READ, _WRITE
	Mmap         bool   // VFIO_REGION_INFO_FLAG_MMAP: it can be mapped, but for what Sparse leaves out
	Sparse       []Area // VFIO_REGION_INFO_CAP_SPARSE_MMAP: the only parts that can be mapped; nil when all of it can
	MSIXMappable bool   // VFIO_REGION_INFO_CAP_MSIX_MAPPABLE: the pages with the MSI-X table can be mapped too
}

// Area is a part of a region, in bytes from the region's start.
type Area struct {
	Offset uint64
	Size   uint64
}

// maxInfoSize bounds how far an information buffer grows at the kernel's word. A sparse area takes 16 bytes.
const maxInfoSize = 1 << 20

// queryRegion asks for one region. One that the device does not have, as most do not have the VGA window, has size 0.
func queryRegion(k uapi.Kernel, fd, index int) (RegionInfo, error) {
	arg := make([]byte, uapi.Size[uapi.RegionInfo]())
	for {
		uapi.Put(arg, uapi.RegionInfo{Argsz: uint32(len(arg)), Index: uint32(index)})
		if err := k.DeviceGetRegionInfo(fd, arg); errors.Is(err, unix.EINVAL) {
			return RegionInfo{Index: index}, nil
		} else if err != nil {
			return RegionInfo{}, err
		}
		in := uapi.Take[uapi.RegionInfo](arg)
		if in.Flags&uapi.RegionInfoFlagCaps == 0 || in.CapOffset != 0 || int(in.Argsz) <= len(arg) {
			return decodeRegion(arg)
		}
		if in.Argsz > maxInfoSize {
			return RegionInfo{}, fmt.Errorf("the kernel wants %d bytes for its answer; at most %d are given", in.Argsz, maxInfoSize)
		}
		arg = make([]byte, in.Argsz)
	}
}

// decodeRegion reads a struct vfio_region_info and its capability chain.
func decodeRegion(arg []byte) (RegionInfo, error) {
	in := uapi.Take[uapi.RegionInfo](arg)
	r := RegionInfo{
		Index:  int(in.Index),
		Size:   in.Size,
		Offset: in.Offset,
		Read:   in.Flags&uapi.RegionInfoFlagRead != 0,
		Write:  in.Flags&uapi.RegionInfoFlagWrite != 0,
		Mmap:   in.Flags&uapi.RegionInfoFlagMmap != 0,
	}
	if in.Flags&uapi.RegionInfoFlagCaps == 0 {
		return r, nil
	}
	err := walkCapabilities(arg, uapi.Size[uapi.RegionInfo](), in.CapOffset, func(id uint16, capability []byte) error {
		switch id {
		case uapi.RegionInfoCapSparseMmapID:
			areas, err := decodeSparse(capability, r.Size)
			r.Sparse = areas
			return err
		case uapi.RegionInfoCapMSIXMappableID:
			r.MSIXMappable = true
		}
		return nil // kernels add capabilities; one that is not known here is none of our business
	})
	return r, err
}

// walkCapabilities calls visit for each capability of a chain that starts at offset first of arg, with the bytes from
// the capability's header to the end of arg. fixed is the size of the structure before the chain.
func walkCapabilities(arg []byte, fixed int, first uint32, visit func(id uint16, capability []byte) error) error {
	header := uapi.Size[uapi.InfoCapHeader]()
	// No two capabilities overlap, so a chain with more steps than headers would fit is a loop.
	steps := len(arg) / header
	for offset := int(first); offset != 0; {
		if offset < fixed || offset > len(arg)-header || offset%4 != 0 {
			return fmt.Errorf("the capability chain leads to offset %d of %d bytes", offset, len(arg))
		}
		if steps--; steps < 0 {
			return fmt.Errorf("the capability chain is a loop through offset %d", offset)
		}
		h := uapi.Take[uapi.InfoCapHeader](arg[offset:])
		if err := visit(h.ID, arg[offset:]); err != nil {
			return err
		}
		offset = int(h.Next)
	}
	return nil
}

// decodeSparse reads the areas of a sparse mmap capability of a region of size bytes. The result is never nil: a region
// with the capability and no area cannot be mapped at all.
func decodeSparse(capability []byte, size uint64) ([]Area, error) {
	at := uapi.Size[uapi.RegionInfoCapSparseMmap]()
	each := uapi.Size[uapi.RegionSparseMmapArea]()
	n := int(uapi.Take[uapi.RegionInfoCapSparseMmap](capability).NrAreas)
	if len(capability) < at || n > (len(capability)-at)/each {
		return []Area{}, fmt.Errorf("the sparse mmap capability claims %d areas in %d bytes", n, len(capability))
	}
	areas := make([]Area, 0, n)
	for range n {
		a := uapi.Take[uapi.RegionSparseMmapArea](capability[at:])
		if a.Offset > size || a.Size > size-a.Offset {
			return []Area{}, fmt.Errorf("mappable area 0x%x+0x%x lies outside a region of 0x%x bytes", a.Offset, a.Size, size)
		}
		areas = append(areas, Area{Offset: a.Offset, Size: a.Size})
		at += each
	}
	return areas, nil
}

// queryIRQ asks for one interrupt index. EINVAL means that the device has none of it: that is how Linux 6.1 and 6.12
// answer for Err on a conventional PCI device, where 7.3 has one.
func queryIRQ(k uapi.Kernel, fd int, index IRQIndex) (IRQInfo, error) {
	arg := make([]byte, uapi.Size[uapi.IRQInfo]())
	uapi.Put(arg, uapi.IRQInfo{Argsz: uint32(len(arg)), Index: uint32(index)})
	if err := k.DeviceGetIRQInfo(fd, arg); errors.Is(err, unix.EINVAL) {
		return IRQInfo{Index: index}, nil
	} else if err != nil {
		return IRQInfo{}, err
	}
	in := uapi.Take[uapi.IRQInfo](arg)
	return IRQInfo{
		Index:      index,
		Count:      int(in.Count),
		EventFD:    in.Flags&uapi.IRQInfoEventFD != 0,
		Maskable:   in.Flags&uapi.IRQInfoMaskable != 0,
		AutoMasked: in.Flags&uapi.IRQInfoAutoMasked != 0,
		NoResize:   in.Flags&uapi.IRQInfoNoResize != 0,
	}, nil
}
