package vfiotest

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/irqbridge/irqbridge/pci"
	"github.com/irqbridge/irqbridge/vfio"
	"github.com/irqbridge/irqbridge/vfio/host"
	"github.com/irqbridge/irqbridge/vfio/internal/uapi"
)

// The addresses of the devices, in the fake and in the virtual machine.
var (
	addressEDU         = pci.Address{Device: 0x04}
	addressE1000E      = pci.Address{Device: 0x05}
	addressEDU2        = pci.Address{Device: 0x06}
	addressNVMe        = pci.Address{Device: 0x07}
	addressXHCI        = pci.Address{Device: 0x08}
	addressBridge      = pci.Address{Device: 0x09}
	addressTestDev     = pci.Address{Device: 0x0a}
	addressVectors     = pci.Address{Device: 0x0b}
	addressBridgeEDU   = pci.Address{Bus: 1, Device: 0x01}
	addressBridgeE1000 = pci.Address{Bus: 1, Device: 0x05}
	addressRootPort    = pci.Address{Device: 0x0c}
	addressPF          = pci.Address{Bus: 2}
)

// virtualMachineEnv is set in the virtual machine to the kernel's name: "stable", "newest" or "own".
const virtualMachineEnv = "IRQBRIDGE_VM"

// Machine is what a test runs on: the fake, or the virtual machine that it runs in.
type Machine struct {
	Kernel  vfio.Kernel  // what to open devices on
	Host    *host.Host   // the same as Kernel.Host()
	Fake    *Kernel      // the fake behind Kernel; nil when the machine is real
	Real    bool         // a real kernel, in the virtual machine
	Version Version      // whose behaviour is to be expected
	Backend vfio.Backend // how Open opens devices

	EDU         pci.Address // edu: a line and one MSI message; no driver at first
	EDU2        pci.Address // a second edu
	E1000E      pci.Address // e1000e: a line, one MSI message, five MSI-X messages; bound to the driver e1000e
	NVMe        pci.Address // nvme
	XHCI        pci.Address // nec-usb-xhci: 16 MSI messages
	Bridge      pci.Address // pcie-pci-bridge, behind which are the next two; the three form one IOMMU group
	BridgeEDU   pci.Address // edu
	BridgeE1000 pci.Address // e1000: a line only; bound to the driver e1000
	TestDev     pci.Address // pci-testdev: no interrupts at all
	// Only with MoreDevices, or scripts/vm's --devices more.
	Vectors  pci.Address // nvme: 2048 MSI-X messages
	RootPort pci.Address // PCIe root port, bound to pcieport
	PF       pci.Address // nvme behind the root port: a physical function that can have two virtual ones, see VirtualFunctions
	// Only with FromSnapshot.
	Device pci.Address // the device that the snapshot is of

	CPUs host.CPUSet // the CPUs that threads and interrupts can be placed on
}

// Run calls f as a subtest on every machine that is at hand: "fake/6.1", "fake/newest" and "fake/own" or, inside the virtual
// machine of scripts/vm, "real". Of a kernel with iommufd, which "own" is, the real one has two: "real/iommufd" and "real/group",
// by the way in which devices are opened. Each call has a fake of its own, with the options; the real machine is left as it
// was found by those that use [Machine.Open].
func Run(t *testing.T, f func(t *testing.T, m *Machine), opts ...Option) {
	t.Helper()
	if name := os.Getenv(virtualMachineEnv); name != "" {
		t.Run("real", func(t *testing.T) {
			m := realMachine(t, name)
			if !m.Host.HasIOMMUFD() {
				f(t, m)
				return
			}
			for _, b := range []vfio.Backend{vfio.BackendIOMMUFD, vfio.BackendGroup} {
				t.Run(b.String(), func(t *testing.T) {
					m := realMachine(t, name)
					m.Backend = b
					f(t, m)
				})
			}
		})
		return
	}
	t.Run("fake", func(t *testing.T) {
		for _, v := range []Version{V6_1, Newest} {
			t.Run(v.String(), func(t *testing.T) { f(t, FakeMachine(t, append([]Option{Personality(v)}, opts...)...)) })
		}
		t.Run("own", func(t *testing.T) {
			f(t, FakeMachine(t, append([]Option{Personality(Newest), WithIOMMUFD(), NoIOMMUMode(false)}, opts...)...))
		})
	})
}

// FakeMachine returns a machine with a fake kernel, which is closed at the end of the test.
func FakeMachine(t *testing.T, opts ...Option) *Machine {
	t.Helper()
	k := NewKernel(opts...)
	t.Cleanup(k.Shutdown)
	m := newMachine(t, k)
	m.Fake, m.Version = k, k.version
	return m
}

