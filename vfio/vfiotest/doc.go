// Package vfiotest is a machine to test on: a fake Linux kernel with VFIO, sysfs and procfs, and PCI devices behind it
// that raise interrupts when their registers are written, as QEMU's edu and e1000e do. It needs no privileges and no
// hardware.
//
//	k := vfiotest.NewKernel()
//	defer k.Shutdown()
//	dev, err := vfio.Open(address, vfio.OnKernel(k))
//
// [Kernel] stands at the boundary of package vfio and the kernel, one method per system call, and at the boundary of package host
// and the operating system, one method per file operation; so everything above runs unchanged. Eventfds are real, and
// so are threads and CPUs: only what lies on the kernel's side of a VFIO file descriptor is made up. See [Kernel] for
// what is modelled.
//
// # One test body for the fake and the real kernel
//
// [Run] calls a test on every machine that there is: on the fake in each of its versions and, inside the virtual
// machine of scripts/vm, on the real kernel. What a test asserts therefore holds for both; a difference is an error in
// the fake. This package's own tests are the conformance suite that holds the fake to the real kernel: they run in the
// same way, with
//
//	go test -exec "$PWD/scripts/vm/exec" ./vfio/vfiotest/
package vfiotest
