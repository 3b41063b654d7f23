package host_test

import (
	"fmt"
	"io/fs"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/irqbridge/irqbridge/pci"
	"github.com/irqbridge/irqbridge/vfio/host"
	"github.com/irqbridge/irqbridge/vfio/vfiotest"
)

// Whom devices are given to; the numbers need no account.
var (
	joe  = host.User{Name: "joe", UID: 4001, GIDs: []uint32{4001}}
	jane = host.User{UID: 4002}
)

// owner is whose a file is; -1 without one.
func owner(t *testing.T, m *vfiotest.Machine, node string) int {
	t.Helper()
	p, err := hostOS(m).Permissions(node)
	if err != nil {
		require.ErrorIs(t, err, fs.ErrNotExist)
		return -1
	}
	return int(p.UID)
}

func groupNode(t *testing.T, m *vfiotest.Machine, a pci.Address) string {
	t.Helper()
	return fmt.Sprintf("/dev/vfio/%d", device(t, m, a).Group)
}

// planGive plans to bind a device and give it away.
func planGive(t *testing.T, m *vfiotest.Machine, a pci.Address, u host.User, force bool, along ...pci.Address) (*host.Plan, error) {
	t.Helper()
	p, err := m.Host.PlanBind(a, "vfio-pci", false)
	require.NoError(t, err)
	return p, p.GiveTo(u, along, force)
}

func give(t *testing.T, m *vfiotest.Machine, a pci.Address, u host.User, along ...pci.Address) {
	t.Helper()
	p, err := planGive(t, m, a, u, false, along...)
	require.NoError(t, err)
	require.NoError(t, p.Run(t.Context()))
}

// restore gives a device back, and looks that it is as it was.
func restore(t *testing.T, m *vfiotest.Machine, a pci.Address, driver string) {
	t.Helper()
	p, err := m.Host.PlanUnbind(a)
	require.NoError(t, err)
	require.NoError(t, p.Run(t.Context()))
	assert.Equal(t, driver, device(t, m, a).Driver)
}

func stepsOf(p *host.Plan) []string {
	var lines []string
	for _, s := range p.Steps {
		lines = append(lines, s.String())
	}
	return lines
}

func TestMachineGiveAndTake(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		node := groupNode(t, m, m.E1000E)
		p, err := planGive(t, m, m.E1000E, joe, false)
		require.NoError(t, err)
		want := []string{
			"+ echo '" + `{"schema":1,"address":"0000:00:05.0","vendor":32902,"device":4307,"driver":"e1000e","driverOverride":"","nodes":[{"path":"` + node +
				`","from":0,"to":4001}]}` + "' > /run/irqbridge/bind/0000:00:05.0.json",
			"+ echo vfio-pci > /sys/bus/pci/devices/0000:00:05.0/driver_override",
			"+ echo 0000:00:05.0 > /sys/bus/pci/drivers/e1000e/unbind",
			"+ echo 0000:00:05.0 > /sys/bus/pci/drivers/vfio-pci/bind",
			"+ chown joe " + node,
		}
		if m.Host.HasIOMMUFD() {
			want = append(want, "+ chown joe /dev/vfio/devices/$(ls /sys/bus/pci/devices/0000:00:05.0/vfio-dev)")
		}
		assert.Equal(t, want, stepsOf(p))
		require.NoError(t, p.Run(t.Context()))
		assert.Equal(t, 4001, owner(t, m, node))
		if own := m.Host.DeviceNode(m.E1000E); m.Host.HasIOMMUFD() {
			assert.Equal(t, 4001, owner(t, m, own))
		}

		again, err := planGive(t, m, m.E1000E, joe, false)
		require.NoError(t, err)
		assert.Empty(t, stepsOf(again), "it is joe's")
		p, err = m.Host.PlanBind(m.E1000E, "vfio-pci", false)
		require.NoError(t, err)
		assert.Equal(t, []string{node + " belongs to user 4001, who can open this device"}, p.Notes)

		restore(t, m, m.E1000E, "e1000e")
		assert.Equal(t, -1, owner(t, m, node))
		m.Bind(t, m.E1000E)
		assert.Equal(t, 0, owner(t, m, node), "a node that is made anew is root's")
	})
}

