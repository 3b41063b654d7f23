package connect_test

import (
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/irqbridge/irqbridge/connect"
	"github.com/irqbridge/irqbridge/pci"
	"github.com/irqbridge/irqbridge/vfio"
	"github.com/irqbridge/irqbridge/vfio/vfiotest"
)

// member is a connected interrupt of a random sequence. Its service routine watches itself.
type member struct {
	*connect.Interrupt
	source int
	place  int // in the order of connects
	// due tells whether there is something to serve, and serves it.
	due func() bool

	// dpc is inserted by the service routine when there was something to serve.
	dpc           *connect.DPC
	inserted, ran atomic.Int64
	deferred      atomic.Int32 // how many of its runs there are now

	// common tells whether the routine runs under the sequence's lock.
	common   bool
	inside   atomic.Int32
	gone     atomic.Bool
	inactive atomic.Bool
	errors   atomic.Pointer[string]
}

func (m *member) routine(*connect.Interrupt, any) bool {
	if m.inside.Add(1) != 1 {
		m.fail("ran twice at once")
	}
	defer m.inside.Add(-1)
	if m.gone.Load() {
		m.fail("ran after Disconnect had returned")
	}
	if m.inactive.Load() {
		m.fail("ran after ReportInactive had returned")
	}
	if !m.due() {
		return false
	}
	if m.dpc.Insert(nil, nil) {
		m.inserted.Add(1)
	}
	return true
}

func (m *member) deferredRoutine(*connect.DPC, any, any, any) {
	if m.deferred.Add(1) != 1 {
		m.fail("had its DPC run twice at once")
	}
	m.ran.Add(1)
	m.deferred.Add(-1)
}

func (m *member) fail(what string) { m.errors.CompareAndSwap(nil, &what) }

// sequence connects and disconnects at random what a rig has.
type sequence struct {
	r       *rig
	members []*member // connected
	former  []*member
	lock    connect.SpinLock // common to some members
	holders atomic.Int32     // how many of them run
}

func (s *sequence) connect(t *rapid.T, source, place int, due func() bool) {
	m := &member{source: source, place: place, due: due, common: rapid.Bool().Draw(t, "common lock")}
	m.dpc = connect.NewDPC(m.deferredRoutine, nil)
	p := s.r.params(source, m.routine)
	p.ShareVector = true
	if m.common {
		p.SpinLock, p.SynchronizeIrql = &s.lock, 11
		p.ServiceRoutine = func(i *connect.Interrupt, context any) bool {
			if s.holders.Add(1) != 1 {
				m.fail("ran with another routine of its lock")
			}
			defer s.holders.Add(-1)
			return m.routine(i, context)
		}
	}
	require.NoError(t, connect.Connect(p))
	m.Interrupt = *p.InterruptObject
	s.members = append(s.members, m)
}

// remove disconnects the nth member and returns it.
func (s *sequence) remove(t *rapid.T, n int) *member {
	m := s.members[n]
	require.NoError(t, disconnect(m.Interrupt))
	m.gone.Store(true)
	require.Zero(t, m.inside.Load(), "the service routine of %s runs after Disconnect", m)
	s.members = append(s.members[:n:n], s.members[n+1:]...)
	s.former = append(s.former, m)
	return m
}

// anyone draws a connected member, active or not.
func (s *sequence) anyone(t *rapid.T) *member {
	if len(s.members) == 0 {
		t.Skip("nobody is connected")
	}
	return rapid.SampledFrom(s.members).Draw(t, "member")
}

// hold keeps a member's service routine, and those that share its lock, from running while f does.
func (s *sequence) hold(t *rapid.T, m *member, f func()) {
	running := func() int32 {
		if m.common {
			return s.holders.Load()
		}
		return m.inside.Load()
	}
	if rapid.Bool().Draw(t, "by hand") {
		before, err := m.AcquireLock()
		require.NoError(t, err)
		first := running()
		f()
		last := running()
		require.NoError(t, m.ReleaseLock(before))
		require.Zero(t, first+last, "a service routine runs while its lock is held")
		return
	}
	m.Synchronize(func() bool {
		assert.Zero(t, running(), "a service routine runs under Synchronize")
		f()
		assert.Zero(t, running(), "a service routine runs under Synchronize")
		return true
	})
}

