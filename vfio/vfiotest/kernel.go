package vfiotest

import (
	"sync"

	"golang.org/x/sys/unix"

	"github.com/irqbridge/irqbridge/vfio"
	"github.com/irqbridge/irqbridge/vfio/host"
)

// Version is a kernel whose answers the fake gives where kernels differ.
type Version int

// The versions, which are those of the virtual machine's kernels.
const (
	V6_1   Version = iota // Linux 6.1, Debian 12
	Newest                // the kernel of Debian's newest backports
)

// String returns "6.1" or "newest".
func (v Version) String() string {
	if v == V6_1 {
		return "6.1"
	}
	return "newest"
}

// Option is an optional setting of [NewKernel].
type Option func(*Kernel)

// Personality has the kernel answer as the given version does. The default is [Newest].
func Personality(v Version) Option { return func(k *Kernel) { k.version = v } }

// WithoutIOMMU makes a machine without an IOMMU, or one that was booted without intel_iommu=on: there are no groups,
// and no VFIO driver takes a device.
func WithoutIOMMU() Option { return func(k *Kernel) { k.noIOMMU = true } }

// VectorLimit makes a host that has only n interrupt vectors left for the MSI or MSI-X messages of one device.
func VectorLimit(n int) Option { return func(k *Kernel) { k.vectorLimit = n } }

// NodeMode has the opening of /dev/vfio/GROUP fail with errno, as EACCES when only root may open it.
func NodeMode(errno unix.Errno) Option { return func(k *Kernel) { k.nodeMode = errno } }

// Fail has a call fail: see [Kernel.Fail].
func Fail(call string, errno unix.Errno, nth int) Option {
	return func(k *Kernel) { k.Fail(call, errno, nth) }
}

// Kernel is a fake kernel and the machine that it runs on. It implements vfio.Kernel and host.OS. [NewKernel] makes it;
// Shutdown ends it. All methods are safe for concurrent use.
type Kernel struct {
	version     Version
	noIOMMU     bool
	vectorLimit int // 0: none
	nodeMode    unix.Errno

	host *host.Host

	mu sync.Mutex
}

var (
	_ vfio.Kernel = (*Kernel)(nil)
	_ host.OS     = (*Kernel)(nil)
)

// NewKernel returns a machine as it is after boot.
func NewKernel(opts ...Option) *Kernel {
	k := &Kernel{version: Newest}
	for _, set := range opts {
		set(k)
	}
	k.host = host.NewOn(k)
	return k
}

// Shutdown ends the machine and releases all that it holds, also what its users have left open.
func (k *Kernel) Shutdown() {}

// Host is the host that the machine is.
func (k *Kernel) Host() *host.Host { return k.host }

// Fail has the nth call from now on (1 is the next) of the named method fail with errno; the ones before and after are
// not touched. The names are those of the methods that the fake has as a vfio.Kernel and a host.OS, such as
// "DeviceSetIRQs", "Open" and "WriteFile".
func (k *Kernel) Fail(call string, errno unix.Errno, nth int) {}
