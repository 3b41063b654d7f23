package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/irqbridge/irqbridge/cmd/irqbridge/internal/profile"
	"github.com/irqbridge/irqbridge/connect"
	"github.com/irqbridge/irqbridge/pci"
	"github.com/irqbridge/irqbridge/vfio"
	"github.com/irqbridge/irqbridge/vfio/host"
)

// choice is the flags by which the verbs that connect a device's interrupts choose them: which, where, and who raises
// them.
type choice struct {
	verb     string // connect, trigger, …: for what to type next
	backend  string
	kind     string
	messages int
	cpus     string
	spread   bool
	profile  string
	loopback bool
}

// backendFlag, profileFlag and the rest define the flags, of which a verb takes those that it has a use for.
func (c *choice) backendFlag(cmd *cobra.Command) {
	cmd.Flags().StringVar(&c.backend, "backend", "auto", "how to open the device: auto, iommufd, group or no-iommu; auto is iommufd where the kernel has it")
}

func (c *choice) kindFlag(cmd *cobra.Command) {
	cmd.Flags().StringVar(&c.kind, "kind", "auto", "auto, intx, msi or msix; auto is the best that the device has")
}

func (c *choice) messagesFlag(cmd *cobra.Command) {
	cmd.Flags().IntVar(&c.messages, "messages", 0, "at most `N` messages, for MSI a power of two; 0 for all")
}

func (c *choice) cpusFlag(cmd *cobra.Command, letter string) {
	cmd.Flags().StringVarP(&c.cpus, "cpus", letter, "", "serve and deliver on these CPUs, such as 0-3,8 (default: all that the process may use)")
}

func (c *choice) spreadFlag(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&c.spread, "spread", false, "give each MSI-X message one CPU of these, in turn")
}

func (c *choice) profileFlag(cmd *cobra.Command) {
	cmd.Flags().StringVar(&c.profile, "profile", "", "the board's profile: `NAME` of one in the program, or a file")
}

func (c *choice) loopbackFlag(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&c.loopback, "loopback", false, "have the kernel signal in place of the device")
	cmd.MarkFlagsMutuallyExclusive("profile", "loopback")
}

// policy reads the flags that choose interrupts. Its errors are the command line's.
func (c *choice) policy(cmd *cobra.Command) (connect.Policy, error) {
	p := connect.Policy{Messages: c.messages}
	if c.spread {
		p.Affinity = connect.SpreadMessagesAcrossAllProcessors
	}
	var err error
	switch {
	case c.cpus == "" && cmd.Flags().Changed("cpus"):
		return p, usage("--cpus: want CPUs, such as 0-3,8")
	case c.messages < 0:
		return p, usage("--messages %d: want 1 or more, or 0 for all", c.messages)
	}
	if c.kind != "auto" {
		if p.Kind, err = pci.ParseKind(c.kind); err != nil {
			return p, usage("--kind %s: want auto, intx, msi or msix", c.kind)
		}
	}
	if p.CPUs, err = host.ParseCPUList(c.cpus); err != nil {
		return p, usage("--cpus %s: %w", c.cpus, err)
	}
	return p, nil
}

// openOptions reads the flag that chooses the backend. Its errors are the command line's.
func (c *choice) openOptions() ([]vfio.Option, error) {
	b, err := parseBackend(c.backend)
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

// oneDevice wants one device on the command line.
func oneDevice(_ *cobra.Command, args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("want one device, such as 0000:00:04.0; have %d", len(args))
	}
	return nil
}

// prepared is a device whose interrupts can be connected, as far as that is known before it is opened.
type prepared struct {
	device host.Device
	policy connect.Policy
	source source
	how    string       // the source in words
	plan   *connectPlan // nil when this user cannot read what the device has
	open   []vfio.Option
	asked  bool // for CPUs
}

// prepare reads the choice and finds out what can be known without opening the device, for opening resets it. raising
// tells that the interrupts are to be raised, and is what to type for that: "" when they are not.
func (a *app) prepare(cmd *cobra.Command, arg string, c choice, raising *string) (*prepared, error) {
	address, err := parseAddress(arg)
	if err != nil {
		return nil, err
	}
	p := &prepared{asked: c.cpus != ""}
	if p.policy, err = c.policy(cmd); err != nil {
		return nil, err
	}
	if p.open, err = c.openOptions(); err != nil {
		return nil, err
	}
	board, err := readProfile(c.profile)
	if err != nil {
		return nil, err
	}
	if p.device, err = a.host.Device(address); err != nil {
		return nil, explainAbsent(address, err)
	}
	if err := a.checkCPUs(c.verb, address, p.policy.CPUs); err != nil {
		return nil, err
	}
	p.source = source{verb: c.verb, profile: board, loopback: c.loopback}
	p.how = p.source.choose(p.device)
	if p.plan, err = a.planConnect(address, p.policy, p.source); err != nil {
		return nil, err
	}
	if only := p.source.registersOnly; raising != nil && only != nil {
		return nil, unsupported(fmt.Sprintf("irqbridge %s %v --loopback%s", c.verb, address, *raising),
			"%v: profile %s tells of no interrupt that can be raised: %s", address, only.Name, cmp.Or(only.Unraisable, "it is for registers only"))
	}
	if raising != nil && p.source.profile == nil && !p.source.loopback {
		return nil, unsupported(fmt.Sprintf("irqbridge %s %v --loopback%s, or give --profile FILE", c.verb, address, *raising),
			"%v: the program has no profile for %s, so it does not know how to raise its interrupts", address, idOf(p.device))
	}
	return p, nil
}

