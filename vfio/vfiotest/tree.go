package vfiotest

import (
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/irqbridge/irqbridge/vfio/host"
	"github.com/irqbridge/irqbridge/vfio/internal/uapi"
)

// node is a file, a link or a directory of the tree that the kernel shows. Exactly one of link, dir, and read or write
// is set.
type node struct {
	link  string
	dir   func() map[string]node // the entries at this moment
	read  func() string
	write func(text string) error
}

// text is a file that is read only.
func text(s string) node { return node{read: func() string { return s }} }

// directory is a directory of which the entries are known.
func directory(entries map[string]node) node {
	return node{dir: func() map[string]node { return entries }}
}

// maxLinks is how many links a path may lead through (MAXSYMLINKS, include/linux/namei.h).
const maxLinks = 40

// walk finds a node by its absolute path. The last component's link is followed only if asked for.
func (k *Kernel) walk(name string, follow bool) (node, error) {
	at := []node{k.root()}
	todo := strings.Split(path.Clean("/"+name), "/")
	for links := 0; len(todo) > 0; {
		part := todo[0]
		todo = todo[1:]
		here := at[len(at)-1]
		switch part {
		case "", ".":
			continue
		case "..":
			at = at[:max(1, len(at)-1)]
			continue
		}
		if here.dir == nil {
			return node{}, unix.ENOTDIR
		}
		next, ok := here.dir()[part]
		switch {
		case !ok:
			return node{}, unix.ENOENT
		case next.link == "" || len(todo) == 0 && !follow:
			at = append(at, next)
			continue
		}
		if links++; links > maxLinks {
			return node{}, unix.ELOOP
		}
		if path.IsAbs(next.link) {
			at = at[:1]
		}
		todo = append(strings.Split(next.link, "/"), todo...)
	}
	return at[len(at)-1], nil
}

// find is walk for a call, whose error names the path.
func (k *Kernel) find(call, op, name string, follow bool) (node, error) {
	err := k.enter(call)
	if err != nil {
		return node{}, &fs.PathError{Op: op, Path: name, Err: err}
	}
	n, err := k.walk(name, follow)
	if err != nil {
		return node{}, &fs.PathError{Op: op, Path: name, Err: err}
	}
	return n, nil
}

// ReadFile returns the content of a file of sysfs or procfs, or of one that SaveFile made.
func (k *Kernel) ReadFile(name string) ([]byte, error) {
	n, err := k.find("ReadFile", "open", name, true)
	defer k.mu.Unlock()
	switch {
	case err != nil:
		return nil, err
	case n.dir != nil:
		return nil, &fs.PathError{Op: "read", Path: name, Err: unix.EISDIR}
	case n.read == nil:
		return nil, &fs.PathError{Op: "open", Path: name, Err: unix.EACCES}
	}
	return []byte(n.read()), nil
}

// WriteFile writes an attribute of sysfs or procfs, and answers as the kernel does. Unbinding a device that is open
// waits until it is closed.
func (k *Kernel) WriteFile(name string, data []byte) error {
	n, err := k.find("WriteFile", "open", name, true)
	defer k.mu.Unlock()
	switch {
	case err != nil:
		return err
	case n.dir != nil:
		return &fs.PathError{Op: "open", Path: name, Err: unix.EISDIR}
	case n.write == nil:
		return &fs.PathError{Op: "open", Path: name, Err: unix.EACCES}
	case len(data) == 0 && strings.HasPrefix(name, "/sys/"):
		return nil // sysfs does not pass it on
	}
	if err := n.write(string(data)); err != nil {
		return &fs.PathError{Op: "write", Path: name, Err: err}
	}
	return nil
}

// ReadDir returns the names in a directory.
func (k *Kernel) ReadDir(name string) ([]string, error) {
	n, err := k.find("ReadDir", "open", name, true)
	defer k.mu.Unlock()
	switch {
	case err != nil:
		return nil, err
	case n.dir == nil:
		return nil, &fs.PathError{Op: "readdirent", Path: name, Err: unix.ENOTDIR}
	}
	return slices.Sorted(maps.Keys(n.dir())), nil
}

// Readlink returns the target of a link.
func (k *Kernel) Readlink(name string) (string, error) {
	n, err := k.find("Readlink", "readlink", name, false)
	defer k.mu.Unlock()
	switch {
	case err != nil:
		return "", err
	case n.link == "":
		return "", &fs.PathError{Op: "readlink", Path: name, Err: unix.EINVAL}
	}
	return n.link, nil
}

