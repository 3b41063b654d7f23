/*
 * Work for a CPU.
 *
 *   burn CPU THREADS   threads that compute: the load beside a receiver in C
 *   burn CPU idle      one thread that runs only when nobody else wants to: it keeps a virtual CPU from halting
 */
#include "bench.h"

#include <pthread.h>

static void *spin(void *unused)
{
	for (;;)
		__asm__ volatile("" ::: "memory");
	return unused;
}

int main(int argc, char **argv)
{
	if (argc != 3)
		die("want CPU and THREADS or idle");
	prctl(PR_SET_PDEATHSIG, 9 /* SIGKILL */);
	place(0, atoi(argv[1]), 0);
	if (!strcmp(argv[2], "idle")) {
		struct sched_param parameter = {0};
		if (sched_setscheduler(0, SCHED_IDLE, &parameter))
			die("SCHED_IDLE");
		spin(NULL);
	}
	for (int i = 1; i < atoi(argv[2]); i++) {
		pthread_t thread;
		if ((errno = pthread_create(&thread, NULL, spin, NULL)))
			die("pthread_create");
	}
	spin(NULL);
}
