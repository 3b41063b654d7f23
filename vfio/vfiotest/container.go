package vfiotest

import (
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/irqbridge/irqbridge/vfio"
	"github.com/irqbridge/irqbridge/vfio/internal/uapi"
)

// file is what a descriptor stands for: a *container, a *groupFile or a *deviceFile, an *iommufdFile or a *cdevFile.
type file interface {
	// release is called when the last descriptor is closed, with the kernel's lock held.
	release()
}

// foreignFile is an open file that is none of VFIO's.
type foreignFile struct{}

func (*foreignFile) release() {}

// container is what an open of /dev/vfio/vfio makes. It lives as long as its descriptor or its groups.
type container struct {
	groups []*group
	iommu  int // the type that was set; 0 for none
	space  addressSpace
}

func (c *container) release() {}

// groupFile is an open of /dev/vfio/N.
type groupFile struct{ group *group }

func (f *groupFile) release() {
	f.group.file = nil
	f.group.settle()
}

// settle lets go of the container when neither the group nor a device of it is open any more.
func (g *group) settle() {
	if g.file == nil && g.devices == 0 && g.hasContainer() {
		g.unset()
	}
}

// hasContainer tells whether the group is in a container, or in an iommufd in its place.
func (g *group) hasContainer() bool { return g.container != nil || g.iommufd != nil }

// unset takes the group out of its container. The last group to go takes the IOMMU driver with it.
func (g *group) unset() {
	if g.iommufd != nil {
		f := g.iommufd
		g.iommufd = nil
		f.users--
		f.settle()
		return
	}
	c := g.container
	g.container = nil
	c.groups = slices.DeleteFunc(c.groups, func(h *group) bool { return h == g })
	if len(c.groups) == 0 {
		c.iommu = 0
		c.space.unmap(0, len(c.space.mappings))
	}
}

// install gives a file a descriptor of its own, a real one, so that its number is like no other's.
func (k *Kernel) install(name string, f file) (int, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC)
	if err != nil {
		return -1, unix.EMFILE
	}
	k.put(fd, f)
	return fd, nil
}

// put enters a descriptor that is new.
func (k *Kernel) put(fd int, f file) {
	stale := k.files[fd]
	k.files[fd] = f
	if stale != nil && !k.shared(stale) { // closed behind the fake's back
		stale.release()
	}
}

// shared tells whether a file has a descriptor.
func (k *Kernel) shared(f file) bool {
	for _, other := range k.files {
		if other == f {
			return true
		}
	}
	return false
}

// Dup makes another descriptor of an open file.
func (k *Kernel) Dup(fd int) (int, error) {
	err := k.enter("Dup")
	defer k.mu.Unlock()
	if err != nil {
		return -1, err
	}
	second, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	f := k.files[fd]
	if f == nil {
		f = &foreignFile{}
	}
	k.put(second, f)
	return second, nil
}

// Open opens /dev/vfio/vfio, /dev/iommu, or the node of a group or of a device.
func (k *Kernel) Open(path string) (int, error) {
	err := k.enter("Open")
	defer k.mu.Unlock()
	if err != nil {
		return -1, err
	}
	switch {
	case path == "/dev/vfio/vfio" && k.loaded("vfio_pci"):
		return k.install("vfio", &container{space: addressSpace{kernel: k}})
	case path == "/dev/iommu" && k.iommufd:
		return k.install("iommu", &iommufdFile{kernel: k, objects: map[uint32]any{}})
	case strings.HasPrefix(path, "/dev/vfio/devices/"):
		return k.openCDev(path)
	}
	for _, g := range k.groups {
		if path != "/dev/vfio/"+g.nodeName() || !g.hasNode() {
			continue
		}
		if k.nodeErrno != 0 {
			return -1, k.nodeErrno
		}
		if g.file != nil || g.devices > 0 || len(g.bound) > 0 {
			return -1, unix.EBUSY
		}
		f := &groupFile{group: g}
		fd, err := k.install(fmt.Sprintf("vfio-group-%d", g.id), f)
		if err == nil {
			g.file = f
		}
		return fd, err
	}
	return -1, unix.ENOENT
}

// Close closes a descriptor.
func (k *Kernel) Close(fd int) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.files[fd] == nil {
		return unix.EBADF
	}
	k.close(fd)
	return nil
}

func (k *Kernel) close(fd int) {
	f := k.files[fd]
	delete(k.files, fd)
	closeQuietly(fd)
	if !k.shared(f) {
		f.release()
	}
}

