package vfiotest

import (
	"fmt"
	"maps"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/irqbridge/irqbridge/vfio/host"
)

// processCPUs are the CPUs that the process may use, which are the machine's. Single threads of it, also its first one, may
// have been bound to less, but hardly all.
func processCPUs() host.CPUSet {
	threads, _ := os.ReadDir("/proc/self/task")
	var all host.CPUSet
	for _, thread := range threads {
		if id, err := strconv.Atoi(thread.Name()); err == nil {
			cpus, _ := affinityOf(id) // none, when it has just ended
			all = all.Or(cpus)
		}
	}
	if all.Empty() {
		return host.CPUSetOf(0)
	}
	return all
}

// root is the tree of files.
func (k *Kernel) root() node {
	return node{dir: func() map[string]node {
		entries := k.savedDir("")
		entries["sys"] = node{dir: k.sysDir}
		entries["proc"] = node{dir: k.procDir}
		nodes := map[string]node{"vfio": {dir: k.nodeDir}}
		if k.iommufd {
			nodes["iommu"] = node{}
		}
		entries["dev"] = directory(nodes)
		entries["etc"] = node{dir: k.etcDir}
		return entries
	}}
}

// nodeDir is /dev/vfio.
func (k *Kernel) nodeDir() map[string]node {
	entries := map[string]node{}
	if k.loaded("vfio_pci") { // the module vfio comes and goes with it
		entries["vfio"] = node{}
	}
	for _, g := range k.groups {
		if g.hasNode() {
			entries[g.nodeName()] = node{}
		}
	}
	if k.iommufd {
		devices := map[string]node{}
		for _, f := range k.functions {
			if f.vfioDev >= 0 {
				devices[f.vfioName()] = node{}
			}
		}
		entries["devices"] = directory(devices)
	}
	return entries
}

// vfioName is the function's name in vfio-dev, which is that of its node. The node of one without an IOMMU can be seen, but
// not opened.
func (f *function) vfioName() string {
	if f.kernel.iommufd && f.group.madeUp {
		return fmt.Sprintf("noiommu-vfio%d", f.vfioDev)
	}
	return fmt.Sprintf("vfio%d", f.vfioDev)
}

// charDir is /sys/dev/char, as far as it has the nodes of devices.
func (k *Kernel) charDir() map[string]node {
	entries := map[string]node{}
	for _, f := range k.functions {
		if k.iommufd && f.vfioDev >= 0 {
			entries[fmt.Sprintf("%d:%d", cdevMajor, f.vfioDev)] = node{link: fmt.Sprintf("../../%s/vfio-dev/%s", f.devicePath(), f.vfioName())}
		}
	}
	return entries
}

func (k *Kernel) sysDir() map[string]node {
	return map[string]node{
		"bus":      directory(map[string]node{"pci": {dir: k.busDir}}),
		"class":    {dir: k.classDir},
		"dev":      directory(map[string]node{"char": {dir: k.charDir}}),
		"devices":  {dir: k.devicesDir},
		"firmware": directory(map[string]node{"acpi": directory(map[string]node{"tables": directory(map[string]node{"DMAR": {}, "FACP": {}})})}),
		"kernel":   {dir: k.kernelDir},
		"module":   {dir: k.moduleDir},
	}
}

// moduleDir is /sys/module.
func (k *Kernel) moduleDir() map[string]node {
	unsafeInterrupts := "N\n"
	if k.unsafeInterrupts {
		unsafeInterrupts = "Y\n"
	}
	modules := map[string]node{
		"e1000": k.module(nil), "e1000e": k.module(nil), "pci_stub": k.module(nil), "vfio": k.module(k.vfioModule()), "vfio_pci": k.module(nil),
		"vfio_iommu_type1": k.module(map[string]node{
			"parameters": directory(map[string]node{
				"allow_unsafe_interrupts": text(unsafeInterrupts),
				"dma_entry_limit":         {read: func() string { return strconv.Itoa(k.mappingLimit) + "\n" }, write: k.writeMappingLimit},
			}),
		}),
	}
	for _, d := range k.drivers {
		if d.foreign {
			modules[d.module] = k.module(nil)
		}
	}
	for _, name := range k.unloaded {
		delete(modules, name)
	}
	return modules
}

