package host

import "github.com/irqbridge/irqbridge/pci"

// Device is what sysfs tells about one PCI function, as it was at one moment (Documentation/ABI/testing/sysfs-bus-pci).
type Device struct {
	Address           pci.Address `json:"address"`
	VendorID          uint16      `json:"vendor"`
	DeviceID          uint16      `json:"device"`
	SubsystemVendorID uint16      `json:"subsystemVendor"`
	SubsystemID       uint16      `json:"subsystemDevice"`
	Class             uint32      `json:"class"` // base class<<16 | subclass<<8 | programming interface
	Revision          uint8       `json:"revision"`
	Driver            string      `json:"driver"`                     // the driver it is bound to; "" when unbound
	DriverOverride    string      `json:"driverOverride"`             // the only driver that may bind to it; "" when any may
	VFIO              bool        `json:"vfio"`                       // bound to a VFIO driver, by whatever name: vfio-dev/ is there
	Group             int         `json:"group"`                      // IOMMU group; -1 without one
	NUMANode          int         `json:"numaNode"`                   // -1 when the host does not say
	IRQ               int         `json:"irq"`                        // the INTx line's host IRQ, or the first MSI message's; 0 for none
	PowerState        string      `json:"powerState"`                 // "D0", "D3hot", "unknown"; "" on kernels before 5.10
	BootVGA           bool        `json:"bootVGA"`                    // the firmware's display
	Bridge            bool        `json:"bridge"`                     // a PCI-to-PCI or CardBus bridge, which carries a bus and no function of its own
	PhysicalFunction  string      `json:"physicalFunction,omitempty"` // of an SR-IOV virtual function: its PF's address
	VirtualFunctions  int         `json:"virtualFunctions,omitempty"` // of an SR-IOV physical function: how many VFs are enabled
}

// Devices returns every PCI device, sorted by address. A device that vanishes during the scan is left out. An error names
// the devices that could not be read; the others are returned all the same.
func (h *Host) Devices() ([]Device, error) { return nil, nil }

// Device returns the device at a; fs.ErrNotExist when there is none.
func (h *Host) Device(a pci.Address) (Device, error) { return Device{}, nil }

// Config returns the device's configuration space as the hardware has it, which for MSI differs from what VFIO shows. It is
// 256 or 4096 bytes, or only the first 64 when the caller lacks CAP_SYS_ADMIN.
func (h *Host) Config(a pci.Address) ([]byte, error) { return nil, nil }
