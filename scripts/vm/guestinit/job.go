package main

import (
	"io"
	"os"
	"os/exec"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/irqbridge/irqbridge/scripts/vm/internal/wire"
)

// leftOver is how long a program's descendants may hold its output open after it ended.
const leftOver = 5 * time.Second

// runJob runs the program with its streams on the serial line.
func runJob(job *wire.Job, user identity, out *wire.Writer, in *wire.Reader) wire.Result {
	// The program is looked up in the guest's PATH, which is this process's too.
	if err := os.Setenv("PATH", "/bin"); err != nil {
		return wire.Result{Error: err.Error()}
	}
	cmd := exec.Command(job.Args[0], job.Args[1:]...)
	cmd.Dir = job.Dir
	cmd.Env = append(job.Env, "PATH=/bin", "HOME="+user.home, "USER="+user.name, "TMPDIR=/tmp")
	cmd.Stdout = wire.Stream{Writer: out, Kind: wire.Stdout}
	cmd.Stderr = wire.Stream{Writer: out, Kind: wire.Stderr}
	cmd.WaitDelay = leftOver
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Credential: &syscall.Credential{Uid: user.uid, Gid: user.gid},
		Setsid:     true, // signals go to the program's whole group, as from a terminal
	}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return wire.Result{Error: err.Error()}
	}
	if err := cmd.Start(); err != nil {
		return wire.Result{Error: err.Error()}
	}

	var ended atomic.Bool // no signal once the process's number may belong to somebody else
	go receive(in, out, stdin, func(s syscall.Signal) {
		if !ended.Load() {
			// It may have ended just now: then there is nothing to signal.
			_ = syscall.Kill(-cmd.Process.Pid, s)
		}
	})
	err = cmd.Wait()
	ended.Store(true)

	state := cmd.ProcessState
	if state == nil {
		return wire.Result{Error: err.Error()}
	}
	status := state.Sys().(syscall.WaitStatus)
	if status.Signaled() {
		return wire.Result{Status: 128 + int(status.Signal()), Signal: status.Signal().String()}
	}
	return wire.Result{Status: status.ExitStatus()}
}

// receive takes the host's frames until the line fails.
func receive(in *wire.Reader, out *wire.Writer, stdin io.WriteCloser, signal func(syscall.Signal)) {
	// The program may leave its input unread for ever while signals must still arrive: feeding it is another goroutine's
	// work. The host sends a piece only after the one before was taken, so that one place is enough.
	pieces := make(chan []byte, 1)
	go func() {
		for p := range pieces {
			// A program that does not want its input is no error. The host must go on all the same.
			_, _ = stdin.Write(p)
			if out.Send(wire.Ack, nil) != nil {
				break
			}
		}
		_ = stdin.Close()
	}()
	for {
		frame, err := in.Next()
		if err != nil {
			return
		}
		switch frame.Kind {
		case wire.Stdin:
			pieces <- frame.Payload
		case wire.EOF:
			close(pieces)
		case wire.Signal:
			if len(frame.Payload) == 1 {
				signal(syscall.Signal(frame.Payload[0]))
			}
		}
	}
}
