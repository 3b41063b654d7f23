package connect_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/irqbridge/irqbridge/connect"
	"github.com/irqbridge/irqbridge/pci"
	"github.com/irqbridge/irqbridge/vfio"
	"github.com/irqbridge/irqbridge/vfio/vfiotest"
)

// nvme is a driver for an NVM Express disk (NVM Express Base Specification): it identifies the disk and reads blocks from several
// queues, each with an MSI-X message of its own. It is a whole driver: what is below is all that there is to it.
type nvme struct {
	dev        *vfio.Device
	registers  *vfio.BAR
	stride     uint64 // between doorbells
	interrupts *connect.Messages
	queues     []*nvmeQueue // queue 0 is for administration; message n is for queue n
}

// nvmeQueue is a pair of rings in memory: commands, which the disk reads, and their completions, which it writes.
type nvmeQueue struct {
	disk  *nvme
	id    int
	rings *vfio.DMA   // commands from 0, completions from nvmeCompletions
	tail  int         // of the commands; one goroutine submits
	head  int         // of the completions; the service routine's
	phase uint16      // of the completions of this round; the service routine's
	done  chan uint16 // the status of each completed command; has room for all that can be under way
}

// Registers in BAR 0, and what is in them.
const (
	nvmeCAP  = 0x00 // 8 bytes: bits 35:32 are log2 of the doorbells' stride, less 2
	nvmeCC   = 0x14
	nvmeCSTS = 0x1c
	nvmeAQA  = 0x24
	nvmeASQ  = 0x28
	nvmeACQ  = 0x30

	nvmeDoorbells = 0x1000

	nvmeEnable      = 1              // in CC
	nvmeEntrySizes  = 6<<16 | 4<<20  // in CC: log2 of 64 and 16 bytes
	nvmeReady       = 1              // in CSTS
	nvmeDepth       = 64             // of every ring, in entries
	nvmePage        = 4096           // CC's default
	nvmeCompletions = nvmeDepth * 64 // where they are in the memory of a queue; a multiple of the page
	nvmeContiguous  = 1              // in a queue's creation
	nvmeInterrupts  = 2              // the same
	nvmeBlock       = 512            // the only block size that this driver knows
)

// Commands of the administration queue, and of the others.
const (
	nvmeCreateSubmission  = 0x01
	nvmeCreateCompletions = 0x05
	nvmeIdentify          = 0x06

	nvmeRead = 0x02
)

// newNVMe starts the disk with that many queues for reading.
func newNVMe(dev *vfio.Device, queues int) (_ *nvme, err error) {
	d := &nvme{dev: dev}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.Close())
		}
	}()
	if d.registers, err = dev.BAR(0); err != nil {
		return nil, err
	}
	capabilities, err := d.registers.Read64(nvmeCAP)
	if err != nil {
		return nil, err
	}
	d.stride = 4 << (capabilities >> 32 & 0xf)
	for id := range queues + 1 {
		q := &nvmeQueue{disk: d, id: id, phase: 1, done: make(chan uint16, nvmeDepth)}
		d.queues = append(d.queues, q)
		if q.rings, err = dev.AllocDMA(nvmeCompletions + 16*nvmeDepth); err != nil {
			return nil, err
		}
	}
	if err := d.enable(false); err != nil {
		return nil, err
	}
	resources, err := connect.Assign(dev, connect.Policy{
		Kind: pci.KindMSIX, Messages: queues + 1, Affinity: connect.SpreadMessagesAcrossAllProcessors,
	})
	if err != nil {
		return nil, err
	}
	d.interrupts, err = resources.ConnectMessages(nil, func(message int) bool { return d.queues[message].serve() })
	if err != nil {
		return nil, err
	}
	admin := d.queues[0]
	if err := errors.Join(
		d.registers.Write32(nvmeAQA, (nvmeDepth-1)<<16|(nvmeDepth-1)),
		d.registers.Write64(nvmeASQ, admin.rings.IOVA()),
		d.registers.Write64(nvmeACQ, admin.rings.IOVA()+nvmeCompletions),
		d.enable(true),
	); err != nil {
		return nil, err
	}
	for _, q := range d.queues[1:] {
		size := uint32(nvmeDepth-1)<<16 | uint32(q.id)
		message := uint32(q.id) << 16
		if err := admin.do(nvmeCreateCompletions, 0, q.rings.IOVA()+nvmeCompletions, size, message|nvmeInterrupts|nvmeContiguous, 0); err != nil {
			return nil, err
		}
		if err := admin.do(nvmeCreateSubmission, 0, q.rings.IOVA(), size, message|nvmeContiguous, 0); err != nil {
			return nil, err
		}
	}
	return d, nil
}

// enable switches the controller on or off, and waits until it is.
func (d *nvme) enable(on bool) error {
	var command, ready uint32
	if on {
		command, ready = nvmeEntrySizes|nvmeEnable, nvmeReady
	}
	if err := d.registers.Write32(nvmeCC, command); err != nil {
		return err
	}
	for end := time.Now().Add(deadline); time.Now().Before(end); time.Sleep(time.Millisecond) {
		status, err := d.registers.Read32(nvmeCSTS)
		if err != nil || status&nvmeReady == ready {
			return err
		}
	}
	return fmt.Errorf("nvme: not ready: CC is 0x%x", command)
}

// Close stops the disk and gives back what it had. The device itself is the caller's.
func (d *nvme) Close() error {
	var errs []error
	if d.registers != nil {
		errs = append(errs, d.enable(false))
	}
	if d.interrupts != nil {
		errs = append(errs, d.interrupts.Disconnect())
	}
	for _, q := range d.queues {
		if q.rings != nil {
			errs = append(errs, q.rings.Close())
		}
	}
	return errors.Join(errs...)
}

