// Command conformance runs TestConformance of package connect and says which of its rows hold where: on the two fakes,
// with the race detector, and on the real kernels in the virtual machine. From the top of the repository:
//
//	go run ./scripts/conformance [fake] [stable] [newest] [own]
//
// Without arguments all of them run. It fails unless the rows that ran are exactly those of
// connect/testdata/conformance.txt, each where the list says, and all passed: a row that somebody dropped, renamed or
// skipped is found. Output of tests is shown for rows that failed.
//
//	go run ./scripts/conformance vfio [fake] [stable] [newest] [own]
//
// With vfio it is about the suite of vfio/vfiotest, which holds the fake to the real kernels by what these answered, recorded in
// testdata. It says how many cells the records have, in which cells the kernels differ, and how many cells were the same on
// the machines named, which it runs the suite on; without a name that is the fake only.
package main
