package cli

import (
	"fmt"

	"github.com/irqbridge/irqbridge/cmd/irqbridge/internal/diagnosis"
	"github.com/irqbridge/irqbridge/pci"
)

// problem is a finding and what to do about it.
type problem struct {
	what string
	next string
}

// evidence is what can be read about an interrupt that was raised and not serviced.
type evidence struct {
	address  pci.Address
	kind     pci.Kind
	message  int
	loopback bool
	stuck    bool                  // the line stayed asserted
	config   *pci.Function         // as the hardware has it, nil when it cannot be read
	entry    *diagnosis.TableEntry // of the message in the MSI-X table, nil when it cannot be read
	raised   uint64
	calls    uint64
	claimed  uint64
	arrived  uint64 // deliveries that the host counted
	fault    error  // of the service routine's register accesses
	register string // of the status condition
	mask     uint64
	status   uint64 // now
	readErr  error  // of reading it now
}

// diagnose finds out why interrupts were not serviced, or not acknowledged. It has to run before they are disconnected.
func (s *session) diagnose() []problem {
	var problems []problem
	for _, r := range s.rows {
		p := s.diagnoseRow(r)
		if p == nil {
			continue
		}
		what := fmt.Sprintf("message %d: ", r.message.Index)
		if r.raised.Load() > 0 {
			what += fmt.Sprintf("%d of %d raised interrupts were serviced: ", r.serviced.Load(), r.raised.Load())
		}
		problems = append(problems, problem{what + p.what, p.next})
	}
	return problems
}

// diagnoseRow is diagnose for one of them, nil when nothing is wrong.
func (s *session) diagnoseRow(r *row) *problem {
	if s.awaitUnmask() && r.serviced.Load() == r.raised.Load() {
		return nil
	}
	e := evidence{
		address: s.device.Address(), kind: s.resources.Kind, message: r.message.Index, loopback: s.board == nil, stuck: s.stuck,
		raised: r.raised.Load(), calls: r.routine.calls.Load(), claimed: r.routine.claimed.Load(),
	}
	for _, n := range r.delivered {
		e.arrived += n
	}
	if e.config = s.config(); e.config != nil {
		e.entry = s.tableEntry(e.config, e.message)
	}
	if h := r.routine.handler; h != nil {
		e.fault = h.Fault()
		e.register, e.mask = h.StatusRegister()
		e.status, e.readErr = h.Status()
	}
	cause, next := e.explain()
	return &problem{cause, next}
}

// held finds out what holds messages back of which none came while the device was watched. That none came may be as it should
// be: only what is seen to be in their way is a problem. It has to run before they are disconnected.
func (s *session) held() []problem {
	signalled := s.board == nil && s.canRaise() // by the kernel, in place of the device
	if s.watched == 0 || s.resources.Kind == pci.KindINTx || signalled {
		return nil
	}
	config := s.config()
	if config == nil {
		return nil
	}
	var checks []diagnosis.Check // the first of each ID
	messages := map[string][]int{}
	for _, r := range s.rows {
		if r.routine.calls.Load() > 0 || r.raised.Load() > 0 {
			continue
		}
		e := evidence{address: s.device.Address(), kind: s.resources.Kind, message: r.message.Index, entry: s.tableEntry(config, r.message.Index)}
		c := diagnosis.Memory(e.address, config)
		if c.Status != diagnosis.Failure {
			c = e.messages(config)
		}
		if c.Status != diagnosis.Failure {
			continue
		}
		if messages[c.ID] == nil {
			checks = append(checks, c)
		}
		messages[c.ID] = append(messages[c.ID], e.message)
	}
	var problems []problem
	for _, c := range checks {
		list := messages[c.ID]
		others := when(len(list) > 1, fmt.Sprintf(" and %d more", len(list)-1))
		problems = append(problems, problem{fmt.Sprintf("message %d%s: no interrupt came: %s", list[0], others, c.Cause), c.Next})
	}
	return problems
}

// config is configuration space as the hardware has it, nil when it cannot be read.
func (s *session) config() *pci.Function {
	config, err := s.device.Host().Config(s.device.Address())
	if err != nil {
		return nil
	}
	f, err := pci.Decode(config)
	if err != nil {
		return nil
	}
	return f
}

