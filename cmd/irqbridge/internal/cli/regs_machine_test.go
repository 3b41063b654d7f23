package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/irqbridge/irqbridge/pci"
	"github.com/irqbridge/irqbridge/vfio/vfiotest"
)

// readRegisters reads registers through the program, by name.
func readRegisters(t *testing.T, m *vfiotest.Machine, address pci.Address, names ...string) map[string]registerJSON {
	t.Helper()
	r := irqbridge(t, m, append([]string{"regs", "read", address.String(), "--json"}, names...)...)
	require.Zero(t, r.code)
	var got registersJSON
	require.NoError(t, json.Unmarshal([]byte(r.stdout), &got))
	require.Len(t, got.Registers, len(names))
	byName := map[string]registerJSON{}
	for i, name := range names {
		byName[name] = got.Registers[i]
	}
	return byName
}

// TestRegistersReadAsTheDevicesHaveThem reads values that are known, from the devices of the embedded profiles.
func TestRegistersReadAsTheDevicesHaveThem(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		bound(t, m, m.EDU)
		bound(t, m, m.E1000E)
		bound(t, m, m.NVMe)
		bound(t, m, m.BridgeE1000)
		assert.Equal(t, "0x010000ed", readRegisters(t, m, m.EDU, "ID")["ID"].Value)
		assert.Equal(t, "0x010000ed", readRegisters(t, m, m.EDU, "bar0+0x0")["bar0+0x0"].Value)
		config := irqbridge(t, m, "regs", "read", m.EDU.String(), "config+0x2", "--width", "16")
		assert.Equal(t, "config+0x2  0x11e8\n", config.stdout)

		nvme := readRegisters(t, m, m.NVMe, "VS", "VS.MNR", "CAP", "CAP.CQR", "CSTS.RDY", "INTMS")
		assert.Equal(t, "0x00010400", nvme["VS"].Value)
		assert.Equal(t, "0x4", nvme["VS.MNR"].Field.Value)
		assert.Equal(t, 64, nvme["CAP"].Width)
		assert.Equal(t, "0x1", nvme["CAP.CQR"].Field.Value)
		assert.Equal(t, "0x0", nvme["CSTS.RDY"].Field.Value)

		for _, a := range []pci.Address{m.E1000E, m.BridgeE1000} {
			nic := readRegisters(t, m, a, "STATUS", "STATUS.FD", "STATUS.LU", "STATUS.SPEED")
			assert.Equal(t, "0x1", nic["STATUS.FD"].Field.Value, "%v %s", a, nic["STATUS"].Value)
			assert.Equal(t, "0x2", nic["STATUS.SPEED"].Field.Value)
			assert.Equal(t, "1000 Mb/s", nic["STATUS.SPEED"].Field.Meaning)
		}
		assert.Equal(t, "0x80080783", readRegisters(t, m, m.BridgeE1000, "STATUS")["STATUS"].Value)

		for _, a := range []pci.Address{m.EDU, m.E1000E, m.NVMe, m.BridgeE1000} {
			r := irqbridge(t, m, "regs", "dump", a.String())
			assert.Zero(t, r.code)
			assert.Contains(t, r.stderr, "not read without --force, being ")
			assert.NotContains(t, r.stderr, "ones")
		}
	})
}

