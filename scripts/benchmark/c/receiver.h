/* What the receivers in C share: their arguments, their eventfds, and how they are started and ended. */
#ifndef RECEIVER_H
#define RECEIVER_H

#include "bench.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/syscall.h>

static int cpu, priority, vectors;
static int fds[MAX_VECTORS];

static inline int number(const char *text)
{
	char *end;
	long n = strtol(text, &end, 10);
	if (*end || end == text || n < 0 || n > 1000000) {
		errno = 0;
		die("not a number: %s", text);
	}
	return (int)n;
}

/* CPU PRIORITY VECTORS, from argv[2] on. Leaves room in fds for all, each an eventfd that does not block if asked. */
static inline void prepare(int argc, char **argv, int flags)
{
	if (argc != 5) {
		errno = 0;
		die("want VARIANT CPU PRIORITY VECTORS");
	}
	cpu = number(argv[2]);
	priority = number(argv[3]);
	vectors = number(argv[4]);
	if (vectors < 1 || vectors > MAX_VECTORS) {
		errno = 0;
		die("%d vectors", vectors);
	}
	allow_many_files();
	map_shared();
	prctl(PR_SET_TIMERSLACK, 1);
	for (int i = 0; i < vectors; i++)
		if ((fds[i] = eventfd(0, EFD_CLOEXEC | flags)) < 0)
			die("eventfd");
}

static inline void send_message(int n, const int *files)
{
	uint32_t count = n;
	struct iovec data = {&count, sizeof count};
	union {
		struct cmsghdr align;
		char room[CMSG_SPACE(FDS_PER_MESSAGE * sizeof(int))];
	} control;
	struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1};
	if (n) {
		message.msg_control = control.room;
		message.msg_controllen = CMSG_SPACE(n * sizeof(int));
		struct cmsghdr *head = CMSG_FIRSTHDR(&message);
		head->cmsg_level = SOL_SOCKET;
		head->cmsg_type = SCM_RIGHTS;
		head->cmsg_len = CMSG_LEN(n * sizeof(int));
		memcpy(CMSG_DATA(head), files, n * sizeof(int));
	}
	if (sendmsg(SOCKET_FD, &message, 0) != sizeof count)
		die("hand eventfds over");
}

/* Tells the device that the receiver waits for interrupts, and returns when the device has made all of them. */
static inline void serve(void)
{
	for (int sent = 0; sent < vectors;) {
		int n = vectors - sent < FDS_PER_MESSAGE ? vectors - sent : FDS_PER_MESSAGE;
		send_message(n, fds + sent);
		sent += n;
	}
	send_message(0, NULL);
	char byte;
	while (read(SOCKET_FD, &byte, 1) < 0)
		if (errno != EINTR)
			die("wait for the device");
}

/* What the thread of a receiver does first. */
static inline void begin(void)
{
	place(0, cpu, priority);
	atomic_store(&shared->thread, syscall(SYS_gettid));
}

#endif
