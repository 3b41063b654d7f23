package pci_test

import (
	"errors"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/irqbridge/irqbridge/pci"
)

const someIDs = `# List of PCI IDs
#
0001  SafeNet (wrong ID)
1af4  Red Hat, Inc.
	1000  Virtio network device
		01de fffb  Propolis Virtio network device
# Virtio 1.0 has ids of its own
	1044  Virtio 1.0 RNG
8086  Intel Corporation
	10d3  82574L Gigabit Network Connection
		103c 1785  NC112i 1-port Ethernet Server Adapter

		8086 a01f  Gigabit CT Desktop Adapter
	2922  82801IR/IO/IH (ICH9R/DO/DH) 6 port SATA Controller [AHCI mode]
		1af4 1100  QEMU Virtual Machine

C 00  Unclassified device
	00  Non-VGA unclassified device
C 01  Mass storage controller
	06  SATA controller
		00  Vendor specific
		01  AHCI 1.0
C 02  Network controller
	00  Ethernet controller`

func readIDs(t *testing.T, text string) *pci.IDs {
	t.Helper()
	ids, err := pci.ReadIDs(strings.NewReader(text))
	require.NoError(t, err)
	return ids
}

func TestIDs(t *testing.T) {
	for name, text := range map[string]string{
		"as it is":           someIDs,
		"newline at the end": someIDs + "\n",
		"of Windows":         strings.ReplaceAll(someIDs, "\n", "\r\n"),
	} {
		t.Run(name, func(t *testing.T) {
			ids := readIDs(t, text)
			assert.Equal(t, "Intel Corporation", ids.Vendor(0x8086))
			assert.Equal(t, "SafeNet (wrong ID)", ids.Vendor(0x0001))
			assert.Empty(t, ids.Vendor(0x1234))

			assert.Equal(t, "82574L Gigabit Network Connection", ids.Device(0x8086, 0x10d3))
			assert.Equal(t, "Virtio 1.0 RNG", ids.Device(0x1af4, 0x1044), "after a comment")
			assert.Empty(t, ids.Device(0x1af4, 0x10d3), "of another vendor")
			assert.Empty(t, ids.Device(0x0001, 0x1000), "of the next vendor")
			assert.Empty(t, ids.Device(0x1234, 0x1000))

			assert.Equal(t, "Gigabit CT Desktop Adapter", ids.Subsystem(0x8086, 0x10d3, 0x8086, 0xa01f))
			assert.Equal(t, "82574L Gigabit Network Connection", ids.Subsystem(0x8086, 0x10d3, 0x8086, 0x10d3))
			assert.Empty(t, ids.Subsystem(0x8086, 0x10d3, 0x1af4, 0x1100), "of the next device")
			assert.Empty(t, ids.Subsystem(0x1af4, 0x1044, 0x01de, 0xfffb), "of the device before")

			for class, want := range map[pci.Class][3]string{
				0x010601: {"Mass storage controller", "SATA controller", "AHCI 1.0"},
				0x010602: {"Mass storage controller", "SATA controller", ""},
				0x010801: {"Mass storage controller", "", ""},
				0x020000: {"Network controller", "Ethernet controller", ""},
				0x010001: {"Mass storage controller", "", ""},
				0xff0000: {},
			} {
				base, sub, progIF := ids.Class(class)
				assert.Equal(t, want, [3]string{base, sub, progIF}, "%s", class)
			}
		})
	}
}

