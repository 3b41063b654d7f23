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

// withMSI gives edu an MSI capability whose Multiple Message Capable field is mmc, of which the kernel offers all and
// the host can give vectors messages.
func withMSI(t *testing.T, mmc byte, vectors int, opts ...vfiotest.Option) (*vfiotest.Machine, *rig) {
	t.Helper()
	m, k := alter(t, opts...)
	dev := m.Open(t, m.EDU)
	f, err := dev.Function()
	require.NoError(t, err)
	require.NotNil(t, f.MSI)
	require.NoError(t, dev.Close())
	k.set(func(k *altered) {
		k.config[f.MSI.Offset+2] = byte(f.MSI.Control)&^0x0E | mmc<<1
		if mmc <= 5 {
			k.count[uint32(vfio.MSI)] = 1 << mmc
		}
		k.setIRQs = func(call setIRQs) (int, error, bool) {
			if call.index != uint32(vfio.MSI) {
				return 0, nil, false
			}
			if n := int(call.start + call.count); n > vectors {
				if vectors == 0 {
					return 0, unix.ENOSPC, true
				}
				return vectors, nil, true
			}
			return 0, nil, true
		}
	})
	dev, err = vfio.Open(m.EDU, m.Options()...)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, dev.Close()) })
	return m, &rig{TB: t, m: m, dev: dev}
}

