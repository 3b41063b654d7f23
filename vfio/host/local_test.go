package host

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func TestLinksStayBelowTheRoot(t *testing.T) {
	tr := newTree(t)
	outside := filepath.Join(t.TempDir(), "secret")
	require.NoError(t, os.WriteFile(outside, []byte("outside"), 0o600))
	tr.file("/sys/inside", "inside")
	tr.file("/deep/er/inside", "deeper")
	require.NoError(t, os.Symlink("/sys/inside", tr.root+"/absolute"))
	require.NoError(t, os.Symlink("/sys/inside", tr.root+"/deep/er/absolute"))
	require.NoError(t, os.Symlink("../../../../../../../../sys/inside", tr.root+"/dots"))
	require.NoError(t, os.Symlink(outside, tr.root+"/escape"))
	require.NoError(t, os.Symlink("loop", tr.root+"/loop"))
	require.NoError(t, os.Symlink("deep/../deep/./er//", tr.root+"/dir"))
	o := newLocal(tr.root + "/")

	for name, want := range map[string]string{
		"/absolute": "inside", "/deep/er/absolute": "inside", "/dots": "inside", "/dir/inside": "deeper",
		"/../../sys/inside": "inside", "//sys//inside": "inside",
	} {
		b, err := o.ReadFile(name)
		require.NoError(t, err, name)
		assert.Equal(t, want, string(b), name)
	}
	_, err := o.ReadFile("/escape")
	require.ErrorIs(t, err, fs.ErrNotExist, "the target is looked for below the root")
	_, err = o.ReadFile("/loop")
	require.ErrorIs(t, err, unix.ELOOP)
	_, err = o.ReadDir("/loop")
	require.ErrorIs(t, err, unix.ELOOP)
	assert.False(t, o.Exists("/loop"))
	assert.False(t, o.Exists("/escape"))
	assert.True(t, o.Exists("/dots"))
	assert.True(t, o.Exists("/"))

	require.NoError(t, o.WriteFile("/absolute", []byte("new")))
	b, err := os.ReadFile(tr.root + "/sys/inside")
	require.NoError(t, err)
	assert.Equal(t, "new", string(b), "a shorter value leaves nothing of the old one")

	target, err := o.Readlink("/dots")
	require.NoError(t, err)
	assert.Equal(t, "../../../../../../../../sys/inside", target, "as it is stored")
	_, err = o.Readlink("/sys/inside")
	require.ErrorIs(t, err, unix.EINVAL)

	require.NoError(t, o.SaveFile("/escape", []byte("x"), 0o644))
	b, err = os.ReadFile(outside)
	require.NoError(t, err)
	assert.Equal(t, "outside", string(b))
}

func TestReadAndWriteErrors(t *testing.T) {
	tr := newTree(t)
	tr.file("/sys/attribute", "1\n")
	o := newLocal(tr.root)

	_, err := o.ReadFile("/sys/missing")
	require.ErrorIs(t, err, fs.ErrNotExist)
	assert.Contains(t, err.Error(), "/sys/missing")
	_, err = o.ReadFile("/sys")
	require.ErrorIs(t, err, unix.EISDIR)
	require.ErrorIs(t, o.WriteFile("/sys/missing", []byte("1")), fs.ErrNotExist)
	assert.NoFileExists(t, tr.root+"/sys/missing", "an attribute is never created")
	_, err = o.ReadDir("/sys/attribute")
	require.ErrorIs(t, err, unix.ENOTDIR)
	require.ErrorIs(t, o.RemoveFile("/sys/missing"), fs.ErrNotExist)
}

// TestReadsOfProcAreWhole reads a file that is larger than any one read of it gives.
func TestReadsOfProcAreWhole(t *testing.T) {
	tr := newTree(t)
	large := strings.Repeat("0123456789abcdef", 20_000)
	tr.file("/proc/large", large)
	b, err := newLocal(tr.root).ReadFile("/proc/large")
	require.NoError(t, err)
	assert.Equal(t, large, string(b))

	b, err = newLocal("/").ReadFile("/proc/self/smaps")
	require.NoError(t, err)
	assert.Contains(t, string(b[len(b)-400:]), "VmFlags", "the last mapping is there to its end")
}

