// Package recording is the file of a recorded run: what connect --record writes, and report and connect --replay read.
//
// The file has JSON objects, one a line. Each line is written whole and at once, so that the file is good up to the last tick
// when the program is killed or the machine dies; a last line without its end is left out when it is read. Times are
// nanoseconds since the run started, by a clock that does not jump.
//
//	{"schema":1,"type":"run", …}                              the first line: what ran on what; see Header
//	{"type":"tick","t":1000000000,"messages":[…]}             what happened since the tick before; see Counts
//	{"type":"event","t":1200000000,"event":"storm", …}        what happened once; see Event
//	{"type":"end","t":2000000000,"outcome":"done", …}         the last line: how it ended, and the totals; see End
//
// A tick has only the messages of which anything changed, and of these only what is not 0:
//
//	{"message":3,"raised":10,"serviced":10,"calls":10,"claimed":10,"delivered":{"1":10},"ranOn":{"1":10},
//	 "latency":{"count":10,"sumNS":52000,"minNS":4100,"maxNS":9800,"buckets":[[4096,6],[5120,3],[9728,1]]}}
//
// The ticks add up to the totals at the end. Without an end the run was killed, or still goes on.
//
// A change that readers of schema 1 would misread gets another number. Members may be added: a reader passes over what it does
// not know.
package recording
