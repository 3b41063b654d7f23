package pci

import (
	"encoding/binary"
	"fmt"
)

// Descriptor is one of the two descriptors: what is in a list depends on whether it is a raw or a translated one, and
// the bytes do not tell.
type Descriptor interface {
	RawDescriptor | TranslatedDescriptor

	Encode(bits Bits) ([]byte, error)
	resourceType() ResourceType
	dataSize() uint32
}

// FullList is CM_RESOURCE_LIST of wdm.h: what IRP_MN_START_DEVICE carries, and what the registry keeps as a
// REG_RESOURCE_LIST. A device's own list has one full descriptor.
type FullList[D Descriptor] []FullDescriptor[D]

// FullDescriptor is CM_FULL_RESOURCE_DESCRIPTOR of wdm.h: the resources of one bus.
type FullDescriptor[D Descriptor] struct {
	InterfaceType int32  // INTERFACE_TYPE: InterfacePCIBus
	BusNumber     uint32 // of the bus
	PartialList[D]
}

// PartialList is CM_PARTIAL_RESOURCE_LIST of wdm.h.
type PartialList[D Descriptor] struct {
	Version  uint16 // 1
	Revision uint16 // 1

	// Descriptors are all that the list has, those of no interest among them, such as ResourceDevicePrivate.
	Descriptors []D

	// Data follows the list when its last descriptor is of type ResourceDeviceSpecific, and is to be skipped to find the
	// next list, which the loop on the page of CM_RESOURCE_LIST forgets. The size of the data is in that
	// descriptor: low word in Level, high word in Group.
	Data []byte
}

// The sizes of the parts of a list before its first descriptor.
const (
	listHeaderSize    = 4 // CM_RESOURCE_LIST: Count
	fullHeaderSize    = 8 // CM_FULL_RESOURCE_DESCRIPTOR: InterfaceType, BusNumber
	partialHeaderSize = 8 // CM_PARTIAL_RESOURCE_LIST: Version, Revision, Count
)

// listVersion is what Version and Revision of a partial list should be.
const listVersion = 1

// DecodeFullList reads a CM_RESOURCE_LIST, all of b. It takes any values in the descriptors, as DecodeRaw and
// DecodeTranslated do; what it refuses is counts and sizes that do not fit the bytes. Errors name the byte.
func DecodeFullList[D Descriptor](b []byte, bits Bits) (FullList[D], error) {
	r := listReader{all: b, rest: b}
	header, err := r.take(listHeaderSize, "resource list")
	if err != nil {
		return nil, err
	}
	count := binary.LittleEndian.Uint32(header)
	// Each full descriptor has its header, so that a count beyond the bytes is found before anything is allocated for it.
	if uint64(count)*(fullHeaderSize+partialHeaderSize) > uint64(len(r.rest)) {
		return nil, fmt.Errorf("resource list: count %d at byte 0 is more than the %d bytes after it can hold",
			count, len(r.rest))
	}
	list := make(FullList[D], 0, count)
	for range count {
		header, err := r.take(fullHeaderSize, "full descriptor")
		if err != nil {
			return nil, err
		}
		full := FullDescriptor[D]{
			InterfaceType: int32(binary.LittleEndian.Uint32(header)),
			BusNumber:     binary.LittleEndian.Uint32(header[4:]),
		}
		if full.PartialList, err = decodePartialList[D](&r, bits); err != nil {
			return nil, err
		}
		list = append(list, full)
	}
	return list, r.end()
}

// DecodePartialList reads a CM_PARTIAL_RESOURCE_LIST, all of b, as DecodeFullList does.
func DecodePartialList[D Descriptor](b []byte, bits Bits) (PartialList[D], error) {
	r := listReader{all: b, rest: b}
	list, err := decodePartialList[D](&r, bits)
	if err != nil {
		return PartialList[D]{}, err
	}
	return list, r.end()
}

func decodePartialList[D Descriptor](r *listReader, bits Bits) (PartialList[D], error) {
	var list PartialList[D]
	fail := func(err error) (PartialList[D], error) { return PartialList[D]{}, err }
	size, err := bits.descriptorSize()
	if err != nil {
		return fail(err)
	}
	header, err := r.take(partialHeaderSize, "partial list")
	if err != nil {
		return fail(err)
	}
	list.Version = binary.LittleEndian.Uint16(header)
	list.Revision = binary.LittleEndian.Uint16(header[2:])
	count := binary.LittleEndian.Uint32(header[4:])
	if uint64(count)*uint64(size) > uint64(len(r.rest)) {
		return fail(fmt.Errorf("partial list: count %d before byte %d is more than the %d bytes after it can hold, "+
			"%d a descriptor; is this a list of %d-bit Windows?", count, r.at(), len(r.rest), size, int(bits)))
	}
	list.Descriptors = make([]D, count)
	for i := range list.Descriptors {
		at := r.at()
		d := decodeDescriptor[D](r.rest[:size], bits)
		r.rest = r.rest[size:]
		list.Descriptors[i] = d
		if d.resourceType() != ResourceDeviceSpecific {
			continue
		}
		if i != len(list.Descriptors)-1 {
			return fail(fmt.Errorf("partial list: descriptor %d at byte %d is device specific and not the last of %d; "+
				"where its data ends is not known", i, at, count))
		}
		data, err := r.take(uint64(d.dataSize()), "device specific data")
		if err != nil {
			return fail(err)
		}
		list.Data = append([]byte{}, data...)
	}
	return list, nil
}

