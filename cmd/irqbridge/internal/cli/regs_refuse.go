package cli

import (
	"encoding/binary"
	"fmt"

	"github.com/irqbridge/irqbridge/cmd/irqbridge/internal/profile"
	"github.com/irqbridge/irqbridge/pci"
)

// objection says why a write is refused without --force: it would do nothing, or harm. "" when nothing is against it.
func (r *registers) objection(o operation) string {
	t := o.target
	switch access := t.access(); {
	case t.space == configSpace:
		return r.configObjection(o)
	case access == profile.ReadOnly:
		return "it is read only, as the profile has it"
	case t.field != nil && access == profile.ReadClears:
		return fmt.Sprintf("%s is cleared by reading, and a field cannot be changed without", t.name)
	}
	if m := r.decoded.MSIX; m != nil {
		if t.space == m.Table.BAR && overlaps(t.place, uint64(m.Table.Offset), 16*uint64(m.Messages)) {
			return "it is in the MSI-X table, which the kernel programs"
		}
	}
	return ""
}

func overlaps(p place, offset, size uint64) bool {
	return p.offset < offset+size && offset < p.offset+p.bytes()
}

// Offsets in configuration space (pci_regs.h): of the header, and of registers in their capabilities.
const (
	configCommand  = 0x04 // PCI_COMMAND
	configCache    = 0x0c // PCI_CACHE_LINE_SIZE, and the latency timer
	configBIST     = 0x0f // PCI_BIST
	configBARs     = 0x10 // PCI_BASE_ADDRESS_0
	configROM      = 0x30 // PCI_ROM_ADDRESS
	configLine     = 0x3c // PCI_INTERRUPT_LINE
	configHeader   = 0x40 // its end
	pmControl      = 0x04 // PCI_PM_CTRL
	expressReset   = 0x09 // the byte of PCI_EXP_DEVCTL with PCI_EXP_DEVCTL_BCR_FLR
	featuresReset  = 0x04 // PCI_AF_CTRL
	msiControl     = 0x02 // PCI_MSI_FLAGS
	msiMask32      = 0x0c // PCI_MSI_MASK_32
	msiMask64      = 0x10 // PCI_MSI_MASK_64
	extendedConfig = 0x100
)

// configObjection is objection for configuration space, of which VFIO keeps parts to itself (drivers/vfio/pci/vfio_pci_config.c).
func (r *registers) configObjection(o operation) string {
	t := o.target
	const (
		dropped = "VFIO drops writes to %s without an error"
		virtual = "VFIO keeps %s to itself: a write changes what is read there later, and not the device"
	)
	in := func(offset, size int) bool { return overlaps(t.place, uint64(offset), uint64(size)) }
	var image [4]byte
	binary.LittleEndian.PutUint32(image[:], uint32(o.value))
	// byteAt is what is written to the byte at an offset.
	byteAt := func(offset int) (byte, bool) {
		if !in(offset, 1) {
			return 0, false
		}
		return image[uint64(offset)-t.offset], true
	}
	if t.offset < configHeader {
		command, isCommand := byteAt(configCommand)
		switch {
		case isCommand && pci.Command(command)&pci.CommandMemory == 0:
			return "it switches memory decoding off, and the device's BARs do not answer any more"
		case in(configBARs, 0x18):
			return fmt.Sprintf(virtual, "the BARs")
		case in(configROM, 4):
			return fmt.Sprintf(virtual, "the expansion ROM's address")
		case in(configLine, 1):
			return fmt.Sprintf(virtual, "the interrupt line")
		case !in(configCommand, 2) && !in(configCache, 2) && !in(configBIST, 1):
			return fmt.Sprintf(dropped, "this part of the header")
		}
		return ""
	}
	switch {
	case hidesInterrupts(r.decoded):
		return "what is there is not readable by this user, so that it cannot be judged"
	case t.offset >= extendedConfig:
		return ""
	}
	for _, c := range r.decoded.Capabilities {
		if !in(c.Offset, c.Length) {
			continue
		}
		switch c.ID {
		case pci.CapPowerManagement:
			if state, ok := byteAt(c.Offset + pmControl); ok && state&3 != 0 {
				return fmt.Sprintf("it puts the device to sleep, in power state D%d, in which its registers do not answer", state&3)
			}
		case pci.CapMSI:
			mask := msiMask32
			if r.decoded.MSI != nil && r.decoded.MSI.Address64 {
				mask = msiMask64
			}
			if in(c.Offset+msiControl, mask-msiControl) {
				return fmt.Sprintf(virtual, "MSI's control, address and data")
			}
		case pci.CapMSIX:
			return fmt.Sprintf(dropped, "the MSI-X capability")
		case pci.CapPCIExpress:
			if v, ok := byteAt(c.Offset + expressReset); ok && v&0x80 != 0 {
				return "it resets the function"
			}
		case pci.CapAdvancedFeatures:
			if v, ok := byteAt(c.Offset + featuresReset); ok && v&1 != 0 {
				return "it resets the function"
			}
		}
	}
	return ""
}
