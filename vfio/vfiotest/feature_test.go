package vfiotest_test

import (
	"encoding/binary"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/irqbridge/irqbridge/pci"
	"github.com/irqbridge/irqbridge/vfio/internal/uapi"
	"github.com/irqbridge/irqbridge/vfio/vfiotest"
)

// feature is VFIO_DEVICE_FEATURE with the data that follows.
func (r *raw) feature(flags uint32, data ...byte) (int, error) {
	arg := append(sized(uapi.DeviceFeature{Flags: flags}), data...)
	setSize(arg, len(arg))
	return r.k.DeviceFeature(r.device, arg)
}

// What the kernel says to each feature, and to whatever is wrong about a call.
func TestFeatures(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		var b strings.Builder
		for _, a := range []pci.Address{m.EDU, m.E1000E} {
			r := openRaw(t, m, a)
			say := func(what string, flags uint32, data ...byte) {
				n, err := r.feature(flags, data...)
				fmt.Fprintf(&b, "%v: %s: %d %s\n", a, what, n, errno(err))
			}
			for f := range uint32(16) {
				say(fmt.Sprintf("%d probe", f), f|uapi.FeatureProbe)
				say(fmt.Sprintf("%d probe get", f), f|uapi.FeatureProbe|uapi.FeatureGet)
				say(fmt.Sprintf("%d probe set", f), f|uapi.FeatureProbe|uapi.FeatureSet)
				say(fmt.Sprintf("%d probe both", f), f|uapi.FeatureProbe|uapi.FeatureGet|uapi.FeatureSet)
			}
			for _, f := range []uint32{uapi.FeatureLowPowerExit, 99} {
				say(fmt.Sprintf("%d neither", f), f)
				say(fmt.Sprintf("%d both", f), f|uapi.FeatureGet|uapi.FeatureSet)
				say(fmt.Sprintf("%d get", f), f|uapi.FeatureGet)
				say(fmt.Sprintf("%d unknown flag", f), f|uapi.FeatureSet|1<<19)
				say(fmt.Sprintf("%d exit with data", f), f|uapi.FeatureSet, 1, 2, 3)
			}
			short := sized(uapi.DeviceFeature{Flags: uapi.FeatureLowPowerExit | uapi.FeatureSet})
			setSize(short, 7)
			_, err := r.k.DeviceFeature(r.device, short)
			fmt.Fprintf(&b, "%v: argsz 7: %s\n", a, errno(err))
			r.close()
		}
		golden(t, m, "features", b.String())
	})
}

// powerState waits until sysfs has the device in a power state.
func (r *raw) powerState(want string) {
	r.t.Helper()
	require.Eventually(r.t, func() bool {
		state, err := r.readFile("/sys/bus/pci/devices/" + r.address.String() + "/power_state")
		return err == nil && state == want
	}, patience, time.Millisecond, "%v is not in %s", r.address, want)
}

// A device that is let sleep cannot be reached through a mapping, and wakes for all else.
func TestLowPower(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		var b strings.Builder
		for _, a := range []pci.Address{m.E1000E, m.EDU} {
			r, e := openRaw(t, m, a), newEvent(t)
			say := func(what string, err error) { fmt.Fprintf(&b, "%v: %s: %s\n", a, what, errno(err)) }
			enter := func() error { _, err := r.feature(uapi.FeatureLowPowerEntry | uapi.FeatureSet); return err }
			leave := func() error { _, err := r.feature(uapi.FeatureLowPowerExit | uapi.FeatureSet); return err }
			wake := func(fd int, data ...byte) error {
				_, err := r.feature(uapi.FeatureLowPowerEntryWakes|uapi.FeatureSet, append(fdData(fd, 0), data...)...)
				return err
			}
			mapped := func() error { _, err := r.registers().Load32(8); return err }
			through := func() error { _, err := r.k.Pread(r.device, make([]byte, 4), 8); return err }
			config := func() error {
				_, err := r.k.Pread(r.device, make([]byte, 4), uapi.PCIConfigRegionIndex<<40)
				return err
			}
			asleep := "D3hot"
			if a == m.EDU { // which has no power management
				asleep = "D0"
			}
			say("exit while awake", leave())
			say("mapped", mapped())
			say("enter", enter())
			r.powerState(asleep)
			say("mapped, asleep", mapped())
			say("register, asleep", through())
			say("config, asleep", config())
			r.powerState(asleep)
			say("enter again", enter())
			say("enter with wakeup, asleep", wake(e.fd))
			say("reset, asleep", r.k.DeviceReset(r.device))
			say("mapped, asleep", mapped())
			say("exit", leave())
			r.powerState("D0")
			say("mapped", mapped())
			say("exit again", leave())

			r.enable(intx, 0, e.fd)
			say("enter with INTx", enter())
			say("trigger, asleep", func() error { _, err := r.set(none|trigger, intx, 0, 1, nil); return err }())
			fmt.Fprintf(&b, "%v: triggered %d\n", a, e.take())
			r.powerState(asleep)
			say("exit", leave())
			if a == m.EDU {
				r.write(eduRaise, 1)
				assert.Equal(t, uint64(1), e.await())
				r.write(eduAck, 1)
				r.unmask()
			}
			r.disable(intx)

			say("no eventfd", wake(-1))
			say("not open", wake(1_000_000))
			say("not an eventfd", wake(r.device))
			_, err := r.feature(uapi.FeatureLowPowerEntryWakes|uapi.FeatureSet, 1, 2, 3, 4)
			say("too short", err)
			say("enter with wakeup", wake(e.fd))
			r.suspended()
			e.quiet(m, "nobody has used it")
			say("config", config())
			fmt.Fprintf(&b, "%v: signalled %d\n", a, e.await())
			say("mapped", mapped())
			say("exit", leave())
			say("close, asleep", enter())
			r.close()
		}
		golden(t, m, "lowpower", b.String())
	})
}

