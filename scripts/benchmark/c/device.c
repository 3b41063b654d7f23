/*
 * The device: it signals the eventfds that a receiver hands over, as the kernel does when a device interrupts, and says
 * how long it took until the receiver's callback ran.
 *
 *   device MODE CPU PRIORITY WARMUP COUNT MIN MAX SEED
 *
 *   closed   COUNT interrupts, each after the one before was answered, MIN to MAX microseconds apart
 *   open     interrupts for COUNT milliseconds, on schedule, whether or not those before were answered
 *   flood    as many as it can make for COUNT milliseconds; MIN and MAX mean nothing
 *
 * The first WARMUP interrupts (of flood: milliseconds) are not measured. Several vectors take turns; in mode closed the
 * order is random. It prints lines of a word and a number, and at last the latencies in nanoseconds:
 *
 *   fired      interrupts made, with those of the warm-up
 *   lost       interrupts (of open and flood: vectors' last ones) that no callback answered within three seconds
 *   calls      callbacks
 *   signals    what the reads of the eventfds returned
 *   sleeps     how often the receiver's thread went to sleep
 *   elapsed    of flood, nanoseconds
 *   sample     one for each
 */
#include "bench.h"

#include <fcntl.h>

#define PATIENCE_NS 3000000000ll
#define MAX_SAMPLES LOG_SIZE

static int fds[MAX_VECTORS];
static int vectors;
static uint64_t fired, lost;
static uint64_t sent[MAX_SAMPLES], latency[MAX_SAMPLES];
static uint64_t samples;
static uint64_t last_sent[MAX_VECTORS];
static uint64_t start_ticks, start_ns;
static uint64_t seed;

static uint64_t now_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ull + t.tv_nsec;
}

static uint64_t random_number(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed;
}

static void sleep_until(uint64_t ns)
{
	struct timespec t = {ns / 1000000000, ns % 1000000000};
	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) == EINTR)
		;
}

static uint64_t calls(void)
{
	return atomic_load_explicit(&shared->calls, memory_order_acquire);
}

/* Receives the eventfds; the message without any is the last. */
static void receive_fds(void)
{
	for (;;) {
		uint32_t count;
		struct iovec data = {&count, sizeof count};
		union {
			struct cmsghdr align;
			char room[CMSG_SPACE(FDS_PER_MESSAGE * sizeof(int))];
		} control;
		struct msghdr message = {
			.msg_iov = &data, .msg_iovlen = 1, .msg_control = control.room, .msg_controllen = sizeof control.room};
		ssize_t n = recvmsg(SOCKET_FD, &message, MSG_CMSG_CLOEXEC);
		if (n == 0) {
			errno = 0;
			die("the receiver ended before it was ready");
		}
		if (n != sizeof count || message.msg_flags & MSG_CTRUNC)
			die("receive eventfds");
		if (count == 0)
			return;
		struct cmsghdr *head = CMSG_FIRSTHDR(&message);
		if (!head || head->cmsg_type != SCM_RIGHTS || head->cmsg_len != CMSG_LEN(count * sizeof(int)) ||
			vectors + count > MAX_VECTORS) {
			errno = 0;
			die("the receiver sent something else than eventfds");
		}
		memcpy(fds + vectors, CMSG_DATA(head), count * sizeof(int));
		vectors += count;
	}
}

static uint64_t fire(int vector)
{
	uint64_t one = 1;
	fired++;
	uint64_t t = last_sent[vector] = ticks_after();
	if (write(fds[vector], &one, sizeof one) != sizeof one)
		die("signal");
	return t;
}

static int answered(int vector)
{
	return atomic_load_explicit(&shared->last[vector], memory_order_acquire) >= last_sent[vector];
}

static void closed(uint64_t warmup, uint64_t count, uint64_t min, uint64_t max)
{
	for (uint64_t i = 0; i < warmup + count; i++) {
		int vector = vectors == 1 ? 0 : random_number() % vectors;
		uint64_t before = calls();
		uint64_t t = fire(vector);
		uint64_t give_up = now_ns() + PATIENCE_NS;
		do
			sleep_until(now_ns() + min + random_number() % (max - min + 1));
		while (!(calls() > before && answered(vector)) && now_ns() < give_up);
		if (calls() == before || !answered(vector)) {
			lost++;
			continue;
		}
		if (i >= warmup)
			latency[samples++] = atomic_load(&shared->log[before % LOG_SIZE]) - t;
	}
}

