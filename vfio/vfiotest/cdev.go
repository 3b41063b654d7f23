package vfiotest

import (
	"slices"

	"golang.org/x/sys/unix"

	"github.com/irqbridge/irqbridge/vfio/internal/uapi"
)

// cdevMajor is the major number of the devices' own nodes.
const cdevMajor = 511

// cdevFile is an open of /dev/vfio/devices/vfioN. Until it is bound to an iommufd it is good for nothing else.
type cdevFile struct {
	binding
	device *deviceFile // nil until it is bound
}

// binding is what a function is to the iommufd that it is bound to.
type binding struct {
	function *function
	iommufd  *iommufdFile
	id       uint32     // of the device, in the iommufd
	table    *pageTable // what it is attached to; nil while it is not
}

// refusal tells why a function cannot be bound to an iommufd; nil when it can.
func (f *function) refusal(iommufd *iommufdFile) error {
	k, g := f.kernel, f.group
	if k.withoutRemapping && !k.unsafeInterrupts || g.owner != nil && g.owner != iommufd || !g.viable() {
		return unix.EPERM
	}
	return nil
}

// bind has the iommufd own the function's group.
func (b *binding) bind(iommufd *iommufdFile) {
	g := b.function.group
	g.owner = iommufd
	g.bound = append(g.bound, b)
	b.iommufd, b.id = iommufd, iommufd.add(b)
	iommufd.users++
}

func (f *cdevFile) release() {
	f.function.opens--
	if f.device != nil {
		f.device.release()
	}
	f.function.kernel.released.Broadcast()
}

// openCDev opens a device's own node. Any number of opens is fine; one of them can be bound.
func (k *Kernel) openCDev(path string) (int, error) {
	for _, f := range k.functions {
		if !k.iommufd || f.vfioDev < 0 || f.group.madeUp || path != "/dev/vfio/devices/"+f.vfioName() {
			continue
		}
		if k.nodeErrno != 0 {
			return -1, k.nodeErrno
		}
		fd, err := k.install("vfio-cdev-"+f.address.String(), &cdevFile{binding: binding{function: f}})
		if err == nil {
			f.opens++
		}
		return fd, err
	}
	return -1, unix.ENOENT
}

// DeviceNumber tells the number of a device's own node. Those of the other nodes are not modelled.
func (k *Kernel) DeviceNumber(fd int) (major, minor uint32, err error) {
	err = k.enter("DeviceNumber")
	defer k.mu.Unlock()
	switch {
	case err != nil:
		return 0, 0, err
	case !open(fd):
		return 0, 0, unix.EBADF
	}
	if f, ok := k.files[fd].(*cdevFile); ok {
		return cdevMajor, uint32(f.function.vfioDev), nil
	}
	return 0, 0, nil
}

// bindable returns the file of a descriptor that BIND, ATTACH or DETACH was made on.
func (k *Kernel) bindable(fd int) (*cdevFile, error) {
	if f, ok := k.files[fd].(*cdevFile); ok {
		return f, nil
	}
	_, err := lookup[*cdevFile](k, fd)
	return nil, err
}

// DeviceBindIOMMUFD binds a device to an iommufd, which is its first open.
func (k *Kernel) DeviceBindIOMMUFD(fd int, arg []byte, token *[16]byte) error {
	err := k.enter("DeviceBindIOMMUFD")
	defer k.mu.Unlock()
	if err != nil {
		return err
	}
	f, err := k.bindable(fd)
	if _, group := k.files[fd].(*deviceFile); group {
		return unix.EINVAL
	}
	if err != nil {
		return err
	}
	if err := checkSize(arg, uapi.DeviceBindIOMMUFDMinSize, uapi.Size[uapi.DeviceBindIOMMUFD]()); err != nil {
		return err
	}
	bind := uapi.Take[uapi.DeviceBindIOMMUFD](arg)
	fn := f.function
	group := fn.group
	iommufd, ok := k.files[int(bind.Iommufd)].(*iommufdFile)
	switch {
	case bind.Iommufd < 0 || bind.Flags&^uapi.DeviceBindFlagToken != 0:
		return unix.EINVAL
	case group.file != nil || group.devices > 0:
		return unix.EBUSY
	case f.device != nil:
		return unix.EINVAL
	case bind.Flags&uapi.DeviceBindFlagToken != 0 && token == nil:
		return unix.EFAULT
	case bind.Flags&uapi.DeviceBindFlagToken != 0 && !fn.physical:
		return unix.EINVAL
	case !ok && !open(int(bind.Iommufd)):
		return unix.EBADF
	case !ok:
		return unix.EBADFD
	case fn.device != nil:
		return unix.EINVAL
	}
	if err := fn.refusal(iommufd); err != nil {
		return err
	}
	fn.device = newDevice(fn)
	fn.device.files++
	fn.device.start()
	f.device = &deviceFile{device: fn.device, users: 1, cdev: f}
	f.bind(iommufd)
	bind.OutDevid = f.id
	uapi.Put(arg, bind)
	return nil
}

