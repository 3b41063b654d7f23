package host

import (
	"context"
	"flag"
	"io/fs"
	"os"
	"path"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
	"pgregory.net/rapid"
)

// TestMain runs only the tests that touch the running kernel when this is the virtual machine, whose processors are
// emulated: the others have nothing to learn there. -test.run says otherwise.
func TestMain(m *testing.M) {
	flag.Parse()
	if run := flag.Lookup("test.run"); os.Getenv("IRQBRIDGE_VM") != "" && run.Value.String() == "" {
		if err := run.Value.Set("Machine|CurrentCPU"); err != nil {
			panic(err)
		}
	}
	goleak.VerifyTestMain(m)
}

// benchMachine is a driver core with the project's machine, on which e1000e takes the card by its IDs.
func benchMachine(t *testing.T) *driverCore {
	t.Helper()
	k := newDriverCore(t)
	k.machine()
	k.takes["e1000e"] = []string{"0000:00:05.0"}
	k.takes["e1000"] = []string{"0000:01:05.0"}
	return k
}

func steps(p *Plan) []string {
	var lines []string
	for _, s := range p.Steps {
		lines = append(lines, s.String())
	}
	return lines
}

func (k *driverCore) planBind(address, driver string, force bool) *Plan {
	k.t.Helper()
	p, err := k.host().PlanBind(addr(k.t, address), driver, force)
	require.NoError(k.t, err)
	return p
}

func (k *driverCore) planUnbind(address string) *Plan {
	k.t.Helper()
	p, err := k.host().PlanUnbind(addr(k.t, address))
	require.NoError(k.t, err)
	return p
}

func (k *driverCore) device(address string) Device {
	k.t.Helper()
	d, err := k.host().Device(addr(k.t, address))
	require.NoError(k.t, err)
	return d
}

const e1000eRecord = `{"schema":1,"address":"0000:00:05.0","vendor":32902,"device":4307,"driver":"e1000e","driverOverride":""}`

func TestBindAndGiveBack(t *testing.T) {
	k := benchMachine(t)
	before := k.snapshot()

	p := k.planBind("0000:00:05.0", "vfio-pci", false)
	assert.Equal(t, []string{
		"+ echo '" + e1000eRecord + "' > /run/irqbridge/bind/0000:00:05.0.json",
		"+ echo vfio-pci > /sys/bus/pci/devices/0000:00:05.0/driver_override",
		"+ echo 0000:00:05.0 > /sys/bus/pci/drivers/e1000e/unbind",
		"+ echo 0000:00:05.0 > /sys/bus/pci/drivers/vfio-pci/bind",
	}, steps(p))
	assert.Empty(t, p.Notes)
	assert.Equal(t, before, k.snapshot(), "a plan changes nothing")

	require.NoError(t, p.Run(t.Context()))
	d := k.device("0000:00:05.0")
	assert.Equal(t, "vfio-pci", d.Driver)
	assert.Equal(t, "vfio-pci", d.DriverOverride)
	assert.True(t, d.VFIO)

	p = k.planUnbind("0000:00:05.0")
	assert.Equal(t, "e1000e", p.Driver)
	assert.Equal(t, []string{
		"+ echo 0000:00:05.0 > /sys/bus/pci/drivers/vfio-pci/unbind",
		"+ echo > /sys/bus/pci/devices/0000:00:05.0/driver_override",
		"+ echo 0000:00:05.0 > /sys/bus/pci/drivers/e1000e/bind",
		"+ rm /run/irqbridge/bind/0000:00:05.0.json",
	}, steps(p))
	require.NoError(t, p.Run(t.Context()))
	assert.Equal(t, before, k.snapshot())
}

func TestBindADeviceWithoutADriver(t *testing.T) {
	k := benchMachine(t)
	before := k.snapshot()
	require.NoError(t, k.planBind("0000:00:04.0", "vfio-pci", false).Run(t.Context()))
	assert.True(t, k.device("0000:00:04.0").VFIO)
	k.takes["late"] = []string{"0000:00:04.0"} // a driver that is loaded meanwhile does not get it
	p := k.planUnbind("0000:00:04.0")
	assert.Empty(t, p.Driver)
	require.NoError(t, p.Run(t.Context()))
	assert.Equal(t, before, k.snapshot())
}

