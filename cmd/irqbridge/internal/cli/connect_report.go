package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"

	"github.com/irqbridge/irqbridge/connect"
	"github.com/irqbridge/irqbridge/pci"
)

// connectJSON is the output of connect --json.
type connectJSON struct {
	Schema     int             `json:"schema"`
	Address    pci.Address     `json:"address"`
	Backend    string          `json:"backend"` // iommufd, group or no-iommu
	Kind       string          `json:"kind"`
	Ended      string          `json:"ended"` // done, interrupt, request, gone or error: why it did
	Interrupts []connectedJSON `json:"interrupts"`
}

// connectedJSON is one interrupt. HostIRQ is null when the host shows none.
type connectedJSON struct {
	Message           int               `json:"message"`
	Vector            uint32            `json:"vector"`
	Irql              uint8             `json:"irql"`
	HostIRQ           *int              `json:"hostIRQ"`
	CPUs              string            `json:"cpus"`
	EffectiveAffinity string            `json:"effectiveAffinity"`
	Raised            uint64            `json:"raised"`
	Serviced          uint64            `json:"serviced"`
	Calls             uint64            `json:"calls"`
	Claimed           uint64            `json:"claimed"`
	WrongCPU          uint64            `json:"wrongCPU"`
	Delivered         map[string]uint64 `json:"delivered"`
	ExpectedRate      *rateJSON         `json:"expectedRate,omitempty"` // absent where the profile does not say
	Causes            []causeJSON       `json:"causes,omitempty"`       // those that the profile tells apart
}

// tellBeginning says what was decided without being asked for.
func (a *app) tellBeginning(s *session, p *prepared, asJSON bool) {
	address := s.device.Address()
	if asJSON {
		a.note("%v: %s", address, p.how)
	}
	if s.resources.Shortfall != nil {
		a.note("%v: fewer interrupts than the device has: %v", address, s.resources.Shortfall)
	}
	for _, r := range s.rows {
		if !p.asked {
			break
		}
		if err := r.interrupt.Affinity().IRQErr; err != nil {
			a.note("%v: the host's affinity of its interrupts is not set, only that of the threads: %v", address, err)
			break
		}
	}
	for _, r := range s.rows {
		if warning := r.interrupt.Dispatching().Warning; warning != nil {
			a.note("%v: message %d: %v", address, r.message.Index, warning)
			break
		}
	}
	if pid := s.device.Host().IRQBalance(); pid != 0 {
		a.note("irqbalance (process %d) runs, and may move interrupts to other CPUs at any time", pid)
	}
}

// tellEnd reports what went wrong, and returns the exit status.
func (a *app) tellEnd(ctx context.Context, s *session, problems []problem) int {
	failed, unknown, unfinished := len(problems) > 0, false, false
	for _, r := range s.rows {
		switch {
		case r.wanted == 0:
		case r.trigger == nil:
			a.note("%v: message %d was not raised: the profile does not say how", s.device.Address(), r.message.Index)
			unknown = true
		case r.serviced.Load() < r.wanted:
			failed = true
			unfinished = unfinished || r.raised.Load() < r.wanted
		}
		if err := r.interrupt.Err(); err != nil && !errors.Is(err, os.ErrClosed) {
			a.note("%v", err)
			failed = true
		}
	}
	for _, p := range problems {
		a.note("%v: %s", s.device.Address(), p.what)
		a.next("%s", p.next)
	}
	if a.tellEnded(s.device.Address(), s.ended) {
		failed = true
	}
	if ctx.Err() != nil && unfinished {
		a.note("%v: stopped before all was raised", s.device.Address())
	}
	switch {
	case failed:
		return exitFailed
	case unknown:
		return exitPartial
	default:
		return exitOK
	}
}

func (s *session) json() connectJSON {
	j := connectJSON{Schema: schema, Address: s.device.Address(), Backend: s.device.Backend().String(), Kind: s.resources.Kind.String(), Ended: s.ended, Interrupts: []connectedJSON{}}
	for _, r := range s.rows {
		c := connectedJSON{
			Message: r.message.Index, Vector: r.parameters.Vector, Irql: r.parameters.Irql, CPUs: r.routine.cpus.List(),
			EffectiveAffinity: r.effective.List(), Raised: r.raised.Load(), Serviced: r.serviced.Load(), Calls: r.routine.calls.Load(),
			Claimed: r.routine.claimed.Load(), WrongCPU: r.routine.wrongCPU.Load(), Delivered: countsByCPU(r.delivered),
		}
		if h := r.routine.handler; h != nil {
			c.ExpectedRate, c.Causes = newRateJSON(h.Rate()), newCausesJSON(h.Causes())
		}
		if r.irqFound {
			c.HostIRQ = &r.irq
		}
		j.Interrupts = append(j.Interrupts, c)
	}
	return j
}

// print is the table for people.
func (s *session) print(a *app, how string, loopback bool) {
	a.printf("%v  %s  %s  backend %v\n", s.device.Address(), interruptsOf(s.resources.Kind, len(s.rows)), how, s.device.Backend())
	s.table().print(a.stdout, "", 0)
	s.causeTable().print(a.stdout, "", 0)
	s.printTotals(a)
	if loopback {
		a.printf("%s\n", loopbackProves)
	}
}

const loopbackProves = "loopback proves the way from the eventfd to the service routine; not the device, its message or the host's delivery"

func (s *session) printTotals(a *app) {
	var raised, serviced, wrong, unclaimed uint64
	for _, r := range s.rows {
		raised, serviced, wrong = raised+r.raised.Load(), serviced+r.serviced.Load(), wrong+r.routine.wrongCPU.Load()
		unclaimed += r.routine.calls.Load() - r.routine.claimed.Load()
	}
	if raised > 0 {
		a.printf("%d raised, %d serviced, %d calls outside the CPUs asked for\n", raised, serviced, wrong)
	}
	if unclaimed > 0 {
		a.printf("%s not claimed: the status register did not say that the device interrupts, as with a shared line or a moderation timer\n", plural(int(unclaimed), "call"))
	}
}

func (s *session) table() *table {
	t := newTable(">MSG", ">VECTOR", ">IRQL", "MODE", "CPUS", ">HOST IRQ", "EFFECTIVE", "DELIVERED", ">RAISED", ">SERVICED", "RAN ON")
	for _, r := range s.rows {
		mode := "latched"
		if r.parameters.InterruptMode == connect.LevelSensitive {
			mode = "level"
		}
		ran := byCPU(r.routine.callsByCPU())
		if unclaimed := r.routine.calls.Load() - r.routine.claimed.Load(); unclaimed > 0 {
			ran += fmt.Sprintf(" (%d not claimed)", unclaimed)
		}
		t.add(r.message.Index, fmt.Sprintf("0x%x", r.parameters.Vector), r.parameters.Irql, mode, r.routine.cpus,
			r.hostIRQ(), orDash(r.effective), byCPU(r.delivered), r.raised.Load(), r.serviced.Load(), ran)
	}
	return t
}

// hostIRQ is the number of the host's interrupt as it was observed.
func (r *row) hostIRQ() string {
	if !r.irqFound {
		return "-"
	}
	return strconv.Itoa(r.irq)
}
