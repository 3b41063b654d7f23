package cli

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/irqbridge/irqbridge/pci"
)

// triggerOptions are the flags of trigger.
type triggerOptions struct {
	choice
	message int
	count   int
	json    bool
	dryRun  bool
}

func (a *app) triggerCommand() *cobra.Command {
	o := triggerOptions{choice: choice{verb: "trigger"}}
	var cmd *cobra.Command
	cmd = &cobra.Command{
		Use:   "trigger BDF",
		Short: "Raise interrupts of a device one by one, and tell of each when, where and by whom it was serviced",
		Long: `trigger opens a device, connects a service routine to every interrupt as connect does, raises one of them, or each in turn, and
tells after how long its service routine began, on which CPU it ran, on which CPU the host counted the delivery, and which other
messages' routines ran at the same time: a board that routes a cause to the wrong message shows there.

The time is from before the register write, or the kernel's trigger with --loopback, to the first instruction of the service routine.
It is one sample each; irqbridge latency makes a distribution of many.`,
		Example: `  irqbridge trigger 05:00.0 --message 3
  irqbridge trigger 05:00.0 --count 5          each message, five times
  irqbridge trigger 05:00.0 --loopback         without a profile`,
		Args: oneDevice,
		RunE: a.orderly(func(ctx context.Context, args []string) error {
			switch {
			case o.message < 0 && cmd.Flags().Changed("message"):
				return usage("--message %d: want 0 or more", o.message)
			case o.count < 1:
				return usage("--count %d: want 1 or more", o.count)
			}
			p, err := a.prepare(cmd, args[0], o.choice, new(""))
			if err != nil {
				return err
			}
			if p.plan != nil && o.message >= 0 {
				if err := hasMessage(p.device.Address, p.plan.kind, len(p.plan.list.Expand()), o.message); err != nil {
					return err
				}
			}
			if o.dryRun {
				return a.printPlan(p, o.choice, plannedRaises{message: o.message, times: o.count})
			}
			return a.trigger(ctx, p, o)
		}),
	}
	o.backendFlag(cmd)
	o.kindFlag(cmd)
	o.cpusFlag(cmd, "")
	o.spreadFlag(cmd)
	o.profileFlag(cmd)
	o.loopbackFlag(cmd)
	f := cmd.Flags()
	f.IntVar(&o.message, "message", everyMessage, "raise message `N` only (default: each in turn)")
	f.Lookup("message").DefValue = ""
	f.IntVar(&o.count, "count", 1, "raise it `N` times")
	f.BoolVar(&o.json, "json", false, "print one JSON object")
	f.BoolVar(&o.dryRun, "dry-run", false, "print what would be done, and do not open the device")
	return cmd
}

// hasMessage refuses a message that a device does not have.
func hasMessage(address pci.Address, kind pci.Kind, messages, n int) error {
	if n < messages {
		return nil
	}
	return &failure{exitFailed, fmt.Errorf("%v: there is no message %d of its %s", address, n, interruptsOf(kind, messages)), fmt.Sprintf("irqbridge trigger %v --message %d", address, messages-1)}
}

// triggered is one interrupt that was raised.
type triggered struct {
	row       *row
	number    uint64         // of the row's, from 1
	after     time.Duration  // that its service routine took to begin, or notServiced
	cpu       int            // that it ran on
	delivered map[int]uint64 // by the host meanwhile
	others    map[int]uint64 // calls of other messages' routines meanwhile
}

// triggeredJSON is one of them. What it says of the service is null when there was none.
type triggeredJSON struct {
	Message     int               `json:"message"`
	Number      uint64            `json:"number"`
	Serviced    bool              `json:"serviced"`
	Nanoseconds *int64            `json:"nanoseconds"`
	CPU         *int              `json:"cpu"`
	Delivered   map[string]uint64 `json:"delivered"`
	AlsoRan     map[string]uint64 `json:"alsoRan"` // calls by message
}

// triggerJSON is the output of trigger --json.
type triggerJSON struct {
	connectJSON
	Triggered []triggeredJSON `json:"triggered"`
}

