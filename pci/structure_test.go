package pci_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/irqbridge/irqbridge/pci"
)

// A register table says which bits of a capability show in which field of its JSON form. A row has an offset in the
// structure, a value of 32 bits that is put there, and what then differs from the structure without it, all numbers in
// hexadecimal:
//
//	08 00000010 device.relaxedOrdering=true
//
// A row without a third column changes what the rows after it start from. Offsets and masks are
// those of include/uapi/linux/pci_regs.h, and of the PCI Express specification for bits that have no name there.
func checkRegisters(t *testing.T, base space, at int, table string) {
	t.Helper()
	rows := 0
	for line := range strings.Lines(table) {
		columns := strings.Fields(line)
		if len(columns) == 0 {
			continue
		}
		offset, err := strconv.ParseUint(columns[0], 16, 12)
		require.NoError(t, err, line)
		value, err := strconv.ParseUint(columns[1], 16, 32)
		require.NoError(t, err, line)
		changed := slices.Clone(base)
		changed.or32(at+int(offset), uint32(value))
		if len(columns) == 2 {
			base = changed
			continue
		}
		rows++
		before, after := flatten(t, base, at), flatten(t, changed, at)
		var got []string
		for path, v := range after {
			if before[path] != v {
				got = append(got, path+"="+v)
			}
		}
		for path := range before {
			if _, ok := after[path]; !ok {
				got = append(got, path+"=absent")
			}
		}
		want := strings.Split(strings.Join(columns[2:], " "), ", ")
		assert.ElementsMatch(t, want, got, "%s", strings.TrimSpace(line))
	}
	assert.Positive(t, rows)
}

func (s space) or32(offset int, v uint32) {
	for i := range 4 {
		s[offset+i] |= uint8(v >> (8 * i))
	}
}

// flatten gives the JSON form of the capability at the offset as paths and values: "device.maxPayload" is "128".
func flatten(t *testing.T, s space, at int) map[string]string {
	t.Helper()
	b, err := json.Marshal(capabilityAt(t, decode(t, s), at))
	require.NoError(t, err)
	var object map[string]any
	require.NoError(t, json.Unmarshal(b, &object))
	flat := map[string]string{}
	var walk func(path string, v any)
	walk = func(path string, v any) {
		switch v := v.(type) {
		case map[string]any:
			for name, field := range v {
				walk(path+"."+name, field)
			}
		case []any:
			for i, element := range v {
				walk(fmt.Sprintf("%s[%d]", path, i), element)
			}
		default:
			flat[strings.TrimPrefix(path, ".")] = fmt.Sprint(v)
		}
	}
	walk("", object)
	return flat
}

// capabilityAt gives the capability of either list that starts at the offset.
func capabilityAt(t *testing.T, f *pci.Function, offset int) any {
	t.Helper()
	for _, c := range f.Capabilities {
		if c.Offset == offset {
			require.NotNil(t, c.Decoded, "%+v", f.Warnings)
			return c
		}
	}
	for _, c := range f.ExtendedCapabilities {
		if c.Offset == offset {
			require.NotNil(t, c.Decoded, "%+v", f.Warnings)
			return c
		}
	}
	require.Fail(t, "no capability", "at %#x", offset)
	return nil
}

// withCapability gives an endpoint whose only capability is at 0x40.
func withCapability(id pci.CapabilityID) space {
	s := endpoint(256)
	s.only(0x40, id)
	return s
}

// withExpress gives a function of that type of PCI Express, version 2, whose only extended capability is at 0x100.
func withExpress(kind pci.ExpressType, id pci.ExtendedCapabilityID, version uint8) space {
	s := express(4096)
	s.put16(0x42, uint16(kind)<<4|2)
	s.extended(0x100, uint16(id), version, 0)
	return s
}

