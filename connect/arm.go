package connect

import (
	"errors"
	"slices"

	"github.com/irqbridge/irqbridge/pci"
	"github.com/irqbridge/irqbridge/vfio"
)

// arm hands the eventfds of sources to the kernel. The first call for the messages of a device enables all that were assigned,
// those that are not among them without a trigger: kernels before 6.5 cannot add vectors to an enabled index. Each later
// message is then an exchange of one vector's trigger. If it fails it may have got through in part; disarm undoes that.
func (d *device) arm(sources ...*source) error {
	first := sources[0]
	if first.kind == pci.KindINTx {
		return d.armLine(first)
	}
	if len(d.sources) > 0 {
		return first.hand(first.eventfd.fd)
	}
	fds := slices.Repeat([]int{-1}, len(d.resources.messages)+d.resources.spares)
	for _, s := range sources {
		fds[s.message.Index] = s.eventfd.fd
		for i := range s.spares {
			fds[s.firstSpare+i] = s.eventfd.fd
		}
	}
	return d.vfio.EnableIRQs(vfio.IndexOf(first.kind), 0, fds)
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

// steer asks the host to deliver sources on the CPUs that serve them: a wake-up on the same CPU costs a fraction of one
// across. It needs root, so it is tried, and the outcome kept for Affinity.
func (d *device) steer(sources []*source) {
	h := d.vfio.Host()
	numbers, err := h.IRQNumbers(d.vfio.Address(), sources[0].kind)
	move := func(message int, s *source) error {
		if err != nil {
			return err
		}
		irq, ok := numbers[message]
		if !ok {
			_, err := h.FindIRQ(d.vfio.Address(), s.kind, message) // says what is missing
			return err
		}
		return h.SetAffinity(irq, s.dispatcher.pinned)
	}
	for _, s := range sources {
		outcome := move(s.message.Index, s)
		for i := range s.spares {
			outcome = errors.Join(outcome, move(s.firstSpare+i, s))
		}
		s.steered.Store(&outcome)
	}
}
