package cli

import (
	"fmt"
	"slices"
	"strings"

	"github.com/irqbridge/irqbridge/cmd/irqbridge/internal/profile"
	"github.com/irqbridge/irqbridge/connect"
	"github.com/irqbridge/irqbridge/pci"
	"github.com/irqbridge/irqbridge/vfio"
	"github.com/irqbridge/irqbridge/vfio/host"
)

// connectPlan is what connect will do, as far as it can be known beforehand.
type connectPlan struct {
	kind pci.Kind
	list pci.ResourceList
	cpus host.CPUSet
}

// planConnect refuses what cannot work before the device is opened, for opening resets it. nil when configuration space
// is not readable by this user, who may still be allowed to open the device.
func (a *app) planConnect(address pci.Address, policy connect.Policy, src source) (*connectPlan, error) {
	f, err := a.function(address)
	if err != nil {
		return nil, fmt.Errorf("%v: read configuration space: %w", address, err)
	}
	if err := src.offersKind(address, f, policy.Kind); err != nil || hidesInterrupts(f) {
		return nil, err
	}
	p := connectPlan{cpus: policy.CPUs}
	if p.cpus.Empty() {
		if p.cpus, err = a.usableCPUs(); err != nil {
			return nil, err
		}
	}
	if p.list, p.kind, err = connect.Plan(f, policy, p.cpus); err != nil {
		return nil, fmt.Errorf("%v: %w", address, err)
	}
	return &p, src.suits(address, p.kind)
}

// everyMessage stands for the number of a message.
const everyMessage = -1

// plannedRaises is what a verb will do between connecting and disconnecting.
type plannedRaises struct {
	message       int // or everyMessage
	times         int
	before, after string // what is done around them, "" for nothing
}

// printPlan is the --dry-run of the verbs that connect.
func (a *app) printPlan(p *prepared, c choice, raises plannedRaises) error {
	d, src := p.device, p.source
	if p.plan == nil {
		return &failure{exitPartial, fmt.Errorf("%v: the interrupts of the device are not readable by this user", d.Address), fmt.Sprintf("sudo irqbridge %s %v --dry-run", c.verb, d.Address)}
	}
	if d.Group < 0 {
		return unsupported(fmt.Sprintf("irqbridge bind --dry-run %v", d.Address), "%v: %s would fail: the device is in no IOMMU group", d.Address, c.verb)
	}
	kind, messages := p.plan.kind, p.plan.list.Expand()
	last := len(messages) - 1
	a.printf("%v  %s  %s\n", d.Address, interruptsOf(kind, len(messages)), p.how)
	printParameters(a.stdout, p.plan.list, "", tableLimit)
	a.printf("+ open /dev/vfio/%d and the device in it; memory decoding on\n", d.Group)
	index := vfio.IndexOf(kind)
	vectors := "vector 0"
	if last > 0 {
		vectors = fmt.Sprintf("vectors 0 to %d", last)
	}
	a.printf("+ enable %v %s, an eventfd each%s\n", index, vectors, when(kind != pci.KindINTx, "; bus master on"))
	if c.spread && kind == pci.KindMSIX {
		a.printf("+ echo CPU > /proc/irq/N/smp_affinity_list, for the host IRQ N of each and the CPU of its mask\n")
	} else {
		a.printf("+ echo %s > /proc/irq/N/smp_affinity_list, for the host IRQ N of each\n", p.plan.cpus)
	}
	var described *profile.Interrupts
	if src.profile != nil {
		described = src.profile.For(kind)
		a.printSteps("enable in the device", described.Enable)
		for _, m := range described.Messages {
			if m.Message <= last {
				a.printSteps(fmt.Sprintf("message %d: enable", m.Message), m.Enable)
			}
		}
	}
	a.printf("%s", raises.before)
	switch times := plural(raises.times, "time"); {
	case raises.times == 0:
	case src.loopback && raises.message != everyMessage:
		a.printf("+ trigger %v vector %d in the kernel, %s\n", index, raises.message, times)
	case src.loopback:
		a.printf("+ trigger %v %s in the kernel, %s each\n", index, vectors, times)
	default:
		for _, m := range described.Messages {
			if m.Message <= last && (raises.message == everyMessage || raises.message == m.Message) {
				a.printSteps(fmt.Sprintf("message %d: raise %s", m.Message, times), raiseSteps(m))
			}
		}
	}
	a.printf("%s", raises.after)
	if described != nil {
		for _, m := range slices.Backward(described.Messages) {
			if m.Message <= last {
				a.printSteps(fmt.Sprintf("message %d: disable", m.Message), m.Disable)
			}
		}
		a.printSteps("disable in the device", described.Disable)
	}
	a.printf("+ disable %v%s; close the device\n", index, when(kind != pci.KindINTx, "; bus master off"))
	if !d.VFIO {
		return &failure{exitFailed, fmt.Errorf("%v: %s would fail: the device is not bound to a VFIO driver", d.Address, c.verb), "irqbridge bind " + d.Address.String()}
	}
	return nil
}

// raiseSteps are the steps that raise a message: its own, or else those of its causes, which are taken in turn.
func raiseSteps(m profile.Message) []profile.Step {
	steps := m.Raise
	for i := 0; len(m.Raise) == 0 && i < len(m.Causes); i++ {
		steps = append(steps, m.Causes[i].Raise...)
	}
	return steps
}

func (a *app) printSteps(what string, steps []profile.Step) {
	if len(steps) == 0 {
		return
	}
	a.printf("+ %s: %s\n", what, stepList(steps))
}

func stepList(steps []profile.Step) string {
	var list []string
	for _, s := range steps {
		list = append(list, s.String())
	}
	return strings.Join(list, ", ")
}
