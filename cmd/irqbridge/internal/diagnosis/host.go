package diagnosis

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/irqbridge/irqbridge/vfio/host"
)

// Host is the facts about a host.
type Host struct {
	System   host.System
	Units    []string // the IOMMUs
	HasIOMMU bool
	IOMMU    advice // while there is none

	Remapping host.Remapping
	Unmapped  advice   // while there is no remapping
	Unsafe    []string // module parameters that do without, and are on

	NoIOMMUMode, NoIOMMUPresent bool
	IOMMUFD                     bool

	Driver  bool             // vfio-pci is registered
	PCI     host.ModuleState // vfio_pci
	Type1   host.ModuleState // vfio_iommu_type1
	Central Node             // the node that every device is opened with: the container's or, where there is one, iommufd's
	Nodes   []Node           // of groups and devices

	MemoryLock      uint64 // bytes
	MemoryLimited   bool
	MemoryLockError error
	IRQBalance      int // its process ID; 0 while it does not run
}

// advice is why something is as it is, and what to do about it.
type advice struct{ cause, next string }

// Node is a node, and whether this process may open it.
type Node struct {
	Path   string
	Err    error       // why this process may not open it, or that it is not there; nil when it may
	Denial host.Denial // when Err is fs.ErrPermission
}

// ReadHost gathers the facts about a host.
func ReadHost(h *host.Host) Host {
	f := Host{
		System: h.System(), Units: h.IOMMUUnits(), HasIOMMU: h.HasIOMMU(), Remapping: h.InterruptRemapping(), Unsafe: h.UnsafeInterrupts(),
		IOMMUFD: h.HasIOMMUFD(), Driver: h.HasDriver("vfio-pci"), PCI: h.Module("vfio_pci"), Type1: h.Module("vfio_iommu_type1"),
		IRQBalance: h.IRQBalance(),
	}
	f.NoIOMMUMode, f.NoIOMMUPresent = h.NoIOMMUMode()
	f.IOMMU.cause, f.IOMMU.next = h.WhyNoIOMMU()
	f.Unmapped.cause, f.Unmapped.next = h.WhyNoRemapping()
	central := host.ContainerNode
	if f.IOMMUFD {
		central = host.IOMMUFDNode
	}
	f.Central = readNode(h, central)
	for _, path := range h.DeviceNodes() {
		f.Nodes = append(f.Nodes, readNode(h, path))
	}
	f.MemoryLock, f.MemoryLimited, f.MemoryLockError = h.MemoryLock()
	return f
}

func readNode(h *host.Host, path string) Node {
	n := Node{Path: path, Err: h.Access(path)}
	if errors.Is(n.Err, fs.ErrPermission) {
		n.Denial = h.WhyDenied(path)
	}
	return n
}

// Checks judges the host, as far as no device is looked at: what each device needs, and then what none does.
func (f Host) Checks() []Check {
	checks := f.needed()
	if f.Driver { // which makes the nodes
		checks = append(checks, f.nodes())
	}
	return append(checks, f.beside()...)
}

// needed is what has to be there before a device can be bound to VFIO.
func (f Host) needed() []Check {
	checks := []Check{f.iommu()}
	if f.HasIOMMU {
		checks = append(checks, f.remapping())
	}
	return append(checks, f.modules())
}

func (f Host) iommu() Check {
	const id = "iommu"
	switch {
	case f.HasIOMMU && len(f.Units) > 0:
		return ok(id, "on: "+strings.Join(f.Units, ", "))
	case f.HasIOMMU:
		return ok(id, "on")
	case f.NoIOMMUMode:
		return warn(id, "there is no IOMMU, and VFIO's mode without one is on: a device can write to any memory ("+f.IOMMU.cause+")", f.IOMMU.next)
	}
	return fail(id, "there is no IOMMU: "+f.IOMMU.cause, f.IOMMU.next)
}

func (f Host) remapping() Check {
	const id = "remapping"
	switch {
	case f.Remapping == host.RemappingOn:
		return ok(id, "interrupts are remapped")
	case f.Remapping == host.RemappingUnknown:
		return unknown(id, "whether interrupts are remapped is not known: no interrupt controller of this host is one that is known here", "sudo dmesg | grep -i -e remap -e ITS")
	case len(f.Unsafe) > 0:
		return warn(id, f.Unmapped.cause+"; "+f.Unsafe[0]+" is on, so that VFIO lets it", f.Unmapped.next)
	}
	return fail(id, "VFIO hands out no device: "+f.Unmapped.cause, f.Unmapped.next)
}

func (f Host) modules() Check {
	const id = "modules"
	switch {
	case !f.Driver && f.PCI == host.ModuleAbsent:
		return fail(id, "this kernel, "+f.System.Release+", was built without vfio-pci, or its package of modules is not installed", f.System.ModulesPackage())
	case !f.Driver:
		return fail(id, "the module vfio_pci is "+f.PCI.String()+", so that there is no driver vfio-pci", "sudo modprobe vfio-pci")
	case !f.IOMMUFD && f.HasIOMMU && f.Type1 != host.ModuleLoaded && f.Type1 != host.ModuleBuiltIn:
		return fail(id, "the module vfio_iommu_type1 is "+f.Type1.String()+", without which no group can be opened", "sudo modprobe vfio_iommu_type1")
	}
	return ok(id, fmt.Sprintf("vfio_pci %v, vfio_iommu_type1 %v", f.PCI, f.Type1))
}

