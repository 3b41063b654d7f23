package main

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"syscall"
)

// devices is what the machine has on its PCI buses, at fixed addresses: tests and the fake kernel of vfio/vfiotest rely
// on them (doc.go of scripts/vm lists them). romfile= leaves out a network card's boot ROM, which would only cost time.
var devices = []string{
	"edu,addr=4",
	"e1000e,addr=5,romfile=",
	"edu,addr=6",
	"nvme,addr=7,drive=disk,serial=irqbridge,msix_qsize=65,max_ioqpairs=64",
	"nec-usb-xhci,addr=8,msi=on,msix=off,intrs=16",
	"pcie-pci-bridge,addr=9,id=bridge",
	"edu,bus=bridge,addr=1",
	"e1000,bus=bridge,addr=5,romfile=",
	"pci-testdev,addr=0xa",
}

// moreDevices is what the machine has beside them when it is asked for: devices that few tests need, and that would
// take interrupts and groups with numbers that the other tests know.
var moreDevices = []string{
	"nvme,addr=0xb,serial=vectors,msix_qsize=2048,max_ioqpairs=2047",
	// A virtual function takes two of the queues and one of the interrupts that are flexible.
	"pcie-root-port,addr=0xc,id=root,chassis=1",
	"nvme-subsys,id=subsystem",
	"nvme,bus=root,serial=functions,subsys=subsystem,msix_qsize=33,max_ioqpairs=16,sriov_max_vfs=2,sriov_vq_flexible=4,sriov_vi_flexible=2",
}

// oneThread has QEMU emulate all processors in one thread. With a thread for each, QEMU before 8.2 has a race: when the
// machine's memory map changes, as it does whenever the decoding of a device is turned on or off, a processor goes on for
// a moment with the places that its TLB has of the old map, but in the new one. A write to its local APIC then goes to
// what is in that place now, and the interrupt is lost, or to nothing, and QEMU ends by a segmentation fault in
// memory_region_dispatch_write. Twelve processors on two of a busy host had that within a minute of vfiotest's TestVFToken.
// (https://gitlab.com/qemu-project/qemu/-/issues/1864, mended by commit 0d58c660689f, which Debian's 7.2 has not.)
const oneThread = "tcg,thread=single"

// The file descriptors that QEMU inherits.
const (
	initrdFD = 3 + iota
	serialFD
)

// qemu gives the command that runs the machine. Its standard output is the guest's console.
func qemu(o *options, kernel string, initrd, serial *os.File) *exec.Cmd {
	// no_timer_check: on a loaded host the emulated timer may be too late for the kernel's test of it, which then panics.
	cmdline := "console=ttyS0 panic=-1 oops=panic iommu=nopt no_timer_check"
	// Kernels differ in what they do without the argument: Debian's turn the IOMMU on.
	if o.noIOMMU {
		cmdline += " intel_iommu=off"
	} else {
		cmdline += " intel_iommu=on"
	}
	if !o.verbose {
		cmdline += " quiet"
	}
	if o.append != "" {
		cmdline += " " + o.append
	}
	accel, cpu := oneThread, "max"
	if o.accel == "kvm" {
		accel, cpu = "kvm", "host"
	}
	args := []string{
		// Interrupt remapping, without which vfio-pci refuses to assign a device, needs the split interrupt controller.
		"-machine", "q35,kernel-irqchip=split", "-accel", accel, "-cpu", cpu,
		"-smp", strconv.Itoa(o.cpus), "-m", o.mem,
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		"-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console",
		"-chardev", fmt.Sprintf("socket,id=wire,fd=%d", serialFD), "-serial", "chardev:wire",
		"-device", "intel-iommu,intremap=on,caching-mode=on",
		"-drive", "if=none,id=disk,format=raw,file.driver=null-co,file.size=64M,file.read-zeroes=on",
		"-kernel", kernel, "-initrd", fmt.Sprintf("/dev/fd/%d", initrdFD), "-append", cmdline,
	}
	list := devices
	if o.devices == "more" {
		list = slices.Concat(devices, moreDevices)
	}
	for _, d := range list {
		args = append(args, "-device", d)
	}
	cmd := exec.Command("qemu-system-x86_64", args...)
	cmd.ExtraFiles = []*os.File{initrd, serial}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Pdeathsig: syscall.SIGKILL,
		Setpgid:   true, // an interrupt from the terminal is for the program in the guest
	}
	return cmd
}
