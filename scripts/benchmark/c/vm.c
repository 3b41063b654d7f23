/*
 * Inside the virtual machine: what a driver in C does with a device's interrupt through VFIO, by group and container. It
 * writes the register that makes the device interrupt, and its thread waits for the eventfd.
 *
 *   vm edu|e1000e ADDRESS WRITER-CPU CPU PRIORITY COUNT
 *
 * It prints lines of a word and a number, as device.c does; samples are from before the write to the beginning of the
 * service routine; opened and armed are nanoseconds from before the opening, until BAR 0 was mapped and until the interrupt
 * was enabled. edu interrupts with MSI, e1000e with MSI-X.
 */
#include "receiver.h"

#include <linux/vfio.h>
#include <sys/ioctl.h>

/* As in ../board.go. The writer never sleeps. */
#define GAP_NS 500000
#define GAVE_UP_NS 3000000000

static volatile uint32_t *registers;

/* What differs between the devices. As in ../guest.go. */
struct board {
	const char *name;
	unsigned index;
	uint32_t enable[3][2]; /* register, value */
	uint32_t raise[2];
	uint32_t status[2]; /* register, mask: it has interrupted, and not been acknowledged */
	uint32_t acknowledge[2];
};

static const struct board boards[] = {
	{"edu", VFIO_PCI_MSI_IRQ_INDEX, {{0x64, ~0u}, {0x64, ~0u}, {0x64, ~0u}}, {0x60, 1}, {0x24, 1}, {0x64, 1}},
	{"e1000e", VFIO_PCI_MSIX_IRQ_INDEX, {{0xc0, ~0u}, {0xe4, 0x000cba98}, {0xd0, 0x100000}}, {0xc8, 0x100000}, {0xc8, 0x100000}, {0xc0, 0x100000}},
};

static const struct board *board;

static void set(const uint32_t change[2])
{
	registers[change[0] / 4] = change[1];
}

/* The clock comes first. What it was goes to where the writer looks when the interrupt has been acknowledged. */
static void service(void)
{
	called(0);
	if (!(registers[board->status[0] / 4] & board->status[1]))
		return;
	set(board->acknowledge);
	atomic_store(&shared->signals, atomic_load(&shared->last[0]));
}

static void *serve_interrupts(void *unused)
{
	begin();
	int set_fd = epoll_create1(EPOLL_CLOEXEC);
	struct epoll_event event = {.events = EPOLLIN | EPOLLET};
	if (set_fd < 0 || epoll_ctl(set_fd, EPOLL_CTL_ADD, fds[0], &event))
		die("epoll");
	for (;;) {
		int n = epoll_wait(set_fd, &event, 1, -1);
		if (n < 0 && errno != EINTR)
			die("epoll_wait");
		if (n == 1)
			service();
	}
	return unused;
}

/* Opens the device, and returns its descriptor. */
static int open_device(const char *address)
{
	char path[256], target[256];
	snprintf(path, sizeof path, "/sys/bus/pci/devices/%s/iommu_group", address);
	ssize_t n = readlink(path, target, sizeof target - 1);
	if (n < 0)
		die("%s", path);
	target[n] = 0;
	snprintf(path, sizeof path, "/dev/vfio/%s", strrchr(target, '/') + 1);
	int container = open("/dev/vfio/vfio", O_RDWR | O_CLOEXEC), group = open(path, O_RDWR | O_CLOEXEC);
	if (container < 0 || group < 0)
		die("open %s", path);
	if (ioctl(group, VFIO_GROUP_SET_CONTAINER, &container) || ioctl(container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU))
		die("add group to a container");
	int device = ioctl(group, VFIO_GROUP_GET_DEVICE_FD, address);
	if (device < 0)
		die("open %s", address);
	return device;
}

static struct vfio_region_info region(int device, unsigned index)
{
	struct vfio_region_info info = {.argsz = sizeof info, .index = index};
	if (ioctl(device, VFIO_DEVICE_GET_REGION_INFO, &info))
		die("region %u", index);
	return info;
}

