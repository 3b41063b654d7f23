package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/irqbridge/irqbridge/scripts/vm/internal/wire"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "guestinit:", err)
		// Exiting would be reported as an attack on process 1; a pause lets the console drain first.
		time.Sleep(time.Second)
		os.Exit(1)
	}
}

// run returns only an error that could not be reported to the host.
func run() error {
	if err := errors.Join(mountAll(), loopbackUp()); err != nil {
		return err
	}
	line, err := openSerial("/dev/ttyS1")
	if err != nil {
		return err
	}
	if _, err := line.Write(wire.Hello); err != nil {
		return err
	}
	out := wire.NewWriter(line)

	result := work(out, wire.NewReader(line))
	data, err := json.Marshal(result)
	if err != nil {
		return err
	}
	if err := out.Send(wire.Exit, data); err != nil {
		return err
	}
	// TCSBRK with a non-zero argument is tcdrain(3): wait until the last byte has left.
	if err := unix.IoctlSetInt(int(line.Fd()), unix.TCSBRK, 1); err != nil {
		return fmt.Errorf("draining the serial port: %w", err)
	}
	return unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
}

// work does everything between the first frame and the last.
func work(out *wire.Writer, in *wire.Reader) wire.Result {
	failed := func(err error) wire.Result { return wire.Result{Error: err.Error()} }
	if err := loadModules(wire.ModulesDir); err != nil {
		return failed(err)
	}
	job, err := wire.ReadJob(wire.JobPath)
	if err != nil {
		return failed(err)
	}
	user, err := lookUp(job.User)
	if err != nil {
		return failed(err)
	}
	if err := prepareOutput(job.Output, user); err != nil {
		return failed(err)
	}
	result := runJob(job, user, out, in)
	if err := sendOutput(out, job.Output); err != nil {
		return failed(fmt.Errorf("sending files back: %w", err))
	}
	return result
}

// mountAll mounts what a program expects of a Linux system. The root file system is in memory already, so that /tmp
// and /run need no mount of their own.
func mountAll() error {
	mounts := []struct {
		kind, target, options string
		optional              bool
	}{
		{kind: "proc", target: "/proc"},
		{kind: "sysfs", target: "/sys"},
		{kind: "devtmpfs", target: "/dev"},
		{kind: "devpts", target: "/dev/pts", options: "gid=5,mode=620", optional: true},
		{kind: "tmpfs", target: "/dev/shm", options: "mode=1777"},
		{kind: "debugfs", target: "/sys/kernel/debug", optional: true},
	}
	for _, m := range mounts {
		// Below /sys nothing can be made, and nothing need be: the kernel makes the mount points that it supports.
		if !strings.HasPrefix(m.target, "/sys/") {
			if err := os.MkdirAll(m.target, 0o755); err != nil {
				return err
			}
		}
		if err := unix.Mount(m.kind, m.target, m.kind, 0, m.options); err != nil && !m.optional {
			return fmt.Errorf("mounting %s on %s: %w", m.kind, m.target, err)
		}
	}
	for path, mode := range map[string]os.FileMode{"/tmp": os.ModeSticky | 0o777, "/run": 0o755} {
		if err := os.MkdirAll(path, mode); err != nil {
			return err
		}
		if err := os.Chmod(path, mode); err != nil {
			return err
		}
	}
	for link, target := range map[string]string{"/dev/fd": "/proc/self/fd", "/dev/stdin": "fd/0", "/dev/stdout": "fd/1", "/dev/stderr": "fd/2"} {
		if err := os.Symlink(target, link); err != nil && !os.IsExist(err) {
			return err
		}
	}
	return nil
}

// loopbackUp switches on the network interface lo, by which programs of the guest reach each other.
func loopbackUp() error {
	socket, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer func() { _ = unix.Close(socket) }()
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	lo.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(socket, unix.SIOCSIFFLAGS, lo); err != nil {
		return fmt.Errorf("switching lo on: %w", err)
	}
	return nil
}

// openSerial opens a serial port for binary data: no echo, no translation, no flow-control characters.
func openSerial(path string) (*os.File, error) {
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("opening %s: %w", path, err)
	}
	t, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return nil, fmt.Errorf("settings of %s: %w", path, err)
	}
	t.Iflag, t.Oflag, t.Lflag = 0, 0, 0
	t.Cflag = unix.CS8 | unix.CREAD | unix.CLOCAL | unix.B115200
	t.Cc[unix.VMIN], t.Cc[unix.VTIME] = 1, 0
	if err := unix.IoctlSetTermios(fd, unix.TCSETS, t); err != nil {
		return nil, fmt.Errorf("settings of %s: %w", path, err)
	}
	return os.NewFile(uintptr(fd), path), nil
}