// assignRows are the rows of group M.
func assignRows(t *testing.T) {
	onMachine(t, "189", func(t *testing.T, m *vfiotest.Machine) {
		r := open(t, m, m.E1000E, connect.Policy{})
		f, err := r.dev.Function()
		require.NoError(t, err)
		require.NotNil(t, f.MSI, "e1000e has both")
		require.NotNil(t, f.MSIX)
		assert.Equal(t, pci.KindMSIX, r.resources.Kind)
		require.NoError(t, r.resources.Shortfall)
		require.Len(t, r.resources.Raw, f.MSIX.Messages)
		for _, d := range r.resources.Raw {
			assert.EqualValues(t, 1, d.MessageCount)
		}
	})
	onMachine(t, "190", func(t *testing.T, m *vfiotest.Machine) {
		r := e1000e(t, m)
		assert.Len(t, r.resources.Raw, 5)
		assert.Len(t, r.resources.Translated, 5)
		seen := make(map[uint32]bool)
		for n, message := range r.messages {
			assert.Equal(t, n, message.Index)
			assert.EqualValues(t, 1, message.Raw.MessageCount)
			assert.Equal(t, pci.InterruptLatched|pci.InterruptMessage, message.Translated.Flags)
			assert.Equal(t, pci.ShareDeviceExclusive, message.Translated.Share)
			assert.False(t, seen[message.Translated.Vector])
			seen[message.Translated.Vector] = true
		}
		assert.False(t, r.enabled(), "Assign leaves nothing enabled")
	})
	onFake(t, "191", func(t *testing.T, fake vfiotest.Option) {
		_, r := withMSI(t, 3, 32, fake)
		r.assign(connect.Policy{})
		assert.Equal(t, pci.KindMSI, r.resources.Kind)
		require.Len(t, r.resources.Raw, 1)
		require.Len(t, r.resources.Translated, 1)
		assert.EqualValues(t, 8, r.resources.Raw[0].MessageCount)
		require.Len(t, r.messages, 8)
		first := r.messages[0].Translated
		for n, message := range r.messages {
			want := first
			want.Vector += uint32(n)
			assert.Equal(t, want, message.Translated)
		}
		assert.Equal(t, pci.ShareDeviceExclusive, first.Share)
		assert.EqualValues(t, 3, first.Flags)
	})
	onFake(t, "192", func(t *testing.T, fake vfiotest.Option) {
		_, r := withMSI(t, 5, 32, fake)
		r.assign(connect.Policy{WindowsLimits: true})
		assert.Len(t, r.messages, 16)
		r.assign(connect.Policy{})
		assert.Len(t, r.messages, 32)
	})
	onFake(t, "193", func(t *testing.T, fake vfiotest.Option) {
		for _, mmc := range []byte{6, 7} {
			_, r := withMSI(t, mmc, 32, fake)
			_, err := connect.Assign(r.dev, connect.Policy{})
			assert.ErrorContains(t, err, "reserved number of messages")
		}
	})
	onFake(t, "194", func(t *testing.T, fake vfiotest.Option) {
		_, r := withMSI(t, 3, 32, fake)
		_, err := connect.Assign(r.dev, connect.Policy{Messages: 3})
		require.ErrorContains(t, err, "powers of two")
		r.assign(connect.Policy{Messages: 4})
		assert.Len(t, r.messages, 4)
	})
	onFake(t, "195", func(t *testing.T, fake vfiotest.Option) {
		_, r := withMSI(t, 3, 4, fake)
		r.assign(connect.Policy{})
		assert.Len(t, r.messages, 1, "exactly one, not four")
		assert.Equal(t, pci.KindMSI, r.resources.Kind)
		var fewer *vfio.FewerVectorsError
		require.ErrorAs(t, r.resources.Shortfall, &fewer)
		assert.Equal(t, 4, fewer.Available)

		m := vfiotest.FakeMachine(t, fake, vfiotest.VectorLimit(3))
		r = open(t, m, m.E1000E, connect.Policy{})
		assert.Equal(t, pci.KindMSIX, r.resources.Kind)
		assert.Len(t, r.messages, 1)
		isr, calls := r.reporting(0)
		r.connect(0, isr)
		serviced(r, 0, calls)
	})
	onFake(t, "196", func(t *testing.T, fake vfiotest.Option) {
		_, r := withMSI(t, 3, 0, fake)
		r.assign(connect.Policy{})
		assert.Equal(t, pci.KindINTx, r.resources.Kind)
		assert.Len(t, r.messages, 1)
		require.ErrorIs(t, r.resources.Shortfall, unix.ENOSPC)
		_, err := connect.Assign(r.dev, connect.Policy{Kind: pci.KindMSI})
		assert.ErrorIs(t, err, unix.ENOSPC, "a kind that was asked for is not exchanged")
	})
	onMachine(t, "197", func(t *testing.T, m *vfiotest.Machine) {
		dev := m.Open(t, m.TestDev)
		resources, err := connect.Assign(dev, connect.Policy{})
		require.NoError(t, err)
		assert.Zero(t, resources.Kind)
		assert.Empty(t, resources.Raw)
		assert.Empty(t, resources.Translated)
		err = connect.Connect(&connect.Parameters{
			Version: 1, PhysicalDeviceObject: dev, InterruptObject: new(*connect.Interrupt), ServiceRoutine: never(t),
			Vector: 0x30, Irql: 3, SynchronizeIrql: 3, ProcessorEnableMask: 1,
		})
		require.ErrorIs(t, err, connect.StatusNotFound)
		require.NoError(t, resources.Release())
	})
	onFake(t, "198", func(t *testing.T, fake vfiotest.Option) {
		for pin := range byte(6) {
			m, k := alter(t, fake)
			k.set(func(k *altered) { k.config[0x3D] = pin })
			dev := m.Open(t, m.EDU)
			resources, err := connect.Assign(dev, connect.Policy{Kind: pci.KindINTx})
			switch pin {
			case 0:
				require.ErrorContains(t, err, "no interrupt line")
				resources, err = connect.Assign(dev, connect.Policy{})
				require.NoError(t, err)
				assert.Equal(t, pci.KindMSI, resources.Kind)
				continue
			case 5:
				require.ErrorContains(t, err, "pin")
				continue
			}
			require.NoError(t, err, "pin %d", pin)
			require.Len(t, resources.Translated, 1)
			assert.Equal(t, pci.ShareShared, resources.Translated[0].Share)
			assert.Zero(t, resources.Translated[0].Flags)
		}
	})
	onFake(t, "199", func(t *testing.T, fake vfiotest.Option) {
		m, k := alter(t, fake)
		k.set(func(k *altered) { k.count[uint32(vfio.INTx)] = 0 })
		dev := m.Open(t, m.EDU)
		_, err := connect.Assign(dev, connect.Policy{Kind: pci.KindINTx})
		require.ErrorIs(t, err, vfio.ErrNotSupported)
		resources, err := connect.Assign(dev, connect.Policy{})
		require.NoError(t, err)
		assert.Equal(t, pci.KindMSI, resources.Kind)
	})
	onFake(t, "200", func(t *testing.T, fake vfiotest.Option) {
		_, r := withMSI(t, 3, 32, fake)
		t.Cleanup(connect.TakeVectors(3)) // so that the lowest free vector is no multiple of 8
		r.assign(connect.Policy{})
		first := r.messages[0].Translated
		assert.Zero(t, first.Vector%8)
		assert.EqualValues(t, first.Vector>>4, first.Level)
		assert.EqualValues(t, (first.Vector+7)>>4, first.Level)

		seen := make(map[uint32]bool)
		for _, d := range connect.TakeBlocks(t, 200, 4) {
			assert.Zero(t, d.Vector%4)
			assert.GreaterOrEqual(t, d.Level, uint16(3))
			assert.LessOrEqual(t, d.Level, uint16(11))
			if d.Vector <= 0xBF {
				assert.EqualValues(t, d.Vector>>4, d.Level)
			}
			for v := d.Vector; v < d.Vector+4; v++ {
				assert.NotZero(t, v)
				assert.False(t, seen[v], "vector 0x%x is there twice", v)
				seen[v] = true
			}
		}
		assert.Len(t, seen, 800)
	})
	onMachine(t, "201", func(t *testing.T, m *vfiotest.Machine) {
		r := open(t, m, m.E1000E, connect.Policy{Kind: pci.KindMSIX, Messages: 2, WholeTable: true})
		require.Len(t, r.messages, 2)
		require.NoError(t, r.resources.Shortfall)
		served := make(chan int, 8)
		all := func(*connect.Interrupt, any) (claimed bool) {
			for _, n := range []int{0, 2, 3, 4} {
				if r.serve(n) {
					claimed = true
					tell(served, n)
				}
			}
			return claimed
		}
		requireServed := func(n int) {
			t.Helper()
			r.raise(n)
			for received(t, served) != n { // 4 is also the link's
			}
		}
		zero := r.connect(0, all)
		for _, n := range []int{3, 0, 2, 4} {
			requireServed(n)
		}
		isr, calls := r.reporting(1)
		r.connect(1, isr)
		serviced(r, 1, calls)
		r.disconnect(zero)
		r.raise(3)
		serviced(r, 1, calls)
		assert.True(t, r.board.raised(r, 3), "not served")
		r.board.acknowledge(r, 3)
		r.connect(0, all) // to an index that is enabled
		for _, n := range []int{3, 0} {
			requireServed(n)
		}
		r.close()

		r = open(t, m, m.E1000E, connect.Policy{Kind: pci.KindMSIX, Messages: 2})
		isr, calls = r.reporting(0)
		i := r.connect(0, isr)
		r.raise(3)
		serviced(r, 0, calls)
		assert.True(t, r.board.raised(r, 3), "the entry is off")
		r.disconnect(i)
	})
	onMachine(t, "202", func(t *testing.T, m *vfiotest.Machine) {
		policy, err := connect.Registry{MessageNumberLimit: 4}.Policy()
		require.NoError(t, err)
		r := open(t, m, m.E1000E, policy)
		assert.Equal(t, pci.KindINTx, r.resources.Kind)
		isr, calls := r.reporting(0)
		r.connect(0, isr)
		serviced(r, 0, calls)
		r.close()

		policy, err = connect.Registry{MSISupported: true, MessageNumberLimit: 4}.Policy()
		require.NoError(t, err)
		r = open(t, m, m.E1000E, policy)
		assert.Equal(t, pci.KindMSIX, r.resources.Kind)
		assert.Len(t, r.messages, 4)
	})
}

