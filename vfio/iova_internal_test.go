package vfio

import (
	"math"
	"testing"

	"github.com/stretchr/testify/assert"
	"pgregory.net/rapid"
)

func TestIOVARange(t *testing.T) {
	r := IOVARange{First: 0x1000, Last: 0x1fff}
	assert.Equal(t, "0x1000-0x1fff", r.String())
	assert.True(t, r.contains(r))
	assert.False(t, r.contains(IOVARange{First: 0x1000, Last: 0x2000}))
	assert.True(t, r.overlaps(IOVARange{First: 0x1fff, Last: 0x1fff}))
	assert.False(t, r.overlaps(IOVARange{First: 0x2000, Last: 0x2fff}))
	assert.Equal(t, IOVARange{First: 0, Last: math.MaxUint64}, IOVARange{First: 5, Last: math.MaxUint64 - 5}.widened(10))
}

func TestReserve(t *testing.T) {
	const page = 0x1000
	a := iovaAllocator{allowed: []IOVARange{{0, 0xffff}, {0x20000, math.MaxUint64}}}
	reserve := func(size, align, last uint64) string {
		r, ok := a.reserve(size, align, page, IOVARange{Last: last})
		if !ok {
			return "none"
		}
		return r.String()
	}
	assert.Equal(t, "0x1000-0x1fff", reserve(page, page, math.MaxUint64), "not address 0")
	assert.Equal(t, "0x3000-0x4fff", reserve(2*page, page, math.MaxUint64), "a page is left free before it")
	assert.Equal(t, "0x8000-0x8fff", reserve(page, 0x8000, math.MaxUint64), "a multiple of the alignment")
	assert.Equal(t, "0x6000-0x6fff", reserve(page, page, math.MaxUint64), "between two, with a page at either side")
	assert.Equal(t, "none", reserve(8*page, page, 0xffff), "too much for what is left below the limit")
	assert.Equal(t, "none", reserve(page, page, 0xa000), "no room for the last byte")
	assert.Equal(t, "0xa000-0xafff", reserve(page, page, 0xafff), "the limit is the last byte's address")
	assert.Equal(t, "0x20000-0x2ffff", reserve(16*page, page, math.MaxUint64), "the next range")
	assert.Equal(t, "none", reserve(math.MaxUint64, page, math.MaxUint64))
	assert.Equal(t, "0x8000000000000000-0xffffffffffffffff", reserve(1<<63, 1<<63, math.MaxUint64), "up to the last address")
	assert.Equal(t, "none", reserve(page, 1<<63, math.MaxUint64), "nothing behind the last address")

	a.free(IOVARange{0x3000, 0x4fff})
	a.free(IOVARange{0x3000, 0x4fff})
	assert.Equal(t, "0x3000-0x3fff", reserve(page, page, math.MaxUint64))
	inTheWay, ok := a.take(IOVARange{0x3000, 0x3fff})
	assert.False(t, ok)
	assert.Equal(t, IOVARange{0x3000, 0x3fff}, inTheWay)
	_, ok = a.take(IOVARange{0x4000, 0x5fff})
	assert.True(t, ok, "who says where needs no free page beside it")
}

// Whatever is asked for in whatever order: what is given is allowed, aligned, below the limit, and of nobody else; and what is
// refused really has no room.
func TestReserveProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const top = 255 // a small space, so that it can be searched by hand
		hole := rapid.Uint64Range(1, top-1).Draw(t, "hole")
		a := iovaAllocator{allowed: []IOVARange{{0, hole - 1}, {hole + 1, top}}}
		var held []IOVARange
		free := func(r IOVARange) bool {
			for _, h := range held {
				if h.overlaps(r) {
					return false
				}
			}
			return true
		}
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			if len(held) > 0 && rapid.Bool().Draw(t, "give back") {
				i := rapid.IntRange(0, len(held)-1).Draw(t, "which")
				a.free(held[i])
				held = append(held[:i:i], held[i+1:]...)
				continue
			}
			size := rapid.Uint64Range(1, 64).Draw(t, "size")
			align := uint64(1) << rapid.IntRange(0, 6).Draw(t, "align")
			gap := rapid.Uint64Range(0, 8).Draw(t, "gap")
			within := IOVARange{rapid.Uint64Range(0, top+1).Draw(t, "first"), rapid.Uint64Range(0, 2*top).Draw(t, "last")}
			var want IOVARange
			found := false
			for first := align; first <= top && !found; first += align {
				want = IOVARange{first, first + size - 1}
				found = a.allows(want) && within.contains(want) && free(want.widened(gap))
			}
			got, ok := a.reserve(size, align, gap, within)
			if ok != found || ok && got != want {
				t.Fatalf("reserve(%d, %d, %d, %v) = %v %v, want %v %v", size, align, gap, within, got, ok, want, found)
			}
			if ok {
				held = append(held, got)
			}
		}
	})
}
