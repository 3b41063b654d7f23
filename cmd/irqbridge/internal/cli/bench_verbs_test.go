package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/irqbridge/irqbridge/pci"
	"github.com/irqbridge/irqbridge/vfio"
	"github.com/irqbridge/irqbridge/vfio/vfiotest"
)

// fromJSON runs a command line and reads what it printed.
func fromJSON[T any](t *testing.T, m *vfiotest.Machine, code int, args ...string) T {
	t.Helper()
	r := irqbridge(t, m, append(args, "--json")...)
	require.Equal(t, code, r.code)
	var got T
	require.NoError(t, json.Unmarshal([]byte(r.stdout), &got))
	return got
}

func TestTriggerTellsOfEachInterrupt(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
		cpu := m.CPUs.CPUs()[0]
		for _, c := range []struct {
			address   pci.Address
			args      []string
			message   int
			delivered bool
		}{
			{m.EDU, []string{"--kind", "intx"}, 0, true},
			{m.EDU, []string{"--kind", "msi"}, 0, true},
			{m.E1000E, []string{"--message", "3"}, 3, true},
			{m.NVMe, []string{"--message", "64", "--loopback"}, 64, false},
		} {
			t.Run(fmt.Sprint(c.address, c.args), func(t *testing.T) {
				bound(t, m, c.address)
				before := state(t, m, c.address)
				got := fromJSON[triggerJSON](t, m, 0, append([]string{"trigger", c.address.String(), "--count", "3", "--cpus", strconv.Itoa(cpu)}, c.args...)...)
				require.Len(t, got.Triggered, 3)
				delivered := uint64(0)
				for i, each := range got.Triggered {
					assert.Equal(t, c.message, each.Message)
					assert.EqualValues(t, i+1, each.Number)
					assert.True(t, each.Serviced)
					require.NotNil(t, each.Nanoseconds)
					assert.Positive(t, *each.Nanoseconds)
					assert.Less(t, *each.Nanoseconds, serviceDeadline.Nanoseconds())
					require.NotNil(t, each.CPU)
					assert.Equal(t, cpu, *each.CPU)
					assert.Empty(t, each.AlsoRan)
					delivered += each.Delivered[strconv.Itoa(cpu)]
				}
				if c.delivered {
					assert.GreaterOrEqual(t, delivered, uint64(3))
				} else {
					assert.Zero(t, delivered)
				}
				for _, i := range got.Interrupts {
					raised := uint64(0)
					if i.Message == c.message {
						raised = 3
					}
					assert.Equal(t, raised, i.Raised)
				}
				if c.address != m.NVMe { // whose bus mastering the firmware left on, and VFIO does not
					assert.Equal(t, before, state(t, m, c.address), "the device is left as it was")
				}
			})
		}
	})
}

// TestALetGoOutweighsWhatWasNotPossible by the exit status: the kernel's mask of this line cannot be seen, and then the host wants the
// device back.
func TestALetGoOutweighsWhatWasNotPossible(t *testing.T) {
	m := vfiotest.FakeMachine(t, vfiotest.WithoutINTxMask())
	m.Bind(t, m.EDU)
	var unbinding sync.WaitGroup
	seen := &lineWatcher{f: func(line string) {
		if strings.HasPrefix(line, "raise ") {
			unbinding.Go(func() { assert.Zero(t, irqbridge(t, m, "unbind", m.EDU.String()).code) })
		}
	}}
	r := irqbridgeUntil(t.Context(), t, m, seen, "mask", m.EDU.String())
	unbinding.Wait()
	assert.Contains(t, r.stdout, "mask    not possible  ")
	assert.Contains(t, r.stderr, ": let go: the host wants the device back")
	assert.Equal(t, exitFailed, r.code)
}

// TestAMaskedLineIsSilent is about what the hardware has: the verbs say ok only when COMMAND and STATUS showed it.
func TestAMaskedLineIsSilent(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		for _, address := range []pci.Address{m.EDU, m.E1000E} {
			bound(t, m, address)
			for verb, steps := range map[string][]string{"mask": {"mask", "raise", "hold", "unmask"}, "unmask": {"mask", "raise", "unmask"}} {
				args := []string{verb, address.String()}
				if verb == "mask" {
					args = append(args, "--duration", "50ms")
				}
				got := fromJSON[struct {
					Steps []struct{ Step, Result, Seen string }
				}](t, m, 0, args...)
				require.Len(t, got.Steps, len(steps))
				for i, step := range steps {
					assert.Equal(t, step, got.Steps[i].Step)
					assert.Equal(t, "pass", got.Steps[i].Result, got.Steps[i].Seen)
				}
				assert.Contains(t, got.Steps[len(steps)-1].Seen, "what was pending arrived ")
			}
		}
	})
}

