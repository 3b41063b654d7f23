package diagnosis

import (
	"errors"
	"io/fs"
	"testing"

	"github.com/stretchr/testify/assert"
	"golang.org/x/sys/unix"

	"github.com/irqbridge/irqbridge/vfio/host"
)

// goodHost is a host with nothing in the way.
func goodHost() Host {
	return Host{
		System: host.System{Release: "6.12.0", Vendor: "GenuineIntel"},
		Units:  []string{"dmar0"}, HasIOMMU: true, IOMMU: advice{"it is off", "switch it on"},
		Remapping: host.RemappingOn, Unmapped: advice{"the platform does not remap interrupts", "switch it on"},
		Driver: true, PCI: host.ModuleLoaded, Type1: host.ModuleLoaded,
		Central: Node{Path: "/dev/vfio/vfio"}, Nodes: []Node{{Path: "/dev/vfio/2"}},
	}
}

// first sorts checks and returns the one that stands first.
func first(checks []Check) Check {
	Sort(checks)
	return checks[0]
}

func find(t *testing.T, checks []Check, id string) Check {
	t.Helper()
	for _, c := range checks {
		if c.ID == id {
			return c
		}
	}
	t.Fatalf("no check %s", id)
	return Check{}
}

func TestAGoodHostPasses(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range goodHost().Checks() {
		assert.Equal(t, OK, c.Status, c.ID)
		assert.NotEmpty(t, c.Cause, c.ID)
		assert.Empty(t, c.Next, c.ID)
		assert.False(t, seen[c.ID], "%s is there twice", c.ID)
		seen[c.ID] = true
	}
}

func TestHost(t *testing.T) {
	denied := Node{Path: "/dev/vfio/2", Err: unix.EACCES, Denial: host.Denial{Cause: "for root alone", Command: "sudo chown", Rule: "RULE"}}
	for name, c := range map[string]struct {
		change func(*Host)
		want   Check
	}{
		"no IOMMU": {
			func(h *Host) { h.HasIOMMU = false },
			Check{"iommu", Failure, "there is no IOMMU: it is off", "switch it on", ""},
		},
		"no IOMMU, and the mode without": {
			func(h *Host) { h.HasIOMMU, h.NoIOMMUMode = false, true },
			Check{"iommu", Warning, "there is no IOMMU, and VFIO's mode without one is on: a device can write to any memory (it is off)", "switch it on", ""},
		},
		"no IOMMU comes before modules": {
			func(h *Host) { h.HasIOMMU, h.Driver = false, false },
			Check{"iommu", Failure, "there is no IOMMU: it is off", "switch it on", ""},
		},
		"no remapping": {
			func(h *Host) { h.Remapping = host.RemappingOff },
			Check{"remapping", Failure, "VFIO hands out no device: the platform does not remap interrupts", "switch it on", ""},
		},
		"no remapping, and VFIO is told that it does not matter": {
			func(h *Host) { h.Remapping, h.Unsafe = host.RemappingOff, []string{"FILE"} },
			Check{"remapping", Warning, "the platform does not remap interrupts; FILE is on, so that VFIO lets it", "switch it on", ""},
		},
		"remapping not known": {
			func(h *Host) { h.Remapping = host.RemappingUnknown },
			Check{"remapping", Unknown, "whether interrupts are remapped is not known: no interrupt controller of this host is one that is known here", "sudo dmesg | grep -i -e remap -e ITS", ""},
		},
		"module not loaded": {
			func(h *Host) { h.Driver, h.PCI = false, host.ModuleNotLoaded },
			Check{"modules", Failure, "the module vfio_pci is not loaded, so that there is no driver vfio-pci", "sudo modprobe vfio-pci", ""},
		},
		"module not there": {
			func(h *Host) { h.Driver, h.PCI = false, host.ModuleAbsent },
			Check{
				"modules", Failure, "this kernel, 6.12.0, was built without vfio-pci, or its package of modules is not installed",
				"install the package of the kernel's modules, or a kernel with CONFIG_VFIO_PCI", "",
			},
		},
		"IOMMU driver not loaded": {
			func(h *Host) { h.Type1 = host.ModuleNotLoaded },
			Check{"modules", Failure, "the module vfio_iommu_type1 is not loaded, without which no group can be opened", "sudo modprobe vfio_iommu_type1", ""},
		},
		"IOMMU driver not wanted, with iommufd": {
			func(h *Host) { h.Type1, h.IOMMUFD, h.Central.Path = host.ModuleAbsent, true, "/dev/iommu" },
			Check{"iommu", OK, "on: dmar0", "", ""},
		},
		"node closed": {
			func(h *Host) { h.Nodes = []Node{{Path: "/dev/vfio/1"}, denied} },
			Check{
				"nodes", Failure, "/dev/vfio/2 is closed to this user: for root alone", "sudo chown",
				"lasting, for the users of a group vfio, by a file in /etc/udev/rules.d (scripts/udev has one): RULE",
			},
		},
		"nodes closed": {
			func(h *Host) { h.Nodes = []Node{denied, denied, denied} },
			Check{
				"nodes", Failure, "/dev/vfio/2 is closed to this user: for root alone; and 2 more", "sudo chown",
				"lasting, for the users of a group vfio, by a file in /etc/udev/rules.d (scripts/udev has one): RULE",
			},
		},
		"node missing": {
			func(h *Host) { h.Central.Err = fs.ErrNotExist },
			Check{
				"nodes", Failure, "there is no /dev/vfio/vfio: udev has not made it yet, or this container was not given it",
				"sudo udevadm settle; ls -l /dev/vfio/vfio", "",
			},
		},
		"node not readable": {
			func(h *Host) { h.Central.Err = errors.New("bad") },
			Check{"nodes", Unknown, "/dev/vfio/vfio cannot be looked at: bad", "sudo ls -l /dev/vfio/vfio", ""},
		},
		"irqbalance": {
			func(h *Host) { h.IRQBalance = 712 },
			Check{"irqbalance", Warning, "irqbalance (process 712) may move interrupts away from the CPUs that they were given", "sudo systemctl stop irqbalance", ""},
		},
		"little memory": {
			func(h *Host) { h.MemoryLimited, h.MemoryLock = true, 64<<10 },
			Check{
				"memlock", Warning, "only 64 KiB of memory can be mapped for DMA (RLIMIT_MEMLOCK); interrupts alone need none",
				"ulimit -l unlimited (as root), or LimitMEMLOCK=infinity in the unit", "",
			},
		},
		"memory not known": {
			func(h *Host) { h.MemoryLockError = errors.New("bad") },
			Check{"memlock", Unknown, "bad", "ulimit -l", ""},
		},
		"unsafe interrupts for nothing": {
			func(h *Host) { h.Unsafe = []string{"FILE"} },
			Check{"unsafe-interrupts", Warning, "FILE is on, and not needed: interrupts are remapped", "echo 0 | sudo tee FILE", ""},
		},
		"mode without an IOMMU for nothing": {
			func(h *Host) { h.NoIOMMUMode = true },
			Check{
				"unsafe-no-iommu", Warning,
				"/sys/module/vfio/parameters/enable_unsafe_noiommu_mode is on, although there is an IOMMU: a device that is in no group can write to any memory",
				"echo 0 | sudo tee /sys/module/vfio/parameters/enable_unsafe_noiommu_mode", "",
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := goodHost()
			c.change(&h)
			assert.Equal(t, c.want, first(h.Checks()))
		})
	}
}

