package vfio

import (
	"errors"
	"os"
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/irqbridge/irqbridge/pci"
	"github.com/irqbridge/irqbridge/vfio/host"
	"github.com/irqbridge/irqbridge/vfio/internal/uapi"
)

// Device is one PCI function, opened through VFIO. [Open] makes it.
//
// All methods are safe for concurrent use, with each other and with Close. Close and Reset wait until the operations
// under way are done and hold off new ones meanwhile; after Close, what needs the device returns an error that is
// os.ErrClosed, and what was learnt at Open stays readable.
type Device struct {
	address  pci.Address
	kernel   Kernel
	host     *host.Host
	token    *VFToken // nil for none
	group    int
	canReset bool
	regions  []RegionInfo
	irqs     [uapi.PCINumIRQs]IRQInfo

	// The arguments of MaskIRQ and UnmaskIRQ, which are on the way of every INTx interrupt. The kernel only reads them.
	maskINTx, unmaskINTx []byte

	closing  sync.Once
	released atomic.Bool // closed because the host wants it back
	faulted  atomic.Bool // an uncorrectable error was reported

	space addressSpace // nil until the backend has opened it
	dma   dmaBuffers

	// life guards the descriptors and, through BAR, the mappings: every operation holds it for reading, Close and
	// Reset for writing. It is taken before mu, and never twice by one goroutine.
	life    sync.RWMutex
	closed  bool
	backend backend // nil before there is one
	fd      int     // -1 while not open

	mu     sync.Mutex
	armed  [uapi.PCINumIRQs][]bool // per index: nil while disabled, else whether each allocated vector has an eventfd
	bars   [6]*BAR
	hooks  []*func()
	hooked bool // Close has taken the hooks: one that comes later runs at once

	watched            []*os.File // the eventfds of Req and Err; nil when the option Unwatched was given
	onRequest, onError func()
	unreported         error // what failed at the end, until Close has returned it
}

// Address is the device's PCI address.
func (d *Device) Address() pci.Address { return d.address }

// Host is the host that the device is in.
func (d *Device) Host() *host.Host { return d.host }

// Group is the number of the device's IOMMU group.
func (d *Device) Group() int { return d.group }

// Backend tells how the device was opened.
func (d *Device) Backend() Backend { return d.backend.kind() }

// CanReset tells whether Reset is possible, VFIO_DEVICE_FLAGS_RESET.
func (d *Device) CanReset() bool { return d.canReset }

// Regions returns the regions of the device; region i is at position i. Those that it does not have are of size 0.
func (d *Device) Regions() []RegionInfo { return slices.Clone(d.regions) }

// Reset resets the function (VFIO_DEVICE_RESET): whatever the device was set to is gone. The kernel brings the
// configuration space back, and enabled interrupts stay enabled and keep their eventfds and host IRQ numbers; but the
// device's own interrupt enables have to be programmed anew. Accesses of other goroutines wait until it is over.
// ErrNotSupported when CanReset is false.
func (d *Device) Reset() error {
	const op = "reset"
	if !d.canReset {
		e := d.fault(op, unix.EINVAL)
		e.Kind = ErrNotSupported
		e.Cause = "the kernel knows no way to reset this function alone"
		e.Remedy = "use the device's own reset register, if it has one"
		return e
	}
	d.life.Lock()
	defer d.life.Unlock()
	if d.closed {
		return d.fault(op, os.ErrClosed)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	before, err := d.readCommand(op)
	if err != nil {
		return err
	}
	if err := d.kernel.DeviceReset(d.fd); err != nil {
		e := d.fault(op, err)
		if errors.Is(err, unix.EAGAIN) {
			e.Cause, e.Remedy = "the host was busy with the device or its bus", "try again"
		}
		if errors.Is(err, unix.ENOTTY) { // no way of resetting worked
			d.explainGone(e)
		}
		return e
	}
	return d.setCommand(op, before, ^before)
}

// AtClose has f called when the device is closed, before anything is taken down; the latest f is called first. f may
// use the device, but must not close it. On a device whose Close has begun, f is called at once. The function returned
// takes f back; it does nothing after f was called.
func (d *Device) AtClose(f func()) (cancel func()) {
	d.mu.Lock()
	if d.hooked {
		d.mu.Unlock()
		f()
		return func() {}
	}
	hook := &f
	d.hooks = append(d.hooks, hook)
	d.mu.Unlock()
	return func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.hooks = slices.DeleteFunc(d.hooks, func(h *func()) bool { return h == hook })
	}
}

// Close gives the device back: it runs the AtClose functions, switches bus mastering off, which ends DMA and messages,
// disables the interrupts, ends the mappings of the BARs, closes the DMA buffers and then the device and what its backend
// opened for it. The kernel then resets the device. It goes on when a step fails and returns all that failed. A second call
// does nothing and returns nil; one made meanwhile waits for the first. When the device was released to the host, Close
// returns what failed then.
func (d *Device) Close() error {
	d.end(func() {})
	d.mu.Lock()
	defer d.mu.Unlock()
	err := d.unreported
	d.unreported = nil
	return err
}

// end closes the device, once. first is called before anything else, unless that has begun.
func (d *Device) end(first func()) {
	d.closing.Do(func() {
		first()
		d.runHooks()
		err := d.shutDown()
		d.mu.Lock()
		defer d.mu.Unlock()
		d.unreported = err
	})
}

// runHooks calls the AtClose functions, without a lock, so that they can use the device.
func (d *Device) runHooks() {
	d.mu.Lock()
	hooks := d.hooks
	d.hooks, d.hooked = nil, true
	d.mu.Unlock()
	for _, f := range slices.Backward(hooks) {
		(*f)()
	}
}

// shutDown takes down whatever Open and its users set up.
func (d *Device) shutDown() error {
	d.life.Lock()
	defer d.life.Unlock()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	var errs []error
	errs = append(errs, d.setCommand("close", 0, pci.CommandBusMaster))
	for i := range d.armed {
		errs = append(errs, d.disable("close", IRQIndex(i)))
		d.armed[i] = nil // what could not be disabled ends with the descriptor
	}
	for _, b := range d.bars {
		if b != nil {
			errs = append(errs, b.unmap())
		}
	}
	for _, b := range slices.Clone(d.dma.buffers) {
		errs = append(errs, b.close())
	}
	errs = append(errs, d.unwatch(), d.closeFiles())
	return errors.Join(errs...)
}

// closeFiles closes what is open of the device and its backend, in this order.
func (d *Device) closeFiles() error {
	err := d.closeFile(&d.fd)
	if d.backend != nil {
		err = errors.Join(err, d.backend.close())
	}
	return err
}

// closeFile closes a descriptor, and makes it -1; it does nothing when it is that.
func (d *Device) closeFile(fd *int) error {
	if *fd < 0 {
		return nil
	}
	err := d.kernel.Close(*fd)
	*fd = -1
	if err != nil {
		return d.fault("close", err)
	}
	return nil
}
