package connect_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/irqbridge/irqbridge/connect"
	"github.com/irqbridge/irqbridge/pci"
	"github.com/irqbridge/irqbridge/vfio"
	"github.com/irqbridge/irqbridge/vfio/vfiotest"
)

// eduCopier is a driver for the DMA engine of QEMU's edu (docs/specs/edu.rst): it moves up to 4096 bytes between memory and
// a buffer in the device, and interrupts when it is done. It is a whole driver: what is below is all that there is to it.
type eduCopier struct {
	registers  *vfio.BAR
	memory     *vfio.DMA
	interrupts *connect.Messages
	done       chan error
}

// The device, as its specification has it. All registers are in BAR 0.
const (
	edcStatus      = 0x24 // why it interrupts
	edcAcknowledge = 0x64
	edcSource      = 0x80
	edcDestination = 0x88
	edcCount       = 0x90
	edcCommand     = 0x98

	edcDone     = 0x100 // in edcStatus
	edcRun      = 0x1   // in edcCommand
	edcToMemory = 0x2
	edcNotify   = 0x4 // interrupt at the end

	edcBuffer     = 0x40000 // the address of the device's buffer, for its engine
	edcBufferSize = 4095    // of 4096: older QEMUs die of a transfer that ends where the buffer does
	edcBits       = 28      // of an address; the device drops the rest
)

// newEDUCopier starts the driver on an open device.
func newEDUCopier(dev *vfio.Device, p connect.Policy) (*eduCopier, error) {
	registers, err := dev.BAR(0)
	if err != nil {
		return nil, err
	}
	memory, err := dev.AllocDMA(edcBufferSize, vfio.AddressBits(edcBits))
	if err != nil {
		return nil, err
	}
	e := &eduCopier{registers: registers, memory: memory, done: make(chan error, 1)}
	resources, err := connect.Assign(dev, p)
	if err != nil {
		return nil, errors.Join(err, memory.Close())
	}
	if e.interrupts, err = resources.ConnectMessages(nil, e.serve); err != nil {
		return nil, errors.Join(err, resources.Release(), memory.Close())
	}
	if err := dev.SetBusMaster(true); err != nil { // on already with a message, but not with the line
		return nil, errors.Join(err, e.Close())
	}
	return e, nil
}

// serve is the service routine: it quiets the device and tells whoever waits.
func (e *eduCopier) serve(int) bool {
	status, err := e.registers.Read32(edcStatus)
	if err != nil || status == 0 {
		return false // it is not this device that interrupted
	}
	err = e.registers.Write32(edcAcknowledge, status)
	if status&edcDone != 0 {
		select {
		case e.done <- err:
		default: // nobody waits
		}
	}
	return true
}

// run has the engine move n bytes, and waits for the interrupt.
func (e *eduCopier) run(source, destination uint64, n int, command uint64) error {
	for _, w := range []struct{ register, value uint64 }{
		{edcSource, source},
		{edcDestination, destination},
		{edcCount, uint64(n)},
		{edcCommand, command | edcRun | edcNotify},
	} {
		if err := e.registers.Write64(w.register, w.value); err != nil {
			return err
		}
	}
	select {
	case err := <-e.done:
		return err
	case <-time.After(deadline):
		return errors.New("edu: the engine did not interrupt")
	}
}

// WriteAt copies p into the device's buffer.
func (e *eduCopier) WriteAt(p []byte, off int64) (int, error) {
	if off < 0 || off+int64(len(p)) > edcBufferSize {
		return 0, fmt.Errorf("edu: %d bytes at %d are not within its buffer", len(p), off)
	}
	if _, err := e.memory.WriteAt(p, 0); err != nil {
		return 0, err
	}
	if err := e.run(e.memory.IOVA(), edcBuffer+uint64(off), len(p), 0); err != nil {
		return 0, err
	}
	return len(p), nil
}

// ReadAt copies from the device's buffer into p.
func (e *eduCopier) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 || off+int64(len(p)) > edcBufferSize {
		return 0, fmt.Errorf("edu: %d bytes at %d are not within its buffer", len(p), off)
	}
	if err := e.run(edcBuffer+uint64(off), e.memory.IOVA(), len(p), edcToMemory); err != nil {
		return 0, err
	}
	return e.memory.ReadAt(p, 0)
}

// Close ends the driver. The device is quiet: nobody has it run.
func (e *eduCopier) Close() error { return errors.Join(e.interrupts.Disconnect(), e.memory.Close()) }

// The driver above, on the fake and on the virtual machine's edu.
func TestExampleDMA(t *testing.T) {
	for _, kind := range []pci.Kind{pci.KindINTx, pci.KindMSI} {
		t.Run(kind.String(), func(t *testing.T) { testEDUCopier(t, kind) })
	}
}

func testEDUCopier(t *testing.T, kind pci.Kind) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		e, err := newEDUCopier(m.Open(t, m.EDU), connect.Policy{Kind: kind})
		require.NoError(t, err)
		want := make([]byte, edcBufferSize)
		for i := range want {
			want[i] = byte(i ^ i>>8)
		}
		n, err := e.WriteAt(want, 0)
		require.NoError(t, err)
		assert.Equal(t, len(want), n)
		require.NoError(t, e.memory.View(func(p []byte) { clear(p) }))
		got := make([]byte, 1000)
		_, err = e.ReadAt(got, 500)
		require.NoError(t, err)
		assert.Equal(t, want[500:1500], got)
		_, err = e.ReadAt(got, edcBufferSize-999)
		require.Error(t, err)
		require.NoError(t, e.Close())
		assert.Equal(t, uint64(2), e.interrupts.Interrupts()[0].Stats().Claimed, "one interrupt each")
	})
}
