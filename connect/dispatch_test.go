package connect_test

import (
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/irqbridge/irqbridge/connect"
	"github.com/irqbridge/irqbridge/pci"
	"github.com/irqbridge/irqbridge/vfio"
	"github.com/irqbridge/irqbridge/vfio/host"
	"github.com/irqbridge/irqbridge/vfio/vfiotest"
)

// lineWalk raises edu's line once, with a chain of routines of which those that answer true quiet the device, and
// returns who was called until nothing was left to do, and how often the line was unmasked.
func lineWalk(t *testing.T, fake vfiotest.Option, answers ...bool) (calls []int, unmasks int, members []*connect.Interrupt) {
	m, k := alter(t, fake)
	r := edu(t, m, pci.KindINTx)
	for n, answer := range answers {
		members = append(members, r.connect(0, func(*connect.Interrupt, any) bool {
			calls = append(calls, n)
			if n == len(answers)-1 || answer {
				r.board.acknowledge(r, 0) // else it would fire again at once
			}
			return answer
		}))
	}
	before := k.unmasks()
	r.raise(0)
	eventually(t, "the line is unmasked", func() bool { return k.unmasks() > before })
	for _, i := range members {
		r.disconnect(i) // waits for the routines
	}
	return calls, k.unmasks() - before, members
}

// fires is how often servedOn raises an interrupt.
const fires = 100

// servedOn raises one of the device's interrupts again and again, requires that each is served on the given CPU and
// delivered on no other, and returns how many were delivered.
func servedOn(t *testing.T, m *vfiotest.Machine, address pci.Address, p connect.Policy, cpu int) (delivered uint64) {
	r := open(t, m, address, p)
	n := len(r.messages) / 2
	served := make(chan struct{}, 1)
	i := r.connect(n, func(*connect.Interrupt, any) bool {
		at, err := m.Host.CurrentCPU()
		assert.NoError(t, err)
		assert.Equal(t, cpu, at)
		if !r.serve(n) {
			return false
		}
		tell(served, struct{}{})
		return true
	})
	a := i.Affinity()
	require.NoError(t, a.IRQErr)
	for _, set := range []host.CPUSet{a.Wanted, a.Thread, a.IRQ, a.Effective} {
		assert.Equal(t, host.CPUSetOf(cpu), set)
	}
	before, err := i.HostIRQ()
	require.NoError(t, err)
	for range fires {
		r.raise(n)
		received(t, served)
	}
	after, err := i.HostIRQ()
	require.NoError(t, err)
	for at := range m.CPUs.All() {
		if at != cpu {
			assert.Equal(t, before.Counts[at], after.Counts[at], "delivered on CPU %d", at)
		}
	}
	r.close() // which waits for the service routine that reported last
	assert.EqualValues(t, fires, i.Stats().Claimed)
	return after.Counts[cpu] - before.Counts[cpu]
}

// A line that cannot be unmasked is reported: it would be silent for ever.
func TestUnmaskThatFails(t *testing.T) {
	m, k := alter(t)
	r := edu(t, m, pci.KindINTx)
	isr, calls := r.reporting(0)
	i := r.connect(0, isr)
	k.set(func(k *altered) {
		k.setIRQs = func(call setIRQs) (int, error, bool) { return 0, unix.EIO, call.flags&actionUnmask != 0 }
	})
	serviced(r, 0, calls)
	eventually(t, "the interrupt has an error", func() bool { return i.Err() != nil })
	require.ErrorIs(t, i.Err(), unix.EIO)
	r.disconnect(i)
}

// Without the right to move the host's interrupt the connection stands, and the report says why it was not moved.
func TestSteeringIsBestEffort(t *testing.T) {
	m := vfiotest.FakeMachine(t)
	r := edu(t, m, pci.KindMSI)
	m.Fake.Fail("WriteFile", unix.EACCES, 1)
	isr, calls := r.reporting(0)
	i := r.connect(0, isr)
	serviced(r, 0, calls)
	a := i.Affinity()
	require.ErrorIs(t, a.IRQErr, unix.EACCES)
	assert.Equal(t, m.CPUs, a.Thread)
	assert.False(t, a.Effective.Empty(), "what is read is reported all the same")
}

