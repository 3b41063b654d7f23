package vfiotest_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/irqbridge/irqbridge/pci"
	"github.com/irqbridge/irqbridge/vfio"
	"github.com/irqbridge/irqbridge/vfio/vfiotest"
)

// statusInterrupt is PCI_STATUS_INTERRUPT.
const statusInterrupt = 0x08

// openINTx opens edu with its line enabled.
func openINTx(t *testing.T, m *vfiotest.Machine) (*raw, *event) {
	t.Helper()
	r, e := openEDU(t, m), newEvent(t)
	r.enable(intx, 0, e.fd)
	return r, e
}

// openEDU opens edu with no cause raised. It has no reset, so that its causes outlive the last close.
func openEDU(t *testing.T, m *vfiotest.Machine) *raw {
	t.Helper()
	r := openRaw(t, m, m.EDU)
	r.write(eduAck, 0xffffffff)
	return r
}

// When the line is asserted, the eventfd is signalled once and the kernel masks the line, until UNMASK. The cause is
// cleared in the device first: an UNMASK with the line still asserted signals again.
func TestINTxMasksItself(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		r, e := openINTx(t, m)
		assert.Zero(t, r.physical(command)&uint16(pci.CommandINTxDisable))
		r.write(eduRaise, 1)
		assert.Equal(t, uint64(1), e.await())
		assert.NotZero(t, r.physical(command)&uint16(pci.CommandINTxDisable), "the kernel masks at the device")
		assert.Zero(t, r.config(command, 2)&intxDisable, "which the user does not see")
		assert.NotZero(t, r.config(status, 2)&statusInterrupt)
		r.write(eduRaise, 2)
		e.quiet(m, "masked")

		r.unmask()
		assert.Equal(t, uint64(1), e.await(), "unmasked while asserted")
		r.unmask()
		assert.Equal(t, uint64(1), e.await(), "and again")

		r.write(eduAck, 3)
		assert.Zero(t, r.config(status, 2)&statusInterrupt)
		r.unmask()
		e.quiet(m, "the cause is cleared")
		assert.Zero(t, r.physical(command)&uint16(pci.CommandINTxDisable))
		r.unmask()
		e.quiet(m, "UNMASK of what is not masked does nothing")
		r.write(eduRaise, 1)
		assert.Equal(t, uint64(1), e.await())
	})
}

// MASK holds interrupts back; UNMASK delivers what came meanwhile.
func TestINTxMask(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		r, e := openINTx(t, m)
		r.must(none|mask, intx, 0, 1, nil)
		assert.NotZero(t, r.physical(command)&uint16(pci.CommandINTxDisable))
		r.write(eduRaise, 1)
		e.quiet(m, "masked")
		r.unmask()
		assert.Equal(t, uint64(1), e.await())
		r.write(eduAck, 1)

		r.unmask()
		r.must(boolean|mask, intx, 0, 1, []byte{0})
		r.write(eduRaise, 1)
		assert.Equal(t, uint64(1), e.await(), "MASK of BOOL 0 does nothing")
		r.write(eduAck, 1)
		r.must(boolean|unmask, intx, 0, 1, []byte{0})
		r.write(eduRaise, 1)
		e.quiet(m, "UNMASK of BOOL 0 does nothing")
		r.must(boolean|unmask, intx, 0, 1, []byte{1})
		assert.Equal(t, uint64(1), e.await())
	})
}

// A line that is asserted before it is enabled is heard at once; one that is withdrawn is not. QEMU's I/O APIC ignores
// a line until it is told that the line is level triggered, which a real one does not.
func TestINTxPendingAtEnable(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		r, e := openEDU(t, m), newEvent(t)
		r.write(eduRaise, 1)
		r.enable(intx, 0, e.fd)
		if m.Real {
			e.quiet(m, "QEMU")
		} else {
			assert.Equal(t, uint64(1), e.await())
		}
		r.disable(intx)
		r.write(eduAck, 1)
		r.enable(intx, 0, e.fd)
		e.quiet(m, "nothing is asserted")
	})
}