// submit puts a command into the ring and rings the doorbell. Its identifier is its slot.
func (q *nvmeQueue) submit(opcode uint8, namespace uint32, memory uint64, cdw10, cdw11, cdw12 uint32) error {
	slot := q.tail
	var c [64]byte
	binary.LittleEndian.PutUint32(c[0:], uint32(slot)<<16|uint32(opcode))
	binary.LittleEndian.PutUint32(c[4:], namespace)
	binary.LittleEndian.PutUint64(c[24:], memory) // PRP 1: one page
	binary.LittleEndian.PutUint32(c[40:], cdw10)
	binary.LittleEndian.PutUint32(c[44:], cdw11)
	binary.LittleEndian.PutUint32(c[48:], cdw12)
	if _, err := q.rings.WriteAt(c[:], int64(slot)*64); err != nil {
		return err
	}
	q.tail = (slot + 1) % nvmeDepth
	return q.disk.registers.Write32(nvmeDoorbells+uint64(2*q.id)*q.disk.stride, uint32(q.tail))
}

// serve is the service routine of the queue's message: it takes the completions whose phase is this round's.
func (q *nvmeQueue) serve() bool {
	served := false
	for {
		last, err := q.rings.Load32(nvmeCompletions + 16*q.head + 12) // command, phase and status; the disk writes it last
		if err != nil || uint16(last>>16)&1 != q.phase {
			break
		}
		q.done <- uint16(last >> 17)
		served = true
		if q.head++; q.head == nvmeDepth {
			q.head, q.phase = 0, q.phase^1
		}
	}
	if served {
		// Tell the disk up to where. If it does not answer any more, who waits for the next completion will notice.
		_ = q.disk.registers.Write32(nvmeDoorbells+uint64(2*q.id+1)*q.disk.stride, uint32(q.head))
	}
	return served
}

// wait waits for any completion.
func (q *nvmeQueue) wait() error {
	select {
	case status := <-q.done:
		if status != 0 {
			return fmt.Errorf("nvme: queue %d: status 0x%x", q.id, status)
		}
		return nil
	case <-time.After(deadline):
		return fmt.Errorf("nvme: queue %d: no completion came", q.id)
	}
}

// do submits a command and waits for it.
func (q *nvmeQueue) do(opcode uint8, namespace uint32, memory uint64, cdw10, cdw11, cdw12 uint32) error {
	if err := q.submit(opcode, namespace, memory, cdw10, cdw11, cdw12); err != nil {
		return err
	}
	return q.wait()
}

// identify returns the page that describes the controller (1) or a namespace (0).
func (d *nvme) identify(what, namespace uint32) ([]byte, error) {
	b, err := d.dev.AllocDMA(nvmePage, vfio.FromDevice())
	if err != nil {
		return nil, err
	}
	p := make([]byte, nvmePage)
	if err = d.queues[0].do(nvmeIdentify, namespace, b.IOVA(), what, 0, 0); err == nil {
		_, err = b.ReadAt(p, 0)
	}
	return p, errors.Join(err, b.Close())
}

// read fills the buffer from block of namespace 1 on: one command for each page, all of them under way at once.
func (q *nvmeQueue) read(block uint32, b *vfio.DMA) error {
	const blocks = nvmePage / nvmeBlock
	pages := b.Size() / nvmePage
	for i := range pages {
		if err := q.submit(nvmeRead, 1, b.IOVA()+uint64(i*nvmePage), block+uint32(i*blocks), 0, blocks-1); err != nil {
			return err
		}
	}
	for range pages {
		if err := q.wait(); err != nil {
			return err
		}
	}
	return nil
}

// The driver above on the virtual machine's disk, of which every block is zero: a thousand reads from four queues.
func TestExampleNVMe(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		if !m.Real {
			t.Skip("the fake has no model of a disk; the virtual machine has one")
		}
		const queues, rounds, atOnce = 4, 25, 10
		dev := m.Open(t, m.NVMe)
		d, err := newNVMe(dev, queues)
		require.NoError(t, err)
		controller, err := d.identify(1, 0)
		require.NoError(t, err)
		assert.Equal(t, "irqbridge", strings.TrimSpace(string(controller[4:24])), "the serial number")
		namespace, err := d.identify(0, 1)
		require.NoError(t, err)
		assert.Equal(t, uint64(64<<20/nvmeBlock), binary.LittleEndian.Uint64(namespace), "its blocks")

		var readers sync.WaitGroup
		for _, q := range d.queues[1:] {
			readers.Go(func() {
				b, err := dev.AllocDMA(atOnce*nvmePage, vfio.FromDevice())
				if !assert.NoError(t, err) {
					return
				}
				dirty, got, zero := bytes.Repeat([]byte{0xa5}, b.Size()), make([]byte, b.Size()), make([]byte, b.Size())
				for i := range rounds {
					_, err := b.WriteAt(dirty, 0)
					assert.NoError(t, err)
					assert.NoError(t, q.read(uint32(i), b))
					_, err = b.ReadAt(got, 0)
					assert.NoError(t, err)
					assert.True(t, bytes.Equal(zero, got), "the blocks are the disk's")
				}
				assert.NoError(t, b.Close())
			})
		}
		readers.Wait()
		for n, i := range d.interrupts.Interrupts() {
			t.Logf("queue %d: %+v", n, i.Stats())
			assert.Positive(t, i.Stats().Claimed, "queue %d has a message of its own", n)
		}
		require.NoError(t, d.Close())
	})
}
