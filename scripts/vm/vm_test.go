package vm_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/irqbridge/irqbridge/scripts/vm/internal/wire"
)

// boot marks a test that starts a virtual machine, about 10 s of a processor each. It runs wherever QEMU is installed,
// and is required, with whatever has to be fetched, where CI or IRQBRIDGE_VM_REQUIRE is set.
func boot(t *testing.T) {
	t.Helper()
	if os.Getenv("IRQBRIDGE_VM") != "" {
		t.Skip("there is no virtual machine in the virtual machine")
	}
	if os.Getenv("CI") == "" && os.Getenv("IRQBRIDGE_VM_REQUIRE") == "" {
		if _, err := exec.LookPath("qemu-system-x86_64"); err != nil {
			t.Skipf("%v: scripts/vm/setup installs it, IRQBRIDGE_VM_REQUIRE=1 insists", err)
		}
	}
	dependOnSources(t)
	t.Parallel()
}

// dependOnSources reads what the commands are made of. go test notes what a test opens, and so runs it again instead of
// answering from its cache when one of these changed.
func dependOnSources(t *testing.T) {
	t.Helper()
	err := filepath.WalkDir(".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		_, err = os.ReadFile(path)
		return err
	})
	require.NoError(t, err)
}

// command prepares a command without the settings of the run that this test is itself part of.
func command(t *testing.T, name string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	for _, pair := range os.Environ() {
		if !strings.HasPrefix(pair, "IRQBRIDGE_VM_") && !strings.HasPrefix(pair, "GOCOVERDIR=") {
			cmd.Env = append(cmd.Env, pair)
		}
	}
	cmd.Env = append(cmd.Env, "CGO_ENABLED=0", "IRQBRIDGE_HELLO=hello, guest")
	return cmd
}

// result is how a command ended.
type result struct {
	stdout, stderr string
	status         int
}

func run(t *testing.T, cmd *exec.Cmd) result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		require.NotEqual(t, -1, exit.ExitCode(), "ended by a signal: %v\n%s", err, stderr.String())
	} else {
		require.NoError(t, err)
	}
	return result{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}
}

// build builds a package as a static program.
func build(t *testing.T, args ...string) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "program")
	r := run(t, command(t, "go", append([]string{"build", "-o", out}, args...)...))
	require.Zero(t, r.status, r.stderr)
	return out
}

// TestExec runs the tests of this package whose names start with TestInGuest in the guest, through go test.
func TestExec(t *testing.T) {
	boot(t)
	profile := filepath.Join(t.TempDir(), "cover.out")
	cmd := command(t, "go", "test", "-v", "-exec", "./exec", "-run", "^TestInGuest", "-coverprofile", profile, "-coverpkg", "./internal/wire", ".")
	cmd.Env = append(cmd.Env, "IRQBRIDGE_VM_KERNEL=newest", "GOTRACEBACK=system")
	r := run(t, cmd)
	require.Zero(t, r.status, r.stdout+r.stderr)
	for _, name := range []string{"TestInGuestJob", "TestInGuestFiles", "TestInGuestEnvironment", "TestInGuestDevices"} {
		assert.Contains(t, r.stdout, "--- PASS: "+name)
	}
	assert.NotContains(t, r.stdout, "(cached)")
	coverage, err := os.ReadFile(profile)
	require.NoError(t, err)
	assert.Contains(t, string(coverage), "internal/wire/wire.go:")
}

// TestInGuestJob leaves coverage of package wire.
func TestInGuestJob(t *testing.T) {
	inGuest(t)
	job, err := wire.ReadJob(wire.JobPath)
	require.NoError(t, err)
	assert.Equal(t, os.Args, job.Args)
}

func inGuest(t *testing.T) {
	t.Helper()
	if os.Getenv("IRQBRIDGE_VM") == "" {
		t.Skip("TestExec runs this in the virtual machine")
	}
}

func TestInGuestFiles(t *testing.T) {
	inGuest(t)
	dir, err := os.Getwd()
	require.NoError(t, err)
	assert.True(t, strings.HasSuffix(dir, "scripts/vm"), dir)
	assert.FileExists(t, "vm_test.go", "the package's directory")
	assert.FileExists(t, "testdata/greeting.txt")
	assert.DirExists(t, "../../testdata", "the module's testdata")
}

