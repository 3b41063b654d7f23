package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/irqbridge/irqbridge/vfio/host"
)

// deaf is a receiver that does not call back for the interrupt that is the first after a warm-up of 150.
const deaf = `
#include "receiver.h"
static void *run(void *unused)
{
	begin();
	for (int i = 0;; i++) {
		uint64_t count;
		if (read(fds[0], &count, sizeof count) != sizeof count)
			die("read");
		counted(count);
		if (i != 150)
			called(0);
	}
	return unused;
}
int main(int argc, char **argv)
{
	prepare(argc, argv, 0);
	pthread_t thread;
	if (pthread_create(&thread, NULL, run, NULL))
		die("pthread_create");
	while (!atomic_load(&shared->thread))
		usleep(100);
	serve();
	return 0;
}
`

// TestMain lets this test binary be the receivers in Go, as the program is.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && inner[os.Args[1]] != nil {
		main()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// small is a bench without SCHED_FIFO, with the peers that need no library.
func small(t *testing.T) *bench {
	t.Helper()
	b := &bench{peers: t.TempDir()}
	var err error
	b.self, err = os.Executable()
	require.NoError(t, err)
	allowed, err := host.New("/").AllowedCPUs()
	require.NoError(t, err)
	b.cpus.device = allowed.CPUs()[0]
	b.cpus.receiver = allowed.CPUs()[allowed.Len()-1]
	require.NoError(t, os.WriteFile(filepath.Join(b.peers, "deaf.c"), []byte(deaf), 0o600))
	for _, source := range []string{"c/device.c", "c/plain.c", "c/burn.c", b.peers + "/deaf.c"} {
		name := source[:len(source)-2]
		out, err := exec.Command("gcc", "-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-pthread", "-Ic",
			"-o", filepath.Join(b.peers, filepath.Base(name)), source).CombinedOutput()
		require.NoError(t, err, "gcc: %s", out)
	}
	return b
}

// Every interrupt is answered, by peers and by irqbridge, however many vectors there are; and one that is not is reported.
func TestMeasure(t *testing.T) {
	b := small(t)
	for _, c := range []struct {
		name    string
		s       scenario
		v       variant
		samples int
	}{
		{"read", scenario{mode: "closed", vectors: 1, samples: 50, gap: [2]int{50, 150}}, cRead, 50},
		{"epoll", scenario{mode: "closed", vectors: 3, samples: 50, gap: [2]int{50, 150}}, cEpoll, 50},
		{"epoll-ET, same CPU", scenario{mode: "closed", sameCPU: true, vectors: 300, samples: 50, gap: [2]int{50, 150}}, cEpollET, 50},
		{"hybrid", scenario{mode: "closed", vectors: 1, samples: 50, gap: [2]int{50, 150}}, cHybrid, 50},
		{"go read", scenario{mode: "closed", vectors: 1, samples: 50, gap: [2]int{50, 150}}, readInGo, 50},
		{"irqbridge", scenario{mode: "closed", vectors: 300, samples: 50, gap: [2]int{50, 150}}, block, 50},
		{"irqbridge cooperative", scenario{mode: "closed", vectors: 1, samples: 50, gap: [2]int{50, 150}}, cooperative, 50},
		{"irqbridge hybrid", scenario{mode: "closed", vectors: 1, samples: 50, gap: [2]int{50, 150}}, hybrid, 50},
		{"irqbridge poll", scenario{mode: "closed", vectors: 1, samples: 50, gap: [2]int{50, 150}}, poll, 50},
		{"irqbridge, open loop", scenario{mode: "open", vectors: 1, duration: 300e6, gap: [2]int{50, 150}}, block, 1},
		{"irqbridge, under load", scenario{mode: "open", load: "gc", vectors: 1, duration: 300e6, gap: [2]int{50, 150}}, block, 1},
		{"irqbridge, flood", scenario{mode: "flood", vectors: 8, duration: 20e6}, block, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.s.procs = 3
			if c.s.load == "" {
				c.s.load = "none"
			}
			r, err := b.measure(&c.s, c.v, 1)
			require.NoError(t, err)
			assert.GreaterOrEqual(t, len(r.samples), c.samples)
			for _, ns := range r.samples {
				assert.GreaterOrEqual(t, ns, 0.0)
			}
			if c.s.mode == "flood" {
				assert.Positive(t, r.rate("flood_calls"))
			}
		})
	}
	t.Run("lost", func(t *testing.T) {
		s := &scenario{mode: "closed", vectors: 1, load: "none", warmup: 150, samples: 2, gap: [2]int{50, 150}}
		_, err := b.measure(s, variant{name: "deaf", program: "deaf", args: []string{"-"}, drains: true}, 1)
		require.ErrorContains(t, err, "1 of 152 interrupts were lost")
	})
	t.Run("no such program", func(t *testing.T) {
		_, err := b.measure(&scenario{mode: "closed", vectors: 1, load: "none"}, variant{program: "nobody", args: []string{"-"}}, 1)
		require.ErrorIs(t, err, os.ErrNotExist)
	})
	t.Run("a receiver that fails", func(t *testing.T) {
		_, err := b.measure(&scenario{mode: "closed", vectors: 1, load: "none"}, variant{program: "plain", args: []string{"nothing"}}, 1)
		require.ErrorContains(t, err, "plain: no such variant")
	})
}
