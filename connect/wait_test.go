package connect_test

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/irqbridge/irqbridge/connect"
	"github.com/irqbridge/irqbridge/pci"
	"github.com/irqbridge/irqbridge/vfio/host"
	"github.com/irqbridge/irqbridge/vfio/vfiotest"
)

// Every way to wait serves every message, on one thread for all or one for each.
func TestWaits(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		for _, how := range []connect.Dispatch{
			{},
			{Wait: connect.Cooperative},
			{Wait: connect.Hybrid},
			{Wait: connect.Hybrid, Spin: time.Millisecond, Own: true},
			{Wait: connect.Poll, Reserve: true},
			{Wait: connect.Block, Reserve: true, Own: true, Priority: 1},
		} {
			t.Run(fmt.Sprintf("%+v", how), func(t *testing.T) {
				procs := runtime.GOMAXPROCS(0)
				before := takeFootprint(t)
				r := open(t, m, m.E1000E, connect.Policy{Kind: pci.KindMSIX})
				require.NoError(t, r.resources.SetDispatch(how))
				const n = 5
				var interrupts [n]*connect.Interrupt
				var calls [n]<-chan *connect.Interrupt
				threads := map[int]bool{}
				for i := range n {
					isr, c := r.reporting(i)
					calls[i] = c
					interrupts[i] = r.connect(i, isr)
					threads[interrupts[i].Dispatching().Thread] = true
				}
				if how.Own {
					assert.Len(t, threads, n)
				} else {
					assert.Len(t, threads, 1)
				}
				if how.Reserve {
					assert.Equal(t, procs+len(threads), runtime.GOMAXPROCS(0))
				}
				for range 3 {
					for i := range n {
						serviced(r, i, calls[i])
					}
				}
				for _, i := range interrupts {
					got := i.Dispatching()
					assert.Equal(t, how, got.Dispatch)
					if how.Wait == connect.Cooperative {
						assert.False(t, got.Keeps)
						require.NoError(t, got.Warning)
					}
					if how.Priority > 0 {
						attr, err := unix.SchedGetAttr(got.Thread, 0)
						require.NoError(t, err)
						assert.EqualValues(t, unix.SCHED_FIFO, attr.Policy)
						assert.EqualValues(t, how.Priority, attr.Priority)
						assert.NotZero(t, attr.Flags&unix.SCHED_FLAG_RESET_ON_FORK)
					}
				}
				for _, i := range interrupts {
					r.disconnect(i)
				}
				assert.Equal(t, procs, runtime.GOMAXPROCS(0))
				r.close()
				before.requireNothingLeft(t)
			})
		}
	})
}

// Messages of one device can be served in different ways; those that are served alike share a thread.
func TestDispatchOfSingleMessages(t *testing.T) {
	m := vfiotest.FakeMachine(t)
	r := open(t, m, m.E1000E, connect.Policy{Kind: pci.KindMSIX})
	hot := connect.Dispatch{Wait: connect.Hybrid, Own: true}
	require.NoError(t, r.resources.SetDispatch(connect.Dispatch{Wait: connect.Cooperative}))
	require.NoError(t, r.resources.SetDispatch(hot, 1, 3))
	var at [5]connect.Dispatching
	for n := range 5 {
		isr, calls := r.reporting(n)
		i := r.connect(n, isr)
		serviced(r, n, calls)
		at[n] = i.Dispatching()
		defer r.disconnect(i)
	}
	assert.Equal(t, hot, at[1].Dispatch)
	assert.Equal(t, at[0].Thread, at[2].Thread)
	assert.Equal(t, at[0].Thread, at[4].Thread)
	assert.NotEqual(t, at[1].Thread, at[3].Thread)
	assert.NotEqual(t, at[1].Thread, at[0].Thread)

	// What is connected keeps how it is served.
	err := r.resources.SetDispatch(connect.Dispatch{}, 2)
	require.ErrorIs(t, err, connect.StatusInvalidParameter)
	require.ErrorContains(t, err, "0000:00:05.0 msix 2")
	require.ErrorContains(t, err, "disconnect it first")
	require.ErrorIs(t, r.resources.SetDispatch(connect.Dispatch{}), connect.StatusInvalidParameter)
}

