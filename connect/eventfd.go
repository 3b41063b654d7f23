package connect

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"
)

// eventfd is the counter through which the kernel signals a source. The dispatcher waits for it by number; all else
// goes through the lock, so that nobody reads the number after another file got it.
type eventfd struct {
	fd int

	mu     sync.Mutex
	closed bool
	final  uint64 // the count when it was closed
}

func newEventFD() (*eventfd, error) {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, os.NewSyscallError("eventfd2", err)
	}
	return &eventfd{fd: fd}, nil
}

// count is how often it was signalled. It comes from /proc/self/fdinfo (proc(5), "eventfd-count"): to read the eventfd
// itself would reset it, and could take away an event that the dispatcher has not fetched yet.
func (e *eventfd) count() (uint64, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return e.final, nil
	}
	return e.read()
}

func (e *eventfd) read() (uint64, error) {
	name := fmt.Sprintf("/proc/self/fdinfo/%d", e.fd)
	info, err := os.ReadFile(name)
	if err != nil {
		return 0, err
	}
	for line := range bytes.Lines(info) {
		if value, ok := bytes.CutPrefix(line, []byte("eventfd-count:")); ok {
			return strconv.ParseUint(string(bytes.TrimSpace(value)), 16, 64)
		}
	}
	return 0, fmt.Errorf("%s has no eventfd-count", name)
}

// close keeps the last count. The kernel has let go of the eventfd before.
func (e *eventfd) close() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.final, _ = e.read()
	e.closed = true
	_ = unix.Close(e.fd)
}
