package vfiotest_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/irqbridge/irqbridge/vfio/vfiotest"
)

// TestMapBAR has the cases of the kernel's own selftest vfio_dma_mapping_mmio_test: a BAR that is mapped into the process can
// be given to a device as memory in a container, and not in an iommufd, which takes only what can be pinned. The BAR here is
// edu's, of 1 MiB: no page of its mapping is a huge one, so that it can be misaligned only by pages.
func TestMapBAR(t *testing.T) {
	const size, page = 1 << 20, 4096
	inEachMode(t, func(t *testing.T, m *vfiotest.Machine, mode iommuMode) {
		if !m.Real {
			t.Skip("in the fake, mappings of BARs have no address, and devices reach memory only")
		}
		m.Bind(t, m.EDU)
		r := mode.open(t, m, m.EDU)
		for _, c := range []struct {
			name        string
			off, length int
		}{
			{"map_full_bar", 0, size},
			{"map_partial_bar", 0, page},
			{"map_bar_misaligned", page, size - page},
		} {
			t.Run(c.name, func(t *testing.T) {
				mapped, err := r.k.Mmap(r.device, int64(c.off), c.length)
				require.NoError(t, err)
				defer func() { require.NoError(t, mapped.Unmap()) }()
				err = r.mapAt(addressOfBAR(t, c.length), size, uint64(c.length))
				if mode.space == "/dev/iommu" {
					assert.Equal(t, "EFAULT", errno(err))
					return
				}
				require.NoError(t, err)
				n, err := r.unmapAt(size, uint64(c.length))
				require.NoError(t, err)
				assert.Equal(t, uint64(c.length), n)
			})
		}
	})
}

// addressOfBAR is where the process has mapped length bytes of a device, of which there is one such mapping. The kernel says
// so; our own mappings tell nobody their address.
func addressOfBAR(t *testing.T, length int) uint64 {
	t.Helper()
	text, err := os.ReadFile("/proc/self/maps")
	require.NoError(t, err)
	for line := range strings.Lines(string(text)) {
		var first, last uint64
		var access string
		_, err := fmt.Sscanf(line, "%x-%x %s", &first, &last, &access)
		require.NoError(t, err)
		if strings.Contains(line, "vfio") && access == "rw-s" && last-first == uint64(length) {
			return first
		}
	}
	require.Fail(t, "the mapping is not listed", "%s", text)
	return 0
}
