package pci_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/irqbridge/irqbridge/pci"
)

// threeKinds is a function with a line, 8 messages of MSI and 5 of MSI-X.
func threeKinds() *pci.Function {
	return &pci.Function{
		INTx: &pci.INTx{Pin: 1, Line: 11},
		MSI:  &pci.MSI{Messages: 8},
		MSIX: &pci.MSIX{Messages: 5},
		Size: 256,
	}
}

func TestRawResources(t *testing.T) {
	message := func(count uint16, vector uint32) pci.RawDescriptor {
		return pci.RawDescriptor{
			Type: 2, Share: 1, Flags: 3, MessageCount: count, Vector: vector, Affinity: ^uint64(0),
		}
	}
	for name, tc := range map[string]struct {
		kind     pci.Kind
		messages int
		want     []pci.RawDescriptor
	}{
		"line": {pci.KindINTx, 0, []pci.RawDescriptor{{
			Type: 2, Share: 3, Level: 11, Vector: 11, Affinity: ^uint64(0),
		}}},
		"one line":     {pci.KindINTx, 1, []pci.RawDescriptor{{Type: 2, Share: 3, Level: 11, Vector: 11, Affinity: ^uint64(0)}}},
		"all of MSI":   {pci.KindMSI, 0, []pci.RawDescriptor{message(8, 0xfffffff7)}},
		"four of MSI":  {pci.KindMSI, 4, []pci.RawDescriptor{message(4, 0xfffffffb)}},
		"one of MSI":   {pci.KindMSI, 1, []pci.RawDescriptor{message(1, 0xfffffffe)}},
		"two of MSI-X": {pci.KindMSIX, 2, []pci.RawDescriptor{message(1, 0xfffffffe), message(1, 0xfffffffd)}},
		"all of MSI-X": {pci.KindMSIX, 0, []pci.RawDescriptor{
			message(1, 0xfffffffe), message(1, 0xfffffffd), message(1, 0xfffffffc), message(1, 0xfffffffb), message(1, 0xfffffffa),
		}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := pci.RawResources(threeKinds(), tc.kind, tc.messages)
			require.NoError(t, err)
			assert.Equal(t, tc.want, got)
		})
	}
}

func TestRawResourcesRefuses(t *testing.T) {
	none := &pci.Function{Size: 256}
	reserved := threeKinds()
	reserved.MSI.Messages, reserved.MSI.Control = 0, 0x000c
	for name, tc := range map[string]struct {
		function *pci.Function
		kind     pci.Kind
		messages int
		err      string
	}{
		"no line":             {none, pci.KindINTx, 0, "intx: the device has no interrupt line"},
		"no MSI":              {none, pci.KindMSI, 0, "msi: the device has no such capability"},
		"no MSI-X":            {none, pci.KindMSIX, 0, "msix: the device has no such capability"},
		"no kind":             {threeKinds(), 0, 0, "kind(0) is no kind of interrupt"},
		"unknown kind":        {threeKinds(), 9, 0, "kind(9) is no kind of interrupt"},
		"two lines":           {threeKinds(), pci.KindINTx, 2, "2 interrupts are wanted and the device has 1"},
		"negative":            {threeKinds(), pci.KindMSIX, -1, "-1 interrupts are wanted"},
		"too many of MSI":     {threeKinds(), pci.KindMSI, 16, "16 interrupts are wanted and the device has 8"},
		"too many of MSI-X":   {threeKinds(), pci.KindMSIX, 6, "6 interrupts are wanted and the device has 5"},
		"three of MSI":        {threeKinds(), pci.KindMSI, 3, "powers of two; ask for 2"},
		"seven of MSI":        {threeKinds(), pci.KindMSI, 7, "powers of two; ask for 4"},
		"reserved MMC of MSI": {reserved, pci.KindMSI, 0, "control word 0x000c has a reserved number"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := pci.RawResources(tc.function, tc.kind, tc.messages)
			require.ErrorContains(t, err, tc.err)
			assert.Nil(t, got)
		})
	}
}

