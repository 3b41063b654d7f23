package vfiotest_test

import (
	"io/fs"
	"os"
	"reflect"
	"runtime"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/irqbridge/irqbridge/pci"
	"github.com/irqbridge/irqbridge/vfio"
	"github.com/irqbridge/irqbridge/vfio/host"
	"github.com/irqbridge/irqbridge/vfio/internal/uapi"
	"github.com/irqbridge/irqbridge/vfio/vfiotest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// openFiles counts the descriptors of the process.
func openFiles(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	return len(entries)
}

// A call fails when it is told to, once, and does nothing else.
func TestFail(t *testing.T) {
	m := vfiotest.FakeMachine(t, vfiotest.Fail("Open", unix.EMFILE, 2))
	c, err := m.Kernel.Open("/dev/vfio/vfio")
	require.NoError(t, err)
	_, err = m.Kernel.Open("/dev/vfio/vfio")
	assert.Equal(t, unix.EMFILE, err)
	second, err := m.Kernel.Open("/dev/vfio/vfio")
	require.NoError(t, err)
	require.NoError(t, m.Kernel.Close(c))
	require.NoError(t, m.Kernel.Close(second))

	d := m.Open(t, m.EDU)
	e := newEvent(t)
	m.Fake.Fail("DeviceSetIRQs", unix.ENOMEM, 1)
	require.ErrorIs(t, d.EnableIRQs(vfio.MSI, 0, []int{e.fd}), unix.ENOMEM)
	require.NoError(t, d.EnableIRQs(vfio.MSI, 0, []int{e.fd}))
	require.NoError(t, d.DisableIRQs(vfio.MSI))
	require.NoError(t, d.SetBusMaster(false))
	m.Fake.Fail("Pwrite", unix.EIO, 1)
	require.ErrorIs(t, d.SetBusMaster(true), unix.EIO)
	require.NoError(t, d.SetBusMaster(true))

	m.Fake.Fail("ReadFile", unix.EIO, 1)
	_, err = m.Host.Config(m.EDU)
	require.ErrorIs(t, err, unix.EIO)
	m.Fake.Fail("Exists", unix.ENOENT, 1)
	assert.False(t, m.Fake.Exists("/sys"))
	assert.True(t, m.Fake.Exists("/sys"))
}

// Every call of the kernel and of the host can be told to fail, and does so at the time that it is told.
func TestEveryCallFails(t *testing.T) {
	cannot := []string{"Close", "CurrentCPU", "Host"}
	k := vfiotest.FakeMachine(t, vfiotest.WithIOMMUFD()).Fake
	calls := 0
	for _, boundary := range []reflect.Type{reflect.TypeFor[vfio.Kernel](), reflect.TypeFor[host.OS]()} {
		for method := range boundary.Methods() {
			if slices.Contains(cannot, method.Name) {
				continue
			}
			calls++
			var nothing []reflect.Value
			for in := range method.Type.Ins() {
				nothing = append(nothing, reflect.Zero(in))
			}
			call := func() error {
				out := reflect.ValueOf(k).MethodByName(method.Name).Call(nothing)
				err, _ := reflect.TypeAssert[error](out[len(out)-1]) // Exists has none, and says no
				return err
			}
			k.Fail(method.Name, unix.EXDEV, 2)
			before := call()
			failed := call()
			assert.NotErrorIs(t, before, unix.EXDEV, method.Name)
			if method.Name != "Exists" {
				assert.ErrorIs(t, failed, unix.EXDEV, method.Name)
			}
			assert.NotErrorIs(t, call(), unix.EXDEV, method.Name)
		}
	}
	assert.Greater(t, calls, 35)
}

// A step of a binding that fails is undone.
func TestFailedBind(t *testing.T) {
	m := vfiotest.FakeMachine(t)
	plan, err := m.Host.PlanBind(m.E1000E, "vfio-pci", false)
	require.NoError(t, err)
	m.Fake.Fail("WriteFile", unix.EIO, 3) // driver_override, unbind, bind
	require.ErrorIs(t, plan.Run(t.Context()), unix.EIO)
	d, err := m.Host.Device(m.E1000E)
	require.NoError(t, err)
	assert.Equal(t, "e1000e", d.Driver)
	assert.Empty(t, d.DriverOverride)
}

// A host that is short of vectors says how many it has, and enables nothing.
func TestVectorLimit(t *testing.T) {
	m := vfiotest.FakeMachine(t, vfiotest.VectorLimit(3))
	r, e := openRaw(t, m, m.E1000E), newEvent(t)
	n, err := r.set(fds|trigger, msix, 0, 5, fillFD(5, e.fd))
	require.NoError(t, err)
	assert.Equal(t, 3, n)
	assert.Equal(t, "idle", indexNames[r.live()])
	assert.Zero(t, r.messages())
	r.enable(msix, 0, e.fd, e.fd, e.fd)
	r.fails(unix.ENOSPC, fds|trigger, msix, 3, 1, fdData(e.fd))
	r.close()

	d, err := vfio.Open(m.E1000E, m.Options()...)
	require.NoError(t, err)
	defer func() { require.NoError(t, d.Close()) }()
	var fewer *vfio.FewerVectorsError
	require.ErrorAs(t, d.EnableIRQs(vfio.MSIX, 0, []int{e.fd, e.fd, e.fd, e.fd}), &fewer)
	assert.Equal(t, 3, fewer.Available)
}

// The group's node belongs to root.
func TestNodeMode(t *testing.T) {
	m := vfiotest.FakeMachine(t, vfiotest.NodeMode(unix.EACCES))
	m.Bind(t, m.EDU)
	_, err := vfio.Open(m.EDU, m.Options()...)
	require.ErrorIs(t, err, os.ErrPermission)
}

// Without an IOMMU there are no groups, and vfio-pci takes nothing.
func TestWithoutIOMMU(t *testing.T) {
	m := vfiotest.FakeMachine(t, vfiotest.WithoutIOMMU())
	assert.False(t, m.Host.HasIOMMU())
	d, err := m.Host.Device(m.EDU)
	require.NoError(t, err)
	assert.Equal(t, -1, d.Group)
	_, err = vfio.Open(m.EDU, m.Options()...)
	require.ErrorIs(t, err, vfio.ErrNoIOMMU)
	s := files(t, m)
	require.NoError(t, s.writeFile(busDir+"devices/"+m.EDU.String()+"/driver_override", "vfio-pci"))
	assert.Equal(t, "EINVAL", errno(s.writeFile(busDir+"drivers/vfio-pci/bind", m.EDU.String())))
}

// Without interrupt remapping there is no VFIO unless it is allowed.
func TestWithoutInterruptRemapping(t *testing.T) {
	m := vfiotest.FakeMachine(t, vfiotest.WithoutInterruptRemapping())
	m.Bind(t, m.EDU)
	_, err := vfio.Open(m.EDU, m.Options()...)
	require.ErrorIs(t, err, vfio.ErrNoInterruptRemapping)
}

// A test can be the device.
func TestActingAsTheDevice(t *testing.T) {
	m := vfiotest.FakeMachine(t)
	r, e := openRaw(t, m, m.NVMe), newEvent(t)
	assert.False(t, m.Fake.SendMessage(m.NVMe, 0), "nothing is enabled")
	r.enable(intx, 0, e.fd)
	assert.True(t, m.Fake.SetLine(m.NVMe, true))
	assert.Equal(t, uint64(1), e.take())
	assert.True(t, m.Fake.SetLine(m.NVMe, false))
	r.unmask()
	assert.Zero(t, e.take())
	assert.True(t, m.Fake.PulseLine(m.NVMe))
	assert.Equal(t, uint64(1), e.take())
	assert.Zero(t, r.config(status, 2)&statusInterrupt, "nobody knows why")
	r.unmask()
	assert.Zero(t, e.take())
	assert.False(t, m.Fake.PulseLine(m.TestDev), "it has no line")
	r.disable(intx)
	r.enable(msix, 0, e.fd, e.fd)
	assert.False(t, m.Fake.SendMessage(m.NVMe, 1), "no bus master")
	r.change(busMaster, 0)
	assert.True(t, m.Fake.SendMessage(m.NVMe, 1))
	assert.False(t, m.Fake.SendMessage(m.NVMe, 65), "no such message")
	assert.False(t, m.Fake.SendMessage(m.NVMe, -1))
	assert.Equal(t, uint64(1), e.take())
	assert.False(t, m.Fake.SetLine(m.TestDev, true), "it has no line")
	assert.False(t, m.Fake.SetLine(pci.Address{Bus: 9}, true), "there is no such device")
	assert.False(t, m.Fake.SendMessage(pci.Address{Bus: 9}, 0))
}

// A message that is under way arrives when it arrives: in time, too late, or for whoever has its interrupt by then.
func TestDelay(t *testing.T) {
	m := vfiotest.FakeMachine(t)
	r, e := openRaw(t, m, m.E1000E), newEvent(t)
	r.change(busMaster, 0)
	r.enable(msix, 0, e.fd, e.fd)
	number := r.hostIRQ(pci.KindMSIX, 0).Number
	arrive := m.Fake.Delay(m.E1000E)
	assert.True(t, m.Fake.SendMessage(m.E1000E, 0))
	assert.True(t, m.Fake.SendMessage(m.E1000E, 1))
	assert.Zero(t, e.take(), "under way")
	arrive()
	assert.Equal(t, uint64(2), e.take())
	arrive()
	assert.Zero(t, e.take(), "once")
	assert.True(t, m.Fake.SendMessage(m.E1000E, 0))
	assert.Equal(t, uint64(1), e.take(), "not held back any more")

	arrive = m.Fake.Delay(m.E1000E)
	m.Fake.SendMessage(m.E1000E, 0)
	r.disable(msix)
	arrive()
	assert.Zero(t, e.take(), "lost")

	r.enable(msix, 0, e.fd)
	arrive = m.Fake.Delay(m.E1000E)
	m.Fake.SendMessage(m.E1000E, 0)
	r.disable(msix)
	other := newEvent(t)
	r.enable(msix, 0, other.fd)
	require.Equal(t, number, r.hostIRQ(pci.KindMSIX, 0).Number)
	arrive()
	assert.Zero(t, e.take())
	assert.Equal(t, uint64(1), other.take(), "who has the host's interrupt now")

	arrive = m.Fake.Delay(m.E1000E)
	m.Fake.SendMessage(m.E1000E, 0)
	r.close()
	arrive()
	assert.Zero(t, other.take())
	m.Fake.Delay(pci.Address{Bus: 9})()
}

// A device that is pulled out asks for itself back, answers nothing, and is forgotten when its user lets go.
func TestRemove(t *testing.T) {
	m := vfiotest.FakeMachine(t)
	plan, err := m.Host.PlanBind(m.EDU, "vfio-pci", false)
	require.NoError(t, err)
	require.NoError(t, plan.Run(t.Context()))
	r, e, line := openBound(t, m, m.EDU), newEvent(t), newEvent(t)
	r.enable(rEQ, 0, e.fd)
	r.enable(intx, 0, line.fd)
	regs := r.registers()
	m.Fake.Remove(m.EDU)
	assert.Equal(t, uint64(1), e.take())
	assert.Equal(t, uint32(0xffff), r.config(status, 2))
	_, err = regs.Load32(0)
	assert.Equal(t, unix.EFAULT, err)
	_, err = r.k.Pread(r.device, make([]byte, 4), 0)
	assert.Equal(t, unix.EIO, err)
	assert.False(t, m.Fake.SetLine(m.EDU, true))
	assert.Zero(t, line.take())
	_, err = m.Host.Device(m.EDU)
	require.NoError(t, err, "somebody has it open")
	r.close()
	_, err = m.Host.Device(m.EDU)
	require.ErrorIs(t, err, fs.ErrNotExist)

	m.Fake.Remove(m.E1000E)
	m.Fake.Remove(m.E1000E)
	_, err = m.Host.Device(m.E1000E)
	require.ErrorIs(t, err, fs.ErrNotExist, "its driver had nothing to wait for")
}

// Shutdown releases whatever its users forgot, and ends those that wait.
func TestShutdown(t *testing.T) {
	before := openFiles(t)
	k := vfiotest.NewKernel()
	plan, err := k.Host().PlanBind(pci.Address{Device: 4}, "vfio-pci", false)
	require.NoError(t, err)
	require.NoError(t, plan.Run(t.Context()))
	d, err := vfio.Open(pci.Address{Device: 4}, vfio.OnKernel(k), vfio.Unwatched())
	require.NoError(t, err)
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	require.NoError(t, err)
	require.NoError(t, d.EnableIRQs(vfio.INTx, 0, []int{fd}))
	_, err = d.BAR(0)
	require.NoError(t, err)
	stuck := make(chan error)
	go func() { stuck <- k.WriteFile(busDir+"drivers/vfio-pci/unbind", []byte("0000:00:04.0")) }()
	k.Shutdown()
	assert.Error(t, <-stuck)
	k.Shutdown()
	require.NoError(t, unix.Close(fd))
	assert.Equal(t, before, openFiles(t))
	_, err = k.Open("/dev/vfio/vfio")
	assert.Equal(t, unix.ENODEV, err)
	_, err = k.ReadFile("/proc/interrupts")
	assert.ErrorIs(t, err, unix.ENODEV)
	require.Error(t, d.Close())
}

// Opening, enabling and closing leaves nothing behind, time after time.
func TestNothingLeaks(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		m.Bind(t, m.E1000E)
		once := func() {
			r := openBound(t, m, m.E1000E)
			defer r.close()
			e, resume := newEvent(t), newEvent(t)
			defer e.close()
			defer resume.close()
			r.enable(msix, 0, e.fd, e.fd, -1)
			r.disable(msix)
			r.enable(intx, 0, e.fd)
			r.must(fds|unmask, intx, 0, 1, fdData(resume.fd))
			r.enable(rEQ, 0, e.fd)
			r.registers()
		}
		once()
		before := openFiles(t)
		for range 10 {
			once()
		}
		// The fake's goroutine for an unmask eventfd closes its own after the device was closed.
		require.Eventually(t, func() bool { return openFiles(t) <= before }, patience, tick)
	})
}

