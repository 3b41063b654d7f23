package vfio

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/irqbridge/irqbridge/vfio/internal/uapi"
)

// answers is a kernel that answers for one region as the argsz protocol wants, with the chain given.
type answers struct {
	uapi.Kernel
	info  uapi.RegionInfo
	chain []byte // follows the structure; its first capability is at offset 32 when info.Flags has Caps
	calls []uint32
}

func (a *answers) DeviceGetRegionInfo(_ int, arg []byte) error {
	in := uapi.Take[uapi.RegionInfo](arg)
	a.calls = append(a.calls, in.Argsz)
	out := a.info
	out.Argsz, out.Index = in.Argsz, in.Index
	if need := uint32(32 + len(a.chain)); out.Flags&uapi.RegionInfoFlagCaps != 0 {
		if in.Argsz < need {
			out.Argsz, out.CapOffset = need, 0
		} else {
			copy(arg[32:], a.chain)
		}
	}
	uapi.Put(arg, out)
	return nil
}

// capability is a header and its content.
func capability(id uint16, next uint32, content ...[]byte) []byte {
	b := make([]byte, uapi.Size[uapi.InfoCapHeader]())
	uapi.Put(b, uapi.InfoCapHeader{ID: id, Version: 1, Next: next})
	for _, c := range content {
		b = append(b, c...)
	}
	return b
}

// sparse is the content of a sparse mmap capability.
func sparse(count uint32, areas ...Area) []byte {
	b := make([]byte, uapi.Size[uapi.RegionInfoCapSparseMmap]())
	uapi.Put(b, uapi.RegionInfoCapSparseMmap{NrAreas: count})
	b = b[uapi.Size[uapi.InfoCapHeader]():]
	for _, a := range areas {
		area := make([]byte, uapi.Size[uapi.RegionSparseMmapArea]())
		uapi.Put(area, uapi.RegionSparseMmapArea{Offset: a.Offset, Size: a.Size})
		b = append(b, area...)
	}
	return b
}

const (
	plain    = uapi.RegionInfoFlagRead | uapi.RegionInfoFlagWrite | uapi.RegionInfoFlagMmap
	withCaps = plain | uapi.RegionInfoFlagCaps
)

func TestRegionWithoutCapabilities(t *testing.T) {
	k := &answers{info: uapi.RegionInfo{Flags: plain, Size: 0x100000, Offset: 3 << 40}}
	r, err := queryRegion(k, 0, 3)
	require.NoError(t, err)
	assert.Equal(t, RegionInfo{Index: 3, Size: 0x100000, Offset: 3 << 40, Read: true, Write: true, Mmap: true}, r)
	assert.Equal(t, []uint32{32}, k.calls)
}

func TestRegionBufferGrows(t *testing.T) {
	areas := []Area{{0, 0x1000}, {0x3000, 0x1000}}
	first := capability(uapi.RegionInfoCapSparseMmapID, 32+48+16, sparse(2, areas...))
	require.Len(t, first, 48)
	unknown := capability(77, 0, make([]byte, 8)) // not in the chain
	second := capability(77, 32+48+16+16, make([]byte, 8))
	third := capability(uapi.RegionInfoCapMSIXMappableID, 0)
	k := &answers{info: uapi.RegionInfo{Flags: withCaps, Size: 0x4000, CapOffset: 32}, chain: join(first, unknown, second, third)}
	r, err := queryRegion(k, 0, 0)
	require.NoError(t, err)
	assert.Equal(t, areas, r.Sparse)
	assert.True(t, r.MSIXMappable, "a capability that is not known is stepped over")
	assert.Equal(t, []uint32{32, uint32(32 + len(k.chain))}, k.calls, "asked again with the size that the kernel named")
}

func join(parts ...[]byte) []byte {
	var all []byte
	for _, p := range parts {
		all = append(all, p...)
	}
	return all
}