static void enable_messages(int device)
{
	struct {
		struct vfio_irq_set set;
		int32_t fd;
	} arg = {{.argsz = sizeof arg, .flags = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER, .index = board->index, .count = 1}, fds[0]};
	if (ioctl(device, VFIO_DEVICE_SET_IRQS, &arg))
		die("enable the interrupt");
	struct vfio_region_info config = region(device, VFIO_PCI_CONFIG_REGION_INDEX);
	uint16_t command;
	if (pread(device, &command, sizeof command, config.offset + 4) != sizeof command)
		die("read COMMAND");
	command |= 6; /* memory, bus master */
	if (pwrite(device, &command, sizeof command, config.offset + 4) != sizeof command)
		die("write COMMAND");
}

/* Has the host deliver the message on the CPU that serves it. */
static void steer(const char *address)
{
	char line[512], wanted[128], path[64];
	snprintf(wanted, sizeof wanted, "[0](%s)", address);
	FILE *file = fopen("/proc/interrupts", "re");
	if (!file)
		die("/proc/interrupts");
	while (fgets(line, sizeof line, file)) {
		if (!strstr(line, wanted) || !strstr(line, "vfio-msi"))
			continue;
		fclose(file);
		snprintf(path, sizeof path, "/proc/irq/%d/smp_affinity_list", atoi(line));
		file = fopen(path, "we");
		if (!file || fprintf(file, "%d\n", cpu) < 0 || fclose(file))
			die("%s", path);
		return;
	}
	errno = 0;
	die("no host interrupt of %s", address);
}

static uint64_t now_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ull + t.tv_nsec;
}

int main(int argc, char **argv)
{
	if (argc != 7)
		die("want edu|e1000e ADDRESS WRITER-CPU CPU PRIORITY COUNT");
	for (unsigned i = 0; i < sizeof boards / sizeof *boards; i++)
		if (!strcmp(argv[1], boards[i].name))
			board = &boards[i];
	if (!board)
		die("no such device");
	cpu = number(argv[4]);
	priority = number(argv[5]);
	int count = number(argv[6]);
	shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (shared == MAP_FAILED)
		die("mmap");
	prctl(PR_SET_TIMERSLACK, 1);
	if ((fds[0] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) < 0)
		die("eventfd");

	uint64_t before_open = now_ns();
	int device = open_device(argv[2]);
	struct vfio_region_info bar = region(device, VFIO_PCI_BAR0_REGION_INDEX);
	registers = mmap(NULL, bar.size, PROT_READ | PROT_WRITE, MAP_SHARED, device, bar.offset);
	if (registers == MAP_FAILED)
		die("map BAR 0");
	uint64_t opened = now_ns();
	pthread_t thread;
	if ((errno = pthread_create(&thread, NULL, serve_interrupts, NULL)))
		die("pthread_create");
	while (!atomic_load(&shared->thread))
		usleep(100);
	enable_messages(device);
	steer(argv[2]);
	uint64_t armed = now_ns();
	for (int i = 0; i < 3; i++)
		set(board->enable[i]);
	place(0, number(argv[3]), 0);

	uint64_t begin_ns = now_ns(), begin_ticks = ticks(), lost = 0, n = 0;
	uint64_t *latency = calloc(count + 1, sizeof *latency);
	if (!latency)
		die("calloc");
	for (int i = 0; i < count; i++) {
		uint64_t before = atomic_load(&shared->signals), t = ticks_after();
		set(board->raise);
		uint64_t sent = now_ns();
		while (atomic_load(&shared->signals) == before && now_ns() - sent < GAVE_UP_NS)
			;
		if (atomic_load(&shared->signals) == before)
			lost++;
		else
			latency[n++] = atomic_load(&shared->signals) - t;
		for (uint64_t answered = now_ns(); now_ns() - answered < GAP_NS;)
			;
	}
	double ns_per_tick = (double)(now_ns() - begin_ns) / (ticks() - begin_ticks);
	printf("opened %" PRIu64 "\narmed %" PRIu64 "\n", opened - before_open, armed - before_open);
	printf("fired %d\nlost %" PRIu64 "\n", count, lost);
	for (uint64_t i = 0; i < n; i++)
		printf("sample %.0f\n", latency[i] * ns_per_tick);
	return 0;
}
