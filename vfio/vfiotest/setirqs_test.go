package vfiotest_test

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/irqbridge/irqbridge/vfio/internal/uapi"
	"github.com/irqbridge/irqbridge/vfio/vfiotest"
)

// state brings a device to where one column of the matrix starts.
type state struct {
	name  string
	live  uint32 // the index that is enabled; noIndex for none
	count int
}

const noIndex = math.MaxUint32

var indexNames = map[uint32]string{intx: "INTx", msi: "MSI", msix: "MSI-X", noIndex: "idle"}

// live finds out which of INTx, MSI and MSI-X is enabled; noIndex for none.
func (r *raw) live() uint32 {
	for _, index := range []uint32{intx, msi, msix} {
		if r.isLive(index) {
			return index
		}
	}
	return noIndex
}

// isLive tells whether an index is enabled, without changing anything: DATA_BOOL of one zero is a loopback that fires
// nothing.
func (r *raw) isLive(index uint32) bool {
	_, err := r.set(boolean|trigger, index, 0, 1, []byte{0})
	return err == nil
}

// settle disables whatever is enabled.
func (r *raw) settle() {
	if live := r.live(); live != noIndex {
		r.disable(live)
	}
	for _, index := range []uint32{eRR, rEQ} {
		_, _ = r.set(none|trigger, index, 0, 0, nil) // EINVAL: it has no eventfd
	}
}

// Every combination of index, flags, start and count in every state, with good and bad data: what the ioctl returns, how
// often the eventfds were signalled, and what changed. A request that is not listed is EINVAL in every state and changes
// nothing.
func TestSetIRQsMatrix(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		for _, device := range []struct {
			name   string
			r      *raw
			states []state
		}{
			{"edu", openRaw(t, m, m.EDU), []state{{"idle", noIndex, 0}, {"INTx", intx, 1}, {"MSI", msi, 1}}},
			{"e1000e", openRaw(t, m, m.E1000E), []state{{"idle", noIndex, 0}, {"INTx", intx, 1}, {"MSI", msi, 1}, {"MSI-X", msix, 2}}},
			{"xhci", openRaw(t, m, m.XHCI), []state{{"idle", noIndex, 0}, {"MSI", msi, 3}}},
			{"testdev", openRaw(t, m, m.TestDev), []state{{"idle", noIndex, 0}}},
		} {
			golden(t, m, "setirqs-"+device.name, matrix(t, device.r, device.states))
		}
	})
}

// ask is one request of the matrix.
type ask struct {
	name         string
	flags, index uint32
	start, count uint32
	data         []byte
}

// asks are the requests of the matrix. given is an eventfd, other a file that is none.
func asks(given, other int) []ask {
	var list []ask
	add := func(flags, index, start, count uint32, data []byte, format string, args ...any) {
		list = append(list, ask{
			name:  fmt.Sprintf("index %d %s %d+%d", index, fmt.Sprintf(format, args...), start, count),
			flags: flags, index: index, start: start, count: count, data: data,
		})
	}
	datas := []struct {
		name string
		flag uint32
		data func(count uint32) []byte
	}{
		{"NONE", none, func(uint32) []byte { return nil }},
		{"BOOL 1", boolean, func(n uint32) []byte { return fill(n, 1) }},
		{"BOOL 0", boolean, func(n uint32) []byte { return fill(n, 0) }},
		{"FD", fds, func(n uint32) []byte { return fillFD(n, given) }},
		{"FD -1", fds, func(n uint32) []byte { return fillFD(n, -1) }},
		{"FD -2", fds, func(n uint32) []byte { return fillFD(n, -2) }},
		{"FD closed", fds, func(n uint32) []byte { return fillFD(n, 1_000_000) }},
		{"FD no eventfd", fds, func(n uint32) []byte { return fillFD(n, other) }},
	}
	actions := []struct {
		name string
		flag uint32
	}{{"MASK", mask}, {"UNMASK", unmask}, {"TRIGGER", trigger}}
	spans := [][2]uint32{{0, 0}, {0, 1}, {0, 2}, {0, 5}, {1, 0}, {1, 1}, {1, 2}, {4, 1}, {5, 0}, {15, 1}}
	for index := range uint32(6) {
		for _, a := range actions {
			for _, d := range datas {
				for _, span := range spans {
					add(d.flag|a.flag, index, span[0], span[1], d.data(span[1]), "%s %s", a.name, d.name)
				}
			}
		}
	}
	// What is malformed, in the order of the kernel's checks.
	malformed := []uint32{
		0, none, trigger, none | boolean | trigger, boolean | fds | trigger, none | mask | trigger, none | mask | unmask | trigger,
		1 << 6, 1<<6 | none | trigger, 1 << 31,
	}
	extremes := [][2]uint32{{0, math.MaxUint32}, {1, math.MaxUint32 - 1}, {math.MaxUint32, 0}, {math.MaxUint32, 1}, {2048, 1}, {0, 4096}}
	for index := range uint32(6) {
		for _, flags := range malformed {
			add(flags, index, 0, 1, fill(8, 1), "flags 0x%x", flags)
			add(flags, index, 0, 0, nil, "flags 0x%x", flags)
		}
		for _, span := range extremes {
			add(none|trigger, index, span[0], span[1], nil, "TRIGGER NONE")
		}
		add(boolean|trigger, index, 0, 1, nil, "TRIGGER BOOL of 0 bytes")
		add(fds|trigger, index, 0, 1, []byte{0, 0, 0}, "TRIGGER FD of 3 bytes")
		add(fds|trigger, index, 0, 2, fillFD(1, -1), "TRIGGER FD of 4 bytes")
		add(fds|trigger, index, 0, 1, fillFD(3, -1), "TRIGGER FD of 12 bytes")
	}
	return list
}

