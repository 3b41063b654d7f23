package vfiotest_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/irqbridge/irqbridge/pci"
	"github.com/irqbridge/irqbridge/vfio"
	"github.com/irqbridge/irqbridge/vfio/internal/uapi"
	"github.com/irqbridge/irqbridge/vfio/vfiotest"
)

// hotReset resets the bus with these groups.
func (r *raw) hotReset(groups ...int) error {
	arg := append(sized(uapi.PCIHotReset{Count: uint32(len(groups))}), fdData(groups...)...)
	return r.k.DevicePCIHotReset(r.device, arg)
}

// ownHotReset resets the bus in the way in which the device was opened.
func (r *raw) ownHotReset() error {
	if r.group < 0 {
		return r.hotReset()
	}
	return r.hotReset(r.group)
}

// affected asks for the functions with room for so many bytes.
func (r *raw) affected(room int) string {
	arg := make([]byte, room)
	setSize(arg, room)
	err := r.k.DeviceGetPCIHotResetInfo(r.device, arg)
	info := uapi.Take[uapi.PCIHotResetInfo](arg)
	s := fmt.Sprintf("%s, flags %d, count %d", errno(err), info.Flags, info.Count)
	if err != nil {
		return s
	}
	for i := range int(info.Count) {
		d := uapi.Take[uapi.PCIDependentDevice](arg[uapi.PCIHotResetInfoMinSize+i*uapi.Size[uapi.PCIDependentDevice]():])
		id := fmt.Sprint(d.GroupID)
		if d.GroupID == uapi.PCIDevIDNotOwned {
			id = "none"
		}
		s += fmt.Sprintf("; %04x:%02x:%02x.%d %s", d.Segment, d.Bus, d.Devfn>>3, d.Devfn&7, id)
	}
	return s
}

// Who is affected by a reset of the bus, and who may ask for one.
func TestHotReset(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		testHotReset(t, m)
		if !m.Real && m.Host.HasIOMMUFD() {
			// Of a real kernel with iommufd, Run has a machine for each backend.
			t.Run("group", func(t *testing.T) {
				m := vfiotest.FakeMachine(t, vfiotest.Personality(vfiotest.Newest), vfiotest.WithIOMMUFD())
				m.Backend = vfio.BackendGroup
				testHotReset(t, m)
			})
		}
	})
}

func testHotReset(t *testing.T, m *vfiotest.Machine) {
	t.Helper()
	var b strings.Builder
	say := func(what string, result any) {
		if err, ok := result.(error); ok || result == nil {
			result = errno(err)
		}
		fmt.Fprintf(&b, "%s: %v\n", what, result)
	}
	root := openRaw(t, m, m.EDU)
	say("root bus", root.affected(256))
	say("reset of the root bus", root.ownHotReset())
	say("reset of the root bus, wrong form", wrongForm(root))

	root.unbindHost(m.BridgeE1000)
	m.Bind(t, m.BridgeEDU)
	r := openBound(t, m, m.BridgeEDU)
	say("with an unbound neighbour", r.affected(256))
	say("reset with an unbound neighbour", r.ownHotReset())
	r.close()

	m.Bind(t, m.BridgeE1000)
	r = openBound(t, m, m.BridgeEDU)
	arg := make([]byte, 12)
	setSize(arg, 11)
	say("argsz 11", r.k.DeviceGetPCIHotResetInfo(r.device, arg))
	for _, room := range []int{12, 19, 20, 27, 28, 64} {
		say(fmt.Sprintf("argsz %d", room), r.affected(room))
	}
	arg = append(sized(uapi.PCIHotReset{}), fdData(r.group)...)
	setSize(arg, 11)
	say("reset, argsz 11", r.k.DevicePCIHotReset(r.device, arg))
	for flag := range uint32(3) {
		arg := sized(uapi.PCIHotReset{Flags: 1 << flag})
		say(fmt.Sprintf("reset, flags %d", 1<<flag), r.k.DevicePCIHotReset(r.device, arg))
	}
	say("wrong form", wrongForm(r))
	if r.group >= 0 {
		null, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
		require.NoError(t, err)
		say("no such descriptor", r.hotReset(1_000_000))
		say("descriptor -1", r.hotReset(-1))
		say("file", r.hotReset(null))
		say("container", r.hotReset(r.container))
		say("device", r.hotReset(r.device))
		say("other group", r.hotReset(root.group))
		say("more groups than functions", r.hotReset(r.group, r.group, r.group))
		say("group twice", r.hotReset(r.group, r.group))
		say("two groups", r.hotReset(r.group, root.group))
		require.NoError(t, unix.Close(null))
	} else {
		second := newRaw(t, m, m.BridgeE1000)
		second.device = openNode(t, m, m.BridgeE1000)
		say("neighbour is open, not bound", r.affected(64))
		_, err := second.bind(r.container)
		require.NoError(t, err)
		say("neighbour is bound", r.affected(64))
		say("by the neighbour", second.affected(64))
		say("reset by the neighbour", second.ownHotReset())
	}
	say("reset", r.ownHotReset())
	golden(t, m, "hotreset-"+m.Backend.String(), b.String())
}

