package host

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"

	"github.com/irqbridge/irqbridge/pci"
)

// groupsDir has one directory for each IOMMU group, named by its number.
const groupsDir = "/sys/kernel/iommu_groups"

// Group is one IOMMU group: the devices that the IOMMU cannot keep apart, so that VFIO hands out all of them or none.
type Group struct {
	ID      int
	Members []Device // sorted by address
	Others  []string // members that are no PCI devices, by their name on their own bus
}

// Blockers returns the members that keep the group from being viable, which are those that a driver uses for the host. The
// group is viable when there are none. A member does not block when it is unbound, or bound to a VFIO driver, pcieport or
// pci-stub: these set driver_managed_dma, that is they leave the device's DMA alone. For bridges there is no other
// exception: one without a driver does not block, one with the hotplug driver shpchp does (measured on Linux 6.1 and 7.3).
// Members in Others are not judged.
func (g Group) Blockers() []Device {
	var blockers []Device
	for _, d := range g.Members {
		harmless := d.Driver == "" || d.VFIO || d.Driver == "pcieport" || d.Driver == "pci-stub"
		if !harmless {
			blockers = append(blockers, d)
		}
	}
	return blockers
}

// NotViable says in words what keeps the group from being handed out, leaving out the device except, and which devices
// these are; "" when nothing does.
func (g Group) NotViable(except pci.Address) (cause string, blockers []Device) {
	var names []string
	for _, b := range g.Blockers() {
		if b.Address != except {
			blockers = append(blockers, b)
			names = append(names, fmt.Sprintf("%v, bound to %s", b.Address, b.Driver))
		}
	}
	if len(blockers) == 0 {
		return "", nil
	}
	return fmt.Sprintf("group %d is not viable: the IOMMU cannot keep the device apart from %s", g.ID, strings.Join(names, ", ")), blockers
}

// Groups returns every IOMMU group by ascending number; none without an IOMMU. Errors are as for [Host.Devices].
func (h *Host) Groups() ([]Group, error) {
	names, err := h.os.ReadDir(groupsDir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, &Error{Op: "list IOMMU groups", Err: err}
	}
	var groups []Group
	var failed []error
	for _, name := range names {
		id, err := strconv.ParseUint(name, 10, 31)
		if err != nil {
			continue // the kernel makes no such entry, and it is not a group
		}
		g, err := h.Group(int(id))
		if errors.Is(err, fs.ErrNotExist) {
			continue // its last member left during the scan
		}
		if err != nil {
			failed = append(failed, err)
		}
		groups = append(groups, g)
	}
	slices.SortFunc(groups, func(a, b Group) int { return cmp.Compare(a.ID, b.ID) })
	return groups, errors.Join(failed...)
}

// Group returns one IOMMU group; fs.ErrNotExist when there is none of that number. A member that vanishes during the scan is
// left out. With an error about a member, the others are returned all the same.
func (h *Host) Group(id int) (Group, error) {
	names, err := h.os.ReadDir(groupsDir + "/" + strconv.Itoa(id) + "/devices")
	if err != nil {
		return Group{ID: id}, &Error{Subject: fmt.Sprintf("IOMMU group %d", id), Op: "list its devices", Err: err}
	}
	g := Group{ID: id}
	g.Members, g.Others, err = h.devices(names)
	return g, err
}

// HasIOMMU tells whether an IOMMU is at work: whether there is any IOMMU group but the ones that VFIO makes up in its
// no-IOMMU mode.
func (h *Host) HasIOMMU() bool {
	names, _ := h.os.ReadDir(groupsDir)
	for _, name := range names {
		if id, err := strconv.Atoi(name); err != nil || !h.NoIOMMUGroup(id) {
			return true
		}
	}
	return false
}
