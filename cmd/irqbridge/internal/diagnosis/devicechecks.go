package diagnosis

import (
	"errors"
	"fmt"
	"math/bits"
	"slices"
	"strings"

	"github.com/irqbridge/irqbridge/pci"
	"github.com/irqbridge/irqbridge/vfio"
	"github.com/irqbridge/irqbridge/vfio/host"
)

// Checks judges the device together with its host.
func (f *Device) Checks(on Host) []Check {
	checks := []Check{f.answers()}
	if c, made := f.link(); made {
		checks = append(checks, c)
	}
	checks = append(checks, f.opening(on).needed()...)
	checks = append(checks, f.binding(on)...)
	if f.Config != nil {
		checks = append(checks, f.offered(on)...)
		checks = append(checks, f.bridges()...)
		checks = append(checks, f.hardware()...)
	}
	if len(f.IRQs) > 0 {
		checks = append(checks, f.affinity())
	}
	return append(checks, on.beside()...)
}

// opening is the host as far as it matters to the way the device is opened: iommufd does not heed what containers are allowed.
func (f *Device) opening(on Host) Host {
	if slices.ContainsFunc(f.Nodes, func(n Node) bool { return n.Path == host.IOMMUFDNode }) {
		on.Unsafe = slices.DeleteFunc(slices.Clone(on.Unsafe), func(name string) bool { return !strings.HasPrefix(name, "/sys/module/iommufd/") })
	}
	return on
}

// answers judges whether there is anything to be read of the device.
func (f *Device) answers() Check {
	const id = "device"
	sysfs := "/sys/bus/pci/devices/" + f.Address.String()
	switch {
	case errors.Is(f.ConfigErr, pci.ErrNoAnswer) && (f.PowerState == "D3cold" || f.Runtime.Status == "suspended"):
		return fail(id, "the device does not answer: it sleeps without power (D3cold)", "echo on | sudo tee "+sysfs+"/power/control")
	case errors.Is(f.ConfigErr, pci.ErrNoAnswer):
		return fail(id, "the device has gone, or lost its power or its link: its configuration space reads all ones",
			"echo 1 | sudo tee "+sysfs+"/remove /sys/bus/pci/rescan")
	case f.ConfigErr != nil:
		return unread(id, f.Address, f.ConfigErr)
	case f.Cut():
		return unknown(id, fmt.Sprintf("only %d bytes of configuration space are readable by this user: MSI, MSI-X, power and link were not checked", f.Config.Size),
			"sudo irqbridge doctor "+f.Address.String())
	}
	return ok(id, fmt.Sprintf("%04x:%04x answers", f.VendorID, f.DeviceID))
}

// binding judges whether the device can be opened.
func (f *Device) binding(on Host) []Check {
	var checks []Check
	if on.HasIOMMU {
		checks = append(checks, f.group())
	}
	unsuited := f.Unsuited()
	switch {
	case f.Bridge:
		return append(checks, fail("driver", unsuited, "irqbridge list"))
	case unsuited != "":
		return append(checks, fail("driver", unsuited, "sudo irqbridge bind "+f.Address.String()))
	}
	return append(checks, ok("driver", "bound to "+f.Driver), f.nodes(), f.holder())
}

// nodes judges the nodes that the device is opened by. Its own can be given to the user.
func (f *Device) nodes() Check {
	for _, n := range f.Nodes {
		if n.Err != nil && (n.Path == host.ContainerNode || n.Path == host.IOMMUFDNode) {
			return checkNodes([]Node{n}) // which everything needs, and no bind gives away
		}
	}
	c := checkNodes(f.Nodes)
	if c.Status == Failure && c.Detail != "" {
		c.Next = "sudo irqbridge bind --user $USER " + f.Address.String()
	}
	return c
}

func (f *Device) group() Check {
	const id = "group"
	switch {
	case f.GroupErr != nil:
		return unread(id, f.Address, f.GroupErr)
	case f.Group == nil:
		return fail(id, "the device is in no IOMMU group, although others are: the platform's IOMMU does not cover it", "sudo dmesg | grep -i -e DMAR -e AMD-Vi -e smmu")
	}
	c := ok(id, fmt.Sprintf("group %d, alone", f.Group.ID))
	if n := len(f.Group.Members) - 1; n > 0 {
		c.Cause = fmt.Sprintf("group %d is viable, with %d more", f.Group.ID, n)
		c.Detail = f.joined()
	}
	cause, blockers := f.Group.NotViable(f.Address)
	if len(blockers) == 0 {
		return c
	}
	var addresses []string
	for _, b := range blockers {
		addresses = append(addresses, b.Address.String())
	}
	next := "sudo irqbridge bind " + strings.Join(addresses, " ")
	if blockers[0].Bridge {
		next = fmt.Sprintf("echo %v | sudo tee /sys/bus/pci/drivers/%s/unbind", blockers[0].Address, blockers[0].Driver)
	}
	return Check{id, Failure, cause, next, c.Detail}
}

