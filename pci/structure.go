package pci

import (
	"encoding/json"
	"fmt"
	"math/bits"
	"strconv"
)

// Find gives what the first capability of type T says, and nil when the function has none that could be decoded:
//
//	if express := pci.Find[pci.Express](f); express != nil && express.Link != nil {
//		fmt.Println(express.Link.Width, "lanes")
//	}
//
// T is a type that a Capability or an ExtendedCapability has a pointer to in its field Decoded:
//
//   - AdvancedFeatures, EnhancedAllocation, Express, HyperTransport, MSI, MSIX, PowerManagement, Subsystem,
//     VendorSpecific and VPD of the first list;
//   - ACS, AER, ARI, ATS, DataObjectExchange, DPC, DVSEC, L1Substates, LTR, PageRequest, PASID, PTM, ResizableBAR,
//     SecondaryExpress, SerialNumber, SRIOV, TPH and VSEC of the extended one.
func Find[T any](f *Function) *T {
	for _, c := range f.Capabilities {
		if decoded, ok := c.Decoded.(*T); ok {
			return decoded
		}
	}
	for _, c := range f.ExtendedCapabilities {
		if decoded, ok := c.Decoded.(*T); ok {
			return decoded
		}
	}
	return nil
}

// structure is one capability while it is decoded: a window on the configuration space that starts at its header.
// Offsets are counted from there, as in pci_regs.h. A method that decodes asks need for the bytes before it reads them.
type structure struct {
	d      *decoder
	name   fmt.Stringer // the id, for warnings
	offset int          // of the header in configuration space
	space  int          // where the space ends that it lies in: 0x100 or 0x1000
	length int          // the most bytes that need was asked for and found
}

func (s *structure) u8(offset int) uint8   { return s.d.config[s.offset+offset] }
func (s *structure) u16(offset int) bits16 { return bits16(s.d.u16(s.offset + offset)) }
func (s *structure) u32(offset int) bits32 { return bits32(s.d.u32(s.offset + offset)) }
func (s *structure) u64(offset int) uint64 {
	return uint64(s.u32(offset)) | uint64(s.u32(offset+4))<<32
}

// warn takes an offset within the structure.
func (s *structure) warn(offset int, format string, args ...any) {
	s.d.warn(s.offset+offset, format, args...)
}

// need reports whether the structure's first length bytes were read, and warns when they were not.
func (s *structure) need(length int) bool {
	d, end := s.d, min(len(s.d.config), s.space)
	if s.offset+length <= end {
		s.length = max(s.length, length)
		return true
	}
	if end < s.space && s.offset+length <= s.space {
		d.f.Truncated = true
		d.warn(s.offset, "%s capability of %d bytes ends after the %d bytes that were read", s.name, length, end)
	} else {
		d.warn(s.offset, "%s capability of %d bytes runs past the end of its space at 0x%x", s.name, length, s.space)
	}
	return false
}

// bits16 and bits32 are the value of a register whose fields are picked out by their masks.
type (
	bits16 uint16
	bits32 uint32
)

func (b bits16) has(bit uint16) bool   { return uint16(b)&bit != 0 }
func (b bits16) field(mask uint16) int { return int((uint16(b) & mask) >> bits.TrailingZeros16(mask)) }
func (b bits32) has(bit uint32) bool   { return uint32(b)&bit != 0 }
func (b bits32) field(mask uint32) int { return int((uint32(b) & mask) >> bits.TrailingZeros32(mask)) }

// decoders has a function for each capability that is decoded. It gives a pointer for the field Decoded, or nil when
// the bytes are not there.
var decoders = map[CapabilityID]func(*structure) any{
	CapPowerManagement:    (*structure).powerManagement,
	CapVPD:                (*structure).vpd,
	CapHyperTransport:     (*structure).hyperTransport,
	CapVendorSpecific:     (*structure).vendorSpecific,
	CapAdvancedFeatures:   (*structure).advancedFeatures,
	CapEnhancedAllocation: (*structure).enhancedAllocation,
	CapMSI:                (*structure).msi,
	CapMSIX:               (*structure).msix,
	CapPCIExpress:         (*structure).express,
	CapSubsystem:          (*structure).subsystem,
}

// extendedDecoders is the same for the extended capabilities.
var extendedDecoders = map[ExtendedCapabilityID]func(*structure) any{
	ExtCapAER:                (*structure).aer,
	ExtCapSerialNumber:       (*structure).serialNumber,
	ExtCapVendorSpecific:     (*structure).vsec,
	ExtCapACS:                (*structure).acs,
	ExtCapARI:                (*structure).ari,
	ExtCapATS:                (*structure).ats,
	ExtCapSRIOV:              (*structure).sriov,
	ExtCapPageRequest:        (*structure).pageRequest,
	ExtCapResizableBAR:       (*structure).resizableBAR,
	ExtCapTPH:                (*structure).tph,
	ExtCapLTR:                (*structure).ltr,
	ExtCapSecondaryExpress:   (*structure).secondaryExpress,
	ExtCapPASID:              (*structure).pasid,
	ExtCapDPC:                (*structure).dpc,
	ExtCapL1Substates:        (*structure).l1Substates,
	ExtCapPTM:                (*structure).ptm,
	ExtCapDVSEC:              (*structure).dvsec,
	ExtCapVFResizableBAR:     (*structure).resizableBAR,
	ExtCapDataObjectExchange: (*structure).dataObjectExchange,
}