// wrongForm asks for a reset in the way of the other backend.
func wrongForm(r *raw) error {
	if r.group < 0 {
		return r.hotReset(r.container)
	}
	return r.hotReset()
}

// unbindHost takes a device from the host's driver, and gives it back at the end of the test.
func (r *raw) unbindHost(a pci.Address) {
	r.t.Helper()
	d, err := r.m.Host.Device(a)
	require.NoError(r.t, err)
	require.NoError(r.t, r.writeFile("/sys/bus/pci/drivers/"+d.Driver+"/unbind", a.String()))
	r.t.Cleanup(func() { assert.NoError(r.t, r.writeFile("/sys/bus/pci/drivers_probe", a.String())) })
}

// A hot reset leaves interrupts enabled, and brings the configuration space back, for the line and for a message.
func TestHotResetKeepsInterrupts(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		m.Bind(t, m.BridgeE1000)
		r, e := openRaw(t, m, m.BridgeEDU), newEvent(t)
		for index, kind := range map[uint32]pci.Kind{intx: pci.KindINTx, msi: pci.KindMSI} {
			r.change(memory|busMaster, 0)
			r.enable(index, 0, e.fd)
			number := r.hostIRQ(kind, 0).Number
			before := r.config(command, 2)
			r.write(eduRaise, 1)
			assert.Equal(t, uint64(1), e.await())
			require.NoError(t, r.ownHotReset())
			assert.Equal(t, before, r.config(command, 2))
			assert.Equal(t, number, r.hostIRQ(kind, 0).Number)
			r.write(eduAck, 1)
			if index == intx {
				r.unmask()
			}
			e.quiet(m, "the cause is cleared")
			r.write(eduRaise, 1)
			assert.Equal(t, uint64(1), e.await(), "%v", kind)
			r.write(eduAck, 1)
			r.disable(index)
		}
	})
}

// What the neighbour was set to is gone, too.
func TestHotResetOfNeighbour(t *testing.T) {
	withIOMMUFD(t, func(t *testing.T, m *vfiotest.Machine) {
		m.Bind(t, m.BridgeE1000)
		r := openRaw(t, m, m.BridgeEDU)
		nic := newRaw(t, m, m.BridgeE1000)
		nic.device = openNode(t, m, m.BridgeE1000)
		_, err := nic.bind(r.container)
		require.NoError(t, err)
		nic.change(memory, 0)
		nic.write(e1000IMS, 1<<2)
		require.Equal(t, uint32(1<<2), nic.read(e1000IMS))
		require.NoError(t, r.ownHotReset())
		assert.NotZero(t, nic.config(command, 2)&memory)
		assert.Zero(t, nic.read(e1000IMS))
		require.NoError(t, nic.bar.Unmap())
		nic.bar = nil
	})
}
