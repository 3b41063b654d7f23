package connect_test

import (
	"context"
	"fmt"
	"log"
	"sync/atomic"

	"github.com/irqbridge/irqbridge/connect"
	"github.com/irqbridge/irqbridge/pci"
	"github.com/irqbridge/irqbridge/vfio"
	"github.com/irqbridge/irqbridge/vfio/vfiotest"
)

// The registers of QEMU's edu device, in BAR 0.
const (
	eduInterruptStatus      = 0x24
	eduInterruptRaise       = 0x60
	eduInterruptAcknowledge = 0x64
)

// deviceExtension is what the driver keeps of its device.
type deviceExtension struct {
	registers *vfio.BAR
	intObj    *connect.Interrupt
	causes    chan uint32
}

// deviceInterruptService finds out whether the device interrupted, quiets it and passes on why.
func deviceInterruptService(_ *connect.Interrupt, serviceContext any) bool {
	devExt := serviceContext.(*deviceExtension)
	status, err := devExt.registers.Read32(eduInterruptStatus)
	if err != nil || status == 0 {
		return false // not this device
	}
	if err := devExt.registers.Write32(eduInterruptAcknowledge, status); err != nil {
		return false
	}
	select {
	case devExt.causes <- status:
	default: // a service routine does not wait
	}
	return true
}

// openEDU gives the edu of a fake machine to VFIO and opens it. On a real one the administrator binds it
// ("irqbridge bind"), and vfio.Open needs no option.
func openEDU(kernel *vfiotest.Kernel) *vfio.Device {
	address := pci.Address{Device: 4}
	plan, err := kernel.Host().PlanBind(address, "vfio-pci", false)
	if err != nil {
		log.Fatal(err)
	}
	if err := plan.Run(context.Background()); err != nil {
		log.Fatal(err)
	}
	dev, err := vfio.Open(address, vfio.OnKernel(kernel))
	if err != nil {
		log.Fatal(err)
	}
	return dev
}