// unbind is what the last close does: the device leaves its address space and its iommufd.
func (b *binding) unbind() {
	b.detach()
	delete(b.iommufd.objects, b.id)
	b.iommufd.users--
	b.iommufd.settle()
	g := b.function.group
	g.bound = slices.DeleteFunc(g.bound, func(other *binding) bool { return other == b })
	if len(g.bound) == 0 {
		g.owner = nil
	}
}

// DeviceAttachIOMMUFDPT has a device see an address space, in place of the one that it has seen.
func (k *Kernel) DeviceAttachIOMMUFDPT(fd int, arg []byte) error {
	err := k.enter("DeviceAttachIOMMUFDPT")
	defer k.mu.Unlock()
	if err != nil {
		return err
	}
	f, err := k.bindable(fd)
	switch {
	case err != nil:
		return err
	case f.device == nil:
		return unix.EINVAL
	}
	if err := uapi.CheckArg(arg, uapi.DeviceAttachIOMMUFDPTMinSize); err != nil {
		return err
	}
	attach := uapi.Take[uapi.DeviceAttachIOMMUFDPT](arg)
	if attach.Argsz < uapi.DeviceAttachIOMMUFDPTMinSize || attach.Flags != 0 { // these devices have no PASIDs
		return unix.EINVAL
	}
	if err := f.attach(f.iommufd.objects[attach.PtID]); err != nil {
		return err
	}
	attach.PtID = f.table.id
	uapi.Put(arg, attach)
	return nil
}

// attach has the function see an address space, or the one of a page table.
func (b *binding) attach(object any) error {
	var table *pageTable
	switch target := object.(type) {
	case nil:
		return unix.ENOENT
	case *pageTable:
		table = target
	case *ioas:
		table = target.table
		if table == nil {
			if errno := target.unfit(); errno != 0 {
				return errno
			}
			table = &pageTable{ioas: target}
		}
	default:
		return unix.EINVAL
	}
	for _, other := range b.function.group.bound {
		if b.table == nil && other.table != nil && other.table != table {
			return unix.EINVAL // a group has one
		}
	}
	if table.id == 0 {
		table.id = b.iommufd.add(table)
		table.ioas.table = table
	}
	members := []*binding{b}
	if b.table != nil { // to replace it is to replace that of the group
		members = slices.DeleteFunc(slices.Clone(b.function.group.bound), func(o *binding) bool { return o.table == nil })
	}
	for _, member := range members {
		old := member.table
		member.table = table
		table.users++
		old.put()
	}
	return nil
}

// DeviceDetachIOMMUFDPT takes a device out of its address space; it is no error when it is in none.
func (k *Kernel) DeviceDetachIOMMUFDPT(fd int, arg []byte) error {
	err := k.enter("DeviceDetachIOMMUFDPT")
	defer k.mu.Unlock()
	if err != nil {
		return err
	}
	f, err := k.bindable(fd)
	switch {
	case err != nil:
		return err
	case f.device == nil:
		return unix.EINVAL
	}
	if err := uapi.CheckArg(arg, uapi.DeviceDetachIOMMUFDPTMinSize); err != nil {
		return err
	}
	detach := uapi.Take[uapi.DeviceDetachIOMMUFDPT](arg)
	const (
		pasid    = 1  // VFIO_DEVICE_DETACH_PASID
		withRoom = 12 // the structure with the field for it
	)
	switch {
	case detach.Argsz < uapi.DeviceDetachIOMMUFDPTMinSize || detach.Flags&^pasid != 0:
		return unix.EINVAL
	case detach.Flags&pasid != 0 && detach.Argsz < withRoom:
		return unix.EINVAL
	case detach.Flags&pasid != 0:
		return nil // it was not attached
	}
	f.detach()
	return nil
}

func (b *binding) detach() {
	b.table.put()
	b.table = nil
}
