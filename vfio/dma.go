package vfio

import (
	"errors"
	"fmt"
	"io"
	"math"
	"math/bits"
	"os"
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/irqbridge/irqbridge/vfio/internal/uapi"
)

// DMA is memory that the device reads and writes on its own, at I/O virtual addresses from IOVA. It belongs to this
// process and is not Go's: the garbage collector neither moves nor frees it, and it is locked in memory. [Device.AllocDMA]
// makes it; it lives until its Close or that of its device.
//
// The device and the program look at the same memory, at once. For what is read while the device may write it, such as the
// completion queue of a disk or the status of a network card's descriptor, or written while the device may read it, use the
// Load and Store methods: each is exactly one access of its width, in the machine's byte order, which on the
// architectures of this package is PCI's. A Store comes after everything that the program wrote before it, and a Load before
// everything that it reads later; so does a write to a BAR come after, and a read from it before. To Go, all other ways
// (View, ReadAt, WriteAt) are of memory that nobody else touches: use them for what the device is done with, which a Load
// or an interrupt has told, or has not been told of yet.
//
// All methods may be called concurrently with each other and with Close. After Close they return os.ErrClosed.
type DMA struct {
	device *Device
	iova   IOVARange
	memory uapi.Memory

	// state counts who uses memory at this moment; with closed added, it is negative. The last one out gives memory back, so
	// that Close waits for nobody: who uses memory may well be waiting for the device, which is being closed.
	state atomic.Int64
}

// closed is what Close adds to state.
const closed = math.MinInt64

// dmaBuffers is the part of a device that is about DMA.
type dmaBuffers struct {
	mu      sync.Mutex // taken after life; not held while the kernel maps
	iovas   iovaAllocator
	buffers []*DMA
}

// DMAOption is an optional setting of AllocDMA.
type DMAOption func(*dmaOptions)

type dmaOptions struct {
	access   dmaAccess
	fixed    bool
	iova     uint64
	last     uint64 // the last address that the device has
	bits     int
	align    uint64
	hugePage int
}

// AtIOVA has the buffer start at an address of the caller's choice, in place of a free one. It is a multiple of the page
// size, of huge pages when they are asked for.
func AtIOVA(iova uint64) DMAOption {
	return func(o *dmaOptions) { o.iova, o.fixed = iova, true }
}

// AddressBits is for a device that has only n bits, 1 to 64, for an address: the whole buffer lies below 1<<n.
func AddressBits(n int) DMAOption { return func(o *dmaOptions) { o.bits = n } }

// AlignIOVA has the buffer start at a multiple of n, a power of two. A page is what it is aligned to anyway.
func AlignIOVA(n uint64) DMAOption { return func(o *dmaOptions) { o.align = n } }

// HugePages makes the buffer of huge pages of that many bytes, 2 MiB and 1 GiB on amd64, from the host's pool of them.
func HugePages(size int) DMAOption { return func(o *dmaOptions) { o.hugePage = size } }

// ToDevice lets the device read the buffer and not write it.
func ToDevice() DMAOption { return func(o *dmaOptions) { o.access = deviceReads } }

// FromDevice lets the device write the buffer and not read it. Not every IOMMU can tell the two apart.
func FromDevice() DMAOption { return func(o *dmaOptions) { o.access = deviceWrites } }

// IOVARanges returns the I/O virtual addresses that memory can be mapped at, as the kernel tells them; after Close, as it told
// last. Those that the platform uses itself, such as the window that messages are written to, are not among them.
func (d *Device) IOVARanges() ([]IOVARange, error) {
	const op = "describe the IOMMU"
	d.life.RLock()
	defer d.life.RUnlock()
	d.dma.mu.Lock()
	defer d.dma.mu.Unlock()
	if !d.closed || d.dma.iovas.allowed == nil {
		if _, err := d.dmaLimits(op); err != nil {
			return nil, err
		}
	}
	return slices.Clone(d.dma.iovas.allowed), nil
}

// dmaLimits asks what can be mapped. That is asked anew each time: a device that has come to see the same address space
// (WithIOMMUFD) may have addresses of its own that cannot be. The caller holds life and dma.mu.
func (d *Device) dmaLimits(op string) (dmaLimits, error) {
	if d.closed {
		return dmaLimits{}, d.fault(op, os.ErrClosed)
	}
	l, err := d.space.limits()
	if err != nil {
		return dmaLimits{}, d.fault(op, err)
	}
	d.dma.iovas.allowed = l.ranges
	return l, nil
}

