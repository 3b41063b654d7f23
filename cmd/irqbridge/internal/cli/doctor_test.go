package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/irqbridge/irqbridge/pci"
	"github.com/irqbridge/irqbridge/vfio"
	"github.com/irqbridge/irqbridge/vfio/host"
	"github.com/irqbridge/irqbridge/vfio/vfiotest"
)

// What this test binary does in place of its tests when it is run by one of them.
const (
	childCommand = "IRQBRIDGE_TEST_COMMAND" // a command line of the program, on the running kernel
	childWaits   = "IRQBRIDGE_TEST_WAITS"   // nothing, until its input ends
)

// asChild is for TestMain.
func asChild() {
	if args := os.Getenv(childCommand); args != "" {
		os.Exit(Main(context.Background(), strings.Fields(args), System{Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr}))
	}
	if os.Getenv(childWaits) != "" {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}
}

// The ten set-ups that a bring-up program meets, and the test in which each is broken on a real kernel, too, and in which
// doctor has to name its cause first (scripts/test --all runs all ten on both of Debian's kernels):
//
//	no IOMMU                        TestWithoutIOMMU, in a machine of its own
//	no interrupt remapping          TestDoctorWithoutRemapping, in a machine of its own
//	a module is missing             TestDoctorMissesModules
//	a node is closed to the user    TestDoctorAsAnotherUser
//	the group is not viable         TestDoctorNamesTheBlockerOfAGroup
//	bus master off                  TestDoctorReadsTheHardware
//	the device is in D3             TestDoctorReadsTheHardware
//	memory decoding off             TestDoctorReadsTheHardware
//	more messages than vectors      TestMoreMessagesThanVectors, in a machine of its own
//	irqbalance, a moved interrupt   TestDoctorSeesIRQBalance, TestDoctorFindsAMovedInterrupt

// told is a check as doctor --json prints it.
type told struct{ ID, Status, Cause, Next string }

// tells reads the output of doctor --json.
func tells(t *testing.T, r result) []told {
	t.Helper()
	var got struct {
		Schema int
		Checks []told
	}
	require.NoError(t, json.Unmarshal([]byte(r.stdout), &got))
	assert.Equal(t, 1, got.Schema)
	require.NotEmpty(t, got.Checks)
	return got.Checks
}

// leads asserts what stands first in what doctor says, and the exit status that goes with it.
func leads(t *testing.T, m *vfiotest.Machine, a pci.Address, id, status, cause, next string) {
	t.Helper()
	r := irqbridge(t, m, "doctor", "--json", a.String())
	leadsIn(t, r, id, status, cause, next)
	assert.Empty(t, r.stderr)
	text := irqbridge(t, m, "doctor", a.String())
	assert.Equal(t, r.code, text.code)
	assert.LessOrEqual(t, strings.Count(text.stdout, "\n"), 40, "it fits on a screen")
}

func leadsIn(t *testing.T, r result, id, status, cause, next string) {
	t.Helper()
	first := tells(t, r)[0]
	assert.Equal(t, id, first.ID)
	assert.Equal(t, status, first.Status)
	assert.Contains(t, first.Cause, cause)
	assert.Contains(t, first.Next, next)
	assert.Equal(t, map[string]int{"ok": 0, "warn": 0, "unknown": 3, "fail": 1}[status], r.code)
}

// connected opens a device and has the first n interrupts of an index go to eventfds.
func connected(t *testing.T, m *vfiotest.Machine, a pci.Address, index vfio.IRQIndex, n int) *vfio.Device {
	t.Helper()
	device := m.Open(t, a)
	fds := make([]int, n)
	for i := range fds {
		fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
		require.NoError(t, err)
		t.Cleanup(func() { _ = unix.Close(fd) })
		fds[i] = fd
	}
	require.NoError(t, device.EnableIRQs(index, 0, fds))
	return device
}

