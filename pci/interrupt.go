package pci

import "encoding/json"

// INTx is the interrupt line of a function: PCI Express Base Specification 7.5.1.1.12 and 7.5.1.1.13.
type INTx struct {
	Pin uint8 `json:"pin"` // PCI_INTERRUPT_PIN: 1 to 4 for INTA# to INTD#

	// Line is PCI_INTERRUPT_LINE, a note by the firmware that no hardware reads: on a PC the interrupt controller input,
	// 0xff for none. The operating system need not follow it.
	Line uint8 `json:"line"`
}

// MSI is the MSI capability, PCI_CAP_ID_MSI: PCI Express Base Specification 7.7.1.
//
// Through VFIO, Enabled, Address and Data show what was written there, not what the hardware has.
type MSI struct {
	Offset  int  `json:"offset"`  // of the capability in configuration space
	Enabled bool `json:"enabled"` // PCI_MSI_FLAGS_ENABLE

	// Messages is how many messages the function can use, a power of two up to 32 (Multiple Message Capable,
	// PCI_MSI_FLAGS_QMASK). It is 0 for a reserved encoding, which is also a warning.
	Messages int `json:"messages"`

	// EnabledMessages is how many it may use now (Multiple Message Enable, PCI_MSI_FLAGS_QSIZE), valid while Enabled.
	// It is 0 for a reserved encoding.
	EnabledMessages int `json:"enabledMessages"`

	Address64           bool `json:"address64"`           // PCI_MSI_FLAGS_64BIT: the address has 64 bits
	Maskable            bool `json:"maskable"`            // PCI_MSI_FLAGS_MASKBIT: Mask and Pending exist
	ExtendedData        bool `json:"extendedData"`        // it can send 32 bits of data
	ExtendedDataEnabled bool `json:"extendedDataEnabled"` // it does

	Address uint64 `json:"-"` // where a message is written; the reserved two low bits are cleared
	Data    uint32 `json:"-"` // of message 0; 16 bits unless ExtendedDataEnabled
	Mask    uint32 `json:"-"` // bit n holds message n back
	Pending uint32 `json:"-"` // bit n: message n is waiting behind its mask bit
	Control uint16 `json:"-"` // PCI_MSI_FLAGS as it reads
}

// MarshalJSON writes address, data, mask, pending and control as strings in hexadecimal, mask and pending only where
// they exist.
func (m MSI) MarshalJSON() ([]byte, error) {
	type fields MSI // without this method
	out := struct {
		fields
		Address Hex  `json:"address"`
		Data    Hex  `json:"data"`
		Mask    *Hex `json:"mask,omitempty"`
		Pending *Hex `json:"pending,omitempty"`
		Control Hex  `json:"control"`
	}{fields: fields(m), Address: Hex(m.Address), Data: Hex(m.Data), Control: Hex(m.Control)}
	if m.Maskable {
		mask, pending := Hex(m.Mask), Hex(m.Pending)
		out.Mask, out.Pending = &mask, &pending
	}
	return json.Marshal(out)
}

// The fields of the MSI control word. Those for extended data are in PCI Express Base Specification 7.7.1.2 only.
const (
	msiEnable              = 0x0001
	msi64Bit               = 0x0080
	msiMaskBit             = 0x0100
	msiExtendedData        = 0x0200
	msiExtendedDataEnabled = 0x0400
)

// MSIX is the MSI-X capability, PCI_CAP_ID_MSIX: PCI Express Base Specification 7.7.2.
type MSIX struct {
	Offset       int      `json:"offset"`       // of the capability in configuration space
	Enabled      bool     `json:"enabled"`      // PCI_MSIX_FLAGS_ENABLE
	FunctionMask bool     `json:"functionMask"` // PCI_MSIX_FLAGS_MASKALL: all messages are held back
	Messages     int      `json:"messages"`     // entries of the table, 1 to 2048
	Table        Location `json:"table"`        // of the table: 16 bytes an entry
	PBA          Location `json:"pba"`          // of the pending bit array: one bit an entry, in 64-bit words
	Control      uint16   `json:"-"`            // PCI_MSIX_FLAGS as it reads
}

// MarshalJSON writes control as a string in hexadecimal.
func (m MSIX) MarshalJSON() ([]byte, error) {
	type fields MSIX // without this method
	return json.Marshal(struct {
		fields
		Control Hex `json:"control"`
	}{fields(m), Hex(m.Control)})
}

// Location is a place in the memory of a BAR.
type Location struct {
	BAR    int    `json:"bar"`    // 0 to 5; 6 and 7 are reserved and come with a warning
	Offset uint32 `json:"offset"` // in bytes from the start of the BAR, a multiple of 8
}

// The fields of the MSI-X control word and of its two location words.
const (
	msixTableSize    = 0x07ff // PCI_MSIX_FLAGS_QSIZE, less one
	msixFunctionMask = 0x4000
	msixEnable       = 0x8000
	msixBIR          = 0x7 // PCI_MSIX_TABLE_BIR, PCI_MSIX_PBA_BIR
)

