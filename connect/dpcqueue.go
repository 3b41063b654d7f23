package connect

import (
	"errors"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/irqbridge/irqbridge/connect/internal/epoll"
	"github.com/irqbridge/irqbridge/vfio/host"
)

// dpcList is a list of DPCs that are queued. A DPC is in one list or in none: it enters and leaves under the list's lock.
type dpcList struct {
	mu         sync.Mutex
	head, tail *DPC
}

// claim makes the list the one that the DPC is queued in, and returns true with the list locked. False means that it is
// queued already. To learn that takes the lock of the list that it is in: the worker takes the DPC out under the same lock,
// so what the caller has written before is seen by the routine that is still to run.
func (l *dpcList) claim(d *DPC) bool {
	for {
		if at := d.list.Load(); at != nil {
			at.mu.Lock()
			queued := d.list.Load() == at
			at.mu.Unlock()
			if queued {
				return false
			}
			continue
		}
		l.mu.Lock()
		if d.list.CompareAndSwap(nil, l) {
			return true
		}
		l.mu.Unlock()
	}
}

// insert queues a DPC at the tail, on its way to the queue that it is for.
func (l *dpcList) insert(d *DPC, to *dpcQueue, argument1, argument2 any) bool {
	if !l.claim(d) {
		return false
	}
	d.fill(to, argument1, argument2)
	l.link(d, l.tail)
	l.mu.Unlock()
	return true
}

// fill sets what an insert leaves in the DPC, under the lock of its list.
func (d *DPC) fill(to *dpcQueue, argument1, argument2 any) {
	d.to = to
	d.high = Importance(d.importance.Load()) == HighImportance
	d.argument1, d.argument2 = argument1, argument2
}

// link puts a DPC behind another one, nil for the head.
func (l *dpcList) link(d, prev *DPC) {
	next := l.head
	if prev != nil {
		next = prev.next
	}
	d.prev, d.next = prev, next
	if prev == nil {
		l.head = d
	} else {
		prev.next = d
	}
	if next == nil {
		l.tail = d
	} else {
		next.prev = d
	}
}

func (l *dpcList) unlink(d *DPC) {
	if d.prev == nil {
		l.head = d.next
	} else {
		d.prev.next = d.next
	}
	if d.next == nil {
		l.tail = d.prev
	} else {
		d.next.prev = d.prev
	}
	d.prev, d.next = nil, nil
}

// remove takes a DPC out, which can be inserted again from here on, and returns its arguments.
func (l *dpcList) remove(d *DPC) (argument1, argument2 any) {
	argument1, argument2 = d.argument1, d.argument2
	l.unlink(d)
	d.fill(nil, nil, nil)
	d.list.Store(nil)
	return argument1, argument2
}

// handOn moves what the thread has queued above DISPATCH_LEVEL to the queues. What is for one queue gets there at once,
// so that importance decides its order before any of it runs.
func (t *thread) handOn() {
	t.deferred = false
	l := &t.pending
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.head != nil {
		q := l.head.to
		q.mu.Lock()
		for d := l.head; d != nil; {
			next := d.next
			if d.to == q {
				l.unlink(d)
				q.place(d)
				d.list.Store(&q.dpcList)
			}
			d = next
		}
		q.unlock()
	}
}

// A dpcQueue is the DPCs of a set of processors, the same set that dispatchers are bound to, with one OS thread, its
// worker, that runs them one after the other: the per-processor queue of Windows for the processors of a mask. The
// empty set is the queue of ordinary goroutines, whose worker may run anywhere.
//
// The worker starts with the first DPC. It ends when the queue is empty and nobody is left who would fill it from a
// service routine: no dispatcher of this set, or, for the queue of a target processor or of ordinary goroutines, no
// dispatcher at all. The queue itself, a few words for each set that was ever used, stays.
type dpcQueue struct {
	dpcList
	cpus host.CPUSet
	// addressed is set once a DPC has the queue as its target, and for the queue of ordinary goroutines.
	addressed atomic.Bool
	// dispatchers counts those with this set that live.
	dispatchers atomic.Int32

	// What follows is guarded by mu.
	host    *host.Host // which pins the worker
	alive   bool       // there is a worker, or one is being started
	asleep  bool       // it reads wake and needs a write
	current *DPC       // what it runs
	begun   uint64     // how many it has begun

	// wake is an eventfd of the worker, -1 while there is none. A write wakes a thread that reads it in a few
	// microseconds; a channel takes up to a hundred, since the Go scheduler has to find the thread first.
	wake  int
	count [8]byte // what the worker read
}

// dpcQueues holds every queue of the process.
var dpcQueues dpcQueueTable

type dpcQueueTable struct {
	mu     sync.Mutex
	byCPUs map[host.CPUSet]*dpcQueue
	// dispatchers counts those of the process that live.
	dispatchers atomic.Int32
}

func (t *dpcQueueTable) all() []*dpcQueue {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := make([]*dpcQueue, 0, len(t.byCPUs))
	for _, q := range t.byCPUs {
		all = append(all, q)
	}
	return all
}

// dpcQueueOf returns the queue of a set of processors.
func dpcQueueOf(cpus host.CPUSet) *dpcQueue {
	dpcQueues.mu.Lock()
	defer dpcQueues.mu.Unlock()
	q := dpcQueues.byCPUs[cpus]
	if q == nil {
		if dpcQueues.byCPUs == nil {
			dpcQueues.byCPUs = make(map[host.CPUSet]*dpcQueue)
		}
		q = &dpcQueue{cpus: cpus, wake: -1}
		q.addressed.Store(cpus.Empty())
		dpcQueues.byCPUs[cpus] = q
	}
	return q
}

