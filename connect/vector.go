package connect

import "sync"

// The vectors that descriptors carry are made up here: Linux shows a user-space driver no global vector. They keep
// the properties that a Windows driver relies on. A vector names one interrupt source of the process and is not
// given away again while it is assigned; it is never 0, which Microsoft's own framework takes for "not assigned",
// and never near the message token 0xFFFFFFFE. The first 144, 0x30 to 0xBF, also have the x64 property that the
// level is the vector divided by 16.
const (
	firstVector = 0x30
	// 0xC0 to 0xFF are left out: on x64 they are the levels above every device's.
	lastLowVector   = 0xBF
	firstHighVector = 0x100
	endVector       = 0xFFFFFF00
)

// levelOf is the DIRQL of a vector: vector/16 for the first 144, and in the same range of 3 to 11 afterwards.
func levelOf(vector uint32) KIRQL {
	return KIRQL(3 + ((vector>>4)-3)%9)
}

// reserved tells whether a vector is above the levels of devices. No aligned block of up to 32 straddles the border.
func reserved(vector uint32) bool { return vector > lastLowVector && vector < firstHighVector }

// vectorTable hands out vectors, the lowest free ones first so that the same program sees the same numbers on each
// run.
type vectorTable struct {
	mu    sync.Mutex
	taken map[uint32]bool
	// free is a lower bound of the lowest free vector: without it two thousand messages would be a search each.
	free uint32
}

// vectors is the one table of the process, as there is one vector table in a Windows machine.
var vectors vectorTable

// alloc takes n contiguous vectors that start at a multiple of n. n is a power of two, so a block of up to 16 lies
// inside one level. ok is false when the table is full.
func (t *vectorTable) alloc(n uint32) (first uint32, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.taken == nil {
		t.taken = make(map[uint32]bool)
		t.free = firstVector
	}
	for v := (t.free + n - 1) / n * n; v <= endVector-n; v += n {
		if reserved(v) || !t.blockFree(v, n) {
			continue
		}
		for i := range n {
			t.taken[v+i] = true
		}
		for t.taken[t.free] || reserved(t.free) {
			t.free++
		}
		return v, true
	}
	return 0, false
}

func (t *vectorTable) blockFree(first, n uint32) bool {
	for i := range n {
		if t.taken[first+i] {
			return false
		}
	}
	return true
}

// release gives n vectors back.
func (t *vectorTable) release(first, n uint32) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range n {
		delete(t.taken, first+i)
	}
	t.free = min(t.free, first)
}