// vfioModule is /sys/module/vfio.
func (k *Kernel) vfioModule() map[string]node {
	parameters := map[string]node{}
	if k.hasNoIOMMU {
		parameters["enable_unsafe_noiommu_mode"] = node{
			read: func() string {
				if k.noIOMMU {
					return "Y\n"
				}
				return "N\n"
			},
			write: func(s string) error {
				switch {
				case strings.HasPrefix(s, "Y"), strings.HasPrefix(s, "1"):
					k.noIOMMU = true
				case strings.HasPrefix(s, "N"), strings.HasPrefix(s, "0"):
					k.noIOMMU = false
				default:
					return unix.EINVAL
				}
				return nil
			},
		}
	}
	return map[string]node{"parameters": directory(parameters)}
}

// busDir is /sys/bus/pci.
func (k *Kernel) busDir() map[string]node {
	return map[string]node{
		"devices": {dir: func() map[string]node {
			entries := map[string]node{}
			for _, f := range k.functions {
				entries[f.address.String()] = node{link: "../../../" + f.devicePath()}
			}
			return entries
		}},
		"drivers": {dir: func() map[string]node {
			entries := map[string]node{}
			for _, d := range k.drivers {
				entries[d.name] = node{dir: func() map[string]node { return k.driverDir(d) }}
			}
			return entries
		}},
		"drivers_probe": {write: k.probe},
		"rescan": {write: func(string) error {
			k.scan()
			return nil
		}},
	}
}

// driverDir is /sys/bus/pci/drivers/DRIVER.
func (k *Kernel) driverDir(d *driver) map[string]node {
	entries := map[string]node{
		"bind":   {write: func(s string) error { return k.bind(d, s) }},
		"unbind": {write: func(s string) error { return k.unbind(d, s) }},
		"module": {link: "../../../../module/" + d.module},
	}
	for _, f := range k.functions {
		if f.driver == d {
			entries[f.address.String()] = node{link: "../../../../" + f.devicePath()}
		}
	}
	return entries
}

// classDir is /sys/class, as far as it shows what PCI devices are used for.
func (k *Kernel) classDir() map[string]node {
	entries := map[string]node{"block": directory(nil), "iommu": directory(nil)}
	if !k.withoutIOMMU {
		entries["iommu"] = directory(map[string]node{"dmar0": {link: "../../devices/virtual/iommu/dmar0"}})
	}
	interfaces, groups, devices := map[string]node{}, map[string]node{}, map[string]node{}
	for _, f := range k.functions {
		if f.netdev != "" {
			interfaces[f.netdev] = node{link: fmt.Sprintf("../../%s/net/%s", f.devicePath(), f.netdev)}
		}
		if f.vfioDev >= 0 {
			name := f.vfioName()
			devices[name] = node{link: fmt.Sprintf("../../%s/vfio-dev/%s", f.devicePath(), name)}
		}
	}
	for _, g := range k.groups {
		if g.hasNode() {
			groups[g.nodeName()] = node{link: "../../devices/virtual/vfio/" + g.nodeName()}
		}
	}
	entries["net"], entries["vfio"], entries["vfio-dev"] = directory(interfaces), directory(groups), directory(devices)
	return entries
}

// devicesDir is /sys/devices.
func (k *Kernel) devicesDir() map[string]node {
	online := text(k.cpus.List() + "\n")
	entries := map[string]node{
		"system": directory(map[string]node{"cpu": directory(map[string]node{
			"online": online, "possible": online, "present": online, "isolated": text("\n"),
		})}),
	}
	for _, f := range k.functions {
		if f.behind == nil {
			entries[f.root] = node{dir: func() map[string]node {
				children := k.childrenOf(nil)
				maps.DeleteFunc(children, func(name string, _ node) bool { return k.named(name).root != f.root })
				return children
			}}
		}
	}
	return entries
}

// childrenOf are the directories of the functions behind a bridge, or on the root bus.
func (k *Kernel) childrenOf(bridge *function) map[string]node {
	entries := map[string]node{}
	for _, f := range k.functions {
		if f.behind == bridge {
			entries[f.address.String()] = node{dir: f.dir}
		}
	}
	return entries
}

