package pci_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/irqbridge/irqbridge/pci"
)

// deviceDumps reads the devices in testdata/devices: one file a device, whose first line says where it is from.
func deviceDumps(t require.TestingT) map[string]pci.Dump {
	files, err := filepath.Glob("testdata/devices/*.txt")
	require.NoError(t, err)
	dumps := map[string]pci.Dump{}
	for _, name := range files {
		text, err := os.ReadFile(name)
		require.NoError(t, err)
		read, err := pci.ReadDump(bytes.NewReader(text))
		require.NoError(t, err, name)
		require.Len(t, read, 1, name)
		dumps[filepath.Base(name[:len(name)-len(".txt")])] = read[0]
	}
	return dumps
}

// TestDecodeDevices compares what is decoded with what lspci -vv of pciutils 3.9.0 says about the same files. Those
// that came later are only in TestDecodedDevices and in TestCapabilitiesAsLspci.
func TestDecodeDevices(t *testing.T) {
	// device is the part of a Function that lspci shows.
	type device struct {
		id           string
		class        string
		bars         []string
		pin, line    uint8
		capabilities []string // both lists, as lspci has them
		msi          *pci.MSI
		msix         *pci.MSIX
	}
	dumps := deviceDumps(t)
	want := map[string]device{
		"q35-host": {id: "8086:29c0", class: "060000"},
		"edu": {
			id: "1234:11e8", class: "00ff00", bars: []string{"0 mem32 fe600000"}, pin: 1, line: 10,
			capabilities: []string{"[40] MSI"},
			msi:          &pci.MSI{Offset: 0x40, Messages: 1, EnabledMessages: 1, Address64: true, Control: 0x0080},
		},
		"e1000e": {
			id: "8086:10d3", class: "020000",
			bars: []string{"0 mem32 fe800000", "1 mem32 fe820000", "2 io d140", "3 mem32 fe840000"}, pin: 1, line: 10,
			capabilities: []string{
				"[c8] Power Management", "[d0] MSI", "[e0] PCI Express", "[a0] MSI-X",
				"[100 v2] Advanced Error Reporting", "[140 v1] Device Serial Number",
			},
			msi: &pci.MSI{Offset: 0xd0, Messages: 1, EnabledMessages: 1, Address64: true, Control: 0x0080},
			msix: &pci.MSIX{
				Offset: 0xa0, Enabled: true, Messages: 5, Control: 0x8004,
				Table: pci.Location{BAR: 3}, PBA: pci.Location{BAR: 3, Offset: 0x2000},
			},
		},
		"nvme": {
			id: "1b36:0010", class: "010802", bars: []string{"0 mem64 fe844000"}, pin: 1, line: 11,
			capabilities: []string{"[40] MSI-X", "[80] PCI Express", "[60] Power Management"},
			msix: &pci.MSIX{
				Offset: 0x40, Messages: 65, Control: 0x0040,
				Table: pci.Location{BAR: 0, Offset: 0x2000}, PBA: pci.Location{BAR: 0, Offset: 0x3000},
			},
		},
		"nec-usb-xhci": {
			id: "1033:0194", class: "0c0330", bars: []string{"0 mem64 fe848000"}, pin: 1, line: 10,
			capabilities: []string{"[a0] PCI Express", "[70] MSI"},
			msi:          &pci.MSI{Offset: 0x70, Messages: 16, EnabledMessages: 1, Address64: true, Control: 0x0088},
		},
		"pcie-pci-bridge": {
			id: "1b36:000e", class: "060400", bars: []string{"0 mem64 fe84c000"}, pin: 1, line: 10,
			capabilities: []string{
				"[8c] MSI", "[84] Power Management", "[48] PCI Express", "[40] PCI Hot-Plug", "[100 v2] Advanced Error Reporting",
			},
			msi: &pci.MSI{Offset: 0x8c, Messages: 1, EnabledMessages: 1, Address64: true, Maskable: true, Control: 0x0180},
		},
		"pcie-root-port": {
			id: "1b36:000c", class: "060400", pin: 1,
			capabilities: []string{
				"[54] PCI Express", "[48] MSI-X", "[40] Bridge Subsystem ID",
				"[100 v2] Advanced Error Reporting", "[148 v1] Access Control Services",
			},
			msix: &pci.MSIX{Offset: 0x48, Messages: 1, PBA: pci.Location{BAR: 0, Offset: 0x800}},
		},
		"pci-testdev": {id: "1b36:0005", class: "00ff00", bars: []string{"0 mem32 fe84d000", "1 io d000"}},
		"ich9-ahci": {
			id: "8086:2922", class: "010601", bars: []string{"4 io d160", "5 mem32 fe84e000"}, pin: 1, line: 10,
			capabilities: []string{"[80] MSI", "[a8] SATA Data/Index"},
			msi:          &pci.MSI{Offset: 0x80, Messages: 1, EnabledMessages: 1, Address64: true, Control: 0x0080},
		},
		"e1000": {id: "8086:100e", class: "020000", bars: []string{"0 mem32 fe500000", "1 io c000"}, pin: 1, line: 11},
	}
	for name, want := range want {
		t.Run(name, func(t *testing.T) {
			f := decode(t, dumps[name].Config)
			got := device{id: fmt.Sprintf("%04x:%04x", f.VendorID, f.DeviceID), class: f.Class.String(), msi: f.MSI, msix: f.MSIX}
			for _, bar := range f.BARs {
				got.bars = append(got.bars, fmt.Sprintf("%d %s %x", bar.Index, bar.Type, bar.Address))
			}
			if f.INTx != nil {
				got.pin, got.line = f.INTx.Pin, f.INTx.Line
			}
			for _, c := range f.Capabilities {
				got.capabilities = append(got.capabilities, fmt.Sprintf("[%02x] %s", c.Offset, c.ID))
			}
			for _, c := range f.ExtendedCapabilities {
				got.capabilities = append(got.capabilities, fmt.Sprintf("[%03x v%d] %s", c.Offset, c.Version, c.ID))
			}
			assert.Equal(t, want, got)
			assert.Empty(t, f.Warnings)
			assert.False(t, f.Truncated)
			checkInvariants(t, dumps[name].Config, f)

			// What an unprivileged reader gets is the header, and the knowledge of what is missing.
			header := decode(t, dumps[name].Config[:64])
			assert.Equal(t, len(want.capabilities) > 0, header.Truncated)
			assert.Equal(t, f.INTx, header.INTx)
			assert.Equal(t, f.BARs, header.BARs)
			assert.Nil(t, header.MSI)
			assert.Nil(t, header.MSIX)
		})
	}
}

