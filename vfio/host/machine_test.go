package host_test

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/irqbridge/irqbridge/pci"
	"github.com/irqbridge/irqbridge/vfio"
	"github.com/irqbridge/irqbridge/vfio/host"
	"github.com/irqbridge/irqbridge/vfio/vfiotest"
)

// The tests in this file run on the fake kernel, and in the virtual machine on the real one:
//
//	CGO_ENABLED=0 go test -exec "$PWD/scripts/vm/exec" ./vfio/host/

func device(t *testing.T, m *vfiotest.Machine, a pci.Address) host.Device {
	t.Helper()
	d, err := m.Host.Device(a)
	require.NoError(t, err)
	return d
}

func addresses(devices []host.Device) []pci.Address {
	var list []pci.Address
	for _, d := range devices {
		list = append(list, d.Address)
	}
	return list
}

func TestMachine(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		devices, err := m.Host.Devices()
		require.NoError(t, err)
		list := addresses(devices)
		for _, a := range []pci.Address{m.EDU, m.EDU2, m.E1000E, m.Bridge, m.BridgeEDU, m.BridgeE1000, m.TestDev} {
			assert.Contains(t, list, a)
		}
		edu := device(t, m, m.EDU)
		assert.Equal(t, uint16(0x1234), edu.VendorID)
		assert.Equal(t, uint16(0x11e8), edu.DeviceID)
		assert.Equal(t, uint32(0x00ff00), edu.Class)
		assert.Empty(t, edu.Driver)
		assert.Empty(t, edu.DriverOverride)
		assert.False(t, edu.VFIO)
		assert.Equal(t, "e1000e", device(t, m, m.E1000E).Driver)
		assert.True(t, device(t, m, m.Bridge).Bridge)
		assert.True(t, m.Host.HasIOMMU())

		groups, err := m.Host.Groups()
		require.NoError(t, err)
		seen := map[pci.Address]int{}
		for _, g := range groups {
			for _, d := range g.Members {
				seen[d.Address] = g.ID
				assert.Equal(t, g.ID, d.Group, d.Address)
			}
		}
		assert.Len(t, seen, len(devices), "each device is in one group")
		shared, err := m.Host.Group(device(t, m, m.BridgeEDU).Group)
		require.NoError(t, err)
		assert.Equal(t, []pci.Address{m.Bridge, m.BridgeEDU, m.BridgeE1000}, addresses(shared.Members))
		alone, err := m.Host.Group(edu.Group)
		require.NoError(t, err)
		assert.Equal(t, []pci.Address{m.EDU}, addresses(alone.Members))

		config, err := m.Host.Config(m.E1000E)
		require.NoError(t, err)
		assert.Equal(t, []byte{0x86, 0x80, 0xd3, 0x10}, config[:4])
		assert.Zero(t, m.Host.IRQBalance())
	})
}

func TestMachineBindAndGiveBack(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		for _, a := range []pci.Address{m.EDU, m.E1000E} {
			before := device(t, m, a)
			plan, err := m.Host.PlanBind(a, "vfio-pci", false)
			require.NoError(t, err)
			assert.Empty(t, plan.Notes)
			require.NoError(t, plan.Run(t.Context()))
			bound := device(t, m, a)
			assert.Equal(t, "vfio-pci", bound.Driver)
			assert.Equal(t, "vfio-pci", bound.DriverOverride)
			assert.True(t, bound.VFIO)

			again, err := m.Host.PlanBind(a, "vfio-pci", false)
			require.NoError(t, err)
			assert.Empty(t, again.Steps)

			plan, err = m.Host.PlanUnbind(a)
			require.NoError(t, err)
			assert.Equal(t, before.Driver, plan.Driver)
			require.NoError(t, plan.Run(t.Context()))
			after := device(t, m, a)
			assert.Equal(t, before.Driver, after.Driver)
			assert.Equal(t, before.DriverOverride, after.DriverOverride)
			assert.False(t, after.VFIO)

			again, err = m.Host.PlanUnbind(a)
			require.NoError(t, err)
			assert.Empty(t, again.Steps)
		}
	})
}