// suspended waits until the kernel has put the device to sleep, which takes a moment.
func (r *raw) suspended() {
	r.t.Helper()
	if !r.m.Real {
		return
	}
	require.Eventually(r.t, func() bool {
		status, err := r.readFile("/sys/bus/pci/devices/" + r.address.String() + "/power/runtime_status")
		return err == nil && status == "suspended"
	}, patience, time.Millisecond)
}

// ioeventfd has the kernel write to BAR 0 when an eventfd is signalled; -1 ends it.
func (r *raw) ioeventfd(flags uint32, offset, data uint64, fd int) error {
	return r.k.DeviceIOEventFD(r.device, sized(uapi.DeviceIOEventFD{Flags: flags, Offset: offset, Data: data, Fd: int32(fd)}))
}

func TestIOEventFD(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		var b strings.Builder
		r, e, second := openRaw(t, m, m.EDU), newEvent(t), newEvent(t)
		say := func(what string, err error) { fmt.Fprintf(&b, "%s: %s\n", what, errno(err)) }
		const raise, ack = uint64(eduRaise), uint64(eduAck)
		r.change(memory, 0)
		short := sized(uapi.DeviceIOEventFD{Flags: uapi.IOEventFD32, Offset: raise, Data: 1, Fd: int32(e.fd)})
		setSize(short, 27)
		say("argsz 27", r.k.DeviceIOEventFD(r.device, short))
		setSize(short, 28)
		say("argsz 28", r.k.DeviceIOEventFD(r.device, short))
		say("again", r.ioeventfd(4, raise, 1, e.fd))
		say("again, another eventfd", r.ioeventfd(4, raise, 1, second.fd))
		say("other data", r.ioeventfd(4, raise, 2, second.fd))
		say("end", r.ioeventfd(4, raise, 2, -1))
		say("end what is not there", r.ioeventfd(4, raise, 2, -1))
		say("no width", r.ioeventfd(0, ack, 1, e.fd))
		say("two widths", r.ioeventfd(6, ack, 1, e.fd))
		say("width of 16", r.ioeventfd(16, ack, 1, e.fd))
		for _, width := range []uint32{1, 2, 8} {
			say(fmt.Sprintf("width of %d", width), r.ioeventfd(width, 0x80, 0, e.fd))
		}
		say("fd -2", r.ioeventfd(4, ack, 1, -2))
		say("not open", r.ioeventfd(4, ack, 1, 1_000_000))
		say("not an eventfd", r.ioeventfd(4, ack, 1, r.device))
		say("not aligned", r.ioeventfd(4, 0x82, 0, second.fd))
		say("end of BAR 0", r.ioeventfd(4, 1<<20-4, 0, second.fd))
		say("beyond BAR 0", r.ioeventfd(4, 1<<20-3, 0, second.fd))
		say("no BAR", r.ioeventfd(4, 1<<40, 0, second.fd))
		say("config", r.ioeventfd(4, uapi.PCIConfigRegionIndex<<40, 0, second.fd))
		say("no region", r.ioeventfd(4, 20<<40, 0, second.fd))
		say("ack", r.ioeventfd(4, ack, 1, second.fd))

		const eduStatus = 0x24
		status := func(want uint32) {
			t.Helper()
			require.Eventually(t, func() bool { return r.read(eduStatus) == want }, patience, time.Millisecond)
		}
		status(0)
		e.signal()
		status(1)
		second.signal()
		status(0)
		_, err := unix.Write(e.fd, binary.NativeEndian.AppendUint64(nil, 5))
		require.NoError(t, err)
		status(1)
		assert.Zero(t, e.take(), "the kernel has taken the count")
		r.change(0, memory)
		second.signal()
		require.Eventually(t, func() bool { return !second.poll(0) }, patience, time.Millisecond)
		r.change(memory, 0)
		status(1)
		require.NoError(t, r.ioeventfd(4, ack, 1, -1))
		second.signal()
		second.poll(silence(m))
		status(1)
		r.write(eduAck, 1) // edu keeps it otherwise
		r.close()

		n := openRaw(t, m, m.E1000E)
		say("MSI-X table", n.ioeventfd(4, 3<<40, 0, second.fd))
		say("last of the MSI-X table", n.ioeventfd(4, 3<<40|0x4c, 0, second.fd))
		say("behind the MSI-X table", n.ioeventfd(4, 3<<40|0x50, 0, second.fd))
		say("port", n.ioeventfd(4, 2<<40, 0, second.fd))
		n.close()
		golden(t, m, "ioeventfd", b.String())
	})
}

