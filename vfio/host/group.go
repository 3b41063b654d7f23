package host

// Group is one IOMMU group: the devices that the IOMMU cannot keep apart, so that VFIO hands out all or none.
type Group struct {
	ID      int      `json:"id"`
	Members []Device `json:"members"`          // sorted by address
	Others  []string `json:"others,omitempty"` // members that are no PCI devices, by their name on their bus
}

// Blockers returns the members that keep the group from being viable: those bound to a driver that uses the device for
// the host. It is viable when there is none. Unbound devices, VFIO drivers and pci-stub, bridges and their
// pcieport driver do not block.
func (g Group) Blockers() []Device { return nil }

// Groups returns every IOMMU group by ascending number; none without an IOMMU.
func (h *Host) Groups() ([]Group, error) { return nil, nil }

// Group returns one IOMMU group; fs.ErrNotExist when there is none of that number.
func (h *Host) Group(id int) (Group, error) { return Group{}, nil }

// HasIOMMU tells whether an IOMMU is at work: whether any IOMMU group exists that is not one of VFIO's no-IOMMU groups.
func (h *Host) HasIOMMU() bool { return false }