// AllocDMA allocates size bytes, rounded up to whole pages and zeroed, and maps them for the device, which may read and write
// them unless an option says otherwise. The address is the lowest free one; a page is left free between the device's buffers, so
// that the IOMMU stops it when it runs over the end of one. Where another device sees the same address space (WithIOMMUFD), it
// is a free one, not always the lowest, and may be next to the other's memory.
//
// The device reaches the memory while bus mastering is on, see SetBusMaster. A device without an address that fits, or a
// host that does not let the process lock so much memory (ENOMEM), is an *OpError with cause and remedy.
func (d *Device) AllocDMA(size int, opts ...DMAOption) (*DMA, error) {
	op := fmt.Sprintf("map %d bytes for DMA", size)
	o := dmaOptions{access: deviceReads | deviceWrites, bits: 64, align: 1}
	for _, set := range opts {
		set(&o)
	}
	d.life.RLock()
	defer d.life.RUnlock()
	if d.closed {
		return nil, d.fault(op, os.ErrClosed)
	}
	page, err := d.dmaPage(op, &o)
	if err != nil {
		return nil, err
	}
	switch {
	case size <= 0:
		return nil, d.invalid(op, "a buffer has one byte or more")
	case o.align == 0 || o.align&(o.align-1) != 0:
		return nil, d.invalid(op, fmt.Sprintf("the alignment %d is not a power of two", o.align))
	case o.bits < 1 || o.bits > 64:
		return nil, d.invalid(op, fmt.Sprintf("an address has 1 to 64 bits, not %d", o.bits))
	case size > math.MaxInt-int(page):
		return nil, d.invalid(op, "there is not that much memory")
	}
	o.align = max(o.align, page)
	o.last = math.MaxUint64 >> (64 - o.bits)
	length := (size + int(page) - 1) &^ (int(page) - 1)

	iova, err := d.reserveIOVA(op, 0, uint64(length), &o)
	if err != nil {
		return nil, err
	}
	memory, err := d.kernel.Allocate(length, o.hugePage)
	if err != nil {
		d.freeIOVA(iova)
		return nil, d.explainAllocate(op, &o, err)
	}
	iova, err = d.mapDMA(op, iova, memory, &o)
	if err != nil {
		return nil, errors.Join(err, memory.Unmap())
	}
	b := &DMA{device: d, iova: iova, memory: memory}
	d.dma.mu.Lock()
	defer d.dma.mu.Unlock()
	d.dma.buffers = append(d.dma.buffers, b)
	return b, nil
}

// mapDMA maps memory at iova, which is reserved. When another device has memory there, which only the kernel knows, it looks
// further on. The steps double, so that a lot of memory takes few calls; when they lead out of the addresses, it goes on from
// where it was with small ones.
func (d *Device) mapDMA(op string, iova IOVARange, memory uapi.Memory, o *dmaOptions) (IOVARange, error) {
	length := uint64(memory.Len())
	for step := length; ; step = 2 * min(step, math.MaxUint64/2) {
		err := d.space.mapDMA(iova.First, memory, o.access)
		if err == nil {
			return iova, nil
		}
		d.freeIOVA(iova)
		if o.fixed || !errors.Is(err, unix.EEXIST) {
			e := d.fault(op, err)
			d.space.explainMap(e, length)
			return iova, e
		}
		tried := iova.First
		beyond := func() uint64 { return tried + min(step, math.MaxUint64-tried) }
		iova, err = d.reserveIOVA(op, beyond(), length, o)
		if err != nil && step > length {
			step = length
			iova, err = d.reserveIOVA(op, beyond(), length, o)
		}
		if err != nil {
			return iova, err
		}
	}
}

// dmaPage is the size of the pages of a buffer: the process' or the IOMMU's smallest, whichever is larger, or huge ones.
func (d *Device) dmaPage(op string, o *dmaOptions) (uint64, error) {
	d.dma.mu.Lock()
	defer d.dma.mu.Unlock()
	l, err := d.dmaLimits(op)
	if err != nil {
		return 0, err
	}
	page := uint64(os.Getpagesize())
	if l.pageSizes != 0 {
		page = max(page, 1<<bits.TrailingZeros64(l.pageSizes))
	}
	if o.hugePage == 0 {
		return page, nil
	}
	if o.hugePage < int(page) || o.hugePage&(o.hugePage-1) != 0 {
		return 0, d.invalid(op, fmt.Sprintf("%d bytes are not the size of a huge page", o.hugePage))
	}
	return uint64(o.hugePage), nil
}

