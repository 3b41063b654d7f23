package host

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/irqbridge/irqbridge/pci"
)

// What must not leave the machine.
var (
	secretMAC    = []byte{0x02, 0xca, 0xfe, 0x12, 0x34, 0x56}
	secretSerial = []byte{0x56, 0x34, 0x12, 0xff, 0xff, 0xfe, 0xca, 0x02} // the EUI-64 of the MAC, as the capability has it
)

// secretConfig is the configuration space of a PCI Express device with a serial number, vital product data and a MAC address
// in registers of the vendor's.
func secretConfig() []byte {
	c := make([]byte, 4096)
	put := func(off int, b ...byte) { copy(c[off:], b) }
	put(0x00, 0x86, 0x80, 0xd3, 0x10, 0x06, 0x04, 0x10, 0x00, 0x03, 0x00, 0x00, 0x02)
	put(0x2c, 0xf4, 0x1a, 0x00, 0x11)
	put(0x34, 0x40)
	put(0x3c, 0x0b, 0x01)
	put(0x40, 0x03, 0x50, 0x08, 0x80, 'S', 'N', '4', '2') // VPD
	put(0x50, 0x10, 0x90, 0x02, 0x00)                     // PCI Express
	put(0x90, 0x05, 0x00, 0x80, 0x00)                     // MSI
	binary.LittleEndian.PutUint32(c[0x100:], 0x03|1<<16)  // Device Serial Number
	put(0x104, secretSerial...)
	put(0xe0, secretMAC...)
	put(0xf0, 0x56, 0x34, 0x12, 0xfe, 0xca, 0x02)
	return c
}

const secretInterrupts = "            CPU0       CPU1       \n" +
	"  9:          7          0  IR-IO-APIC   9-fasteoi   acpi\n" +
	" 22:          4          0  IR-IO-APIC  22-fasteoi   enx02cafe123456, alices-lan, vfio-intx(0000:00:06.0)\n" +
	" 25:        100          3  IR-PCI-MSI-0000:00:05.0   0-edge      alices-lan-rx-0\n" +
	" 26:          0          9  IR-PCI-MSI-0000:00:05.0   1-edge      mlx5@02:ca:fe:12:34:56, alicebox-irq\n" +
	" 27:          1          0  IR-PCI-MSI-0000:00:07.0   0-edge      nvme0q0\n" +
	"NMI:          0          0   Non-maskable interrupts\n"

// secretTree is a host with a network card that is bound to its driver and shares its group with one at VFIO, and with
// all that a snapshot has to leave out.
func secretTree(t *testing.T) *tree {
	t.Helper()
	tr := newTree(t)
	tr.device("0000:00:05.0", "8086:10d3", "020000", "e1000e", 7)
	tr.device("0000:00:06.0", "1234:11e8", "00ff00", "vfio-pci", 7)
	tr.device("0000:00:07.0", "1b36:0010", "010802", "nvme", 8)
	dir := place("0000:00:05.0")
	for name, content := range map[string]string{
		"config": string(secretConfig()), "enable": "1\n", "label": "Onboard LAN of alicebox\n", "serial_number": "02-ca-fe-ff-ff-12-34-56\n",
		"resource": strings.Repeat("0x0000000000000000 0x0000000000000000 0x0000000000000000\n", 13), "reset_method": "flr\n",
		"msi_irqs/25": "msi\n", "msi_irqs/26": "msi\n", "net/alices-lan/address": "02:ca:fe:12:34:56\n",
	} {
		tr.file(dir+"/"+name, content)
	}
	tr.file(place("0000:00:06.0")+"/config", string(secretConfig()[:64]))
	tr.file(place("0000:00:06.0")+"/enable", "0\n")
	for _, name := range []string{"alices-lan", "enx02cafe123456"} {
		tr.file("/sys/class/net/"+name+"/address", "02:ca:fe:12:34:56\n")
	}
	tr.file("/sys/class/net/lo/address", "00:00:00:00:00:00\n")
	tr.file("/proc/sys/kernel/hostname", "alicebox\n")
	tr.file("/proc/sys/kernel/osrelease", "6.1.0-alicebox+\n")
	tr.file("/proc/version", "Linux version 6.1.0 (alice@alicebox)\n")
	tr.file("/proc/interrupts", secretInterrupts)
	for _, irq := range []string{"22", "25", "26", "27"} {
		tr.file("/proc/irq/"+irq+"/smp_affinity_list", "0-1\n")
		tr.file("/proc/irq/"+irq+"/effective_affinity_list", "0\n")
		tr.file("/sys/kernel/irq/"+irq+"/type", "edge\n")
	}
	tr.dir("/sys/class/iommu/dmar0")
	return tr
}