// msiList is what a device with 8 messages of MSI gets, with the device private descriptor that Windows puts after a
// BAR.
func msiList() pci.ResourceList {
	return pci.ResourceList{
		InterfaceType: pci.InterfacePCIBus,
		Raw: []pci.RawDescriptor{
			{Type: pci.ResourceMemory, Share: 1, Level: 0x1000},
			{Type: pci.ResourceDevicePrivate, Share: 1},
			{Type: pci.ResourceInterrupt, Share: 1, Flags: 3, MessageCount: 8, Vector: 0xfffffff7, Affinity: 0xf},
		},
		Translated: []pci.TranslatedDescriptor{
			{Type: pci.ResourceMemory, Share: 1, Level: 0x1000},
			{Type: pci.ResourceDevicePrivate, Share: 1},
			{Type: pci.ResourceInterrupt, Share: 1, Flags: 3, Level: 8, Vector: 0x80, Affinity: 0xf},
		},
	}
}

func TestExpandMSI(t *testing.T) {
	list := msiList()
	messages := list.Expand()
	require.Len(t, messages, 8)
	for i, m := range messages {
		assert.Equal(t, i, m.Index)
		assert.Equal(t, list.Raw[2], m.Raw)
		want := list.Translated[2]
		want.Vector = 0x80 + uint32(i)
		assert.Equal(t, want, m.Translated)
	}
	assert.Equal(t, uint32(0x80), list.Translated[2].Vector, "the list is not changed")
}

func TestExpandMSIXAndLine(t *testing.T) {
	var list pci.ResourceList
	for i := range uint32(3) {
		list.Raw = append(list.Raw, pci.RawDescriptor{Type: 2, Share: 1, Flags: 3, MessageCount: 1, Vector: pci.MessageToken - i})
		list.Translated = append(list.Translated, descriptor(1, 3, 7, 0, 0x70+i, 1<<i))
	}
	messages := list.Expand()
	require.Len(t, messages, 3)
	for i, m := range messages {
		assert.Equal(t, pci.Message{Index: i, Raw: list.Raw[i], Translated: list.Translated[i]}, m)
	}

	line := pci.ResourceList{
		Raw:        []pci.RawDescriptor{{Type: 2, Share: 3, Level: 11, Vector: 11, Affinity: 0xf}},
		Translated: []pci.TranslatedDescriptor{descriptor(3, 0, 9, 0, 0x91, 0xf)},
	}
	assert.Equal(t, []pci.Message{{Index: 0, Raw: line.Raw[0], Translated: line.Translated[0]}}, line.Expand())
}

func TestExpandOfBadLists(t *testing.T) {
	assert.Empty(t, pci.ResourceList{}.Expand())

	list := msiList()
	list.Translated = list.Translated[:2]
	assert.Empty(t, list.Expand(), "the interrupt has no translated half")

	list = msiList()
	list.Raw[2].MessageCount = 0
	assert.Len(t, list.Expand(), 1)

	list = msiList()
	list.Raw[2].Flags = 0 // a line's bytes have no message count
	assert.Len(t, list.Expand(), 1)
}

func TestResourceListValidate(t *testing.T) {
	require.NoError(t, pci.ResourceList{}.Validate())
	require.NoError(t, msiList().Validate())
	for name, tc := range map[string]struct {
		change func(l *pci.ResourceList)
		err    string
	}{
		"raw shorter":        {func(l *pci.ResourceList) { l.Raw = l.Raw[:2] }, "2 raw and 3 translated"},
		"translated shorter": {func(l *pci.ResourceList) { l.Translated = nil }, "3 raw and 0 translated"},
		"types differ": {
			func(l *pci.ResourceList) { l.Raw[1].Type = pci.ResourcePort },
			"descriptor 1: raw type 1 (port) and translated type 129 (device private) differ",
		},
		"forms differ":     {func(l *pci.ResourceList) { l.Raw[2].Flags = 0 }, "descriptor 2: raw flags 0x0000"},
		"no message":       {func(l *pci.ResourceList) { l.Raw[2].MessageCount = 0 }, "descriptor 2: message count 0"},
		"33 messages":      {func(l *pci.ResourceList) { l.Raw[2].MessageCount = 33 }, "descriptor 2: message count 33"},
		"a bad descriptor": {func(l *pci.ResourceList) { l.Translated[2].Vector = 0 }, "descriptor 2: translated descriptor: vector 0"},
	} {
		t.Run(name, func(t *testing.T) {
			list := msiList()
			tc.change(&list)
			require.ErrorContains(t, list.Validate(), tc.err)
		})
	}
}
