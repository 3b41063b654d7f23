package main

import (
	"archive/tar"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/irqbridge/irqbridge/scripts/vm/internal/wire"
)

func TestInspectTest(t *testing.T) {
	root := t.TempDir()
	dir := filepath.Join(root, "vfio")
	for _, d := range []string{"testdata", "vfio/testdata", "vfio/host/testdata"} {
		require.NoError(t, os.MkdirAll(filepath.Join(root, d), 0o755))
	}
	require.NoError(t, os.WriteFile(filepath.Join(root, "go.mod"), nil, 0o644))

	got, err := inspectTest([]string{
		"-test.testlogfile=/w/testlog.txt", "-test.timeout=10m0s", "-test.coverprofile=/w/_cover_.out",
		"-test.gocoverdir=/w/cover", "--test.cpuprofile=cpu.out", "-test.outputdir=/o", "-test.v=true", "-own=x",
	}, dir)
	require.NoError(t, err)
	assert.Equal(t, []file{
		{source: dir, name: dir, onlyFiles: true},
		{source: root + "/testdata", name: root + "/testdata"},
		{source: dir + "/testdata", name: dir + "/testdata"},
	}, got.files)
	assert.Equal(t, []wire.Output{{Path: "/w/_cover_.out"}, {Path: "/o/cpu.out"}, {Path: "/w/cover", Dir: true}}, got.outputs)
	assert.Equal(t, 10*time.Minute+bootAndReturn, got.timeout)
	assert.Len(t, got.args, 7)
	assert.NotContains(t, got.args, "-test.testlogfile=/w/testlog.txt")

	assert.False(t, got.brief, "-test.v is given")

	got, err = inspectTest([]string{"-test.timeout=0s"}, dir)
	require.NoError(t, err)
	assert.True(t, got.brief)
	assert.Equal(t, []string{"-test.v=test2json", "-test.timeout=0s"}, got.args)
	assert.Zero(t, got.timeout, "go test -timeout 0 means none")
	for _, arg := range []string{"-test.v", "-test.bench=.", "-test.fuzz=F", "-test.list=."} {
		got, err = inspectTest([]string{arg}, dir)
		require.NoError(t, err)
		assert.False(t, got.brief, arg)
		assert.Equal(t, []string{arg}, got.args)
	}
	_, err = inspectTest([]string{"-test.timeout=soon"}, dir)
	assert.Error(t, err)
}

func TestOptionsFromTheEnvironment(t *testing.T) {
	t.Setenv("IRQBRIDGE_VM_KERNEL", "newest")
	t.Setenv("IRQBRIDGE_VM_NO_IOMMU", "1")
	t.Setenv("IRQBRIDGE_VM_CPUS", "4")
	t.Setenv("IRQBRIDGE_VM_DEVICES", "more")
	o, err := parse([]string{"--cpus", "3", "--", "prog", "-v"})
	require.NoError(t, err)
	assert.Equal(t, "newest", o.kernel)
	assert.True(t, o.noIOMMU)
	assert.Equal(t, "more", o.devices)
	assert.Equal(t, 3, o.cpus, "the command line wins")
	assert.False(t, o.verbose, "what follows -- is the program's")
	assert.Equal(t, []string{"prog", "-v"}, o.command)
	assert.Equal(t, 10*time.Minute, o.timeout)

	o, err = parse([]string{"--go-test", "--", "x.test"})
	require.NoError(t, err)
	assert.Negative(t, o.timeout, "taken from -test.timeout")
	t.Setenv("IRQBRIDGE_VM_TIMEOUT", "90s")
	o, err = parse([]string{"--go-test", "--", "x.test"})
	require.NoError(t, err)
	assert.Equal(t, 90*time.Second, o.timeout)
}

func TestBadOptions(t *testing.T) {
	for _, args := range [][]string{
		{},
		{"--kernel", "6.1", "--", "true"},
		{"--accel", "xen", "--", "true"},
		{"--devices", "all", "--", "true"},
		{"--cpus", "many", "--", "true"},
		{"--file", ":x", "--", "true"},
		{"--nonsense", "--", "true"},
	} {
		_, err := parse(args)
		require.Error(t, err, args)
	}
	t.Setenv("IRQBRIDGE_VM_CPUS", "many")
	_, err := parse([]string{"--", "true"})
	assert.ErrorContains(t, err, "IRQBRIDGE_VM_CPUS=many")
}