// Everything at once: users of one device, sysfs readers, an interrupting device. The race detector judges.
func TestConcurrency(t *testing.T) {
	m := vfiotest.FakeMachine(t)
	r, e, resume := openRaw(t, m, m.EDU), newEvent(t), newEvent(t)
	regs := r.registers()
	r.change(busMaster, 0)
	r.enable(intx, 0, e.fd)
	r.must(fds|unmask, intx, 0, 1, fdData(resume.fd))
	var all sync.WaitGroup
	for _, work := range []func(i int){
		func(int) { assert.NoError(t, regs.Store32(eduRaise, 1)) },
		func(int) { assert.NoError(t, regs.Store32(eduAck, 1)) },
		func(int) { _, _ = r.set(none|unmask, intx, 0, 1, nil) },
		func(int) { resume.signal() },
		func(i int) { _, _ = r.set(fds|trigger, intx, 0, 1, fdData([]int{e.fd, -1}[i%2])) },
		func(int) { _, _ = m.Host.FindIRQ(m.EDU, pci.KindINTx, 0) },
		func(int) { _, _ = m.Host.Devices() },
		func(i int) { _ = m.Host.SetAffinity(20, host.CPUSetOf(m.CPUs.CPUs()[i%m.CPUs.Len()])) },
		func(int) { _, _ = r.k.Pread(r.device, make([]byte, 256), uapi.PCIConfigRegionIndex<<40) },
	} {
		all.Go(func() {
			for i := range 20 {
				work(i)
			}
		})
	}
	all.Wait()
	// Whatever the order was: with the eventfd in place and the cause raised, an unmask tells.
	r.enable(intx, 0, e.fd)
	require.NoError(t, regs.Store32(eduAck, 1))
	r.unmask()
	e.take()
	require.NoError(t, regs.Store32(eduRaise, 1))
	assert.NotZero(t, e.await())
}

