package host

import "github.com/irqbridge/irqbridge/pci"

// InUse tells why the host would miss the device at a: one sentence for each reason, none when it can be taken away.
func (h *Host) InUse(a pci.Address) ([]string, error) { return nil, nil }
