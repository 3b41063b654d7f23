/* libuv: a poll handle for each eventfd, in a loop on a thread of its own. The library is level-triggered. */
#include "receiver.h"

#include <uv.h>

static uv_loop_t loop;

/* A signal between the callback and the read would be lost if the count were not looked at. */
static void on_readable(uv_poll_t *handle, int status, int what)
{
	called((uintptr_t)handle->data);
	uint64_t count;
	if (status || !(what & UV_READABLE) || read(fds[(uintptr_t)handle->data], &count, sizeof count) != sizeof count)
		return;
	counted(count);
	if (count > 1)
		called((uintptr_t)handle->data);
}

static void *run(void *unused)
{
	begin();
	uv_run(&loop, UV_RUN_DEFAULT);
	return unused;
}

int main(int argc, char **argv)
{
	prepare(argc, argv, EFD_NONBLOCK);
	static uv_poll_t handles[MAX_VECTORS];
	if (uv_loop_init(&loop))
		die("uv_loop_init");
	for (int i = 0; i < vectors; i++) {
		handles[i].data = (void *)(uintptr_t)i;
		if (uv_poll_init(&loop, &handles[i], fds[i]) || uv_poll_start(&handles[i], UV_READABLE, on_readable))
			die("uv_poll");
	}
	pthread_t thread;
	if ((errno = pthread_create(&thread, NULL, run, NULL)))
		die("pthread_create");
	while (!atomic_load(&shared->thread))
		usleep(100);
	serve();
	return 0;
}
