package vfiotest_test

import (
	"encoding/binary"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/irqbridge/irqbridge/pci"
	"github.com/irqbridge/irqbridge/vfio/internal/uapi"
	"github.com/irqbridge/irqbridge/vfio/vfiotest"
)

// Causes of e1000e that have a message of their own with MSI-X: RXQ0, RXQ1, TXQ0, TXQ1 and other.
const e1000Causes = 0x1f << 20

// quietNIC has e1000e enable and assert nothing.
func (r *raw) quietNIC() {
	r.t.Helper()
	r.write(e1000IMC, 0xffffffff)
	r.read(e1000ICR)
	r.write(e1000ICR, 0xffffffff)
}

// cause raises the cause of message n.
func (r *raw) cause(n int) {
	r.t.Helper()
	r.calm()
	r.write(e1000ICS, 1<<(20+n))
}

// edu sends its one message each time that its causes are raised.
func TestMSI(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		r, e := openEDU(t, m), newEvent(t)
		r.enable(msi, 0, e.fd)
		r.change(busMaster, 0)
		for range 3 {
			r.write(eduRaise, 1)
			assert.Equal(t, uint64(1), e.await())
		}
		for range 2 { // one after the other: messages that meet on their way are one interrupt
			before := r.total(pci.KindMSI, 0)
			r.write(eduRaise, 1)
			require.Eventually(t, func() bool { return r.total(pci.KindMSI, 0) == before+1 }, patience, tick)
		}
		assert.Equal(t, uint64(2), e.await(), "what nobody has read adds up")
		assert.Zero(t, r.config(status, 2)&statusInterrupt, "the line is not used")
		r.write(eduAck, 1)
		e.quiet(m, "acknowledged")
	})
}

// Without bus mastering, a message is lost in silence: it does not come later either. The kernel switches it off at open.
func TestBusMaster(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		r, e := openEDU(t, m), newEvent(t)
		assert.Zero(t, r.config(command, 2)&busMaster)
		r.enable(msi, 0, e.fd)
		assert.Zero(t, r.config(command, 2)&busMaster)
		r.write(eduRaise, 1)
		e.quiet(m, "no bus master")
		r.change(busMaster, 0)
		e.quiet(m, "lost")
		r.write(eduRaise, 1)
		assert.Equal(t, uint64(1), e.await())
		r.change(0, busMaster)
		r.write(eduRaise, 1)
		e.quiet(m, "no bus master again")
		r.write(eduAck, 1)
	})
}

// The five messages of e1000e, each raised by its cause.
func TestMSIX(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		r := openRaw(t, m, m.E1000E)
		var es []*event
		var row []int
		for range 5 {
			es = append(es, newEvent(t))
			row = append(row, es[len(es)-1].fd)
		}
		r.quietNIC()
		r.enable(msix, 0, row...)
		r.change(busMaster, 0)
		r.write(e1000IVAR, 0xcba98)
		r.write(e1000IMS, e1000Causes)
		for round := range 2 {
			for n, e := range es {
				r.cause(n)
				assert.NotZero(t, e.await(), "round %d, message %d", round, n)
				r.write(e1000ICR, 1<<(20+n))
			}
		}
		// The last message is also for link changes, which come when they like. QEMU may repeat the others.
		for n, e := range es[:4] {
			if m.Real {
				time.Sleep(silence(m))
				e.take()
				assert.GreaterOrEqual(t, r.total(pci.KindMSIX, n), uint64(2), "message %d", n)
				continue
			}
			e.quiet(m, "served")
			assert.Equal(t, uint64(2), r.total(pci.KindMSIX, n), "message %d", n)
		}

		// The route is the device's: all causes but the last to message 2.
		r.write(e1000IVAR, 0x0aaaa)
		r.cause(0)
		assert.Equal(t, uint64(1), r.once(es[2].await()))
		r.write(e1000ICR, 1<<20)
		r.write(e1000IVAR, 0)
		if m.Real {
			time.Sleep(silence(m))
			es[2].take()
		}
		r.cause(0)
		for _, e := range es[:4] {
			e.quiet(m, "routed nowhere")
		}
	})
}

// e1000e by its line and by its one MSI message: the same causes, acknowledged by reading ICR.
func TestE1000ELineAndMSI(t *testing.T) {
	const linkChange = 1 << 2
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		r, e := openRaw(t, m, m.E1000E), newEvent(t)
		r.quietNIC()
		r.enable(intx, 0, e.fd)
		r.write(e1000ICS, linkChange)
		e.quiet(m, "the cause is not enabled")
		r.write(e1000IMS, linkChange)
		assert.Equal(t, uint64(1), e.await())
		assert.Equal(t, uint32(linkChange|1<<31), r.read(e1000ICR)&(linkChange|1<<31))
		r.unmask()
		e.quiet(m, "reading ICR acknowledges")
		r.write(e1000ICS, linkChange)
		assert.Equal(t, uint64(1), e.await())
		r.write(e1000IMC, linkChange)
		r.unmask()
		e.quiet(m, "a cause that is disabled does not assert the line")
		r.quietNIC()
		r.disable(intx)

		r.enable(msi, 0, e.fd)
		r.change(busMaster, 0)
		r.write(e1000IMS, linkChange)
		for range 2 {
			r.write(e1000ICS, linkChange)
			assert.Equal(t, uint64(1), e.await())
			r.write(e1000ICS, linkChange)
			e.quiet(m, "one message until the cause is acknowledged")
			r.read(e1000ICR)
		}
	})
}

