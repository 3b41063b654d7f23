package vfiotest_test

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/irqbridge/irqbridge/pci"
	"github.com/irqbridge/irqbridge/vfio"
	"github.com/irqbridge/irqbridge/vfio/vfiotest"
)

const busDir = "/sys/bus/pci/"

// files are the files of a machine, without a device.
func files(t *testing.T, m *vfiotest.Machine) *raw {
	t.Helper()
	return &raw{t: t, m: m, k: m.Kernel}
}

// driverOf is the driver of a device; "" for none.
func driverOf(t *testing.T, m *vfiotest.Machine, a pci.Address) string {
	t.Helper()
	d, err := m.Host.Device(a)
	require.NoError(t, err)
	return d.Driver
}

// What the driver core answers to writes of sysfs.
func TestDriverCore(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		s := files(t, m)
		var b strings.Builder
		write := func(name, text string) {
			fmt.Fprintf(&b, "%s <- %q: %s\n", name, text, errno(s.writeFile(busDir+name, text)))
		}
		edu, nic, bridge := m.EDU.String(), m.E1000E.String(), m.Bridge.String()
		override := "devices/" + edu + "/driver_override"
		read := func(name string) {
			text, err := s.readFile(busDir + name)
			fmt.Fprintf(&b, "%s is %q, %s\n", name, text, errno(err))
		}
		t.Cleanup(func() {
			_ = s.writeFile(busDir+"drivers/vfio-pci/unbind", edu)
			_ = s.writeFile(busDir+override, "\n")
			_ = s.writeFile(busDir+"drivers/e1000e/bind", nic)
			assert.Empty(t, driverOf(t, m, m.EDU))
			assert.Equal(t, "e1000e", driverOf(t, m, m.E1000E))
		})
		read(override)
		write("drivers/vfio-pci/bind", edu)
		write("drivers/vfio-pci/bind", "nonsense")
		write("drivers/vfio-pci/bind", "")
		write("drivers/nonsense/bind", edu)
		write("drivers/vfio-pci/unbind", edu)
		write("drivers/e1000e/bind", edu)
		write("drivers/e1000e/bind", nic)
		write("drivers/vfio-pci/bind", nic)
		write("drivers/vfio-pci/unbind", nic)
		write("drivers_probe", edu)
		write("drivers_probe", nic)
		write("drivers_probe", "nonsense")

		write(override, "vfio-pci")
		read(override)
		fmt.Fprintf(&b, "driver %q\n", driverOf(t, m, m.EDU))
		write("drivers/e1000e/bind", edu)
		write("drivers_probe", edu+"\n")
		fmt.Fprintf(&b, "driver %q\n", driverOf(t, m, m.EDU))
		write("drivers/vfio-pci/bind", edu)
		write("drivers_probe", edu)
		write("drivers/vfio-pci/unbind", edu+"\n")
		write("drivers/vfio-pci/unbind", edu)
		fmt.Fprintf(&b, "driver %q\n", driverOf(t, m, m.EDU))
		write("drivers/vfio-pci/bind", edu)
		write(override, "\n")
		read(override)
		fmt.Fprintf(&b, "clearing the override does not unbind: driver %q\n", driverOf(t, m, m.EDU))
		write("drivers/vfio-pci/unbind", edu)
		write(override, "vfio-pci")
		write(override, "\x00")
		read(override)
		write(override, "no-such-driver\n")
		read(override)
		write("drivers_probe", edu)
		fmt.Fprintf(&b, "driver %q\n", driverOf(t, m, m.EDU))
		write(override, strings.Repeat("x", 4095))
		write(override, "")
		read(override)

		// A driver that is forced on a device that it does not know.
		write(override, "e1000e")
		write("drivers/e1000e/bind", edu)
		fmt.Fprintf(&b, "driver %q\n", driverOf(t, m, m.EDU))
		write(override, "\n")

		write("drivers/e1000e/unbind", nic)
		fmt.Fprintf(&b, "driver %q\n", driverOf(t, m, m.E1000E))
		write("drivers/e1000e/unbind", nic)
		write("drivers_probe", nic)
		fmt.Fprintf(&b, "driver %q\n", driverOf(t, m, m.E1000E))

		// A bridge is for no VFIO driver.
		write("devices/"+bridge+"/driver_override", "vfio-pci")
		write("drivers/vfio-pci/bind", bridge)
		write("drivers_probe", bridge)
		write("devices/"+bridge+"/driver_override", "\n")

		// What cannot be written, or is not there.
		for _, name := range []string{"devices/" + edu + "/vendor", "devices/" + edu, "devices/0000:77:00.0/driver_override", "nonsense"} {
			err := s.writeFile(busDir+name, "x")
			assert.Error(t, err, name)
			if name == "nonsense" || strings.HasPrefix(name, "devices/0000:77") {
				assert.ErrorIs(t, err, fs.ErrNotExist, name)
			}
		}
		golden(t, m, "drivers", b.String())
	})
}

