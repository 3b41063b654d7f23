package connect

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// setPriority gives the calling thread SCHED_FIFO with a priority. Threads that are made from it do not inherit that.
func setPriority(priority int) error {
	err := unix.SchedSetAttr(0, &unix.SchedAttr{
		Size: unix.SizeofSchedAttr, Policy: unix.SCHED_FIFO, Priority: uint32(priority), Flags: unix.SCHED_FLAG_RESET_ON_FORK,
	}, 0)
	if err == nil {
		return nil
	}
	err = os.NewSyscallError("sched_setattr", err)
	if errors.Is(err, unix.EPERM) {
		return fmt.Errorf("give the thread SCHED_FIFO priority %d: %w; it takes CAP_SYS_NICE, or RLIMIT_RTPRIO (ulimit -r) of %d, "+
			"and in a control group of version 1 a share of real time", priority, err, priority)
	}
	return fmt.Errorf("give the thread SCHED_FIFO priority %d: %w", priority, err)
}

// LockMemory keeps all memory of the process in RAM, what it has and what it gets, so that no service routine waits for a page
// (mlockall(2)). It is for the whole process, and is not taken back.
//
// It needs CAP_IPC_LOCK, or RLIMIT_MEMLOCK without a limit, and refuses without: with a limit the Go runtime would end the
// process as soon as it got no more memory. The stack of each thread and the heap's arenas are locked as they are touched.
func LockMemory() error {
	const op = "lock the memory of the process"
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_MEMLOCK, &limit); err != nil {
		return fmt.Errorf("%s: %w", op, os.NewSyscallError("getrlimit", err))
	}
	may, err := hasIPCLock()
	if err != nil {
		return fmt.Errorf("%s: %w", op, err)
	}
	if !may && limit.Cur != unix.RLIM_INFINITY {
		return fmt.Errorf("%s: %w: it may lock %d bytes, and the Go runtime ends a process that gets no more memory; "+
			"it takes CAP_IPC_LOCK, or RLIMIT_MEMLOCK without a limit (ulimit -l unlimited, LimitMEMLOCK=infinity)", op, unix.EPERM, limit.Cur)
	}
	if err := unix.Mlockall(unix.MCL_CURRENT | unix.MCL_FUTURE | unix.MCL_ONFAULT); err != nil {
		return fmt.Errorf("%s: %w", op, os.NewSyscallError("mlockall", err))
	}
	return nil
}

// hasIPCLock tells whether the process has CAP_IPC_LOCK.
func hasIPCLock() (bool, error) {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return false, os.NewSyscallError("capget", err)
	}
	return data[0].Effective&(1<<unix.CAP_IPC_LOCK) != 0, nil
}
