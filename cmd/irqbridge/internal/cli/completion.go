package cli

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/irqbridge/irqbridge/cmd/irqbridge/internal/profile"
	"github.com/irqbridge/irqbridge/connect"
	"github.com/irqbridge/irqbridge/pci"
	"github.com/irqbridge/irqbridge/vfio"
	"github.com/irqbridge/irqbridge/vfio/host"
)

func (a *app) completionCommand() *cobra.Command {
	shells := map[string]func(*cobra.Command) error{
		"bash": func(root *cobra.Command) error { return root.GenBashCompletionV2(a.stdout, true) },
		"fish": func(root *cobra.Command) error { return root.GenFishCompletion(a.stdout, true) },
		"zsh":  func(root *cobra.Command) error { return root.GenZshCompletion(a.stdout) },
	}
	names := slices.Sorted(maps.Keys(shells))
	return &cobra.Command{
		Use:   "completion bash|fish|zsh",
		Short: "Print the script by which a shell completes verbs, devices and the values of flags",
		Long: `completion prints a script for a shell, which then completes verbs, flags, their values, and the devices that a verb can take, with
their names. An address may be begun with or without its domain. bash needs the package bash-completion.`,
		Example: `  source <(irqbridge completion bash)                                          in this shell
  irqbridge completion bash > /etc/bash_completion.d/irqbridge                 for everybody
  irqbridge completion zsh > "${fpath[1]}/_irqbridge"
  irqbridge completion fish > ~/.config/fish/completions/irqbridge.fish`,
		ValidArgs: names,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 || shells[args[0]] == nil {
				return fmt.Errorf("want a shell: %s; have %q", strings.Join(names, ", "), strings.Join(args, " "))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			a.started = true
			return shells[args[0]](cmd.Root())
		},
	}
}

// completions has the shell complete the devices and the values of flags of a command and all below it. They are known by
// what the commands have in common, so that a verb need not say it again: where Use has BDF there are devices, and a flag of
// one name has the same values everywhere.
func (a *app) completions(cmd *cobra.Command) {
	for _, sub := range cmd.Commands() {
		a.completions(sub)
	}
	switch {
	case cmd.HasParent() && cmd.Parent().Name() == "regs":
		cmd.ValidArgsFunction = a.completeRegisters
	case strings.Contains(cmd.Use, "BDF"):
		cmd.ValidArgsFunction = a.completeDevices
	case strings.Contains(cmd.Use, "NAME|FILE"):
		cmd.ValidArgsFunction = completeProfiles
	}
	for name, complete := range map[string]cobra.CompletionFunc{
		"backend": values("auto", vfio.BackendIOMMUFD.String(), vfio.BackendGroup.String(), vfio.BackendNoIOMMU.String()),
		"cpus":    a.completeCPUs,
		"driver":  a.completeDrivers,
		"kind":    a.completeKinds,
		"profile": completeProfiles,
		"slot":    cobra.NoFileCompletions,
		"wait":    values(connect.Block.String(), connect.Cooperative.String(), connect.Hybrid.String(), connect.Poll.String()),
	} {
		if cmd.LocalNonPersistentFlags().Lookup(name) != nil {
			if err := cmd.RegisterFlagCompletionFunc(name, complete); err != nil {
				panic(err) // the flag is there, and has none yet
			}
		}
	}
}

// values completes one of a few words.
func values(list ...string) cobra.CompletionFunc {
	return cobra.FixedCompletions(list, cobra.ShellCompDirectiveNoFileComp)
}

// completeKinds completes the kinds of interrupt, and first the word for those that a verb takes without the flag.
func (a *app) completeKinds(cmd *cobra.Command, _ []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
	kinds := []string{pci.KindINTx.String(), pci.KindMSI.String(), pci.KindMSIX.String()}
	if usual := cmd.Flags().Lookup("kind").DefValue; slices.Contains(kinds, usual) {
		kinds = []string{usual} // of mask, which refuses the others
	} else {
		kinds = append([]string{usual}, kinds...)
	}
	return kinds, cobra.ShellCompDirectiveNoFileComp
}