func TestGiveBackAnOverride(t *testing.T) {
	k := benchMachine(t)
	k.file(place("0000:00:04.0")+"/driver_override", "my driver\n")
	before := k.snapshot()
	require.NoError(t, k.planBind("0000:00:04.0", "vfio-pci", false).Run(t.Context()))
	p := k.planUnbind("0000:00:04.0")
	assert.Contains(t, steps(p), "+ echo 'my driver' > /sys/bus/pci/devices/0000:00:04.0/driver_override")
	require.NoError(t, p.Run(t.Context()))
	assert.Equal(t, before, k.snapshot())
}

func TestNothingToDo(t *testing.T) {
	k := benchMachine(t)
	require.NoError(t, k.planBind("0000:00:05.0", "vfio-pci", false).Run(t.Context()))
	before := k.snapshot()
	p := k.planBind("0000:00:05.0", "vfio-pci", false)
	assert.Empty(t, p.Steps)
	require.NoError(t, p.Run(t.Context()))
	assert.Equal(t, before, k.snapshot())

	require.NoError(t, k.planUnbind("0000:00:05.0").Run(t.Context()))
	p = k.planUnbind("0000:00:05.0")
	assert.Empty(t, p.Steps)
	assert.Equal(t, "e1000e", p.Driver)
	require.NoError(t, p.Run(t.Context()))
}

func TestBindingAgainKeepsTheFirstRecord(t *testing.T) {
	k := benchMachine(t)
	k.driver("mlx5-vfio-pci")
	require.NoError(t, k.planBind("0000:00:05.0", "vfio-pci", false).Run(t.Context()))
	p := k.planBind("0000:00:05.0", "mlx5-vfio-pci", false)
	assert.Equal(t, []string{"an earlier record is kept: unbind will give the device back to driver e1000e"}, p.Notes)
	require.NoError(t, p.Run(t.Context()))
	assert.Equal(t, "mlx5-vfio-pci", k.device("0000:00:05.0").Driver)
	require.NoError(t, k.planUnbind("0000:00:05.0").Run(t.Context()))
	assert.Equal(t, "e1000e", k.device("0000:00:05.0").Driver)
	assert.NoFileExists(t, k.root+"/run/irqbridge/bind/0000:00:05.0.json")
}

func TestUnbindWithoutARecord(t *testing.T) {
	k := benchMachine(t)
	require.NoError(t, k.planBind("0000:00:05.0", "vfio-pci", false).Run(t.Context()))
	require.NoError(t, os.RemoveAll(k.root+"/run"))
	p := k.planUnbind("0000:00:05.0")
	assert.Equal(t, []string{"no record tells which driver it had: the kernel picks one"}, p.Notes)
	assert.Equal(t, []string{
		"+ echo 0000:00:05.0 > /sys/bus/pci/drivers/vfio-pci/unbind",
		"+ echo > /sys/bus/pci/devices/0000:00:05.0/driver_override",
		"+ echo 0000:00:05.0 > /sys/bus/pci/drivers_probe",
	}, steps(p))
	require.NoError(t, p.Run(t.Context()))
	assert.Equal(t, "e1000e", k.device("0000:00:05.0").Driver)

	// Nothing takes edu: it ends without a driver.
	k.file(place("0000:00:04.0")+"/driver_override", "vfio-pci\n")
	p = k.planUnbind("0000:00:04.0")
	assert.Len(t, p.Steps, 2, "an override for VFIO that somebody left on a device without a driver goes")
	require.NoError(t, p.Run(t.Context()))
	assert.Empty(t, k.device("0000:00:04.0").Driver)
	assert.Empty(t, k.device("0000:00:04.0").DriverOverride)

	// What was never on VFIO is not touched, whatever its override is.
	k.file(place("0000:01:05.0")+"/driver_override", "e1000\n")
	assert.Empty(t, k.planUnbind("0000:01:05.0").Steps)
}

func TestRecordOfAnotherDevice(t *testing.T) {
	k := benchMachine(t)
	const file = "/run/irqbridge/bind/0000:00:05.0.json"
	k.file(file, strings.Replace(e1000eRecord, "4307", "1", 1))
	p := k.planUnbind("0000:00:05.0")
	assert.Equal(t, []string{"the record is about another device (8086:0001) that was at this address, and is dropped"}, p.Notes)
	assert.Equal(t, []string{"+ rm " + file}, steps(p))

	p = k.planBind("0000:00:05.0", "vfio-pci", false)
	assert.Contains(t, p.Notes[0], "the record of another device (8086:0001)")
	require.NoError(t, p.Run(t.Context()))
	require.NoError(t, k.planUnbind("0000:00:05.0").Run(t.Context()))
	assert.Equal(t, "e1000e", k.device("0000:00:05.0").Driver)
}

