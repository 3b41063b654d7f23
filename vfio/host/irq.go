package host

import "github.com/irqbridge/irqbridge/pci"

// IRQ is one line of /proc/interrupts: a Linux interrupt and where it was delivered so far.
type IRQ struct {
	Number  int            `json:"number"`           // the host IRQ number, as in /proc/irq/N
	Trigger string         `json:"trigger"`          // "edge" or "level"; "" when the host does not say
	Chip    string         `json:"chip"`             // the irq_chip: "IR-PCI-MSIX-0000:00:05.0", "IR-IO-APIC"
	Action  string         `json:"action"`           // the handler's name: "vfio-msix[3](0000:00:05.0)"
	Shared  []string       `json:"shared,omitempty"` // other handlers on the same line
	Counts  map[int]uint64 `json:"counts"`           // interrupts delivered since the IRQ was requested, by online CPU. Loopback triggers do not count.
}

// FindIRQ returns the host IRQ behind message of the device at a, while VFIO has it enabled with an eventfd. message is 0
// for INTx. fs.ErrNotExist when there is none.
func (h *Host) FindIRQ(a pci.Address, kind pci.Kind, message int) (IRQ, error) { return IRQ{}, nil }

// IRQCounts returns how often the host IRQ was delivered, by online CPU; fs.ErrNotExist when there is no such IRQ.
func (h *Host) IRQCounts(number int) (map[int]uint64, error) { return nil, nil }