// matrix makes every request in every state of one device, and says what came of it, a line for each request.
func matrix(t *testing.T, r *raw, states []state) string {
	t.Helper()
	armed, given := newEvent(t), newEvent(t)
	requests := asks(given.fd, r.container)
	table := make([][]string, len(requests))
	for _, s := range states {
		fresh := false // it is as it is to be
		for i, q := range requests {
			if !fresh {
				r.settle()
				if s.live != noIndex {
					row := make([]int, s.count)
					for i := range row {
						row[i] = armed.fd
					}
					r.enable(s.live, 0, row...)
				}
			}
			outcome := r.ask(q, armed, given)
			// A request that was refused before it came to eventfds has changed nothing: the next ones will tell.
			early := q.flags&fds == 0 || s.live != noIndex && q.index != s.live
			fresh = outcome == "ENOTTY" || early && outcome == "EINVAL"
			if !fresh {
				outcome += r.changed(s)
			}
			table[i] = append(table[i], s.name+": "+outcome)
		}
		require.Empty(t, r.changed(s))
	}
	r.settle()
	var lines strings.Builder
	for i, columns := range table {
		if slices.ContainsFunc(columns, func(c string) bool { return !strings.HasSuffix(c, ": EINVAL") }) {
			fmt.Fprintf(&lines, "%s | %s\n", requests[i].name, strings.Join(columns, " | "))
		}
	}
	return lines.String()
}

// ask makes one request, and says what it returned and which eventfds were signalled.
func (r *raw) ask(q ask, armed, given *event) string {
	n, err := r.set(q.flags, q.index, q.start, q.count, q.data)
	outcome := errno(err)
	if n > 0 {
		outcome = fmt.Sprintf("%d available", n)
	}
	if fired := armed.take(); fired > 0 {
		outcome += fmt.Sprintf(", armed %d", fired)
	}
	if fired := given.take(); fired > 0 {
		outcome += fmt.Sprintf(", given %d", fired)
	}
	return outcome
}

// changed says what is not any more as it was set up.
func (r *raw) changed(s state) string {
	changes := ""
	live := s.live
	if live == noIndex || !r.isLive(live) {
		live = r.live()
	}
	if live != s.live {
		changes = ", now " + indexNames[live]
	}
	if live == msi || live == msix {
		if now := r.messages(); now != s.count || live != s.live {
			changes += fmt.Sprintf(", %d irqs", now)
		}
	}
	return changes
}

// messages counts the host IRQs of the device's messages.
func (r *raw) messages() int {
	names, err := r.irqs()
	if err != nil {
		return 0
	}
	return len(names)
}

func fill(n uint32, v byte) []byte {
	if n > 1<<16 {
		return nil
	}
	return []byte(strings.Repeat(string(rune(v)), int(n)))
}

