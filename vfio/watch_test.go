package vfio_test

import (
	"context"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/irqbridge/irqbridge/pci"
	"github.com/irqbridge/irqbridge/vfio"
	"github.com/irqbridge/irqbridge/vfio/vfiotest"
)

// patience is how long a test waits for what must come. It is only ever used up by a failure.
const patience = 30 * time.Second

// unbind takes a device from vfio-pci and gives it back to its former driver, as irqbridge unbind does.
func unbind(t *testing.T, m *vfiotest.Machine, address pci.Address) {
	t.Helper()
	plan, err := m.Host.PlanUnbind(address)
	if !assert.NoError(t, err) {
		return
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	start := time.Now()
	assert.NoError(t, plan.Run(ctx))
	t.Logf("unbound after %v", time.Since(start))
}

// eventually waits until a condition holds.
func eventually(t *testing.T, condition func() bool, what string) {
	t.Helper()
	require.Eventually(t, condition, patience, time.Millisecond, what)
}

// open opens a device that is bound.
func open(t *testing.T, m *vfiotest.Machine, address pci.Address, opts ...vfio.Option) *vfio.Device {
	t.Helper()
	d, err := vfio.Open(address, append(m.Options(), opts...)...)
	require.NoError(t, err)
	return d
}

// TestUnbindTakesTheDeviceBack: nobody asked for anything, and an unbind does not hang.
func TestUnbindTakesTheDeviceBack(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		m.Bind(t, m.E1000E)
		leaked, files := goleak.IgnoreCurrent(), openFiles(t)
		d := open(t, m, m.E1000E)
		regs, fd := bar0(t, d), newEventFD(t)
		require.NoError(t, d.EnableIRQs(vfio.MSIX, 0, []int{fd, -1}))
		require.NoError(t, d.Err())
		closed := 0
		d.AtClose(func() {
			closed++
			_, err := regs.Read32(0x8)
			assert.NoError(t, err, "the device is still there")
			assert.ErrorIs(t, d.Err(), vfio.ErrReleased, "and it is said why it goes")
		})

		unbind(t, m, m.E1000E)

		require.ErrorIs(t, d.Err(), vfio.ErrReleased)
		_, err := regs.Read32(0x8)
		require.ErrorIs(t, err, vfio.ErrReleased)
		require.ErrorIs(t, err, os.ErrClosed)
		require.ErrorContains(t, err, "0000:00:05.0: read 4 bytes at 0x8 of BAR 0: released because the host wants the device back")
		for _, err := range []error{d.EnableIRQs(vfio.MSIX, 0, []int{fd}), d.Reset(), d.SetBusMaster(true), d.UnmaskIRQ(vfio.INTx)} {
			require.ErrorIs(t, err, vfio.ErrReleased)
		}
		require.NoError(t, d.Close())
		assert.Equal(t, 1, closed)
		_, _, enabled := d.EnabledIRQs()
		assert.False(t, enabled)
		goleak.VerifyNone(t, leaked)
		assert.Equal(t, files+1, openFiles(t), "only the test's eventfd")
	})
}

// TestARequestIsTheHandlers: with a handler the device stays open until the handler closes it.
func TestARequestIsTheHandlers(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		m.Bind(t, m.EDU)
		leaked := goleak.IgnoreCurrent()
		d := open(t, m, m.EDU)
		regs, first := bar0(t, d), sync.Once{}
		d.OnRequest(func() {
			first.Do(func() { // it is asked again after ten seconds, and by the fake whenever something was closed
				_, err := regs.Read32(eduID)
				assert.NoError(t, err)
				assert.NoError(t, d.Close())
			})
		})
		unbind(t, m, m.EDU)
		_, err := regs.Read32(eduID)
		require.ErrorIs(t, err, os.ErrClosed)
		require.NotErrorIs(t, err, vfio.ErrReleased, "the handler closed it")
		require.NoError(t, d.Err())
		goleak.VerifyNone(t, leaked)
	})
}

// TestTheKernelSignalsRequestsAndErrors goes from the kernel to the handlers and back to the defaults.
func TestTheKernelSignalsRequestsAndErrors(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		d := m.Open(t, m.E1000E)
		for _, index := range []vfio.IRQIndex{vfio.Req, vfio.Err} {
			for _, err := range []error{d.EnableIRQs(index, 0, []int{newEventFD(t)}), d.DisableIRQs(index)} {
				require.ErrorIs(t, err, vfio.ErrBusy)
				require.ErrorContains(t, err, index.String()+": device or resource busy: the device listens to it by itself")
			}
		}

		var requests, reports atomic.Int32
		d.OnRequest(func() { requests.Add(1) })
		for n := range int32(3) {
			require.NoError(t, d.TriggerIRQ(vfio.Req, 0, 1))
			eventually(t, func() bool { return requests.Load() == n+1 }, "the handler was called")
		}
		require.NoError(t, d.Err(), "the handler has it")

		require.NoError(t, d.TriggerIRQ(vfio.Err, 0, 1))
		eventually(t, func() bool { return d.Err() != nil }, "it is recorded without a handler")
		require.ErrorIs(t, d.Err(), vfio.ErrUncorrectable)
		d.OnError(func() { reports.Add(1) })
		require.NoError(t, d.TriggerIRQ(vfio.Err, 0, 1))
		eventually(t, func() bool { return reports.Load() == 1 }, "the handler was called")
		_, err := d.Config()
		require.NoError(t, err, "the device is its user's to close")

		d.OnRequest(nil)
		require.NoError(t, d.TriggerIRQ(vfio.Req, 0, 1))
		eventually(t, func() bool { _, err := d.Config(); return err != nil }, "the default lets go")
		require.ErrorIs(t, d.Err(), vfio.ErrReleased)
		require.ErrorIs(t, d.Err(), vfio.ErrUncorrectable, "both are told")
		assert.EqualValues(t, 3, requests.Load())
	})
}

