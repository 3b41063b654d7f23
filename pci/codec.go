package pci

import (
	"encoding/binary"
	"fmt"
)

// Bits is the width of the Windows whose bytes are read or written: Bits64 or Bits32. It changes the size of a
// descriptor, which the bytes themselves do not tell.
type Bits int

// The two widths. A CM_PARTIAL_RESOURCE_DESCRIPTOR has 20 bytes on 64-bit Windows and 16 on 32-bit Windows, where
// KAFFINITY has 4.
const (
	Bits64 Bits = 64
	Bits32 Bits = 32
)

// descriptorSize is the number of bytes of one descriptor.
func (b Bits) descriptorSize() (int, error) {
	switch b {
	case Bits64:
		return 20, nil
	case Bits32:
		return 16, nil
	}
	return 0, fmt.Errorf("descriptor of %d-bit Windows: want 64 or 32", int(b))
}

// partialDescriptor is CM_PARTIAL_RESOURCE_DESCRIPTOR of wdm.h, little endian and packed to 4 bytes. The meaning of the
// two words at 4 and 6 depends on the list that it is from.
type partialDescriptor struct {
	Type     ResourceType     // 0
	Share    ShareDisposition // 1
	Flags    InterruptFlags   // 2
	Word4    uint16           // Level, or Group of a raw message
	Word6    uint16           // Group, or MessageCount of a raw message
	Vector   uint32           // 8
	Affinity uint64           // 12: 8 bytes, or 4 on 32-bit Windows
}

func decodePartial(b []byte, bits Bits) (partialDescriptor, error) {
	size, err := bits.descriptorSize()
	if err != nil {
		return partialDescriptor{}, err
	}
	if len(b) != size {
		return partialDescriptor{}, fmt.Errorf("descriptor of %d bytes: want %d for %d-bit Windows "+
			"(64-bit has 20 a descriptor, 32-bit 16)", len(b), size, int(bits))
	}
	p := partialDescriptor{
		Type:   ResourceType(b[0]),
		Share:  ShareDisposition(b[1]),
		Flags:  InterruptFlags(binary.LittleEndian.Uint16(b[2:])),
		Word4:  binary.LittleEndian.Uint16(b[4:]),
		Word6:  binary.LittleEndian.Uint16(b[6:]),
		Vector: binary.LittleEndian.Uint32(b[8:]),
	}
	if bits == Bits64 {
		p.Affinity = binary.LittleEndian.Uint64(b[12:])
	} else {
		p.Affinity = uint64(binary.LittleEndian.Uint32(b[12:]))
	}
	return p, nil
}

func (p partialDescriptor) encode(bits Bits) ([]byte, error) {
	size, err := bits.descriptorSize()
	if err != nil {
		return nil, err
	}
	if bits == Bits32 && p.Affinity > 0xffffffff {
		return nil, fmt.Errorf("descriptor: affinity 0x%x has processors above 31, which 32-bit Windows has not; "+
			"encode it for 64 bits", p.Affinity)
	}
	b := make([]byte, 0, size)
	b = append(b, uint8(p.Type), uint8(p.Share))
	b = binary.LittleEndian.AppendUint16(b, uint16(p.Flags))
	b = binary.LittleEndian.AppendUint16(b, p.Word4)
	b = binary.LittleEndian.AppendUint16(b, p.Word6)
	b = binary.LittleEndian.AppendUint32(b, p.Vector)
	if bits == Bits64 {
		return binary.LittleEndian.AppendUint64(b, p.Affinity), nil
	}
	return binary.LittleEndian.AppendUint32(b, uint32(p.Affinity)), nil
}

// DecodeTranslated reads one descriptor of a translated list: exactly 20 bytes for Bits64, 16 for Bits32. It takes any
// values in them; Validate tells whether they make sense.
func DecodeTranslated(b []byte, bits Bits) (TranslatedDescriptor, error) {
	p, err := decodePartial(b, bits)
	if err != nil {
		return TranslatedDescriptor{}, err
	}
	return TranslatedDescriptor{
		Type: p.Type, Share: p.Share, Flags: p.Flags, Level: p.Word4, Group: p.Word6, Vector: p.Vector, Affinity: p.Affinity,
	}, nil
}

// Encode writes the bytes that DecodeTranslated reads. An affinity above 32 bits does not fit Bits32 and is an error.
func (d TranslatedDescriptor) Encode(bits Bits) ([]byte, error) {
	return partialDescriptor{
		Type: d.Type, Share: d.Share, Flags: d.Flags, Word4: d.Level, Word6: d.Group, Vector: d.Vector, Affinity: d.Affinity,
	}.encode(bits)
}

// DecodeRaw reads one descriptor of a raw list: exactly 20 bytes for Bits64, 16 for Bits32. It takes any values in
// them.
func DecodeRaw(b []byte, bits Bits) (RawDescriptor, error) {
	p, err := decodePartial(b, bits)
	if err != nil {
		return RawDescriptor{}, err
	}
	d := RawDescriptor{Type: p.Type, Share: p.Share, Flags: p.Flags, Vector: p.Vector, Affinity: p.Affinity}
	if d.isMessage() {
		d.Group, d.MessageCount = p.Word4, p.Word6
	} else {
		d.Level, d.Group = p.Word4, p.Word6
	}
	return d, nil
}

// Encode writes the bytes that DecodeRaw reads. A field that the descriptor's form has no bytes for is an error when it
// is not zero: Level of a message, MessageCount of a line.
func (d RawDescriptor) Encode(bits Bits) ([]byte, error) {
	p := partialDescriptor{Type: d.Type, Share: d.Share, Flags: d.Flags, Vector: d.Vector, Affinity: d.Affinity}
	if d.isMessage() {
		if d.Level != 0 {
			return nil, fmt.Errorf("raw descriptor of a message: level %d has no place in it; leave it 0", d.Level)
		}
		p.Word4, p.Word6 = d.Group, d.MessageCount
	} else {
		if d.MessageCount != 0 {
			return nil, fmt.Errorf("raw descriptor without the message flag: message count %d has no place in it; "+
				"leave it 0", d.MessageCount)
		}
		p.Word4, p.Word6 = d.Level, d.Group
	}
	return p.encode(bits)
}

// isMessage tells which form of the union is in use. The flags of other resource types use the same bit for other
// things (CM_RESOURCE_MEMORY_WRITE_ONLY), so that the type counts too.
func (d RawDescriptor) isMessage() bool {
	return d.Type == ResourceInterrupt && d.Flags.Message()
}
