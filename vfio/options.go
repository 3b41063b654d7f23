package vfio

import (
	"encoding/hex"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/irqbridge/irqbridge/vfio/host"
	"github.com/irqbridge/irqbridge/vfio/internal/uapi"
)

// Kernel is the system that a device is opened on. It is the running one unless [OnKernel] says otherwise; the only
// other implementation is the fake of package vfiotest, and there cannot be one outside of this module.
type Kernel interface {
	uapi.Kernel
	// Host is the host's sysfs and procfs, of the same system.
	Host() *host.Host
}

// Option is an optional setting of Open and FromFD.
type Option func(*options)

type options struct {
	kernel    Kernel
	backend   Backend  // 0 to choose
	token     *VFToken // nil for none
	iommufd   int      // -1 for one of the device's own
	ioas      uint32   // 0 for one of the device's own
	unwatched bool
}

// OnKernel has Open use k in place of the running kernel.
func OnKernel(k Kernel) Option {
	return func(o *options) { o.kernel = k }
}

// WithBackend has Open take this backend and no other.
func WithBackend(b Backend) Option {
	return func(o *options) { o.backend = b }
}

// WithVFToken gives the token that a virtual function wants whose physical function is on vfio-pci. A physical function on
// vfio-pci takes it as the one that its virtual functions' users have to give, as with [Device.SetVFToken]; but while any of those
// is open, it has to be theirs. Where none is wanted, the kernel refuses it.
func WithVFToken(token VFToken) Option {
	return func(o *options) { o.token = &token }
}

// WithIOMMUFD binds the device to an iommufd, that is an open of /dev/iommu, which is there already, such as one that a
// service manager passed or that of another device (see Device.IOMMUFD); and has it see the address space ioas of it, or a
// new one when ioas is 0. The device keeps a duplicate of the descriptor, so that the caller may close fd.
//
// Devices of one IOMMU group can be open at the same time only in one iommufd and one address space:
//
//	first, err := vfio.Open(a)
//	second, err := vfio.Open(b, vfio.WithIOMMUFD(first.IOMMUFD()))
//
// Neither has to be closed before the other.
func WithIOMMUFD(fd int, ioas uint32) Option {
	return func(o *options) { o.iommufd, o.ioas = fd, ioas }
}

// VFToken is the UUID that a program with a physical function on vfio-pci sets, and that the users of its virtual functions
// have to know (VFIO_DEVICE_FEATURE_PCI_VF_TOKEN).
type VFToken [16]byte

// String returns the UUID as "00112233-4455-6677-8899-aabbccddeeff".
func (t VFToken) String() string {
	return fmt.Sprintf("%x-%x-%x-%x-%x", t[0:4], t[4:6], t[6:8], t[8:10], t[10:16])
}

// ParseVFToken reads a UUID as String writes it, in lower or upper case.
func ParseVFToken(s string) (VFToken, error) {
	var t VFToken
	digits := strings.ReplaceAll(s, "-", "")
	b, err := hex.DecodeString(digits)
	if copy(t[:], b); err != nil || !strings.EqualFold(t.String(), s) {
		return VFToken{}, fmt.Errorf("VF token %q is not a UUID such as 00112233-4455-6677-8899-aabbccddeeff: %w", s, unix.EINVAL)
	}
	return t, nil
}

// running is the running kernel with its own sysfs.
type running struct{ uapi.Kernel }

func (running) Host() *host.Host { return host.New("/") }
