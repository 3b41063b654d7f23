package connect

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/irqbridge/irqbridge/pci"
	"github.com/irqbridge/irqbridge/vfio"
	"github.com/irqbridge/irqbridge/vfio/host"
)

// device is what this package knows of one open device: what was assigned to it and what is connected.
type device struct {
	vfio *vfio.Device

	// mu is held while something is assigned, connected, disconnected or taken down. It is taken before an interrupt
	// lock, never under one.
	mu          sync.Mutex
	resources   *Resources
	sources     map[int]*source // armed, by message number
	dispatchers map[host.CPUSet]*dispatcher
	closed      bool

	onError atomic.Pointer[func(*Interrupt, error)]
	timed   atomic.Bool // MeasureTimes
}

// devices holds every device with resources. Windows has one registry of interrupts for the machine, and this
// package one for the process.
var devices struct {
	mu     sync.Mutex
	byVFIO map[*vfio.Device]*device
}

// lookupDevice returns what is known of a device, nil if nothing was ever assigned to it.
func lookupDevice(v *vfio.Device) *device {
	devices.mu.Lock()
	defer devices.mu.Unlock()
	return devices.byVFIO[v]
}

// enterDevice returns the device's entry, which stays until the device is closed.
func enterDevice(v *vfio.Device) *device {
	devices.mu.Lock()
	d := devices.byVFIO[v]
	if d != nil {
		devices.mu.Unlock()
		return d
	}
	if devices.byVFIO == nil {
		devices.byVFIO = make(map[*vfio.Device]*device)
	}
	d = &device{vfio: v, sources: make(map[int]*source), dispatchers: make(map[host.CPUSet]*dispatcher)}
	devices.byVFIO[v] = d
	devices.mu.Unlock()
	v.AtClose(d.shutdown)
	return d
}

// dispatcherFor returns the device's dispatcher for a set of CPUs, which it starts if there is none.
func (d *device) dispatcherFor(cpus host.CPUSet) (*dispatcher, error) {
	if dp := d.dispatchers[cpus]; dp != nil {
		return dp, nil
	}
	dp, err := startDispatcher(d.vfio.Host(), cpus)
	if err != nil {
		return nil, err
	}
	d.dispatchers[cpus] = dp
	return dp, nil
}

// chainOf is the chain of an assigned interrupt's vector.
func (d *device) chainOf(m pci.Message) *chain {
	switch s := d.sources[m.Index]; {
	case s != nil:
		return s.chain
	case d.resources.line != nil:
		return d.resources.line.chain
	}
	return newChain()
}

// newSource makes the source of an assigned interrupt, with nobody connected to it.
func (d *device) newSource(m pci.Message, c *chain, cpus host.CPUSet, passive bool) (*source, error) {
	s := &source{
		device: d, kind: d.resources.Kind, message: m, latched: m.Translated.Flags.Latched(), chain: c,
	}
	s.storm.limit = d.resources.stormLimit
	if m.Index == 0 {
		s.firstSpare, s.spares = len(d.resources.messages), d.resources.spares
	}
	if passive {
		s.worker = newWorker()
	}
	var err error
	if s.eventfd, err = newEventFD(); err != nil {
		return nil, err
	}
	if s.dispatcher, err = d.dispatcherFor(cpus); err != nil {
		s.eventfd.close()
		return nil, err
	}
	return s, nil
}

// discard ends a source that is in no dispatcher and not armed, and its dispatcher if that was its last source.
func (d *device) discard(s *source) {
	if s.dispatcher.idle() {
		delete(d.dispatchers, s.dispatcher.cpus)
		s.dispatcher.stop()
	}
	s.eventfd.close()
}

// arm hands the source's eventfd to the kernel. If it fails it may have got through in part, and disarm undoes that. The first message of a device enables all that were assigned, the
// others without a trigger: kernels before 6.5 cannot add vectors to an enabled index. Each later message is then an
// exchange of one vector's trigger.
func (d *device) arm(s *source) error {
	index := vfio.IndexOf(s.kind)
	if s.kind == pci.KindINTx {
		return d.armLine(s)
	}
	if len(d.sources) > 0 {
		return s.hand(s.eventfd.fd)
	}
	fds := slices.Repeat([]int{-1}, len(d.resources.messages)+d.resources.spares)
	fds[s.message.Index] = s.eventfd.fd
	for i := range s.spares {
		fds[len(d.resources.messages)+i] = s.eventfd.fd
	}
	return d.vfio.EnableIRQs(index, 0, fds)
}

