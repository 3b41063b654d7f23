package vfiotest

import (
	"encoding/binary"
	"errors"
	"os"

	"golang.org/x/sys/unix"

	"github.com/irqbridge/irqbridge/vfio/internal/uapi"
)

// regionShift: region i starts at i<<regionShift of the device's file.
const regionShift = 40

// regionSize is the size of a region in bytes.
func (f *function) regionSize(index uint32) uint64 {
	switch {
	case index <= uapi.PCIBAR5RegionIndex:
		return f.bars[index].size
	case index == uapi.PCIConfigRegionIndex:
		return uint64(len(f.config))
	}
	return 0 // none of these devices has a ROM
}

// mappable tells whether a BAR can be mapped: memory, and pages that it has for itself. A smaller one gets a page for itself,
// too, when it starts on one.
func (f *function) mappable(bar int) bool {
	page := uint64(os.Getpagesize())
	b := f.bars[bar]
	if b.io || b.size == 0 {
		return false
	}
	start := uint64(binary.LittleEndian.Uint32(f.config[offBAR0+4*bar:]) &^ 0xf)
	return start%page == 0 && (b.size%page == 0 || b.size < page)
}

// Pread reads a region of a device.
func (k *Kernel) Pread(fd int, p []byte, offset int64) (int, error) {
	return k.access("Pread", fd, p, offset, false)
}

// Pwrite writes a region of a device.
func (k *Kernel) Pwrite(fd int, p []byte, offset int64) (int, error) {
	return k.access("Pwrite", fd, p, offset, true)
}

func (k *Kernel) access(call string, fd int, p []byte, offset int64, write bool) (int, error) {
	err := k.enter(call)
	defer k.mu.Unlock()
	if err != nil {
		return 0, err
	}
	f, err := lookup[*deviceFile](k, fd)
	switch {
	case errors.Is(err, unix.EBADF):
		return 0, err
	case err != nil: // other files of VFIO have no data
		return 0, unix.EINVAL
	case offset < 0 || offset>>regionShift >= uapi.PCINumRegions:
		return 0, unix.EINVAL
	case len(p) == 0:
		return 0, nil
	}
	index := uint32(offset >> regionShift)
	at := uint64(offset) & (1<<regionShift - 1)
	d := f.device
	d.used()
	switch {
	case index == uapi.PCIConfigRegionIndex:
		return d.accessConfig(p, at, write)
	case index <= uapi.PCIBAR5RegionIndex:
		return d.accessBAR(int(index), p, at, write)
	}
	return 0, unix.EINVAL
}

// accessConfig goes through VFIO's view of configuration space, in aligned pieces of 4, 2 and 1 bytes.
func (d *device) accessConfig(p []byte, at uint64, write bool) (int, error) {
	size := uint64(len(d.function.config))
	if at >= size || uint64(len(p)) > size-at {
		return 0, unix.EFAULT
	}
	for done := 0; done < len(p); {
		off := int(at) + done
		n := piece(off, len(p)-done, 4)
		if write {
			d.writeConfig(p[done:done+n], off)
		} else {
			d.readConfig(p[done:done+n], off)
		}
		done += n
	}
	return len(p), nil
}

// piece is the size of the largest aligned access at off of at most left and limit bytes.
func piece(off, left, limit int) int {
	n := limit
	for n > left || off%n != 0 {
		n /= 2
	}
	return n
}

// accessBAR reads and writes a BAR in aligned pieces, of up to 8 bytes where the kernel has accesses of that width. It
// stops at the end of the BAR. The MSI-X table reads all ones, and writes to it are dropped.
func (d *device) accessBAR(bar int, p []byte, at uint64, write bool) (int, error) {
	f := d.function
	size := f.bars[bar].size
	if at >= size {
		return 0, unix.EINVAL
	}
	p = p[:min(uint64(len(p)), size-at)]
	limit := 4
	if f.kernel.version == Newest && !f.bars[bar].io {
		limit = 8
	}
	for done := 0; done < len(p); {
		off := at + uint64(done)
		n := piece(int(off), len(p)-done, limit)
		chunk := p[done : done+n]
		if n, ok := f.tableOffset(bar, off); ok && n < uint64(len(f.table))*msixEntrySize {
			if !write {
				fillOnes(chunk)
			}
		} else if !f.bars[bar].io && !f.decodes(bar) {
			return 0, unix.EIO
		} else if write {
			f.store(bar, off, len(chunk), littleEndian(chunk))
		} else {
			putLittleEndian(chunk, f.load(bar, off, len(chunk)))
		}
		done += len(chunk)
	}
	return len(p), nil
}

