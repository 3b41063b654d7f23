package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/irqbridge/irqbridge/cmd/irqbridge/internal/profile"
	"github.com/irqbridge/irqbridge/connect"
	"github.com/irqbridge/irqbridge/pci"
	"github.com/irqbridge/irqbridge/vfio"
	"github.com/irqbridge/irqbridge/vfio/host"
)

// connectOptions are the flags of connect.
type connectOptions struct {
	backend  string
	kind     string
	messages int
	cpus     string
	spread   bool
	profile  string
	loopback bool
	raise    int
	duration time.Duration
	json     bool
	dryRun   bool
}

func (a *app) connectCommand() *cobra.Command {
	var o connectOptions
	var cmd *cobra.Command
	cmd = &cobra.Command{
		Use:   "connect BDF",
		Short: "Connect a service routine to every interrupt of a device, raise them, and tell what arrived where",
		Long: `connect opens a device that is bound to VFIO, assigns interrupts to it, maps the descriptors, connects a service routine to each on
pinned threads, and switches the interrupts on in the device by a profile: a small file that names the board's registers. With
--raise it makes the device interrupt and waits for each interrupt to be serviced; without, it counts what arrives until --duration
or Ctrl-C. Then the device is switched off again, disconnected and closed. That is also done when the host wants the device back,
because somebody unbinds or removes it: what was counted so far is printed, and the exit status is 1.

The profiles edu and e1000e are part of the program, and one that fits the device's ids is used by itself. --loopback needs none: the
kernel signals in place of the device, which proves the way from the eventfd to the service routine and nothing before it.`,
		Example: `  irqbridge connect 04:00.0 --raise 100
  irqbridge connect 05:00.0 --kind msix --cpus 1 --raise 100 --json
  irqbridge connect 05:00.0 --loopback --raise 10
  irqbridge connect 05:00.0 --profile ./board.json --duration 1m`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return fmt.Errorf("want one device, such as 0000:00:04.0; have %d", len(args))
			}
			return nil
		},
		RunE: a.orderly(func(ctx context.Context, args []string) error {
			address, err := parseAddress(args[0])
			if err != nil {
				return err
			}
			if o.cpus == "" && cmd.Flags().Changed("cpus") {
				return usage("--cpus: want CPUs, such as 0-3,8")
			}
			policy, err := o.policy()
			if err != nil {
				return err
			}
			if _, err := o.openOptions(); err != nil {
				return err
			}
			return a.connect(ctx, address, policy, o)
		}),
	}
	f := cmd.Flags()
	f.StringVar(&o.backend, "backend", "auto", "how to open the device: auto, iommufd, group or no-iommu; auto is iommufd where the kernel has it")
	f.StringVar(&o.kind, "kind", "auto", "auto, intx, msi or msix; auto is the best that the device has")
	f.IntVar(&o.messages, "messages", 0, "at most `N` messages, for MSI a power of two; 0 for all")
	f.StringVar(&o.cpus, "cpus", "", "serve and deliver on these CPUs, such as 0-3,8 (default: all that the process may use)")
	f.BoolVar(&o.spread, "spread", false, "give each MSI-X message one CPU of these, in turn")
	f.StringVar(&o.profile, "profile", "", "the board's profile: `NAME` of one in the program, or a file")
	f.BoolVar(&o.loopback, "loopback", false, "have the kernel signal in place of the device")
	f.IntVar(&o.raise, "raise", 0, "raise each interrupt `N` times")
	f.DurationVar(&o.duration, "duration", 0, "stop after this time, such as 10s (default: when all is raised, or at Ctrl-C)")
	f.BoolVar(&o.json, "json", false, "print one JSON object")
	f.BoolVar(&o.dryRun, "dry-run", false, "print what would be done, and do not open the device")
	cmd.MarkFlagsMutuallyExclusive("profile", "loopback")
	return cmd
}

// policy reads the flags that choose interrupts. Its errors are the command line's.
func (o *connectOptions) policy() (connect.Policy, error) {
	p := connect.Policy{Messages: o.messages}
	if o.spread {
		p.Affinity = connect.SpreadMessagesAcrossAllProcessors
	}
	var err error
	switch {
	case o.messages < 0:
		return p, usage("--messages %d: want 1 or more, or 0 for all", o.messages)
	case o.raise < 0:
		return p, usage("--raise %d: want 0 or more", o.raise)
	case o.duration < 0:
		return p, usage("--duration %v: want a time that is not negative", o.duration)
	}
	if o.kind != "auto" {
		if p.Kind, err = pci.ParseKind(o.kind); err != nil {
			return p, usage("--kind %s: want auto, intx, msi or msix", o.kind)
		}
	}
	if p.CPUs, err = host.ParseCPUList(o.cpus); err != nil {
		return p, usage("--cpus %s: %w", o.cpus, err)
	}
	return p, nil
}

// openOptions reads the flag that chooses the backend.
func (o *connectOptions) openOptions() ([]vfio.Option, error) {
	b, err := parseBackend(o.backend)
	if b == 0 || err != nil {
		return nil, err
	}
	return []vfio.Option{vfio.WithBackend(b)}, nil
}

// parseBackend reads the value of --backend; 0 is auto.
func parseBackend(s string) (vfio.Backend, error) {
	if s == "auto" {
		return 0, nil
	}
	b, err := vfio.ParseBackend(s)
	if err != nil {
		return 0, usage("--backend %s: want auto, iommufd, group or no-iommu", s)
	}
	return b, nil
}

