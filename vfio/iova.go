package vfio

import (
	"cmp"
	"fmt"
	"math"
	"slices"
)

// IOVARange is a range of I/O virtual addresses, the addresses that a device uses for memory. Last is part of it, so that
// the range of all addresses can be said.
type IOVARange struct {
	First, Last uint64
}

// String gives "0x100000-0x1fffff".
func (r IOVARange) String() string { return fmt.Sprintf("0x%x-0x%x", r.First, r.Last) }

func (r IOVARange) contains(s IOVARange) bool { return r.First <= s.First && s.Last <= r.Last }

func (r IOVARange) overlaps(s IOVARange) bool { return r.First <= s.Last && s.First <= r.Last }

// widened is r with n more addresses at either end, as far as there are any.
func (r IOVARange) widened(n uint64) IOVARange {
	return IOVARange{First: r.First - min(n, r.First), Last: r.Last + min(n, math.MaxUint64-r.Last)}
}

// iovaAllocator hands out parts of the ranges that the kernel allows.
type iovaAllocator struct {
	allowed []IOVARange
	used    []IOVARange // in order, disjoint
}

// allows tells whether r lies in one of the allowed ranges.
func (a *iovaAllocator) allows(r IOVARange) bool {
	return slices.ContainsFunc(a.allowed, func(allowed IOVARange) bool { return allowed.contains(r) })
}

// find returns the position of the first used range that ends at address or later.
func (a *iovaAllocator) find(address uint64) int {
	i, _ := slices.BinarySearchFunc(a.used, address, func(u IOVARange, address uint64) int { return cmp.Compare(u.Last, address) })
	return i
}

// take reserves r. When some of it is used already, it says what is in the way, and reserves nothing.
func (a *iovaAllocator) take(r IOVARange) (inTheWay IOVARange, ok bool) {
	i := a.find(r.First)
	if i < len(a.used) && a.used[i].overlaps(r) {
		return a.used[i], false
	}
	a.used = slices.Insert(a.used, i, r)
	return IOVARange{}, true
}

// reserve finds and reserves the lowest free range of size bytes that starts at a multiple of align, a power of two, and
// lies within the given one. Address 0, which many a device takes for none, is not given. gap bytes before and behind the
// range are free, too, so that the IOMMU stops a device that runs over the end of a buffer.
func (a *iovaAllocator) reserve(size, align, gap uint64, within IOVARange) (IOVARange, bool) {
	for _, allowed := range a.allowed {
		end := min(allowed.Last, within.Last)
		first, ok := alignUp(max(allowed.First, within.First, 1), align)
		for ok && first <= end && size-1 <= end-first {
			r := IOVARange{First: first, Last: first + size - 1}
			wide := r.widened(gap)
			i := a.find(wide.First)
			if i == len(a.used) || !a.used[i].overlaps(wide) {
				a.used = slices.Insert(a.used, a.find(first), r)
				return r, true
			}
			behind := a.used[i].widened(gap).Last
			first, ok = alignUp(behind+1, align)
			ok = ok && behind < math.MaxUint64
		}
	}
	return IOVARange{}, false
}

// free gives back what take or reserve reserved.
func (a *iovaAllocator) free(r IOVARange) {
	if i := a.find(r.First); i < len(a.used) && a.used[i] == r {
		a.used = slices.Delete(a.used, i, i+1)
	}
}

// alignUp is the next multiple of align, a power of two; false when there is none.
func alignUp(v, align uint64) (uint64, bool) {
	up := (v + align - 1) &^ (align - 1)
	return up, up >= v
}