// TestDriverGivenByOtherMeans is about a device that was bound here, and that the administrator then gave to a driver by hand.
func TestDriverGivenByOtherMeans(t *testing.T) {
	k := benchMachine(t)
	k.driver("nvme")
	k.takes["nvme"] = []string{"0000:00:04.0"}
	require.NoError(t, k.planBind("0000:00:04.0", "vfio-pci", false).Run(t.Context()))
	for file, value := range map[string]string{
		"/sys/bus/pci/drivers/vfio-pci/unbind": "0000:00:04.0\n", "/sys/bus/pci/devices/0000:00:04.0/driver_override": "\n",
	} {
		require.NoError(t, k.WriteFile(file, []byte(value)))
	}
	require.NoError(t, k.WriteFile("/sys/bus/pci/drivers_probe", []byte("0000:00:04.0\n")))
	p := k.planUnbind("0000:00:04.0")
	assert.Equal(t, []string{"+ rm /run/irqbridge/bind/0000:00:04.0.json"}, steps(p))
	assert.Equal(t, []string{"it was given to driver nvme by other means since, and stays there; the record of no driver is dropped"}, p.Notes)
	require.NoError(t, p.Run(t.Context()))
	assert.Equal(t, "nvme", k.device("0000:00:04.0").Driver)
}

// TestBindToADriverThatIsNotVFIO is as easily undone.
func TestBindToADriverThatIsNotVFIO(t *testing.T) {
	k := benchMachine(t)
	k.driver("uio_pci_generic")
	before := k.snapshot()
	p := k.planBind("0000:01:05.0", "uio_pci_generic", false)
	assert.Empty(t, p.Notes, "the group does not matter")
	require.NoError(t, p.Run(t.Context()))
	assert.Equal(t, "uio_pci_generic", k.device("0000:01:05.0").Driver)
	require.NoError(t, k.planUnbind("0000:01:05.0").Run(t.Context()))
	assert.Equal(t, before, k.snapshot())
}

func TestDamagedRecord(t *testing.T) {
	k := benchMachine(t)
	k.file("/run/irqbridge/bind/0000:00:05.0.json", "{\"schema\":1,")
	before := k.snapshot()
	const want = "0000:00:05.0: read the record of its former driver: unexpected EOF: /run/irqbridge/bind/0000:00:05.0.json is damaged; remove that file"
	_, err := k.host().PlanBind(addr(t, "0000:00:05.0"), "vfio-pci", false)
	require.ErrorContains(t, err, want)
	_, err = k.host().PlanUnbind(addr(t, "0000:00:05.0"))
	require.ErrorContains(t, err, want)
	assert.Equal(t, before, k.snapshot())

	k.faults["read /run/irqbridge/bind/0000:00:05.0.json"] = unix.EACCES
	_, err = k.host().PlanUnbind(addr(t, "0000:00:05.0"))
	require.ErrorIs(t, err, fs.ErrPermission)
}

