package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/irqbridge/irqbridge/scripts/vm/internal/wire"
)

// bootLimit is how long the guest may take to come up; it takes about ten seconds, on a loaded host a minute.
const bootLimit = 3 * time.Minute

// powerOff is how long the guest may take to power off after it said that the program ended.
const powerOff = 10 * time.Second

// session is one run of the machine.
type session struct {
	qemu    *exec.Cmd
	console *console
	out     *wire.Writer
	in      *wire.Reader
	stdin   io.Reader     // nil: none
	stdout  io.Writer     // for the program's standard output
	timeout time.Duration // 0: none

	up      atomic.Bool   // the guest answers
	taken   chan struct{} // the guest took a piece of input
	archive bytes.Buffer
}

// timeoutError says that the time was up.
type timeoutError struct{ limit time.Duration }

func (e timeoutError) Error() string {
	return fmt.Sprintf("no end after %v (--timeout, IRQBRIDGE_VM_TIMEOUT)", e.limit)
}

// bootError says that the guest ended before it ran anything.
type bootError struct{ err error }

func (e bootError) Error() string { return fmt.Sprintf("the guest did not come up: %v", e.err) }
func (e bootError) Unwrap() error { return e.err }

// signalError says that the user ended it.
type signalError struct{ signal syscall.Signal }

func (e signalError) Error() string { return "ended by " + e.signal.String() }

// newSession prepares a machine that boots the kernel and the initial file system.
func newSession(o *options, kernel string, initrd *os.File, stdin io.Reader, stdout io.Writer) (*session, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("socketpair: %w", err)
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "serial"), os.NewFile(uintptr(pair[1]), "serial")
	s := &session{
		qemu:    qemu(o, kernel, initrd, theirs),
		console: &console{},
		out:     wire.NewWriter(ours),
		in:      wire.NewReader(ours),
		stdin:   stdin,
		stdout:  stdout,
		timeout: o.timeout,
		taken:   make(chan struct{}, 1),
	}
	if o.verbose {
		s.console.echo = os.Stderr
	}
	s.qemu.Stdout, s.qemu.Stderr = s.console, s.console
	return s, nil
}

// run runs the machine until the program in it ended.
func (s *session) run() (*wire.Result, error) {
	// QEMU is killed when the thread that started it ends (PR_SET_PDEATHSIG), so that thread has to stay.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := s.qemu.Start(); err != nil {
		return nil, err
	}
	// With QEMU's end of the line and the initial file system closed here, the line ends when QEMU does.
	for _, f := range s.qemu.ExtraFiles {
		_ = f.Close()
	}
	exited := make(chan struct{})
	go func() {
		// Its state, and not this error, which may be the console's, says how it ended.
		_ = s.qemu.Wait()
		close(exited)
	}()
	defer func() {
		_ = s.qemu.Process.Kill()
		<-exited
	}()

	type outcome struct {
		result *wire.Result
		err    error
	}
	talked := make(chan outcome, 1)
	go func() {
		result, err := s.talk()
		talked <- outcome{result, err}
	}()

	signals := make(chan os.Signal, 4)
	signal.Notify(signals, unix.SIGINT, unix.SIGTERM, unix.SIGQUIT, unix.SIGHUP)
	defer signal.Stop(signals)

	var expired <-chan time.Time
	if s.timeout > 0 {
		expired = time.After(s.timeout)
	}
	booting := time.After(bootLimit)
	asked := false
	for {
		select {
		case <-booting:
			if !s.up.Load() {
				return nil, bootError{fmt.Errorf("no word from it in %v", bootLimit)}
			}
		case o := <-talked:
			if o.err == nil {
				wait(exited, powerOff)
				return o.result, nil
			}
			// QEMU's last words may still be on the way, and its memory on the way into a core file.
			if errors.Is(o.err, errLineEnded) && wait(exited, lastWords) {
				return nil, endError{o.err, s.qemu.ProcessState}
			}
			return nil, o.err
		case <-expired:
			return nil, timeoutError{s.timeout}
		case got := <-signals:
			number := got.(syscall.Signal)
			if asked || !s.up.Load() {
				return nil, signalError{number}
			}
			// The first is for the program in the guest, which may want to end in its own way.
			asked = true
			if err := s.out.Send(wire.Signal, []byte{byte(number)}); err != nil {
				return nil, signalError{number}
			}
		}
	}
}

// wait waits for the end of what closes done, and tells whether it came.
func wait(done <-chan struct{}, limit time.Duration) bool {
	select {
	case <-done:
		return true
	case <-time.After(limit):
		return false
	}
}

// talk passes on what the guest sends until the program ended.
func (s *session) talk() (*wire.Result, error) {
	if err := s.in.WaitHello(); err != nil {
		return nil, bootError{lineError(err)}
	}
	s.up.Store(true)
	go s.feed()
	for {
		frame, err := s.in.Next()
		if err != nil {
			return nil, fmt.Errorf("the guest ended before the program did: %w", lineError(err))
		}
		switch frame.Kind {
		case wire.Stdout:
			// A reader that went away is noticed here as it would be by the program itself: SIGPIPE ends us.
			_, err = s.stdout.Write(frame.Payload)
		case wire.Stderr:
			_, err = os.Stderr.Write(frame.Payload)
		case wire.Archive:
			s.archive.Write(frame.Payload)
		case wire.Ack:
			s.taken <- struct{}{}
		case wire.Exit:
			var result wire.Result
			if err := json.Unmarshal(frame.Payload, &result); err != nil {
				return nil, fmt.Errorf("the guest's result: %w", err)
			}
			return &result, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

// lineError puts the end of the serial line into words.
func lineError(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errLineEnded
	}
	return err
}

// feed passes on standard input, piece by piece.
func (s *session) feed() {
	if s.stdin != nil {
		piece := make([]byte, wire.MaxInput)
		for {
			n, err := s.stdin.Read(piece)
			if n > 0 {
				if s.out.Send(wire.Stdin, piece[:n]) != nil {
					return
				}
				<-s.taken
			}
			if err != nil {
				break
			}
		}
	}
	// If the line has failed, talk says so.
	_ = s.out.Send(wire.EOF, nil)
}
