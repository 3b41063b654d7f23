package vfiotest_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/irqbridge/irqbridge/pci"
	"github.com/irqbridge/irqbridge/vfio/internal/uapi"
	"github.com/irqbridge/irqbridge/vfio/vfiotest"
)

// configSpace reads all of configuration space as VFIO shows it.
func (r *raw) configSpace() []byte {
	r.t.Helper()
	arg := make([]byte, 64)
	uapi.Put(arg, uapi.RegionInfo{Argsz: 64, Index: uapi.PCIConfigRegionIndex})
	require.NoError(r.t, r.k.DeviceGetRegionInfo(r.device, arg))
	b := make([]byte, uapi.Take[uapi.RegionInfo](arg).Size)
	n, err := r.k.Pread(r.device, b, uapi.PCIConfigRegionIndex<<40)
	require.NoError(r.t, err)
	require.Equal(r.t, len(b), n)
	return b
}

// dump writes the rows of a configuration space that are not all zero.
func dump(b []byte) string {
	var s strings.Builder
	for i := 0; i < len(b); i += 16 {
		if row := fmt.Sprintf("% x", b[i:i+16]); strings.Trim(row, "0 ") != "" {
			fmt.Fprintf(&s, "  %03x: %s\n", i, row)
		}
	}
	return s.String()
}

// What the user sees of configuration space and what the hardware has, right after open.
func TestConfigViews(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		var b strings.Builder
		for _, a := range alone(m) {
			r := openRaw(t, m, a)
			fmt.Fprintf(&b, "%v through VFIO\n%s", a, dump(r.configSpace()))
			physical, err := m.Host.Config(a)
			require.NoError(t, err)
			fmt.Fprintf(&b, "%v in hardware\n%s", a, dump(physical))
			r.close()
		}
		golden(t, m, "config", b.String())
	})
}

// What a write changes: for each 16-bit register of the header and of the capabilities, what reads back after all ones
// and after all zeros, through VFIO and in the hardware.
func TestConfigWrites(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		var b strings.Builder
		for _, a := range alone(m) {
			r := openRaw(t, m, a)
			f, err := pci.Decode(r.configSpace())
			require.NoError(t, err)
			skip := map[int]string{}
			for _, c := range f.Capabilities {
				if c.ID == pci.CapPowerManagement {
					skip[c.Offset+4] = "a write changes the power state"
				}
			}
			fmt.Fprintf(&b, "%v\n", a)
			first, last, text := 0, 0, "" // a run of registers that answer alike
			flush := func() {
				if text != "" {
					fmt.Fprintf(&b, "  %02x-%02x: %s\n", first, last+1, text)
				}
			}
			for off := 0; off < 0x100; off += 2 {
				if skip[off] != "" {
					continue
				}
				before := r.config(off, 2)
				hardware := r.physical(off)
				r.setConfig(off, 2, 0xffff)
				ones, hardwareOnes := r.config(off, 2), r.physical(off)
				r.setConfig(off, 2, 0)
				zeros, hardwareZeros := r.config(off, 2), r.physical(off)
				r.setConfig(off, 2, before)
				answer := ""
				if ones != before || zeros != before || hardwareOnes != hardware || hardwareZeros != hardware {
					answer = fmt.Sprintf("%04x, ones %04x, zeros %04x; hardware %04x, ones %04x, zeros %04x",
						before, ones, zeros, hardware, hardwareOnes, hardwareZeros)
				}
				if answer != text || last != off-2 {
					flush()
					first, text = off, answer
				}
				last = off
			}
			flush()
			r.close()
		}
		golden(t, m, "config-writes", b.String())
	})
}

