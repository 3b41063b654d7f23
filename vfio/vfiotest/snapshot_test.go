package vfiotest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/irqbridge/irqbridge/pci"
	"github.com/irqbridge/irqbridge/vfio"
	"github.com/irqbridge/irqbridge/vfio/host"
)

// saveSnapshot takes a snapshot and writes it to a file.
func saveSnapshot(t *testing.T, h *host.Host, a pci.Address) (string, *host.Snapshot) {
	t.Helper()
	s, err := h.Snapshot(a)
	require.NoError(t, err)
	file := filepath.Join(t.TempDir(), "snapshot")
	require.NoError(t, os.WriteFile(file, s.Text(), 0o600))
	return file, s
}

// TestASnapshotOfAFakeFromASnapshotIsTheSame takes each device of the machine, in each state that its driver can be in, makes a
// fake of it, and takes that one's snapshot.
func TestASnapshotOfAFakeFromASnapshotIsTheSame(t *testing.T) {
	Run(t, func(t *testing.T, m *Machine) {
		for name, a := range map[string]pci.Address{
			"edu": m.EDU, "e1000e": m.E1000E, "nvme": m.NVMe, "xhci": m.XHCI, "bridge": m.Bridge, "behind it": m.BridgeEDU, "testdev": m.TestDev,
		} {
			for _, bind := range []bool{false, true} {
				if bind && a == m.Bridge {
					continue // which no VFIO driver takes
				}
				t.Run(name, func(t *testing.T) {
					if bind {
						m.Bind(t, a)
					}
					file, want := saveSnapshot(t, m.Host, a)
					fake := FromSnapshot(t, file)
					assert.Equal(t, m.Version, fake.Version)
					assert.Equal(t, a, fake.Device)
					got, err := fake.Host.Snapshot(a)
					require.NoError(t, err)
					there, here := comparable(want), comparable(got)
					for i := range min(len(here), len(there)) {
						require.Equal(t, there[i], here[i])
					}
					assert.Len(t, here, len(there))
				})
			}
		}
	})
}

// comparable is what a fake has of a snapshot: not the host's own numbers, nor the attributes that the fake does not have.
func comparable(s *host.Snapshot) []string {
	var lines []string
	dir := ""
	for line := range strings.Lines(string(s.Text())) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "[") {
			dir = line
		}
		name, _, _ := strings.Cut(line, " ")
		switch name {
		case "ari_enabled", "boot_vga", "consistent_dma_mask_bits", "dma_mask_bits", "d3cold_allowed", "msi_bus", "current_link_speed", "current_link_width",
			"max_link_speed", "max_link_width", "control", "runtime_status", "sriov_numvfs", "sriov_totalvfs", "iommu", "left-out", "sysfs-path", "local_cpulist":
			continue
		}
		if strings.HasPrefix(dir, "[/sys/bus/pci/devices/") && !strings.HasSuffix(dir, "/power]") && !strings.HasSuffix(dir, "/msi_irqs]") || dir == "" {
			lines = append(lines, dir+line)
		}
	}
	return lines
}

// TestADeviceOfASnapshotWorks opens one whose driver the fake does not know, and has it interrupt.
func TestADeviceOfASnapshotWorks(t *testing.T) {
	m := FakeMachine(t)
	file, s := saveSnapshot(t, m.Host, m.NVMe)
	m = FromSnapshot(t, file)
	device := m.Open(t, m.Device)
	assert.Equal(t, s.Config()[:4], func() []byte { c, _ := m.Host.Config(m.Device); return c[:4] }())
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	require.NoError(t, err)
	defer unix.Close(fd) //nolint:errcheck // of no use any more
	bar, err := device.BAR(0)
	require.NoError(t, err)
	v, err := bar.Read32(0x10)
	require.NoError(t, err)
	assert.Zero(t, v, "nothing is behind it")
	require.NoError(t, device.EnableIRQs(vfio.MSIX, 0, []int{fd}))
	assert.True(t, m.Fake.SendMessage(m.Device, 0))
	var count [8]byte
	_, err = unix.Read(fd, count[:])
	require.NoError(t, err)
	assert.EqualValues(t, 1, count[0])
	irq, err := m.Host.FindIRQ(m.Device, pci.KindMSIX, 0)
	require.NoError(t, err)
	total := uint64(0)
	for _, n := range irq.Counts {
		total += n
	}
	assert.EqualValues(t, 1, total)
}