func TestInGuestEnvironment(t *testing.T) {
	inGuest(t)
	assert.Equal(t, "newest", os.Getenv("IRQBRIDGE_VM"))
	assert.Equal(t, "hello, guest", os.Getenv("IRQBRIDGE_HELLO"))
	assert.Equal(t, "system", os.Getenv("GOTRACEBACK"))
	assert.Zero(t, os.Getuid())
	input, err := io.ReadAll(os.Stdin)
	require.NoError(t, err)
	assert.Empty(t, input)
}

// TestInGuestDevices holds the machine to the layout that the tests and the fake kernel count on.
func TestInGuestDevices(t *testing.T) {
	inGuest(t)
	devices := map[string]struct{ id, driver string }{
		"0000:00:04.0": {"0x1234 0x11e8", ""},
		"0000:00:05.0": {"0x8086 0x10d3", "e1000e"},
		"0000:00:06.0": {"0x1234 0x11e8", ""},
		"0000:00:07.0": {"0x1b36 0x0010", ""},
		"0000:00:08.0": {"0x1033 0x0194", ""},
		"0000:00:09.0": {"0x1b36 0x000e", ""},
		"0000:00:0a.0": {"0x1b36 0x0005", ""},
		"0000:01:01.0": {"0x1234 0x11e8", ""},
		"0000:01:05.0": {"0x8086 0x100e", "e1000"},
	}
	bridge := []string{"0000:00:09.0", "0000:01:01.0", "0000:01:05.0"}
	for address, want := range devices {
		t.Run(address, func(t *testing.T) {
			dir := "/sys/bus/pci/devices/" + address
			assert.Equal(t, want.id, attribute(t, dir+"/vendor")+" "+attribute(t, dir+"/device"))
			driver, err := os.Readlink(dir + "/driver")
			if want.driver == "" {
				require.ErrorIs(t, err, os.ErrNotExist)
			} else {
				require.NoError(t, err)
				assert.Equal(t, want.driver, filepath.Base(driver))
			}
			entries, err := os.ReadDir(dir + "/iommu_group/devices")
			require.NoError(t, err)
			var members []string
			for _, e := range entries {
				members = append(members, e.Name())
			}
			if strings.HasPrefix(address, "0000:01") || address == "0000:00:09.0" {
				assert.Equal(t, bridge, members)
			} else {
				assert.Equal(t, []string{address}, members, "alone in its group")
			}
		})
	}
	for _, node := range []string{"/dev/vfio/vfio", "/sys/bus/pci/drivers/vfio-pci", "/sys/module/vfio_iommu_type1"} {
		_, err := os.Stat(node)
		assert.NoError(t, err)
	}
}

func attribute(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(name)
	require.NoError(t, err)
	return strings.TrimSpace(string(data))
}

// TestRun proves in one machine that streams are binary clean and apart, that files, input and coverage data pass, and
// that the exit status is the program's.
func TestRun(t *testing.T) {
	boot(t)
	dir := t.TempDir()
	every := make([]byte, 0, 256*300)
	for i := range 256 * 300 {
		every = append(every, byte(i+i>>8))
	}
	binary := filepath.Join(dir, "binary")
	require.NoError(t, os.WriteFile(binary, every, 0o600))
	covered := build(t, "-cover", "./launch")
	coverDir := filepath.Join(dir, "cover")
	require.NoError(t, os.Mkdir(coverDir, 0o755))

	cmd := command(t, "./run", "--file", binary, "--file", covered+":/bin/covered", "--file", "testdata:/data",
		"--bring-back", "/tmp/back:"+filepath.Join(dir, "back"), "--", "sh", "-c", `
		cat "$0"
		cat "$0" >&2
		mkdir /tmp/back && cat > /tmp/back/input
		cat /data/greeting.txt >> /tmp/back/input
		covered --help > /dev/null
		exit 7`, binary)
	cmd.Env = append(cmd.Env, "GOCOVERDIR="+coverDir)
	cmd.Stdin = bytes.NewReader(every)
	r := run(t, cmd)
	assert.Equal(t, 7, r.status)
	// Equal would print both.
	assert.True(t, bytes.Equal(every, []byte(r.stdout)), "standard output: %d bytes", len(r.stdout))
	assert.True(t, bytes.Equal(every, []byte(r.stderr)), "standard error: %d bytes: %.300q", len(r.stderr), r.stderr)
	input, err := os.ReadFile(filepath.Join(dir, "back", "input"))
	require.NoError(t, err)
	greeting, err := os.ReadFile("testdata/greeting.txt")
	require.NoError(t, err)
	assert.True(t, bytes.Equal(append(bytes.Clone(every), greeting...), input), "standard input: %d bytes", len(input))
	counters, err := filepath.Glob(filepath.Join(coverDir, "covcounters.*"))
	require.NoError(t, err)
	assert.Len(t, counters, 1)
}

