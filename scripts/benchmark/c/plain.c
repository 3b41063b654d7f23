/*
 * Receivers without a library, one thread each:
 *
 *   read     a blocking read of the one eventfd
 *   epoll    epoll, level-triggered: wait, read, call back
 *   epollet  epoll, edge-triggered, nothing is read
 *   busy     the same, which never blocks
 *   hybrid   the same, which blocks when there was no interrupt for 200 us
 */
#include "receiver.h"

#define BATCH 64
#define SPIN_NS 200000
#define SPIN_TURNS 8 /* between two readings of the clock, as irqbridge has it */

static int set;
static int drain;
static struct epoll_event events[BATCH];

static void fetch_and_call(int n)
{
	for (int i = 0; i < n; i++) {
		unsigned vector = events[i].data.u32;
		if (drain) {
			uint64_t count;
			if (read(fds[vector], &count, sizeof count) != sizeof count)
				die("read an eventfd");
			counted(count);
		}
		called(vector);
	}
}

static int wait_for(int timeout)
{
	int n = epoll_wait(set, events, BATCH, timeout);
	if (n < 0 && errno != EINTR)
		die("epoll_wait");
	return n;
}

static void *by_read(void *unused)
{
	begin();
	for (;;) {
		uint64_t count;
		if (read(fds[0], &count, sizeof count) != sizeof count)
			die("read an eventfd");
		counted(count);
		called(0);
	}
	return unused;
}

static void *by_epoll(void *unused)
{
	begin();
	for (;;)
		fetch_and_call(wait_for(-1));
	return unused;
}

static void *by_busy_epoll(void *unused)
{
	begin();
	for (;;)
		fetch_and_call(wait_for(0));
	return unused;
}

static uint64_t now_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ull + t.tv_nsec;
}

static void *by_hybrid(void *unused)
{
	begin();
	for (uint64_t until = 0;;) {
		int n = 0;
		for (int turn = 0; n <= 0 && turn < SPIN_TURNS; turn++)
			n = wait_for(0);
		if (n <= 0 && now_ns() >= until)
			n = wait_for(-1);
		if (n > 0) {
			fetch_and_call(n);
			until = now_ns() + SPIN_NS;
		}
	}
	return unused;
}

int main(int argc, char **argv)
{
	static const struct variant {
		const char *name;
		void *(*run)(void *);
		int reads, edge;
	} variants[] = {
		{"read", by_read, 1, 0},       {"epoll", by_epoll, 1, 0},    {"epollet", by_epoll, 0, 1},
		{"busy", by_busy_epoll, 0, 1}, {"hybrid", by_hybrid, 0, 1}, {NULL, NULL, 0, 0},
	};
	const struct variant *v = variants;
	while (argc > 1 && v->name && strcmp(v->name, argv[1]))
		v++;
	if (argc < 2 || !v->name)
		die("no such variant");
	prepare(argc, argv, 0);
	if (v->run == by_read && vectors != 1)
		die("one thread reads one eventfd");
	drain = v->reads;
	if ((set = epoll_create1(EPOLL_CLOEXEC)) < 0)
		die("epoll_create1");
	for (int i = 0; v->run != by_read && i < vectors; i++) {
		struct epoll_event event = {.events = EPOLLIN | (v->edge ? EPOLLET : 0), .data.u32 = i};
		if (epoll_ctl(set, EPOLL_CTL_ADD, fds[i], &event))
			die("epoll_ctl");
	}
	pthread_t thread;
	if ((errno = pthread_create(&thread, NULL, v->run, NULL)))
		die("pthread_create");
	while (!atomic_load(&shared->thread))
		usleep(100);
	serve();
	return 0;
}
