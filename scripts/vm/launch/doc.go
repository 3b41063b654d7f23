// Command launch starts the virtual machine, runs one program in it and ends as the program ended. It is what
// scripts/vm/run and scripts/vm/exec build and call; their --help tells how it is used.
//
// machine.go has the machine: its devices and QEMU's command line. payload.go and cpio.go pack what the guest needs
// into an initial file system. testbinary.go knows what a Go test binary needs and writes, testoutput.go what it
// prints. session.go talks to the guest; ending.go says how QEMU ended if it ended too early.
//
// Nothing is written to a directory that would need cleaning up: the initial file system is a file in memory, and
// the serial port a pair of connected sockets, both inherited by QEMU, which dies with this process.
package main
