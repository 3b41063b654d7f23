package host

import (
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/irqbridge/irqbridge/pci"
)

// driversDir has one directory for each PCI driver that is loaded.
const driversDir = "/sys/bus/pci/drivers"

// Plan is a sequence of writes that brings a device to another driver, or back. Making a plan changes nothing; [Plan.Run]
// does. The files that a plan may write are the device's driver_override, the attributes bind and unbind of the drivers
// involved, drivers_probe, and the record of the former state below /run/irqbridge/bind; [Plan.GiveTo] adds nodes in /dev/vfio.
type Plan struct {
	Address pci.Address
	Driver  string   // the driver at the end; "" for none, or for whichever the kernel picks
	GivenTo string   // the user that the device is given to, see [Plan.GiveTo]; "" for none
	Steps   []Step   // in order; none when the device is already as wanted
	Notes   []string // what the user should know beforehand: group members in the way, what will not be restored

	host   *Host
	op     string  // for errors: "bind to vfio-pci", "give it back"
	former Device  // the device as it was when the plan was made, and as a failed Run leaves it
	kept   *record // the record that there was then; nil for none of this device
	gives  bool    // there is a step that gives a node whose former owner is known
}

// Step is one write of a plan.
type Step struct {
	Path   string // the file
	Value  string // what is written, without the newline that follows; "" clears an attribute
	Remove bool   // the file is removed, and Value is ""
	Owner  string // the file, a node, becomes this user's, and Value is ""

	kind   stepKind
	driver string // that the device leaves or gets, for stepUnbind and stepBind
	uid    uint32 // Owner's
	from   uint32 // whose the node was before
}

type stepKind uint8

const (
	stepWrite   stepKind = iota // an attribute that has no other effect that could be checked
	stepUnbind                  // the driver's unbind
	stepBind                    // the driver's bind
	stepSave                    // the record is made
	stepForget                  // the record is removed
	stepGive                    // a node is given to a user
	stepGiveOwn                 // the device's own node, which has no name before, is
	stepTake                    // a node is taken back
)

// String returns the step as the shell command that does the same: "+ echo vfio-pci > /sys/…".
func (s Step) String() string {
	switch {
	case s.Remove:
		return "+ rm " + quote(s.Path)
	case s.kind == stepGiveOwn: // for the shell to complete
		return "+ chown " + quote(s.Owner) + " " + s.Path
	case s.Owner != "":
		return "+ chown " + quote(s.Owner) + " " + quote(s.Path)
	case s.Value == "":
		return "+ echo > " + quote(s.Path)
	}
	return "+ echo " + quote(s.Value) + " > " + quote(s.Path)
}

