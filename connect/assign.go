package connect

import (
	"cmp"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/irqbridge/irqbridge/pci"
	"github.com/irqbridge/irqbridge/vfio"
)

// Resources are the interrupts that [Assign] gave to a device: what the PnP manager hands to a Windows driver with
// IRP_MN_START_DEVICE. ResourceList holds them as that page shows them, and its Expand gives one entry for each
// interrupt with the vector to connect.
type Resources struct {
	pci.ResourceList
	Device *vfio.Device
	// Kind is the kind of the interrupts, 0 when the device has none.
	Kind pci.Kind
	// Shortfall is why they are fewer, or of a lesser kind, than the device and the policy would have; nil if they
	// are not. It is a [*vfio.FewerVectorsError] where the host said how many there are.
	Shortfall error

	messages    []pci.Message
	line        *line // a modelled one, nil for others
	allowSubset bool
	stormLimit  int
	dispatch    []Dispatch // by message, nil for the default of all
	spares      int        // entries of the MSI-X table after the messages, which deliver message 0
}

// Assign chooses interrupts for a device, as the PnP manager does: MSI-X before MSI before the line. If the host cannot
// give all the messages, the device gets exactly one, and if not even that, the line. A device without interrupts
// gets an empty list. With a Kind in the policy there is no fall-back to another kind.
//
// How many messages a host can give is only known by enabling them with an eventfd. So Assign does that, and
// disables them at once: the device keeps no vectors until the first Connect, which can then still fail if
// somebody else took them meanwhile. The device must not have interrupts enabled through its own methods.
//
// The vectors and levels are this package's own (see the package documentation); raw descriptors say what the device
// asks for. Assigning again replaces the resources of before; it is refused while an interrupt is connected. The
// resources end with Release or with the device's Close.
func Assign(dev *vfio.Device, p Policy) (*Resources, error) {
	if dev == nil {
		return nil, errors.New("assign: no device")
	}
	if err := requirePassive("Assign"); err != nil {
		return nil, err
	}
	d := enterDevice(dev)
	d.mu.Lock()
	defer d.mu.Unlock()
	r, err := d.assign(p)
	if err != nil {
		return nil, fmt.Errorf("assign interrupts of %s: %w", dev.Address(), err)
	}
	return r, nil
}

func (d *device) assign(p Policy) (*Resources, error) {
	if d.closed {
		return nil, d.errClosed()
	}
	if len(d.sources) > 0 {
		return nil, fmt.Errorf("%w: interrupts are connected; disconnect them first", vfio.ErrBusy)
	}
	if index, n, on := d.vfio.EnabledIRQs(); on {
		return nil, fmt.Errorf("%w: %d %s vectors are enabled already; disable them first", vfio.ErrBusy, n, index)
	}
	f, err := d.vfio.Function()
	if err != nil {
		return nil, err
	}
	r, err := d.choose(f, p)
	if err != nil {
		return nil, err
	}
	if err := d.translate(r, p); err != nil {
		return nil, err
	}
	d.resources = r
	return r, nil
}

// choose finds the best interrupts that the device has and the host can give, as raw descriptors.
func (d *device) choose(f *pci.Function, p Policy) (*Resources, error) {
	options, err := options(f, p, d.offered)
	if err != nil {
		return nil, err
	}
	r := &Resources{
		ResourceList: pci.ResourceList{InterfaceType: pci.InterfacePCIBus, BusNumber: uint32(d.vfio.Address().Bus)},
		Device:       d.vfio,
		allowSubset:  p.AllowSubsetMask,
		stormLimit:   cmp.Or(p.StormLimit, defaultStormLimit),
	}
	for _, o := range options {
		raw, err := pci.RawResources(f, o.kind, o.n)
		if err != nil {
			return nil, err
		}
		if given, err := d.probe(f, o, r); err != nil {
			return nil, err
		} else if !given {
			continue
		}
		r.Kind, r.Raw = o.kind, raw
		if o.kind == pci.KindINTx {
			d.numberLine(&r.Raw[0])
		}
		if o.kind == pci.KindMSIX && p.WholeTable {
			if err := d.probeSpares(f, o, r); err != nil {
				return nil, err
			}
		}
		return r, nil
	}
	return r, r.Shortfall
}

