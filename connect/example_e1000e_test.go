package connect_test

import (
	"encoding/binary"
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

// nic is a driver for a network card, Intel's 82574 (its datasheet is Intel's document 317694): with the MAC looped back,
// what it sends it receives. One ring for each direction, one MSI-X message for each. It is a whole driver: what is below
// is all that there is to it.
type nic struct {
	registers      *vfio.BAR
	interrupts     *connect.Messages
	receive, send  *nicRing
	packets        chan []byte // received; a packet that nobody takes is dropped, as by any card
	sent           chan struct{}
	stationAddress [6]byte
}

// nicRing is a ring of descriptors in memory, each with a buffer of its own behind the ring.
type nicRing struct {
	memory   *vfio.DMA
	next     int    // receive: that the card fills next; send: that is free
	register uint64 // of the first register of the ring
}

// Registers in BAR 0.
const (
	nicCTRL   = 0x0000
	nicSTATUS = 0x0008
	nicICR    = 0x00c0 // why it interrupts; ones clear
	nicIMS    = 0x00d0 // what may interrupt; ones set
	nicIMC    = 0x00d8 // ones clear it
	nicIVAR   = 0x00e4 // which message is for what
	nicRCTL   = 0x0100
	nicTCTL   = 0x0400
	nicRDBA   = 0x2800 // of each ring: base (8 bytes), length, and further on head and tail
	nicTDBA   = 0x3800
	nicRAL    = 0x5400 // its own address, 6 bytes
	nicLength = 0x08   // from the base
	nicHead   = 0x10
	nicTail   = 0x18
)

// What is in them, and in descriptors.
const (
	nicReset      = 1 << 26 // in CTRL
	nicSetLinkUp  = 1 << 6
	nicLinkUp     = 1 << 1 // in STATUS
	nicReceiveOn  = 1 << 1 // in RCTL
	nicLoopback   = 1 << 6
	nicBroadcast  = 1 << 15
	nicStripCRC   = 1 << 26
	nicSendOn     = 1<<1 | 1<<3 // in TCTL: on, and short packets are padded
	nicReceived   = 1 << 20     // in ICR and IMS
	nicSent       = 1 << 22
	nicRoutes     = 0x8 | 0x9<<8 // in IVAR: received is message 0, sent is message 1
	nicDone       = 1 << 0       // in the status of a descriptor
	nicWholeSend  = 1<<0 | 1<<1  // command of a descriptor: end of packet, append the CRC
	nicReportDone = 1 << 3

	nicDescriptor = 16 // bytes: the address of the buffer, its length and, from byte 12 on, the status
	nicEntries    = 32
	nicBuffers    = 4096 // where they are in the ring's memory
	nicBuffer     = 2048 // bytes of each
)

// newNIC starts the card in loopback.
func newNIC(dev *vfio.Device) (_ *nic, err error) {
	e := &nic{packets: make(chan []byte, nicEntries), sent: make(chan struct{}, nicEntries)}
	defer func() {
		if err != nil {
			err = errors.Join(err, e.Close())
		}
	}()
	if e.registers, err = dev.BAR(0); err != nil {
		return nil, err
	}
	if err := e.reset(); err != nil {
		return nil, err
	}
	for i := range e.stationAddress {
		word, err := e.registers.Read32(nicRAL + uint64(i&^3))
		if err != nil {
			return nil, err
		}
		e.stationAddress[i] = byte(word >> (8 * (i % 4)))
	}
	if e.receive, err = e.newRing(dev, nicRDBA); err != nil {
		return nil, err
	}
	if e.send, err = e.newRing(dev, nicTDBA); err != nil {
		return nil, err
	}
	resources, err := connect.Assign(dev, connect.Policy{Kind: pci.KindMSIX, Messages: 2})
	if err != nil {
		return nil, err
	}
	if e.interrupts, err = resources.ConnectMessages(nil, e.serve); err != nil {
		return nil, err
	}
	return e, errors.Join(
		e.registers.Write32(nicIVAR, nicRoutes),
		e.registers.Write32(nicIMS, nicReceived|nicSent),
		e.registers.Write32(nicCTRL, nicSetLinkUp),
		e.await(nicSTATUS, nicLinkUp, nicLinkUp), // it receives nothing before, not even from itself
		e.registers.Write32(nicTCTL, nicSendOn),
		e.registers.Write32(nicRCTL, nicReceiveOn|nicLoopback|nicBroadcast|nicStripCRC),
		e.registers.Write32(nicRDBA+nicTail, nicEntries-1), // all but one are the card's: full and empty must differ
	)
}

// reset has the card start anew, without interrupts.
func (e *nic) reset() error {
	if err := e.registers.Write32(nicCTRL, nicReset); err != nil {
		return err
	}
	if err := e.await(nicCTRL, nicReset, 0); err != nil {
		return err
	}
	return e.registers.Write32(nicIMC, 0xffffffff)
}

// await waits until a bit of a register is as it should be.
func (e *nic) await(register uint64, bit, want uint32) error {
	for end := time.Now().Add(deadline); ; time.Sleep(time.Millisecond) {
		v, err := e.registers.Read32(register)
		switch {
		case err != nil || v&bit == want:
			return err
		case time.Now().After(end):
			return fmt.Errorf("e1000e: register 0x%x stays 0x%x", register, v)
		}
	}
}

// newRing makes a ring whose descriptors have their buffers, and tells the card.
func (e *nic) newRing(dev *vfio.Device, register uint64) (*nicRing, error) {
	memory, err := dev.AllocDMA(nicBuffers + nicEntries*nicBuffer)
	if err != nil {
		return nil, err
	}
	for i := range nicEntries {
		if err := memory.Store64(i*nicDescriptor, memory.IOVA()+uint64(nicBuffers+i*nicBuffer)); err != nil {
			return nil, err
		}
	}
	return &nicRing{memory: memory, register: register}, errors.Join(
		e.registers.Write32(register, uint32(memory.IOVA())),
		e.registers.Write32(register+4, uint32(memory.IOVA()>>32)),
		e.registers.Write32(register+nicLength, nicEntries*nicDescriptor),
		e.registers.Write32(register+nicHead, 0),
		e.registers.Write32(register+nicTail, 0),
	)
}

// serve is the service routine: it acknowledges first, so that what comes from then on interrupts again.
func (e *nic) serve(message int) bool {
	if message == 0 {
		return e.registers.Write32(nicICR, nicReceived) == nil && e.take()
	}
	if e.registers.Write32(nicICR, nicSent) != nil {
		return false
	}
	select {
	case e.sent <- struct{}{}:
	default:
	}
	return true
}

// take passes on what was received, and gives the descriptors back to the card.
func (e *nic) take() bool {
	r, taken := e.receive, false
	for {
		at := r.next * nicDescriptor
		status, err := r.memory.Load32(at + 12)
		if err != nil || status&nicDone == 0 {
			return taken
		}
		length, _ := r.memory.Load16(at + 8) // what is in the same memory as the status can be read as well
		p := make([]byte, min(int(length), nicBuffer))
		_, _ = r.memory.ReadAt(p, int64(nicBuffers+r.next*nicBuffer))
		select {
		case e.packets <- p:
		default:
		}
		_ = r.memory.Store32(at+12, 0)
		if e.registers.Write32(nicRDBA+nicTail, uint32(r.next)) != nil {
			return taken
		}
		r.next, taken = (r.next+1)%nicEntries, true
	}
}

// Send sends a packet and waits until the card has taken it. One goroutine sends.
func (e *nic) Send(p []byte) error {
	if len(p) > nicBuffer {
		return fmt.Errorf("e1000e: a packet of %d bytes; want %d or fewer", len(p), nicBuffer)
	}
	r := e.send
	at := r.next * nicDescriptor
	if _, err := r.memory.WriteAt(p, int64(nicBuffers+r.next*nicBuffer)); err != nil {
		return err
	}
	r.next = (r.next + 1) % nicEntries
	if err := errors.Join(
		r.memory.Store32(at+8, uint32(len(p))|(nicWholeSend|nicReportDone)<<24),
		r.memory.Store32(at+12, 0),
		e.registers.Write32(nicTDBA+nicTail, uint32(r.next)),
	); err != nil {
		return err
	}
	select {
	case <-e.sent:
		status, err := r.memory.Load32(at + 12)
		if err == nil && status&nicDone == 0 {
			err = errors.New("e1000e: it interrupted for a packet that it has not sent")
		}
		return err
	case <-time.After(deadline):
		return errors.New("e1000e: the packet is not sent")
	}
}

// Close stops the card and gives back what the driver had. The device itself is the caller's.
func (e *nic) Close() error {
	var errs []error
	if e.registers != nil {
		errs = append(errs, e.reset())
	}
	if e.interrupts != nil {
		errs = append(errs, e.interrupts.Disconnect())
	}
	for _, r := range []*nicRing{e.receive, e.send} {
		if r != nil {
			errs = append(errs, r.memory.Close())
		}
	}
	return errors.Join(errs...)
}

// The driver above on the virtual machine's card, which receives what it sends.
func TestExampleE1000E(t *testing.T) {
	vfiotest.Run(t, func(t *testing.T, m *vfiotest.Machine) {
		if !m.Real {
			t.Skip("the fake's card interrupts, but has no rings; the virtual machine's has")
		}
		e, err := newNIC(m.Open(t, m.E1000E))
		require.NoError(t, err)
		assert.NotEmpty(t, e.stationAddress)
		packet := append(e.stationAddress[:6:6], e.stationAddress[:]...)
		packet = binary.BigEndian.AppendUint16(packet, 0x88b5) // an Ethernet type for experiments
		for n := range 100 {                                   // three times around the rings
			want := packet
			for i := range 50 + 10*n {
				want = append(want, byte(i+n))
			}
			require.NoError(t, e.Send(want))
			assert.Equal(t, want, received(t, e.packets), "packet %d", n)
		}
		for n, i := range e.interrupts.Interrupts() {
			assert.Positive(t, i.Stats().Claimed, "message %d", n)
		}
		time.Sleep(time.Millisecond) // QEMU's card must not lose its messages while it holds one back, see rig.settle
		require.NoError(t, e.Close())
	})
}
