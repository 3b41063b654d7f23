package host

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/irqbridge/irqbridge/pci"
)

func TestRuntimePower(t *testing.T) {
	tr := newTree(t)
	tr.device("0000:00:05.0", "8086:10d3", "020000", "", 2)
	a := addr(t, "0000:00:05.0")
	assert.Equal(t, RuntimePower{}, tr.host().RuntimePower(a))
	assert.Zero(t, tr.host().Enables(a))
	tr.file(place(a.String())+"/power/runtime_status", "suspended\n")
	tr.file(place(a.String())+"/power/control", "auto\n")
	tr.file(place(a.String())+"/enable", "2\n")
	assert.Equal(t, RuntimePower{"suspended", "auto"}, tr.host().RuntimePower(a))
	assert.Equal(t, 2, tr.host().Enables(a))
}

// behindTwo makes a device behind a port behind a port, below a function that is no bridge, as a VMD is.
func behindTwo(tr *tree) (upper, lower, device string) {
	const vmd = "/sys/devices/pci0000:00/0000:00:0e.0"
	upper = vmd + "/pci10000:e0/10000:e0:06.0"
	lower = upper + "/10000:e1:00.0"
	device = lower + "/10000:e2:00.0"
	for dir, class := range map[string]string{vmd: "0x010400", upper: "0x060400", lower: "0x060400", device: "0x010802"} {
		tr.file(dir+"/vendor", "0x8086\n")
		tr.file(dir+"/class", class+"\n")
	}
	for address, dir := range map[string]string{"0000:00:0e.0": vmd, "10000:e0:06.0": upper, "10000:e1:00.0": lower, "10000:e2:00.0": device} {
		tr.link("/sys/bus/pci/devices/"+address, dir)
	}
	return upper, lower, device
}

func TestAbove(t *testing.T) {
	tr := newTree(t)
	upper, _, _ := behindTwo(tr)
	above, err := tr.host().Above(addr(t, "10000:e2:00.0"))
	require.NoError(t, err)
	var list []pci.Address
	for _, d := range above {
		list = append(list, d.Address)
	}
	assert.Equal(t, []pci.Address{addr(t, "10000:e1:00.0"), addr(t, "10000:e0:06.0")}, list, "the nearest first, and bridges only")
	above, err = tr.host().Above(addr(t, "10000:e0:06.0"))
	require.NoError(t, err)
	assert.Empty(t, above)
	_, err = tr.host().Above(addr(t, "0000:77:00.0"))
	require.Error(t, err)
	tr.file(upper+"/vendor", "nonsense\n")
	_, err = tr.host().Above(addr(t, "10000:e2:00.0"))
	require.Error(t, err)
}

func TestWhyNoMessages(t *testing.T) {
	tr := newTree(t)
	upper, _, device := behindTwo(tr)
	a := addr(t, "10000:e2:00.0")
	cause, _ := tr.host().WhyNoMessages(a)
	assert.Empty(t, cause)

	tr.file(device+"/msi_bus", "1\n")
	tr.file(upper+"/msi_bus", "0\n")
	cause, remedy := tr.host().WhyNoMessages(a)
	assert.Equal(t, "the kernel lets no device behind 10000:e0:06.0 use MSI or MSI-X (msi_bus)", cause)
	assert.Equal(t, "echo 1 | sudo tee /sys/bus/pci/devices/10000:e0:06.0/msi_bus", remedy)

	tr.file(device+"/msi_bus", "0\n")
	cause, remedy = tr.host().WhyNoMessages(a)
	assert.Equal(t, "the kernel lets the device use neither MSI nor MSI-X (msi_bus)", cause)
	assert.Equal(t, "echo 1 | sudo tee /sys/bus/pci/devices/10000:e2:00.0/msi_bus", remedy)

	tr.file("/proc/cmdline", "pci=noaer,nomsi\n")
	cause, _ = tr.host().WhyNoMessages(a)
	assert.Contains(t, cause, "the kernel was booted with pci=nomsi")
}
