package connect

import (
	"errors"
	"fmt"
	"strings"

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
	// CPUs are the processors that may serve the interrupts: SpecifiedProcessors. Empty for all that are online and
	// allowed to the process.
	CPUs host.CPUSet
	// Spread gives each MSI-X message one processor, in turn: SpreadMessagesAcrossAllProcessors. The messages of MSI
	// have one common mask on Windows, and have it here.
	Spread bool
	// WindowsLimits keeps to the 16 messages that Windows gives a device with MSI; PCI allows 32.
	WindowsLimits bool
	// StormLimit is after how many interrupts of the line in a row that no service routine claims it is left masked, see
	// [Interrupt.Rearm]; 0 is 1000. Messages are not limited: each is one write of the device.
	StormLimit int
	// AllowSubsetMask lets Connect take a ProcessorEnableMask that is a part of the assigned one. Windows takes the
	// assigned one only.
	AllowSubsetMask bool
}

// processors is a set of processors as a descriptor states it: a mask within a group of 64.
type processors struct {
	group uint16
	mask  uint64
}

func (p processors) cpus() host.CPUSet { return host.FromGroupMask(int(p.group), p.mask) }

// errNoCPU says that no processor is left to run a service routine on.
var errNoCPU = errors.New("no CPU to serve interrupts on")

// usable returns the processors of a set that can run a thread of this process: online and in its cpuset. An empty set
// stands for all of these. When none is left the error is errNoCPU and says of each CPU what is wrong with it.
func usable(h *host.Host, wanted host.CPUSet) (host.CPUSet, error) {
	online, err := h.OnlineCPUs()
	if err != nil {
		return host.CPUSet{}, err
	}
	allowed, err := h.AllowedCPUs()
	if err != nil {
		return host.CPUSet{}, err
	}
	if wanted.Empty() {
		wanted = online.And(allowed)
	}
	if left := wanted.And(online).And(allowed); !left.Empty() {
		return left, nil
	}
	var why []string
	if absent := wanted.Minus(online); !absent.Empty() {
		why = append(why, fmt.Sprintf("%s not online, the host has %s", cpuNames(absent), online))
	}
	if outside := wanted.And(online).Minus(allowed); !outside.Empty() {
		why = append(why, fmt.Sprintf("%s outside this process's CPUs, %s", cpuNames(outside), allowed))
	}
	return host.CPUSet{}, fmt.Errorf("%w: %s", errNoCPU, strings.Join(why, "; "))
}

// cpuNames is the subject and verb of a sentence about CPUs.
func cpuNames(cpus host.CPUSet) string {
	if cpus.Len() == 1 {
		return fmt.Sprintf("CPU %s is", cpus)
	}
	return fmt.Sprintf("CPUs %s are", cpus)
}

// affinities chooses the processors of n interrupts from a set that is not empty. All of one interrupt are in one group,
// as Windows has it: of a set that spans groups the group of the lowest CPU is taken, and with Spread each CPU's own.
func (p Policy) affinities(cpus host.CPUSet, kind pci.Kind, n int) []processors {
	list := cpus.CPUs()
	result := make([]processors, n)
	for i := range result {
		if p.Spread && kind == pci.KindMSIX {
			cpu := list[i%len(list)]
			result[i] = processors{group: uint16(cpu / 64), mask: 1 << (cpu % 64)}
			continue
		}
		group := list[0] / 64
		result[i] = processors{group: uint16(group), mask: cpus.GroupMask(group)}
	}
	return result
}
