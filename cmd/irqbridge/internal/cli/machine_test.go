package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/irqbridge/irqbridge/connect"
	"github.com/irqbridge/irqbridge/pci"
	"github.com/irqbridge/irqbridge/vfio"
	"github.com/irqbridge/irqbridge/vfio/host"
	"github.com/irqbridge/irqbridge/vfio/vfiotest"
)

// result is what one command line did.
type result struct {
	code           int
	stdout, stderr string
}

// irqbridge runs a command line on a machine.
func irqbridge(t *testing.T, m *vfiotest.Machine, args ...string) result {
	t.Helper()
	return irqbridgeUntil(context.Background(), t, m, io.Discard, args...)
}

func irqbridgeUntil(ctx context.Context, t *testing.T, m *vfiotest.Machine, progress io.Writer, args ...string) result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	code := Main(ctx, args, System{
		Stdin: strings.NewReader(""), Stdout: io.MultiWriter(&stdout, progress), Stderr: io.MultiWriter(&stderr, progress), Kernel: m.Kernel,
	})
	r := result{code, stdout.String(), stderr.String()}
	t.Logf("$ irqbridge %s\n%s%s[exit %d]", strings.Join(args, " "), r.stdout, r.stderr, r.code)
	return r
}

// bound binds a device through the program and gives it back at the end of the test.
func bound(t *testing.T, m *vfiotest.Machine, address pci.Address) {
	t.Helper()
	before, err := m.Host.Device(address)
	require.NoError(t, err)
	require.Zero(t, irqbridge(t, m, "bind", address.String()).code)
	t.Cleanup(func() {
		require.Zero(t, irqbridge(t, m, "unbind", address.String()).code)
		after, err := m.Host.Device(address)
		require.NoError(t, err)
		assert.Equal(t, before.Driver, after.Driver, "the former driver is back")
		assert.Equal(t, before.DriverOverride, after.DriverOverride)
	})
}

// state is what connect must leave as it found it.
func state(t *testing.T, m *vfiotest.Machine, address pci.Address) string {
	t.Helper()
	d, err := m.Host.Device(address)
	require.NoError(t, err)
	config, err := m.Host.Config(address)
	require.NoError(t, err)
	f, err := pci.Decode(config)
	require.NoError(t, err)
	s := fmt.Sprintf("driver %q, bus master %v", d.Driver, f.Command&pci.CommandBusMaster != 0)
	if f.MSI != nil {
		s += fmt.Sprintf(", MSI %v", f.MSI.Enabled)
	}
	if f.MSIX != nil {
		s += fmt.Sprintf(", MSI-X %v", f.MSIX.Enabled)
	}
	return s
}

func TestEveryRaisedInterruptIsServicedOnTheCPUAskedFor(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		for _, c := range []struct {
			address  pci.Address
			kind     string
			messages int
		}{
			{m.EDU, "intx", 1},
			{m.EDU, "msi", 1},
			{m.E1000E, "intx", 1},
			{m.E1000E, "msi", 1},
			{m.E1000E, "msix", 5},
			{m.BridgeE1000, "intx", 1},
		} {
			t.Run(fmt.Sprintf("%v/%s", c.address, c.kind), func(t *testing.T) {
				defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
				bound(t, m, c.address)
				before := state(t, m, c.address)
				for _, cpu := range m.CPUs.CPUs() {
					r := irqbridge(t, m, "connect", c.address.String(), "--kind", c.kind, "--cpus", strconv.Itoa(cpu), "--raise", "100", "--json")
					require.Zero(t, r.code)
					var got connectJSON
					require.NoError(t, json.Unmarshal([]byte(r.stdout), &got))
					assert.Equal(t, 1, got.Schema)
					assert.Equal(t, c.address, got.Address)
					assert.Equal(t, c.kind, got.Kind)
					require.Len(t, got.Interrupts, c.messages)
					for n, i := range got.Interrupts {
						assert.Equal(t, n, i.Message)
						assert.NotZero(t, i.Vector)
						assert.Equal(t, connectLevel(i.Vector), int(i.Irql))
						assert.NotNil(t, i.HostIRQ)
						assert.EqualValues(t, 100, i.Raised)
						assert.EqualValues(t, 100, i.Serviced)
						assert.GreaterOrEqual(t, i.Calls, i.Claimed)
						assert.GreaterOrEqual(t, i.Claimed, uint64(100))
						assert.Zero(t, i.WrongCPU)
						assert.Equal(t, strconv.Itoa(cpu), i.CPUs)
						assert.Equal(t, strconv.Itoa(cpu), i.EffectiveAffinity)
						// QEMU's e1000e sends a message again when its moderation timer ends, so the host may count
						// more.
						require.Len(t, i.Delivered, 1, "delivered on one CPU")
						assert.GreaterOrEqual(t, i.Delivered[strconv.Itoa(cpu)], uint64(100))
					}
					assert.Equal(t, before, state(t, m, c.address), "the device is left as it was")
				}
			})
		}
	})
}