var update = flag.Bool("update", false, "write the files that TestDecodedDevices compares with")

// TestDecodedDevices compares all that is decoded of each device, in its JSON form, with a file that was compared by
// eye with lspci -vvv once.
func TestDecodedDevices(t *testing.T) {
	for name, dump := range deviceDumps(t) {
		t.Run(name, func(t *testing.T) {
			f := decode(t, dump.Config)
			assert.Empty(t, f.Warnings)
			got, err := json.MarshalIndent(struct {
				BARs                 []pci.BAR
				ROM                  *pci.ROM    `json:",omitempty"`
				Bridge               *pci.Bridge `json:",omitempty"`
				Capabilities         []pci.Capability
				ExtendedCapabilities []pci.ExtendedCapability
				Interrupts           pci.Interrupts
			}{f.BARs, f.ROM, f.Bridge, f.Capabilities, f.ExtendedCapabilities, f.Interrupts()}, "", "\t")
			require.NoError(t, err)
			golden := filepath.Join("testdata", "decoded", name+".json")
			if *update {
				require.NoError(t, os.MkdirAll(filepath.Dir(golden), 0o755))
				require.NoError(t, os.WriteFile(golden, append(got, '\n'), 0o644))
			}
			want, err := os.ReadFile(golden)
			require.NoError(t, err, "run go test ./pci -update, and compare what it writes with lspci -vvv -F")
			assert.Equal(t, string(want), string(got)+"\n")
		})
	}
}

func BenchmarkDecode(b *testing.B) {
	for name, d := range deviceDumps(b) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := pci.Decode(d.Config); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
