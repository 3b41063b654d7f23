package host

import "io/fs"

// OS is what a [Host] asks of the operating system: files below /sys, /proc, /run and /dev, named by absolute path, and the
// CPU calls of the calling thread. [New] implements it on the running kernel; the fake kernel of vfio/vfiotest
// implements it in memory. Errors wrap the errno that the kernel would give.
//
// Files that are read:
//
//	the link /sys/bus/pci/devices/BDF, and below it {vendor,device,subsystem_vendor,subsystem_device,class,revision,driver_override,
//	    irq,numa_node,power_state,reset_method,boot_vga,sriov_numvfs,config,resource}, the links driver, iommu_group and physfn, the directory vfio-dev
//	/sys/bus/pci/drivers/DRIVER
//	/sys/kernel/iommu_groups/N/devices and N/name, /sys/module/vfio/parameters/enable_unsafe_noiommu_mode
//	the link /sys/dev/char/MAJOR:MINOR, and whether /dev/iommu and /dev/vfio/devices/vfioN are there
//	/sys/kernel/irq/N/type, /proc/interrupts, /proc/irq/N/{smp_affinity_list,effective_affinity_list}
//	/sys/devices/system/cpu/online, /sys/devices/system/node/nodeN/cpulist, /proc/self/cgroup and the cpuset it names
//	/sys/class/block, /sys/class/net, /sys/class/nvme, /sys/class/nvme-subsystem (links, and dev, flags and holders
//	    below them), /sys/fs/btrfs, /sys/class/tty/console/active and the links beside it, /proc/self/mountinfo, /proc/swaps
//	/proc/PID/comm, the links /proc/PID/fd/N, /proc/PID/task/N/status, /proc/self/limits and /proc/self/status
//	/etc/os-release, /etc/passwd, /etc/group, /proc/cmdline, /proc/cpuinfo, /proc/sys/kernel/osrelease, the names in /sys/firmware/acpi/tables,
//	    the table DMAR, /sys/class/iommu, /sys/kernel/irq/N/chip_name, /sys/devices/system/cpu/isolated
//	/sys/module/MODULE/initstate, /lib/modules/RELEASE/{modules.builtin,modules.dep}, allow_unsafe_interrupts of two modules
//	power/runtime_status, power/control, enable and msi_bus of a device
//	what Host.Snapshot reads beside: see snapshotAttributes and snapshotHost, msi_irqs below the device, /sys/class/iommu,
//	    /sys/class/net/NAME/address and /proc/sys/kernel/hostname
//
// Files that are written: driver_override of the device, drivers/DRIVER/bind and unbind, drivers_probe, smp_affinity_list. Nodes that
// change their owner: /dev/vfio/GROUP, /dev/vfio/devices/vfioN.
type OS interface {
	// ReadFile returns the whole content. A sysfs attribute is read with one read(2), as its driver made it in one go.
	ReadFile(name string) ([]byte, error)
	// WriteFile hands data to an existing file (an attribute) in one write(2). It never creates a file. It may block as
	// long as the kernel does: unbinding a device that a process holds open waits for that process.
	WriteFile(name string, data []byte) error
	// ReadDir returns the names in a directory, sorted.
	ReadDir(name string) ([]string, error)
	// Readlink returns the target of a symbolic link as it is stored.
	Readlink(name string) (string, error)
	// Exists tells whether name, after following links, is there.
	Exists(name string) bool
	// Access tells whether this process may open name for reading and writing, by faccessat(2): nil, or why not. It opens
	// nothing.
	Access(name string) error
	// SaveFile replaces or creates a regular file in one step that a crash cannot split, making directories as needed.
	SaveFile(name string, data []byte, perm fs.FileMode) error
	// RemoveFile removes a regular file.
	RemoveFile(name string) error
	// Permissions is what stat(2) tells of the owner, the group and the mode of name, after following links.
	Permissions(name string) (Permissions, error)
	// SetOwner makes the file uid's by chown(2), and leaves its group and mode as they are.
	SetOwner(name string, uid uint32) error
	// SetThreadAffinity is sched_setaffinity(2) of the calling thread.
	SetThreadAffinity(cpus CPUSet) error
	// ThreadAffinity is sched_getaffinity(2) of the calling thread.
	ThreadAffinity() (CPUSet, error)
	// CurrentCPU is getcpu(2): where the calling thread runs at this moment. It does not allocate.
	CurrentCPU() (int, error)
}