func TestPlanBindRefuses(t *testing.T) {
	for _, c := range []struct {
		name, address, driver string
		make                  func(k *driverCore)
		is                    error
		want                  string
	}{
		{
			"an unknown address", "0000:00:1e.0", "vfio-pci", nil, fs.ErrNotExist,
			"there is no PCI device at this address",
		},
		{
			"an unknown driver", "0000:00:04.0", "uio_nothing", nil, fs.ErrNotExist,
			"0000:00:04.0: bind to uio_nothing: file does not exist: no PCI driver uio_nothing is loaded; modprobe uio_nothing",
		},
		{
			"a driver that is not loaded", "0000:00:04.0", "vfio-pci",
			func(k *driverCore) { require.NoError(k.t, os.RemoveAll(k.root+"/sys/bus/pci/drivers/vfio-pci")) },
			fs.ErrNotExist, "no PCI driver vfio-pci is loaded; modprobe vfio-pci",
		},
		{"the module's name", "0000:00:04.0", "vfio_pci", nil, fs.ErrNotExist, "no PCI driver has the name vfio_pci; did you mean vfio-pci?"},
		{"a path", "0000:00:04.0", "../../../../etc", nil, fs.ErrInvalid, `"../../../../etc" is not the name of a driver`},
		{"no name", "0000:00:04.0", "", nil, fs.ErrInvalid, `"" is not the name of a driver`},
		{"a name of two lines", "0000:00:04.0", "a\nb", nil, fs.ErrInvalid, `"a\nb" is not the name of a driver`},
		{"a bridge", "0000:00:09.0", "vfio-pci", nil, unix.EINVAL, "it is a bridge"},
		{
			"a machine without an IOMMU", "0000:00:05.0", "vfio-pci",
			func(k *driverCore) {
				require.NoError(k.t, os.RemoveAll(k.root+"/sys/kernel/iommu_groups"))
				require.NoError(k.t, os.Remove(k.root+place("0000:00:05.0")+"/iommu_group"))
			},
			ErrNoIOMMU, "this host has no IOMMU group at all: the platform has no IOMMU, or it is off; switch VT-d or AMD-Vi on in the firmware, and on Intel boot with the kernel argument intel_iommu=on",
		},
		{
			"a device that is not behind the IOMMU", "0000:00:05.0", "vfio-pci",
			func(k *driverCore) { require.NoError(k.t, os.Remove(k.root+place("0000:00:05.0")+"/iommu_group")) },
			ErrNoIOMMU, "the device is in no IOMMU group, although other devices are",
		},
		{
			"a device in use", "0000:00:05.0", "vfio-pci",
			func(k *driverCore) {
				k.file(place("0000:00:05.0")+"/net/eth0/flags", "0x1003\n")
				k.link("/sys/class/net/eth0", place("0000:00:05.0")+"/net/eth0")
			},
			ErrInUse, "0000:00:05.0: bind to vfio-pci: the host uses the device: network interface eth0 is up; end that use, or force it",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			k := benchMachine(t)
			if c.make != nil {
				c.make(k)
			}
			before := k.snapshot()
			p, err := k.host().PlanBind(addr(t, c.address), c.driver, false)
			require.ErrorIs(t, err, c.is)
			require.ErrorContains(t, err, c.want)
			assert.Nil(t, p)
			assert.Equal(t, before, k.snapshot())
		})
	}
}

func TestForce(t *testing.T) {
	k := benchMachine(t)
	k.file(place("0000:00:05.0")+"/boot_vga", "1\n")
	_, err := k.host().PlanBind(addr(t, "0000:00:05.0"), "vfio-pci", false)
	require.ErrorIs(t, err, ErrInUse)
	require.NoError(t, k.planBind("0000:00:05.0", "vfio-pci", true).Run(t.Context()))
	assert.True(t, k.device("0000:00:05.0").VFIO)
}

// TestUnbindRefusesADeviceInUse gives a card from no driver to its own, brings it up, and wants it back.
func TestUnbindRefusesADeviceInUse(t *testing.T) {
	k := benchMachine(t)
	k.driver("igb")
	k.file(place("0000:00:04.0")+"/boot_vga", "1\n") // which is so with any driver, and no reason
	require.NoError(t, k.planBind("0000:00:04.0", "igb", true).Run(t.Context()))
	flags := place("0000:00:04.0") + "/net/eth0/flags"
	k.file(flags, "0x1003\n")
	k.link("/sys/class/net/eth0", path.Dir(flags))
	before := k.snapshot()
	_, err := k.host().PlanUnbind(addr(t, "0000:00:04.0"))
	require.ErrorIs(t, err, ErrInUse)
	require.EqualError(t, err, "0000:00:04.0: give it back to no driver: the host uses the device: network interface eth0 is up; end that use first")
	assert.Equal(t, before, k.snapshot())
	k.faults["read /proc/self/mountinfo"] = unix.EACCES
	k.block(place("0000:00:04.0"), "sdx", "8:240")
	_, err = k.host().PlanUnbind(addr(t, "0000:00:04.0"))
	require.ErrorIs(t, err, fs.ErrPermission, "what cannot be found out is not guessed")
	delete(k.faults, "read /proc/self/mountinfo")

	k.file(flags, "0x1002\n")
	require.NoError(t, k.planUnbind("0000:00:04.0").Run(t.Context()))
	assert.Empty(t, k.device("0000:00:04.0").Driver)
}

