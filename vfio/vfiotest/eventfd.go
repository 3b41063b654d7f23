package vfiotest

import (
	"encoding/binary"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// eventfd is a reference to a user's eventfd. Like the kernel's, it outlives the descriptor that it was taken from.
type eventfd struct {
	fd       int
	blocking bool
}

// takeEventfd makes a reference: EBADF when fd is not open, EINVAL when it is something else.
func takeEventfd(fd int) (*eventfd, error) {
	own, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, unix.EBADF
	}
	kind, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", own))
	if err != nil || kind != "anon_inode:[eventfd]" {
		closeQuietly(own)
		return nil, unix.EINVAL
	}
	flags, err := unix.FcntlInt(uintptr(own), unix.F_GETFL, 0)
	if err != nil {
		closeQuietly(own)
		return nil, unix.EINVAL
	}
	return &eventfd{fd: own, blocking: flags&unix.O_NONBLOCK == 0}, nil
}

// signal adds 1 to the counter. Like the kernel, it never waits: a counter that is full stays full.
func (e *eventfd) signal() {
	if e.blocking {
		poll := []unix.PollFd{{Fd: int32(e.fd), Events: unix.POLLOUT}}
		if n, err := unix.Poll(poll, 0); n != 1 || err != nil {
			return
		}
	}
	one := binary.NativeEndian.AppendUint64(nil, 1)
	_, _ = unix.Write(e.fd, one) // EAGAIN: it is full
}

// put drops the reference. On nil it does nothing.
func (e *eventfd) put() {
	if e != nil {
		closeQuietly(e.fd)
	}
}

// closeQuietly closes a descriptor of which there is nothing to be learnt any more.
func closeQuietly(fd int) { _ = unix.Close(fd) }

// resample waits for an eventfd that a user gave for unmasking, in a goroutine of its own.
type resample struct {
	event *eventfd
	quit  int  // an eventfd; written to end the goroutine
	done  bool // no unmasking any more
	ended bool // quit is closed
}

// newResample calls unmask, with the kernel's lock held, whenever event is signalled, until stop.
func (k *Kernel) newResample(event *eventfd, unmask func()) (*resample, error) {
	quit, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, unix.ENOMEM
	}
	r := &resample{event: event, quit: quit}
	k.resamples.Go(func() {
		for r.wait() {
			k.mu.Lock()
			if !r.done {
				unmask()
			}
			k.mu.Unlock()
		}
		k.mu.Lock()
		defer k.mu.Unlock()
		r.ended = true
		event.put()
		closeQuietly(quit)
	})
	return r, nil
}

// wait returns true when the event was signalled, having taken its count, and false when the goroutine is to end.
func (r *resample) wait() bool {
	for {
		poll := []unix.PollFd{{Fd: int32(r.event.fd), Events: unix.POLLIN}, {Fd: int32(r.quit), Events: unix.POLLIN}}
		if _, err := unix.Poll(poll, -1); err == unix.EINTR {
			continue
		}
		if poll[1].Revents != 0 {
			return false
		}
		// The counter is taken without waiting, whether or not the user's descriptor would: another reader may be faster.
		count := make([]byte, 8)
		_, err := unix.Preadv2(r.event.fd, [][]byte{count}, -1, unix.RWF_NOWAIT)
		if err != unix.EAGAIN && err != unix.EINTR {
			return err == nil
		}
	}
}

// stop ends the goroutine, which drops the event. The caller holds the kernel's lock. On nil it does nothing.
func (r *resample) stop() {
	if r == nil {
		return
	}
	r.done = true
	if r.ended {
		return
	}
	_, _ = unix.Write(r.quit, binary.NativeEndian.AppendUint64(nil, 1))
}
