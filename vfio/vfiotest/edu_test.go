package vfiotest_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/irqbridge/irqbridge/vfio/internal/uapi"
	"github.com/irqbridge/irqbridge/vfio/vfiotest"
)

// Registers of edu's DMA engine, and its own memory.
const (
	eduSource      = 0x80
	eduDestination = 0x88
	eduCount       = 0x90
	eduCommand     = 0x98

	eduRun      = 1 << 0 // it is cleared at the end
	eduToMemory = 1 << 1 // from the device's buffer to memory

	eduBuffer = 0x40000 // for the engine, not in the BAR
	eduMost   = 4095    // bytes of one transfer: older QEMUs die of one that ends where the buffer does
)

// eduDriver copies memory by edu's engine: into the device and out again.
type eduDriver struct {
	*raw
	message *event
}

// start has edu master the bus and send its message to an eventfd.
func (d *eduDriver) start() {
	d.t.Helper()
	d.write(eduAck, 0xffffffff)
	d.change(busMaster, 0)
	d.enable(msi, 0, d.message.fd)
}

// stop ends it.
func (d *eduDriver) stop() {
	d.t.Helper()
	d.disable(msi)
	d.change(0, busMaster)
}

// move has the engine make one transfer, and waits until it is done. QEMU's takes a tenth of a second.
func (d *eduDriver) move(source, destination uint64, n int, command uint64) {
	d.t.Helper()
	r := d.registers()
	require.NoError(d.t, r.Store64(eduSource, source))
	require.NoError(d.t, r.Store64(eduDestination, destination))
	require.NoError(d.t, r.Store64(eduCount, uint64(n)))
	require.NoError(d.t, r.Store64(eduCommand, command|eduRun))
	require.Eventually(d.t, func() bool {
		v, err := r.Load64(eduCommand)
		return err == nil && v&eduRun == 0
	}, patience, tick)
}

// copy copies n bytes, in as many transfers as that takes.
func (d *eduDriver) copy(from, to uint64, n int) {
	d.t.Helper()
	for n > 0 {
		piece := min(n, eduMost)
		d.move(from, eduBuffer, piece, 0)
		d.move(eduBuffer, to, piece, eduToMemory)
		from, to, n = from+uint64(piece), to+uint64(piece), n-piece
	}
}

// send has edu send its message.
func (d *eduDriver) send() {
	d.t.Helper()
	d.write(eduRaise, 1)
	assert.Equal(d.t, uint64(1), d.message.await())
	d.write(eduAck, 1)
}

// TestEDUDriver has the cases of the kernel's own selftest vfio_pci_driver_test, for which edu's engine is the device that
// copies memory and sends a message.
func TestEDUDriver(t *testing.T) {
	const (
		half     = 0x8000
		iova     = 0x100000
		unmapped = 0x800000
	)
	inEachMode(t, func(t *testing.T, m *vfiotest.Machine, mode iommuMode) {
		m.Bind(t, m.EDU)
		d := &eduDriver{raw: mode.open(t, m, m.EDU), message: newEvent(t)}
		memory := d.memory(2*half, 0)
		require.NoError(t, d.mapAt(memory.Address(), iova, 2*half))
		from, to := memory.Bytes()[:half], memory.Bytes()[half:]
		prepare := func(n int) {
			for i := range n {
				from[i], to[i] = byte(i*7+1), 'y'
			}
		}
		same := func(t *testing.T, n int) {
			t.Helper()
			// By the accessors, which see what a device wrote.
			for off := 0; off < n-n%8; off += 8 {
				require.Equal(t, load64(t, memory, off), load64(t, memory, half+off), "at %d", off)
			}
		}
		d.start()
		defer func() {
			// edu has no reset: the engine's registers are left as they are after boot, the command's by a transfer that has no bit set.
			d.move(iova, eduBuffer, 8, 0)
			for _, register := range []int{eduSource, eduDestination, eduCount} {
				assert.NoError(t, d.registers().Store64(register, 0))
			}
			d.stop()
		}()

		t.Run("init_remove", func(t *testing.T) {
			for range 10 {
				d.stop()
				d.start()
			}
			d.send()
		})
		t.Run("memcpy_success", func(t *testing.T) {
			const n = 4 * eduMost
			prepare(n)
			d.copy(iova, iova+half, n)
			same(t, n)
			d.message.quiet(m, "nobody asked for a message")
		})
		t.Run("memcpy_from_unmapped_iova", func(t *testing.T) {
			prepare(64)
			d.copy(unmapped, iova+half, 64)
			for off := 0; off < 64; off += 8 {
				assert.Zero(t, load64(t, memory, half+off), "nothing was read")
			}
			d.message.quiet(m, "nobody asked for a message")
		})
		t.Run("memcpy_to_unmapped_iova", func(t *testing.T) {
			d.copy(iova, unmapped, 64)
			d.message.quiet(m, "nobody asked for a message")
		})
		t.Run("send_msi", func(*testing.T) { d.send() })
		t.Run("mix_and_match", func(t *testing.T) {
			for range 10 {
				prepare(64)
				d.copy(iova, iova+half, 64)
				same(t, 64)
				d.copy(unmapped, iova+half, 64)
				d.send()
			}
		})
		t.Run("memcpy_storm", func(t *testing.T) {
			rounds := 1000
			if m.Real {
				rounds = 10 // a fifth of a second each
			}
			prepare(eduMost)
			for range rounds {
				d.copy(iova, iova+half, eduMost)
			}
			same(t, eduMost)
			d.message.quiet(m, "nobody asked for a message")
		})
	})
}

func load64(t *testing.T, memory uapi.Memory, off int) uint64 {
	t.Helper()
	v, err := memory.Load64(off)
	require.NoError(t, err)
	return v
}
