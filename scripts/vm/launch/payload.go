package main

import (
	"bytes"
	"debug/elf"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/irqbridge/irqbridge/scripts/vm/internal/wire"
)

// file is something that the guest gets: a file or directory of the host, under a name in the guest.
type file struct {
	source, name string
	// onlyFiles leaves out a directory's subdirectories.
	onlyFiles bool
}

// The users that the guest knows by name.
const (
	passwd = "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000:user:/home/user:/bin/sh\nnobody:x:65534:65534:nobody:/tmp:/bin/sh\n"
	group  = "root:x:0:\ntty:x:5:\nuser:x:1000:\nnogroup:x:65534:\n"
)

// initrd makes the guest's initial file system, as a file in memory.
func initrd(init, busybox, kernelDir string, job *wire.Job, files []file) (*os.File, error) {
	fd, err := unix.MemfdCreate("initrd", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("memfd_create: %w", err)
	}
	f := os.NewFile(uintptr(fd), "initrd")

	data, err := json.Marshal(job)
	if err != nil {
		return nil, err
	}
	applets, err := exec.Command(busybox, "--list").Output()
	if err != nil {
		return nil, fmt.Errorf("%s --list: %w", busybox, err)
	}
	c := newCPIO(f)
	c.File("/init", init)
	// Process 1 gets its standard streams from this node before it could mount anything.
	c.CharDevice("/dev/console", 0o600, 5, 1)
	for _, dir := range []string{"/proc", "/sys", "/root", "/home/user", "/tmp", job.Dir} {
		c.Dir(dir)
	}
	c.Data("/etc/passwd", 0o644, []byte(passwd))
	c.Data("/etc/group", 0o644, []byte(group))
	c.File("/bin/busybox", busybox)
	for name := range strings.FieldsSeq(string(applets)) {
		if name != "busybox" {
			c.Symlink("/bin/"+name, "busybox")
		}
	}
	c.Symlink("/sbin", "bin")
	c.Tree(wire.ModulesDir, filepath.Join(kernelDir, "modules"))
	c.Data(wire.JobPath, 0o644, data)
	for _, f := range files {
		if f.onlyFiles {
			addFilesOf(c, f)
		} else {
			c.Tree(f.name, f.source)
		}
	}
	if err := c.Close(); err != nil {
		return nil, err
	}
	return f, nil
}

func addFilesOf(c *cpio, dir file) {
	entries, err := os.ReadDir(dir.source)
	if err != nil {
		c.err = errors.Join(c.err, err)
		return
	}
	for _, e := range entries {
		if e.Type().IsRegular() {
			c.File(filepath.Join(dir.name, e.Name()), filepath.Join(dir.source, e.Name()))
		}
	}
}

// checkRunnable refuses a program that the guest could not run, and says why. Scripts are for the guest's shell to judge.
func checkRunnable(name string) error {
	info, err := os.Stat(name)
	if err != nil {
		return err
	}
	if info.IsDir() || info.Mode()&0o111 == 0 {
		return fmt.Errorf("%s is not an executable file", name)
	}
	data, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	if !bytes.HasPrefix(data, []byte(elf.ELFMAG)) {
		return nil
	}
	e, err := elf.NewFile(bytes.NewReader(data))
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if e.Machine != elf.EM_X86_64 {
		return fmt.Errorf("%s is a program for %s: the virtual machine is x86-64 (GOARCH=amd64)", name, strings.TrimPrefix(e.Machine.String(), "EM_"))
	}
	for _, p := range e.Progs {
		if p.Type == elf.PT_INTERP {
			return fmt.Errorf("%s is dynamically linked and the virtual machine has no libraries: build it with CGO_ENABLED=0. "+
				"(A test binary made with -race needs cgo, and so cannot run here: run the race detector on the host, on the fake kernel.)", name)
		}
	}
	return nil
}