// holder judges whether somebody has the device open, and has none of its interrupts enabled.
func (f *Device) holder() Check {
	const id = "user"
	var names []string
	for _, p := range f.Holders {
		names = append(names, p.String())
	}
	who := strings.Join(names, ", ")
	switch {
	case f.IRQsErr != nil:
		return unread(id, f.Address, f.IRQsErr)
	case len(f.IRQs) > 0 && who != "":
		return ok(id, "open in process "+who)
	case len(f.IRQs) > 0:
		return ok(id, "open in a process of another user")
	case who != "":
		return fail(id, fmt.Sprintf("process %s has the device or its group open, but no interrupt of the device is enabled", who),
			"have it enable some, or end it and: irqbridge connect "+f.Address.String())
	}
	for _, p := range f.Possible {
		names = append(names, p.String())
	}
	if len(names) > 0 {
		return ok(id, "a device of VFIO's, this one perhaps, is open in process "+strings.Join(names, ", "))
	}
	return ok(id, "nobody has it open, as far as this user can see")
}

// vectorsPerCPU is about how many interrupts x86 can deliver to one CPU: the vectors from 0x20 to the first of the kernel's
// own, without those of the ISA.
const vectorsPerCPU = 200

// offered judges what the device can interrupt by, and what the host can give.
func (f *Device) offered(on Host) []Check {
	const id = "interrupts"
	c := f.Config
	var kinds []string
	if c.INTx != nil {
		kinds = append(kinds, "a line")
	}
	messages := 0
	if c.MSI != nil {
		messages = c.MSI.Messages
		kinds = append(kinds, fmt.Sprintf("MSI %d", c.MSI.Messages))
	}
	if c.MSIX != nil {
		messages = c.MSIX.Messages
		kinds = append(kinds, fmt.Sprintf("MSI-X %d", c.MSIX.Messages))
	}
	if len(kinds) == 0 {
		if f.Cut() {
			return nil // nothing is known
		}
		return []Check{fail(id, "the device has no interrupts: its interrupt pin is 0, and it has neither MSI nor MSI-X", "irqbridge show -v "+f.Address.String())}
	}
	if f.Cut() {
		kinds = append(kinds, "and what is not known")
	}
	checks := []Check{ok(id, "the device offers "+strings.Join(kinds, ", "))}
	if messages == 0 {
		return checks
	}
	if allowed := (advice{}); f.NoMessages != allowed {
		return append(checks, fail("messages-allowed", f.NoMessages.cause, f.NoMessages.next))
	}
	return append(checks, ok("messages-allowed", "the kernel lets the device use messages"), f.vectors(on, messages))
}

// vectors judges whether the host can give as many as the device offers.
func (f *Device) vectors(on Host, messages int) Check {
	const id = "vectors"
	free := f.Online.Len()*vectorsPerCPU - f.IRQsInUse
	x86 := on.System.Intel() || on.System.AMD()
	switch {
	case f.Online.Empty():
		return unknown(id, "which CPUs are online could not be read", "cat /sys/devices/system/cpu/online")
	case len(f.IRQs) > 0:
		return ok(id, fmt.Sprintf("%d of %d are connected", len(f.IRQs), messages))
	case x86 && f.Config.MSIX != nil && messages > free:
		return fail(id, fmt.Sprintf("the device offers %d messages, and the %d CPUs have about %d interrupt vectors left: more than that cannot be connected",
			messages, f.Online.Len(), max(free, 0)), fmt.Sprintf("irqbridge connect %v --messages %d", f.Address, 1<<(bits.Len(uint(max(free, 1)))-1)))
	case f.Config.MSIX == nil && messages > 1 && on.Remapping == host.RemappingOff:
		return warn(id, fmt.Sprintf("the device gets 1 of its %d messages of MSI: several want interrupt remapping", messages), on.Unmapped.next)
	case x86:
		return ok(id, fmt.Sprintf("%d asked for at most, and about %d left", messages, free))
	}
	return ok(id, fmt.Sprintf("%d asked for at most", messages))
}

