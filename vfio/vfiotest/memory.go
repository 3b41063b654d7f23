package vfiotest

import (
	"math"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/irqbridge/irqbridge/vfio/internal/uapi"
)

// buffer is memory of the process. The fake knows no other for a device to be given.
type buffer struct {
	uapi.Memory
	kernel    *Kernel
	hugePages int // of the pool of 2 MiB
}

// hugePage is the size of the only huge pages that the machine can give: there are 1 GiB pages, too, but not enough memory.
const hugePage = 2 << 20

// maxHugePages is how many the machine's memory has room for.
const maxHugePages = 256

// Allocate takes memory from the process, which is in ordinary pages whatever the machine's would be in.
func (k *Kernel) Allocate(length, huge int) (uapi.Memory, error) {
	err := k.enter("Allocate")
	defer k.mu.Unlock()
	if err != nil {
		return nil, err
	}
	pages := 0
	switch huge {
	case 0:
	case hugePage:
		pages = (length + hugePage - 1) / hugePage
		length = pages * hugePage
	case 1 << 30:
		return nil, unix.ENOMEM
	default:
		return nil, unix.EINVAL
	}
	if pages > k.freeHugePages() {
		return nil, unix.ENOMEM
	}
	m, err := uapi.Real().Allocate(length, 0)
	if err != nil {
		return nil, err
	}
	b := &buffer{Memory: m, kernel: k, hugePages: pages}
	k.buffers = append(k.buffers, b)
	return b, nil
}

// freeHugePages is how many of the pool are in no buffer.
func (k *Kernel) freeHugePages() int {
	free := k.hugePages
	for _, b := range k.buffers {
		free -= b.hugePages
	}
	return free
}

// hugePagesDir is /sys/kernel/mm/hugepages.
func (k *Kernel) hugePagesDir() map[string]node {
	resize := func(s string) error {
		n, err := strconv.Atoi(strings.TrimSpace(s))
		if err != nil || n < 0 {
			return unix.EINVAL
		}
		k.hugePages = min(max(n, k.hugePages-k.freeHugePages()), maxHugePages)
		return nil
	}
	number := func(n int) func() string { return func() string { return strconv.Itoa(n) + "\n" } }
	return map[string]node{
		"hugepages-2048kB": directory(map[string]node{
			"nr_hugepages":   {read: number(k.hugePages), write: resize},
			"free_hugepages": {read: number(k.freeHugePages())},
		}),
		"hugepages-1048576kB": directory(map[string]node{
			"nr_hugepages":   {read: number(0), write: func(string) error { return nil }},
			"free_hugepages": {read: number(0)},
		}),
	}
}

// bufferAt returns the memory that an area lies in, and where; nil when there is none.
func (k *Kernel) bufferAt(vaddr, size uint64) (*buffer, uint64) {
	for _, b := range k.buffers {
		if length := uint64(b.Len()); vaddr >= b.Address() && size <= length && vaddr-b.Address() <= length-size {
			return b, vaddr - b.Address()
		}
	}
	return nil, 0
}

// Unmap gives the memory back. Where it is mapped for a device, the device reads zeros from then on, and writes for nobody.
func (b *buffer) Unmap() error {
	b.kernel.mu.Lock()
	defer b.kernel.mu.Unlock()
	b.kernel.buffers = slices.DeleteFunc(b.kernel.buffers, func(other *buffer) bool { return other == b })
	return b.Memory.Unmap()
}

// LockedMemory is what is mapped for devices. Whether the limit counts is up to [MemlockLimit].
func (k *Kernel) LockedMemory() (uapi.LockedMemory, error) {
	err := k.enter("LockedMemory")
	defer k.mu.Unlock()
	if err != nil {
		return uapi.LockedMemory{}, err
	}
	if k.memlock == 0 {
		return uapi.LockedMemory{Locked: k.locked, Limit: math.MaxUint64, Unlimited: true}, nil
	}
	return uapi.LockedMemory{Locked: k.locked, Limit: k.memlock}, nil
}