// poke writes to a device's configuration space behind the kernel's back, as setpci does, and undoes that at the end of the
// test.
func poke(t *testing.T, m *vfiotest.Machine, a pci.Address, off int, set, clear uint16) {
	t.Helper()
	write := func(p []byte) {
		t.Helper()
		if m.Fake != nil {
			require.True(t, m.Fake.WriteConfig(a, off, p))
			return
		}
		f, err := os.OpenFile("/sys/bus/pci/devices/"+a.String()+"/config", os.O_WRONLY, 0)
		require.NoError(t, err)
		_, err = f.WriteAt(p, int64(off))
		require.NoError(t, err)
		require.NoError(t, f.Close())
	}
	config, err := m.Host.Config(a)
	require.NoError(t, err)
	before := config[off : off+2]
	value := (uint16(before[0])|uint16(before[1])<<8)&^clear | set
	write([]byte{byte(value), byte(value >> 8)})
	t.Cleanup(func() { write(before) })
}

// capability is where a capability of a device begins.
func capability(t *testing.T, m *vfiotest.Machine, a pci.Address, id pci.CapabilityID) int {
	t.Helper()
	config, err := m.Host.Config(a)
	require.NoError(t, err)
	f, err := pci.Decode(config)
	require.NoError(t, err)
	for _, c := range f.Capabilities {
		if c.ID == id {
			return c.Offset
		}
	}
	require.FailNow(t, "no such capability")
	return 0
}

func TestDoctorPassesWhatWorks(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		r := irqbridge(t, m, "doctor", "-v")
		assert.Zero(t, r.code)
		leads(t, m, m.EDU2, "driver", "fail", "the device has no driver, and wants a VFIO driver", "sudo irqbridge bind "+m.EDU2.String())
		leads(t, m, m.E1000E, "driver", "fail", "the device is bound to e1000e", "sudo irqbridge bind "+m.E1000E.String())
		bound(t, m, m.EDU2)
		leads(t, m, m.EDU2, "device", "ok", "1234:11e8 answers", "")
		for index, n := range map[vfio.IRQIndex]int{vfio.INTx: 1, vfio.MSI: 1, vfio.MSIX: 5} {
			t.Run(index.String(), func(t *testing.T) {
				device := connected(t, m, m.E1000E, index, n)
				leads(t, m, m.E1000E, "device", "ok", "8086:10d3 answers", "")
				all := tells(t, irqbridge(t, m, "doctor", "--json", m.E1000E.String()))
				assert.Contains(t, all, told{"vectors", "ok", fmt.Sprintf("%d of 5 are connected", n), ""})
				live, vectors, enabled := device.EnabledIRQs()
				assert.True(t, enabled && live == index && vectors == n, "doctor leaves its user alone")
			})
		}
	})
}