// structures decodes the capabilities of both lists, in the order of the lists.
func (d *decoder) structures() {
	f := d.f
	if len(f.Capabilities) == 0 {
		return // then there are no extended ones either
	}
	// starts says where a capability starts; each of those ends the one before it.
	var starts [maxConfigSize/4 + 1]bool
	for _, c := range f.Capabilities {
		starts[c.Offset/4] = true
	}
	for _, c := range f.ExtendedCapabilities {
		starts[c.Offset/4] = true
	}
	raw := append([]byte(nil), d.config...) // one copy that all Raw share, so that config is not kept
	for i := range f.Capabilities {
		c := &f.Capabilities[i]
		s := structure{d: d, name: c.ID, offset: c.Offset, space: conventionalSize}
		c.Decoded = s.decode(decoders[c.ID])
		c.Length, c.Raw = s.extent(&starts, raw)
	}
	for i := range f.ExtendedCapabilities {
		c := &f.ExtendedCapabilities[i]
		s := structure{d: d, name: c.ID, offset: c.Offset, space: maxConfigSize}
		c.Decoded = s.decode(extendedDecoders[c.ID])
		c.Length, c.Raw = s.extent(&starts, raw)
	}
}

func (s *structure) decode(decode func(*structure) any) any {
	if decode == nil {
		return nil
	}
	decoded := decode(s)
	if decoded == nil {
		s.length = 0 // the part that was there does not end the structure
	}
	return decoded
}

// extent gives the length of the structure and its bytes. A structure that was not decoded goes as far as nothing else
// starts.
func (s *structure) extent(starts *[maxConfigSize/4 + 1]bool, config []byte) (int, []byte) {
	next := s.offset + 4
	for next < s.space && !starts[next/4] {
		next += 4
	}
	end := s.offset + s.length
	switch {
	case s.length == 0:
		end = next
	case end > next && next < s.space:
		s.warn(0, "%s capability of %d bytes reaches into the capability at 0x%02x", s.name, s.length, next)
	}
	have := min(end, len(config))
	return end - s.offset, config[s.offset:have:have]
}

// ID is a number of 16 bits that names something: a vendor, a device, or as a requester id a function by its bus, device
// and function numbers in 8, 5 and 3 bits.
type ID uint16

// String gives four digits: "0x8086".
func (id ID) String() string { return fmt.Sprintf("0x%04x", uint16(id)) }

// MarshalText gives the form of String.
func (id ID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// Hex is a number that people read in hexadecimal: an address, a mask, a register. Its JSON form is a string, which also
// keeps all 64 bits in JavaScript.
type Hex uint64

// String gives as many digits as it takes: "0xfee00000".
func (h Hex) String() string { return "0x" + strconv.FormatUint(uint64(h), 16) }

// MarshalText gives the form of String.
func (h Hex) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// UnmarshalText takes what String gives, and any other number in the notation of Go.
func (h *Hex) UnmarshalText(text []byte) error {
	v, err := strconv.ParseUint(string(text), 0, 64)
	if err != nil {
		return fmt.Errorf("number %.20q: %w", text, err)
	}
	*h = Hex(v)
	return nil
}

// capabilityJSON is what all capabilities have in JSON. The fields of Decoded follow in the same object.
type capabilityJSON struct {
	ID       string `json:"id"`
	Extended bool   `json:"extended"`
	Version  *uint8 `json:"version,omitempty"` // in the header of extended capabilities only
	Offset   *int   `json:"offset,omitempty"`  // nil when Decoded has it
	Length   int    `json:"length"`
	Name     string `json:"name"`
	Raw      string `json:"raw,omitempty"` // of those that are not decoded
}

// MarshalJSON gives one object: id (a string such as "0x10"), extended (false), offset, length, name, and then the
// fields of Decoded, or raw, the bytes in hexadecimal, when there are none.
func (c Capability) MarshalJSON() ([]byte, error) {
	return marshalCapability(capabilityJSON{
		ID: fmt.Sprintf("0x%02x", uint8(c.ID)), Offset: &c.Offset, Length: c.Length, Name: c.ID.String(),
	}, c.Decoded, c.Raw)
}

// MarshalJSON gives what that of Capability does, with an id such as "0x0001", extended (true), and the version.
func (c ExtendedCapability) MarshalJSON() ([]byte, error) {
	return marshalCapability(capabilityJSON{
		ID: fmt.Sprintf("0x%04x", uint16(c.ID)), Extended: true, Version: &c.Version,
		Offset: &c.Offset, Length: c.Length, Name: c.ID.String(),
	}, c.Decoded, c.Raw)
}

func marshalCapability(header capabilityJSON, decoded any, raw []byte) ([]byte, error) {
	switch decoded.(type) {
	case nil:
		header.Raw = fmt.Sprintf("%x", raw)
	case *MSI, *MSIX:
		header.Offset = nil
	}
	b, err := json.Marshal(header)
	if err != nil || decoded == nil {
		return b, err
	}
	fields, err := json.Marshal(decoded)
	if err != nil {
		return nil, err
	}
	if len(fields) > len("{}") {
		b = append(append(b[:len(b)-1], ','), fields[1:]...)
	}
	return b, nil
}
