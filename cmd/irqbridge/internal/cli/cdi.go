package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/irqbridge/irqbridge/pci"
	"github.com/irqbridge/irqbridge/vfio"
)

// The output of cdi is a specification of the Container Device Interface (tags.cncf.io/container-device-interface,
// SPEC.md). Its version is the oldest that has all that is used here: a device's name may begin with a digit since 0.5.0.
const (
	cdiVersion = "0.5.0"
	cdiKind    = "irqbridge.github.io/pci"
)

type cdiSpec struct {
	Version string      `json:"cdiVersion"`
	Kind    string      `json:"kind"`
	Devices []cdiDevice `json:"devices"`
}

type cdiDevice struct {
	Name  string   `json:"name"`
	Edits cdiEdits `json:"containerEdits"`
}

type cdiEdits struct {
	Env   []string  `json:"env"`
	Nodes []cdiNode `json:"deviceNodes"`
}

// cdiNode is a node, which the runtime makes with the host's device number of that moment.
type cdiNode struct {
	Path        string `json:"path"`
	Permissions string `json:"permissions"`
}

func (a *app) cdiCommand() *cobra.Command {
	var backend, file string
	cmd := &cobra.Command{
		Use:   "cdi BDF...",
		Short: "Print a CDI specification by which container runtimes give devices to containers",
		Long: `cdi prints a specification of the Container Device Interface (CDI) for devices that are bound to VFIO. podman, docker, containerd,
CRI-O and Kubernetes' DRA drivers read it from /etc/cdi or /run/cdi, and put the nodes of a device that is asked for into the
container: /dev/vfio/vfio and the node of its IOMMU group, or /dev/iommu and the device's own. In the container's environment,
IRQBRIDGE_DEVICE_0000_05_00_0=0000:05:00.0 names the device.

The specification holds until the next boot, when groups and devices may be numbered otherwise: /run/cdi is the place for it.
Devices that cannot be given are named, and the exit status is then 3, or that of the failure when none is left.`,
		Example: `  irqbridge cdi 05:00.0
  sudo irqbridge cdi 05:00.0 06:00.0 -o /run/cdi/irqbridge.json
  podman run --device irqbridge.github.io/pci=0000:05:00.0 IMAGE irqbridge connect 0000:05:00.0 --loopback --raise 10`,
		Args: someDevices,
		RunE: a.verb(func(_ context.Context, args []string) error {
			addresses, err := parseAddresses(args)
			if err != nil {
				return err
			}
			b, err := parseBackend(backend)
			if err != nil {
				return err
			}
			if file != "" && filepath.Ext(file) != ".json" {
				return usage("-o %s: runtimes read files whose names end in .json", file)
			}
			return a.cdi(addresses, b, file)
		}),
	}
	cmd.Flags().StringVar(&backend, "backend", "auto", "how the container opens the device: auto, iommufd, group or no-iommu; auto is iommufd where the kernel has it")
	cmd.Flags().StringVarP(&file, "output", "o", "", "write to `FILE`, in one step, instead of standard output")
	return cmd
}

func (a *app) cdi(addresses []pci.Address, b vfio.Backend, file string) error {
	spec := cdiSpec{Version: cdiVersion, Kind: cdiKind}
	code := exitOK
	for _, address := range addresses {
		nodes, err := a.cdiNodes(address, b, addresses)
		if err != nil {
			a.complain(err)
			code = max(code, exitCode(err))
			continue
		}
		spec.Devices = append(spec.Devices, newCDIDevice(address, nodes))
	}
	if len(spec.Devices) == 0 {
		return exit(code)
	}
	if file == "" {
		a.printJSON(spec)
	} else if err := writeCDI(file, spec); err != nil {
		return err
	}
	if code != exitOK {
		code = exitPartial
	}
	return exit(code)
}

func newCDIDevice(address pci.Address, nodes []string) cdiDevice {
	// A name of its own for each device: of several in one container, none hides another.
	name := "IRQBRIDGE_DEVICE_" + strings.NewReplacer(":", "_", ".", "_").Replace(address.String())
	d := cdiDevice{Name: address.String(), Edits: cdiEdits{Env: []string{name + "=" + address.String()}}}
	for _, node := range nodes {
		d.Edits.Nodes = append(d.Edits.Nodes, cdiNode{node, "rw"})
	}
	return d
}

// cdiNodes returns the nodes of a device, or why a container could not open it by them. along is what is asked for too.
func (a *app) cdiNodes(address pci.Address, b vfio.Backend, along []pci.Address) ([]string, error) {
	d, err := a.host.Device(address)
	if err != nil {
		return nil, explainAbsent(address, err)
	}
	if !d.VFIO {
		return nil, &failure{
			exitFailed, fmt.Errorf("%v: the device is %s, and a container can have only what a VFIO driver has", address, a.binding(address)),
			fmt.Sprintf("irqbridge bind %v", address),
		}
	}
	if b == 0 {
		if b = vfio.BackendFor(a.host, d); vfio.Nodes(a.host, d, b) == nil && vfio.Nodes(a.host, d, vfio.BackendNoIOMMU) != nil {
			return nil, unsupported(fmt.Sprintf("if the container may write to any memory of the host: irqbridge cdi %v --backend no-iommu", address),
				"%v: no IOMMU keeps the device from the host's memory", address)
		}
	}
	nodes := vfio.Nodes(a.host, d, b)
	if nodes == nil {
		return nil, unsupported(fmt.Sprintf("irqbridge cdi %v --backend %s", address, a.backend(d)),
			"%v: the kernel does not hand out the device by backend %v", address, b)
	}
	if blockers := a.blockers(address); len(blockers) > 0 {
		return nil, &failure{
			exitFailed, fmt.Errorf("%v: IOMMU group %d is not viable as long as the host has %s", address, d.Group, strings.Join(blockers, ", ")),
			"irqbridge bind " + strings.Join(blockers, " "),
		}
	}
	if b == vfio.BackendGroup {
		for _, other := range a.alsoOnVFIO(address, along) {
			a.note("%v: the node of IOMMU group %d gives %v to the container, too", address, d.Group, other)
		}
	}
	return nodes, nil
}

// writeCDI replaces the file in one step, since runtimes read it as soon as it appears.
func writeCDI(file string, spec cdiSpec) (err error) {
	defer func() {
		if err != nil {
			err = unwritable(file, err)
		}
	}()
	data, err := json.MarshalIndent(spec, "", "  ")
	if err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Dir(file)); err != nil {
		return fmt.Errorf("write %s: %w", file, err)
	}
	// A name without .json is not read by them.
	tmp, err := os.CreateTemp(filepath.Dir(file), filepath.Base(file)+".*")
	if err != nil {
		return fmt.Errorf("write %s: %w", file, err)
	}
	_, err = tmp.Write(append(data, '\n'))
	err = errors.Join(err, tmp.Chmod(0o644), tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), file)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", file, errors.Join(err, os.Remove(tmp.Name())))
	}
	return nil
}