func TestSetDispatchRefuses(t *testing.T) {
	m := vfiotest.FakeMachine(t)
	r := open(t, m, m.E1000E, connect.Policy{Kind: pci.KindMSIX})
	for _, c := range []struct {
		how      connect.Dispatch
		messages []int
		says     string
	}{
		{connect.Dispatch{Wait: 4}, nil, "no way to wait 4"},
		{connect.Dispatch{Spin: time.Microsecond}, nil, "only Hybrid spins"},
		{connect.Dispatch{Wait: connect.Poll, Spin: time.Microsecond}, nil, "only Hybrid spins"},
		{connect.Dispatch{Wait: connect.Hybrid, Spin: -1}, nil, "at most 100ms"},
		{connect.Dispatch{Wait: connect.Hybrid, Spin: time.Second}, nil, "at most 100ms"},
		{connect.Dispatch{Priority: 100}, nil, "priority 100"},
		{connect.Dispatch{Priority: -1}, nil, "priority -1"},
		{connect.Dispatch{Wait: connect.Poll}, []int{1, 5}, "message 5: 5 were assigned"},
		{connect.Dispatch{Wait: connect.Poll}, []int{-1}, "message -1"},
	} {
		err := r.resources.SetDispatch(c.how, c.messages...)
		require.ErrorIs(t, err, connect.StatusInvalidParameter)
		assert.ErrorContains(t, err, c.says)
	}
	isr, calls := r.reporting(1)
	i := r.connect(1, isr)
	serviced(r, 1, calls)
	assert.Equal(t, connect.Dispatch{}, i.Dispatching().Dispatch, "what was refused changed nothing")
	r.disconnect(i)

	old := r.resources
	r.assign(connect.Policy{Messages: 2})
	require.ErrorContains(t, old.SetDispatch(connect.Dispatch{}), "not the device's any more")
	r.close()
	require.ErrorContains(t, r.resources.SetDispatch(connect.Dispatch{}), "closed")
}

func TestParseWait(t *testing.T) {
	for _, w := range []connect.Wait{connect.Block, connect.Cooperative, connect.Hybrid, connect.Poll} {
		got, err := connect.ParseWait(w.String())
		require.NoError(t, err)
		assert.Equal(t, w, got)
	}
	_, err := connect.ParseWait("busy")
	require.ErrorContains(t, err, "block, cooperative, hybrid or poll")
	assert.Equal(t, "Wait(9)", connect.Wait(9).String())
}

// Interrupts keep half of the Ps at most, and say so when there is none left; what is reserved comes on top.
func TestKeptPs(t *testing.T) {
	m := vfiotest.FakeMachine(t)
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	for _, c := range []struct{ procs, kept int }{{1, 0}, {2, 1}, {3, 1}, {4, 2}, {12, 5}} {
		for _, reserve := range []bool{false, true} {
			t.Run(fmt.Sprintf("GOMAXPROCS=%d reserve=%v", c.procs, reserve), func(t *testing.T) {
				runtime.GOMAXPROCS(c.procs)
				r := open(t, m, m.E1000E, connect.Policy{Kind: pci.KindMSIX})
				require.NoError(t, r.resources.SetDispatch(connect.Dispatch{Wait: connect.Poll, Own: true, Reserve: reserve}))
				var interrupts []*connect.Interrupt
				for n := range 5 {
					isr, calls := r.reporting(n)
					i := r.connect(n, isr)
					interrupts = append(interrupts, i)
					serviced(r, n, calls)
				}
				want := c.kept
				if reserve {
					want = 5
				}
				counts := func() (kept, warned int) {
					for _, i := range interrupts {
						got := i.Dispatching()
						if got.Keeps {
							kept++
						} else if got.Warning != nil {
							assert.ErrorContains(t, got.Warning, "Dispatch.Reserve")
							warned++
						}
					}
					return kept, warned
				}
				eventually(t, fmt.Sprintf("%d keep a P, and the others say why not", want), func() bool {
					kept, warned := counts()
					return kept == want && warned == 5-want
				})
				if !reserve && c.procs > 1 {
					runtime.GOMAXPROCS(1)
					eventually(t, "they let go when GOMAXPROCS falls", func() bool {
						kept, _ := counts()
						return kept == 0
					})
				}
				for _, i := range interrupts {
					r.disconnect(i)
				}
				r.close()
				if reserve {
					assert.Equal(t, c.procs, runtime.GOMAXPROCS(0))
				}
			})
		}
	}
}

// A thread that nothing comes to gives its P away, and takes one again when something does.
func TestBlockRests(t *testing.T) {
	m := vfiotest.FakeMachine(t)
	r := edu(t, m, pci.KindMSI)
	isr, calls := r.reporting(0)
	require.NoError(t, r.resources.SetDispatch(connect.Dispatch{Reserve: true}))
	i := r.connect(0, isr)
	for range 2 {
		serviced(r, 0, calls)
		eventually(t, "it keeps a P while interrupts come", func() bool { return i.Dispatching().Keeps })
		eventually(t, "it rests", func() bool { return !i.Dispatching().Keeps })
		require.NoError(t, i.Dispatching().Warning)
	}
	r.disconnect(i)
}

