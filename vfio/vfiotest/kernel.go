package vfiotest

import (
	"sync"

	"golang.org/x/sys/unix"

	"github.com/irqbridge/irqbridge/pci"
	"github.com/irqbridge/irqbridge/vfio"
	"github.com/irqbridge/irqbridge/vfio/host"
)

// Version is a kernel whose answers the fake gives where kernels differ.
type Version int

// The versions, which are those of the virtual machine's kernels.
const (
	V6_1   Version = iota // Linux 6.1, Debian 12
	Newest                // Linux 7.3, the newest in Debian's backports
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
func WithoutIOMMU() Option { return func(k *Kernel) { k.withoutIOMMU = true } }

// NoIOMMUMode makes a kernel that was built with VFIO's mode without an IOMMU, which is on or off
// (enable_unsafe_noiommu_mode) until it is written. While it is on, a VFIO driver takes a device without a group, and makes
// one up for it.
func NoIOMMUMode(on bool) Option {
	return func(k *Kernel) { k.hasNoIOMMU, k.noIOMMU = true, on }
}

// WithoutInterruptRemapping makes a machine whose IOMMU cannot check interrupts: VFIO_SET_IOMMU is refused with EPERM
// unless UnsafeInterrupts is also given, MSI has one message, and an interrupt follows a change of its affinity one
// interrupt late.
func WithoutInterruptRemapping() Option { return func(k *Kernel) { k.withoutRemapping = true } }

// UnsafeInterrupts is vfio_iommu_type1's module parameter allow_unsafe_interrupts=1.
func UnsafeInterrupts() Option { return func(k *Kernel) { k.unsafeInterrupts = true } }

// WithoutINTxMask is vfio_pci's module parameter nointxmask=1: lines are masked at the interrupt controller, not by
// COMMAND.INTxDisable, as those of devices are that have no such bit that works. A line can then not be shared (EBUSY).
func WithoutINTxMask() Option { return func(k *Kernel) { k.withoutINTxMask = true } }

// VectorLimit makes a host that has only n interrupt vectors, 1 or more, for the MSI or MSI-X messages of a device.
func VectorLimit(n int) Option { return func(k *Kernel) { k.vectorLimit = n } }

// MemlockLimit is RLIMIT_MEMLOCK in bytes, 1 or more, of a process without CAP_IPC_LOCK. Without it there is no limit.
func MemlockLimit(bytes uint64) Option { return func(k *Kernel) { k.memlock = bytes } }

// WithIOMMUFD makes a kernel that was built with iommufd and with nodes for single devices, which Debian's are not:
// /dev/iommu and /dev/vfio/devices/vfioN are there. It goes with [Newest].
func WithIOMMUFD() Option { return func(k *Kernel) { k.iommufd = true } }

// ArmedLimit makes a host that has only n interrupt vectors for all the messages that have an eventfd. x86 takes a vector
// for a message of MSI-X no sooner than that: it can be enabled without, and then not armed (ENOSPC).
func ArmedLimit(n int) Option { return func(k *Kernel) { k.armedLimit = n } }

// MoreDevices adds the devices that few tests need, as --devices more of scripts/vm does: see Machine. The physical
// function cannot make its virtual functions.
func MoreDevices() Option { return func(k *Kernel) { k.moreDevices = true } }

// NodeMode has the opening of /dev/vfio/GROUP, or of a device's own node, fail with errno, as EACCES when only root may open it.
func NodeMode(errno unix.Errno) Option { return func(k *Kernel) { k.nodeErrno = errno } }

// Fail has a call fail: see [Kernel.Fail].
func Fail(call string, errno unix.Errno, nth int) Option {
	return func(k *Kernel) { k.Fail(call, errno, nth) }
}

// Kernel is a fake kernel and the machine that it runs on: VFIO's containers, groups and devices, the PCI functions
// behind them with their interrupts, and the part of sysfs and procfs that shows them. It implements vfio.Kernel and
// host.OS. [NewKernel] makes it; Shutdown ends it. All methods are safe for concurrent use.
//
// Real are the file descriptors' numbers, the eventfds, the threads and the CPUs, which are those that the process may
// use. Modelled are the rules of vfio-pci, interrupt by interrupt; the registers by which the devices are told to
// interrupt; the driver core's binding and unbinding; the life of host IRQ numbers, their affinity and their counts per
// CPU; the IOMMU, and edu's DMA through it. Not modelled are time (nothing takes any, and the moderation timers of e1000e do
// not run) and what the devices do beside interrupting.
type Kernel struct {
	version          Version
	withoutIOMMU     bool
	withoutRemapping bool
	unsafeInterrupts bool
	withoutINTxMask  bool
	vectorLimit      int // 0: none
	armedLimit       int // 0: none
	moreDevices      bool
	memlock          uint64 // 0: no limit
	iommufd          bool
	hasNoIOMMU       bool
	nodeErrno        unix.Errno
	snapshot         *snapshot      // what the machine is made of; nil for its own devices
	arguments        []string       // of the kernel, beside its own
	unloaded         []string       // modules
	processes        map[int]string // names of those that are shown beside this one

	host *host.Host
	cpus host.CPUSet

	mu        sync.Mutex // guards all that follows, and whatever hangs on it
	released  *sync.Cond // a device was closed, or the machine shut down
	down      bool
	noIOMMU   bool // the mode is on
	faults    []*fault
	files     map[int]file
	functions []*function // in the order of their addresses
	drivers   []*driver
	groups    []*group
	unplugged []pci.Address // out of their slots
	irqs      map[int]*irq
	saved     map[string][]byte // regular files, by name
	owners    map[string]uint32 // of nodes that were given to a user, by name
	buffers   []*buffer         // memory of the process
	locked    uint64            // bytes mapped for devices
	hugePages int               // in the pool of 2 MiB

	mappingLimit int // of containers to come
	resamples    sync.WaitGroup
}

var (
	_ vfio.Kernel = (*Kernel)(nil)
	_ host.OS     = (*Kernel)(nil)
)

// NewKernel returns a machine as it is after boot: the devices of [Machine], with the e1000e and the e1000 bound to
// their drivers and the others unbound.
func NewKernel(opts ...Option) *Kernel { return newKernel(nil, opts) }

func newKernel(s *snapshot, opts []Option) *Kernel {
	k := &Kernel{
		snapshot: s,
		version:  Newest,

		mappingLimit: mappingLimit,
		cpus:         processCPUs(),
		files:        map[int]file{},
		irqs:         map[int]*irq{},
		processes:    map[int]string{},
		saved:        map[string][]byte{},
		owners:       map[string]uint32{},
	}
	k.released = sync.NewCond(&k.mu)
	for _, set := range opts {
		set(k)
	}
	k.host = host.NewOn(k)
	k.mu.Lock()
	defer k.mu.Unlock()
	k.boot()
	return k
}

// Shutdown ends the machine and releases all that it holds, also what its users have left open. Calls made from then on
// fail, those that wait are ended.
func (k *Kernel) Shutdown() {
	k.mu.Lock()
	k.down = true
	for fd := range k.files {
		k.close(fd)
	}
	for _, f := range k.functions {
		if f.device != nil { // something of it is still mapped
			f.device.stop()
		}
	}
	k.released.Broadcast()
	k.mu.Unlock()
	k.resamples.Wait()
}

// Host is the host that the machine is.
func (k *Kernel) Host() *host.Host { return k.host }

// enter starts a call: it takes the lock, and tells whether the call is to fail. The caller unlocks in either case.
func (k *Kernel) enter(call string) error {
	k.mu.Lock()
	if k.down {
		return unix.ENODEV
	}
	return k.injected(call)
}
