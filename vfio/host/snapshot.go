package host

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/irqbridge/irqbridge/pci"
)

// Snapshot is what a host tells about one PCI device and the others of its IOMMU group, without what would tell whose machine
// it is: something to attach to a report, to look at elsewhere, and to make a fake device of. [Host.Snapshot] takes one,
// [ParseSnapshot] reads its text. It does not change.
type Snapshot struct {
	// Address is the device that it was taken of.
	Address pci.Address
	// LeftOut says what was there and is not in it, a line each.
	LeftOut []string
	// Unreadable says what could not be read, a line each: a snapshot that root did not take has 64 bytes of configuration space.
	Unreadable []string

	configs map[pci.Address][]byte
	entries map[string]entry // of the tree of files, by absolute path
}

// entry is a file, a link, or something that is only known to be there: a directory or a device node.
type entry struct {
	kind entryKind
	text string // of a file, without the line end; of a link, the last component of its target
}

type entryKind int

const (
	present entryKind = iota
	file
	link
)

// The attributes of a function in sysfs that a snapshot has, where they exist, in directories below its own.
var (
	snapshotAttributes = []string{
		"ari_enabled", "boot_vga", "class", "consistent_dma_mask_bits", "current_link_speed", "current_link_width", "d3cold_allowed", "device",
		"dma_mask_bits", "driver_override", "enable", "irq", "local_cpulist", "max_link_speed", "max_link_width", "modalias", "msi_bus", "numa_node",
		"power/control", "power/runtime_status", "power_state", "reset_method", "resource", "revision", "sriov_numvfs", "sriov_totalvfs",
		"subsystem_device", "subsystem_vendor", "vendor",
	}
	snapshotLinks = []string{"driver", "iommu", "iommu_group", "physfn"}
	// snapshotHost are files of the whole host.
	snapshotHost = []string{
		"/proc/sys/kernel/osrelease", "/sys/devices/system/cpu/online",
		"/sys/module/vfio/parameters/enable_unsafe_noiommu_mode", "/sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts",
		"/sys/module/vfio_pci/parameters/disable_idle_d3", "/sys/module/vfio_pci/parameters/nointxmask",
	}
)

// placeName is where a function is below /sys/devices, behind which bridges: where its link in devicesDir leads.
const placeName = "sysfs-path"

// Snapshot reads what there is to know about the device at a, and changes nothing. What cannot be read is missing, and told in
// Unreadable. fs.ErrNotExist when there is no such device.
func (h *Host) Snapshot(a pci.Address) (*Snapshot, error) {
	d, err := h.Device(a)
	if err != nil {
		return nil, err
	}
	t := taker{
		host: h, private: h.private(),
		Snapshot: &Snapshot{Address: a, configs: map[pci.Address][]byte{}, entries: map[string]entry{}},
	}
	for _, name := range snapshotHost {
		t.file(name)
	}
	for _, name := range t.names("/sys/class/iommu") {
		t.entries["/sys/class/iommu/"+name] = entry{}
	}
	for _, name := range []string{IOMMUFDNode, ContainerNode} {
		t.node(name)
	}
	functions := []pci.Address{a}
	if d.Group >= 0 {
		dir := fmt.Sprintf("%s/%d", groupsDir, d.Group)
		t.file(dir + "/name")
		t.file(dir + "/type")
		for _, name := range t.names(dir + "/devices") {
			t.entries[dir+"/devices/"+name] = entry{}
			if member, err := pci.ParseAddress(name); err == nil && member != a {
				functions = append(functions, member)
			}
		}
	}
	irqs := map[int]bool{}
	for _, f := range functions {
		t.function(f, irqs)
	}
	t.interrupts(functions, irqs)
	slices.Sort(t.LeftOut)
	t.LeftOut = slices.Compact(t.LeftOut)
	slices.Sort(t.Unreadable)
	t.Unreadable = slices.Compact(t.Unreadable)
	return t.Snapshot, nil
}

// taker is a snapshot being taken.
type taker struct {
	*Snapshot
	host    *Host
	private private
}

// content is the text of a file, without the space at the ends of its lines and the empty lines at its end.
func (t *taker) content(name string) (string, bool) {
	b, err := t.host.os.ReadFile(name)
	if err != nil {
		t.unreadable(name, err)
		return "", false
	}
	var lines []string
	for line := range strings.Lines(string(b)) {
		lines = append(lines, strings.TrimRight(line, " \t\r\n\x00"))
	}
	return strings.TrimRight(strings.Join(lines, "\n"), "\n"), true
}

// unreadable notes what is there and cannot be read. An attribute may also refuse to be read because it has nothing to say
// (EINVAL), as those of a link have where there is none.
func (t *taker) unreadable(name string, err error) {
	if errors.Is(err, fs.ErrPermission) {
		t.Unreadable = append(t.Unreadable, name+": permission denied")
	}
}

func (t *taker) file(name string) {
	if text, ok := t.content(name); ok {
		t.entries[name] = entry{file, t.scrub(name, text)}
	}
}

