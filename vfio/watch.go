package vfio

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/irqbridge/irqbridge/vfio/internal/uapi"
)

// Unwatched has Open leave the indexes Err and Req alone: EnableIRQs arms them then, and the host's unbind waits until
// somebody closes the device.
func Unwatched() Option { return func(o *options) { o.unwatched = true } }

// OnRequest sets what is done when the host wants the device back: it is being unbound from its VFIO driver or removed,
// and waits, whoever waits with it, until the device is closed (VFIO_PCI_REQ_IRQ_INDEX). nil is the default: the device
// is closed at once as by Close, with its AtClose functions, and whatever is done with it afterwards fails with
// ErrReleased. Who sets f has to Close the device instead, soon; f may do it itself.
//
// f is called in a goroutine of the device's own, and again about every ten seconds until the device is closed. A call
// may outlast Close. With the option Unwatched it is never called.
func (d *Device) OnRequest(f func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.onRequest = f
}

// OnError sets what is done when an uncorrectable error of the device was reported on its link: PCI Express Advanced
// Error Reporting, 6.2 of the base specification, as VFIO_PCI_ERR_IRQ_INDEX. The state of the device is undefined then:
// stop using it, and Reset or Close it. By default it is only recorded, for Err to tell.
//
// f is called in a goroutine of the device's own, once for each report or for several that came together. A call may
// outlast Close. It is never called with the option Unwatched, or when the kernel does not offer the index: Linux 6.1
// does for PCI Express only.
func (d *Device) OnError(f func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.onError = f
}

// Err is what the host has told of the device: ErrUncorrectable when an error was reported for it, ErrReleased when it
// was closed because the host wants it back, both, or nil.
func (d *Device) Err() error {
	var told []error
	if d.faulted.Load() {
		told = append(told, fmt.Errorf("%v: %w", d.address, ErrUncorrectable))
	}
	if d.released.Load() {
		told = append(told, fmt.Errorf("%v: %w", d.address, ErrReleased))
	}
	return errors.Join(told...)
}

// watch arms Req and Err, as far as the device has them. Each has an eventfd and a goroutine that waits for it in the
// runtime's poller, without a thread of its own; Close ends both. Until the goroutines run, nobody else has the device.
func (d *Device) watch() error {
	request, err := d.watchIndex(Req)
	if err != nil {
		return err
	}
	report, err := d.watchIndex(Err)
	if err != nil {
		return err
	}
	if request != nil {
		go listen(request, d.requested)
	}
	if report != nil {
		go listen(report, d.reported)
	}
	return nil
}

// watchIndex arms one index with an eventfd of the device's own; nil when the device does not have it.
func (d *Device) watchIndex(index IRQIndex) (*os.File, error) {
	if d.irqs[index].Count == 0 {
		return nil, nil
	}
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, d.irqFault("watch", index, -1, os.NewSyscallError("eventfd2", err))
	}
	event := os.NewFile(uintptr(fd), "eventfd")
	d.watched = append(d.watched, event)
	data := binary.NativeEndian.AppendUint32(nil, uint32(int32(fd)))
	_, err = d.kernel.DeviceSetIRQs(d.fd, irqSet(uapi.IRQSetDataEventFD|uapi.IRQSetActionTrigger, index, 0, 1, data))
	if err != nil {
		return nil, d.irqFault("watch", index, -1, err)
	}
	d.armed[index] = []bool{true}
	return event, nil
}

// listen calls heard after each time that the eventfd was signalled, until it is closed. A read takes the whole count:
// what came together is told once.
func listen(event *os.File, heard func()) {
	count := make([]byte, 8)
	for {
		if _, err := event.Read(count); err != nil {
			return
		}
		heard()
	}
}

// requested is called when the host wants the device back.
func (d *Device) requested() {
	d.mu.Lock()
	f, closing := d.onRequest, d.hooked
	d.mu.Unlock()
	switch {
	case closing:
	case f != nil:
		f()
	default:
		d.end(func() { d.released.Store(true) })
	}
}

// reported is called when an error of the device was reported. A handler that was set after Err has told of the error is not
// called for it.
func (d *Device) reported() {
	d.mu.Lock()
	d.faulted.Store(true) // under the lock: who saw it and then sets a handler hears of the next report only
	f := d.onError
	d.mu.Unlock()
	if f != nil {
		f()
	}
}

// unwatch lets the goroutines end. Err and Req are disarmed already.
func (d *Device) unwatch() error {
	var errs []error
	for _, event := range d.watched {
		errs = append(errs, event.Close())
	}
	d.watched = nil
	return errors.Join(errs...)
}