// connectLevel is the level that goes with a vector of the first 144.
func connectLevel(vector uint32) int { return int(vector >> 4) }

func TestLoopbackServicesWithoutDelivery(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		bound(t, m, m.E1000E)
		for kind, messages := range map[string]int{"intx": 1, "msi": 1, "msix": 5} {
			r := irqbridge(t, m, "connect", m.E1000E.String(), "--kind", kind, "--loopback", "--raise", "20", "--json")
			require.Zero(t, r.code)
			var got connectJSON
			require.NoError(t, json.Unmarshal([]byte(r.stdout), &got))
			require.Len(t, got.Interrupts, messages)
			for _, i := range got.Interrupts {
				assert.EqualValues(t, 20, i.Serviced)
				assert.EqualValues(t, 20, i.Calls)
				assert.Empty(t, i.Delivered, "loopback is no interrupt of the host")
			}
		}
	})
}

// TestBadInput goes through what users get wrong, on a machine where nothing but that is wrong: each gives one message
// with its cause, a next step, the exit status, and leaves the device as it was.
func TestBadInput(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		typo := filepath.Join(t.TempDir(), "board.json")
		require.NoError(t, os.WriteFile(typo, []byte("{\n  \"profile\": 1,\n  \"nam\": \"board\"\n}\n"), 0o644))
		bound(t, m, m.EDU)
		bound(t, m, m.BridgeEDU)
		edu, bridged, e1000e := m.EDU.String(), m.BridgeEDU.String(), m.E1000E.String()
		for _, c := range []struct {
			name   string
			code   int
			what   string
			next   string
			device pci.Address
			args   []string
		}{
			{"unknown BDF, show", 1, "00:1e.0: there is no PCI device at this address", "irqbridge list", m.EDU, []string{"show", "00:1e.0"}},
			{"unknown BDF, bind", 1, "00:1e.0: there is no PCI device at this address", "irqbridge list", m.EDU, []string{"bind", "00:1e.0"}},
			{"unknown BDF, unbind", 1, "00:1e.0: there is no PCI device at this address", "irqbridge list", m.EDU, []string{"unbind", "00:1e.0"}},
			{"unknown BDF, connect", 1, "00:1e.0: there is no PCI device at this address", "irqbridge list", m.EDU, []string{"connect", "00:1e.0"}},
			{"syntax of a BDF", 2, `pci address "0:4"`, "irqbridge list", m.EDU, []string{"connect", "0:4"}},
			{"another driver has it", 1, "the device is bound to e1000e, and wants a VFIO driver", "irqbridge bind " + e1000e, m.E1000E, []string{"connect", e1000e}},
			{"no driver has it", 1, "the device has no driver, and wants a VFIO driver", "irqbridge bind " + m.EDU2.String(), m.EDU2, []string{"connect", m.EDU2.String()}},
			{"group not viable", 1, m.BridgeE1000.String() + ", bound to e1000", "irqbridge bind " + m.BridgeE1000.String(), m.BridgeE1000, []string{"connect", bridged}},
			{"CPU that does not exist", 1, "CPU 4095 is not online", "irqbridge connect " + edu + " --cpus ", m.EDU, []string{"connect", edu, "--cpus", "4095"}},
			{"syntax of CPUs", 2, "--cpus 1-", "irqbridge connect --help", m.EDU, []string{"connect", edu, "--cpus", "1-"}},
			{"typing error in a profile", 1, `board.json:3:3: nam: unknown field; known here: profile, name, `, "correct line 3 of " + typo, m.EDU, []string{"connect", edu, "--profile", typo}},
			{"name of a profile", 2, "--profile eud: there is no file of that name", "irqbridge connect --help", m.EDU, []string{"connect", edu, "--profile", "eud"}},
			{"directory for a profile", 1, "the profile: read /: is a directory", "irqbridge profile --help", m.EDU, []string{"connect", edu, "--profile", "/"}},
			{"profile without end", 1, "the profile: /dev/zero has more than 4194303 bytes", "irqbridge profile --help", m.EDU, []string{"connect", edu, "--profile", "/dev/zero"}},
			{"dump that is not there", 1, "open /nonexistent: no such file", "lspci -xxxx > FILE", m.EDU, []string{"show", "--dump", "/nonexistent"}},
			{"no device, bind", 2, "want a device, such as 0000:00:04.0; have none", "irqbridge bind --help", m.EDU, []string{"bind"}},
			{"two devices, connect", 2, "want one device, such as 0000:00:04.0; have 2", "irqbridge connect --help", m.EDU, []string{"connect", edu, bridged}},
			{"kind that the device has not", 4, "the device has no MSI-X; it offers: INTA, MSI 1", "irqbridge connect " + edu, m.EDU, []string{"connect", edu, "--kind", "msix"}},
			{"unknown kind", 2, "--kind x: want auto, intx, msi or msix", "irqbridge connect --help", m.EDU, []string{"connect", edu, "--kind", "x"}},
			{"unknown driver", 1, "no PCI driver nvme-of is loaded", "modprobe nvme-of", m.EDU2, []string{"bind", m.EDU2.String(), "--driver", "nvme-of"}},
			{"bridge", 1, "it is a bridge", "bind the devices behind it", m.Bridge, []string{"bind", m.Bridge.String()}},
			{"unknown flag", 2, "unknown flag: --fast", "irqbridge connect --help", m.EDU, []string{"connect", edu, "--fast"}},
		} {
			t.Run(c.name, func(t *testing.T) {
				before := state(t, m, c.device)
				r := irqbridge(t, m, c.args...)
				assert.Equal(t, c.code, r.code)
				assert.Empty(t, r.stdout)
				lines := strings.Split(strings.TrimSuffix(r.stderr, "\n"), "\n")
				assert.True(t, strings.HasPrefix(lines[0], "irqbridge: "), lines[0])
				assert.Contains(t, lines[0], c.what)
				require.Len(t, lines, 2)
				assert.True(t, strings.HasPrefix(lines[1], "next: "+c.next), lines[1])
				assert.Equal(t, before, state(t, m, c.device), "the device is left as it was")
			})
		}
	})
}

