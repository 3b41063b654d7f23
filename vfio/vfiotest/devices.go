package vfiotest

import (
	"bytes"
	_ "embed" // the configuration spaces
	"fmt"
	"slices"

	"github.com/irqbridge/irqbridge/pci"
)

// machineConfigs are the configuration spaces of the virtual machine's devices.
//
//go:embed devices/machine.txt
var machineConfigs []byte

// moreConfigs are those of the devices that it has on demand.
//
//go:embed devices/more.txt
var moreConfigs []byte

// design is what the configuration space of a device does not tell.
type design struct {
	group int // who has the same number is in the same IOMMU group
	bars  [6]barSize
	model func(*function) model // nil: memory
	reset resetMethod
}

const (
	aerCorrectableMask = 0x14 // in the capability Advanced Error Reporting

	kilobyte = 1 << 10
	megabyte = 1 << 20
)

var (
	eduBARs    = [6]barSize{{size: megabyte}}
	e1000eBARs = [6]barSize{{size: 128 * kilobyte}, {size: 128 * kilobyte}, {size: 32, io: true}, {size: 16 * kilobyte}}
)

// designs are the devices of the virtual machine (scripts/vm), QEMU 7.2.
var designs = map[string]design{
	"0000:00:00.0": {group: 0}, // the host bridge
	"0000:00:04.0": {group: 1, bars: eduBARs, model: newEDU},
	"0000:00:05.0": {group: 2, bars: e1000eBARs, model: newE1000E, reset: resetPM},
	"0000:00:06.0": {group: 3, bars: eduBARs, model: newEDU},
	"0000:00:07.0": {group: 4, bars: [6]barSize{{size: 16 * kilobyte}}, model: newNVMe, reset: resetFLR},
	"0000:00:08.0": {group: 5, bars: [6]barSize{{size: 16 * kilobyte}}},
	"0000:00:09.0": {group: 6, bars: [6]barSize{{size: 256}}, reset: resetPM},
	"0000:00:0a.0": {group: 7, bars: [6]barSize{{size: 4 * kilobyte}, {size: 256, io: true}}},
	"0000:00:0b.0": {group: 8, bars: [6]barSize{{size: 64 * kilobyte}}, reset: resetFLR},
	"0000:00:0c.0": {group: 9, bars: [6]barSize{{size: 4 * kilobyte}}},
	"0000:00:1f.0": {group: 10}, // the ISA bridge, SATA and SMBus of the chipset
	"0000:00:1f.2": {group: 10, bars: [6]barSize{4: {size: 32, io: true}, 5: {size: 4 * kilobyte}}},
	"0000:00:1f.3": {group: 10, bars: [6]barSize{4: {size: 64, io: true}}},
	"0000:01:01.0": {group: 6, bars: eduBARs, model: newEDU, reset: resetBus},
	"0000:01:05.0": {group: 6, bars: [6]barSize{{size: 128 * kilobyte}, {size: 64, io: true}}, model: newE1000},
	"0000:02:00.0": {group: 11, bars: [6]barSize{{size: 16 * kilobyte}}, reset: resetFLRBus},
}

// boot makes the machine as it is after boot.
func (k *Kernel) boot() {
	k.drivers = slices.DeleteFunc(newDrivers(), func(d *driver) bool { return !k.loaded(d.module) })
	if k.snapshot != nil {
		k.bootSnapshot()
		return
	}
	k.scan()
}

// scan finds the devices that are in the machine and that the host does not know, and gives them to their drivers.
func (k *Kernel) scan() {
	if k.snapshot != nil {
		k.addSnapshot()
		return
	}
	dumps := readConfigs(machineConfigs)
	if k.moreDevices {
		dumps = append(dumps, readConfigs(moreConfigs)...)
		slices.SortFunc(dumps, func(a, b pci.Dump) int { return a.Address.Compare(b.Address) })
	}
	var found []*function
	for _, dump := range dumps {
		if k.function(dump.Address) == nil && !slices.Contains(k.unplugged, dump.Address) {
			decoded, err := pci.Decode(dump.Config)
			if err != nil {
				panic(fmt.Sprintf("vfiotest: devices: %v: %v", dump.Address, err)) // part of the program
			}
			f := k.newFunction(dump, decoded, designs[dump.Address.String()])
			k.functions, found = append(k.functions, f), append(found, f)
		}
	}
	slices.SortFunc(k.functions, func(a, b *function) int { return a.address.Compare(b.address) })
	for _, f := range found {
		switch f.address {
		case addressBridge:
			f.enable() // the PCI core enables the bridges
		case addressXHCI:
			f.enable() // to take it from the firmware
			f.disable()
		}
	}
	for _, d := range k.drivers {
		for _, f := range found {
			if d.matches(f) {
				_ = k.attach(f, d) // nothing stands against it yet
			}
		}
	}
}

func readConfigs(text []byte) []pci.Dump {
	dumps, err := pci.ReadDump(bytes.NewReader(text))
	if err != nil {
		panic(fmt.Sprintf("vfiotest: devices: %v", err)) // part of the program
	}
	return dumps
}

