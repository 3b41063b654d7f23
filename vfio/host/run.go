package host

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/irqbridge/irqbridge/pci"
)

// How long Run looks for the effect of a write that succeeded, how long it waits for a user of VFIO to let go of a group too,
// and how long it tries to undo a plan that failed.
const (
	verifyTries    = 10
	verifyInterval = 500 * time.Millisecond
	groupTries     = 50
	groupInterval  = 20 * time.Millisecond
	undoLimit      = 10 * time.Second
)

// errPending says that ctx ended while the kernel was still working on a write.
var errPending = errors.New("the kernel has not finished")

// Run carries the plan out step by step; after a step that changes the driver it looks whether the driver did change. When
// a step fails, it brings the device back to how it was when the plan was made, and says whether that succeeded.
//
// ctx bounds the waiting. To take a device away from a process that holds it open, the kernel waits for that process,
// without a limit. When ctx ends during such a write, the write goes on in the kernel and nothing can be undone, because the
// kernel holds the device locked; the error says who has it.
func (p *Plan) Run(ctx context.Context) error {
	for i, s := range p.Steps {
		err := p.do(ctx, s)
		if err == nil {
			continue
		}
		cause, remedy := p.explain(s, err)
		switch {
		case errors.Is(err, errPending): // see above
		case s.kind == stepForget:
			cause = join(cause, "the device is as planned, only its record is still there")
		default:
			cause = join(cause, p.undo(ctx, p.Steps[:i]))
		}
		what := s.String()
		if s.kind == stepSave {
			what = "record its state in " + s.Path
		}
		return deviceError(p.Address, p.op, fmt.Errorf("%s: %w", what, bare(err)), cause, remedy)
	}
	return nil
}

// do carries out one step.
func (p *Plan) do(ctx context.Context, s Step) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	switch s.kind {
	case stepSave:
		return p.host.os.SaveFile(s.Path, []byte(s.Value+"\n"), 0o644)
	case stepForget:
		if err := p.host.os.RemoveFile(s.Path); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	case stepGive:
		err := p.host.os.SetOwner(s.Path, s.uid)
		// A kernel may have devices' own nodes only (without CONFIG_VFIO_GROUP).
		if errors.Is(err, fs.ErrNotExist) && s.Path == groupNode(p.former.Group) && p.host.DeviceNode(p.Address) != "" {
			return nil
		}
		return err
	case stepGiveOwn:
		if node := p.host.DeviceNode(p.Address); node != "" { // the kernel may have iommufd without such nodes
			return p.host.os.SetOwner(node, s.uid)
		}
		return nil
	case stepTake:
		return p.take(s)
	case stepWrite:
		return p.write(ctx, s)
	}
	err := p.write(ctx, s)
	for range groupTries {
		if !p.groupIsHeld(s, err) {
			break
		}
		if err = sleep(ctx, groupInterval); err == nil {
			err = p.write(ctx, s)
		}
	}
	if err != nil {
		// EBUSY from bind and ENODEV from unbind also mean that somebody else did it a moment ago.
		if errors.Is(err, errPending) || !p.reached(s) {
			return err
		}
		return nil
	}
	for range verifyTries {
		if p.reached(s) {
			return nil
		}
		if err := sleep(ctx, verifyInterval); err != nil {
			return err
		}
	}
	return fmt.Errorf("the write succeeded, but after %v the device has %s", verifyTries*verifyInterval, driverName(p.driver()))
}

// groupIsHeld tells whether a step failed because the group of a device that VFIO has just let go is still its user's. A user
// closes the device, which the unbind waited for, before the group; until then the group takes no driver of the host.
func (p *Plan) groupIsHeld(s Step, err error) bool {
	return errors.Is(err, unix.EBUSY) && s.kind == stepBind && p.former.VFIO && !isVFIO(s.driver) && p.driver() == ""
}

// sleep waits, or returns ctx's error when that ends first.
func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// write makes one write, and leaves it behind when ctx ends: a write to sysfs cannot be taken back.
func (p *Plan) write(ctx context.Context, s Step) error {
	result := make(chan error, 1)
	go func() { result <- p.host.os.WriteFile(s.Path, []byte(s.Value+"\n")) }()
	select {
	case err := <-result:
		return err
	case <-ctx.Done():
	}
	select {
	case err := <-result: // both at once
		return err
	default:
		return fmt.Errorf("%w: %w", errPending, ctx.Err())
	}
}

// driver returns the device's driver at this moment.
func (p *Plan) driver() string {
	r := attributes{host: p.host, dir: devicesDir + "/" + p.Address.String()}
	return r.link("driver")
}

// reached tells whether a step had its effect.
func (p *Plan) reached(s Step) bool {
	if s.kind == stepUnbind {
		return p.driver() != s.driver
	}
	return p.driver() == s.driver
}

// undo brings the device back to how it was before this run took the steps done, whatever it is now, and says in words how that
// went. It does so also when ctx has ended.
func (p *Plan) undo(ctx context.Context, done []Step) string {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoLimit)
	defer cancel()
	now, err := p.host.Device(p.Address)
	if err != nil {
		return fmt.Sprintf("nothing could be undone (%v)", err)
	}
	var steps []Step
	for _, s := range done {
		if s.kind == stepGive {
			steps = append(steps, Step{Path: s.Path, Owner: strconv.FormatUint(uint64(s.from), 10), kind: stepTake, uid: s.from, from: s.uid})
		}
	}
	steps = append(steps, restoreSteps(now, p.former.Driver, p.former.DriverOverride)...)
	if i := slices.IndexFunc(done, func(s Step) bool { return s.kind == stepSave }); i >= 0 {
		again := Step{Path: done[i].Path, Remove: true, kind: stepForget}
		if p.kept != nil {
			text, err := p.kept.text()
			if err != nil {
				return fmt.Sprintf("its record is not back to how it was (%v)", err)
			}
			again = Step{Path: done[i].Path, Value: text, kind: stepSave}
		}
		steps = append(steps, again)
	}
	for _, s := range steps {
		if err := p.do(ctx, s); err != nil {
			return fmt.Sprintf("the device is not back to how it was, since %v failed (%v)", s, bare(err))
		}
	}
	if len(steps) == 0 {
		return "nothing was changed"
	}
	return "the device is back to how it was"
}