// Exists tells whether a file is there.
func (k *Kernel) Exists(name string) bool {
	_, err := k.find("Exists", "stat", name, true)
	defer k.mu.Unlock()
	return err == nil
}

// SaveFile keeps a regular file in memory. The kernel's own trees take none.
func (k *Kernel) SaveFile(name string, data []byte, _ fs.FileMode) error {
	err := k.enter("SaveFile")
	defer k.mu.Unlock()
	name = path.Clean("/" + name)
	if err == nil && (strings.HasPrefix(name, "/sys/") || strings.HasPrefix(name, "/proc/")) {
		err = unix.EPERM
	}
	if err != nil {
		return &fs.PathError{Op: "save", Path: name, Err: err}
	}
	k.saved[name] = slices.Clone(data)
	return nil
}

// RemoveFile removes a file that SaveFile made.
func (k *Kernel) RemoveFile(name string) error {
	err := k.enter("RemoveFile")
	defer k.mu.Unlock()
	name = path.Clean("/" + name)
	if _, ok := k.saved[name]; err == nil && !ok {
		err = unix.ENOENT
	}
	if err != nil {
		return &fs.PathError{Op: "remove", Path: name, Err: err}
	}
	delete(k.saved, name)
	return nil
}

// Permissions returns who owns a file and may open it. All is root's that was not given away, and only the nodes that every
// device is opened with are for others.
func (k *Kernel) Permissions(name string) (host.Permissions, error) {
	n, err := k.find("Permissions", "stat", name, true)
	defer k.mu.Unlock()
	if err != nil {
		return host.Permissions{}, err
	}
	p := host.Permissions{UID: k.owners[path.Clean(name)], Mode: 0o644}
	switch {
	case name == "/dev/vfio/vfio":
		p.Mode = 0o666
	case name == "/dev/iommu":
		p.Mode = 0o660
	case n.read == nil && n.dir == nil:
		p.Mode = 0o600
	}
	return p, nil
}

// SetOwner gives a node to a user. The kernel's opens do not ask whose it is.
func (k *Kernel) SetOwner(name string, uid uint32) error {
	_, err := k.find("SetOwner", "chown", name, true)
	defer k.mu.Unlock()
	if err != nil {
		return err
	}
	k.owners[path.Clean(name)] = uid
	return nil
}

// dropOwners forgets whose the nodes were that are no longer there.
func (k *Kernel) dropOwners() {
	maps.DeleteFunc(k.owners, func(name string, _ uint32) bool {
		_, err := k.walk(name, true)
		return err != nil
	})
}

// savedDir is the directory of the saved files below a path without a slash at its end; nil when there are none.
func (k *Kernel) savedDir(dir string) map[string]node {
	entries := map[string]node{}
	for name, data := range k.saved {
		rest, ok := strings.CutPrefix(name, dir+"/")
		if !ok {
			continue
		}
		first, _, deeper := strings.Cut(rest, "/")
		if deeper {
			below := dir + "/" + first
			entries[first] = node{dir: func() map[string]node { return k.savedDir(below) }}
		} else {
			entries[first] = text(string(data))
		}
	}
	return entries
}

// SetThreadAffinity binds the calling thread, the real one, to CPUs.
func (k *Kernel) SetThreadAffinity(cpus host.CPUSet) error {
	err := k.enter("SetThreadAffinity")
	k.mu.Unlock()
	if err != nil {
		return err
	}
	set := unix.NewCPUSet(host.MaxCPUs)
	for cpu := range cpus.All() {
		set.Set(cpu)
	}
	return unix.SchedSetaffinityDynamic(0, set)
}

// ThreadAffinity returns the CPUs that the calling thread, the real one, may run on.
func (k *Kernel) ThreadAffinity() (host.CPUSet, error) {
	err := k.enter("ThreadAffinity")
	k.mu.Unlock()
	if err != nil {
		return host.CPUSet{}, err
	}
	return affinityOf(0)
}

// CurrentCPU returns the CPU that the calling thread, the real one, is on.
func (k *Kernel) CurrentCPU() (int, error) { return uapi.CurrentCPU() }

// affinityOf returns the CPUs of a thread; 0 is the calling one.
func affinityOf(thread int) (host.CPUSet, error) {
	set := unix.NewCPUSet(host.MaxCPUs)
	if err := unix.SchedGetaffinityDynamic(thread, set); err != nil {
		return host.CPUSet{}, err
	}
	var cpus []int
	for cpu := range host.MaxCPUs {
		if set.IsSet(cpu) {
			cpus = append(cpus, cpu)
		}
	}
	return host.CPUSetOf(cpus...), nil
}
