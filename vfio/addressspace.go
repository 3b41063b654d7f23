package vfio

import (
	"errors"
	"fmt"
	"math"

	"golang.org/x/sys/unix"

	"github.com/irqbridge/irqbridge/vfio/internal/uapi"
)

// addressSpace is the kernel's object that a device's accesses to memory go through. Errors are bare errnos.
type addressSpace interface {
	// limits asks what can be mapped.
	limits() (dmaLimits, error)
	// mapDMA gives the device memory at iova, all of it, for what access says. iova is a multiple of the page size and
	// lies in the limits.
	mapDMA(iova uint64, memory uapi.Memory, access dmaAccess) error
	// unmapDMA takes back what one mapDMA gave: the device's accesses fail from then on.
	unmapDMA(iova, size uint64) error
	// explainMap adds what an errno of mapDMA of size bytes means.
	explainMap(e *OpError, size uint64)
}

// dmaLimits is what an address space can map.
type dmaLimits struct {
	ranges    []IOVARange
	pageSizes uint64 // a bit for each size
}

// dmaAccess is what a device may do with memory.
type dmaAccess uint

const (
	deviceReads dmaAccess = 1 << iota
	deviceWrites
)

// container is the address space of a container with the type 1 IOMMU driver, of which this device's group is the only
// one. The second version of the driver unmaps whole mappings only.
type container struct {
	kernel uapi.Kernel
	fd     int
}

func (c container) limits() (dmaLimits, error) {
	arg := make([]byte, uapi.Size[uapi.IOMMUInfo]())
	for {
		uapi.Put(arg, uapi.IOMMUInfo{Argsz: uint32(len(arg))})
		if err := c.kernel.IOMMUGetInfo(c.fd, arg); err != nil {
			return dmaLimits{}, err
		}
		in := uapi.Take[uapi.IOMMUInfo](arg)
		if in.Flags&uapi.IOMMUInfoCaps == 0 || in.CapOffset != 0 || int(in.Argsz) <= len(arg) {
			return decodeIOMMU(arg)
		}
		if in.Argsz > maxInfoSize {
			return dmaLimits{}, fmt.Errorf("the kernel wants %d bytes for its answer; at most %d are given", in.Argsz, maxInfoSize)
		}
		arg = make([]byte, in.Argsz)
	}
}

// decodeIOMMU reads a struct vfio_iommu_type1_info and its capability chain. A kernel that does not say which addresses can
// be mapped, or which page sizes there are, is taken to have all of them, and the ordinary one.
func decodeIOMMU(arg []byte) (dmaLimits, error) {
	in := uapi.Take[uapi.IOMMUInfo](arg)
	l := dmaLimits{ranges: []IOVARange{{Last: math.MaxUint64}}}
	if in.Flags&uapi.IOMMUInfoPageSizes != 0 {
		l.pageSizes = in.IovaPgsizes
	}
	if in.Flags&uapi.IOMMUInfoCaps == 0 {
		return l, nil
	}
	err := walkCapabilities(arg, uapi.Size[uapi.IOMMUInfo](), in.CapOffset, func(id uint16, capability []byte) error {
		if id != uapi.IOMMUInfoCapIOVARangeID {
			return nil // how far dirty pages are tracked and how many mappings are left does not matter here
		}
		at, each := uapi.Size[uapi.IOMMUInfoCapIOVARange](), uapi.Size[uapi.IOVARange]()
		n := int(uapi.Take[uapi.IOMMUInfoCapIOVARange](capability).NrIovas)
		if len(capability) < at || n > (len(capability)-at)/each {
			return fmt.Errorf("the IOVA range capability claims %d ranges in %d bytes", n, len(capability))
		}
		l.ranges = make([]IOVARange, 0, n)
		for range n {
			r := uapi.Take[uapi.IOVARange](capability[at:])
			l.ranges = append(l.ranges, IOVARange{First: r.Start, Last: r.End})
			at += each
		}
		return nil
	})
	return l, err
}

func (c container) mapDMA(iova uint64, memory uapi.Memory, access dmaAccess) error {
	m := uapi.IOMMUDMAMap{
		Argsz: uint32(uapi.Size[uapi.IOMMUDMAMap]()),
		Vaddr: memory.Address(),
		Iova:  iova,
		Size:  uint64(memory.Len()),
	}
	if access&deviceReads != 0 {
		m.Flags |= uapi.DMAMapRead
	}
	if access&deviceWrites != 0 {
		m.Flags |= uapi.DMAMapWrite
	}
	return c.kernel.IOMMUMapDMA(c.fd, argument(m))
}

func (c container) unmapDMA(iova, size uint64) error {
	u := uapi.IOMMUDMAUnmap{Argsz: uint32(uapi.Size[uapi.IOMMUDMAUnmap]()), Iova: iova, Size: size}
	return c.kernel.IOMMUUnmapDMA(c.fd, argument(u))
}

func (c container) explainMap(e *OpError, size uint64) {
	if errors.Is(e.Err, unix.ENOSPC) {
		e.Cause = "the container has as many mappings as it takes"
		e.Remedy = "use fewer and larger buffers; or raise the limit for containers to come: " +
			"/sys/module/vfio_iommu_type1/parameters/dma_entry_limit"
		return
	}
	explainLocked(e, c.kernel, size, "this process")
}

// explainLocked is for the mapping of memory, which locks it. who is whose locked memory counts against the limit.
func explainLocked(e *OpError, kernel uapi.Kernel, size uint64, who string) {
	if !errors.Is(e.Err, unix.ENOMEM) {
		return
	}
	e.Cause = "the kernel has no memory left for the IOMMU's page tables, or the cgroup may not use more"
	e.Remedy = "see the end of dmesg, and memory.max and memory.events of the cgroup in /proc/self/cgroup"
	m, err := kernel.LockedMemory()
	if err != nil || m.Unlimited || m.Limit == math.MaxUint64 || size <= m.Limit-min(m.Limit, m.Locked) {
		return
	}
	e.Cause = fmt.Sprintf("a device's memory is locked, and %s may lock %d KiB (RLIMIT_MEMLOCK); %d KiB are locked, %d KiB more are needed",
		who, m.Limit>>10, m.Locked>>10, size>>10)
	e.Remedy = fmt.Sprintf("raise the limit: ulimit -l %d, LimitMEMLOCK= in a systemd unit, memlock in /etc/security/limits.conf; "+
		"or lift it: setcap cap_ipc_lock+ep PROGRAM", (m.Locked+size)>>10)
}