func takeSecret(t *testing.T) *Snapshot {
	t.Helper()
	s, err := secretTree(t).host().Snapshot(addr(t, "0000:00:05.0"))
	require.NoError(t, err)
	return s
}

// TestASnapshotHoldsNothingPrivate looks for what identifies the machine in every form that it could come in.
func TestASnapshotHoldsNothingPrivate(t *testing.T) {
	text := strings.ToLower(string(takeSecret(t).Text()))
	bytesOnly := strings.NewReplacer(" ", "", ":", "", "-", "", "\n", "").Replace(text)
	for _, secret := range [][]byte{secretMAC, secretSerial, []byte("sn42")} {
		backwards := bytes.Clone(secret)
		for i := range backwards {
			backwards[i] = secret[len(secret)-1-i]
		}
		for _, form := range [][]byte{secret, backwards} {
			assert.NotContains(t, bytesOnly, hex.EncodeToString(form))
		}
	}
	for _, secret := range []string{"alice", "enx", "cafe", "lan-rx", "serial_number", "onboard", "address", "nvme"} {
		assert.NotContains(t, strings.ReplaceAll(text, "the address and the data of", ""), strings.ReplaceAll(secret, "address", "net/"))
	}
	for _, said := range []string{
		"left-out 0000:00:05.0: the serial number at 0x104\n",
		"left-out 0000:00:05.0: the address and the data of the vital product data at 0x42\n",
		"left-out 0000:00:05.0: a mac address or a serial number at 0xe0\n",
		"left-out 0000:00:05.0: a mac address or a serial number at 0xf0\n",
		"left-out mac addresses in names of interrupts, mac here\n",
		"left-out names of network interfaces, netif here\n",
		"left-out the host's name, host here\n",
	} {
		assert.Contains(t, text, said)
	}
}

const secretSnapshot = `[/proc]
interrupts =
                CPU0       CPU1
     22:          4          0  IR-IO-APIC  22-fasteoi   netif, netif, vfio-intx(0000:00:06.0)
     25:        100          3  IR-PCI-MSI-0000:00:05.0   0-edge      netif-rx-0
     26:          0          9  IR-PCI-MSI-0000:00:05.0   1-edge      mlx5@mac, host-irq

[/proc/irq/22]
effective_affinity_list = 0
smp_affinity_list = 0-1
`

func TestTextOfASnapshot(t *testing.T) {
	s := takeSecret(t)
	text := s.Text()
	assert.Contains(t, string(text), secretSnapshot)
	again, err := secretTree(t).host().Snapshot(s.Address)
	require.NoError(t, err)
	assert.Equal(t, string(text), string(again.Text()), "the order is always the same")

	read, err := ParseSnapshot("x", text)
	require.NoError(t, err)
	assert.Equal(t, s, read)
	assert.Equal(t, "6.1.0-host+", read.Kernel())
	assert.Equal(t, "flr", read.Attribute(read.Address, "reset_method"))
	assert.Len(t, read.Config(), 4096)
	_, err = ParseSnapshot("x", bytes.ReplaceAll(text, []byte("\n"), []byte("\r\n")))
	require.NoError(t, err, "a mail program may have changed the line ends")
	for line := range bytes.Lines(text) {
		assert.Less(t, len(line), 255)
	}
}

