package main

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// lastWords is how long QEMU may take to end after its end of the serial line is closed: its memory may be on the way
// into a core file.
const lastWords = 10 * time.Second

// errLineEnded says that QEMU closed its end of the serial line, which it does when it ends.
var errLineEnded = errors.New("QEMU has ended")

// endError says how QEMU ended before the program in the guest did.
type endError struct {
	err   error
	state *os.ProcessState
}

func (e endError) Error() string { return fmt.Sprintf("%v: %s", e.err, ending(e.state)) }
func (e endError) Unwrap() error { return e.err }

// ending puts into words what QEMU's own end says of the guest.
func ending(state *os.ProcessState) string {
	status, _ := state.Sys().(syscall.WaitStatus)
	switch {
	case status.Signaled():
		s := status.Signal()
		text := fmt.Sprintf("signal %d, %s (%v)", int(s), unix.SignalName(s), s)
		switch s {
		case unix.SIGSEGV, unix.SIGBUS, unix.SIGABRT, unix.SIGILL, unix.SIGFPE, unix.SIGTRAP:
			return text + ", a fault of QEMU's own, whatever the guest did"
		case unix.SIGKILL:
			return text + ", from somebody on this machine, who may be the kernel when memory is short"
		}
		return text
	case status.ExitStatus() == 0:
		return "exit status 0, the guest powered off or rebooted: a kernel that panics reboots and says so on the console, a " +
			"processor that cannot go on (a triple fault) says nothing"
	}
	return fmt.Sprintf("exit status %d, its own; the console has its message", status.ExitStatus())
}