func TestIDsDescribe(t *testing.T) {
	sata := &pci.Function{
		VendorID: 0x8086, DeviceID: 0x2922, Class: 0x010601, RevisionID: 2, SubsystemVendorID: 0x1af4, SubsystemID: 0x1100,
	}
	for name, tc := range map[string]struct {
		ids       *pci.IDs
		f         *pci.Function
		describe  [3]string // Names, Numbers, NamesAndNumbers
		subsystem [3]string
	}{
		"all known": {
			readIDs(t, someIDs), sata,
			[3]string{
				"SATA controller: Intel Corporation 82801IR/IO/IH (ICH9R/DO/DH) 6 port SATA Controller [AHCI mode] (rev 02)",
				"0106: 8086:2922 (rev 02)",
				"SATA controller [0106]: Intel Corporation 82801IR/IO/IH (ICH9R/DO/DH) 6 port SATA Controller [AHCI mode] [8086:2922] (rev 02)",
			},
			[3]string{"Red Hat, Inc. QEMU Virtual Machine", "1af4:1100", "Red Hat, Inc. QEMU Virtual Machine [1af4:1100]"},
		},
		"device and sub-class unknown": {
			readIDs(t, someIDs),
			&pci.Function{VendorID: 0x8086, DeviceID: 0x1111, Class: 0x00ff00, SubsystemVendorID: 0x8086, SubsystemID: 1},
			[3]string{
				"Unclassified device [00ff]: Intel Corporation Device 1111", "00ff: 8086:1111",
				"Unclassified device [00ff]: Intel Corporation Device [8086:1111]",
			},
			[3]string{"Intel Corporation Device 0001", "8086:0001", "Intel Corporation Device [8086:0001]"},
		},
		"vendor and class unknown": {
			readIDs(t, someIDs), &pci.Function{VendorID: 0x1234, DeviceID: 0x11e8, Class: 0xff0000},
			[3]string{"Class ff00: Device 1234:11e8", "ff00: 1234:11e8", "Class [ff00]: Device [1234:11e8]"},
			[3]string{},
		},
		"no file": {
			nil, sata,
			[3]string{"Class 0106: Device 8086:2922 (rev 02)", "0106: 8086:2922 (rev 02)", "Class [0106]: Device [8086:2922] (rev 02)"},
			[3]string{"Device 1af4:1100", "1af4:1100", "Device [1af4:1100]"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			for naming := pci.Names; naming <= pci.NamesAndNumbers; naming++ {
				assert.Equal(t, tc.describe[naming], tc.ids.Describe(tc.f, naming))
				assert.Equal(t, tc.subsystem[naming], tc.ids.DescribeSubsystem(tc.f, naming))
			}
		})
	}
	assert.Empty(t, readIDs(t, someIDs).DescribeSubsystem(&pci.Function{SubsystemVendorID: 0xffff, SubsystemID: 0xffff}, pci.Names))
}

func TestReadIDsRefuses(t *testing.T) {
	_, err := pci.ReadIDs(strings.NewReader("#\n1af4  Red Hat, Inc.\n"))
	require.ErrorContains(t, err, "pci.ids: vendor 8086 is not in it")
	broken := errors.New("the disk is gone")
	_, err = pci.ReadIDs(iotest.ErrReader(broken))
	require.ErrorIs(t, err, broken)
	_, err = pci.ReadIDs(zeros{})
	require.ErrorContains(t, err, "pci.ids: more than 16777216 bytes")
}

// zeros is a text without an end.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

func FuzzReadIDs(f *testing.F) {
	f.Add(someIDs, uint16(0x8086), uint16(0x10d3))
	f.Add("8086  a\n\t10d3", uint16(0x8086), uint16(0x10d3))
	f.Add("8086  \n\t\n\t\t\n#", uint16(0x8086), uint16(0x10d3))
	f.Add("", uint16(0), uint16(0))
	f.Fuzz(func(t *testing.T, text string, vendor, id uint16) {
		ids, err := pci.ReadIDs(strings.NewReader(text))
		if err != nil {
			require.Nil(t, ids)
			return
		}
		assert.NotEmpty(t, ids.Vendor(0x8086))
		for _, name := range []string{
			ids.Vendor(vendor), ids.Device(vendor, id), ids.Subsystem(vendor, id, vendor, id),
			ids.Describe(&pci.Function{VendorID: vendor, DeviceID: id, Class: pci.Class(id)}, pci.Names),
		} {
			assert.NotContains(t, name, "\n")
		}
	})
}
