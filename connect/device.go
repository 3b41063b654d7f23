package connect

import (
	"errors"
	"fmt"
	"os"
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
	sources     map[int]*source               // armed, by message number
	dispatchers map[dispatcherKey]*dispatcher // those that serve more than one source
	closed      bool

	onError atomic.Pointer[func(*Interrupt, error)]
	timed   atomic.Bool // MeasureTimes
}

// dispatcherKey is what sources that share a dispatcher have in common.
type dispatcherKey struct {
	cpus host.CPUSet
	how  Dispatch
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
	d = &device{vfio: v, sources: make(map[int]*source), dispatchers: make(map[dispatcherKey]*dispatcher)}
	devices.byVFIO[v] = d
	devices.mu.Unlock()
	v.AtClose(d.shutdown)
	return d
}

// dispatcherFor returns the dispatcher for a source with these CPUs, which it starts if there is none.
func (d *device) dispatcherFor(cpus host.CPUSet, how Dispatch) (*dispatcher, error) {
	key := dispatcherKey{cpus, how}
	if dp := d.dispatchers[key]; dp != nil {
		return dp, nil
	}
	dp, err := startDispatcher(d.vfio.Host(), cpus, how)
	if err != nil {
		return nil, err
	}
	if !how.Own {
		d.dispatchers[key] = dp
	}
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
	if s.dispatcher, err = d.dispatcherFor(cpus, d.resources.dispatchOf(m.Index)); err != nil {
		s.eventfd.close()
		return nil, err
	}
	return s, nil
}

// discard ends a source that is in no dispatcher and not armed, and its dispatcher if that was its last source.
func (d *device) discard(s *source) {
	if s.dispatcher.idle() {
		delete(d.dispatchers, dispatcherKey{s.dispatcher.cpus, s.dispatcher.how})
		s.dispatcher.stop()
	}
	s.eventfd.close()
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