// TestMachineGiveBackWithoutARecord has the kernel pick the driver.
func TestMachineGiveBackWithoutARecord(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		m.Bind(t, m.E1000E)
		forget, err := m.Host.PlanUnbind(m.E1000E)
		require.NoError(t, err)
		forget.Steps = forget.Steps[len(forget.Steps)-1:]
		require.True(t, forget.Steps[0].Remove)
		require.NoError(t, forget.Run(t.Context()))

		plan, err := m.Host.PlanUnbind(m.E1000E)
		require.NoError(t, err)
		assert.NotEmpty(t, plan.Notes)
		require.NoError(t, plan.Run(t.Context()))
		assert.Equal(t, "e1000e", device(t, m, m.E1000E).Driver)
		assert.Empty(t, device(t, m, m.E1000E).DriverOverride)
	})
}

// TestMachineBindFails gives edu to the driver of a network card. The override makes the driver core try it whatever the
// device's IDs are; the driver's probe function then fails.
func TestMachineBindFails(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		before := device(t, m, m.EDU)
		plan, err := m.Host.PlanBind(m.EDU, "e1000e", false)
		require.NoError(t, err)
		err = plan.Run(t.Context())
		require.Error(t, err)
		require.ErrorContains(t, err, "the device is back to how it was")
		t.Log(err)
		after := device(t, m, m.EDU)
		assert.Equal(t, before.Driver, after.Driver)
		assert.Equal(t, before.DriverOverride, after.DriverOverride)

		_, err = m.Host.PlanBind(m.EDU, "no_such_driver", false)
		require.ErrorIs(t, err, fs.ErrNotExist)
		_, err = m.Host.PlanBind(pci.Address{Bus: 0x7f}, "vfio-pci", false)
		require.ErrorIs(t, err, fs.ErrNotExist)
		_, err = m.Host.PlanBind(m.Bridge, "vfio-pci", false)
		require.ErrorContains(t, err, "it is a bridge")
	})
}

// TestMachineViability compares what Blockers says with what the kernel does.
func TestMachineViability(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		blockers := func() []pci.Address {
			g, err := m.Host.Group(device(t, m, m.BridgeEDU).Group)
			require.NoError(t, err)
			return addresses(g.Blockers())
		}
		if d := device(t, m, m.Bridge); d.Driver == "shpchp" { // the kernel argument acpiphp.disable=1 leaves the bridge to it
			assert.Equal(t, []pci.Address{m.Bridge, m.BridgeE1000}, blockers())
			require.NoError(t, os.WriteFile("/sys/bus/pci/drivers/shpchp/unbind", []byte(m.Bridge.String()), 0))
		}
		assert.Equal(t, []pci.Address{m.BridgeE1000}, blockers())
		plan, err := m.Host.PlanBind(m.BridgeEDU, "vfio-pci", false)
		require.NoError(t, err)
		require.Len(t, plan.Notes, 1)
		assert.Contains(t, plan.Notes[0], m.BridgeE1000.String())

		m.Bind(t, m.BridgeEDU)
		_, err = vfio.Open(m.BridgeEDU, m.Options()...)
		require.ErrorIs(t, err, vfio.ErrNotViable)

		m.Bind(t, m.BridgeE1000)
		assert.Empty(t, blockers())
		d, err := vfio.Open(m.BridgeEDU, m.Options()...)
		require.NoError(t, err)
		defer d.Close() //nolint:errcheck // closed below

		// While the group is in use, the kernel keeps its own drivers out of it.
		plan, err = m.Host.PlanUnbind(m.BridgeE1000)
		require.NoError(t, err)
		err = plan.Run(t.Context())
		require.ErrorIs(t, err, unix.EBUSY)
		require.ErrorContains(t, err, "a process uses another device of IOMMU group")
		require.ErrorContains(t, err, "the device is back to how it was")
		assert.True(t, device(t, m, m.BridgeE1000).VFIO)
		require.NoError(t, d.Close())
	})
}

