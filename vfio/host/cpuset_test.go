package host

import (
	"encoding/json"
	"math/bits"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestParseCPUList(t *testing.T) {
	for text, want := range map[string]CPUSet{
		"":             {},
		"\n":           {},
		"0":            CPUSetOf(0),
		"0-3,8\n":      CPUSetOf(0, 1, 2, 3, 8),
		"8,0-3":        CPUSetOf(0, 1, 2, 3, 8),
		"1,1,1-1":      CPUSetOf(1),
		"63-65":        CPUSetOf(63, 64, 65),
		"8191":         CPUSetOf(8191),
		"007":          CPUSetOf(7),
		"0-31:2/8":     CPUSetOf(0, 1, 8, 9, 16, 17, 24, 25),
		"0-4:1/2,100":  CPUSetOf(0, 2, 4, 100),
		"0-10:0/3":     {},
		"\t 2-3 \r\n ": CPUSetOf(2, 3),
	} {
		got, err := ParseCPUList(text)
		require.NoError(t, err, "%q", text)
		assert.Equal(t, want, got, "%q", text)
	}
}

func TestParseCPUListErrors(t *testing.T) {
	for text, want := range map[string]string{
		"x":                    `CPU list "x": "x" is not a CPU number`,
		"0,":                   "a CPU number is missing",
		",0":                   "a CPU number is missing",
		"0-":                   "a CPU number is missing",
		"-1":                   "a CPU number is missing",
		"+1":                   `"+1" is not a CPU number`,
		"0x1":                  `"0x1" is not a CPU number`,
		"0 1":                  `"0 1" is not a CPU number`,
		"0, 1":                 `" 1" is not a CPU number`,
		"1-2-3":                `"2-3" is not a CPU number`,
		"3-1":                  `"3-1" ends before it starts`,
		"8192":                 "CPU 8192 is above 8191",
		"0-8192":               "CPU 8192 is above 8191",
		"99999999999999999999": "CPU 99999999999999999999 is above 8191",
		"3:1/2":                `"3:1/2" is not FIRST-LAST:USED/GROUP`,
		"0-9:3/2":              "with USED <= GROUP",
		"0-9:1/0":              "with USED <= GROUP",
		"0-9:1":                "is not FIRST-LAST:USED/GROUP",
		"0-9:/":                "is not FIRST-LAST:USED/GROUP",
		"0-9:1/2:1/2":          "is not FIRST-LAST:USED/GROUP",
		"٣":                    "is not a CPU number",
	} {
		got, err := ParseCPUList(text)
		require.ErrorContains(t, err, want, "%q", text)
		assert.Zero(t, got, "%q", text)
	}
}

func TestParseCPUMask(t *testing.T) {
	for text, want := range map[string]CPUSet{
		"0":                 {},
		"1":                 CPUSetOf(0),
		"0xff\n":            CPUSetOf(0, 1, 2, 3, 4, 5, 6, 7),
		"3,00000000":        CPUSetOf(32, 33),
		"80000000,0,1":      CPUSetOf(0, 95),
		"00000000,00000003": CPUSetOf(0, 1),
		"8000000000000000":  CPUSetOf(63),
		"F":                 CPUSetOf(0, 1, 2, 3),
	} {
		got, err := ParseCPUMask(text)
		require.NoError(t, err, "%q", text)
		assert.Equal(t, want, got, "%q", text)
	}
	for text, want := range map[string]string{
		"":            "1 to 8 hexadecimal digits",
		"0x":          "1 to 8 hexadecimal digits",
		"1,":          "1 to 8 hexadecimal digits",
		",1":          "1 to 8 hexadecimal digits",
		"1,123456789": "1 to 8 hexadecimal digits",
		"g":           `"g" is not hexadecimal`,
		"+1":          `"+1" is not hexadecimal`,
		"1 2":         "is not hexadecimal",
	} {
		_, err := ParseCPUMask(text)
		require.ErrorContains(t, err, want, "%q", text)
	}
	tooLong := "1"
	for range MaxCPUs / 32 {
		tooLong += ",00000000"
	}
	_, err := ParseCPUMask(tooLong)
	require.ErrorContains(t, err, "CPU 8192 is above 8191")
}

func TestCPUSetFormats(t *testing.T) {
	for _, c := range []struct {
		set        CPUSet
		list, mask string
	}{
		{CPUSet{}, "", "0"},
		{CPUSetOf(0), "0", "1"},
		{CPUSetOf(3, 0, 1, 2, 8), "0-3,8", "10f"},
		{CPUSetOf(31), "31", "80000000"},
		{CPUSetOf(32), "32", "1,00000000"},
		{CPUSetOf(0, 64), "0,64", "1,00000000,00000001"},
		{CPUSetOf(-1, MaxCPUs, 5), "5", "20"},
	} {
		assert.Equal(t, c.list, c.set.List())
		assert.Equal(t, c.list, c.set.String())
		assert.Equal(t, c.mask, c.set.Mask())
	}
}

func TestCPUSetJSON(t *testing.T) {
	b, err := json.Marshal(map[string]CPUSet{"cpus": CPUSetOf(2, 3)})
	require.NoError(t, err)
	assert.JSONEq(t, `{"cpus":"2-3"}`, string(b))
	var got map[string]CPUSet
	require.NoError(t, json.Unmarshal(b, &got))
	assert.Equal(t, CPUSetOf(2, 3), got["cpus"])
	kept := CPUSetOf(7)
	require.Error(t, kept.UnmarshalText([]byte("7-")))
	assert.Equal(t, CPUSetOf(7), kept, "an error leaves the set alone")
}

func TestProcessorGroups(t *testing.T) {
	set := CPUSetOf(0, 63, 64, 130)
	assert.Equal(t, uint64(1<<63|1), set.GroupMask(0))
	assert.Equal(t, uint64(1), set.GroupMask(1))
	assert.Equal(t, uint64(1<<2), set.GroupMask(2))
	assert.Zero(t, set.GroupMask(3))
	assert.Zero(t, set.GroupMask(-1))
	assert.Zero(t, set.GroupMask(1<<62))
	assert.Equal(t, CPUSetOf(64, 66), FromGroupMask(1, 5))
	assert.Equal(t, CPUSetOf(MaxCPUs-1), FromGroupMask(MaxCPUs/64-1, 1<<63))
	assert.Zero(t, FromGroupMask(MaxCPUs/64, 1))
	assert.Zero(t, FromGroupMask(-1, 1))
}

// TestCPUSetAgainstModel compares every operation with the same one on a plain list of numbers.
func TestCPUSetAgainstModel(t *testing.T) {
	cpus := rapid.SliceOfDistinct(rapid.IntRange(0, 300), rapid.ID[int])
	rapid.Check(t, func(t *rapid.T) {
		a, b := cpus.Draw(t, "a"), cpus.Draw(t, "b")
		x, y := CPUSetOf(a...), CPUSetOf(b...)
		where := func(keep func(cpu int) bool) CPUSet {
			return CPUSetOf(slices.DeleteFunc(slices.Concat(a, b), func(cpu int) bool { return !keep(cpu) })...)
		}
		inA := func(cpu int) bool { return slices.Contains(a, cpu) }
		inB := func(cpu int) bool { return slices.Contains(b, cpu) }

		slices.Sort(a)
		require.ElementsMatch(t, a, x.CPUs())
		require.True(t, slices.IsSorted(x.CPUs()))
		require.Equal(t, len(a), x.Len())
		require.Equal(t, len(a) == 0, x.Empty())
		for cpu := -1; cpu <= 301; cpu++ {
			require.Equal(t, inA(cpu), x.Has(cpu))
		}
		require.Equal(t, where(func(cpu int) bool { return inA(cpu) && inB(cpu) }), x.And(y))
		require.Equal(t, where(func(int) bool { return true }), x.Or(y))
		require.Equal(t, x.Or(y), x.Add(b...))
		require.Equal(t, where(func(cpu int) bool { return inA(cpu) && !inB(cpu) }), x.Minus(y))
		require.True(t, x.Minus(y).Or(x.And(y)) == x, "equal sets are ==") //nolint:testifylint // == is what is tested

		list, err := ParseCPUList(x.List())
		require.NoError(t, err)
		require.Equal(t, x, list)
		mask, err := ParseCPUMask(x.Mask())
		require.NoError(t, err)
		require.Equal(t, x, mask)
		var groups CPUSet
		n := 0
		for g := range 5 {
			groups = groups.Or(FromGroupMask(g, x.GroupMask(g)))
			n += bits.OnesCount64(x.GroupMask(g))
		}
		require.Equal(t, x, groups)
		require.Equal(t, len(a), n)
	})
}

func TestCPUSetHasDoesNotAllocate(t *testing.T) {
	set := CPUSetOf(1, 100)
	assert.Zero(t, testing.AllocsPerRun(100, func() { _ = set.Has(100) }))
}

func FuzzParseCPUList(f *testing.F) {
	for _, seed := range []string{"0-3,8", "0-31:2/8", "8191", "", "0-", "1-0"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		set, err := ParseCPUList(text)
		if err != nil {
			return
		}
		again, err := ParseCPUList(set.List())
		require.NoError(t, err)
		require.Equal(t, set, again)
	})
}

func FuzzParseCPUMask(f *testing.F) {
	for _, seed := range []string{"ff", "3,00000000", "0x1", "", ",", "8000000000000000"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		set, err := ParseCPUMask(text)
		if err != nil {
			return
		}
		again, err := ParseCPUMask(set.Mask())
		require.NoError(t, err)
		require.Equal(t, set, again)
	})
}
