package vfiotest_test

import (
	"context"
	"fmt"
	"log"

	"golang.org/x/sys/unix"

	"github.com/irqbridge/irqbridge/pci"
	"github.com/irqbridge/irqbridge/vfio"
	"github.com/irqbridge/irqbridge/vfio/vfiotest"
)

// A register write makes the device interrupt, and the interrupt arrives at an eventfd, all without hardware.
func ExampleNewKernel() {
	k := vfiotest.NewKernel()
	defer k.Shutdown()
	edu := pci.Address{Device: 4} // 0000:00:04.0

	plan, err := k.Host().PlanBind(edu, "vfio-pci", false)
	if err == nil {
		err = plan.Run(context.Background())
	}
	if err != nil {
		log.Fatal(err)
	}
	dev, err := vfio.Open(edu, vfio.OnKernel(k))
	if err != nil {
		log.Fatal(err)
	}
	defer dev.Close()

	event, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		log.Fatal(err)
	}
	defer unix.Close(event)
	if err := dev.EnableIRQs(vfio.MSI, 0, []int{event}); err != nil {
		log.Fatal(err)
	}
	registers, err := dev.BAR(0)
	if err != nil {
		log.Fatal(err)
	}
	const raise = 0x60
	if err := registers.Write32(raise, 1); err != nil {
		log.Fatal(err)
	}

	count := make([]byte, 8)
	if _, err := unix.Read(event, count); err != nil {
		log.Fatal(err)
	}
	irq, err := k.Host().FindIRQ(edu, pci.KindMSI, 0)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(count[0], irq.Action, irq.Trigger)
	// Output: 1 vfio-msi[0](0000:00:04.0) edge
}