func (t *taker) node(name string) {
	if t.host.os.Exists(name) {
		t.entries[name] = entry{}
	}
}

// names are the names in a directory that can stand in the text.
func (t *taker) names(dir string) []string {
	names, err := t.host.os.ReadDir(dir)
	if err != nil {
		t.unreadable(dir, err)
	}
	return slices.DeleteFunc(names, func(name string) bool { return !goodName(name) })
}

// function takes one PCI function, and the numbers of its interrupts.
func (t *taker) function(a pci.Address, irqs map[int]bool) {
	dir := devicesDir + "/" + a.String()
	for _, name := range snapshotAttributes {
		t.file(dir + "/" + name)
	}
	if target, err := t.host.os.Readlink(dir); err == nil {
		if place, ok := strings.CutPrefix(path.Join(devicesDir, target), "/sys/devices/"); ok {
			t.entries[dir+"/"+placeName] = entry{file, place}
		}
	}
	for _, name := range snapshotLinks {
		if target, err := t.host.os.Readlink(dir + "/" + name); err == nil && goodName(path.Base(target)) {
			t.entries[dir+"/"+name] = entry{link, path.Base(target)}
		}
	}
	if t.host.os.Exists(dir + "/vfio-dev") {
		t.entries[dir+"/vfio-dev"] = entry{}
		for _, name := range t.names(dir + "/vfio-dev") {
			t.entries[dir+"/vfio-dev/"+name] = entry{}
			t.node(deviceNodesDir + "/" + name)
		}
	}
	for _, name := range t.names(dir + "/msi_irqs") {
		t.file(dir + "/msi_irqs/" + name)
		if n, err := strconv.Atoi(name); err == nil {
			irqs[n] = true
		}
	}
	// While the function is disabled, irq is what the firmware wrote: another device may have that number.
	if n, err := strconv.Atoi(t.entries[dir+"/irq"].text); err == nil && n > 0 {
		if enables, err := strconv.Atoi(t.entries[dir+"/enable"].text); err == nil && enables > 0 {
			irqs[n] = true
		}
	}
	if node := t.entries[dir+"/numa_node"].text; node != "" && node != "-1" {
		t.file("/sys/devices/system/node/node" + node + "/cpulist")
	}
	config, err := t.host.Config(a)
	if err != nil {
		t.Unreadable = append(t.Unreadable, fmt.Sprintf("configuration space of %v: %v", a, bare(err)))
		return
	}
	if config = config[:min(len(config), 4096)]; len(config) == 64 {
		t.Unreadable = append(t.Unreadable, fmt.Sprintf("configuration space of %v from 0x40 on: only root may read it", a))
	}
	config = bytes.Clone(config)
	for _, what := range t.private.redact(config) {
		t.LeftOut = append(t.LeftOut, fmt.Sprintf("%v: %s", a, what))
	}
	t.configs[a] = config
}

// interrupts takes the lines of /proc/interrupts that are about the functions, and where these are delivered.
func (t *taker) interrupts(functions []pci.Address, irqs map[int]bool) {
	const name = "/proc/interrupts"
	text, ok := t.content(name)
	if !ok {
		return
	}
	header, rows, _ := strings.Cut(text, "\n")
	kept := []string{header}
	found := map[int]bool{}
	for line := range strings.Lines(rows) {
		line = strings.TrimSuffix(line, "\n")
		label, rest, _ := strings.Cut(line, ":")
		n, err := strconv.Atoi(strings.TrimLeft(label, " "))
		if err != nil {
			continue // NMI and the like
		}
		mine := irqs[n] || slices.ContainsFunc(functions, func(a pci.Address) bool { return strings.Contains(rest, a.String()) })
		if mine {
			kept, found[n] = append(kept, t.scrub(name, line)), true
		}
	}
	t.entries[name] = entry{file, strings.Join(kept, "\n")}
	for n := range maps.Keys(found) {
		t.file(irqDir(n) + "/smp_affinity_list")
		t.file(irqDir(n) + "/effective_affinity_list")
		t.file(fmt.Sprintf("/sys/kernel/irq/%d/type", n))
	}
}

// Config is the device's configuration space, as far as it could be read. The caller may not change it.
func (s *Snapshot) Config() []byte { return s.configs[s.Address] }

// Kernel is the release of the kernel that it was taken on: "6.1.0-37-amd64"; "" when it is not known.
func (s *Snapshot) Kernel() string { return s.entries["/proc/sys/kernel/osrelease"].text }

// Attribute is the text of an attribute of a function in sysfs; "" when the snapshot has none.
func (s *Snapshot) Attribute(a pci.Address, name string) string {
	return s.entries[devicesDir+"/"+a.String()+"/"+name].text
}

// MessageIRQs is how many host IRQs a function had for messages of MSI or MSI-X.
func (s *Snapshot) MessageIRQs(a pci.Address) int {
	prefix, n := devicesDir+"/"+a.String()+"/msi_irqs/", 0
	for name := range s.entries {
		if strings.HasPrefix(name, prefix) {
			n++
		}
	}
	return n
}