func fillFD(n uint32, fd int) []byte {
	row := make([]int, n)
	for i := range row {
		row[i] = fd
	}
	return fdData(row...)
}

// The matrix of the interface's documentation, row by row, as a reader checks it.
func TestSetIRQsRules(t *testing.T) {
	const (
		ok     = "ok"
		einval = "EINVAL"
		enotty = "ENOTTY"
	)
	rows := []struct {
		name              string
		index, flags      uint32
		count             uint32
		idle, own, others string // own: this index is enabled; others: another one is
	}{
		{"INTx MASK NONE", intx, none | mask, 1, einval, ok, einval},
		{"INTx MASK BOOL", intx, boolean | mask, 1, einval, ok, einval},
		{"INTx MASK EVENTFD", intx, fds | mask, 1, einval, enotty, einval},
		{"INTx UNMASK NONE", intx, none | unmask, 1, einval, ok, einval},
		{"INTx UNMASK BOOL", intx, boolean | unmask, 1, einval, ok, einval},
		{"INTx UNMASK EVENTFD", intx, fds | unmask, 1, einval, ok, einval},
		{"INTx MASK nothing", intx, none | mask, 0, einval, einval, einval},
		{"INTx UNMASK nothing", intx, none | unmask, 0, einval, einval, einval},
		{"INTx TRIGGER EVENTFD", intx, fds | trigger, 1, ok, ok, einval},
		{"INTx TRIGGER EVENTFD nothing", intx, fds | trigger, 0, einval, einval, einval},
		{"INTx TRIGGER BOOL nothing", intx, boolean | trigger, 0, einval, einval, einval},
		{"INTx disable", intx, none | trigger, 0, einval, ok, einval},
		{"INTx loopback", intx, none | trigger, 1, einval, ok, einval},
		{"INTx loopback BOOL", intx, boolean | trigger, 1, einval, ok, einval},
		{"MSI MASK", msi, none | mask, 1, enotty, enotty, enotty},
		{"MSI UNMASK", msi, none | unmask, 1, enotty, enotty, enotty},
		{"MSI TRIGGER EVENTFD", msi, fds | trigger, 1, ok, ok, einval},
		{"MSI TRIGGER EVENTFD nothing", msi, fds | trigger, 0, "ERANGE", ok, einval},
		{"MSI disable", msi, none | trigger, 0, einval, ok, einval},
		{"MSI loopback", msi, none | trigger, 1, einval, ok, einval},
		{"MSI loopback BOOL", msi, boolean | trigger, 1, einval, ok, einval},
		{"MSI loopback BOOL nothing", msi, boolean | trigger, 0, einval, ok, einval},
		{"MSI-X MASK", msix, none | mask, 1, enotty, enotty, enotty},
		{"MSI-X UNMASK", msix, none | unmask, 1, enotty, enotty, enotty},
		{"MSI-X TRIGGER EVENTFD", msix, fds | trigger, 2, ok, ok, einval},
		{"MSI-X TRIGGER EVENTFD nothing", msix, fds | trigger, 0, "ERANGE", ok, einval},
		{"MSI-X disable", msix, none | trigger, 0, einval, ok, einval},
		{"MSI-X loopback", msix, none | trigger, 2, einval, ok, einval},
		{"MSI-X loopback BOOL", msix, boolean | trigger, 2, einval, ok, einval},
		{"MSI-X loopback BOOL nothing", msix, boolean | trigger, 0, einval, ok, einval},
	}
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		r := openRaw(t, m, m.E1000E)
		e := newEvent(t)
		for _, row := range rows {
			data := fill(row.count, 1)
			if row.flags&fds != 0 {
				data = fillFD(row.count, e.fd)
			}
			try := func(live uint32) string {
				r.settle()
				switch live {
				case noIndex:
				case msix:
					r.enable(msix, 0, e.fd, e.fd)
				default:
					r.enable(live, 0, e.fd)
				}
				_, err := r.set(row.flags, row.index, 0, row.count, data)
				return errno(err)
			}
			assert.Equal(t, row.idle, try(noIndex), "%s, idle", row.name)
			assert.Equal(t, row.own, try(row.index), "%s, enabled", row.name)
			for other := range uint32(3) {
				if other != row.index {
					assert.Equal(t, row.others, try(other), "%s, index %d enabled", row.name, other)
				}
			}
		}
		r.settle()
	})
}

