package connect

import (
	"fmt"
	"reflect"
	"slices"
)

// A line that stays asserted interrupts again as soon as it is unmasked, for ever. Windows calls that a storm, and stops
// with bug check 0xF2; here the source is silenced, or the driver told.
const (
	// defaultStormLimit is how many walks of a line in a row may go unclaimed. Windows does not tell its number.
	defaultStormLimit = 1000
	// After overclaimPatience claims of a line in a row the device is asked after each further one whether it still
	// asserts the line, and overclaimProof times yes in a row is the proof. A busy device that is served
	// is quiet after one of them.
	overclaimPatience = 1000
	overclaimProof    = 100
)

// storm watches the walks of a line for a device that nobody quiets. It belongs to the thread that walks; Rearm changes
// it while that thread leaves the source alone.
type storm struct {
	limit     int
	unclaimed int // walks in a row that nobody claimed
	claimed   int // walks in a row that somebody claimed
}

// walked notes what came of a walk of the line's chain, and tells whether the line stays masked because nobody claims it.
func (w *storm) walked(s *source, chain []*Interrupt, o outcome) (stop bool) {
	if o == claimed {
		w.unclaimed = 0
		w.claimed++
		w.checkClaims(s, chain)
		return false
	}
	w.claimed = 0
	w.unclaimed++
	if w.unclaimed < w.limit {
		return false
	}
	s.fail(stormError(chain, true, fmt.Sprintf("nobody claimed %d interrupts of %s in a row, and its line stays masked until Rearm: its "+
		"service routine does not know its own interrupt, or another device asserts the line", w.unclaimed, s)))
	return true
}

// checkClaims finds claims of what the device goes on to assert. It looks at no clock: a device that is merely fast
// makes no storm.
func (w *storm) checkClaims(s *source, chain []*Interrupt) {
	switch {
	case w.claimed < overclaimPatience:
	case !s.asserted():
		w.claimed = 0
	case w.claimed == overclaimPatience+overclaimProof:
		w.claimed = 0
		s.tellStorm(stormError(chain, false, fmt.Sprintf("the service routine of %s claimed %d interrupts in a row and the device still "+
			"asserts its line: it claims what it does not quiet; it is called on", s, overclaimPatience+overclaimProof)))
	}
}

// asserted tells whether the device asserts its line at this moment, masked or not: Interrupt Status of the Status register
// (PCI Local Bus Specification 3.0, 6.2.3). A device older than PCI 2.3 does not say.
func (s *source) asserted() bool {
	const offsetStatus, interruptStatus = 0x06, 0x08
	var status [2]byte
	return s.device.vfio.ReadConfig(status[:], offsetStatus) == nil && status[0]&interruptStatus != 0 && status[1] != 0xFF
}

// stormError is the report about a chain that was walked: its first interrupt stands for it.
func stormError(chain []*Interrupt, stopped bool, reason string) *BugCheckError {
	head := chain[0]
	return &BugCheckError{
		Code: HardwareInterruptStorm,
		Parameters: [4]uint64{
			address(head.routine), address(head.context), address(head), uint64(min(len(chain), 2)),
		},
		Interrupt: head,
		Stopped:   stopped,
		Reason:    reason,
	}
}

// address is where a value is in memory, for those that are addresses.
func address(value any) uint64 {
	switch v := reflect.ValueOf(value); v.Kind() {
	case reflect.Pointer, reflect.Func, reflect.Map, reflect.Chan, reflect.Slice, reflect.UnsafePointer:
		return uint64(v.Pointer())
	}
	return 0
}

func isStorm(err error) bool {
	check, ok := err.(*BugCheckError) //nolint:errorlint // the very value that was reported
	return ok && check.Code == HardwareInterruptStorm
}

// Rearm resumes an interrupt after a storm, when what made it has been mended: the reports of all interrupts of its chain
// are cleared, counting starts again, and a line that was left masked is unmasked. If it is still asserted it
// interrupts at once. Without a storm Rearm does nothing.
//
// The error is a [*BugCheckError] when it is called from a service or deferred routine or with an interrupt lock held, and a
// [*StatusError] for an interrupt that is not connected, for one whose source is silenced for another reason, which only
// Disconnect ends, and when the kernel does not unmask the line, with its errno inside.
func (i *Interrupt) Rearm() error {
	const op = "rearm"
	if err := requirePassive("Rearm"); err != nil {
		return err
	}
	s := i.source
	s.device.mu.Lock()
	defer s.device.mu.Unlock()
	if !slices.Contains(*s.chain.Load(), i) {
		return &StatusError{Status: StatusInvalidParameter, Op: op, Reason: fmt.Sprintf("%s is not connected any more", i)}
	}
	resume, err := s.forgetStorm()
	if err != nil {
		return &StatusError{
			Status: StatusInvalidDeviceRequest, Op: op, Reason: "no storm silenced the source; disconnect it", Err: err,
		}
	}
	if !resume {
		return nil
	}
	if err := s.unmask(); err != nil {
		return &StatusError{Status: statusOf(err), Op: op, Reason: i.String(), Err: err}
	}
	return nil
}

// forgetStorm takes the reports of a storm back, and tells whether the line is to be unmasked. What else silenced the
// source it returns.
func (s *source) forgetStorm() (resume bool, err error) {
	s.reports.Lock()
	defer s.reports.Unlock()
	silenced := s.err.Load()
	if silenced != nil && !isStorm(*silenced) {
		return false, *silenced
	}
	for _, i := range s.members() {
		i.storms.Store(nil)
		if silenced != nil {
			i.err.Store(nil) // the same storm: what silences a member silences the source
		}
	}
	if silenced == nil {
		return false, nil
	}
	s.storm.unclaimed = 0
	s.err.Store(nil)
	return true, nil
}
