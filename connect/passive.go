package connect

// worker runs the service routines of a passive-level source in a goroutine of its own. It is neither pinned nor,
// between walks, locked to a thread, and a routine that blocks holds up no other source.
//
// During a walk it is locked to the thread that it happens to be on, at PASSIVE_LEVEL: the routine's lock has a thread
// as its owner, and Connect and the like find out that they were called from a service routine.
type worker struct {
	// due has room for one event: however many come during a walk, one more walk serves them.
	due chan struct{}
	// redo belongs to the goroutine: the walk at hand has not come to its end.
	redo bool
	done chan struct{}
}

func newWorker() *worker {
	return &worker{due: make(chan struct{}, 1), done: make(chan struct{})}
}

// wake has the routines run, once more if they are running now. It does not wait.
func (w *worker) wake() {
	select {
	case w.due <- struct{}{}:
	default:
	}
}

// stop ends the goroutine and returns when its last walk is over. Nobody wakes the worker any more.
func (w *worker) stop() {
	close(w.due)
	<-w.done
}

// work is the goroutine of a passive-level source.
func (s *source) work() {
	w := s.worker
	ended := false
	defer func() {
		if ended {
			close(w.done)
			return
		}
		// A service routine called runtime.Goexit. Its source has been silenced; on a modelled line it may have been
		// that of another device, and this one is to be served still.
		go s.work()
	}()
	for w.redo || w.next() {
		w.redo = true
		atThread(PassiveLevel, s.serve)
		w.redo = false
	}
	ended = true
}

// next waits for an event, and returns false when none will come.
func (w *worker) next() bool {
	_, ok := <-w.due
	return ok
}
