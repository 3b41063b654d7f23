package vfio

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/irqbridge/irqbridge/vfio/internal/uapi"
)

// Feature is the number of something that only some devices and kernels can do, VFIO_DEVICE_FEATURE_* of linux/vfio.h. A number
// that has no constant here is one of a newer kernel.
type Feature uint16

// The features, with what is done with them and the structure of their data. The methods named are the easier way.
const (
	FeatureVFToken            Feature = uapi.FeaturePCIVFToken         // set, 16 bytes: SetVFToken
	FeatureMigration          Feature = uapi.FeatureMigration          // get, struct vfio_device_feature_migration
	FeatureMigDeviceState     Feature = uapi.FeatureMigDeviceState     // get and set, struct vfio_device_feature_mig_state
	FeatureLowPowerEntry      Feature = uapi.FeatureLowPowerEntry      // set, nothing: EnterLowPower
	FeatureLowPowerEntryWakes Feature = uapi.FeatureLowPowerEntryWakes // set, struct vfio_device_low_power_entry_with_wakeup: EnterLowPower
	FeatureLowPowerExit       Feature = uapi.FeatureLowPowerExit       // set, nothing: ExitLowPower
	FeatureDMALoggingStart    Feature = uapi.FeatureDMALoggingStart    // refused here, see GetFeature
	FeatureDMALoggingStop     Feature = uapi.FeatureDMALoggingStop     // set, nothing
	FeatureDMALoggingReport   Feature = uapi.FeatureDMALoggingReport   // refused here, see GetFeature
	FeatureMigDataSize        Feature = uapi.FeatureMigDataSize        // get, struct vfio_device_feature_mig_data_size
	FeatureBusMaster          Feature = uapi.FeatureBusMaster          // set, struct vfio_device_feature_bus_master; PCI devices have SetBusMaster
	FeatureDMABuf             Feature = uapi.FeatureDMABuf             // get, struct vfio_device_feature_dma_buf: BAR.ExportDMABuf
)

// featureNames are the names in linux/vfio.h without VFIO_DEVICE_FEATURE_.
var featureNames = map[Feature]string{
	FeatureVFToken:            "PCI_VF_TOKEN",
	FeatureMigration:          "MIGRATION",
	FeatureMigDeviceState:     "MIG_DEVICE_STATE",
	FeatureLowPowerEntry:      "LOW_POWER_ENTRY",
	FeatureLowPowerEntryWakes: "LOW_POWER_ENTRY_WITH_WAKEUP",
	FeatureLowPowerExit:       "LOW_POWER_EXIT",
	FeatureDMALoggingStart:    "DMA_LOGGING_START",
	FeatureDMALoggingStop:     "DMA_LOGGING_STOP",
	FeatureDMALoggingReport:   "DMA_LOGGING_REPORT",
	FeatureMigDataSize:        "MIG_DATA_SIZE",
	FeatureBusMaster:          "BUS_MASTER",
	FeatureDMABuf:             "DMA_BUF",
}

// String returns the name in linux/vfio.h without VFIO_DEVICE_FEATURE_, or "feature 17".
func (f Feature) String() string {
	if name, ok := featureNames[f]; ok {
		return name
	}
	return fmt.Sprintf("feature %d", uint16(f))
}

// FeatureInfo is a feature that the kernel has for a device: one that can be got, set or both.
type FeatureInfo struct {
	Feature  Feature
	Get, Set bool
}

// probedFeatures is how many numbers Features asks for. Linux 7.3 has 14.
const probedFeatures = 32

// Features lists what the kernel has for this device, by number (VFIO_DEVICE_FEATURE with PROBE). That it can be done in
// principle is all that this says.
func (d *Device) Features() ([]FeatureInfo, error) {
	var have []FeatureInfo
	for f := range Feature(probedFeatures) {
		op := fmt.Sprintf("ask for %v", f)
		get, err := d.hasFeature(op, f, uapi.FeatureGet)
		if err != nil {
			return nil, err
		}
		set, err := d.hasFeature(op, f, uapi.FeatureSet)
		if err != nil {
			return nil, err
		}
		if get || set {
			have = append(have, FeatureInfo{Feature: f, Get: get, Set: set})
		}
	}
	return have, nil
}

