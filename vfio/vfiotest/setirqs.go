package vfiotest

import (
	"encoding/binary"
	"math"

	"golang.org/x/sys/unix"

	"github.com/irqbridge/irqbridge/vfio/internal/uapi"
)

// The halves of IRQSet.Flags.
const (
	dataMask   = uapi.IRQSetDataNone | uapi.IRQSetDataBool | uapi.IRQSetDataEventFD
	actionMask = uapi.IRQSetActionMask | uapi.IRQSetActionUnmask | uapi.IRQSetActionTrigger
)

// request is a VFIO_DEVICE_SET_IRQS that was found well formed.
type request struct {
	index  uint32
	action uint32
	kind   uint32 // of data: uapi.IRQSetDataNone, IRQSetDataBool or IRQSetDataEventFD
	start  int
	count  int
	data   []byte
}

// flag is entry i of DATA_BOOL; with DATA_NONE every entry is set.
func (r request) flag(i int) bool { return r.kind == uapi.IRQSetDataNone || r.data[i] != 0 }

// fd is entry i of DATA_EVENTFD.
func (r request) fd(i int) int { return int(int32(binary.NativeEndian.Uint32(r.data[4*i:]))) }

// disables tells whether this is DATA_NONE with count 0, which for TRIGGER means to disable the index.
func (r request) disables() bool { return r.kind == uapi.IRQSetDataNone && r.count == 0 }

// DeviceSetIRQs sets up, masks, unmasks, triggers and disables interrupts.
func (k *Kernel) DeviceSetIRQs(fd int, arg []byte) (int, error) {
	f, err := enterFile[*deviceFile](k, "DeviceSetIRQs", fd)
	defer k.mu.Unlock()
	if err != nil {
		return 0, err
	}
	if err := uapi.CheckArg(arg, uapi.IRQSetMinSize); err != nil {
		return 0, err
	}
	r, err := f.device.parse(arg)
	if err != nil {
		return 0, err
	}
	return f.device.setIRQs(r)
}

// parse checks a request in the order in which the kernel does, up to the choice of what to do.
func (d *device) parse(arg []byte) (request, error) {
	set := uapi.Take[uapi.IRQSet](arg)
	if set.Argsz < uapi.IRQSetMinSize || set.Index >= uapi.PCINumIRQs || set.Count >= math.MaxUint32-set.Start ||
		set.Flags&^(dataMask|actionMask) != 0 {
		return request{}, unix.EINVAL
	}
	available := uint32(d.count(set.Index))
	if set.Start >= available || set.Start+set.Count > available {
		return request{}, unix.EINVAL
	}
	size := uint64(0)
	switch set.Flags & dataMask {
	case uapi.IRQSetDataNone:
	case uapi.IRQSetDataBool:
		size = 1
	case uapi.IRQSetDataEventFD:
		size = 4
	default:
		return request{}, unix.EINVAL
	}
	if uint64(set.Argsz-uapi.IRQSetMinSize) < uint64(set.Count)*size {
		return request{}, unix.EINVAL
	}
	return request{
		index: set.Index, action: set.Flags & actionMask, kind: set.Flags & dataMask, start: int(set.Start), count: int(set.Count),
		data: arg[uapi.IRQSetMinSize : uapi.IRQSetMinSize+uint64(set.Count)*size],
	}, nil
}

// setIRQs does what is asked. The positive result is how many messages there are when more were asked for.
func (d *device) setIRQs(r request) (int, error) {
	trigger := r.action == uapi.IRQSetActionTrigger
	switch {
	case r.index == uapi.PCIINTxIRQIndex && r.action == uapi.IRQSetActionMask:
		return 0, d.setINTxMask(r)
	case r.index == uapi.PCIINTxIRQIndex && r.action == uapi.IRQSetActionUnmask:
		return 0, d.setINTxUnmask(r)
	case r.index == uapi.PCIINTxIRQIndex && trigger:
		return 0, d.setINTxTrigger(r)
	case (r.index == uapi.PCIMSIIRQIndex || r.index == uapi.PCIMSIXIRQIndex) && trigger:
		return d.setMessageTrigger(r)
	case r.index == uapi.PCIErrIRQIndex && trigger:
		return 0, d.setSingleTrigger(&d.err, r)
	case r.index == uapi.PCIReqIRQIndex && trigger:
		return 0, d.setSingleTrigger(&d.req, r)
	}
	return 0, unix.ENOTTY
}

// setSingleTrigger is TRIGGER of ERR and REQ.
func (d *device) setSingleTrigger(event **eventfd, r request) error {
	if r.start != 0 || r.count > 1 {
		return unix.EINVAL
	}
	switch {
	case r.disables():
		if *event == nil {
			return unix.EINVAL
		}
		(*event).put()
		*event = nil
		return nil
	case r.count == 0:
		return unix.EINVAL
	case r.kind == uapi.IRQSetDataEventFD:
		return d.swapSingle(event, r.fd(0))
	case *event == nil:
		if r.kind == uapi.IRQSetDataNone {
			return unix.EINVAL
		}
		return nil
	case r.flag(0):
		(*event).signal()
	}
	return nil
}

// swapSingle sets or, with -1, clears the eventfd of ERR or REQ.
func (d *device) swapSingle(event **eventfd, fd int) error {
	var taken *eventfd
	if fd < -1 {
		if d.function.kernel.version == V6_1 {
			return nil
		}
		return unix.EINVAL
	}
	if fd >= 0 {
		var err error
		if taken, err = takeEventfd(fd); err != nil {
			return err
		}
	}
	(*event).put()
	*event = taken
	return nil
}