// The whole life of an interrupt, on a fake machine: assign, map, connect, interrupt, disconnect.
func Example() {
	kernel := vfiotest.NewKernel()
	defer kernel.Shutdown()
	dev := openEDU(kernel)
	defer dev.Close()
	registers, err := dev.BAR(0)
	if err != nil {
		log.Fatal(err)
	}
	devExt := &deviceExtension{registers: registers, causes: make(chan uint32, 1)}

	resources, err := connect.Assign(dev, connect.Policy{})
	if err != nil {
		log.Fatal(err)
	}
	params, err := connect.FromDescriptor(resources.Expand()[0].Translated)
	if err != nil {
		log.Fatal(err)
	}
	params.PhysicalDeviceObject = dev
	params.InterruptObject = &devExt.intObj
	params.ServiceRoutine = deviceInterruptService
	params.ServiceContext = devExt
	if err := connect.Connect(&params); err != nil {
		log.Fatal(err)
	}
	fmt.Println(devExt.intObj)

	if err := registers.Write32(eduInterruptRaise, 0x5); err != nil {
		log.Fatal(err)
	}
	fmt.Printf("the device interrupted for cause 0x%x\n", <-devExt.causes)

	err = connect.Disconnect(&connect.DisconnectParameters{
		Version:           params.Version,
		ConnectionContext: devExt.intObj,
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%d claimed\n", devExt.intObj.Stats().Claimed)
	// Output:
	// 0000:00:04.0 msi 0 (vector 0x30)
	// the device interrupted for cause 0x5
	// 1 claimed
}

// The code of the page, member by member. In C the two branches read two members of a union; in Go a translated
// descriptor has the same fields for both. FullySpecified does all that depends on intResource. What the page calls
// deviceExtension in its comment and devExt in its code is devExt here.
func Example_page() {
	kernel := vfiotest.NewKernel()
	defer kernel.Shutdown()
	physicalDeviceObject := openEDU(kernel)
	defer physicalDeviceObject.Close()
	registers, err := physicalDeviceObject.BAR(0)
	if err != nil {
		log.Fatal(err)
	}
	devExt := &deviceExtension{registers: registers, causes: make(chan uint32, 1)}
	resources, err := connect.Assign(physicalDeviceObject, connect.Policy{Kind: pci.KindINTx})
	if err != nil {
		log.Fatal(err)
	}
	intResource := resources.Translated[0]

	var params connect.Parameters // RtlZeroMemory
	params.Version = connect.VersionFullySpecified
	params.PhysicalDeviceObject = physicalDeviceObject
	params.InterruptObject = &devExt.intObj
	params.ServiceRoutine = deviceInterruptService
	params.ServiceContext = devExt
	params.FloatingSave = false
	params.SpinLock = nil

	if intResource.Flags&pci.InterruptMessage != 0 {
		// The resource is for a message-signaled interrupt: u.MessageInterrupt.Translated.
		params.Vector = intResource.Vector
		params.Irql = connect.KIRQL(intResource.Level)
		params.SynchronizeIrql = connect.KIRQL(intResource.Level)
		params.ProcessorEnableMask = intResource.Affinity
	} else {
		// The resource is for a line-based interrupt: u.Interrupt.
		params.Vector = intResource.Vector
		params.Irql = connect.KIRQL(intResource.Level)
		params.SynchronizeIrql = connect.KIRQL(intResource.Level)
		params.ProcessorEnableMask = intResource.Affinity
	}
	params.InterruptMode = connect.LevelSensitive
	if intResource.Flags&pci.InterruptLatched != 0 {
		params.InterruptMode = connect.Latched
	}
	params.ShareVector = intResource.Share == pci.ShareShared

	if err := connect.Connect(&params); err != nil {
		log.Fatal(err)
	}
	if err := registers.Write32(eduInterruptRaise, 0x1); err != nil {
		log.Fatal(err)
	}
	fmt.Println(devExt.intObj, "for cause", <-devExt.causes)
	// Output: 0000:00:04.0 intx 0 (vector 0x30) for cause 1
}

// A whole driver for whoever has no use for the names of Windows: one routine for all messages of a device, or its line.
func ExampleResources_ConnectMessages() {
	kernel := vfiotest.NewKernel()
	defer kernel.Shutdown()
	dev := openEDU(kernel)
	defer dev.Close()
	registers, err := dev.BAR(0)
	if err != nil {
		log.Fatal(err)
	}

	resources, err := connect.Assign(dev, connect.Policy{})
	if err != nil {
		log.Fatal(err)
	}
	served := make(chan int, 1)
	messages, err := resources.ConnectMessages(nil, func(message int) bool {
		status, err := registers.Read32(eduInterruptStatus)
		if err != nil || status == 0 || registers.Write32(eduInterruptAcknowledge, status) != nil {
			return false // not this device
		}
		served <- message
		return true
	})
	if err != nil {
		log.Fatal(err)
	}
	defer messages.Disconnect()

	if err := registers.Write32(eduInterruptRaise, 1); err != nil {
		log.Fatal(err)
	}
	fmt.Println("message", <-served, "of", messages.Interrupts()[0])
	// Output: message 0 of 0000:00:04.0 msi 0 (vector 0x30)
}

// Synchronize runs a function that no service routine of the interrupt interrupts.
func ExampleInterrupt_Synchronize() {
	kernel := vfiotest.NewKernel()
	defer kernel.Shutdown()
	dev := openEDU(kernel)
	defer dev.Close()
	resources, err := connect.Assign(dev, connect.Policy{})
	if err != nil {
		log.Fatal(err)
	}
	calls := 0 // shared with the service routine
	served := make(chan struct{}, 1)
	var interrupt *connect.Interrupt
	params := connect.FullySpecified(resources.Translated[0])
	params.PhysicalDeviceObject = dev
	params.InterruptObject = &interrupt
	params.ServiceRoutine = func(*connect.Interrupt, any) bool {
		calls++
		served <- struct{}{}
		return true
	}
	if err := connect.Connect(&params); err != nil {
		log.Fatal(err)
	}
	if err := dev.TriggerIRQ(vfio.MSI, 0, 1); err != nil {
		log.Fatal(err)
	}
	<-served
	interrupt.Synchronize(func() bool {
		fmt.Println("calls:", calls)
		return true
	})
	// Output: calls: 1
}

// A service routine quiets its device and leaves the rest to a deferred routine.
func ExampleDPC() {
	kernel := vfiotest.NewKernel()
	defer kernel.Shutdown()
	dev := openEDU(kernel)
	defer dev.Close()
	registers, err := dev.BAR(0)
	if err != nil {
		log.Fatal(err)
	}
	resources, err := connect.Assign(dev, connect.Policy{})
	if err != nil {
		log.Fatal(err)
	}
	// What interrupted, for the deferred routine, which may run while the service routine is called again.
	var pending atomic.Uint32
	done := make(chan struct{}, 1)
	dpc := connect.InitializeDPCRequest(dev, func(_ *connect.DPC, dev *vfio.Device, _, _ any) {
		fmt.Printf("%s: causes 0x%x\n", dev.Address(), pending.Swap(0))
		done <- struct{}{}
	})
	var interrupt *connect.Interrupt
	params := connect.FullySpecified(resources.Translated[0])
	params.PhysicalDeviceObject = dev
	params.InterruptObject = &interrupt
	params.ServiceRoutine = func(*connect.Interrupt, any) bool {
		status, err := registers.Read32(eduInterruptStatus)
		if err != nil || status == 0 {
			return false
		}
		if err := registers.Write32(eduInterruptAcknowledge, status); err != nil {
			return false
		}
		pending.Or(status)
		return dpc.Request(nil, nil) == nil
	}
	if err := connect.Connect(&params); err != nil {
		log.Fatal(err)
	}
	if err := registers.Write32(eduInterruptRaise, 0x6); err != nil {
		log.Fatal(err)
	}
	<-done

	// The end of a driver: the device is quiet, nothing is deferred any more, the interrupt is disconnected.
	if err := connect.FlushDPCs(); err != nil {
		log.Fatal(err)
	}
	err = connect.Disconnect(&connect.DisconnectParameters{Version: params.Version, ConnectionContext: interrupt})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("runs:", dpc.Runs())
	// Output:
	// 0000:00:04.0: causes 0x6
	// runs: 1
}

// A driver from Windows tests for the statuses that it knows.
func ExampleStatusError() {
	kernel := vfiotest.NewKernel()
	defer kernel.Shutdown()
	dev := openEDU(kernel)
	defer dev.Close()
	var interrupt *connect.Interrupt
	err := connect.Connect(&connect.Parameters{
		Version:              connect.VersionFullySpecified,
		PhysicalDeviceObject: dev,
		InterruptObject:      &interrupt,
		ServiceRoutine:       deviceInterruptService,
		Vector:               0x92, Irql: 9, SynchronizeIrql: 9, ProcessorEnableMask: 1,
	})
	fmt.Println(err)
	// Output: connect: STATUS_NOT_FOUND: 0000:00:04.0 has no interrupts assigned; call Assign first
}
