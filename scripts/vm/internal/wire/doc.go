// Package wire is what the host (scripts/vm/launch) and process 1 of the guest (scripts/vm/guestinit) say to each
// other: the job, which travels as a file in the guest's initial file system, and frames over a serial line.
//
// A serial line needs no module in the guest's kernel, so that any kernel will do. It is slow, and it loses what arrives
// while nobody reads: the host therefore sends input a chunk at a time and waits for the guest's word that it was
// taken. Before its first frame the guest writes Hello, for the firmware and the driver's probing may have left
// bytes on the line.
package wire
