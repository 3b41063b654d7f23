package host

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"

	"github.com/irqbridge/irqbridge/pci"
)

// User is somebody whom a device can be given to.
type User struct {
	Name string // for messages and for what a Step shows; "" shows the number
	UID  uint32
	GIDs []uint32 // the groups that the user is in, which open nodes too
}

// String returns the name, or the number.
func (u User) String() string {
	if u.Name != "" {
		return u.Name
	}
	return strconv.FormatUint(uint64(u.UID), 10)
}

// Permissions is whose a file is and who may open it.
type Permissions struct {
	UID, GID uint32
	Mode     fs.FileMode // the permission bits
}

// Allow tells whether a user may read and write the file by its owner, group and mode. Root may in any case.
func (p Permissions) Allow(u User) bool {
	need := fs.FileMode(0o006)
	switch {
	case u.UID == 0:
		return true
	case p.UID == u.UID:
		need = 0o600
	case slices.Contains(u.GIDs, p.GID):
		need = 0o060
	}
	return p.Mode&need == need
}

// givenNode is a node that was given to a user, in a record.
type givenNode struct {
	Path string `json:"path"`
	From uint32 `json:"from"` // whose it was
	To   uint32 `json:"to"`   // whose it is
}

// validNode tells whether path is one of the nodes that a plan gives away.
func validNode(path string) bool {
	name, ok := strings.CutPrefix(path, deviceNodesDir+"/vfio")
	if !ok {
		name, ok = strings.CutPrefix(path, "/dev/vfio/")
	}
	_, err := strconv.ParseUint(name, 10, 31)
	return ok && err == nil
}

func groupNode(group int) string { return "/dev/vfio/" + strconv.Itoa(group) }

// GiveTo adds to a plan of [Host.PlanBind] that the nodes by which the device is opened become the user's: that of its IOMMU
// group and, where the kernel has it, its own. Their group and mode stay. Whose they were is recorded, and the plan of
// [Host.PlanUnbind] gives them back. The nodes that all devices share, /dev/vfio/vfio and /dev/iommu, stay as they are; the
// plan's notes say when the user may not open one.
//
// A group's node opens every device of the group. If it is another user's already, or opens a device that is neither the
// user's nor in along, that is refused ([ErrShared]) unless force is set. A device without an IOMMU ([ErrNoIOMMU]) is refused
// always: root alone can open it.
func (p *Plan) GiveTo(u User, along []pci.Address, force bool) error {
	h, d := p.host, p.former
	op := "give it to " + u.String()
	switch {
	case !isVFIO(p.Driver):
		return deviceError(p.Address, op, fs.ErrInvalid, "only a VFIO driver has nodes to give, and "+p.Driver+" is none", "")
	case d.Group < 0, h.NoIOMMUGroup(d.Group):
		return deviceError(p.Address, op, ErrNoIOMMU, "it can write to any memory of the host, so only a program with CAP_SYS_RAWIO can open it", "run the program as root")
	}
	r := newRecord(d)
	if p.kept != nil {
		r = *p.kept
		r.Nodes = slices.Clone(r.Nodes)
	}
	recorded := len(r.Nodes)
	if err := p.giveGroup(&r, u, op, along, force); err != nil {
		return err
	}
	p.giveOwn(&r, u)
	if p.gives || len(r.Nodes) > recorded {
		text, err := r.text()
		if err != nil {
			return deviceError(p.Address, op, err, "", "")
		}
		p.Steps = slices.DeleteFunc(p.Steps, func(s Step) bool { return s.kind == stepSave })
		p.Steps = slices.Insert(p.Steps, 0, Step{Path: recordFile(p.Address), Value: text, kind: stepSave})
	}
	p.Notes = slices.DeleteFunc(p.Notes, func(note string) bool { return slices.Contains(h.ownerNotes(d), note) })
	p.noteShut(u)
	p.GivenTo = u.String()
	return nil
}

// giveGroup gives the node of the device's group. One that is not there yet is root's when the kernel makes it.
func (p *Plan) giveGroup(r *record, u User, op string, along []pci.Address, force bool) error {
	h, d := p.host, p.former
	node := groupNode(d.Group)
	now, err := h.os.Permissions(node)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return deviceError(p.Address, op, err, "", "")
	case now.UID == u.UID:
		// By the giving of another device of the group, perhaps: then it stays the user's until both are given back.
		for _, given := range h.givenWith(d) {
			if given.Path == node && given.To == u.UID {
				r.add(given)
			}
		}
		return nil
	case !force:
		if err := h.checkShared(d, now.UID, op, along); err != nil {
			return err
		}
	}
	p.give(r, u, givenNode{Path: node, From: now.UID, To: u.UID})
	return nil
}

