// Package vm holds no code beside its tests: the commands in this directory run programs on a real Linux kernel, in a
// virtual machine whose PCI devices have known interrupts, so that vfio-pci can be tested without hardware.
//
//   - exec runs a Go test binary: go test -exec "$PWD/scripts/vm/exec" ./vfio/...
//   - run runs any static program or a shell line: scripts/vm/run -- sh -c 'ls /sys/kernel/iommu_groups'
//   - setup fetches QEMU and the kernels; exec and run call it when something is missing.
//   - kernel builds the one kernel that is not Debian's; setup calls it.
//   - selftests builds a test of the kernel's own for scripts/bench --vm, which calls it.
//
// There are three kernels: stable is Debian's own, newest is that of its backports, and own is the source of newest with
// the configuration kernel.config, since no Debian kernel for x86-64 has iommufd, VFIO's character devices and VFIO
// without an IOMMU. What own has is built in: there are no modules.
//
// Each prints its options with --help. How it is built: launch runs on the host, packs the program and its files into
// an initial file system, starts QEMU and passes on what comes back; guestinit is process 1 in the guest, prepares it
// and runs the program; internal/wire is what the two say to each other over the second serial port. The first serial
// port is the kernel's console.
//
// The machine is always the same unless more is asked for (launch/machine.go has it), a q35 with two CPUs and an IOMMU with interrupt remapping:
//
//	0000:00:04.0  edu: INTx, MSI
//	0000:00:05.0  e1000e: INTx, MSI, 5 MSI-X messages; its driver is loaded
//	0000:00:06.0  edu
//	0000:00:07.0  nvme: 65 MSI-X messages; its driver is not loaded
//	0000:00:08.0  xhci: 16 MSI messages; its driver is not loaded
//	0000:00:09.0  PCIe-to-PCI bridge; what is behind it is one IOMMU group
//	0000:00:0a.0  a device without interrupts
//	0000:01:01.0  edu behind the bridge
//	0000:01:05.0  e1000 behind the bridge: INTx only; its driver is loaded
//
// With --devices more (IRQBRIDGE_VM_DEVICES=more) it also has these, and other numbers of interrupts and groups:
//
//	0000:00:0b.0  nvme: 2048 MSI-X messages, for which a kernel wants about twelve CPUs (--cpus 12)
//	0000:00:0c.0  PCIe root port; its driver pcieport has an interrupt of it
//	0000:02:00.0  nvme behind the root port, with SR-IOV: two virtual functions, 02:00.1 and 02:00.2
package vm