// TestAccelerator holds the machine to one thread where processors are emulated: with more QEMU 7.2 crashes at times.
func TestAccelerator(t *testing.T) {
	for accel, want := range map[string]string{"tcg": "-accel tcg,thread=single -cpu max", "kvm": "-accel kvm -cpu host"} {
		cmd := qemu(&options{accel: accel, cpus: 2, mem: "1024"}, "vmlinuz", nil, nil)
		assert.Contains(t, strings.Join(cmd.Args, " "), want)
	}
}

// TestKernelLink holds launch to the name that scripts/vm/kernel gives: own-$(sha256sum kernel.config | cut -c 1-16).
func TestKernelLink(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "kernel.config"), []byte("CONFIG_VFIO=y\n"), 0o600))
	for kernel, want := range map[string]string{"stable": "stable", "newest": "newest", "own": "own-e1cbf0e1f1347b7b"} {
		o, err := parse([]string{"--kernel", kernel, "--setup", filepath.Join(dir, "setup"), "--", "true"})
		require.NoError(t, err)
		link, err := kernelLink(o)
		require.NoError(t, err)
		assert.Equal(t, want, link)
	}
	_, err := kernelLink(&options{kernel: "own", setup: filepath.Join(t.TempDir(), "setup")})
	assert.ErrorIs(t, err, os.ErrNotExist)
}

func TestEnvironmentIsSelected(t *testing.T) {
	t.Setenv("IRQBRIDGE_VM_KERNEL", "newest")
	t.Setenv("IRQBRIDGE_VM", "stable")
	t.Setenv("GOTRACEBACK", "all")
	t.Setenv("SECRET", "x")
	env := environment(&options{kernel: "newest"})
	assert.Contains(t, env, "IRQBRIDGE_VM_KERNEL=newest")
	assert.Contains(t, env, "GOTRACEBACK=all")
	assert.Contains(t, env, "IRQBRIDGE_VM=newest")
	assert.NotContains(t, env, "IRQBRIDGE_VM=stable")
	assert.NotContains(t, env, "SECRET=x")
}

// TestCPIO holds the archive to the form that the kernel reads: header fields in hexadecimal, four-byte alignment,
// directories before what is in them.
func TestCPIO(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "prog"), []byte("#!"), 0o700))
	var out bytes.Buffer
	c := newCPIO(&out)
	c.Tree("/a/b", dir)
	c.Symlink("/a/l", "b/prog")
	c.CharDevice("/dev/console", 0o600, 5, 1)
	require.NoError(t, c.Close())

	type entry struct{ name, mode, content string }
	var got []entry
	for rest := out.Bytes(); ; {
		require.Equal(t, "070701", string(rest[:6]))
		field := func(i int) string { return string(rest[6+8*i : 14+8*i]) }
		number := func(i int) int {
			n := 0
			for _, digit := range field(i) {
				n = n<<4 + strings.IndexRune("0123456789ABCDEF", digit)
			}
			return n
		}
		nameEnd := 110 + number(11)
		name := string(rest[110 : nameEnd-1])
		if name == "TRAILER!!!" {
			break
		}
		data := (nameEnd + 3) &^ 3
		end := data + number(6)
		got = append(got, entry{name, field(1), string(rest[data:end])})
		if name == "dev/console" {
			assert.Equal(t, []int{5, 1}, []int{number(9), number(10)})
		}
		rest = rest[(end+3)&^3:]
	}
	assert.Equal(t, []entry{
		{"a", "000041ED", ""},
		{"a/b", "000041ED", ""},
		{"a/b/prog", "000081ED", "#!"},
		{"a/l", "0000A1FF", "b/prog"},
		{"dev", "000041ED", ""},
		{"dev/console", "00002180", ""},
	}, got)
}

func TestCPIOReportsMissingFiles(t *testing.T) {
	c := newCPIO(new(bytes.Buffer))
	c.Tree("/x", filepath.Join(t.TempDir(), "none"))
	c.Data("/y", 0o644, nil)
	assert.ErrorIs(t, c.Close(), os.ErrNotExist)
}

func archive(t *testing.T, names ...string) *bytes.Buffer {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, name := range names {
		require.NoError(t, w.WriteHeader(&tar.Header{Name: name, Mode: 0o640, Size: int64(len(name))}))
		_, err := w.Write([]byte(name))
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	return &out
}

func TestExtract(t *testing.T) {
	dir := t.TempDir()
	to := map[string]string{"/cover": dir + "/c", "/tmp/out.txt": dir + "/o.txt", "/none": dir + "/none"}
	missing, err := extract(archive(t, "/cover/sub/a", "/tmp/out.txt"), to)
	require.NoError(t, err)
	assert.Equal(t, []string{"/none"}, missing)
	data, err := os.ReadFile(dir + "/c/sub/a")
	require.NoError(t, err)
	assert.Equal(t, "/cover/sub/a", string(data))
	assert.FileExists(t, dir+"/o.txt")
}

func TestExtractRefusesWhatWasNotAskedFor(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"/etc/passwd", "/cover/../../escaped", "/coverage"} {
		_, err := extract(archive(t, name), map[string]string{"/cover": dir})
		assert.ErrorContains(t, err, "not asked for", name)
	}
}

