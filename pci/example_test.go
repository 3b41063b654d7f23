package pci_test

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"log"
	"os"
	"slices"
	"strings"

	"github.com/irqbridge/irqbridge/pci"
)

func ExampleParseAddress() {
	var addresses []pci.Address
	for _, text := range []string{"10000:e1:00.0", "0000:00:04.0", "00:03.1"} {
		address, err := pci.ParseAddress(text)
		if err != nil {
			log.Fatal(err)
		}
		addresses = append(addresses, address)
	}
	slices.SortFunc(addresses, pci.Address.Compare)
	fmt.Println(addresses)

	_, err := pci.ParseAddress("00:20.0")
	fmt.Println(err)
	// Output:
	// [0000:00:03.1 0000:00:04.0 10000:e1:00.0]
	// pci address "00:20.0": device 0x20 is above 0x1f; want [domain:]bus:device.function in hexadecimal, such as 0000:00:04.0
}

// The bytes are a copy of /sys/bus/pci/devices/0000:00:05.0/config, or of what VFIO gives. Here they come from a dump
// of QEMU's network card.
func ExampleDecode() {
	text, err := os.ReadFile("testdata/devices/e1000e.txt")
	if err != nil {
		log.Fatal(err)
	}
	dumps, err := pci.ReadDump(bytes.NewReader(text))
	if err != nil {
		log.Fatal(err)
	}

	f, err := pci.Decode(dumps[0].Config)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%04x:%04x class %s\n", f.VendorID, f.DeviceID, f.Class)
	for _, c := range f.Capabilities {
		fmt.Printf("%02x %s\n", c.Offset, c.ID)
	}
	if f.MSIX != nil {
		fmt.Printf("MSI-X: %d messages, table in BAR %d at 0x%x\n", f.MSIX.Messages, f.MSIX.Table.BAR, f.MSIX.Table.Offset)
	}
	for _, w := range f.Warnings {
		fmt.Println(w)
	}
	// Output:
	// 8086:10d3 class 020000
	// c8 Power Management
	// d0 MSI
	// e0 PCI Express
	// a0 MSI-X
	// MSI-X: 5 messages, table in BAR 3 at 0x0
}

func ExampleDecodeTranslated() {
	b, err := hex.DecodeString("0201030007000000720000000400000000000000")
	if err != nil {
		log.Fatal(err)
	}
	d, err := pci.DecodeTranslated(b, pci.Bits64)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s, %s, %s\n", d.Type, d.Flags, d.Share)
	fmt.Printf("vector 0x%x, level %d, affinity 0x%x in group %d\n", d.Vector, d.Level, d.Affinity, d.Group)

	d.Level = 0x100
	fmt.Println(d.Validate())
	// Output:
	// interrupt, latched|message, device exclusive
	// vector 0x72, level 7, affinity 0x4 in group 0
	// translated descriptor: level 0x100 is above 15, the highest IRQL; the mapping would keep its low byte, 0x00
}

func ExampleRawResources() {
	f := &pci.Function{MSI: &pci.MSI{Messages: 8}}
	raw, err := pci.RawResources(f, pci.KindMSI, 4)
	if err != nil {
		log.Fatal(err)
	}
	for _, d := range raw {
		fmt.Printf("%s, %d messages, vector %#x\n", d.Flags, d.MessageCount, d.Vector)
	}
	// Output:
	// latched|message, 4 messages, vector 0xfffffffb
}

func ExampleReadDump() {
	dumps, err := pci.ReadDump(strings.NewReader("00:04.0 Unclassified device [00ff]: Device 1234:11e8\n00: 34 12 e8 11\n"))
	if err != nil {
		log.Fatal(err)
	}
	for _, d := range dumps {
		fmt.Printf("%s (%s): %d bytes\n", d.Address, d.Header, len(d.Config))
	}
	// Output:
	// 0000:00:04.0 (Unclassified device [00ff]: Device 1234:11e8): 4 bytes
}

func ExampleFunction_Interrupts() {
	text, err := os.ReadFile("testdata/devices/nvme-sriov.txt")
	if err != nil {
		log.Fatal(err)
	}
	dumps, err := pci.ReadDump(bytes.NewReader(text))
	if err != nil {
		log.Fatal(err)
	}
	f, err := pci.Decode(dumps[0].Config)
	if err != nil {
		log.Fatal(err)
	}
	f.SetSizes(pci.Sizes{BARs: [6]uint64{0: 0x3000}}) // from sysfs by ParseSizes, or from VFIO; here one that is too small

	r := f.Interrupts()
	fmt.Println("INTA# to INTD#:", r.INTx.Pin, "line:", r.INTx.Line)
	for _, region := range r.Regions {
		fmt.Printf("MSI-X %s: BAR %d, 0x%x bytes at 0x%x\n", region.Name, region.BAR, region.Length, region.Offset)
	}
	for _, w := range r.Warnings {
		fmt.Println(w)
	}
	// Output:
	// INTA# to INTD#: 1 line: 11
	// MSI-X table: BAR 0, 0x90 bytes at 0x2000
	// MSI-X pending bit array: BAR 0, 0x8 bytes at 0x3000
	// config 0x48: MSI-X pending bit array ends at 0x3008 of BAR 0, which has 0x3000 bytes
}

func ExampleFind() {
	text, err := os.ReadFile("testdata/devices/pcie-root-port.txt")
	if err != nil {
		log.Fatal(err)
	}
	dumps, err := pci.ReadDump(bytes.NewReader(text))
	if err != nil {
		log.Fatal(err)
	}
	f, err := pci.Decode(dumps[0].Config)
	if err != nil {
		log.Fatal(err)
	}
	express := pci.Find[pci.Express](f)
	fmt.Printf("%s, slot %d, %g GT/s x%d\n", express.Type, express.Slot.Number, express.Link.MaxSpeedGTs, express.Link.MaxWidth)
	for _, s := range f.Interrupts().Sources {
		fmt.Printf("%s: message %d, enabled %t\n", s.Service, s.Message, s.Enabled)
	}
	// Output:
	// root port, slot 0, 16 GT/s x32
	// hot-plug: message 0, enabled false
	// power management event: message 0, enabled false
	// link bandwidth: message 0, enabled false
	// error reporting: message 0, enabled false
}