// completeDevices completes the devices that a command line can still take, with their drivers and names: for bind those that
// VFIO does not have, for unbind and all that open a device those that it has.
func (a *app) completeDevices(cmd *cobra.Command, args []string, begun string) ([]cobra.Completion, cobra.ShellCompDirective) {
	wanted := func(host.Device) bool { return true }
	switch {
	case cmd.Name() == "bind":
		wanted = func(d host.Device) bool { return !d.VFIO && !d.Bridge }
	case cmd.Name() == "unbind", cmd.Flags().Lookup("backend") != nil:
		wanted = func(d host.Device) bool { return d.VFIO }
	}
	var given []pci.Address
	for _, arg := range args {
		if address, err := pci.ParseAddress(arg); err == nil {
			given = append(given, address)
		}
	}
	if len(args) > 0 && !strings.Contains(cmd.Use, "BDF...") {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	devices, _ := a.host.Devices() // of those that cannot be read, a shell's prompt is no place to complain
	names := a.naming(0)
	var list []cobra.Completion
	for _, d := range devices {
		if !wanted(d) || slices.Contains(given, d.Address) {
			continue
		}
		text := d.Address.String()
		if short, ok := strings.CutPrefix(text, "0000:"); ok && !strings.HasPrefix(text, begun) {
			text = short // the domain may be left out
		}
		if strings.HasPrefix(text, begun) {
			list = append(list, cobra.CompletionWithDesc(text, describeDevice(d, names)))
		}
	}
	return list, cobra.ShellCompDirectiveNoFileComp
}

// completeRegisters completes a device and then the registers of its profile, and behind a point their fields; for a script,
// files.
func (a *app) completeRegisters(cmd *cobra.Command, args []string, begun string) ([]cobra.Completion, cobra.ShellCompDirective) {
	switch {
	case len(args) == 0:
		return a.completeDevices(cmd, args, begun)
	case cmd.Name() == "run":
		return nil, cobra.ShellCompDirectiveDefault
	}
	named, _ := cmd.Flags().GetString("profile")
	address, err := pci.ParseAddress(args[0])
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	r, err := a.readRegisters(address, named)
	if err != nil || r.profile == nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var list []cobra.Completion
	for _, name := range r.profile.Names() {
		reg := r.profile.Registers[name]
		if strings.HasPrefix(name, begun) {
			list = append(list, cobra.CompletionWithDesc(name, reg.Description))
		}
		for _, f := range reg.Fields {
			if strings.HasPrefix(begun, name+".") && strings.HasPrefix(name+"."+f.Name, begun) {
				list = append(list, cobra.CompletionWithDesc(name+"."+f.Name, f.Description))
			}
		}
	}
	return list, cobra.ShellCompDirectiveNoFileComp
}

// describeDevice is a device's name and driver, from sysfs alone.
func describeDevice(d host.Device, n naming) string {
	text := n.ids.Describe(&pci.Function{VendorID: d.VendorID, DeviceID: d.DeviceID, Class: pci.Class(d.Class), RevisionID: d.Revision}, n.form)
	if d.Driver != "" {
		text += ", bound to " + d.Driver
	}
	return text
}

// completeCPUs completes the last CPU of a list.
func (a *app) completeCPUs(_ *cobra.Command, _ []string, begun string) ([]cobra.Completion, cobra.ShellCompDirective) {
	cpus, err := a.usableCPUs()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	before := begun[:strings.LastIndexAny(begun, ",-")+1]
	var list []cobra.Completion
	if before == "" {
		list = append(list, cpus.List())
	}
	for _, cpu := range cpus.CPUs() {
		if one := before + strconv.Itoa(cpu); !slices.Contains(list, one) {
			list = append(list, one)
		}
	}
	return list, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace | cobra.ShellCompDirectiveKeepOrder
}

// completeDrivers completes the PCI drivers that are loaded.
func (a *app) completeDrivers(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
	drivers, _ := a.host.Drivers()
	return drivers, cobra.ShellCompDirectiveNoFileComp
}

// completeProfiles completes the profiles in the program, and files.
func completeProfiles(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
	var list []cobra.Completion
	for _, p := range profile.Embedded() {
		list = append(list, p.Name)
	}
	return list, cobra.ShellCompDirectiveDefault
}