// eventfds returns n eventfds, which are closed at the end of the test.
func eventfds(t *testing.T, n int) []int {
	t.Helper()
	var fds []int
	for range n {
		fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
		require.NoError(t, err)
		t.Cleanup(func() { _ = unix.Close(fd) })
		fds = append(fds, fd)
	}
	return fds
}

func TestMachineFindsInterrupts(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		d := m.Open(t, m.E1000E)
		for _, c := range []struct {
			index   vfio.IRQIndex
			kind    pci.Kind
			n       int
			trigger string
			action  string
		}{
			{vfio.INTx, pci.KindINTx, 1, "level", "vfio-intx(%[2]v)"},
			{vfio.MSI, pci.KindMSI, 1, "edge", "vfio-msi[%[1]d](%[2]v)"},
			{vfio.MSIX, pci.KindMSIX, 5, "edge", "vfio-msix[%[1]d](%[2]v)"},
		} {
			_, err := m.Host.FindIRQ(m.E1000E, c.kind, 0)
			require.ErrorIs(t, err, fs.ErrNotExist, "not enabled yet")
			require.NoError(t, d.EnableIRQs(c.index, 0, eventfds(t, c.n)))
			numbers := map[int]bool{}
			for i := range c.n {
				irq, err := m.Host.FindIRQ(m.E1000E, c.kind, i)
				require.NoError(t, err)
				t.Logf("%+v", irq)
				assert.Equal(t, c.trigger, irq.Trigger)
				assert.Equal(t, fmt.Sprintf(c.action, i, m.E1000E)[:len(irq.Action)], irq.Action)
				assert.NotEmpty(t, irq.Chip)
				online, err := m.Host.OnlineCPUs()
				require.NoError(t, err)
				assert.Len(t, irq.Counts, online.Len())
				counts, err := m.Host.IRQCounts(irq.Number)
				require.NoError(t, err)
				assert.Equal(t, irq.Counts, counts)
				numbers[irq.Number] = true
			}
			assert.Len(t, numbers, c.n, "each message has an IRQ of its own")
			require.NoError(t, d.DisableIRQs(c.index))
			_, err = m.Host.FindIRQ(m.E1000E, c.kind, 0)
			require.ErrorIs(t, err, fs.ErrNotExist)
			for n := range numbers {
				_, err := m.Host.Affinity(n)
				if c.kind == pci.KindINTx {
					continue // the line's IRQ may stay, without a handler
				}
				require.ErrorIs(t, err, fs.ErrNotExist)
				require.ErrorIs(t, m.Host.SetAffinity(n, m.CPUs), fs.ErrNotExist)
			}
		}
	})
}

func TestMachineAffinity(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		d := m.Open(t, m.E1000E)
		fds := eventfds(t, 2)
		for cpu := range m.CPUs.All() {
			// Enabled anew for each: a second move soon after a first one may wait for an interrupt.
			require.NoError(t, d.EnableIRQs(vfio.MSIX, 0, fds))
			irq, err := m.Host.FindIRQ(m.E1000E, pci.KindMSIX, 1)
			require.NoError(t, err)
			want := host.CPUSetOf(cpu)
			require.NoError(t, m.Host.SetAffinity(irq.Number, want))
			got, err := m.Host.Affinity(irq.Number)
			require.NoError(t, err)
			assert.Equal(t, host.Affinity{Set: want, Effective: want}, got)
			require.NoError(t, d.DisableIRQs(vfio.MSIX))
		}

		require.NoError(t, d.EnableIRQs(vfio.MSIX, 0, fds))
		irq, err := m.Host.FindIRQ(m.E1000E, pci.KindMSIX, 1)
		require.NoError(t, err)
		before, err := m.Host.Affinity(irq.Number)
		require.NoError(t, err)
		for _, missing := range []host.CPUSet{host.CPUSetOf(70), host.CPUSetOf(host.MaxCPUs - 1), m.CPUs.Add(70)} {
			err := m.Host.SetAffinity(irq.Number, missing)
			require.ErrorIs(t, err, unix.ERANGE, "one number too high spoils the set")
			require.ErrorContains(t, err, missing.Minus(m.CPUs).List()+" is not online")
		}
		require.ErrorIs(t, m.Host.SetAffinity(irq.Number, host.CPUSet{}), unix.EINVAL)
		after, err := m.Host.Affinity(irq.Number)
		require.NoError(t, err)
		assert.Equal(t, before, after)
	})
}

