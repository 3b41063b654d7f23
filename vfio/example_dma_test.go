package vfio_test

import (
	"context"
	"fmt"
	"time"

	"github.com/irqbridge/irqbridge/pci"
	"github.com/irqbridge/irqbridge/vfio"
	"github.com/irqbridge/irqbridge/vfio/vfiotest"
)

// ExampleDevice_AllocDMA has a device copy memory: edu reads it into a buffer of its own, and writes it elsewhere.
func ExampleDevice_AllocDMA() {
	kernel := vfiotest.NewKernel()
	defer kernel.Shutdown()
	address := pci.Address{Device: 4} // QEMU's "edu"
	plan, err := kernel.Host().PlanBind(address, "vfio-pci", false)
	check(err)
	check(plan.Run(context.Background()))
	device, err := vfio.Open(address, vfio.OnKernel(kernel))
	check(err)
	defer func() { check(device.Close()) }() // and with it the buffers

	source, err := device.AllocDMA(4096, vfio.AddressBits(28), vfio.ToDevice())
	check(err)
	target, err := device.AllocDMA(4096, vfio.AddressBits(28), vfio.FromDevice())
	check(err)
	fmt.Printf("the device sees them at 0x%x and 0x%x\n", source.IOVA(), target.IOVA())
	_, err = source.WriteAt([]byte("by DMA"), 0)
	check(err)

	check(device.SetBusMaster(true))
	registers, err := device.BAR(0)
	check(err)
	move := func(from, to, command uint64) {
		check(registers.Write64(0x80, from))
		check(registers.Write64(0x88, to))
		check(registers.Write64(0x90, 6))         // bytes
		check(registers.Write64(0x98, command|1)) // run
		for {
			command, err := registers.Read64(0x98)
			check(err)
			if command&1 == 0 { // done; a driver would have an interrupt tell
				return
			}
			time.Sleep(time.Millisecond)
		}
	}
	const buffer, toMemory = 0x40000, 2 // in the device
	move(source.IOVA(), buffer, 0)
	move(buffer, target.IOVA(), toMemory)

	text := make([]byte, 6)
	_, err = target.ReadAt(text, 0)
	check(err)
	fmt.Printf("%s\n", text)
	// Output:
	// the device sees them at 0x1000 and 0x3000
	// by DMA
}
