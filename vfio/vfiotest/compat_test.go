package vfiotest_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/irqbridge/irqbridge/vfio/internal/uapi"
	"github.com/irqbridge/irqbridge/vfio/vfiotest"
)

// A container's calls on an iommufd: before it has a group, with one, with an open device, and afterwards.
func TestIOMMUFDAsContainer(t *testing.T) {
	withIOMMUFD(t, func(t *testing.T, m *vfiotest.Machine) {
		const page = 4096
		m.Bind(t, m.EDU)
		r := newRaw(t, m, m.EDU)
		r.container = openIOMMUFD(t, m)
		r.group = openGroup(t, m, deviceGroup(t, m))
		memory := r.memory(8*page, 0)
		var b strings.Builder
		say := func(what string, err error) { fmt.Fprintf(&b, "%s: %s\n", what, errno(err)) }
		open := func() error {
			var err error
			r.device, err = r.k.GroupGetDeviceFD(r.group, m.EDU.String())
			return err
		}
		closeDevice := func() {
			require.NoError(t, r.k.Close(r.device))
			r.device = -1
		}
		unmap := func(what string, iova, size uint64) {
			n, err := r.unmapAt(iova, size)
			fmt.Fprintf(&b, "unmap %s: %s 0x%x\n", what, errno(err), n)
		}
		describe := func() {
			version, err := r.k.GetAPIVersion(r.container)
			fmt.Fprintf(&b, "version %d: %s\n", version, errno(err))
			for e := range 16 {
				n, err := r.k.CheckExtension(r.container, e)
				fmt.Fprintf(&b, "extension %d: %d %s\n", e, n, errno(err))
			}
			for _, argsz := range []uint32{0, 15, 16, 20, 24, 35, 36, 39, 40, 51, 52, 67, 68, 71, 72, 83, 84, 87, 88, 100} {
				arg := bytes.Repeat([]byte{0xa5}, 200)
				uapi.Put(arg, uapi.GroupStatus{Argsz: argsz, Flags: 0xa5a5a5a5}) // the two that every structure starts with
				err := r.k.IOMMUGetInfo(r.container, arg)
				fmt.Fprintf(&b, "info of %d bytes: %s %x\n", argsz, errno(err), bytes.TrimRight(arg, "\xa5"))
			}
			fmt.Fprintf(&b, "status of the group 0x%x\n", groupStatus(t, r.k, r.group))
		}

		describe()
		for _, kind := range []int{uapi.Type1IOMMU, uapi.Type1v2IOMMU, 2, 8, 99} {
			say(fmt.Sprintf("set IOMMU %d without a group", kind), r.k.SetIOMMU(r.container, kind))
		}
		say("unset without a container", r.k.GroupUnsetContainer(r.group))
		say("set container", r.k.GroupSetContainer(r.group, r.container))
		say("set container again", r.k.GroupSetContainer(r.group, r.container))
		describe()
		say("map without a device", r.mapAt(memory.Address(), 0, 4*page))
		unmap("half of it", 0, 2*page)
		say("device without an IOMMU", open())
		describe()
		unmap("half of it with a device", 0, 2*page)
		for _, kind := range []int{2, 8, 99, uapi.Type1v2IOMMU, uapi.Type1IOMMU} {
			say(fmt.Sprintf("set IOMMU %d with a mapping", kind), r.k.SetIOMMU(r.container, kind))
		}
		unmap("it", 0, 4*page)
		for _, kind := range []int{uapi.Type1IOMMU, uapi.Type1v2IOMMU, uapi.Type1IOMMU} {
			say(fmt.Sprintf("set IOMMU %d without a mapping", kind), r.k.SetIOMMU(r.container, kind))
		}
		say("map", r.mapAt(memory.Address(), 0, 8*page))
		unmap("its middle", 2*page, page)
		say("map over the hole", r.mapAt(memory.Address(), page, 2*page))
		say("map the hole", r.mapAt(memory.Address(), 2*page, page))
		unmap("the first pages", 0, 2*page)
		say("unset with a device open", r.k.GroupUnsetContainer(r.group))
		fmt.Fprintf(&b, "status of the group 0x%x\n", groupStatus(t, r.k, r.group))
		say("a device's call", r.info())
		closeDevice()
		say("device without a container", open())
		say("set container", r.k.GroupSetContainer(r.group, r.container))
		say("device", open())
		unmap("what has stayed mapped", 2*page, 6*page)
		closeDevice()
		say("destroy the address space", destroy(m, r.container, 1))
		say("device without an address space", open())
		say("map without an address space", r.mapAt(memory.Address(), 0, page))
		golden(t, m, "compat", b.String())
	})
}
