package connect

import (
	"errors"
	"fmt"

	"github.com/irqbridge/irqbridge/pci"
	"github.com/irqbridge/irqbridge/vfio/host"
)

// Plan tells what [Assign] would give to a device with this configuration space in a process that has assigned nothing
// yet, on a host that has vectors enough and these CPUs for the process. It needs no device and changes nothing. The
// kind is 0 for a device without interrupts. A Kind in the policy must be there; CPUs in it that are not in cpus are
// left out.
//
// Three things it cannot know: how many messages the host can really give, the number of a line that the firmware
// left without one, and which CPUs are close to the device, for which it takes all.
func Plan(f *pci.Function, p Policy, cpus host.CPUSet) (pci.ResourceList, pci.Kind, error) {
	list := pci.ResourceList{InterfaceType: pci.InterfacePCIBus}
	if !p.CPUs.Empty() {
		cpus = p.CPUs.And(cpus)
	}
	if cpus.Empty() {
		return list, 0, fmt.Errorf("plan: %w", errNoCPU)
	}
	choices, err := options(f, p, func(pci.Kind) (int, error) { return maxMessages, nil })
	if err != nil || len(choices) == 0 {
		return list, 0, err
	}
	best := choices[0]
	if list.Raw, err = pci.RawResources(f, best.kind, best.n); err != nil {
		return list, 0, err
	}
	var table vectorTable
	for i, to := range p.affinities(cpus, best.kind, len(list.Raw)) {
		t, ok := translate(list.Raw[i], to, &table)
		if !ok {
			return list, 0, errors.New("plan: more messages than there are vectors")
		}
		list.Translated = append(list.Translated, t)
	}
	return list, best.kind, nil
}

// maxMessages is the largest MSI-X table: PCI Express Base Specification 7.7.2.2.
const maxMessages = 2048