// TestWhatIsWrittenIsThereUntilAReset: edu has no reset, so that opening and closing it changes nothing.
func TestWhatIsWrittenIsThereUntilAReset(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		bound(t, m, m.EDU)
		bound(t, m, m.NVMe)
		edu, nvme := m.EDU.String(), m.NVMe.String()
		r := irqbridge(t, m, "regs", "write", edu, "LIVENESS=0x12345678")
		require.Zero(t, r.code)
		assert.Empty(t, r.stderr)
		assert.Equal(t, "0xedcba987", readRegisters(t, m, m.EDU, "LIVENESS")["LIVENESS"].Value, "the inverse")
		r = irqbridge(t, m, "regs", "write", edu, "LIVENESS=1", "--dry-run")
		assert.Equal(t, "+ write LIVENESS, bar0+0x4, 32 bits: 0x00000001; it reads 0xedcba987\n", r.stdout)
		assert.Equal(t, "0xedcba987", readRegisters(t, m, m.EDU, "LIVENESS")["LIVENESS"].Value)

		r = irqbridge(t, m, "regs", "write", nvme, "CC.IOSQES=6", "INTMS=1")
		require.Zero(t, r.code)
		assert.Equal(t, "CC.IOSQES  bar0+0x14  0x00000000 -> 0x00060000, read and written back\nINTMS  bar0+0xc  <- 0x00000001\n", r.stdout)
		assert.Contains(t, r.stderr, "the kernel resets the device (flr) when it is opened and closed: what was written may be gone")
		after := readRegisters(t, m, m.NVMe, "CC", "INTMS")
		assert.Equal(t, "0x00000000", after["CC"].Value)
		assert.Equal(t, "0x00000000", after["INTMS"].Value)
	})
}

func TestAScriptRunsInOneOpen(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
		bound(t, m, m.EDU)
		bound(t, m, m.NVMe)
		script := filepath.Join(t.TempDir(), "script")
		require.NoError(t, os.WriteFile(script, []byte("write AQA.ASQS=31\nwrite AQA.ACQS=15 # the other half\nread AQA\npoll CSTS.RDY=0\nwrite INTMS 3\nwrite INTMC=1\nread INTMS\n"), 0o644))
		r := irqbridge(t, m, "regs", "run", m.NVMe.String(), script)
		require.Zero(t, r.code)
		assert.Contains(t, r.stdout, "AQA  bar0+0x24  0x000f001f: ACQS=0xf ASQS=0x1f\n")
		assert.Contains(t, r.stdout, "INTMS  bar0+0xc  0x00000002\n")

		// The device takes its time for this one.
		require.NoError(t, os.WriteFile(script, []byte("write FACTORIAL 5\npoll CONTROL.COMPUTING=0 --timeout 10s\nread FACTORIAL\n"), 0o644))
		r = irqbridge(t, m, "regs", "run", m.EDU.String(), script)
		require.Zero(t, r.code)
		assert.Contains(t, r.stdout, "FACTORIAL  bar0+0x8  0x00000078\n")
	})
}

func TestWhatVFIOKeepsToItselfIsRefused(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		bound(t, m, m.NVMe)
		nvme := m.NVMe.String()
		config, err := m.Host.Config(m.NVMe)
		require.NoError(t, err)
		f, err := pci.Decode(config)
		require.NoError(t, err)
		at := func(id pci.CapabilityID, off int) string {
			for _, c := range f.Capabilities {
				if c.ID == id {
					return fmt.Sprintf("config+0x%x", c.Offset+off)
				}
			}
			t.Fatalf("no capability %v", id)
			return ""
		}
		for _, c := range []struct{ place, value, width, want string }{
			{"config+0x4", "0", "16", "it switches memory decoding off"},
			{"config+0x10", "0", "32", "VFIO keeps the BARs to itself"},
			{"config+0x30", "0", "32", "VFIO keeps the expansion ROM's address to itself"},
			{"config+0x3c", "5", "8", "VFIO keeps the interrupt line to itself"},
			{"config+0x8", "0", "32", "VFIO drops writes to this part of the header"},
			{at(pci.CapPowerManagement, 4), "3", "16", "it puts the device to sleep, in power state D3"},
			{at(pci.CapMSIX, 2), "0xc000", "16", "VFIO drops writes to the MSI-X capability"},
			{at(pci.CapPCIExpress, 8), "0x8000", "16", "it resets the function"},
			{fmt.Sprintf("bar%d+0x%x", f.MSIX.Table.BAR, f.MSIX.Table.Offset+16), "0", "32", "it is in the MSI-X table, which the kernel programs"},
		} {
			r := irqbridge(t, m, "regs", "write", nvme, c.place, c.value, "--width", c.width)
			assert.Equal(t, 1, r.code)
			assert.Contains(t, r.stderr, c.want)
			assert.Contains(t, r.stderr, "\nnext: add --force if that is meant\n")
			assert.Empty(t, r.stdout)
		}
		// What does no harm goes through, and what VFIO drops is told.
		r := irqbridge(t, m, "regs", "write", nvme, at(pci.CapPowerManagement, 4), "0", "--width", "16")
		assert.Zero(t, r.code)
		r = irqbridge(t, m, "regs", "write", nvme, at(pci.CapMSIX, 2), "0xc000", "--width", "16", "--force")
		assert.Zero(t, r.code)
		assert.Contains(t, r.stderr, " reads 0x0040 after 0xc000 was written: the device or VFIO keeps some of its bits\n")
	})
}

