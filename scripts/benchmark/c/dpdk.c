/*
 * The interrupt thread of DPDK's environment abstraction layer, with callbacks registered as an application's and as a
 * driver's:
 *
 *   ext   RTE_INTR_HANDLE_EXT: the library leaves the eventfd to the callback, which reads it after its work
 *   msix  RTE_INTR_HANDLE_VFIO_MSIX: the library reads the eventfd before it calls back
 */
#define ALLOW_EXPERIMENTAL_API
#include "receiver.h"

#include <dirent.h>
#include <rte_eal.h>
#include <rte_interrupts.h>

static void on_message(void *vector)
{
	called((uintptr_t)vector);
}

/* A signal between the callback and the read would be lost if the count were not looked at. */
static void on_external(void *vector)
{
	called((uintptr_t)vector);
	uint64_t count;
	if (read(fds[(uintptr_t)vector], &count, sizeof count) != sizeof count)
		return; /* another callback of the same batch was faster */
	counted(count);
	if (count > 1)
		called((uintptr_t)vector);
}

/* The thread is the library's own. */
static pid_t interrupt_thread(void)
{
	DIR *tasks = opendir("/proc/self/task");
	if (!tasks)
		die("/proc/self/task");
	pid_t found = 0;
	for (struct dirent *task; (task = readdir(tasks));) {
		char path[64], name[32] = "";
		snprintf(path, sizeof path, "/proc/self/task/%.16s/comm", task->d_name);
		FILE *file = fopen(path, "re");
		if (!file)
			continue;
		if (fgets(name, sizeof name, file) && !strncmp(name, "eal-intr-thread", 15))
			found = atoi(task->d_name);
		fclose(file);
	}
	closedir(tasks);
	if (!found) {
		errno = 0;
		die("DPDK has no interrupt thread");
	}
	return found;
}

/* Waits until a thread of this process has nothing to do. */
static void wait_for_rest(pid_t thread)
{
	char path[64];
	snprintf(path, sizeof path, "/proc/self/task/%d/stat", thread);
	for (int rested = 0; rested < 3; usleep(5000)) {
		char state = 0;
		FILE *file = fopen(path, "re");
		if (!file || fscanf(file, "%*d (%*[^)]) %c", &state) != 1)
			die("%s", path);
		fclose(file);
		rested = state == 'S' ? rested + 1 : 0;
	}
}

int main(int argc, char **argv)
{
	int message = argc > 1 && !strcmp(argv[1], "msix");
	if (argc < 2 || (!message && strcmp(argv[1], "ext")))
		die("no such variant");
	prepare(argc, argv, EFD_NONBLOCK);

	/* All of it starts on the receiver's CPU: the other one may be busy. */
	char *eal[] = {argv[0], "-l", argv[2], "--no-huge", "--no-pci", "--no-shconf", "--no-telemetry", "--log-level=*:error", "-m", "16", NULL};
	if (rte_eal_init(sizeof eal / sizeof *eal - 1, eal) < 0) {
		errno = 0;
		die("rte_eal_init failed");
	}
	/*
	 * For each callback that is registered, the library's thread makes its epoll set anew. It is to do that for many at once,
	 * so it does not get the CPU before all are.
	 */
	pid_t thread = interrupt_thread();
	place(thread, cpu, 0);
	place(0, cpu, 1);
	for (int i = 0; i < vectors; i++) {
		struct rte_intr_handle *handle = rte_intr_instance_alloc(RTE_INTR_INSTANCE_F_PRIVATE);
		if (!handle || rte_intr_fd_set(handle, fds[i]) ||
			rte_intr_type_set(handle, message ? RTE_INTR_HANDLE_VFIO_MSIX : RTE_INTR_HANDLE_EXT) ||
			rte_intr_callback_register(handle, message ? on_message : on_external, (void *)(uintptr_t)i)) {
			errno = 0;
			die("register callback %d", i);
		}
	}
	struct sched_param ordinary = {0};
	if (sched_setscheduler(0, SCHED_OTHER, &ordinary))
		die("SCHED_OTHER");
	place(thread, cpu, priority);
	wait_for_rest(thread);
	atomic_store(&shared->thread, thread);
	serve();
	fflush(stdout);
	_exit(0); /* rte_eal_cleanup would wait for a thread that serves no more */
}
