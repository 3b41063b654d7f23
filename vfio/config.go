package vfio

import (
	"encoding/binary"
	"fmt"
	"io"
	"os"

	"github.com/irqbridge/irqbridge/pci"
	"github.com/irqbridge/irqbridge/vfio/internal/uapi"
)

// Offsets in configuration space, pci_regs.h.
const (
	offsetCommand = 0x04 // PCI_COMMAND
	offsetClass   = 0x08 // PCI_CLASS_REVISION
	offsetBARs    = 0x10 // PCI_BASE_ADDRESS_0
)

// maxConfigSize is the size of configuration space with the extended part, PCI_CFG_SPACE_EXP_SIZE.
const maxConfigSize = 4096

// Config returns the whole configuration space as VFIO shows it: 256 bytes, or 4096 for PCI Express.
//
// VFIO virtualises parts of it. BARs and the interrupt line are the kernel's idea; of MSI the control register, address
// and data read as if MSI were off while it is in use; COMMAND.INTxDisable shows what was written here and not what
// the kernel does with it. For the registers as they are, use host.Host.Config.
func (d *Device) Config() ([]byte, error) {
	p := make([]byte, d.regions[uapi.PCIConfigRegionIndex].Size)
	if err := d.ReadConfig(p, 0); err != nil {
		return nil, err
	}
	return p, nil
}

// Function decodes the configuration space as VFIO shows it.
func (d *Device) Function() (*pci.Function, error) {
	config, err := d.Config()
	if err != nil {
		return nil, err
	}
	f, err := pci.Decode(config)
	if err != nil {
		return nil, d.fault("decode config space", err)
	}
	return f, nil
}

// ReadConfig fills p with configuration space from offset off. Registers are little-endian.
func (d *Device) ReadConfig(p []byte, off int) error {
	op := fmt.Sprintf("read %d bytes of config space at 0x%x", len(p), off)
	d.life.RLock()
	defer d.life.RUnlock()
	return d.config(op, p, off, d.kernel.Pread)
}

// WriteConfig writes p to configuration space at offset off. The kernel drops writes to what it keeps for itself, such
// as the MSI-X control register, without an error.
func (d *Device) WriteConfig(p []byte, off int) error {
	op := fmt.Sprintf("write %d bytes of config space at 0x%x", len(p), off)
	d.life.RLock()
	defer d.life.RUnlock()
	return d.config(op, p, off, d.kernel.Pwrite)
}

// config moves all of p from or to the configuration region. The caller holds life.
func (d *Device) config(op string, p []byte, off int, move func(int, []byte, int64) (int, error)) error {
	if d.fd < 0 {
		return d.fault(op, os.ErrClosed)
	}
	region := d.regions[uapi.PCIConfigRegionIndex]
	if off < 0 || uint64(off) > region.Size || uint64(len(p)) > region.Size-uint64(off) {
		return d.invalid(op, fmt.Sprintf("config space has %d bytes", region.Size))
	}
	for len(p) > 0 {
		n, err := move(d.fd, p, int64(region.Offset)+int64(off))
		if err != nil {
			return d.fault(op, err)
		}
		if n <= 0 {
			return d.fault(op, io.ErrUnexpectedEOF)
		}
		p, off = p[n:], off+n
	}
	return nil
}

// SetBusMaster lets the device write to memory or forbids it. Without it, MSI and MSI-X messages are lost in silence;
// EnableIRQs switches it on for them, and Close off.
func (d *Device) SetBusMaster(on bool) error {
	op := "switch bus mastering off"
	if on {
		op = "switch bus mastering on"
	}
	d.life.RLock()
	defer d.life.RUnlock()
	d.mu.Lock()
	defer d.mu.Unlock()
	if on {
		return d.setCommand(op, pci.CommandBusMaster, 0)
	}
	return d.setCommand(op, 0, pci.CommandBusMaster)
}

// readCommand returns the command register. The caller holds life.
func (d *Device) readCommand(op string) (pci.Command, error) {
	var p [2]byte
	err := d.config(op, p[:], offsetCommand, d.kernel.Pread)
	return pci.Command(binary.LittleEndian.Uint16(p[:])), err
}

// setCommand sets and clears bits of the command register; it does not write what is so already. The caller holds life
// and mu.
func (d *Device) setCommand(op string, set, clear pci.Command) error {
	before, err := d.readCommand(op)
	if err != nil {
		return err
	}
	after := before&^clear | set
	if after == before {
		return nil
	}
	return d.config(op, binary.LittleEndian.AppendUint16(nil, uint16(after)), offsetCommand, d.kernel.Pwrite)
}