// What sysfs shows of a device through the stations of its life.
func TestSysfs(t *testing.T) {
	attributes := []string{
		"vendor", "device", "subsystem_vendor", "subsystem_device", "class", "revision", "enable", "irq", "numa_node", "power_state", "driver_override",
		"resource", "modalias", "reset_method",
	}
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		s := files(t, m)
		var b strings.Builder
		show := func(a pci.Address, station string) {
			dir := busDir + "devices/" + a.String()
			fmt.Fprintf(&b, "%v %s\n", a, station)
			for _, name := range attributes {
				text, err := s.readFile(dir + "/" + name)
				if errors.Is(err, fs.ErrNotExist) || name == "resource" && a == m.Bridge {
					continue // of a bridge, the windows are not modelled
				}
				require.NoError(t, err)
				fmt.Fprintf(&b, "  %s: %s\n", name, strings.ReplaceAll(text, "\n", " | "))
			}
			for _, name := range []string{"driver", "iommu_group", "subsystem"} {
				target, err := s.readlink(dir + "/" + name)
				if err == nil {
					fmt.Fprintf(&b, "  %s -> %s\n", name, target)
				}
			}
			target, err := s.readlink(dir)
			require.NoError(t, err)
			fmt.Fprintf(&b, "  is at %s\n", target)
			for _, name := range []string{"msi_irqs", "net", "vfio-dev"} {
				if names, err := s.readDir(dir + "/" + name); err == nil {
					fmt.Fprintf(&b, "  %s: %d\n", name, len(names))
				}
			}
		}
		// EDU2 is not used by other tests, which would show in its irq and power state.
		for _, a := range []pci.Address{m.EDU2, m.Bridge} {
			show(a, "after boot")
		}
		m.Bind(t, m.EDU2)
		m.Bind(t, m.E1000E)
		show(m.EDU2, "bound to vfio-pci")
		asleep := func() { // a real kernel puts it to sleep a moment later
			t.Helper()
			require.Eventually(t, func() bool {
				text, err := s.readFile(busDir + "devices/" + m.E1000E.String() + "/power_state")
				return err == nil && text == "D3hot"
			}, patience, tick)
		}
		asleep()
		show(m.E1000E, "bound to vfio-pci")
		r := openBound(t, m, m.E1000E)
		show(m.E1000E, "open")
		e := newEvent(t)
		r.enable(msix, 0, e.fd, e.fd)
		show(m.E1000E, "with MSI-X")
		r.close()
		asleep()
		show(m.E1000E, "closed")
		golden(t, m, "sysfs", b.String())
	})
}

// A plan of package host binds, and its counterpart gives the device back to the driver that it had.
func TestBindAndRestore(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		for _, a := range []pci.Address{m.E1000E, m.EDU} {
			before, err := m.Host.Device(a)
			require.NoError(t, err)
			t.Run(a.String(), func(t *testing.T) {
				d := m.Open(t, a)
				assert.Equal(t, "vfio-pci", driverOf(t, m, a))
				assert.Equal(t, a, d.Address())
			})
			after, err := m.Host.Device(a)
			require.NoError(t, err)
			assert.Equal(t, before.Driver, after.Driver)
			assert.Equal(t, before.DriverOverride, after.DriverOverride)
		}
		assert.Equal(t, "e1000e", driverOf(t, m, m.E1000E))
	})
}

