package main

// The offsets in the memory shared with the device, as c/bench.h has them.
const (
	sharedSignals = 64
	sharedThread  = 128
	sharedLast    = 4096
	sharedLog     = sharedLast + 8*maxVectors
	sharedSize    = sharedLog + 8*logSize
	logSize       = 65536
	maxVectors    = 2048
)

// called is the callback of every receiver in Go: it stores the processor's clock, which it reads first, for a vector,
// and counts the call. It is c/bench.h's function of the same name.
//
//go:noescape
func called(shared *byte, vector int)

// load and store access a word of the shared memory whole.
//
//go:noescape
func load(word *byte) uint64

//go:noescape
func store(word *byte, v uint64)

// clock reads the processor's clock after all that the program did before.
func clock() uint64
