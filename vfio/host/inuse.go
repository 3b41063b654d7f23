package host

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/irqbridge/irqbridge/pci"
)

// InUse tells why the host would miss the device at a: one phrase for each reason, none when it can be taken away. Reasons are
//   - a disk, also behind further controllers, partitions, device mapper or RAID: mounted, in use as swap, or held by another block device;
//   - a network interface that is up, also of a virtio or other child device;
//   - a serial port that is a console, and the display that the firmware used;
//   - enabled SR-IOV virtual functions.
//
// A bridge answers for all that is behind it. What another mount or network namespace uses is not seen, nor is a disk
// that a process or ZFS has opened by itself.
func (h *Host) InUse(a pci.Address) ([]string, error) {
	d, err := h.Device(a)
	if err != nil {
		return nil, err
	}
	return h.inUse(d)
}

func (h *Host) inUse(d Device) ([]string, error) {
	reasons, err := h.usedThroughDriver(d.Address)
	if d.BootVGA {
		reasons = append(reasons, "it is the display that the firmware used (boot_vga)")
	}
	if d.VirtualFunctions > 0 {
		reasons = append(reasons, fmt.Sprintf("it has %d SR-IOV virtual functions enabled (sriov_numvfs)", d.VirtualFunctions))
	}
	return reasons, err
}

// usedThroughDriver returns the reasons that lie in what the device's driver, or that of a device behind it, gives the host.
func (h *Host) usedThroughDriver(a pci.Address) ([]string, error) {
	disks, err1 := h.disksInUse(a)
	interfaces, err2 := h.interfacesUp(a)
	consoles, err3 := h.consoles(a)
	reasons := slices.Concat(disks, interfaces, consoles)
	if err := errors.Join(err1, err2, err3); err != nil {
		return reasons, deviceError(a, "find out whether the host uses it", err, "", "")
	}
	return reasons, nil
}

// classDevices returns the devices of a class, by name, with the target of the link that says where each of them is.
func (h *Host) classDevices(class string) (map[string]string, error) {
	dir := "/sys/class/" + class
	names, err := h.os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) { // no driver has made the class yet
		return nil, err
	}
	devices := map[string]string{}
	for _, name := range names {
		// An entry that is no link (bonding_masters of class net) or that has just gone away is no device.
		if target, err := h.os.Readlink(dir + "/" + name); err == nil {
			devices[name] = target
		}
	}
	return devices, nil
}

// below tells whether the place of a device leads through a directory: a device is below all those that it hangs on.
func below(target, directory string) bool {
	return slices.Contains(strings.Split(target, "/"), directory)
}

// disksInUse returns the reasons that lie in block devices.
func (h *Host) disksInUse(a pci.Address) ([]string, error) {
	blocks, err := h.classDevices("block")
	if err != nil {
		return nil, err
	}
	above := append(h.nvmeSubsystems(a), a.String())
	own := map[string]bool{}
	for name, target := range blocks {
		if slices.ContainsFunc(above, func(dir string) bool { return below(target, dir) }) {
			own[name] = true
		}
	}
	if len(own) == 0 {
		return nil, nil
	}
	uses, err := h.blockUses(blocks)
	if err != nil {
		return nil, err
	}
	var reasons []string
	for _, name := range slices.Sorted(maps.Keys(own)) {
		reasons = append(reasons, uses.reasons(name, "disk "+name, map[string]bool{})...)
	}
	return reasons, nil
}

// nvmeSubsystems returns the NVMe subsystems that the controllers below a belong to. With native multipath the disk is a
// child of the subsystem, which is a virtual device, and not of the controller.
func (h *Host) nvmeSubsystems(a pci.Address) []string {
	controllers, _ := h.classDevices("nvme")
	subsystems, _ := h.classDevices("nvme-subsystem")
	var found []string
	for subsystem := range subsystems {
		for controller, target := range controllers {
			if below(target, a.String()) && h.os.Exists("/sys/class/nvme-subsystem/"+subsystem+"/"+controller) {
				found = append(found, subsystem)
				break
			}
		}
	}
	return found
}

// blockUses is what the host uses block devices for.
type blockUses struct {
	host   *Host
	blocks map[string]string   // every block device and where it is
	mounts map[string][]string // mount points, by device number "8:1" and by source "/dev/sda1"
	swaps  map[string]bool     // by file name
	btrfs  map[string]bool     // members of mounted btrfs filesystems, of which mountinfo shows only one, by kernel name
}