// quote makes one word of s for a shell.
func quote(s string) string {
	plain := func(r rune) bool {
		return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("/._-:,+@%=", r)
	}
	if s != "" && !strings.ContainsFunc(s, func(r rune) bool { return !plain(r) }) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// isVFIO tells whether a driver's name is that of a VFIO driver. Before a device is bound there is only the name to go by;
// every VFIO driver for PCI that Linux has, has this in its name. Afterwards [Device.VFIO] also knows one of another name.
func isVFIO(driver string) bool { return strings.Contains(driver, "vfio") }

// PlanBind plans to bind the device at a to a driver such as "vfio-pci", by driver_override, so that no other device of
// the same IDs follows. It refuses a device that the host uses ([ErrInUse]) unless force is set, and a device without
// an IOMMU group when the driver is a VFIO driver ([ErrNoIOMMU]). A driver that is not loaded is fs.ErrNotExist.
//
// The state before the first binding is recorded; a later PlanBind keeps that record.
func (h *Host) PlanBind(a pci.Address, driver string, force bool) (*Plan, error) {
	p := &Plan{Address: a, Driver: driver, host: h, op: "bind to " + driver}
	if !validDriver(driver) {
		return nil, deviceError(a, "bind", fs.ErrInvalid, fmt.Sprintf("%.40q is not the name of a driver", driver), "")
	}
	d, err := h.Device(a)
	if err != nil {
		return nil, err
	}
	p.former = d
	if isVFIO(driver) {
		p.Notes = append(p.Notes, h.groupNotes(d)...)
		p.Notes = append(p.Notes, h.ownerNotes(d)...)
	}
	kept, err := h.readRecord(a)
	if err != nil {
		return nil, err
	}
	if kept != nil && kept.describes(d) {
		p.kept = kept
	}
	if d.Driver == driver {
		return p, nil
	}
	if err := h.checkBind(d, driver); err != nil {
		return nil, err
	}
	if !force {
		reasons, err := h.inUse(d)
		if err != nil {
			return nil, err
		}
		if len(reasons) > 0 {
			return nil, deviceError(a, p.op, ErrInUse, strings.Join(reasons, "; "), "end that use, or force it")
		}
	}
	switch {
	case kept == nil:
		err = p.save(d)
	case p.kept == nil:
		p.Notes = append(p.Notes, fmt.Sprintf("the record of another device (%04x:%04x) that was at this address is replaced", kept.VendorID, kept.DeviceID))
		err = p.save(d)
	default:
		p.Notes = append(p.Notes, "an earlier record is kept: unbind will give the device back to "+kept.String())
	}
	if err != nil {
		return nil, deviceError(a, p.op, err, "", "")
	}
	// The override comes first, so that nothing else takes the device while it is unbound.
	p.Steps = append(p.Steps, overrideStep(d, driver)...)
	p.Steps = append(p.Steps, unbindStep(d)...)
	p.Steps = append(p.Steps, bindStep(a, driver))
	return p, nil
}

// save adds the step that records the device as it is.
func (p *Plan) save(d Device) error {
	text, err := newRecord(d).text()
	p.Steps = append(p.Steps, Step{Path: recordFile(d.Address), Value: text, kind: stepSave})
	return err
}

// checkBind returns why a device cannot be bound to a driver, as far as that can be known beforehand.
func (h *Host) checkBind(d Device, driver string) error {
	op := "bind to " + driver
	noIOMMU, _ := h.NoIOMMUMode()
	switch {
	case !isVFIO(driver):
	case d.Bridge:
		return deviceError(d.Address, op, unix.EINVAL, "it is a bridge, and VFIO drivers take only functions with a header of type 0",
			"bind the devices behind it; the bridge stays as it is")
	case d.Group < 0 && !noIOMMU && !h.HasIOMMU():
		cause, remedy := h.WhyNoIOMMU()
		return deviceError(d.Address, op, ErrNoIOMMU, "this host has no IOMMU group at all: "+cause, remedy)
	case d.Group < 0 && !noIOMMU:
		return deviceError(d.Address, op, ErrNoIOMMU, "the device is in no IOMMU group, although other devices are",
			"it is not behind an IOMMU: use another slot, or see dmesg for DMAR or AMD-Vi messages")
	}
	if !h.os.Exists(driversDir + "/" + driver) {
		return h.noDriver(d.Address, op, driver, "")
	}
	return nil
}

// noDriver says that a driver is not there. extra is one more way out.
func (h *Host) noDriver(a pci.Address, op, driver, extra string) error {
	// Modules and drivers often differ in one character: module vfio_pci, driver vfio-pci.
	for _, other := range []string{strings.ReplaceAll(driver, "_", "-"), strings.ReplaceAll(driver, "-", "_")} {
		if other != driver && h.os.Exists(driversDir+"/"+other) {
			return deviceError(a, op, fs.ErrNotExist, "no PCI driver has the name "+driver, "did you mean "+other+"?")
		}
	}
	return deviceError(a, op, fs.ErrNotExist, "no PCI driver "+driver+" is loaded", "modprobe "+driver+extra)
}

// groupNotes says which other members of the device's group would keep VFIO from handing it out.
func (h *Host) groupNotes(d Device) []string {
	if d.Group < 0 {
		return nil
	}
	g, err := h.Group(d.Group)
	if err != nil {
		return []string{fmt.Sprintf("whether IOMMU group %d is viable is not known: %v", d.Group, err)}
	}
	var notes []string
	for _, b := range g.Blockers() {
		if b.Address == d.Address {
			continue
		}
		remedy := "bind that device to vfio-pci too, or unbind it"
		if b.Bridge {
			remedy = "unbind that bridge: " + strings.TrimPrefix(unbindStep(b)[0].String(), "+ ")
		}
		notes = append(notes, fmt.Sprintf("IOMMU group %d is not viable as long as %v (%04x:%04x, class %06x) is bound to %s: %s",
			g.ID, b.Address, b.VendorID, b.DeviceID, b.Class, b.Driver, remedy))
	}
	for _, name := range g.Others {
		notes = append(notes, fmt.Sprintf("IOMMU group %d also has %s, which is no PCI device: if a driver has it, the group may not be viable", g.ID, name))
	}
	return notes
}

// PlanUnbind plans to give the device at a back to what it had before [Host.PlanBind]'s plan first ran: its driver, or
// none, and its driver_override. Without a record of that, a device on a VFIO driver is taken from it and the kernel picks
// a driver. A device that neither VFIO nor its override keeps where it is, stays there. A device that the host uses through
// the driver that it would lose ([ErrInUse]) is refused.
func (h *Host) PlanUnbind(a pci.Address) (*Plan, error) {
	p := &Plan{Address: a, host: h, op: "give it back"}
	d, err := h.Device(a)
	if err != nil {
		return nil, err
	}
	p.former = d
	r, err := h.readRecord(a)
	if err != nil {
		return nil, err
	}
	forget := r != nil
	if r != nil && !r.describes(d) {
		p.Notes = append(p.Notes, fmt.Sprintf("the record is about another device (%04x:%04x) that was at this address, and is dropped", r.VendorID, r.DeviceID))
		r = nil
	}
	switch {
	case r != nil && d.Driver != "" && d.Driver != r.Driver && !d.VFIO && d.DriverOverride != d.Driver:
		// Somebody else has given it away since, and may have a disk mounted on it by now.
		p.Driver = d.Driver
		p.Notes = append(p.Notes, "it was given to "+driverName(d.Driver)+" by other means since, and stays there; the record of "+r.String()+" is dropped")
	case r != nil:
		p.Driver, p.op = r.Driver, "give it back to "+r.String()
		if r.Driver != "" && r.Driver != d.Driver && !h.os.Exists(driversDir+"/"+r.Driver) {
			return nil, h.noDriver(a, p.op, r.Driver, ", or remove "+recordFile(a)+" to let the kernel pick a driver")
		}
		p.Steps = restoreSteps(d, r.Driver, r.DriverOverride)
	case d.VFIO, d.Driver == "" && isVFIO(d.DriverOverride):
		p.op = "give it back to the kernel"
		p.Notes = append(p.Notes, "no record tells which driver it had: the kernel picks one")
		p.Steps = append(restoreSteps(d, "", ""), Step{Path: "/sys/bus/pci/drivers_probe", Value: a.String()})
	default:
		p.Driver = d.Driver
	}
	if err := p.checkUnbind(d); err != nil {
		return nil, err
	}
	if r != nil {
		p.Steps = append(p.Steps, p.takeSteps(r)...)
	}
	if forget {
		p.Steps = append(p.Steps, Step{Path: recordFile(a), Remove: true, kind: stepForget})
	}
	return p, nil
}

// checkUnbind refuses to take a device from a driver through which the host uses it. What is behind a bridge stays where it
// is when the bridge's driver changes.
func (p *Plan) checkUnbind(d Device) error {
	if d.Bridge || !slices.ContainsFunc(p.Steps, func(s Step) bool { return s.kind == stepUnbind }) {
		return nil
	}
	reasons, err := p.host.usedThroughDriver(d.Address)
	if err != nil {
		return err
	}
	if len(reasons) > 0 {
		return deviceError(d.Address, p.op, ErrInUse, strings.Join(reasons, "; "), "end that use first")
	}
	return nil
}

// restoreSteps bring a device from how it is to a driver ("" is none) and an override ("" is none).
func restoreSteps(d Device, driver, override string) []Step {
	var steps []Step
	if d.Driver != driver {
		steps = unbindStep(d)
	}
	steps = append(steps, overrideStep(d, override)...)
	if d.Driver != driver && driver != "" {
		steps = append(steps, bindStep(d.Address, driver))
	}
	return steps
}

// overrideStep sets the override, unless it is set already.
func overrideStep(d Device, override string) []Step {
	if d.DriverOverride == override {
		return nil
	}
	return []Step{{Path: devicesDir + "/" + d.Address.String() + "/driver_override", Value: override}}
}

// unbindStep takes the device from the driver that it has, if any.
func unbindStep(d Device) []Step {
	if d.Driver == "" {
		return nil
	}
	return []Step{{Path: driversDir + "/" + d.Driver + "/unbind", Value: d.Address.String(), kind: stepUnbind, driver: d.Driver}}
}

// bindStep gives the device to a driver. Unlike drivers_probe, bind answers with the errno of the driver's probe function.
func bindStep(a pci.Address, driver string) Step {
	return Step{Path: driversDir + "/" + driver + "/bind", Value: a.String(), kind: stepBind, driver: driver}
}
