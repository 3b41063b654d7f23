package epoll

import (
	"runtime/metrics"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A second wish of the runtime's within this time, in ns, is a stop of the world or a scan of the stack, which asks again at
// once; the monitor asks every 10 ms.
const insistence = 2_000_000

// Yield is a point at which the runtime can take the thread: a call with a check of the stack, by which it asks.
//
//go:noinline
func Yield() { checkStack() }

// checkStack makes a call, so that Yield is no leaf: the compiler leaves the check out of small leaves.
//
//go:noinline
func checkStack() {}

// interrupted follows or turns down the wish of the runtime that interrupted a wait, and tells which. From the end of the wait up
// to where a wish is turned down nothing may check the stack, for that would follow it.
//
//go:nosplit
func (s *Set) interrupted() (followed bool) {
	var now unix.Timespec
	// SAFETY: the kernel writes one timespec, the size of now, which lives until the return.
	_, _, _ = unix.RawSyscall(unix.SYS_CLOCK_GETTIME, unix.CLOCK_MONOTONIC, uintptr(unsafe.Pointer(&now)), 0)
	since := (now.Sec-s.wanted.Sec)*1_000_000_000 + now.Nsec - s.wanted.Nsec
	s.wanted = now
	if since < insistence {
		Yield()
		return true
	}
	// A system call of the ordinary kind lets a stop of the world take the P at its beginning, and runs what the runtime
	// wants run on every P.
	_, _, _ = syscall.Syscall(unix.SYS_GETPID, 0, 0, 0)
	// With the P pinned the runtime does not preempt: the check of the stack finds the wish and drops it.
	procPin()
	Yield()
	procUnpin()
	return false
}

// crowded tells whether goroutines wait for a P. What a service routine has made ready may wait for this very one.
func (s *Set) crowded() bool {
	metrics.Read(s.runnable[:])
	return s.runnable[0].Value.Kind() == metrics.KindUint64 && s.runnable[0].Value.Uint64() > 0
}

// The runtime keeps these two for packages outside (go.dev/issue/67401).
//
//go:linkname procPin runtime.procPin
func procPin() int

//go:linkname procUnpin runtime.procUnpin
func procUnpin()
