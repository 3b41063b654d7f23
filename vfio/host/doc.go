// Package host answers one question: what does this Linux host do around a PCI device? It finds devices and their IOMMU
// groups in sysfs, says whether a group can be handed to user space and who prevents it, binds a device to another
// driver and restores what was there, finds the host IRQ number behind an interrupt of a VFIO device, and reads and
// sets on which CPUs that IRQ is delivered.
//
// A [Host] reads everything through an [OS]. [New] makes one that is rooted at a directory: "/" for the running system,
// any other directory for a copy of its /sys and /proc (a test's, or one that a user sent). Nothing here opens a device:
// package vfio does.
//
//	h := host.New("/")
//	devices, err := h.Devices()                          // every PCI device, by address
//	plan, err := h.PlanBind(address, "vfio-pci", false)  // what would be written, nothing is written yet
//	err = plan.Run(ctx)                                  // records the former state, writes, verifies; undoes on failure
//	irq, err := h.FindIRQ(address, pci.KindMSIX, 3)      // once package vfio enabled that message
//	err = h.SetAffinity(irq.Number, host.CPUSetOf(2))
//	s, err := h.Snapshot(address)                        // a device as text, to be sent around; s.Host() is a host again
//
// What the package writes is listed at [Plan] and [Host.SetAffinity]; nothing else changes the host.
//
// Errors are [*Error] values that name the device, the cause and the next step; the errno stays reachable through
// errors.Is, so that errors.Is(err, fs.ErrNotExist) and errors.Is(err, fs.ErrPermission) work as everywhere.
package host
