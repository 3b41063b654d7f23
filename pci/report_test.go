package pci_test

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/irqbridge/irqbridge/pci"
)

// withMSIX gives a working endpoint with a 64-bit BAR 0 and that many messages, their table and pending bit array in
// BAR 0.
func withMSIX(messages int, table, pba uint32) space {
	s := endpoint(256)
	s.put16(0x04, 0x0006)
	s.put32(0x10, 0xfea00004)
	s.only(0x40, pci.CapMSIX)
	s.put16(0x42, uint16(messages-1))
	s.put32(0x44, table)
	s.put32(0x48, pba)
	return s
}

func TestInterruptsOfNothing(t *testing.T) {
	assert.Equal(t, pci.Interrupts{}, decode(t, endpoint(64)).Interrupts())
	b, err := json.Marshal(pci.Interrupts{})
	require.NoError(t, err)
	assert.JSONEq(t, `{}`, string(b))
}

func TestInterruptsOfTheLine(t *testing.T) {
	s := endpoint(64)
	s.put16(0x06, 0x0008)
	r := decode(t, s).Interrupts()
	assert.True(t, r.LineAsserted)
	assert.False(t, r.LineDisabled)
	s.put16(0x06, 0)
	s.put16(0x04, 0x0400)
	r = decode(t, s).Interrupts()
	assert.False(t, r.LineAsserted)
	assert.True(t, r.LineDisabled)
}

func TestInterruptsJSON(t *testing.T) {
	f := decode(t, withMSIX(5, 0x0000, 0x2000))
	f.INTx = &pci.INTx{Pin: 1, Line: 11}
	f.Warnings = []pci.Warning{{Offset: 0x3d, Text: "text"}}
	b, err := json.Marshal(f.Interrupts())
	require.NoError(t, err)
	assert.JSONEq(t, `{
		"intx": {"pin": 1, "line": 11},
		"msix": {"offset": 64, "enabled": false, "functionMask": false, "messages": 5, "control": "0x4",
			"table": {"bar": 0, "offset": 0}, "pba": {"bar": 0, "offset": 8192}},
		"regions": [
			{"name": "table", "bar": 0, "offset": 0, "length": 80, "firstPage": 0, "endPage": 4096, "otherBytes": 4016},
			{"name": "pending bit array", "bar": 0, "offset": 8192, "length": 8, "firstPage": 8192, "endPage": 12288, "otherBytes": 4088}
		],
		"warnings": [{"offset": 61, "text": "text"}]
	}`, string(b))
}

func TestMSIXRegions(t *testing.T) {
	region := func(name string, bar int, offset, length, first, end, other uint64) pci.MSIXRegion {
		return pci.MSIXRegion{
			Name: name, BAR: bar, Offset: offset, Length: length, FirstPage: first, EndPage: end, OtherBytes: other,
		}
	}
	const table, pba = "table", "pending bit array"
	for name, tc := range map[string]struct {
		space  space
		size   uint64 // of BAR 0
		want   []pci.MSIXRegion
		offset int // of the warning, if any
		text   string
	}{
		"whole pages of their own": {
			withMSIX(256, 0x1000, 0x2000), 0,
			[]pci.MSIXRegion{region(table, 0, 0x1000, 4096, 0x1000, 0x2000, 0), region(pba, 0, 0x2000, 32, 0x2000, 0x3000, 4064)},
			0, "",
		},
		"one page for both": {
			withMSIX(1, 0x1000, 0x1800), 0,
			[]pci.MSIXRegion{region(table, 0, 0x1000, 16, 0x1000, 0x2000, 4072), region(pba, 0, 0x1800, 8, 0x1000, 0x2000, 4072)},
			0, "",
		},
		"across a page border, with the rest of the BAR": {
			withMSIX(2, 0x0ff0, 0x1010), 0x1018,
			[]pci.MSIXRegion{region(table, 0, 0x0ff0, 32, 0, 0x2000, 0x0ff0), region(pba, 0, 0x1010, 8, 0x1000, 0x2000, 0)},
			0, "",
		},
		"in two BARs": {
			withMSIX(65, 0x0000, 0x0002), 0,
			[]pci.MSIXRegion{region(table, 0, 0, 1040, 0, 0x1000, 3056), region(pba, 2, 0, 16, 0, 0x1000, 4080)},
			0, "",
		},
		"the array in the table": {
			withMSIX(65, 0x1000, 0x1400), 0,
			[]pci.MSIXRegion{region(table, 0, 0x1000, 1040, 0x1000, 0x2000, 3040), region(pba, 0, 0x1400, 16, 0x1000, 0x2000, 3040)},
			0x48, "MSI-X pending bit array at 0x1400 of BAR 0 lies in the table, which ends at 0x1410",
		},
		"the table after the end of its BAR": {
			withMSIX(5, 0x4000, 0x2000), 0x4000,
			[]pci.MSIXRegion{region(table, 0, 0x4000, 80, 0x4000, 0x5000, 0), region(pba, 0, 0x2000, 8, 0x2000, 0x3000, 4088)},
			0x44, "MSI-X table ends at 0x4050 of BAR 0, which has 0x4000 bytes",
		},
		"the array across the end of its BAR": {
			withMSIX(65, 0x2000, 0x3ff8), 0x4000,
			[]pci.MSIXRegion{region(table, 0, 0x2000, 1040, 0x2000, 0x3000, 3056), region(pba, 0, 0x3ff8, 16, 0x3000, 0x5000, 4088)},
			0x48, "MSI-X pending bit array ends at 0x4008 of BAR 0, which has 0x4000 bytes",
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := decode(t, tc.space)
			f.SetSizes(pci.Sizes{BARs: [6]uint64{tc.size}})
			r := f.Interrupts()
			assert.Equal(t, tc.want, r.Regions)
			if tc.text == "" {
				assert.Empty(t, r.Warnings)
				return
			}
			require.Len(t, r.Warnings, 1)
			assert.Equal(t, pci.Warning{Offset: tc.offset, Text: tc.text}, r.Warnings[0])
		})
	}
}

