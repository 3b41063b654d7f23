package host

import (
	"fmt"
	"io/fs"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/irqbridge/irqbridge/pci"
)

// As Linux 6.12 prints it on x86 with interrupt remapping.
const interruptsX86 = `            CPU0       CPU1       
   0:         47          0  IR-IO-APIC    2-edge      timer
   8:          0          1  IR-IO-APIC    8-edge      rtc0
  16:          0          0  IR-IO-APIC   16-fasteoi   i801_smbus
  20:          3       1200  IR-IO-APIC   20-fasteoi   vfio-intx(0000:00:04.0), ehci_hcd:usb1, vfio-intx(0000:01:01.0)
  24:          0          0  DMAR-MSI    0-edge      dmar0
  25:          0          0  IR-PCI-MSI-0000:00:02.0    0-edge      PCIe PME, aerdrv, pciehp
  26:          1          2  IR-PCI-MSIX-0000:00:05.0    0-edge      vfio-msix[0](0000:00:05.0)
  27:          3          4  IR-PCI-MSIX-0000:00:05.0    1-edge      vfio-msix[1](0000:00:05.0)
  28:          5          6  IR-PCI-MSIX-0000:00:05.0   10-edge      vfio-msix[10](0000:00:05.0)
  29:          7          8  IR-PCI-MSI-0000:00:08.0    0-edge      vfio-msi[0](0000:00:08.0)
 NMI:          0          0   Non-maskable interrupts
 LOC:      12345      54321   Local timer interrupts
 ERR:          0
 MIS:          0
`

// As Linux 6.6 prints it on arm64 (CONFIG_GENERIC_IRQ_SHOW_LEVEL), with CPU 1 and 2 offline.
const interruptsARM64 = `           CPU0       CPU3       
 11:      97142      92881     GICv3  27 Level     arch_timer
 50:          0          5     GICv3  36 Level     vfio-intx(0000:00:04.0)
 51:          9          0   ITS-MSI 16384 Edge      vfio-msix[0](0000:00:05.0)
IPI0:       123        456       Rescheduling interrupts
Err:          0
`

func TestFindIRQ(t *testing.T) {
	for _, c := range []struct {
		name, text string
		address    string
		kind       pci.Kind
		message    int
		want       IRQ
	}{
		{"MSI-X", interruptsX86, "0000:00:05.0", pci.KindMSIX, 1, IRQ{
			Number: 27, Trigger: "edge", Chip: "IR-PCI-MSIX-0000:00:05.0", Action: "vfio-msix[1](0000:00:05.0)",
			Counts: map[int]uint64{0: 3, 1: 4},
		}},
		{"MSI-X, two digits", interruptsX86, "0000:00:05.0", pci.KindMSIX, 10, IRQ{
			Number: 28, Trigger: "edge", Chip: "IR-PCI-MSIX-0000:00:05.0", Action: "vfio-msix[10](0000:00:05.0)",
			Counts: map[int]uint64{0: 5, 1: 6},
		}},
		{"MSI", interruptsX86, "0000:00:08.0", pci.KindMSI, 0, IRQ{
			Number: 29, Trigger: "edge", Chip: "IR-PCI-MSI-0000:00:08.0", Action: "vfio-msi[0](0000:00:08.0)",
			Counts: map[int]uint64{0: 7, 1: 8},
		}},
		{"first on a shared line", interruptsX86, "0000:00:04.0", pci.KindINTx, 0, IRQ{
			Number: 20, Trigger: "level", Chip: "IR-IO-APIC", Action: "vfio-intx(0000:00:04.0)",
			Shared: []string{"ehci_hcd:usb1", "vfio-intx(0000:01:01.0)"}, Counts: map[int]uint64{0: 3, 1: 1200},
		}},
		{"last on a shared line", interruptsX86, "0000:01:01.0", pci.KindINTx, 0, IRQ{
			Number: 20, Trigger: "level", Chip: "IR-IO-APIC", Action: "vfio-intx(0000:01:01.0)",
			Shared: []string{"vfio-intx(0000:00:04.0)", "ehci_hcd:usb1"}, Counts: map[int]uint64{0: 3, 1: 1200},
		}},
		{"arm64 line, sparse CPUs", interruptsARM64, "0000:00:04.0", pci.KindINTx, 0, IRQ{
			Number: 50, Trigger: "level", Chip: "GICv3", Action: "vfio-intx(0000:00:04.0)", Counts: map[int]uint64{0: 0, 3: 5},
		}},
		{"arm64 message", interruptsARM64, "0000:00:05.0", pci.KindMSIX, 0, IRQ{
			Number: 51, Trigger: "edge", Chip: "ITS-MSI", Action: "vfio-msix[0](0000:00:05.0)", Counts: map[int]uint64{0: 9, 3: 0},
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			tr := newTree(t)
			tr.file("/proc/interrupts", c.text)
			got, err := tr.host().FindIRQ(addr(t, c.address), c.kind, c.message)
			require.NoError(t, err)
			assert.Equal(t, c.want, got)
		})
	}
}