// Who unbinds a device that is open waits until it is closed. Its user is asked by REQ.
func TestUnbindAsksAndWaits(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		m.Bind(t, m.EDU)
		r, e := openBound(t, m, m.EDU), newEvent(t)
		r.enable(rEQ, 0, e.fd)
		done := make(chan error, 1)
		go func() { done <- r.writeFile(busDir+"drivers/vfio-pci/unbind", m.EDU.String()) }()
		assert.NotZero(t, e.await())
		select {
		case err := <-done:
			require.Fail(t, "it did not wait", "%v", err)
		default:
		}
		assert.Equal(t, "idle", indexNames[r.live()], "the device still works")
		r.close()
		require.NoError(t, <-done)
		assert.Empty(t, driverOf(t, m, m.EDU))
		require.NoError(t, r.writeFile(busDir+"drivers/vfio-pci/bind", m.EDU.String())) // for the restore
	})
}

// The groups as package host sees them.
func TestGroups(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		assert.True(t, m.Host.HasIOMMU())
		groups, err := m.Host.Groups()
		require.NoError(t, err)
		var b strings.Builder
		for _, g := range groups {
			fmt.Fprintf(&b, "%d: %v, blocked by %v\n", g.ID, addresses(g.Members), addresses(g.Blockers()))
		}
		golden(t, m, "groups", b.String())
	})
}

// Every device that package host lists, by its names in sysfs.
func TestTree(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		s := files(t, m)
		names, err := s.readDir(busDir + "devices")
		require.NoError(t, err)
		assert.Len(t, names, 13)
		for _, name := range names {
			target, err := s.readlink(busDir + "devices/" + name)
			require.NoError(t, err)
			through, err := s.readFile(path.Join(busDir+"devices", target, "vendor"))
			require.NoError(t, err)
			direct, err := s.readFile(busDir + "devices/" + name + "/vendor")
			require.NoError(t, err)
			assert.Equal(t, direct, through)
		}
		_, err = s.readFile(busDir + "devices/0000:00:04.0/../0000:00:05.0/vendor")
		require.NoError(t, err)
		_, err = s.readFile("/sys/no/such/file")
		require.ErrorIs(t, err, fs.ErrNotExist)
		_, err = s.readDir("/sys/no/such/dir")
		require.ErrorIs(t, err, fs.ErrNotExist)
		_, err = s.readlink(busDir + "devices/0000:00:04.0/vendor")
		assert.Equal(t, "EINVAL", errno(err))
		_, err = s.readFile(busDir + "devices/0000:00:04.0")
		assert.Equal(t, "EISDIR", errno(err))
		_, err = s.readFile(busDir + "devices/0000:00:04.0/vendor/x")
		assert.Equal(t, "ENOTDIR", errno(err))
		_, err = s.readFile(busDir + "drivers_probe")
		assert.Error(t, err)
	})
}

// A device that is not with vfio-pci cannot be opened, nor one that is in use.
func TestOpenRefused(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		_, err := vfio.Open(m.E1000E, m.Options()...)
		require.ErrorIs(t, err, vfio.ErrNotBound)
		_, err = vfio.Open(pci.Address{Bus: 0x77}, m.Options()...)
		require.ErrorIs(t, err, vfio.ErrNotFound)
		m.Open(t, m.EDU)
		_, err = vfio.Open(m.EDU, m.Options()...)
		require.ErrorIs(t, err, vfio.ErrBusy)
		m.Bind(t, m.BridgeEDU)
		_, err = vfio.Open(m.BridgeEDU, m.Options()...)
		require.ErrorIs(t, err, vfio.ErrNotViable)
	})
}
