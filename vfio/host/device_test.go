package host

import (
	"io/fs"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/irqbridge/irqbridge/pci"
)

func TestDevice(t *testing.T) {
	tr := newTree(t)
	tr.device("0000:00:05.0", "8086:10d3", "020000", "e1000e", 4)
	d, err := tr.host().Device(addr(t, "0000:00:05.0"))
	require.NoError(t, err)
	assert.Equal(t, Device{
		Address: pci.Address{Device: 5}, VendorID: 0x8086, DeviceID: 0x10d3, SubsystemVendorID: 0x1af4, SubsystemID: 0x1100,
		Class: 0x020000, Revision: 3, Driver: "e1000e", Group: 4, HostBridge: "pci0000:00", NUMANode: -1, IRQ: 22, PowerState: "D0",
	}, d)
}

func TestDeviceIsOnVFIOByItsDirectory(t *testing.T) {
	tr := newTree(t)
	tr.device("0000:00:04.0", "1234:11e8", "00ff00", "my-variant", 3)
	tr.device("0000:00:05.0", "8086:10d3", "020000", "e1000e", 4)
	tr.dir(place("0000:00:04.0") + "/vfio-dev/vfio0")
	tr.file(place("0000:00:04.0")+"/driver_override", "my-variant\n")
	devices, err := tr.host().Devices()
	require.NoError(t, err)
	require.Len(t, devices, 2)
	assert.True(t, devices[0].VFIO)
	assert.Equal(t, "my-variant", devices[0].DriverOverride)
	assert.False(t, devices[1].VFIO)
	assert.Empty(t, devices[1].DriverOverride, "(null) is no override")
}

// TestDeviceIsOnVFIOByItsDriverBeforeLinux61: the directory vfio-dev came with 6.1.
func TestDeviceIsOnVFIOByItsDriverBeforeLinux61(t *testing.T) {
	tr := newTree(t)
	tr.device("0000:00:04.0", "1234:11e8", "00ff00", "vfio-pci", 3)
	require.NoError(t, os.RemoveAll(tr.root+place("0000:00:04.0")+"/vfio-dev"))
	g, err := tr.host().Group(3)
	require.NoError(t, err)
	require.Len(t, g.Members, 1)
	assert.True(t, g.Members[0].VFIO)
	assert.Empty(t, g.Blockers())
}

func TestDevicesAreSortedAndOfManyDomains(t *testing.T) {
	tr := newTree(t)
	for _, address := range []string{"10000:e1:00.0", "0000:00:0a.0", "0001:00:00.0", "0000:00:04.0", "0000:00:04.1", "7fffffff:00:00.0"} {
		tr.device(address, "1234:11e8", "00ff00", "", -1)
	}
	tr.dir("/sys/bus/pci/devices/no address")
	devices, err := tr.host().Devices()
	require.NoError(t, err)
	var got []string
	for _, d := range devices {
		got = append(got, d.Address.String())
		assert.Equal(t, -1, d.Group)
	}
	assert.Equal(t, []string{"0000:00:04.0", "0000:00:04.1", "0000:00:0a.0", "0001:00:00.0", "10000:e1:00.0", "7fffffff:00:00.0"}, got)
}

func TestDeviceThatIsNotThere(t *testing.T) {
	h := newTree(t).host()
	_, err := h.Device(addr(t, "0000:00:1f.7"))
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.EqualError(t, err, "0000:00:1f.7: look up the device: no such file or directory: there is no PCI device at this address; lspci -D lists the addresses")
	_, err = h.Config(addr(t, "0000:00:1f.7"))
	require.ErrorIs(t, err, fs.ErrNotExist)
	_, err = h.InUse(addr(t, "0000:00:1f.7"))
	require.ErrorIs(t, err, fs.ErrNotExist)
}

// vanishing is an OS on which a device goes away when a certain attribute is read.
type vanishing struct {
	OS
	attribute string
	remove    func()
	err       error
}

