package vfiotest_test

import (
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/irqbridge/irqbridge/vfio"
	"github.com/irqbridge/irqbridge/vfio/internal/uapi"
	"github.com/irqbridge/irqbridge/vfio/vfiotest"
)

// TestPCIDevice has the cases of the kernel's own selftest vfio_pci_device_test, for each device.
func TestPCIDevice(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		for _, a := range alone(m) {
			t.Run(a.String(), func(t *testing.T) { testPCIDevice(t, openRaw(t, m, a)) })
		}
	})
}

func testPCIDevice(t *testing.T, r *raw) {
	t.Run("config_space_read_write", func(t *testing.T) {
		for name, off := range map[string]int{"vendor": 0, "device": 2} {
			text, err := r.readFile("/sys/bus/pci/devices/" + r.address.String() + "/" + name)
			require.NoError(t, err)
			want, err := strconv.ParseUint(strings.TrimSpace(text), 0, 16)
			require.NoError(t, err)
			assert.Equal(t, uint32(want), r.config(off, 2), name)
		}
		assert.Zero(t, r.config(command, 2)&busMaster)
		r.change(busMaster, 0)
		assert.NotZero(t, r.config(command, 2)&busMaster)
		r.change(0, busMaster)
		assert.Zero(t, r.config(command, 2)&busMaster)
	})
	t.Run("validate_bars", func(t *testing.T) {
		for i := range uint32(6) {
			arg := make([]byte, 128)
			uapi.Put(arg, uapi.RegionInfo{Argsz: uint32(len(arg)), Index: i})
			require.NoError(t, r.k.DeviceGetRegionInfo(r.device, arg))
			info := uapi.Take[uapi.RegionInfo](arg)
			mapped, err := r.k.Mmap(r.device, int64(info.Offset), max(int(info.Size), 4096))
			if info.Flags&uapi.RegionInfoFlagMmap == 0 {
				assert.Equal(t, "EINVAL", errno(err), "BAR %d", i)
				continue
			}
			require.NoError(t, err, "BAR %d", i)
			assert.NotZero(t, info.Size, "BAR %d", i)
			require.NoError(t, mapped.Unmap())
		}
	})
	const most = 16
	for _, kind := range []struct {
		name  string
		index uint32
	}{{"msi", msi}, {"msix", msix}} {
		t.Run(kind.name, func(t *testing.T) {
			arg := sized(uapi.IRQInfo{Index: kind.index})
			require.NoError(t, r.k.DeviceGetIRQInfo(r.device, arg))
			n := min(int(uapi.Take[uapi.IRQInfo](arg).Count), most)
			if n == 0 {
				return // TestNoInterrupts has what it answers then
			}
			var es []*event
			var row []int
			for range n {
				e := newEvent(t)
				es, row = append(es, e), append(row, e.fd)
			}
			r.enable(kind.index, 0, row...)
			for i, e := range es {
				assert.Zero(t, e.take())
				r.fire(kind.index, uint32(i), 1)
				assert.Equal(t, uint64(1), e.take(), "message %d", i)
			}
			r.disable(kind.index)
			for _, e := range es {
				assert.Zero(t, e.take())
			}
		})
	}
	t.Run("reset", func(t *testing.T) {
		arg := sized(uapi.DeviceInfo{})
		require.NoError(t, r.k.DeviceGetInfo(r.device, arg))
		want := "EINVAL"
		if uapi.Take[uapi.DeviceInfo](arg).Flags&uapi.DeviceFlagsReset != 0 {
			want = "ok"
		}
		assert.Equal(t, want, errno(r.k.DeviceReset(r.device)))
	})
}

// Devices can be opened at the same time, which is what the kernel's own selftest vfio_pci_device_init_perf_test measures.
func TestParallelOpen(t *testing.T) {
	inEachMode(t, func(t *testing.T, m *vfiotest.Machine, mode iommuMode) {
		list := alone(m)
		devices, errs := make([]*raw, len(list)), make([]error, len(list))
		for i, a := range list {
			m.Bind(t, a)
			devices[i] = newRaw(t, m, a)
		}
		var all sync.WaitGroup
		for i, r := range devices {
			all.Go(func() { errs[i] = r.open(mode, nil) })
		}
		all.Wait()
		for i, r := range devices {
			require.NoError(t, errs[i], "%v", r.address)
			assert.Equal(t, r.physical(0), uint16(r.config(0, 2)))
		}
	})
}

// And so they can by this project's own means.
func TestOpenTogether(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		list := alone(m)
		for _, a := range list {
			m.Bind(t, a)
		}
		devices, errs := make([]*vfio.Device, len(list)), make([]error, len(list))
		var all sync.WaitGroup
		for i, a := range list {
			all.Go(func() { devices[i], errs[i] = vfio.Open(a, m.Options()...) })
		}
		all.Wait()
		for i, a := range list {
			require.NoError(t, errs[i], "%v", a)
			var b [2]byte
			require.NoError(t, devices[i].ReadConfig(b[:], 0))
			f, err := m.Host.Config(a)
			require.NoError(t, err)
			assert.Equal(t, f[:2], b[:])
			require.NoError(t, devices[i].Close())
		}
	})
}