// newFunction makes a device from its configuration space and its design.
func (k *Kernel) newFunction(dump pci.Dump, decoded *pci.Function, d design) *function {
	f := &function{kernel: k, address: dump.Address, bars: d.bars, reset: d.reset, root: "pci0000:00", numaNode: "-1", vfioDev: -1}
	size := len(dump.Config)
	for _, c := range decoded.Capabilities {
		switch c.ID {
		case pci.CapPowerManagement:
			f.pm = c.Offset
		case pci.CapPCIExpress:
			f.express = c.Offset
			size = extendedSize
		}
	}
	f.config = make([]byte, max(size, legacySize))
	copy(f.config, dump.Config)
	for _, c := range decoded.ExtendedCapabilities {
		f.physical = f.physical || c.ID == pci.ExtCapSRIOV
		if c.ID == pci.ExtCapAER && k.version == V6_1 && k.snapshot == nil {
			f.config[c.Offset+aerCorrectableMask+1] |= 0x20 // advisory non-fatal errors, which newer kernels unmask
		}
	}
	f.msi, f.msix = decoded.MSI, decoded.MSIX
	if f.msix != nil {
		f.table = make([]entry, f.msix.Messages)
		for i := range f.table {
			f.table[i].masked = true
		}
	}
	f.writable = writableBits(f, decoded)
	f.model = memory{}
	if d.model != nil {
		f.model = d.model(f)
	}
	if decoded.INTx != nil {
		f.pin = decoded.INTx.Pin
		f.shownIRQ = int(decoded.INTx.Line)
	}
	f.behind = k.bridgeTo(f.address)
	f.gsi = inputOf(f)
	if !k.withoutIOMMU {
		f.group = k.groupOf(d.group)
		f.group.members = append(f.group.members, f)
	}
	return f
}

// inputOf is the I/O APIC input that the function's line ends at, as the q35 machine wires its slots: they take turns at
// inputs 20 to 23. A bridge passes the lines of the slots behind it on in turns, too.
func inputOf(f *function) int {
	slot, line := int(f.address.Device), int(f.pin)-1
	if f.behind != nil {
		line = (line + slot) % 4
		slot = int(f.behind.address.Device)
	}
	return 20 + (slot+line)%4
}

// writableBits are the bits of configuration space that the hardware lets a write change, as QEMU's devices do: a few
// of the header, little of the capabilities, and all of what lies between them.
func writableBits(f *function, decoded *pci.Function) []byte {
	w := make([]byte, len(f.config))
	for i := headerSize; i < len(w); i++ {
		w[i] = 0xff
	}
	w[offCommand], w[offCommand+1] = 0x07, 0x05 // I/O, memory, bus master; SERR, INTx disable
	w[0x0c] = 0xff                              // cache line size
	w[offIntLine] = 0xff
	for _, c := range decoded.Capabilities {
		clear(w[c.Offset : c.Offset+capabilitySize(f.config, c)])
		switch c.ID {
		case pci.CapPowerManagement:
			w[c.Offset+pmControl], w[c.Offset+pmControl+1] = pmState, 0x1f // state; PME enable, data select
		case pci.CapMSI:
			w[c.Offset+msiFlags] = msiEnable | msiQueue
		case pci.CapMSIX:
			w[c.Offset+msixFlags+1] = (msixEnable | msixMaskAll) >> 8
		case pci.CapPCIExpress:
			if capabilitySize(f.config, c) > expControl2 {
				w[c.Offset+expControl2+1] = expPrefixes >> 8
			}
		}
	}
	for _, c := range decoded.ExtendedCapabilities {
		clear(w[c.Offset:min(c.Offset+0x48, len(w))])
	}
	return w
}

// capabilitySize is the length of a capability of the first 256 bytes.
func capabilitySize(config []byte, c pci.Capability) int {
	switch c.ID {
	case pci.CapPowerManagement:
		return 8
	case pci.CapMSI:
		size := 10
		if config[c.Offset+msiFlags]&0x80 != 0 { // PCI_MSI_FLAGS_64BIT
			size += 4
		}
		if config[c.Offset+msiFlags+1]&(msiMaskable>>8) != 0 {
			size += 10
		}
		return size
	case pci.CapMSIX:
		return 12
	case pci.CapPCIExpress:
		if config[c.Offset+2]&0xf == 1 { // PCI_EXP_FLAGS_VERS
			return 20
		}
		return 60
	}
	return 4
}

// bridgeTo returns the bridge that the bus of an address is right behind, which comes before; nil on a root bus.
func (k *Kernel) bridgeTo(a pci.Address) *function {
	for _, f := range k.functions {
		if f.isBridge() && f.address.Domain == a.Domain && f.config[offSecondary] == a.Bus && a.Bus != 0 {
			return f
		}
	}
	return nil
}

// function returns the function at an address; nil when there is none.
func (k *Kernel) function(a pci.Address) *function {
	for _, f := range k.functions {
		if f.address == a {
			return f
		}
	}
	return nil
}