func TestFindIRQBelievesSysfsAboutTheTrigger(t *testing.T) {
	tr := newTree(t)
	tr.file("/proc/interrupts", interruptsX86)
	tr.file("/sys/kernel/irq/27/type", "level\n")
	tr.file("/sys/kernel/irq/26/type", "\n") // IRQ_TYPE_NONE
	h := tr.host()
	irq, err := h.FindIRQ(addr(t, "0000:00:05.0"), pci.KindMSIX, 1)
	require.NoError(t, err)
	assert.Equal(t, "level", irq.Trigger)
	irq, err = h.FindIRQ(addr(t, "0000:00:05.0"), pci.KindMSIX, 0)
	require.NoError(t, err)
	assert.Equal(t, "edge", irq.Trigger)
}

func TestFindIRQErrors(t *testing.T) {
	tr := newTree(t)
	tr.file("/proc/interrupts", interruptsX86)
	h := tr.host()
	for _, c := range []struct {
		address string
		kind    pci.Kind
		message int
		is      error
		text    string
	}{
		{"0000:00:05.0", pci.KindMSIX, 2, fs.ErrNotExist, "/proc/interrupts has no vfio-msix[2](0000:00:05.0)"},
		{"0000:00:05.0", pci.KindMSI, 0, fs.ErrNotExist, "find the host IRQ of msi message 0"},
		{"0000:00:05.0", pci.KindINTx, 0, fs.ErrNotExist, "find the host IRQ of the INTx line"},
		{"1000:00:05.0", pci.KindMSIX, 0, fs.ErrNotExist, "no vfio-msix[0](1000:00:05.0)"},
		{"0000:00:05.0", pci.KindINTx, 1, fs.ErrInvalid, "no device has such a message"},
		{"0000:00:05.0", pci.KindMSIX, -1, fs.ErrInvalid, "no device has such a message"},
		{"0000:00:05.0", 0, 0, fs.ErrInvalid, "no device has such a message"},
	} {
		_, err := h.FindIRQ(addr(t, c.address), c.kind, c.message)
		require.ErrorIs(t, err, c.is)
		require.ErrorContains(t, err, c.text)
	}
	_, err := newTree(t).host().FindIRQ(addr(t, "0000:00:05.0"), pci.KindMSIX, 0)
	require.ErrorIs(t, err, fs.ErrNotExist)
}

// TestActionsMatchExactly offers names that contain the one looked for.
func TestActionsMatchExactly(t *testing.T) {
	const header = "           CPU0       \n"
	for _, line := range []string{
		" 20:  1  IO-APIC  20-fasteoi   xvfio-intx(0000:00:04.0)",
		" 20:  1  IO-APIC  20-fasteoi   vfio-intx(0000:00:04.0)x",
		" 20:  1  IO-APIC  20-fasteoi   a,vfio-intx(0000:00:04.0)",
		"NMI:  1  IO-APIC  20-fasteoi   vfio-intx(0000:00:04.0)",
		" 20:  1  vfio-intx(0000:00:04.0)  20-fasteoi   other",
		" 20:  x  IO-APIC  20-fasteoi   vfio-intx(0000:00:04.0)",
		" 20: vfio-intx(0000:00:04.0)",
		"vfio-intx(0000:00:04.0)",
		" 20:  1  vfio-intx(0000:00:04.0)",
	} {
		_, ok := newInterruptTable([]byte(header + line + "\n")).byAction("vfio-intx(0000:00:04.0)")
		assert.False(t, ok, line)
		irq, ok := newInterruptTable([]byte(header + line + "\n 21:  7  IO-APIC  21-fasteoi   vfio-intx(0000:00:04.0)")).byAction("vfio-intx(0000:00:04.0)")
		assert.True(t, ok, "the search goes on after: %s", line)
		assert.Equal(t, 21, irq.Number)
	}
}

func TestIRQCounts(t *testing.T) {
	tr := newTree(t)
	tr.file("/proc/interrupts", interruptsX86)
	h := tr.host()
	counts, err := h.IRQCounts(20)
	require.NoError(t, err)
	assert.Equal(t, map[int]uint64{0: 3, 1: 1200}, counts)
	for _, missing := range []int{2, 5, 30, -1} {
		_, err = h.IRQCounts(missing)
		require.ErrorIs(t, err, fs.ErrNotExist, missing)
	}
}

func TestIRQCountsOf(t *testing.T) {
	tr := newTree(t)
	tr.file("/proc/interrupts", interruptsX86)
	h := tr.host()
	counts, err := h.IRQCountsOf(20, 27, 2, 30, -1)
	require.NoError(t, err)
	assert.Equal(t, map[int]map[int]uint64{20: {0: 3, 1: 1200}, 27: {0: 3, 1: 4}}, counts, "those that are not there are left out")
	counts, err = h.IRQCountsOf()
	require.NoError(t, err)
	assert.Empty(t, counts)
	_, err = newTree(t).host().IRQCountsOf(20)
	require.ErrorIs(t, err, fs.ErrNotExist)
	assert.NotContains(t, err.Error(), "-1")
}