// TestUnbindABridge: the disk behind it is in no danger.
func TestUnbindABridge(t *testing.T) {
	k := benchMachine(t)
	k.driver("pci-stub")
	k.block(place("0000:00:09.0")+"/0000:01:02.0/host0/block", "sdb", "8:16")
	k.file("/proc/self/mountinfo", "30 1 8:16 / /srv rw - ext4 /dev/sdb rw\n")
	require.NoError(t, k.planBind("0000:00:09.0", "pci-stub", true).Run(t.Context()))
	require.NoError(t, k.planUnbind("0000:00:09.0").Run(t.Context()))
	assert.Empty(t, k.device("0000:00:09.0").Driver)
}

func TestNoIOMMUModeNeedsNoGroup(t *testing.T) {
	k := benchMachine(t)
	require.NoError(t, os.Remove(k.root+place("0000:00:05.0")+"/iommu_group"))
	k.file("/sys/module/vfio/parameters/enable_unsafe_noiommu_mode", "Y\n")
	require.NoError(t, k.planBind("0000:00:05.0", "vfio-pci", false).Run(t.Context()))
}

func TestBindNamesTheOtherMembersInTheWay(t *testing.T) {
	k := benchMachine(t)
	k.dir("/sys/devices/platform/odd.0")
	k.link("/sys/kernel/iommu_groups/10/devices/odd.0", "/sys/devices/platform/odd.0")
	p := k.planBind("0000:01:01.0", "vfio-pci", false)
	assert.Equal(t, []string{
		"IOMMU group 10 is not viable as long as 0000:01:05.0 (8086:100e, class 020000) is bound to e1000: bind that device to vfio-pci too, or unbind it",
		"IOMMU group 10 also has odd.0, which is no PCI device: if a driver has it, the group may not be viable",
	}, p.Notes)
	assert.Len(t, k.planBind("0000:01:05.0", "vfio-pci", false).Notes, 1, "the device itself is not in the way")

	k.driver("shpchp")
	k.link(place("0000:00:09.0")+"/driver", "/sys/bus/pci/drivers/shpchp")
	assert.Contains(t, k.planBind("0000:01:05.0", "vfio-pci", false).Notes,
		"IOMMU group 10 is not viable as long as 0000:00:09.0 (1b36:000e, class 060400) is bound to shpchp: unbind that bridge: echo 0000:00:09.0 > /sys/bus/pci/drivers/shpchp/unbind")
}

// TestFailedBindIsUndone makes each write of a binding fail in turn.
func TestFailedBindIsUndone(t *testing.T) {
	for _, c := range []struct {
		name string
		make func(k *driverCore)
		is   error
		want []string
	}{
		{
			"the record", func(k *driverCore) { k.faults["/run/irqbridge/bind/0000:00:05.0.json"] = unix.ENOSPC }, unix.ENOSPC,
			[]string{"without a record nothing is changed", "nothing was changed"},
		},
		{
			"no privilege", func(k *driverCore) { k.faults["/run/irqbridge/bind/0000:00:05.0.json"] = unix.EACCES }, fs.ErrPermission,
			[]string{
				"0000:00:05.0: bind to vfio-pci: record its state in /run/irqbridge/bind/0000:00:05.0.json: permission denied: " +
					"only root may change the driver of a device; nothing was changed; run with sudo",
			},
		},
		{
			"the override", func(k *driverCore) { k.faults["/sys/bus/pci/devices/0000:00:05.0/driver_override"] = unix.EROFS }, unix.EROFS,
			[]string{"+ echo vfio-pci > /sys/bus/pci/devices/0000:00:05.0/driver_override: read-only file system", "mounted read-only", "back to how it was"},
		},
		{
			"unbind", func(k *driverCore) { k.faults["/sys/bus/pci/drivers/e1000e/unbind"] = unix.ENODEV }, unix.ENODEV,
			[]string{"the device or its driver has gone"},
		},
		{
			"the probe", func(k *driverCore) { k.refuses["vfio-pci"] = unix.EINVAL }, unix.EINVAL,
			[]string{
				"0000:00:05.0: bind to vfio-pci: + echo 0000:00:05.0 > /sys/bus/pci/drivers/vfio-pci/bind: invalid argument: " +
					"the driver's probe function failed; the device is back to how it was; see dmesg",
			},
		},
		{
			"the driver, unloaded meanwhile", func(k *driverCore) { k.faults["/sys/bus/pci/drivers/vfio-pci/bind"] = unix.ENOENT }, fs.ErrNotExist,
			[]string{"the driver is no longer loaded", "modprobe vfio-pci"},
		},
		{
			"the match", func(k *driverCore) { k.faults["/sys/bus/pci/drivers/vfio-pci/bind"] = unix.ENODEV }, unix.ENODEV,
			[]string{"the driver does not take this device"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			k := benchMachine(t)
			c.make(k)
			p := k.planBind("0000:00:05.0", "vfio-pci", false)
			before := k.snapshot()
			err := p.Run(t.Context())
			require.ErrorIs(t, err, c.is)
			for _, want := range c.want {
				require.ErrorContains(t, err, want)
			}
			assert.Equal(t, before, k.snapshot())
		})
	}
}

