package host

import (
	"path"
	"strings"
)

// ModuleState is how a kernel module can be had.
type ModuleState uint8

// The states. A module that is not loaded may still be there: ModuleAbsent needs the list of those that are.
const (
	ModuleNotLoaded ModuleState = iota
	ModuleLoaded
	ModuleBuiltIn
	ModuleAbsent // neither in the kernel nor among its modules
)

// String returns "loaded" and so on.
func (s ModuleState) String() string {
	return [...]string{"not loaded", "loaded", "built in", "not in this kernel"}[s]
}

// Module returns the state of a module, by its name with underscores: "vfio_pci".
func (h *Host) Module(name string) ModuleState {
	dir := "/sys/module/" + name
	switch {
	case h.os.Exists(dir + "/initstate"):
		return ModuleLoaded
	case h.os.Exists(dir): // with parameters
		return ModuleBuiltIn
	}
	modules := "/lib/modules/" + h.System().Release
	if h.lists(modules+"/modules.builtin", name) {
		return ModuleBuiltIn
	}
	if _, err := h.os.ReadFile(modules + "/modules.dep"); err == nil && !h.lists(modules+"/modules.dep", name) {
		return ModuleAbsent
	}
	return ModuleNotLoaded
}

// lists tells whether a file of depmod(8) has a module: one a line, "kernel/drivers/vfio/pci/vfio-pci.ko.xz: …".
func (h *Host) lists(file, name string) bool {
	for line := range strings.Lines(h.contents(file)) {
		module, _, _ := strings.Cut(strings.TrimSpace(line), ":")
		base, _, _ := strings.Cut(path.Base(module), ".ko")
		if strings.ReplaceAll(base, "-", "_") == name {
			return true
		}
	}
	return false
}

// HasDriver tells whether a PCI driver is registered, "vfio-pci".
func (h *Host) HasDriver(name string) bool { return h.os.Exists(driversDir + "/" + name) }

// ModulesPackage says how the package is installed that has the kernel's less common modules on this distribution, vfio-pci
// among them: a command, or words where none is known.
func (s System) ModulesPackage() string {
	switch {
	case s.like("ubuntu"):
		return "sudo apt install linux-modules-extra-" + s.Release
	case s.like("debian"): // whose kernel for clouds has no VFIO
		architecture := "amd64"
		if s.ARM {
			architecture = "arm64"
		}
		return "sudo apt install linux-image-" + architecture + "; then reboot into it"
	case s.like("fedora", "rhel", "centos"):
		return "sudo dnf install kernel-modules-" + s.Release
	}
	return "install the package of the kernel's modules, or a kernel with CONFIG_VFIO_PCI"
}