func (v *vanishing) ReadFile(name string) ([]byte, error) {
	if name == v.attribute {
		v.remove()
		return nil, &fs.PathError{Op: "read", Path: name, Err: v.err}
	}
	return v.OS.ReadFile(name)
}

func TestDeviceThatVanishesDuringTheScan(t *testing.T) {
	for _, attribute := range []string{"vendor", "driver_override", "irq", "sriov_numvfs"} {
		for _, errno := range []error{unix.ENOENT, unix.ENODEV} {
			t.Run(attribute+" "+errno.Error(), func(t *testing.T) {
				tr := newTree(t)
				tr.device("0000:00:04.0", "1234:11e8", "00ff00", "", 1)
				tr.device("0000:00:05.0", "8086:10d3", "020000", "e1000e", 1)
				tr.device("0000:00:06.0", "1234:11e8", "00ff00", "", 1)
				h := NewOn(&vanishing{
					OS: newLocal(tr.root), attribute: "/sys/bus/pci/devices/0000:00:05.0/" + attribute, err: errno,
					remove: func() { _ = os.RemoveAll(tr.root + place("0000:00:05.0")) },
				})
				devices, err := h.Devices()
				require.NoError(t, err)
				require.Len(t, devices, 2)
				assert.Equal(t, "0000:00:04.0", devices[0].Address.String())
				assert.Equal(t, "0000:00:06.0", devices[1].Address.String())
				g, err := h.Group(1)
				require.NoError(t, err)
				assert.Len(t, g.Members, 2)
			})
		}
	}
}

func TestMalformedAttributes(t *testing.T) {
	for attribute, content := range map[string]string{
		"vendor": "0x10000", "device": "device", "class": "0x1000000", "revision": "-1", "irq": "99999999999", "numa_node": "-2",
		"sriov_numvfs": "\x00\xff", "boot_vga": "yes", "subsystem_vendor": "0x", "subsystem_device": "0x12 34",
	} {
		tr := newTree(t)
		tr.device("0000:00:04.0", "1234:11e8", "00ff00", "", 1)
		tr.device("0000:00:05.0", "8086:10d3", "020000", "e1000e", 1)
		tr.file(place("0000:00:04.0")+"/"+attribute, content+"\n")
		_, err := tr.host().Device(addr(t, "0000:00:04.0"))
		require.ErrorContains(t, err, "0000:00:04.0/"+attribute, attribute)
		devices, err := tr.host().Devices()
		require.ErrorContains(t, err, "0000:00:04.0", "the one is named")
		require.Len(t, devices, 1, "the others are returned")
		assert.Equal(t, "0000:00:05.0", devices[0].Address.String())
	}
}

func TestOptionalAttributesMayBeMissing(t *testing.T) {
	tr := newTree(t)
	tr.device("0000:00:04.0", "1234:11e8", "00ff00", "", -1)
	for _, name := range []string{"driver_override", "numa_node", "power_state", "irq", "subsystem_vendor", "subsystem_device", "revision"} {
		require.NoError(t, os.Remove(tr.root+place("0000:00:04.0")+"/"+name))
	}
	d, err := tr.host().Device(addr(t, "0000:00:04.0"))
	require.NoError(t, err)
	assert.Equal(t, Device{Address: pci.Address{Device: 4}, VendorID: 0x1234, DeviceID: 0x11e8, Class: 0xff00, Group: -1, HostBridge: "pci0000:00", NUMANode: -1}, d)
}