func fillOnes(p []byte) {
	for i := range p {
		p[i] = 0xff
	}
}

// littleEndian is the number that 1 to 8 bytes are.
func littleEndian(p []byte) uint64 {
	var b [8]byte
	copy(b[:], p)
	return binary.LittleEndian.Uint64(b[:])
}

func putLittleEndian(p []byte, v uint64) {
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], v)
	copy(p, b[:])
}

// Mmap maps a part of a BAR.
func (k *Kernel) Mmap(fd int, offset int64, length int) (uapi.Mapping, error) {
	err := k.enter("Mmap")
	defer k.mu.Unlock()
	if err != nil {
		return nil, err
	}
	page := int64(os.Getpagesize())
	f, err := lookup[*deviceFile](k, fd)
	if err != nil && !errors.Is(err, unix.EBADF) {
		switch k.files[fd].(type) {
		case *cdevFile: // which is not bound
		case *iommufdFile:
			err = unix.ENXIO
		default: // cannot be mapped
			err = unix.ENODEV
		}
	}
	switch {
	case err != nil:
		return nil, err
	case offset < 0 || offset%page != 0 || length <= 0 || offset>>regionShift > uapi.PCIBAR5RegionIndex:
		return nil, unix.EINVAL
	}
	bar := int(offset >> regionShift)
	at := uint64(offset) & (1<<regionShift - 1)
	fn := f.device.function
	whole := (fn.bars[bar].size + uint64(page) - 1) &^ (uint64(page) - 1)
	if !fn.mappable(bar) || at >= whole || uint64(length) > whole-at {
		return nil, unix.EINVAL
	}
	f.users++
	return &mapping{kernel: k, file: f, bar: bar, at: at, size: length}, nil
}

// mapping is a part of a BAR in the process. Like the kernel's, it outlives the descriptor that it was made from and
// keeps the device open.
type mapping struct {
	kernel *Kernel
	file   *deviceFile
	bar    int
	at     uint64
	size   int // 0 once unmapped
}

// Len is the size in bytes.
func (m *mapping) Len() int {
	m.kernel.mu.Lock()
	defer m.kernel.mu.Unlock()
	return m.size
}

// check tells why there is no access at off. The caller holds the lock.
func (m *mapping) check(off, width int) error {
	switch {
	case m.size == 0:
		return os.ErrClosed
	case off < 0 || off > m.size-width || off%width != 0:
		return unix.EINVAL
	case m.kernel.down || m.file.device.low.on || !m.file.device.function.decodes(m.bar):
		return unix.EFAULT
	}
	return nil
}

func (m *mapping) load(off, width int) (uint64, error) {
	m.kernel.mu.Lock()
	defer m.kernel.mu.Unlock()
	if err := m.check(off, width); err != nil {
		return 0, err
	}
	return m.file.device.function.load(m.bar, m.at+uint64(off), width), nil
}

func (m *mapping) store(off, width int, v uint64) error {
	m.kernel.mu.Lock()
	defer m.kernel.mu.Unlock()
	if err := m.check(off, width); err != nil {
		return err
	}
	m.file.device.function.store(m.bar, m.at+uint64(off), width, v)
	return nil
}

// Load8 reads one byte.
func (m *mapping) Load8(off int) (uint8, error) {
	v, err := m.load(off, 1)
	return uint8(v), err
}

// Load16 reads two bytes.
func (m *mapping) Load16(off int) (uint16, error) {
	v, err := m.load(off, 2)
	return uint16(v), err
}

// Load32 reads four bytes.
func (m *mapping) Load32(off int) (uint32, error) {
	v, err := m.load(off, 4)
	return uint32(v), err
}

// Load64 reads eight bytes.
func (m *mapping) Load64(off int) (uint64, error) { return m.load(off, 8) }

// Store8 writes one byte.
func (m *mapping) Store8(off int, v uint8) error { return m.store(off, 1, uint64(v)) }

// Store16 writes two bytes.
func (m *mapping) Store16(off int, v uint16) error { return m.store(off, 2, uint64(v)) }

// Store32 writes four bytes.
func (m *mapping) Store32(off int, v uint32) error { return m.store(off, 4, uint64(v)) }

// Store64 writes eight bytes.
func (m *mapping) Store64(off int, v uint64) error { return m.store(off, 8, v) }

// Unmap ends the mapping.
func (m *mapping) Unmap() error {
	m.kernel.mu.Lock()
	defer m.kernel.mu.Unlock()
	if m.size != 0 {
		m.size = 0
		m.file.release()
	}
	return nil
}
