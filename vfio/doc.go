// Package vfio opens one PCI device through Linux VFIO and gives access to its configuration space, registers and
// interrupts, and the device access to memory. It works on Linux on amd64 and arm64.
//
// # The life of a device
//
// The device must be bound to vfio-pci or another VFIO driver (see vfio/host, or `irqbridge bind`). Then:
//
//  1. [Open] finds the device in sysfs, opens it by the best [Backend] that there is, and asks the kernel what it has.
//     Memory decoding is on from here, bus mastering off. When a step fails, the error is an [*OpError] that says why and
//     what to do, and nothing stays open.
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
// # Memory
//
// [Device.AllocDMA] allocates memory that the device reads and writes on its own, and maps it at an I/O virtual address,
// [DMA.IOVA], which is what to tell the device. The IOMMU lets it reach nothing else. Bus mastering has to be on, see
// [Device.SetBusMaster]. [DMA] says how to look at memory that the device may be writing, and how long it lives.
//
// # Backends
//
// The kernel hands a device out in one of three ways. Open takes the first of the first two whose nodes exist, and the third
// only when told to by [WithBackend]; [Device.Backend] says which it was. From there on a device is the same.
//
//   - [BackendIOMMUFD]: the node of the device, /dev/vfio/devices/vfioN, bound to an iommufd, /dev/iommu, and attached to an
//     address space of it. Linux has it since 6.6, when it is built so. Who may open both nodes has the device. Several
//     devices of one IOMMU group can be open at a time, in one address space: see [WithIOMMUFD]. Another program can open the
//     node and pass the descriptor: see [FromFD].
//   - [BackendGroup]: the node of the device's IOMMU group, /dev/vfio/N, put into a container, /dev/vfio/vfio. Every kernel
//     with VFIO has it. One device of a group is open at a time.
//   - [BackendNoIOMMU]: the same for a device without an IOMMU, /dev/vfio/noiommu-N. The kernel has to be built for it, and
//     its parameter enable_unsafe_noiommu_mode to be on, which is never done here. Interrupts and registers work; memory
//     cannot be mapped, and nothing stops a device, or the program that drives it, from writing to any memory of the host.
//
// In all of them every other device of the IOMMU group has to be without a driver, or on one that leaves its DMA alone, as
// those of VFIO do.
//
// # What the host may want
//
// Whoever unbinds or removes a device that is open waits until it is closed. So from Open on a device listens for the
// host, and closes itself when it is asked to: what is done with it afterwards fails with [ErrReleased], which is
// os.ErrClosed too. [Device.OnRequest] puts a handler in place of that, which can finish what is under way first.
// [Device.OnError] does the same for errors that PCI Express reports, which are only recorded by default. [Device.Err]
// tells of both.
//
// A device that was pulled out, or lost its link, reads as all ones, or fails with [ErrGone] where the kernel notices. If the
// slot has a driver, the host asks for it back as above.
//
// # Resets
//
// [Device.Reset] resets the function alone, where the kernel can. [Device.HotReset] resets all functions of its slot or bus,
// which [Device.HotResetInfo] lists; what is in the way is named. Both keep accesses out meanwhile, and both leave interrupts
// enabled and connected, with the configuration space as it was; what the device itself was set to is gone.
//
// # What only some have
//
// [Device.Features] lists the features that the kernel has for a device: low power ([Device.EnterLowPower]), the export of BARs
// to other devices ([BAR.ExportDMABuf]), the token that the users of an SR-IOV physical function's virtual functions have
// to give ([Device.SetVFToken], [WithVFToken]). [Device.GetFeature] and [Device.SetFeature] reach those that have no method of
// their own. [BAR.WriteOnEventFD] has an eventfd ring a register.
//
// Every method may be called concurrently with every other. See vfio/vfiotest for a fake kernel that needs neither
// hardware nor privileges.
package vfio