// TestGiveBackWaitsForTheGroup: whoever had the device closes it first, and its group a moment later.
func TestGiveBackWaitsForTheGroup(t *testing.T) {
	k := benchMachine(t)
	require.NoError(t, k.planBind("0000:00:05.0", "vfio-pci", false).Run(t.Context()))
	k.refuses["e1000e"], k.refusals["e1000e"] = unix.EBUSY, 3
	require.NoError(t, k.planUnbind("0000:00:05.0").Run(t.Context()))
	assert.Equal(t, "e1000e", k.device("0000:00:05.0").Driver)
}

func TestFailedGiveBackIsUndone(t *testing.T) {
	k := benchMachine(t)
	require.NoError(t, k.planBind("0000:00:05.0", "vfio-pci", false).Run(t.Context()))
	before := k.snapshot()
	k.refuses["e1000e"] = unix.EBUSY
	err := k.planUnbind("0000:00:05.0").Run(t.Context())
	require.ErrorIs(t, err, unix.EBUSY)
	require.ErrorContains(t, err, "a process uses another device of IOMMU group 3 through VFIO; the device is back to how it was; end that process first")
	assert.Equal(t, before, k.snapshot(), "it is on vfio-pci again, and the record is kept")

	k.refuses["e1000e"] = nil
	require.NoError(t, k.planUnbind("0000:00:05.0").Run(t.Context()))
	assert.Equal(t, "e1000e", k.device("0000:00:05.0").Driver)
}

func TestUndoThatFails(t *testing.T) {
	k := benchMachine(t)
	k.refuses["vfio-pci"] = unix.EBUSY
	k.refuses["e1000e"] = unix.EIO
	p := k.planBind("0000:00:05.0", "vfio-pci", false)
	err := p.Run(t.Context())
	require.ErrorIs(t, err, unix.EBUSY)
	require.ErrorContains(t, err, "the device is not back to how it was, since + echo 0000:00:05.0 > /sys/bus/pci/drivers/e1000e/bind failed (input/output error)")
	assert.Empty(t, k.device("0000:00:05.0").DriverOverride)
	k.refuses["e1000e"] = nil
	require.NoError(t, k.planUnbind("0000:00:05.0").Run(t.Context()), "the record still knows the way back")
	assert.Equal(t, "e1000e", k.device("0000:00:05.0").Driver)
}

func TestVirtualFunctionsAreInTheWay(t *testing.T) {
	k := benchMachine(t)
	k.file(place("0000:00:05.0")+"/sriov_numvfs", "2\n")
	k.refuses["vfio-pci"] = unix.EBUSY
	err := k.planBind("0000:00:05.0", "vfio-pci", true).Run(t.Context())
	require.ErrorIs(t, err, unix.EBUSY)
	require.ErrorContains(t, err, "it has SR-IOV virtual functions")
	require.ErrorContains(t, err, "echo 0 > /sys/bus/pci/devices/0000:00:05.0/sriov_numvfs")
}

// TestSomebodyElseWasFaster lets another process do the same between the plan and its run.
func TestSomebodyElseWasFaster(t *testing.T) {
	k := benchMachine(t)
	first, second := k.planBind("0000:00:05.0", "vfio-pci", false), k.planBind("0000:00:05.0", "vfio-pci", false)
	require.NoError(t, first.Run(t.Context()))
	require.NoError(t, second.Run(t.Context()), "it is as wanted")
	assert.True(t, k.device("0000:00:05.0").VFIO)
}