// dispatchRows are the rows of group G.
func dispatchRows(t *testing.T) {
	for _, c := range []struct {
		row       string
		answers   []bool
		calls     []int
		unclaimed uint64
	}{
		{"120", []bool{false}, []int{0}, 1},
		{"121", []bool{true}, []int{0}, 0},
		{"123", []bool{true, false}, []int{0}, 0},
		{"124", []bool{false, true}, []int{0, 1}, 0},
		{"125", []bool{false, false}, []int{0, 1}, 1},
	} {
		onFake(t, c.row, func(t *testing.T, fake vfiotest.Option) {
			calls, unmasks, members := lineWalk(t, fake, c.answers...)
			assert.Equal(t, c.calls, calls)
			assert.Equal(t, 1, unmasks)
			assert.Equal(t, c.unclaimed, members[0].Stats().UnclaimedWalks)
		})
	}
	onMachine(t, "122", func(t *testing.T, m *vfiotest.Machine) {
		r, c := e1000e(t, m), newRecorder([]bool{true}, []bool{true}, []bool{true})
		i := c.chain(r, 0, 1)[0]
		for range 3 {
			assert.Equal(t, []int{0}, c.walk(r, 0, 1))
		}
		assert.Equal(t, connect.Stats{Fires: 3, Calls: 3, Claimed: 3}, i.Stats())
	})
	for _, c := range []struct {
		row     string
		answers [][]bool
		calls   []int
	}{
		{"126", [][]bool{{true, false}, {false, false}}, []int{0, 1, 0, 1}},
		{"127", [][]bool{{false, true}, {false, false}}, []int{0, 1, 0, 1}},
		{"128", [][]bool{{true, false}, {true, false}, {false, false}}, []int{0, 1, 0, 1, 0, 1}},
		{"129", [][]bool{{false, false}}, []int{0, 1}},
	} {
		onMachine(t, c.row, func(t *testing.T, m *vfiotest.Machine) {
			r, recorder := e1000e(t, m), newRecorder(c.answers...)
			recorder.chain(r, 0, 2)
			assert.Equal(t, c.calls, recorder.walk(r, 0, 1))
		})
	}
	onMachine(t, "130", func(t *testing.T, m *vfiotest.Machine) {
		r := e1000e(t, m)
		reports := make(chan error, 2)
		r.resources.OnError(func(i *connect.Interrupt, err error) { reports <- err })
		i := r.connect(0, claim, shared)
		var claims atomic.Bool
		claims.Store(true)
		other := r.connect(0, func(*connect.Interrupt, any) bool { return claims.Load() }, shared)
		r.trigger(0)
		for range 2 {
			err := received(t, reports)
			bugCheck(t, err, connect.HardwareInterruptStorm, addressOf(claim), 0, addressOf(i), 2)
			assert.ErrorContains(t, err, "10000 passes")
		}
		bugCheck(t, i.Err(), connect.HardwareInterruptStorm)
		assert.EqualValues(t, 10_000, i.Stats().Calls)
		r.disconnect(i)
		claims.Store(false)
		require.NoError(t, other.Rearm())
		require.NoError(t, other.Err())
	})
	onMachine(t, "131", func(t *testing.T, m *vfiotest.Machine) {
		r := e1000e(t, m)
		var fires, seen atomic.Int64
		inside, goOn := make(chan struct{}, 5), make(chan struct{})
		i := r.connect(0, func(*connect.Interrupt, any) bool {
			seen.Store(fires.Load())
			inside <- struct{}{}
			<-goOn
			return true
		})
		r.trigger(0)
		received(t, inside)
		for range 4 {
			fires.Add(1)
			r.trigger(0)
		}
		close(goOn)
		eventually(t, "a call came after the last signal", func() bool { return seen.Load() == 4 })
		r.disconnect(i)
		stats := i.Stats()
		assert.EqualValues(t, 5, stats.Fires)
		assert.GreaterOrEqual(t, stats.Calls, uint64(2))
		assert.LessOrEqual(t, stats.Calls, uint64(5))
	})
	onMachine(t, "132", func(t *testing.T, m *vfiotest.Machine) {
		const writers, each = 8, 12_500
		r := e1000e(t, m)
		var sent, seen atomic.Int64
		i := r.connect(0, func(*connect.Interrupt, any) bool { seen.Store(sent.Load()); return true })
		var writing sync.WaitGroup
		for range writers {
			writing.Go(func() {
				for range each {
					sent.Add(1)
					assert.NoError(t, r.dev.TriggerIRQ(vfio.MSIX, 0, 1))
				}
			})
		}
		writing.Wait()
		eventually(t, "the last signal was served", func() bool { return seen.Load() == writers*each })
		stats := i.Stats()
		assert.EqualValues(t, writers*each, stats.Fires)
		assert.GreaterOrEqual(t, stats.Calls, uint64(1))
		assert.LessOrEqual(t, stats.Calls, uint64(writers*each))
	})
	onMachine(t, "133", func(t *testing.T, m *vfiotest.Machine) {
		r := edu(t, m, pci.KindINTx)
		var calls atomic.Int64
		served := make(chan struct{})
		i := r.connect(0, func(*connect.Interrupt, any) bool {
			if calls.Add(1) < 3 {
				return false // leaves the line asserted
			}
			r.board.acknowledge(r, 0)
			close(served)
			return true
		})
		r.raise(0)
		received(t, served)
		r.disconnect(i)
		assert.EqualValues(t, 3, calls.Load(), "no call after the line was quiet")
		assert.EqualValues(t, 2, i.Stats().UnclaimedWalks)
	})
	onFake(t, "134", func(t *testing.T, fake vfiotest.Option) {
		m, k := alter(t, fake)
		for _, r := range []*rig{edu(t, m, pci.KindMSI), e1000e(t, m)} {
			isr, calls := r.reporting(0)
			i := r.connect(0, isr)
			serviced(r, 0, calls)
			r.disconnect(i)
		}
		assert.Zero(t, k.unmasks())
	})
	onFake(t, "135", func(t *testing.T, fake vfiotest.Option) {
		m, k := alter(t, fake)
		r := edu(t, m, pci.KindINTx)
		var returned atomic.Int64
		for range 2 {
			r.connect(0, func(*connect.Interrupt, any) bool {
				defer returned.Add(1)
				r.board.acknowledge(r, 0)
				runtime.Gosched()
				return false
			})
		}
		atUnmask := make(chan int64, 8) // how many routines had returned by then
		k.set(func(k *altered) {
			k.setIRQs = func(call setIRQs) (int, error, bool) {
				if call.flags&actionUnmask != 0 {
					tell(atUnmask, returned.Load())
				}
				return 0, nil, false
			}
		})
		for walks := range int64(20) {
			r.raise(0)
			assert.Equal(t, 2*(walks+1), received(t, atUnmask))
		}
	})
	onMachine(t, "136", func(t *testing.T, m *vfiotest.Machine) {
		for _, end := range []struct {
			how  string
			call func()
		}{{"panicked: out of order", func() { panic("out of order") }}, {"runtime.Goexit", runtime.Goexit}} {
			r := e1000e(t, m)
			reports := make(chan error, 1)
			r.resources.OnError(func(i *connect.Interrupt, err error) {
				assert.Error(t, r.dev.TriggerIRQ(vfio.MSIX, 0, 1), "the message is disarmed")
				assert.NoError(t, disconnect(i))
				reports <- err
			})
			i := r.connect(0, func(*connect.Interrupt, any) bool { end.call(); return true })
			isr, calls := r.reporting(1)
			other := r.connect(1, isr)
			r.trigger(0)
			err := received(t, reports)
			require.ErrorContains(t, err, end.how)
			var routine *connect.ServiceRoutineError
			require.ErrorAs(t, err, &routine)
			assert.Same(t, i, routine.Interrupt)
			assert.Contains(t, string(routine.Stack), "dispatch_test.go")
			assert.Equal(t, err, i.Err())
			assert.True(t, i.Synchronize(func() bool { return true }), "the lock was released")
			serviced(r, 1, calls)
			assert.NoError(t, other.Err())
			r.disconnect(other)
			r.close()
		}
		silencedLine(t, m)
	})
	onMachine(t, "137", func(t *testing.T, m *vfiotest.Machine) {
		for cpu := range m.CPUs.All() {
			for _, c := range []struct {
				device  string
				address pci.Address
				kind    pci.Kind
			}{
				{"edu", m.EDU, pci.KindINTx},
				{"edu", m.EDU, pci.KindMSI},
				{"e1000e", m.E1000E, pci.KindINTx},
				{"e1000e", m.E1000E, pci.KindMSI},
				{"e1000e", m.E1000E, pci.KindMSIX},
			} {
				t.Run(fmt.Sprintf("%s %s CPU %d", c.device, c.kind, cpu), func(t *testing.T) {
					delivered := servedOn(t, m, c.address, connect.Policy{Kind: c.kind, CPUs: host.CPUSetOf(cpu)}, cpu)
					switch {
					case c.kind == pci.KindINTx:
						// The line is raised again before it is unmasked, now and then: then the kernel signals at the
						// unmask, without an interrupt.
						assert.LessOrEqual(t, delivered, uint64(fires))
						assert.NotZero(t, delivered)
					case c.address == m.E1000E:
						assert.GreaterOrEqual(t, delivered, uint64(fires), "QEMU's e1000e repeats some messages")
					default:
						assert.EqualValues(t, fires, delivered)
					}
				})
			}
		}
	})
	onMachine(t, "138", func(t *testing.T, m *vfiotest.Machine) {
		r := e1000e(t, m) // its mask has every CPU
		var inside, overlaps, sent, seen atomic.Int64
		r.connect(0, func(*connect.Interrupt, any) bool {
			if inside.Add(1) > 1 {
				overlaps.Add(1)
			}
			seen.Store(sent.Load())
			runtime.Gosched()
			inside.Add(-1)
			return true
		})
		for range 1000 {
			sent.Add(1)
			r.trigger(0)
		}
		eventually(t, "the last signal was served", func() bool { return seen.Load() == 1000 })
		assert.Zero(t, overlaps.Load())
	})
}

// silencedLine lets the routine of a line panic: the line is masked, nobody else is connected to it, and after the
// disconnect it serves again.
func silencedLine(t *testing.T, m *vfiotest.Machine) {
	t.Helper()
	r := edu(t, m, pci.KindINTx)
	reported := make(chan error, 1)
	r.resources.OnError(func(_ *connect.Interrupt, err error) { reported <- err })
	i := r.connect(0, func(*connect.Interrupt, any) bool { panic("out of order") })
	r.raise(0)
	require.Error(t, received(t, reported))
	status := refused(r, connect.StatusInvalidDeviceRequest, r.params(0, never(t)))
	require.ErrorContains(t, status, "out of order")
	r.disconnect(i)
	isr, calls := r.reporting(0)
	r.connect(0, isr) // the line is still asserted
	received(t, calls)
}

func TestOneThreadForAMask(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		r := e1000e(t, m)
		threads := make(chan int, 1)
		var first int
		for n := range r.messages {
			r.connect(n, func(*connect.Interrupt, any) bool { tell(threads, unix.Gettid()); return true })
			r.trigger(n)
			tid := received(t, threads)
			if n == 0 {
				first = tid
			}
			assert.Equal(t, first, tid)
		}
	})
}