// TestAReportedErrorIsRecorded has the fake's link report an error; the real one's has to be injected by its firmware.
func TestAReportedErrorIsRecorded(t *testing.T) {
	for _, v := range []vfiotest.Version{vfiotest.V6_1, vfiotest.Newest} {
		m := vfiotest.FakeMachine(t, vfiotest.Personality(v))
		d := m.Open(t, m.E1000E)
		assert.True(t, m.Fake.ReportError(m.E1000E))
		eventually(t, func() bool { return d.Err() != nil }, "it was reported")
		require.ErrorIs(t, d.Err(), vfio.ErrUncorrectable)
		assert.EqualError(t, d.Err(), "0000:00:05.0: an uncorrectable error was reported for the device")
		assert.False(t, m.Fake.ReportError(m.NVMe), "nobody has it open")
	}
}

// TestUnwatched leaves the unbind to whoever has the device.
func TestUnwatched(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		m.Bind(t, m.EDU)
		d := open(t, m, m.EDU, vfio.Unwatched())
		d.OnRequest(func() { t.Error("nobody listens") })
		fd := newEventFD(t)
		require.NoError(t, d.EnableIRQs(vfio.Req, 0, []int{fd}))
		unbound := make(chan struct{})
		go func() {
			defer close(unbound)
			unbind(t, m, m.EDU)
		}()
		wait(t, fd)
		_, err := d.Config()
		require.NoError(t, err)
		select {
		case <-unbound:
			t.Error("the host did not wait")
		default:
		}
		require.NoError(t, d.Close())
		<-unbound
	})
}

// TestWhatFailsAtTheReleaseIsTold by the Close of the device's user.
func TestWhatFailsAtTheReleaseIsTold(t *testing.T) {
	m := vfiotest.FakeMachine(t)
	m.Bind(t, m.EDU)
	d := open(t, m, m.EDU)
	require.NoError(t, d.SetBusMaster(true))
	m.Fake.Fail("Pwrite", unix.EIO, 1)
	unbind(t, m, m.EDU)
	require.ErrorIs(t, d.Close(), unix.EIO)
	require.NoError(t, d.Close(), "once")
}

// TestOpenFailsWhenItCannotListen, with nothing left open.
func TestOpenFailsWhenItCannotListen(t *testing.T) {
	for n, index := range []string{"REQ", "ERR"} {
		m := vfiotest.FakeMachine(t)
		m.Bind(t, m.E1000E)
		leaked, files := goleak.IgnoreCurrent(), openFiles(t)
		m.Fake.Fail("DeviceSetIRQs", unix.ENOMEM, n+1)
		_, err := vfio.Open(m.E1000E, m.Options()...)
		require.ErrorIs(t, err, unix.ENOMEM)
		require.ErrorContains(t, err, "0000:00:05.0: watch "+index)
		goleak.VerifyNone(t, leaked)
		assert.Equal(t, files, openFiles(t))
	}
}

// TestReleaseUnderARunningDriver: whatever the driver is at, it finds either its device or ErrReleased.
func TestReleaseUnderARunningDriver(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		m.Bind(t, m.EDU)
		for range 5 {
			d := open(t, m, m.EDU)
			regs, fd := bar0(t, d), newEventFD(t)
			var wg sync.WaitGroup
			started := make(chan struct{}, 8)
			loop := func(f func() error) {
				wg.Go(func() {
					for i := 0; ; i++ {
						if err := f(); err != nil {
							assert.ErrorIs(t, err, vfio.ErrReleased)
							return
						}
						if i == 0 {
							started <- struct{}{}
						}
					}
				})
			}
			loop(func() error { _, err := regs.Read32(eduID); return err })
			loop(func() error { return regs.Write32(eduLiveness, 1) })
			loop(func() error { _, err := d.Config(); return err })
			loop(func() error {
				if err := d.EnableIRQs(vfio.INTx, 0, []int{fd}); err != nil {
					return err
				}
				return d.DisableIRQs(vfio.INTx)
			})
			for range 4 {
				<-started
			}
			require.NoError(t, d.TriggerIRQ(vfio.Req, 0, 1))
			wg.Wait()
			require.NoError(t, d.Close())
		}
	})
}
