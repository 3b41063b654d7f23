package connect

import (
	"testing"
	"time"

	"github.com/irqbridge/irqbridge/pci"
)

// CheckOn is what Connect says of the parameters before it looks at the device, on another architecture.
func CheckOn(arch string, p *Parameters) error { return p.check(arch) }

// TakeBlocks takes n blocks of vectors until the end of the test, as n devices with that many messages would, and returns
// the descriptor of each.
func TakeBlocks(t *testing.T, n, size int) []pci.TranslatedDescriptor {
	t.Helper()
	blocks := make([]pci.TranslatedDescriptor, n)
	for i := range blocks {
		d, ok := translate(pci.RawDescriptor{MessageCount: uint16(size)}, processors{mask: 1}, &vectors)
		if !ok {
			t.Fatal("all vectors are taken")
		}
		t.Cleanup(func() { vectors.release(d.Vector, uint32(size)) })
		blocks[i] = d
	}
	return blocks
}

// WatchFor makes the watchdog that starts next report calls that last longer than the limit, until the end of the test.
func WatchFor(t *testing.T, limit time.Duration) {
	t.Helper()
	set := func(limit time.Duration) (before time.Duration) {
		eventually(t, "the watchdog of what was before has ended", func() bool {
			watchdog.mu.Lock()
			defer watchdog.mu.Unlock()
			if watchdog.threads > 0 {
				return false
			}
			before, watchdog.limit = watchdog.limit, limit
			return true
		})
		return before
	}
	before := set(limit)
	t.Cleanup(func() { set(before) })
}

// TakeVectors takes n vectors, as other devices would, and returns how to give them back.
func TakeVectors(n int) (giveBack func()) {
	var taken []uint32
	for range n {
		v, _ := vectors.alloc(1)
		taken = append(taken, v)
	}
	return func() {
		for _, v := range taken {
			vectors.release(v, 1)
		}
	}
}
