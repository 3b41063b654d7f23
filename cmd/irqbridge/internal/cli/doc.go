// Package cli is the irqbridge program: its verbs, in files of their names, and what they share.
//
// Main runs one command line on a System, which is the running machine for the program and a fake one for tests and for
// the verb demo. It returns the exit status:
//
//	0  done
//	1  failed
//	2  the command line is wrong; nothing was tried
//	3  done in part: some of what was asked for could not be read
//	4  not possible on this host or with this device
//
// Data goes to standard output, everything else to standard error. Each problem is one line that says what failed on
// which device and why, and where there is one a second line, "next: …", with what to type. Only doctor has colours, and only on a
// terminal without $NO_COLOR.
//
// The verbs that read take --json and then print one object with "schema": 1. Its keys stay; the text for people is
// free to change. In it hexadecimal values are strings ("0x8086"), sets of CPUs are strings in the kernel's list format
// ("0-3,8"), and all else is a number. map is an exception: a line of input makes an object of its own; and what cdi
// prints is in the CDI project's form.
package cli
