package connect_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/irqbridge/irqbridge/connect"
	"github.com/irqbridge/irqbridge/pci"
	"github.com/irqbridge/irqbridge/vfio/host"
	"github.com/irqbridge/irqbridge/vfio/vfiotest"
)

// function is a device's configuration space, from the fake.
func function(t *testing.T, address func(*vfiotest.Machine) pci.Address) *pci.Function {
	t.Helper()
	m := vfiotest.FakeMachine(t)
	f, err := m.Open(t, address(m)).Function()
	require.NoError(t, err)
	return f
}

func addressEDU(m *vfiotest.Machine) pci.Address     { return m.EDU }
func addressE1000E(m *vfiotest.Machine) pci.Address  { return m.E1000E }
func addressTestDev(m *vfiotest.Machine) pci.Address { return m.TestDev }

func TestPlanPrefersAsAssignDoes(t *testing.T) {
	cpus := host.CPUSetOf(1, 2, 3)
	for n, c := range []struct {
		device  func(*vfiotest.Machine) pci.Address
		policy  connect.Policy
		kind    pci.Kind
		vectors []uint32
		masks   []uint64
	}{
		{addressE1000E, connect.Policy{}, pci.KindMSIX, []uint32{0x30, 0x31, 0x32, 0x33, 0x34}, []uint64{14, 14, 14, 14, 14}},
		{addressE1000E, connect.Policy{Affinity: connect.SpreadMessagesAcrossAllProcessors}, pci.KindMSIX, []uint32{0x30, 0x31, 0x32, 0x33, 0x34}, []uint64{2, 4, 8, 2, 4}},
		{addressE1000E, connect.Policy{Messages: 2, CPUs: host.CPUSetOf(0, 3)}, pci.KindMSIX, []uint32{0x30, 0x31}, []uint64{8, 8}},
		{addressE1000E, connect.Policy{Kind: pci.KindINTx}, pci.KindINTx, []uint32{0x30}, []uint64{14}},
		{addressEDU, connect.Policy{}, pci.KindMSI, []uint32{0x30}, []uint64{14}},
		{addressTestDev, connect.Policy{}, 0, nil, nil},
	} {
		list, kind, err := connect.Plan(function(t, c.device), c.policy, cpus)
		require.NoError(t, err)
		assert.Equal(t, c.kind, kind, "case %d", n)
		var vectors []uint32
		var masks []uint64
		for _, m := range list.Expand() {
			vectors, masks = append(vectors, m.Translated.Vector), append(masks, m.Translated.Affinity)
		}
		assert.Equal(t, c.vectors, vectors, "case %d", n)
		assert.Equal(t, c.masks, masks, "case %d", n)
		assert.NoError(t, list.Validate())
	}
}

func TestPlanRefusesWhatTheDeviceOrTheHostHasNot(t *testing.T) {
	edu := function(t, addressEDU)
	_, _, err := connect.Plan(edu, connect.Policy{Kind: pci.KindMSIX}, host.CPUSetOf(0))
	assert.ErrorContains(t, err, "msix")
	_, _, err = connect.Plan(edu, connect.Policy{CPUs: host.CPUSetOf(4)}, host.CPUSetOf(0))
	assert.ErrorContains(t, err, "no CPU")
	_, _, err = connect.Plan(edu, connect.Policy{Messages: -1}, host.CPUSetOf(0))
	assert.Error(t, err)
}

func TestPlanIsWhatAssignGives(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		device := m.Open(t, m.E1000E)
		f, err := device.Function()
		require.NoError(t, err)
		planned, kind, err := connect.Plan(f, connect.Policy{}, m.CPUs)
		require.NoError(t, err)
		assigned, err := connect.Assign(device, connect.Policy{})
		require.NoError(t, err)
		assert.Equal(t, assigned.Kind, kind)
		assert.Equal(t, assigned.Raw, planned.Raw)
		assert.Equal(t, assigned.Translated, planned.Translated)
	})
}
