package connect

import (
	"slices"
	"sync"
	"sync/atomic"
)

// chain holds the interrupts that are connected to one vector, in the order in which they were connected. Those who
// walk it load the list, which is replaced and never changed.
type chain struct {
	// mu is held while a member joins or leaves: a modelled line has members of several devices. Whoever holds it may
	// wait for service routines; they do not take it.
	mu sync.Mutex
	atomic.Pointer[[]*Interrupt]
}

func newChain() *chain {
	c := new(chain)
	c.Store(new([]*Interrupt))
	return c
}

// admit says why an interrupt cannot join, nil when it can. The caller holds mu.
func (c *chain) admit(i *Interrupt, vector uint32) error {
	members := *c.Load()
	if len(members) == 0 {
		return nil
	}
	switch head := members[0]; { // what the head is all of them are
	case !i.share:
		return refuse(StatusInvalidParameter, "vector 0x%x is connected already; ShareVector must be true to share it", vector)
	case !head.share:
		return refuse(StatusInvalidParameter, "vector 0x%x is connected without ShareVector", vector)
	case i.passive() != head.passive():
		return refuse(StatusInvalidParameter, "vector 0x%x is connected at SynchronizeIrql %d, not %d; "+
			"passive-level routines share a vector with their like only", vector, head.synchronizeIRQL, i.synchronizeIRQL)
	case i.wanted != head.wanted:
		return refuse(StatusInvalidParameter, "vector 0x%x is served on CPUs %s, not %s; one thread calls the whole chain",
			vector, head.wanted, i.wanted)
	}
	return nil
}

// add puts an interrupt at the end. The caller holds mu.
func (c *chain) add(i *Interrupt) {
	longer := append(slices.Clone(*c.Load()), i)
	c.Store(&longer)
}

// remove takes an interrupt out.
func (c *chain) remove(i *Interrupt) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.drop(i)
}

// drop takes an interrupt out. The caller holds mu.
func (c *chain) drop(i *Interrupt) {
	shorter := slices.DeleteFunc(slices.Clone(*c.Load()), func(j *Interrupt) bool { return j == i })
	c.Store(&shorter)
}