// hardware judges the device's own registers. What opening the device sets right is no fault while nobody has it open.
func (f *Device) hardware() []Check {
	if f.Cut() {
		return nil
	}
	c, live := f.Config, f.Live()
	checks := []Check{f.power()}
	if live == 0 {
		state := "nobody has an interrupt of the device enabled"
		if f.Driver != "" && !f.VFIO {
			state = "the driver " + f.Driver + " has no message enabled"
		}
		return append(append(checks, ok("enabled", state)), f.errors()...)
	}
	memory := Memory(f.Address, c)
	checks = append(checks, memory)
	if live == pci.KindINTx {
		return append(append(checks, f.line()), f.errors()...)
	}
	checks = append(checks, Enabled(f.Address, c, live), BusMaster(f.Address, c), Masked(f.Address, c, live, f.messages()))
	if live == pci.KindMSI && c.MSI != nil {
		checks = append(checks, address(f.Address, c))
	}
	return append(checks, f.errors()...)
}

func (f *Device) power() Check {
	const id = "power"
	state := f.PowerState
	pm := pci.Find[pci.PowerManagement](f.Config)
	if pm != nil {
		state = pm.State.String()
	}
	switch {
	case state == "D0", state == "", state == "unknown":
		return ok(id, "the device is awake")
	case !f.inUse():
		return ok(id, state+": it sleeps until it is opened")
	}
	next := "echo on | sudo tee /sys/bus/pci/devices/" + f.Address.String() + "/power/control"
	if pm != nil && f.Runtime.Status != "suspended" {
		next = setpci(f.Address, "CAP_PM+4.W", 0, 3)
	}
	return fail(id, "the device is in "+state+", where it neither answers at its BARs nor interrupts", next)
}

// line judges a line that VFIO has connected.
func (f *Device) line() Check {
	const id, program = "line", "acknowledge the device and then unmask the line, in the service routine of its program"
	switch f.LineState {
	case LineMasked:
		return fail(id, "the line is switched off in COMMAND, and the device does not assert it", program)
	case LinePending:
		return fail(id, "the device asserts its line, which is masked since the last interrupt: its program has not unmasked it", program)
	case LineUnheard:
		return fail(id, "the device asserts its line, which is not masked, and no interrupt comes: the host has switched it off, or it is routed elsewhere",
			"sudo dmesg | grep -i -e 'nobody cared' -e 'irq "+fmt.Sprint(f.IRQs[0].Number)+"'")
	case LineMoving:
		return ok(id, "the line is at work")
	}
	return ok(id, "the line is quiet and not masked")
}

// errors judges what the device has reported on its link. Requests that it does not know are left over from how devices are
// found.
func (f *Device) errors() []Check {
	aer := pci.Find[pci.AER](f.Config)
	if aer == nil {
		return nil
	}
	const id = "errors"
	seen := aer.Uncorrectable
	seen.UnsupportedRequest = false
	if seen != (pci.UncorrectableErrors{}) {
		return []Check{warn(id, "the device has seen uncorrectable errors on its link (AER)", "irqbridge show -vv "+f.Address.String())}
	}
	return []Check{ok(id, "no uncorrectable errors are recorded")}
}

// affinity judges whether interrupts go where they are served, and where they were sent.
func (f *Device) affinity() Check {
	const id = "affinity"
	var pinned host.CPUSet
	for _, cpus := range f.Pinned {
		pinned = pinned.Or(cpus)
	}
	for _, irq := range f.IRQs {
		set, effective := irq.Affinity.Set, irq.Affinity.Effective
		what := fmt.Sprintf("%v message %d (host IRQ %d)", vfio.IndexOf(irq.Kind), irq.Message, irq.Number)
		switch {
		case irq.AffinityErr != nil:
			return unread(id, f.Address, irq.AffinityErr)
		case !effective.Empty() && !pinned.Empty() && effective.And(pinned).Empty():
			return warn(id, fmt.Sprintf("%s is delivered on CPU %s, and the threads that serve it are pinned to CPU %s: somebody has moved it since", what, effective.List(), pinned.List()),
				fmt.Sprintf("echo %s | sudo tee /proc/irq/%d/smp_affinity_list", pinned.List(), irq.Number))
		case !effective.Empty() && effective.And(set).Empty():
			return warn(id, fmt.Sprintf("%s is set to CPU %s and still delivered on CPU %s: it moves with the next interrupt", what, set.List(), effective.List()),
				fmt.Sprintf("cat /proc/irq/%d/effective_affinity_list", irq.Number))
		case pinned.Empty() && !effective.And(f.Isolated).Empty() && !f.Online.Minus(f.Isolated).Empty():
			return warn(id, fmt.Sprintf("%s is delivered on CPU %s, which is isolated (isolcpus), and no thread is pinned there", what, effective.List()),
				fmt.Sprintf("echo %s | sudo tee /proc/irq/%d/smp_affinity_list", f.Online.Minus(f.Isolated).List(), irq.Number))
		}
	}
	if pinned.Empty() {
		return ok(id, "interrupts go where they were sent")
	}
	return ok(id, "interrupts go where they are served")
}