func TestInterruptsThatCannotArrive(t *testing.T) {
	for name, tc := range map[string]struct {
		space   space
		prepare func(s space)
		want    []string
	}{
		"MSI-X without bus mastering": {
			withMSIX(5, 0, 0x1000), func(s space) { s.put16(0x42, 0x8004); s.put16(0x04, 0x0002) },
			[]string{"config 0x04: messages are enabled and bus mastering is off: the function cannot send any"},
		},
		"MSI-X without memory space": {
			withMSIX(5, 0, 0x1000), func(s space) { s.put16(0x42, 0x8004); s.put16(0x04, 0x0004) },
			[]string{"config 0x04: MSI-X is enabled and memory space is off: its table cannot be reached"},
		},
		"a virtual function": {
			withMSIX(5, 0, 0x1000), func(s space) { s.put16(0x42, 0x8004); s.put16(0x04, 0x0004); s.put16(0x00, 0xffff) }, nil,
		},
		"MSI-X is off": {withMSIX(5, 0, 0x1000), func(s space) { s.put16(0x04, 0) }, nil},
		"MSI without bus mastering and address": {
			withCapability(pci.CapMSI), func(s space) { s.put16(0x42, 0x0001) },
			[]string{
				"config 0x04: messages are enabled and bus mastering is off: the function cannot send any",
				"config 0x44: MSI is enabled and has no address: messages go to memory at 0",
			},
		},
		"more messages enabled than there are": {
			withCapability(pci.CapMSI), func(s space) { s.put16(0x42, 0x0010) },
			[]string{"config 0x42: MSI has 2 messages enabled and is capable of 1"},
		},
		"reserved pin": {
			endpoint(64), func(s space) { s.put8(0x3d, 9) },
			[]string{"config 0x3d: interrupt pin 9 is reserved (1 to 4 are INTA# to INTD#): taken as no pin"},
		},
		"a loop": {
			withCapability(pci.CapMSI), func(s space) { s.put8(0x41, 0x40) },
			[]string{"config 0x41: capability pointer 0x40 leads back into the list: a loop, the list ends here"},
		},
		"a CardBus bridge's pointer": {
			endpoint(128), func(s space) { s.put8(0x0e, 2); s.put8(0x14, 0x20); s.put8(0x06, 0x10) },
			[]string{"config 0x14: capability pointer 0x20 leads into the header: the list ends here"},
		},
		"nothing to do with interrupts": {
			bridge(256), func(s space) { s.put16(0x1c, 0xd0c1); s.put32(0x14, 0xfea00006) }, nil,
		},
	} {
		t.Run(name, func(t *testing.T) {
			tc.prepare(tc.space)
			var got []string
			for _, w := range decode(t, tc.space).Interrupts().Warnings {
				got = append(got, w.String())
			}
			assert.Equal(t, tc.want, got)
		})
	}
}