// explain says why a step failed and what to do.
func (p *Plan) explain(s Step, err error) (cause, remedy string) {
	a := p.Address.String()
	switch {
	case s.Owner != "" && errors.Is(err, fs.ErrPermission):
		return "only root may give a node to another user", "run with sudo"
	case s.Owner != "" && errors.Is(err, fs.ErrNotExist):
		return "the driver has the device, but its group has no node", "wait for udev (udevadm settle); in a container, run outside of it"
	case errors.Is(err, fs.ErrPermission):
		return "only root may change the driver of a device", "run with sudo"
	case errors.Is(err, unix.EROFS):
		return "the filesystem is mounted read-only, as in a container", "run outside of the container"
	case errors.Is(err, errPending) && s.kind == stepUnbind && p.former.VFIO:
		holders := "a process"
		if names := p.host.Holders(p.former.Group); len(names) > 0 {
			holders = strings.Join(names, ", ")
		}
		return holders + " has the device open; VFIO has asked for it back (the REQ interrupt) and waits until it is closed",
			"end that process, and then unbind once more to complete this"
	case errors.Is(err, errPending):
		return "the driver's own code is at work on the device, which the kernel holds locked so that nothing can be undone",
			"see dmesg, and then unbind once more to bring the device back"
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return "it was stopped", ""
	case s.kind == stepSave:
		return "the former state could not be recorded, and without a record nothing is changed", ""
	case s.kind == stepBind && errors.Is(err, fs.ErrNotExist):
		return "the driver is no longer loaded", "modprobe " + s.driver
	case s.kind == stepBind && errors.Is(err, unix.ENODEV):
		return "the driver does not take this device, or the device has gone", "see dmesg"
	case s.kind == stepBind && errors.Is(err, unix.EBUSY) && p.former.VirtualFunctions > 0:
		return "it has SR-IOV virtual functions", "echo 0 > " + devicesDir + "/" + a + "/sriov_numvfs"
	case s.kind == stepBind && errors.Is(err, unix.EBUSY) && !isVFIO(s.driver):
		return fmt.Sprintf("a process uses another device of IOMMU group %d through VFIO", p.former.Group), "end that process first"
	case s.kind == stepBind:
		return "the driver's probe function failed", "see dmesg"
	case gone(err):
		return "the device or its driver has gone", "see dmesg"
	}
	return "", "see dmesg"
}

// Holders returns the processes that have an IOMMU group's node or the node of a device of it open, or, when none is found,
// those that have any VFIO device (one that was opened through its group does not tell which), as "1234 (name)". Without
// root, only one's own processes can be looked into.
func (h *Host) Holders(group int) []string {
	exact, possible := h.HolderProcesses(group)
	var names []string
	for _, p := range exact {
		names = append(names, p.String())
	}
	if len(names) > 0 {
		return names
	}
	for _, p := range possible {
		names = append(names, "possibly "+p.String())
	}
	return names
}

// HolderProcesses returns the processes that have an IOMMU group's node or the node of a device of it open, and those others
// that have any VFIO device.
func (h *Host) HolderProcesses(group int) (exact, possible []Process) {
	id := strconv.Itoa(group)
	nodes := []string{"/dev/vfio/" + id, "/dev/vfio/noiommu-" + id}
	// No more than the names is read of the members: while one of them is being unbound, which is when this is asked, Linux
	// 6.1 lets nobody read its driver_override.
	members, _ := h.os.ReadDir(groupsDir + "/" + id + "/devices")
	for _, name := range members {
		a, err := pci.ParseAddress(name)
		if err != nil {
			continue
		}
		if node := h.DeviceNode(a); node != "" {
			nodes = append(nodes, node)
		}
	}
	for _, p := range h.processes() {
		dir := fmt.Sprintf("/proc/%d/fd", p.ID)
		names, _ := h.os.ReadDir(dir)
		var hasGroup, hasDevice bool
		for _, name := range names {
			target, _ := h.os.Readlink(dir + "/" + name)
			hasGroup = hasGroup || slices.Contains(nodes, target)
			hasDevice = hasDevice || target == "anon_inode:[vfio-device]" || strings.HasPrefix(target, deviceNodesDir)
		}
		if hasGroup {
			exact = append(exact, p)
		} else if hasDevice {
			possible = append(possible, p)
		}
	}
	return exact, possible
}

// driverName names a driver in a sentence.
func driverName(driver string) string {
	if driver == "" {
		return "no driver"
	}
	return "driver " + driver
}

// bare takes the path off an error of a file operation whose path is already in the message.
func bare(err error) error {
	if pathError, ok := errors.AsType[*fs.PathError](err); ok {
		return pathError.Err
	}
	return err
}

// join puts two parts of a cause together.
func join(a, b string) string {
	if a == "" {
		return b
	}
	return a + "; " + b
}