// TestDoctorReadsTheHardware breaks registers of a device that is at work.
func TestDoctorReadsTheHardware(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		const command = 4
		nic := m.E1000E.String()
		for name, c := range map[string]struct {
			index                   vfio.IRQIndex
			off                     func(t *testing.T) int
			set, clear              uint16
			id, status, cause, next string
		}{
			"bus master off": {
				vfio.MSIX, nil, 0, uint16(pci.CommandBusMaster),
				"bus-master", "fail", "bus mastering is off, so the device's messages are lost without a trace", "sudo setpci -s " + nic + " COMMAND=4:4",
			},
			"memory disabled": {
				vfio.MSIX, nil, 0, uint16(pci.CommandMemory),
				"memory", "fail", "memory decoding is off, so register writes do not reach the device", "sudo setpci -s " + nic + " COMMAND=2:2",
			},
			"memory and bus master off": {
				vfio.MSI, nil, 0, uint16(pci.CommandMemory | pci.CommandBusMaster),
				"memory", "fail", "memory decoding is off", "sudo setpci -s " + nic + " COMMAND=2:2",
			},
			"in D3": {
				vfio.MSIX, func(t *testing.T) int { t.Helper(); return capability(t, m, m.E1000E, pci.CapPowerManagement) + 4 }, 3, 0,
				"power", "fail", "the device is in D3hot, where it neither answers at its BARs nor interrupts", "sudo setpci -s " + nic + " CAP_PM+4.W=0:3",
			},
			"MSI-X off": {
				vfio.MSIX, func(t *testing.T) int { t.Helper(); return capability(t, m, m.E1000E, pci.CapMSIX) + 2 }, 0, 0x8000,
				"enabled", "fail", "MSI-X is off in the device's capability, while the host has it on", "start its program anew",
			},
			"MSI-X masked": {
				vfio.MSIX, func(t *testing.T) int { t.Helper(); return capability(t, m, m.E1000E, pci.CapMSIX) + 2 }, 0x4000, 0,
				"masked", "fail", "all messages are masked in the MSI-X capability", "sudo setpci -s " + nic + " CAP_MSIX+2.W=0:4000",
			},
			"MSI off": {
				vfio.MSI, func(t *testing.T) int { t.Helper(); return capability(t, m, m.E1000E, pci.CapMSI) + 2 }, 0, 1,
				"enabled", "fail", "MSI is off in the device's capability, while the host has it on", "start its program anew",
			},
			"bus master off, which a line does not need": {
				vfio.INTx, nil, 0, uint16(pci.CommandBusMaster), "device", "ok", "", "",
			},
			"line switched off": {
				vfio.INTx, nil, uint16(pci.CommandINTxDisable), 0,
				"line", "fail", "the line is switched off in COMMAND, and the device does not assert it", "acknowledge the device and then unmask the line",
			},
		} {
			t.Run(name, func(t *testing.T) {
				connected(t, m, m.E1000E, c.index, 1)
				off := command
				if c.off != nil {
					off = c.off(t)
				}
				poke(t, m, m.E1000E, off, c.set, c.clear)
				leads(t, m, m.E1000E, c.id, c.status, c.cause, c.next)
			})
		}
	})
}

// TestDoctorOnADeviceAtRest: what opening sets right is not in the way.
func TestDoctorOnADeviceAtRest(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		bound(t, m, m.E1000E)
		poke(t, m, m.E1000E, 4, 0, uint16(pci.CommandMemory|pci.CommandBusMaster))
		poke(t, m, m.E1000E, capability(t, m, m.E1000E, pci.CapPowerManagement)+4, 3, 0)
		leads(t, m, m.E1000E, "device", "ok", "8086:10d3 answers", "")
		assert.Zero(t, irqbridge(t, m, "connect", m.E1000E.String(), "--raise", "1").code)
	})
}

// TestDoctorKnowsAStuckLine: the kernel masks a line at each interrupt, and its user has to unmask it.
func TestDoctorKnowsAStuckLine(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		device := connected(t, m, m.EDU, vfio.INTx, 1)
		bar, err := device.BAR(0)
		require.NoError(t, err)
		require.NoError(t, bar.Write32(0x60, 1))
		t.Cleanup(func() { require.NoError(t, bar.Write32(0x64, 1)) })
		leads(t, m, m.EDU, "line", "fail", "its program has not unmasked it", "acknowledge the device and then unmask the line")
	})
}

func TestDoctorNamesWhoHasTheDeviceForNothing(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		m.Open(t, m.EDU)
		leads(t, m, m.EDU, "user", "fail", fmt.Sprintf("process %d (", os.Getpid()), "irqbridge connect "+m.EDU.String())
	})
}

func TestDoctorNamesTheBlockerOfAGroup(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		leads(t, m, m.BridgeEDU, "group", "fail", "apart from "+m.BridgeE1000.String()+", bound to e1000", "sudo irqbridge bind "+m.BridgeE1000.String())
		bound(t, m, m.BridgeEDU)
		leads(t, m, m.BridgeEDU, "group", "fail", "apart from "+m.BridgeE1000.String()+", bound to e1000", "sudo irqbridge bind "+m.BridgeE1000.String())
		bound(t, m, m.BridgeE1000)
		leads(t, m, m.BridgeEDU, "device", "ok", "", "")
	})
}