// flush waits for the DPCs: what had been inserted has run.
func (s *sequence) flush(t *rapid.T) {
	all := slices.Concat(s.members, s.former)
	var inserted []int64
	for _, m := range all {
		inserted = append(inserted, m.inserted.Load())
	}
	require.NoError(t, connect.FlushDPCs())
	for n, m := range all {
		require.GreaterOrEqual(t, m.ran.Load(), inserted[n], "runs of the DPC of %s", m)
	}
}

// end disconnects everybody. Then each DPC has run as often as it was inserted, whoever was disconnected meanwhile.
func (s *sequence) end(t *rapid.T) {
	for len(s.members) > 0 {
		s.remove(t, 0)
	}
	require.NoError(t, connect.FlushDPCs())
	for _, m := range s.former {
		require.Equal(t, m.inserted.Load(), m.ran.Load(), "runs of the DPC of %s", m)
	}
	s.check(t)
}

// toggle makes a member inactive, or active again.
func (s *sequence) toggle(t *rapid.T, m *member) {
	if m.inactive.Swap(false) {
		require.NoError(t, reportActive(m.Interrupt))
		return
	}
	require.NoError(t, reportInactive(m.Interrupt))
	m.inactive.Store(true)
	require.Zero(t, m.inside.Load(), "the service routine of %s runs after ReportInactive", m)
}

// active are the members that are not inactive.
func (s *sequence) active() (members []*member) {
	for _, m := range s.members {
		if !m.inactive.Load() {
			members = append(members, m)
		}
	}
	return members
}

// check looks at what the service routines noticed.
func (s *sequence) check(t *rapid.T) {
	for _, m := range slices.Concat(s.members, s.former) {
		if what := m.errors.Load(); what != nil {
			require.Fail(t, *what, "%s", m)
		}
		require.NoError(t, m.Err())
	}
}

// Messages that are connected, shared, disconnected, fired, made inactive and locked at random: nobody runs twice at once,
// with another of its lock, while inactive or after its disconnect; everybody sees the last fire, in the order of the
// chain; and every DPC that was taken runs once.
func TestRandomMessages(t *testing.T) {
	m := vfiotest.FakeMachine(t)
	r := e1000e(t, m)
	files := takeFootprint(t)
	rapid.Check(t, func(t *rapid.T) {
		s := &sequence{r: r}
		var sent [5]atomic.Int64
		seen := make(map[int]*atomic.Int64)
		nextPlace := 0
		var claims struct {
			sync.Mutex
			places []int // of all who claimed, in the order of their claims
		}
		defer s.end(t)
		fire := func(n int) {
			sent[n].Add(1)
			_ = r.dev.TriggerIRQ(vfio.MSIX, n, 1) // refused while nobody is connected to the message
		}
		awaitLast := func(members []*member) {
			for _, m := range members {
				eventually(r, "the last fire was seen", func() bool {
					return seen[m.place].Load() == sent[m.source].Load()
				})
			}
		}
		source := rapid.IntRange(0, 4)
		t.Repeat(map[string]func(*rapid.T){
			"connect": func(t *rapid.T) {
				n, last := source.Draw(t, "message"), new(atomic.Int64)
				last.Store(sent[n].Load())
				nextPlace++
				place := nextPlace
				seen[place] = last
				s.connect(t, n, place, func() bool {
					now := sent[n].Load()
					if last.Load() == now {
						return false
					}
					claims.Lock()
					claims.places = append(claims.places, place)
					claims.Unlock()
					last.Store(now)
					return true
				})
			},
			"disconnect": func(t *rapid.T) {
				if len(s.members) == 0 {
					t.Skip("nobody is connected")
				}
				gone := s.remove(t, rapid.IntRange(0, len(s.members)-1).Draw(t, "member"))
				delete(seen, gone.place)
			},
			"fire": func(t *rapid.T) {
				n := source.Draw(t, "message")
				for range rapid.IntRange(1, 20).Draw(t, "times") {
					fire(n)
				}
			},
			"toggle": func(t *rapid.T) {
				m := s.anyone(t)
				seen[m.place].Store(sent[m.source].Load()) // what it misses is not replayed
				s.toggle(t, m)
			},
			"hold": func(t *rapid.T) {
				m := s.anyone(t)
				s.hold(t, m, func() { fire(m.source) })
			},
			"flush":             s.flush,
			"see the last fire": func(*rapid.T) { awaitLast(s.active()) },
			"walk in order": func(t *rapid.T) {
				n := source.Draw(t, "message")
				chain := slices.DeleteFunc(s.active(), func(m *member) bool { return m.source != n })
				awaitLast(s.active())
				claims.Lock()
				claims.places = nil
				claims.Unlock()
				fire(n)
				awaitLast(chain)
				claims.Lock()
				defer claims.Unlock()
				require.Len(t, claims.places, len(chain))
				// The fire may have met an earlier walk, which goes on from there and then from the head: seen as a ring, the
				// places fall once.
				falls := 0
				for n, place := range claims.places {
					if place < claims.places[(n+len(chain)-1)%len(chain)] {
						falls++
					}
				}
				require.LessOrEqual(t, falls, 1, "claims %v are not in the order of the connects", claims.places)
			},
			"": s.check,
		})
	})
	files.requireNothingLeft(t)
}

