package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"

	"github.com/irqbridge/irqbridge/vfio/host"
	"github.com/irqbridge/irqbridge/vfio/vfiotest"
)

// TestScripts runs testdata/script: the verbs on the fake, in process. UPDATE_SCRIPTS=1 writes the output of now into
// the scripts.
//
// Commands: "irqbridge VERB…" has to succeed; "exits N VERB…" has to exit with N; "<FILE" among the arguments is
// standard input. "machine OPTION…" replaces the script's machine: no-iommu, unsafe-no-iommu (VFIO's mode without one is on), iommufd, no-remapping, no-intx-mask, no-permission, unprivileged
// (64 bytes of configuration space), vectors=N, fail=METHOD:ERRNO:N, booted=ARGUMENT, without-module=NAME, memlock=BYTES,
// irqbalance (it runs), unsafe-interrupts (they are allowed), more (devices). The machine is seen to have CPUs 0 and 1; $CPU is
// one that this process can really use. Names are those of testdata/pci.ids, or of the file $PCI_IDS.
func TestScripts(t *testing.T) {
	if os.Getenv("IRQBRIDGE_VM") != "" {
		t.Skip("the scripts are about the fake, which is the same outside")
	}
	testscript.Run(t, testscript.Params{
		Dir:           "testdata/script",
		UpdateScripts: os.Getenv("UPDATE_SCRIPTS") != "",
		Setup: func(env *testscript.Env) error {
			online, err := host.New("/").AllowedCPUs()
			if err != nil {
				return err
			}
			env.Setenv("CPU", strconv.Itoa(online.CPUs()[0]))
			s := &scripted{}
			env.Defer(func() { s.machine.Shutdown() })
			env.Values[scriptedKey{}] = s
			return s.boot(nil)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"machine":   func(ts *testscript.TestScript, _ bool, args []string) { ts.Check(scriptedOf(ts).boot(args)) },
			"irqbridge": func(ts *testscript.TestScript, _ bool, args []string) { scriptedOf(ts).run(ts, 0, args) },
			"exits": func(ts *testscript.TestScript, _ bool, args []string) {
				want, err := strconv.Atoi(args[0])
				ts.Check(err)
				scriptedOf(ts).run(ts, want, args[1:])
			},
		},
	})
}

// scripted is the machine of a script.
type scripted struct {
	machine *vfiotest.Kernel
	small   bool // configuration space is cut off
}

type scriptedKey struct{}

func scriptedOf(ts *testscript.TestScript) *scripted { return ts.Value(scriptedKey{}).(*scripted) }

func (s *scripted) boot(options []string) error {
	if s.machine != nil {
		s.machine.Shutdown()
	}
	s.small = false
	var list []vfiotest.Option
	for _, o := range options {
		name, value, _ := strings.Cut(o, "=")
		switch name {
		case "no-iommu":
			list = append(list, vfiotest.WithoutIOMMU())
		case "unsafe-no-iommu":
			list = append(list, vfiotest.WithoutIOMMU(), vfiotest.NoIOMMUMode(true))
		case "iommufd":
			list = append(list, vfiotest.WithIOMMUFD())
		case "no-remapping":
			list = append(list, vfiotest.WithoutInterruptRemapping())
		case "no-intx-mask":
			list = append(list, vfiotest.WithoutINTxMask())
		case "no-permission":
			list = append(list, vfiotest.NodeMode(unix.EACCES))
		case "unprivileged":
			s.small = true
		case "vectors":
			n, err := strconv.Atoi(value)
			if err != nil {
				return err
			}
			list = append(list, vfiotest.VectorLimit(n))
		case "booted":
			list = append(list, vfiotest.BootedWith(value))
		case "without-module":
			list = append(list, vfiotest.WithoutModule(value))
		case "memlock":
			n, err := strconv.ParseUint(value, 10, 64)
			if err != nil {
				return err
			}
			list = append(list, vfiotest.MemlockLimit(n))
		case "irqbalance":
			list = append(list, vfiotest.WithProcess(712, "irqbalance"))
		case "unsafe-interrupts":
			list = append(list, vfiotest.UnsafeInterrupts())
		case "more":
			list = append(list, vfiotest.MoreDevices())
		case "fail":
			f := strings.Split(value, ":")
			nth, err := strconv.Atoi(f[2])
			if err != nil {
				return err
			}
			list = append(list, vfiotest.Fail(f[0], map[string]unix.Errno{"EIO": unix.EIO, "EACCES": unix.EACCES, "EBUSY": unix.EBUSY}[f[1]], nth))
		default:
			return fmt.Errorf("unknown machine option %q", o)
		}
	}
	s.machine = vfiotest.NewKernel(list...)
	return nil
}

func (s *scripted) run(ts *testscript.TestScript, want int, args []string) {
	var stdin io.Reader = strings.NewReader("")
	var rest []string
	for _, arg := range args {
		if file, ok := strings.CutPrefix(arg, "<"); ok {
			stdin = strings.NewReader(ts.ReadFile(file))
			continue
		}
		rest = append(rest, arg)
	}
	ids := "testdata/pci.ids" // a few names, the same on every machine
	if own := ts.Getenv("PCI_IDS"); own != "" {
		ids = ts.MkAbs(own)
	}
	code := Main(context.Background(), rest, System{Stdin: stdin, Stdout: ts.Stdout(), Stderr: ts.Stderr(), Kernel: s.kernel(), IDs: ids})
	if code != want {
		ts.Fatalf("exit status %d, want %d", code, want)
	}
}

// kernel is the machine, seen with two CPUs so that the output does not depend on the machine that the test runs on.
func (s *scripted) kernel() seenKernel {
	return seenKernel{s.machine, s.small}
}

type seenKernel struct {
	*vfiotest.Kernel
	small bool
}

func (k seenKernel) Host() *host.Host { return host.NewOn(seenOS(k)) }

type seenOS seenKernel

func (o seenOS) ReadFile(name string) ([]byte, error) {
	if name == "/sys/devices/system/cpu/online" {
		return []byte("0-1\n"), nil
	}
	b, err := o.Kernel.ReadFile(name)
	if o.small && strings.HasSuffix(name, "/config") && len(b) > 64 {
		b = b[:64]
	}
	return b, err
}

// pinnedThreads are the CPUs that threads were bound to, by thread ID.
var pinnedThreads sync.Map

func (o seenOS) SetThreadAffinity(cpus host.CPUSet) error {
	pinnedThreads.Store(unix.Gettid(), cpus)
	return o.Kernel.SetThreadAffinity(cpus)
}

// ThreadAffinity is what the thread was bound to, and both CPUs for one that was not.
func (o seenOS) ThreadAffinity() (host.CPUSet, error) {
	if cpus, ok := pinnedThreads.Load(unix.Gettid()); ok {
		if now, err := o.Kernel.ThreadAffinity(); err == nil && now == cpus.(host.CPUSet) {
			return now, nil
		}
	}
	return host.CPUSetOf(0, 1), nil
}