// COMMAND.INTxDisable, written by the user, is a mask on top. Clearing it delivers what is pending.
func TestINTxDisableBit(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		r, e := openINTx(t, m)
		r.change(intxDisable, 0)
		assert.NotZero(t, r.config(command, 2)&intxDisable)
		assert.NotZero(t, r.physical(command)&uint16(pci.CommandINTxDisable))
		r.fire(intx, 0, 1)
		e.quiet(m, "the loopback is suppressed, too")
		r.write(eduRaise, 1)
		e.quiet(m, "disabled by the user")
		r.unmask()
		e.quiet(m, "UNMASK does not override it")
		r.change(0, intxDisable)
		assert.Equal(t, uint64(1), e.await())
		r.write(eduAck, 1)
		r.unmask()
		e.quiet(m, "served")
		assert.Zero(t, r.physical(command)&uint16(pci.CommandINTxDisable))
	})
}

// Without an enabled index, the bit goes to the device.
func TestINTxDisableBitWhileIdle(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		r, e := openEDU(t, m), newEvent(t)
		r.change(intxDisable, 0)
		assert.NotZero(t, r.physical(command)&uint16(pci.CommandINTxDisable))
		r.enable(intx, 0, e.fd)
		r.write(eduRaise, 1)
		e.quiet(m, "enabled masked")
		r.change(0, intxDisable)
		assert.Equal(t, uint64(1), e.await())
		r.write(eduAck, 1)
	})
}

// The loopback signals without the line: it neither masks nor minds the mask, and is no interrupt of the host's.
func TestINTxLoopback(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		r, e := openINTx(t, m)
		r.fire(intx, 0, 1)
		r.fire(intx, 0, 1)
		assert.Equal(t, uint64(2), e.await())
		assert.Zero(t, r.physical(command)&uint16(pci.CommandINTxDisable))
		r.must(none|mask, intx, 0, 1, nil)
		r.fire(intx, 0, 1)
		assert.Equal(t, uint64(1), e.await())
		assert.Zero(t, r.total(pci.KindINTx, 0))
	})
}

// An eventfd can be given for unmasking. The kernel takes its count.
func TestINTxUnmaskEventfd(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		r, e := openINTx(t, m)
		resume, second := newEvent(t), newEvent(t)
		r.must(fds|unmask, intx, 0, 1, fdData(resume.fd))
		r.fails(unix.EBUSY, fds|unmask, intx, 0, 1, fdData(second.fd))
		r.fails(unix.EBADF, fds|unmask, intx, 0, 1, fdData(1_000_000))
		r.fails(unix.EINVAL, fds|unmask, intx, 0, 1, fdData(r.container))

		r.write(eduRaise, 1)
		assert.Equal(t, uint64(1), e.await())
		resume.signal()
		assert.Equal(t, uint64(1), e.await(), "still asserted")
		r.write(eduAck, 1)
		resume.signal()
		require.Eventually(t, func() bool { return r.physical(command)&uint16(pci.CommandINTxDisable) == 0 }, patience, tick)
		assert.Zero(t, resume.take(), "the kernel took the count")
		e.quiet(m, "served")
		r.write(eduRaise, 1)
		assert.Equal(t, uint64(1), e.await())

		// Removed, it does nothing any more; another can be installed. One that was signalled before acts at once.
		r.must(fds|unmask, intx, 0, 1, fdData(-1))
		resume.signal()
		e.quiet(m, "removed")
		assert.Equal(t, uint64(1), resume.take())
		second.signal()
		r.must(fds|unmask, intx, 0, 1, fdData(second.fd))
		assert.Equal(t, uint64(1), e.await())
	})
}

// With -1 the line stays requested; what comes is masked and dropped, and is not seen before an UNMASK.
func TestINTxWithoutEventfd(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		r, e := openINTx(t, m)
		r.enable(intx, 0, -1)
		assert.Equal(t, "INTx", indexNames[r.live()])
		irq := r.hostIRQ(pci.KindINTx, 0)
		r.write(eduRaise, 1)
		require.Eventually(t, func() bool { return r.physical(command)&uint16(pci.CommandINTxDisable) != 0 }, patience, tick, "masked")
		assert.Equal(t, uint64(1), sum(r.hostIRQ(pci.KindINTx, 0).Counts))
		assert.Equal(t, irq.Number, r.hostIRQ(pci.KindINTx, 0).Number)
		r.enable(intx, 0, e.fd)
		e.quiet(m, "dropped")
		r.unmask()
		assert.Equal(t, uint64(1), e.await())
		r.write(eduAck, 1)
		r.unmask()

		r.disable(intx)
		r.enable(intx, 0, -1)
		assert.Equal(t, "INTx", indexNames[r.live()], "-1 also enables")
	})
}

