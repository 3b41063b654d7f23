package host

import (
	"io/fs"
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func TestAffinity(t *testing.T) {
	tr := newTree(t)
	tr.file("/proc/irq/27/smp_affinity_list", "0-1\n")
	tr.file("/proc/irq/27/effective_affinity_list", "1\n")
	h := tr.host()
	a, err := h.Affinity(27)
	require.NoError(t, err)
	assert.Equal(t, Affinity{Set: CPUSetOf(0, 1), Effective: CPUSetOf(1)}, a)

	tr.file("/proc/irq/27/effective_affinity_list", "\n")
	a, err = h.Affinity(27)
	require.NoError(t, err)
	assert.True(t, a.Effective.Empty(), "not started up yet")

	require.NoError(t, os.Remove(tr.root+"/proc/irq/27/effective_affinity_list"))
	a, err = h.Affinity(27)
	require.NoError(t, err)
	assert.Equal(t, Affinity{Set: CPUSetOf(0, 1)}, a, "a kernel that does not tell")

	_, err = h.Affinity(28)
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.ErrorContains(t, err, "IRQ 28: read smp_affinity_list")

	tr.file("/proc/irq/27/smp_affinity_list", "all of them\n")
	_, err = h.Affinity(27)
	require.ErrorContains(t, err, "is not a CPU number")
}

func TestSetAffinity(t *testing.T) {
	tr := newTree(t)
	tr.file("/proc/irq/27/smp_affinity_list", "0-1\n")
	require.NoError(t, tr.host().SetAffinity(27, CPUSetOf(1)))
	b, err := os.ReadFile(tr.root + "/proc/irq/27/smp_affinity_list")
	require.NoError(t, err)
	assert.Equal(t, "1\n", string(b))
}

func TestSetAffinityErrors(t *testing.T) {
	for _, c := range []struct {
		errno error
		cpus  CPUSet
		want  string
	}{
		{unix.EINVAL, CPUSetOf(5, 6), "IRQ 27: set its affinity to CPU 5-6: invalid argument: CPU 5-6 is not online; online are 0-1"},
		{unix.EINVAL, CPUSetOf(1), "the interrupt controller takes none of these CPUs"},
		{unix.ERANGE, CPUSetOf(4096), "CPU 4096 is not online; online are 0-1"},
		{unix.EOVERFLOW, CPUSetOf(4096), "CPU 4096 is not online; online are 0-1"},
		{unix.EIO, CPUSetOf(1), "its affinity is managed"},
		{unix.EPERM, CPUSetOf(1), "its affinity is managed"},
		{unix.EACCES, CPUSetOf(1), "only root may write it; run with sudo"},
		{unix.EROFS, CPUSetOf(1), "mounted read-only"},
		{unix.ENOSPC, CPUSetOf(1), "no interrupt vector left"},
		{unix.EBUSY, CPUSetOf(1), "not finished"},
		{unix.ENOENT, CPUSetOf(1), "there is no such IRQ"},
		{unix.ENOMEM, CPUSetOf(1), "IRQ 27: set its affinity to CPU 1: cannot allocate memory"},
	} {
		k := newDriverCore(t)
		k.faults["/proc/irq/27/smp_affinity_list"] = c.errno
		err := k.host().SetAffinity(27, c.cpus)
		require.ErrorIs(t, err, c.errno)
		require.ErrorContains(t, err, c.want)
	}
	err := newTree(t).host().SetAffinity(27, CPUSet{})
	require.ErrorIs(t, err, unix.EINVAL)
	require.ErrorContains(t, err, "the set of CPUs is empty")
}

func TestSetAffinityWithoutOnlineList(t *testing.T) {
	k := newDriverCore(t)
	require.NoError(t, os.Remove(k.root+"/sys/devices/system/cpu/online"))
	k.faults["/proc/irq/27/smp_affinity_list"] = unix.EINVAL
	require.ErrorContains(t, k.host().SetAffinity(27, CPUSetOf(9)), "name an online CPU")
}

// cpuless is an OS whose kernel lets no thread be pinned.
type cpuless struct {
	OS
	err error
}

func (c cpuless) SetThreadAffinity(CPUSet) error { return c.err }

func TestPinThreadNamesTheCPUs(t *testing.T) {
	tr := newTree(t)
	h := NewOn(cpuless{newLocal(tr.root), unix.EINVAL})
	err := h.PinThread(CPUSetOf(2, 3))
	require.ErrorIs(t, err, unix.EINVAL)
	require.EqualError(t, err, "CPUs 2-3: pin the thread: invalid argument: none of these is online and in this process's cpuset; online: 0-1")

	tr.file("/proc/self/cgroup", "12:memory:/x\n0::/batch.slice\n")
	tr.file("/sys/fs/cgroup/batch.slice/cpuset.cpus.effective", "1\n")
	err = h.PinThread(CPUSetOf(0))
	require.EqualError(t, err, "CPU 0: pin the thread: invalid argument: none of these is online and in this process's cpuset; online: 0-1, cpuset /batch.slice: 1")

	err = h.PinThread(CPUSet{})
	require.EqualError(t, err, "pin the thread: invalid argument: the set of CPUs is empty; online: 0-1, cpuset /batch.slice: 1")

	require.NoError(t, os.Remove(tr.root+"/sys/devices/system/cpu/online"))
	require.ErrorContains(t, h.PinThread(CPUSetOf(0)), "could not be read")

	err = NewOn(cpuless{newLocal(tr.root), unix.EPERM}).PinThread(CPUSetOf(0))
	require.ErrorIs(t, err, fs.ErrPermission)
}

func TestIRQBalance(t *testing.T) {
	tr := newTree(t)
	tr.file("/proc/1/comm", "init\n")
	tr.file("/proc/mounts", "")
	tr.dir("/proc/4") // it just ended
	assert.Zero(t, tr.host().IRQBalance())
	tr.file("/proc/712/comm", "irqbalance\n")
	assert.Equal(t, 712, tr.host().IRQBalance())
}

func TestNodeCPUs(t *testing.T) {
	tr := newTree(t)
	tr.file("/sys/devices/system/node/node1/cpulist", "2-3,8\n")
	tr.file("/sys/devices/system/node/node2/cpulist", "\n")
	cpus, err := tr.host().NodeCPUs(1)
	require.NoError(t, err)
	assert.Equal(t, CPUSetOf(2, 3, 8), cpus)
	cpus, err = tr.host().NodeCPUs(2)
	require.NoError(t, err)
	assert.True(t, cpus.Empty(), "it has memory only")
	_, err = tr.host().NodeCPUs(3)
	assert.ErrorIs(t, err, fs.ErrNotExist)
}

func TestThreadCPUs(t *testing.T) {
	tr := newTree(t)
	assert.Empty(t, tr.host().ThreadCPUs(42))
	tr.file("/proc/42/task/42/status", "Name:\ta\nCpus_allowed:\t3\nCpus_allowed_list:\t0-1\n")
	tr.file("/proc/42/task/43/status", "Name:\ta\nCpus_allowed:\t2\nCpus_allowed_list:\t1\n")
	tr.file("/proc/42/task/44/status", "ended")
	assert.Equal(t, []CPUSet{CPUSetOf(0, 1), CPUSetOf(1)}, tr.host().ThreadCPUs(42))
}

func TestIsolatedCPUs(t *testing.T) {
	tr := newTree(t)
	assert.True(t, tr.host().IsolatedCPUs().Empty())
	tr.file("/sys/devices/system/cpu/isolated", "\n")
	assert.True(t, tr.host().IsolatedCPUs().Empty())
	tr.file("/sys/devices/system/cpu/isolated", "2-3\n")
	assert.Equal(t, CPUSetOf(2, 3), tr.host().IsolatedCPUs())
}