// giveOwn gives the device's own node. Before its driver makes it, it has no name; it then goes together with the driver, so
// that there is nothing to record.
func (p *Plan) giveOwn(r *record, u User) {
	h, d := p.host, p.former
	if !h.HasIOMMUFD() {
		return
	}
	if d.Driver != p.Driver {
		name := deviceNodesDir + "/$(ls " + devicesDir + "/" + d.Address.String() + "/vfio-dev)"
		p.Steps = append(p.Steps, Step{Path: name, Owner: u.String(), kind: stepGiveOwn, uid: u.UID})
		return
	}
	node := h.DeviceNode(d.Address)
	if now, err := h.os.Permissions(node); err == nil && now.UID != u.UID {
		p.give(r, u, givenNode{Path: node, From: now.UID, To: u.UID})
	}
}

// give adds a step and records it.
func (p *Plan) give(r *record, u User, n givenNode) {
	r.add(n)
	p.gives = true
	p.Steps = append(p.Steps, Step{Path: n.Path, Owner: u.String(), kind: stepGive, uid: n.To, from: n.From})
}

// add records that a node is given. Whose it was at first is kept.
func (r *record) add(n givenNode) {
	for i := range r.Nodes {
		if r.Nodes[i].Path == n.Path {
			r.Nodes[i].To = n.To
			return
		}
	}
	r.Nodes = append(r.Nodes, n)
}

// checkShared refuses to give a group's node, which is owner's, with what others have.
func (h *Host) checkShared(d Device, owner uint32, op string, along []pci.Address) error {
	node := groupNode(d.Group)
	if owner != 0 {
		return deviceError(d.Address, op, ErrShared, fmt.Sprintf("%s belongs to user %d", node, owner), "ask that user, or force it")
	}
	g, err := h.Group(d.Group)
	if err != nil {
		return err
	}
	var others []string
	for _, m := range g.Members {
		if m.VFIO && m.Address != d.Address && !slices.Contains(along, m.Address) {
			others = append(others, m.Address.String())
		}
	}
	if len(others) == 0 {
		return nil
	}
	return deviceError(d.Address, op, ErrShared, fmt.Sprintf("%s, the node of IOMMU group %d, also opens %s, which is root's", node, d.Group, strings.Join(others, ", ")),
		"give these too, or force it")
}

// givenWith returns the nodes that were given with the other devices of the group.
func (h *Host) givenWith(d Device) []givenNode {
	names, _ := h.os.ReadDir(groupsDir + "/" + strconv.Itoa(d.Group) + "/devices")
	var nodes []givenNode
	for _, name := range names {
		if a, err := pci.ParseAddress(name); err == nil && a != d.Address {
			if r, err := h.readRecord(a); err == nil && r != nil {
				nodes = append(nodes, r.Nodes...)
			}
		}
	}
	return nodes
}

// takeSteps give the nodes of a record back, those that are still there after the steps before.
func (p *Plan) takeSteps(r *record) []Step {
	h, d := p.host, p.former
	leaves := slices.ContainsFunc(p.Steps, func(s Step) bool { return s.kind == stepUnbind })
	stays := func(n givenNode) bool {
		if !leaves || n.Path != groupNode(d.Group) {
			return !leaves
		}
		g, _ := h.Group(d.Group)
		return slices.ContainsFunc(g.Members, func(m Device) bool { return m.VFIO && m.Address != d.Address })
	}
	var steps []Step
	for _, n := range r.Nodes {
		if stays(n) {
			steps = append(steps, Step{Path: n.Path, Owner: strconv.FormatUint(uint64(n.From), 10), kind: stepTake, uid: n.From, from: n.To})
		}
	}
	return steps
}

// take gives a node back, unless it is gone, belongs to a third by now, or was given with another device of the group too.
func (p *Plan) take(s Step) error {
	now, err := p.host.os.Permissions(s.Path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case now.UID != s.from:
		return nil
	}
	if slices.Contains(p.host.givenWith(p.former), givenNode{Path: s.Path, From: s.uid, To: s.from}) {
		return nil
	}
	return p.host.os.SetOwner(s.Path, s.uid)
}

// ownerNotes says who else than root can open a device that is to be bound.
func (h *Host) ownerNotes(d Device) []string {
	if d.Group < 0 {
		return nil
	}
	node := groupNode(d.Group)
	now, err := h.os.Permissions(node)
	if err != nil || now.UID == 0 {
		return nil
	}
	return []string{fmt.Sprintf("%s belongs to user %d, who can open this device", node, now.UID)}
}

// noteShut says which of the nodes that all devices share the user may not open.
func (p *Plan) noteShut(u User) {
	for _, node := range []string{ContainerNode, IOMMUFDNode} {
		if now, err := p.host.os.Permissions(node); err == nil && !now.Allow(u) {
			p.Notes = append(p.Notes, fmt.Sprintf("%s cannot open %s (user %d, group %d, mode %04o), which all devices share: a udev rule has to open it",
				u, node, now.UID, now.GID, now.Mode))
		}
	}
}
