// Package pci turns the bytes of a PCI function's configuration space into facts about its interrupts, and those facts
// into resource descriptors. It is bytes in and values out: standard library only, no system call, any operating system.
//
// Three questions, three places to start:
//
//   - Which device? [Address], made by [ParseAddress]: "0000:00:04.0".
//   - What can the device do? [Decode] takes 64 to 4096 bytes of configuration space, from sysfs, from VFIO, or from an
//     lspci dump read by [ReadDump], and gives a [Function] with its INTx pin, MSI and MSI-X capabilities. It takes any
//     bytes: what is wrong in them becomes a [Warning] with its offset, and the rest is decoded.
//   - What does the operating system say about its interrupts? A [ResourceList] of descriptors. [RawDescriptor] is the
//     device's side of one resource and [TranslatedDescriptor] the processor's; they are two types because Windows puts
//     different fields at the same bytes. [RawResources] makes the raw ones from a Function, [DecodeRaw] and
//     [DecodeTranslated] read them from the 20 bytes (16 on 32-bit Windows) of a CM_PARTIAL_RESOURCE_DESCRIPTOR.
//
// # Reading a device's interrupts
//
//	config, err := os.ReadFile("/sys/bus/pci/devices/0000:00:05.0/config") // as root: others get 64 bytes
//	f, err := pci.Decode(config)
//	if f.MSIX != nil {
//		fmt.Println(f.MSIX.Messages, "messages, table in BAR", f.MSIX.Table.BAR)
//	}
//
// # Two views of configuration space
//
// VFIO gives out a partly virtual configuration space: while MSI is live there, its enable bit, address and data read
// as zero, and writes to the MSI-X control word are dropped. To see what the hardware has, decode the sysfs file config.
//
// # Sources
//
// Register layouts are those of the PCI Express Base Specification, chapter 7, whose numbers Linux lists in
// include/uapi/linux/pci_regs.h; the names of that header stand in the comments. Descriptors are those of the Windows
// Driver Kit, wdm.h; the comments name the structure or constant.
//
// Values of this package hold no locks: reading one from several goroutines is safe, changing it is not.
package pci
