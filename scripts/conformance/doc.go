// Command conformance runs TestConformance of package connect and says which of its rows hold where: on the two fakes,
// with the race detector, and on the real kernels in the virtual machine. From the top of the repository:
//
//	go run ./scripts/conformance [fake] [stable] [newest] [own]
//
// Without arguments all of them run. It fails unless the rows that ran are exactly those of
// connect/testdata/conformance.txt, each where the list says, and all passed: a row that somebody dropped, renamed or
// skipped is found. Output of tests is shown for rows that failed.
package main