func TestADeviceThatIsOpenElsewhereIsBusy(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		m.Open(t, m.EDU)
		r := irqbridge(t, m, "connect", m.EDU.String())
		assert.Equal(t, 1, r.code)
		assert.Contains(t, r.stderr, " is open ")
		assert.Contains(t, r.stderr, "\nnext: ")
	})
}

// TestWithoutIOMMU runs in a virtual machine only when that has none (IRQBRIDGE_VM_NO_IOMMU=1).
func TestWithoutIOMMU(t *testing.T) {
	check := func(t *testing.T, m *vfiotest.Machine) {
		for _, args := range [][]string{{"bind", m.EDU.String()}, {"connect", m.EDU.String(), "--raise", "1"}} {
			r := irqbridge(t, m, args...)
			assert.Equal(t, 4, r.code)
			assert.Contains(t, r.stderr, "irqbridge: "+m.EDU.String()+": ")
			assert.Contains(t, r.stderr, "no IOMMU")
			assert.Contains(t, r.stderr, "\nnext: ")
			assert.Contains(t, r.stderr, "intel_iommu=on")
			assert.Equal(t, `driver "", bus master false, MSI false`, state(t, m, m.EDU))
		}
		r := irqbridge(t, m, "show", m.EDU.String())
		assert.Zero(t, r.code)
		assert.Contains(t, r.stdout, "in no group: VFIO cannot take the device")
		leads(t, m, m.EDU, "iommu", "fail", "there is no IOMMU: ", "intel_iommu=on")
	}
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		if m.Real {
			if m.Host.HasIOMMU() {
				t.Skip("this machine has an IOMMU")
			}
			check(t, m)
			return
		}
		check(t, vfiotest.FakeMachine(t, vfiotest.Personality(m.Version), vfiotest.WithoutIOMMU()))
	})
}

func TestShowSaysWhereTheHostDeliversToAnotherProcess(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		device := m.Open(t, m.E1000E)
		fds := make([]int, 5)
		for i := range fds {
			fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
			require.NoError(t, err)
			t.Cleanup(func() { _ = unix.Close(fd) })
			fds[i] = fd
		}
		require.NoError(t, device.EnableIRQs(vfio.MSIX, 0, fds))
		irq, err := m.Host.FindIRQ(m.E1000E, pci.KindMSIX, 3)
		require.NoError(t, err)
		require.NoError(t, m.Host.SetAffinity(irq.Number, host.CPUSetOf(m.CPUs.CPUs()[0])))

		r := irqbridge(t, m, "show", m.E1000E.String(), "--json")
		require.Zero(t, r.code)
		var got struct {
			Devices []struct {
				Interrupts     pci.Interrupts
				Assignment     assignmentJSON
				HostInterrupts []hostInterruptJSON
			}
		}
		require.NoError(t, json.Unmarshal([]byte(r.stdout), &got))
		live := got.Devices[0].HostInterrupts
		require.Len(t, live, 5)
		assert.Equal(t, irq.Number, live[3].HostIRQ)
		assert.Equal(t, fmt.Sprintf("vfio-msix[3](%v)", m.E1000E), live[3].Action)
		assert.Equal(t, "edge", live[3].Trigger)
		assert.Equal(t, strconv.Itoa(m.CPUs.CPUs()[0]), live[3].Affinity)
		assert.True(t, got.Devices[0].Interrupts.MSIX.Enabled, "the hardware's view")
		assert.True(t, got.Devices[0].Assignment.Planned)

		assert.Contains(t, irqbridge(t, m, "show", m.E1000E.String()).stdout, "Where the host delivers\n  KIND")
		_, vectors, enabled := device.EnabledIRQs()
		assert.True(t, enabled && vectors == 5, "show leaves its user alone")
	})
}