// A device that VFIO had before stays where it is, and so do its nodes: these have to be taken back.
func TestMachineTakeFromABoundDevice(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		m.Bind(t, m.EDU)
		nodes := []string{groupNode(t, m, m.EDU)}
		if own := m.Host.DeviceNode(m.EDU); own != "" {
			nodes = append(nodes, own)
		}
		give(t, m, m.EDU, joe)
		_, err := planGive(t, m, m.EDU, jane, false)
		require.ErrorIs(t, err, host.ErrShared)
		require.ErrorContains(t, err, nodes[0]+" belongs to user 4001")
		p, err := planGive(t, m, m.EDU, jane, true)
		require.NoError(t, err)
		require.NoError(t, p.Run(t.Context()))
		for _, node := range nodes {
			assert.Equal(t, 4002, owner(t, m, node))
		}
		// The driver of before is that of before the first of these commands, and whose the nodes were, too.
		p, err = m.Host.PlanUnbind(m.EDU)
		require.NoError(t, err)
		require.NoError(t, p.Run(t.Context()))
		assert.Empty(t, device(t, m, m.EDU).Driver)
		m.Bind(t, m.EDU)
		assert.Equal(t, 0, owner(t, m, nodes[0]))
	})
}

func TestMachineGiveWithoutARecordOfTheDriver(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		m.Bind(t, m.EDU)
		// As a device is that the kernel's command line gave to VFIO.
		s := hostOS(m)
		record := "/run/irqbridge/bind/" + m.EDU.String() + ".json"
		kept, err := s.ReadFile(record)
		require.NoError(t, err)
		require.NoError(t, s.RemoveFile(record))
		defer func() { require.NoError(t, s.SaveFile(record, kept, 0o644)) }()

		give(t, m, m.EDU, joe)
		p, err := m.Host.PlanUnbind(m.EDU)
		require.NoError(t, err)
		require.NoError(t, p.Run(t.Context()))
		assert.Equal(t, "vfio-pci", device(t, m, m.EDU).Driver, "as it was")
		assert.Equal(t, 0, owner(t, m, groupNode(t, m, m.EDU)))
		if own := m.Host.DeviceNode(m.EDU); own != "" {
			assert.Equal(t, 0, owner(t, m, own))
		}
		assert.False(t, s.Exists(record))
	})
}

// The node of a group opens all its devices.
func TestMachineGiveOneOfAGroup(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		node := groupNode(t, m, m.BridgeEDU)
		m.Bind(t, m.BridgeE1000)
		_, err := planGive(t, m, m.BridgeEDU, joe, false)
		require.ErrorIs(t, err, host.ErrShared)
		require.ErrorContains(t, err, "also opens "+m.BridgeE1000.String()+", which is root's")
		assert.Empty(t, device(t, m, m.BridgeEDU).Driver)

		p, err := planGive(t, m, m.BridgeEDU, joe, true)
		require.NoError(t, err)
		require.NoError(t, p.Run(t.Context()))
		assert.Equal(t, 4001, owner(t, m, node))
		restore(t, m, m.BridgeEDU, "")
		assert.Equal(t, 0, owner(t, m, node), "VFIO still has the other, and the node is root's again")

		// Both are joe's until both are given back, in whichever order.
		both := []pci.Address{m.BridgeEDU, m.BridgeE1000}
		for range 2 {
			give(t, m, m.BridgeE1000, joe, both...)
			give(t, m, m.BridgeEDU, joe)
			p, err = m.Host.PlanUnbind(both[0])
			require.NoError(t, err)
			require.NoError(t, p.Run(t.Context()))
			assert.Equal(t, 4001, owner(t, m, node))
			p, err = m.Host.PlanUnbind(both[1])
			require.NoError(t, err)
			require.NoError(t, p.Run(t.Context()))
			assert.Equal(t, -1, owner(t, m, node))
			slices.Reverse(both)
		}
		// What another has taken by now is not taken from it.
		give(t, m, m.BridgeE1000, joe)
		m.Bind(t, m.BridgeEDU)
		require.NoError(t, hostOS(m).SetOwner(node, jane.UID))
		restore(t, m, m.BridgeE1000, "e1000")
		assert.Equal(t, 4002, owner(t, m, node))
		m.Bind(t, m.BridgeE1000)
	})
}

func TestMachineGiveRefuses(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		p, err := m.Host.PlanBind(m.EDU, "e1000", false)
		require.NoError(t, err)
		require.ErrorIs(t, p.GiveTo(joe, nil, true), fs.ErrInvalid)
	})
}

func TestGiveWithoutAnIOMMU(t *testing.T) {
	m := vfiotest.FakeMachine(t, vfiotest.WithoutIOMMU(), vfiotest.NoIOMMUMode(true))
	for range 2 { // before and after VFIO made a group up
		_, err := planGive(t, m, m.EDU, joe, true)
		require.ErrorIs(t, err, host.ErrNoIOMMU)
		m.Bind(t, m.EDU)
	}
}