// reserveIOVA finds the addresses of a buffer, at from or later unless they are given.
func (d *Device) reserveIOVA(op string, from, length uint64, o *dmaOptions) (IOVARange, error) {
	d.dma.mu.Lock()
	defer d.dma.mu.Unlock()
	iovas := &d.dma.iovas
	if !o.fixed {
		r, ok := iovas.reserve(length, o.align, uint64(os.Getpagesize()), IOVARange{First: from, Last: o.last})
		if !ok {
			e := d.fault(op, unix.ENOSPC)
			e.Cause = fmt.Sprintf("no %d bytes are free at a multiple of 0x%x, up to 0x%x, of %v", length, o.align, o.last, iovas.allowed)
			if from > 0 {
				e.Cause += "; another device that sees the same address space has memory there"
			}
			e.Remedy = "close buffers, or use smaller ones"
			return r, e
		}
		return r, nil
	}
	r := IOVARange{First: o.iova, Last: o.iova + length - 1}
	switch {
	case o.iova%o.align != 0:
		return r, d.invalid(op, fmt.Sprintf("address 0x%x is not a multiple of 0x%x", o.iova, o.align))
	case r.Last < r.First || r.Last > o.last:
		return r, d.invalid(op, fmt.Sprintf("the buffer would end behind address 0x%x, the device's last", o.last))
	case !iovas.allows(r):
		e := d.invalid(op, fmt.Sprintf("%v is not within what can be mapped: %v", r, iovas.allowed))
		e.Remedy = "choose an address of these, or none"
		return r, e
	}
	if other, ok := iovas.take(r); !ok {
		e := d.fault(op, unix.EEXIST)
		e.Cause, e.Remedy = fmt.Sprintf("%v overlaps the buffer at %v", r, other), "choose another address, or none"
		return r, e
	}
	return r, nil
}

func (d *Device) freeIOVA(r IOVARange) {
	d.dma.mu.Lock()
	defer d.dma.mu.Unlock()
	d.dma.iovas.free(r)
}

// explainAllocate is for mmap(2) of the memory.
func (d *Device) explainAllocate(op string, o *dmaOptions, err error) error {
	e := d.fault(op, err)
	pool := fmt.Sprintf("/sys/kernel/mm/hugepages/hugepages-%dkB/nr_hugepages", o.hugePage>>10)
	switch {
	case o.hugePage == 0 && errors.Is(err, unix.ENOMEM):
		e.Cause = "the process cannot have so much memory"
		e.Remedy = "see ulimit -v, /proc/sys/vm/overcommit_memory and memory.max of the cgroup in /proc/self/cgroup"
	case errors.Is(err, unix.ENOMEM):
		e.Cause = "the host's pool has not enough free huge pages of this size"
		e.Remedy = "add some: echo N > " + pool
	case o.hugePage != 0 && errors.Is(err, unix.EINVAL):
		e.Cause = "the host has no huge pages of this size"
		e.Remedy = "see those that it has: ls /sys/kernel/mm/hugepages"
	}
	return e
}

// IOVA is the address at which the device sees the first byte.
func (b *DMA) IOVA() uint64 { return b.iova.First }

// Size is the size in bytes, whole pages.
func (b *DMA) Size() int { return int(b.iova.Last - b.iova.First + 1) }

// Close takes the memory from the device and gives it back. What the device still tries to read or write of it is stopped
// by the IOMMU; so tell the device to stop first. Methods under way end undisturbed. A second call does nothing.
func (b *DMA) Close() error {
	b.device.life.RLock()
	defer b.device.life.RUnlock()
	return b.close()
}

// close is Close for who holds life.
func (b *DMA) close() error {
	d := b.device
	d.dma.mu.Lock()
	i := slices.Index(d.dma.buffers, b)
	if i >= 0 {
		d.dma.buffers = slices.Delete(d.dma.buffers, i, i+1)
	}
	d.dma.mu.Unlock()
	if i < 0 {
		return nil
	}
	op := fmt.Sprintf("unmap DMA buffer %v", b.iova)
	var errs []error
	if err := d.space.unmapDMA(b.iova.First, uint64(b.Size())); err != nil {
		errs = append(errs, d.fault(op, err)) // the addresses stay reserved: the device may still reach what was there
	} else {
		d.freeIOVA(b.iova)
	}
	if b.state.Add(closed) == closed {
		if err := b.memory.Unmap(); err != nil {
			errs = append(errs, d.fault(op, err))
		}
	}
	return errors.Join(errs...)
}

