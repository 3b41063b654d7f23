package vfio

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/irqbridge/irqbridge/pci"
	"github.com/irqbridge/irqbridge/vfio/internal/uapi"
)

// IRQ describes an interrupt index. An index that the device does not have has Count 0. ErrNotFound when index is none
// of the constants.
func (d *Device) IRQ(index IRQIndex) (IRQInfo, error) {
	if int64(index) >= int64(len(d.irqs)) {
		e := d.irqFault("describe", index, -1, unix.EINVAL)
		e.Kind = ErrNotFound
		return IRQInfo{}, e
	}
	return d.irqs[index], nil
}

// EnabledIRQs tells which of INTx, MSI and MSIX is enabled and how many vectors it has, with or without an eventfd; false
// when none is.
func (d *Device) EnabledIRQs() (index IRQIndex, vectors int, enabled bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, i := range []IRQIndex{INTx, MSI, MSIX} {
		if d.armed[i] != nil {
			return i, len(d.armed[i]), true
		}
	}
	return NoIndex, 0, false
}

// EnableIRQs connects vectors start, start+1, … of an index to eventfds (VFIO_DEVICE_SET_IRQS, EVENTFD and TRIGGER): each
// interrupt then adds one to its eventfd. A descriptor of -1 leaves a vector without. The kernel keeps its own
// reference to an eventfd, so closing the descriptor does not end delivery; DisableIRQs does, or -1.
//
// The first call for an index allocates vectors 0 to start+len(fds)-1. A later one replaces eventfds, and adds vectors
// where the index can grow, without any effect on the others; where it cannot (IRQInfo.NoResize), that is ErrNotSupported.
// The way is then to name all vectors at first, with -1 for those to come, or ReenableIRQs, which can lose interrupts.
// Only one of INTx, MSI and MSIX is enabled at a time; a second is ErrBusy. Bus mastering is switched on with an eventfd
// for MSI or MSIX.
//
// When the host has fewer vectors than asked for, the error is a [*FewerVectorsError]. If the first call for an index
// fails, the index is disabled. If a later one fails, all vectors that it named have lost their eventfds, including
// those that had one before, while the others keep theirs.
func (d *Device) EnableIRQs(index IRQIndex, start int, fds []int) error {
	const op = "enable"
	if err := d.checkVectors(op, index, start, fds); err != nil {
		return err
	}
	d.life.RLock()
	defer d.life.RUnlock()
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.enable(op, index, start, fds)
}

// ReenableIRQs disables an index, if it is enabled, and enables vectors 0 to len(fds)-1 as EnableIRQs does: the way to
// another number of vectors where an enabled index cannot grow (IRQInfo.NoResize).
//
// In between is a window in which interrupts of all its vectors are lost, also of those that were enabled before and are
// again. So look at the device's status once afterwards, as after the first enable. The vectors get new host IRQs, perhaps
// of other numbers, and what was set as the affinity of the former ones is gone.
//
// If it fails, the index is disabled: how many vectors a host has is only found out by enabling them. After a
// [*FewerVectorsError] enable those that it has.
func (d *Device) ReenableIRQs(index IRQIndex, fds []int) error {
	const op = "re-enable"
	if err := d.checkVectors(op, index, 0, fds); err != nil {
		return err
	}
	d.life.RLock()
	defer d.life.RUnlock()
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return d.irqFault(op, index, -1, os.ErrClosed)
	}
	if err := d.refuseWatched(op, index); err != nil {
		return err
	}
	if err := d.disable(op, index); err != nil {
		return err
	}
	return d.enable(op, index, 0, fds)
}

// checkVectors refuses vectors that the index does not have.
func (d *Device) checkVectors(op string, index IRQIndex, start int, fds []int) error {
	info, err := d.IRQ(index)
	if err != nil {
		return err
	}
	switch {
	case info.Count == 0:
		return d.refuseEnable(op, index, start, fds, ErrNotSupported, fmt.Sprintf("the device has no %v", index),
			"use another kind: Device.IRQ tells how many of each it has")
	case len(fds) == 0:
		return d.refuseEnable(op, index, start, fds, nil, "no eventfds were given", "name one for each vector, or -1")
	case start < 0 || start >= info.Count || len(fds) > info.Count-start:
		return d.refuseEnable(op, index, start, fds, nil, fmt.Sprintf("%d vectors from %d were named", len(fds), start),
			fmt.Sprintf("name some of 0 to %d", info.Count-1))
	}
	return nil
}