// nodes judges the nodes of whatever is bound to VFIO.
func (f Host) nodes() Check {
	c := checkNodes(append([]Node{f.Central}, f.Nodes...))
	if c.Status == OK && len(f.Nodes) == 0 {
		c.Cause += "; no device is bound to VFIO"
	}
	return c
}

// checkNodes judges whether this process may open all of these.
func checkNodes(nodes []Node) Check {
	const id = "nodes"
	var paths, denied []string
	var first Node
	for _, n := range nodes {
		switch {
		case errors.Is(n.Err, fs.ErrNotExist):
			return fail(id, "there is no "+n.Path+": udev has not made it yet, or this container was not given it", "sudo udevadm settle; ls -l "+n.Path)
		case errors.Is(n.Err, fs.ErrPermission):
			if denied = append(denied, n.Path); len(denied) == 1 {
				first = n
			}
		case n.Err != nil:
			return unknown(id, n.Path+" cannot be looked at: "+n.Err.Error(), "sudo ls -l "+n.Path)
		}
		paths = append(paths, n.Path)
	}
	if len(denied) == 0 {
		return ok(id, "open to this user: "+strings.Join(paths, ", "))
	}
	c := fail(id, fmt.Sprintf("%s is closed to this user: %s", first.Path, first.Denial.Cause), first.Denial.Command)
	if len(denied) > 1 {
		c.Cause += fmt.Sprintf("; and %d more", len(denied)-1)
	}
	if first.Denial.Rule != "" {
		c.Detail = "lasting, for the users of a group vfio, by a file in /etc/udev/rules.d (scripts/udev has one): " + first.Denial.Rule
	}
	return c
}

// smallLock is a limit of locked memory that hardly any driver can do its DMA with, in bytes.
const smallLock = 1 << 20

// beside is what is not in the way of interrupts, and good to know.
func (f Host) beside() []Check {
	checks := []Check{f.irqBalance(), f.memoryLock()}
	checks = append(checks, f.unsafe()...)
	return append(checks, f.abilities()...)
}

func (f Host) irqBalance() Check {
	if f.IRQBalance == 0 {
		return ok("irqbalance", "it does not run")
	}
	return warn("irqbalance", fmt.Sprintf("irqbalance (process %d) may move interrupts away from the CPUs that they were given", f.IRQBalance),
		"sudo systemctl stop irqbalance")
}

func (f Host) memoryLock() Check {
	const id, next = "memlock", "ulimit -l unlimited (as root), or LimitMEMLOCK=infinity in the unit"
	switch {
	case f.MemoryLockError != nil:
		return unknown(id, f.MemoryLockError.Error(), "ulimit -l")
	case !f.MemoryLimited:
		return ok(id, "memory for DMA is not limited")
	case f.MemoryLock < smallLock:
		return warn(id, fmt.Sprintf("only %d KiB of memory can be mapped for DMA (RLIMIT_MEMLOCK); interrupts alone need none", f.MemoryLock>>10), next)
	}
	return ok(id, fmt.Sprintf("%d KiB of memory can be mapped for DMA; interrupts alone need none", f.MemoryLock>>10))
}

// unsafe judges the settings that take the protection away.
func (f Host) unsafe() []Check {
	var checks []Check
	off := func(file string) string { return "echo 0 | sudo tee " + file }
	const mode = "/sys/module/vfio/parameters/enable_unsafe_noiommu_mode"
	// Where they are needed, the checks of IOMMU and remapping have told already.
	if len(f.Unsafe) > 0 && f.Remapping == host.RemappingOn {
		checks = append(checks, warn("unsafe-interrupts", f.Unsafe[0]+" is on, and not needed: interrupts are remapped", off(f.Unsafe[0])))
	} else if len(f.Unsafe) == 0 {
		checks = append(checks, ok("unsafe-interrupts", "allow_unsafe_interrupts is off"))
	}
	if f.NoIOMMUMode && f.HasIOMMU {
		checks = append(checks, warn("unsafe-no-iommu", mode+" is on, although there is an IOMMU: a device that is in no group can write to any memory", off(mode)))
	} else if !f.NoIOMMUMode {
		checks = append(checks, ok("unsafe-no-iommu", "enable_unsafe_noiommu_mode is off"))
	}
	return checks
}

// abilities says what the kernel can do beside; none of it is needed.
func (f Host) abilities() []Check {
	growth := "Linux before 6.5 enables the messages of MSI-X all at once and adds none later (by its version, " + f.System.Release + ")"
	if f.System.AtLeast(6, 5) {
		growth = "messages of MSI-X can be added to those that are enabled (by the kernel's version, " + f.System.Release + ")"
	}
	byNode := "no: devices are opened through their groups"
	if f.IOMMUFD {
		byNode = "yes: devices can be opened by nodes of their own"
	}
	mode := "no: the kernel has no mode without an IOMMU, or vfio is not loaded"
	switch {
	case f.NoIOMMUMode:
		mode = "the mode without an IOMMU is on"
	case f.NoIOMMUPresent:
		mode = "the mode without an IOMMU is there, and off"
	}
	checks := []Check{ok("iommufd", byNode), ok("no-iommu-mode", mode)}
	if f.System.Release != "" {
		checks = append([]Check{ok("msix-growth", growth)}, checks...)
	}
	return checks
}