// TestStructuresNeedTheirBytes cuts every capability short, by the end of its space and by the end of what was read.
func TestStructuresNeedTheirBytes(t *testing.T) {
	for id, length := range map[pci.CapabilityID]int{
		pci.CapPowerManagement: 8, pci.CapMSI: 10, pci.CapMSIX: 12, pci.CapPCIExpress: 0x14, pci.CapSubsystem: 8,
		pci.CapVPD: 8, pci.CapAdvancedFeatures: 6,
	} {
		s := endpoint(256)
		s.only(0xfc, id)
		f := decode(t, s)
		assert.Nil(t, f.Capabilities[0].Decoded, "%s", id)
		assert.Equal(t, 4, f.Capabilities[0].Length, "%s", id)
		requireWarning(t, f, 0xfc, "runs past the end of its space at 0x100")
		assert.False(t, f.Truncated)

		f = decode(t, withCapability(id)[:0x40+length-1])
		assert.Nil(t, f.Capabilities[0].Decoded, "%s", id)
		assert.Len(t, f.Capabilities[0].Raw, length-1, "%s", id)
		requireWarning(t, f, 0x40, fmt.Sprintf("ends after the %d bytes that were read", 0x40+length-1))
		assert.True(t, f.Truncated)

		f = decode(t, withCapability(id)[:0x40+length])
		assert.NotNil(t, f.Capabilities[0].Decoded, "%s", id)
		assert.Equal(t, length, f.Capabilities[0].Length, "%s", id)
		assert.Len(t, f.Capabilities[0].Raw, length, "%s", id)
	}
	for id, length := range map[pci.ExtendedCapabilityID]int{ // of the least structure
		pci.ExtCapAER: 0x2c, pci.ExtCapACS: 8, pci.ExtCapARI: 8, pci.ExtCapSRIOV: 0x40, pci.ExtCapDPC: 0x0c, pci.ExtCapSerialNumber: 12,
		pci.ExtCapATS: 8, pci.ExtCapPageRequest: 16, pci.ExtCapPASID: 8, pci.ExtCapLTR: 8, pci.ExtCapL1Substates: 16,
		pci.ExtCapPTM: 12, pci.ExtCapTPH: 12, pci.ExtCapDataObjectExchange: 0x18, pci.ExtCapSecondaryExpress: 12,
	} {
		s := express(4096)
		s.extended(0x100, 0x0002, 1, 0xffc)
		s.extended(0xffc, uint16(id), 1, 0)
		f := decode(t, s)
		assert.Nil(t, f.ExtendedCapabilities[1].Decoded, "%s", id)
		requireWarning(t, f, 0xffc, "runs past the end of its space at 0x1000")

		s = withExpress(pci.ExpressEndpoint, id, 1)
		f = decode(t, s[:0x100+length-1])
		assert.Nil(t, f.ExtendedCapabilities[0].Decoded, "%s", id)
		requireWarning(t, f, 0x100, "bytes that were read")
		assert.True(t, f.Truncated)

		f = decode(t, s[:0x100+length])
		assert.NotNil(t, f.ExtendedCapabilities[0].Decoded, "%s", id)
		assert.Equal(t, length, f.ExtendedCapabilities[0].Length, "%s", id)
	}
}

func TestStructuresThatOverlap(t *testing.T) {
	s := endpoint(256)
	s.put8(0x34, 0x40)
	s.capability(0x40, pci.CapPowerManagement, 0x44)
	s.capability(0x44, 0x42, 0)
	f := decode(t, s)
	requireWarning(t, f, 0x40, "Power Management capability of 8 bytes reaches into the capability at 0x44")
	assert.NotNil(t, f.Capabilities[0].Decoded)
	assert.Equal(t, 8, f.Capabilities[0].Length)
	assert.Equal(t, 0xbc, f.Capabilities[1].Length)
}

func TestFind(t *testing.T) {
	s := withExpress(pci.ExpressEndpoint, pci.ExtCapACS, 1)
	s.put16(0x104, 0x0001)
	f := decode(t, s)
	require.NotNil(t, pci.Find[pci.ACS](f))
	assert.True(t, pci.Find[pci.ACS](f).Supported.SourceValidation)
	require.NotNil(t, pci.Find[pci.Express](f))
	assert.Equal(t, 2, pci.Find[pci.Express](f).Version)
	assert.Nil(t, pci.Find[pci.AER](f))
	assert.Nil(t, pci.Find[pci.MSI](f))
}