static void wait_for_answers(void)
{
	uint64_t give_up = now_ns() + PATIENCE_NS;
	for (int v = 0; v < vectors; v++) {
		while (!answered(v) && now_ns() < give_up)
			sleep_until(now_ns() + 100000);
		if (!answered(v))
			lost++;
	}
}

/* Each interrupt was answered by the first callback after it. */
static void open_loop(uint64_t warmup, uint64_t milliseconds, uint64_t min, uint64_t max)
{
	uint64_t next = now_ns(), end = next + milliseconds * 1000000;
	uint64_t first = calls(), n = 0;
	while (next < end && n < MAX_SAMPLES) {
		next += min + random_number() % (max - min + 1);
		sleep_until(next);
		sent[n++] = fire(0);
	}
	wait_for_answers();
	uint64_t last = calls(), call = first;
	if (last - first > LOG_SIZE) {
		errno = 0;
		die("%" PRIu64 " callbacks for %" PRIu64 " interrupts", last - first, n);
	}
	for (uint64_t i = 0; i < n; i++) {
		while (call < last && atomic_load(&shared->log[call % LOG_SIZE]) < sent[i])
			call++;
		if (call < last && i >= warmup)
			latency[samples++] = atomic_load(&shared->log[call % LOG_SIZE]) - sent[i];
	}
}

static void flood_for(uint64_t milliseconds)
{
	uint64_t end = now_ns() + milliseconds * 1000000;
	do
		for (int i = 0, v = 0; i < 2048; i++, v = v + 1 == vectors ? 0 : v + 1)
			fire(v);
	while (now_ns() < end);
}

/* How often the receiver's thread went to sleep. */
static uint64_t sleeps(void)
{
	char path[64], line[128];
	uint64_t n = 0;
	snprintf(path, sizeof path, "/proc/%" PRId64 "/status", atomic_load(&shared->thread));
	FILE *file = fopen(path, "re");
	if (!file)
		die("%s", path);
	while (fgets(line, sizeof line, file))
		if (sscanf(line, "voluntary_ctxt_switches: %" SCNu64, &n) == 1)
			break;
	fclose(file);
	return n;
}

static uint64_t argument(const char *text)
{
	char *end;
	errno = 0;
	uint64_t n = strtoull(text, &end, 10);
	if (errno || *end || end == text || *text == '-')
		die("not a number: %s", text);
	return n;
}

int main(int argc, char **argv)
{
	if (argc != 9) {
		fputs("usage: device closed|open|flood CPU PRIORITY WARMUP COUNT MIN MAX SEED\n", stderr);
		return 2;
	}
	uint64_t warmup = argument(argv[4]), count = argument(argv[5]);
	uint64_t min = argument(argv[6]) * 1000, max = argument(argv[7]) * 1000;
	seed = argument(argv[8]) * 2654435761u + 1;
	errno = 0;
	if (max < min || (strcmp(argv[1], "flood") && count + warmup > MAX_SAMPLES))
		die("bad arguments");
	allow_many_files();
	map_shared();
	receive_fds();
	prctl(PR_SET_TIMERSLACK, 1);
	place(0, argument(argv[2]), argument(argv[3]));

	start_ticks = ticks();
	start_ns = now_ns();
	uint64_t elapsed = 0, calls_before = 0, fired_before = 0, sleeps_before = 0;
	if (!strcmp(argv[1], "closed")) {
		closed(warmup, count, min, max);
	} else if (!strcmp(argv[1], "open")) {
		open_loop(warmup, count, min, max);
	} else if (!strcmp(argv[1], "flood")) {
		flood_for(warmup);
		fired_before = fired;
		calls_before = calls();
		sleeps_before = sleeps();
		uint64_t begin = now_ns();
		flood_for(count);
		elapsed = now_ns() - begin;
	} else {
		die("there is no mode %s", argv[1]);
	}
	uint64_t calls_then = calls(), sleeps_then = sleeps();
	if (elapsed) {
		printf("elapsed %" PRIu64 "\nflood_fired %" PRIu64 "\nflood_calls %" PRIu64 "\n", elapsed, fired - fired_before,
			calls_then - calls_before);
		wait_for_answers();
	}
	double ns_per_tick = (double)(now_ns() - start_ns) / (ticks() - start_ticks);
	printf("fired %" PRIu64 "\nlost %" PRIu64 "\ncalls %" PRIu64 "\nsignals %" PRIu64 "\nsleeps %" PRIu64 "\n", fired, lost,
		calls(), atomic_load(&shared->signals), sleeps_then - sleeps_before);
	for (uint64_t i = 0; i < samples; i++)
		printf("sample %.0f\n", latency[i] * ns_per_tick);
	return 0;
}