// What comes while a message of MSI-X has no eventfd waits in the device, and is delivered when it gets one.
func TestMSIXWithoutEventfd(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		r, e := openRaw(t, m, m.E1000E), newEvent(t)
		r.quietNIC()
		r.enable(msix, 0, e.fd, -1)
		r.change(busMaster, 0)
		r.write(e1000IVAR, 0x99998) // RXQ0 is message 0, the others message 1
		r.write(e1000IMS, e1000Causes)
		r.enable(msix, 0, -1)
		r.cause(0)
		e.quiet(m, "no eventfd")
		pending := r.table(0x2000, 8)
		r.enable(msix, 0, e.fd)
		assert.Equal(t, uint64(1), e.await(), "pending bits were %x", pending)
		assert.Equal(t, byte(1), pending[0])
		assert.Equal(t, byte(0), r.table(0x2000, 8)[0])
	})
}

// table reads the memory of BAR 3 of e1000e, which has the MSI-X table at 0 and the pending bits at 0x2000, through a
// mapping.
func (r *raw) table(off, size int) []byte {
	r.t.Helper()
	mapped, err := r.k.Mmap(r.device, 3<<40, 0x4000)
	require.NoError(r.t, err)
	defer func() { require.NoError(r.t, mapped.Unmap()) }()
	var b []byte
	for i := 0; i < size; i += 4 {
		v, err := mapped.Load32(off + i)
		require.NoError(r.t, err)
		b = append(b, byte(v), byte(v>>8), byte(v>>16), byte(v>>24))
	}
	return b
}

// The table is the kernel's. Reading it by pread gives ones, writing it nothing; the mapping shows it and lets a user break
// it, until the vector is armed again.
func TestMSIXTable(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		r, e := openRaw(t, m, m.E1000E), newEvent(t)
		before := r.table(0, 32)
		for i := range 2 {
			assert.Equal(t, byte(1), before[16*i+12], "masked while MSI-X is off")
		}
		r.quietNIC()
		r.enable(msix, 0, e.fd, -1)
		r.change(busMaster, 0)
		armed := r.table(0, 32)
		assert.Equal(t, byte(0xfe), armed[3], "the message goes to the interrupt controller, 0xfee…")
		assert.Zero(t, armed[12], "an armed message is not masked")
		assert.Equal(t, byte(1), armed[16+12], "one without an eventfd is")

		b := make([]byte, 16)
		n, err := r.k.Pread(r.device, b, 3<<40)
		require.NoError(t, err)
		assert.Equal(t, 16, n)
		assert.Equal(t, fill16(0xff), b)
		n, err = r.k.Pwrite(r.device, make([]byte, 16), 3<<40)
		require.NoError(t, err)
		assert.Equal(t, 16, n)
		assert.Equal(t, armed[:16], r.table(0, 16))

		mapped, err := r.k.Mmap(r.device, 3<<40, 0x4000)
		require.NoError(t, err)
		defer func() { require.NoError(t, mapped.Unmap()) }()
		require.NoError(t, mapped.Store32(0, 0xfee00000|1<<4|1<<3|0x7fff<<5))
		r.write(e1000IVAR, 0x00008)
		r.write(e1000IMS, 1<<20)
		r.cause(0)
		e.quiet(m, "sent elsewhere")
		r.write(e1000ICR, 1<<20)
		r.enable(msix, 0, e.fd)
		assert.Equal(t, armed[:16], r.table(0, 16))
		r.cause(0)
		assert.Equal(t, uint64(1), e.await())
		r.write(e1000ICR, 1<<20)

		// The user's mask holds until then, too.
		require.NoError(t, mapped.Store32(12, 1))
		r.cause(0)
		e.quiet(m, "masked by the user")
		r.enable(msix, 0, e.fd)
		assert.Equal(t, uint64(1), e.await())
		assert.Zero(t, r.table(0, 16)[12])
	})
}

func fill16(v byte) []byte {
	b := make([]byte, 16)
	for i := range b {
		b[i] = v
	}
	return b
}

// With messages live, the kernel has the line disabled in the device or not, as it likes; the device does not use it.
func TestMessagesReplaceTheLine(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		r, e := openEDU(t, m), newEvent(t)
		r.write(eduRaise, 1)
		assert.NotZero(t, r.config(status, 2)&statusInterrupt)
		r.enable(msi, 0, e.fd)
		assert.Zero(t, r.config(status, 2)&statusInterrupt, "the device lets go of its line")
		assert.Zero(t, r.physical(command)&uint16(pci.CommandINTxDisable), "the kernel leaves the bit as the user has it")
		r.disable(msi)
		assert.Zero(t, r.physical(command)&uint16(pci.CommandINTxDisable))
		r.write(eduAck, 1)
	})
}

