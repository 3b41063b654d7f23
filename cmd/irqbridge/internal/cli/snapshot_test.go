package cli

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/irqbridge/irqbridge/pci"
	"github.com/irqbridge/irqbridge/vfio/vfiotest"
)

// serialNumber is what show prints of it, and a snapshot leaves out.
var serialNumber = regexp.MustCompile(`(?m)^(.*serialNumber="?|140: 03 00 01 00 ).*$`)

// TestASnapshotShowsWhatTheDeviceDoes takes snapshots of devices that have no driver, their own, and vfio-pci, and compares what
// show says of the device, of its snapshot, and of the fake that is made of it.
func TestASnapshotShowsWhatTheDeviceDoes(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		for name, address := range map[string]pci.Address{"edu": m.EDU, "e1000e": m.E1000E, "nvme": m.NVMe, "in a group": m.BridgeEDU} {
			for driver, bind := range map[string]bool{"of its own": false, "vfio-pci": true} {
				t.Run(name+"/"+driver, func(t *testing.T) {
					if bind {
						bound(t, m, address)
					}
					file := filepath.Join(t.TempDir(), "snapshot")
					require.Equal(t, result{}, irqbridge(t, m, "snapshot", address.String(), "-o", file))
					fake := vfiotest.FromSnapshot(t, file)
					for _, form := range []string{"-v", "-vv", "-xxxx"} {
						want := irqbridge(t, m, "show", address.String(), form)
						require.Zero(t, want.code)
						shown := irqbridge(t, m, "show", "--snapshot", file, form)
						faked := irqbridge(t, fake, "show", address.String(), form)
						for _, r := range []*result{&want, &shown, &faked} {
							r.stdout = serialNumber.ReplaceAllString(r.stdout, "$1")
						}
						sameLines(t, want.stdout, shown.stdout)
						sameLines(t, want.stdout, faked.stdout)
						assert.Zero(t, shown.code+faked.code)
						assert.Empty(t, shown.stderr+faked.stderr)
					}
				})
			}
		}
	})
}

// sameLines fails at the first line that differs.
func sameLines(t *testing.T, want, got string) {
	t.Helper()
	there, here := strings.Split(want, "\n"), strings.Split(got, "\n")
	for i := range min(len(there), len(here)) {
		if there[i] != here[i] {
			t.Errorf("line %d is\n%s\nwant\n%s", i+1, here[i], there[i])
			return
		}
	}
	assert.Len(t, here, len(there))
}

// TestAFakeFromASnapshotInterrupts has the fake of a device do what the device does: interrupt by its registers.
func TestAFakeFromASnapshotInterrupts(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		for _, address := range []pci.Address{m.EDU, m.E1000E} {
			file := filepath.Join(t.TempDir(), "snapshot")
			require.Zero(t, irqbridge(t, m, "snapshot", address.String(), "-o", file).code)
			r := irqbridge(t, m, "connect", "--snapshot", file, "--raise", "5", "--json")
			require.Zero(t, r.code)
			var got connectJSON
			require.NoError(t, json.Unmarshal([]byte(r.stdout), &got))
			for _, i := range got.Interrupts {
				assert.EqualValues(t, 5, i.Serviced)
			}
			d, err := m.Host.Device(address)
			require.NoError(t, err)
			assert.False(t, d.VFIO, "the device itself is left alone")
		}
		file := filepath.Join(t.TempDir(), "snapshot")
		require.Zero(t, irqbridge(t, m, "snapshot", m.NVMe.String(), "-o", file).code)
		require.Zero(t, irqbridge(t, m, "connect", "--snapshot", file, "--loopback", "--raise", "2").code)
	})
}

// TestASnapshotOverwrites its file, and leaves none behind when there is no device.
func TestASnapshotOverwrites(t *testing.T) {
	m := vfiotest.FakeMachine(t)
	file := filepath.Join(t.TempDir(), "snapshot")
	require.NoError(t, os.WriteFile(file, make([]byte, 1<<20), 0o600))
	require.Zero(t, irqbridge(t, m, "snapshot", m.EDU.String(), "-o", file).code)
	require.Zero(t, irqbridge(t, m, "show", "--snapshot", file).code)
	none := filepath.Join(t.TempDir(), "none")
	require.Equal(t, 1, irqbridge(t, m, "snapshot", "00:1e.0", "-o", none).code)
	assert.NoFileExists(t, none)
}
