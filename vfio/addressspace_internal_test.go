package vfio

import (
	"math"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/irqbridge/irqbridge/vfio/internal/uapi"
)

// iommu is a kernel that answers for a container's IOMMU as the argsz protocol wants, with the chain given.
type iommu struct {
	uapi.Kernel
	info  uapi.IOMMUInfo
	chain []byte // follows the structure; its first capability is at offset 24 when info.Flags has Caps
	more  uint32 // that it asks for beyond what it needs
	errno error
	calls []uint32
}

func (k *iommu) IOMMUGetInfo(_ int, arg []byte) error {
	if k.errno != nil {
		return k.errno
	}
	in := uapi.Take[uapi.IOMMUInfo](arg)
	k.calls = append(k.calls, in.Argsz)
	out := k.info
	out.Argsz = in.Argsz
	if need := 24 + uint32(len(k.chain)) + k.more; out.Flags&uapi.IOMMUInfoCaps != 0 {
		if in.Argsz < need {
			out.Argsz, out.CapOffset = need, 0
		} else {
			copy(arg[24:], k.chain)
		}
	}
	uapi.Put(arg, out)
	return nil
}

// iovaRanges is the content of an IOVA range capability.
func iovaRanges(count uint32, ranges ...uapi.IOVARange) []byte {
	b := make([]byte, uapi.Size[uapi.IOMMUInfoCapIOVARange]())
	uapi.Put(b, uapi.IOMMUInfoCapIOVARange{NrIovas: count})
	b = b[uapi.Size[uapi.InfoCapHeader]():]
	for _, r := range ranges {
		each := make([]byte, uapi.Size[uapi.IOVARange]())
		uapi.Put(each, r)
		b = append(b, each...)
	}
	return b
}

func TestContainerLimits(t *testing.T) {
	all := []IOVARange{{Last: math.MaxUint64}}
	two := iovaRanges(2, uapi.IOVARange{End: 0xfff}, uapi.IOVARange{Start: 0x2000, End: math.MaxUint64})
	const sizes, caps = uapi.IOMMUInfoPageSizes, uapi.IOMMUInfoCaps
	for name, c := range map[string]struct {
		kernel iommu
		want   dmaLimits
		calls  []uint32
		fails  string
	}{
		"a kernel that says nothing": {
			kernel: iommu{info: uapi.IOMMUInfo{IovaPgsizes: 0x1000}}, want: dmaLimits{ranges: all}, calls: []uint32{24},
		},
		"page sizes alone": {
			kernel: iommu{info: uapi.IOMMUInfo{Flags: sizes, IovaPgsizes: 0x201000}},
			want:   dmaLimits{ranges: all, pageSizes: 0x201000}, calls: []uint32{24},
		},
		"ranges behind something unknown": {
			kernel: iommu{
				info: uapi.IOMMUInfo{Flags: sizes | caps, IovaPgsizes: 0x1000, CapOffset: 24},
				// As on Linux 6.1, where what follows 12 bytes is not aligned to 8.
				chain: append(capability(3, 24+12, []byte{1, 0, 0, 0}), capability(1, 0, two)...),
			},
			want:  dmaLimits{ranges: []IOVARange{{0, 0xfff}, {0x2000, math.MaxUint64}}, pageSizes: 0x1000},
			calls: []uint32{24, 24 + 12 + 48},
		},
		"nothing can be mapped": {
			kernel: iommu{info: uapi.IOMMUInfo{Flags: caps, CapOffset: 24}, chain: capability(1, 0, iovaRanges(0))},
			want:   dmaLimits{ranges: []IOVARange{}}, calls: []uint32{24, 40},
		},
		"more ranges than bytes": {
			kernel: iommu{info: uapi.IOMMUInfo{Flags: caps, CapOffset: 24}, chain: capability(1, 0, iovaRanges(3, uapi.IOVARange{}))},
			fails:  "claims 3 ranges in 32 bytes",
		},
		"a capability that is cut off": {
			kernel: iommu{info: uapi.IOMMUInfo{Flags: caps, CapOffset: 24}, chain: capability(1, 0)}, fails: "claims 0 ranges in 8 bytes",
		},
		"a chain that is a loop": {
			kernel: iommu{info: uapi.IOMMUInfo{Flags: caps, CapOffset: 24}, chain: capability(9, 24)}, fails: "loop",
		},
		"an answer without end": {
			kernel: iommu{info: uapi.IOMMUInfo{Flags: caps}, more: 1 << 30}, fails: "at most 1048576 are given",
		},
		"a refusal": {kernel: iommu{errno: unix.ENOTTY}, fails: unix.ENOTTY.Error()},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := container{kernel: &c.kernel}.limits()
			if c.fails != "" {
				require.ErrorContains(t, err, c.fails)
				return
			}
			require.NoError(t, err)
			assert.Equal(t, c.want, got)
			assert.Equal(t, c.calls, c.kernel.calls)
		})
	}
}

// locking is a kernel that lets a process lock so much.
type locking struct {
	uapi.Kernel
	locked uapi.LockedMemory
	errno  error
}

func (k locking) LockedMemory() (uapi.LockedMemory, error) { return k.locked, k.errno }

func TestExplainMap(t *testing.T) {
	const limit = "a device's memory is locked, and this process may lock 64 KiB (RLIMIT_MEMLOCK); 60 KiB are locked, 8 KiB more are needed; " +
		"raise the limit: ulimit -l 68, LimitMEMLOCK= in a systemd unit, memlock in /etc/security/limits.conf; " +
		"or lift it: setcap cap_ipc_lock+ep PROGRAM"
	const memory = "the kernel has no memory left for the IOMMU's page tables, or the cgroup may not use more; " +
		"see the end of dmesg, and memory.max and memory.events of the cgroup in /proc/self/cgroup"
	low := uapi.LockedMemory{Locked: 60 << 10, Limit: 64 << 10}
	for name, c := range map[string]struct {
		kernel locking
		errno  error
		want   string
	}{
		"the limit is in the way":     {locking{locked: low}, unix.ENOMEM, ": " + limit},
		"it fits the limit":           {locking{locked: uapi.LockedMemory{Locked: 56 << 10, Limit: 64 << 10}}, unix.ENOMEM, ": " + memory},
		"the limit does not apply":    {locking{locked: uapi.LockedMemory{Locked: 60 << 10, Limit: 64 << 10, Unlimited: true}}, unix.ENOMEM, ": " + memory},
		"there is no limit":           {locking{locked: uapi.LockedMemory{Limit: math.MaxUint64}}, unix.ENOMEM, ": " + memory},
		"more is locked than allowed": {locking{locked: uapi.LockedMemory{Locked: 80 << 10, Limit: 64 << 10}}, unix.ENOMEM, "80 KiB are locked"},
		"nobody knows":                {locking{errno: unix.EIO}, unix.ENOMEM, ": " + memory},
		"too many mappings":           {locking{}, unix.ENOSPC, "parameters/dma_entry_limit"},
		"something else":              {locking{locked: low}, unix.EINVAL, "map: " + unix.EINVAL.Error()},
	} {
		t.Run(name, func(t *testing.T) {
			e := &OpError{Op: "map", Index: NoIndex, Vector: -1, Err: c.errno}
			container{kernel: c.kernel}.explainMap(e, 8<<10)
			assert.ErrorContains(t, e, c.want)
			assert.ErrorIs(t, e, c.errno)
			assert.Equal(t, name == "something else", e.Cause == "")
		})
	}
}
