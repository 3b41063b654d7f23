package vfio

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"

	"golang.org/x/sys/unix"

	"github.com/irqbridge/irqbridge/pci"
	"github.com/irqbridge/irqbridge/vfio/internal/uapi"
)

// BAR is one base address register's region: the device's own registers or memory.
//
// Each method makes one access of the width in its name; values are in the machine's byte order, which on the
// architectures of this package is PCI's. Offsets are bytes from the start of the BAR and multiples of the width. Memory
// BARs are mapped into the process where the kernel permits it, and such an access is a single load or store. The rest
// (I/O BARs, BARs smaller than a page, parts that the kernel keeps, such as the page of the MSI-X table on old kernels)
// is read and written through system calls of just that width. That is one access, too, but for 64 bits: Linux 6.1
// splits it into two of 32 bits, 6.12 does not. Where that matters, make two 32-bit accesses in the order that the device
// documents.
//
// A BAR is safe for concurrent use. It is closed with its device; from then on its methods return os.ErrClosed.
type BAR struct {
	device  *Device
	region  RegionInfo
	windows []window // guarded by device.life
}

// window is a mapped part of a BAR.
type window struct {
	Area
	mapping uapi.Mapping
}

// BAR returns BAR i, 0 to 5, and maps it at the first call. ErrNotFound when the device has none of that number; the
// upper half of a 64-bit BAR has none.
func (d *Device) BAR(i int) (*BAR, error) {
	op := fmt.Sprintf("map BAR %d", i)
	if i < 0 || i > uapi.PCIBAR5RegionIndex || d.regions[i].Size == 0 {
		e := d.fault(op, unix.EINVAL)
		e.Kind = ErrNotFound
		e.Cause, e.Remedy = "the device has no such BAR", "see those that it has: irqbridge show "+d.address.String()
		return nil, e
	}
	d.life.RLock()
	defer d.life.RUnlock()
	if d.closed {
		return nil, d.fault(op, os.ErrClosed)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.bars[i] != nil {
		return d.bars[i], nil
	}
	b := &BAR{device: d, region: d.regions[i]}
	areas, err := d.mappable(b.region)
	if err != nil {
		return nil, err
	}
	for _, a := range areas {
		m, err := d.kernel.Mmap(d.fd, int64(b.region.Offset+a.Offset), int(a.Size))
		if err != nil {
			return nil, errors.Join(d.fault(fmt.Sprintf("%s, 0x%x bytes at 0x%x", op, a.Size, a.Offset), err), b.unmap())
		}
		b.windows = append(b.windows, window{Area: a, mapping: m})
	}
	d.bars[i] = b
	return b, nil
}

// mappable returns the parts of a BAR to map, in whole pages. The caller holds life.
func (d *Device) mappable(r RegionInfo) ([]Area, error) {
	page := uint64(os.Getpagesize())
	if !r.Mmap || r.Size < page || r.Offset > math.MaxInt64 || r.Size > math.MaxInt64-r.Offset {
		return nil, nil
	}
	areas := r.Sparse
	if areas == nil {
		areas = []Area{{Size: r.Size}}
		if !r.MSIXMappable {
			table, err := d.tableArea(r)
			if err != nil {
				return nil, err
			}
			if table.Size > 0 {
				end := min(r.Size, (table.Offset+table.Size+page-1)/page*page)
				areas = []Area{{Size: table.Offset / page * page}, {Offset: end, Size: r.Size - end}}
			}
		}
	}
	var whole []Area
	for _, a := range areas {
		start := (a.Offset + page - 1) / page * page
		end := (a.Offset + a.Size) / page * page
		if start < end && end-start <= math.MaxInt {
			whole = append(whole, Area{Offset: start, Size: end - start})
		}
	}
	return whole, nil
}

// tableArea returns where the MSI-X table lies in a BAR, or an area of size 0. A kernel that says neither
// SPARSE_MMAP nor MSIX_MAPPABLE about a BAR with the table refuses to map the pages that it is in.
func (d *Device) tableArea(r RegionInfo) (Area, error) {
	if d.irqs[MSIX].Count == 0 {
		return Area{}, nil
	}
	config := make([]byte, d.regions[uapi.PCIConfigRegionIndex].Size)
	if err := d.config("find the MSI-X table", config, 0, d.kernel.Pread); err != nil {
		return Area{}, err
	}
	f, err := pci.Decode(config)
	if err != nil {
		return Area{}, d.fault("find the MSI-X table", err)
	}
	const entry = 16 // PCI_MSIX_ENTRY_SIZE
	if f.MSIX == nil || f.MSIX.Table.BAR != r.Index || uint64(f.MSIX.Table.Offset) >= r.Size {
		return Area{}, nil
	}
	return Area{Offset: uint64(f.MSIX.Table.Offset), Size: uint64(f.MSIX.Messages) * entry}, nil
}

// unmap ends the mappings. The caller holds life for writing, or is alone with b.
func (b *BAR) unmap() error {
	var errs []error
	for _, w := range b.windows {
		if err := w.mapping.Unmap(); err != nil {
			errs = append(errs, b.device.fault(fmt.Sprintf("unmap BAR %d", b.region.Index), err))
		}
	}
	b.windows = nil
	return errors.Join(errs...)
}

// Size is the size in bytes.
func (b *BAR) Size() uint64 { return b.region.Size }

// Mapped tells whether any part is mapped into the process; the rest goes through system calls.
func (b *BAR) Mapped() bool {
	b.device.life.RLock()
	defer b.device.life.RUnlock()
	return len(b.windows) > 0
}

// find returns the mapping that holds width bytes at off, and the offset in it; nil when they are not mapped.
func (b *BAR) find(off uint64, width int) (uapi.Mapping, int) {
	for i := range b.windows {
		w := &b.windows[i]
		if off >= w.Offset && off-w.Offset < w.Size && uint64(width) <= w.Size-(off-w.Offset) {
			return w.mapping, int(off - w.Offset)
		}
	}
	return nil, 0
}

// check refuses what is outside the BAR, not aligned, or after Close. The caller holds life.
func (b *BAR) check(verb string, off uint64, width int) error {
	if b.device.closed {
		return b.fault(verb, off, width, os.ErrClosed)
	}
	if size := b.region.Size; off >= size || uint64(width) > size-off {
		e := b.fault(verb, off, width, unix.EINVAL)
		e.Cause = fmt.Sprintf("the BAR has 0x%x bytes", size)
		return e
	}
	if off%uint64(width) != 0 {
		e := b.fault(verb, off, width, unix.EINVAL)
		e.Cause = fmt.Sprintf("the offset is not a multiple of %d", width)
		return e
	}
	return nil
}

// fault is an OpError about an access, with the reason where the errno tells it.
func (b *BAR) fault(verb string, off uint64, width int, err error) *OpError {
	e := b.device.fault(fmt.Sprintf("%s %d bytes at 0x%x of BAR %d", verb, width, off, b.region.Index), err)
	if e.Kind == nil && (errors.Is(err, unix.EFAULT) || errors.Is(err, unix.EIO)) {
		e.Cause = "the device does not answer: memory decoding is off, or it is in reset, in low power or powered down"
		e.Remedy = "check COMMAND bit 1 in config space and the device's power_state in sysfs; see Device.ExitLowPower"
	}
	return e
}

// read makes one read of width bytes: through the mapping where there is one, else through the kernel.
func read[T uint8 | uint16 | uint32 | uint64](b *BAR, off uint64, width int, load func(uapi.Mapping, int) (T, error)) (T, error) {
	b.device.life.RLock()
	defer b.device.life.RUnlock()
	if err := b.check("read", off, width); err != nil {
		return 0, err
	}
	if m, at := b.find(off, width); m != nil {
		v, err := load(m, at)
		if err != nil {
			return 0, b.fault("read", off, width, err)
		}
		return v, nil
	}
	var p [8]byte
	n, err := b.device.kernel.Pread(b.device.fd, p[:width], int64(b.region.Offset+off))
	if err == nil && n < width {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return 0, b.fault("read", off, width, err)
	}
	return T(binary.LittleEndian.Uint64(p[:])), nil
}

// write makes one write of width bytes: through the mapping where there is one, else through the kernel.
func write[T uint8 | uint16 | uint32 | uint64](b *BAR, off uint64, width int, v T, store func(uapi.Mapping, int, T) error) error {
	b.device.life.RLock()
	defer b.device.life.RUnlock()
	if err := b.check("write", off, width); err != nil {
		return err
	}
	if m, at := b.find(off, width); m != nil {
		if err := store(m, at, v); err != nil {
			return b.fault("write", off, width, err)
		}
		return nil
	}
	p := binary.LittleEndian.AppendUint64(nil, uint64(v))
	n, err := b.device.kernel.Pwrite(b.device.fd, p[:width], int64(b.region.Offset+off))
	if err == nil && n < width {
		err = io.ErrShortWrite
	}
	if err != nil {
		return b.fault("write", off, width, err)
	}
	return nil
}

// Read8 reads the byte at off.
func (b *BAR) Read8(off uint64) (uint8, error) { return read(b, off, 1, uapi.Mapping.Load8) }

// Read16 reads the two bytes at off.
func (b *BAR) Read16(off uint64) (uint16, error) { return read(b, off, 2, uapi.Mapping.Load16) }

// Read32 reads the four bytes at off.
func (b *BAR) Read32(off uint64) (uint32, error) { return read(b, off, 4, uapi.Mapping.Load32) }

// Read64 reads the eight bytes at off. See [BAR] for what happens where the BAR is not mapped.
func (b *BAR) Read64(off uint64) (uint64, error) { return read(b, off, 8, uapi.Mapping.Load64) }

// Write8 writes the byte at off.
func (b *BAR) Write8(off uint64, v uint8) error { return write(b, off, 1, v, uapi.Mapping.Store8) }

// Write16 writes the two bytes at off.
func (b *BAR) Write16(off uint64, v uint16) error { return write(b, off, 2, v, uapi.Mapping.Store16) }

// Write32 writes the four bytes at off.
func (b *BAR) Write32(off uint64, v uint32) error { return write(b, off, 4, v, uapi.Mapping.Store32) }

// Write64 writes the eight bytes at off. See [BAR] for what happens where the BAR is not mapped.
func (b *BAR) Write64(off uint64, v uint64) error { return write(b, off, 8, v, uapi.Mapping.Store64) }