// refuseEnable is the error of an enable that the kernel would refuse with EINVAL.
func (d *Device) refuseEnable(op string, index IRQIndex, start int, fds []int, kind error, cause, remedy string) error {
	e := d.irqFault(op, index, onlyVector(start, len(fds)), unix.EINVAL)
	e.Kind, e.Cause, e.Remedy = kind, cause, remedy
	return e
}

// onlyVector is the vector that n vectors from start are, for an OpError; -1 for several.
func onlyVector(start, n int) int {
	if n == 1 {
		return start
	}
	return -1
}

// enable is EnableIRQs for who has checked the vectors and holds life and mu.
func (d *Device) enable(op string, index IRQIndex, start int, fds []int) error {
	vector := onlyVector(start, len(fds))
	if d.closed {
		return d.irqFault(op, index, vector, os.ErrClosed)
	}
	if err := d.refuseWatched(op, index); err != nil {
		return err
	}
	before := d.armed[index]
	_, exclusive := index.Kind()
	for _, other := range []IRQIndex{INTx, MSI, MSIX} {
		if exclusive && other != index && d.armed[other] != nil {
			return d.refuseEnable(op, index, start, fds, ErrBusy,
				fmt.Sprintf("%v is enabled, and a device uses one kind of interrupt at a time", other), fmt.Sprintf("disable %v first", other))
		}
	}
	if before != nil && d.irqs[index].NoResize && start+len(fds) > len(before) {
		return d.refuseEnable(op, index, start, fds, ErrNotSupported,
			fmt.Sprintf("it was enabled with %d vectors and cannot grow on this kernel", len(before)),
			"enable all vectors at once, with descriptor -1 for those to come; or re-enable it, which can lose interrupts")
	}

	var wasMaster pci.Command
	// Without bus mastering a device sends no message. Who takes triggers away wants none, and may have switched it off.
	messages := (index == MSI || index == MSIX) && slices.ContainsFunc(fds, func(fd int) bool { return fd >= 0 })
	if messages {
		command, err := d.readCommand(op)
		if err != nil {
			return err
		}
		wasMaster = command & pci.CommandBusMaster
		if err := d.setCommand(op, pci.CommandBusMaster, 0); err != nil {
			return err
		}
	}
	data := make([]byte, 0, 4*len(fds))
	for _, fd := range fds {
		data = binary.NativeEndian.AppendUint32(data, uint32(int32(fd)))
	}
	available, err := d.kernel.DeviceSetIRQs(d.fd, irqSet(uapi.IRQSetDataEventFD|uapi.IRQSetActionTrigger, index, start, len(fds), data))
	if err == nil && available == 0 {
		after := make([]bool, max(len(before), start+len(fds)))
		copy(after, before)
		for i, fd := range fds {
			after[start+i] = fd >= 0
		}
		d.armed[index] = after
		return nil
	}

	for i := start; i < min(start+len(fds), len(before)); i++ {
		before[i] = false
	}
	var undo error
	if messages && before == nil && wasMaster == 0 {
		undo = d.setCommand(op, 0, pci.CommandBusMaster)
	}
	if err == nil {
		e := d.irqFault(op, index, vector, &FewerVectorsError{Requested: start + len(fds), Available: available})
		e.Remedy = fmt.Sprintf("enable %d or fewer", available)
		return errors.Join(e, undo)
	}
	e := d.irqFault(op, index, vector, err)
	e.explainEnable()
	return errors.Join(e, undo)
}

// DisableIRQs disables an index and frees its vectors and host IRQs. It does nothing when the index is not enabled.
func (d *Device) DisableIRQs(index IRQIndex) error {
	if _, err := d.IRQ(index); err != nil {
		return err
	}
	d.life.RLock()
	defer d.life.RUnlock()
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return d.irqFault("disable", index, -1, os.ErrClosed)
	}
	if err := d.refuseWatched("disable", index); err != nil {
		return err
	}
	return d.disable("disable", index)
}

// refuseWatched keeps Err and Req for those who listen to them. The caller holds mu.
func (d *Device) refuseWatched(op string, index IRQIndex) error {
	if _, ordinary := index.Kind(); ordinary || d.watched == nil {
		return nil
	}
	e := d.irqFault(op, index, -1, unix.EBUSY)
	e.Kind, e.Cause = ErrBusy, "the device listens to it by itself"
	e.Remedy = "use OnRequest and OnError, or open the device with the option Unwatched"
	return e
}