func TestSaveFile(t *testing.T) {
	tr := newTree(t)
	o := newLocal(tr.root)
	for _, content := range []string{"first", "second, longer", "3"} {
		require.NoError(t, o.SaveFile("/run/a/b/record", []byte(content), 0o644))
		b, err := o.ReadFile("/run/a/b/record")
		require.NoError(t, err)
		assert.Equal(t, content, string(b))
	}
	info, err := os.Stat(tr.root + "/run/a/b/record")
	require.NoError(t, err)
	assert.Equal(t, fs.FileMode(0o644), info.Mode())
	names, err := o.ReadDir("/run/a/b")
	require.NoError(t, err)
	assert.Equal(t, []string{"record"}, names, "nothing is left behind")

	tr.dir("/run/a/b/directory/x")
	require.Error(t, o.SaveFile("/run/a/b/directory", []byte("x"), 0o644))
	names, err = o.ReadDir("/run/a/b")
	require.NoError(t, err)
	assert.Equal(t, []string{"directory", "record"}, names, "nor when it fails")
}

// onOwnThread runs f on a thread that nothing else runs on afterwards.
func onOwnThread[T any](t *testing.T, f func() T) T {
	t.Helper()
	h := New("/")
	result, restored := make(chan T), make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked
		before, err := h.AllowedCPUs()
		result <- f()
		// The main thread does not end with its goroutine, and its mask is what others take for the process's.
		restored <- errors.Join(err, h.PinThread(before))
	}()
	r := <-result
	require.NoError(t, <-restored)
	return r
}

func TestPinThreadOnThisMachine(t *testing.T) {
	h := New("/")
	online, err := h.OnlineCPUs()
	require.NoError(t, err)
	before, err := h.AllowedCPUs()
	require.NoError(t, err)
	require.False(t, before.And(online).Empty())
	for cpu := range before.All() {
		seen := onOwnThread(t, func() (seen CPUSet) {
			if h.PinThread(CPUSetOf(cpu)) != nil {
				return CPUSet{}
			}
			for range 100 {
				at, err := h.CurrentCPU()
				if err != nil {
					return CPUSet{}
				}
				seen = seen.Add(at)
			}
			now, err := h.AllowedCPUs()
			if err != nil {
				return CPUSet{}
			}
			return seen.Or(now)
		})
		assert.Equal(t, CPUSetOf(cpu), seen)
	}
	after, err := h.AllowedCPUs()
	require.NoError(t, err)
	assert.Equal(t, before, after, "other threads are not touched")

	err = onOwnThread(t, func() error { return h.PinThread(CPUSetOf(MaxCPUs-2, MaxCPUs-1)) })
	require.ErrorIs(t, err, unix.EINVAL)
	require.ErrorContains(t, err, "CPUs 8190-8191: pin the thread")
	require.ErrorContains(t, err, "online: "+online.List())
	require.ErrorIs(t, h.PinThread(CPUSet{}), unix.EINVAL)
}

func TestCurrentCPUDoesNotAllocate(t *testing.T) {
	h := New("/")
	assert.Zero(t, testing.AllocsPerRun(1000, func() {
		if _, err := h.CurrentCPU(); err != nil {
			t.Error(err)
		}
	}))
}

func BenchmarkCurrentCPU(b *testing.B) {
	h := New("/")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := h.CurrentCPU(); err != nil {
			b.Fatal(err)
		}
	}
}

// TestThisMachine runs every reading call on the machine that runs the test, whatever that has.
func TestThisMachine(t *testing.T) {
	h := New("/")
	if _, err := os.Stat("/sys/bus/pci"); err != nil {
		t.Skip("this machine has no PCI bus")
	}
	devices, err := h.Devices()
	require.NoError(t, err)
	for _, d := range devices {
		again, err := h.Device(d.Address)
		require.NoError(t, err)
		assert.Equal(t, d.VendorID, again.VendorID)
		assert.NotZero(t, d.VendorID)
		config, err := h.Config(d.Address)
		require.NoError(t, err)
		assert.GreaterOrEqual(t, len(config), 64)
		assert.Equal(t, d.VendorID, uint16(config[0])|uint16(config[1])<<8)
		_, err = h.InUse(d.Address)
		require.NoError(t, err)
	}
	_, err = h.Groups()
	require.NoError(t, err)
	_, err = h.interrupts()
	require.NoError(t, err)
	h.IRQBalance()
}

func TestSame(t *testing.T) {
	here, there := t.TempDir(), t.TempDir()
	assert.True(t, New(here).Same(New(here)))
	assert.False(t, New(here).Same(New(there)))
	k := &vanishing{OS: newLocal(here)}
	assert.True(t, NewOn(k).Same(NewOn(k)))
	assert.False(t, NewOn(k).Same(New(here)))
	assert.False(t, New(here).Same(NewOn(k)))
}
