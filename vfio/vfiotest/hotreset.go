package vfiotest

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"github.com/irqbridge/irqbridge/vfio/internal/uapi"
)

// busmates are the functions that a reset of the function's bus resets, itself among them; none on the root bus, which nothing
// can reset.
func (f *function) busmates() []*function {
	if f.behind == nil {
		return nil
	}
	var all []*function
	for _, g := range f.kernel.functions {
		if g.behind == f.behind {
			all = append(all, g)
		}
	}
	return all
}

// DeviceGetPCIHotResetInfo lists the functions of the device's bus.
func (k *Kernel) DeviceGetPCIHotResetInfo(fd int, arg []byte) error {
	f, err := enterFile[*deviceFile](k, "DeviceGetPCIHotResetInfo", fd)
	defer k.mu.Unlock()
	if err != nil {
		return err
	}
	if err := uapi.CheckArg(arg, uapi.PCIHotResetInfoMinSize); err != nil {
		return err
	}
	info := uapi.Take[uapi.PCIHotResetInfo](arg)
	if info.Argsz < uapi.PCIHotResetInfoMinSize {
		return unix.EINVAL
	}
	all := f.device.function.busmates()
	if all == nil {
		return unix.ENODEV
	}
	info.Flags, info.Count = 0, uint32(len(all))
	each := uapi.Size[uapi.PCIDependentDevice]()
	if (int(info.Argsz)-uapi.PCIHotResetInfoMinSize)/each < len(all) {
		uapi.Put(arg, info)
		return unix.ENOSPC
	}
	if f.cdev != nil {
		info.Flags = uapi.PCIHotResetFlagDevID | uapi.PCIHotResetFlagDevIDOwned
	}
	for i, g := range all {
		a := g.address
		dependent := uapi.PCIDependentDevice{Segment: uint16(a.Domain), Bus: a.Bus, Devfn: a.Device<<3 | a.Function}
		if f.cdev == nil {
			dependent.GroupID = uint32(g.group.id)
		} else if dependent.GroupID = f.cdev.iommufd.deviceID(g); dependent.GroupID == uapi.PCIDevIDNotOwned {
			info.Flags &^= uapi.PCIHotResetFlagDevIDOwned
		}
		uapi.Put(arg[uapi.PCIHotResetInfoMinSize+i*each:], dependent)
	}
	uapi.Put(arg, info)
	return nil
}

// deviceID is what a function is to an iommufd: the identifier that it is bound by, PCIDevIDOwned or PCIDevIDNotOwned.
func (f *iommufdFile) deviceID(g *function) uint32 {
	if g.driver == nil || !g.driver.vfio {
		return uapi.PCIDevIDNotOwned
	}
	for _, bound := range g.group.bound {
		if bound.function == g && bound.iommufd == f {
			return bound.id
		}
	}
	if g.group.owner == f {
		return uapi.PCIDevIDOwned
	}
	return uapi.PCIDevIDNotOwned
}

// DevicePCIHotReset resets the functions of the device's bus, if all of them are the caller's.
func (k *Kernel) DevicePCIHotReset(fd int, arg []byte) error {
	f, err := enterFile[*deviceFile](k, "DevicePCIHotReset", fd)
	defer k.mu.Unlock()
	if err != nil {
		return err
	}
	if len(arg) < uapi.PCIHotResetMinSize {
		return unix.EFAULT
	}
	reset := uapi.Take[uapi.PCIHotReset](arg)
	data := arg[uapi.PCIHotResetMinSize:]
	if uint64(reset.Count)*4 > uint64(len(data)) {
		return unix.EFAULT
	}
	all := f.device.function.busmates()
	wrongForm := (reset.Count != 0) == (f.cdev != nil)
	switch {
	case reset.Argsz < uapi.PCIHotResetMinSize || reset.Flags != 0:
		return unix.EINVAL
	case k.version != V6_1 && wrongForm:
		return unix.EINVAL
	case all == nil:
		return unix.ENODEV
	case wrongForm, reset.Count > uint32(len(all)):
		return unix.EINVAL
	}
	groups := map[*group]bool{}
	for i := range int(reset.Count) {
		fd := int(int32(binary.NativeEndian.Uint32(data[4*i:])))
		g, ok := k.files[fd].(*groupFile)
		switch {
		case !ok && !open(fd):
			return unix.EBADF
		case !ok:
			return unix.EINVAL
		}
		groups[g.group] = true
	}
	for _, g := range all {
		if g.driver == nil || !g.driver.vfio {
			return unix.EINVAL
		}
		if f.cdev == nil && !groups[g.group] || f.cdev != nil && f.cdev.iommufd.deviceID(g) == uapi.PCIDevIDNotOwned {
			return unix.EINVAL
		}
	}
	for _, g := range all {
		g.resetByBus()
	}
	if all[0].behind.address == addressRootPort {
		return unix.ENOTTY // QEMU's does not say that its link is up again
	}
	return nil
}

// resetByBus is what a reset of the bus does to a function. The kernel brings the configuration space back, and with it
// the messages.
func (f *function) resetByBus() {
	f.setLine(false)
	f.model.reset()
	f.evaluateLine()
}