// pinBy sets the host that the next worker asks to bind it. There is one, but in tests.
func (q *dpcQueue) pinBy(h *host.Host) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.host = h
}

// hold lets the queue's worker live as long as a dispatcher of its processors does.
func (q *dpcQueue) hold(h *host.Host) {
	q.pinBy(h)
	q.dispatchers.Add(1)
	dpcQueues.dispatchers.Add(1)
}

// drop is the end of hold. Workers that nobody needs any more end, when they have run what is queued.
func (q *dpcQueue) drop() {
	q.dispatchers.Add(-1)
	ending := []*dpcQueue{q}
	if dpcQueues.dispatchers.Add(-1) == 0 {
		ending = dpcQueues.all()
	}
	for _, q := range ending {
		q.mu.Lock()
		q.rouse()
	}
}

// needed tells whether the worker is to wait for more.
func (q *dpcQueue) needed() bool {
	return q.dispatchers.Load() > 0 || q.addressed.Load() && dpcQueues.dispatchers.Load() > 0
}

// insert queues a DPC and lets the worker run it.
func (q *dpcQueue) insert(d *DPC, argument1, argument2 any) bool {
	if !q.claim(d) {
		return false
	}
	d.fill(nil, argument1, argument2)
	q.place(d)
	q.unlock()
	return true
}

// place links a DPC where its importance puts it.
func (q *dpcQueue) place(d *DPC) {
	if d.high {
		q.link(d, nil)
	} else {
		q.link(d, q.tail)
	}
}

// unlock unlocks the queue after something was placed in it, and sees to it that there is a worker who looks.
func (q *dpcQueue) unlock() {
	if !q.alive {
		q.alive = true
		onNewThread(q.work)
	}
	q.rouse()
}

// rouse unlocks the queue and wakes its worker if it sleeps. For each sleep there is one write, and the worker does not
// close the eventfd before it has read it.
func (q *dpcQueue) rouse() {
	wake := -1
	if q.asleep { // or else the worker may be setting it
		wake, q.asleep = q.wake, false
	}
	q.mu.Unlock()
	if wake >= 0 {
		epoll.Signal(wake)
	}
}

// work is the worker's thread.
func (q *dpcQueue) work() {
	t := enterThread()
	t.irql, t.queue = DispatchLevel, q
	watchdog.begin(nil)
	ended := false
	defer func() {
		watchdog.finish(nil)
		t.leave()
		if !ended {
			onNewThread(q.work) // a routine called runtime.Goexit; a new thread goes on
		}
	}()
	q.bind()
	for {
		d, argument1, argument2 := q.next()
		if d == nil {
			break
		}
		d.run(argument1, argument2)
	}
	ended = true
}

// bind pins the thread and gives it what it sleeps on. If a processor has gone since the dispatcher or the target was
// set up, the thread runs where the process may, as Linux lets every thread do whose processors go away. A worker
// without an eventfd ends when its queue is empty, and the next DPC starts another.
func (q *dpcQueue) bind() {
	q.mu.Lock()
	h := q.host
	q.mu.Unlock()
	if !q.cpus.Empty() {
		_ = h.PinThread(q.cpus)
	}
	if q.wake >= 0 {
		return
	}
	if fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC); err == nil {
		q.wake = fd
	}
}

// next returns the DPC to run, taken out of the queue, and waits for one; nil when the worker is to end.
func (q *dpcQueue) next() (d *DPC, argument1, argument2 any) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.current = nil
	for q.head == nil {
		if !q.needed() || q.wake < 0 {
			q.end()
			return nil, nil, nil
		}
		q.asleep = true
		q.mu.Unlock()
		q.sleep()
		q.mu.Lock()
	}
	d = q.head
	argument1, argument2 = q.remove(d)
	q.current = d
	q.begun++
	return d, argument1, argument2
}

// end is the worker's last act under the lock: whoever inserts next starts another.
func (q *dpcQueue) end() {
	q.alive = false
	if q.wake >= 0 {
		_ = unix.Close(q.wake)
		q.wake = -1
	}
}

func (q *dpcQueue) sleep() {
	for {
		if _, err := unix.Read(q.wake, q.count[:]); !errors.Is(err, unix.EINTR) {
			return
		}
	}
}

// dpcFlush waits for DPCs of its own, which it puts behind those that it waits for.
type dpcFlush struct{ passed []<-chan struct{} }

func (f *dpcFlush) marker() *DPC {
	passed := make(chan struct{})
	f.passed = append(f.passed, passed)
	return NewDPC(func(*DPC, any, any, any) { close(passed) }, nil)
}

// followPending waits for what a service routine has queued and its thread has not yet handed on.
func (f *dpcFlush) followPending(l *dpcList) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.tail == nil {
		return
	}
	d := f.marker()
	d.fill(l.tail.to, nil, nil)
	l.link(d, l.tail)
	d.list.Store(l)
}

// follow waits for what is in a queue and for what its worker runs.
func (f *dpcFlush) follow(q *dpcQueue) {
	q.mu.Lock()
	if q.head == nil && q.current == nil {
		q.mu.Unlock()
		return
	}
	d := f.marker()
	q.link(d, q.tail)
	d.list.Store(&q.dpcList)
	q.unlock()
}

func (f *dpcFlush) wait() {
	for _, passed := range f.passed {
		<-passed
	}
}
