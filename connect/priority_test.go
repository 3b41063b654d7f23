package connect

import (
	"bytes"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/irqbridge/irqbridge/vfio/host"
)

// without runs f on a thread of its own that lacks a capability.
func without(t *testing.T, capability uint, f func()) {
	t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var data [2]unix.CapUserData
		err := unix.Capget(&header, &data[0])
		if err == nil {
			data[0].Effective &^= 1 << capability
			data[0].Permitted &^= 1 << capability
			err = unix.Capset(&header, &data[0])
		}
		if err == nil {
			f()
		}
		done <- err
	}()
	require.NoError(t, <-done)
}

// limited sets a limit of the process until the end of the test.
func limited(t *testing.T, resource int, limit uint64) {
	t.Helper()
	var old unix.Rlimit
	require.NoError(t, unix.Getrlimit(resource, &old))
	require.NoError(t, unix.Setrlimit(resource, &unix.Rlimit{Cur: min(limit, old.Max), Max: old.Max}))
	t.Cleanup(func() { assert.NoError(t, unix.Setrlimit(resource, &old)) })
}

func TestPriorityNeedsPermission(t *testing.T) {
	limited(t, unix.RLIMIT_RTPRIO, 0)
	without(t, unix.CAP_SYS_NICE, func() {
		err := setPriority(7)
		assert.ErrorIs(t, err, unix.EPERM)
		assert.ErrorContains(t, err, "priority 7")
		assert.ErrorContains(t, err, "CAP_SYS_NICE")
	})
}

// A thread that cannot get its priority is not started, and nothing of it is left.
func TestDispatcherWithoutPriority(t *testing.T) {
	_, err := startDispatcher(host.New("/"), host.CPUSetOf(0), Dispatch{Priority: 100})
	require.ErrorIs(t, err, unix.EINVAL)
	require.ErrorContains(t, err, "priority 100")
	assert.Zero(t, keepers.Load())
}

func TestLockMemoryNeedsPermission(t *testing.T) {
	limited(t, unix.RLIMIT_MEMLOCK, 1<<16)
	without(t, unix.CAP_IPC_LOCK, func() {
		err := LockMemory()
		assert.ErrorIs(t, err, unix.EPERM)
		assert.ErrorContains(t, err, "65536 bytes")
		assert.ErrorContains(t, err, "CAP_IPC_LOCK")
	})
}

// It is for the whole process, so another one does it.
func TestLockMemory(t *testing.T) {
	const variable = "IRQBRIDGE_TEST_LOCK_MEMORY"
	if os.Getenv(variable) != "" {
		if err := LockMemory(); err != nil {
			_, _ = os.Stdout.WriteString(err.Error())
			os.Exit(0)
		}
		status, err := os.ReadFile("/proc/self/status")
		require.NoError(t, err)
		_, _ = os.Stdout.Write(status)
		os.Exit(0)
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestLockMemory$")
	cmd.Env = append(os.Environ(), variable+"=1")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, string(out))
	may, err := hasIPCLock()
	require.NoError(t, err)
	var limit unix.Rlimit
	require.NoError(t, unix.Getrlimit(unix.RLIMIT_MEMLOCK, &limit))
	if !may && limit.Cur != unix.RLIM_INFINITY {
		assert.Contains(t, string(out), "CAP_IPC_LOCK")
		return
	}
	_, rest, ok := bytes.Cut(out, []byte("VmLck:"))
	require.True(t, ok, string(out))
	kilobytes, err := strconv.Atoi(string(bytes.Fields(rest)[0]))
	require.NoError(t, err)
	assert.Positive(t, kilobytes)
}
