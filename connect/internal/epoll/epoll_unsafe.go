package epoll

import (
	"os"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Period is how long a wait that keeps the P lasts at most. Within it a stop of the world gets its way even when the
// runtime may not send signals.
const Period = 10 * time.Millisecond

// Size is how many events one wait fetches: it bounds how long a busy set keeps a newly signalled source waiting.
const Size = 64

// Set is an epoll instance and the events that were fetched last. It belongs to one thread, but for Add and Remove, which
// are safe for concurrent use. It is not copied.
type Set struct {
	FD int
	// Events are those that were fetched last: Fd is the slot, Pad the generation of Add.
	Events [Size]unix.EpollEvent

	// How often the runtime has wanted the thread, and when it last did.
	wishes uint
	wanted clocks
}

// Open makes a set. Close ends it.
func Open() (*Set, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	return &Set{FD: fd}, nil
}

// Close closes the set. Nobody waits any more.
func (s *Set) Close() { _ = unix.Close(s.FD) }

// Add has each signal of an eventfd make an event with this slot and generation; one that it has already makes one at once.
func (s *Set) Add(fd int, slot, generation int32) error {
	ev := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLET, Fd: slot, Pad: generation}
	return os.NewSyscallError("epoll_ctl", unix.EpollCtl(s.FD, unix.EPOLL_CTL_ADD, fd, &ev))
}

// Remove takes an eventfd out. Events of it that were fetched before are still in the caller's hands.
func (s *Set) Remove(fd int) { _ = unix.EpollCtl(s.FD, unix.EPOLL_CTL_DEL, fd, nil) }

// Sleep waits as any Go code does: the P is given away, and silence costs nothing.
func (s *Set) Sleep() (n int, err error) {
	n, err = unix.EpollWait(s.FD, s.Events[:], -1)
	if err == unix.EINTR {
		return 0, nil
	}
	if err != nil {
		return 0, os.NewSyscallError("epoll_wait", err)
	}
	return n, nil
}

// Look fetches what there is and does not wait. It is for a loop, and lets the runtime take the thread.
func (s *Set) Look() (n int, err error) {
	n, errno := s.wait(0)
	if n == 0 {
		Yield()
	}
	return n, failure(errno)
}

// one is what a signal adds to an eventfd.
var one uint64 = 1

// Signal signals an eventfd without the runtime's knowledge, at the end of whose system calls a wish that [Set.Wait] turned down
// comes back. It does not block: for that an eventfd would have to count to its end.
func Signal(fd int) {
	// SAFETY: the kernel reads the 8 bytes of one, which is never written.
	_, _, _ = unix.RawSyscall(unix.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(&one)), 8)
}

// Wait waits for up to [Period] and keeps the P. It may return nothing before that.
func (s *Set) Wait() (n int, err error) {
	n, errno := s.wait(int(Period / time.Millisecond))
	switch {
	case errno == unix.EINTR:
		s.interrupted()
	case n == 0:
		Yield()
	}
	return n, failure(errno)
}

func failure(errno syscall.Errno) error {
	if errno == 0 || errno == unix.EINTR {
		return nil
	}
	return os.NewSyscallError("epoll_pwait", errno)
}

// wait is epoll_pwait(2) without the runtime's knowledge.
//
//go:nosplit
func (s *Set) wait(milliseconds int) (int, syscall.Errno) {
	// SAFETY: the kernel writes at most Size events, which is what Events holds; s is on the heap, and in use by the caller.
	n, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(s.FD), uintptr(unsafe.Pointer(&s.Events)), Size, uintptr(milliseconds), 0, 8)
	if errno != 0 {
		return 0, errno
	}
	return int(n), 0
}