// ERR and REQ stand beside the others: each is one eventfd.
func TestErrAndReq(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		r := openRaw(t, m, m.E1000E)
		e := newEvent(t)
		r.enable(intx, 0, e.fd)
		for _, index := range []uint32{eRR, rEQ} {
			r.fails(unix.ENOTTY, none|mask, index, 0, 1, nil)
			r.fails(unix.ENOTTY, none|unmask, index, 0, 1, nil)
			r.fails(unix.EINVAL, none|trigger, index, 0, 0, nil)
			r.fails(unix.EINVAL, none|trigger, index, 0, 1, nil)
			r.must(boolean|trigger, index, 0, 1, []byte{1})
			r.enable(index, 0, e.fd)
			r.fire(index, 0, 1)
			r.must(boolean|trigger, index, 0, 1, []byte{1})
			r.must(boolean|trigger, index, 0, 1, []byte{0})
			assert.Equal(t, uint64(2), e.take())
			r.disable(index)
			r.enable(index, 0, e.fd)
			r.enable(index, 0, -1)
			r.fails(unix.EINVAL, none|trigger, index, 0, 1, nil)
		}
		assert.Equal(t, "INTx", indexNames[r.live()])
	})
}

// A row of eventfds of which one is bad leaves all that were touched without one, also those that had one before.
func TestFailedBlock(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		r := openRaw(t, m, m.E1000E)
		es := []*event{newEvent(t), newEvent(t), newEvent(t), newEvent(t)}
		r.enable(msix, 0, es[0].fd, es[1].fd, es[2].fd, es[3].fd)
		r.fails(unix.EBADF, fds|trigger, msix, 0, 3, fdData(es[0].fd, 1_000_000, es[2].fd))
		r.fire(msix, 0, 4)
		assert.Equal(t, []uint64{0, 0, 1, 1}, []uint64{es[0].take(), es[1].take(), es[2].take(), es[3].take()})
		assert.Equal(t, "MSI-X", indexNames[r.live()], "the index stays enabled")
		r.disable(msix)

		// The first enable that fails disables the index.
		r.fails(unix.EINVAL, fds|trigger, msix, 0, 2, fdData(es[0].fd, r.container))
		assert.Equal(t, "idle", indexNames[r.live()])
		r.fails(unix.EINVAL, none|trigger, msix, 0, 0, nil)
		assert.Zero(t, r.messages())
	})
}

// The kernel has its own reference to an eventfd; one may serve several vectors.
func TestEventfdReference(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		r := openRaw(t, m, m.E1000E)
		e := newEvent(t)
		own, err := unix.FcntlInt(uintptr(e.fd), unix.F_DUPFD_CLOEXEC, 0)
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, unix.Close(own)) })
		r.enable(msix, 0, own, own, own)
		r.enable(rEQ, 0, own)
		r.fire(msix, 0, 3)
		r.fire(rEQ, 0, 1)
		assert.Equal(t, uint64(4), e.take())
		// After this, the kernel's is the only reference that the test did not make for itself.
		replaced, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, unix.Close(replaced)) })
		require.NoError(t, unix.Dup3(replaced, own, unix.O_CLOEXEC))
		r.fire(msix, 1, 1)
		assert.Equal(t, uint64(1), e.take())
	})
}

// DATA_BOOL fires only what is set.
func TestLoopbackSelects(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		r := openRaw(t, m, m.E1000E)
		es := []*event{newEvent(t), newEvent(t), newEvent(t)}
		r.enable(msix, 0, es[0].fd, es[1].fd, es[2].fd)
		r.must(boolean|trigger, msix, 0, 3, []byte{0, 1, 0})
		assert.Equal(t, []uint64{0, 1, 0}, []uint64{es[0].take(), es[1].take(), es[2].take()})
		r.enable(msix, 1, -1)
		r.fire(msix, 0, 3)
		assert.Equal(t, []uint64{1, 0, 1}, []uint64{es[0].take(), es[1].take(), es[2].take()}, "one without an eventfd is passed over")
	})
}