func idOf(d host.Device) string { return fmt.Sprintf("%04x:%04x", d.VendorID, d.DeviceID) }

// source is how interrupts are to be raised and served.
type source struct {
	verb     string           // for what to type next
	profile  *profile.Profile // nil: none
	loopback bool
	dispatch connect.Dispatch

	registersOnly *profile.Profile // the profile of the device, when it tells of no interrupts; nil otherwise
}

// choose completes a source for a device, and says in words what it is.
func (s *source) choose(d host.Device) string {
	id := profile.ID{Vendor: d.VendorID, Device: d.DeviceID}
	how := ""
	switch {
	case s.loopback:
		return "loopback"
	case s.profile != nil && !s.profile.Matches(id):
		how = fmt.Sprintf("profile %s, which is not for %s", s.profile.Name, idOf(d))
	case s.profile != nil:
		how = "profile " + s.profile.Name
	default:
		if s.profile = profile.ForDevice(id); s.profile == nil {
			return "no profile: what arrives is counted"
		}
		how = fmt.Sprintf("profile %s, chosen for %s", s.profile.Name, idOf(d))
	}
	if len(s.profile.Interrupts) == 0 {
		s.profile, s.registersOnly = nil, s.profile
		how += ", for registers only: what arrives is counted"
	}
	return how
}

// suits refuses a kind of interrupt that the source cannot serve.
func (s source) suits(address pci.Address, kind pci.Kind) error {
	p := s.profile
	switch {
	case kind == 0:
		return unsupported("irqbridge list", "%v: the device has no interrupts", address)
	case p == nil && !s.loopback && kind == pci.KindINTx:
		return unsupported(fmt.Sprintf("irqbridge %s %v --profile FILE", s.verb, address),
			"%v: nothing tells how to acknowledge its line, which would interrupt for ever: it takes a profile", address)
	case p == nil || p.For(kind) != nil:
		return nil
	}
	return unsupported(fmt.Sprintf("irqbridge %s %v --kind %v", s.verb, address, p.Kinds()[len(p.Kinds())-1]),
		"%v: profile %s describes %s, not %v", address, p.Name, kindNames(p.Kinds()), vfio.IndexOf(kind))
}

// offersKind refuses a kind of interrupt that the device does not have.
func (s source) offersKind(address pci.Address, f *pci.Function, kind pci.Kind) error {
	has := kind == 0 || kind == pci.KindINTx && f.INTx != nil || kind == pci.KindMSI && f.MSI != nil || kind == pci.KindMSIX && f.MSIX != nil
	if !has && !hidesInterrupts(f) {
		return unsupported(fmt.Sprintf("irqbridge %s %v", s.verb, address), "%v: the device has no %v; it offers: %s", address, vfio.IndexOf(kind), offers(f))
	}
	return nil
}

// errWantedBack is why a verb ends when the host unbinds or removes the device.
var errWantedBack = errors.New("the host wants the device back, because it is being unbound or removed")

// onDevice opens a device, has f use it, and closes it. The context that f gets ends also when the host wants the device
// back. f returns the exit status.
func (a *app) onDevice(ctx context.Context, address pci.Address, open []vfio.Option, f func(context.Context, *vfio.Device, context.CancelCauseFunc) (int, error)) error {
	device, err := a.open(address, open...)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	device.OnRequest(func() { cancel(errWantedBack) })
	code, err := f(ctx, device, cancel)
	if err := errors.Join(err, device.Close()); err != nil {
		return err
	}
	return exit(code)
}

// inSession opens a prepared device and connects its interrupts, has f use them, disconnects what f did not, and closes the
// device. f returns the exit status.
func (a *app) inSession(ctx context.Context, p *prepared, f func(context.Context, *session) (int, error)) error {
	return a.onDevice(ctx, p.device.Address, p.open, func(ctx context.Context, device *vfio.Device, cancel context.CancelCauseFunc) (int, error) {
		s, err := startSession(device, p.policy, p.source, func() { cancel(errSilenced) })
		if err != nil {
			return exitFailed, err
		}
		s.end = cancel
		code, err := f(ctx, s)
		return code, errors.Join(err, s.stop())
	})
}
