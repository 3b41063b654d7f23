package connect_test

import (
	"fmt"
	"log"

	"github.com/irqbridge/irqbridge/connect"
	"github.com/irqbridge/irqbridge/pci"
	"github.com/irqbridge/irqbridge/vfio"
	"github.com/irqbridge/irqbridge/vfio/vfiotest"
)

// factorials drives QEMU's edu device, which computes factorials and interrupts when one is ready.
type factorials struct {
	registers *vfio.BAR
	intObj    *connect.Interrupt
	ready     chan struct{}
}

// start is what a driver does with IRP_MN_START_DEVICE: it finds the registers and connects the interrupt. Everything that
// the page sets is set here, in the page's order.
func (d *factorials) start(device *vfio.Device, policy connect.Policy) error {
	resources, err := connect.Assign(device, policy)
	if err != nil {
		return err
	}
	intResource := resources.Translated[0] // edu has one interrupt, the line or one message
	if d.registers, err = device.BAR(0); err != nil {
		return err
	}
	d.ready = make(chan struct{}, 1)

	params := connect.Parameters{ // what is not set is zero
		Version:              connect.VersionFullySpecified,
		PhysicalDeviceObject: device,
		InterruptObject:      &d.intObj,
		ServiceRoutine:       factorialReady,
		ServiceContext:       d,
		FloatingSave:         false,
		SpinLock:             nil, // one of its own: nobody shares data with the routine
		Vector:               intResource.Vector,
		Irql:                 connect.KIRQL(intResource.Level),
		SynchronizeIrql:      connect.KIRQL(intResource.Level),
		ProcessorEnableMask:  intResource.Affinity,
		InterruptMode:        connect.LevelSensitive,
		ShareVector:          intResource.Share == pci.ShareShared,
	}
	if intResource.Flags&pci.InterruptLatched != 0 {
		params.InterruptMode = connect.Latched
	}
	if err := connect.Connect(&params); err != nil {
		return err
	}
	return d.registers.Write32(0x20, 0x80) // only now: interrupt when a factorial is ready
}

// factorialReady is the service routine: is it this device, quiet it, pass it on.
func factorialReady(_ *connect.Interrupt, context any) bool {
	d := context.(*factorials)
	causes, err := d.registers.Read32(0x24)
	if err != nil || causes == 0 {
		return false
	}
	if err := d.registers.Write32(0x64, causes); err != nil {
		return false
	}
	select {
	case d.ready <- struct{}{}:
	default: // a service routine does not wait
	}
	return true
}

func (d *factorials) compute(n uint32) (uint32, error) {
	if err := d.registers.Write32(0x08, n); err != nil {
		return 0, err
	}
	<-d.ready
	return d.registers.Read32(0x08)
}

// stop quiets the device before it disconnects.
func (d *factorials) stop() error {
	if err := d.registers.Write32(0x20, 0); err != nil {
		return err
	}
	return connect.Disconnect(&connect.DisconnectParameters{Version: 1, ConnectionContext: d.intObj})
}

// A whole driver.
func Example_driver() {
	kernel := vfiotest.NewKernel()
	defer kernel.Shutdown()
	device := openEDU(kernel)
	defer device.Close()

	var driver factorials
	if err := driver.start(device, connect.Policy{}); err != nil {
		log.Fatal(err)
	}
	result, err := driver.compute(10)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("10! =", result)
	if err := driver.stop(); err != nil {
		log.Fatal(err)
	}
	// Output: 10! = 3628800
}
