package diagnosis

import (
	"errors"
	"fmt"

	"github.com/irqbridge/irqbridge/pci"
)

// bridges judges what lies between the device and the host. A bridge that sleeps or masters no bus is in the way only of a
// device that is in use: enabling a device wakes and enables the bridges above it, unless they count as enabled already.
func (f *Device) bridges() []Check {
	switch {
	case f.AboveErr != nil:
		return []Check{unread("bridges", f.Address, f.AboveErr)}
	case len(f.Above) == 0:
		return nil
	}
	power, reset, memory, master := "bridge-power", "bridge-reset", "bridge-memory", "bridge-bus-master"
	checks := []Check{
		ok(power, "no bridge above sleeps while the device is in use"), ok(reset, "no bus above is held in reset"),
		ok(memory, "the bridges pass register accesses down"), ok(master, "the bridges pass messages up"),
	}
	// The one next to the root first: those below it cannot be better off.
	for i := range f.Above {
		b := &f.Above[len(f.Above)-1-i]
		for n, c := range []Check{f.bridgePower(power, b), bridgeReset(reset, b), f.bridgeBit(memory, b), f.bridgeBit(master, b)} {
			if checks[n].Status < c.Status {
				checks[n] = c
			}
		}
	}
	return checks
}

func (f *Device) bridgePower(id string, b *Bridge) Check {
	awake := "echo on | sudo tee /sys/bus/pci/devices/" + b.Address.String() + "/power/control"
	state := b.PowerState
	if b.Config != nil {
		if pm := pci.Find[pci.PowerManagement](b.Config); pm != nil {
			if state = pm.State.String(); pm.State != 0 && b.Runtime.Status != "suspended" {
				awake = setpci(b.Address, "CAP_PM+4.W", 0, 3)
			}
		}
	}
	switch {
	case errors.Is(b.ConfigErr, pci.ErrNoAnswer):
		return fail(id, fmt.Sprintf("the bridge %v above the device does not answer: it has no power, or has gone", b.Address), awake)
	case b.ConfigErr != nil:
		return unread(id, f.Address, b.ConfigErr)
	case state == "D0", state == "", state == "unknown", !f.inUse():
		return ok(id, "")
	}
	return fail(id, fmt.Sprintf("the bridge %v above the device is in %s, where it passes nothing on", b.Address, state), awake)
}

func bridgeReset(id string, b *Bridge) Check {
	if b.Config == nil || b.Config.Bridge == nil || !b.Config.Bridge.Control.Reset {
		return ok(id, "")
	}
	return fail(id, fmt.Sprintf("the bridge %v holds the bus behind it in reset", b.Address), setpci(b.Address, "BRIDGE_CONTROL", 0, 0x40))
}

// bridgeBit judges whether a bridge passes memory accesses down, or messages up.
func (f *Device) bridgeBit(id string, b *Bridge) Check {
	bit, what := pci.CommandMemory, "memory decoding, so no register access reaches the device"
	if id == "bridge-bus-master" {
		bit, what = pci.CommandBusMaster, "bus mastering, so the messages of every device behind it are lost"
	}
	if b.Config == nil || b.Config.Command&bit != 0 || b.Enables == 0 && !f.inUse() {
		return ok(id, "")
	}
	return fail(id, fmt.Sprintf("the bridge %v above the device has no %s", b.Address, what), setpci(b.Address, "COMMAND", uint32(bit), uint32(bit)))
}

// link judges the link of a PCI Express device, by the port above it.
func (f *Device) link() (Check, bool) {
	const id = "link"
	if len(f.Above) == 0 || f.Above[0].Config == nil {
		return Check{}, false
	}
	port := &f.Above[0]
	next := "sudo dmesg | grep -e " + port.Address.String() + " -e pciehp"
	if dpc := pci.Find[pci.DPC](port.Config); dpc != nil && dpc.Triggered {
		return fail(id, fmt.Sprintf("the port %v has taken its link down because of an error (DPC: %s)", port.Address, dpc.Reason), next), true
	}
	express := pci.Find[pci.Express](port.Config)
	if express == nil || express.Link == nil || express.Type != pci.ExpressRootPort && express.Type != pci.ExpressDownstreamPort {
		return Check{}, false
	}
	switch l := express.Link; {
	case l.Disabled:
		return fail(id, fmt.Sprintf("the link of the port %v is disabled", port.Address), setpci(port.Address, "CAP_EXP+10.W", 0, 0x10)), true
	case l.ActiveReporting && !l.Active, l.Width == 0:
		return fail(id, fmt.Sprintf("the link of the port %v above the device is down: no board, no power or no clock there", port.Address), next), true
	default:
		return ok(id, fmt.Sprintf("x%d of x%d, %v of %v GT/s", l.Width, l.MaxWidth, l.SpeedGTs, l.MaxSpeedGTs)), true
	}
}

// joined says why the IOMMU does not keep the device apart from others, as far as the bridges above tell; "" when they do not.
func (f *Device) joined() string {
	for i := range f.Above {
		b := &f.Above[i]
		if b.Config == nil {
			continue
		}
		express := pci.Find[pci.Express](b.Config)
		if express == nil || express.Type == pci.ExpressToPCIBridge {
			return fmt.Sprintf("behind %v, a bridge to conventional PCI, all devices look the same to the IOMMU", b.Address)
		}
		acs := pci.Find[pci.ACS](b.Config)
		if express.Type != pci.ExpressUpstreamPort && (acs == nil || !acs.Enabled.RequestRedirect || !acs.Enabled.UpstreamForwarding) {
			return fmt.Sprintf("the port %v does not send requests between devices up to the IOMMU (ACS)", b.Address)
		}
	}
	return ""
}
