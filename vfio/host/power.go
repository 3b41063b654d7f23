package host

import (
	"strconv"
	"strings"

	"github.com/irqbridge/irqbridge/pci"
)

// RuntimePower is what runtime power management does with a device, and may do
// (Documentation/ABI/testing/sysfs-devices-power). Both are empty when the kernel does not say.
type RuntimePower struct {
	Status  string // power/runtime_status: "active", "suspended", "unsupported", …
	Control string // power/control: "auto" lets the device sleep, "on" keeps it awake
}

// RuntimePower returns it for the function at a. To know how the device and the bridges above it are at rest, ask before
// [Host.Config], which wakes the bridges.
func (h *Host) RuntimePower(a pci.Address) RuntimePower {
	dir := devicesDir + "/" + a.String() + "/power/"
	return RuntimePower{Status: strings.TrimSpace(h.contents(dir + "runtime_status")), Control: strings.TrimSpace(h.contents(dir + "control"))}
}

// WhyNoMessages says why the kernel lets the function at a use neither MSI nor MSI-X, and what to do about it; empty when it
// does let it (the attribute msi_bus, of the function and of the bridges above it).
func (h *Host) WhyNoMessages(a pci.Address) (cause, remedy string) {
	if s := h.System(); s.asks("pci", "nomsi") {
		return "the kernel was booted with pci=nomsi: no device gets MSI or MSI-X", s.BootWith("", "pci=nomsi")
	}
	above, _ := h.Above(a)
	for _, d := range append([]Device{{Address: a}}, above...) {
		file := devicesDir + "/" + d.Address.String() + "/msi_bus"
		switch {
		case strings.TrimSpace(h.contents(file)) != "0":
		case d.Address == a:
			return "the kernel lets the device use neither MSI nor MSI-X (msi_bus)", "echo 1 | sudo tee " + file
		default:
			return "the kernel lets no device behind " + d.Address.String() + " use MSI or MSI-X (msi_bus)", "echo 1 | sudo tee " + file
		}
	}
	return "", ""
}

// Enables is how many users have enabled the function at a (pci_enable_device); 0 also when it cannot be read.
func (h *Host) Enables(a pci.Address) int {
	n, _ := strconv.Atoi(strings.TrimSpace(h.contents(devicesDir + "/" + a.String() + "/enable")))
	return n
}

// Above returns the bridges that the function at a is behind, the nearest first; none on a root bus.
func (h *Host) Above(a pci.Address) ([]Device, error) {
	target, err := h.os.Readlink(devicesDir + "/" + a.String())
	if err != nil {
		return nil, deviceError(a, "find the bridges above", err, "", "")
	}
	var above []Device
	for part := range strings.SplitSeq(target, "/") {
		address, err := pci.ParseAddress(part)
		if err != nil || address == a {
			continue
		}
		d, err := h.Device(address)
		if err != nil {
			return nil, err
		}
		if d.Bridge {
			above = append([]Device{d}, above...)
		}
	}
	return above, nil
}
