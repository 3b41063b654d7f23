package vfio_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/irqbridge/irqbridge/pci"
	"github.com/irqbridge/irqbridge/vfio"
	"github.com/irqbridge/irqbridge/vfio/vfiotest"
)

// The examples run on the fake kernel. On the running one, leave vfio.OnKernel out.

// Example takes one interrupt from a device, from open to close.
func Example() {
	kernel := vfiotest.NewKernel()
	defer kernel.Shutdown()
	address := pci.Address{Device: 4} // QEMU's "edu"

	plan, err := kernel.Host().PlanBind(address, "vfio-pci", false)
	check(err)
	check(plan.Run(context.Background()))

	device, err := vfio.Open(address, vfio.OnKernel(kernel))
	check(err)
	defer func() { check(device.Close()) }()

	registers, err := device.BAR(0)
	check(err)
	id, err := registers.Read32(0x00)
	check(err)
	fmt.Printf("device id 0x%08x\n", id)

	event, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	check(err)
	defer func() { check(unix.Close(event)) }()
	check(device.EnableIRQs(vfio.INTx, 0, []int{event}))

	check(registers.Write32(0x60, 1)) // raise
	var buf [8]byte
	_, err = unix.Read(event, buf[:]) // blocks until the interrupt
	check(err)
	fmt.Println("interrupts:", binary.NativeEndian.Uint64(buf[:]))
	check(registers.Write32(0x64, 1))    // acknowledge: the cause first,
	check(device.UnmaskIRQ(vfio.INTx))   // then the line
	check(device.DisableIRQs(vfio.INTx)) // Close would do this, too
	// Output:
	// device id 0x010000ed
	// interrupts: 1
}

// ExampleOpen shows an error with its cause and the next step.
func ExampleOpen() {
	kernel := vfiotest.NewKernel()
	defer kernel.Shutdown()

	_, err := vfio.Open(pci.Address{Device: 5}, vfio.OnKernel(kernel))
	if op, ok := errors.AsType[*vfio.OpError](err); ok && errors.Is(err, vfio.ErrNotBound) {
		fmt.Println(op.Cause)
		fmt.Println(op.Remedy)
	}
	// Output:
	// the device is bound to e1000e, and wants a VFIO driver
	// bind it: irqbridge bind 0000:00:05.0
}

// ExampleFewerVectorsError takes what the host has when it has fewer vectors than the device wants.
func ExampleFewerVectorsError() {
	kernel := vfiotest.NewKernel(vfiotest.VectorLimit(2))
	defer kernel.Shutdown()
	address := pci.Address{Device: 5} // QEMU's "e1000e", with five MSI-X messages

	plan, err := kernel.Host().PlanBind(address, "vfio-pci", false)
	check(err)
	check(plan.Run(context.Background()))
	device, err := vfio.Open(address, vfio.OnKernel(kernel))
	check(err)
	defer func() { check(device.Close()) }()

	want := []int{-1, -1, -1, -1, -1} // eventfds, in a real program
	err = device.EnableIRQs(vfio.MSIX, 0, want)
	if fewer, ok := errors.AsType[*vfio.FewerVectorsError](err); ok {
		fmt.Println(fewer)
		check(device.EnableIRQs(vfio.MSIX, 0, want[:fewer.Available]))
	}
	_, vectors, _ := device.EnabledIRQs()
	fmt.Println("enabled:", vectors)
	// Output:
	// the host has 2 of the 5 vectors asked for, and enabled none
	// enabled: 2
}

// check ends an example that does not go as expected.
func check(err error) {
	if err != nil {
		panic(err)
	}
}
