package host

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestSystem(t *testing.T) {
	tr := newTree(t)
	assert.Equal(t, System{Arguments: []string{}}, tr.host().System(), "what the host does not tell is empty")

	tr.file("/etc/os-release", "NAME=\"Ubuntu\"\nPRETTY_NAME='Ubuntu 24.04'\nID_LIKE=debian\nID=ubuntu\n")
	tr.file("/proc/sys/kernel/osrelease", "6.8.0-31-generic\n")
	tr.file("/proc/cmdline", "BOOT_IMAGE=/vmlinuz quiet intel_iommu=on,sm_on pci=nomsi\n")
	tr.file("/proc/cpuinfo", "processor\t: 0\nvendor_id\t: GenuineIntel\nprocessor\t: 1\nvendor_id\t: Other\n")
	s := tr.host().System()
	assert.Equal(t, System{
		Distribution: []string{"ubuntu", "debian"}, Name: "Ubuntu 24.04", Release: "6.8.0-31-generic", Vendor: "GenuineIntel",
		Arguments: []string{"BOOT_IMAGE=/vmlinuz", "quiet", "intel_iommu=on,sm_on", "pci=nomsi"},
	}, s)
	assert.True(t, s.Intel())
	assert.False(t, s.AMD())
	assert.True(t, s.Has("quiet"))
	assert.False(t, s.Has("intel_iommu=on"), "an argument as it was given")
	assert.True(t, s.asks("intel_iommu", "on"))
	assert.False(t, s.asks("intel_iommu", "off"))

	tr.file("/proc/cpuinfo", "processor\t: 0\nBogoMIPS\t: 50.00\nCPU implementer\t: 0x41\n")
	assert.True(t, tr.host().System().ARM)
}

func TestAtLeast(t *testing.T) {
	for release, want := range map[string]bool{"6.5.0": true, "6.10-rc1": true, "7.0.0-1-amd64": true, "6.4.9": false, "5.14.0-427.el9": false, "": false, "linux": false} {
		assert.Equal(t, want, System{Release: release}.AtLeast(6, 5), release)
	}
}

// Each distribution's own way. Those of which nothing is known get words.
func TestBootWith(t *testing.T) {
	const on, off = "intel_iommu=on", "intel_iommu=off"
	for name, c := range map[string]struct {
		system             System
		add, replace, drop string
	}{
		"Debian": {
			System{Distribution: []string{"debian"}, grub: true},
			`sudo sed -i 's/^GRUB_CMDLINE_LINUX="/&intel_iommu=on /' /etc/default/grub && sudo update-grub; then reboot`,
			`sudo sed -i 's/\bintel_iommu=off\b/intel_iommu=on/' /etc/default/grub && sudo update-grub; then reboot`,
			`sudo sed -i 's/\bintel_iommu=off\b//' /etc/default/grub && sudo update-grub; then reboot`,
		},
		"Mint, like Ubuntu": {
			System{Distribution: []string{"linuxmint", "ubuntu", "debian"}, grub: true},
			`sudo sed -i 's/^GRUB_CMDLINE_LINUX="/&intel_iommu=on /' /etc/default/grub && sudo update-grub; then reboot`,
			`sudo sed -i 's/\bintel_iommu=off\b/intel_iommu=on/' /etc/default/grub && sudo update-grub; then reboot`,
			`sudo sed -i 's/\bintel_iommu=off\b//' /etc/default/grub && sudo update-grub; then reboot`,
		},
		"Debian without GRUB": {
			System{Distribution: []string{"debian"}},
			"boot with the kernel argument intel_iommu=on",
			"boot with the kernel argument intel_iommu=on in place of intel_iommu=off",
			"boot without the kernel argument intel_iommu=off",
		},
		"Rocky, like RHEL": {
			System{Distribution: []string{"rocky", "rhel", "centos", "fedora"}, grub: true},
			"sudo grubby --update-kernel=ALL --args=intel_iommu=on; then reboot",
			"sudo grubby --update-kernel=ALL --remove-args=intel_iommu=off --args=intel_iommu=on; then reboot",
			"sudo grubby --update-kernel=ALL --remove-args=intel_iommu=off; then reboot",
		},
		"Fedora CoreOS": {
			System{Distribution: []string{"fedora"}, ostree: true},
			"sudo rpm-ostree kargs --append=intel_iommu=on; then reboot",
			"sudo rpm-ostree kargs --delete=intel_iommu=off --append=intel_iommu=on; then reboot",
			"sudo rpm-ostree kargs --delete=intel_iommu=off; then reboot",
		},
		"openSUSE": {
			System{Distribution: []string{"opensuse-leap", "suse", "opensuse"}, grub: true},
			`sudo sed -i 's/^GRUB_CMDLINE_LINUX="/&intel_iommu=on /' /etc/default/grub && sudo grub2-mkconfig -o /boot/grub2/grub.cfg; then reboot`,
			`sudo sed -i 's/\bintel_iommu=off\b/intel_iommu=on/' /etc/default/grub && sudo grub2-mkconfig -o /boot/grub2/grub.cfg; then reboot`,
			`sudo sed -i 's/\bintel_iommu=off\b//' /etc/default/grub && sudo grub2-mkconfig -o /boot/grub2/grub.cfg; then reboot`,
		},
		"Arch": {
			System{Distribution: []string{"arch"}, grub: true},
			`sudo sed -i 's/^GRUB_CMDLINE_LINUX="/&intel_iommu=on /' /etc/default/grub && sudo grub-mkconfig -o /boot/grub/grub.cfg; then reboot`,
			`sudo sed -i 's/\bintel_iommu=off\b/intel_iommu=on/' /etc/default/grub && sudo grub-mkconfig -o /boot/grub/grub.cfg; then reboot`,
			`sudo sed -i 's/\bintel_iommu=off\b//' /etc/default/grub && sudo grub-mkconfig -o /boot/grub/grub.cfg; then reboot`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			assert.Equal(t, c.add, c.system.BootWith(on, ""))
			assert.Equal(t, c.replace, c.system.BootWith(on, off))
			assert.Equal(t, c.drop, c.system.BootWith("", off))
		})
	}
}

func TestModulesPackage(t *testing.T) {
	for want, s := range map[string]System{
		"sudo apt install linux-modules-extra-6.8.0-31-generic":                         {Distribution: []string{"ubuntu", "debian"}, Release: "6.8.0-31-generic"},
		"sudo apt install linux-image-amd64; then reboot into it":                       {Distribution: []string{"debian"}},
		"sudo apt install linux-image-arm64; then reboot into it":                       {Distribution: []string{"debian"}, ARM: true},
		"sudo dnf install kernel-modules-6.9.4-200.fc40.x86_64":                         {Distribution: []string{"fedora"}, Release: "6.9.4-200.fc40.x86_64"},
		"install the package of the kernel's modules, or a kernel with CONFIG_VFIO_PCI": {},
	} {
		assert.Equal(t, want, s.ModulesPackage())
	}
}