func (d *decoder) intx() {
	pin := d.config[offsetInterruptPin]
	switch {
	case pin == 0:
	case pin > 4:
		d.warn(offsetInterruptPin, "interrupt pin %d is reserved (1 to 4 are INTA# to INTD#): taken as no pin", pin)
	default:
		d.f.INTx = &INTx{Pin: pin, Line: d.config[offsetInterruptLine]}
	}
}

func (s *structure) msi() any {
	d, offset := s.d, s.offset
	if !s.need(4) {
		return nil
	}
	control := d.u16(offset + 2)
	m := &MSI{
		Offset:              offset,
		Control:             control,
		Enabled:             control&msiEnable != 0,
		Messages:            messageCount(control >> 1),
		EnabledMessages:     messageCount(control >> 4),
		Address64:           control&msi64Bit != 0,
		Maskable:            control&msiMaskBit != 0,
		ExtendedData:        control&msiExtendedData != 0,
		ExtendedDataEnabled: control&msiExtendedDataEnabled != 0,
	}

	// The structure has no gaps: without the upper address half the data moves up, and the mask follows the data.
	dataAt := 8
	if m.Address64 {
		dataAt = 12
	}
	length := dataAt + 2
	if m.ExtendedData {
		length = dataAt + 4
	}
	if m.Maskable {
		length = dataAt + 12
	}
	if !s.need(length) {
		return nil
	}
	m.Address = uint64(d.u32(offset+4) &^ 3)
	if m.Address64 {
		m.Address |= uint64(d.u32(offset+8)) << 32
	}
	m.Data = uint32(d.u16(offset + dataAt))
	if m.ExtendedData && m.ExtendedDataEnabled {
		m.Data = d.u32(offset + dataAt)
	}
	if m.Maskable {
		m.Mask = d.u32(offset + dataAt + 4)
		m.Pending = d.u32(offset + dataAt + 8)
	}

	capable, enabled := control>>1&7, control>>4&7
	switch {
	case m.Messages == 0:
		d.warn(offset+2, "MSI Multiple Message Capable is %d: 6 and 7 are reserved, the number of messages is not known", capable)
	case m.EnabledMessages == 0:
		d.warn(offset+2, "MSI Multiple Message Enable is %d: 6 and 7 are reserved", enabled)
	case m.EnabledMessages > m.Messages:
		d.warn(offset+2, "MSI has %d messages enabled and is capable of %d", m.EnabledMessages, m.Messages)
	}
	if m.ExtendedDataEnabled && !m.ExtendedData {
		d.warn(offset+2, "MSI extended data is enabled and the function is not capable of it")
	}
	if d.f.MSI != nil {
		d.warn(offset, "a second %s capability: the first one counts", CapMSI)
	} else {
		d.f.MSI = m
	}
	return m
}

// messageCount decodes the low three bits, the logarithm of a number of messages: 0 for a reserved encoding.
func messageCount(encoded uint16) int {
	encoded &= 7
	if encoded > 5 {
		return 0
	}
	return 1 << encoded
}

func (s *structure) msix() any {
	d, offset := s.d, s.offset
	if !s.need(12) {
		return nil
	}
	control := d.u16(offset + 2)
	m := &MSIX{
		Offset:       offset,
		Control:      control,
		Enabled:      control&msixEnable != 0,
		FunctionMask: control&msixFunctionMask != 0,
		Messages:     int(control&msixTableSize) + 1,
		Table:        d.location(offset+4, "table"),
		PBA:          d.location(offset+8, "pending bit array"),
	}
	if d.f.MSIX != nil {
		d.warn(offset, "a second %s capability: the first one counts", CapMSIX)
	} else {
		d.f.MSIX = m
	}
	return m
}

// location decodes an MSI-X location word and warns when it names no memory BAR.
func (d *decoder) location(offset int, what string) Location {
	v := d.u32(offset)
	l := Location{BAR: int(v & msixBIR), Offset: v &^ msixBIR}
	if l.BAR > 5 {
		d.warn(offset, "MSI-X %s is in BAR %d: 6 and 7 are reserved", what, l.BAR)
		return l
	}
	if count := barCount[d.f.HeaderType]; l.BAR >= count {
		d.warn(offset, "MSI-X %s is in BAR %d and header type %d has %d", what, l.BAR, d.f.HeaderType, count)
		return l
	}
	for _, bar := range d.f.BARs {
		switch {
		case bar.Index == l.BAR && bar.Type == BARIO:
			d.warn(offset, "MSI-X %s is in BAR %d, which is not memory", what, l.BAR)
		case bar.Index+1 == l.BAR && bar.Type == BARMemory64:
			d.warn(offset, "MSI-X %s is in BAR %d, which is the upper half of BAR %d", what, l.BAR, bar.Index)
		}
	}
	return l
}