// dmaBuf is the data of DMA_BUF.
func dmaBuf(get uapi.DMABuf, ranges ...uapi.RegionDMARange) []byte {
	get.NrRanges = uint32(len(ranges))
	data := make([]byte, uapi.Size[uapi.DMABuf]())
	uapi.Put(data, get)
	for _, r := range ranges {
		one := make([]byte, uapi.Size[uapi.RegionDMARange]())
		uapi.Put(one, r)
		data = append(data, one...)
	}
	return data
}

func TestDMABuf(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		var b strings.Builder
		r := openRaw(t, m, m.E1000E)
		r.change(memory, 0)
		say := func(what string, data []byte) {
			n, err := r.feature(uapi.FeatureDMABuf|uapi.FeatureGet, data...)
			fmt.Fprintf(&b, "%s: %s", what, errno(err))
			if err == nil {
				size, err := unix.Seek(n, 0, 2)
				fmt.Fprintf(&b, ", size 0x%x %s", size, errno(err))
				flags, err := unix.FcntlInt(uintptr(n), unix.F_GETFD, 0)
				fmt.Fprintf(&b, ", flags %d %s", flags, errno(err))
				require.NoError(t, unix.Close(n))
			}
			b.WriteByte('\n')
		}
		page := uapi.RegionDMARange{Length: 4096}
		cloexec := uapi.DMABuf{OpenFlags: unix.O_CLOEXEC | unix.O_RDWR}
		say("page", dmaBuf(cloexec, page))
		say("without CLOEXEC", dmaBuf(uapi.DMABuf{OpenFlags: unix.O_RDWR}, page))
		say("whole BAR", dmaBuf(cloexec, uapi.RegionDMARange{Length: 0x20000}))
		say("two pages apart", dmaBuf(cloexec, page, uapi.RegionDMARange{Offset: 0x4000, Length: 0x1000}))
		say("same page twice", dmaBuf(cloexec, page, page))
		say("in the wrong order", dmaBuf(cloexec, uapi.RegionDMARange{Offset: 0x4000, Length: 0x1000}, page))
		say("too long", dmaBuf(cloexec, uapi.RegionDMARange{Length: 0x21000}))
		say("beyond the BAR", dmaBuf(cloexec, uapi.RegionDMARange{Offset: 0x20000, Length: 0x1000}))
		say("length 0", dmaBuf(cloexec, uapi.RegionDMARange{}))
		say("not pages", dmaBuf(cloexec, uapi.RegionDMARange{Length: 0x100}))
		say("offset not on a page", dmaBuf(cloexec, uapi.RegionDMARange{Offset: 0x100, Length: 0x1000}))
		say("overflow", dmaBuf(cloexec, uapi.RegionDMARange{Offset: 1<<64 - 0x1000, Length: 0x1000}))
		say("no ranges", dmaBuf(cloexec))
		say("flags", dmaBuf(uapi.DMABuf{OpenFlags: unix.O_CLOEXEC, Flags: 1}, page))
		say("unknown open flag", dmaBuf(uapi.DMABuf{OpenFlags: unix.O_APPEND}, page))
		for i := range uint32(10) {
			say(fmt.Sprintf("region %d", i), dmaBuf(uapi.DMABuf{RegionIndex: i, OpenFlags: unix.O_CLOEXEC | unix.O_RDWR}, page))
		}
		say("too short", dmaBuf(cloexec, page)[:15])
		r.change(0, memory)
		say("without memory decoding", dmaBuf(cloexec, page))
		golden(t, m, "dmabuf", b.String())
	})
}
