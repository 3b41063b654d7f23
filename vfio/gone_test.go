package vfio_test

import (
	"io/fs"
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/irqbridge/irqbridge/pci"
	"github.com/irqbridge/irqbridge/vfio"
	"github.com/irqbridge/irqbridge/vfio/vfiotest"
)

// writeAttribute writes a file of sysfs, as echo does.
func writeAttribute(t *testing.T, m *vfiotest.Machine, name, value string) {
	t.Helper()
	if m.Fake != nil {
		require.NoError(t, m.Fake.WriteFile(name, []byte(value+"\n")))
		return
	}
	require.NoError(t, os.WriteFile(name, []byte(value+"\n"), 0))
}

// TestARemovalTakesTheDeviceBack has the host forget a device that is open, and find it anew.
func TestARemovalTakesTheDeviceBack(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		m.Bind(t, m.EDU2)
		d := open(t, m, m.EDU2)
		regs, fd := bar0(t, d), newEventFD(t)
		require.NoError(t, d.EnableIRQs(vfio.MSI, 0, []int{fd}))
		defer writeAttribute(t, m, "/sys/bus/pci/rescan", "1") // for the tests that follow
		writeAttribute(t, m, "/sys/bus/pci/devices/"+m.EDU2.String()+"/remove", "1")
		require.ErrorIs(t, d.Err(), vfio.ErrReleased)
		_, err := regs.Read32(eduID)
		require.ErrorIs(t, err, vfio.ErrReleased)
		require.NoError(t, d.Close())
		_, err = m.Host.Device(m.EDU2)
		require.ErrorIs(t, err, fs.ErrNotExist)
		_, err = vfio.Open(m.EDU2, m.Options()...)
		require.ErrorIs(t, err, vfio.ErrNotFound)
		writeAttribute(t, m, "/sys/bus/pci/rescan", "1")
		again := m.Open(t, m.EDU2)
		assert.Equal(t, uint32(0x010000ed), read32(t, bar0(t, again), eduID))
	})
}

// TestADeviceThatHasGoneIsSaidToHave pulls a device out while a driver that does not listen to the host has it. A real
// kernel without a driver for the slot notices nothing, as was seen in the virtual machine by switching the power of the
// root port's slot off: calls about interrupts succeed, registers read as zero, a reset is ENOTTY.
func TestADeviceThatHasGoneIsSaidToHave(t *testing.T) {
	for _, v := range []vfiotest.Version{vfiotest.V6_1, vfiotest.Newest} {
		m := vfiotest.FakeMachine(t, vfiotest.Personality(v))
		plan, err := m.Host.PlanBind(m.E1000E, "vfio-pci", false)
		require.NoError(t, err)
		require.NoError(t, plan.Run(t.Context()))
		d := open(t, m, m.E1000E)
		asked := make(chan struct{}, 1)
		d.OnRequest(func() { asked <- struct{}{} })
		regs, fd := bar0(t, d), newEventFD(t)
		require.NoError(t, d.EnableIRQs(vfio.MSIX, 0, []int{fd, -1}))
		m.Fake.Remove(m.E1000E)
		<-asked

		_, err = regs.Read32(0x8)
		require.ErrorIs(t, err, vfio.ErrGone)
		require.ErrorIs(t, err, unix.EFAULT)
		require.ErrorContains(t, err, "0000:00:05.0: read 4 bytes at 0x8 of BAR 0: bad address: the device has gone, or lost its power or its link: its configuration space reads all ones; close it")
		require.ErrorIs(t, regs.Write32(0x8, 1), vfio.ErrGone)
		ports, err := d.BAR(2) // of I/O ports, which are not mapped
		require.NoError(t, err)
		if _, err = ports.Read32(0); err != nil {
			require.ErrorIs(t, err, vfio.ErrGone)
		}
		err = d.Reset()
		require.ErrorIs(t, err, vfio.ErrGone)
		require.ErrorIs(t, err, unix.ENOTTY)
		for call, do := range map[string]func() error{
			"DeviceSetIRQs": func() error { return d.TriggerIRQ(vfio.MSIX, 0, 1) },
			"Pwrite":        func() error { return d.WriteConfig([]byte{0}, 0x0c) },
		} {
			m.Fake.Fail(call, unix.ENODEV, 1)
			require.ErrorIs(t, do(), vfio.ErrGone)
		}
		require.NoError(t, d.Close())
		_, err = m.Host.Device(m.E1000E)
		require.ErrorIs(t, err, fs.ErrNotExist)
		writeAttribute(t, m, "/sys/bus/pci/rescan", "1")
		_, err = m.Host.Device(m.E1000E)
		require.ErrorIs(t, err, fs.ErrNotExist, "it is not in its slot")
	}
}

// TestADeviceThatIsThereHasNotGone: the same errors from a device that answers.
func TestADeviceThatIsThereHasNotGone(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		d := m.Open(t, m.EDU)
		regs := bar0(t, d)
		require.NoError(t, d.WriteConfig([]byte{uint8(pci.CommandIO)}, 4))
		_, err := regs.Read32(eduID)
		require.ErrorIs(t, err, unix.EFAULT)
		require.NotErrorIs(t, err, vfio.ErrGone)
		require.ErrorContains(t, err, "memory decoding is off")
	})
}