// Notes say which nodes are still shut: /dev/iommu is root's, unlike /dev/vfio/vfio.
func TestGiveNotesWhatIsShut(t *testing.T) {
	m := vfiotest.FakeMachine(t, vfiotest.WithIOMMUFD())
	p, err := planGive(t, m, m.EDU, joe, false)
	require.NoError(t, err)
	assert.Equal(t, []string{"joe cannot open /dev/iommu (user 0, group 0, mode 0660), which all devices share: a udev rule has to open it"}, p.Notes)
	p, err = planGive(t, m, m.EDU, host.User{UID: 4003, GIDs: []uint32{12, 0}}, false)
	require.NoError(t, err)
	assert.Empty(t, p.Notes, "the group may open it")
}

// A give that fails leaves driver, nodes and record as they were.
func TestGiveFails(t *testing.T) {
	for _, c := range []struct {
		call  string
		errno unix.Errno
		nth   int
		cause string
	}{
		{"SetOwner", unix.EPERM, 1, "only root may give a node to another user; the device is back to how it was"},
		{"SetOwner", unix.EROFS, 2, "the filesystem is mounted read-only, as in a container; the device is back to how it was"},
		{"SaveFile", unix.ENOSPC, 1, "without a record nothing is changed; nothing was changed"},
		{"SetOwner", unix.ENOENT, 2, "the device is back to how it was"},
	} {
		for _, was := range []string{"e1000e", "vfio-pci", "given"} {
			t.Run(fmt.Sprintf("%s %v %d, %s", c.call, c.errno, c.nth, was), func(t *testing.T) {
				m := vfiotest.FakeMachine(t, vfiotest.WithIOMMUFD())
				u := joe
				if was != "e1000e" {
					m.Bind(t, m.E1000E)
				}
				if was == "given" {
					give(t, m, m.E1000E, joe)
					u = jane
				}
				state := func() string {
					d := device(t, m, m.E1000E)
					record, _ := m.Fake.ReadFile("/run/irqbridge/bind/0000:00:05.0.json")
					return fmt.Sprint(d.Driver, d.DriverOverride, owner(t, m, groupNode(t, m, m.E1000E)), owner(t, m, m.Host.DeviceNode(m.E1000E)), string(record))
				}
				before := state()
				p, err := planGive(t, m, m.E1000E, u, true)
				require.NoError(t, err)
				m.Fake.Fail(c.call, c.errno, c.nth)
				err = p.Run(t.Context())
				require.ErrorIs(t, err, c.errno)
				require.ErrorContains(t, err, c.cause)
				assert.Equal(t, before, state())
			})
		}
	}
}

// A kernel that has devices' own nodes only (without CONFIG_VFIO_GROUP) is served, too.
func TestGiveWithoutTheGroupsNode(t *testing.T) {
	m := vfiotest.FakeMachine(t, vfiotest.WithIOMMUFD())
	p, err := planGive(t, m, m.EDU, joe, false)
	require.NoError(t, err)
	m.Fake.Fail("SetOwner", unix.ENOENT, 1)
	require.NoError(t, p.Run(t.Context()))
	assert.Equal(t, 4001, owner(t, m, m.Host.DeviceNode(m.EDU)))
}

func TestPermissionsAllow(t *testing.T) {
	for _, c := range []struct {
		p    host.Permissions
		u    host.User
		want bool
	}{
		{host.Permissions{Mode: 0o600}, host.User{}, true},
		{host.Permissions{Mode: 0o600}, joe, false},
		{host.Permissions{UID: 4001, Mode: 0o600}, joe, true},
		{host.Permissions{UID: 4001, Mode: 0o466}, joe, false}, // the owner's bits alone count for the owner
		{host.Permissions{GID: 4001, Mode: 0o660}, joe, true},
		{host.Permissions{GID: 4001, Mode: 0o646}, joe, false},
		{host.Permissions{GID: 12, Mode: 0o660}, joe, false},
		{host.Permissions{Mode: 0o666}, joe, true},
		{host.Permissions{Mode: 0o664}, joe, false},
	} {
		assert.Equal(t, c.want, c.p.Allow(c.u), "%+v %+v", c.p, c.u)
	}
	assert.Equal(t, "joe", joe.String())
	assert.Equal(t, "4002", jane.String())
}

// hostOS is the machine's files.
func hostOS(m *vfiotest.Machine) host.OS {
	if m.Fake != nil {
		return m.Fake
	}
	return host.Local("/")
}
