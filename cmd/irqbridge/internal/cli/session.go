package cli

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/irqbridge/irqbridge/cmd/irqbridge/internal/histogram"
	"github.com/irqbridge/irqbridge/cmd/irqbridge/internal/profile"
	"github.com/irqbridge/irqbridge/connect"
	"github.com/irqbridge/irqbridge/pci"
	"github.com/irqbridge/irqbridge/vfio"
	"github.com/irqbridge/irqbridge/vfio/host"
)

// serviceDeadline is how long a raised interrupt may take to be serviced. A healthy one takes microseconds; the rest is
// for emulators and loaded machines. It is a variable for the sake of tests in which nothing comes.
var serviceDeadline = 2 * time.Second

// toleratedMisses is how many interrupts a message may miss before it is not raised any more; one that was never
// serviced is given up at the first.
const toleratedMisses = 3

// session is one device with every interrupt connected.
type session struct {
	device    *vfio.Device
	resources *connect.Resources
	board     *profile.Board // nil without a profile
	rows      []*row         // by message
	enabled   bool           // the board's interrupts were switched on, or it was tried
	stuck     bool           // the line stayed asserted after service
	stopped   bool
	inactive  atomic.Bool             // the line was masked by a key
	end       context.CancelCauseFunc // ends what is under way, for a reason
	ended     string                  // why it did: one of the end constants
	watched   time.Duration           // how long what arrives was counted; 0 when interrupts were raised here
}

// row is one connected interrupt and what happened to it.
type row struct {
	message    pci.Message
	parameters connect.Parameters
	interrupt  *connect.Interrupt
	routine    *routine
	before     map[int]uint64 // /proc/interrupts when it was connected, of a line; that of a message begins at 0
	trigger    func() error   // raises it; nil when nothing can
	wanted     uint64         // how often it was to be raised
	raised     atomic.Uint64
	serviced   atomic.Uint64
	latency    *histogram.Histogram // from raise to service routine; nil when nothing can raise it

	// What the host says: the number of its interrupt, which stays the same as long as this is connected, and what was observed.
	irq       int
	irqFound  bool
	effective host.CPUSet
	delivered map[int]uint64
}

// routine is a service routine with what it counts.
type routine struct {
	host     *host.Host
	cpus     host.CPUSet
	handler  *profile.Handler // nil: nothing is known about the interrupt
	claimAll bool             // without a profile, whatever arrives is claimed
	refuses  atomic.Bool      // but not the next, when a recording is replayed
	calls    atomic.Uint64
	claimed  atomic.Uint64
	wrongCPU atomic.Uint64
	onCPU    []atomic.Uint64 // calls by CPU, for the CPUs that the host had when it was connected
	ran      chan struct{}   // gets one after a claimed call, if the last one was taken
	// entered is when the first claimed call since it was set to awaited began, by the clock of now; enteredOn is its CPU.
	entered   atomic.Int64
	enteredOn atomic.Int32
}

// awaited is in routine.entered while somebody waits for the next claimed call; without, no clock is read.
const awaited = -1

// programStart is what now counts from.
var programStart = time.Now()

// now is a reading of the monotonic clock in nanoseconds.
func now() int64 { return int64(time.Since(programStart)) }

// serve is the connect.ServiceRoutine.
func (r *routine) serve(*connect.Interrupt, any) bool {
	var entered int64
	timed := r.entered.Load() == awaited
	if timed {
		entered = now()
	}
	claimed := r.claimAll && !r.refuses.Load() || r.handler != nil && r.handler.Service()
	cpu, err := r.host.CurrentCPU()
	if err != nil || !r.cpus.Has(cpu) {
		r.wrongCPU.Add(1)
	}
	if err == nil && cpu < len(r.onCPU) {
		r.onCPU[cpu].Add(1)
	}
	r.calls.Add(1)
	if claimed {
		if timed {
			r.enteredOn.Store(int32(cpu))
			r.entered.Store(entered)
		}
		r.claimed.Add(1)
		select {
		case r.ran <- struct{}{}:
		default:
		}
	}
	return claimed
}

// callsByCPU is where the routine ran.
func (r *routine) callsByCPU() map[int]uint64 {
	m := map[int]uint64{}
	for cpu := range r.onCPU {
		if n := r.onCPU[cpu].Load(); n > 0 {
			m[cpu] = n
		}
	}
	return m
}

