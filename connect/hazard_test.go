package connect

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	ossignal "os/signal"
	"runtime"
	"runtime/pprof"
	"runtime/trace"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/irqbridge/irqbridge/vfio/host"
)

// A thread that waits for a device must not hold up the process, however long the device is silent. Processes of their own
// prove it, since what goes wrong here hangs for ever: first loops that keep the P in ways that are wrong, in which it has to go
// wrong, and then each way of this package, in which it must not.

const hazardVariable = "IRQBRIDGE_TEST_HAZARD"

// naive are loops that wait on a silent eventfd and keep the P.
var naive = map[string]func(fd int){
	// read(2) is restarted after the signal by which the runtime asks for the thread.
	"read": func(fd int) {
		var count [8]byte
		for {
			_, _, _ = unix.RawSyscall(unix.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(&count)), 8)
		}
	},
	// The wait ends at the signal, but nothing in the loop lets the runtime take the thread.
	"poll without a check of the stack": func(fd int) {
		set, err := unix.EpollCreate1(0)
		if err != nil {
			panic(err)
		}
		if err := unix.EpollCtl(set, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN}); err != nil {
			panic(err)
		}
		var ev unix.EpollEvent
		for {
			_, _, _ = unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(set), uintptr(unsafe.Pointer(&ev)), 1, 0, 0, 8)
		}
	},
	// Without a time limit nothing ends the wait where the runtime may not send signals.
	"wait without an end": func(fd int) {
		set, err := unix.EpollCreate1(0)
		if err != nil {
			panic(err)
		}
		if err := unix.EpollCtl(set, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN}); err != nil {
			panic(err)
		}
		var ev unix.EpollEvent
		for {
			_, _, _ = unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(set), uintptr(unsafe.Pointer(&ev)), 1, ^uintptr(0), 0, 8)
			runtime.Gosched()
		}
	},
}

// asHazard is the other process. It waits in the way that the variable names, and then does what a process does.
func asHazard(name string) {
	_, _ = os.Stdout.WriteString("begun\n")
	way, option, _ := strings.Cut(name, "/")
	if loop := naive[way]; loop != nil {
		fd, err := unix.Eventfd(0, 0)
		if err != nil {
			panic(err)
		}
		go func() {
			runtime.LockOSThread()
			loop(fd)
		}()
		time.Sleep(50 * time.Millisecond) // it waits now, or else the test sees nothing go wrong, and fails
		runtime.GC()
		_, _ = os.Stdout.WriteString("done\n")
		return
	}
	how, err := ParseWait(way)
	if err != nil {
		panic(err)
	}
	fd, err := newEventFD()
	if err != nil {
		panic(err)
	}
	h := host.New("/")
	cpus, err := h.AllowedCPUs()
	if err != nil {
		panic(err)
	}
	begun := time.Now()
	d, err := startDispatcher(h, host.CPUSetOf(cpus.CPUs()[0]), Dispatch{Wait: how, Reserve: option == "reserve"})
	if err != nil {
		panic(err)
	}
	s := &source{device: &device{}, latched: true, eventfd: fd, dispatcher: d, chain: newChain()}
	i := &Interrupt{source: s, routine: func(*Interrupt, any) bool { return true }, synchronizeIRQL: 9}
	i.lock = &i.private
	s.chain.Store(&[]*Interrupt{i})
	if err := d.add(s); err != nil {
		panic(err)
	}
	live(begun)
	d.stop()
	fd.close()
	_, _ = os.Stdout.WriteString("done\n")
}

// live does what processes do, until the thread has given its P away.
func live(begun time.Time) {
	signals := make(chan os.Signal, 1)
	ossignal.Notify(signals, unix.SIGUSR1)
	for round := 0; round < 3 || time.Since(begun) < linger+200*time.Millisecond; round++ {
		runtime.GC()
		var stats runtime.MemStats
		runtime.ReadMemStats(&stats)
		time.Sleep(time.Millisecond)
		done := make(chan struct{})
		go close(done)
		<-done
		if err := unix.Kill(os.Getpid(), unix.SIGUSR1); err != nil {
			panic(err)
		}
		<-signals
		var buf bytes.Buffer
		if err := pprof.StartCPUProfile(&buf); err != nil {
			panic(err)
		}
		if err := pprof.Lookup("goroutine").WriteTo(io.Discard, 2); err != nil {
			panic(err)
		}
		if err := trace.Start(io.Discard); err != nil {
			panic(err)
		}
		runtime.GC()
		trace.Stop()
		pprof.StopCPUProfile()
	}
}

// hazard runs the other process, and tells whether it came to its end before the silence of the device did.
func hazard(t *testing.T, name string, patience time.Duration, environment ...string) (ended bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestSilentDevice$")
	cmd.Env = append(os.Environ(), append(environment, hazardVariable+"="+name)...)
	out, err := cmd.CombinedOutput()
	require.Contains(t, string(out), "begun", "%v", err)
	if strings.Contains(string(out), "done") {
		require.NoError(t, err, string(out))
		return true
	}
	require.Error(t, ctx.Err(), "it ended, but not well: %v\n%s", err, out)
	return false
}

func TestSilentDevice(t *testing.T) {
	if name := os.Getenv(hazardVariable); name != "" {
		asHazard(name)
		os.Exit(0)
	}
	const hangs = 2 * time.Second // as long as it likes: it is a hang
	for _, c := range []struct {
		name        string
		environment []string
	}{
		{"read", nil},
		{"read", []string{"GOMAXPROCS=1"}},
		{"poll without a check of the stack", []string{"GODEBUG=asyncpreemptoff=1"}},
		{"wait without an end", []string{"GODEBUG=asyncpreemptoff=1"}},
	} {
		t.Run(fmt.Sprint("naive ", c.name, c.environment), func(t *testing.T) {
			t.Parallel()
			assert.False(t, hazard(t, c.name, hangs, c.environment...), "this loop is wrong, and the test does not see it")
		})
	}
	for _, wait := range []Wait{Block, Cooperative, Hybrid, Poll} {
		for _, procs := range []string{"1", "2", "5"} {
			for _, preempt := range []string{"0", "1"} {
				for _, reserved := range []string{"", "/reserve"} {
					if reserved != "" && procs != "1" {
						continue // then there is a P for it anyhow
					}
					if os.Getenv("IRQBRIDGE_VM") != "" && procs != "2" {
						continue // on another kernel the runtime is the same, and an emulated machine is slow
					}
					name := fmt.Sprintf("%v%s GOMAXPROCS=%s asyncpreemptoff=%s", wait, reserved, procs, preempt)
					t.Run(name, func(t *testing.T) {
						t.Parallel()
						assert.True(t, hazard(t, wait.String()+reserved, 2*deadline, "GOMAXPROCS="+procs, "GODEBUG=asyncpreemptoff="+preempt))
					})
				}
			}
		}
	}
}