// Switching to another index needs the old one disabled; what was live then is gone.
func TestSwitching(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		r, e := openRaw(t, m, m.E1000E), newEvent(t)
		r.enable(msix, 0, e.fd, e.fd)
		r.enable(msix, 0, -1, -1)
		r.fails(unix.EINVAL, fds|trigger, intx, 0, 1, fdData(e.fd))
		for _, index := range []uint32{msi, intx, msix, msi} {
			r.disable(r.live())
			assert.Zero(t, r.messages())
			r.enable(index, 0, e.fd)
			assert.Equal(t, index, r.live())
			r.fire(index, 0, 1)
			assert.Equal(t, uint64(1), e.await())
		}
	})
}

// In D3hot messages cannot be enabled, and memory does not answer.
func TestPowerState(t *testing.T) {
	const pmControl = 0xc8 + 4 // of e1000e
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		r, e := openRaw(t, m, m.E1000E), newEvent(t)
		assert.Zero(t, r.config(pmControl, 2)&3)
		r.setConfig(pmControl, 2, 3)
		assert.Equal(t, uint32(3), r.config(pmControl, 2)&3)
		r.fails(unix.EINVAL, fds|trigger, msix, 0, 1, fdData(e.fd))
		r.fails(unix.EINVAL, fds|trigger, msi, 0, 1, fdData(e.fd))
		b := make([]byte, 4)
		_, err := r.k.Pread(r.device, b, 8)
		assert.Equal(t, "EIO", errno(err))
		_, err = r.registers().Load32(8)
		assert.Equal(t, "EFAULT", errno(err))
		r.setConfig(pmControl, 2, 0)
		r.change(memory, 0)
		r.enable(msix, 0, e.fd)
		_, err = r.k.Pread(r.device, b, 8)
		require.NoError(t, err)
	})
}

// MSI of several messages: as many host IRQs as asked for, in the hardware rounded up to a power of two.
func TestMultipleMSI(t *testing.T) {
	const control = 0x70 + 2 // of xhci
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		r, e := openRaw(t, m, m.XHCI), newEvent(t)
		r.enable(msi, 0, e.fd, -1, e.fd)
		assert.Equal(t, 3, r.messages())
		assert.Equal(t, uint16(0x00a9), r.physical(control), "MMC 16, MME 4, enabled")
		assert.Zero(t, r.config(control, 2)&1, "the user sees it disabled")
		r.fire(msi, 0, 3)
		assert.Equal(t, uint64(2), e.await())
		r.disable(msi)
		assert.Zero(t, r.physical(control)&1)
	})
}

// A device without interrupts can be opened; nothing can be enabled.
func TestNoInterrupts(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		r, e := openRaw(t, m, m.TestDev), newEvent(t)
		for _, index := range []uint32{intx, msi, msix} {
			arg := make([]byte, 16)
			uapi.Put(arg, uapi.IRQInfo{Argsz: 16, Index: index})
			require.NoError(t, m.Kernel.DeviceGetIRQInfo(r.device, arg))
			assert.Zero(t, uapi.Take[uapi.IRQInfo](arg).Count)
			r.fails(unix.EINVAL, fds|trigger, index, 0, 1, fdData(e.fd))
			r.fails(unix.EINVAL, none|trigger, index, 0, 0, nil)
		}
	})
}

// Who plays the device signals the eventfd that the message has, and no other.
func TestMessageEventFD(t *testing.T) {
	m := vfiotest.FakeMachine(t)
	_, err := m.Fake.MessageEventFD(m.EDU, 0)
	assert.Equal(t, unix.ENODEV, err, "not open")
	_, err = m.Fake.MessageEventFD(pci.Address{Device: 0x1e}, 0)
	assert.Equal(t, unix.ENODEV, err, "not there")

	r, e := openEDU(t, m), newEvent(t)
	_, err = m.Fake.MessageEventFD(m.EDU, 0)
	assert.Equal(t, unix.EINVAL, err, "not enabled")
	r.enable(msi, 0, e.fd)
	for _, n := range []int{-1, 1} {
		_, err = m.Fake.MessageEventFD(m.EDU, n)
		assert.Equal(t, unix.EINVAL, err, "message %d", n)
	}
	fd, err := m.Fake.MessageEventFD(m.EDU, 0)
	require.NoError(t, err)
	defer unix.Close(fd)
	assert.NotEqual(t, e.fd, fd)
	_, err = unix.Write(fd, binary.NativeEndian.AppendUint64(nil, 3))
	require.NoError(t, err)
	assert.Equal(t, uint64(3), e.await())

	r.enable(msi, 0, -1)
	_, err = m.Fake.MessageEventFD(m.EDU, 0)
	assert.Equal(t, unix.EINVAL, err, "disarmed")
}