// enter keeps the memory in place until leave. It tells whether there still is any.
func (b *DMA) enter() bool {
	for {
		n := b.state.Load()
		if n < 0 {
			return false
		}
		if b.state.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

func (b *DMA) leave() {
	if b.state.Add(-1) == closed {
		_ = b.memory.Unmap() // of a mapping of our own: there is nothing that it could fail from, nor anybody to tell
	}
}

// fault is an OpError about an access, which is one of memory: the device has no part in it, and is not looked at.
func (b *DMA) fault(verb string, off, width int, err error) error {
	e := b.device.opError(fmt.Sprintf("%s %d bytes at 0x%x of DMA buffer %v", verb, width, off, b.iova), err)
	switch {
	case errors.Is(err, unix.EFAULT):
		e.Cause, e.Remedy = "the host's memory has failed", "see the end of dmesg; close the buffer"
	case !errors.Is(err, unix.EINVAL):
	case off < 0 || off > b.Size()-width:
		e.Cause = fmt.Sprintf("the buffer has 0x%x bytes", b.Size())
	default:
		e.Cause = fmt.Sprintf("the offset is not a multiple of %d", width)
	}
	return e
}

// View calls f with the memory. The slice is f's until it returns, and no longer: it must not be kept, because the memory is
// given back when the buffer is closed, and touching it then ends the program. f may do anything, also use or close the
// buffer or the device.
func (b *DMA) View(f func(p []byte)) error {
	if !b.enter() {
		return b.fault("view", 0, b.Size(), os.ErrClosed)
	}
	defer b.leave()
	f(b.memory.Bytes())
	return nil
}

// ReadAt copies from the memory to p, as io.ReaderAt: io.EOF when the memory ends before p.
func (b *DMA) ReadAt(p []byte, off int64) (int, error) {
	n, err := b.copy("read", p, off, func(memory []byte) int { return copy(p, memory) })
	if err == nil && n < len(p) {
		err = io.EOF
	}
	return n, err
}

// WriteAt copies from p to the memory, as io.WriterAt. What does not fit is an error, and nothing is written.
func (b *DMA) WriteAt(p []byte, off int64) (int, error) {
	if off >= 0 && int64(len(p)) > int64(b.Size())-off {
		return 0, b.fault("write", int(off), len(p), unix.EINVAL)
	}
	return b.copy("write", p, off, func(memory []byte) int { return copy(memory, p) })
}

// copy moves bytes from or to the memory from off.
func (b *DMA) copy(verb string, p []byte, off int64, move func(memory []byte) int) (int, error) {
	if off < 0 {
		return 0, b.fault(verb, int(off), len(p), unix.EINVAL)
	}
	if !b.enter() {
		return 0, b.fault(verb, int(off), len(p), os.ErrClosed)
	}
	defer b.leave()
	memory := b.memory.Bytes()
	return move(memory[min(off, int64(len(memory))):]), nil
}

// loadDMA makes one load.
func loadDMA[T uint8 | uint16 | uint32 | uint64](b *DMA, off, width int, load func(uapi.Memory, int) (T, error)) (T, error) {
	if !b.enter() {
		return 0, b.fault("load", off, width, os.ErrClosed)
	}
	defer b.leave()
	v, err := load(b.memory, off)
	if err != nil {
		return 0, b.fault("load", off, width, err)
	}
	return v, nil
}

// storeDMA makes one store.
func storeDMA[T uint8 | uint16 | uint32 | uint64](b *DMA, off, width int, v T, store func(uapi.Memory, int, T) error) error {
	if !b.enter() {
		return b.fault("store", off, width, os.ErrClosed)
	}
	defer b.leave()
	if err := store(b.memory, off, v); err != nil {
		return b.fault("store", off, width, err)
	}
	return nil
}

// Load8 reads the byte at off.
func (b *DMA) Load8(off int) (uint8, error) { return loadDMA(b, off, 1, uapi.Memory.Load8) }

// Load16 reads the two bytes at off, a multiple of 2.
func (b *DMA) Load16(off int) (uint16, error) { return loadDMA(b, off, 2, uapi.Memory.Load16) }

// Load32 reads the four bytes at off, a multiple of 4.
func (b *DMA) Load32(off int) (uint32, error) { return loadDMA(b, off, 4, uapi.Memory.Load32) }

// Load64 reads the eight bytes at off, a multiple of 8.
func (b *DMA) Load64(off int) (uint64, error) { return loadDMA(b, off, 8, uapi.Memory.Load64) }

// Store8 writes the byte at off.
func (b *DMA) Store8(off int, v uint8) error { return storeDMA(b, off, 1, v, uapi.Memory.Store8) }

// Store16 writes the two bytes at off, a multiple of 2.
func (b *DMA) Store16(off int, v uint16) error { return storeDMA(b, off, 2, v, uapi.Memory.Store16) }

// Store32 writes the four bytes at off, a multiple of 4.
func (b *DMA) Store32(off int, v uint32) error { return storeDMA(b, off, 4, v, uapi.Memory.Store32) }

// Store64 writes the eight bytes at off, a multiple of 8.
func (b *DMA) Store64(off int, v uint64) error { return storeDMA(b, off, 8, v, uapi.Memory.Store64) }