// disable is DisableIRQs for who holds life and mu.
func (d *Device) disable(op string, index IRQIndex) error {
	if d.armed[index] == nil {
		return nil
	}
	_, err := d.kernel.DeviceSetIRQs(d.fd, irqSet(uapi.IRQSetDataNone|uapi.IRQSetActionTrigger, index, 0, 0, nil))
	// EINVAL: the kernel has it disabled already, as Err and Req are when their only eventfd was -1.
	if err != nil && !errors.Is(err, unix.EINVAL) {
		return d.irqFault(op, index, -1, err)
	}
	d.armed[index] = nil
	return nil
}

// TriggerIRQ makes the kernel signal the eventfds of count vectors from start, as if the device had interrupted. It
// proves the way from the eventfd to the service routine and nothing before it: not the device, bus mastering, the
// message or the host's delivery, and /proc/interrupts does not count it. While COMMAND.INTxDisable is set, a trigger of
// INTx is suppressed. A vector without an eventfd is refused, which the kernel would let pass in silence.
func (d *Device) TriggerIRQ(index IRQIndex, start, count int) error {
	const op = "trigger"
	vector := onlyVector(start, count)
	if _, err := d.IRQ(index); err != nil {
		return err
	}
	d.life.RLock()
	defer d.life.RUnlock()
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return d.irqFault(op, index, vector, os.ErrClosed)
	}
	fail := func(cause string) error {
		e := d.irqFault(op, index, vector, unix.EINVAL)
		e.Cause, e.Remedy = cause, "enable it with an eventfd first"
		return e
	}
	armed := d.armed[index]
	if start < 0 || count < 1 || start >= len(armed) || count > len(armed)-start {
		return fail(fmt.Sprintf("%d vectors are enabled", len(armed)))
	}
	for i := start; i < start+count; i++ {
		if !armed[i] {
			return fail(fmt.Sprintf("vector %d has no eventfd to signal", i))
		}
	}
	if _, err := d.kernel.DeviceSetIRQs(d.fd, irqSet(uapi.IRQSetDataNone|uapi.IRQSetActionTrigger, index, start, count, nil)); err != nil {
		return d.irqFault(op, index, vector, err)
	}
	return nil
}

// irqSet builds the argument of VFIO_DEVICE_SET_IRQS.
func irqSet(flags uint32, index IRQIndex, start, count int, data []byte) []byte {
	fixed := uapi.Size[uapi.IRQSet]()
	arg := make([]byte, fixed+len(data))
	uapi.Put(arg, uapi.IRQSet{
		Argsz: uint32(len(arg)),
		Flags: flags,
		Index: uint32(index),
		Start: uint32(start),
		Count: uint32(count),
	})
	copy(arg[fixed:], data)
	return arg
}

// irqFault is an OpError about interrupts.
func (d *Device) irqFault(op string, index IRQIndex, vector int, err error) *OpError {
	e := d.fault(op, err)
	e.Index, e.Vector = index, vector
	return e
}

const (
	causeNotOpen  = "a descriptor is not open"
	remedyNotOpen = "keep the eventfds open until the call returns"
)

// explainEnable adds what an errno of SET_IRQS means for a call that has passed EnableIRQs' own checks.
func (e *OpError) explainEnable() {
	switch {
	case errors.Is(e.Err, unix.EBADF):
		e.Cause, e.Remedy = causeNotOpen, remedyNotOpen
	case errors.Is(e.Err, unix.EBUSY):
		e.Kind = ErrBusy
		e.Cause = "the device cannot disable its interrupt line, and the line is shared with another device"
		e.Remedy = "use MSI or MSI-X, or unbind the driver of the other device on the line (see /proc/interrupts)"
	case errors.Is(e.Err, unix.ENOSPC):
		e.Cause = "the host is out of interrupt vectors"
		e.Remedy = "ask for fewer vectors; x86 has about 200 for each CPU, which all devices share"
	case errors.Is(e.Err, unix.EINVAL):
		e.Cause = "a descriptor is not an eventfd, or the device is powered down or has memory decoding off"
		e.Remedy = "check the descriptors, COMMAND bit 1 in config space and power_state in sysfs"
	}
}