// How requests are cut into accesses, and where they end.
func TestConfigAccess(t *testing.T) {
	const region = uapi.PCIConfigRegionIndex << 40
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		r := openRaw(t, m, m.EDU)
		whole := r.configSpace()
		for _, c := range []struct{ off, size int }{{0, 1}, {1, 3}, {2, 7}, {3, 64}, {0xff, 1}, {0, 256}} {
			p := make([]byte, c.size)
			n, err := r.k.Pread(r.device, p, region+int64(c.off))
			require.NoError(t, err)
			assert.Equal(t, c.size, n)
			assert.Equal(t, whole[c.off:c.off+c.size], p, "%d bytes at 0x%x", c.size, c.off)
		}
		for _, c := range []struct {
			off  int64
			size int
			want string
		}{
			{region + 0xff, 2, "EFAULT"},
			{region + 0x100, 1, "EFAULT"},
			{region + 0x1000, 4, "EFAULT"},
			{region + 0x100, 0, "ok"},
			{uapi.PCIVGARegionIndex << 40, 4, "EINVAL"},
			{uapi.PCINumRegions << 40, 4, "EINVAL"},
			{99 << 40, 4, "EINVAL"},
		} {
			_, err := r.k.Pread(r.device, make([]byte, c.size), c.off)
			assert.Equal(t, c.want, errno(err), "%d bytes at 0x%x", c.size, c.off)
		}
	})
}

// While MSI is live, the user reads what he wrote, and the hardware has what the kernel wrote.
func TestMSIVirtualised(t *testing.T) {
	const control, address = 0x40 + 2, 0x40 + 4 // of edu
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		r, e := openEDU(t, m), newEvent(t)
		r.setConfig(control, 2, 0x0081)
		assert.Equal(t, uint32(0x0080), r.config(control, 2), "it is enabled by the ioctl only")
		r.enable(msi, 0, e.fd)
		assert.Equal(t, uint32(0x0080), r.config(control, 2))
		assert.Equal(t, uint16(0x0081), r.physical(control))
		assert.Zero(t, r.config(address, 4))
		assert.Equal(t, uint16(0xfee0), r.physical(address+2))
		r.setConfig(address, 4, 0x12345678)
		assert.Equal(t, uint32(0x12345678), r.config(address, 4))
		assert.Equal(t, uint16(0xfee0), r.physical(address+2))

		// While it is live, the enable bit is the user's.
		r.change(busMaster, 0)
		r.setConfig(control, 2, 0x0080)
		assert.Equal(t, uint16(0x0080), r.physical(control))
		r.setConfig(control, 2, 0x0081)
		assert.Equal(t, uint32(0x0081), r.config(control, 2))
		assert.Equal(t, uint16(0x0081), r.physical(control))
		r.write(eduRaise, 1)
		assert.Equal(t, uint64(1), e.await())
		r.write(eduAck, 1)
	})
}

// The control register of MSI-X reads as it is; writes are dropped.
func TestMSIXControl(t *testing.T) {
	const control = 0xa0 + 2 // of e1000e
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		r, e := openRaw(t, m, m.E1000E), newEvent(t)
		assert.Equal(t, uint32(0x0004), r.config(control, 2))
		r.enable(msix, 0, e.fd)
		assert.Equal(t, uint32(0x8004), r.config(control, 2))
		r.setConfig(control, 2, 0xc000)
		assert.Equal(t, uint32(0x8004), r.config(control, 2))
		r.setConfig(control, 2, 0)
		assert.Equal(t, uint32(0x8004), r.config(control, 2))
	})
}

// BARs are virtual: a user can size them as hardware is sized, and the real ones stay.
func TestBARsVirtualised(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		for _, c := range []struct {
			a     pci.Address
			sizes [6]uint32
		}{
			{m.EDU, [6]uint32{0xfff00000}},
			{m.E1000E, [6]uint32{0xfffe0000, 0xfffe0000, 0xffffffe1, 0xffffc000}},
			{m.XHCI, [6]uint32{0xffffc004, 0xffffffff}},
		} {
			r := openRaw(t, m, c.a)
			for i, size := range c.sizes {
				off := 0x10 + 4*i
				before := r.config(off, 4)
				r.setConfig(off, 4, 0xffffffff)
				assert.Equal(t, size, r.config(off, 4), "%v BAR %d", c.a, i)
				assert.Equal(t, uint16(before), r.physical(off))
				r.setConfig(off, 4, before)
				assert.Equal(t, before, r.config(off, 4))
			}
			r.close()
		}
	})
}