// TestWhatHoldsAllMessagesBackIsToldOnce switches bus mastering off while a device is watched.
func TestWhatHoldsAllMessagesBackIsToldOnce(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		bound(t, m, m.NVMe)
		ctx, cancel := context.WithCancel(t.Context())
		off := &notifier{func() { poke(t, m, m.NVMe, 4, 0, uint16(pci.CommandBusMaster)); cancel() }}
		r := irqbridgeUntil(ctx, t, m, off, "connect", m.NVMe.String(), "--json")
		assert.Equal(t, 1, r.code)
		assert.Contains(t, r.stderr, fmt.Sprintf("irqbridge: %v: message 0 and 64 more: no interrupt came: bus mastering is off, so the device's messages are lost without a trace\n"+
			"next: sudo setpci -s %v COMMAND=4:4\n", m.NVMe, m.NVMe))
		assert.Equal(t, 1, strings.Count(r.stderr, "\nnext: "))
	})
}

// notifier calls f at the first write.
type notifier struct{ f func() }

func (n *notifier) Write(p []byte) (int, error) {
	if n.f != nil {
		n.f()
		n.f = nil
	}
	return len(p), nil
}

func TestCtrlCStopsInOrder(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
		bound(t, m, m.EDU)
		before := state(t, m, m.EDU)

		// Watching: the summary is printed and the exit is a good one. The first output, with --json, comes when all is
		// connected.
		ctx, cancel := context.WithCancel(context.Background())
		r := irqbridgeUntil(ctx, t, m, &notifier{cancel}, "connect", m.EDU.String(), "--json")
		assert.Zero(t, r.code)
		assert.Contains(t, r.stdout, `"calls": 0`)
		assert.Equal(t, before, state(t, m, m.EDU))

		// Raising: not all was done.
		ctx, cancel = context.WithCancel(context.Background())
		r = irqbridgeUntil(ctx, t, m, &notifier{cancel}, "connect", m.EDU.String(), "--raise", "1000000", "--json")
		assert.Equal(t, 1, r.code)
		assert.Contains(t, r.stderr, "stopped before all was raised")
		assert.Equal(t, before, state(t, m, m.EDU))
	})
}

const eduProfile = `{
  "profile": 1,
  "name": "edu",
  "match": [{"vendor": "0x1234", "device": "0x11e8"}],
  "registers": {
    "STATUS": {"bar": 0, "offset": "0x24", "width": 32},
    "RAISE":  {"bar": 0, "offset": "0x60", "width": 32},
    "ACK":    {"bar": 0, "offset": "0x64", "width": 32}
  },
  "interrupts": [
    {
      "kinds": ["msi"],
      "messages": [
        {
          "message": 0,
          "raise": [{"write": "RAISE", "value": "0x1"}],
          "status": {"register": "STATUS", "mask": "0xffffffff"},
          "acknowledge": [{"write": "ACK", "value": "status"}],
          "disable": [{"write": "ACK", "value": "0xffffffff"}]
        }
      ]
    }
  ]
}
`

// waitForService has the verbs wait so long for each service routine, until the test ends.
func waitForService(t *testing.T, deadline time.Duration) {
	before := serviceDeadline
	serviceDeadline = deadline
	t.Cleanup(func() { serviceDeadline = before })
}

// TestAnInterruptThatDoesNotComeIsExplained breaks a profile of edu in the places that people get wrong.
func TestAnInterruptThatDoesNotComeIsExplained(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		bound(t, m, m.EDU)
		if !m.Real {
			waitForService(t, 300*time.Millisecond)
		}
		for name, c := range map[string]struct{ old, new, want, next string }{
			"raise register":  {`"offset": "0x60"`, `"offset": "0x08"`, "it did not arrive, and the device does not report it either (STATUS reads 0x0, & 0xffffffff is 0x0)", "check the raise steps"},
			"status mask":     {`"mask": "0xffffffff"`, `"mask": "0x2"`, "the service routine ran 1 time and claimed none: the status never said that this interrupt was pending (STATUS reads 0x1, & 0x2 is 0x0)", "check status register and mask"},
			"status all ones": {`"STATUS": {"bar": 0, "offset": "0x24"`, `"STATUS": {"bar": 0, "offset": "0x200"`, "the service routine could not read the device: the status register reads all ones", "check BAR and offset of STATUS"},
		} {
			t.Run(name, func(t *testing.T) {
				require.Contains(t, eduProfile, c.old)
				file := filepath.Join(t.TempDir(), "edu.json")
				require.NoError(t, os.WriteFile(file, []byte(strings.Replace(eduProfile, c.old, c.new, 1)), 0o644))
				r := irqbridge(t, m, "connect", m.EDU.String(), "--profile", file, "--raise", "5")
				assert.Equal(t, 1, r.code)
				assert.Contains(t, r.stderr, "message 0: 0 of 1 raised interrupts were serviced: "+c.want)
				assert.Contains(t, r.stderr, "\nnext: "+c.next)
				assert.Contains(t, r.stdout, "\n1 raised, 0 serviced, ", "it is given up at the first")
			})
		}
	})
}