// lookup returns the file of a descriptor that an ioctl was made on. EBADF when it is not open; ENOTTY when it is
// something else, but for a container without an IOMMU driver, which knows no further ioctls and answers EINVAL, as a
// device does that is not bound.
func lookup[F file](k *Kernel, fd int) (F, error) {
	f, ok := k.files[fd].(F)
	if ok {
		return f, nil
	}
	if !open(fd) {
		return f, unix.EBADF
	}
	switch other := k.files[fd].(type) {
	case *container:
		if other.iommu == 0 {
			return f, unix.EINVAL
		}
	case *cdevFile:
		if other.device == nil {
			return f, unix.EINVAL
		}
		if f, ok = file(other.device).(F); ok {
			return f, nil
		}
	}
	return f, unix.ENOTTY
}

// open tells whether a descriptor is open in the process.
func open(fd int) bool {
	_, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
	return err == nil
}

// enterFile is enter for an ioctl on a file of a certain kind.
func enterFile[F file](k *Kernel, call string, fd int) (F, error) {
	if err := k.enter(call); err != nil {
		var none F
		return none, err
	}
	f, err := lookup[F](k, fd)
	if d, ok := any(f).(*deviceFile); ok && err == nil {
		d.device.used()
	}
	return f, err
}

// mapper is a file that knows a container's ioctls: a container, or an iommufd.
type mapper interface {
	file
	checkExtension(extension int) (int, error)
	setIOMMU(iommuType int) error
	info(arg []byte) error
	mapDMA(arg []byte) error
	unmapDMA(arg []byte) error
}

// GetAPIVersion answers 0.
func (k *Kernel) GetAPIVersion(fd int) (int, error) {
	_, err := enterFile[mapper](k, "GetAPIVersion", fd)
	defer k.mu.Unlock()
	return uapi.APIVersion, err
}

// Extensions of a container beside the kinds of IOMMU driver.
const (
	extensionNesting     = 6  // VFIO_TYPE1_NESTING_IOMMU
	extensionUnmapAll    = 9  // VFIO_UNMAP_ALL
	extensionUpdateVaddr = 10 // VFIO_UPDATE_VADDR
)

// CheckExtension knows the type 1 IOMMU driver in its versions, and what it can do.
func (k *Kernel) CheckExtension(fd, extension int) (int, error) {
	f, err := enterFile[mapper](k, "CheckExtension", fd)
	defer k.mu.Unlock()
	if err != nil {
		return 0, err
	}
	return f.checkExtension(extension)
}

func (c *container) checkExtension(extension int) (int, error) {
	k := c.space.kernel
	switch {
	case len(c.groups) > 0 && c.groups[0].madeUp:
		if extension == uapi.NoIOMMU {
			return 1, nil
		}
	case extension == uapi.NoIOMMU && len(c.groups) == 0 && k.noIOMMU:
		return 1, nil
	case !k.loaded("vfio_iommu_type1"):
		return 0, nil
	case extension == uapi.Type1IOMMU, extension == uapi.Type1v2IOMMU, extension == extensionUnmapAll,
		extension == extensionNesting && k.version == V6_1, extension == extensionUpdateVaddr && c.iommu != 0:
		return 1, nil
	}
	return 0, nil
}

// SetIOMMU takes the type 1 IOMMU driver.
func (k *Kernel) SetIOMMU(fd, iommuType int) error {
	f, err := enterFile[mapper](k, "SetIOMMU", fd)
	defer k.mu.Unlock()
	if err != nil {
		return err
	}
	return f.setIOMMU(iommuType)
}

func (c *container) setIOMMU(iommuType int) error {
	k := c.space.kernel
	switch {
	case len(c.groups) == 0 || c.iommu != 0:
		return unix.EINVAL
	case c.groups[0].madeUp != (iommuType == uapi.NoIOMMU):
		return unix.ENODEV
	case iommuType == uapi.NoIOMMU:
		c.iommu = iommuType
		return nil
	case iommuType != uapi.Type1IOMMU && iommuType != uapi.Type1v2IOMMU:
		return unix.ENODEV
	case k.withoutRemapping && !k.unsafeInterrupts:
		return unix.EPERM
	}
	c.iommu = iommuType
	c.space.limit = k.mappingLimit
	return nil
}

