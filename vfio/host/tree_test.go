package host

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/irqbridge/irqbridge/pci"
)

// tree is a copy of /sys, /proc and /run in a directory, with links where the kernel has them.
type tree struct {
	t    *testing.T
	root string
}

func newTree(t *testing.T) *tree {
	t.Helper()
	tr := &tree{t: t, root: t.TempDir()}
	tr.dir("/sys/bus/pci/devices")
	tr.dir("/sys/bus/pci/drivers")
	tr.dir("/sys/kernel/iommu_groups")
	tr.file("/sys/bus/pci/drivers_probe", "")
	tr.file("/sys/devices/system/cpu/online", "0-1\n")
	tr.file("/proc/self/mountinfo", "")
	return tr
}

func (tr *tree) host() *Host { return New(tr.root) }

func (tr *tree) dir(name string) {
	tr.t.Helper()
	require.NoError(tr.t, os.MkdirAll(tr.root+name, 0o755))
}

func (tr *tree) file(name, content string) {
	tr.t.Helper()
	tr.dir(path.Dir(name))
	require.NoError(tr.t, os.WriteFile(tr.root+name, []byte(content), 0o644))
}

// link makes name a link to target, both absolute; the link is stored relative, as sysfs does.
func (tr *tree) link(name, target string) {
	tr.t.Helper()
	tr.dir(path.Dir(name))
	relative, err := filepath.Rel(path.Dir(name), target)
	require.NoError(tr.t, err)
	require.NoError(tr.t, os.Symlink(relative, tr.root+name))
}

// place is where a device's directory is: directly below the root complex.
func place(address string) string {
	return "/sys/devices/pci" + address[:strings.IndexByte(address, ':')+3] + "/" + address
}

// device makes a PCI function with vendor:device and class, bound to a driver ("" for none), in a group (-1 for none).
func (tr *tree) device(address, ids, class, driver string, group int) {
	tr.t.Helper()
	dir := place(address)
	vendor, device, _ := strings.Cut(ids, ":")
	for name, content := range map[string]string{
		"vendor": "0x" + vendor, "device": "0x" + device, "class": "0x" + class, "revision": "0x03",
		"subsystem_vendor": "0x1af4", "subsystem_device": "0x1100", "driver_override": "(null)", "irq": "22",
		"numa_node": "-1", "power_state": "D0",
	} {
		tr.file(dir+"/"+name, content+"\n")
	}
	tr.link("/sys/bus/pci/devices/"+address, dir)
	if driver != "" {
		tr.driver(driver)
		tr.link(dir+"/driver", "/sys/bus/pci/drivers/"+driver)
	}
	if isVFIO(driver) {
		tr.dir(dir + "/vfio-dev/vfio0")
	}
	if group >= 0 {
		groupDir := "/sys/kernel/iommu_groups/" + strconv.Itoa(group)
		tr.link(dir+"/iommu_group", groupDir)
		tr.link(groupDir+"/devices/"+address, dir)
		tr.file(groupDir+"/name", "")
	}
}

func (tr *tree) driver(name string) {
	tr.t.Helper()
	tr.file("/sys/bus/pci/drivers/"+name+"/bind", "")
	tr.file("/sys/bus/pci/drivers/"+name+"/unbind", "")
}

func addr(t *testing.T, s string) pci.Address {
	t.Helper()
	a, err := pci.ParseAddress(s)
	require.NoError(t, err)
	return a
}

// driverCore is a tree that reacts to writes as the kernel's driver core does (drivers/base/{bus,dd}.c), with faults on
// request. It is safe for concurrent use.
type driverCore struct {
	*tree
	OS

	mu       sync.Mutex
	takes    map[string][]string // addresses that a driver takes by their IDs, by driver
	refuses  map[string]error    // what a driver's probe function answers, by driver
	refusals map[string]int      // and how often, where that is set
	faults   map[string]error    // what a file answers, by path; "read ", "list " and "remove " in front name these operations
	once     bool                // a fault happens only once
	forgets  map[string]bool     // drivers whose bind succeeds without an effect
	released chan struct{}       // when set, unbind blocks until it is closed
	blocked  chan struct{}       // closed once unbind blocks
	writes   []string            // what was written, as "value > path"
}

func newDriverCore(t *testing.T) *driverCore {
	t.Helper()
	tr := newTree(t)
	return &driverCore{
		tree: tr, OS: newLocal(tr.root),
		takes: map[string][]string{}, refuses: map[string]error{}, refusals: map[string]int{}, faults: map[string]error{}, forgets: map[string]bool{},
	}
}

func (k *driverCore) host() *Host { return NewOn(k) }