// wipingProfile is a profile of e1000e whose enable steps write to the MSI-X table, as a reset within a device does: to the
// register %s of message 0's entry, the value %s.
const wipingProfile = `{
  "profile": 1,
  "name": "wiping",
  "match": [{"vendor": "0x8086", "device": "0x10d3"}],
  "registers": {
    "ICR":     {"bar": 0, "offset": "0xc0", "width": 32},
    "ICS":     {"bar": 0, "offset": "0xc8", "width": 32},
    "IMS":     {"bar": 0, "offset": "0xd0", "width": 32},
    "IMC":     {"bar": 0, "offset": "0xd8", "width": 32},
    "IVAR":    {"bar": 0, "offset": "0xe4", "width": 32},
    "ADDRESS": {"bar": 3, "offset": "0x0", "width": 32},
    "CONTROL": {"bar": 3, "offset": "0xc", "width": 32}
  },
  "interrupts": [
    {
      "kinds": ["msix"],
      "enable": [{"write": "IMC", "value": "0xffffffff"}, {"write": "ICR", "value": "0xffffffff"}, {"write": "IVAR", "value": "0x000cba98"}, {"write": "%s", "value": "%s"}],
      "disable": [{"write": "IMC", "value": "0xffffffff"}, {"write": "ICR", "value": "0xffffffff"}],
      "messages": [
        {
          "message": 0,
          "enable": [{"write": "IMS", "value": "0x100000"}],
          "raise": [{"write": "ICS", "value": "0x100000"}],
          "status": {"register": "ICS", "mask": "0x100000"},
          "acknowledge": [{"write": "ICR", "value": "status"}]
        }
      ]
    }
  ]
}
`

// TestAnEntryOfTheMSIXTableThatWasWipedIsFound: what resets the table within the device leaves no trace in configuration space.
func TestAnEntryOfTheMSIXTableThatWasWipedIsFound(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		bound(t, m, m.E1000E)
		if !m.Real {
			waitForService(t, 300*time.Millisecond)
		}
		nic := m.E1000E.String()
		for _, c := range []struct{ register, value, want string }{
			{"CONTROL", "0x1", "it is masked in the MSI-X table (BAR 3 at 0x0): a reset within the device did that, or a write to its BAR"},
			{"ADDRESS", "0x0", "the MSI-X table (BAR 3 at 0x0) has address 0 for it, where no interrupt controller is: a reset within the device did that"},
		} {
			t.Run(c.register, func(t *testing.T) {
				file := filepath.Join(t.TempDir(), "wiping.json")
				require.NoError(t, os.WriteFile(file, fmt.Appendf(nil, wipingProfile, c.register, c.value), 0o644))
				r := irqbridge(t, m, "connect", nic, "--profile", file, "--messages", "1", "--raise", "5")
				assert.Equal(t, 1, r.code)
				assert.Contains(t, r.stderr, "message 0: 0 of 1 raised interrupts were serviced: "+c.want)
				assert.Contains(t, r.stderr, "\nnext: have nothing reset the device once its interrupts are connected, then: irqbridge connect "+nic+"\n")

				// Watching, nobody knows whether one was to come.
				r = irqbridge(t, m, "connect", nic, "--profile", file, "--duration", "100ms")
				assert.Equal(t, 1, r.code)
				assert.Contains(t, r.stderr, "message 0: no interrupt came: "+c.want)
				assert.Equal(t, 1, strings.Count(r.stderr, "no interrupt came"), "the other messages may have had nothing to tell")
			})
		}
		assert.Zero(t, irqbridge(t, m, "connect", nic, "--duration", "100ms").code)
		assert.Zero(t, irqbridge(t, m, "connect", nic, "--raise", "1").code, "the kernel programs the table anew")
	})
}

// TestAFullDiskIsNoSuccess is the check that output is checked.
func TestAFullDiskIsNoSuccess(t *testing.T) {
	m := vfiotest.FakeMachine(t)
	var stderr bytes.Buffer
	code := Main(context.Background(), []string{"list"}, System{Stdout: full{}, Stderr: &stderr, Kernel: m.Kernel})
	assert.Equal(t, 1, code)
	assert.Equal(t, "irqbridge: write standard output: no space left on device\n", stderr.String())
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, unix.ENOSPC }

func TestAFullDiskIsToldBesideOtherProblems(t *testing.T) {
	m := vfiotest.FakeMachine(t)
	var stderr bytes.Buffer
	code := Main(context.Background(), []string{"list"}, System{Stdout: full{}, Stderr: &stderr, Kernel: seenKernel{m.Fake, true}})
	assert.Equal(t, 1, code, "not 3, as without root")
	assert.Contains(t, stderr.String(), "\nirqbridge: write standard output: no space left on device\n")
}