// decodeDescriptor reads one descriptor of exactly the right number of bytes.
func decodeDescriptor[D Descriptor](b []byte, bits Bits) D {
	var d D
	// The size is right and so is the width: there are no other errors.
	switch p := any(&d).(type) {
	case *RawDescriptor:
		*p, _ = DecodeRaw(b, bits)
	case *TranslatedDescriptor:
		*p, _ = DecodeTranslated(b, bits)
	}
	return d
}

// listReader hands out the bytes of a list from front to back.
type listReader struct {
	all, rest []byte
}

func (r *listReader) at() int { return len(r.all) - len(r.rest) }

func (r *listReader) take(n uint64, what string) ([]byte, error) {
	if n > uint64(len(r.rest)) {
		return nil, fmt.Errorf("%s at byte %d has %d bytes, and %d are left", what, r.at(), n, len(r.rest))
	}
	b := r.rest[:n]
	r.rest = r.rest[n:]
	return b, nil
}

func (r *listReader) end() error {
	if len(r.rest) > 0 {
		return fmt.Errorf("the list ends at byte %d, and %d bytes follow; is it one of the other width?", r.at(), len(r.rest))
	}
	return nil
}

// Encode writes the bytes that DecodeFullList reads.
func (l FullList[D]) Encode(bits Bits) ([]byte, error) {
	b := binary.LittleEndian.AppendUint32(nil, uint32(len(l)))
	for i, full := range l {
		b = binary.LittleEndian.AppendUint32(b, uint32(full.InterfaceType))
		b = binary.LittleEndian.AppendUint32(b, full.BusNumber)
		partial, err := full.Encode(bits)
		if err != nil {
			return nil, fmt.Errorf("resource list: full descriptor %d: %w", i, err)
		}
		b = append(b, partial...)
	}
	return b, nil
}

// Encode writes the bytes that DecodePartialList reads. Data that does not fit the last descriptor is an error.
func (l PartialList[D]) Encode(bits Bits) ([]byte, error) {
	b := binary.LittleEndian.AppendUint16(nil, l.Version)
	b = binary.LittleEndian.AppendUint16(b, l.Revision)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(l.Descriptors)))
	var dataSize uint32
	for i, d := range l.Descriptors {
		if d.resourceType() == ResourceDeviceSpecific {
			if i != len(l.Descriptors)-1 {
				return nil, fmt.Errorf("descriptor %d is device specific and not the last of %d", i, len(l.Descriptors))
			}
			dataSize = d.dataSize()
		}
		one, err := d.Encode(bits)
		if err != nil {
			return nil, fmt.Errorf("descriptor %d: %w", i, err)
		}
		b = append(b, one...)
	}
	if int64(dataSize) != int64(len(l.Data)) {
		return nil, fmt.Errorf("%d bytes of device specific data, and the last descriptor says %d", len(l.Data), dataSize)
	}
	return append(b, l.Data...), nil
}

// Warnings lists what is unusual about the list and yet no reason to refuse it: a version or revision other than 1,
// which Microsoft says it should be.
func (l PartialList[D]) Warnings() []string {
	if l.Version == listVersion && l.Revision == listVersion {
		return nil
	}
	return []string{fmt.Sprintf("partial list: version %d, revision %d; both should be %d", l.Version, l.Revision, listVersion)}
}

// NewResourceList puts the two lists of IRP_MN_START_DEVICE together. They are to have one full descriptor each, of the
// same bus, and the same types of resource in the same order. Device specific data is left behind.
func NewResourceList(raw FullList[RawDescriptor], translated FullList[TranslatedDescriptor]) (ResourceList, error) {
	if len(raw) != 1 || len(translated) != 1 {
		return ResourceList{}, fmt.Errorf("resource list: %d raw and %d translated full descriptors; want one of each",
			len(raw), len(translated))
	}
	if raw[0].InterfaceType != translated[0].InterfaceType || raw[0].BusNumber != translated[0].BusNumber {
		return ResourceList{}, fmt.Errorf("resource list: raw is of interface %d bus %d, translated of interface %d bus %d",
			raw[0].InterfaceType, raw[0].BusNumber, translated[0].InterfaceType, translated[0].BusNumber)
	}
	l := ResourceList{
		InterfaceType: raw[0].InterfaceType, BusNumber: raw[0].BusNumber,
		Raw: raw[0].Descriptors, Translated: translated[0].Descriptors,
	}
	return l, l.validatePairs()
}

// RawList gives the raw half in the form that is encoded.
func (l ResourceList) RawList() FullList[RawDescriptor] {
	return FullList[RawDescriptor]{{l.InterfaceType, l.BusNumber, PartialList[RawDescriptor]{
		Version: listVersion, Revision: listVersion, Descriptors: l.Raw,
	}}}
}

// TranslatedList gives the translated half in the form that is encoded.
func (l ResourceList) TranslatedList() FullList[TranslatedDescriptor] {
	return FullList[TranslatedDescriptor]{{l.InterfaceType, l.BusNumber, PartialList[TranslatedDescriptor]{
		Version: listVersion, Revision: listVersion, Descriptors: l.Translated,
	}}}
}

func (d RawDescriptor) resourceType() ResourceType        { return d.Type }
func (d TranslatedDescriptor) resourceType() ResourceType { return d.Type }

// dataSize is u.DeviceSpecificData.DataSize, which lies where a line has Level and Group.
func (d RawDescriptor) dataSize() uint32        { return uint32(d.Level) | uint32(d.Group)<<16 }
func (d TranslatedDescriptor) dataSize() uint32 { return uint32(d.Level) | uint32(d.Group)<<16 }
