// Package pci turns the bytes of a PCI function's configuration space into facts about its interrupts, and those facts
// into resource descriptors. It is bytes in and values out: standard library only, no system call, any operating system.
//
// Five questions, five places to start:
//
//   - Which device? [Address], made by [ParseAddress]: "0000:00:04.0".
//   - What can the device do? [Decode] takes 64 to 4096 bytes of configuration space, from sysfs, from VFIO, or from an
//     lspci dump read by [ReadDump], and gives a [Function] with its INTx pin, MSI and MSI-X capabilities. It takes any
//     bytes: what is wrong in them becomes a [Warning] with its offset, and the rest is decoded.
//   - What of it matters to interrupts? [Function.Interrupts] puts the line, the messages, the pages of the MSI-X table,
//     the services with a message of their own and all that is inconsistent in one place. It says more after
//     [Function.SetSizes], since the sizes of BARs are not in configuration space.
//   - What is the device called? [ReadIDs] reads pci.ids, and [IDs.Describe] says it as lspci does.
//   - What does the operating system say about its interrupts? A [ResourceList] of descriptors. [RawDescriptor] is the
//     device's side of one resource and [TranslatedDescriptor] the processor's; they are two types because Windows puts
//     different fields at the same bytes. [RawResources] makes the raw ones from a Function, [DecodeRaw] and
//     [DecodeTranslated] read them from the 20 bytes (16 on 32-bit Windows) of a CM_PARTIAL_RESOURCE_DESCRIPTOR,
//     [DecodeFullList] a whole CM_RESOURCE_LIST.
//
// # Reading a device's interrupts
//
//	config, err := os.ReadFile("/sys/bus/pci/devices/0000:00:05.0/config") // as root: others get 64 bytes
//	f, err := pci.Decode(config)
//	if f.MSIX != nil {
//		fmt.Println(f.MSIX.Messages, "messages, table in BAR", f.MSIX.Table.BAR)
//	}
//
// # Capabilities
//
// Function.Capabilities and Function.ExtendedCapabilities list all of them in the order of the device's lists, each with
// its bytes. Those that this package decodes have a pointer to their own type in the field Decoded, which a type switch
// or [Find] takes out:
//
//	if aer := pci.Find[pci.AER](f); aer != nil && aer.Root != nil {
//		fmt.Println("errors interrupt by message", aer.Root.InterruptMessage)
//	}
//
// A capability's JSON form is one object with id, name and place, and the registers' fields.
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