// TestAReaderThatGoesAwayIsNotComplainedOf is `irqbridge … | head -1`: the device is left in order, and nothing is said.
func TestAReaderThatGoesAwayIsNotComplainedOf(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		bound(t, m, m.EDU)
		before := state(t, m, m.EDU)
		reader, writer, err := os.Pipe()
		require.NoError(t, err)
		require.NoError(t, reader.Close())
		defer func() { _ = writer.Close() }()
		for _, args := range [][]string{{"show", m.EDU.String()}, {"connect", m.EDU.String(), "--raise", "1"}, {"connect", m.EDU.String(), "--raise", "1", "--json"}} {
			var stderr bytes.Buffer
			assert.Equal(t, 1, Main(context.Background(), args, System{Stdout: writer, Stderr: &stderr, Kernel: m.Kernel}))
			assert.NotContains(t, stderr.String(), "pipe")
		}
		assert.Equal(t, before, state(t, m, m.EDU))
		assert.True(t, signal.Ignored(unix.SIGPIPE), "standard output and error are killed by it otherwise")
	})
}

func TestSignalsStopInOrder(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		bound(t, m, m.EDU)
		before := state(t, m, m.EDU)
		for _, s := range []unix.Signal{unix.SIGINT, unix.SIGTERM, unix.SIGHUP} {
			if signal.Ignored(s) {
				continue // as below nohup
			}
			kill := &notifier{func() { assert.NoError(t, unix.Kill(os.Getpid(), s)) }}
			r := irqbridgeUntil(context.Background(), t, m, kill, "connect", m.EDU.String(), "--json")
			assert.Zero(t, r.code)
			assert.Contains(t, r.stdout, `"calls": 0`)
			assert.Equal(t, before, state(t, m, m.EDU))
		}
	})
}

func TestSpreadGivesEachMessageOneCPU(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		bound(t, m, m.E1000E)
		r := irqbridge(t, m, "connect", m.E1000E.String(), "--spread", "--raise", "10", "--json")
		require.Zero(t, r.code)
		var got connectJSON
		require.NoError(t, json.Unmarshal([]byte(r.stdout), &got))
		require.Len(t, got.Interrupts, 5)
		cpus := m.CPUs.CPUs()
		for n, i := range got.Interrupts {
			assert.Equal(t, strconv.Itoa(cpus[n%len(cpus)]), i.CPUs)
			assert.EqualValues(t, 10, i.Serviced)
			assert.Zero(t, i.WrongCPU)
		}
	})
}

// withoutAcknowledge is a profile of edu's line that leaves it asserted.
func withoutAcknowledge(t *testing.T) (file string) {
	t.Helper()
	text := strings.Replace(eduProfile, `"kinds": ["msi"]`, `"kinds": ["intx"]`, 1)
	text = strings.Replace(text, `[{"write": "ACK", "value": "status"}]`, `[]`, 1)
	text = strings.Replace(text, ",\n          \"disable\": [{\"write\": \"ACK\", \"value\": \"0xffffffff\"}]", "", 1)
	require.NotContains(t, text, `"write": "ACK"`)
	file = filepath.Join(t.TempDir(), "edu.json")
	require.NoError(t, os.WriteFile(file, []byte(text), 0o644))
	return file
}

// TestALineThatStaysAssertedIsNoSuccess: the kernel signals it again and again, so that each raise finds a service
// routine that runs.
func TestALineThatStaysAssertedIsNoSuccess(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		bound(t, m, m.EDU)
		if !m.Real {
			waitForService(t, 300*time.Millisecond)
		}
		edu, stuck := m.EDU.String(), withoutAcknowledge(t)
		r := irqbridge(t, m, "connect", edu, "--kind", "intx", "--profile", stuck, "--raise", "100")
		assert.Equal(t, 1, r.code)
		assert.Contains(t, r.stderr, "the line is still asserted after service, so that the kernel signals without end")
		assert.Contains(t, r.stderr, "\nnext: check the acknowledge steps in the profile\n")
		assert.Contains(t, r.stdout, "\n1 raised, 1 serviced, ", "it is given up at the first")
		// edu has no reset: its line is asserted still.
		r = irqbridge(t, m, "connect", edu, "--kind", "intx", "--loopback", "--raise", "10")
		assert.Equal(t, 1, r.code)
		assert.Contains(t, r.stderr, "message 0: the device holds its line asserted, so that it cannot be told from the kernel's trigger")
		assert.NotContains(t, r.stdout, "raised, ", "nothing was")
		// The good profile acknowledges it.
		assert.Zero(t, irqbridge(t, m, "connect", edu, "--kind", "intx", "--raise", "1").code)
	})
}