// hasFeature tells whether a feature could be got or set.
func (d *Device) hasFeature(op string, f Feature, operation uint32) (bool, error) {
	_, err := d.feature(op, f, uapi.FeatureProbe|operation, nil)
	if errors.Is(err, unix.ENOTTY) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP) {
		return false, nil
	}
	return err == nil, err
}

// GetFeature gets a feature: data is its structure, which the kernel reads and writes, in the machine's byte order. The result is
// what the system call returned, which is a descriptor for FeatureDMABuf and some of migration. ErrNotSupported when the device
// or the kernel does not have the feature (ENOTTY); and for the two whose data holds addresses of the process'
// memory, FeatureDMALoggingStart and FeatureDMALoggingReport, which no program in Go could give away safely here.
func (d *Device) GetFeature(f Feature, data []byte) (int, error) {
	return d.feature(fmt.Sprintf("get %v", f), f, uapi.FeatureGet, data)
}

// SetFeature sets a feature to data, its structure in the machine's byte order. Errors are as for GetFeature.
func (d *Device) SetFeature(f Feature, data []byte) error {
	_, err := d.feature(fmt.Sprintf("set %v", f), f, uapi.FeatureSet, data)
	return err
}

// feature is VFIO_DEVICE_FEATURE. What the kernel wrote is copied to data.
func (d *Device) feature(op string, f Feature, flags uint32, data []byte) (int, error) {
	if flags&uapi.FeatureProbe == 0 && (f == FeatureDMALoggingStart || f == FeatureDMALoggingReport) {
		e := d.fault(op, unix.EINVAL)
		e.Kind, e.Cause = ErrNotSupported, "its data holds addresses, at which the kernel would read and write whatever is there"
		return 0, e
	}
	d.life.RLock()
	defer d.life.RUnlock()
	if d.closed {
		return 0, d.fault(op, os.ErrClosed)
	}
	header := uapi.Size[uapi.DeviceFeature]()
	arg := append(make([]byte, header), data...)
	uapi.Put(arg, uapi.DeviceFeature{Argsz: uint32(len(arg)), Flags: uint32(f) | flags})
	n, err := d.kernel.DeviceFeature(d.fd, arg)
	if err != nil {
		e := d.fault(op, err)
		if errors.Is(err, unix.ENOTTY) || errors.Is(err, unix.EOPNOTSUPP) {
			e.Kind, e.Cause = ErrNotSupported, fmt.Sprintf("the device or the kernel does not have %v", f)
			e.Remedy = "see those that it has: Device.Features"
		}
		return 0, e
	}
	copy(data, arg[header:])
	return n, nil
}

// SetVFToken sets the token that the users of a physical function's virtual functions have to give (WithVFToken), from their next
// open on. It stays set when the device is closed, until its driver is unbound. ErrNotSupported for a device that is no physical
// function (VFIO_DEVICE_FEATURE_PCI_VF_TOKEN).
func (d *Device) SetVFToken(token VFToken) error {
	return d.SetFeature(FeatureVFToken, token[:])
}

// EnterLowPower lets the host put the device into a state of low power (VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY), until ExitLowPower or
// Close. Accesses of a mapped BAR then fail with EFAULT. All else that is done with the device wakes it for as long as
// it takes. INTx is held back meanwhile; messages and DMA are up to the device. It fails with EINVAL when that
// has been called before.
//
// With an eventfd, -1 for none, the first thing that wakes the device ends the state for good and adds one to it
// (VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY_WITH_WAKEUP).
func (d *Device) EnterLowPower(wakeup int) error {
	const op = "enter low power"
	f, data := FeatureLowPowerEntry, []byte(nil)
	if wakeup >= 0 {
		f, data = FeatureLowPowerEntryWakes, argument(uapi.LowPowerEntryWithWakeup{WakeupEventfd: int32(wakeup)})
	}
	_, err := d.feature(op, f, uapi.FeatureSet, data)
	if e, ok := errors.AsType[*OpError](err); ok {
		switch {
		case errors.Is(err, unix.EBADF):
			e.Cause, e.Remedy = causeNotOpen, remedyNotOpen
		case errors.Is(err, unix.EINVAL):
			e.Cause, e.Remedy = "the device is in low power already, or the descriptor is not an eventfd", "call ExitLowPower first, and check the descriptor"
		}
	}
	return err
}

// ExitLowPower ends what EnterLowPower began; it does nothing when that is over.
func (d *Device) ExitLowPower() error {
	_, err := d.feature("exit low power", FeatureLowPowerExit, uapi.FeatureSet, nil)
	return err
}

