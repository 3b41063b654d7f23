package main

import (
	"errors"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/irqbridge/irqbridge/connect"
)

// This file is the one place that knows how irqbridge is told how to wait. Package connect has one way yet, which is not told
// apart by name, and no priorities: the service routine sets its thread's in its first call.

// waits are the ways to wait that there are.
var waits = []string{"block"}

func (r *receiver) dispatch(*connect.Resources) error { return nil }

func (r *receiver) firstCall() {
	if load(r.thread()) != 0 {
		return
	}
	if r.priority == 0 || setFIFO(0, r.priority) == nil {
		store(r.thread(), uint64(unix.Gettid()))
	}
}

func (r *receiver) awaitFirstCall(fd int) error {
	if _, err := unix.Write(fd, oneSignal); err != nil {
		return os.NewSyscallError("write", err)
	}
	for deadline := time.Now().Add(5 * time.Second); load(r.thread()) == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			return errors.New("the first interrupt was not served within 5 s, or not with SCHED_FIFO")
		}
	}
	return nil
}