func TestRawBytesAreACopy(t *testing.T) {
	s := withCapability(pci.CapDebugPort)
	s.put16(0x42, 0x1234)
	f := decode(t, s)
	clear(s)
	assert.Equal(t, []byte{0x0a, 0x00, 0x34, 0x12}, f.Capabilities[0].Raw[:4])
	assert.Equal(t, len(f.Capabilities[0].Raw), cap(f.Capabilities[0].Raw), "an append leaves the next capability alone")
}

func TestCapabilityJSON(t *testing.T) {
	for name, tc := range map[string]struct {
		value any
		want  string
	}{
		"by name only": {
			pci.Capability{ID: pci.CapDebugPort, Offset: 0x40, Length: 4, Raw: []byte{0x0a, 0, 0x34, 0x12}},
			`{"id":"0x0a","extended":false,"offset":64,"length":4,"name":"Debug Port","raw":"0a003412"}`,
		},
		"extended, by name only": {
			pci.ExtendedCapability{ID: 0x0b, Version: 1, Offset: 0x100, Length: 4, Raw: []byte{0x0b, 0, 1, 0}},
			`{"id":"0x000b","extended":true,"version":1,"offset":256,"length":4,"name":"Vendor-Specific","raw":"0b000100"}`,
		},
		"decoded": {
			pci.Capability{ID: pci.CapSubsystem, Offset: 0x40, Length: 8, Decoded: &pci.Subsystem{VendorID: 0x8086, ID: 1}},
			`{"id":"0x0d","extended":false,"offset":64,"length":8,"name":"Bridge Subsystem ID","subsystemVendorId":"0x8086","subsystemId":"0x0001"}`,
		},
		"MSI": {
			pci.Capability{ID: pci.CapMSI, Offset: 0x40, Length: 20, Decoded: &pci.MSI{
				Offset: 0x40, Messages: 8, EnabledMessages: 1, Maskable: true, Address: 0xfee00000, Data: 0x21, Mask: 0xf, Control: 0x106,
			}},
			`{"id":"0x05","extended":false,"length":20,"name":"MSI","offset":64,"enabled":false,"messages":8,"enabledMessages":1,` +
				`"address64":false,"maskable":true,"extendedData":false,"extendedDataEnabled":false,` +
				`"address":"0xfee00000","data":"0x21","mask":"0xf","pending":"0x0","control":"0x106"}`,
		},
		"MSI-X": {
			pci.Capability{ID: pci.CapMSIX, Offset: 0x40, Length: 12, Decoded: &pci.MSIX{
				Offset: 0x40, Messages: 5, Table: pci.Location{BAR: 3}, PBA: pci.Location{BAR: 3, Offset: 0x2000}, Control: 4,
			}},
			`{"id":"0x11","extended":false,"length":12,"name":"MSI-X","offset":64,"enabled":false,"functionMask":false,"messages":5,` +
				`"table":{"bar":3,"offset":0},"pba":{"bar":3,"offset":8192},"control":"0x4"}`,
		},
		"a BAR": {
			pci.BAR{Index: 1, Type: pci.BARMemory64, Address: 1 << 40},
			`{"index":1,"type":"mem64","prefetchable":false,"address":"0x10000000000"}`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			b, err := json.Marshal(tc.value)
			require.NoError(t, err)
			assert.Equal(t, tc.want, string(b))
		})
	}
	_, err := json.Marshal(pci.Capability{Decoded: func() {}})
	require.Error(t, err, "what is no structure has no JSON form")
}

func TestHex(t *testing.T) {
	b, err := json.Marshal(map[string]pci.Hex{"id": 0x8086, "zero": 0, "most": ^pci.Hex(0)})
	require.NoError(t, err)
	assert.JSONEq(t, `{"id":"0x8086","most":"0xffffffffffffffff","zero":"0x0"}`, string(b))
	var back map[string]pci.Hex
	require.NoError(t, json.Unmarshal(b, &back))
	assert.Equal(t, map[string]pci.Hex{"id": 0x8086, "zero": 0, "most": ^pci.Hex(0)}, back)
	require.ErrorContains(t, json.Unmarshal([]byte(`{"id":"8086h"}`), &back), `number "8086h"`)
}