func TestUnprivilegedWithoutIOMMU(t *testing.T) {
	boot(t)
	r := run(t, command(t, "./run", "--no-iommu", "--user", "nobody", "--", "sh", "-c", `
		id -u
		find /sys/kernel/iommu_groups -mindepth 1 | wc -l
		ls /sys/bus/pci/devices | wc -l
		echo 0000:00:05.0 > /sys/bus/pci/drivers/e1000e/unbind || exit 1`))
	assert.Equal(t, "65534\n0\n13\n", r.stdout)
	assert.Contains(t, r.stderr, "ermission denied")
	assert.Equal(t, 1, r.status)
}

// TestVirtualFunctions makes the virtual functions of the physical function that VFIO has, which the kernel must be told to
// allow.
func TestVirtualFunctions(t *testing.T) {
	boot(t)
	r := run(t, command(t, "./run", "--kernel", "newest", "--devices", "more", "--cpus", "3", "--", "sh", "-ec", `
		cd /sys/bus/pci/devices
		grep -c ^processor /proc/cpuinfo
		dd if=0000:00:0b.0/config bs=1 skip=66 count=2 2> /dev/null | od -An -tx2
		cat 0000:02:00.0/sriov_totalvfs
		echo 1 > /sys/module/vfio_pci/parameters/enable_sriov
		echo vfio-pci > 0000:02:00.0/driver_override
		echo 0000:02:00.0 > /sys/bus/pci/drivers/vfio-pci/bind
		echo 2 > 0000:02:00.0/sriov_numvfs
		for device in 0000:00:0b.0 0000:02:*; do echo $device $(ls $device/iommu_group/devices); done`))
	assert.Zero(t, r.status, r.stderr)
	assert.Equal(t, []string{
		"3",
		" 07ff", // Message Control of MSI-X: table size 2048
		"2",
		"0000:00:0b.0 0000:00:0b.0",
		"0000:02:00.0 0000:02:00.0",
		"0000:02:00.1 0000:02:00.1",
		"0000:02:00.2 0000:02:00.2",
	}, strings.Split(strings.TrimSuffix(r.stdout, "\n"), "\n"))
}

// TestSignal sends a signal to the program in the guest, which it kills.
func TestSignal(t *testing.T) {
	boot(t)
	cmd := command(t, "./run", "--", "sh", "-c", "echo ready; exec sleep 600")
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	require.NoError(t, cmd.Start())
	line := make([]byte, 6)
	_, err = io.ReadFull(stdout, line)
	require.NoError(t, err)
	assert.Equal(t, "ready\n", string(line))
	require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
	require.Error(t, cmd.Wait())
	assert.Equal(t, 128+int(syscall.SIGTERM), cmd.ProcessState.ExitCode())
	assert.Contains(t, stderr.String(), "the program was killed: terminated")
}

func TestTimeout(t *testing.T) {
	boot(t)
	start := time.Now()
	r := run(t, command(t, "./run", "--timeout", "5s", "-v", "--", "sleep", "600"))
	assert.Less(t, time.Since(start), 5*time.Minute)
	assert.Equal(t, 124, r.status)
	_, tail, found := strings.Cut(r.stderr, "no end after 5s")
	require.True(t, found, r.stderr)
	assert.Contains(t, tail, "\n  | ", "the console's last lines")
}

func TestKernelPanic(t *testing.T) {
	boot(t)
	r := run(t, command(t, "./run", "--", "sh", "-c", "echo before; sleep 1; echo c > /proc/sysrq-trigger; sleep 600"))
	assert.Equal(t, 125, r.status)
	assert.Equal(t, "before\n", r.stdout)
	assert.Contains(t, r.stderr, "the guest ended before the program did: QEMU has ended: exit status 0")
	assert.Regexp(t, `(?m)^  \| .*Kernel panic - not syncing`, r.stderr)
	assert.NotContains(t, r.stderr, "once more", "a program that began is not begun again")
}

