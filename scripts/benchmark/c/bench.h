/*
 * What the device and every receiver of the benchmark have in common: the memory through which a receiver says when it
 * was called, the clock, and the socket on which it hands its eventfds over. ../receiver.go has the same for Go.
 */
#ifndef BENCH_H
#define BENCH_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <inttypes.h>
#include <sched.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define SOCKET_FD 3 /* to the other process */
#define SHARED_FD 4
#define MAX_VECTORS 2048
#define LOG_SIZE 65536
#define FDS_PER_MESSAGE 128 /* the kernel takes 253 (SCM_MAX_FD) */

/* Written by the receiver's thread alone, read by the device. */
struct shared {
	/* Completed callbacks. A callback has stored the rest before it counts itself here. */
	_Alignas(64) _Atomic uint64_t calls;
	/* The sum of what reads of the eventfds returned, for receivers that read them. */
	_Alignas(64) _Atomic uint64_t signals;
	/* The thread that calls back. */
	_Alignas(64) _Atomic int64_t thread;
	/* The clock in the latest callback of each vector. */
	_Alignas(4096) _Atomic uint64_t last[MAX_VECTORS];
	/* The clock in callback k is at k % LOG_SIZE. */
	_Alignas(4096) _Atomic uint64_t log[LOG_SIZE];
};
_Static_assert(offsetof(struct shared, signals) == 64 && offsetof(struct shared, thread) == 128 &&
	offsetof(struct shared, last) == 4096 && offsetof(struct shared, log) == 20480, "as in receiver.go");

static struct shared *shared;

__attribute__((noreturn, format(printf, 1, 2))) static inline void die(const char *format, ...)
{
	int error = errno;
	va_list args;
	va_start(args, format);
	fprintf(stderr, "%s: ", program_invocation_short_name);
	vfprintf(stderr, format, args);
	va_end(args);
	fprintf(stderr, error ? ": %s\n" : "\n", strerror(error));
	exit(1);
}

static inline uint64_t ticks(void)
{
#if defined(__x86_64__)
	uint32_t low, high;
	__asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
	return (uint64_t)high << 32 | low;
#elif defined(__aarch64__)
	uint64_t t;
	__asm__ volatile("mrs %0, cntvct_el0" : "=r"(t));
	return t;
#else
#error "no clock for this processor"
#endif
}

/* The clock after all that the program did before. */
static inline uint64_t ticks_after(void)
{
#if defined(__x86_64__)
	__asm__ volatile("lfence" ::: "memory");
#else
	__asm__ volatile("isb" ::: "memory");
#endif
	return ticks();
}

/* The callback of every receiver. The clock comes first. */
static inline void called(unsigned vector)
{
	uint64_t now = ticks();
	uint64_t n = atomic_load_explicit(&shared->calls, memory_order_relaxed);
	atomic_store_explicit(&shared->log[n % LOG_SIZE], now, memory_order_relaxed);
	atomic_store_explicit(&shared->last[vector], now, memory_order_relaxed);
	atomic_store_explicit(&shared->calls, n + 1, memory_order_release);
}

/* What a read of an eventfd returned. */
static inline void counted(uint64_t signals)
{
	uint64_t n = atomic_load_explicit(&shared->signals, memory_order_relaxed);
	atomic_store_explicit(&shared->signals, n + signals, memory_order_relaxed);
}

static inline void map_shared(void)
{
	shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, SHARED_FD, 0);
	if (shared == MAP_FAILED)
		die("map the shared memory");
}

static inline void allow_many_files(void)
{
	struct rlimit limit;
	if (getrlimit(RLIMIT_NOFILE, &limit))
		die("getrlimit");
	limit.rlim_cur = limit.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &limit))
		die("setrlimit");
}

/* Where and how urgently a thread runs; 0 is the calling one. */
static inline void place(pid_t thread, int cpu, int priority)
{
	cpu_set_t set;
	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(thread, sizeof set, &set))
		die("pin to CPU %d", cpu);
	struct sched_param parameter = {.sched_priority = priority};
	if (priority && sched_setscheduler(thread, SCHED_FIFO | SCHED_RESET_ON_FORK, &parameter))
		die("SCHED_FIFO %d", priority);
}

static inline void write_fully(int fd, uint64_t value)
{
	if (write(fd, &value, sizeof value) != sizeof value)
		die("write an eventfd");
}

#endif
