// Package vfio opens one PCI device through Linux VFIO and gives access to its configuration space, registers and
// interrupts. It works on Linux on amd64 and arm64.
//
// # The life of a device
//
// The device must be bound to vfio-pci or another VFIO driver (see vfio/host, or `irqbridge bind`). Then:
//
//  1. [Open] finds the device's IOMMU group in sysfs, opens a container and the group, joins them, opens the device and
//     asks the kernel what it has. Memory decoding is on from here, bus mastering off. When a step fails, the error
//     is an [*OpError] that says why and what to do, and nothing stays open.
//  2. [Device.BAR] maps the registers; [Device.Config] and [Device.Function] read the configuration space;
//     [Device.IRQ] tells how many vectors each kind of interrupt has.
//  3. [Device.EnableIRQs] connects vectors to eventfds and, for messages, switches bus mastering on. An interrupt adds
//     one to its eventfd. Only then enable interrupts in the device itself, and look at its status once before waiting:
//     what happened earlier was not counted.
//  4. On an interrupt, clear the cause in the device. For [INTx], call [Device.UnmaskIRQ] after that: the kernel masks
//     the line each time it fires. [Device.UnmaskIRQOnEventFD] lets another process say so.
//  5. To change from one kind of interrupt to another, [Device.DisableIRQs] comes first. Host IRQ numbers and their
//     affinity do not survive it.
//  6. [Device.Close] calls the AtClose functions, stops the device, disables its interrupts, ends the mappings and closes
//     everything. It may be called at any time, by any goroutine, and again.
//
// Package connect does steps 3 to 5 under the Windows contract.
//
// # What the host may want
//
// Whoever unbinds or removes a device that is open waits until it is closed. So from Open on a device listens for the
// host, and closes itself when it is asked to: what is done with it afterwards fails with [ErrReleased], which is
// os.ErrClosed too. [Device.OnRequest] puts a handler in place of that, which can finish what is under way first.
// [Device.OnError] does the same for errors that PCI Express reports, which are only recorded by default. [Device.Err]
// tells of both.
//
// Every method may be called concurrently with every other. See vfio/vfiotest for a fake kernel that needs neither
// hardware nor privileges.
package vfio