// TestOutput has what test binaries print in one piece and byte by byte.
func TestOutput(t *testing.T) {
	for name, c := range map[string]struct {
		brief               bool
		printed, want, last string
	}{
		"passed": {
			true,
			"before\n\x16=== RUN   TestA\n\x16=== RUN   TestA/b\n    a_test.go:1: log\nno end of line\x16--- SKIP: TestA/b (0.00s)\n" +
				"\x16=== NAME  TestA\n    a_test.go:2: log\n\x16=== ATTR  TestA key value\n\x16--- PASS: TestA (0.00s)\n\x16PASS\ncoverage: 1%\n",
			"before\nPASS\ncoverage: 1%\n", "TestA/b",
		},
		"failed": {
			true,
			"\x16=== RUN   TestA\n\x16=== PAUSE TestA\n\x16=== RUN   TestB\n\x16=== PAUSE TestB\n\x16=== CONT  TestA\n    a_test.go:1: of A\n" +
				"\x16=== CONT  TestB\n    a_test.go:2: of B\n\x16=== NAME  TestA\n    a_test.go:3: of A\n\x16--- FAIL: TestA (0.00s)\n\x16--- PASS: TestB (0.00s)\n\x16FAIL\n",
			"--- FAIL: TestA (0.00s)\n    a_test.go:1: of A\n    a_test.go:3: of A\nFAIL\n", "TestB",
		},
		"not ended": {
			true,
			"\x16=== RUN   TestA\n    a_test.go:1: of A\n\x16=== RUN   TestA/b\n    a_test.go:2: of b\nhalf",
			"    a_test.go:1: of A\n    a_test.go:2: of b\nhalf", "TestA/b",
		},
		"verbose": {
			false,
			"=== RUN   TestA\n=== RUN   TestA/b\n--- PASS: TestA (0.00s)\n    --- PASS: TestA/b (0.00s)\nPASS\nhalf",
			"=== RUN   TestA\n=== RUN   TestA/b\n--- PASS: TestA (0.00s)\n    --- PASS: TestA/b (0.00s)\nPASS\nhalf", "TestA/b",
		},
		"JSON": {false, "\x16=== RUN   TestA\nx\x16--- PASS: TestA (0.00s)\n", "\x16=== RUN   TestA\nx\x16--- PASS: TestA (0.00s)\n", "TestA"},
	} {
		for _, piece := range []int{1, len(c.printed)} {
			t.Run(fmt.Sprintf("%s/%d", name, piece), func(t *testing.T) {
				var got bytes.Buffer
				o := &testOutput{w: &got, brief: c.brief}
				for p := range slices.Chunk([]byte(c.printed), piece) {
					n, err := o.Write(p)
					require.NoError(t, err)
					require.Equal(t, len(p), n)
				}
				require.NoError(t, o.Close())
				assert.Equal(t, c.want, got.String())
				assert.Equal(t, c.last, o.begun)
			})
		}
	}
}

// TestEnding has the ends that QEMU's may be.
func TestEnding(t *testing.T) {
	for script, want := range map[string]string{
		"exit 0":        "exit status 0, the guest powered off or rebooted",
		"exit 1":        "exit status 1",
		"kill -SEGV $$": "QEMU has ended: signal 11, SIGSEGV (segmentation fault), a fault of QEMU's own",
		"kill -ABRT $$": "SIGABRT",
		"kill -KILL $$": "when memory is short",
		"kill -TERM $$": "SIGTERM (terminated)",
	} {
		cmd := exec.Command("sh", "-c", script)
		_ = cmd.Run() // its state is what is of interest
		assert.ErrorContains(t, endError{errLineEnded, cmd.ProcessState}, want, script)
	}
}

func TestConsoleTail(t *testing.T) {
	c := &console{}
	assert.Equal(t, "| (nothing)", c.Tail("| "))
	for range consoleLines {
		_, _ = c.Write([]byte("\x1b[2J\x1bcbefore\r\n"))
	}
	_, _ = c.Write([]byte("\nKernel panic - not syncing\r\n"))
	lines := strings.Split(c.Tail("| "), "\n")
	assert.Len(t, lines, consoleLines)
	assert.Equal(t, "| before", lines[0])
	assert.Equal(t, "| Kernel panic - not syncing", lines[len(lines)-1])
}
