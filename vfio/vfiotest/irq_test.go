package vfiotest_test

import (
	"fmt"
	"io/fs"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/irqbridge/irqbridge/pci"
	"github.com/irqbridge/irqbridge/vfio/host"
	"github.com/irqbridge/irqbridge/vfio/vfiotest"
)

// tick is how often a condition is looked at.
const tick = time.Millisecond

// hostIRQ is the host IRQ of a message.
func (r *raw) hostIRQ(kind pci.Kind, message int) host.IRQ {
	r.t.Helper()
	irq, err := r.m.Host.FindIRQ(r.address, kind, message)
	require.NoError(r.t, err)
	return irq
}

// total is how often the host IRQ of a message was delivered, on all CPUs.
func (r *raw) total(kind pci.Kind, message int) uint64 {
	r.t.Helper()
	return sum(r.hostIRQ(kind, message).Counts)
}

func sum(counts map[int]uint64) uint64 {
	var n uint64
	for _, c := range counts {
		n += c
	}
	return n
}

// What the host calls an interrupt: handler, chip, trigger, and its number within the chip.
func TestHostIRQNames(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		const line = 21 // where the line of e1000e ends
		messageChip := func(string) string { return "IR-PCI-MSI" }
		firstHWIRQ := 0x28 << 11 // the function's address in front
		if m.Version == vfiotest.Newest {
			messageChip = func(kind string) string { return fmt.Sprintf("IR-PCI-%s-%v", kind, m.E1000E) }
			firstHWIRQ = 0
		}
		r, e := openRaw(t, m, m.E1000E), newEvent(t)
		check := func(kind pci.Kind, message int, action, chip, trigger string, hwirq int) {
			t.Helper()
			irq := r.hostIRQ(kind, message)
			assert.Equal(t, fmt.Sprintf("%s(%v)", action, m.E1000E), irq.Action)
			assert.Equal(t, chip, irq.Chip)
			assert.Equal(t, trigger, irq.Trigger)
			assert.Empty(t, irq.Shared)
			text, err := r.readFile(fmt.Sprintf("/sys/kernel/irq/%d/hwirq", irq.Number))
			require.NoError(t, err)
			assert.Equal(t, strconv.Itoa(hwirq), text)
		}
		_, err := m.Host.FindIRQ(m.E1000E, pci.KindINTx, 0)
		require.ErrorIs(t, err, fs.ErrNotExist, "not enabled")
		r.enable(intx, 0, e.fd)
		check(pci.KindINTx, 0, "vfio-intx", "IR-IO-APIC", "level", line)
		assert.Equal(t, line, r.hostIRQ(pci.KindINTx, 0).Number)
		r.disable(intx)
		r.enable(msi, 0, e.fd)
		check(pci.KindMSI, 0, "vfio-msi[0]", messageChip("MSI"), "edge", firstHWIRQ)
		r.disable(msi)
		r.enable(msix, 0, e.fd, e.fd, e.fd)
		for n := range 3 {
			check(pci.KindMSIX, n, fmt.Sprintf("vfio-msix[%d]", n), messageChip("MSIX"), "edge", firstHWIRQ+n)
		}
	})
}

// An interrupt's number: when it appears, what keeps it, when it goes.
func TestHostIRQLife(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		r, e := openRaw(t, m, m.E1000E), newEvent(t)
		missing := func(name string) {
			t.Helper()
			_, err := r.readDir(name)
			assert.ErrorIs(t, err, fs.ErrNotExist, name)
		}
		missing("/sys/bus/pci/devices/" + r.address.String() + "/msi_irqs")
		r.enable(msix, 0, e.fd, -1)
		irqs, err := r.irqs()
		require.NoError(t, err)
		require.Len(t, irqs, 2)
		kind, err := r.readFile("/sys/bus/pci/devices/" + r.address.String() + "/msi_irqs/" + irqs[0])
		require.NoError(t, err)
		assert.Equal(t, "msix", kind)
		number := r.hostIRQ(pci.KindMSIX, 0).Number
		assert.Contains(t, irqs, strconv.Itoa(number))
		_, err = m.Host.FindIRQ(r.address, pci.KindMSIX, 1)
		assert.ErrorIs(t, err, fs.ErrNotExist, "allocated, but nobody handles it")

		dir := fmt.Sprintf("/proc/irq/%d", number)
		handler := fmt.Sprintf("%s/vfio-msix[0](%v)", dir, r.address)
		_, err = r.readDir(handler)
		require.NoError(t, err)
		r.enable(msix, 0, -1)
		missing(handler)
		_, err = r.readDir(dir)
		require.NoError(t, err, "the number stays")
		r.enable(msix, 0, e.fd)
		assert.Equal(t, number, r.hostIRQ(pci.KindMSIX, 0).Number)
		r.disable(msix)
		missing(dir)
		irqs, err = r.irqs()
		require.NoError(t, err, "the directory stays")
		assert.Empty(t, irqs)

		// The attribute irq is the line's, but for MSI.
		attribute := "/sys/bus/pci/devices/" + r.address.String() + "/irq"
		for _, index := range []uint32{intx, msix, msi} {
			r.enable(index, 0, e.fd)
			text, err := r.readFile(attribute)
			require.NoError(t, err)
			want := "21"
			if index == msi {
				want = strconv.Itoa(r.hostIRQ(pci.KindMSI, 0).Number)
			}
			assert.Equal(t, want, text)
			r.disable(index)
		}
	})
}

