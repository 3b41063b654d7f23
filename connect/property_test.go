package connect_test

import (
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
	return m.due()
}

func (m *member) fail(what string) { m.errors.CompareAndSwap(nil, &what) }

// sequence connects and disconnects at random what a rig has.
type sequence struct {
	r       *rig
	members []*member
}

func (s *sequence) connect(t *rapid.T, source, place int, due func() bool) {
	m := &member{source: source, place: place, due: due}
	p := s.r.params(source, m.routine)
	p.ShareVector = true
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
	return m
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
	for _, m := range s.members {
		if what := m.errors.Load(); what != nil {
			require.Fail(t, *what, "%s", m)
		}
		require.NoError(t, m.Err())
	}
}

// Messages that are connected, shared, disconnected and fired at random: nobody runs twice at once or after its
// disconnect, and everybody sees the last fire.
func TestRandomMessages(t *testing.T) {
	m := vfiotest.FakeMachine(t)
	r := e1000e(t, m)
	files := takeFootprint(t)
	rapid.Check(t, func(t *rapid.T) {
		s := &sequence{r: r}
		var sent [5]atomic.Int64
		seen := make(map[int]*atomic.Int64)
		place := 0
		defer func() {
			for len(s.members) > 0 {
				s.remove(t, 0)
			}
		}()
		source := rapid.IntRange(0, 4)
		t.Repeat(map[string]func(*rapid.T){
			"connect": func(t *rapid.T) {
				n, last := source.Draw(t, "message"), new(atomic.Int64)
				last.Store(sent[n].Load())
				place++
				seen[place] = last
				s.connect(t, n, place, func() bool {
					now := sent[n].Load()
					return last.Swap(now) != now
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
					sent[n].Add(1)
					_ = r.dev.TriggerIRQ(vfio.MSIX, n, 1) // refused while nobody is connected to the message
				}
			},
			"toggle": func(t *rapid.T) {
				if len(s.members) == 0 {
					t.Skip("nobody is connected")
				}
				m := rapid.SampledFrom(s.members).Draw(t, "member")
				seen[m.place].Store(sent[m.source].Load()) // what it misses is not replayed
				s.toggle(t, m)
			},
			"synchronize": func(t *rapid.T) {
				if len(s.members) == 0 {
					t.Skip("nobody is connected")
				}
				m := rapid.SampledFrom(s.members).Draw(t, "member")
				m.Synchronize(func() bool {
					assert.Zero(t, m.inside.Load(), "the service routine runs under Synchronize")
					return true
				})
			},
			"see the last fire": func(t *rapid.T) {
				for _, m := range s.active() {
					eventually(r, "the last fire was seen", func() bool {
						return seen[m.place].Load() == sent[m.source].Load()
					})
				}
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
			for len(s.members) > 0 {
				s.remove(t, 0)
			}
			r.write(0x64, 0xFFFFFFFF)
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
			"toggle": func(t *rapid.T) {
				if len(s.members) == 0 {
					t.Skip("nobody is connected")
				}
				toggle(t, rapid.SampledFrom(s.members).Draw(t, "member"))
			},
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
