package connect

import (
	"runtime"
	"sync"
	"sync/atomic"
)

// A thread that keeps a P while it sleeps takes one from the rest of the process. What is kept that way, of all devices, is
// counted here: half of GOMAXPROCS at most, so that goroutines can always run, or, with Dispatch.Reserve, as much as
// GOMAXPROCS is raised by.
var (
	// keepers counts the threads that keep a P which was there before them.
	keepers atomic.Int32
	// reserves counts the Ps that Dispatch.Reserve brought. It changes together with GOMAXPROCS, under its lock.
	reserves struct {
		sync.Mutex
		n atomic.Int32
	}
)

// ordinaryPs is GOMAXPROCS without what was reserved.
func ordinaryPs() int { return runtime.GOMAXPROCS(0) - int(reserves.n.Load()) }

// mayKeep tells whether n threads may keep a P.
func mayKeep(n int) bool { return n <= ordinaryPs()/2 }

// tooMany tells that GOMAXPROCS was too low for all that is kept when the watchdog last looked. The threads do not look
// themselves: whoever asks for GOMAXPROCS takes a lock of the runtime's, and its end brings back the wish for the P that
// package epoll turned down.
var tooMany atomic.Bool

func countKeepers() { tooMany.Store(!mayKeep(int(keepers.Load()))) }

// keep counts one more thread, and returns whether there is a P for it.
func keep() bool {
	for {
		n := keepers.Load()
		if !mayKeep(int(n) + 1) {
			return false
		}
		if keepers.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// reserve changes GOMAXPROCS, which stops the world for a moment.
func reserve(ps int) {
	reserves.Lock()
	defer reserves.Unlock()
	// The order keeps ordinaryPs from being too large in between.
	reserves.n.Add(int32(max(ps, 0)))
	runtime.GOMAXPROCS(max(runtime.GOMAXPROCS(0)+ps, 1))
	reserves.n.Add(int32(min(ps, 0)))
}
