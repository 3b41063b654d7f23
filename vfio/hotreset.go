package vfio

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/irqbridge/irqbridge/pci"
	"github.com/irqbridge/irqbridge/vfio/internal/uapi"
)

// HotResetFunction is one of the functions that a hot reset resets, struct vfio_pci_dependent_device with what sysfs knows of
// it.
type HotResetFunction struct {
	Address pci.Address
	Group   int    // its IOMMU group; -1 when sysfs has the function no more
	Driver  string // what it is bound to; "" for nothing, and when sysfs has it no more
	VFIO    bool   // that is a VFIO driver
	// DevID and Owned are told for a device of BackendIOMMUFD only. DevID is the function's number in the device's iommufd,
	// 0 when it is not bound to that. Owned is true when it is, or when nobody else can bind it, since its IOMMU group is
	// the iommufd's already.
	DevID uint32
	Owned bool
	// PhysicalFunction is what the function is a virtual function of, or nil. With one of those in the slot or bus the kernel
	// refuses.
	PhysicalFunction *pci.Address
	// Holders are the processes that have the function's group open, as far as this one may see them, and itself: "1234 (name)".
	Holders []string
}

// HotResetInfo lists the functions that HotReset of this device resets: all of its slot, where that can be reset, else all of its
// bus, this one among them (VFIO_DEVICE_GET_PCI_HOT_RESET_INFO). ErrNotSupported when neither can be reset, as on the root bus.
func (d *Device) HotResetInfo() ([]HotResetFunction, error) {
	const op = "list what a hot reset resets"
	d.life.RLock()
	defer d.life.RUnlock()
	if d.closed {
		return nil, d.fault(op, os.ErrClosed)
	}
	functions, err := d.hotResetInfo(op)
	for i := range functions {
		if f := &functions[i]; f.Group >= 0 {
			f.Holders = d.host.Holders(f.Group)
		}
	}
	return functions, err
}

// hotResetInfoTries is how often the kernel is asked while functions come and go.
const hotResetInfoTries = 10

// hotResetInfo is HotResetInfo without the holders, for who holds life.
func (d *Device) hotResetInfo(op string) ([]HotResetFunction, error) {
	header, each := uapi.Size[uapi.PCIHotResetInfo](), uapi.Size[uapi.PCIDependentDevice]()
	arg := make([]byte, header)
	for tries := 1; ; tries++ {
		uapi.Put(arg, uapi.PCIHotResetInfo{Argsz: uint32(len(arg))})
		err := d.kernel.DeviceGetPCIHotResetInfo(d.fd, arg)
		info := uapi.Take[uapi.PCIHotResetInfo](arg)
		need := header + int(info.Count)*each
		switch {
		case errors.Is(err, unix.ENOSPC) && need > len(arg) && need <= maxInfoSize:
			arg = make([]byte, need)
			continue
		case errors.Is(err, unix.EAGAIN) && tries < hotResetInfoTries: // a function came meanwhile
			arg = make([]byte, header)
			continue
		case err != nil:
			return nil, d.explainHotReset(op, err)
		case need > len(arg):
			return nil, d.fault(op, fmt.Errorf("the kernel claims %d functions in %d bytes", info.Count, len(arg)))
		}
		functions := make([]HotResetFunction, info.Count)
		for i := range functions {
			dependent := uapi.Take[uapi.PCIDependentDevice](arg[header+i*each:])
			functions[i] = d.hotResetFunction(dependent, info.Flags&uapi.PCIHotResetFlagDevID != 0)
		}
		slices.SortFunc(functions, func(a, b HotResetFunction) int { return a.Address.Compare(b.Address) })
		return functions, nil
	}
}