// TestDoctorLooksAtBridges takes bus mastering from the bridge above a device that is at work, and gives it back.
func TestDoctorLooksAtBridges(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		bound(t, m, m.BridgeE1000)
		connected(t, m, m.BridgeEDU, vfio.MSI, 1)
		leads(t, m, m.BridgeEDU, "device", "ok", "", "")
		bridge := m.Bridge.String()
		t.Run("bus master", func(t *testing.T) {
			poke(t, m, m.Bridge, 4, 0, uint16(pci.CommandBusMaster))
			leads(t, m, m.BridgeEDU, "bridge-bus-master", "fail", "the bridge "+bridge+" above the device has no bus mastering", "sudo setpci -s "+bridge+" COMMAND=4:4")
		})
		t.Run("memory", func(t *testing.T) {
			poke(t, m, m.Bridge, 4, 0, uint16(pci.CommandMemory))
			leads(t, m, m.BridgeEDU, "bridge-memory", "fail", "the bridge "+bridge+" above the device has no memory decoding", "sudo setpci -s "+bridge+" COMMAND=2:2")
		})
		if m.Real {
			return // QEMU's bridge has a PMCSR, but no power state other than D0 can be written to it
		}
		t.Run("D3", func(t *testing.T) {
			poke(t, m, m.Bridge, capability(t, m, m.Bridge, pci.CapPowerManagement)+4, 3, 0)
			leads(t, m, m.BridgeEDU, "bridge-power", "fail", "the bridge "+bridge+" above the device is in D3hot", "sudo setpci -s "+bridge+" CAP_PM+4.W=0:3")
		})
	})
}

// TestDoctorFindsAMovedInterrupt moves an interrupt of a running connect to another CPU than it was given.
func TestDoctorFindsAMovedInterrupt(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		if m.CPUs.Len() < 2 {
			t.Skip("there is one CPU only")
		}
		bound(t, m, m.E1000E)
		given, other := m.CPUs.CPUs()[0], m.CPUs.CPUs()[1]
		ctx, cancel := context.WithCancel(t.Context())
		looked := false
		look := &notifier{func() {
			defer cancel()
			leads(t, m, m.E1000E, "device", "ok", "", "")
			irq, err := m.Host.FindIRQ(m.E1000E, pci.KindMSIX, 1)
			require.NoError(t, err)
			require.NoError(t, m.Host.SetAffinity(irq.Number, host.CPUSetOf(other)))
			leads(t, m, m.E1000E, "affinity", "warn",
				fmt.Sprintf("MSI-X message 1 (host IRQ %d) is delivered on CPU %d, and the threads that serve it are pinned to CPU %d", irq.Number, other, given),
				fmt.Sprintf("echo %d | sudo tee /proc/irq/%d/smp_affinity_list", given, irq.Number))
			looked = true
		}}
		assert.Zero(t, irqbridgeUntil(ctx, t, m, look, "connect", m.E1000E.String(), "--cpus", strconv.Itoa(given), "--json").code)
		assert.True(t, looked)
	})
}

func TestDoctorSeesIRQBalance(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		bound(t, m, m.EDU)
		pid := 712
		if m.Real {
			pid = waiting(t, "irqbalance")
		}
		leads(t, m, m.EDU, "irqbalance", "warn", fmt.Sprintf("irqbalance (process %d) may move interrupts", pid), "sudo systemctl stop irqbalance")
	}, vfiotest.WithProcess(712, "irqbalance"))
}

// waiting runs a process of this name until the end of the test, and returns its ID.
func waiting(t *testing.T, name string) int {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	file := filepath.Join(t.TempDir(), name)
	require.NoError(t, os.Symlink(self, file))
	cmd := exec.Command(file)
	cmd.Env = append(os.Environ(), childWaits+"=1")
	stdin, err := cmd.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start()) // which returns after exec
	t.Cleanup(func() {
		require.NoError(t, stdin.Close())
		require.NoError(t, cmd.Wait())
	})
	return cmd.Process.Pid
}

