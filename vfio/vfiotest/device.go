package vfiotest

import (
	"golang.org/x/sys/unix"

	"github.com/irqbridge/irqbridge/pci"
	"github.com/irqbridge/irqbridge/vfio/internal/uapi"
)

// device is a function while it is open through VFIO, however often.
type device struct {
	function *function
	files    int
	binding  *binding // to the iommufd that its group has in the place of a container; nil without
	config   view

	// live is the one of INTx, MSI and MSI-X that is enabled; idle for none.
	live uint32
	intx intx
	// vectors are the allocated messages of MSI and MSI-X.
	vectors map[int]*vector
	err     *eventfd // of ERR; nil when not set
	req     *eventfd // of REQ

	low        lowPower
	ioeventfds []ioeventfd
}

// idle stands for none of the interrupt indexes.
const idle = uapi.PCINumIRQs

// deviceFile is one open of a device. It lives as long as its descriptor and its mappings.
type deviceFile struct {
	device *device
	users  int
	cdev   *cdevFile // the open of the device's own node; nil when it was opened through the group
}

func (f *deviceFile) release() {
	if f.users--; f.users > 0 {
		return
	}
	d := f.device
	fn := d.function
	if d.files--; d.files == 0 {
		d.stop()
		if d.binding != nil {
			d.binding.unbind()
		}
		fn.device = nil
		if fn.gone {
			fn.kernel.forget(fn)
		}
	}
	if f.cdev != nil {
		f.cdev.unbind()
	} else if g := fn.group; g != nil {
		g.devices--
		g.settle()
	}
	fn.kernel.released.Broadcast()
}

func newDevice(f *function) *device { return &device{function: f, live: idle} }

// start is the first open: the function is powered, enabled and reset, cannot master the bus, and its line is heard.
func (d *device) start() {
	f := d.function
	f.enable()
	f.changeCommand(0, pci.CommandBusMaster)
	d.resetFunction()
	f.changeCommand(0, pci.CommandINTxDisable)
	d.config = newView(f)
}

// stop is the last close: whatever is enabled is disabled, and the function is reset and put to sleep.
func (d *device) stop() {
	f := d.function
	d.exitLowPower()
	for _, i := range d.ioeventfds {
		i.source.stop()
	}
	d.ioeventfds = nil
	f.changeCommand(0, pci.CommandBusMaster)
	d.disableLive()
	d.err.put()
	d.req.put()
	d.err, d.req = nil, nil
	if d.canReset() {
		d.resetFunction()
	}
	f.changeCommand(0, pci.CommandINTxDisable)
	f.disable()
	f.setPower(3)
}

// disableLive disables the index that is enabled.
func (d *device) disableLive() {
	switch d.live {
	case uapi.PCIINTxIRQIndex:
		d.disableINTx()
	case uapi.PCIMSIIRQIndex, uapi.PCIMSIXIRQIndex:
		d.disableMessages()
	}
}

// requestBack signals that the host wants the device.
func (d *device) requestBack() {
	if d.req != nil {
		d.req.signal()
	}
}

// canReset tells whether the function can be reset alone. One behind a bridge can only be reset with its neighbours.
func (d *device) canReset() bool {
	return d.function.reset.isFLR() || d.function.reset.first() == resetPM
}

// resetFunction resets the function if that is possible. The configuration space is brought back, as far as the kernel
// knows it.
func (d *device) resetFunction() {
	f := d.function
	if !d.canReset() {
		return
	}
	if f.reset.isFLR() {
		f.setLine(false)
		f.model.reset()
	}
	f.setPower(0)
	if d.live == uapi.PCIMSIIRQIndex || d.live == uapi.PCIMSIXIRQIndex {
		f.changeCommand(pci.CommandINTxDisable, 0)
	}
	f.evaluateLine()
}

// DeviceGetInfo tells the numbers of regions and interrupt indexes, and whether the device can be reset.
func (k *Kernel) DeviceGetInfo(fd int, arg []byte) error {
	f, err := enterFile[*deviceFile](k, "DeviceGetInfo", fd)
	defer k.mu.Unlock()
	if err != nil {
		return err
	}
	if err := uapi.CheckArg(arg, uapi.DeviceInfoMinSize); err != nil {
		return err
	}
	info := uapi.Take[uapi.DeviceInfo](arg)
	if info.Argsz < uapi.DeviceInfoMinSize {
		return unix.EINVAL
	}
	info.Flags = uapi.DeviceFlagsPCI
	if f.device.canReset() {
		info.Flags |= uapi.DeviceFlagsReset
	}
	info.NumRegions, info.NumIRQs, info.CapOffset = uapi.PCINumRegions, uapi.PCINumIRQs, 0
	size := uint32(uapi.Size[uapi.DeviceInfo]())
	if k.version == V6_1 {
		if info.Argsz < size {
			size = uapi.DeviceInfoMinSize
		}
	} else {
		const padding = 4 // a field that the structure has since
		size = min(info.Argsz, size+padding)
	}
	clear(arg[4:size])
	uapi.Put(arg[:size], info)
	return nil
}