// affinityRows are the rows of group N.
func affinityRows(t *testing.T) {
	fourCPUs := func(t *testing.T, p connect.Policy, opts ...vfiotest.Option) *rig {
		m, k := alter(t, opts...)
		k.set(func(k *altered) { k.online = host.CPUSetOf(0, 1, 2, 3) })
		return open(t, m, m.E1000E, p)
	}
	onFake(t, "203", func(t *testing.T, fake vfiotest.Option) {
		for _, d := range fourCPUs(t, connect.Policy{CPUs: host.CPUSetOf(2)}, fake).resources.Translated {
			assert.EqualValues(t, 4, d.Affinity)
		}
	})
	onMachine(t, "204", func(t *testing.T, m *vfiotest.Machine) {
		if m.Fake != nil {
			var masks []uint64
			for _, d := range fourCPUs(t, connect.Policy{Affinity: connect.SpreadMessagesAcrossAllProcessors, Messages: 4}, vfiotest.Personality(m.Version)).resources.Translated {
				masks = append(masks, d.Affinity)
			}
			assert.Equal(t, []uint64{1, 2, 4, 8}, masks)
			r := fourCPUs(t, connect.Policy{Affinity: connect.SpreadMessagesAcrossAllProcessors, Kind: pci.KindMSI}, vfiotest.Personality(m.Version))
			assert.EqualValues(t, 0xF, r.messages[0].Translated.Affinity)
		}
		r := open(t, m, m.E1000E, connect.Policy{Affinity: connect.SpreadMessagesAcrossAllProcessors})
		for n := range r.messages {
			want := host.CPUSetOf(m.CPUs.CPUs()[n%m.CPUs.Len()])
			places := make(chan int, 1)
			i := r.connect(n, func(*connect.Interrupt, any) bool {
				r.serve(n)
				cpu, err := m.Host.CurrentCPU()
				assert.NoError(t, err)
				tell(places, cpu)
				return true
			})
			r.raise(n)
			assert.True(t, want.Has(received(t, places)))
			a := i.Affinity()
			require.NoError(t, a.IRQErr)
			assert.Equal(t, want, a.Effective)
		}
	})
	t.Run("205", func(t *testing.T) {
		for number, name := range map[uint32]string{6: "AllProcessorsInMachineWhenSteered", 7: "DevicePolicy(7)", ^uint32(0): "DevicePolicy("} {
			_, err := connect.Registry{DevicePolicy: number, MSISupported: true}.Policy()
			require.ErrorContains(t, err, name)
			_, _, err = connect.Plan(&pci.Function{}, connect.Policy{Affinity: connect.DevicePolicy(number)}, host.CPUSetOf(0))
			require.ErrorContains(t, err, name)
		}
		for number, name := range []string{
			"MachineDefault", "AllCloseProcessors", "OneCloseProcessor", "AllProcessorsInMachine", "SpecifiedProcessors",
			"SpreadMessagesAcrossAllProcessors",
		} {
			policy, err := connect.Registry{DevicePolicy: uint32(number), AssignmentSetOverride: []byte{1}}.Policy()
			require.NoError(t, err)
			assert.Equal(t, name, policy.Affinity.String())
		}
	})
	onFake(t, "206", func(t *testing.T, fake vfiotest.Option) {
		r := fourCPUs(t, connect.Policy{CPUs: host.CPUSetOf(1, 7)}, fake)
		assert.EqualValues(t, 2, r.messages[0].Translated.Affinity)
		_, err := connect.Assign(r.dev, connect.Policy{CPUs: host.CPUSetOf(7)})
		require.ErrorContains(t, err, "CPU 7 is not online, the host has 0-3")
	})
	onMachine(t, "207", func(t *testing.T, m *vfiotest.Machine) {
		r := edu(t, m, pci.KindINTx)
		d := r.messages[0].Translated
		for _, change := range []func(*connect.Parameters){shared, passive} {
			i := r.connect(0, claim, change)
			affinity, err := i.GroupAffinity()
			require.NoError(t, err)
			assert.Equal(t, connect.GroupAffinity{Mask: d.Affinity, Group: d.Group}, affinity)
			r.disconnect(i)
			for _, none := range []*connect.Interrupt{nil, {}, i} {
				_, err = none.GroupAffinity()
				require.ErrorIs(t, err, connect.StatusInvalidParameter)
			}
		}
		if m.Fake == nil {
			return
		}
		r = fourCPUs(t, connect.Policy{CPUs: host.CPUSetOf(1, 3)}, vfiotest.Personality(m.Version))
		i := r.connect(0, claim)
		affinity, err := i.GroupAffinity()
		require.NoError(t, err)
		assert.Equal(t, connect.GroupAffinity{Mask: 0b1010}, affinity)
		assert.Equal(t, host.CPUSetOf(1, 3), i.Affinity().Wanted)
		assert.Equal(t, host.CPUSetOf(1, 3), i.Affinity().Thread)
	})
	t.Run("208", func(t *testing.T) {
		specified := func(mask ...byte) (connect.Policy, error) {
			return connect.Registry{DevicePolicy: 4, AssignmentSetOverride: mask, MSISupported: true}.Policy()
		}
		_, err := specified(make([]byte, 16)...)
		require.ErrorContains(t, err, "AssignmentSetOverride of 16 bytes; a KAFFINITY has 8")
		for _, none := range [][]byte{nil, {0, 0}} {
			_, err = specified(none...)
			require.ErrorContains(t, err, "without a processor")
		}
		for _, c := range []struct {
			mask []byte
			cpus host.CPUSet
		}{
			{[]byte{3}, host.CPUSetOf(0, 1)},
			{[]byte{1, 2}, host.CPUSetOf(0, 9)},
			{[]byte{0, 0, 0, 0, 0, 0, 0, 0x80}, host.CPUSetOf(63)},
		} {
			policy, err := specified(c.mask...)
			require.NoError(t, err)
			assert.Equal(t, c.cpus, policy.CPUs)
		}
		policy, err := connect.Registry{DevicePolicy: 3, AssignmentSetOverride: []byte{3}}.Policy()
		require.NoError(t, err)
		assert.Empty(t, policy.CPUs, "the mask is for SpecifiedProcessors")
	})
	onFake(t, "209", func(t *testing.T, fake vfiotest.Option) {
		m, k := alter(t, fake)
		k.set(func(k *altered) { k.online, _ = host.ParseCPUList("0-95") })
		r := open(t, m, m.E1000E, connect.Policy{CPUs: host.CPUSetOf(70)})
		d := r.messages[0].Translated
		assert.EqualValues(t, 1, d.Group)
		assert.EqualValues(t, 1<<6, d.Affinity)
		p := r.params(0, never(t))
		p.Version, p.Group = connect.VersionFullySpecified, 0
		refused(r, connect.StatusNotFound, p)
		i := r.connect(0, claim)
		assert.Equal(t, host.CPUSetOf(70), i.Affinity().Thread)
	})
}

