package connect

import (
	"fmt"
	"slices"

	"github.com/irqbridge/irqbridge/pci"
	"github.com/irqbridge/irqbridge/vfio/host"
)

// Policy is what a user wants of the interrupts that [Assign] gives to a device. The zero value is the default: the
// best kind that the device and the host have, all messages, all processors.
//
// On Windows the registry holds the policy and the PnP manager follows it when it assigns resources; the driver finds
// the outcome in its descriptors. So it is here: the processors are chosen when interrupts are assigned, and Connect
// checks that they are the ones asked for.
type Policy struct {
	// Kind is the kind of interrupt to use. Zero chooses MSI-X before MSI before the line, and falls back to fewer.
	Kind pci.Kind
	// Messages limits the number of messages, 0 for all that there are: MessageNumberLimit of the registry. MSI takes
	// powers of two only.
	Messages int
	// WholeTable has the entries of an MSI-X table beyond Messages deliver message 0, as Windows programs them; else they
	// are off. Each takes a vector of the host all the same: where it has too few, they stay off and Shortfall says so.
	WholeTable bool
	// CPUs are the processors that Affinity chooses from. Empty for all that are online and allowed to the process. An
	// interrupt is served in one processor group, Linux CPUs 64g to 64g+63; CPUs of several groups are refused unless
	// Affinity spreads the messages over them. Of all CPUs of a larger machine the lowest group is taken.
	CPUs host.CPUSet
	// Affinity is how the processors are chosen from CPUs: DevicePolicy of the registry. By default all of them.
	Affinity DevicePolicy
	// WindowsLimits keeps to the 16 messages that Windows gives a device with MSI. Its pages say that this is all that the
	// capability can express; PCI allows 32.
	WindowsLimits bool
	// StormLimit is after how many interrupts of the line in a row that no service routine claims it is left masked, see
	// [Interrupt.Rearm]; 0 is 1000. Messages are not limited: each is one write of the device.
	StormLimit int
	// ModelSharedLines gives devices of this process whose lines are one interrupt of the host one Vector and Level, if each
	// was assigned with it, as Windows has it: their service routines form one chain, to be connected with ShareVector
	// and the same processors, and an interrupt of any of the devices walks it to the first claim. It is how to rehearse
	// a routine that must return FALSE for its neighbour. Otherwise each device's line has a vector of its own, since the
	// kernel tells the devices apart.
	ModelSharedLines bool
	// AllowSubsetMask lets Connect take a ProcessorEnableMask that is a part of the assigned one. Windows takes the
	// assigned one only.
	AllowSubsetMask bool
}

// check refuses a policy that cannot be followed on any machine.
func (p Policy) check() error {
	switch {
	case p.Messages < 0:
		return fmt.Errorf("a limit of %d messages; want 1 or more, or 0 for all", p.Messages)
	case p.StormLimit < 0:
		return fmt.Errorf("a storm limit of %d; want 1 or more, or 0 for %d", p.StormLimit, defaultStormLimit)
	case p.Affinity >= AllProcessorsInMachineWhenSteered:
		return fmt.Errorf("affinity policy %s; want 0 to 5", p.Affinity)
	case p.Affinity == SpecifiedProcessors && p.CPUs.Empty():
		return fmt.Errorf("affinity policy %s without CPUs; say which", p.Affinity)
	}
	groups := p.CPUs.CPUs()
	for i := range groups {
		groups[i] /= 64
	}
	if groups = slices.Compact(groups); len(groups) > 1 && p.Affinity != SpreadMessagesAcrossAllProcessors {
		return fmt.Errorf("CPUs %s are in processor groups %d and %d, and an interrupt is served in one; choose CPUs of "+
			"one, %d-%d, or spread the messages over them", p.CPUs, groups[0], groups[1], 64*groups[0], 64*groups[0]+63)
	}
	return nil
}
