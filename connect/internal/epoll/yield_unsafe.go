package epoll

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// A second wish of the runtime's within this time, in ns, is a stop of the world or a scan of the stack, which asks again
	// at once; the monitor asks every 10 ms.
	insistence = 2_000_000
	// One wish of so many is followed whatever it is for: clocks do not see goroutines that wait for a P in a process that
	// gets no processor.
	patience = 16
)

// Yield is a point at which the runtime can take the thread: a call with a check of the stack, by which it asks.
//
//go:noinline
func Yield() { checkStack() }

// checkStack makes a call, so that Yield is no leaf: the compiler leaves the check out of small leaves.
//
//go:noinline
func checkStack() {}

// interrupted follows or turns down the wish of the runtime that interrupted a wait, and tells which. From the end of the wait up
// to where a wish is turned down nothing may check the stack, for that would follow it. Nothing but clocks can be asked here
// whether others want to run: what takes and gives back a lock in the runtime, as reading its metrics does, brings the wish back.
//
//go:nosplit
func (s *Set) interrupted() (followed bool) {
	now := readClocks()
	since, busy := now.since(&s.wanted)
	s.wanted = now
	s.wishes++
	if since < insistence || busy || s.wishes%patience == 0 {
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

// clocks are the time, and the processor time that the process and this thread of it have had, in ns.
type clocks struct{ wall, process, thread int64 }

//go:nosplit
func readClocks() clocks {
	return clocks{clock(unix.CLOCK_MONOTONIC), clock(unix.CLOCK_PROCESS_CPUTIME_ID), clock(unix.CLOCK_THREAD_CPUTIME_ID)}
}

//go:nosplit
func clock(id uintptr) int64 {
	var t unix.Timespec
	// SAFETY: the kernel writes one timespec, the size of t, which lives until the return.
	_, _, _ = unix.RawSyscall(unix.SYS_CLOCK_GETTIME, id, uintptr(unsafe.Pointer(&t)), 0)
	return int64(t.Sec)*1_000_000_000 + int64(t.Nsec)
}

// since is how much time passed, and whether the process's other threads had a quarter of a processor in it: goroutines that are
// ready may find no P then but this one. In a process that is idle otherwise there is another P for them.
//
//go:nosplit
func (c *clocks) since(before *clocks) (wall int64, busy bool) {
	wall = c.wall - before.wall
	others := c.process - before.process - (c.thread - before.thread)
	return wall, 4*others > wall
}

// The runtime keeps these two for packages outside (go.dev/issue/67401).
//
//go:linkname procPin runtime.procPin
func procPin() int

//go:linkname procUnpin runtime.procUnpin
func procUnpin()