// rootPort gives a root port with everything that interrupts: PCI Express at 0x40 by message 1, AER by 2, DPC by 3,
// SR-IOV by 4, DOE by 5, the rest by that of PCI Express, and 8 messages of MSI-X.
func rootPort() space {
	s := endpoint(4096)
	s.put16(0x04, 0x0006)
	s.put8(0x0e, 0x01)
	s.put8(0x34, 0x40)
	s.capability(0x40, pci.CapPCIExpress, 0x80)
	s.put16(0x42, 0x0002|4<<4|0x0100|1<<9)
	s.put32(0x4c, 0x00200000) // link bandwidth notification
	s.put32(0x6c, 0x80000000) // device readiness status
	s.put32(0x54, 0x00000040) // hot-plug
	s.capability(0x80, pci.CapMSIX, 0x90)
	s.put16(0x82, 7)
	s.put32(0x88, 0x1000)
	s.capability(0x90, pci.CapMSI, 0)
	s.put16(0x92, 0x0004) // 4 messages
	s.extended(0x100, uint16(pci.ExtCapAER), 2, 0x180)
	s.put32(0x130, 2<<27)
	s.extended(0x180, uint16(pci.ExtCapDPC), 1, 0x200)
	s.put16(0x184, 3)
	s.extended(0x200, uint16(pci.ExtCapSRIOV), 1, 0x280)
	s.put32(0x204, 4<<21|1)
	s.extended(0x280, uint16(pci.ExtCapDataObjectExchange), 1, 0x300)
	s.put32(0x284, 5<<1|1)
	s.extended(0x300, uint16(pci.ExtCapSecondaryExpress), 1, 0x380)
	s.extended(0x380, uint16(pci.ExtCapL1Substates), 1, 0)
	s.put32(0x384, 0x20)
	return s
}

func TestMessageSources(t *testing.T) {
	f := decode(t, rootPort())
	require.Empty(t, f.Warnings)
	assert.Equal(t, []pci.MessageSource{
		{Service: "hot-plug", Message: 1, Offset: 0x40},
		{Service: "power management event", Message: 1, Offset: 0x40},
		{Service: "link bandwidth", Message: 1, Offset: 0x40},
		{Service: "device readiness", Message: 1, Offset: 0x40},
		{Service: "error reporting", Message: 2, Offset: 0x100},
		{Service: "downstream port containment", Message: 3, Offset: 0x180},
		{Service: "VF migration", Message: 4, Offset: 0x200},
		{Service: "data object exchange", Message: 5, Offset: 0x280},
		{Service: "link equalization", Message: 1, Offset: 0x300},
		{Service: "link activation", Message: 1, Offset: 0x380},
	}, f.Interrupts().Sources)

	// The interrupt enable bit of each of them.
	for i, enable := range []func(s space){
		func(s space) { s.put16(0x58, 0x0020) },
		func(s space) { s.put16(0x5c, 0x0008) },
		func(s space) { s.put16(0x50, 0x0400) },
		func(s space) { s.put16(0x50, 0x4000) },
		func(s space) { s.put32(0x12c, 0x4) },
		func(s space) { s.put16(0x186, 0x0008) },
		func(s space) { s.put16(0x208, 0x0004) },
		func(s space) { s.put16(0x288, 0x0002) },
		func(s space) { s.put16(0x304, 0x0002) },
		func(s space) { s.put16(0x388, 0x0010) },
	} {
		s := rootPort()
		enable(s)
		for j, source := range decode(t, s).Interrupts().Sources {
			assert.Equal(t, i == j, source.Enabled, "%s", source.Service)
		}
	}

	// An endpoint has none of it.
	s := rootPort()
	s.put8(0x0e, 0)
	s.put16(0x42, 0x0002|1<<9)
	s.put32(0x4c, 0)
	s.put32(0x204, 0)
	s.put32(0x284, 0)
	s.put32(0x384, 0)
	s.extended(0x100, uint16(pci.ExtCapAER), 2, 0x200)
	assert.Empty(t, decode(t, s).Interrupts().Sources)
}

func TestMessageSourcesWithoutTheirMessage(t *testing.T) {
	for name, tc := range map[string]struct {
		prepare func(s space)
		want    []string
	}{
		"as many as MSI-X has, nothing enabled": {func(space) {}, nil},
		"as many as MSI-X has, nothing enabled, one too many": {
			func(s space) { s.put16(0x82, 3) },
			[]string{
				"config 0x200: VF migration interrupts by message 4, and there are 4, counted from 0",
				"config 0x280: data object exchange interrupts by message 5, and there are 4, counted from 0",
			},
		},
		"as many as MSI has enabled": {
			func(s space) { s.put16(0x92, 0x0025); s.put32(0x94, 0xfee00000) },
			[]string{
				"config 0x200: VF migration interrupts by message 4, and there are 4, counted from 0",
				"config 0x280: data object exchange interrupts by message 5, and there are 4, counted from 0",
			},
		},
		"MSI-X enabled": {func(s space) { s.put16(0x82, 0x8007) }, nil},
		"no messages at all": {
			func(s space) { s.put8(0x41, 0) }, nil,
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := rootPort()
			tc.prepare(s)
			var got []string
			for _, w := range decode(t, s).Interrupts().Warnings {
				got = append(got, w.String())
			}
			assert.Equal(t, tc.want, got)
		})
	}
}
