package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/irqbridge/irqbridge/vfio/host"
)

// The receivers in Go run in processes of their own, which are this program again:
//
//	benchmark receive VARIANT CPU PRIORITY VECTORS LOAD
//
// They have the device's socket and the shared memory where those in C have them (c/bench.h).
const (
	socketFD = 3
	sharedFD = 4

	fdsPerMessage = 128
)

// receiver is what waits for the device's interrupts.
type receiver struct {
	variant  string
	cpu      int
	priority int // SCHED_FIFO, 0 for none
	vectors  int
	load     string
	shared   []byte
}

func parseReceiver(args []string) (*receiver, error) {
	if len(args) != 5 {
		return nil, errors.New("want VARIANT CPU PRIORITY VECTORS LOAD")
	}
	r := &receiver{variant: args[0], load: args[4]}
	for i, n := range []*int{&r.cpu, &r.priority, &r.vectors} {
		var err error
		if *n, err = strconv.Atoi(args[1+i]); err != nil {
			return nil, err
		}
	}
	if r.vectors < 1 || r.vectors > maxVectors {
		return nil, fmt.Errorf("%d vectors; want 1 to %d", r.vectors, maxVectors)
	}
	if loads[r.load] == nil {
		return nil, fmt.Errorf("there is no load %q", r.load)
	}
	return r, nil
}

// receive is the process of a receiver.
func receive(args []string, stdout io.Writer) error {
	r, err := parseReceiver(args)
	if err != nil {
		return err
	}
	const access, flags = unix.PROT_READ | unix.PROT_WRITE, unix.MAP_SHARED | unix.MAP_POPULATE
	if r.shared, err = unix.Mmap(sharedFD, 0, sharedSize, access, flags); err != nil {
		return os.NewSyscallError("mmap", err)
	}
	fds, end, err := r.begin()
	if err != nil {
		return err
	}
	defer end()
	if r.load != "none" {
		if err := r.keepOthersOff(); err != nil {
			return err
		}
	}
	return r.serve(fds, stdout)
}

// begin starts the thread that waits, and returns the eventfds that it waits for, for the device.
func (r *receiver) begin() (fds []int, end func(), err error) {
	if r.variant == goRead {
		return r.beginRead()
	}
	return r.beginIRQBridge()
}

// callback is the word that counts the callbacks of r, and thread who calls them.
func (r *receiver) calls() *byte  { return &r.shared[0] }
func (r *receiver) thread() *byte { return &r.shared[sharedThread] }

// beginRead starts the plain way in Go: a thread of its own that blocks in read.
func (r *receiver) beginRead() (fds []int, end func(), err error) {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	if err != nil {
		return nil, nil, os.NewSyscallError("eventfd2", err)
	}
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		err := host.New("/").PinThread(host.CPUSetOf(r.cpu))
		if err == nil && r.priority > 0 {
			err = setFIFO(0, r.priority)
		}
		store(r.thread(), uint64(unix.Gettid()))
		if started <- err; err != nil {
			return
		}
		shared, count := &r.shared[0], make([]byte, 8)
		for {
			if _, err := unix.Read(fd, count); err == nil {
				called(shared, 0)
			}
		}
	}()
	return []int{fd}, func() {}, <-started
}

// setFIFO is sched_setscheduler(2).
func setFIFO(thread, priority int) error {
	attr := unix.SchedAttr{
		Size: unix.SizeofSchedAttr, Policy: unix.SCHED_FIFO, Flags: unix.SCHED_FLAG_RESET_ON_FORK, Priority: uint32(priority),
	}
	return os.NewSyscallError("sched_setattr", unix.SchedSetAttr(thread, &attr, 0))
}

// keepOthersOff moves the process's other threads off the CPU of the one that waits: the pattern for a process that has
// other work. Threads that the runtime makes later follow.
func (r *receiver) keepOthersOff() error {
	waiting := strconv.Itoa(int(load(r.thread())))
	others, err := host.New("/").AllowedCPUs()
	if err != nil {
		return err
	}
	var set unix.CPUSet
	for _, cpu := range others.Minus(host.CPUSetOf(r.cpu)).CPUs() {
		set.Set(cpu)
	}
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return err
	}
	tasks = slices.DeleteFunc(tasks, func(t os.DirEntry) bool { return t.Name() == waiting })
	for _, t := range tasks {
		id, err := strconv.Atoi(t.Name())
		if err != nil {
			return err
		}
		if err := unix.SchedSetaffinity(id, &set); err != nil && err != unix.ESRCH {
			return os.NewSyscallError("sched_setaffinity", err)
		}
	}
	return nil
}

// loads are what the rest of a Go process does meanwhile.
var loads = map[string]func(){
	"none": func() {},
	// busy goroutines never let go of their Ps by themselves.
	"busy": func() {
		for range busyThreads {
			go func() {
				for i := 0; ; i++ {
				}
			}()
		}
	},
	// Goroutines that allocate keep the garbage collector running, over a heap that it has to look at.
	"gc": func() {
		for range 2 {
			go func() {
				live := make([]*[64]*[64]byte, 1<<9)
				for i := 0; ; i++ {
					b := new([64]*[64]byte)
					for j := range b {
						b[j] = new([64]byte)
					}
					live[i*7919%len(live)] = b
				}
			}()
		}
	},
}

// busyThreads is how many compute beside a receiver under load.
const busyThreads = 4

// serve hands the eventfds to the device, waits until it is done, and prints what this process did meanwhile.
func (r *receiver) serve(fds []int, stdout io.Writer) error {
	word := make([]byte, 4)
	for part := range slices.Chunk(fds, fdsPerMessage) {
		binary.NativeEndian.PutUint32(word, uint32(len(part)))
		if err := unix.Sendmsg(socketFD, word, unix.UnixRights(part...), nil, 0); err != nil {
			return os.NewSyscallError("sendmsg", err)
		}
	}
	clear(word)
	before, after := settled(), runtime.MemStats{}
	loads[r.load]()
	callsBefore := load(r.calls())
	if _, err := unix.Write(socketFD, word); err != nil {
		return os.NewSyscallError("write", err)
	}
	for {
		if _, err := unix.Read(socketFD, word); err != unix.EINTR {
			break
		}
	}
	callsAfter := load(r.calls())
	runtime.ReadMemStats(&after)
	_, err := fmt.Fprintf(stdout, "interrupts %d\nmallocs %d\n", callsAfter-callsBefore, after.Mallocs-before.Mallocs)
	return err
}

// settled is the state of the heap when nothing of the start is left to be done. The runtime allocates when it makes a
// thread, so it gets to make those that it will want.
func settled() (m runtime.MemStats) {
	var blocked sync.WaitGroup
	for range 4 {
		blocked.Go(func() { _ = unix.Nanosleep(&unix.Timespec{Nsec: 5e6}, nil) })
	}
	blocked.Wait()
	runtime.GC()
	for last := ^uint64(0); m.Mallocs != last; time.Sleep(2 * time.Millisecond) {
		last = m.Mallocs
		runtime.ReadMemStats(&m)
	}
	return m
}