func (a *app) connect(ctx context.Context, address pci.Address, policy connect.Policy, o connectOptions) error {
	p, err := readProfile(o.profile)
	if err != nil {
		return err
	}
	d, err := a.host.Device(address)
	if err != nil {
		return explainAbsent(address, err)
	}
	if err := a.checkCPUs(address, policy.CPUs); err != nil {
		return err
	}
	src := source{p, o.loopback}
	how, err := src.choose(d, o.raise)
	if err != nil {
		return err
	}
	planned, err := a.planConnect(address, policy, src)
	if err != nil {
		return err
	}
	if o.dryRun {
		return a.printPlan(d, planned, src, how, o)
	}
	options, err := o.openOptions()
	if err != nil {
		return err
	}
	device, err := a.open(address, options...)
	if err != nil {
		return err
	}
	if o.duration > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, o.duration)
		defer cancel()
	}
	code, err := a.exercise(ctx, device, policy, src, how, o)
	if err := errors.Join(err, device.Close()); err != nil {
		return err
	}
	return exit(code)
}

// readProfile finds a profile by the flag's value: one of the program's, or a file.
func readProfile(name string) (*profile.Profile, error) {
	if name == "" {
		return nil, nil
	}
	if p := profile.Named(name); p != nil {
		return p, nil
	}
	data, err := readSmall(name)
	if errors.Is(err, fs.ErrNotExist) {
		var names []string
		for _, p := range profile.Embedded() {
			names = append(names, p.Name)
		}
		return nil, usage("--profile %s: there is no file of that name, nor is it one of the program's: %s", name, strings.Join(names, ", "))
	}
	if err != nil {
		return nil, &failure{exitFailed, fmt.Errorf("--profile: %w", err), "irqbridge connect --help"}
	}
	return profile.Parse(name, data)
}

// profileLimit is the size of a file, in bytes, that no profile has: one of 2048 messages has a quarter of that.
const profileLimit = 4 << 20

// readSmall reads a file of less than profileLimit.
func readSmall(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	data, err := io.ReadAll(io.LimitReader(f, profileLimit))
	if err == nil && len(data) == profileLimit {
		err = fmt.Errorf("%s has more than %d bytes, and is no profile", name, profileLimit-1)
	}
	return data, err
}

// checkCPUs refuses CPUs that the host does not have or the process may not use, before the device is touched.
func (a *app) checkCPUs(address pci.Address, cpus host.CPUSet) error {
	online, err := a.host.OnlineCPUs()
	if err != nil {
		return err
	}
	usable, err := a.usableCPUs()
	if err != nil {
		return err
	}
	next := fmt.Sprintf("irqbridge connect %v --cpus %s", address, usable)
	if absent := cpus.Minus(online); !absent.Empty() {
		return &failure{exitFailed, fmt.Errorf("--cpus %s: CPU %s is not online; the host has %s", cpus, absent, online), next}
	}
	if outside := cpus.Minus(usable); !outside.Empty() {
		return &failure{exitFailed, fmt.Errorf("--cpus %s: CPU %s is not allowed to this process, which may use %s", cpus, outside, usable), next}
	}
	return nil
}

// usableCPUs are the CPUs that are online and allowed to this process.
func (a *app) usableCPUs() (host.CPUSet, error) {
	online, err := a.host.OnlineCPUs()
	if err != nil {
		return online, err
	}
	allowed, err := a.host.AllowedCPUs()
	return online.And(allowed), err
}

// choose completes a source for a device, and says in words what it is.
func (s *source) choose(d host.Device, raise int) (string, error) {
	id := fmt.Sprintf("%04x:%04x", d.VendorID, d.DeviceID)
	if s.loopback {
		return "loopback", nil
	}
	if s.profile != nil {
		if !s.profile.Matches(profile.ID{Vendor: d.VendorID, Device: d.DeviceID}) {
			return fmt.Sprintf("profile %s, which is not for %s", s.profile.Name, id), nil
		}
		return "profile " + s.profile.Name, nil
	}
	if s.profile = profile.ForDevice(profile.ID{Vendor: d.VendorID, Device: d.DeviceID}); s.profile != nil {
		return fmt.Sprintf("profile %s, chosen for %s", s.profile.Name, id), nil
	}
	if raise > 0 {
		return "", unsupported(fmt.Sprintf("irqbridge connect %v --loopback --raise %d, or give --profile FILE", d.Address, raise),
			"%v: the program has no profile for %s, so it does not know how to raise its interrupts", d.Address, id)
	}
	return "no profile: what arrives is counted", nil
}

// errWantedBack is why connect ends when the host unbinds or removes the device.
var errWantedBack = errors.New("the host wants the device back, because it is being unbound or removed")

// exercise connects, raises or watches, reports and disconnects.
func (a *app) exercise(ctx context.Context, device *vfio.Device, policy connect.Policy, src source, how string, o connectOptions) (int, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	device.OnRequest(func() { cancel(errWantedBack) })
	s, err := startSession(device, policy, src, func() { cancel(nil) })
	if err != nil {
		return exitFailed, err
	}
	a.tellBeginning(s, how, o)
	var raiseErr error
	if o.raise > 0 {
		raiseErr = s.raise(ctx, o.raise, func(message int, done uint64) { a.progress("message %d: %d of %d", message, done, o.raise) })
	} else {
		a.watch(ctx, s)
	}
	a.progress("")
	observeErr := s.observe()
	problems := s.diagnose()
	stopErr := s.stop()
	if o.json {
		a.printJSON(s.json())
	} else {
		s.print(a, how, src.loopback)
	}
	code := a.tellEnd(ctx, s, o, problems)
	return code, errors.Join(raiseErr, observeErr, stopErr)
}

// watch waits for the end, and on a terminal shows that something happens.
func (a *app) watch(ctx context.Context, s *session) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		var calls uint64
		for _, r := range s.rows {
			calls += r.routine.calls.Load()
		}
		a.progress("%d calls of service routines; Ctrl-C ends", calls)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