// hotResetFunction is one of the functions, with what sysfs knows of it.
func (d *Device) hotResetFunction(dependent uapi.PCIDependentDevice, numbered bool) HotResetFunction {
	f := HotResetFunction{
		Address: pci.Address{Domain: uint32(dependent.Segment), Bus: dependent.Bus, Device: dependent.Devfn >> 3, Function: dependent.Devfn & 7},
		Group:   -1,
	}
	dev, err := d.host.Device(f.Address)
	if err == nil {
		f.Group, f.Driver, f.VFIO, f.PhysicalFunction = dev.Group, dev.Driver, dev.VFIO, dev.PhysicalFunction
	}
	switch {
	case !numbered:
		f.Group = int(dependent.GroupID)
	case dependent.GroupID != uapi.PCIDevIDNotOwned:
		f.DevID, f.Owned = dependent.GroupID, true
	}
	return f
}

// HotReset resets all functions of the device's slot or bus at once (VFIO_DEVICE_PCI_HOT_RESET): the way for a function that
// cannot be reset alone (see CanReset), or that no other reset brings back. HotResetInfo lists them. Each has to be bound to a
// VFIO driver; those that are open have to be open in this process and to be given, the device itself not, so that nobody
// uses one meanwhile: accesses of other goroutines wait until it is over.
//
// With BackendGroup, a device of each affected IOMMU group has to be given. With BackendIOMMUFD, the devices have to be in one
// iommufd (see WithIOMMUFD); a function that is not open need not be, if it is of a group that the iommufd has. An error names
// the functions that are in the way.
//
// As after Reset, whatever the devices were set to is gone, while the configuration space is brought back, and enabled
// interrupts stay enabled and keep their eventfds and host IRQ numbers, which do not have to be given again.
func (d *Device) HotReset(others ...*Device) error {
	const op = "hot reset"
	devices := append([]*Device{d}, others...)
	slices.SortStableFunc(devices, func(a, b *Device) int { return a.address.Compare(b.address) })
	devices = slices.Compact(devices)
	for i := 1; i < len(devices); i++ {
		if devices[i].address == devices[i-1].address {
			return d.invalid(op, fmt.Sprintf("%v was given twice", devices[i].address))
		}
	}
	// All who take more than one device's locks come this way: in the order of the addresses, they do not wait for each other.
	for _, each := range devices {
		each.life.Lock()
		defer each.life.Unlock()
	}
	for _, each := range devices {
		if each.closed {
			return each.fault(op, os.ErrClosed)
		}
		each.mu.Lock()
		defer each.mu.Unlock()
	}
	functions, err := d.hotResetInfo(op)
	if err != nil {
		return err
	}
	if err := d.checkHotReset(op, functions, devices); err != nil {
		return err
	}
	before := make([]pci.Command, len(devices))
	for i, each := range devices {
		if before[i], err = each.readCommand(op); err != nil {
			return err
		}
	}
	if err := d.kernel.DevicePCIHotReset(d.fd, hotResetArgument(devices)); err != nil {
		return d.explainHotReset(op, err)
	}
	var errs []error
	for i, each := range devices {
		errs = append(errs, each.setCommand(op, before[i], ^before[i]))
	}
	return errors.Join(errs...)
}

// groupFD is the open group that a device came from; -1 when it came from none, as by its own node.
func (d *Device) groupFD() int {
	switch b := d.backend.(type) {
	case *groupBackend:
		return b.group
	case *noIOMMUBackend:
		return b.group
	}
	return -1
}

// hotResetArgument is struct vfio_pci_hot_reset with the groups of the devices; none when they were opened by their own nodes.
func hotResetArgument(devices []*Device) []byte {
	arg := make([]byte, uapi.Size[uapi.PCIHotReset]())
	count := 0
	for _, each := range devices {
		if fd := each.groupFD(); fd >= 0 {
			arg = binary.NativeEndian.AppendUint32(arg, uint32(fd))
			count++
		}
	}
	uapi.Put(arg, uapi.PCIHotReset{Argsz: uint32(len(arg)), Count: uint32(count)})
	return arg
}