func TestInterruptsWithoutKnownHeader(t *testing.T) {
	for _, header := range []string{"", "\n", "  CPU0  CPUx\n", "  CPU0  core1\n", "CPU99999\n"} {
		_, ok := newInterruptTable([]byte(header + interruptsX86[strings.IndexByte(interruptsX86, '\n')+1:])).byAction("vfio-msix[1](0000:00:05.0)")
		assert.False(t, ok, "%q", header)
	}
}

// largeTable is what a machine with that many CPUs and interrupts prints; the last line is the one looked for.
func largeTable(cpus, irqs int) []byte {
	var b strings.Builder
	b.WriteString("           ")
	for cpu := range cpus {
		fmt.Fprintf(&b, "CPU%-8d", cpu)
	}
	b.WriteByte('\n')
	for irq := range irqs {
		fmt.Fprintf(&b, "%4d:", irq)
		for cpu := range cpus {
			fmt.Fprintf(&b, "%10d ", (irq+cpu)%1000)
		}
		fmt.Fprintf(&b, " IR-PCI-MSIX-0000:c1:00.0 %4d-edge      vfio-msix[%d](0000:c1:00.0)\n", irq, irq)
	}
	return []byte(b.String())
}

func TestLargeInterruptTable(t *testing.T) {
	irq, ok := newInterruptTable(largeTable(1024, 300)).byAction("vfio-msix[299](0000:c1:00.0)")
	require.True(t, ok)
	assert.Equal(t, 299, irq.Number)
	assert.Len(t, irq.Counts, 1024)
	assert.Equal(t, uint64((299+1023)%1000), irq.Counts[1023])
}

func BenchmarkFindIRQ(b *testing.B) {
	text := largeTable(256, 2048)
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		if _, ok := newInterruptTable(text).byAction("vfio-msix[2047](0000:c1:00.0)"); !ok {
			b.Fatal("not found")
		}
	}
}

func FuzzInterrupts(f *testing.F) {
	f.Add([]byte(interruptsX86), "vfio-msix[1](0000:00:05.0)", 27)
	f.Add([]byte(interruptsARM64), "vfio-intx(0000:00:04.0)", 50)
	f.Add([]byte("CPU0 \n1:2 a  b"), "b", 1)
	f.Add([]byte("CPU0\n1:2  b"), "b", 1)
	f.Fuzz(func(t *testing.T, text []byte, action string, number int) {
		table := newInterruptTable(text)
		if action == "" || strings.Contains(action, "\n") || strings.Contains(action, ", ") {
			return // no handler has such a name
		}
		irq, ok := table.byAction(action)
		if ok {
			require.Contains(t, string(text), action)
			require.GreaterOrEqual(t, irq.Number, 0)
			require.NotEmpty(t, irq.Counts)
			require.Contains(t, []string{"", "edge", "level"}, irq.Trigger)
		}
		counts, ok := table.byNumber(number)
		if ok {
			require.NotEmpty(t, counts)
			for cpu := range counts {
				require.Less(t, cpu, MaxCPUs)
			}
		}
	})
}

func TestIRQNumbers(t *testing.T) {
	tr := newTree(t)
	tr.file("/proc/interrupts", interruptsX86)
	h := tr.host()
	for _, c := range []struct {
		address string
		kind    pci.Kind
		want    map[int]int
	}{
		{"0000:00:05.0", pci.KindMSIX, map[int]int{0: 26, 1: 27, 10: 28}},
		{"0000:00:08.0", pci.KindMSI, map[int]int{0: 29}},
		{"0000:00:08.0", pci.KindMSIX, map[int]int{}},
		{"0000:01:01.0", pci.KindINTx, map[int]int{0: 20}},
	} {
		got, err := h.IRQNumbers(addr(t, c.address), c.kind)
		require.NoError(t, err)
		assert.Equal(t, c.want, got, "%s %v", c.address, c.kind)
	}
	_, err := h.IRQNumbers(addr(t, "0000:00:08.0"), pci.KindINTx)
	require.ErrorIs(t, err, fs.ErrNotExist)
	_, err = newTree(t).host().IRQNumbers(addr(t, "0000:00:08.0"), pci.KindMSI)
	require.ErrorIs(t, err, fs.ErrNotExist)
}

func TestIRQsInUse(t *testing.T) {
	tr := newTree(t)
	_, err := tr.host().IRQsInUse()
	require.Error(t, err)
	tr.file("/proc/interrupts", "            CPU0\n  8:          0  IR-IO-APIC   8-edge      rtc0\n 27:          3  IR-PCI-MSI 81922-edge      x\nNMI:          0   Non-maskable interrupts\n")
	n, err := tr.host().IRQsInUse()
	require.NoError(t, err)
	assert.Equal(t, 2, n)
}
