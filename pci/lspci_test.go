package pci_test

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/irqbridge/irqbridge/pci"
)

// lspci gives what lspci -vvv prints about configuration spaces that WriteDump wrote.
func lspci(t *testing.T, dumps []pci.Dump, args ...string) string {
	t.Helper()
	if _, err := exec.LookPath("lspci"); err != nil {
		if os.Getenv("CI") != "" {
			require.NoError(t, err, "CI has pciutils: apt-get install pciutils")
		}
		t.Skip("lspci is not installed: apt-get install pciutils")
	}
	var text bytes.Buffer
	require.NoError(t, pci.WriteDump(&text, dumps))
	file := filepath.Join(t.TempDir(), "dump.txt")
	require.NoError(t, os.WriteFile(file, text.Bytes(), 0o644))
	out, err := exec.Command("lspci", append([]string{"-F", file}, args...)...).Output()
	require.NoError(t, err)
	return string(out)
}

// lspciNames is how lspci starts the line of a capability that it names otherwise than this package does.
var lspciNames = map[string]string{
	"MSI":                                   "MSI:",
	"MSI-X":                                 "MSI-X:",
	"PCI Express":                           "Express (v",
	"Vendor Specific":                       "Vendor Specific Information:",
	"Bridge Subsystem ID":                   "Subsystem:",
	"SATA Data/Index":                       "SATA HBA v",
	"PCI Hot-Plug":                          "Hot-plug capable",
	"Slot Identification":                   "Slot ID:",
	"Advanced Features":                     "PCI Advanced Features",
	"HyperTransport":                        "HyperTransport: MSI Mapping",
	"Alternative Routing-ID Interpretation": "Alternative Routing-ID Interpretation (ARI)",
	"Address Translation Services":          "Address Translation Service (ATS)",
	"Page Request Interface":                "Page Request Interface (PRI)",
	"Process Address Space ID":              "Process Address Space ID (PASID)",
	"Single Root I/O Virtualization":        "Single Root I/O Virtualization (SR-IOV)",
	"Resizable BAR":                         "Physical Resizable BAR",
	"VF Resizable BAR":                      "Virtual Resizable BAR",
	"TPH Requester":                         "Transaction Processing Hints",
	"Vendor-Specific":                       "Vendor Specific Information:",
	"Designated Vendor-Specific":            "Designated Vendor-Specific:",
}

var lspciCapability = regexp.MustCompile(`^\tCapabilities: \[([0-9a-f]+)(?: v([0-9]+))?\] (.*)`)

// TestCapabilitiesAsLspci compares the lists of capabilities with those of pciutils: offsets, versions and names, for
// each device in testdata and for one that has them all.
func TestCapabilitiesAsLspci(t *testing.T) {
	dumps := deviceDumps(t)
	dumps["everything"] = pci.Dump{Address: pci.Address{Device: 3}, Header: "everything", Config: everything()}
	for name, dump := range dumps {
		t.Run(name, func(t *testing.T) {
			f := decode(t, dump.Config)
			var want []string
			for _, c := range f.Capabilities {
				want = append(want, fmt.Sprintf("%02x  %s", c.Offset, c.ID))
			}
			for _, c := range f.ExtendedCapabilities {
				want = append(want, fmt.Sprintf("%03x %d %s", c.Offset, c.Version, c.ID))
			}
			var got []string
			scanner := bufio.NewScanner(strings.NewReader(lspci(t, []pci.Dump{dump}, "-vvv")))
			for scanner.Scan() {
				if m := lspciCapability.FindStringSubmatch(scanner.Text()); m != nil {
					got = append(got, fmt.Sprintf("%s %s %s", m[1], m[2], m[3]))
				}
			}
			require.Len(t, got, len(want), "%q", got)
			for i, c := range f.Capabilities {
				assert.Contains(t, got[i], lspciInterrupts(c.Decoded))
			}
			for i := range want {
				place, version, _ := strings.Cut(want[i], " ")
				number, own, _ := strings.Cut(version, " ")
				prefix := own
				if other, ok := lspciNames[own]; ok {
					prefix = other
				}
				assert.True(t, strings.HasPrefix(got[i], place+" "+number+" "+prefix), "%q and %q", want[i], got[i])
			}
		})
	}
}

// lspciInterrupts gives what lspci says about the interrupts of a capability.
func lspciInterrupts(decoded any) string {
	sign := func(b bool) string {
		if b {
			return "+"
		}
		return "-"
	}
	switch c := decoded.(type) {
	case *pci.MSI:
		return fmt.Sprintf("MSI: Enable%s Count=%d/%d Maskable%s 64bit%s",
			sign(c.Enabled), c.EnabledMessages, c.Messages, sign(c.Maskable), sign(c.Address64))
	case *pci.MSIX:
		return fmt.Sprintf("MSI-X: Enable%s Count=%d Masked%s", sign(c.Enabled), c.Messages, sign(c.FunctionMask))
	case *pci.Express:
		return fmt.Sprintf(", MSI %02x", c.InterruptMessage)
	}
	return ""
}

