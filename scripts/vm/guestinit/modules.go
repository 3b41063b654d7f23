package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// loadModules loads every file of the directory as a kernel module, in the order of their names: "10-vfio.ko",
// "11-vfio_iommu_type1.ko". Parameters come from the kernel's command line ("vfio_pci.disable_idle_d3=1"), as modprobe
// takes them. A kernel that has everything built in has no such directory.
func loadModules(dir string) error {
	entries, err := os.ReadDir(dir)
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		return err
	}
	cmdline, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return err
	}
	for _, e := range entries {
		image, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return err
		}
		if err := unix.InitModule(image, moduleParameters(string(cmdline), moduleName(e.Name()))); err != nil {
			return fmt.Errorf("loading the kernel module %s: %w (the console says more)", e.Name(), err)
		}
	}
	return nil
}

// moduleName gives "vfio_pci" for "15-vfio-pci.ko": the kernel takes '-' and '_' for the same.
func moduleName(file string) string {
	_, name, _ := strings.Cut(strings.TrimSuffix(file, ".ko"), "-")
	return strings.ReplaceAll(name, "-", "_")
}

func moduleParameters(cmdline, module string) string {
	fields := slices.DeleteFunc(strings.Fields(cmdline), func(f string) bool {
		prefix, _, ok := strings.Cut(f, ".")
		return !ok || strings.ReplaceAll(prefix, "-", "_") != module
	})
	for i, f := range fields {
		_, fields[i], _ = strings.Cut(f, ".")
	}
	return strings.Join(fields, " ")
}