// The close processors are those of the device's NUMA node, and all where nothing is known of it.
func TestCloseProcessors(t *testing.T) {
	m, k := alter(t)
	k.set(func(k *altered) { k.online = host.CPUSetOf(0, 1, 2, 3) })
	r := &rig{TB: t, m: m, dev: m.Open(t, m.E1000E)}
	for _, c := range []struct {
		node, cpus string
		all, one   uint64
	}{
		{"-1", "", 0b1111, 0b0001},
		{"1", "2-3", 0b1100, 0b0100},
		{"1", "3,8-9", 0b1000, 0b1000},
		{"1", "", 0b1111, 0b0001},    // it has memory only
		{"1", "8-9", 0b1111, 0b0001}, // none of them runs
	} {
		k.set(func(k *altered) {
			k.files = map[string]string{
				"/sys/bus/pci/devices/" + m.E1000E.String() + "/numa_node": c.node + "\n",
				"/sys/devices/system/node/node1/cpulist":                   c.cpus + "\n",
			}
		})
		r.assign(connect.Policy{Affinity: connect.AllCloseProcessors})
		assert.Equal(t, c.all, r.messages[4].Translated.Affinity, "node %s: %s", c.node, c.cpus)
		r.assign(connect.Policy{Affinity: connect.OneCloseProcessor})
		for _, message := range r.messages {
			assert.Equal(t, c.one, message.Translated.Affinity, "node %s: %s", c.node, c.cpus)
		}
		r.assign(connect.Policy{})
		assert.EqualValues(t, 0b1111, r.messages[0].Translated.Affinity)
	}
	k.set(func(k *altered) { k.files["/sys/devices/system/node/node1/cpulist"] = "x" })
	_, err := connect.Assign(r.dev, connect.Policy{Affinity: connect.AllCloseProcessors})
	require.ErrorContains(t, err, "node1/cpulist")
}