// TestBindWithoutEffect is about a driver that takes the device without the link appearing. Time is virtual.
func TestBindWithoutEffect(t *testing.T) {
	k := benchMachine(t)
	k.forgets["vfio-pci"] = true
	before := k.snapshot()
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		err := k.planBind("0000:00:05.0", "vfio-pci", false).Run(t.Context())
		require.ErrorContains(t, err, "the write succeeded, but after 5s the device has no driver")
		require.ErrorContains(t, err, "the device is back to how it was")
		assert.Equal(t, 5*time.Second, time.Since(start))

		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		err = k.planBind("0000:00:05.0", "vfio-pci", false).Run(ctx)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.ErrorContains(t, err, "it was stopped; the device is back to how it was")
	})
	assert.Equal(t, before, k.snapshot())
}

func TestRunThatIsCancelledFirst(t *testing.T) {
	k := benchMachine(t)
	p := k.planBind("0000:00:05.0", "vfio-pci", false)
	before := k.snapshot()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := p.Run(ctx)
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorContains(t, err, "it was stopped; nothing was changed")
	assert.Equal(t, before, k.snapshot())
}

// TestUnbindWaitsForTheUser is about a device that a process holds open: the kernel waits for that process.
func TestUnbindWaitsForTheUser(t *testing.T) {
	k := benchMachine(t)
	require.NoError(t, k.planBind("0000:00:05.0", "vfio-pci", false).Run(t.Context()))
	k.process("41", "irqbridge", "/dev/vfio/vfio")
	k.process("42", "qemu-system-x86", "/dev/vfio/3")
	k.process("43", "other", "anon_inode:[vfio-device]")
	k.released, k.blocked = make(chan struct{}), make(chan struct{})
	p := k.planUnbind("0000:00:05.0")
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-k.blocked; cancel() }()
	err := p.Run(ctx)
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorContains(t, err, "42 (qemu-system-x86) has the device open; VFIO has asked for it back (the REQ interrupt) and waits until it is closed; end that process, and then unbind once more")
	assert.Equal(t, "vfio-pci", k.device("0000:00:05.0").DriverOverride, "nothing else was written")

	close(k.released)
	require.Eventually(t, func() bool { return k.device("0000:00:05.0").Driver == "" }, 10*time.Second, time.Millisecond, "the kernel goes on")
	k.mu.Lock()
	k.released = nil
	k.mu.Unlock()
	require.NoError(t, k.planUnbind("0000:00:05.0").Run(t.Context()))
	assert.Equal(t, "e1000e", k.device("0000:00:05.0").Driver)
	assert.Empty(t, k.device("0000:00:05.0").DriverOverride)
}

func TestDriverThatDoesNotLetGo(t *testing.T) {
	k := benchMachine(t)
	k.released, k.blocked = make(chan struct{}), make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-k.blocked; cancel() }()
	err := k.planBind("0000:00:05.0", "vfio-pci", false).Run(ctx)
	require.ErrorContains(t, err, "the driver's own code is at work on the device")
	close(k.released)
	require.Eventually(t, func() bool { return k.device("0000:00:05.0").Driver == "" }, 10*time.Second, time.Millisecond)
	k.mu.Lock()
	k.released = nil
	k.mu.Unlock()
	require.NoError(t, k.planUnbind("0000:00:05.0").Run(t.Context()), "what the message says to do")
	assert.Equal(t, "e1000e", k.device("0000:00:05.0").Driver)
}

func TestHolders(t *testing.T) {
	tr := newTree(t)
	assert.Empty(t, tr.host().Holders(3))
	tr.process("42", "a", "/dev/null", "/dev/vfio/4")
	tr.process("43", "b", "anon_inode:[vfio-device]")
	tr.process("44", "c", "/dev/vfio/devices/vfio0")
	assert.Equal(t, []string{"possibly 43 (b)", "possibly 44 (c)"}, tr.host().Holders(3))
	assert.Equal(t, []string{"42 (a)"}, tr.host().Holders(4))
}

func TestRecordThatCannotBeRemoved(t *testing.T) {
	k := benchMachine(t)
	require.NoError(t, k.planBind("0000:00:05.0", "vfio-pci", false).Run(t.Context()))
	k.faults["remove /run/irqbridge/bind/0000:00:05.0.json"] = unix.EROFS
	err := k.planUnbind("0000:00:05.0").Run(t.Context())
	require.ErrorIs(t, err, unix.EROFS)
	require.ErrorContains(t, err, "the device is as planned, only its record is still there")
	assert.Equal(t, "e1000e", k.device("0000:00:05.0").Driver)
}

