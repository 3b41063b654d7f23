package host

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestWhyNoIOMMU(t *testing.T) {
	const intel, amd, arm = "vendor_id\t: GenuineIntel\n", "vendor_id\t: AuthenticAMD\n", "CPU implementer\t: 0x41\n"
	for name, c := range map[string]struct {
		cpu, arguments, tables string
		cause, remedy          string
	}{
		"Intel, left off by the kernel":   {intel, "quiet", "DMAR FACP", "the firmware has VT-d on, but the kernel leaves it off", "boot with the kernel argument intel_iommu=on"},
		"Intel, off in the firmware":      {intel, "intel_iommu=on", "FACP", "the firmware describes no IOMMU (there is no ACPI table DMAR)", "switch VT-d on in the firmware"},
		"Intel, on and yet not at work":   {intel, "intel_iommu=on,sm_on", "DMAR", "and yet it does not use it", "sudo dmesg | grep -i -e DMAR"},
		"switched off by an argument":     {intel, "intel_iommu=off", "DMAR", "the kernel was booted with intel_iommu=off", "intel_iommu=on in place of intel_iommu=off"},
		"all switched off by an argument": {amd, "iommu=off", "IVRS", "the kernel was booted with iommu=off", "boot without the kernel argument iommu=off"},
		"AMD, switched off":               {amd, "amd_iommu=off", "IVRS", "the kernel was booted with amd_iommu=off", "boot without the kernel argument amd_iommu=off"},
		"AMD, off in the firmware":        {amd, "", "FACP", "there is no ACPI table IVRS", "switch IOMMU (AMD-Vi) on"},
		"AMD, on and yet not at work":     {amd, "", "IVRS", "the firmware has AMD-Vi on", "sudo dmesg | grep -i -e AMD-Vi"},
		"ARM":                             {arm, "", "IORT", "no SMMU is at work", "sudo dmesg | grep -i -e smmu"},
		"nothing is known":                {"", "", "", "the platform has no IOMMU, or it is off", "intel_iommu=on"},
	} {
		t.Run(name, func(t *testing.T) {
			tr := newTree(t)
			tr.file("/proc/cpuinfo", c.cpu)
			tr.file("/proc/cmdline", c.arguments)
			for table := range strings.FieldsSeq(c.tables) {
				tr.file(firmwareTables+"/"+table, "")
			}
			cause, remedy := tr.host().WhyNoIOMMU()
			assert.Contains(t, cause, c.cause)
			assert.Contains(t, remedy, c.remedy)
		})
	}
}

func TestIOMMUUnits(t *testing.T) {
	tr := newTree(t)
	assert.Empty(t, tr.host().IOMMUUnits())
	tr.dir("/sys/class/iommu/dmar0")
	tr.dir("/sys/class/iommu/dmar1")
	assert.Equal(t, []string{"dmar0", "dmar1"}, tr.host().IOMMUUnits())
}

func TestInterruptRemapping(t *testing.T) {
	for name, c := range map[string]struct {
		chips []string
		want  Remapping
	}{
		"VT-d":               {[]string{"XT-PIC", "DMAR-MSI", "PCI-MSI", "IR-IO-APIC"}, RemappingOn},
		"x86 without":        {[]string{"XT-PIC", "IO-APIC", "PCI-MSIX-0000:00:05.0"}, RemappingOff},
		"ARM with an ITS":    {[]string{"GICv3", "ITS-PCI-MSI-0000:01:00.0"}, RemappingOn},
		"ARM with a GICv2m":  {[]string{"GICv2", "GICv2m-PCI-MSI-0000:01:00.0"}, RemappingOff},
		"something else":     {[]string{"PLIC"}, RemappingUnknown},
		"nothing to be seen": {nil, RemappingUnknown},
	} {
		t.Run(name, func(t *testing.T) {
			tr := newTree(t)
			for i, chip := range c.chips {
				tr.file("/sys/kernel/irq/"+string(rune('0'+i))+"/chip_name", chip+"\n")
			}
			assert.Equal(t, c.want, tr.host().InterruptRemapping())
		})
	}
}

func TestWhyNoRemapping(t *testing.T) {
	tr := newTree(t)
	cause, remedy := tr.host().WhyNoRemapping()
	assert.Equal(t, "the platform does not remap interrupts, so a device could send any vector of the host", cause)
	assert.Contains(t, remedy, "in the firmware")

	table := make([]byte, 48)
	tr.file(firmwareTables+"/DMAR", string(table))
	cause, _ = tr.host().WhyNoRemapping()
	assert.Contains(t, cause, ": the firmware's table DMAR says that the platform cannot")
	table[dmarFlags] = 1
	tr.file(firmwareTables+"/DMAR", string(table))
	cause, _ = tr.host().WhyNoRemapping()
	assert.NotContains(t, cause, "DMAR")

	tr.file("/proc/cmdline", "intremap=off\n")
	cause, remedy = tr.host().WhyNoRemapping()
	assert.Contains(t, cause, "the kernel was booted with intremap=off")
	assert.Equal(t, "boot without the kernel argument intremap=off", remedy)
}

func TestUnsafeInterrupts(t *testing.T) {
	tr := newTree(t)
	assert.Empty(t, tr.host().UnsafeInterrupts())
	tr.file("/sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts", "N\n")
	tr.file("/sys/module/iommufd/parameters/allow_unsafe_interrupts", "Y\n")
	assert.Equal(t, []string{"/sys/module/iommufd/parameters/allow_unsafe_interrupts"}, tr.host().UnsafeInterrupts())
}