// An interrupt is served in one group of 64 processors.
func TestPolicyAcrossGroups(t *testing.T) {
	m, k := alter(t)
	k.set(func(k *altered) { k.online, _ = host.ParseCPUList("0-95") })
	r := &rig{TB: t, m: m, dev: m.Open(t, m.E1000E)}
	across := host.CPUSetOf(3, 70)
	_, err := connect.Assign(r.dev, connect.Policy{CPUs: across})
	require.ErrorContains(t, err, "CPUs 3,70 are in processor groups 0 and 1")
	require.ErrorContains(t, err, "0-63")
	r.assign(connect.Policy{CPUs: across, Affinity: connect.SpreadMessagesAcrossAllProcessors})
	for n, message := range r.messages {
		want := host.CPUSetOf(across.CPUs()[n%2])
		d := message.Translated
		assert.Equal(t, want, host.FromGroupMask(int(d.Group), d.Affinity))
	}
	r.assign(connect.Policy{})
	assert.EqualValues(t, 0, r.messages[0].Translated.Group, "of all processors the lowest group")
	assert.Equal(t, ^uint64(0), r.messages[0].Translated.Affinity)
}

// Where the host has vectors for the messages and not for the whole table, the rest of the table stays off.
func TestWholeTableNeedsVectors(t *testing.T) {
	m := vfiotest.FakeMachine(t, vfiotest.VectorLimit(3))
	r := open(t, m, m.E1000E, connect.Policy{Kind: pci.KindMSIX, Messages: 2, WholeTable: true})
	assert.Len(t, r.messages, 2)
	var fewer *vfio.FewerVectorsError
	require.ErrorAs(t, r.resources.Shortfall, &fewer)
	isr, calls := r.reporting(0)
	r.connect(0, isr)
	serviced(r, 0, calls)
	r.raise(3)
	serviced(r, 0, calls)
	assert.True(t, r.board.raised(r, 3), "not served")
}