// kernelDir is /sys/kernel.
func (k *Kernel) kernelDir() map[string]node {
	return map[string]node{
		"irq": {dir: k.irqInfoDir}, "iommu_groups": {dir: k.groupsDir}, "mm": directory(map[string]node{"hugepages": {dir: k.hugePagesDir}}),
	}
}

// groupsDir is /sys/kernel/iommu_groups.
func (k *Kernel) groupsDir() map[string]node {
	groups := map[string]node{}
	for _, g := range k.groups {
		members := map[string]node{}
		for _, f := range g.members {
			members[f.address.String()] = node{link: "../../../../" + f.devicePath()}
		}
		attributes := map[string]node{
			"devices":          directory(members),
			"reserved_regions": text("0x00000000fee00000 0x00000000feefffff msi\n"),
			"type":             text("DMA\n"),
		}
		if g.madeUp {
			attributes["name"] = text("vfio-noiommu\n")
			attributes["reserved_regions"] = text("")
			attributes["type"] = text("unknown\n")
		}
		groups[strconv.Itoa(g.id)] = directory(attributes)
	}
	return groups
}

// irqInfoDir is /sys/kernel/irq.
func (k *Kernel) irqInfoDir() map[string]node {
	entries := map[string]node{}
	for n, i := range k.irqs {
		entries[strconv.Itoa(n)] = node{dir: func() map[string]node {
			counts := make([]string, 0, k.cpus.Len())
			for cpu := range k.cpus.All() {
				counts = append(counts, strconv.FormatUint(i.counts[cpu], 10))
			}
			return map[string]node{
				"actions":       text(strings.Join(i.names(), ",") + "\n"),
				"chip_name":     text(i.chip + "\n"),
				"hwirq":         text(strconv.Itoa(i.hwirq) + "\n"),
				"name":          text(i.flow + "\n"),
				"per_cpu_count": text(strings.Join(counts, ",") + "\n"),
				"type":          text(i.trigger() + "\n"),
				"wakeup":        text("disabled\n"),
			}
		}}
	}
	return entries
}

// devicePath is where the function's directory is, below /sys.
func (f *function) devicePath() string {
	if f.behind != nil {
		return f.behind.devicePath() + "/" + f.address.String()
	}
	return "devices/" + f.root + "/" + f.address.String()
}

// dir is the function's directory in sysfs.
func (f *function) dir() map[string]node {
	k := f.kernel
	up := strings.Repeat("../", strings.Count(f.devicePath(), "/")+1)
	entries := k.childrenOf(f)
	// Every look at a device's directory comes here: what takes time is left to the reading of the file.
	hex := func(name string, off, width int) {
		entries[name] = node{read: func() string {
			return fmt.Sprintf("0x%0*x\n", 2*width, littleEndian(f.config[off:off+width]))
		}}
	}
	hex("vendor", 0x00, 2)
	hex("device", 0x02, 2)
	hex("class", 0x09, 3)
	hex("revision", 0x08, 1)
	entries["subsystem_vendor"] = node{read: func() string { return f.subsystem(0) }}
	entries["subsystem_device"] = node{read: func() string { return f.subsystem(2) }}
	entries["config"] = node{read: f.configFile}
	entries["enable"] = node{read: func() string { return strconv.Itoa(f.enables) + "\n" }}
	entries["irq"] = node{read: func() string { return strconv.Itoa(f.currentIRQ()) + "\n" }}
	entries["numa_node"] = text(f.numaNode + "\n")
	entries["local_cpulist"] = node{read: func() string { return k.cpus.List() + "\n" }}
	entries["power_state"] = node{read: func() string { return f.powerState() + "\n" }}
	entries["power"] = directory(map[string]node{"runtime_status": {read: f.runtimeStatus}, "control": text("auto\n")})
	entries["msi_bus"] = text("1\n")
	entries["modalias"] = node{read: f.modalias}
	entries["driver_override"] = node{read: f.readOverride, write: f.writeOverride}
	entries["remove"] = node{write: func(string) error { return k.remove(f) }}
	entries["subsystem"] = node{link: up + "bus/pci"}
	if !f.isBridge() || f.resource != "" { // whose windows are not modelled
		entries["resource"] = node{read: f.resources}
	}
	if f.reset != resetNone {
		entries["reset_method"] = text(string(f.reset) + "\n")
	}
	if f.driver != nil {
		entries["driver"] = node{link: up + "bus/pci/drivers/" + f.driver.name}
	}
	if f.group != nil {
		entries["iommu_group"] = node{link: fmt.Sprintf("%skernel/iommu_groups/%d", up, f.group.id)}
	}
	if f.vfioDev >= 0 {
		attributes := map[string]node{}
		if k.iommufd {
			attributes["dev"] = text(fmt.Sprintf("%d:%d\n", cdevMajor, f.vfioDev))
		}
		entries["vfio-dev"] = directory(map[string]node{f.vfioName(): directory(attributes)})
	}
	if f.netdev != "" {
		entries["net"] = directory(map[string]node{f.netdev: directory(map[string]node{
			"flags":     text("0x1002\n"), // broadcast, multicast; not up
			"operstate": text("down\n"),
		})})
	}
	if f.hadMessages {
		kind := "msi\n"
		if f.msixEnabled() {
			kind = "msix\n"
		}
		irqs := map[string]node{}
		for _, i := range f.messages {
			irqs[strconv.Itoa(i.number)] = text(kind)
		}
		entries["msi_irqs"] = directory(irqs)
	}
	return entries
}

