package vfiotest

import (
	"fmt"
	"math"
	"math/bits"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/irqbridge/irqbridge/vfio"
	"github.com/irqbridge/irqbridge/vfio/internal/uapi"
)

// DeviceFeature knows VF tokens, low power and the export of BARs, which is younger than Linux 6.1.
func (k *Kernel) DeviceFeature(fd int, arg []byte) (int, error) {
	f, err := enterFile[*deviceFile](k, "DeviceFeature", fd)
	defer k.mu.Unlock()
	if err != nil {
		return 0, err
	}
	if err := uapi.CheckArg(arg, uapi.DeviceFeatureMinSize); err != nil {
		return 0, err
	}
	feature := uapi.Take[uapi.DeviceFeature](arg)
	const (
		operations = uapi.FeatureGet | uapi.FeatureSet
		known      = uapi.FeatureMask | uapi.FeatureProbe | operations
	)
	flags := feature.Flags
	if feature.Argsz < uapi.DeviceFeatureMinSize || flags&^known != 0 ||
		flags&uapi.FeatureProbe == 0 && flags&operations == operations {
		return 0, unix.EINVAL
	}
	data := arg[uapi.DeviceFeatureMinSize:feature.Argsz]
	do := func(supported uint32, atLeast int, f func() (int, error)) (int, error) {
		switch {
		case flags&operations&^supported != 0:
			return 0, unix.EINVAL
		case flags&uapi.FeatureProbe != 0:
			return 0, nil
		case flags&operations == 0, len(data) < atLeast:
			return 0, unix.EINVAL
		}
		return f()
	}
	d := f.device
	switch flags & uapi.FeatureMask {
	case uapi.FeaturePCIVFToken:
		if d.function.physical {
			return do(uapi.FeatureSet, len(vfio.VFToken{}), func() (int, error) { return 0, nil })
		}
	case uapi.FeatureLowPowerEntry:
		return do(uapi.FeatureSet, 0, func() (int, error) { return 0, d.enterLowPower(nil) })
	case uapi.FeatureLowPowerEntryWakes:
		return do(uapi.FeatureSet, uapi.Size[uapi.LowPowerEntryWithWakeup](), func() (int, error) { return 0, d.enterLowPowerWaking(data) })
	case uapi.FeatureLowPowerExit:
		return do(uapi.FeatureSet, 0, func() (int, error) {
			d.exitLowPower()
			return 0, nil
		})
	case uapi.FeatureDMABuf:
		if k.version != V6_1 {
			return do(uapi.FeatureGet, uapi.Size[uapi.DMABuf](), func() (int, error) { return d.function.export(data) })
		}
	case precopyInfo:
		if k.version != V6_1 {
			return 0, unix.EINVAL
		}
	}
	return 0, unix.ENOTTY
}

// precopyInfo is VFIO_DEVICE_FEATURE_MIG_PRECOPY_INFOv2, which is EINVAL for a device that does not migrate.
const precopyInfo = 12

// lowPower is the state of a device that the user lets sleep. How deep it sleeps is told in sysfs alone, since the kernel wakes it
// for as long as a call takes; but its memory cannot be mapped.
type lowPower struct {
	on     bool
	wake   *eventfd // of entry with wakeup: what ends it is whatever is done with the device
	masked bool     // the line was masked for it
}

func (d *device) enterLowPower(wake *eventfd) error {
	if d.low.on {
		return unix.EINVAL
	}
	d.low = lowPower{on: true, wake: wake, masked: d.live == uapi.PCIINTxIRQIndex && !d.intx.masked}
	if d.low.masked {
		d.maskINTx()
	}
	return nil
}

func (d *device) enterLowPowerWaking(data []byte) error {
	entry := uapi.Take[uapi.LowPowerEntryWithWakeup](data)
	if entry.WakeupEventfd < 0 {
		return unix.EINVAL
	}
	wake, err := takeEventfd(int(entry.WakeupEventfd))
	if err != nil {
		return err
	}
	if err := d.enterLowPower(wake); err != nil {
		wake.put()
		return err
	}
	return nil
}

// exitLowPower wakes the device for good. It does nothing when it is awake.
func (d *device) exitLowPower() {
	low := d.low
	d.low = lowPower{}
	low.wake.put()
	if low.masked {
		d.unmaskINTx()
	}
}

// used is called before something is done with the device.
func (d *device) used() {
	if d.low.wake != nil {
		d.low.wake.signal()
		d.exitLowPower()
	}
}

