package vfiotest_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/irqbridge/irqbridge/vfio/vfiotest"
)

// The interrupt registers of e1000e, step by step in each of its three ways to interrupt: what they read after each
// write, which messages were sent, and whether the line is asserted.
func TestNICRegisters(t *testing.T) {
	const (
		ctrlExt, eiac, iam = 0x18, 0xdc, 0xe0
		eiame, iame        = 1 << 24, 1 << 27
	)
	type step struct {
		name  string
		write bool
		reg   int
		v     uint32
	}
	write := func(name string, reg int, v uint32) step {
		return step{name: fmt.Sprintf("%s <- 0x%x", name, v), write: true, reg: reg, v: v}
	}
	read := func(name string, reg int) step { return step{name: "read " + name, reg: reg} }
	steps := []step{
		write("ICS", e1000ICS, 1<<20),
		write("IMS", e1000IMS, 1<<20),
		write("ICS", e1000ICS, 1<<20),
		write("ICS", e1000ICS, 1<<21),
		write("IMS", e1000IMS, 1<<21),
		read("ICR", e1000ICR),
		read("ICR", e1000ICR),
		write("ICR", e1000ICR, 1<<20),
		write("ICR", e1000ICR, 1<<21),
		write("IMC", e1000IMC, 0xffffffff),
		read("ICR", e1000ICR),
		write("IMS", e1000IMS, 0xffffffff),
		write("IMC", e1000IMC, 0xffffffff),

		write("ICS", e1000ICS, 1<<0|1<<7),
		write("IMS", e1000IMS, 1<<0),
		read("ICR", e1000ICR),
		write("ICR", e1000ICR, 1<<0|1<<7),
		write("IMC", e1000IMC, 0xffffffff),
		read("ICR", e1000ICR),

		write("EIAC", eiac, 0xffffffff),
		write("IMS", e1000IMS, 3<<20),
		write("ICS", e1000ICS, 1<<20),
		write("ICS", e1000ICS, 1<<20),
		read("ICR", e1000ICR),
		write("ICR", e1000ICR, 0xffffffff),
		write("CTRL_EXT", ctrlExt, iame),
		write("IMS", e1000IMS, 3<<20),
		write("ICS", e1000ICS, 1<<20),
		write("ICS", e1000ICS, 1<<20),
		write("ICR", e1000ICR, 0xffffffff),
		write("CTRL_EXT", ctrlExt, 0),
		write("EIAC", eiac, 0),

		write("IAM", iam, 1<<20),
		write("CTRL_EXT", ctrlExt, iame),
		write("IMS", e1000IMS, 3<<20),
		write("ICS", e1000ICS, 1<<21),
		read("ICR", e1000ICR),
		write("IMS", e1000IMS, 3<<20),
		write("ICS", e1000ICS, 1<<20),
		write("ICR", e1000ICR, 1<<20),
		write("CTRL_EXT", ctrlExt, eiame),
		write("IMS", e1000IMS, 3<<20),
		write("ICS", e1000ICS, 1<<21),
		write("ICR", e1000ICR, 1<<21),
		write("CTRL_EXT", ctrlExt, 0),
		write("IAM", iam, 0),
		write("IMC", e1000IMC, 0xffffffff),
		read("ICR", e1000ICR),
		write("ICR", e1000ICR, 0xffffffff),

		write("IVAR", e1000IVAR, 0x9a8b9),
		write("IMS", e1000IMS, 0xf<<20),
		write("ICS", e1000ICS, 0x5<<20),
		write("ICR", e1000ICR, 0xffffffff),
		write("ICS", e1000ICS, 0xa<<20),
		write("ICR", e1000ICR, 0xffffffff),
		write("IVAR", e1000IVAR, 0xfffff),
		write("ICS", e1000ICS, 0x1<<20),
		write("ICR", e1000ICR, 0xffffffff),
		write("IMC", e1000IMC, 0xffffffff),
		read("ICR", e1000ICR),
	}
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		r := openRaw(t, m, m.E1000E)
		const nicStatus, linkUp = 0x08, 1 << 1
		// The link comes up some time after the device was reset, which is a cause of its own.
		require.Eventually(t, func() bool { return r.read(nicStatus)&linkUp != 0 }, patience, tick)
		var b strings.Builder
		fmt.Fprintf(&b, "STATUS 0x%08x\n", r.read(nicStatus))
		for _, mode := range []struct {
			name  string
			index uint32
			count int
		}{{"line", intx, 1}, {"MSI", msi, 1}, {"MSI-X", msix, 5}} {
			var es []*event
			var row []int
			for range mode.count {
				es = append(es, newEvent(t))
				row = append(row, es[len(es)-1].fd)
			}
			r.quietNIC()
			r.write(ctrlExt, 0)
			r.write(eiac, 0)
			r.write(iam, 0)
			r.write(e1000IVAR, 0xcba98)
			r.enable(mode.index, 0, row...)
			r.change(busMaster, 0)
			for _, s := range steps {
				got := ""
				if s.write {
					r.write(s.reg, s.v)
				} else {
					got = fmt.Sprintf(" 0x%08x", r.read(s.reg))
				}
				time.Sleep(silence(m)) // a message that is held back comes late
				fmt.Fprintf(&b, "%s: %s%s: ICS 0x%08x IMS 0x%08x line %v", mode.name, s.name, got, r.read(e1000ICS), r.read(e1000IMS),
					r.config(status, 2)&statusInterrupt != 0)
				for n, e := range es {
					if count := r.once(e.take()); count > 0 {
						fmt.Fprintf(&b, ", %d: %d", n, count)
					}
				}
				if mode.index == intx {
					r.unmask()
					es[0].take()
				}
				b.WriteByte('\n')
			}
			r.quietNIC()
			r.disable(mode.index)
		}
		golden(t, m, "e1000e", b.String())
	})
}