func (h *Host) blockUses(blocks map[string]string) (blockUses, error) {
	uses := blockUses{host: h, blocks: blocks, mounts: map[string][]string{}, swaps: map[string]bool{}, btrfs: map[string]bool{}}
	mountinfo, err := h.os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return uses, err
	}
	for line := range strings.Lines(string(mountinfo)) {
		// ID PARENT MAJOR:MINOR ROOT POINT OPTIONS TAG… - TYPE SOURCE OPTIONS (proc_pid_mountinfo(5))
		front, back, _ := strings.Cut(line, " - ")
		mount, super := strings.Fields(front), strings.Fields(back)
		if len(mount) < 5 || len(super) < 2 {
			continue
		}
		point := unescape(mount[4])
		uses.mounts[mount[2]] = append(uses.mounts[mount[2]], point)
		if source := unescape(super[1]); strings.HasPrefix(source, "/dev/") {
			uses.mounts[source] = append(uses.mounts[source], point)
		}
	}
	swaps, err := h.os.ReadFile("/proc/swaps")
	if err != nil && !errors.Is(err, fs.ErrNotExist) { // CONFIG_SWAP=n
		return uses, err
	}
	for line := range strings.Lines(string(swaps)) {
		if fields := strings.Fields(line); len(fields) > 0 {
			uses.swaps[unescape(fields[0])] = true
		}
	}
	filesystems, _ := h.os.ReadDir("/sys/fs/btrfs")
	for _, fsid := range filesystems {
		members, _ := h.os.ReadDir("/sys/fs/btrfs/" + fsid + "/devices")
		for _, name := range members {
			uses.btrfs[name] = true
		}
	}
	return uses, nil
}

// reasons returns why a block device is needed: its own use, and that of the block devices on top of it. label says how
// the device was reached; seen ends the walk where one is reached twice.
func (u blockUses) reasons(name, label string, seen map[string]bool) []string {
	seen[name] = true
	var reasons []string
	if use := u.of(name); use != "" {
		reasons = append(reasons, label+" "+use)
	}
	holders, _ := u.host.os.ReadDir("/sys/class/block/" + name + "/holders")
	for _, holder := range holders {
		if seen[holder] {
			continue
		}
		held := len(reasons)
		// The holder, and its partitions: an md array can have some, a device mapper's are holders of their own.
		for _, top := range slices.Sorted(maps.Keys(u.blocks)) {
			if below(u.blocks[top], holder) && !seen[top] {
				reasons = append(reasons, u.reasons(top, label+" carries "+top+", which", seen)...)
			}
		}
		if len(reasons) == held {
			reasons = append(reasons, label+" is held by "+holder)
		}
	}
	return reasons
}

// of says what the block device itself is used for; "" for nothing.
func (u blockUses) of(name string) string {
	node := "/dev/" + strings.ReplaceAll(name, "!", "/") // cciss!c0d0 is /dev/cciss/c0d0
	points := u.mounts[node]
	if number, err := u.host.os.ReadFile("/sys/class/block/" + name + "/dev"); err == nil {
		points = append(slices.Clone(points), u.mounts[strings.TrimSpace(string(number))]...)
	}
	points = slices.Compact(slices.Sorted(slices.Values(points)))
	switch {
	case len(points) == 1:
		return "is mounted at " + points[0]
	case len(points) > 1:
		shortest := slices.MinFunc(points, func(a, b string) int { return len(a) - len(b) })
		return fmt.Sprintf("is mounted at %s and in %d more places", shortest, len(points)-1)
	case u.btrfs[name]:
		return "is part of a mounted btrfs"
	case u.swaps[node]:
		return "is swap space"
	}
	return ""
}

// unescape undoes the \ooo that /proc writes for blanks in names.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// interfacesUp returns the reasons that lie in network interfaces.
func (h *Host) interfacesUp(a pci.Address) ([]string, error) {
	interfaces, err := h.classDevices("net")
	if err != nil {
		return nil, err
	}
	var reasons []string
	for _, name := range slices.Sorted(maps.Keys(interfaces)) {
		if below(interfaces[name], a.String()) && h.isUp(name) {
			reasons = append(reasons, "network interface "+name+" is up")
		}
	}
	return reasons, nil
}

// isUp tells whether an interface was brought up, with or without a carrier: IFF_UP, include/uapi/linux/if.h.
func (h *Host) isUp(name string) bool {
	if b, err := h.os.ReadFile("/sys/class/net/" + name + "/flags"); err == nil {
		if flags, err := strconv.ParseUint(strings.TrimSpace(string(b)), 0, 32); err == nil {
			return flags&1 != 0
		}
	}
	b, err := h.os.ReadFile("/sys/class/net/" + name + "/operstate")
	return err == nil && strings.TrimSpace(string(b)) == "up"
}

// consoles returns the reasons that lie in serial ports.
func (h *Host) consoles(a pci.Address) ([]string, error) {
	b, err := h.os.ReadFile("/sys/class/tty/console/active")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var reasons []string
	for name := range strings.FieldsSeq(string(b)) {
		if target, err := h.os.Readlink("/sys/class/tty/" + name); err == nil && below(target, a.String()) {
			reasons = append(reasons, name+" is a console")
		}
	}
	return reasons, nil
}
