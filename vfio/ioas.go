package vfio

import (
	"errors"
	"fmt"
	"math"

	"golang.org/x/sys/unix"

	"github.com/irqbridge/irqbridge/vfio/internal/uapi"
)

// ioas is an address space of an iommufd (IOAS). Other devices may see it too.
type ioas struct {
	kernel uapi.Kernel
	fd     int
	id     uint32
}

func (s ioas) limits() (dmaLimits, error) {
	arg := make([]byte, uapi.Size[uapi.IOMMUIOASIOVARanges]())
	var ranges []uapi.IOMMUIOVARange
	for {
		uapi.Put(arg, uapi.IOMMUIOASIOVARanges{Size: uint32(len(arg)), IoasID: s.id})
		err := s.kernel.IOASIOVARanges(s.fd, arg, ranges)
		n := int(uapi.Take[uapi.IOMMUIOASIOVARanges](arg).NumIovas)
		if errors.Is(err, unix.EMSGSIZE) && n > len(ranges) && n <= maxInfoSize {
			ranges = make([]uapi.IOMMUIOVARange, n)
			continue
		}
		if err != nil {
			return dmaLimits{}, err
		}
		l := dmaLimits{pageSizes: uapi.Take[uapi.IOMMUIOASIOVARanges](arg).OutIovaAlignment}
		for _, r := range ranges[:min(n, len(ranges))] {
			l.ranges = append(l.ranges, IOVARange{First: r.Start, Last: r.Last})
		}
		return l, nil
	}
}

func (s ioas) mapDMA(iova uint64, memory uapi.Memory, access dmaAccess) error {
	m := uapi.IOMMUIOASMap{
		Size:   uint32(uapi.Size[uapi.IOMMUIOASMap]()),
		Flags:  uapi.IOASMapFixedIOVA,
		IoasID: s.id,
		UserVa: memory.Address(),
		Length: uint64(memory.Len()),
		Iova:   iova,
	}
	if access&deviceReads != 0 {
		m.Flags |= uapi.IOASMapReadable
	}
	if access&deviceWrites != 0 {
		m.Flags |= uapi.IOASMapWriteable
	}
	return s.kernel.IOASMap(s.fd, argument(m))
}

func (s ioas) unmapDMA(iova, size uint64) error {
	u := uapi.IOMMUIOASUnmap{Size: uint32(uapi.Size[uapi.IOMMUIOASUnmap]()), IoasID: s.id, Iova: iova, Length: size}
	return s.kernel.IOASUnmap(s.fd, argument(u))
}

// explainMap differs from a container's in that iommufd counts the locked memory of a user, which nothing shows, and not
// that of a process.
func (s ioas) explainMap(e *OpError, size uint64) {
	if errors.Is(e.Err, unix.EEXIST) {
		e.Cause = "another device that sees the same address space has memory mapped there"
		e.Remedy = "choose another address, or none"
		return
	}
	m, err := s.kernel.LockedMemory()
	if !errors.Is(e.Err, unix.ENOMEM) || err != nil || m.Unlimited || m.Limit == math.MaxUint64 {
		explainLocked(e, s.kernel, size, "this user")
		return
	}
	e.Cause = fmt.Sprintf("a device's memory is locked, and all processes of this user together may lock %d KiB of it through iommufd "+
		"(RLIMIT_MEMLOCK); %d KiB more are needed", m.Limit>>10, size>>10)
	e.Remedy = fmt.Sprintf("raise the limit: ulimit -l %d or more, LimitMEMLOCK= in a systemd unit, memlock in /etc/security/limits.conf; "+
		"or lift it: setcap cap_ipc_lock+ep PROGRAM", (m.Locked+size)>>10)
}

// noSpace is the address space of a device for which no memory can be mapped.
type noSpace struct{ why error }

func (s noSpace) limits() (dmaLimits, error)                  { return dmaLimits{}, s.why }
func (s noSpace) mapDMA(uint64, uapi.Memory, dmaAccess) error { return s.why }
func (s noSpace) unmapDMA(uint64, uint64) error               { return s.why }
func (s noSpace) explainMap(*OpError, uint64)                 {}
