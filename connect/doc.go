// Package connect serves the interrupts of a PCI device as Windows does: it assigns them, maps a descriptor to the
// parameters of IoConnectInterruptEx with CONNECT_FULLY_SPECIFIED, and runs service routines on pinned threads.
package connect