func TestRegionChainsAreBounded(t *testing.T) {
	const mappable = uapi.RegionInfoCapMSIXMappableID
	for name, c := range map[string]struct {
		first uint32
		chain []byte
		want  string
	}{
		"into the structure":   {16, capability(mappable, 0), "offset 16"},
		"beyond the end":       {4096, capability(mappable, 0), "offset 4096"},
		"header cut off":       {36, capability(mappable, 0), "offset 36"},
		"not aligned":          {33, capability(mappable, 0, make([]byte, 8)), "offset 33"},
		"to itself":            {32, capability(mappable, 32), "loop"},
		"two in a circle":      {32, join(capability(mappable, 40), capability(mappable, 32)), "loop"},
		"next beyond the end":  {32, capability(mappable, 1<<31), "offset 2147483648"},
		"more areas than room": {32, capability(uapi.RegionInfoCapSparseMmapID, 0, sparse(2, Area{0, 0x1000})), "2 areas"},
		"sparse cut off":       {32, capability(uapi.RegionInfoCapSparseMmapID, 0), "0 areas"},
		"area outside":         {32, capability(uapi.RegionInfoCapSparseMmapID, 0, sparse(1, Area{0x3000, 0x2000})), "outside"},
		"area that wraps":      {32, capability(uapi.RegionInfoCapSparseMmapID, 0, sparse(1, Area{0x1000, ^uint64(0)})), "outside"},
	} {
		t.Run(name, func(t *testing.T) {
			k := &answers{info: uapi.RegionInfo{Flags: withCaps, Size: 0x4000, CapOffset: c.first}, chain: c.chain}
			_, err := queryRegion(k, 0, 0)
			assert.ErrorContains(t, err, c.want)
		})
	}
}

func TestRegionBufferGrowsNotForever(t *testing.T) {
	k := &answers{info: uapi.RegionInfo{Flags: withCaps, CapOffset: 32}, chain: make([]byte, maxInfoSize)}
	_, err := queryRegion(k, 0, 0)
	require.ErrorContains(t, err, "at most")
	assert.Len(t, k.calls, 1)
}

// refuses is a kernel that answers every question about regions and interrupts with one errno.
type refuses struct {
	uapi.Kernel
	errno unix.Errno
}

func (r refuses) DeviceGetRegionInfo(int, []byte) error { return r.errno }
func (r refuses) DeviceGetIRQInfo(int, []byte) error    { return r.errno }

func TestWhatTheDeviceDoesNotHave(t *testing.T) {
	r, err := queryRegion(refuses{errno: unix.EINVAL}, 0, 8)
	require.NoError(t, err)
	assert.Equal(t, RegionInfo{Index: 8}, r, "no VGA window")
	q, err := queryIRQ(refuses{errno: unix.EINVAL}, 0, Err)
	require.NoError(t, err)
	assert.Equal(t, IRQInfo{Index: Err}, q, "no ERR on conventional PCI, on Linux 6.1")

	_, err = queryRegion(refuses{errno: unix.ENODEV}, 0, 8)
	require.ErrorIs(t, err, unix.ENODEV)
	_, err = queryIRQ(refuses{errno: unix.ENODEV}, 0, Err)
	require.ErrorIs(t, err, unix.ENODEV)
}

func FuzzDecodeRegion(f *testing.F) {
	seed := func(first uint32, chain []byte) {
		arg := make([]byte, 32)
		uapi.Put(arg, uapi.RegionInfo{Argsz: 32, Flags: withCaps, CapOffset: first, Size: 0x4000})
		f.Add(append(arg, chain...))
	}
	seed(32, capability(uapi.RegionInfoCapSparseMmapID, 0, sparse(1, Area{0x1000, 0x1000})))
	seed(32, capability(uapi.RegionInfoCapMSIXMappableID, 32))
	seed(40, nil)
	f.Fuzz(func(t *testing.T, arg []byte) {
		r, err := decodeRegion(arg)
		if err != nil {
			return
		}
		for _, a := range r.Sparse {
			if a.Offset+a.Size < a.Offset || a.Offset+a.Size > r.Size {
				t.Fatalf("area %+v lies outside %d bytes", a, r.Size)
			}
		}
	})
}
