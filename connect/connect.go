package connect

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"

	"github.com/irqbridge/irqbridge/pci"
	"github.com/irqbridge/irqbridge/vfio"
	"github.com/irqbridge/irqbridge/vfio/host"
)

// Connect is IoConnectInterruptEx: it registers a service routine for one interrupt of a device and arms it. The
// interrupt must have been assigned to the device by [Assign]; Vector, Irql, InterruptMode, Group and
// ProcessorEnableMask must be those of its descriptor.
//
// The service routine can run before Connect returns; *InterruptObject is set before, on Windows perhaps after. On the page
// the code for a failure is left out: there is nothing to disconnect then. Program the device to interrupt
// only after Connect has returned, and stop it before [Disconnect].
//
// The error is a [*StatusError] with one of the statuses of this package, or a [*BugCheckError] when Connect is called
// from a service routine or with an interrupt lock held. After an error nothing is connected, *InterruptObject is
// nil, and no thread or file descriptor is left. Of several mistakes the one that comes first is reported: Version,
// missing pointers, mode, levels, mask, the match with what was assigned, the processors of this machine, the lock, the
// state of the device, and then what the kernel says.
func Connect(p *Parameters) error {
	const op = "connect"
	if p == nil {
		return &StatusError{Status: StatusInvalidParameter, Op: op, Reason: "no parameters"}
	}
	if p.InterruptObject != nil {
		*p.InterruptObject = nil
	}
	if err := requirePassive("Connect"); err != nil {
		return err
	}
	if err := p.check(runtime.GOARCH); err != nil {
		return err
	}
	d := lookupDevice(p.PhysicalDeviceObject)
	if d == nil {
		return refuse(StatusNotFound, "%s has no interrupts assigned; call Assign first", p.PhysicalDeviceObject.Address())
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.connect(p)
}

func refuse(s Status, format string, args ...any) error {
	return &StatusError{Status: s, Op: "connect", Reason: fmt.Sprintf(format, args...)}
}

// check is what can be said about parameters without the device's resources.
func (p *Parameters) check(arch string) error {
	switch p.Version {
	case VersionFullySpecified, VersionFullySpecifiedGroup:
	case VersionLineBased, VersionMessageBased, VersionMessageBasedPassive:
		given := p.Version
		p.Version = VersionFullySpecified
		return refuse(StatusNotSupported, "Version %d; only the fully specified versions, 1 and 4, can be connected", given)
	default:
		return refuse(StatusInvalidParameter1, "there is no Version %d; use 1, or 4 with a processor group", p.Version)
	}
	switch {
	case p.InterruptObject == nil:
		return refuse(StatusInvalidParameter, "InterruptObject is nil; it is where the interrupt is stored")
	case p.PhysicalDeviceObject == nil:
		return refuse(StatusInvalidParameter, "PhysicalDeviceObject is nil; it is the opened device")
	case p.ServiceRoutine == nil:
		return refuse(StatusInvalidParameter, "ServiceRoutine is nil")
	}
	// Reading nothing asks the device no more than whether it is open.
	if err := p.PhysicalDeviceObject.ReadConfig(nil, 0); errors.Is(err, os.ErrClosed) {
		return &StatusError{Status: StatusInvalidParameter, Op: "connect", Reason: "PhysicalDeviceObject is closed", Err: err}
	}
	switch {
	case p.InterruptMode != LevelSensitive && p.InterruptMode != Latched:
		return refuse(StatusInvalidParameter, "there is no InterruptMode %d", uint8(p.InterruptMode))
	case p.Irql > HighLevel || p.SynchronizeIrql > HighLevel:
		return refuse(StatusInvalidParameter, "Irql %d, SynchronizeIrql %d: the highest is %d",
			p.Irql, p.SynchronizeIrql, HighLevel)
	case p.Irql == APCLevel || p.Irql == DispatchLevel || p.SynchronizeIrql == APCLevel || p.SynchronizeIrql == DispatchLevel:
		return refuse(StatusInvalidParameter, "Irql %d, SynchronizeIrql %d: 1 and 2 are no levels of a device",
			p.Irql, p.SynchronizeIrql)
	case (p.Irql == PassiveLevel) != (p.SynchronizeIrql == PassiveLevel):
		return refuse(StatusInvalidParameter, "Irql %d, SynchronizeIrql %d: both or none are passive level",
			p.Irql, p.SynchronizeIrql)
	case p.SynchronizeIrql < p.Irql:
		return refuse(StatusInvalidParameter, "SynchronizeIrql %d is below Irql %d; it is Irql, or the highest of a LockGroup",
			p.SynchronizeIrql, p.Irql)
	case p.Irql == PassiveLevel && p.SpinLock != nil:
		return refuse(StatusInvalidParameter, "a passive-level service routine has no SpinLock")
	case p.FloatingSave && arch == "386":
		return refuse(StatusInvalidParameter, "FloatingSave is not for x86")
	case p.ProcessorEnableMask == 0:
		return refuse(StatusInvalidParameter10, "ProcessorEnableMask has no processor")
	}
	return nil
}

// match finds the assigned interrupt that the parameters mean.
func (d *device) match(p *Parameters) (pci.Message, error) {
	address := d.vfio.Address()
	if d.resources == nil || len(d.resources.messages) == 0 {
		return pci.Message{}, refuse(StatusNotFound, "%s has no interrupts assigned", address)
	}
	i := slices.IndexFunc(d.resources.messages, func(m pci.Message) bool { return m.Translated.Vector == p.Vector })
	if i < 0 {
		return pci.Message{}, refuse(StatusNotFound, "vector 0x%x is not assigned to %s; its descriptors have others",
			p.Vector, address)
	}
	m := d.resources.messages[i]
	assigned := FullySpecified(m.Translated)
	maskMatches := p.ProcessorEnableMask == assigned.ProcessorEnableMask ||
		d.resources.allowSubset && p.ProcessorEnableMask&^assigned.ProcessorEnableMask == 0
	differs := ""
	switch {
	case p.InterruptMode != assigned.InterruptMode:
		differs = fmt.Sprintf("InterruptMode %s, not %s", assigned.InterruptMode, p.InterruptMode)
	case p.group() != m.Translated.Group:
		differs = fmt.Sprintf("Group %d, not %d; Version 1 always means group 0", m.Translated.Group, p.group())
	case !maskMatches:
		differs = fmt.Sprintf("ProcessorEnableMask 0x%x, not 0x%x; processors are chosen by the Policy of Assign",
			assigned.ProcessorEnableMask, p.ProcessorEnableMask)
	case p.Irql != assigned.Irql && p.Irql != PassiveLevel:
		differs = fmt.Sprintf("Irql %d, not %d", assigned.Irql, p.Irql)
	default:
		return m, nil
	}
	return pci.Message{}, refuse(StatusNotFound, "vector 0x%x of %s was assigned with %s", p.Vector, address, differs)
}

// connect is the part of Connect that needs the device. The caller holds d.mu.
func (d *device) connect(p *Parameters) error {
	i, m, cpus, err := d.prepare(p, func(wanted host.CPUSet) (host.CPUSet, error) { return usable(d.vfio.Host(), wanted) })
	if err != nil {
		return err
	}
	if err := d.attach(i, m, p, cpus); err != nil {
		*p.InterruptObject = nil
		i.lock.part()
		return err
	}
	return nil
}

// prepare makes the interrupt that the parameters ask for, and finds what was assigned for it and the CPUs to serve it on. The
// caller undoes the join of its lock.
func (d *device) prepare(p *Parameters, usable func(host.CPUSet) (host.CPUSet, error)) (*Interrupt, pci.Message, host.CPUSet, error) {
	var cpus host.CPUSet
	if d.closed {
		return nil, pci.Message{}, cpus, refuse(StatusInvalidParameter, "%s is closed", d.vfio.Address())
	}
	m, err := d.match(p)
	if err != nil {
		return nil, m, cpus, err
	}
	if p.Irql == PassiveLevel && d.resources.Kind != pci.KindINTx {
		return nil, m, cpus, refuse(StatusNotSupported, "vector 0x%x is a message, which has no passive-level service routine; use Irql %d",
			p.Vector, m.Translated.Level)
	}
	wanted := processors{p.group(), p.ProcessorEnableMask}.cpus()
	if cpus, err = usable(wanted); err != nil {
		status := StatusUnsuccessful
		if errors.Is(err, errNoCPU) {
			status = StatusInvalidParameter10
		}
		return nil, m, cpus, &StatusError{Status: status, Op: "connect", Reason: fmt.Sprintf("ProcessorEnableMask 0x%x", p.ProcessorEnableMask), Err: err}
	}
	i := &Interrupt{
		routine:         p.ServiceRoutine,
		context:         p.ServiceContext,
		lock:            p.SpinLock,
		synchronizeIRQL: p.SynchronizeIrql,
		share:           p.ShareVector,
		wanted:          wanted,
	}
	if i.lock == nil {
		i.lock = &i.private
	}
	if err := i.lock.join(p.SynchronizeIrql); err != nil {
		return nil, m, cpus, refuse(StatusInvalidParameter, "vector 0x%x: %v", p.Vector, err)
	}
	return i, m, cpus, nil
}

// attach joins the interrupt to its source, which it makes and arms when it is the first there.
func (d *device) attach(i *Interrupt, m pci.Message, p *Parameters, cpus host.CPUSet) error {
	c := d.chainOf(m)
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := d.sources[m.Index]; s != nil {
		return s.join(i, p)
	}
	s, err := d.begin(i, m, p, c, cpus)
	if err != nil {
		return err
	}
	if err := d.arm(s); err != nil {
		s.stop()
		_ = d.disarm(s) // the first failure is told
		d.abandon(i, s)
		return hostRefused(m, err)
	}
	d.armed(s)
	return nil
}

// begin makes the source of an interrupt and has it served; it is to be armed yet. *p.InterruptObject is set before the store
// that makes the interrupt visible to the dispatcher. The caller holds the chain's mu.
func (d *device) begin(i *Interrupt, m pci.Message, p *Parameters, c *chain, cpus host.CPUSet) (*source, error) {
	index := vfio.IndexOf(d.resources.Kind)
	if live, _, on := d.vfio.EnabledIRQs(); on && (live != index || len(d.sources) == 0) {
		return nil, refuse(StatusInvalidDeviceRequest, "%s interrupts of %s are enabled outside this package; disable them first",
			live, d.vfio.Address())
	}
	if err := c.admit(i, p.Vector); err != nil {
		return nil, err
	}
	s, err := d.newSource(m, c, cpus, i.passive())
	if err != nil {
		return nil, hostRefused(m, err)
	}
	i.source = s
	*p.InterruptObject = i
	s.active.Store(1)
	s.chain.add(i)
	if err := s.start(); err != nil {
		d.abandon(i, s)
		return nil, hostRefused(m, err)
	}
	return s, nil
}

// abandon is the end of a source that could not be armed and is not served any more. The caller holds the chain's mu.
func (d *device) abandon(i *Interrupt, s *source) {
	i.bar() // other devices of a modelled line may have called it
	s.chain.drop(i)
	d.discard(s)
}

// armed enters sources that the kernel signals from now on, and asks the host to deliver them where they are served.
func (d *device) armed(sources ...*source) {
	for _, s := range sources {
		d.sources[s.message.Index] = s
	}
	d.steer(sources)
}

// hostRefused is the status for what the kernel said.
func hostRefused(m pci.Message, err error) error {
	return &StatusError{
		Status: statusOf(err), Op: "connect", Reason: fmt.Sprintf("vector 0x%x", m.Translated.Vector), Err: err,
	}
}

// join puts an interrupt at the end of the chain of a source that is connected already. The caller holds its mu.
func (s *source) join(i *Interrupt, p *Parameters) error {
	if err := s.chain.admit(i, p.Vector); err != nil {
		return err
	}
	if err := s.err.Load(); err != nil {
		return &StatusError{
			Status: StatusInvalidDeviceRequest, Op: "connect", Reason: "the source is silenced; disconnect it first", Err: *err,
		}
	}
	before, err := s.eventfd.count()
	if err != nil {
		return hostRefused(s.message, err)
	}
	i.firesBefore, i.unclaimedBefore = before, s.unclaimed.Load()
	i.source = s
	*p.InterruptObject = i
	s.chain.add(i)
	if err := s.activated(); err != nil {
		i.bar()
		s.chain.drop(i)
		return hostRefused(s.message, err)
	}
	if err := s.err.Load(); err != nil {
		i.report(*err) // silenced just now, perhaps without having seen this member
	}
	return nil
}
