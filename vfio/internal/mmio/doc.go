// Package mmio reads and writes device memory that is mapped into this process, and memory of this process that a device
// reads and writes.
//
// A register access has side effects, so its number and width matter: a read may clear a status, a write may ring a
// doorbell. Go promises neither. Its compiler drops the first of two plain stores, merges neighbouring ones and narrows
// loads; atomic.StoreUint32 on amd64 is an XCHG, which the device sees as a read and then a write. The accessors here
// are therefore assembly: one load or one store of the stated width each, and a test disassembles them to see that it
// stays so.
//
// # Order
//
// A store is ordered after the program's earlier stores to ordinary memory, so that a doorbell finds its descriptors in
// place; a load is ordered before the program's later loads, so that data is read after the status that announced
// it. On amd64 the architecture gives this (device memory is mapped uncacheable). On arm64 the accessors add DMB OSHST
// before a store and DMB OSHLD after a load. A call of an assembly function is also a barrier to the Go compiler.
//
// Memory that a device writes while the program looks at it, such as a completion queue, has the same need: to Go, a plain
// load of it is one of memory that nobody else writes. [Memory] has the same accessors, with the same order: what was
// stored before a store that a device waits for is there when the device sees it, and what is loaded after a load that saw
// the device's mark is what the device wrote before it.
//
// # Faults
//
// When a device does not answer, because memory decoding is off, it is in reset, powered down or unplugged, the kernel
// sends SIGBUS. The accessors turn that into the error EFAULT. They switch debug.SetPanicOnFault on for the access and
// back to what it was afterwards; it is a property of the goroutine and affects no other.
package mmio