// trigger raises one interrupt after another, and tells of each.
func (a *app) trigger(ctx context.Context, p *prepared, o triggerOptions) error {
	return a.inSession(ctx, p, func(ctx context.Context, s *session) (int, error) {
		a.tellBeginning(s, p, o.json)
		rows := s.rows
		if o.message != everyMessage {
			if err := hasMessage(s.device.Address(), s.resources.Kind, len(rows), o.message); err != nil {
				return exitFailed, err
			}
			rows = rows[o.message : o.message+1]
		}
		list, triggerErr := s.triggerEach(ctx, rows, o.count)
		s.noteEnd(ctx)
		observeErr := s.observe(s.rows...)
		problems := s.diagnose()
		stopErr := s.stop()
		if o.json {
			j := triggerJSON{s.json(), []triggeredJSON{}}
			for _, t := range list {
				j.Triggered = append(j.Triggered, t.json())
			}
			a.printJSON(j)
		} else {
			a.printTriggered(s, p, list)
		}
		a.tellMisrouted(s, list)
		return a.tellEnd(ctx, s, problems), errors.Join(triggerErr, observeErr, stopErr)
	})
}

// triggerEach raises each of the interrupts n times. What came late of one is counted with the next.
func (s *session) triggerEach(ctx context.Context, rows []*row, n int) ([]triggered, error) {
	var list []triggered
	calls, delivered := s.calls(), map[*row]map[int]uint64{}
	err := s.raise(ctx, rows, n, func(r *row, after time.Duration) {
		t := triggered{row: r, number: r.raised.Load(), after: after, cpu: int(r.routine.enteredOn.Load()), others: map[int]uint64{}}
		if now, err := s.deliveredTo([]*row{r}); err == nil && now[0] != nil {
			t.delivered, delivered[r] = since(delivered[r], now[0]), now[0]
		}
		for i, n := range s.calls() {
			if n > calls[i] && s.rows[i] != r {
				t.others[i] = n - calls[i]
			}
			calls[i] = n
		}
		list = append(list, t)
	})
	return list, err
}

// calls are the calls of the service routines, by message.
func (s *session) calls() []uint64 {
	calls := make([]uint64, len(s.rows))
	for i, r := range s.rows {
		calls[i] = r.routine.calls.Load()
	}
	return calls
}

func (t *triggered) json() triggeredJSON {
	j := triggeredJSON{Message: t.row.message.Index, Number: t.number, Serviced: t.after >= 0, Delivered: countsByCPU(t.delivered), AlsoRan: map[string]uint64{}}
	for message, n := range t.others {
		j.AlsoRan[strconv.Itoa(message)] = n
	}
	if t.after >= 0 {
		j.Nanoseconds, j.CPU = new(int64(t.after)), &t.cpu
	}
	return j
}

func (a *app) printTriggered(s *session, p *prepared, list []triggered) {
	a.printf("%v  %s  %s  backend %v\n", s.device.Address(), interruptsOf(s.resources.Kind, len(s.rows)), p.how, s.device.Backend())
	t := newTable(">MSG", ">VECTOR", ">HOST IRQ", ">RAISE", ">SERVICED AFTER", "RAN ON", "DELIVERED", "ALSO RAN")
	for _, each := range list {
		after, ran := "not serviced", "-"
		if each.after >= 0 {
			after, ran = microseconds(each.after), fmt.Sprintf("cpu%d", each.cpu)
		}
		t.add(each.row.message.Index, fmt.Sprintf("0x%x", each.row.parameters.Vector), each.row.hostIRQ(), each.number, after, ran,
			byCPU(each.delivered), byMessage(each.others))
	}
	t.print(a.stdout, "", 0)
	if p.source.loopback {
		a.printf("%s\n", loopbackProves)
	}
}

// tellMisrouted points at messages that ran in place of those that were raised.
func (a *app) tellMisrouted(s *session, list []triggered) {
	told := map[*row]bool{}
	for _, t := range list {
		if t.after < 0 && len(t.others) > 0 && !told[t.row] {
			told[t.row] = true
			a.note("%v: message %d was raised, and there ran instead: %s; the device routes the cause there, or the profile takes one for the other",
				s.device.Address(), t.row.message.Index, byMessage(t.others))
		}
	}
}
