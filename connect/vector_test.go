package connect

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestLevelOf(t *testing.T) {
	for v := uint32(0x30); v <= 0xBF; v++ {
		require.Equal(t, KIRQL(v>>4), levelOf(v), "vector 0x%x", v)
	}
	for v := uint32(0x100); v < 0x2000; v++ {
		require.GreaterOrEqual(t, levelOf(v), KIRQL(3), "vector 0x%x", v)
		require.LessOrEqual(t, levelOf(v), KIRQL(11), "vector 0x%x", v)
	}
}

func TestVectorTableStartsLow(t *testing.T) {
	var table vectorTable
	for want := uint32(0x30); want <= 0xBF; want++ {
		v, ok := table.alloc(1)
		require.True(t, ok)
		require.Equal(t, want, v)
	}
	v, ok := table.alloc(1)
	require.True(t, ok)
	assert.Equal(t, uint32(0x100), v, "0xC0 to 0xFF are above the levels of devices")
	table.release(0x31, 1)
	v, ok = table.alloc(1)
	require.True(t, ok)
	assert.Equal(t, uint32(0x31), v)
}

func TestVectorTableEnds(t *testing.T) {
	table := vectorTable{taken: make(map[uint32]bool), free: endVector - 3}
	for range 3 {
		v, ok := table.alloc(1)
		require.True(t, ok)
		require.Less(t, v, uint32(endVector))
	}
	_, ok := table.alloc(1)
	assert.False(t, ok)
	_, ok = table.alloc(32)
	assert.False(t, ok)
	table.release(endVector-2, 1)
	v, ok := table.alloc(1)
	assert.True(t, ok)
	assert.Equal(t, uint32(endVector-2), v)
}

// Whatever is taken and given back, blocks are aligned and disjoint, a block of up to 16 has one level, and no vector
// is one that means something else.
func TestVectorTableProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var table vectorTable
		owner := make(map[uint32]bool)
		var blocks [][2]uint32
		t.Repeat(map[string]func(*rapid.T){
			"alloc": func(t *rapid.T) {
				n := uint32(1) << rapid.IntRange(0, 5).Draw(t, "log n")
				first, ok := table.alloc(n)
				require.True(t, ok)
				require.Zero(t, first%n, "block of %d at 0x%x", n, first)
				for v := first; v < first+n; v++ {
					require.False(t, owner[v], "vector 0x%x is taken", v)
					require.GreaterOrEqual(t, v, uint32(0x30))
					require.Less(t, v, uint32(0xFFFFFF00))
					require.False(t, v >= 0xC0 && v <= 0xFF, "vector 0x%x", v)
					if n <= 16 {
						require.Equal(t, levelOf(first), levelOf(v))
					}
					owner[v] = true
				}
				blocks = append(blocks, [2]uint32{first, n})
			},
			"release": func(t *rapid.T) {
				if len(blocks) == 0 {
					t.Skip("nothing is taken")
				}
				i := rapid.IntRange(0, len(blocks)-1).Draw(t, "block")
				b := blocks[i]
				blocks = append(blocks[:i], blocks[i+1:]...)
				table.release(b[0], b[1])
				for v := b[0]; v < b[0]+b[1]; v++ {
					delete(owner, v)
				}
			},
		})
	})
}