// tableEntry reads what the MSI-X table has for a message; nil when it cannot be read, or another kind is connected. Where the
// kernel does not let the table be mapped (Linux before 4.16), it reads as all ones.
func (s *session) tableEntry(config *pci.Function, message int) *diagnosis.TableEntry {
	if config.MSIX == nil || s.resources.Kind != pci.KindMSIX {
		return nil
	}
	bar, err := s.device.BAR(config.MSIX.Table.BAR)
	if err != nil {
		return nil
	}
	var words [diagnosis.TableEntrySize / 4]uint32
	at := uint64(config.MSIX.Table.Offset) + uint64(message)*diagnosis.TableEntrySize
	for i := range words {
		if words[i], err = bar.Read32(at + uint64(4*i)); err != nil {
			return nil
		}
	}
	const ones = 1<<32 - 1
	if words == [...]uint32{ones, ones, ones, ones} {
		return nil
	}
	return &diagnosis.TableEntry{Address: uint64(words[1])<<32 | uint64(words[0]), Masked: words[3]&1 != 0}
}

// explain names the first cause that fits, going the way of the interrupt from its end to its beginning: what happened
// late on the way proves all that lies before.
func (e *evidence) explain() (cause, next string) {
	status := fmt.Sprintf("%s reads 0x%x, & 0x%x is 0x%x", e.register, e.status, e.mask, e.status&e.mask)
	message := e.kind != pci.KindINTx
	hardware := e.config
	if hardware == nil {
		hardware = &pci.Function{Command: pci.CommandMemory | pci.CommandBusMaster}
	}
	memory, messages := diagnosis.Memory(e.address, hardware), e.messages(hardware)
	switch {
	case e.loopback && e.stuck:
		return "the device holds its line asserted, so that it cannot be told from the kernel's trigger",
			"give a profile that acknowledges the device, or connect its messages: --kind msi"
	case e.loopback:
		return "the kernel's trigger did not get to the service routine",
			"see the end of dmesg"
	case e.fault != nil:
		return "the service routine could not read the device: " + e.fault.Error(),
			"check BAR and offset of " + e.register + " in the profile, power and memory decoding"
	case memory.Status == diagnosis.Failure:
		return memory.Cause, memory.Next
	case e.stuck && e.claimed > 0:
		return fmt.Sprintf("the line is still asserted after service, so that the kernel signals without end (%s, %s)",
				plural(int(e.calls), "call"), status),
			"check the acknowledge steps in the profile"
	case e.raised > 0 && e.claimed >= e.raised:
		return fmt.Sprintf("they were serviced, but later than %v: the CPUs are overloaded", serviceDeadline),
			"choose other CPUs with --cpus"
	case e.calls > 0 && e.claimed == 0:
		return fmt.Sprintf("the service routine ran %s and claimed none: the status never said that this interrupt was pending (%s)",
				plural(int(e.calls), "time"), status),
			"check status register and mask in the profile: another cause may share the interrupt"
	case e.arrived > 0 && e.calls == 0:
		return fmt.Sprintf("the host counted %d deliveries, but the service routine never ran: its thread gets no CPU", e.arrived),
			"choose other CPUs with --cpus"
	case message && messages.Status == diagnosis.Failure:
		return messages.Cause, messages.Next
	case e.readErr != nil:
		return "the status register cannot be read: " + e.readErr.Error(),
			"check BAR and offset of " + e.register + " in the profile"
	case e.status&e.mask == 0:
		return fmt.Sprintf("it did not arrive, and the device does not report it either (%s)", status),
			"check the raise steps in the profile: register, value, and whether the enable steps let it through"
	case !message && hardware.Command&pci.CommandINTxDisable != 0:
		return fmt.Sprintf("the device reports the interrupt (%s), but its line is switched off in COMMAND", status),
			"connect again; if it stays so, reset the device"
	default:
		return fmt.Sprintf("the device reports the interrupt (%s), but it did not arrive: it is masked in the device, or routed elsewhere", status),
			"check the enable steps in the profile"
	}
}

// messages judges what in the device's configuration space and MSI-X table may keep a message from being sent.
func (e *evidence) messages(hardware *pci.Function) diagnosis.Check {
	checks := []diagnosis.Check{
		diagnosis.Enabled(e.address, hardware, e.kind), diagnosis.BusMaster(e.address, hardware),
		diagnosis.Masked(e.address, hardware, e.kind, []int{e.message}),
	}
	if e.entry != nil {
		checks = append(checks, diagnosis.Entry(e.address, hardware, e.message, *e.entry))
	}
	for _, c := range checks {
		if c.Status == diagnosis.Failure {
			return c
		}
	}
	return diagnosis.Check{}
}