// TestHostOfASnapshot asks the snapshot's host what the real one was asked.
func TestHostOfASnapshot(t *testing.T) {
	tr := secretTree(t)
	s, err := tr.host().Snapshot(addr(t, "0000:00:05.0"))
	require.NoError(t, err)
	h := s.Host()
	want, err := tr.host().Group(7)
	require.NoError(t, err)
	got, err := h.Group(7)
	require.NoError(t, err)
	assert.Equal(t, want, got)
	devices, err := h.Devices()
	require.NoError(t, err)
	assert.Equal(t, want.Members, devices, "the device and those of its group, and no others")
	sizes, err := h.Sizes(s.Address)
	require.NoError(t, err)
	assert.Zero(t, sizes)
	irq, err := h.FindIRQ(addr(t, "0000:00:06.0"), pci.KindINTx, 0)
	require.NoError(t, err)
	assert.Equal(t, 22, irq.Number)
	affinity, err := h.Affinity(22)
	require.NoError(t, err)
	assert.Equal(t, "0-1", affinity.Set.List())
	assert.True(t, h.HasIOMMU())
	assert.False(t, h.HasIOMMUFD())
	cpus, err := h.AllowedCPUs()
	require.NoError(t, err)
	assert.Equal(t, "0-1", cpus.List())
	assert.False(t, h.Same(tr.host()))

	_, err = h.Device(addr(t, "0000:00:07.0"))
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.ErrorIs(t, h.SetAffinity(22, CPUSetOf(0)), unix.EROFS)
	_, err = h.PlanBind(s.Address, "vfio-pci", false)
	require.Error(t, err)
}

func TestWhatASnapshotCouldNotRead(t *testing.T) {
	tr := secretTree(t)
	tr.file(place("0000:00:05.0")+"/config", string(secretConfig()[:64]))
	core := newDriverCore(t)
	core.tree, core.OS = tr, newLocal(tr.root)
	core.faults["read "+devicesDir+"/0000:00:05.0/resource"] = &fs.PathError{Op: "open", Err: unix.EACCES}
	s, err := core.host().Snapshot(addr(t, "0000:00:05.0"))
	require.NoError(t, err)
	assert.Equal(t, []string{
		devicesDir + "/0000:00:05.0/resource: permission denied",
		"configuration space of 0000:00:05.0 from 0x40 on: only root may read it",
		"configuration space of 0000:00:06.0 from 0x40 on: only root may read it",
	}, s.Unreadable)
	assert.Len(t, s.Config(), 64)
	read, err := ParseSnapshot("x", s.Text())
	require.NoError(t, err)
	assert.Equal(t, s.Unreadable, read.Unreadable)

	_, err = core.host().Snapshot(addr(t, "0000:00:1e.0"))
	require.ErrorIs(t, err, fs.ErrNotExist)
}

// TestLspciReadsASnapshot has the real lspci read it.
func TestLspciReadsASnapshot(t *testing.T) {
	lspci, err := exec.LookPath("lspci")
	if err != nil {
		t.Skip("lspci is not installed")
	}
	tr := secretTree(t)
	// A line that is longer than lspci takes.
	tr.file("/proc/interrupts", secretInterrupts+" 28: 0 0 IR-PCI-MSI-0000:00:05.0 3-edge  "+strings.Repeat("x", 900)+"\n")
	s, err := tr.host().Snapshot(addr(t, "0000:00:05.0"))
	require.NoError(t, err)
	name := filepath.Join(t.TempDir(), "snapshot")
	require.NoError(t, os.WriteFile(name, s.Text(), 0o600))
	out, err := exec.Command(lspci, "-nvvv", "-F", name).CombinedOutput()
	require.NoError(t, err, "%s", out)
	assert.Equal(t, 2, strings.Count(string(out), "\n\n"), "%s", out)
	assert.Contains(t, string(out), "00:05.0 0200: 8086:10d3 (rev 03)")
	assert.Contains(t, string(out), "Capabilities: [100 v1] Device Serial Number 00-00-00-00-00-00-00-00")
}