// probeSpares finds out whether the host can give vectors to the whole MSI-X table, of which the first are messages.
func (d *device) probeSpares(f *pci.Function, o option, r *Resources) error {
	table, err := available(f, pci.KindMSIX, Policy{}, d.offered)
	if err != nil || table == o.n {
		return err
	}
	given, err := d.probe(f, option{o.kind, table}, r)
	if given {
		r.spares = table - o.n
	}
	return err
}

// option is one way to give a device interrupts.
type option struct {
	kind pci.Kind
	n    int
}

// options lists the ways in the order in which they are tried, none for a device without interrupts. offered is how many
// of a kind VFIO has to give.
func options(f *pci.Function, p Policy, offered func(pci.Kind) (int, error)) ([]option, error) {
	if err := p.check(); err != nil {
		return nil, err
	}
	kinds := []pci.Kind{pci.KindMSIX, pci.KindMSI, pci.KindINTx}
	if p.Kind != 0 {
		kinds = []pci.Kind{p.Kind}
	}
	var list []option
	for _, kind := range kinds {
		n, err := available(f, kind, p, offered)
		if err != nil {
			return nil, err
		}
		if n == 0 || kind == pci.KindMSI && len(list) > 0 {
			continue // with MSI-X there, Windows does not look at MSI
		}
		list = append(list, option{kind, n})
		if n > 1 {
			list = append(list, option{kind, 1})
		}
	}
	return list, nil
}

// available is how many interrupts of a kind the device, VFIO and the policy allow. A kind that the policy asks for by
// name must be there.
func available(f *pci.Function, kind pci.Kind, p Policy, offered func(pci.Kind) (int, error)) (int, error) {
	has := kind == pci.KindINTx && f.INTx != nil || kind == pci.KindMSI && f.MSI != nil || kind == pci.KindMSIX && f.MSIX != nil
	if !has && p.Kind == 0 {
		return 0, nil
	}
	raw, err := pci.RawResources(f, kind, 0) // refuses what is not there or makes no sense
	if err != nil {
		return 0, err
	}
	limit, err := offered(kind)
	if err != nil {
		return 0, err
	}
	if limit == 0 && p.Kind != 0 {
		return 0, fmt.Errorf("%s: %w: the kernel offers none of this device", kind, vfio.ErrNotSupported)
	}
	n := len(raw)
	if kind == pci.KindMSI {
		n = int(raw[0].MessageCount)
		if p.WindowsLimits {
			n = min(n, 16)
		}
	}
	n = min(n, limit)
	if p.Messages > 0 {
		n = min(n, p.Messages)
	}
	return n, nil
}

// offered is how many interrupts of a kind VFIO offers of the device.
func (d *device) offered(kind pci.Kind) (int, error) {
	info, err := d.vfio.IRQ(vfio.IndexOf(kind))
	return info.Count, err
}

