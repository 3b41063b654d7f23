package connect

import (
	"fmt"

	"github.com/irqbridge/irqbridge/pci"
	"github.com/irqbridge/irqbridge/vfio"
)

// ActiveStateParameters is IO_REPORT_INTERRUPT_ACTIVE_STATE_PARAMETERS.
type ActiveStateParameters struct {
	// Version is VersionFullySpecified or VersionFullySpecifiedGroup, whichever the interrupt was connected with.
	Version uint32
	// ConnectionContext is what Connect stored through InterruptObject.
	ConnectionContext *Interrupt
}

// activity tells whether an interrupt's service routine is called.
type activity uint8

const (
	active activity = iota
	inactive
	// resumed is active again, but events may still be under way that were signalled before.
	resumed
)

// ReportInactive is IoReportInterruptInactive: the device has stopped interrupting, in a low-power state for example,
// and the service routine is not to be called until [ReportActive]. The interrupt stays connected, with its place in the chain.
// When ReportInactive returns the routine is not running and will not be called. Quiet the device first.
//
// A line whose connected interrupts are all inactive is masked. A message has no mask: what comes is counted in
// Stats.DroppedInactive and forgotten. Inactive members of a chain are passed over. To report what is so already is no
// error, and Disconnect takes inactive interrupts as it takes others.
//
// It may be called at DISPATCH_LEVEL, from a DPC, but not from a service routine nor with an interrupt lock held: that
// is a [*BugCheckError], and nothing has changed, as for a Version other than 1 and 4. An interrupt that is not connected
// is a [*StatusError]. If the kernel refuses to mask the line, that is a *StatusError too, but the interrupt is inactive: its
// routine is not called, and the line is masked with the next interrupt.
func ReportInactive(p *ActiveStateParameters) error {
	return p.report("report inactive", func(i *Interrupt) error {
		if i.activity == inactive {
			return nil
		}
		i.activity = inactive
		return i.source.deactivated()
	})
}

// ReportActive is IoReportInterruptActive: it ends [ReportInactive]. Interrupts are active when they are connected. A line
// that is asserted fires now; messages that came meanwhile are lost. Let the device interrupt only after it has returned.
//
// Its errors are those of ReportInactive; if the kernel refuses to unmask the line, the interrupt stays inactive.
func ReportActive(p *ActiveStateParameters) error {
	return p.report("report active", func(i *Interrupt) error {
		if i.activity != inactive {
			return nil
		}
		i.resume()
		err := i.source.activated()
		if err != nil {
			i.activity = inactive
		}
		return err
	})
}

// report changes the activity of the interrupt under its lock.
func (p *ActiveStateParameters) report(op string, change func(*Interrupt) error) (err error) {
	if p == nil {
		return &StatusError{Status: StatusInvalidParameter, Op: op, Reason: "no parameters"}
	}
	if t := lookupThread(); t != nil && t.irql > DispatchLevel {
		return &BugCheckError{
			Code:       DriverViolation,
			Parameters: [4]uint64{1, uint64(t.irql), uint64(DispatchLevel)},
			Reason: fmt.Sprintf("%s: called at IRQL %d, from a service routine or with an interrupt lock held; "+
				"call it from a DPC or an ordinary goroutine", op, t.irql),
		}
	}
	i := p.ConnectionContext
	if err := checkVersion(p.Version, i, op); err != nil {
		return err
	}
	if i == nil || i.source == nil {
		return &StatusError{Status: StatusInvalidParameter, Op: op, Reason: "ConnectionContext is no connected interrupt"}
	}
	atThread(i.synchronizeIRQL, func(t *thread) {
		if refused := i.lock.acquireWith(t.tid); refused != "" {
			err = i.ownWait(op, refused)
			return
		}
		defer i.lock.release()
		if i.disconnected {
			err = &StatusError{Status: StatusInvalidParameter, Op: op, Reason: fmt.Sprintf("%s is not connected any more", i)}
			return
		}
		if refused := change(i); refused != nil {
			err = &StatusError{Status: statusOf(refused), Op: op, Reason: i.String(), Err: refused}
		}
	})
	return err
}

// resume makes the interrupt active again, under its lock. Of a message only what is signalled from now on counts. A
// line is signalled by the unmask that follows if there is still something to serve.
func (i *Interrupt) resume() {
	i.activity = active
	if i.source.kind == pci.KindINTx {
		return
	}
	if n, err := i.source.eventfd.count(); err == nil {
		i.activity, i.resumedAt = resumed, n
	}
}

// due tells, under the lock, whether an event is for an interrupt that is not or was not active, and counts it if it is
// not. For one that was resumed it looks at the kernel's count, until the first signal that came since.
func (i *Interrupt) due() bool {
	if i.activity == resumed {
		if n, err := i.source.eventfd.count(); err != nil || n > i.resumedAt {
			i.activity = active
			return true
		}
	}
	i.dropped.Add(1)
	return false
}

// activated counts one more member of the source that is called. The first one has the line unmasked: if it is asserted
// the kernel signals at once, and the dispatcher, which unmasks only for those who are counted, may be served first.
func (s *source) activated() error {
	s.gate.Lock()
	defer s.gate.Unlock()
	if s.active.Add(1) > 1 || s.kind != pci.KindINTx || s.err.Load() != nil {
		return nil
	}
	err := s.device.vfio.UnmaskIRQ(vfio.INTx)
	if err != nil {
		s.active.Add(-1)
	}
	return err
}

// deactivated counts one member less. With the last one the line is masked.
func (s *source) deactivated() error {
	s.gate.Lock()
	defer s.gate.Unlock()
	if s.active.Add(-1) > 0 || s.kind != pci.KindINTx {
		return nil
	}
	return s.device.vfio.MaskIRQ(vfio.INTx)
}

// remask masks the line again if nobody is active any more: the dispatcher's unmask may have come after the mask of
// deactivated. If that fails, the next interrupt masks the line and reaches nobody.
func (s *source) remask() {
	s.gate.Lock()
	defer s.gate.Unlock()
	if s.active.Load() == 0 {
		_ = s.device.vfio.MaskIRQ(vfio.INTx)
	}
}
