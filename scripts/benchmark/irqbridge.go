package main

import (
	"context"
	"errors"
	"io/fs"
	"time"

	"golang.org/x/sys/unix"

	"github.com/irqbridge/irqbridge/connect"
	"github.com/irqbridge/irqbridge/pci"
	"github.com/irqbridge/irqbridge/vfio"
	"github.com/irqbridge/irqbridge/vfio/host"
	"github.com/irqbridge/irqbridge/vfio/vfiotest"
)

// hybridSpin is that of the hybrid in C.
const hybridSpin = 200 * time.Microsecond

// vectorsDevice is the fake's device with 2048 messages.
var vectorsDevice = pci.Address{Device: 0x0b}

// kernel is the fake kernel without a /proc/interrupts. Connect moves each message's host IRQ to the CPU that serves it, for which
// the fake makes that file up anew 2048 times, and with an IRQ that does not exist nothing is gained.
type kernel struct {
	*vfiotest.Kernel
	host *host.Host
}

func newKernel() *kernel {
	k := &kernel{Kernel: vfiotest.NewKernel(vfiotest.MoreDevices())}
	k.host = host.NewOn(k)
	return k
}

func (k *kernel) Host() *host.Host { return k.host }

func (k *kernel) ReadFile(name string) ([]byte, error) {
	if name == "/proc/interrupts" {
		return nil, &fs.PathError{Op: "open", Path: name, Err: unix.ENOENT}
	}
	return k.Kernel.ReadFile(name)
}

// beginIRQBridge connects a service routine to each message of a device of the fake kernel, through the public API and
// nothing else. The eventfds are real, and what the device's process signals is what the kernel would.
func (r *receiver) beginIRQBridge() (fds []int, end func(), err error) {
	k := newKernel()
	end = k.Shutdown
	defer func() {
		if err != nil {
			end()
		}
	}()
	plan, err := k.Host().PlanBind(vectorsDevice, "vfio-pci", false)
	if err == nil {
		err = plan.Run(context.Background())
	}
	if err != nil {
		return nil, nil, err
	}
	dev, err := vfio.Open(vectorsDevice, vfio.OnKernel(k))
	if err != nil {
		return nil, nil, err
	}
	end = func() {
		_ = dev.Close() // the process ends
		k.Shutdown()
	}
	resources, err := connect.Assign(dev, connect.Policy{CPUs: host.CPUSetOf(r.cpu), Messages: r.vectors})
	if err == nil {
		err = errors.Join(resources.Shortfall, r.setDispatch(resources))
	}
	if err != nil {
		return nil, nil, err
	}
	shared := &r.shared[0]
	var interrupt *connect.Interrupt
	for n, message := range resources.Expand() {
		p, err := connect.FromDescriptor(message.Translated)
		if err != nil {
			return nil, nil, err
		}
		p.PhysicalDeviceObject = dev
		p.InterruptObject = &interrupt
		p.ServiceRoutine = func(*connect.Interrupt, any) bool {
			called(shared, n)
			return true
		}
		if err := connect.Connect(&p); err != nil {
			return nil, nil, err
		}
	}
	for n := range r.vectors {
		fd, err := k.MessageEventFD(vectorsDevice, n)
		if err != nil {
			return nil, nil, err
		}
		fds = append(fds, fd)
	}
	how := interrupt.Dispatching()
	store(r.thread(), uint64(how.Thread))
	return fds, end, how.Warning
}

// setDispatch chooses the way to wait that the variant is named by.
func (r *receiver) setDispatch(resources *connect.Resources) error {
	wait, err := connect.ParseWait(r.variant)
	if err != nil {
		return err
	}
	how := connect.Dispatch{Wait: wait, Priority: r.priority}
	if wait == connect.Hybrid {
		how.Spin = hybridSpin
	}
	return resources.SetDispatch(how)
}