// startSession connects every interrupt that the policy gives to an open device, and switches them on in the device. On
// failure nothing is left connected; the device stays the caller's to close.
//
// When an interrupt is silenced later, because its device vanished or its routine failed, silenced is called; its Err
// tells.
func startSession(device *vfio.Device, policy connect.Policy, src source, silenced func()) (_ *session, err error) {
	s := &session{device: device, end: func(error) {}}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.stop())
		}
	}()
	f, err := device.Function()
	if err != nil {
		return nil, err
	}
	if err := src.offersKind(device.Address(), f, policy.Kind); err != nil {
		return nil, err
	}
	if s.resources, err = connect.Assign(device, policy); err != nil {
		return nil, err
	}
	if err := src.suits(device.Address(), s.resources.Kind); err != nil {
		return nil, err
	}
	if src.profile != nil {
		if s.board, err = src.profile.On(s.resources.Kind, barOf(device)); err != nil {
			return nil, fmt.Errorf("%v: %w", device.Address(), err)
		}
	}
	s.resources.OnError(func(_ *connect.Interrupt, err error) {
		var check *connect.BugCheckError
		if errors.As(err, &check) && !check.Stopped {
			return // a storm of claims, or a routine that does not return: it is told at the end
		}
		silenced()
	})
	dispatch := src.dispatch
	dispatch.Reserve = true // the process is this program's own, which so need not share its Ps with the threads that keep one
	if err := s.resources.SetDispatch(dispatch); err != nil {
		return nil, fmt.Errorf("%v: %w", device.Address(), err)
	}
	for _, m := range s.resources.Expand() {
		if err := s.connect(m, src.loopback); err != nil {
			return nil, fmt.Errorf("%v: %w", device.Address(), err)
		}
	}
	if err := s.findIRQs(); err != nil {
		return nil, err
	}
	if s.board != nil {
		s.enabled = true
		if err := s.board.Enable(len(s.rows)); err != nil {
			return nil, fmt.Errorf("%v: enable the device's interrupts: %w", device.Address(), err)
		}
	}
	return s, nil
}

// barOf gives a profile the device's BARs.
func barOf(device *vfio.Device) func(int) (profile.BAR, error) {
	return func(i int) (profile.BAR, error) {
		bar, err := device.BAR(i)
		if err != nil {
			return nil, err
		}
		return bar, nil
	}
}

func (s *session) connect(m pci.Message, loopback bool) error {
	p, err := connect.FromDescriptor(m.Translated)
	if err != nil {
		return err
	}
	r := &row{message: m, routine: &routine{
		host:     s.device.Host(),
		claimAll: s.board == nil,
		cpus:     host.FromGroupMask(int(m.Translated.Group), m.Translated.Affinity),
		ran:      make(chan struct{}, 1),
	}}
	if cpus := r.routine.cpus.CPUs(); len(cpus) > 0 {
		online, err := s.device.Host().OnlineCPUs()
		if err != nil {
			return err
		}
		all := online.Or(r.routine.cpus).CPUs()
		r.routine.onCPU = make([]atomic.Uint64, all[len(all)-1]+1)
	}
	if s.board != nil {
		r.routine.handler = s.board.Handler(m.Index)
	}
	switch {
	case loopback:
		r.trigger = func() error { return s.device.TriggerIRQ(vfio.IndexOf(s.resources.Kind), m.Index, 1) }
	case r.routine.handler != nil && r.routine.handler.CanRaise():
		r.trigger = r.routine.handler.Raise
	}
	if r.trigger != nil {
		r.latency = new(histogram.Histogram)
	}
	p.PhysicalDeviceObject = s.device
	p.InterruptObject = &r.interrupt
	p.ServiceRoutine = r.routine.serve
	if err := connect.Connect(&p); err != nil {
		return err
	}
	r.parameters = p
	s.rows = append(s.rows, r)
	return nil
}

// findIRQs finds the host's interrupts behind those that are connected, of all of them at once: /proc/interrupts is long where
// there are many. The counts of a line go on from what they were; those of a message begin at 0, since VFIO had the host make
// an interrupt for it.
func (s *session) findIRQs() error {
	h, address, kind := s.device.Host(), s.device.Address(), s.resources.Kind
	if kind == pci.KindINTx {
		irq, err := h.FindIRQ(address, kind, 0)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		s.rows[0].irq, s.rows[0].irqFound, s.rows[0].before = irq.Number, err == nil, irq.Counts
		return err
	}
	numbers, err := h.IRQNumbers(address, kind)
	for _, r := range s.rows {
		r.irq, r.irqFound = numbers[r.message.Index]
	}
	return err
}

// raise raises each of the interrupts n times, one after another, and waits for each to be serviced. It ends early when ctx
// does, and gives up a message that is not serviced; the rows tell. done is called after each; what it is told is how long
// the service routine took to begin, negative when it did not.
func (s *session) raise(ctx context.Context, rows []*row, n int, done func(*row, time.Duration)) error {
	for _, r := range rows {
		r.wanted += uint64(n)
	}
	for _, r := range rows {
		if r.trigger == nil {
			continue
		}
		misses := uint64(0)
		for range n {
			if ctx.Err() != nil || !s.awaitUnmask() {
				return nil
			}
			after, err := r.raiseOnce(ctx)
			if errors.Is(err, context.Canceled) {
				return nil
			}
			if err != nil {
				return fmt.Errorf("%v: raise %v %d: %w", s.device.Address(), s.resources.Kind, r.message.Index, err)
			}
			done(r, after)
			if after >= 0 {
				continue
			}
			if misses++; r.serviced.Load() == 0 || misses == toleratedMisses {
				break
			}
		}
	}
	return nil
}

