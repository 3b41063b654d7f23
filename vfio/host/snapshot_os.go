package host

import (
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/irqbridge/irqbridge/pci"
)

// Host is the host that a snapshot was taken on, as far as the snapshot has it: one more that a Host's methods work on. It has
// the CPUs that were online, nothing can be changed on it, and no thread runs there.
func (s *Snapshot) Host() *Host {
	return NewOn(&snapshotOS{s, slices.Sorted(maps.Keys(s.entries))})
}

// snapshotOS is the OS of Snapshot.Host.
type snapshotOS struct {
	*Snapshot
	names []string // of the entries, sorted: what is below a directory is together
}

// ReadFile returns a file's text and a line end.
func (s *snapshotOS) ReadFile(name string) ([]byte, error) {
	name = path.Clean(name)
	if dir, last := path.Split(name); last == "config" && path.Dir(path.Clean(dir)) == devicesDir {
		if a, err := pci.ParseAddress(path.Base(dir)); err == nil && s.configs[a] != nil {
			return slices.Clone(s.configs[a]), nil
		}
	}
	e, ok := s.entries[name]
	if !ok || e.kind != file {
		return nil, &fs.PathError{Op: "open", Path: name, Err: unix.ENOENT}
	}
	return []byte(e.text + "\n"), nil
}

// ReadDir returns the names that are known in a directory.
func (s *snapshotOS) ReadDir(name string) ([]string, error) {
	prefix := path.Clean(name) + "/"
	var names []string
	for _, full := range s.below(prefix) {
		rest, ok := strings.CutPrefix(full, prefix)
		if !ok {
			break
		}
		first, _, _ := strings.Cut(rest, "/")
		names = append(names, first)
	}
	if names == nil && !s.Exists(name) {
		return nil, &fs.PathError{Op: "open", Path: name, Err: unix.ENOENT}
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// below returns the names from the first on that is not before prefix.
func (s *snapshotOS) below(prefix string) []string {
	at, _ := slices.BinarySearch(s.names, prefix)
	return s.names[at:]
}

// Readlink returns where a function's directory is. Of other links a snapshot keeps the last component of the target.
func (s *snapshotOS) Readlink(name string) (string, error) {
	name = path.Clean(name)
	e, ok := s.entries[name]
	place := s.entries[name+"/"+placeName].text
	switch {
	case path.Dir(name) == devicesDir && place != "":
		return "../../../devices/" + place, nil
	case !ok:
		return "", &fs.PathError{Op: "readlink", Path: name, Err: unix.ENOENT}
	case e.kind != link:
		return "", &fs.PathError{Op: "readlink", Path: name, Err: unix.EINVAL}
	}
	return e.text, nil
}

// Exists tells whether the snapshot knows of name.
func (s *snapshotOS) Exists(name string) bool {
	name = path.Clean(name)
	if _, ok := s.entries[name]; ok {
		return true
	}
	rest := s.below(name + "/")
	return len(rest) > 0 && strings.HasPrefix(rest[0], name+"/")
}

func (s *snapshotOS) WriteFile(name string, _ []byte) error { return readOnly("write", name) }

func (s *snapshotOS) SaveFile(name string, _ []byte, _ fs.FileMode) error {
	return readOnly("write", name)
}

func (s *snapshotOS) RemoveFile(name string) error { return readOnly("remove", name) }

func (s *snapshotOS) SetOwner(name string, _ uint32) error { return readOnly("chown", name) }

// Permissions are not in a snapshot, since they name users.
func (s *snapshotOS) Permissions(name string) (Permissions, error) {
	return Permissions{}, &fs.PathError{Op: "stat", Path: name, Err: unix.ENOSYS}
}

// Access is a matter of who asks, which a snapshot does not know.
func (s *snapshotOS) Access(name string) error {
	return &fs.PathError{Op: "access", Path: name, Err: unix.ENOSYS}
}

func readOnly(op, name string) error { return &fs.PathError{Op: op, Path: name, Err: unix.EROFS} }

func (s *snapshotOS) SetThreadAffinity(CPUSet) error { return unix.ENOSYS }

// ThreadAffinity returns the CPUs that were online: those that a process there could have used.
func (s *snapshotOS) ThreadAffinity() (CPUSet, error) {
	return ParseCPUList(s.entries["/sys/devices/system/cpu/online"].text)
}

func (s *snapshotOS) CurrentCPU() (int, error) { return 0, unix.ENOSYS }
