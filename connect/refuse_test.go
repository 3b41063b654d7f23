package connect_test

import (
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/irqbridge/irqbridge/connect"
	"github.com/irqbridge/irqbridge/pci"
	"github.com/irqbridge/irqbridge/vfio"
	"github.com/irqbridge/irqbridge/vfio/host"
	"github.com/irqbridge/irqbridge/vfio/vfiotest"
)

// refused fails unless the parameters are refused with that status and nothing is left behind.
func refused(r *rig, want connect.Status, p *connect.Parameters) *connect.StatusError {
	r.Helper()
	if p.InterruptObject != nil {
		*p.InterruptObject = new(connect.Interrupt) // to see it reset
	}
	files := takeFootprint(r)
	before := r.enabled()
	err := connect.Connect(p)
	require.ErrorIs(r, err, want)
	var status *connect.StatusError
	require.ErrorAs(r, err, &status)
	assert.Equal(r, want, status.Status)
	assert.NotEmpty(r, status.Reason)
	if p.InterruptObject != nil {
		assert.Nil(r, *p.InterruptObject)
	}
	files.requireNothingLeft(r)
	assert.Equal(r, before, r.enabled())
	return status
}

// bugCheck fails unless err is that bug check.
func bugCheck(t testing.TB, err error, code uint32, parameters ...uint64) {
	t.Helper()
	var check *connect.BugCheckError
	require.ErrorAs(t, err, &check)
	assert.Equal(t, code, check.Code)
	for i, want := range parameters {
		assert.Equal(t, want, check.Parameters[i], "parameter %d", i+1)
	}
	assert.NotEmpty(t, check.Reason)
}

// refusals change valid parameters of edu's line and give the status that follows.
var refusals = []struct {
	row    string
	status connect.Status
	change func(r *rig, p *connect.Parameters)
}{
	{"068", connect.StatusInvalidParameter, func(_ *rig, p *connect.Parameters) { p.InterruptObject = nil }},
	{"069", connect.StatusInvalidParameter, func(_ *rig, p *connect.Parameters) { p.PhysicalDeviceObject = nil }},
	{"070", connect.StatusInvalidParameter, func(_ *rig, p *connect.Parameters) { p.ServiceRoutine = nil }},
	{"072", connect.StatusInvalidParameter1, func(_ *rig, p *connect.Parameters) { p.Version = 0 }},
	{"073", connect.StatusInvalidParameter1, func(_ *rig, p *connect.Parameters) { p.Version = 6 }},
	{"074", connect.StatusInvalidParameter1, func(_ *rig, p *connect.Parameters) { p.Version = 0xFFFFFFFF }},
	{"075", connect.StatusNotSupported, func(_ *rig, p *connect.Parameters) { p.Version = connect.VersionLineBased }},
	{"076", connect.StatusNotSupported, func(_ *rig, p *connect.Parameters) { p.Version = connect.VersionMessageBased }},
	{"077", connect.StatusNotSupported, func(_ *rig, p *connect.Parameters) { p.Version = connect.VersionMessageBasedPassive }},
	{"079", connect.StatusInvalidParameter, func(_ *rig, p *connect.Parameters) { p.InterruptMode = 2 }},
	{"080", connect.StatusInvalidParameter, func(_ *rig, p *connect.Parameters) { p.Irql, p.SynchronizeIrql = 9, 8 }},
	{"081", connect.StatusInvalidParameter, func(_ *rig, p *connect.Parameters) { p.SynchronizeIrql = 0 }},
	{"082", connect.StatusInvalidParameter, func(_ *rig, p *connect.Parameters) { p.Irql = 0 }},
	{"083", connect.StatusInvalidParameter, func(_ *rig, p *connect.Parameters) { p.Irql, p.SynchronizeIrql = 2, 2 }},
	{"084", connect.StatusInvalidParameter, func(_ *rig, p *connect.Parameters) { p.Irql, p.SynchronizeIrql = 16, 16 }},
	{"085", connect.StatusInvalidParameter, func(_ *rig, p *connect.Parameters) {
		p.Irql, p.SynchronizeIrql, p.SpinLock = 0, 0, new(connect.SpinLock)
	}},
	{"087", connect.StatusInvalidParameter10, func(_ *rig, p *connect.Parameters) { p.ProcessorEnableMask = 0 }},
	{"090", connect.StatusNotFound, func(_ *rig, p *connect.Parameters) { p.Vector = 0x92 }},
	{"094", connect.StatusNotFound, func(_ *rig, p *connect.Parameters) { p.InterruptMode = connect.Latched }},
	{"097", connect.StatusNotFound, func(_ *rig, p *connect.Parameters) {
		p.Version, p.Group = connect.VersionFullySpecifiedGroup, 3
	}},
	{"100", connect.StatusInvalidParameter1, func(_ *rig, p *connect.Parameters) { p.Version, p.PhysicalDeviceObject = 9, nil }},
	{"101", connect.StatusInvalidParameter, func(_ *rig, p *connect.Parameters) {
		p.PhysicalDeviceObject, p.ProcessorEnableMask = nil, 0
	}},
	{"102", connect.StatusInvalidParameter10, func(_ *rig, p *connect.Parameters) { p.ProcessorEnableMask, p.Vector = 0, 0x92 }},
}

