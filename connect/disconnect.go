package connect

import (
	"fmt"
	"slices"
)

// Disconnect is IoDisconnectInterruptEx: it takes a service routine away. When it returns the routine is not running
// and will not be called again, which Windows does not promise in writing. The last one of a source takes the eventfd
// back from the kernel, the last one of a device disables its interrupts.
//
// Stop the device's interrupts first: a line that is still asserted stays masked.
//
// It cannot be called from a service routine, or with an interrupt lock held: it waits for the routine to return,
// so it returns a [*BugCheckError] then, and for a Version other than 1 and 4, and the interrupt stays connected.
// An interrupt that is not connected is a [*StatusError]. Any other error comes from the kernel while the interrupt
// was disarmed; the interrupt is disconnected all the same.
func Disconnect(p *DisconnectParameters) error {
	const op = "disconnect"
	if p == nil {
		return &StatusError{Status: StatusInvalidParameter, Op: op, Reason: "no parameters"}
	}
	if err := requirePassive("Disconnect"); err != nil {
		return err
	}
	i := p.ConnectionContext
	if err := checkVersion(p.Version, i, op); err != nil {
		return err
	}
	if i == nil || i.source == nil {
		return &StatusError{Status: StatusInvalidParameter, Op: op, Reason: "ConnectionContext is no connected interrupt"}
	}
	d := i.source.device
	d.mu.Lock()
	defer d.mu.Unlock()
	if !slices.Contains(*i.source.chain.Load(), i) {
		return &StatusError{Status: StatusInvalidParameter, Op: op, Reason: fmt.Sprintf("%s is not connected any more", i)}
	}
	if err := d.remove(i); err != nil {
		return &StatusError{
			Status: statusOf(err), Op: op, Reason: fmt.Sprintf("%s is disconnected, but the kernel refused", i), Err: err,
		}
	}
	return nil
}

// checkVersion refuses parameters for an interrupt that were made for another kind of connection.
func checkVersion(version uint32, i *Interrupt, op string) error {
	if version == VersionFullySpecified || version == VersionFullySpecifiedGroup {
		return nil
	}
	return &BugCheckError{
		Code:       PNPDetectedFatalError,
		Parameters: [4]uint64{9, uint64(version)},
		Interrupt:  i,
		Reason:     fmt.Sprintf("%s: Version %d for an interrupt that was connected with 1 or 4", op, version),
	}
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