// TestAStormIsToldWithANextStep: a line that nobody claims is left masked, which ends the verb.
func TestAStormIsToldWithANextStep(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		bound(t, m, m.EDU)
		if !m.Real {
			waitForService(t, 300*time.Millisecond)
		}
		text := strings.Replace(eduProfile, `"kinds": ["msi"]`, `"kinds": ["intx"]`, 1)
		text = strings.Replace(text, `"mask": "0xffffffff"`, `"mask": "0x80"`, 1)
		require.Contains(t, text, `"mask": "0x80"`)
		file := filepath.Join(t.TempDir(), "edu.json")
		require.NoError(t, os.WriteFile(file, []byte(text), 0o644))
		edu := m.EDU.String()
		r := irqbridge(t, m, "connect", edu, "--kind", "intx", "--profile", file, "--raise", "10", "--record", file+"l")
		assert.Equal(t, 1, r.code)
		recorded, err := os.ReadFile(file + "l")
		require.NoError(t, err)
		assert.Contains(t, string(recorded), `"event":"storm","message":0,"text":"bug check 0xF2`, "also of a storm that ends the run at once")
		assert.Contains(t, r.stderr, "bug check 0xF2 (HARDWARE_INTERRUPT_STORM): nobody claimed 1000 interrupts of "+edu+" intx 0")
		assert.Contains(t, r.stderr, "the service routine ran 1000 times and claimed none")
		assert.Contains(t, r.stderr, "\nnext: check status register and mask in the profile")
		assert.Zero(t, irqbridge(t, m, "connect", edu, "--kind", "intx", "--raise", "1").code)
	})
}

// twoMessages is a profile of e1000e of which message 0 is raised by a register that does nothing, and message 1 by none.
const twoMessages = `{
  "profile": 1,
  "name": "two",
  "match": [{"vendor": "0x8086", "device": "0x10d3"}],
  "registers": {
    "ICS":  {"bar": 0, "offset": "0xc8", "width": 32},
    "IVAR": {"bar": 0, "offset": "0xe4", "width": 32}
  },
  "interrupts": [
    {
      "kinds": ["msix"],
      "disable": [{"write": "IVAR", "value": "0x00012345"}],
      "messages": [
        {"message": 0, "raise": [{"read": "ICS"}], "status": {"register": "ICS", "mask": "0x100000"}, "acknowledge": []},
        {"message": 1, "status": {"register": "ICS", "mask": "0x200000"}, "acknowledge": []}
      ]
    }
  ]
}
`

func twoMessagesFile(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "two.json")
	require.NoError(t, os.WriteFile(file, []byte(twoMessages), 0o644))
	return file
}

func TestNotServicedOutweighsNotRaised(t *testing.T) {
	waitForService(t, 100*time.Millisecond)
	m := vfiotest.FakeMachine(t)
	m.Bind(t, m.E1000E)
	r := irqbridge(t, m, "connect", m.E1000E.String(), "--profile", twoMessagesFile(t), "--raise", "2")
	assert.Contains(t, r.stderr, "message 1 was not raised: the profile does not say how")
	assert.Contains(t, r.stderr, "message 0: 0 of 1 raised interrupts were serviced")
	assert.Equal(t, 1, r.code)
}

// TestWhatWasNotEnabledIsNotDisabled: a device whose messages could not all be connected was not touched.
func TestWhatWasNotEnabledIsNotDisabled(t *testing.T) {
	m := vfiotest.FakeMachine(t)
	device := m.Open(t, m.E1000E)
	p, err := readProfile(twoMessagesFile(t))
	require.NoError(t, err)
	bar, err := device.BAR(0)
	require.NoError(t, err)

	m.Fake.Fail("DeviceSetIRQs", unix.EIO, 4) // the second message; two calls are of Assign
	_, err = startSession(device, connect.Policy{}, source{profile: p}, func() {})
	require.ErrorIs(t, err, unix.EIO)
	_, _, enabled := device.EnabledIRQs()
	assert.False(t, enabled)
	ivar, err := bar.Read32(0xe4)
	require.NoError(t, err)
	assert.Zero(t, ivar)

	s, err := startSession(device, connect.Policy{}, source{profile: p}, func() {})
	require.NoError(t, err)
	require.NoError(t, s.stop())
	ivar, err = bar.Read32(0xe4)
	require.NoError(t, err)
	assert.EqualValues(t, 0x12345, ivar)
}

func TestADeviceThatVanishesIsToldInLines(t *testing.T) {
	for _, args := range [][]string{{"--kind", "intx", "--duration", "10s"}, {"--kind", "msix", "--raise", "1000000"}} {
		m := vfiotest.FakeMachine(t)
		require.Zero(t, irqbridge(t, m, "bind", m.E1000E.String()).code) // there will be nothing to give back
		ctx, cancel := context.WithCancel(context.Background())
		vanish := &notifier{func() { m.Fake.Remove(m.E1000E); cancel() }}
		r := irqbridgeUntil(ctx, t, m, vanish, append([]string{"connect", m.E1000E.String(), "--json"}, args...)...)
		assert.Equal(t, 1, r.code)
		assert.Contains(t, r.stderr, "register IMC: write 4 bytes at 0xd8 of BAR 0: the device has gone, or lost its power or its link")
		assert.NotContains(t, r.stderr, "message 0: they were", "nothing was raised")
		assert.NotContains(t, r.stderr, "message 0: the status", "the line is not stuck")
		for line := range strings.Lines(r.stderr) {
			assert.Regexp(t, "^(irqbridge|next): ", line)
		}
	}
}