func (k *driverCore) ReadFile(name string) ([]byte, error) {
	if err := k.fault("read " + name); err != nil {
		return nil, err
	}
	return k.OS.ReadFile(name)
}

func (k *driverCore) ReadDir(name string) ([]string, error) {
	if err := k.fault("list " + name); err != nil {
		return nil, err
	}
	return k.OS.ReadDir(name)
}

func (k *driverCore) fault(name string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.faults[name]; err != nil {
		if k.once {
			delete(k.faults, name)
		}
		return &fs.PathError{Op: "open", Path: name, Err: err}
	}
	return nil
}

func (k *driverCore) SaveFile(name string, data []byte, perm fs.FileMode) error {
	if err := k.fault(name); err != nil {
		return err
	}
	return k.OS.SaveFile(name, data, perm)
}

func (k *driverCore) RemoveFile(name string) error {
	if err := k.fault("remove " + name); err != nil {
		return err
	}
	return k.OS.RemoveFile(name)
}

func (k *driverCore) WriteFile(name string, data []byte) error {
	if err := k.fault(name); err != nil {
		return err
	}
	value, terminated := strings.CutSuffix(string(data), "\n")
	if !terminated {
		return &fs.PathError{Op: "write", Path: name, Err: errors.New("the test wants what echo writes")}
	}
	k.mu.Lock()
	k.writes = append(k.writes, value+" > "+name)
	released, blocked := k.released, k.blocked
	k.mu.Unlock()
	if released != nil && strings.HasSuffix(name, "/unbind") {
		close(blocked)
		<-released
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.react(name, value); err != nil {
		return &fs.PathError{Op: "write", Path: name, Err: err}
	}
	return nil
}

func (k *driverCore) react(name, value string) error {
	dir, file := path.Split(name)
	switch file {
	case "driver_override":
		if value == "" {
			value = "(null)"
		}
		return k.OS.WriteFile(name, []byte(value+"\n"))
	case "bind":
		return k.attach(value, path.Base(dir))
	case "unbind":
		if k.bound(value) != path.Base(dir) {
			return unix.ENODEV
		}
		return errors.Join(os.RemoveAll(k.root+place(value)+"/vfio-dev"), os.Remove(k.root+place(value)+"/driver"))
	case "drivers_probe":
		if !k.Exists(place(value)) {
			return unix.ENODEV
		}
		drivers, err := k.OS.ReadDir("/sys/bus/pci/drivers") // k.ReadDir takes mu
		for _, driver := range drivers {
			_ = k.attach(value, driver) // the next one may be luckier: as the kernel does
		}
		return err
	}
	return k.OS.WriteFile(name, []byte(value+"\n"))
}

func (k *driverCore) bound(address string) string {
	target, _ := k.Readlink(place(address) + "/driver")
	if target == "" {
		return ""
	}
	return path.Base(target)
}

func (k *driverCore) attach(address, driver string) error {
	if !k.Exists(place(address)) {
		return unix.ENODEV
	}
	override, err := k.OS.ReadFile(place(address) + "/driver_override")
	if err != nil {
		return err
	}
	wanted := strings.TrimSpace(string(override))
	if wanted != driver && (wanted != "(null)" || !slices.Contains(k.takes[driver], address)) {
		return unix.ENODEV
	}
	if k.bound(address) != "" {
		return unix.EBUSY
	}
	if err := k.refuses[driver]; err != nil {
		if k.refusals[driver]--; k.refusals[driver] == 0 {
			delete(k.refuses, driver)
		}
		return err
	}
	if k.forgets[driver] {
		return nil
	}
	k.link(place(address)+"/driver", "/sys/bus/pci/drivers/"+driver)
	if isVFIO(driver) {
		k.dir(place(address) + "/vfio-dev/vfio0")
	}
	return nil
}

// process makes a process that has files open.
func (tr *tree) process(id, name string, files ...string) {
	tr.t.Helper()
	tr.file("/proc/"+id+"/comm", name+"\n")
	tr.dir("/proc/" + id + "/fd")
	for i, file := range files {
		require.NoError(tr.t, os.Symlink(file, tr.root+"/proc/"+id+"/fd/"+strconv.Itoa(i)))
	}
}

// snapshot returns every file and link of the tree, to be compared with a later one.
func (tr *tree) snapshot() map[string]string {
	tr.t.Helper()
	all := map[string]string{}
	require.NoError(tr.t, filepath.WalkDir(tr.root, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		if d.Type()&fs.ModeSymlink != 0 {
			all[name], err = os.Readlink(name)
			return err
		}
		b, err := os.ReadFile(name)
		all[name] = string(b)
		return err
	}))
	return all
}