// One level-triggered line with several causes, each with a service routine of its own in the chain: every cause is
// served however the line is shared.
func TestRandomLine(t *testing.T) {
	m := vfiotest.FakeMachine(t)
	r := edu(t, m, pci.KindINTx)
	files := takeFootprint(t)
	rapid.Check(t, func(t *rapid.T) {
		s := &sequence{r: r}
		free := []int{0, 1, 2, 3, 4}
		defer func() {
			r.write(0x64, 0xFFFFFFFF)
			s.end(t)
		}()
		// Nobody's cause is to be left without its routine while another routine is called: that is a storm.
		toggle := func(t *rapid.T, m *member) {
			switch {
			case !m.inactive.Load():
				r.write(0x64, 1<<m.place)
			case len(s.active()) == 0:
				r.write(0x64, ^uint32(1<<m.place))
			}
			s.toggle(t, m)
		}
		t.Repeat(map[string]func(*rapid.T){
			"connect": func(t *rapid.T) {
				if len(free) == 0 {
					t.Skip("every cause has its routine")
				}
				if len(s.active()) == 0 {
					r.write(0x64, 0xFFFFFFFF)
				}
				cause := free[0]
				free = free[1:]
				s.connect(t, 0, cause, func() bool {
					if r.read(0x24)&(1<<cause) == 0 {
						return false
					}
					r.write(0x64, 1<<cause)
					return true
				})
			},
			"disconnect": func(t *rapid.T) {
				if len(s.members) == 0 {
					t.Skip("nobody is connected")
				}
				n := rapid.IntRange(0, len(s.members)-1).Draw(t, "member")
				r.write(0x64, 1<<s.members[n].place) // a driver quiets its device first, or the line storms
				free = append(free, s.remove(t, n).place)
			},
			"toggle": func(t *rapid.T) { toggle(t, s.anyone(t)) },
			"hold":   func(t *rapid.T) { s.hold(t, s.anyone(t), func() {}) },
			"flush":  s.flush,
			"raise": func(t *rapid.T) {
				able := s.active()
				if len(able) == 0 {
					able = s.members // the line is masked until one of them is active
				}
				if len(able) == 0 {
					t.Skip("nobody would serve it")
				}
				var causes uint32
				for _, m := range rapid.SliceOfN(rapid.SampledFrom(able), 1, 5).Draw(t, "causes") {
					causes |= 1 << m.place
				}
				r.write(0x60, causes)
			},
			"see every cause served": func(t *rapid.T) {
				if len(s.members) == 0 {
					t.Skip("nobody serves")
				}
				for _, m := range s.members {
					if m.inactive.Load() {
						toggle(t, m)
					}
				}
				eventually(r, "the device is quiet", func() bool { return r.read(0x24) == 0 })
			},
			"": s.check,
		})
	})
	files.requireNothingLeft(t)
}