// notServiced is in place of a time when an interrupt was raised and no service routine claimed it.
const notServiced = time.Duration(-1)

// raiseOnce raises the interrupt and waits for it. The result is how long its service routine took to begin, counted from
// before the raise, or notServiced. An interrupt that is not waited for, because ctx ends, does not count as raised, and is
// context.Canceled.
func (r *row) raiseOnce(ctx context.Context) (time.Duration, error) {
	before := r.routine.claimed.Load()
	r.routine.entered.Store(awaited)
	begin := now()
	if err := r.trigger(); err != nil {
		return notServiced, err
	}
	r.raised.Add(1)
	deadline := time.NewTimer(serviceDeadline)
	defer deadline.Stop()
	for r.routine.claimed.Load() == before {
		select {
		case <-r.routine.ran:
			continue
		case <-ctx.Done():
			r.raised.Add(^uint64(0))
			return notServiced, context.Canceled
		case <-deadline.C:
		}
		if r.routine.claimed.Load() == before {
			return notServiced, nil
		}
	}
	after := max(time.Duration(r.routine.entered.Load()-begin), 0)
	r.latency.Add(after)
	r.serviced.Add(1)
	return after, nil
}

// awaitUnmask waits until the kernel has unmasked the line again after an interrupt, which comes after the service
// routine. What is raised before gets through at the unmask, but not as an interrupt of the host's: /proc/interrupts
// does not count it. It returns false when that does not come: the kernel does not unmask a line that is still asserted
// but signals again at once, so that the service routine is called for ever and its calls say nothing about what is
// raised. A kernel that masks otherwise than by COMMAND.INTxDisable is not waited for, nor a device that does not answer.
func (s *session) awaitUnmask() bool {
	if s.resources.Kind != pci.KindINTx || s.stuck {
		return !s.stuck
	}
	for begin := time.Now(); time.Since(begin) < serviceDeadline; runtime.Gosched() {
		if command, _, err := s.hardware(); err != nil || command&pci.CommandINTxDisable == 0 {
			return true
		}
	}
	s.stuck = true
	return false
}

// hardware is the command and the status register as the hardware has them, not as VFIO shows them. A device that does
// not answer is vfio.ErrGone.
func (s *session) hardware() (pci.Command, pci.StatusBits, error) {
	config, err := s.device.Host().Config(s.device.Address())
	if errors.Is(err, fs.ErrNotExist) || err == nil && (len(config) < 8 || binary.LittleEndian.Uint32(config[4:]) == 0xffff_ffff) {
		err = vfio.ErrGone
	}
	if err != nil {
		return 0, pci.StatusBits{}, err
	}
	return pci.Command(binary.LittleEndian.Uint16(config[4:])), pci.StatusRegister(binary.LittleEndian.Uint16(config[6:])), nil
}

// observe reads what the host says about interrupts, as long as they are connected.
func (s *session) observe(rows ...*row) error {
	delivered, err := s.deliveredTo(rows)
	if err != nil {
		return err
	}
	for i, r := range rows {
		if delivered[i] == nil {
			continue
		}
		r.delivered = delivered[i]
		affinity, err := s.device.Host().Affinity(r.irq)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		r.effective = affinity.Effective
	}
	return nil
}

// deliveredTo is what the host counted of interrupts since they were connected, by CPU, nil where it shows none: one reading of
// /proc/interrupts for all.
func (s *session) deliveredTo(rows []*row) ([]map[int]uint64, error) {
	var numbers []int
	for _, r := range rows {
		if r.irqFound {
			numbers = append(numbers, r.irq)
		}
	}
	list := make([]map[int]uint64, len(rows))
	counts, err := s.device.Host().IRQCountsOf(numbers...)
	for i, r := range rows {
		if now := counts[r.irq]; r.irqFound && now != nil {
			list[i] = since(r.before, now)
		}
	}
	return list, err
}

// since is by how much counts by CPU grew.
func since[CPU comparable](before, after map[CPU]uint64) map[CPU]uint64 {
	grown := map[CPU]uint64{}
	for cpu, n := range after {
		if n > before[cpu] {
			grown[cpu] = n - before[cpu]
		}
	}
	return grown
}

// stop switches the interrupts off in the device and disconnects them, in that order, and gives the resources back.
// What the rows counted stays. A second call does nothing.
func (s *session) stop() error {
	if s.stopped {
		return nil
	}
	s.stopped = true
	var errs []error
	if s.enabled {
		if err := s.board.Disable(len(s.rows)); err != nil && !errors.Is(err, os.ErrClosed) {
			errs = append(errs, fmt.Errorf("%v: disable the device's interrupts: %w", s.device.Address(), err))
		}
	}
	for _, r := range s.rows {
		errs = append(errs, connect.Disconnect(&connect.DisconnectParameters{
			Version: r.parameters.Version, ConnectionContext: r.interrupt,
		}))
	}
	if s.resources != nil {
		errs = append(errs, s.resources.Release())
	}
	return errors.Join(errs...)
}
