package vfiotest_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/irqbridge/irqbridge/pci"
	"github.com/irqbridge/irqbridge/vfio/vfiotest"
)

// What can be reset alone says so; the others refuse.
func TestResetSupport(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		m.Bind(t, m.BridgeE1000)
		for a, want := range map[pci.Address]string{m.EDU: "EINVAL", m.E1000E: "ok", m.NVMe: "ok", m.XHCI: "EINVAL", m.TestDev: "EINVAL", m.BridgeEDU: "EINVAL"} {
			r := openRaw(t, m, a)
			assert.Equal(t, want, errno(r.k.DeviceReset(r.device)), "%v", a)
			r.close()
		}
	})
}

// A reset leaves interrupts enabled: the trigger, the host IRQ and its place survive.
func TestResetKeepsInterrupts(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		for _, a := range []pci.Address{m.E1000E, m.NVMe} {
			r, e := openRaw(t, m, a), newEvent(t)
			r.change(busMaster, 0)
			r.enable(msix, 0, e.fd, -1)
			number := r.hostIRQ(pci.KindMSIX, 0).Number
			last := m.CPUs.CPUs()[m.CPUs.Len()-1]
			place(t, m, number, last)
			r.calm()
			require.NoError(t, r.k.DeviceReset(r.device))
			assert.Equal(t, "MSI-X", indexNames[r.live()])
			assert.Equal(t, number, r.hostIRQ(pci.KindMSIX, 0).Number)
			affinity, err := m.Host.Affinity(number)
			require.NoError(t, err)
			assert.Equal(t, []int{last}, affinity.Effective.CPUs())
			r.fire(msix, 0, 2)
			assert.Equal(t, uint64(1), e.await())
			assert.NotZero(t, r.config(command, 2)&busMaster)
			assert.NotZero(t, r.config(command, 2)&memory)
			assert.Zero(t, r.config(command, 2)&intxDisable)
			assert.NotZero(t, r.physical(command)&uint16(pci.CommandINTxDisable), "which does not matter with messages")
			r.close()
		}
	})
}

// e1000e is reset by its power states, over which QEMU's keeps its registers, and interrupts go on.
func TestResetOfE1000E(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		r, e := openRaw(t, m, m.E1000E), newEvent(t)
		r.quietNIC()
		r.enable(msix, 0, e.fd)
		r.change(busMaster, 0)
		r.write(e1000IVAR, 0x00008)
		r.write(e1000IMS, 1<<20)
		r.calm()
		require.NoError(t, r.k.DeviceReset(r.device))
		assert.Equal(t, uint32(0x00008), r.read(e1000IVAR))
		assert.Equal(t, uint32(1<<20), r.read(e1000IMS))
		r.cause(0)
		assert.Equal(t, uint64(1), r.once(e.await()))

		r.calm()
		e.take()
		r.disable(msix)
		r.quietNIC()
		r.enable(intx, 0, e.fd)
		require.NoError(t, r.k.DeviceReset(r.device))
		r.write(e1000IMS, 1<<2)
		r.write(e1000ICS, 1<<2)
		assert.Equal(t, uint64(1), r.once(e.await()))
		r.quietNIC()
		r.unmask()
	})
}
