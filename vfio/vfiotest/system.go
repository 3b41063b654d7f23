package vfiotest

import (
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/irqbridge/irqbridge/pci"
	"github.com/irqbridge/irqbridge/vfio/host"
)

// This file has what the machine shows beside its devices: how it was booted, its modules, processes and limits. The machine
// is a Debian on an Intel CPU.

// BootedWith adds arguments to the kernel's command line. They are shown, and nothing more: [WithoutIOMMU] and
// [WithoutInterruptRemapping] are what has an effect.
func BootedWith(arguments ...string) Option {
	return func(k *Kernel) { k.arguments = append(k.arguments, arguments...) }
}

// WithoutModule makes a machine on which a module is not loaded: vfio_pci, so that there is no driver vfio-pci, or
// vfio_iommu_type1, so that containers have no IOMMU driver.
func WithoutModule(name string) Option {
	return func(k *Kernel) { k.unloaded = append(k.unloaded, name) }
}

// WithProcess adds a process, such as 42 and "irqbalance", which does nothing.
func WithProcess(id int, name string) Option {
	return func(k *Kernel) { k.processes[id] = name }
}

// WriteConfig writes to the configuration space of the device at a behind the kernel's back, as setpci does. It tells whether
// there is such a device.
func (k *Kernel) WriteConfig(a pci.Address, off int, p []byte) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	f := k.function(a)
	if f == nil || off < 0 || off+len(p) > len(f.config) {
		return false
	}
	f.writeConfig(p, off)
	return true
}

// loaded tells whether a module is.
func (k *Kernel) loaded(module string) bool { return !slices.Contains(k.unloaded, module) }

// etcDir is /etc.
func (k *Kernel) etcDir() map[string]node {
	return map[string]node{
		"os-release": text("PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nID=debian\nVERSION_ID=\"12\"\n"),
		"default":    directory(map[string]node{"grub": text("GRUB_CMDLINE_LINUX=\"\"\n")}),
		"passwd":     text("root:x:0:0:root:/root:/bin/bash\n"),
		"group":      text("root:x:0:\n"),
	}
}

// commandLine is /proc/cmdline.
func (k *Kernel) commandLine() string {
	arguments := []string{"BOOT_IMAGE=/boot/vmlinuz", "quiet"}
	if !k.withoutIOMMU {
		arguments = append(arguments, "intel_iommu=on")
	}
	return strings.Join(append(arguments, k.arguments...), " ") + "\n"
}

// module is a directory of /sys/module.
func (k *Kernel) module(entries map[string]node) node {
	if entries == nil {
		entries = map[string]node{}
	}
	entries["initstate"] = text("live\n")
	return directory(entries)
}

// limits is /proc/self/limits.
func (k *Kernel) limits() string {
	limit := "unlimited"
	if k.memlock > 0 {
		limit = strconv.FormatUint(k.memlock, 10)
	}
	return fmt.Sprintf("Limit                     Soft Limit           Hard Limit           Units     \n"+
		"Max locked memory         %-20s %-20s bytes     \n", limit, limit)
}

// selfStatus is /proc/self/status: root, with every capability but, where memory is limited, CAP_IPC_LOCK.
func (k *Kernel) selfStatus() string {
	capabilities := uint64(1<<41 - 1)
	if k.memlock > 0 {
		capabilities &^= 1 << unix.CAP_IPC_LOCK
	}
	return fmt.Sprintf("Uid:\t0\t0\t0\t0\nCapEff:\t%016x\n", capabilities)
}

// processDirs are the processes' directories in /proc: those that were asked for, and the one that this is, with the files
// that it has open here and with its threads, which are real.
func (k *Kernel) processDirs() map[string]node {
	entries := map[string]node{}
	for id, name := range k.processes {
		entries[strconv.Itoa(id)] = directory(map[string]node{"comm": text(name + "\n"), "fd": directory(nil)})
	}
	entries[strconv.Itoa(os.Getpid())] = directory(map[string]node{
		"comm": {read: func() string {
			b, _ := os.ReadFile("/proc/self/comm")
			return string(b)
		}},
		"fd":   {dir: k.descriptors},
		"task": {dir: threads},
	})
	return entries
}

// descriptors are the links to the open files.
func (k *Kernel) descriptors() map[string]node {
	entries := map[string]node{}
	for fd, f := range k.files {
		target := ""
		switch f := f.(type) {
		case *container:
			target = host.ContainerNode
		case *iommufdFile:
			target = host.IOMMUFDNode
		case *groupFile:
			target = "/dev/vfio/" + f.group.nodeName()
		case *cdevFile:
			target = "/dev/vfio/devices/" + f.function.vfioName()
		case *deviceFile:
			target = "anon_inode:[vfio-device]"
		default:
			continue
		}
		entries[strconv.Itoa(fd)] = node{link: target}
	}
	return entries
}

// threads are the directories of the process's real threads.
func threads() map[string]node {
	entries := map[string]node{}
	names, _ := os.ReadDir("/proc/self/task")
	for _, thread := range names {
		file := "/proc/self/task/" + thread.Name() + "/status"
		entries[thread.Name()] = directory(map[string]node{"status": {read: func() string {
			b, _ := os.ReadFile(file) // empty when the thread has just ended
			return string(b)
		}}})
	}
	return entries
}

// Access tells whether this process may open a file: all, but for what [NodeMode] closes.
func (k *Kernel) Access(name string) error {
	_, err := k.find("Access", "access", name, true)
	defer k.mu.Unlock()
	if err == nil && k.nodeErrno != 0 && strings.HasPrefix(name, "/dev/vfio/") && name != host.ContainerNode {
		err = &fs.PathError{Op: "access", Path: name, Err: k.nodeErrno}
	}
	return err
}
