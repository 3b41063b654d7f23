package host

import (
	"io/fs"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// block makes a block device at dir/name, with its number and what holds it.
func (tr *tree) block(dir, name, number string, holders ...string) {
	tr.t.Helper()
	tr.file(dir+"/"+name+"/dev", number+"\n")
	tr.dir(dir + "/" + name + "/holders")
	tr.link("/sys/class/block/"+name, dir+"/"+name)
	for _, holder := range holders {
		tr.link(dir+"/"+name+"/holders/"+holder, "/sys/devices/virtual/block/"+holder)
	}
}

// disk makes an nvme with two partitions, the second of which carries what holders says.
func (tr *tree) disk(holders ...string) {
	tr.t.Helper()
	tr.device("0000:00:07.0", "1b36:0010", "010802", "nvme", 5)
	tr.device("0000:00:05.0", "8086:10d3", "020000", "e1000e", 4)
	dir := place("0000:00:07.0") + "/nvme/nvme0"
	tr.block(dir, "nvme0n1", "259:0")
	tr.block(dir+"/nvme0n1", "nvme0n1p1", "259:1")
	tr.block(dir+"/nvme0n1", "nvme0n1p2", "259:2", holders...)
}

const virtualBlock = "/sys/devices/virtual/block"

func TestInUse(t *testing.T) {
	const otherMounts = "21 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n22 1 0:21 / /proc rw - proc proc rw\nshort line\n"
	for _, c := range []struct {
		name    string
		address string
		make    func(tr *tree)
		want    []string
	}{
		{"a disk that nothing uses", "0000:00:07.0", func(tr *tree) { tr.disk() }, nil},
		{"another device's disk", "0000:00:05.0", func(tr *tree) {
			tr.disk()
			tr.file("/proc/self/mountinfo", "30 1 259:1 / /srv rw - ext4 /dev/nvme0n1p1 rw\n")
		}, nil},
		{"a mounted partition", "0000:00:07.0", func(tr *tree) {
			tr.disk()
			tr.file("/proc/self/mountinfo", otherMounts+`30 1 259:1 / /srv/my\040data rw - ext4 /dev/root rw`+"\n")
		}, []string{"disk nvme0n1p1 is mounted at /srv/my data"}},
		{"a whole disk, mounted in several places", "0000:00:07.0", func(tr *tree) {
			tr.disk()
			tr.file("/proc/self/mountinfo", "30 1 259:0 / /srv rw - ext4 /dev/nvme0n1 rw\n31 1 259:0 /a /mnt/b rw - ext4 /dev/nvme0n1 rw\n32 1 259:0 /a /mnt/c rw - ext4 /dev/nvme0n1 rw\n")
		}, []string{"disk nvme0n1 is mounted at /srv and in 2 more places"}},
		{"btrfs by its source, as its number is made up", "0000:00:07.0", func(tr *tree) {
			tr.disk()
			tr.file("/proc/self/mountinfo", "30 1 0:42 / /srv rw - btrfs /dev/nvme0n1p1 rw\n")
		}, []string{"disk nvme0n1p1 is mounted at /srv"}},
		{"another member of a btrfs", "0000:00:07.0", func(tr *tree) {
			tr.disk()
			tr.file("/proc/self/mountinfo", "30 1 0:42 / /srv rw - btrfs /dev/sda1 rw\n")
			tr.link("/sys/fs/btrfs/0b-1c/devices/nvme0n1p2", place("0000:00:07.0")+"/nvme/nvme0/nvme0n1/nvme0n1p2")
		}, []string{"disk nvme0n1p2 is part of a mounted btrfs"}},
		{"swap", "0000:00:07.0", func(tr *tree) {
			tr.disk()
			tr.file("/proc/swaps", "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n/dev/nvme0n1p1                          partition\t1\t0\t-2\n")
		}, []string{"disk nvme0n1p1 is swap space"}},
		{"device mapper on a partition, mounted and swap", "0000:00:07.0", func(tr *tree) {
			tr.disk("dm-0", "dm-1")
			tr.block(virtualBlock, "dm-0", "253:0")
			tr.block(virtualBlock, "dm-1", "253:1")
			tr.file("/proc/self/mountinfo", "30 1 253:0 / / rw - ext4 /dev/mapper/vg-root rw\n")
			tr.file("/proc/swaps", "Filename Type Size Used Priority\n/dev/dm-1 partition 1 0 -2\n")
		}, []string{"disk nvme0n1p2 carries dm-0, which is mounted at /", "disk nvme0n1p2 carries dm-1, which is swap space"}},
		{"device mapper on RAID with partitions", "0000:00:07.0", func(tr *tree) {
			tr.disk("md0")
			tr.block(virtualBlock, "md0", "9:0")
			tr.block(virtualBlock+"/md0", "md0p1", "259:9", "dm-0")
			tr.block(virtualBlock, "dm-0", "253:0")
			tr.file("/proc/self/mountinfo", "30 1 253:0 / /home rw - xfs /dev/mapper/crypt rw\n")
		}, []string{"disk nvme0n1p2 carries md0p1, which carries dm-0, which is mounted at /home"}},
		{"a RAID that is not mounted holds its members", "0000:00:07.0", func(tr *tree) {
			tr.disk("md0")
			tr.block(virtualBlock, "md0", "9:0")
		}, []string{"disk nvme0n1p2 is held by md0"}},
		{"a holder that leads back", "0000:00:07.0", func(tr *tree) {
			tr.disk("dm-0")
			tr.block(virtualBlock, "dm-0", "253:0", "dm-1")
			tr.block(virtualBlock, "dm-1", "253:1", "dm-0")
		}, []string{"disk nvme0n1p2 carries dm-0, which is held by dm-1"}},
		{"NVMe multipath, where the disk is a child of the subsystem", "0000:00:07.0", func(tr *tree) {
			tr.device("0000:00:07.0", "1b36:0010", "010802", "nvme", 5)
			tr.dir(place("0000:00:07.0") + "/nvme/nvme0")
			tr.link("/sys/class/nvme/nvme0", place("0000:00:07.0")+"/nvme/nvme0")
			tr.link("/sys/class/nvme/nvme1", "/sys/devices/pci0000:00/0000:00:08.0/nvme/nvme1")
			for _, n := range []string{"0", "1"} {
				subsystem := "/sys/devices/virtual/nvme-subsystem/nvme-subsys" + n
				tr.block(subsystem, "nvme"+n+"n1", "259:"+n)
				tr.link("/sys/class/nvme-subsystem/nvme-subsys"+n, subsystem)
				tr.link(subsystem+"/nvme"+n, "/sys/class/nvme/nvme"+n)
			}
			tr.file("/proc/self/mountinfo", "30 1 259:0 / / rw - ext4 /dev/nvme0n1 rw\n31 1 259:1 / /srv rw - ext4 /dev/nvme1n1 rw\n")
		}, []string{"disk nvme0n1 is mounted at /"}},
		{"a disk behind a bridge", "0000:00:02.0", func(tr *tree) {
			tr.device("0000:00:02.0", "8086:3420", "060400", "pcieport", 1)
			tr.block(place("0000:00:02.0")+"/0000:02:00.0/host0/target0:0:0/0:0:0:0/block", "sdb", "8:16")
			tr.file("/proc/self/mountinfo", "30 1 8:16 / /srv rw - ext4 /dev/sdb rw\n")
		}, []string{"disk sdb is mounted at /srv"}},
		{"an old RAID controller's disk, whose node is in a directory", "0000:00:03.0", func(tr *tree) {
			tr.device("0000:00:03.0", "103c:3230", "010400", "cciss", 1)
			tr.block(place("0000:00:03.0")+"/cciss0/c0d0/block", "cciss!c0d0", "104:0")
			tr.file("/proc/swaps", "Filename\n/dev/cciss/c0d0 partition 1 0 -2\n")
		}, []string{"disk cciss!c0d0 is swap space"}},
		{"network interfaces", "0000:00:05.0", func(tr *tree) {
			tr.disk()
			net := place("0000:00:05.0") + "/net/"
			tr.file(net+"eth0/flags", "0x1003\n")
			tr.file(net+"eth1/flags", "0x1002\n")
			tr.file(net+"eth2/operstate", "up\n")
			tr.file(net+"eth3/flags", "none\n")
			for _, name := range []string{"eth0", "eth1", "eth2", "eth3"} {
				tr.link("/sys/class/net/"+name, net+name)
			}
			tr.file("/sys/class/net/bonding_masters", "\n")
			tr.file("/sys/devices/virtual/net/lo/flags", "0x9\n")
			tr.link("/sys/class/net/lo", "/sys/devices/virtual/net/lo")
		}, []string{"network interface eth0 is up", "network interface eth2 is up"}},
		{"a network interface of a virtio device", "0000:00:03.0", func(tr *tree) {
			tr.device("0000:00:03.0", "1af4:1041", "020000", "virtio-pci", 1)
			tr.file(place("0000:00:03.0")+"/virtio0/net/enp0s3/flags", "0x1003\n")
			tr.link("/sys/class/net/enp0s3", place("0000:00:03.0")+"/virtio0/net/enp0s3")
		}, []string{"network interface enp0s3 is up"}},
		{"the boot display", "0000:00:02.0", func(tr *tree) {
			tr.device("0000:00:02.0", "8086:9bc5", "030000", "i915", 1)
			tr.file(place("0000:00:02.0")+"/boot_vga", "1\n")
		}, []string{"it is the display that the firmware used (boot_vga)"}},
		{"another display", "0000:00:02.0", func(tr *tree) {
			tr.device("0000:00:02.0", "8086:9bc5", "030000", "i915", 1)
			tr.file(place("0000:00:02.0")+"/boot_vga", "0\n")
		}, nil},
		{"a serial console", "0000:00:06.0", func(tr *tree) {
			tr.device("0000:00:06.0", "1b36:0002", "070002", "serial", 1)
			tr.dir(place("0000:00:06.0") + "/tty/ttyS4")
			tr.link("/sys/class/tty/ttyS4", place("0000:00:06.0")+"/tty/ttyS4")
			tr.file("/sys/class/tty/console/active", "tty0 ttyS4\n")
		}, []string{"ttyS4 is a console"}},
		{"a physical function with virtual ones", "0000:00:06.0", func(tr *tree) {
			tr.device("0000:00:06.0", "8086:10c9", "020000", "igb", 1)
			tr.file(place("0000:00:06.0")+"/sriov_numvfs", "2\n")
		}, []string{"it has 2 SR-IOV virtual functions enabled (sriov_numvfs)"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			tr := newTree(t)
			c.make(tr)
			got, err := tr.host().InUse(addr(t, c.address))
			require.NoError(t, err)
			assert.Equal(t, c.want, got)
		})
	}
}

// TestInUseDoesNotGuess wants an error, not "not in use", when what decides cannot be read.
func TestInUseDoesNotGuess(t *testing.T) {
	for _, fault := range []string{
		"read /proc/self/mountinfo", "read /proc/swaps", "read /sys/class/tty/console/active", "list /sys/class/block", "list /sys/class/net",
	} {
		k := newDriverCore(t)
		k.disk()
		k.faults[fault] = unix.EACCES
		_, err := k.host().InUse(addr(t, "0000:00:07.0"))
		require.ErrorIs(t, err, fs.ErrPermission, fault)
		require.ErrorContains(t, err, "0000:00:07.0: find out whether the host uses it")
		_, err = k.host().PlanBind(addr(t, "0000:00:07.0"), "vfio-pci", false)
		require.Error(t, err)
	}
}
