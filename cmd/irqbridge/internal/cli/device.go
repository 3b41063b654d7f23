package cli

import (
	"fmt"
	"strings"

	"github.com/irqbridge/irqbridge/pci"
	"github.com/irqbridge/irqbridge/vfio"
	"github.com/irqbridge/irqbridge/vfio/host"
)

// deviceJSON is what list and show say of a device in common.
type deviceJSON struct {
	Address         pci.Address `json:"address"`
	Vendor          string      `json:"vendor"`
	Device          string      `json:"device"`
	Class           string      `json:"class"`
	Revision        string      `json:"revision"`
	SubsystemVendor string      `json:"subsystemVendor"`
	SubsystemDevice string      `json:"subsystemDevice"`
	Names           *namesJSON  `json:"names,omitempty"`
	*hostJSON
	Interrupts pci.Interrupts `json:"interrupts"`
	// Truncated means that the configuration space could not be read to its end: interrupts may be missing above.
	Truncated bool `json:"truncated"`
}

// hostJSON is the host's side of a device; a dump has none.
type hostJSON struct {
	Driver         string `json:"driver"` // "" for none
	DriverOverride string `json:"driverOverride"`
	VFIO           bool   `json:"vfio"`
	Backend        string `json:"backend"`    // how VFIO hands it out: iommufd, group or no-iommu; "" when no VFIO driver has it
	IOMMUGroup     *int   `json:"iommuGroup"` // null for none
	NUMANode       *int   `json:"numaNode"`   // null when the host does not say
	PowerState     string `json:"powerState"`

	Attributes attributesJSON `json:"attributes"`
}

// attributesJSON is what Kubernetes' dynamic resource allocation knows a device by, under the names and with the values of
// package k8s.io/dynamic-resource-allocation/deviceattribute. What that would not publish is absent: a domain of more than
// 16 bits, a host bridge that is not directly below /sys/devices, a node that the host does not say.
type attributesJSON struct {
	PCIBusID string `json:"resource.kubernetes.io/pciBusID,omitempty"`
	PCIeRoot string `json:"resource.kubernetes.io/pcieRoot,omitempty"`
	NUMANode *int   `json:"resource.kubernetes.io/numaNode,omitempty"`
}

func newAttributesJSON(d host.Device) attributesJSON {
	j := attributesJSON{PCIeRoot: d.HostBridge, NUMANode: unlessNegative(d.NUMANode)}
	if d.Address.Domain <= 0xffff {
		j.PCIBusID = d.Address.String()
	}
	return j
}

func newDeviceJSON(address pci.Address, f *pci.Function, n naming) deviceJSON {
	return deviceJSON{
		Address: address, Vendor: hex16(f.VendorID), Device: hex16(f.DeviceID), Class: fmt.Sprintf("0x%06x", uint32(f.Class)),
		Revision: fmt.Sprintf("0x%02x", f.RevisionID), SubsystemVendor: hex16(f.SubsystemVendorID), SubsystemDevice: hex16(f.SubsystemID),
		Names: n.json(f), Interrupts: f.Interrupts(), Truncated: f.Truncated,
	}
}

func newHostJSON(d host.Device, backend string) *hostJSON {
	return &hostJSON{
		Driver: d.Driver, DriverOverride: d.DriverOverride, VFIO: d.VFIO, Backend: backend, PowerState: d.PowerState,
		IOMMUGroup: unlessNegative(d.Group), NUMANode: unlessNegative(d.NUMANode),
		Attributes: newAttributesJSON(d),
	}
}

// backend is how VFIO hands out a device: what Open would choose, or what it would have to be asked for by name; "" when no
// VFIO driver has it.
func (a *app) backend(d host.Device) string {
	switch {
	case !d.VFIO:
		return ""
	case d.Group >= 0 && a.host.NoIOMMUGroup(d.Group):
		return vfio.BackendNoIOMMU.String()
	}
	return vfio.BackendFor(a.host, d).String()
}

func hex16(v uint16) string { return fmt.Sprintf("0x%04x", v) }

func unlessNegative(n int) *int {
	if n < 0 {
		return nil
	}
	return &n
}

// offers names the interrupts that a function has: "INTA, MSI 1, MSI-X 5".
func offers(f *pci.Function) string {
	var list []string
	if f.INTx != nil {
		list = append(list, pinName(f.INTx))
	}
	if f.MSI != nil {
		list = append(list, fmt.Sprintf("MSI %d", f.MSI.Messages))
	}
	if f.MSIX != nil {
		list = append(list, fmt.Sprintf("MSI-X %d", f.MSIX.Messages))
	}
	if hidesInterrupts(f) {
		list = append(list, "rest not readable")
	}
	if len(list) == 0 {
		return "none"
	}
	return strings.Join(list, ", ")
}

// hidesInterrupts tells whether the configuration space ended where MSI and MSI-X could still have followed.
func hidesInterrupts(f *pci.Function) bool { return f.Truncated && f.Size < 256 }

func pinName(i *pci.INTx) string { return "INT" + string('A'+rune(i.Pin-1)) }

func driverName(d host.Device) string {
	if d.Driver == "" {
		return "-"
	}
	return d.Driver
}

// orDash is the list of CPUs for people.
func orDash(cpus host.CPUSet) string {
	if cpus.Empty() {
		return "-"
	}
	return cpus.List()
}
