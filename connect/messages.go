package connect

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"

	"github.com/irqbridge/irqbridge/vfio/host"
)

// MessageServiceRoutine is the KMESSAGE_SERVICE_ROUTINE of wdm.h without the arguments that a closure has anyway: it gets the
// message number, 0 for the line, and returns whether the interrupt was its device's. What [ServiceRoutine] may and may not do
// it may and may not do either. Messages that have no common lock and are served on different processors may be in it
// at once.
type MessageServiceRoutine func(message int) bool

// Messages are all interrupts of a device, connected to one routine by [Resources.ConnectMessages].
type Messages struct {
	interrupts []*Interrupt

	mu        sync.Mutex
	connected []*Interrupt
}

// ConnectMessages connects all interrupts that [Assign] gave to a device to one routine, as CONNECT_MESSAGE_BASED does on
// Windows: the messages of MSI-X or MSI by their numbers, or the line as message 0. It is Connect for each of them
// with the parameters that [FromDescriptor] gives, and no other machinery; but the kernel gets all eventfds in one call.
//
// With a lock the routine is never in two messages at once, and [Interrupt.Synchronize] of any of them keeps all of
// them out; the lock may be shared with other interrupts too, if these have the same SynchronizeIrql (see [LockGroup]).
// With nil each message has a lock of its own.
//
// All of them are connected or, after an error, which is that of Connect, none. The first message can arrive before
// ConnectMessages returns. A device without interrupts is a [*StatusError] with StatusNotFound.
func (r *Resources) ConnectMessages(lock *SpinLock, routine MessageServiceRoutine) (*Messages, error) {
	if r == nil {
		return nil, refuse(StatusInvalidParameter, "no resources; Assign gives them")
	}
	if routine == nil {
		return nil, refuse(StatusInvalidParameter, "the message service routine is nil")
	}
	list := r.Expand()
	if len(list) == 0 {
		return nil, refuse(StatusNotFound, "%s has no interrupts assigned", r.Device.Address())
	}
	m := &Messages{interrupts: make([]*Interrupt, len(list))}
	params := make([]*Parameters, len(list))
	for n := range list {
		p, err := FromDescriptor(list[n].Translated)
		if err != nil {
			return nil, &StatusError{Status: StatusInvalidParameter, Op: "connect", Reason: fmt.Sprintf("message %d", n), Err: err}
		}
		p.PhysicalDeviceObject = r.Device
		p.InterruptObject = &m.interrupts[n]
		p.ServiceRoutine = func(*Interrupt, any) bool { return routine(n) }
		params[n] = &p
	}
	if lock != nil {
		LockGroup(lock, params...)
	}
	connected, err := connectAll(params)
	m.connected = slices.Clone(m.interrupts[:connected])
	if err != nil {
		return nil, errors.Join(err, m.Disconnect())
	}
	return m, nil
}

// connectAll connects all messages of a device, and returns how many it did before it failed.
func connectAll(ps []*Parameters) (connected int, err error) {
	if err := requirePassive("Connect"); err != nil {
		return 0, err
	}
	for _, p := range ps {
		if err := p.check(runtime.GOARCH); err != nil {
			return 0, err
		}
	}
	d := lookupDevice(ps[0].PhysicalDeviceObject)
	if d == nil {
		return 0, refuse(StatusNotFound, "%s has no interrupts assigned; call Assign first", ps[0].PhysicalDeviceObject.Address())
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.sources) == 0 && ps[0].InterruptMode == Latched {
		if err := d.connectAtOnce(ps); err != nil {
			return 0, err
		}
		return len(ps), nil
	}
	for n, p := range ps {
		if err := d.connect(p); err != nil {
			return n, err
		}
	}
	return len(ps), nil
}

// connectAtOnce connects all messages of a device that has none connected, and arms them in one call of the kernel. After an error none
// is connected. The caller holds d.mu.
func (d *device) connectAtOnce(ps []*Parameters) (err error) {
	begun := make([]*source, 0, len(ps))
	members := make([]*Interrupt, 0, len(ps))
	defer func() {
		if err == nil {
			return
		}
		for n, i := range slices.Backward(members) {
			if n < len(begun) {
				s := begun[n]
				s.stop()
				s.chain.mu.Lock()
				d.abandon(i, s)
				s.chain.mu.Unlock()
			}
			*ps[n].InterruptObject = nil
			i.lock.part()
		}
	}()
	// What the processors of a mask are is asked of the host once.
	known := make(map[host.CPUSet]host.CPUSet)
	cpusOf := func(wanted host.CPUSet) (cpus host.CPUSet, err error) {
		cpus, ok := known[wanted]
		if !ok {
			if cpus, err = usable(d.vfio.Host(), wanted); err == nil {
				known[wanted] = cpus
			}
		}
		return cpus, err
	}
	for _, p := range ps {
		i, m, cpus, err := d.prepare(p, cpusOf)
		if err != nil {
			return err
		}
		members = append(members, i)
		c := d.chainOf(m)
		c.mu.Lock()
		s, err := d.begin(i, m, p, c, cpus)
		c.mu.Unlock()
		if err != nil {
			return err
		}
		begun = append(begun, s)
	}
	if err := d.arm(begun...); err != nil {
		return &StatusError{
			Status: statusOf(err), Op: "connect", Reason: fmt.Sprintf("vectors 0x%x to 0x%x", ps[0].Vector, ps[len(ps)-1].Vector), Err: err,
		}
	}
	d.armed(begun...)
	return nil
}

// Interrupts returns the interrupts by message number. Each may be used as any other, except that Disconnect of a single one
// leaves the others connected.
func (m *Messages) Interrupts() []*Interrupt { return slices.Clone(m.interrupts) }

// Disconnect disconnects all of them, the last message first. When it returns the routine is not running and will not be
// called. Quiet the device before. What is disconnected already, because the device was closed or by a Disconnect of before,
// is left out: a second call does nothing. From a service routine or with an interrupt lock held it returns a [*BugCheckError]
// and disconnects nothing.
func (m *Messages) Disconnect() error {
	if err := requirePassive("Disconnect"); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	var errs []error
	for _, i := range slices.Backward(m.connected) {
		err := Disconnect(&DisconnectParameters{Version: VersionFullySpecified, ConnectionContext: i})
		if !errors.Is(err, StatusInvalidParameter) { // it is not connected any more
			errs = append(errs, err)
		}
	}
	m.connected = nil
	return errors.Join(errs...)
}
