package host

import (
	"slices"
	"strings"
)

// IOMMUUnits returns the IOMMUs that the kernel has set up, by their names in /sys/class/iommu: "dmar0" is Intel's,
// "ivhd0" AMD's, "smmu3.0x…" ARM's.
func (h *Host) IOMMUUnits() []string {
	names, _ := h.os.ReadDir("/sys/class/iommu")
	return names
}

// firmwareTables is where the kernel shows the ACPI tables. Their names are for everybody, their contents for root.
const firmwareTables = "/sys/firmware/acpi/tables"

// WhyNoIOMMU says why this host has no IOMMU, and what to do about it. It makes sense when [Host.HasIOMMU] is false.
func (h *Host) WhyNoIOMMU() (cause, remedy string) {
	s := h.System()
	const off = "the kernel was booted with "
	switch {
	case s.Has("intel_iommu=off"):
		return off + "intel_iommu=off", s.BootWith("intel_iommu=on", "intel_iommu=off")
	case s.Has("amd_iommu=off"):
		return off + "amd_iommu=off", s.BootWith("", "amd_iommu=off")
	case s.Has("iommu=off"):
		return off + "iommu=off", s.BootWith("", "iommu=off")
	}
	tables, err := h.os.ReadDir(firmwareTables)
	described := func(name string) bool { return slices.Contains(tables, name) }
	switch {
	case described("DMAR") && s.asks("intel_iommu", "on"):
		return "the firmware has VT-d on and the kernel was booted with intel_iommu=on, and yet it does not use it", "sudo dmesg | grep -i -e DMAR -e iommu"
	case described("DMAR"):
		return "the firmware has VT-d on, but the kernel leaves it off unless it is told", s.BootWith("intel_iommu=on", "")
	case described("IVRS"):
		return "the firmware has AMD-Vi on, and yet the kernel does not use it", "sudo dmesg | grep -i -e AMD-Vi -e IVRS"
	case s.ARM:
		return "no SMMU is at work: the firmware (IORT or device tree) describes none, or the kernel has no driver for it", "sudo dmesg | grep -i -e smmu -e iommu"
	case err == nil && s.Intel():
		return "the firmware describes no IOMMU (there is no ACPI table DMAR): VT-d is off or the machine has none",
			"switch VT-d on in the firmware's setup, or give the virtual machine an IOMMU; and " + s.BootWith("intel_iommu=on", "")
	case err == nil && s.AMD():
		return "the firmware describes no IOMMU (there is no ACPI table IVRS): AMD-Vi is off or the machine has none",
			"switch IOMMU (AMD-Vi) on in the firmware's setup, or give the virtual machine an IOMMU"
	}
	return "the platform has no IOMMU, or it is off", "switch VT-d or AMD-Vi on in the firmware, and on Intel " + s.BootWith("intel_iommu=on", "")
}

// Remapping is whether a device's messages can reach only the interrupts that they were given: interrupt remapping of an
// x86 IOMMU, the ITS of an ARM interrupt controller.
type Remapping uint8

// The answers. RemappingUnknown is that of a platform that is not known here.
const (
	RemappingUnknown Remapping = iota
	RemappingOff
	RemappingOn
)

// InterruptRemapping tells whether it is at work, by the names of the interrupt controllers (/sys/kernel/irq/N/chip_name):
// what VFIO asks inside the kernel is not shown.
func (h *Host) InterruptRemapping() Remapping {
	numbers, _ := h.os.ReadDir("/sys/kernel/irq")
	found := RemappingUnknown
	for _, n := range numbers {
		chip := h.contents("/sys/kernel/irq/" + n + "/chip_name")
		switch {
		case strings.HasPrefix(chip, "IR-"), strings.HasPrefix(chip, "ITS-"):
			return RemappingOn
		case strings.HasPrefix(chip, "IO-APIC"), strings.HasPrefix(chip, "PCI-MSI"), strings.HasPrefix(chip, "GICv2m"):
			found = RemappingOff
		}
	}
	return found
}

// dmarFlags is the offset of a byte of flags in the table DMAR, of which bit 0 says that the platform can remap interrupts
// (Intel Virtualization Technology for Directed I/O, 8.1).
const dmarFlags = 37

// WhyNoRemapping says why interrupts are not remapped, and what to do about it. It makes sense when there is an IOMMU and
// [Host.InterruptRemapping] is RemappingOff, or when VFIO has refused a device for that.
func (h *Host) WhyNoRemapping() (cause, remedy string) {
	const what = "the platform does not remap interrupts, so a device could send any vector of the host"
	s := h.System()
	if s.Has("intremap=off") {
		return what + ": the kernel was booted with intremap=off", s.BootWith("", "intremap=off")
	}
	if dmar := h.contents(firmwareTables + "/DMAR"); len(dmar) > dmarFlags && dmar[dmarFlags]&1 == 0 {
		return what + ": the firmware's table DMAR says that the platform cannot", "switch interrupt remapping on in the firmware's setup"
	}
	if s.ARM {
		return what + ": the interrupt controller has no ITS", "sudo dmesg | grep -i -e ITS -e GIC"
	}
	return what, "switch interrupt remapping on in the firmware (VT-d, AMD-Vi)"
}

// UnsafeInterrupts returns the module parameters allow_unsafe_interrupts that are on: with one of them, VFIO hands out
// devices without interrupt remapping.
func (h *Host) UnsafeInterrupts() []string {
	var on []string
	for _, module := range []string{"vfio_iommu_type1", "iommufd"} {
		name := "/sys/module/" + module + "/parameters/allow_unsafe_interrupts"
		if strings.TrimSpace(h.contents(name)) == "Y" {
			on = append(on, name)
		}
	}
	return on
}
