package vfiotest_test

import (
	"encoding/binary"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/irqbridge/irqbridge/pci"
	"github.com/irqbridge/irqbridge/vfio/internal/uapi"
	"github.com/irqbridge/irqbridge/vfio/vfiotest"
)

// alone are the devices that can be opened by themselves.
func alone(m *vfiotest.Machine) []pci.Address {
	return []pci.Address{m.EDU, m.E1000E, m.NVMe, m.XHCI, m.TestDev}
}

// infoOf is what the kernel tells about an open device.
func infoOf(r *raw, a pci.Address) string {
	r.t.Helper()
	var b strings.Builder
	arg := make([]byte, 24)
	binary.NativeEndian.PutUint32(arg, 24)
	require.NoError(r.t, r.k.DeviceGetInfo(r.device, arg))
	fmt.Fprintf(&b, "%v %x\n", a, arg)
	for i := range uint32(uapi.PCINumRegions + 2) {
		arg := make([]byte, 64)
		uapi.Put(arg, uapi.RegionInfo{Argsz: 64, Index: i})
		err := r.k.DeviceGetRegionInfo(r.device, arg)
		info := uapi.Take[uapi.RegionInfo](arg)
		fmt.Fprintf(&b, "  region %d: %s argsz %d flags 0x%x cap %d size 0x%x offset 0x%x", i, errno(err), info.Argsz, info.Flags,
			info.CapOffset, info.Size, info.Offset)
		if info.CapOffset != 0 {
			fmt.Fprintf(&b, " %x", arg[info.CapOffset:])
		}
		b.WriteByte('\n')
	}
	for i := range uint32(uapi.PCINumIRQs + 1) {
		arg := make([]byte, 16)
		uapi.Put(arg, uapi.IRQInfo{Argsz: 16, Index: i})
		err := r.k.DeviceGetIRQInfo(r.device, arg)
		info := uapi.Take[uapi.IRQInfo](arg)
		fmt.Fprintf(&b, "  irq %d: %s flags 0x%x count %d\n", i, errno(err), info.Flags, info.Count)
	}
	return b.String()
}

// What the kernel tells about each device, its regions and its interrupts.
func TestInfo(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		var b strings.Builder
		for _, a := range alone(m) {
			r := openRaw(t, m, a)
			b.WriteString(infoOf(r, a))
			r.close()
		}
		golden(t, m, "info", b.String())
	})
}

// The rule of argsz: at least the first version of a structure; more is fine; what does not fit is not written.
func TestArgsz(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		m.Bind(t, m.E1000E)
		r := openByGroup(t, m, m.E1000E)
		calls := []struct {
			name    string
			minimum int
			call    func(arg []byte) error
		}{
			{"GroupGetStatus", uapi.GroupStatusMinSize, func(arg []byte) error { return m.Kernel.GroupGetStatus(r.group, arg) }},
			{"DeviceGetInfo", uapi.DeviceInfoMinSize, func(arg []byte) error { return m.Kernel.DeviceGetInfo(r.device, arg) }},
			{"DeviceGetRegionInfo", uapi.RegionInfoMinSize, func(arg []byte) error { return m.Kernel.DeviceGetRegionInfo(r.device, arg) }},
			{"DeviceGetIRQInfo", uapi.IRQInfoMinSize, func(arg []byte) error { return m.Kernel.DeviceGetIRQInfo(r.device, arg) }},
		}
		var b strings.Builder
		for _, c := range calls {
			for _, argsz := range []int{0, 1, c.minimum - 1, c.minimum, c.minimum + 1, c.minimum + 4, c.minimum + 8, 4096} {
				arg := make([]byte, 4096)
				for i := range arg {
					arg[i] = 0xaa
				}
				binary.NativeEndian.PutUint32(arg, uint32(argsz))
				if c.minimum >= 16 {
					binary.NativeEndian.PutUint32(arg[8:], 0) // the index
				}
				err := c.call(arg)
				last := len(arg)
				for last > 0 && arg[last-1] == 0xaa {
					last--
				}
				fmt.Fprintf(&b, "%s argsz %d: %s, wrote %x\n", c.name, argsz, errno(err), arg[:last])
			}
		}
		// The chain of a BAR with an MSI-X table needs 8 bytes more.
		for _, argsz := range []int{32, 33, 39, 40, 41} {
			arg := make([]byte, 64)
			uapi.Put(arg, uapi.RegionInfo{Argsz: uint32(argsz), Index: 3})
			err := m.Kernel.DeviceGetRegionInfo(r.device, arg)
			fmt.Fprintf(&b, "DeviceGetRegionInfo of BAR 3, argsz %d: %s, wrote %x\n", argsz, errno(err), arg)
		}
		golden(t, m, "argsz", b.String())
	})
}

// The buffer's own size is checked before the kernel is asked.
func TestArgumentSize(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		r := openRaw(t, m, m.EDU)
		short := make([]byte, 8)
		binary.NativeEndian.PutUint32(short, 8)
		assert.Equal(t, "EFAULT", errno(m.Kernel.DeviceGetInfo(r.device, short)), "shorter than the structure")
		liar := make([]byte, 32)
		binary.NativeEndian.PutUint32(liar, 64)
		assert.Equal(t, "EFAULT", errno(m.Kernel.DeviceGetInfo(r.device, liar)), "argsz beyond the buffer")
		_, err := m.Kernel.DeviceSetIRQs(r.device, nil)
		assert.Equal(t, "EFAULT", errno(err))
	})
}