// checkHotReset tells what is in the way, which the kernel would not say: it answers EINVAL for all of it.
func (d *Device) checkHotReset(op string, functions []HotResetFunction, devices []*Device) error {
	byGroup := d.groupFD() >= 0
	groups := map[int]bool{}
	for _, each := range devices {
		if !slices.ContainsFunc(functions, func(f HotResetFunction) bool { return f.Address == each.address }) {
			return d.invalid(op, fmt.Sprintf("%v was given, which it does not reset", each.address))
		}
		if (each.groupFD() >= 0) != byGroup {
			return d.invalid(op, fmt.Sprintf("%v was opened by backend %v, and %v by %v", d.address, d.backend.kind(), each.address, each.backend.kind()))
		}
		groups[each.group] = true
	}
	var causes, remedies []string
	kind := ErrBusy
	for _, f := range functions {
		given := slices.ContainsFunc(devices, func(each *Device) bool { return each.address == f.Address })
		of := fmt.Sprintf("%v of group %d", f.Address, f.Group)
		switch {
		case f.PhysicalFunction != nil:
			causes = append(causes, fmt.Sprintf("%s is a virtual function of %v, which can be reset only alone", of, *f.PhysicalFunction))
			remedies = append(remedies, fmt.Sprintf("reset it with Reset, or end it: echo 0 > /sys/bus/pci/devices/%v/sriov_numvfs", *f.PhysicalFunction))
		case !f.VFIO && f.Driver == "":
			causes = append(causes, of+" has no driver")
			remedies = append(remedies, fmt.Sprintf("irqbridge bind %v", f.Address))
			kind = ErrNotBound
		case !f.VFIO:
			causes = append(causes, fmt.Sprintf("%s is bound to %s", of, f.Driver))
			remedies = append(remedies, fmt.Sprintf("irqbridge bind %v", f.Address))
			kind = ErrNotBound
		case given:
		case byGroup && !groups[f.Group], !byGroup && !f.Owned:
			causes = append(causes, of+" is not open here"+heldBy(d.host.Holders(f.Group)))
			remedies = append(remedies, fmt.Sprintf("open %v in this process, and give it to HotReset", f.Address))
		case f.DevID != 0:
			causes = append(causes, of+" is open in the same iommufd, and was not given")
			remedies = append(remedies, fmt.Sprintf("give %v to HotReset", f.Address))
		}
	}
	if causes == nil {
		return nil
	}
	e := d.fault(op, unix.EINVAL)
	e.Kind = kind
	e.Cause = fmt.Sprintf("it would reset %s: %s", describe(functions), strings.Join(causes, ", "))
	e.Remedy = strings.Join(slices.Compact(remedies), "; ")
	return e
}

// heldBy is the end of a sentence that says which processes have a group open.
func heldBy(holders []string) string {
	if len(holders) == 0 {
		return ""
	}
	return ", but in process " + strings.Join(holders, ", ")
}

// describe lists functions by their addresses.
func describe(functions []HotResetFunction) string {
	names := make([]string, len(functions))
	for i, f := range functions {
		names[i] = f.Address.String()
	}
	return strings.Join(names, " and ")
}

// explainHotReset is for VFIO_DEVICE_GET_PCI_HOT_RESET_INFO and VFIO_DEVICE_PCI_HOT_RESET.
func (d *Device) explainHotReset(op string, err error) error {
	e := d.fault(op, err)
	switch {
	case e.Kind != nil: // it has gone
	case errors.Is(err, unix.ENODEV):
		e.Kind = ErrNotSupported
		e.Cause = "the kernel can reset neither the slot nor the bus that the device is on: a root bus, or one with a device that forbids it"
		if d.canReset {
			e.Remedy = "reset the function alone, with Reset"
		}
	case errors.Is(err, unix.EBUSY), errors.Is(err, unix.EAGAIN):
		e.Kind = ErrBusy
		e.Cause, e.Remedy = "an affected device was being used", "try again"
	case errors.Is(err, unix.ENOTTY):
		e.Cause = "the reset was made, but the kernel says that not all of it came back in time: dmesg tells what it waited for"
		e.Remedy = "see whether the device works; if not, close it and bind it again"
	case errors.Is(err, unix.EPERM):
		e.Kind = ErrNoIOMMU
		e.Cause = "an affected function is in no IOMMU group"
	}
	return e
}