// probe finds out whether the host can give messages, and leaves the device as it was. That it has too few goes into
// the shortfall. A line is not probed: there is one or there is not.
func (d *device) probe(f *pci.Function, o option, r *Resources) (given bool, err error) {
	if o.kind == pci.KindINTx {
		return true, nil
	}
	index := vfio.IndexOf(o.kind)
	// With eventfds, for whose signals nobody waits: x86 takes no vector for a message that has none. Each has its own,
	// because the kernel logs it when two have the same.
	fds := make([]int, 0, o.n)
	defer func() {
		for _, fd := range fds {
			_ = unix.Close(fd)
		}
	}()
	for range o.n {
		fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
		if err != nil {
			return false, os.NewSyscallError("eventfd2", err)
		}
		fds = append(fds, fd)
	}
	err = d.vfio.EnableIRQs(index, 0, fds)
	var fewer *vfio.FewerVectorsError
	if errors.As(err, &fewer) || errors.Is(err, unix.ENOSPC) {
		if r.Shortfall == nil {
			r.Shortfall = err
		}
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if err := d.vfio.DisableIRQs(index); err != nil {
		return false, err
	}
	if f.Command&pci.CommandBusMaster == 0 {
		return true, d.vfio.SetBusMaster(false)
	}
	return true, nil
}

// numberLine gives a line that the firmware left without a number the number of its Linux interrupt.
func (d *device) numberLine(raw *pci.RawDescriptor) {
	if raw.Vector != 0 && raw.Vector != 0xFF {
		return
	}
	if h, err := d.vfio.Host().Device(d.vfio.Address()); err == nil && h.IRQ > 0 {
		raw.Level, raw.Vector = uint16(h.IRQ), uint32(h.IRQ)
	}
}

// translate gives the interrupts vectors, levels and processors, in place of those that the device had before.
func (d *device) translate(r *Resources, p Policy) error {
	cpus, err := d.processors(p)
	if err != nil {
		return err
	}
	irq := 0
	if p.ModelSharedLines && r.Kind == pci.KindINTx {
		if irq, err = d.hostLine(); err != nil {
			return err
		}
	}
	d.unassign()
	for i, to := range p.affinities(cpus, r.Kind, len(r.Raw)) {
		t, ok := r.translate(r.Raw[i], to, irq)
		if !ok {
			r.release()
			return errors.New("all interrupt vectors of the process are assigned; release some")
		}
		r.Translated = append(r.Translated, t)
		r.messages = r.Expand()
	}
	return nil
}

// translate gives one raw descriptor a vector of the process: that of the host's interrupt irq if the line is modelled,
// for which irq is not 0.
func (r *Resources) translate(raw pci.RawDescriptor, to processors, irq int) (_ pci.TranslatedDescriptor, ok bool) {
	if irq == 0 {
		return translate(raw, to, &vectors)
	}
	if r.line, ok = takeLine(r.Device.Host(), irq); !ok {
		return pci.TranslatedDescriptor{}, false
	}
	return describe(raw, to, r.line.vector), true
}

// translate gives one raw descriptor a vector of the table, with its level, and processors. ok is false when the table is full.
func translate(raw pci.RawDescriptor, to processors, table *vectorTable) (_ pci.TranslatedDescriptor, ok bool) {
	first, ok := table.alloc(uint32(max(1, raw.MessageCount)))
	return describe(raw, to, first), ok
}

// describe is the translated descriptor of a raw one, with its first vector, the level of that, and processors.
func describe(raw pci.RawDescriptor, to processors, first uint32) pci.TranslatedDescriptor {
	return pci.TranslatedDescriptor{
		Type:     raw.Type,
		Share:    raw.Share,
		Flags:    raw.Flags,
		Level:    uint16(levelOf(first)),
		Group:    to.group,
		Vector:   first,
		Affinity: to.mask,
	}
}

// release gives the vectors back.
func (r *Resources) release() {
	if r.line != nil {
		r.line.release()
		r.line, r.messages = nil, nil
	}
	for _, m := range r.messages {
		vectors.release(m.Translated.Vector, 1)
	}
	r.messages = nil
}

// Release gives the resources back. It is refused while an interrupt is connected, and does nothing when they are
// the device's no more.
func (r *Resources) Release() error {
	if err := requirePassive("Release"); err != nil {
		return err
	}
	d := lookupDevice(r.Device)
	if d == nil {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.resources != r {
		return nil
	}
	if len(d.sources) > 0 {
		return fmt.Errorf("release interrupts of %s: %w: interrupts are connected; disconnect them first",
			r.Device.Address(), vfio.ErrBusy)
	}
	d.unassign()
	return nil
}

// OnError sets who is told when something goes wrong with one of the device's interrupts; nil for nobody. [Interrupt.Err]
// lists what that is. The handler is called once for each interrupt of the chain and each time that it begins, in a
// goroutine of its own, and may disconnect the interrupt; for a routine that does not return, that waits for it.
func (r *Resources) OnError(handler func(i *Interrupt, err error)) {
	if d := lookupDevice(r.Device); d != nil {
		d.onError.Store(&handler)
	}
}
