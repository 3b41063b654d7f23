package pci

import (
	"encoding/json"
	"fmt"
)

// BAR is a base address register as it reads. Its size is not in configuration space; the operating system finds it
// by writing to the register, and Function.SetSizes takes it from there.
//
// A register that reads zero has no BAR: it is either not implemented, or a 32-bit memory BAR without an address, and
// the bytes cannot tell which.
type BAR struct {
	Index        int     `json:"index"` // 0 to 5: the register's number; a 64-bit BAR also takes the next one
	Type         BARType `json:"type"`
	Prefetchable bool    `json:"prefetchable"`   // memory only: reads have no side effects
	Address      uint64  `json:"-"`              // on the bus, without the type bits; 0 when none was assigned
	Size         uint64  `json:"size,omitempty"` // bytes; 0 when it is not known, see Function.SetSizes
}

// MarshalJSON writes the address as a string in hexadecimal.
func (b BAR) MarshalJSON() ([]byte, error) {
	type fields BAR // without this method
	return json.Marshal(struct {
		fields
		Address Hex `json:"address"`
	}{fields(b), Hex(b.Address)})
}

// BARType is the address space and width of a BAR.
type BARType uint8

// The types of BAR, PCI_BASE_ADDRESS_*.
const (
	BARIO       BARType = iota + 1 // I/O space, 32 bits
	BARMemory32                    // memory space, 32 bits
	BARMemory64                    // memory space, 64 bits: two registers
)

// String gives "io", "mem32" or "mem64".
func (t BARType) String() string {
	switch t {
	case BARIO:
		return "io"
	case BARMemory32:
		return "mem32"
	case BARMemory64:
		return "mem64"
	}
	return fmt.Sprintf("bartype(%d)", uint8(t))
}

// MarshalText gives the form of String.
func (t BARType) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// barCount is the number of base address registers in each header type.
var barCount = [...]int{HeaderTypeNormal: 6, HeaderTypeBridge: 2, HeaderTypeCardBus: 1}

// bars decodes count base address registers from start on: PCI Express Base Specification 7.5.1.2.1. The name is what
// warnings call one of them.
func (d *decoder) bars(start, count int, name string) []BAR {
	var bars []BAR
	for i := 0; i < count; i++ {
		offset := start + 4*i
		v := d.u32(offset)
		if v == 0 {
			continue
		}
		bar := BAR{Index: i}
		if v&1 != 0 { // PCI_BASE_ADDRESS_SPACE_IO
			bar.Type = BARIO
			bar.Address = uint64(v &^ 0x3)
			if v&2 != 0 {
				d.warn(offset, "%s %d reads 0x%08x: bit 1 of an I/O BAR is reserved", name, i, v)
			}
			bars = append(bars, bar)
			continue
		}
		bar.Type = BARMemory32
		bar.Prefetchable = v&0x8 != 0 // PCI_BASE_ADDRESS_MEM_PREFETCH
		bar.Address = uint64(v &^ 0xf)
		switch v & 0x6 { // PCI_BASE_ADDRESS_MEM_TYPE_MASK
		case 0x0:
		case 0x2:
			d.warn(offset, "%s %d reads 0x%08x: memory below 1 MiB, a type that PCI 3.0 took away", name, i, v)
		case 0x4:
			if i+1 == count {
				d.warn(offset, "%s %d reads 0x%08x: 64 bits wide, but there is no register for the upper half", name, i, v)
				break
			}
			bar.Type = BARMemory64
			bar.Address |= uint64(d.u32(offset+4)) << 32
			i++
		default:
			d.warn(offset, "%s %d reads 0x%08x: memory type 3 is reserved", name, i, v)
		}
		bars = append(bars, bar)
	}
	return bars
}