// hand gives the kernel an eventfd for the messages of a source whose index is enabled, or takes it back with -1.
func (s *source) hand(fd int) error {
	v, index := s.device.vfio, vfio.IndexOf(s.kind)
	err := v.EnableIRQs(index, s.message.Index, []int{fd})
	if s.spares > 0 {
		err = errors.Join(err, v.EnableIRQs(index, s.firstSpare, slices.Repeat([]int{fd}, s.spares)))
	}
	return err
}

// armLine enables the line and makes sure that it is seen if it is asserted already. Not every interrupt controller
// looks at the level of a line when it is switched on (QEMU's I/O APIC does not); an unmask looks, at the device. If the
// line has fired already, the service routine may be called once more than it would be.
func (d *device) armLine(s *source) error {
	if err := d.vfio.EnableIRQs(vfio.INTx, 0, []int{s.eventfd.fd}); err != nil {
		return err
	}
	if err := d.vfio.MaskIRQ(vfio.INTx); err != nil {
		return err
	}
	return d.vfio.UnmaskIRQ(vfio.INTx)
}

// disarm takes the eventfd back from the kernel. The last source disables the index, so that another kind of interrupt
// can be used.
func (d *device) disarm(s *source) error {
	index := vfio.IndexOf(s.kind)
	if len(d.sources) > 0 {
		return s.hand(-1)
	}
	return d.vfio.DisableIRQs(index)
}

// steer asks the host to deliver the source's interrupt on the CPUs that serve it: a wake-up on the same CPU costs a
// fraction of one across. It needs root, so it is tried, and the outcome reported.
func (d *device) steer(s *source) error {
	h := d.vfio.Host()
	move := func(message int) error {
		irq, err := h.FindIRQ(d.vfio.Address(), s.kind, message)
		if err != nil {
			return err
		}
		return h.SetAffinity(irq.Number, s.dispatcher.pinned)
	}
	err := move(s.message.Index)
	for i := range s.spares {
		err = errors.Join(err, move(s.firstSpare+i))
	}
	return err
}

// remove disconnects one interrupt. When it returns the service routine is not running and will not be called.
func (d *device) remove(i *Interrupt) error {
	s := i.source
	i.bar()
	s.chain.remove(i)
	i.lock.part()
	if len(s.members()) > 0 {
		if i.activity == inactive {
			return nil
		}
		return s.deactivated()
	}
	s.stop()
	delete(d.sources, s.message.Index)
	err := d.disarm(s)
	d.discard(s)
	return err
}

// bar waits until the service routine has returned and keeps it from being called again.
func (i *Interrupt) bar() {
	atThread(i.synchronizeIRQL, func(t *thread) {
		i.lock.acquire(t.tid)
		i.disconnected = true
		i.lock.release()
	})
}

// shutdown takes everything down when the device is closed.
func (d *device) shutdown() {
	if lookupThread() != nil {
		// Close was called from a service routine, which cannot wait for itself. The rest follows when it has returned.
		go d.shutdown()
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	for _, s := range d.sources {
		for _, i := range s.members() {
			i.report(fmt.Errorf("%s was connected when its device was closed: %w", i, d.errClosed()))
			_ = d.remove(i)
		}
	}
	d.unassign()
	devices.mu.Lock()
	defer devices.mu.Unlock()
	delete(devices.byVFIO, d.vfio)
}

// errClosed says why the device is closed: the host wanted it back, or its user closed it.
func (d *device) errClosed() error {
	if errors.Is(d.vfio.Err(), vfio.ErrReleased) {
		return vfio.ErrReleased
	}
	return os.ErrClosed
}

// unassign gives the vectors back.
func (d *device) unassign() {
	if d.resources == nil {
		return
	}
	d.resources.release()
	d.resources = nil
}
