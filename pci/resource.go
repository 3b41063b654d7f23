package pci

import (
	"errors"
	"fmt"
	"math/bits"
)

// ResourceList is what IRP_MN_START_DEVICE hands to a driver: the same resources twice, in the same order, raw to
// program the device and translated to connect to it.
type ResourceList struct {
	InterfaceType int32  // INTERFACE_TYPE of wdm.h: InterfacePCIBus
	BusNumber     uint32 // of the bus that the device is on
	Raw           []RawDescriptor
	Translated    []TranslatedDescriptor
}

// InterfacePCIBus is PCIBus of INTERFACE_TYPE, wdm.h.
const InterfacePCIBus int32 = 5

// Message is one interrupt of a resource list: a line, or one message.
type Message struct {
	Index int // counted from 0 over the interrupts of the list; for messages the message number of the device

	// Raw is the descriptor that the interrupt comes from, unchanged: all messages of one MSI descriptor share it.
	Raw RawDescriptor

	// Translated is the descriptor to connect this interrupt by: its Vector is that of this message.
	Translated TranslatedDescriptor
}

// The most messages that one function has: PCI Express Base Specification 7.7.1 (MSI) and 7.7.2 (MSI-X).
const (
	maxMSIMessages  = 32
	maxMSIXMessages = 2048
)

// allProcessors is the affinity of an interrupt that any processor may take, (KAFFINITY)-1.
const allProcessors = ^uint64(0)

// Validate checks that the two halves of the list belong together and that each interrupt in it can be connected. The
// error names the index. Resources of other types are only compared by type.
func (l ResourceList) Validate() error {
	if err := l.validatePairs(); err != nil {
		return err
	}
	for i, raw := range l.Raw {
		translated := l.Translated[i]
		fail := func(err error) error { return fmt.Errorf("resource list: descriptor %d: %w", i, err) }
		if raw.Type != ResourceInterrupt {
			continue
		}
		if raw.Flags.Message() != translated.Flags.Message() {
			return fail(fmt.Errorf("raw flags 0x%04x and translated flags 0x%04x differ in message",
				uint16(raw.Flags), uint16(translated.Flags)))
		}
		if raw.Flags.Message() && (raw.MessageCount == 0 || raw.MessageCount > maxMSIMessages) {
			return fail(fmt.Errorf("message count %d is not 1 to %d; MSI-X has one descriptor for each message",
				raw.MessageCount, maxMSIMessages))
		}
		if err := translated.Validate(); err != nil {
			return fail(err)
		}
	}
	return nil
}

// validatePairs checks that both halves list the same types of resource in the same order.
func (l ResourceList) validatePairs() error {
	if len(l.Raw) != len(l.Translated) {
		return fmt.Errorf("resource list: %d raw and %d translated descriptors; they are to describe the same resources "+
			"in the same order", len(l.Raw), len(l.Translated))
	}
	for i, raw := range l.Raw {
		if t := l.Translated[i].Type; raw.Type != t {
			return fmt.Errorf("resource list: descriptor %d: raw type %d (%s) and translated type %d (%s) differ",
				i, uint8(raw.Type), raw.Type, uint8(t), t)
		}
	}
	return nil
}

// Expand gives one entry for each interrupt of the list and leaves other resources out. Windows has one descriptor for
// all messages of a device with MSI: with a message count of n it gives n entries whose vectors follow each other, as
// Microsoft's driver framework does.
//
// Expand never fails: descriptors without a partner in the other half are left out, and a message count of 0 is taken
// for 1. Validate finds both.
func (l ResourceList) Expand() []Message {
	var messages []Message
	for i := range min(len(l.Raw), len(l.Translated)) {
		raw, translated := l.Raw[i], l.Translated[i]
		if translated.Type != ResourceInterrupt {
			continue
		}
		count := 1
		if raw.isMessage() {
			count = max(1, int(raw.MessageCount))
		}
		for range count {
			messages = append(messages, Message{Index: len(messages), Raw: raw, Translated: translated})
			translated.Vector++
		}
	}
	return messages
}

// RawResources gives the raw descriptors of the interrupts that the function asks for, as the bus driver of Windows
// does: one for the line, one with a message count for MSI, one for each message for MSI-X. Messages is how many of
// them are wanted, 0 for all that the function has; MSI takes powers of two only.
//
// A line is shared and level-sensitive, its level and vector are the interrupt line register: 0 and 0xff there mean
// that the firmware left no number, and the caller knows better. Messages are exclusive and latched, their vectors are
// tokens that count down from MessageToken. The affinity is any processor.
func RawResources(f *Function, kind Kind, messages int) ([]RawDescriptor, error) {
	available, err := f.messages(kind)
	if err != nil {
		return nil, err
	}
	switch {
	case messages == 0:
		messages = available
	case messages < 0:
		return nil, fmt.Errorf("%s: %d interrupts are wanted; want 1 or more, or 0 for all", kind, messages)
	case messages > available:
		return nil, fmt.Errorf("%s: %d interrupts are wanted and the device has %d", kind, messages, available)
	}

	if kind == KindINTx {
		line := uint16(f.INTx.Line)
		return []RawDescriptor{{
			Type: ResourceInterrupt, Share: ShareShared, Level: line, Vector: uint32(line), Affinity: allProcessors,
		}}, nil
	}
	message := RawDescriptor{
		Type: ResourceInterrupt, Share: ShareDeviceExclusive, Flags: InterruptMessage | InterruptLatched,
		MessageCount: 1, Vector: MessageToken, Affinity: allProcessors,
	}
	if kind == KindMSI {
		if bits.OnesCount(uint(messages)) != 1 {
			return nil, fmt.Errorf("msi: %d messages are wanted and MSI takes powers of two; ask for %d",
				messages, 1<<(bits.Len(uint(messages))-1))
		}
		message.MessageCount = uint16(messages)
		message.Vector -= uint32(messages) - 1 // the block's last vector is the token, as in a requirement list
		return []RawDescriptor{message}, nil
	}
	descriptors := make([]RawDescriptor, messages)
	for i := range descriptors {
		descriptors[i] = message
		message.Vector--
	}
	return descriptors, nil
}

// messages is the number of interrupts of that kind that the function has, 1 or more; none is an error.
func (f *Function) messages(kind Kind) (int, error) {
	switch {
	case kind == KindINTx && f.INTx != nil:
		return 1, nil
	case kind == KindINTx:
		return 0, errors.New("intx: the device has no interrupt line (its interrupt pin register reads none); use msi or msix")
	case kind == KindMSI && f.MSI != nil && f.MSI.Messages == 0:
		return 0, fmt.Errorf("msi: control word 0x%04x has a reserved number of messages", f.MSI.Control)
	case kind == KindMSI && f.MSI != nil:
		return f.MSI.Messages, nil
	case kind == KindMSIX && f.MSIX != nil:
		return f.MSIX.Messages, nil
	case kind != KindMSI && kind != KindMSIX:
		return 0, fmt.Errorf("%s is no kind of interrupt; want intx, msi or msix", kind)
	case f.Truncated:
		return 0, fmt.Errorf("%s: not among the capabilities in the %d bytes that were read; read the whole config space as root",
			kind, f.Size)
	}
	return 0, fmt.Errorf("%s: the device has no such capability", kind)
}
