// Command guestinit is process 1 of the virtual machine that scripts/vm/run and scripts/vm/exec start: it mounts the
// kernel's file systems, loads the modules that were packed with it, runs the job (see scripts/vm/internal/wire),
// carries its streams over the second serial port, sends back the files that the host wants, and powers off.
//
// It must never end by itself: the end of process 1 is a kernel panic. That is what becomes of an error that it cannot
// report over the serial port, and the host shows it with the console's last lines.
package main