// TestDoctorAsAnotherUser: root has bound the device, and a user without privileges wants it.
func TestDoctorAsAnotherUser(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		bound(t, m, m.EDU)
		run := func(args ...string) result { return irqbridge(t, m, args...) }
		if m.Real {
			run = func(args ...string) result { return asUser(t, 1000, args...) }
		}
		d, err := m.Host.Device(m.EDU)
		require.NoError(t, err)
		nodes := vfio.Nodes(m.Host, d, vfio.BackendFor(m.Host, d))
		node, next := nodes[1], "sudo irqbridge bind --user $USER "+m.EDU.String()
		if m.Real && m.Host.HasIOMMUFD() {
			node = nodes[0] // /dev/iommu is closed, too, and no bind opens it
			next = "sudo chown $USER " + node
		}
		leadsIn(t, run("doctor", "--json", m.EDU.String()), "nodes", "fail", node+" is closed to this user: the node is for root alone (root:root 06", next)
		r := run("connect", m.EDU.String())
		assert.Equal(t, 1, r.code)
		assert.Contains(t, r.stderr, "the node is for root alone (root:root 06")
		assert.Contains(t, r.stderr, "sudo irqbridge bind --user $USER "+m.EDU.String())
		if m.Real && !m.Host.HasIOMMUFD() {
			require.Zero(t, irqbridge(t, m, "bind", "--user", "1000", m.EDU.String()).code)
			leadsIn(t, run("doctor", "--json", m.EDU.String()), "device", "unknown", "only 64 bytes of configuration space", "sudo irqbridge doctor")
		}
	}, vfiotest.NodeMode(unix.EACCES))
}

// asUser runs a command line in a process of another user.
func asUser(t *testing.T, id uint32, args ...string) result {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), childCommand+"="+strings.Join(args, " "))
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: id, Gid: id}}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); cmd.ProcessState == nil {
		require.NoError(t, err)
	}
	r := result{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
	t.Logf("$ irqbridge %s\n%s%s[exit %d]", strings.Join(args, " "), r.stdout, r.stderr, r.code)
	return r
}

// TestDoctorMissesModules unloads modules. The virtual machine has its modules in a directory, in the order of loading.
func TestDoctorMissesModules(t *testing.T) {
	for module, want := range map[string]told{
		"vfio_pci":         {"modules", "fail", "the module vfio_pci is not loaded, so that there is no driver vfio-pci", "sudo modprobe vfio-pci"},
		"vfio_iommu_type1": {"modules", "fail", "the module vfio_iommu_type1 is not loaded, without which no group can be opened", "sudo modprobe vfio_iommu_type1"},
	} {
		t.Run(module, func(t *testing.T) {
			vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
				if m.Host.HasIOMMUFD() {
					t.Skip("this kernel has iommufd, and VFIO built in")
				}
				if m.Real {
					unload(t, module)
				}
				leads(t, m, m.EDU, want.ID, want.Status, want.Cause, want.Next)
				r := irqbridge(t, m, "doctor", "--json")
				leadsIn(t, r, want.ID, want.Status, want.Cause, want.Next)
			}, vfiotest.WithoutModule(module))
		})
	}
}

// unload takes a module out of the running kernel until the end of the test.
func unload(t *testing.T, module string) {
	t.Helper()
	files, err := filepath.Glob("/vm/modules/*-" + strings.ReplaceAll(module, "_", "?") + ".ko")
	require.NoError(t, err)
	require.Len(t, files, 1)
	image, err := os.ReadFile(files[0])
	require.NoError(t, err)
	require.NoError(t, unix.DeleteModule(module, unix.O_NONBLOCK))
	t.Cleanup(func() { require.NoError(t, unix.InitModule(image, "")) })
}