// The files below /run, where package host keeps its records, are regular ones.
func TestSavedFiles(t *testing.T) {
	k := vfiotest.FakeMachine(t).Fake
	const name = "/run/irqbridge/bind/0000:00:04.0"
	_, err := k.ReadFile(name)
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.ErrorIs(t, k.RemoveFile(name), fs.ErrNotExist)
	require.NoError(t, k.SaveFile(name, []byte("one"), 0o600))
	require.NoError(t, k.SaveFile(name, []byte("two"), 0o600))
	b, err := k.ReadFile(name)
	require.NoError(t, err)
	assert.Equal(t, "two", string(b))
	names, err := k.ReadDir("/run/irqbridge")
	require.NoError(t, err)
	assert.Equal(t, []string{"bind"}, names)
	names, err = k.ReadDir("/run/irqbridge/bind")
	require.NoError(t, err)
	assert.Equal(t, []string{"0000:00:04.0"}, names)
	require.ErrorIs(t, k.SaveFile("/sys/x", nil, 0o600), fs.ErrPermission)
	require.NoError(t, k.RemoveFile(name))
	assert.False(t, k.Exists(name))
}

// The CPU calls go to the real kernel.
func TestThreads(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		done := make(chan struct{})
		go func() { // its thread ends with it
			defer close(done)
			runtime.LockOSThread()
			for cpu := range m.CPUs.All() {
				assert.NoError(t, m.Host.PinThread(host.CPUSetOf(cpu)))
				now, err := m.Host.CurrentCPU()
				assert.NoError(t, err)
				assert.Equal(t, cpu, now)
				allowed, err := m.Host.AllowedCPUs()
				assert.NoError(t, err)
				assert.Equal(t, host.CPUSetOf(cpu), allowed)
			}
			assert.ErrorIs(t, m.Host.PinThread(host.CPUSetOf(host.MaxCPUs-1)), unix.EINVAL)
		}()
		<-done
		online, err := m.Host.OnlineCPUs()
		require.NoError(t, err)
		assert.Equal(t, m.CPUs, online)
	})
}
