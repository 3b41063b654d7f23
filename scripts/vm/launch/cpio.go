package main

import (
	"bufio"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
)

// The file types of a cpio archive's mode, as in stat(2).
const (
	typeDir     = 0o040000
	typeFile    = 0o100000
	typeSymlink = 0o120000
	typeChar    = 0o020000
)

// cpio writes an archive in the "newc" form, the one that the kernel unpacks as its initial file system
// (Documentation/driver-api/early-userspace/buffer-format.rst). Names are absolute. It is not compressed: the guest's
// processor is emulated and would take longer to unpack it than QEMU takes to copy it.
//
// The first error stops everything and is what Close returns.
type cpio struct {
	w     *bufio.Writer
	size  int64
	inode int
	dirs  map[string]bool // what has been written
	err   error
}

func newCPIO(w io.Writer) *cpio {
	return &cpio{w: bufio.NewWriterSize(w, 1<<20), dirs: map[string]bool{"/": true}}
}

// Close writes the trailer.
func (c *cpio) Close() error {
	c.header("TRAILER!!!", 0, 0, 0, 0)
	if c.err == nil {
		c.err = c.w.Flush()
	}
	return c.err
}

// Dir adds a directory and its parents.
func (c *cpio) Dir(name string) {
	if name = path.Clean(name); c.dirs[name] {
		return
	}
	c.Dir(path.Dir(name))
	c.dirs[name] = true
	c.header(name[1:], typeDir|0o755, 0, 0, 0)
}

// Data adds a file of the content.
func (c *cpio) Data(name string, perm fs.FileMode, data []byte) {
	c.Dir(path.Dir(name))
	c.header(path.Clean(name)[1:], typeFile|uint32(perm), int64(len(data)), 0, 0)
	c.write(data)
	c.align()
}

// Symlink adds a symbolic link.
func (c *cpio) Symlink(name, target string) {
	c.Dir(path.Dir(name))
	c.header(path.Clean(name)[1:], typeSymlink|0o777, int64(len(target)), 0, 0)
	c.write([]byte(target))
	c.align()
}

// CharDevice adds a device node.
func (c *cpio) CharDevice(name string, perm fs.FileMode, major, minor int) {
	c.Dir(path.Dir(name))
	c.header(path.Clean(name)[1:], typeChar|uint32(perm), 0, major, minor)
}

// File adds a file of the host. It is made readable, and executable if it is for its owner, for all: the program in the
// guest may not run as the owner.
func (c *cpio) File(name, source string) {
	if c.err != nil {
		return
	}
	info, err := os.Stat(source)
	if err != nil {
		c.err = err
		return
	}
	data, err := os.ReadFile(source)
	if err != nil {
		c.err = err
		return
	}
	perm := info.Mode().Perm() | 0o444
	if perm&0o100 != 0 {
		perm |= 0o111
	}
	c.Data(name, perm, data)
}

// Tree adds a file, or a directory with everything below it. Symbolic links stay links.
func (c *cpio) Tree(name, source string) {
	if c.err != nil {
		return
	}
	// A link that was named itself is followed: its target is what is meant.
	real, err := filepath.EvalSymlinks(source)
	if err != nil {
		c.err = err
		return
	}
	c.err = filepath.WalkDir(real, func(p string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		below, err := filepath.Rel(real, p)
		if err != nil {
			return err
		}
		target := path.Join(name, filepath.ToSlash(below))
		switch entry.Type() {
		case fs.ModeDir:
			c.Dir(target)
		case fs.ModeSymlink:
			link, err := os.Readlink(p)
			if err != nil {
				return err
			}
			c.Symlink(target, link)
		case 0:
			c.File(target, p)
		}
		return c.err
	})
}

func (c *cpio) header(name string, mode uint32, size int64, major, minor int) {
	if size > 0xffffffff {
		c.err = fmt.Errorf("%s is too large for the guest", name)
	}
	c.inode++
	c.write(fmt.Appendf(nil, "070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%s\x00",
		c.inode, mode, 0, 0, 1, 0, size, 0, 0, major, minor, len(name)+1, 0, name))
	c.align()
}

// align pads to four bytes, which headers and contents start at.
func (c *cpio) align() { c.write(make([]byte, -c.size&3)) }

func (c *cpio) write(p []byte) {
	if c.err != nil {
		return
	}
	var n int
	n, c.err = c.w.Write(p)
	c.size += int64(n)
}