// TestMachineUnbindWaitsForTheUser takes a device away from this process, which has it open.
func TestMachineUnbindWaitsForTheUser(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		if !m.Real {
			t.Skip("the fake's unbind does not wait: tree_test.go has an OS whose does")
		}
		d := m.Open(t, m.E1000E, vfio.Unwatched())
		req := eventfds(t, 1)
		require.NoError(t, d.EnableIRQs(vfio.Req, 0, req))
		plan, err := m.Host.PlanUnbind(m.E1000E)
		require.NoError(t, err)

		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		go func() { // stop waiting once the kernel has asked for the device
			buf := make([]byte, 8)
			for ctx.Err() == nil {
				if n, _ := unix.Read(req[0], buf); n == 8 {
					cancel()
				}
				_, _ = unix.Poll([]unix.PollFd{{Fd: int32(req[0]), Events: unix.POLLIN}}, 100)
			}
		}()
		err = plan.Run(ctx)
		t.Log(err)
		require.ErrorIs(t, err, context.Canceled)
		require.ErrorContains(t, err, fmt.Sprintf("%d (%s)", os.Getpid(), comm(t)), "this process is named")
		require.ErrorContains(t, err, "unbind once more")

		require.NoError(t, d.Close())
		require.Eventually(t, func() bool { return device(t, m, m.E1000E).Driver == "" }, time.Minute, 10*time.Millisecond)
		plan, err = m.Host.PlanUnbind(m.E1000E)
		require.NoError(t, err)
		require.NoError(t, plan.Run(t.Context()))
		assert.Equal(t, "e1000e", device(t, m, m.E1000E).Driver)
		assert.Empty(t, device(t, m, m.E1000E).DriverOverride)
	})
}

// comm returns this process's command name.
func comm(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile("/proc/self/comm")
	require.NoError(t, err)
	return string(b[:len(b)-1])
}

// TestMachineInUse brings a network interface up.
func TestMachineInUse(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		if !m.Real {
			t.Skip("the fake has no network interfaces: inuse_test.go has a tree with some")
		}
		reasons, err := m.Host.InUse(m.E1000E)
		require.NoError(t, err)
		assert.Empty(t, reasons)
		links, err := filepath.Glob("/sys/bus/pci/devices/" + m.E1000E.String() + "/net/*")
		require.NoError(t, err)
		require.Len(t, links, 1)
		name := filepath.Base(links[0])
		setUp(t, name, true)
		defer setUp(t, name, false)
		reasons, err = m.Host.InUse(m.E1000E)
		require.NoError(t, err)
		assert.Equal(t, []string{"network interface " + name + " is up"}, reasons)
		_, err = m.Host.PlanBind(m.E1000E, "vfio-pci", false)
		require.ErrorIs(t, err, host.ErrInUse)
	})
}

// setUp sets or clears IFF_UP by SIOCSIFFLAGS.
func setUp(t *testing.T, name string, up bool) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	defer unix.Close(fd) //nolint:errcheck // a socket that carried nothing
	ifr, err := unix.NewIfreq(name)
	require.NoError(t, err)
	require.NoError(t, unix.IoctlIfreq(fd, unix.SIOCGIFFLAGS, ifr))
	flags := ifr.Uint16() &^ unix.IFF_UP
	if up {
		flags |= unix.IFF_UP
	}
	ifr.SetUint16(flags)
	require.NoError(t, unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, ifr))
}