func TestWhatIsNoSnapshot(t *testing.T) {
	good := string(takeSecret(t).Text())
	change := func(old, with string) string {
		require.Contains(t, good, old)
		return strings.Replace(good, old, with, 1)
	}
	line := func(part string) int { return 1 + strings.Count(good[:strings.Index(good, part)], "\n") }
	for text, want := range map[string]string{
		"":                                   "x:1: this is no snapshot",
		"\x7fELF":                            "x:1: this is no snapshot",
		"irqbridge-snapshot\n":               "x:1: this is no snapshot",
		"irqbridge-snapshot 1\n":             "there is no line that names the device",
		change("-snapshot 1", "-snapshot 2"): "x:1: version 2, of a newer program: this one reads 1",
		change("-snapshot 1", "-snapshot 0"): "x:1: version 0: want 1",
		change("device 0000:00:05.0", "device 5"):           `x:4: "device 5": want one device`,
		change("device 0000:00:05.0", "devices"):            `x:4: "devices": want device, left-out or unreadable`,
		change("left-out the", `left-out "the`):             "the string in quotation marks is not well formed",
		change("10: 00 00", "20: 00 00"):                    fmt.Sprintf("x:%d: row 20 comes where row 10 is due", line("10: 00 00")),
		change("10: 00 00", "10: 00 zz"):                    fmt.Sprintf(`x:%d: row 10: "zz" is not a byte`, line("10: 00 00")),
		change("\n0000:00:06.0 ", "\n0000:00:05.0 "):        "x: there are two configuration spaces of 0000:00:05.0",
		change("[/proc]", "[/etc]"):                         fmt.Sprintf(`x:%d: "[/etc]": want a directory below`, line("[/proc]")),
		change("[/proc]", "[/proc/../etc]"):                 "want a directory below",
		change("[/proc]", "[/proc"):                         "want a directory below",
		change("interrupts =", "interr/upts ="):             fmt.Sprintf("x:%d: ", line("interrupts =")),
		change("interrupts =", "interrupts : x"):            "want = and a text, -> and a name, or nothing",
		change("driver -> e1000e", "driver -> ../x"):        fmt.Sprintf(`x:%d: "driver -> ../x": want = and a text`, line("driver -> e1000e")),
		change("class = 0x020000", `class = "\q"`):          "not well formed",
		change("enable = 1", "class = 2"):                   fmt.Sprintf("x:%d: /sys/bus/pci/devices/0000:00:05.0/class is there twice", line("enable = 1")-1+1),
		change("class = 0x020000\n", ""):                    "x: it has no [/sys/bus/pci/devices/0000:00:05.0] with class",
		change("class = 0x020000", "class = many"):          `class holds "many", which is not a number`,
		good + "\n[/dev/vfio]\n" + strings.Repeat("x\n", 2): "/dev/vfio/x is there twice",
		strings.Repeat(" ", maxSnapshot+1):                  "are more than a snapshot has",
	} {
		_, err := ParseSnapshot("x", []byte(text))
		if assert.Error(t, err, want) {
			assert.Contains(t, err.Error(), want)
			assert.True(t, strings.HasPrefix(err.Error(), "x:"), err)
		}
	}
	var many strings.Builder
	many.WriteString(good + "\n[/dev/vfio]\n")
	for i := range maxEntries {
		fmt.Fprintf(&many, "n%d\n", i)
	}
	_, err := ParseSnapshot("x", []byte(many.String()))
	require.ErrorContains(t, err, "more than 65536 files")
}

func FuzzParseSnapshot(f *testing.F) {
	config := make([]byte, 256)
	copy(config, secretConfig())
	s := &Snapshot{
		Address: pci.Address{Device: 5}, LeftOut: []string{"a", "ü"}, Unreadable: []string{`\`},
		configs: map[pci.Address][]byte{{Device: 5}: config},
		entries: map[string]entry{
			"/dev/iommu": {}, "/proc/a": {file, "\"x\ny \n\nä\\"}, "/proc/b": {file, ""}, "/sys/c:d": {}, "/proc/long": {file, strings.Repeat(`\"`, 300)},
		},
	}
	for _, attribute := range []string{"vendor", "device", "class", "revision"} {
		s.entries[devicesDir+"/0000:00:05.0/"+attribute] = entry{file, "0x1"}
	}
	s.entries[devicesDir+"/0000:00:05.0/driver"] = entry{link, "e1000e"}
	f.Add(s.Text())
	f.Add([]byte("irqbridge-snapshot 1\ndevice 0:1.0\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := ParseSnapshot("x", text)
		if err != nil {
			assert.True(t, strings.HasPrefix(err.Error(), "x:"), err.Error())
			return
		}
		again, err := ParseSnapshot("x", s.Text())
		require.NoError(t, err, "%s", s.Text())
		assert.Equal(t, string(s.Text()), string(again.Text()))
		h := s.Host()
		_, _ = h.Devices()
		_, _ = h.Groups()
		_, _ = h.FindIRQ(s.Address, pci.KindMSI, 0)
	})
}