// Vectors beyond those of the first enable: the one rule in which the kernels differ by design.
func TestGrowth(t *testing.T) {
	differences := map[vfiotest.Version]struct {
		noResize bool
		add      string
		irqs     int
	}{
		vfiotest.V6_1:   {noResize: true, add: "EINVAL", irqs: 2},
		vfiotest.Newest: {noResize: false, add: "ok", irqs: 3},
	}
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		want := differences[m.Version]
		r := openRaw(t, m, m.E1000E)
		e := newEvent(t)
		r.enable(msix, 0, e.fd, -1)
		assert.Equal(t, 2, r.messages(), "a vector without an eventfd is allocated")
		_, err := r.set(fds|trigger, msix, 4, 1, fdData(e.fd))
		assert.Equal(t, want.add, errno(err))
		assert.Equal(t, want.irqs, r.messages())
		info := sized(uapi.IRQInfo{Index: msix})
		require.NoError(t, r.k.DeviceGetIRQInfo(r.device, info))
		assert.Equal(t, want.noResize, uapi.Take[uapi.IRQInfo](info).Flags&uapi.IRQInfoNoResize != 0, "the flag says so")
		r.fire(msix, 0, 1)
		assert.Equal(t, uint64(1), e.take(), "the others are untouched")
		r.enable(msix, 1, e.fd)
		r.fire(msix, 1, 1)
		assert.Equal(t, uint64(1), e.take(), "within the allocation a vector can be added on every kernel")
		r.disable(msix)

		// MSI never grows.
		x := openRaw(t, m, m.XHCI)
		x.enable(msi, 0, e.fd, e.fd)
		x.fails(unix.EINVAL, fds|trigger, msi, 2, 1, fdData(e.fd))
		assert.Equal(t, 2, x.messages())
	})
}

// Enabling from a start allocates the vectors before it, too.
func TestFirstEnableFromStart(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		r := openRaw(t, m, m.E1000E)
		e := newEvent(t)
		r.enable(msix, 3, e.fd)
		assert.Equal(t, 4, r.messages())
		r.fire(msix, 0, 4)
		assert.Equal(t, uint64(1), e.take())
	})
}

// What a device that does not decode memory, or sleeps, can be asked for: to enable an index, and then, with the index enabled
// before, to take another vector, another eventfd, the loopback, and to disable it.
func TestSetIRQsConditions(t *testing.T) {
	const pmControl = 0xc8 + 4 // of e1000e
	conditions := []struct {
		name string
		set  func(r *raw)
		end  func(r *raw)
	}{
		{"awake", func(*raw) {}, func(*raw) {}},
		{"memory off", func(r *raw) { r.change(0, memory) }, func(r *raw) { r.change(memory, 0) }},
		{"D3hot", func(r *raw) { r.setConfig(pmControl, 2, 3) }, func(r *raw) { r.setConfig(pmControl, 2, 0); r.change(memory, 0) }},
	}
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		r, e := openRaw(t, m, m.E1000E), newEvent(t)
		var b strings.Builder
		for _, c := range conditions {
			say := func(index uint32, what string, flags, start, count uint32, data []byte) {
				n, err := r.set(flags, index, start, count, data)
				fmt.Fprintf(&b, "%s, %s, %s: %s, %d", c.name, indexNames[index], what, errno(err), n)
				if fired := e.take(); fired > 0 {
					fmt.Fprintf(&b, ", fired %d", fired)
				}
				b.WriteByte('\n')
			}
			for _, index := range []uint32{intx, msi, msix} {
				c.set(r)
				say(index, "enable", fds|trigger, 0, 1, fdData(e.fd))
				c.end(r)
				r.settle()
				r.enable(index, 0, e.fd)
				c.set(r)
				if index == msix {
					say(index, "grow", fds|trigger, 1, 1, fdData(e.fd))
				}
				say(index, "swap", fds|trigger, 0, 1, fdData(e.fd))
				say(index, "without an eventfd", fds|trigger, 0, 1, fdData(-1))
				say(index, "with one again", fds|trigger, 0, 1, fdData(e.fd))
				say(index, "loopback", none|trigger, 0, 1, nil)
				say(index, "disable", none|trigger, 0, 0, nil)
				c.end(r)
				fmt.Fprintf(&b, "%s, %s, then live: %s\n", c.name, indexNames[index], indexNames[r.live()])
				r.settle()
			}
		}
		golden(t, m, "conditions", b.String())
	})
}