// configFile is what the attribute config holds: the hardware's configuration space.
func (f *function) configFile() string {
	p := make([]byte, len(f.config))
	f.readConfig(p, 0)
	if f.asleep() {
		p[f.pm+pmControl] |= 3
	}
	return string(p)
}

// subsystem is the subsystem's vendor or, 2 further, device. A bridge has none in its header.
func (f *function) subsystem(off int) string {
	if f.isBridge() {
		return "0x0000\n"
	}
	return fmt.Sprintf("0x%04x\n", f.word(0x2c+off))
}

// currentIRQ is the number of the line's interrupt or, while MSI is enabled, of the first message's.
func (f *function) currentIRQ() int {
	if i := f.messages[0]; i != nil && f.msiEnabled() {
		return i.number
	}
	if f.pin == 0 {
		return 0
	}
	return f.shownIRQ
}

// asleep tells whether the user lets the function sleep, and it can.
func (f *function) asleep() bool { return f.pm != 0 && f.device != nil && f.device.low.on }

// powerState is the attribute power_state. Linux 6.1 does not know it before a driver asked.
func (f *function) powerState() string {
	switch {
	case f.power() != 0, f.asleep():
		return "D3hot"
	case !f.stateKnown && f.kernel.version == V6_1:
		return "unknown"
	}
	return "D0"
}

// runtimeStatus is the attribute power/runtime_status.
func (f *function) runtimeStatus() string {
	if f.driver != nil && f.driver.vfio && f.device == nil || f.asleep() {
		return "suspended\n"
	}
	return "active\n"
}

// resources is the attribute resource: start, end and flags (IORESOURCE_*) of each BAR.
func (f *function) resources() string {
	const (
		io, memory, readOnlySizes = 0x100, 0x200, 0x40000
		none                      = "0x0000000000000000 0x0000000000000000 0x0000000000000000\n"
	)
	if f.resource != "" {
		return f.resource
	}
	var b strings.Builder
	for i, bar := range f.bars {
		if bar.size == 0 {
			b.WriteString(none)
			continue
		}
		register := littleEndian(f.config[offBAR0+4*i : offBAR0+4*i+4])
		start, flags := register&^0xf, uint64(memory)
		if bar.io {
			start, flags = register&^0x3, io|1
		} else if register&0x4 != 0 {
			flags |= 0x100000 | 0x4 // IORESOURCE_MEM_64
		}
		fmt.Fprintf(&b, "0x%016x 0x%016x 0x%016x\n", start, start+bar.size-1, flags|readOnlySizes)
	}
	return b.String() + strings.Repeat(none, 7)
}