// A routine would wait for its device's lock, which a Disconnect has that waits for the routine.
func TestSetDispatchInARoutine(t *testing.T) {
	m := vfiotest.FakeMachine(t)
	r := edu(t, m, pci.KindMSI)
	refused := make(chan error, 1)
	r.connect(0, func(*connect.Interrupt, any) bool {
		refused <- r.resources.SetDispatch(connect.Dispatch{})
		return true
	})
	r.trigger(0)
	bugCheck(t, received(t, refused), connect.DriverViolation)
}

// The deferred routines of a thread that polls run elsewhere: it never leaves its processors to another thread.
func TestDPCsOfAThreadThatPolls(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		cpu := m.CPUs.CPUs()[m.CPUs.Len()-1]
		r := open(t, m, m.EDU, connect.Policy{Kind: pci.KindMSI, CPUs: host.CPUSetOf(cpu)})
		require.NoError(t, r.resources.SetDispatch(connect.Dispatch{Wait: connect.Poll, Reserve: true}))
		allowed := make(chan host.CPUSet, 1)
		d := connect.NewDPC(func(*connect.DPC, any, any, any) {
			cpus, err := m.Host.AllowedCPUs()
			assert.NoError(t, err)
			allowed <- cpus
		}, nil)
		r.connect(0, func(i *connect.Interrupt, context any) bool {
			d.Insert(nil, nil)
			return claim(i, context)
		})
		r.trigger(0)
		assert.Greater(t, received(t, allowed).Len(), 1)
		flush(t)
	})
}

// What goes with polling at a priority is told.
func TestPollingWithPriorityWarns(t *testing.T) {
	m := vfiotest.FakeMachine(t)
	r := edu(t, m, pci.KindMSI)
	require.NoError(t, r.resources.SetDispatch(connect.Dispatch{Wait: connect.Poll, Reserve: true, Priority: 1}))
	isr, _ := r.reporting(0)
	i := r.connect(0, isr)
	require.ErrorContains(t, i.Dispatching().Warning, "50 ms of each second")
	r.disconnect(i)
}

// A slow routine holds up those that its thread serves, and nobody else.
func TestSlowNeighbour(t *testing.T) {
	m := vfiotest.FakeMachine(t)
	for _, own := range []bool{false, true} {
		t.Run(fmt.Sprintf("own=%v", own), func(t *testing.T) {
			r := open(t, m, m.E1000E, connect.Policy{Kind: pci.KindMSIX})
			require.NoError(t, r.resources.SetDispatch(connect.Dispatch{Own: own, Wait: connect.Cooperative}))
			inside, goOn, ended := make(chan struct{}), make(chan struct{}), make(chan struct{})
			slow := r.connect(0, func(*connect.Interrupt, any) bool {
				close(inside)
				<-goOn
				close(ended)
				return true
			})
			first := make(chan bool, 1)
			neighbour := r.connect(1, func(*connect.Interrupt, any) bool {
				select {
				case <-ended:
					first <- false
				default:
					first <- true
				}
				return true
			})
			r.trigger(0)
			received(t, inside)
			r.trigger(1)
			if own {
				assert.True(t, received(t, first))
				close(goOn)
				received(t, ended)
			} else {
				close(goOn)
				assert.False(t, received(t, first))
			}
			r.disconnect(slow)
			r.disconnect(neighbour)
			r.close()
		})
	}
}

// All messages of a device are armed in one call of the kernel.
func TestConnectMessagesArmsAtOnce(t *testing.T) {
	m := vfiotest.FakeMachine(t, vfiotest.MoreDevices())
	r := open(t, m, m.Vectors, connect.Policy{Messages: 300})
	m.Fake.Fail("DeviceSetIRQs", unix.EIO, 2) // a second call would fail
	messages, err := r.resources.ConnectMessages(nil, func(int) bool { return true })
	require.NoError(t, err)
	for _, i := range messages.Interrupts() {
		assert.NoError(t, i.Affinity().IRQErr, "each was moved to its CPUs")
	}
	require.ErrorIs(t, messages.Disconnect(), unix.EIO)
}

// A process under taskset, or on a machine with isolated CPUs, binds a routine's thread to others than its own.
func TestBoundToOtherProcessorsThanTheCallers(t *testing.T) {
	m, k := alter(t)
	k.set(func(k *altered) { k.online, k.allowed = host.CPUSetOf(0, 1, 2, 3), host.CPUSetOf(0, 1) })
	r := open(t, m, m.EDU, connect.Policy{CPUs: host.CPUSetOf(2)})
	assert.Equal(t, host.CPUSetOf(2), r.connect(0, claim).Affinity().Thread)
}
