package cli

import (
	"encoding/json"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/irqbridge/irqbridge/vfio/host"
	"github.com/irqbridge/irqbridge/vfio/vfiotest"
)

// countingKernel counts how often /proc/interrupts is read.
type countingKernel struct {
	*vfiotest.Kernel
	reads *atomic.Int64
}

func (k countingKernel) Host() *host.Host { return host.NewOn(countingOS(k)) }

type countingOS countingKernel

func (o countingOS) ReadFile(name string) ([]byte, error) {
	if name == "/proc/interrupts" {
		o.reads.Add(1)
	}
	return o.Kernel.ReadFile(name)
}

// TestTheHostIsAskedOnceForAllInterrupts: /proc/interrupts has megabytes on a large host. Each connection reads it once, to move the
// host's interrupt to the CPUs that serve it.
func TestTheHostIsAskedOnceForAllInterrupts(t *testing.T) {
	m := vfiotest.FakeMachine(t)
	m.Bind(t, m.NVMe)
	reads := new(atomic.Int64)
	m.Kernel = countingKernel{m.Fake, reads}
	got := fromJSON[connectJSON](t, m, 0, "connect", m.NVMe.String(), "--loopback", "--raise", "1", "--record", filepath.Join(t.TempDir(), "run.jsonl"))
	require.Len(t, got.Interrupts, 65)
	for _, i := range got.Interrupts {
		assert.NotNil(t, i.HostIRQ)
		assert.NotEmpty(t, i.EffectiveAffinity)
	}
	assert.Less(t, reads.Load(), int64(65+20), "some for all, not some for each")
}

// TestThreadsHavePsOfTheirOwn: also where there is one P, the threads that serve interrupts keep one and need not tell that there is
// none for them; afterwards all is as before.
func TestThreadsHavePsOfTheirOwn(t *testing.T) {
	m := vfiotest.FakeMachine(t)
	m.Bind(t, m.E1000E)
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	for _, wait := range []string{"block", "hybrid", "poll"} {
		r := irqbridge(t, m, "latency", m.E1000E.String(), "--wait", wait, "-l", "20", "-i", "0", "--json")
		require.Zero(t, r.code)
		assert.NotContains(t, r.stderr, "GOMAXPROCS")
		var got latencyJSON
		require.NoError(t, json.Unmarshal([]byte(r.stdout), &got))
		assert.Equal(t, wait, got.Wait)
		assert.Equal(t, 1, runtime.GOMAXPROCS(0))
	}
}