// Message 0 is connected with the whole rest of the table, or not at all.
func TestWholeTableThatIsRefusedInPart(t *testing.T) {
	m := vfiotest.FakeMachine(t)
	r := open(t, m, m.E1000E, connect.Policy{Kind: pci.KindMSIX, Messages: 2, WholeTable: true})
	isr, calls := r.reporting(1)
	r.connect(1, isr)
	m.Fake.Fail("DeviceSetIRQs", unix.EIO, 2) // message 0 itself is armed before
	refused(r, connect.StatusUnsuccessful, r.params(0, never(t)))
	r.raise(0)
	serviced(r, 1, calls)
	isr, calls = r.reporting(0)
	r.connect(0, isr)
	serviced(r, 0, calls)
}

func TestAssignRefuses(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		_, err := connect.Assign(nil, connect.Policy{})
		require.Error(t, err)
		r := edu(t, m, pci.KindINTx)
		for name, p := range map[string]connect.Policy{
			"no such capability":     {Kind: pci.KindMSIX},
			"no kind of interrupt":   {Kind: 9},
			"a limit of -1":          {Messages: -1},
			"a storm limit of -1":    {StormLimit: -1},
			"without CPUs; say":      {Affinity: connect.SpecifiedProcessors},
			"CPU 4000 is not online": {CPUs: host.CPUSetOf(4000)},
		} {
			_, err := connect.Assign(r.dev, p)
			require.ErrorContains(t, err, name)
			require.ErrorContains(t, err, r.dev.Address().String())
		}
		i := r.connect(0, claim)
		_, err = connect.Assign(r.dev, connect.Policy{})
		require.ErrorIs(t, err, vfio.ErrBusy)
		require.ErrorIs(t, r.resources.Release(), vfio.ErrBusy)
		r.disconnect(i)
		require.NoError(t, r.resources.Release())
		require.NoError(t, r.resources.Release(), "a second time")
		refused(r, connect.StatusNotFound, r.params(0, never(t)))

		fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
		require.NoError(t, err)
		defer unix.Close(fd)
		require.NoError(t, r.dev.EnableIRQs(vfio.INTx, 0, []int{fd}))
		_, err = connect.Assign(r.dev, connect.Policy{})
		require.ErrorIs(t, err, vfio.ErrBusy)
		require.NoError(t, r.dev.DisableIRQs(vfio.INTx))

		r.close()
		_, err = connect.Assign(r.dev, connect.Policy{})
		require.ErrorIs(t, err, os.ErrClosed)
	})
}

