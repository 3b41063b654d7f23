package vfio_test

import (
	"io/fs"
	"os"
	"slices"
	"strings"
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

// loopback has the kernel signal each vector once, and finds each signal where it belongs and nowhere else.
func loopback(t *testing.T, d *vfio.Device, index vfio.IRQIndex, fds []int) {
	t.Helper()
	for v, fd := range fds {
		require.NoError(t, d.TriggerIRQ(index, v, 1))
		require.Equal(t, uint64(1), wait(t, fd), "vector %d", v)
	}
	for v, fd := range fds {
		require.Zero(t, count(t, fd), "vector %d", v)
	}
}

// TestReenable adds vectors where none can be added to an enabled index: to MSI always, to MSI-X on old kernels.
func TestReenable(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		for _, c := range []struct {
			address pci.Address
			index   vfio.IRQIndex
			vectors int
		}{{m.XHCI, vfio.MSI, 16}, {m.E1000E, vfio.MSIX, 5}} {
			d := m.Open(t, c.address)
			fds := newEventFDs(t, c.vectors)
			require.NoError(t, d.EnableIRQs(c.index, 0, fds[:2]))
			kind, _ := c.index.Kind()
			irq, err := m.Host.FindIRQ(c.address, kind, 0)
			require.NoError(t, err)
			cpu := host.CPUSetOf(m.CPUs.CPUs()[0])
			require.NoError(t, m.Host.SetAffinity(irq.Number, cpu))

			info, err := d.IRQ(c.index)
			require.NoError(t, err)
			assert.Equal(t, c.index == vfio.MSI || m.Version == vfiotest.V6_1, info.NoResize)
			if info.NoResize {
				err = d.EnableIRQs(c.index, 2, fds[2:])
				require.ErrorIs(t, err, vfio.ErrNotSupported)
				require.ErrorContains(t, err, "it was enabled with 2 vectors and cannot grow on this kernel")
				loopback(t, d, c.index, fds[:2])
			} else {
				require.NoError(t, d.EnableIRQs(c.index, 2, fds[2:]))
				a, err := m.Host.Affinity(irq.Number)
				require.NoError(t, err)
				assert.Equal(t, cpu, a.Set, "the others notice nothing of it")
				loopback(t, d, c.index, fds)
			}

			require.NoError(t, d.ReenableIRQs(c.index, fds))
			_, vectors, _ := d.EnabledIRQs()
			assert.Equal(t, c.vectors, vectors)
			loopback(t, d, c.index, fds)
			irq, err = m.Host.FindIRQ(c.address, kind, 0)
			require.NoError(t, err)
			a, err := m.Host.Affinity(irq.Number)
			require.NoError(t, err)
			if m.CPUs.Len() > 1 {
				assert.NotEqual(t, cpu, a.Set, "its affinity is gone")
			}
			assert.NotZero(t, command(t, d)&uint8(pci.CommandBusMaster))

			// It is also the way to fewer, and from nothing.
			require.NoError(t, d.ReenableIRQs(c.index, fds[:1]))
			_, vectors, _ = d.EnabledIRQs()
			assert.Equal(t, 1, vectors)
			_, err = m.Host.FindIRQ(c.address, kind, 1)
			require.ErrorIs(t, err, fs.ErrNotExist)
			require.NoError(t, d.DisableIRQs(c.index))
			require.NoError(t, d.ReenableIRQs(c.index, fds))
			loopback(t, d, c.index, fds)
		}
	})
}

// TestReenableRefusals changes nothing, TestReenableThatFails does.
func TestReenableRefusals(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		d := m.Open(t, m.E1000E)
		fds := newEventFDs(t, 6)
		require.NoError(t, d.EnableIRQs(vfio.MSIX, 0, fds[:2]))
		require.ErrorIs(t, d.ReenableIRQs(vfio.MSIX, fds), unix.EINVAL, "there are 5")
		require.ErrorIs(t, d.ReenableIRQs(vfio.MSIX, nil), unix.EINVAL)
		require.ErrorIs(t, d.ReenableIRQs(vfio.MSI, fds[:1]), vfio.ErrBusy)
		require.ErrorIs(t, d.ReenableIRQs(vfio.Req, fds[:1]), vfio.ErrBusy)
		require.ErrorIs(t, d.ReenableIRQs(7, fds[:1]), vfio.ErrNotFound)
		loopback(t, d, vfio.MSIX, fds[:2])
		require.NoError(t, d.Close())
		require.ErrorIs(t, d.ReenableIRQs(vfio.MSIX, fds[:1]), os.ErrClosed)
	})
}