// place asks for a CPU and returns what came of it.
func place(t *testing.T, m *vfiotest.Machine, irq, cpu int) host.Affinity {
	t.Helper()
	require.NoError(t, m.Host.SetAffinity(irq, host.CPUSetOf(cpu)))
	a, err := m.Host.Affinity(irq)
	require.NoError(t, err)
	return a
}

// Interrupts arrive on the CPU that was asked for, are counted there, and stay there.
func TestAffinity(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		cpus := m.CPUs.CPUs()
		r, e := openRaw(t, m, m.E1000E), newEvent(t)
		r.quietNIC()
		r.enable(msix, 0, e.fd, e.fd)
		r.change(busMaster, 0)
		r.write(e1000IVAR, 0x00008)
		r.write(e1000IMS, e1000Causes)
		irq := r.hostIRQ(pci.KindMSIX, 0).Number
		raise := func() {
			t.Helper()
			r.cause(0)
			assert.Equal(t, uint64(1), r.once(e.await()))
			r.write(e1000ICR, 1<<20)
		}
		for _, cpu := range cpus {
			a := place(t, m, irq, cpu)
			assert.Equal(t, host.CPUSetOf(cpu), a.Set)
			assert.Equal(t, host.CPUSetOf(cpu), a.Effective, "with interrupt remapping it moves at once")
			before := r.hostIRQ(pci.KindMSIX, 0).Counts
			raise()
			raise()
			after := r.hostIRQ(pci.KindMSIX, 0).Counts
			for _, other := range cpus {
				got, want := after[other]-before[other], uint64(0)
				if other == cpu {
					want = 2
				}
				if m.Real && want > 0 { // QEMU may repeat them
					got = min(got, want)
				}
				assert.Equal(t, want, got, "asked for CPU %d, on CPU %d", cpu, other)
			}
			r.fire(msix, 0, 1)
			e.await()
			assert.Equal(t, after, r.hostIRQ(pci.KindMSIX, 0).Counts, "the loopback does not count")

			// A larger set that has the CPU does not move it.
			require.NoError(t, m.Host.SetAffinity(irq, m.CPUs))
			a, err := m.Host.Affinity(irq)
			require.NoError(t, err)
			assert.Equal(t, m.CPUs, a.Set)
			assert.Equal(t, host.CPUSetOf(cpu), a.Effective)
		}

		// It survives the loss of the eventfd, and is lost with the number.
		last := cpus[len(cpus)-1]
		place(t, m, irq, last)
		r.enable(msix, 0, -1)
		a, err := m.Host.Affinity(irq)
		require.NoError(t, err)
		assert.Equal(t, host.CPUSetOf(last), a.Set)
		r.enable(msix, 0, e.fd)
		a, err = m.Host.Affinity(irq)
		require.NoError(t, err)
		assert.Equal(t, host.CPUSetOf(last), a.Set)
		assert.Equal(t, host.CPUSetOf(last), a.Effective)
		raise()
		r.disable(msix)
		_, err = m.Host.Affinity(irq)
		require.ErrorIs(t, err, fs.ErrNotExist)
		r.enable(msix, 0, e.fd)
		a, err = m.Host.Affinity(r.hostIRQ(pci.KindMSIX, 0).Number)
		require.NoError(t, err)
		assert.Equal(t, m.CPUs, a.Set)
	})
}

