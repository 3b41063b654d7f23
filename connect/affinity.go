package connect

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/irqbridge/irqbridge/pci"
	"github.com/irqbridge/irqbridge/vfio/host"
)

// DevicePolicy is IRQ_DEVICE_POLICY of wdm.h: on which processors the interrupts of a device are served. DevicePolicy of
// the registry has these numbers.
type DevicePolicy uint32

const (
	// MachineDefault leaves the choice to the system: here all of Policy.CPUs.
	MachineDefault DevicePolicy = 0
	// AllCloseProcessors takes the processors of the device's NUMA node; all, where it is not known.
	AllCloseProcessors DevicePolicy = 1
	// OneCloseProcessor takes one processor of the device's NUMA node for all its interrupts, the lowest.
	OneCloseProcessor DevicePolicy = 2
	// AllProcessorsInMachine takes all of Policy.CPUs.
	AllProcessorsInMachine DevicePolicy = 3
	// SpecifiedProcessors takes Policy.CPUs, AssignmentSetOverride of the registry, which must have some.
	SpecifiedProcessors DevicePolicy = 4
	// SpreadMessagesAcrossAllProcessors gives each message of MSI-X one processor, in turn. The messages of MSI
	// have one common mask on Windows, and have it here.
	SpreadMessagesAcrossAllProcessors DevicePolicy = 5
	// AllProcessorsInMachineWhenSteered is reserved for the system, on Windows too, and refused.
	AllProcessorsInMachineWhenSteered DevicePolicy = 6
)

// String returns the name that wdm.h gives the policy, without its IrqPolicy in front.
func (p DevicePolicy) String() string {
	names := [...]string{
		"MachineDefault", "AllCloseProcessors", "OneCloseProcessor", "AllProcessorsInMachine", "SpecifiedProcessors",
		"SpreadMessagesAcrossAllProcessors", "AllProcessorsInMachineWhenSteered",
	}
	if int64(p) < int64(len(names)) {
		return names[p]
	}
	return fmt.Sprintf("DevicePolicy(%d)", uint32(p))
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
// stands for those that the calling thread may run on. When none is left the error is errNoCPU and says of each CPU what is
// wrong with it.
func usable(h *host.Host, wanted host.CPUSet) (host.CPUSet, error) {
	bindable, err := h.BindableCPUs()
	if err != nil {
		return host.CPUSet{}, err
	}
	if wanted.Empty() {
		if wanted, err = h.AllowedCPUs(); err != nil {
			return host.CPUSet{}, err
		}
	}
	if left := wanted.And(bindable); !left.Empty() {
		return left, nil
	}
	online, err := h.OnlineCPUs()
	if err != nil {
		return host.CPUSet{}, err
	}
	var why []string
	if absent := wanted.Minus(online); !absent.Empty() {
		why = append(why, fmt.Sprintf("%s not online, the host has %s", cpuNames(absent), online))
	}
	if outside := wanted.And(online).Minus(bindable); !outside.Empty() {
		why = append(why, fmt.Sprintf("%s outside this process's cpuset, which has %s", cpuNames(outside), bindable))
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

// processors returns those of the policy's CPUs that interrupts of the device can be served on, for a policy about
// processors close to the device only those. There are none close, and all are taken, where the host does not know the
// device's NUMA node (a machine with one does not say), or no CPU of that node is to be had.
func (d *device) processors(p Policy) (host.CPUSet, error) {
	h := d.vfio.Host()
	cpus, err := usable(h, p.CPUs)
	if err != nil || p.Affinity != AllCloseProcessors && p.Affinity != OneCloseProcessor {
		return cpus, err
	}
	at, err := h.Device(d.vfio.Address())
	if err != nil || at.NUMANode < 0 {
		return cpus, err
	}
	node, err := h.NodeCPUs(at.NUMANode)
	if err != nil {
		return host.CPUSet{}, err
	}
	if near := cpus.And(node); !near.Empty() {
		return near, nil
	}
	return cpus, nil
}

// affinities chooses the processors of n interrupts from a set that is not empty. All of one interrupt are in one group,
// as Windows has it: of a set that spans groups the group of the lowest CPU is taken, and of messages that are spread
// each CPU's own.
func (p Policy) affinities(cpus host.CPUSet, kind pci.Kind, n int) []processors {
	list := cpus.CPUs()
	one := func(cpu int) processors { return processors{group: uint16(cpu / 64), mask: 1 << (cpu % 64)} }
	result := make([]processors, n)
	for i := range result {
		switch group := list[0] / 64; {
		case p.Affinity == SpreadMessagesAcrossAllProcessors && kind == pci.KindMSIX:
			result[i] = one(list[i%len(list)])
		case p.Affinity == OneCloseProcessor:
			result[i] = one(list[0])
		default:
			result[i] = processors{group: uint16(group), mask: cpus.GroupMask(group)}
		}
	}
	return result
}

// GroupAffinity is GROUP_AFFINITY of wdm.h: a set of processors within a group.
type GroupAffinity struct {
	// Mask has a bit for each processor of the group: bit i is Linux CPU 64*Group+i.
	Mask     uint64
	Group    uint16
	Reserved [3]uint16 // 0
}

// GroupAffinity is IoGetAffinityInterrupt: the processors that the interrupt is served on, of its ProcessorEnableMask those
// that exist and that the process may use. An interrupt that is nil or not connected is a [*StatusError] with
// StatusInvalidParameter.
func (i *Interrupt) GroupAffinity() (GroupAffinity, error) {
	if i == nil || i.source == nil || !slices.Contains(*i.source.chain.Load(), i) {
		return GroupAffinity{}, &StatusError{
			Status: StatusInvalidParameter, Op: "get affinity", Reason: "there is no such connected interrupt",
		}
	}
	cpus := i.source.dispatcher.pinned
	group := cpus.CPUs()[0] / 64
	return GroupAffinity{Mask: cpus.GroupMask(group), Group: uint16(group)}, nil
}

// AffinityReport says where an interrupt is to be served and where it is. Two things decide: the thread that runs the
// service routine, whose CPUs are certain, and the CPU that the host delivers the interrupt to, which this package asks
// for and only root may change. An interrupt that arrives on one CPU and is served on another costs a wake-up across.
type AffinityReport struct {
	// Wanted is ProcessorEnableMask, as CPU numbers.
	Wanted host.CPUSet
	// Thread is where the service routine runs: the part of Wanted that is online and in this process's cpuset. It is
	// empty for a passive-level routine, which runs on any thread of the process.
	Thread host.CPUSet
	// IRQ is smp_affinity of the host's interrupt and Effective what its interrupt controller uses, as they are now.
	// Without interrupt remapping Effective follows only with the next interrupt.
	IRQ       host.CPUSet
	Effective host.CPUSet
	// IRQErr is why the host's affinity could not be set or read: without root it is a permission error.
	IRQErr error
}

// Affinity reads the report. It is not for service routines: it reads files of /proc.
func (i *Interrupt) Affinity() AffinityReport {
	r := AffinityReport{Wanted: i.wanted}
	if !i.passive() {
		r.Thread = i.source.dispatcher.pinned
	}
	if steered := i.source.steered.Load(); steered != nil {
		r.IRQErr = *steered
	}
	irq, err := i.HostIRQ()
	var a host.Affinity
	if err == nil {
		a, err = i.Device().Host().Affinity(irq.Number)
	}
	r.IRQ, r.Effective = a.Set, a.Effective
	if r.IRQErr == nil {
		r.IRQErr = err
	}
	return r
}