// export is DMA_BUF: the descriptor is one of a file of the same size, which is all of it that is modelled.
func (f *function) export(data []byte) (int, error) {
	get := uapi.Take[uapi.DMABuf](data)
	at, each := uapi.Size[uapi.DMABuf](), uapi.Size[uapi.RegionDMARange]()
	switch {
	case get.NrRanges == 0 || get.Flags != 0:
		return 0, unix.EINVAL
	case get.RegionIndex > uapi.PCIBAR5RegionIndex || f.bars[get.RegionIndex].size == 0:
		return 0, unix.ENODEV
	case uint64(get.NrRanges)*uint64(each) > uint64(len(data)-at):
		return 0, unix.EFAULT
	}
	bar := f.bars[get.RegionIndex]
	const page = 4096
	total := uint64(0)
	for i := range int(get.NrRanges) {
		r := uapi.Take[uapi.RegionDMARange](data[at+i*each:])
		switch {
		case r.Offset%page != 0 || r.Length%page != 0 || r.Length == 0:
			return 0, unix.EINVAL
		case r.Offset > math.MaxUint64-r.Length:
			return 0, unix.EOVERFLOW
		case r.Offset+r.Length > bar.size:
			return 0, unix.EINVAL
		}
		total += r.Length
	}
	if bar.io {
		return 0, unix.EINVAL
	}
	flags := 0
	if get.OpenFlags&unix.O_CLOEXEC != 0 {
		flags = unix.MFD_CLOEXEC
	}
	fd, err := unix.MemfdCreate("dmabuf", flags)
	if err != nil {
		return 0, unix.EMFILE
	}
	if err := unix.Ftruncate(fd, int64(total)); err != nil {
		closeQuietly(fd)
		return 0, unix.ENOMEM
	}
	return fd, nil
}

// ioeventfd is a write that the kernel makes when an eventfd is signalled.
type ioeventfd struct {
	bar    int
	at     uint64
	width  int
	data   uint64
	event  string    // what tells eventfds apart
	source *resample // shared with the device's other writes by the same eventfd
}

// maxIOEventFDs is how many a device can have.
const maxIOEventFDs = 1000

// DeviceIOEventFD arranges a write to a BAR for each signal of an eventfd, or ends one.
func (k *Kernel) DeviceIOEventFD(fd int, arg []byte) error {
	f, err := enterFile[*deviceFile](k, "DeviceIOEventFD", fd)
	defer k.mu.Unlock()
	if err != nil {
		return err
	}
	if err := uapi.CheckArg(arg, uapi.DeviceIOEventFDMinSize); err != nil {
		return err
	}
	request := uapi.Take[uapi.DeviceIOEventFD](arg)
	const widths = uapi.IOEventFD8 | uapi.IOEventFD16 | uapi.IOEventFD32 | uapi.IOEventFD64
	width := int(request.Flags & widths)
	bar := int(request.Offset >> regionShift)
	at := request.Offset & (1<<regionShift - 1)
	fn := f.device.function
	switch {
	case request.Argsz < uapi.DeviceIOEventFDMinSize, request.Flags&^widths != 0, bits.OnesCount(uint(width)) != 1, request.Fd < -1:
		return unix.EINVAL
	case request.Offset>>regionShift > uapi.PCIBAR5RegionIndex, at+uint64(width) > fn.bars[bar].size, fn.inTable(bar, at, width):
		return unix.EINVAL
	}
	return f.device.arrange(ioeventfd{bar: bar, at: at, width: width, data: request.Data}, int(request.Fd))
}

// inTable tells whether any of width bytes at an offset of a BAR is of the MSI-X table.
func (f *function) inTable(bar int, at uint64, width int) bool {
	if f.msix == nil || f.msix.Table.BAR != bar {
		return false
	}
	start := uint64(f.msix.Table.Offset)
	return at+uint64(width) > start && at < start+uint64(len(f.table))*msixEntrySize
}

func (d *device) arrange(wanted ioeventfd, fd int) error {
	for i, have := range d.ioeventfds {
		source := have.source
		have.event, have.source = "", nil
		switch {
		case have != wanted:
		case fd >= 0:
			return unix.EEXIST
		default:
			d.ioeventfds = slices.Delete(d.ioeventfds, i, i+1)
			if !slices.ContainsFunc(d.ioeventfds, func(other ioeventfd) bool { return other.source == source }) {
				source.stop()
			}
			return nil
		}
	}
	switch {
	case fd < 0:
		return unix.ENODEV
	case len(d.ioeventfds) == maxIOEventFDs:
		return unix.ENOSPC
	}
	event, err := takeEventfd(fd)
	if err != nil {
		return err
	}
	wanted.event = event.identity()
	for _, have := range d.ioeventfds {
		if have.event == wanted.event {
			event.put()
			wanted.source = have.source
			d.ioeventfds = append(d.ioeventfds, wanted)
			return nil
		}
	}
	if wanted.source, err = d.function.kernel.newResample(event, func() { d.write(wanted.event) }); err != nil {
		event.put()
		return err
	}
	d.ioeventfds = append(d.ioeventfds, wanted)
	return nil
}

// write does what was arranged for an eventfd. One signal does all of it.
func (d *device) write(event string) {
	f := d.function
	for _, i := range d.ioeventfds {
		if i.event == event && f.decodes(i.bar) {
			f.store(i.bar, i.at, i.width, i.data)
		}
	}
}

// identity is what tells an eventfd apart from others: a line of its fdinfo, "eventfd-id: 7".
func (e *eventfd) identity() string {
	info, _ := os.ReadFile(fmt.Sprintf("/proc/self/fdinfo/%d", e.fd)) // every Linux since 5.2 tells
	for line := range strings.Lines(string(info)) {
		if strings.HasPrefix(line, "eventfd-id:") {
			return line
		}
	}
	return fmt.Sprint(e.fd)
}