func TestAbilities(t *testing.T) {
	h := goodHost()
	assert.Contains(t, find(t, h.Checks(), "msix-growth").Cause, "messages of MSI-X can be added")
	assert.Contains(t, find(t, h.Checks(), "iommufd").Cause, "no: ")
	assert.Contains(t, find(t, h.Checks(), "no-iommu-mode").Cause, "no: ")
	h.System.Release, h.IOMMUFD, h.NoIOMMUPresent = "6.1.0", true, true
	assert.Contains(t, find(t, h.Checks(), "msix-growth").Cause, "adds none later")
	assert.Contains(t, find(t, h.Checks(), "iommufd").Cause, "yes: ")
	assert.Equal(t, "the mode without an IOMMU is there, and off", find(t, h.Checks(), "no-iommu-mode").Cause)
	h.HasIOMMU, h.NoIOMMUMode = false, true
	assert.Equal(t, "the mode without an IOMMU is on", find(t, h.Checks(), "no-iommu-mode").Cause)
	h.MemoryLimited, h.MemoryLock = true, 8<<20
	assert.Equal(t, Check{ID: "memlock", Cause: "8192 KiB of memory can be mapped for DMA; interrupts alone need none"}, find(t, h.Checks(), "memlock"))
	h.Units = nil
	h.HasIOMMU = true
	assert.Equal(t, "on", find(t, h.Checks(), "iommu").Cause)
}

func TestSortKeepsTheOrderOfMending(t *testing.T) {
	checks := []Check{ok("a", ""), warn("b", "", ""), fail("c", "", ""), unknown("d", "", ""), fail("e", "", ""), warn("f", "", ""), ok("g", "")}
	Sort(checks)
	var ids string
	for _, c := range checks {
		ids += c.ID
	}
	assert.Equal(t, "cebfdag", ids)
}