// A swap of the eventfd is a swap: nothing of the old one is left, and a bad one leaves the old one in place.
func TestINTxSwap(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		r, e := openINTx(t, m)
		second := newEvent(t)
		r.fails(unix.EBADF, fds|trigger, intx, 0, 1, fdData(1_000_000))
		r.write(eduRaise, 1)
		assert.Equal(t, uint64(1), e.await())
		r.enable(intx, 0, second.fd)
		second.quiet(m, "the mask survives the swap")
		r.unmask()
		assert.Equal(t, uint64(1), second.await())
		assert.Zero(t, e.take())
	})
}

// openNeighbour opens another device of the group, in the same address space.
func (r *raw) openNeighbour(a pci.Address) *raw {
	r.t.Helper()
	two := newRaw(r.t, r.m, a)
	var err error
	if r.m.Backend == vfio.BackendIOMMUFD {
		two.device = openNode(r.t, r.m, a)
		_, err = two.bind(r.container)
		require.NoError(r.t, err)
		err = two.attach(&r.ioas)
	} else {
		two.device, err = r.k.GroupGetDeviceFD(r.group, a.String())
	}
	require.NoError(r.t, err)
	return two
}

// Two devices behind a bridge share a wire. The kernel asks each of them.
func TestINTxShared(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		m.Bind(t, m.BridgeE1000)
		one := openRaw(t, m, m.BridgeEDU)
		two := one.openNeighbour(m.BridgeE1000)
		e1, e2 := newEvent(t), newEvent(t)
		one.enable(intx, 0, e1.fd)
		two.enable(intx, 0, e2.fd)
		i1, i2 := one.hostIRQ(pci.KindINTx, 0), two.hostIRQ(pci.KindINTx, 0)
		assert.Equal(t, i1.Number, i2.Number)
		assert.Equal(t, []string{i2.Action}, i1.Shared)

		two.write(e1000IMC, 0xffffffff)
		two.read(e1000ICR)
		two.write(e1000IMS, 1<<2)
		one.write(eduRaise, 1)
		assert.Equal(t, uint64(1), e1.await())
		e2.quiet(m, "not its interrupt")
		two.write(e1000ICS, 1<<2)
		assert.Equal(t, uint64(1), e2.await())
		e1.quiet(m, "masked, and not its interrupt")
		two.read(e1000ICR)
		two.unmask()
		one.write(eduAck, 1)
		one.unmask()
		e1.quiet(m, "served")
		e2.quiet(m, "served")
	})
}

// A device whose COMMAND.INTxDisable cannot be relied on is masked at the interrupt controller, and so is alone on its line. In
// the virtual machine it takes IRQBRIDGE_VM_APPEND=vfio_pci.nointxmask=1, with which vfio-pci relies on none.
func TestINTxWithoutMaskBit(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		arguments, err := (&raw{t: t, m: m}).readFile("/proc/cmdline")
		if m.Real && (err != nil || !strings.Contains(arguments, "nointxmask=1")) {
			t.Skip("here vfio-pci uses the bit")
		}
		r, e := openINTx(t, m)
		unmasked := func(why string) {
			t.Helper()
			assert.Zero(t, r.physical(command)&uint16(pci.CommandINTxDisable), why)
		}
		r.write(eduRaise, 1)
		assert.Equal(t, uint64(1), e.await())
		unmasked("it is masked elsewhere")
		r.write(eduRaise, 2)
		e.quiet(m, "masked")
		r.unmask()
		assert.Equal(t, uint64(1), e.await(), "unmasked while asserted")
		r.write(eduAck, 3)
		r.unmask()
		e.quiet(m, "the cause is cleared")
		r.must(none|mask, intx, 0, 1, nil)
		unmasked("by the user, too")
		r.write(eduRaise, 1)
		e.quiet(m, "masked by the user")
		r.unmask()
		assert.Equal(t, uint64(1), e.await())
		r.write(eduAck, 1)
		r.unmask()
		r.disable(intx)

		m.Bind(t, m.BridgeE1000)
		one := openRaw(t, m, m.BridgeEDU)
		one.write(eduAck, 0xffffffff)
		two := one.openNeighbour(m.BridgeE1000)
		one.enable(intx, 0, e.fd)
		two.fails(unix.EBUSY, fds|trigger, intx, 0, 1, fdData(e.fd))
		assert.Equal(t, "idle", indexNames[two.live()])
		one.disable(intx)
		two.enable(intx, 0, e.fd)
		one.fails(unix.EBUSY, fds|trigger, intx, 0, 1, fdData(e.fd))
		two.disable(intx)
	}, vfiotest.WithoutINTxMask())
}