// modalias is the attribute modalias, by which drivers are found.
func (f *function) modalias() string {
	class := littleEndian(f.config[0x09:0x0c])
	subvendor, subdevice := f.subsystem(0), f.subsystem(2)
	return fmt.Sprintf("pci:v%08Xd%08Xsv0000%ssd0000%sbc%02Xsc%02Xi%02X\n", f.word(0), f.word(2),
		strings.ToUpper(subvendor[2:6]), strings.ToUpper(subdevice[2:6]), class>>16, class>>8&0xff, class&0xff)
}

func (f *function) readOverride() string {
	if f.override == "" {
		return "(null)\n"
	}
	return f.override + "\n"
}

// writeOverride sets driver_override. A newline, or nothing, clears it.
func (f *function) writeOverride(s string) error {
	if len(s) >= os.Getpagesize()-1 {
		return unix.EINVAL
	}
	s, _, _ = strings.Cut(s, "\x00")
	s, _, _ = strings.Cut(s, "\n")
	f.override = s
	return nil
}

// procDir is /proc.
func (k *Kernel) procDir() map[string]node {
	entries := k.processDirs()
	entries["cmdline"] = node{read: k.commandLine}
	entries["cpuinfo"] = text("processor\t: 0\nvendor_id\t: GenuineIntel\n")
	entries["interrupts"] = node{read: k.interruptTable}
	entries["irq"] = node{dir: k.irqDir}
	entries["swaps"] = text("Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n")
	entries["sys"] = directory(map[string]node{"kernel": directory(map[string]node{"osrelease": text(k.release() + "\n")})})
	entries["self"] = directory(map[string]node{
		"mountinfo": text(""), "cgroup": text("0::/\n"), "limits": {read: k.limits}, "status": {read: k.selfStatus},
	})
	return entries
}

// release is what the kernel is called.
func (k *Kernel) release() string {
	if k.snapshot != nil && k.snapshot.Kernel() != "" {
		return k.snapshot.Kernel()
	}
	if k.version == V6_1 {
		return "6.1.0"
	}
	return "7.3.0"
}

// irqDir is /proc/irq.
func (k *Kernel) irqDir() map[string]node {
	entries := map[string]node{"default_smp_affinity": text(k.cpus.Mask() + "\n")}
	for n, i := range k.irqs {
		if i.shown {
			entries[strconv.Itoa(n)] = node{dir: i.dir}
		}
	}
	return entries
}

// dir is /proc/irq/N.
func (i *irq) dir() map[string]node {
	effective := host.CPUSetOf(i.cpu)
	entries := map[string]node{
		"smp_affinity":            {read: func() string { return i.affinity.Mask() + "\n" }, write: i.writeMask},
		"smp_affinity_list":       {read: func() string { return i.affinity.List() + "\n" }, write: i.writeList},
		"effective_affinity":      text(effective.Mask() + "\n"),
		"effective_affinity_list": text(effective.List() + "\n"),
		"node":                    text("0\n"),
		"spurious":                text("count 0\nunhandled 0\nlast_unhandled 0 ms\n"),
	}
	for _, name := range i.names() {
		entries[name] = directory(nil)
	}
	return entries
}

// writeList is a write to smp_affinity_list. A CPU that the machine cannot have is ERANGE.
func (i *irq) writeList(s string) error {
	cpus, err := host.ParseCPUList(s)
	if err != nil {
		return unix.EINVAL
	}
	for cpu := range cpus.All() {
		if cpu > i.kernel.lastCPU() {
			return unix.ERANGE
		}
	}
	return i.setAffinity(cpus)
}

// writeMask is a write to smp_affinity. A CPU that the machine cannot have is EOVERFLOW.
func (i *irq) writeMask(s string) error {
	cpus, err := host.ParseCPUMask(s)
	if err != nil {
		return unix.EINVAL
	}
	for cpu := range cpus.All() {
		if cpu > i.kernel.lastCPU() {
			return unix.EOVERFLOW
		}
	}
	return i.setAffinity(cpus)
}

// lastCPU is the highest CPU number that the machine can have.
func (k *Kernel) lastCPU() int {
	last := 0
	for cpu := range k.cpus.All() {
		last = cpu
	}
	return last
}
