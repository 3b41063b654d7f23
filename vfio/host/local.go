package host

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/irqbridge/irqbridge/vfio/internal/uapi"
)

// local is the OS of the running kernel, with /sys, /proc and /run taken from below a directory.
type local struct {
	root string // without a slash at its end; "" for "/"
}

func newLocal(root string) *local {
	if abs, err := filepath.Abs(root); err == nil {
		root = abs
	}
	return &local{root: strings.TrimSuffix(root, "/")}
}

// maxLinks is how many symbolic links one path may lead through, as in Linux (MAXSYMLINKS, include/linux/namei.h).
const maxLinks = 40

// locate returns the path of name on the running system. Below a root of its own, it follows the links itself, so that an
// absolute target or a "..", which the copy of a sysfs tree may hold, cannot lead out of it. The last component's link is
// followed only if asked for.
func (l *local) locate(op, name string, follow bool) (string, error) {
	if l.root == "" {
		return name, nil
	}
	done, links := "", 0
	for rest := path.Clean("/" + name); rest != "" && rest != "/"; {
		var part string
		part, rest, _ = strings.Cut(strings.TrimLeft(rest, "/"), "/")
		switch part {
		case "", ".":
			continue
		case "..":
			done = strings.TrimSuffix(path.Dir("/"+done), "/")
			continue
		}
		next := done + "/" + part
		if rest == "" && !follow {
			return l.root + next, nil
		}
		target, err := os.Readlink(l.root + next)
		if err != nil { // no link, or nothing there at all: the caller's own call will say so
			done = next
			continue
		}
		if links++; links > maxLinks {
			return "", &fs.PathError{Op: op, Path: l.root + name, Err: unix.ELOOP}
		}
		if path.IsAbs(target) {
			done = ""
		}
		rest = strings.TrimSuffix(target+"/"+rest, "/")
	}
	return l.root + "/" + strings.TrimPrefix(done, "/"), nil
}

// open opens without the runtime's poller: a sysfs attribute may be pollable, and a poller would wait for a change of it.
func (l *local) open(name string, flags int) (int, string, error) {
	p, err := l.locate("open", name, true)
	if err != nil {
		return -1, p, err
	}
	fd, err := restart(func() (int, error) { return unix.Open(p, flags|unix.O_CLOEXEC, 0) })
	if err != nil {
		return -1, p, &fs.PathError{Op: "open", Path: p, Err: err}
	}
	return fd, p, nil
}

// restart repeats a system call that a signal interrupted before it did anything.
func restart(call func() (int, error)) (int, error) {
	for {
		n, err := call()
		if !errors.Is(err, unix.EINTR) {
			return n, err
		}
	}
}

func (l *local) ReadFile(name string) ([]byte, error) {
	fd, p, err := l.open(name, unix.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd) //nolint:errcheck // nothing was written
	// An attribute is made when it is read from offset 0 and is a page at most; the largest one here, config, is 4096 bytes.
	attribute := strings.HasPrefix(name, "/sys/")
	buf := make([]byte, 0, max(os.Getpagesize(), 4096))
	for {
		n, err := restart(func() (int, error) { return unix.Read(fd, buf[len(buf):cap(buf)]) })
		if err != nil {
			return nil, &fs.PathError{Op: "read", Path: p, Err: err}
		}
		buf = buf[:len(buf)+n]
		if n == 0 || attribute {
			return slices.Clip(buf), nil
		}
		if len(buf) == cap(buf) {
			buf = slices.Grow(buf, 4*cap(buf))
		}
	}
}

func (l *local) WriteFile(name string, data []byte) error {
	// O_TRUNC is what a shell's > does. An attribute ignores it; in a plain copy of a tree it keeps the old value from
	// showing behind the new one.
	fd, p, err := l.open(name, unix.O_WRONLY|unix.O_TRUNC)
	if err != nil {
		return err
	}
	defer unix.Close(fd) //nolint:errcheck // the write reported what there was to report
	n, err := restart(func() (int, error) { return unix.Write(fd, data) })
	if err == nil && n < len(data) {
		err = io.ErrShortWrite
	}
	if err != nil {
		return &fs.PathError{Op: "write", Path: p, Err: err}
	}
	return nil
}

func (l *local) ReadDir(name string) ([]string, error) {
	p, err := l.locate("open", name, true)
	if err != nil {
		return nil, err
	}
	dir, err := os.Open(p)
	if err != nil {
		return nil, err
	}
	defer dir.Close() //nolint:errcheck // nothing was written
	names, err := dir.Readdirnames(-1)
	slices.Sort(names)
	return names, err
}

func (l *local) Readlink(name string) (string, error) {
	p, err := l.locate("readlink", name, false)
	if err != nil {
		return "", err
	}
	return os.Readlink(p)
}

func (l *local) Exists(name string) bool {
	p, err := l.locate("stat", name, true)
	if err != nil {
		return false
	}
	_, err = os.Stat(p)
	return err == nil
}

func (l *local) Access(name string) error {
	p, err := l.locate("access", name, true)
	if err != nil {
		return err
	}
	if err := unix.Faccessat(unix.AT_FDCWD, p, unix.R_OK|unix.W_OK, unix.AT_EACCESS); err != nil {
		return &fs.PathError{Op: "access", Path: p, Err: err}
	}
	return nil
}

func (l *local) SaveFile(name string, data []byte, perm fs.FileMode) (err error) {
	p, err := l.locate("save", name, true)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
		return err
	}
	// Written beside the file and renamed over it, so that no reader and no crash sees a part.
	tmp, err := os.CreateTemp(filepath.Dir(p), "."+filepath.Base(p)+".*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(tmp.Name()))
		}
	}()
	_, err = tmp.Write(data)
	err = errors.Join(err, tmp.Chmod(perm), tmp.Sync(), tmp.Close())
	if err != nil {
		return err
	}
	return os.Rename(tmp.Name(), p)
}

func (l *local) RemoveFile(name string) error {
	p, err := l.locate("remove", name, false)
	if err != nil {
		return err
	}
	return os.Remove(p)
}

func (l *local) Permissions(name string) (Permissions, error) {
	p, err := l.locate("stat", name, true)
	if err != nil {
		return Permissions{}, err
	}
	var st unix.Stat_t
	if err := unix.Stat(p, &st); err != nil {
		return Permissions{}, &fs.PathError{Op: "stat", Path: p, Err: err}
	}
	return Permissions{UID: st.Uid, GID: st.Gid, Mode: fs.FileMode(st.Mode).Perm()}, nil
}

func (l *local) SetOwner(name string, uid uint32) error {
	p, err := l.locate("chown", name, true)
	if err != nil {
		return err
	}
	return os.Chown(p, int(uid), -1)
}

func (l *local) SetThreadAffinity(cpus CPUSet) error {
	set := unix.NewCPUSet(MaxCPUs)
	for cpu := range cpus.All() {
		set.Set(cpu)
	}
	return os.NewSyscallError("sched_setaffinity", unix.SchedSetaffinityDynamic(0, set))
}

func (l *local) ThreadAffinity() (CPUSet, error) {
	set := unix.NewCPUSet(MaxCPUs)
	if err := unix.SchedGetaffinityDynamic(0, set); err != nil {
		return CPUSet{}, os.NewSyscallError("sched_getaffinity", err)
	}
	var cpus []int
	for cpu := range MaxCPUs {
		if set.IsSet(cpu) {
			cpus = append(cpus, cpu)
		}
	}
	return CPUSetOf(cpus...), nil
}

func (l *local) CurrentCPU() (int, error) { return uapi.CurrentCPU() }
