package connect_test

import (
	"os"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/irqbridge/irqbridge/connect"
	"github.com/irqbridge/irqbridge/vfio"
	"github.com/irqbridge/irqbridge/vfio/vfiotest"
)

// roundsEnv is how many rounds TestRounds makes, where the number of every day is not enough: scripts/test --all asks for
// ten thousand.
const roundsEnv = "IRQBRIDGE_ROUNDS"

// Rounds of connect and disconnect while the messages fire without a pause. Each round begins with a device whose
// interrupts are disabled and ends so, and so it also starts and ends a dispatcher's thread, its epoll set and eventfds.
func TestRounds(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		rounds := 100
		if m.Real {
			rounds = 40 // each is a third of a second of emulation
		}
		if text := os.Getenv(roundsEnv); text != "" {
			var err error
			rounds, err = strconv.Atoi(text)
			require.NoError(t, err)
		}
		r := e1000e(t, m)
		// The storm keeps one P busy and the interrupts another: without a third each step of a round waits for somebody's slice.
		require.NoError(t, r.resources.SetDispatch(connect.Dispatch{Reserve: true}))
		var late, calls atomic.Int64
		round := func() {
			var gone atomic.Bool
			var live [2]*connect.Interrupt
			served := [2]chan struct{}{make(chan struct{}, 1), make(chan struct{}, 1)}
			for n := range live {
				live[n] = r.connect(n, func(*connect.Interrupt, any) bool {
					if gone.Load() {
						late.Add(1)
					}
					calls.Add(1)
					tell(served[n], struct{}{})
					return true
				})
			}
			for n, i := range live {
				received(t, served[n])
				require.NoError(t, disconnect(i))
			}
			gone.Store(true)
		}

		stop := make(chan struct{})
		var storm sync.WaitGroup
		defer storm.Wait()
		defer close(stop)
		storm.Go(func() {
			for n := 0; ; n = 1 - n {
				select {
				case <-stop:
					return
				default:
					_ = r.dev.TriggerIRQ(vfio.MSIX, n, 1) // refused while message n is not connected
					runtime.Gosched()                     // where there is one P the others are to have it too
				}
			}
		})
		for range 20 {
			round() // what is made once is there now, the runtime's threads too
		}
		files, goroutines, threads := openFiles(t), runtime.NumGoroutine(), countThreads(t)
		known, began := goleak.IgnoreCurrent(), time.Now()
		for range rounds {
			round()
		}
		took := time.Since(began)
		require.NoError(t, goleak.Find(known))
		t.Logf("%d rounds in %v, %d calls", rounds, took.Round(time.Millisecond), calls.Load())
		t.Logf("before: %d files, %d goroutines, %d threads", len(files), goroutines, threads)
		after := countThreads(t)
		t.Logf("after:  %d files, %d goroutines, %d threads", len(openFiles(t)), runtime.NumGoroutine(), after)
		assert.Zero(t, late.Load(), "calls after Disconnect")
		assert.Equal(t, files, openFiles(t))
		assert.Less(t, after, threads+10, "the runtime adds some for itself and keeps them, but not one a round")
	})
}
