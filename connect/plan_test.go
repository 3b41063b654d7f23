package connect_test

import (
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/irqbridge/irqbridge/connect"
	"github.com/irqbridge/irqbridge/pci"
	"github.com/irqbridge/irqbridge/vfio/host"
	"github.com/irqbridge/irqbridge/vfio/vfiotest"
)

func readFunction(t *testing.T, name string) *pci.Function {
	t.Helper()
	file, err := os.Open("../pci/testdata/devices/" + name + ".txt")
	require.NoError(t, err)
	defer file.Close()
	dumps, err := pci.ReadDump(file)
	require.NoError(t, err)
	f, err := pci.Decode(dumps[0].Config)
	require.NoError(t, err)
	return f
}

func TestPlanPrefersAsAssignDoes(t *testing.T) {
	cpus := host.CPUSetOf(1, 2, 3)
	for _, c := range []struct {
		device  string
		policy  connect.Policy
		kind    pci.Kind
		vectors []uint32
		masks   []uint64
	}{
		{"e1000e", connect.Policy{}, pci.KindMSIX, []uint32{0x30, 0x31, 0x32, 0x33, 0x34}, []uint64{14, 14, 14, 14, 14}},
		{"e1000e", connect.Policy{Spread: true}, pci.KindMSIX, []uint32{0x30, 0x31, 0x32, 0x33, 0x34}, []uint64{2, 4, 8, 2, 4}},
		{"e1000e", connect.Policy{Messages: 2, CPUs: host.CPUSetOf(0, 3)}, pci.KindMSIX, []uint32{0x30, 0x31}, []uint64{8, 8}},
		{"e1000e", connect.Policy{Kind: pci.KindINTx}, pci.KindINTx, []uint32{0x30}, []uint64{14}},
		{"edu", connect.Policy{}, pci.KindMSI, []uint32{0x30}, []uint64{14}},
		{"pci-testdev", connect.Policy{}, 0, nil, nil},
	} {
		list, kind, err := connect.Plan(readFunction(t, c.device), c.policy, cpus)
		require.NoError(t, err)
		assert.Equal(t, c.kind, kind, c.device)
		var vectors []uint32
		var masks []uint64
		for _, m := range list.Expand() {
			vectors, masks = append(vectors, m.Translated.Vector), append(masks, m.Translated.Affinity)
		}
		assert.Equal(t, c.vectors, vectors, c.device)
		assert.Equal(t, c.masks, masks, c.device)
		assert.NoError(t, list.Validate())
	}
}

func TestPlanRefusesWhatTheDeviceOrTheHostHasNot(t *testing.T) {
	edu := readFunction(t, "edu")
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