func TestReset(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		bound(t, m, m.NVMe)
		r := irqbridge(t, m, "reset", m.NVMe.String())
		assert.Zero(t, r.code)
		assert.Contains(t, r.stdout, m.NVMe.String()+": reset alone in ")
		assert.Contains(t, r.stdout, "; it answers, and its configuration space ")

		bound(t, m, m.BridgeEDU)
		r = irqbridge(t, m, "reset", "--hot", m.BridgeEDU.String())
		assert.Equal(t, 1, r.code, "the host has the other one")
		bound(t, m, m.BridgeE1000)
		r = irqbridge(t, m, "reset", "--hot", m.BridgeEDU.String())
		assert.Zero(t, r.code)
		for _, address := range []pci.Address{m.BridgeEDU, m.BridgeE1000} {
			assert.Contains(t, r.stdout, "\n"+address.String()+"      6  vfio-pci  ")
		}
		assert.Contains(t, r.stdout, m.BridgeEDU.String()+": hot reset, of 2 functions in ")
		for line := range strings.Lines(r.stderr) {
			assert.Regexp(t, "^(irqbridge|next): ", line)
		}
	})
}

// TestResetLeavesADeviceToItsUser: what a program has open is not reset by another, whose dry run says so, too.
func TestResetLeavesADeviceToItsUser(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		bound(t, m, m.BridgeE1000)
		connected(t, m, m.BridgeEDU, vfio.MSI, 1)
		connected(t, m, m.NVMe, vfio.MSIX, 1)
		edu, nvme, holder := m.BridgeEDU.String(), m.NVMe.String(), fmt.Sprintf("process %d (", os.Getpid())
		before := state(t, m, m.BridgeEDU) + state(t, m, m.NVMe)
		for _, c := range []struct{ args, want string }{
			{nvme, " is open in " + holder},
			{nvme + " --dry-run", nvme + ": reset would fail: its IOMMU group is open in " + holder},
			{edu, " is open in " + holder},
			{edu + " --hot", " is open in " + holder},
			{edu + " --hot --dry-run", fmt.Sprintf("open in another process: %v, %v\n", m.BridgeEDU, m.BridgeE1000)},
		} {
			r := irqbridge(t, m, append([]string{"reset"}, strings.Fields(c.args)...)...)
			assert.Equal(t, 1, r.code)
			assert.Contains(t, r.stderr, c.want)
			assert.Contains(t, r.stderr, "\nnext: ")
			assert.Equal(t, before, state(t, m, m.BridgeEDU)+state(t, m, m.NVMe), "their messages are enabled as before")
		}
		assert.Contains(t, irqbridge(t, m, "reset", "--hot", "--dry-run", edu).stdout, "  vfio-pci  end "+holder)
	})
}

// TestSelftestProvesEachStepByItself: where there is a profile all is proved, for each message on its CPU; where there is
// none the loopback is, and the rest said to be open.
func TestSelftestProvesEachStepByItself(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
		type tests struct {
			Messages []struct {
				Kind               string
				Message            int
				Loopback, Delivery struct{ Result, Seen, Unproved string }
				Affinity           struct {
					Result, Seen, Unproved, Wanted, Set, Effective string
					Delivered, RanOn                               map[string]uint64
				}
			}
			Passed, Failed, Skipped int
		}
		cpus := m.CPUs.CPUs()
		for address, messages := range map[pci.Address]int{m.EDU: 2, m.E1000E: 7} {
			bound(t, m, address)
			before := state(t, m, address)
			got := fromJSON[tests](t, m, 0, "selftest", address.String())
			require.Len(t, got.Messages, messages)
			assert.Equal(t, []int{3 * messages, 0, 0}, []int{got.Passed, got.Failed, got.Skipped})
			for _, each := range got.Messages {
				cpu := cpus[len(cpus)-1]
				if each.Kind == "msix" {
					cpu = cpus[each.Message%len(cpus)]
				}
				on := strconv.Itoa(cpu)
				assert.Equal(t, []string{on, on, on}, []string{each.Affinity.Wanted, each.Affinity.Set, each.Affinity.Effective})
				assert.GreaterOrEqual(t, each.Affinity.Delivered[on], uint64(9), "the first may go elsewhere")
				assert.GreaterOrEqual(t, each.Affinity.RanOn[on], uint64(10))
				assert.Len(t, each.Affinity.RanOn, 1)
			}
			assert.Equal(t, before, state(t, m, address), "the device is left as it was")
		}
		bound(t, m, m.NVMe)
		got := fromJSON[tests](t, m, 3, "selftest", m.NVMe.String(), "--kind", "msix")
		require.Len(t, got.Messages, 65)
		assert.Equal(t, []int{65, 0, 130}, []int{got.Passed, got.Failed, got.Skipped})
		for _, each := range got.Messages {
			assert.Equal(t, "10 of 10 serviced", each.Loopback.Seen)
			assert.NotEmpty(t, each.Delivery.Unproved)
			assert.NotEmpty(t, each.Affinity.Unproved)
			assert.Equal(t, map[string]uint64{strconv.Itoa(cpus[each.Message%len(cpus)]): 10}, each.Affinity.RanOn)
		}
	})
}

func TestASelftestThatIsStoppedIsNoSuccess(t *testing.T) {
	m := vfiotest.FakeMachine(t)
	m.Bind(t, m.EDU)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r := irqbridgeUntil(ctx, t, m, io.Discard, "selftest", m.EDU.String())
	assert.Equal(t, 1, r.code)
	assert.Contains(t, r.stdout, "\n0 ok, 0 failed, 6 not possible\n")
	assert.Contains(t, r.stderr, ": loopback not possible: stopped before it was raised")
}