// realMachine returns the virtual machine that the test runs in.
func realMachine(t *testing.T, name string) *Machine {
	t.Helper()
	m := newMachine(t, realKernel{Kernel: uapi.Real(), host: host.New("/")})
	m.Real = true
	switch name {
	case "stable":
		m.Version = V6_1
	case "newest", "own": // one source, configured in two ways
		m.Version = Newest
	default:
		t.Fatalf("%s is %q, which is no kernel of scripts/vm", virtualMachineEnv, name)
	}
	return m
}

// realKernel is the running kernel with its host.
type realKernel struct {
	uapi.Kernel
	host *host.Host
}

func (k realKernel) Host() *host.Host { return k.host }

func newMachine(t *testing.T, k vfio.Kernel) *Machine {
	t.Helper()
	h := k.Host()
	cpus, err := h.OnlineCPUs()
	if err != nil {
		t.Fatal(err)
	}
	backend := vfio.BackendGroup
	if h.HasIOMMUFD() {
		backend = vfio.BackendIOMMUFD
	}
	return &Machine{
		Kernel: k, Host: h, CPUs: cpus, Backend: backend,
		EDU: addressEDU, EDU2: addressEDU2, E1000E: addressE1000E, NVMe: addressNVMe, XHCI: addressXHCI, Bridge: addressBridge,
		BridgeEDU: addressBridgeEDU, BridgeE1000: addressBridgeE1000, TestDev: addressTestDev,
		Vectors: addressVectors, RootPort: addressRootPort, PF: addressPF,
	}
}

// bindPatience is how long a device may take to change its driver.
const bindPatience = 30 * time.Second

// Options are the options with which vfio.Open opens a device of this machine.
func (m *Machine) Options() []vfio.Option {
	return []vfio.Option{vfio.OnKernel(m.Kernel), vfio.WithBackend(m.Backend)}
}

// Bind binds the device to vfio-pci, and gives it back to its former driver at the end of the test.
func (m *Machine) Bind(t *testing.T, address pci.Address) {
	t.Helper()
	run := func(p *host.Plan, err error) {
		t.Helper()
		if err == nil {
			// An unbind waits for whoever has the device open: for ever, if the test forgot to close it.
			ctx, cancel := context.WithTimeout(context.Background(), bindPatience)
			defer cancel()
			err = p.Run(ctx)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	run(m.Host.PlanBind(address, "vfio-pci", false))
	t.Cleanup(func() { run(m.Host.PlanUnbind(address)) })
}

// Open binds the device to vfio-pci and opens it; at the end of the test it is closed and given back to its former driver.
func (m *Machine) Open(t *testing.T, address pci.Address, opts ...vfio.Option) *vfio.Device {
	t.Helper()
	m.Bind(t, address)
	d, err := vfio.Open(address, append(m.Options(), opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

// VirtualFunctions binds PF to vfio-pci, unless it is, and has it make n virtual functions, which get the same driver; at the
// end of the test they go again. It skips the test on a machine without that device. QEMU's virtual functions do not answer any more
// after a reset of their physical function, such as its open and its close make; Linux 6.1 waits a minute for each, so there the test
// is skipped, too.
func (m *Machine) VirtualFunctions(t *testing.T, n int) []pci.Address {
	t.Helper()
	pf, err := m.Host.Device(m.PF)
	if err != nil || !m.Real {
		t.Skip("no virtual functions: in the virtual machine they take --devices more (IRQBRIDGE_VM_DEVICES=more), and the fake has none")
	}
	if m.Version == V6_1 {
		t.Skip("Linux 6.1 waits a minute for each virtual function that does not answer")
	}
	if !pf.VFIO {
		m.Bind(t, m.PF)
	}
	write := func(file string, v int) {
		t.Helper()
		if err := os.WriteFile(file, []byte(strconv.Itoa(v)), 0); err != nil {
			t.Fatal(err)
		}
	}
	write("/sys/module/vfio_pci/parameters/enable_sriov", 1)
	number := fmt.Sprintf("/sys/bus/pci/devices/%v/sriov_numvfs", m.PF)
	write(number, n)
	t.Cleanup(func() { write(number, 0) })
	functions := make([]pci.Address, n)
	for i := range functions {
		functions[i] = m.PF
		functions[i].Function += uint8(1 + i)
		m.awaitNode(t, functions[i])
	}
	return functions
}

// awaitNode waits for the node by which a device that is bound to a VFIO driver is opened.
func (m *Machine) awaitNode(t *testing.T, a pci.Address) {
	t.Helper()
	for deadline := time.Now().Add(bindPatience); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		d, err := m.Host.Device(a)
		if err != nil || !d.VFIO {
			continue
		}
		node := m.Host.DeviceNode(a)
		if m.Backend == vfio.BackendGroup {
			node = fmt.Sprintf("/dev/vfio/%d", d.Group)
		}
		if _, err := os.Stat(node); err == nil {
			return
		}
	}
	t.Fatalf("there is no node for %v", a)
}