// TestAGroupThatIsNotViableIsNotInASnapshot: who is in the way at home is in the way here.
func TestAGroupThatIsNotViableIsNotInASnapshot(t *testing.T) {
	m := FakeMachine(t)
	m.Bind(t, m.BridgeEDU)
	file, _ := saveSnapshot(t, m.Host, m.BridgeEDU)
	m = FromSnapshot(t, file)
	_, err := vfio.Open(m.Device, m.Options()...)
	require.ErrorIs(t, err, vfio.ErrNotViable)
}

// strange is a network card with a driver of its own, in a domain and at a hierarchy that the fake has none in, as hardware is.
const strange = `irqbridge-snapshot 1
device 10000:e1:00.0

10000:e1:00.0 x
00: 86 80 1b 10 06 04 10 00 03 00 00 02 00 00 00 00
10: 0c 00 00 00 04 00 00 00 00 00 00 00 00 00 00 00
20: 00 00 00 00 00 00 00 00 00 00 00 00 f4 1a 00 11
30: 00 00 00 00 50 00 00 00 00 00 00 00 0b 01 00 00
40: 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00
50: 11 00 03 80 00 00 00 00 00 20 00 00 00 00 00 00
60: 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00
70: 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00
80: 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00
90: 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00
a0: 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00
b0: 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00
c0: 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00
d0: 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00
e0: 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00
f0: 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00

[/proc/sys/kernel]
osrelease = 6.1.0-37-amd64

[/sys/bus/pci/devices/10000:e1:00.0]
class = 0x020000
device = 0x101b
driver -> igx
enable = 1
iommu_group -> 77
irq = 150
numa_node = 1
power_state = D0
reset_method = pm bus
resource =
    0x0000000400000000 0x00000004000fffff 0x000000000014220c
    0x0000000000000000 0x0000000000000000 0x0000000000000000
    0x0000000000000000 0x0000000000000000 0x0000000000000000
    0x0000000000000000 0x0000000000000000 0x0000000000000000
    0x0000000000000000 0x0000000000000000 0x0000000000000000
    0x0000000000000000 0x0000000000000000 0x0000000000000000
    0x0000000000000000 0x0000000000000000 0x0000000000000000
revision = 0x03
subsystem_device = 0x1100
subsystem_vendor = 0x1af4
sysfs-path = pci10000:e0/10000:e1:00.0
vendor = 0x8086

[/sys/bus/pci/devices/10000:e1:00.0/msi_irqs]
150 = msix
151 = msix

[/sys/kernel/iommu_groups/77/devices/10000:e1:00.0]
`

func TestADeviceThatIsNoneOfQEMUs(t *testing.T) {
	s, err := host.ParseSnapshot("x", []byte(strange))
	require.NoError(t, err)
	k, err := NewKernelFromSnapshot(s)
	require.NoError(t, err)
	defer k.Shutdown()
	a := s.Address
	was, err := k.Host().Device(a)
	require.NoError(t, err)
	want, err := s.Host().Device(a)
	require.NoError(t, err)
	want.IRQ = 150
	assert.Equal(t, want, was)
	devices, err := k.Host().Devices()
	require.NoError(t, err)
	assert.Len(t, devices, 1)
	group, err := k.Host().Group(77)
	require.NoError(t, err)
	assert.Len(t, group.Blockers(), 1)

	// Its driver lets go of it and takes it back.
	plan, err := k.Host().PlanBind(a, "vfio-pci", false)
	require.NoError(t, err)
	require.NoError(t, plan.Run(t.Context()))
	device, err := vfio.Open(a, vfio.OnKernel(k))
	require.NoError(t, err)
	bar, err := device.BAR(0)
	require.NoError(t, err)
	assert.EqualValues(t, 1<<20, bar.Size())
	require.NoError(t, device.Close())
	plan, err = k.Host().PlanUnbind(a)
	require.NoError(t, err)
	require.NoError(t, plan.Run(t.Context()))
	now, err := k.Host().Device(a)
	require.NoError(t, err)
	assert.Equal(t, "igx", now.Driver)

	// Out of its slot and in again.
	k.Remove(a)
	require.NoError(t, k.WriteFile("/sys/bus/pci/rescan", []byte("1")))
	_, err = k.Host().Device(a)
	require.ErrorIs(t, err, unix.ENOENT, "it is not back in its slot")
}

