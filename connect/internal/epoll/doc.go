// Package epoll waits for events on a thread that keeps its P, the right to run Go code.
//
// An ordinary blocking system call gives the P away: the runtime's monitor takes it, and when the call returns the
// thread has to find another one, and to wake the monitor by a futex, before a line of Go runs. On the machine of
// reference measurements that is 8 to 18 us of 15. [Set.Wait] makes the call without telling the runtime. Nothing is lost
// between the kernel and the caller then, but the runtime cannot stop the world as long as the thread sleeps. So three
// things have to be so, and are:
//
//   - The wait can be interrupted. The runtime sends SIGURG to a thread that it wants, and epoll_pwait(2) returns EINTR for
//     any signal handler, with SA_RESTART too (signal(7)). read(2) would be restarted, and the garbage collector would
//     wait for the next interrupt of the device.
//   - The wait ends by itself, after [Period], for GODEBUG=asyncpreemptoff=1, where no signal comes.
//   - After each wait that brought nothing the thread passes a point at which the runtime can take it.
//
// The runtime wants the thread for two reasons. To stop the world or to scan its stack it has to have it, and asks again
// within microseconds until it does. And a hundred times a second the monitor asks whoever has run for 10 ms to let
// others run; who has slept in the kernel all the time gains nothing by a yield, and loses 100 to 300 us in which an
// interrupt may come. [Set.Wait] tells the two apart: it turns a lone request down, unless the rest of the process is busy, and
// follows one that comes soon after another.
package epoll