func TestADeviceThatIsOpenElsewhereIsNotTaken(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		m.Open(t, m.EDU)
		for _, args := range [][]string{{"read", m.EDU.String(), "ID"}, {"write", m.EDU.String(), "LIVENESS=1", "--force"}, {"dump", m.EDU.String()}} {
			r := irqbridge(t, m, append([]string{"regs"}, args...)...)
			assert.Equal(t, 1, r.code)
			assert.Contains(t, r.stderr, " is open ")
			assert.Contains(t, r.stderr, "\nnext: ")
		}
	})
}

// waiter calls f when the text has been written.
type waiter struct {
	text string
	f    func()
	seen bytes.Buffer
}

func (w *waiter) Write(p []byte) (int, error) {
	w.seen.Write(p)
	if w.f != nil && strings.Contains(w.seen.String(), w.text) {
		w.f()
		w.f = nil
	}
	return len(p), nil
}

// TestWatchSeesAChange changes a register from outside while it is watched, and then ends by Ctrl-C.
func TestWatchSeesAChange(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		bound(t, m, m.EDU)
		// The line that the device drives shows in its status; what root writes through sysfs, in the cache line size.
		register, width, want := "config+0x6", "16", "0x0010 -> 0x0018\n"
		change := func() { m.Fake.SetLine(m.EDU, true) }
		if m.Real {
			register, width, want = "config+0xc", "8", "0x00 -> 0x10\n"
			change = func() { writeConfig(t, m.EDU, 0xc, 0x10) }
			t.Cleanup(func() { writeConfig(t, m.EDU, 0xc, 0) })
		}
		ctx, cancel := context.WithCancel(context.Background())
		end := &waiter{text: want, f: cancel}
		begin := &waiter{text: register + "  0x", f: change}
		r := irqbridgeUntil(ctx, t, m, both{begin, end}, "regs", "watch", m.EDU.String(), register, "--interval", "1ms", "--width", width, "--duration", "30s")
		assert.Zero(t, r.code)
		assert.Contains(t, r.stdout, want)
		assert.Equal(t, 2, strings.Count(r.stdout, "\n"), "no line without a change")
	})
}

// writeConfig writes a byte of configuration space behind the back of who has the device open, as root may.
func writeConfig(t *testing.T, a pci.Address, offset int64, v byte) {
	t.Helper()
	f, err := os.OpenFile(fmt.Sprintf("/sys/bus/pci/devices/%v/config", a), os.O_WRONLY, 0)
	if assert.NoError(t, err) {
		defer f.Close()
		_, err = f.WriteAt([]byte{v}, offset)
		assert.NoError(t, err)
	}
}

type both [2]interface{ Write([]byte) (int, error) }

func (b both) Write(p []byte) (int, error) {
	for _, w := range b {
		_, _ = w.Write(p)
	}
	return len(p), nil
}

// TestWatchLetsGoWhenTheHostWantsTheDevice unbinds a device that is watched.
func TestWatchLetsGoWhenTheHostWantsTheDevice(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
		bound(t, m, m.EDU)
		var taken sync.WaitGroup
		take := &waiter{text: "ID  0x", f: func() {
			taken.Go(func() { assert.Zero(t, irqbridge(t, m, "unbind", m.EDU.String()).code) })
		}}
		begin := time.Now()
		r := irqbridgeUntil(context.Background(), t, m, take, "regs", "watch", m.EDU.String(), "ID", "--interval", "1ms", "--duration", "1m")
		taken.Wait()
		assert.Equal(t, 1, r.code)
		assert.Contains(t, r.stderr, "the host wants the device back")
		assert.Less(t, time.Since(begin), 30*time.Second)
	})
}

