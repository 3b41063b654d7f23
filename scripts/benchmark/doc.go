// Command benchmark is scripts/bench: it measures the time from the signal of an eventfd to the first instruction of a
// service routine, through connect.Connect, beside others who wait for eventfds, and how many interrupts a second each
// can serve.
//
//	scripts/bench --short            # under five minutes
//	scripts/bench --out testdata/bench   # a quarter of an hour: tables, plots, and all of it as JSON
//
// # What is measured
//
// The device is a process of its own (c/device.c): it reads the processor's clock, writes an eventfd as the kernel does for
// an interrupt, and looks in shared memory for what the receiver's callback stores there: the clock, which it reads first. The
// receivers are
//
//   - irqbridge, in each of its ways to wait: a service routine connected by connect.Connect, on vfiotest's fake kernel,
//     whose eventfds are real ones and are handed to the device's process;
//   - C read, epoll, epoll-ET (edge-triggered, which reads nothing), busy epoll, and hybrid, which looks for 200 us after an interrupt
//     before it sleeps (c/plain.c);
//   - the interrupt thread of DPDK, with callbacks of an application (EXT) and of a VFIO driver (VFIO_MSIX) (c/dpdk.c);
//   - libuv (c/uv.c);
//   - go read: a goroutine locked to a pinned thread that blocks in unix.Read.
//
// Each receiver's thread is pinned and runs with SCHED_FIFO, but for those that never sleep, from which the kernel would take the
// CPU for 50 ms of each second. Its CPU is that of the device, an ordinary process then, which
// the receiver takes it from, or another one, on which the device runs with SCHED_FIFO and sleeps between interrupts; there
// a process of the lowest priority (SCHED_IDLE) keeps the receiver's CPU from halting, since in a virtual machine it is the
// hypervisor that is measured otherwise.
//
// In a closed loop each interrupt waits for the answer to the one before. Under load, interrupts come on schedule (an open
// loop): a closed one would not make the interrupts that would have waited. The load of a receiver in Go is in its own process,
// on other CPUs than its thread; one in C has a process beside it that computes. In a flood the device signals as fast as it can; what is
// not coalesced is dispatched.
//
// # How it is judged
//
// Every round measures every variant once, in random order, in fresh processes, after 150 interrupts that do not count. Two
// variants are compared within each round, and the median of the rounds' ratios is what is reported, with its quartiles:
// the machine changes from hour to hour, and absolute times with it. So numbers of different runs cannot be compared, and neither
// can those of different machines; ratios can. The quantiles of all rounds' samples together are shown beside.
//
// A measurement waits until nobody else has been running for 8 ms, but not for ever; how often it did not wait long enough is
// shown. If that is often, the ratios say less, p99 before p50. With the device on the same CPU, p50's ratios repeat to 3 or 4 %; across
// CPUs to 8 or 10 %. p99's need twelve rounds. What lies beyond is the work of others.
//
// Every interrupt must be answered. One that is not, a variant that does not run, and an allocation for an interrupt fail the
// run; its times never do, since they depend on the machine: each ratio has its target beside it, and whether that was met.
//
// # Interrupts of devices
//
// Not measured so is what lies before the eventfd: the device's message, the host's interrupt handling and VFIO's. With --vm, this
// program and a driver in C (c/vm.c) run in the virtual machine of scripts/vm, and have its edu (MSI) and e1000e (MSI-X) interrupt
// by a register: from before the register's write to the beginning of the service routine. And opening the e1000e is
// held beside libvfio, the library of the kernel's own VFIO tests, whose test prints how long it took to set a device up: that
// maps the BARs and asks for the interrupts, in a container that is there already, and arms none. irqbridge's times, and those of the driver in
// C, begin before the container: until BAR 0 is mapped, and until an interrupt is armed, by connect.Connect and by one call. All of this is emulated by one
// thread of the host, the processors of the machine in turn: its ratios compare this library with C there, and say nothing of
// hardware.
package main