// A second assignment replaces the first; the vectors of a device come back when it is closed.
func TestAssignAgain(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		r := edu(t, m, pci.KindINTx)
		first := r.messages[0].Translated.Vector
		stale := r.resources
		r.assign(connect.Policy{Kind: pci.KindMSI})
		assert.Equal(t, first, r.messages[0].Translated.Vector, "the lowest free vector again")
		require.NoError(t, stale.Release(), "which are the device's no more")
		isr, calls := r.reporting(0)
		r.connect(0, isr)
		serviced(r, 0, calls)
		other := open(t, m, m.EDU2, connect.Policy{})
		assert.NotEqual(t, first, other.messages[0].Translated.Vector)
		r.close()
		other.assign(connect.Policy{})
		assert.Equal(t, first, other.messages[0].Translated.Vector)
	})
}

// A line that the firmware left without a number is known by its Linux interrupt.
func TestAssignNumbersTheLine(t *testing.T) {
	m, k := alter(t)
	dev := m.Open(t, m.EDU)
	h, err := m.Host.Device(m.EDU)
	require.NoError(t, err)
	require.Positive(t, h.IRQ)
	for _, c := range []struct{ register, level byte }{{0, byte(h.IRQ)}, {0xFF, byte(h.IRQ)}, {5, 5}} {
		k.set(func(k *altered) { k.config[0x3C] = c.register })
		resources, err := connect.Assign(dev, connect.Policy{Kind: pci.KindINTx})
		require.NoError(t, err)
		assert.EqualValues(t, c.level, resources.Raw[0].Level, "register 0x%x", c.register)
		assert.EqualValues(t, c.level, resources.Raw[0].Vector)
	}
}

// What Assign tries out it takes back: bus mastering is off after it, as before.
func TestAssignLeavesTheDeviceAsItWas(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		dev := m.Open(t, m.E1000E)
		before, err := dev.Config()
		require.NoError(t, err)
		_, err = connect.Assign(dev, connect.Policy{})
		require.NoError(t, err)
		after, err := dev.Config()
		require.NoError(t, err)
		assert.Equal(t, before, after)
	})
}