// refusedRows are the rows of group E.
func refusedRows(t *testing.T) {
	t.Run("067", func(t *testing.T) {
		require.ErrorIs(t, connect.Connect(nil), connect.StatusInvalidParameter)
	})
	for _, c := range refusals {
		onMachine(t, c.row, func(t *testing.T, m *vfiotest.Machine) {
			r := edu(t, m, pci.KindINTx)
			p := r.params(0, never(t))
			c.change(r, p)
			given := p.Version
			refused(r, c.status, p)
			if c.status == connect.StatusNotSupported {
				assert.EqualValues(t, 1, p.Version, "the version that this system offers")
			} else {
				assert.Equal(t, given, p.Version)
			}
		})
	}
	onMachine(t, "071", func(t *testing.T, m *vfiotest.Machine) {
		r := edu(t, m, pci.KindINTx)
		p := r.params(0, never(t))
		r.close()
		status := refused(r, connect.StatusInvalidParameter, p)
		assert.ErrorIs(t, status, os.ErrClosed)
	})
	onMachine(t, "078", func(t *testing.T, m *vfiotest.Machine) {
		r := edu(t, m, pci.KindINTx)
		isr, calls := r.reporting(0)
		p := r.params(0, isr)
		p.Version = connect.VersionLineBased
		refused(r, connect.StatusNotSupported, p)
		require.Equal(t, connect.VersionFullySpecified, p.Version)
		require.NoError(t, connect.Connect(p))
		assert.Same(t, *p.InterruptObject, serviced(r, 0, calls))
	})
	onMachine(t, "086", func(t *testing.T, m *vfiotest.Machine) {
		p := edu(t, m, pci.KindINTx).params(0, never(t))
		p.FloatingSave = true
		require.ErrorIs(t, connect.CheckOn("386", p), connect.StatusInvalidParameter)
		require.NoError(t, connect.CheckOn("amd64", p))
		require.NoError(t, connect.CheckOn("arm64", p))
	})
	onFake(t, "088", func(t *testing.T, fake vfiotest.Option) {
		m, k := alter(t, fake)
		k.set(func(k *altered) { k.online = host.CPUSetOf(0, 1, 2, 3, 4, 5, 6, 7) })
		r := open(t, m, m.EDU, connect.Policy{CPUs: host.CPUSetOf(4, 5, 6, 7)})
		require.EqualValues(t, 0xF0, r.messages[0].Translated.Affinity)
		k.set(func(k *altered) { k.online = host.CPUSetOf(0, 1, 2, 3) })
		status := refused(r, connect.StatusInvalidParameter10, r.params(0, never(t)))
		assert.ErrorContains(t, status, "CPUs 4-7 are not online")
	})
	onFake(t, "088b", func(t *testing.T, fake vfiotest.Option) {
		m, k := alter(t, fake)
		k.set(func(k *altered) { k.online = host.CPUSetOf(0, 1, 2, 3, 4, 5, 6, 7) })
		r := open(t, m, m.EDU, connect.Policy{CPUs: host.CPUSetOf(3, 4, 5)})
		k.set(func(k *altered) { k.online = host.CPUSetOf(0, 1, 2, 3) })
		i := r.connect(0, claim)
		assert.Equal(t, host.CPUSetOf(3), i.Affinity().Thread)
		assert.Equal(t, host.CPUSetOf(3, 4, 5), i.Affinity().Wanted)
	})
	onFake(t, "089", func(t *testing.T, fake vfiotest.Option) {
		m, k := alter(t, fake)
		k.set(func(k *altered) { k.online = host.CPUSetOf(0, 1, 2, 3) })
		r := open(t, m, m.EDU, connect.Policy{CPUs: host.CPUSetOf(2, 3)})
		k.set(func(k *altered) { k.files = map[string]string{"/sys/fs/cgroup/cpuset.cpus.effective": "0-1\n"} })
		status := refused(r, connect.StatusInvalidParameter10, r.params(0, never(t)))
		assert.ErrorContains(t, status, "CPUs 2-3 are outside this process's cpuset, which has 0-1")
	})
	onMachine(t, "091", func(t *testing.T, m *vfiotest.Machine) {
		r, other := edu(t, m, pci.KindINTx), open(t, m, m.EDU2, connect.Policy{Kind: pci.KindINTx})
		p := r.params(0, never(t))
		p.Vector = other.messages[0].Translated.Vector
		refused(r, connect.StatusNotFound, p)
	})
	onMachine(t, "092", func(t *testing.T, m *vfiotest.Machine) {
		dev := m.Open(t, m.TestDev)
		resources, err := connect.Assign(dev, connect.Policy{})
		require.NoError(t, err)
		require.Empty(t, resources.Raw)
		r := &rig{TB: t, m: m, dev: dev, messages: []pci.Message{{Translated: pci.TranslatedDescriptor{
			Type: 2, Share: 3, Level: 9, Vector: 0x91, Affinity: 1,
		}}}}
		refused(r, connect.StatusNotFound, r.params(0, never(t)))
	})
	onMachine(t, "093", func(t *testing.T, m *vfiotest.Machine) {
		t.Cleanup(connect.TakeVectors(16)) // so that the line has not the lowest level of a device
		r := edu(t, m, pci.KindINTx)
		p := r.params(0, never(t))
		for _, irql := range []connect.KIRQL{p.Irql - 1, p.Irql + 1} {
			p.Irql, p.SynchronizeIrql = irql, connect.HighLevel
			status := refused(r, connect.StatusNotFound, p)
			assert.ErrorContains(t, status, "Irql")
		}
	})
	onMachine(t, "095", func(t *testing.T, m *vfiotest.Machine) {
		if m.CPUs.Len() < 2 {
			t.Skip("a mask of one CPU has no smaller part")
		}
		r := edu(t, m, pci.KindINTx)
		first := host.CPUSetOf(m.CPUs.CPUs()[0])
		p := r.params(0, claim)
		p.ProcessorEnableMask = first.GroupMask(0)
		refused(r, connect.StatusNotFound, p)
		r.assign(connect.Policy{Kind: pci.KindINTx, AllowSubsetMask: true})
		i := r.connect(0, claim, func(p *connect.Parameters) { p.ProcessorEnableMask = first.GroupMask(0) })
		assert.Equal(t, first, i.Affinity().Thread)
	})
	onFake(t, "096", func(t *testing.T, fake vfiotest.Option) {
		m, k := alter(t, fake)
		k.set(func(k *altered) { k.online = host.CPUSetOf(0, 1, 70) })
		r := open(t, m, m.EDU, connect.Policy{CPUs: host.CPUSetOf(70)})
		p := connect.FullySpecified(r.messages[0].Translated) // Version 1 always means group 0
		p.PhysicalDeviceObject, p.InterruptObject, p.ServiceRoutine = r.dev, new(*connect.Interrupt), never(t)
		refused(r, connect.StatusNotFound, &p)
	})
	onMachine(t, "098", func(t *testing.T, m *vfiotest.Machine) {
		r := e1000e(t, m)
		p := r.params(0, never(t))
		p.Irql, p.SynchronizeIrql = 0, 0
		refused(r, connect.StatusNotSupported, p)
	})
	onMachine(t, "099", func(t *testing.T, m *vfiotest.Machine) {
		r := edu(t, m, pci.KindMSI)
		d := r.messages[0].Translated
		d.Flags = pci.InterruptMessage
		p := connect.FullySpecified(d)
		p.PhysicalDeviceObject, p.InterruptObject, p.ServiceRoutine = r.dev, new(*connect.Interrupt), never(t)
		refused(r, connect.StatusNotFound, &p)
	})
	for _, c := range []struct {
		row    string
		errno  unix.Errno
		status connect.Status
	}{
		{"103", unix.EMFILE, connect.StatusInsufficientResources},
		{"105", unix.EBUSY, connect.StatusUnsuccessful},
		{"106", unix.ENODEV, connect.StatusNotFound},
	} {
		onFake(t, c.row, func(t *testing.T, fake vfiotest.Option) {
			m, k := alter(t, fake)
			r := edu(t, m, pci.KindINTx)
			k.set(func(k *altered) { k.setIRQs = func(setIRQs) (int, error, bool) { return 0, c.errno, true } })
			status := refused(r, c.status, r.params(0, never(t)))
			assert.ErrorIs(t, status, c.errno)
			k.set(func(k *altered) { k.setIRQs = nil })
			r.connect(0, claim)
		})
	}
	onFake(t, "104", func(t *testing.T, fake vfiotest.Option) {
		m, k := alter(t, fake)
		r := e1000e(t, m)
		k.set(func(k *altered) { k.setIRQs = func(setIRQs) (int, error, bool) { return 4, nil, true } })
		status := refused(r, connect.StatusInsufficientResources, r.params(0, never(t)))
		var fewer *vfio.FewerVectorsError
		require.ErrorAs(t, status, &fewer)
		assert.Equal(t, 4, fewer.Available)
		k.set(func(k *altered) { k.setIRQs = nil })
	})
	onMachine(t, "107", func(t *testing.T, m *vfiotest.Machine) {
		r := edu(t, m, pci.KindMSI)
		fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
		require.NoError(t, err)
		defer unix.Close(fd)
		require.NoError(t, r.dev.EnableIRQs(vfio.INTx, 0, []int{fd}))
		refused(r, connect.StatusInvalidDeviceRequest, r.params(0, never(t)))
		require.NoError(t, r.dev.TriggerIRQ(vfio.INTx, 0, 1))
		n, err := unix.Read(fd, make([]byte, 8))
		require.NoError(t, err, "the line still works")
		assert.Equal(t, 8, n)
	})
	onMachine(t, "108", func(t *testing.T, m *vfiotest.Machine) {
		r := e1000e(t, m)
		inner := r.params(1, never(t))
		*inner.InterruptObject = new(connect.Interrupt)
		result := make(chan error, 1)
		i := r.connect(0, func(*connect.Interrupt, any) bool { tell(result, connect.Connect(inner)); return true })
		r.trigger(0)
		bugCheck(t, received(t, result), connect.DriverViolation, 1, uint64(i.Descriptor().Level), 0)
		assert.Nil(t, *inner.InterruptObject)
	})
	onMachine(t, "109", func(t *testing.T, m *vfiotest.Machine) {
		r := e1000e(t, m)
		inner := r.params(1, never(t))
		*inner.InterruptObject = new(connect.Interrupt)
		results := make(chan error, 3)
		var i *connect.Interrupt
		d := connect.NewDPC(func(*connect.DPC, any, any, any) {
			results <- connect.Connect(inner)
			results <- disconnect(i)
			results <- r.resources.Release()
		}, nil)
		i = r.connect(0, claim, shared)
		inISR(r, 0, func() { d.Insert(nil, nil) })
		for range 3 {
			bugCheck(t, received(t, results), connect.DriverViolation, 1, uint64(connect.DispatchLevel), 0)
		}
		assert.Nil(t, *inner.InterruptObject)
		r.connect(1, claim)
	})
	onMachine(t, "110", func(t *testing.T, m *vfiotest.Machine) {
		r := e1000e(t, m)
		i := r.connect(0, claim)
		i.Synchronize(func() bool {
			bugCheck(t, connect.Connect(r.params(1, never(t))), connect.DriverViolation, 1, uint64(i.Descriptor().Level), 0)
			return true
		})
		before, err := i.AcquireLock()
		require.NoError(t, err)
		bugCheck(t, connect.Connect(r.params(1, never(t))), connect.DriverViolation, 1, uint64(i.Descriptor().Level), 0)
		bugCheck(t, disconnect(i), connect.DriverViolation, 1, uint64(i.Descriptor().Level), 0)
		require.NoError(t, i.ReleaseLock(before))
		r.connect(1, claim)
		r.disconnect(i)
	})
}
