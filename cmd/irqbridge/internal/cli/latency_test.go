package cli

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/irqbridge/irqbridge/pci"
	"github.com/irqbridge/irqbridge/vfio/vfiotest"
)

func TestTimesAreReadAsCyclictestDoes(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"": 0, "30": 30 * time.Second, "10m": 10 * time.Minute, "2h": 2 * time.Hour, "1d": 24 * time.Hour, "1.5s": 1500 * time.Millisecond,
	} {
		got, err := parseTime(text)
		require.NoError(t, err, text)
		assert.Equal(t, want, got, text)
	}
	for _, text := range []string{"0", "0d", "-1", "-1s", "d", "4294967295d", "99999999999", "soon"} {
		_, err := parseTime(text)
		assert.Error(t, err, text)
	}
}

func TestQuartersMeetWithoutGaps(t *testing.T) {
	for d := range time.Duration(5000) {
		from, to := quarter(d)
		require.True(t, from <= d && d < to, "%d is in [%d, %d)", d, from, to)
		next, _ := quarter(to)
		require.Equal(t, to, next)
	}
}

// TestLatencyCountsEachInterrupt: as many as were asked for, and the histogram and the overflow add up to them.
func TestLatencyCountsEachInterrupt(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		for _, c := range []struct {
			address  pci.Address
			args     string
			messages int
		}{
			{m.EDU, "--kind intx", 1},
			{m.EDU, "--kind msi --wait hybrid", 1},
			{m.E1000E, "--wait cooperative", 5},
			{m.E1000E, "--wait poll", 5},
			{m.EDU, "--kind intx --wait poll", 1},
			{m.NVMe, "--loopback --messages 4", 4},
		} {
			t.Run(fmt.Sprint(c.address, c.args), func(t *testing.T) {
				bound(t, m, c.address)
				got := fromJSON[latencyJSON](t, m, 0, append([]string{"latency", c.address.String(), "-l", "20", "-i", "100", "-h", "50"}, strings.Fields(c.args)...)...)
				require.Len(t, got.Messages, c.messages)
				for _, each := range got.Messages {
					assert.EqualValues(t, 20, each.Cycles)
					sum := each.Overflows
					for _, n := range each.Histogram {
						sum += n
					}
					assert.EqualValues(t, 20, sum)
					assert.Positive(t, each.MinNS)
					assert.LessOrEqual(t, each.MinNS, each.P50NS)
					assert.LessOrEqual(t, each.P50NS, each.MaxNS)
				}
			})
		}
	})
}

// held tells whether memory of this process is locked, and whether one of its threads is SCHED_FIFO with a priority.
func held(t *testing.T, priority int) (memory, thread bool) {
	t.Helper()
	status, err := os.ReadFile("/proc/self/status")
	require.NoError(t, err)
	_, locked, ok := bytes.Cut(status, []byte("VmLck:"))
	require.True(t, ok)
	threads, err := filepath.Glob("/proc/self/task/*/stat")
	require.NoError(t, err)
	for _, file := range threads {
		stat, err := os.ReadFile(file)
		if err != nil {
			continue // it has ended
		}
		fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+2:]) // from the third, see proc_pid_stat(5)
		thread = thread || string(fields[40-3]) == fmt.Sprint(priority) && string(fields[41-3]) == "1"
	}
	return !bytes.HasPrefix(bytes.TrimLeft(locked, " \t"), []byte("0 kB")), thread
}

// TestLatencyLocksMemoryAndHasAPriority while it measures, and no longer.
func TestLatencyLocksMemoryAndHasAPriority(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		bound(t, m, m.E1000E)
		const priority = 42
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		var memory, thread bool
		var watcher sync.WaitGroup
		watcher.Go(func() {
			defer cancel()
			for ctx.Err() == nil && (!memory || !thread) {
				memory, thread = held(t, priority)
			}
		})
		r := irqbridgeUntil(ctx, t, m, new(bytes.Buffer), "latency", m.E1000E.String(), "-m", "-p", fmt.Sprint(priority), "--json")
		cancel()
		watcher.Wait()
		if !m.Real && r.code == exitFailed { // a user without the right to do so
			assert.Regexp(t, `CAP_IPC_LOCK|CAP_SYS_NICE`, r.stderr)
			return
		}
		assert.Zero(t, r.code)
		assert.True(t, memory, "locked")
		assert.True(t, thread, "SCHED_FIFO")
		assert.Contains(t, r.stdout, `"priority": 42,`)
		memory, thread = held(t, priority)
		assert.False(t, memory || thread)
	})
}

// TestWhatGoesWithAWayToWaitIsToldOnce: by interrupts that all have it in common.
func TestWhatGoesWithAWayToWaitIsToldOnce(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		bound(t, m, m.E1000E)
		cpus := m.CPUs.CPUs()
		r := irqbridge(t, m, "latency", m.E1000E.String(), "--wait", "poll", "-p", "1", "-a", fmt.Sprint(cpus[len(cpus)-1]), "-l", "3", "-i", "0")
		if !m.Real && r.code == exitFailed {
			assert.Contains(t, r.stderr, `CAP_SYS_NICE`)
			return
		}
		assert.Zero(t, r.code)
		assert.Equal(t, 1, strings.Count(r.stderr, "message 0: polling with SCHED_FIFO leaves others 50 ms of each second on CPUs "))
		assert.Equal(t, 1, strings.Count(r.stderr, "polling with"))
	})
}