// ExportDMABuf makes a dma-buf of parts of a memory BAR, in whole pages, or of all of it when no parts are named: other
// devices and their drivers can then reach them directly, as Documentation/driver-api/dma-buf.rst says
// (VFIO_DEVICE_FEATURE_DMA_BUF). It is close-on-exec, and the caller's to close. It holds on to nothing: while the device is
// reset, sleeps or does not decode memory, and after Close, the others are cut off. ErrNotSupported on kernels without,
// such as Linux 6.1.
func (b *BAR) ExportDMABuf(parts ...Area) (*os.File, error) {
	op := fmt.Sprintf("export BAR %d", b.region.Index)
	if len(parts) == 0 {
		parts = []Area{{Size: b.region.Size}}
	}
	page := uint64(os.Getpagesize())
	data := argument(uapi.DMABuf{RegionIndex: uint32(b.region.Index), OpenFlags: unix.O_CLOEXEC | unix.O_RDWR, NrRanges: uint32(len(parts))})
	for _, p := range parts {
		if p.Size == 0 || p.Offset%page != 0 || p.Size%page != 0 || p.Offset > b.region.Size || p.Size > b.region.Size-p.Offset {
			return nil, b.device.invalid(op, fmt.Sprintf("0x%x bytes at 0x%x are not whole pages of its 0x%x bytes", p.Size, p.Offset, b.region.Size))
		}
		data = append(data, argument(uapi.RegionDMARange{Offset: p.Offset, Length: p.Size})...)
	}
	fd, err := b.device.feature(op, FeatureDMABuf, uapi.FeatureGet, data)
	if err != nil {
		if e, ok := errors.AsType[*OpError](err); ok && errors.Is(err, unix.EINVAL) {
			e.Cause = "the BAR is one of I/O ports"
		}
		return nil, err
	}
	return os.NewFile(uintptr(fd), fmt.Sprintf("dma-buf of BAR %d of %v", b.region.Index, b.device.address)), nil
}

// WriteOnEventFD has the kernel write the low width bytes, 1, 2, 4 or 8, of v to offset off whenever eventfd is signalled, without
// this program: a doorbell that another process or the kernel can ring (VFIO_DEVICE_IOEVENTFD). The kernel takes the eventfd's
// count, and a signal of any count is one write. -1 takes back what was arranged for the same width, offset and value; EEXIST
// when there is such. A device can have 1000. While memory decoding is off, what is signalled is lost. The MSI-X table cannot
// be written so.
func (b *BAR) WriteOnEventFD(off uint64, width int, v uint64, eventfd int) error {
	d := b.device
	d.life.RLock()
	defer d.life.RUnlock()
	const verb = "on an eventfd, write"
	if width != 1 && width != 2 && width != 4 && width != 8 {
		return d.invalid(fmt.Sprintf("%s %d bytes", verb, width), "there are writes of 1, 2, 4 and 8 bytes")
	}
	if err := b.check(verb, off, width); err != nil {
		return err
	}
	err := d.kernel.DeviceIOEventFD(d.fd, argument(uapi.DeviceIOEventFD{
		Argsz:  uint32(uapi.Size[uapi.DeviceIOEventFD]()),
		Flags:  uint32(width), // the flags are the widths
		Offset: b.region.Offset + off,
		Data:   v,
		Fd:     int32(max(eventfd, -1)),
	}))
	if err == nil {
		return nil
	}
	e := b.fault(verb, off, width, err)
	switch {
	case errors.Is(err, unix.EBADF):
		e.Cause, e.Remedy = causeNotOpen, remedyNotOpen
	case errors.Is(err, unix.EINVAL):
		e.Cause, e.Remedy = "the descriptor is not an eventfd, or the offset is in the MSI-X table", "check both"
	case errors.Is(err, unix.EEXIST):
		e.Kind, e.Cause, e.Remedy = ErrBusy, "the same write is arranged already, for this or another eventfd", "take that back first, with descriptor -1"
	case errors.Is(err, unix.ENODEV) && eventfd < 0 && e.Kind == nil:
		e.Kind, e.Cause = ErrNotFound, "no such write was arranged"
	case errors.Is(err, unix.ENOSPC):
		e.Cause = "the device has as many as the kernel allows"
	}
	return e
}