func TestReenableThatFails(t *testing.T) {
	m := vfiotest.FakeMachine(t, vfiotest.VectorLimit(3))
	d := m.Open(t, m.E1000E)
	fds := newEventFDs(t, 5)
	require.NoError(t, d.EnableIRQs(vfio.MSIX, 0, fds[:2]))
	var fewer *vfio.FewerVectorsError
	require.ErrorAs(t, d.ReenableIRQs(vfio.MSIX, fds), &fewer)
	assert.Equal(t, vfio.FewerVectorsError{Requested: 5, Available: 3}, *fewer)
	_, _, enabled := d.EnabledIRQs()
	assert.False(t, enabled)
	require.NoError(t, d.EnableIRQs(vfio.MSIX, 0, fds[:fewer.Available]))
	loopback(t, d, vfio.MSIX, fds[:3])

	m.Fake.Fail("DeviceSetIRQs", unix.EIO, 1)
	err := d.ReenableIRQs(vfio.MSIX, fds[:1])
	require.ErrorIs(t, err, unix.EIO)
	require.ErrorContains(t, err, "re-enable MSI-X")
	_, vectors, _ := d.EnabledIRQs()
	assert.Equal(t, 3, vectors, "it could not be disabled")
}

// TestSixteenMessagesOfMSI: each has a host IRQ of its own, which can be delivered where it is wanted.
func TestSixteenMessagesOfMSI(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		d := m.Open(t, m.XHCI)
		const messages = 16
		info, err := d.IRQ(vfio.MSI)
		require.NoError(t, err)
		require.Equal(t, messages, info.Count)
		fds := newEventFDs(t, messages)
		require.NoError(t, d.EnableIRQs(vfio.MSI, 0, fds))
		config, err := m.Host.Config(m.XHCI)
		require.NoError(t, err)
		f, err := pci.Decode(config)
		require.NoError(t, err)
		assert.True(t, f.MSI.Enabled)
		assert.Equal(t, messages, f.MSI.EnabledMessages)

		cpus := m.CPUs.CPUs()
		numbers := map[int]int{}
		for v := range messages {
			irq, err := m.Host.FindIRQ(m.XHCI, pci.KindMSI, v)
			require.NoError(t, err)
			assert.Equal(t, "edge", irq.Trigger)
			numbers[irq.Number] = v
			cpu := host.CPUSetOf(cpus[v%len(cpus)])
			require.NoError(t, m.Host.SetAffinity(irq.Number, cpu))
			a, err := m.Host.Affinity(irq.Number)
			require.NoError(t, err)
			assert.Equal(t, host.Affinity{Set: cpu, Effective: cpu}, a, "message %d, whatever the others have", v)
		}
		assert.Len(t, numbers, messages, "no two share one")
		loopback(t, d, vfio.MSI, fds)

		// Fewer: the device is told a power of two.
		require.NoError(t, d.ReenableIRQs(vfio.MSI, fds[:3]))
		config, err = m.Host.Config(m.XHCI)
		require.NoError(t, err)
		f, err = pci.Decode(config)
		require.NoError(t, err)
		assert.Equal(t, 4, f.MSI.EnabledMessages)
		loopback(t, d, vfio.MSI, fds[:3])
	})
}

// TestOneMessageOfMSIWithoutRemapping: the messages of MSI need vectors in a row, which only interrupt remapping gives.
// In the virtual machine it takes IRQBRIDGE_VM_APPEND='intremap=off vfio_iommu_type1.allow_unsafe_interrupts=1'.
func TestOneMessageOfMSIWithoutRemapping(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		if !m.Real {
			m = vfiotest.FakeMachine(t, vfiotest.Personality(m.Version), vfiotest.WithoutInterruptRemapping(), vfiotest.UnsafeInterrupts())
		} else if arguments, err := os.ReadFile("/proc/cmdline"); err != nil || !strings.Contains(string(arguments), "intremap=off") {
			t.Skip("this machine has interrupt remapping")
		}
		d := m.Open(t, m.XHCI)
		fds := newEventFDs(t, 16)
		for _, n := range []int{16, 2} {
			var fewer *vfio.FewerVectorsError
			require.ErrorAs(t, d.EnableIRQs(vfio.MSI, 0, fds[:n]), &fewer)
			assert.Equal(t, vfio.FewerVectorsError{Requested: n, Available: 1}, *fewer)
			_, _, enabled := d.EnabledIRQs()
			assert.False(t, enabled)
		}
		require.NoError(t, d.EnableIRQs(vfio.MSI, 0, fds[:1]))
		loopback(t, d, vfio.MSI, fds[:1])
	})
}