// TestLspciReadsOurDumps gives lspci all devices in one text and reads what it prints with -xxxx and decoded lines
// between: the same bytes come back.
func TestLspciReadsOurDumps(t *testing.T) {
	var dumps []pci.Dump
	for _, d := range deviceDumps(t) {
		d.Address.Bus = uint8(len(dumps)) // each at a place of its own, in order
		dumps = append(dumps, d)
	}
	for _, option := range []struct {
		flag string
		size int
	}{{"-x", 64}, {"-xxx", 256}, {"-xxxx", 4096}} {
		for _, verbose := range []string{"-D", "-Dvvv"} {
			got, err := pci.ReadDump(strings.NewReader(lspci(t, dumps, option.flag, verbose)))
			require.NoError(t, err)
			require.Len(t, got, len(dumps))
			for i, d := range dumps {
				assert.Equal(t, d.Address, got[i].Address)
				assert.Equal(t, d.Config[:min(option.size, len(d.Config))], got[i].Config, "%s %s %s", option.flag, verbose, d.Address)
			}
		}
	}
}

// everything gives a root port with every capability that this package decodes, and fields in them.
func everything() space {
	s := endpoint(4096)
	s.put8(0x34, 0x40)
	for _, c := range []struct {
		offset int
		id     pci.CapabilityID
		next   uint8
	}{
		{0x40, pci.CapPCIExpress, 0x7c},
		{0x7c, pci.CapPowerManagement, 0x84},
		{0x84, pci.CapVPD, 0x8c},
		{0x8c, pci.CapMSI, 0xa4},
		{0xa4, pci.CapMSIX, 0xb0},
		{0xb0, pci.CapVendorSpecific, 0xb8},
		{0xb8, pci.CapAdvancedFeatures, 0xc0},
		{0xc0, pci.CapHyperTransport, 0xcc},
		{0xcc, pci.CapSubsystem, 0xd4},
		{0xd4, pci.CapEnhancedAllocation, 0},
	} {
		s.capability(c.offset, c.id, c.next)
	}
	s.put16(0x42, 0x0142)
	s.put32(0x4c, 0x00210043) // 8 GT/s, x4
	s.put32(0x54, 0x00080060)
	s.put16(0x8e, 0x018a)
	s.put16(0xa6, 0x0007)
	s.put32(0xac, 0x1000)
	s.put8(0xb2, 8)
	s.put8(0xba, 6)
	s.put16(0xc2, 0xa801)
	s.put32(0xc4, 0xfee00000)
	s.put8(0xd6, 1)
	s.put32(0xd8, 0x80ff0002)
	for i, id := range everyExtended {
		offset, next := 0x100+0x80*i, 0x180+0x80*i
		if i == len(everyExtended)-1 {
			next = 0
		}
		s.extended(offset, uint16(id), 1, next)
		switch id {
		case pci.ExtCapVendorSpecific, pci.ExtCapDVSEC:
			s.put32(offset+4, 0x01011e98)
		case pci.ExtCapResizableBAR, pci.ExtCapVFResizableBAR:
			s.put32(offset+8, 0x20)
			s.put32(offset+4, 0x10)
		case pci.ExtCapDataObjectExchange:
			s.put32(offset+4, 0x3)
		}
	}
	return s
}

// everyExtended is every extended capability that is decoded.
var everyExtended = []pci.ExtendedCapabilityID{
	pci.ExtCapAER, pci.ExtCapSerialNumber, pci.ExtCapVendorSpecific, pci.ExtCapACS, pci.ExtCapARI, pci.ExtCapATS,
	pci.ExtCapSRIOV, pci.ExtCapPageRequest, pci.ExtCapResizableBAR, pci.ExtCapTPH, pci.ExtCapLTR, pci.ExtCapSecondaryExpress,
	pci.ExtCapPASID, pci.ExtCapDPC, pci.ExtCapL1Substates, pci.ExtCapPTM, pci.ExtCapDVSEC, pci.ExtCapVFResizableBAR,
	pci.ExtCapDataObjectExchange,
}

func TestEverything(t *testing.T) {
	f := decode(t, everything())
	assert.Empty(t, f.Warnings)
	require.Len(t, f.Capabilities, 10)
	for _, c := range f.Capabilities {
		assert.NotNil(t, c.Decoded, "%s", c.ID)
	}
	require.Len(t, f.ExtendedCapabilities, len(everyExtended))
	for i, c := range f.ExtendedCapabilities {
		assert.Equal(t, everyExtended[i], c.ID)
		assert.NotNil(t, c.Decoded, "%s", c.ID)
	}
}