// Without interrupt remapping MSI has one message, of which the kernel says so and enables none, and an interrupt follows a change
// of its affinity one interrupt late. In the virtual machine it takes
// IRQBRIDGE_VM_APPEND='intremap=off vfio_iommu_type1.allow_unsafe_interrupts=1 iommufd.allow_unsafe_interrupts=1'.
func TestMessagesWithoutRemapping(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		arguments, err := (&raw{t: t, m: m}).readFile("/proc/cmdline")
		if m.Real && (err != nil || !strings.Contains(arguments, "intremap=off")) {
			t.Skip("this machine has interrupt remapping")
		}
		x, e := openRaw(t, m, m.XHCI), newEvent(t)
		n, err := x.set(fds|trigger, msi, 0, 3, fillFD(3, e.fd))
		require.NoError(t, err)
		assert.Equal(t, 1, n)
		assert.Equal(t, "idle", indexNames[x.live()])
		x.enable(msi, 0, e.fd)
		chip := "PCI-MSI"
		if m.Version == vfiotest.Newest {
			chip = fmt.Sprintf("PCI-MSI-%v", m.XHCI)
		}
		assert.Equal(t, chip, x.hostIRQ(pci.KindMSI, 0).Chip)
		x.close()
		if m.CPUs.Len() < 2 {
			return
		}

		r := openEDU(t, m)
		r.enable(msi, 0, e.fd)
		r.change(busMaster, 0)
		irq := r.hostIRQ(pci.KindMSI, 0).Number
		a, err := m.Host.Affinity(irq)
		require.NoError(t, err)
		from, to := a.Effective.CPUs()[0], m.CPUs.Minus(a.Effective).CPUs()[0]
		assert.Equal(t, a.Effective, place(t, m, irq, to).Effective, "not moved yet")
		for _, cpu := range []int{from, to} {
			before := r.hostIRQ(pci.KindMSI, 0).Counts[cpu]
			r.write(eduRaise, 1)
			assert.Equal(t, uint64(1), e.await())
			assert.Equal(t, uint64(1), r.hostIRQ(pci.KindMSI, 0).Counts[cpu]-before)
			a, err := m.Host.Affinity(irq)
			require.NoError(t, err)
			assert.Equal(t, host.CPUSetOf(to), a.Effective, "after the first")
		}
		r.write(eduAck, 1)
	}, vfiotest.WithoutInterruptRemapping(), vfiotest.UnsafeInterrupts())
}

// The line has an affinity, too.
func TestAffinityOfTheLine(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		r, e := openINTx(t, m)
		irq := r.hostIRQ(pci.KindINTx, 0).Number
		for _, cpu := range m.CPUs.CPUs() {
			a := place(t, m, irq, cpu)
			assert.Equal(t, host.CPUSetOf(cpu), a.Effective)
			before := r.hostIRQ(pci.KindINTx, 0).Counts[cpu]
			r.write(eduRaise, 1)
			e.await()
			r.write(eduAck, 1)
			r.unmask()
			assert.Equal(t, uint64(1), r.hostIRQ(pci.KindINTx, 0).Counts[cpu]-before)
		}
	})
}

// What cannot be asked for.
func TestAffinityErrors(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		r, e := openRaw(t, m, m.E1000E), newEvent(t)
		r.enable(msix, 0, e.fd)
		dir := fmt.Sprintf("/proc/irq/%d", r.hostIRQ(pci.KindMSIX, 0).Number)
		cpus := m.CPUs.CPUs()
		first, beyond := cpus[0], cpus[len(cpus)-1]+1
		for _, c := range []struct {
			file, text string
			want       string
		}{
			{"smp_affinity_list", fmt.Sprintf("%d\n", first), "ok"},
			{"smp_affinity_list", strconv.Itoa(first), "ok"},
			{"smp_affinity_list", strconv.Itoa(beyond), "ERANGE"},
			{"smp_affinity_list", "8191", "ERANGE"},
			{"smp_affinity_list", "", "EINVAL"},
			{"smp_affinity_list", "\n", "EINVAL"},
			{"smp_affinity_list", "nonsense", "EINVAL"},
			{"smp_affinity_list", "1-0", "EINVAL"},
			{"smp_affinity", host.CPUSetOf(first).Mask() + "\n", "ok"},
			{"smp_affinity", "0", "EINVAL"},
			{"smp_affinity", "x", "EINVAL"},
			{"smp_affinity", host.CPUSetOf(beyond + 32).Mask(), "EOVERFLOW"},
			{"smp_affinity", host.CPUSetOf(beyond + 64).Mask(), "EOVERFLOW"},
		} {
			assert.Equal(t, c.want, errno(r.writeFile(dir+"/"+c.file, c.text)), "%q to %s", c.text, c.file)
		}
		err := r.writeFile("/proc/irq/9999/smp_affinity_list", "0")
		assert.ErrorIs(t, err, unix.ENOENT)
	})
}

// The rows of /proc/interrupts, but for the numbers and the counts.
func TestInterruptTable(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		nic, edu, usb, e := openRaw(t, m, m.E1000E), openEDU(t, m), openRaw(t, m, m.XHCI), newEvent(t)
		nic.enable(msix, 0, e.fd, e.fd)
		edu.enable(intx, 0, e.fd)
		usb.enable(msi, 0, e.fd, -1, e.fd)
		text, err := nic.readFile("/proc/interrupts")
		require.NoError(t, err)
		lines := strings.Split(text, "\n")
		assert.Len(t, strings.Fields(lines[0]), m.CPUs.Len())
		var b strings.Builder
		for _, line := range lines[1:] {
			if fields := strings.Fields(line); strings.Contains(line, "vfio") {
				fmt.Fprintln(&b, strings.Join(fields[1+m.CPUs.Len():], " "))
			}
		}
		golden(t, m, "interrupts", b.String())
	})
}