// vectorsPerCPU is how many vectors x86 has for devices on each CPU, at most: 256, without the 32 of exceptions and those of
// the kernel itself.
const vectorsPerCPU = 200

// TestTwoThousandVectors arms all the messages that a device can have with one call, and finds each where it belongs. In
// the virtual machine it takes IRQBRIDGE_VM_DEVICES=more, and IRQBRIDGE_VM_CPUS=12 for the host to have so many vectors.
func TestTwoThousandVectors(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		if _, err := m.Host.Device(m.Vectors); m.Real && err != nil {
			t.Skip("this machine has no device with so many")
		}
		d := m.Open(t, m.Vectors)
		const messages = 2048
		info, err := d.IRQ(vfio.MSIX)
		require.NoError(t, err)
		require.Equal(t, messages, info.Count)
		fds := newEventFDs(t, messages)
		begin := time.Now()
		err = d.EnableIRQs(vfio.MSIX, 0, fds)
		t.Logf("enabled on %d CPUs in %v", m.CPUs.Len(), time.Since(begin))
		if m.Real && m.CPUs.Len()*vectorsPerCPU < messages {
			outOfVectors(t, d, fds, err)
			return
		}
		require.NoError(t, err)
		begin = time.Now()
		require.NoError(t, d.TriggerIRQ(vfio.MSIX, 0, messages))
		for v, fd := range fds {
			require.Equal(t, uint64(1), wait(t, fd), "vector %d", v)
		}
		t.Logf("triggered with one call, and counted, in %v", time.Since(begin))
		begin = time.Now()
		loopback(t, d, vfio.MSIX, fds)
		t.Logf("triggered and counted one by one in %v", time.Since(begin))
		_, err = m.Host.FindIRQ(m.Vectors, pci.KindMSIX, messages-1)
		require.NoError(t, err)
		begin = time.Now()
		require.NoError(t, d.DisableIRQs(vfio.MSIX))
		t.Logf("disabled in %v", time.Since(begin))
	}, vfiotest.MoreDevices())
}

// TestOutOfVectors: the host says that it has not enough, and not how many it has.
func TestOutOfVectors(t *testing.T) {
	for _, v := range []vfiotest.Version{vfiotest.V6_1, vfiotest.Newest} {
		t.Run(v.String(), func(t *testing.T) { // which closes the eventfds at its end
			m := vfiotest.FakeMachine(t, vfiotest.Personality(v), vfiotest.MoreDevices(), vfiotest.ArmedLimit(400))
			d := m.Open(t, m.Vectors)
			fds := newEventFDs(t, 2048)
			outOfVectors(t, d, fds, d.EnableIRQs(vfio.MSIX, 0, fds))
		})
	}
}

// outOfVectors goes on where all of a device's messages were too many for the host.
func outOfVectors(t *testing.T, d *vfio.Device, fds []int, err error) {
	t.Helper()
	t.Log(err)
	require.ErrorIs(t, err, unix.ENOSPC)
	require.ErrorContains(t, err, "enable MSI-X: no space left on device: the host is out of interrupt vectors; ask for fewer vectors")
	_, _, enabled := d.EnabledIRQs()
	require.False(t, enabled)
	assert.Zero(t, command(t, d)&uint8(pci.CommandBusMaster))

	// Without eventfds they take no vectors, so that only the arming shows the shortage.
	require.NoError(t, d.EnableIRQs(vfio.MSIX, 0, slices.Repeat([]int{-1}, len(fds))))
	require.NoError(t, d.EnableIRQs(vfio.MSIX, 0, fds[:200]))
	err = d.EnableIRQs(vfio.MSIX, 200, fds[200:])
	require.ErrorIs(t, err, unix.ENOSPC)
	loopback(t, d, vfio.MSIX, fds[:200])
	require.ErrorContains(t, d.TriggerIRQ(vfio.MSIX, 200, 1), "has no eventfd")
}
