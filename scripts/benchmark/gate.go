package main

import (
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// quietFor is how long nobody else may have been running before a measurement begins.
const quietFor = 8 * time.Millisecond

// gate holds measurements back while others run on the machine.
type gate struct {
	patience time.Duration // for one measurement; then it begins all the same
	noisy    int           // measurements that began all the same
}

// wait returns when, of this machine's threads, no more than base have been running for a while. The one that asks is one of
// them, and sleeps without the runtime's knowledge, whose own threads would wake up for it and be counted.
func (g *gate) wait(base int) error {
	set, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return os.NewSyscallError("epoll_create1", err)
	}
	defer func() { _ = unix.Close(set) }()
	deadline := time.Now().Add(g.patience)
	for quiet := time.Now(); time.Since(quiet) < quietFor; {
		// A wait of a millisecond for nothing: an empty set has no events to be stored anywhere.
		_, _, _ = unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(set), 0, 1, 1, 0, 0)
		n, err := running()
		if err != nil {
			return err
		}
		if n <= base {
			continue
		}
		if quiet = time.Now(); quiet.After(deadline) {
			g.noisy++
			return nil
		}
	}
	return nil
}

// running is how many threads of the machine run or would like to.
func running() (int, error) {
	const name = "/proc/stat"
	b, err := os.ReadFile(name)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		var n int
		if _, err := fmt.Sscanf(line, "procs_running %d", &n); err == nil {
			return n, nil
		}
	}
	return 0, fmt.Errorf("%s has no procs_running", name)
}