func TestSnapshotsThatNoFakeIsMadeOf(t *testing.T) {
	short := strange[:strings.Index(strange, "40: ")] + strange[strings.Index(strange, "\n[/proc"):]
	for text, want := range map[string]string{
		short: "64 bytes of configuration space: a fake takes 256 or 4096, which a snapshot has that root takes",
		strings.Replace(strange, "f0: 00 00", "f0: 00", 1):                      "255 bytes of configuration space: a fake takes 256 or 4096",
		strings.Replace(strange, "00: 86 80 1b 10 06 04 10", "00: ff ff", 1):    "row 10 comes where",
		strings.Replace(strange, "00000004000fffff", "00000004000ffffe", 1):     "BAR 0 of 0xfffff bytes: want a power of two",
		strings.Replace(strange, "0x00000004000fffff", "0x0fffff0400000000", 1): "BAR 0 of 0x",
		strings.Replace(strings.Replace(strange, "00 00 00 00 50 00 00", "00 00 00 00 fc 00 00", 1), "f0: 00 00 00 00 00 00 00 00 00 00 00 00 00 00", "f0: 00 00 00 00 00 00 00 00 00 00 00 00 11 00", 1): "the capability MSI-X at 0xfc ends at 0x108",
	} {
		s, err := host.ParseSnapshot("x", []byte(text))
		if err == nil {
			_, err = NewKernelFromSnapshot(s)
		}
		if assert.Error(t, err, want) {
			assert.Contains(t, err.Error(), want)
		}
	}
}

// FuzzSnapshot makes fakes of hostile snapshots, and uses them.
func FuzzSnapshot(f *testing.F) {
	f.Add([]byte(strange))
	k := NewKernel()
	defer k.Shutdown()
	for _, a := range []pci.Address{addressEDU, addressE1000E, addressBridgeEDU, addressXHCI} {
		s, err := k.Host().Snapshot(a)
		require.NoError(f, err)
		f.Add(s.Text())
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := host.ParseSnapshot("x", text)
		if err != nil {
			return
		}
		k, err := NewKernelFromSnapshot(s)
		if err != nil {
			return
		}
		defer k.Shutdown()
		_, _ = k.Host().Snapshot(s.Address)
		plan, err := k.Host().PlanBind(s.Address, "vfio-pci", true)
		if err == nil {
			err = plan.Run(t.Context())
		}
		if err != nil {
			return
		}
		device, err := vfio.Open(s.Address, vfio.OnKernel(k))
		if err != nil {
			return
		}
		defer device.Close() //nolint:errcheck // whatever it says
		for i := range 6 {
			if bar, err := device.BAR(i); err == nil {
				_, _ = bar.Read32(0)
				_ = bar.Write32(0x60, 1)
			}
		}
		fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
		require.NoError(t, err)
		defer unix.Close(fd) //nolint:errcheck // of no use any more
		for _, index := range []vfio.IRQIndex{vfio.INTx, vfio.MSI, vfio.MSIX} {
			if device.EnableIRQs(index, 0, []int{fd}) == nil {
				k.SendMessage(s.Address, 0)
				k.PulseLine(s.Address)
				_ = device.DisableIRQs(index)
			}
		}
		_ = device.Reset()
	})
}