// DeviceGetRegionInfo describes a region.
func (k *Kernel) DeviceGetRegionInfo(fd int, arg []byte) error {
	f, err := enterFile[*deviceFile](k, "DeviceGetRegionInfo", fd)
	defer k.mu.Unlock()
	if err != nil {
		return err
	}
	if err := uapi.CheckArg(arg, uapi.RegionInfoMinSize); err != nil {
		return err
	}
	info := uapi.Take[uapi.RegionInfo](arg)
	if info.Argsz < uapi.RegionInfoMinSize || info.Index >= uapi.PCINumRegions || info.Index == uapi.PCIVGARegionIndex {
		return unix.EINVAL // none of these devices is a display
	}
	const readWrite = uapi.RegionInfoFlagRead | uapi.RegionInfoFlagWrite
	fn := f.device.function
	info.Flags = 0
	info.Offset = uint64(info.Index) << regionShift
	info.Size = fn.regionSize(info.Index)
	mappableTable := false
	switch {
	case info.Size == 0:
	case info.Index == uapi.PCIConfigRegionIndex:
		info.Flags = readWrite
	default:
		info.Flags = readWrite
		if fn.mappable(int(info.Index)) {
			info.Flags |= uapi.RegionInfoFlagMmap
			mappableTable = fn.msix != nil && fn.msix.Table.BAR == int(info.Index)
		}
	}
	if mappableTable {
		info = putCapability(arg, info, uapi.InfoCapHeader{ID: uapi.RegionInfoCapMSIXMappableID, Version: 1})
	}
	uapi.Put(arg, info)
	return nil
}

// putCapability puts a chain of one capability behind the structure if there is room, and says how much is needed if there
// is not.
func putCapability(arg []byte, info uapi.RegionInfo, c uapi.InfoCapHeader) uapi.RegionInfo {
	at := uapi.Size[uapi.RegionInfo]()
	need := at + uapi.Size[uapi.InfoCapHeader]()
	info.Flags |= uapi.RegionInfoFlagCaps
	if int(info.Argsz) < need {
		info.Argsz, info.CapOffset = uint32(need), 0
		return info
	}
	info.CapOffset = uint32(at)
	uapi.Put(arg[at:], c)
	return info
}

// DeviceGetIRQInfo describes an interrupt index.
func (k *Kernel) DeviceGetIRQInfo(fd int, arg []byte) error {
	f, err := enterFile[*deviceFile](k, "DeviceGetIRQInfo", fd)
	defer k.mu.Unlock()
	if err != nil {
		return err
	}
	if err := uapi.CheckArg(arg, uapi.IRQInfoMinSize); err != nil {
		return err
	}
	info := uapi.Take[uapi.IRQInfo](arg)
	if info.Argsz < uapi.IRQInfoMinSize || info.Index >= uapi.PCINumIRQs {
		return unix.EINVAL
	}
	if info.Index == uapi.PCIErrIRQIndex && f.device.count(info.Index) == 0 {
		return unix.EINVAL
	}
	info.Flags = uapi.IRQInfoEventFD
	switch {
	case info.Index == uapi.PCIINTxIRQIndex:
		info.Flags |= uapi.IRQInfoMaskable | uapi.IRQInfoAutoMasked
	case info.Index != uapi.PCIMSIXIRQIndex || !f.device.grows():
		info.Flags |= uapi.IRQInfoNoResize
	}
	info.Count = uint32(f.device.count(info.Index))
	uapi.Put(arg, info)
	return nil
}

// count is how many interrupts an index has.
func (d *device) count(index uint32) int {
	f := d.function
	switch index {
	case uapi.PCIINTxIRQIndex:
		if f.pin != 0 {
			return 1
		}
	case uapi.PCIMSIIRQIndex:
		if f.msi != nil {
			return f.msi.Messages
		}
	case uapi.PCIMSIXIRQIndex:
		return len(f.table)
	case uapi.PCIErrIRQIndex: // Linux 6.1 has it on PCI Express only
		if f.express != 0 || f.kernel.version == Newest {
			return 1
		}
	case uapi.PCIReqIRQIndex:
		return 1
	}
	return 0
}

// grows tells whether MSI-X messages can be added to those of the first enable.
func (d *device) grows() bool { return d.function.kernel.version == Newest && d.function.msix != nil }

// DeviceReset resets the function.
func (k *Kernel) DeviceReset(fd int) error {
	f, err := enterFile[*deviceFile](k, "DeviceReset", fd)
	defer k.mu.Unlock()
	if err != nil {
		return err
	}
	if !f.device.canReset() {
		return unix.EINVAL
	}
	if f.device.function.gone {
		return unix.ENOTTY
	}
	f.device.resetFunction()
	return nil
}