func TestFormerDriverThatIsNoLongerLoaded(t *testing.T) {
	k := benchMachine(t)
	require.NoError(t, k.planBind("0000:00:05.0", "vfio-pci", false).Run(t.Context()))
	require.NoError(t, os.RemoveAll(k.root+"/sys/bus/pci/drivers/e1000e"))
	_, err := k.host().PlanUnbind(addr(t, "0000:00:05.0"))
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.ErrorContains(t, err, "no PCI driver e1000e is loaded; modprobe e1000e, or remove /run/irqbridge/bind/0000:00:05.0.json to let the kernel pick a driver")
	_, err = k.host().PlanUnbind(addr(t, "0000:00:1f.0"))
	require.ErrorIs(t, err, fs.ErrNotExist)
}

// TestAnySequenceIsReversible binds a device here and there, with failures in between. A failure leaves everything as it was,
// and giving the device back leads to where it came from.
func TestAnySequenceIsReversible(t *testing.T) {
	drivers := []string{"vfio-pci", "mlx5-vfio-pci", "uio_pci_generic", "e1000e"}
	faults := []string{
		"", "/run/irqbridge/bind/0000:00:05.0.json", "remove /run/irqbridge/bind/0000:00:05.0.json",
		"/sys/bus/pci/devices/0000:00:05.0/driver_override", "/sys/bus/pci/drivers_probe",
	}
	for _, driver := range drivers {
		faults = append(faults, "/sys/bus/pci/drivers/"+driver+"/bind", "/sys/bus/pci/drivers/"+driver+"/unbind")
	}
	rapid.Check(t, func(r *rapid.T) {
		k := newDriverCore(t)
		k.tree.device("0000:00:05.0", "8086:10d3", "020000", "e1000e", 3)
		k.takes["e1000e"] = []string{"0000:00:05.0"}
		for _, driver := range drivers {
			k.driver(driver)
		}
		if rapid.Bool().Draw(r, "starts without a driver") {
			require.NoError(r, os.Remove(k.root+place("0000:00:05.0")+"/driver"))
		}
		if rapid.Bool().Draw(r, "starts with an override") {
			k.file(place("0000:00:05.0")+"/driver_override", "e1000e\n")
		}
		k.once = true
		original := k.snapshot()
		for range rapid.IntRange(1, 6).Draw(r, "length") {
			var plan *Plan
			var err error
			if driver := rapid.SampledFrom(append(drivers, "")).Draw(r, "driver, or back"); driver == "" {
				plan, err = k.host().PlanUnbind(addr(t, "0000:00:05.0"))
			} else {
				plan, err = k.host().PlanBind(addr(t, "0000:00:05.0"), driver, false)
			}
			require.NoError(r, err)
			before := k.snapshot()
			fault := rapid.SampledFrom(faults).Draw(r, "fault")
			k.faults[fault] = unix.EIO
			err = plan.Run(t.Context())
			delete(k.faults, fault)
			switch {
			case err == nil && plan.Driver != "":
				require.Equal(r, plan.Driver, k.device("0000:00:05.0").Driver)
			case err != nil && !strings.HasPrefix(fault, "remove"):
				require.ErrorIs(r, err, unix.EIO)
				require.Equal(r, before, k.snapshot())
			}
		}
		plan, err := k.host().PlanUnbind(addr(t, "0000:00:05.0"))
		require.NoError(r, err)
		require.NoError(r, plan.Run(t.Context()))
		require.Equal(r, original, k.snapshot())
	})
}

func TestStepsAreShellCommands(t *testing.T) {
	assert.Equal(t, "+ echo vfio-pci > /sys/x", Step{Path: "/sys/x", Value: "vfio-pci"}.String())
	assert.Equal(t, "+ echo > /sys/x", Step{Path: "/sys/x"}.String())
	assert.Equal(t, `+ echo 'it'\''s' > '/sys/a b'`, Step{Path: "/sys/a b", Value: "it's"}.String())
	assert.Equal(t, "+ rm /run/x", Step{Path: "/run/x", Remove: true}.String())
}