// TestPanicUnderTest has the guest's kernel panic under a test that is not verbose, and is named for it.
func TestPanicUnderTest(t *testing.T) {
	boot(t)
	cmd := command(t, "go", "test", "-exec", "./exec", "-run", "^TestPanicsInGuest$", ".")
	cmd.Env = append(cmd.Env, "IRQBRIDGE_PANIC=1")
	r := run(t, cmd)
	assert.Equal(t, 1, r.status)
	assert.Contains(t, r.stdout+r.stderr, "\nthe test that began last: TestPanicsInGuest/now\n")
	assert.NotContains(t, r.stdout, "=== RUN")
	assert.Contains(t, r.stdout, "vm_test.go:", "what it printed")
}

func TestPanicsInGuest(t *testing.T) {
	inGuest(t)
	if os.Getenv("IRQBRIDGE_PANIC") == "" {
		t.Skip("TestPanicUnderTest runs this")
	}
	t.Run("now", func(t *testing.T) {
		t.Log("panics")
		// What was printed has to leave the machine before it dies, through init and a serial port, and nothing in here
		// tells when it has.
		time.Sleep(3 * time.Second)
		require.NoError(t, os.WriteFile("/proc/sysrq-trigger", []byte("c"), 0))
	})
}

// TestCrash has QEMU end by a signal, as it does by its own faults.
func TestCrash(t *testing.T) {
	boot(t)
	cmd := command(t, "./run", "--", "sh", "-c", "echo ready; exec sleep 600")
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	require.NoError(t, cmd.Start())
	_, err = io.ReadFull(stdout, make([]byte, len("ready\n")))
	require.NoError(t, err)
	// Each thread has its own children, and one of the launcher's has QEMU.
	lists, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", cmd.Process.Pid))
	require.NoError(t, err)
	var children []string
	for _, list := range lists {
		children = append(children, strings.Fields(attribute(t, list))...)
	}
	require.Len(t, children, 1)
	qemu, err := strconv.Atoi(children[0])
	require.NoError(t, err)
	require.NoError(t, syscall.Kill(qemu, syscall.SIGSEGV))
	require.Error(t, cmd.Wait())
	assert.Equal(t, 125, cmd.ProcessState.ExitCode())
	assert.Contains(t, stderr.String(), "QEMU has ended: signal 11, SIGSEGV")
}

func TestBootFails(t *testing.T) {
	boot(t)
	r := run(t, command(t, "./run", "--append", "rdinit=/nonexistent", "--", "true"))
	assert.Equal(t, 125, r.status)
	assert.Equal(t, 2, strings.Count(r.stderr, "the guest did not come up"), "a machine that ran nothing is tried once more")
	assert.Regexp(t, `(?m)^  \| .*Kernel panic - not syncing`, r.stderr)
}

// TestRefusals needs no machine: what cannot run is refused before one is started.
func TestRefusals(t *testing.T) {
	if os.Getenv("IRQBRIDGE_VM") != "" {
		t.Skip("runs on the host")
	}
	program := filepath.Join(t.TempDir(), "foreign")
	foreign := command(t, "go", "test", "-c", "-o", program, "./internal/wire")
	foreign.Env = append(foreign.Env, "GOARCH=arm64")
	r := run(t, foreign)
	require.Zero(t, r.status, r.stderr)

	for name, c := range map[string]struct {
		args    []string
		status  int
		message string
	}{
		"dynamic":        {[]string{"./exec", "/bin/ls"}, 126, "build it with CGO_ENABLED=0"},
		"foreign":        {[]string{"./exec", program}, 126, "is a program for AARCH64"},
		"missing":        {[]string{"./run", "--", "./none"}, 126, "no such file"},
		"not a program":  {[]string{"./run", "--", "./doc.go"}, 126, "not an executable file"},
		"no command":     {[]string{"./run"}, 2, "no COMMAND"},
		"unknown kernel": {[]string{"./run", "--kernel", "old", "--", "true"}, 2, "want stable, newest, own"},
	} {
		t.Run(name, func(t *testing.T) {
			r := run(t, command(t, c.args[0], c.args[1:]...))
			assert.Equal(t, c.status, r.status)
			assert.Contains(t, r.stderr, c.message)
			assert.Empty(t, r.stdout)
		})
	}
}

func TestHelp(t *testing.T) {
	if os.Getenv("IRQBRIDGE_VM") != "" {
		t.Skip("runs on the host")
	}
	for _, name := range []string{"./run", "./exec", "./setup", "./kernel"} {
		r := run(t, command(t, name, "--help"))
		assert.Zero(t, r.status)
		assert.Contains(t, r.stdout, "usage: scripts/vm/")
	}
}
