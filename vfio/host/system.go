package host

import (
	"fmt"
	"slices"
	"strings"
)

// System is which kernel runs on which distribution, and how it was booted. What the host does not tell is empty.
type System struct {
	Distribution []string // of os-release(5): ID, and then those of ID_LIKE: "ubuntu", "debian"
	Name         string   // PRETTY_NAME
	Release      string   // of the kernel: "6.1.0-40-amd64"
	Vendor       string   // of an x86 CPU: "GenuineIntel", "AuthenticAMD"
	ARM          bool     // an ARM CPU
	Arguments    []string // of the kernel's command line

	grub, ostree bool // how arguments are given: by /etc/default/grub, by rpm-ostree
}

// System returns what is known about the running system.
func (h *Host) System() System {
	s := System{grub: h.os.Exists("/etc/default/grub"), ostree: h.os.Exists("/run/ostree-booted")}
	for line := range strings.Lines(h.contents("/etc/os-release")) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		value = strings.Trim(value, `"'`)
		switch name {
		case "ID":
			s.Distribution = append([]string{value}, s.Distribution...)
		case "ID_LIKE":
			s.Distribution = append(s.Distribution, strings.Fields(value)...)
		case "PRETTY_NAME":
			s.Name = value
		}
	}
	s.Release = strings.TrimSpace(h.contents("/proc/sys/kernel/osrelease"))
	s.Arguments = strings.Fields(h.contents("/proc/cmdline"))
	for line := range strings.Lines(h.contents("/proc/cpuinfo")) {
		switch name, value, _ := strings.Cut(line, ":"); strings.TrimSpace(name) {
		case "vendor_id":
			s.Vendor = strings.TrimSpace(value)
			return s
		case "CPU implementer":
			s.ARM = true
			return s
		}
	}
	return s
}

// contents returns a file's content, empty when it cannot be read.
func (h *Host) contents(name string) string {
	b, _ := h.os.ReadFile(name)
	return string(b)
}

// Intel tells whether the CPU is Intel's, so that the IOMMU is VT-d.
func (s System) Intel() bool { return s.Vendor == "GenuineIntel" }

// AMD tells whether the CPU is AMD's or of its family, so that the IOMMU is AMD-Vi.
func (s System) AMD() bool { return s.Vendor == "AuthenticAMD" || s.Vendor == "HygonGenuine" }

// Has tells whether the kernel was booted with an argument, such as "intel_iommu=off".
func (s System) Has(argument string) bool { return slices.Contains(s.Arguments, argument) }

// asks tells whether the kernel was booted with name=…, in which value is one of those between commas.
func (s System) asks(name, value string) bool {
	return slices.ContainsFunc(s.Arguments, func(argument string) bool {
		values, ok := strings.CutPrefix(argument, name+"=")
		return ok && slices.Contains(strings.Split(values, ","), value)
	})
}

// AtLeast tells whether the kernel's version is this one or a later one; false when the version is not known.
// Distributions bring features to older versions.
func (s System) AtLeast(major, minor int) bool {
	var have [2]int
	if n, _ := fmt.Sscanf(s.Release, "%d.%d", &have[0], &have[1]); n < 2 {
		return false
	}
	return slices.Compare(have[:], []int{major, minor}) >= 0
}

// like tells whether the distribution is one of these, or made from one.
func (s System) like(names ...string) bool {
	return slices.ContainsFunc(s.Distribution, func(d string) bool { return slices.Contains(names, d) })
}

// BootWith says how the kernel is given an argument, in the place of another one or of none (""), as this distribution
// does it: a command, or words where none is known. An empty argument takes the other one away.
func (s System) BootWith(argument, instead string) string {
	var words string
	switch {
	case instead == "":
		words = "boot with the kernel argument " + argument
	case argument == "":
		words = "boot without the kernel argument " + instead
	default:
		words = "boot with the kernel argument " + argument + " in place of " + instead
	}
	option := func(name, value string) string {
		if value == "" {
			return ""
		}
		return " --" + name + "=" + value
	}
	update := ""
	switch {
	case s.ostree:
		return "sudo rpm-ostree kargs" + option("delete", instead) + option("append", argument) + "; then reboot"
	case s.like("fedora", "rhel", "centos"):
		return "sudo grubby --update-kernel=ALL" + option("remove-args", instead) + option("args", argument) + "; then reboot"
	case !s.grub:
	case s.like("debian", "ubuntu"):
		update = "sudo update-grub"
	case s.like("suse", "opensuse", "sles"):
		update = "sudo grub2-mkconfig -o /boot/grub2/grub.cfg"
	case s.like("arch"):
		update = "sudo grub-mkconfig -o /boot/grub/grub.cfg"
	}
	if update == "" {
		return words
	}
	// Both GRUB_CMDLINE_LINUX and GRUB_CMDLINE_LINUX_DEFAULT may have what is to go.
	edit := `s/^GRUB_CMDLINE_LINUX="/&` + argument + ` /`
	switch {
	case argument == "":
		edit = `s/\b` + instead + `\b//`
	case instead != "":
		edit = `s/\b` + instead + `\b/` + argument + `/`
	}
	return "sudo sed -i '" + edit + "' /etc/default/grub && " + update + "; then reboot"
}