// TestAnErrorKeepsWhatWasGoingOn: the kernel's refusal alone does not say at what.
func TestAnErrorKeepsWhatWasGoingOn(t *testing.T) {
	m := vfiotest.FakeMachine(t)
	m.Bind(t, m.E1000E)
	e1000e := m.E1000E.String()
	m.Fake.Fail("DeviceSetIRQs", unix.EIO, 6) // two calls are of Open and two of Assign
	r := irqbridge(t, m, "connect", e1000e, "--raise", "1")
	assert.Equal(t, 1, r.code)
	assert.Equal(t, "irqbridge: "+e1000e+": connect: STATUS_UNSUCCESSFUL: vector 0x31: enable MSI-X vector 1: input/output error\n", r.stderr)

	// Of two failures both are told, and what was found out before is not lost.
	m.Fake.Fail("DeviceSetIRQs", unix.EIO, 10)
	m.Fake.Fail("DeviceSetIRQs", unix.ENOMEM, 12)
	r = irqbridge(t, m, "connect", e1000e, "--raise", "1")
	assert.Equal(t, 1, r.code)
	assert.Contains(t, r.stdout, "\n5 raised, 5 serviced, ")
	assert.Contains(t, r.stderr, e1000e+" msix 0 (vector 0x30) is disconnected, but the kernel refused: ")
	assert.Contains(t, r.stderr, e1000e+" msix 3 (vector 0x33) is disconnected, but the kernel refused: ")
	assert.Equal(t, 2, strings.Count(r.stderr, "irqbridge: disconnect: "))
}

// TestConnectLetsGoWhenTheHostWantsTheDevice unbinds a device that connect has, as another irqbridge does and as anybody
// with a shell does.
func TestConnectLetsGoWhenTheHostWantsTheDevice(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
		for _, c := range []struct {
			address pci.Address
			args    []string
			stdout  string
		}{
			{m.EDU, []string{"--kind", "msi"}, `"serviced": 0`},
			{m.EDU, []string{"--kind", "intx", "--duration", "1h"}, `"serviced": 0`},
			{m.E1000E, []string{"--raise", "1000000"}, `"serviced": `},
			{m.NVMe, []string{"--loopback", "--raise", "1000000"}, `"serviced": `},
		} {
			bound(t, m, c.address)
			var taken sync.WaitGroup
			take := &notifier{func() {
				taken.Go(func() {
					begin := time.Now()
					assert.Zero(t, irqbridge(t, m, "unbind", c.address.String()).code)
					t.Logf("unbound after %v", time.Since(begin))
				})
			}}
			r := irqbridgeUntil(context.Background(), t, m, take, append([]string{"connect", c.address.String(), "--json"}, c.args...)...)
			taken.Wait()
			assert.Equal(t, 1, r.code)
			assert.Contains(t, r.stderr, fmt.Sprintf("irqbridge: %v: let go: the host wants the device back, because it is being unbound or removed\n", c.address))
			assert.Contains(t, r.stdout, c.stdout, "the counts so far")
			assert.NotContains(t, r.stderr, "were serviced: ", "no interrupt is missed for that")
			assert.NotContains(t, r.stderr, "closed")
			d, err := m.Host.Device(c.address)
			require.NoError(t, err)
			assert.NotEqual(t, "vfio-pci", d.Driver)
		}
	})
}

// TestCausesAreCountedApart raises the causes of one line in turn, on a device whose status is cleared by reading it.
func TestCausesAreCountedApart(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		bound(t, m, m.BridgeE1000)
		r := irqbridge(t, m, "connect", m.BridgeE1000.String(), "--raise", "12", "--json")
		require.Zero(t, r.code)
		var got connectJSON
		require.NoError(t, json.Unmarshal([]byte(r.stdout), &got))
		require.Len(t, got.Interrupts, 1)
		require.Len(t, got.Interrupts[0].Causes, 6)
		for _, c := range got.Interrupts[0].Causes {
			assert.EqualValues(t, 2, c.Raised, c.Name)
			assert.GreaterOrEqual(t, c.Seen, c.Raised, c.Name)
		}
	})
}

// TestWhatNoRegisterRaisesIsSaid: an NVMe controller interrupts for completions only.
func TestWhatNoRegisterRaisesIsSaid(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		bound(t, m, m.NVMe)
		nvme := m.NVMe.String()
		r := irqbridge(t, m, "connect", nvme, "--raise", "1")
		assert.Equal(t, 4, r.code)
		assert.Contains(t, r.stderr, "profile nvme tells of no interrupt that can be raised: an NVMe controller interrupts when ")
		assert.Contains(t, r.stderr, "\nnext: irqbridge connect "+nvme+" --loopback --raise 1\n")
		assert.Zero(t, irqbridge(t, m, "connect", nvme, "--loopback", "--raise", "1", "--messages", "2").code)
	})
}