// TestHostBridge: a device is below the bridge that its path begins with, however deep, and whatever the path goes through.
func TestHostBridge(t *testing.T) {
	for where, want := range map[string]string{
		"/sys/devices/pci0000:00/0000:00:04.0":                                            "pci0000:00",
		"/sys/devices/pci0000:40/0000:40:01.1/0000:41:00.0/0000:00:04.0":                  "pci0000:40",
		"/sys/devices/pci0000:00/0000:00:0e.0/pci10000:e0/10000:e0:06.0/0000:00:04.0":     "pci0000:00",
		"/sys/devices/platform/soc/40000000.pcie/pci0000:00/0000:00:00.0/0000:00:04.0":    "",
		"/sys/bus/pci/elsewhere/pci0000:00/0000:00:04.0":                                  "",
		"/sys/devices/LNXSYSTM:00/LNXSYBUS:00/PNP0A08:00/device:00/pci/0000:00:04.0/more": "",
	} {
		tr := newTree(t)
		tr.file(where+"/vendor", "0x1234\n")
		tr.link("/sys/bus/pci/devices/0000:00:04.0", where)
		d, err := tr.host().Device(addr(t, "0000:00:04.0"))
		require.NoError(t, err)
		assert.Equal(t, want, d.HostBridge, where)
	}
	tr := newTree(t) // a copy without links
	tr.file("/sys/bus/pci/devices/0000:00:04.0/vendor", "0x1234\n")
	d, err := tr.host().Device(addr(t, "0000:00:04.0"))
	require.NoError(t, err)
	assert.Empty(t, d.HostBridge)
}

func TestVirtualFunctions(t *testing.T) {
	tr := newTree(t)
	tr.device("0000:01:00.0", "8086:10c9", "020000", "igb", 7)
	tr.device("0000:01:10.0", "8086:10ca", "020000", "", 8)
	tr.file(place("0000:01:00.0")+"/sriov_numvfs", "1\n")
	tr.link(place("0000:01:10.0")+"/physfn", place("0000:01:00.0"))
	pf, err := tr.host().Device(addr(t, "0000:01:00.0"))
	require.NoError(t, err)
	assert.Equal(t, 1, pf.VirtualFunctions)
	assert.Nil(t, pf.PhysicalFunction)
	vf, err := tr.host().Device(addr(t, "0000:01:10.0"))
	require.NoError(t, err)
	assert.Equal(t, &pf.Address, vf.PhysicalFunction)
}

func TestConfig(t *testing.T) {
	tr := newTree(t)
	tr.device("0000:00:04.0", "1234:11e8", "00ff00", "", 1)
	config := make([]byte, 4096)
	config[0], config[4095] = 0x34, 0xa5
	tr.file(place("0000:00:04.0")+"/config", string(config))
	got, err := tr.host().Config(addr(t, "0000:00:04.0"))
	require.NoError(t, err)
	assert.Equal(t, config, got)
}

func TestSizes(t *testing.T) {
	tr := newTree(t)
	tr.device("0000:00:04.0", "1234:11e8", "00ff00", "", 1)
	file, address := place("0000:00:04.0")+"/resource", addr(t, "0000:00:04.0")
	tr.file(file, "0xfea00000 0xfeafffff 0x40200\n"+strings.Repeat("0x0 0x0 0x0\n", 12))
	got, err := tr.host().Sizes(address)
	require.NoError(t, err)
	assert.Equal(t, pci.Sizes{BARs: [6]uint64{1 << 20}}, got)

	tr.file(file, "nonsense\n")
	_, err = tr.host().Sizes(address)
	require.ErrorContains(t, err, "0000:00:04.0: read the sizes of the BARs")
	_, err = tr.host().Sizes(addr(t, "0000:00:05.0"))
	require.ErrorIs(t, err, fs.ErrNotExist)
}

func TestResetMethods(t *testing.T) {
	tr := newTree(t)
	tr.device("0000:00:04.0", "1234:11e8", "00ff00", "", 1)
	got, err := tr.host().ResetMethods(addr(t, "0000:00:04.0"))
	require.NoError(t, err)
	assert.Empty(t, got)
	tr.file(place("0000:00:04.0")+"/reset_method", "flr bus\n")
	got, err = tr.host().ResetMethods(addr(t, "0000:00:04.0"))
	require.NoError(t, err)
	assert.Equal(t, []string{"flr", "bus"}, got)
	_, err = tr.host().ResetMethods(addr(t, "0000:00:05.0"))
	require.ErrorIs(t, err, fs.ErrNotExist)
}

func TestNoPCI(t *testing.T) {
	_, err := New(t.TempDir()).Devices()
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.ErrorContains(t, err, "is sysfs mounted")
}
