package vfio_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/irqbridge/irqbridge/vfio"
	"github.com/irqbridge/irqbridge/vfio/vfiotest"
)

// Whichever call of an open fails, on whichever backend, nothing stays open, and the next open succeeds. A descriptor that was
// passed stays its owner's.
func TestEachCallOfEachOpenFailing(t *testing.T) {
	calls := []string{
		"Open", "Dup", "DeviceNumber", "GetAPIVersion", "CheckExtension", "SetIOMMU", "GroupSetContainer", "GroupGetDeviceFD",
		"DeviceBindIOMMUFD", "DeviceAttachIOMMUFDPT", "IOASAlloc", "DeviceGetInfo", "DeviceGetRegionInfo", "DeviceGetIRQInfo",
		"DeviceSetIRQs", "Pread", "Pwrite",
	}
	open := func(t *testing.T, m *vfiotest.Machine) (*vfio.Device, error) {
		return vfio.Open(m.NVMe, m.Options()...)
	}
	for name, c := range map[string]struct {
		options []vfiotest.Option
		open    func(t *testing.T, m *vfiotest.Machine) (*vfio.Device, error)
	}{
		"group":   {nil, open},
		"iommufd": {[]vfiotest.Option{vfiotest.WithIOMMUFD()}, open},
		"no-iommu": {[]vfiotest.Option{vfiotest.WithoutIOMMU(), vfiotest.NoIOMMUMode(true)}, func(_ *testing.T, m *vfiotest.Machine) (*vfio.Device, error) {
			return vfio.Open(m.NVMe, append(m.Options(), vfio.WithBackend(vfio.BackendNoIOMMU))...)
		}},
		"passed": {[]vfiotest.Option{vfiotest.WithIOMMUFD()}, func(t *testing.T, m *vfiotest.Machine) (*vfio.Device, error) {
			fd, err := m.Kernel.Open(m.Host.DeviceNode(m.NVMe))
			if err != nil {
				return nil, err // not a call of FromFD
			}
			d, err := vfio.FromFD(fd, m.Options()...)
			if err != nil {
				require.NoError(t, m.Kernel.Close(fd), "it is still open")
			}
			return d, err
		}},
	} {
		t.Run(name, func(t *testing.T) {
			failed := 0
			for _, call := range calls {
				m := vfiotest.FakeMachine(t, c.options...) // without a fault that is left
				m.Bind(t, m.NVMe)
				leaked := goleak.IgnoreCurrent()
				before := openFiles(t)
				for nth := 1; ; nth++ {
					m.Fake.Fail(call, unix.ENOMEM, nth)
					d, err := c.open(t, m)
					if err == nil { // it does not make so many, but Close may
						if err := d.Close(); err != nil {
							require.ErrorIs(t, err, unix.ENOMEM)
						}
						break
					}
					failed++
					require.Nil(t, d)
					require.ErrorIs(t, err, unix.ENOMEM, "call %d of %s", nth, call)
					require.Equal(t, before, openFiles(t), "call %d of %s", nth, call)
					d, err = c.open(t, m)
					require.NoError(t, err, "after call %d of %s", nth, call)
					require.NoError(t, d.Close())
				}
				require.Equal(t, before, openFiles(t), "after all calls of %s", call)
				goleak.VerifyNone(t, leaked)
			}
			assert.Greater(t, failed, 20)
		})
	}
}