// GroupGetStatus tells whether the group is viable and in a container.
func (k *Kernel) GroupGetStatus(fd int, arg []byte) error {
	f, err := enterFile[*groupFile](k, "GroupGetStatus", fd)
	defer k.mu.Unlock()
	if err != nil {
		return err
	}
	if err := uapi.CheckArg(arg, uapi.GroupStatusMinSize); err != nil {
		return err
	}
	status := uapi.Take[uapi.GroupStatus](arg)
	if status.Argsz < uapi.GroupStatusMinSize {
		return unix.EINVAL
	}
	status.Flags = 0
	if f.group.hasContainer() {
		status.Flags |= uapi.GroupFlagsContainerSet
	}
	// A group that was taken out of an iommufd stays the iommufd's while a device is open.
	if f.group.viable() && (f.group.hasContainer() || f.group.owner == nil) {
		status.Flags |= uapi.GroupFlagsViable
	}
	uapi.Put(arg, status)
	return nil
}

// GroupSetContainer puts the group into a container, if it is viable, or into an iommufd. An iommufd for a group without an IOMMU is
// not modelled.
func (k *Kernel) GroupSetContainer(fd, containerFD int) error {
	f, err := enterFile[*groupFile](k, "GroupSetContainer", fd)
	defer k.mu.Unlock()
	if err != nil {
		return err
	}
	c, ok := k.files[containerFD].(*container)
	iommufd, compat := k.files[containerFD].(*iommufdFile)
	switch {
	case !ok && !open(containerFD):
		return unix.EBADF
	case f.group.hasContainer(), !ok && k.version == V6_1:
		return unix.EINVAL
	case compat && !f.group.madeUp:
		iommufd.take(f.group)
		return nil
	case !ok:
		return unix.EBADFD
	case !f.group.viable(), len(c.groups) > 0 && c.groups[0].madeUp != f.group.madeUp:
		return unix.EPERM
	}
	f.group.container = c
	c.groups = append(c.groups, f.group)
	return nil
}

// GroupUnsetContainer takes the group out of its container.
func (k *Kernel) GroupUnsetContainer(fd int) error {
	f, err := enterFile[*groupFile](k, "GroupUnsetContainer", fd)
	defer k.mu.Unlock()
	switch {
	case err != nil:
		return err
	case !f.group.hasContainer():
		return unix.EINVAL
	case f.group.container != nil && f.group.devices > 0:
		return unix.EBUSY
	}
	f.group.unset()
	return nil
}

// GroupGetDeviceFD opens a device of the group. A second open gives a second descriptor of the same device.
func (k *Kernel) GroupGetDeviceFD(fd int, name string) (int, error) {
	f, err := enterFile[*groupFile](k, "GroupGetDeviceFD", fd)
	defer k.mu.Unlock()
	if err != nil {
		return -1, err
	}
	fn, err := f.group.find(name)
	if err != nil {
		return -1, err
	}
	if c := f.group.container; f.group.iommufd == nil && (c == nil || c.iommu == 0) {
		return -1, unix.EINVAL
	}
	opened := &deviceFile{device: fn.device, users: 1}
	if opened.device == nil {
		opened.device = newDevice(fn)
		if f.group.iommufd != nil {
			if opened.device.binding, err = f.group.iommufd.bindCompat(fn); err != nil {
				return -1, err
			}
		}
	}
	deviceFD, err := k.install("vfio-device-"+fn.address.String(), opened)
	if err != nil {
		if fn.device == nil && opened.device.binding != nil {
			opened.device.binding.unbind()
		}
		return -1, err
	}
	if fn.device == nil {
		fn.device = opened.device
		fn.device.start()
	}
	fn.device.files++
	f.group.devices++
	return deviceFD, nil
}

// find returns the member that a name means, which may be followed by a VF token.
func (g *group) find(name string) (*function, error) {
	for _, f := range g.members {
		rest, ok := strings.CutPrefix(name, f.address.String())
		if !ok || f.gone || f.driver == nil || !f.driver.vfio || rest != "" && rest[0] != ' ' {
			continue
		}
		given, err := hasToken(rest)
		if err == nil && given && !f.physical {
			err = unix.EINVAL
		}
		return f, err
	}
	return nil, unix.ENODEV
}

// hasToken tells whether what follows a name is a VF token.
func hasToken(options string) (given bool, err error) {
	for options = strings.TrimLeft(options, " "); options != ""; options = strings.TrimLeft(options, " ") {
		const length = 36 // of a UUID's text
		text, ok := strings.CutPrefix(options, "vf_token=")
		if !ok || given || len(text) < length {
			return false, unix.EINVAL
		}
		if _, err := vfio.ParseVFToken(text[:length]); err != nil {
			return false, unix.EINVAL
		}
		given, options = true, text[length:]
	}
	return given, nil
}
