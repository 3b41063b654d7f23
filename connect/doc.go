// Package connect serves the interrupts of a PCI device as Windows does: it assigns them to the device, maps their
// resource descriptors to the parameters of IoConnectInterruptEx with CONNECT_FULLY_SPECIFIED, and runs service
// routines on pinned OS threads, one eventfd of VFIO for each line or message.
//
// # Start here
//
//	dev, err := vfio.Open(address)
//	resources, err := connect.Assign(dev, connect.Policy{})    // what the PnP manager does
//	for _, m := range resources.Expand() {                     // one entry for each interrupt
//		p, err := connect.FromDescriptor(m.Translated)     // the mapping of the page
//		p.PhysicalDeviceObject = dev
//		p.InterruptObject = &interrupts[m.Index]
//		p.ServiceRoutine = serve
//		p.ServiceContext = driver
//		err = connect.Connect(&p)                          // armed from here on
//	}
//	// only now enable interrupts in the device
//
// The four steps are apart because Windows has them apart. [Assign] decides which interrupts the device gets and on
// which processors, by a [Policy]. [FullySpecified] is the mapping of the page "Using the CONNECT_FULLY_SPECIFIED
// Version of IoConnectInterruptEx", bit for bit: it never fails and never refuses; [FromDescriptor] is the same for
// descriptors that make sense. [Connect] refuses: what it is asked for must be what was assigned. A driver ends in the
// opposite order: quiet the device, [FlushDPCs], [Disconnect], close the device.
//
// Whoever has one routine for all messages of a device calls [Resources.ConnectMessages] in place of the loop. The example
// "page" is the page's own code in Go, "driver" a whole driver for a small device.
//
// # Service routines
//
// A [ServiceRoutine] is called with its interrupt and its context, and answers whether its device interrupted. It runs
// under the interrupt's lock and never twice at once, whatever ProcessorEnableMask says: one thread serves all the
// interrupts of a device that have the same mask. So a slow routine holds up its neighbours;
// [SpreadMessagesAcrossAllProcessors] gives the messages of MSI-X threads on different processors.
//
// Two signals may be served by one call, and a call may come without cause; both are so on Windows. No signal is
// lost: after the last one the routine is called once more. The routine asks its device what there is to do.
//
// A routine may use its device, its own data and Synchronize of other interrupts. It must not block, except at passive
// level, and it must not call Connect, Disconnect, Assign, Release, Rearm or FlushDPCs, which would wait for it: they return
// a [*BugCheckError] at once. Close of its device does not wait for it, unless somebody else is closing the device already:
// close in a goroutine. What takes longer is left to a [DPC]. Data shared with other goroutines belongs under
// [Interrupt.Synchronize], data shared with other service routines under a common [SpinLock], see [LockGroup].
//
// # Deferred procedure calls
//
// A service routine quiets its device, keeps what it found out, and leaves the rest to a [DPC]:
//
//	d.dpc = connect.NewDPC(drain, d)                       // once
//	...
//	d.dpc.Insert(nil, nil)                                 // in the service routine
//
// The routine runs after the walk of the chain has ended, on a thread of its own that is bound to the same processors,
// while the next interrupt is served. An insert while the DPC is queued has no effect, so one run stands for several
// interrupts. Disconnect neither runs nor removes what is queued, so FlushDPCs comes before it. A routine at DISPATCH_LEVEL must not wait; what waits is work for a goroutine, to which a
// channel is handed as ever.
//
// # What goes wrong
//
// A call that is refused returns a [*StatusError] with a [Status] of Windows, or a [*BugCheckError] where Windows would
// stop. What goes wrong later is told to the handler of [Resources.OnError] and by [Interrupt.Err], which has the rule. A
// routine that panics is called no more, nor is that of a line that nobody quiets, which is a storm: their source is
// silenced, and all other sources are served on. [Interrupt.Rearm] ends a storm; after anything else comes Disconnect. A DPC
// has an OnError and an Err of its own.
//
// Windows gives a service routine 25 us and a deferred routine 100 us, and stops when one does not return. Here
// [Resources.MeasureTimes] and [DPC.MeasureTimes] count the calls that took longer and keep the longest; without them no
// clock is read. A routine that has not returned in 10 s is reported, once for that call, and what other threads serve goes
// on. It cannot be stopped: Disconnect, Close and FlushDPCs wait for it.
//
// # Two masks
//
// ProcessorEnableMask becomes two things. The thread that runs the routine is bound to these processors
// (sched_setaffinity); that is certain, or Connect fails. And the host is asked to deliver the interrupt there
// (/proc/irq/N/smp_affinity), which needs root. [Interrupt.Affinity] reports both, and [Interrupt.HostIRQ] has the
// counts that prove where interrupts were delivered.
//
// # How fast
//
// One thread waits for all interrupts of a device that have the same processors and the same [Dispatch], which
// [Resources.SetDispatch] chooses: 2048 messages with one mask cost one thread, and [Resources.ConnectMessages] arms them in
// one call of the kernel. Between the eventfd and the routine nothing is allocated, looked up or logged, the eventfd is not
// read, and no clock. What that costs against loops in C and DPDK is measured by scripts/bench of the repository; testdata/bench
// has the outcome on one machine.
//
// The thread keeps its P, the runtime's right to run Go code, while interrupts come ([Block]); [Interrupt.Dispatching] tells
// whether it does, and what to do if it does not. A hundred times a second the runtime asks for the P, and is turned down while
// the process is idle otherwise; a routine that makes system calls, sends on channels or allocates brings that wish back, and
// the thread then yields once, for 0.1 to 0.3 ms on a virtual machine. What makes a routine late, the gravest first:
//
//   - Another routine on the thread that is slow. It holds up all its neighbours by as long as it takes, once for each of its
//     calls: [Resources.MeasureTimes] shows it, [Dispatch].Own keeps it away from them, a [DPC] takes the work out of it.
//   - Delivery on another processor than the thread's, which is why the host IRQ is moved there when that is allowed.
//     An idle processor has to wake up first.
//   - Goroutines on all Ps. With GOMAXPROCS at the number of busy goroutines and two more, or with Dispatch.Reserve, an
//     interrupt is not kept waiting; without, up to 50 ms.
//   - The garbage collector, which stops the thread for moments like any other, and marks on the processors that it
//     finds. C has no such thing. Who allocates little has it seldom, and GOGC and GOMEMLIMIT can put it off.
//   - Other threads of the process on the thread's processor. SCHED_FIFO (Dispatch.Priority) goes before them, and [LockMemory]
//     keeps pages from being fetched.
//
// Whoever needs the tail too gives interrupts a process of their own, which serves them, allocates nothing while it does and
// hands on what it found by shared memory or a socket; a processor that the kernel and the process's other threads are kept off
// (isolcpus or a cpuset, irqaffinity; taskset for the process, which the thread leaves by ProcessorEnableMask); and a
// priority, or [Poll]. Even then Go promises no upper bound.
//
// # Vectors and levels
//
// Linux shows a user-space driver neither vectors nor interrupt levels, so Assign makes them up. A Vector is unique in
// the process while it is assigned, starts at 0x30, and is never 0, which Microsoft's framework takes for "none". A
// Level is 3 to 11, and Vector/16 for the first 144 vectors, as on x64 Windows. Messages of one MSI descriptor have
// consecutive vectors and one level. An Irql here masks nothing: it is checked as Windows checks it, and it groups
// locks. A processor group is 64 Linux CPUs: CPU 70 is bit 6 of group 1, and [Interrupt.GroupAffinity] says where an
// interrupt is served in these terms. [Registry] makes a Policy of what a Windows machine has stored for a device.
//
// # What is decided here
//
// Where Windows leaves a question open, or a process cannot do what a kernel does, this is the answer. On connecting and
// disconnecting:
//
//   - The interrupt object is stored before the interrupt is armed, so a service routine always finds it. On Windows the
//     routine may run first. After any failure it is nil.
//   - What must match the assigned descriptor is Vector, Irql, InterruptMode, Group and ProcessorEnableMask; the pages
//     say it of the vector only. Policy.AllowSubsetMask permits a part of the mask.
//   - Versions 2, 3 and 5 are STATUS_NOT_SUPPORTED with Version set to 1, the documented answer of a system that has
//     the fully specified versions only.
//   - A share conflict is STATUS_INVALID_PARAMETER, the only documented status that fits. All members of a chain must
//     have the same processors, since one thread walks it.
//   - Every device's line has a vector of its own: the kernel tells devices on one wire apart. Policy.ModelSharedLines
//     gives devices on one wire one vector and one chain, as on Windows. Still each device has a line of its own in the
//     kernel, and a routine that panics silences its own device only.
//   - When Disconnect returns, the routine is not running and will not be called. No Microsoft text promises it, and
//     drivers rely on it. [ReportInactive] does the same.
//   - A line is masked while all that a device has connected to it are inactive, and fires afterwards if it is still
//     asserted. A message that comes meanwhile is lost, since an edge does not come again; the pages do not say.
//   - Closing a device disconnects its interrupts. That waits for service routines that run, also when the host wants the
//     device back (vfio.ErrReleased).
//
// On calling service routines:
//
//   - A chain of message (latched) interrupts is walked in whole passes until one in which nobody claims; the pages say
//     only that a routine returns FALSE for the next to be called. After 10 000 passes the walk ends, and that is a storm.
//     Of a level chain the first claim ends the walk, and the line is unmasked once.
//   - The answer of a routine that is alone on its vector is counted, and decides nothing else than whether there is a
//     storm.
//   - A storm, bug check 0xF2 on Windows, is a thousand interrupts of a line in a row that nobody claims
//     (Policy.StormLimit). The line stays masked until Rearm. A line that the device goes on to assert after each of a
//     hundred claims, as its Status register says, is a storm too, and its routine is called on. Of messages, unclaimed
//     walks are counted only.
//   - Passive-level routines (Irql and SynchronizeIrql 0, no SpinLock) are for lines; for a message they are
//     STATUS_NOT_SUPPORTED. They run in a goroutine of their source, which is not pinned, so they may block without
//     holding up others, and have no time limit. By their level they could call Connect and Disconnect; these would wait
//     for the routine itself, so they refuse.
//   - What stops Windows with a bug check is an error here: a call at the wrong IRQL, a disconnect of the wrong version,
//     a lock taken twice, or in another order than by a thread that waits, or released by a thread that does not hold
//     it. Synchronize has no error to return, and panics.
//   - Time limits are measured and never enforced. The watchdog looks ten times in its 10 s, so a report comes after 10 to
//     11 s. A routine that waits for its lock has not been called.
//
// On deferred procedure calls:
//
//   - DPCs of interrupts with one processor mask are one queue with one thread, the per-processor queue of Windows for a
//     mask. It starts with the first insert and ends, when the queue is empty, with the last dispatcher of the mask;
//     that of a target processor, or of ordinary goroutines, with the last dispatcher of all.
//   - A DPC that a service routine inserts begins after the walk has ended, also with a target processor, where it may
//     begin earlier on Windows. The same goes for one that is inserted with an interrupt lock held. What a passive-level
//     routine inserts begins at once, in the queue of ordinary goroutines.
//   - A DPC runs twice at once only if it was inserted into two queues: by service routines of different masks, or
//     with a changed target. Windows has this too, since the DPC leaves its queue before its routine begins.
//   - Low, medium and medium-high importance are one: a queue that was empty is always woken.
//   - A DPC whose routine panics ends that run, and can be inserted again.
//   - FlushDPCs waits for DPCs of service routines that have not returned yet, too.
//   - SetTarget is for ordinary goroutines; Windows has it at any IRQL.
//
// # Where the page misleads
//
//   - Its table says that ShareVector is ShareDisposition. Copied, "device exclusive" (1) would be TRUE; the code compares
//     with CmResourceShareShared, 3.
//   - A Level of 0x100 or more is cut to 8 bits by the cast to KIRQL, and 0x100 asks for a passive-level routine.
//     FromDescriptor refuses it.
//   - SynchronizeIrql = Level is right for a lock of one interrupt. Interrupts that share a lock have the highest Level.
//   - Group is never copied. Version 1 always means group 0; FromDescriptor uses version 4 where it must.
//   - "The system provides for each interrupt a descriptor" is not so for MSI: n messages have one. Expand makes n.
//   - CmResourceTypeMessageInterrupt does not exist. Type is CmResourceTypeInterrupt for lines and messages, and the
//     list holds other resources too.
//   - A raw descriptor has the same shape as a translated one and gives wrong values without complaint. Here they are two
//     types.
//   - SpinLock = NULL is not for "most drivers" but for those whose service routines share no data.
//   - The mapping of a message without the flag latched is LevelSensitive, which no message is. FromDescriptor refuses it.
//   - Its example stores the interrupt in devExt->IntObj, which its comment calls deviceExtension->IntObj, and leaves the
//     failure to the reader. The example "page" of this package is complete.
//   - STATUS_INVALID_PARAMETER_10 means the mask, the tenth argument of the older IoConnectInterrupt and not the tenth
//     member of the structure.
//
// The pages that it leads to have their own, which are told where they matter: at the versions, at the members of
// [Parameters] and [DisconnectParameters], at [ServiceRoutine], and at Policy.WindowsLimits.
//
// # Rows that cannot hold
//
// The contract is tested as a table, TestConformance; testdata/conformance.txt lists its rows. These do not hold, or hold
// otherwise than on Windows:
//
//   - Row 114, two modes on one vector: an assigned interrupt has one mode, and parameters with the other are refused
//     with STATUS_NOT_FOUND before they could meet the chain. The lines of a modelled wire are level-sensitive, all of them.
//   - Row 107, a message while the line is connected: Assign gives a device one kind of interrupt and gives no other while
//     one is connected. What is tested is a line that was enabled by the device's own methods.
//   - Row 168, closing a device with live interrupts: Close itself returns no error for them. [Resources.OnError] is called
//     for each, and [Interrupt.Err] tells.
package connect