// TestDoctorWithoutRemapping runs in a virtual machine only when that has none (IRQBRIDGE_VM_APPEND=intremap=off).
func TestDoctorWithoutRemapping(t *testing.T) {
	const cause = "the platform does not remap interrupts, so a device could send any vector of the host: the kernel was booted with intremap=off"
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		if m.Real {
			if m.Host.InterruptRemapping() == host.RemappingOn {
				t.Skip("this machine remaps interrupts")
			}
			for _, name := range []string{"/sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts", "/sys/module/iommufd/parameters/allow_unsafe_interrupts"} {
				before, err := os.ReadFile(name)
				if err != nil {
					continue // this kernel has no such module
				}
				require.NoError(t, os.WriteFile(name, []byte("N"), 0))
				t.Cleanup(func() { require.NoError(t, os.WriteFile(name, before, 0)) })
			}
		}
		bound(t, m, m.EDU)
		leads(t, m, m.EDU, "remapping", "fail", "VFIO hands out no device: "+cause, "boot")
		r := irqbridge(t, m, "connect", m.EDU.String())
		assert.Equal(t, 4, r.code)
		assert.Contains(t, r.stderr, cause)
	}, vfiotest.WithoutInterruptRemapping(), vfiotest.BootedWith("intremap=off"))
}

// TestMoreMessagesThanVectors is of a device with 2048 messages: whether the host has the vectors is a matter of its CPUs.
func TestMoreMessagesThanVectors(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		if _, err := m.Host.Device(m.Vectors); err != nil {
			t.Skip("this machine has not the device (IRQBRIDGE_VM_DEVICES=more)")
		}
		bound(t, m, m.Vectors)
		if m.CPUs.Len() >= 12 {
			leads(t, m, m.Vectors, "device", "ok", "", "")
			return
		}
		leads(t, m, m.Vectors, "vectors", "fail", fmt.Sprintf("the device offers 2048 messages, and the %d CPUs have about ", m.CPUs.Len()),
			"irqbridge connect "+m.Vectors.String()+" --messages ")
		next := tells(t, irqbridge(t, m, "doctor", "--json", m.Vectors.String()))[0].Next
		r := irqbridge(t, m, append(strings.Fields(next)[1:], "--loopback", "--raise", "1")...)
		assert.Zero(t, r.code, "what is to be typed next works")
		assert.NotContains(t, r.stderr, "fewer interrupts")
	}, vfiotest.MoreDevices())
}

func TestDoctorOnADeviceThatHasGone(t *testing.T) {
	m := vfiotest.FakeMachine(t)
	require.Zero(t, irqbridge(t, m, "bind", m.E1000E.String()).code) // there will be nothing to give back
	device, err := vfio.Open(m.E1000E, m.Options()...)
	require.NoError(t, err)
	device.OnRequest(func() {}) // it stays open
	m.Fake.Remove(m.E1000E)
	leads(t, m, m.E1000E, "device", "fail", "its configuration space reads all ones", "/remove /sys/bus/pci/rescan")
	require.NoError(t, device.Close())
}

func TestDoctorIsColouredOnATerminalOnly(t *testing.T) {
	t.Setenv("TERM", "xterm")
	t.Setenv("NO_COLOR", "")
	screen := func() string {
		other, terminal := openTerminal(t)
		m := vfiotest.FakeMachine(t)
		code := Main(context.Background(), []string{"doctor", m.EDU.String()}, System{Stdout: terminal, Stderr: io.Discard, Kernel: m.Kernel})
		assert.Equal(t, 1, code)
		require.NoError(t, terminal.Close())
		var text bytes.Buffer
		_, err := text.ReadFrom(other)
		require.ErrorIs(t, err, unix.EIO, "the terminal's end")
		return text.String()
	}
	assert.Regexp(t, `(?m)^\x1b\[31mFAIL\x1b\[0m  driver `, screen())
	t.Setenv("NO_COLOR", "1")
	assert.NotContains(t, screen(), "\x1b")
	t.Setenv("NO_COLOR", "")
	t.Setenv("TERM", "dumb")
	assert.NotContains(t, screen(), "\x1b")
}
