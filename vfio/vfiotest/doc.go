// Package vfiotest is a machine to test on: a fake Linux kernel with VFIO, sysfs and procfs, and PCI devices behind it
// that interrupt when their registers are written, as QEMU's edu and e1000e do. It needs no privileges and no hardware.
//
//	k := vfiotest.NewKernel()
//	defer k.Shutdown()
//	dev, err := vfio.Open(address, vfio.OnKernel(k))
//
// [Kernel] stands at the boundary of package vfio and the kernel, one method per system call, and at the boundary of package host
// and the operating system, one method per file operation; so everything above runs unchanged. Eventfds are real, and
// so are threads and CPUs: only what lies on the kernel's side of a VFIO file descriptor is made up. It can be told to
// fail any call, to run out of vectors, to be without an IOMMU, to lose a device, to interrupt without a cause or late.
//
// # One test body for the fake and the real kernel
//
// [Run] calls a test on every machine that there is: on the fake in each of its versions and, inside the virtual
// machine of scripts/vm, on the real kernel. What a test asserts therefore holds for both.
//
//	func TestMine(t *testing.T) {
//		vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
//			dev := m.Open(t, m.EDU) // bound to vfio-pci; given back at the end of the test
//			…
//		})
//	}
//
// This package's own tests are the conformance suite that holds the fake to the real kernel. They run in the same way, with
//
//	CGO_ENABLED=0 go test -exec "$PWD/scripts/vm/exec" ./vfio/vfiotest/
//
// and a difference is an error in the fake. Where a test tries so much that nobody wants to write the answers down, they
// were recorded from the real kernels, in testdata; helpers_test.go says how to record them again. "go run ./scripts/conformance
// vfio" counts them and lists where the kernels differ. testdata/selftests.txt names the counterparts of the kernel's own
// selftests.
//
// # What differs
//
// The two versions of the kernel differ in what they answer, and the fake with them; testdata/6.1 and
// testdata/newest show where. A kernel of the newest version can be built with iommufd, as the virtual machine's
// kernel "own" is and the fake with [WithIOMMUFD]: it differs in what it has beside, so that devices are opened in
// one way more, and a group takes an iommufd in the place of a container, too; the fake's does for groups with an
// IOMMU. From the virtual machine the fake differs where QEMU does from hardware: the timers that hold e1000e's
// interrupts apart do not run, hence nothing comes late or twice; a line that was asserted before its interrupt was
// first requested is heard. Devices reach memory only: a mapping of a BAR has no address that another device could
// be given.
//
// The devices' configuration spaces in devices are those of the virtual machine.
package vfiotest