// TestWatchIsInPlaceOnATerminal looks at what is drawn.
func TestWatchIsInPlaceOnATerminal(t *testing.T) {
	other, terminal := openTerminal(t)
	require.NoError(t, unix.IoctlSetWinsize(int(terminal.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: 60}))
	m := vfiotest.FakeMachine(t)
	m.Bind(t, m.EDU)
	ctx, cancel := context.WithCancel(context.Background())
	screen := make(chan string)
	go func() {
		var seen bytes.Buffer
		p := make([]byte, 4096)
		for {
			n, err := other.Read(p)
			before := seen.Len()
			seen.Write(p[:n])
			if before == 0 && n > 0 {
				m.Fake.SetLine(m.EDU, true)
			}
			if strings.Contains(seen.String(), "0x00180103") {
				cancel()
			}
			if err != nil {
				screen <- seen.String()
				return
			}
		}
	}()
	var stderr bytes.Buffer
	code := Main(ctx, []string{"regs", "watch", m.EDU.String(), "config+0x4", "ID", "--interval", "1ms"},
		System{Stdin: strings.NewReader(""), Stdout: terminal, Stderr: &stderr, Kernel: m.Kernel})
	require.Zero(t, code)
	require.NoError(t, terminal.Close())
	seen := <-screen
	assert.Regexp(t, `^\x1b\[KREGISTER  ADDRESS     VALUE       CHANGES  LAST  FIELDS\r\n\x1b\[K-         config\+0x4  0x00100103        0     -\r\n`, seen)
	assert.Contains(t, seen, "\x1b[3A\x1b[KREGISTER", "over the three lines before")
	assert.Regexp(t, `config\+0x4  0x00180103        1  0\.\d{3}s\r\n`, seen)
	assert.Contains(t, seen, "ID        bar0+0x0    0x010000ed        0     -  MAJOR=0x1 \r\n", "cut at the edge")
}

// FuzzLineOfAScript: nothing that stands in a script panics, and what is taken can be done and told.
func FuzzLineOfAScript(f *testing.F) {
	k := vfiotest.NewKernel()
	f.Cleanup(k.Shutdown)
	a := &app{host: k.Host()}
	edu, err := a.readRegisters(pci.Address{Device: 4}, "")
	require.NoError(f, err)
	e1000e, err := a.readRegisters(pci.Address{Device: 5}, "")
	require.NoError(f, err)
	for _, line := range []string{
		"read ID", "read bar0+0x8 --width 8", "write CTRL.SPEED=1 bar0+0x4 5", "poll STATUS 1 --mask 0x1 --timeout 1s --interval 1ms", "sleep 10ms",
		"write config+0x3c=0x1 --width 8", "write config+0x4 0", "read bar0+0xffffffffffffffff", "write bar3+0x0=1",
	} {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, line string) {
		words := strings.Fields(line)
		if len(words) == 0 {
			return
		}
		for _, r := range []*registers{edu, e1000e} {
			list, err := r.line(words)
			if err != nil {
				require.NotContains(t, err.Error(), "\n")
				continue
			}
			require.NotEmpty(t, list)
			for _, o := range list {
				require.NotEmpty(t, o.String())
				_ = r.objection(o)
				if o.verb != "sleep" {
					require.Zero(t, o.value&^o.target.mask(), "bits outside of the target")
					require.Zero(t, o.target.offset%o.target.bytes())
				}
			}
		}
	})
}

// TestARangeHasABound: a BAR of many GiB does not fill the memory.
func TestARangeHasABound(t *testing.T) {
	r := &registers{decoded: &pci.Function{}, sized: true}
	r.sizes.BARs[0] = 1 << 36
	s, err := r.span("bar0+0x0..0x400000", 32)
	require.NoError(t, err)
	assert.Equal(t, maxSpan, s.count)
	_, err = r.span("bar0+0x0..0x1000000000", 32)
	require.ErrorContains(t, err, "it has 17179869184 registers, and 1048576 at most are read at once")
	assert.Equal(t, exitUsage, exitCode(err))
}
