package pci

import (
	"fmt"
	"strings"
)

// RawDescriptor is a resource as the device and its bus see it, which is what programs the device: a
// CM_PARTIAL_RESOURCE_DESCRIPTOR of the raw list of IRP_MN_START_DEVICE.
//
// Which fields count depends on Flags: a line (u.Interrupt) has Level, a message (u.MessageInterrupt.Raw) has
// MessageCount at bytes where the other has something else. Descriptors that are no interrupts keep their bytes in the
// fields of a line.
type RawDescriptor struct {
	Type  ResourceType
	Share ShareDisposition
	Flags InterruptFlags
	Level uint16 // of a line: the interrupt controller input
	Group uint16 // processor group of Affinity

	// MessageCount is the number of messages, of a message descriptor only: n for the single descriptor of a device with
	// MSI, 1 for each of those of a device with MSI-X.
	MessageCount uint16

	Vector   uint32 // of a line: equal to Level; of a message: a token at or just below MessageToken
	Affinity uint64 // KAFFINITY: the processors of Group that may take the interrupt; all ones for any
}

// TranslatedDescriptor is a resource as the processors see it, which is what an interrupt is connected by: a
// CM_PARTIAL_RESOURCE_DESCRIPTOR of the translated list of IRP_MN_START_DEVICE. Lines (u.Interrupt) and messages
// (u.MessageInterrupt.Translated) have the same fields at the same bytes.
type TranslatedDescriptor struct {
	Type     ResourceType
	Share    ShareDisposition
	Flags    InterruptFlags
	Level    uint16 // the DIRQL: 3 to 11 for devices, 0 for an interrupt that is served at passive level
	Group    uint16 // processor group of Affinity
	Vector   uint32 // identifies the interrupt in the whole system; never 0
	Affinity uint64 // KAFFINITY: the processors of Group that may take the interrupt; all ones for any
}

// ResourceType is the Type of a descriptor, CmResourceType*. There is no type for messages: an interrupt that is
// signaled by messages has ResourceInterrupt and the flag InterruptMessage.
type ResourceType uint8

// The resource types of wdm.h.
const (
	ResourceNull           ResourceType = 0
	ResourcePort           ResourceType = 1
	ResourceInterrupt      ResourceType = 2
	ResourceMemory         ResourceType = 3
	ResourceDMA            ResourceType = 4
	ResourceDeviceSpecific ResourceType = 5
	ResourceBusNumber      ResourceType = 6
	ResourceMemoryLarge    ResourceType = 7
	ResourceNonArbitrated  ResourceType = 128 // also CmResourceTypeConfigData
	ResourceDevicePrivate  ResourceType = 129 // stands between the BARs in a PCI device's list
	ResourcePCCardConfig   ResourceType = 130
	ResourceMFCardConfig   ResourceType = 131
	ResourceConnection     ResourceType = 132
)

// String gives the name of the type in lower case: "interrupt", "memory", "device private".
func (t ResourceType) String() string {
	switch t {
	case ResourceNull:
		return "null"
	case ResourcePort:
		return "port"
	case ResourceInterrupt:
		return "interrupt"
	case ResourceMemory:
		return "memory"
	case ResourceDMA:
		return "dma"
	case ResourceDeviceSpecific:
		return "device specific"
	case ResourceBusNumber:
		return "bus number"
	case ResourceMemoryLarge:
		return "memory large"
	case ResourceNonArbitrated:
		return "non-arbitrated"
	case ResourceDevicePrivate:
		return "device private"
	case ResourcePCCardConfig:
		return "pc card config"
	case ResourceMFCardConfig:
		return "mf card config"
	case ResourceConnection:
		return "connection"
	}
	return fmt.Sprintf("type %d", uint8(t))
}

// ShareDisposition says who may share a resource, CM_SHARE_DISPOSITION of wdm.h.
type ShareDisposition uint8

// The share dispositions, CmResourceShare*.
const (
	ShareUndetermined    ShareDisposition = 0 // reserved
	ShareDeviceExclusive ShareDisposition = 1 // what PCI messages have
	ShareDriverExclusive ShareDisposition = 2 // not supported for WDM drivers
	ShareShared          ShareDisposition = 3 // what PCI lines have
)

// String gives "undetermined", "device exclusive", "driver exclusive" or "shared".
func (s ShareDisposition) String() string {
	switch s {
	case ShareUndetermined:
		return "undetermined"
	case ShareDeviceExclusive:
		return "device exclusive"
	case ShareDriverExclusive:
		return "driver exclusive"
	case ShareShared:
		return "shared"
	}
	return fmt.Sprintf("share %d", uint8(s))
}

// InterruptFlags is the Flags member of an interrupt's descriptor, CM_RESOURCE_INTERRUPT_*. Other types of resource
// have flags of their own in the same two bytes.
type InterruptFlags uint16

// The interrupt flags of wdm.h. Level-sensitive is the absence of InterruptLatched. The page of IO_RESOURCE_DESCRIPTOR tells of
// secondary interrupts in the words for wake hints; that of CM_PARTIAL_RESOURCE_DESCRIPTOR has both right.
const (
	InterruptLatched        InterruptFlags = 0x0001 // edge-triggered, as all messages are
	InterruptMessage        InterruptFlags = 0x0002 // message-signaled
	InterruptPolicyIncluded InterruptFlags = 0x0004 // used in requirement lists only
	InterruptSecondary      InterruptFlags = 0x0010 // raised by another interrupt's handler, such as a GPIO controller's
	InterruptWakeHint       InterruptFlags = 0x0020 // able to wake the system
)

// knownFlags is every flag that this package has a name for.
const knownFlags = InterruptLatched | InterruptMessage | InterruptPolicyIncluded | InterruptSecondary | InterruptWakeHint

// Latched reports whether the interrupt is edge-triggered: flags & CM_RESOURCE_INTERRUPT_LATCHED.
func (f InterruptFlags) Latched() bool { return f&InterruptLatched != 0 }

// Message reports whether the interrupt is message-signaled: flags & CM_RESOURCE_INTERRUPT_MESSAGE.
func (f InterruptFlags) Message() bool { return f&InterruptMessage != 0 }

// String names the flags, "latched|message", with "level" for the absence of latched and bits without a name in
// hexadecimal.
func (f InterruptFlags) String() string {
	names := []string{"level"}
	if f.Latched() {
		names[0] = "latched"
	}
	for _, flag := range []struct {
		bit  InterruptFlags
		name string
	}{
		{InterruptMessage, "message"},
		{InterruptPolicyIncluded, "policy included"},
		{InterruptSecondary, "secondary"},
		{InterruptWakeHint, "wake hint"},
	} {
		if f&flag.bit != 0 {
			names = append(names, flag.name)
		}
	}
	if unknown := f &^ knownFlags; unknown != 0 {
		names = append(names, fmt.Sprintf("0x%04x", uint16(unknown)))
	}
	return strings.Join(names, "|")
}

// MessageToken is CM_RESOURCE_INTERRUPT_MESSAGE_TOKEN, which stands for a message's vector before one is assigned. The
// raw vectors of messages count down from it.
const MessageToken uint32 = 0xFFFFFFFE

// firstTokenVector is where Validate takes a vector for a token that leaked out of a raw descriptor.
const firstTokenVector uint32 = 0xFFFFFF00

// The bounds of IRQL on x64, wdm.h: device interrupts have 3 to 11 (DIRQL), 1 and 2 are software levels.
const (
	dispatchLevel = 2
	maxDIRQL      = 11
	highLevel     = 15
)

// allProcessorGroups is ALL_PROCESSOR_GROUPS: the affinity holds in any group.
const allProcessorGroups uint16 = 0xFFFF

// Validate checks that the descriptor describes an interrupt that can be connected, on any machine. The error names
// the field and its value. The mapping to connect parameters does not ask for it: it takes any descriptor.
//
// Refused are a type other than interrupt; vector 0, which Microsoft's framework takes for "none assigned", and a raw
// token for a vector; a level that no device has; no processor; no share disposition; a message that is not latched.
func (d TranslatedDescriptor) Validate() error {
	fail := func(format string, args ...any) error {
		return fmt.Errorf("translated descriptor: "+format, args...)
	}
	switch {
	case d.Type != ResourceInterrupt:
		return fail("type %d (%s) is not interrupt (%d); skip it, a list holds other resources too",
			uint8(d.Type), d.Type, uint8(ResourceInterrupt))
	case d.Vector == 0:
		return fail("vector 0 means that no interrupt was assigned")
	case d.Vector >= firstTokenVector:
		return fail("vector 0x%x is a message token of a raw descriptor; take the translated list", d.Vector)
	case d.Level > highLevel:
		return fail("level 0x%x is above %d, the highest IRQL; the mapping would keep its low byte, 0x%02x",
			d.Level, highLevel, uint8(d.Level))
	case d.Level != 0 && d.Level <= dispatchLevel:
		return fail("level %d is a software IRQL; want 3 to %d, or 0 for passive level", d.Level, maxDIRQL)
	case d.Affinity == 0:
		return fail("affinity 0 leaves no processor to take the interrupt")
	case d.Share == ShareUndetermined || d.Share > ShareShared:
		return fail("share disposition %d is not 1 (device exclusive), 2 (driver exclusive) or 3 (shared)", uint8(d.Share))
	case d.Flags.Message() && !d.Flags.Latched():
		return fail("flags 0x%04x have message without latched; a message is an edge", uint16(d.Flags))
	}
	return nil
}

// ValidateFor is Validate on a machine with that many processor groups of 64: it also refuses a group that the machine
// has not. Group 0xffff (ALL_PROCESSOR_GROUPS) is any group.
func (d TranslatedDescriptor) ValidateFor(groups int) error {
	if err := d.Validate(); err != nil {
		return err
	}
	if int(d.Group) >= groups && d.Group != allProcessorGroups {
		return fmt.Errorf("translated descriptor: group %d does not exist; this machine has %d, counted from 0",
			d.Group, groups)
	}
	return nil
}

// Warnings lists what is unusual about the descriptor of a PCI interrupt and yet no reason to refuse it.
func (d TranslatedDescriptor) Warnings() []string {
	var warnings []string
	warn := func(format string, args ...any) {
		warnings = append(warnings, fmt.Sprintf(format, args...))
	}
	if d.Type != ResourceInterrupt {
		return nil
	}
	if d.Level > maxDIRQL && d.Level <= highLevel {
		warn("level %d is above the device levels, 3 to %d", d.Level, maxDIRQL)
	}
	if d.Share == ShareDriverExclusive {
		warn("share disposition %d (driver exclusive) is not supported for WDM drivers", uint8(d.Share))
	}
	if d.Flags.Latched() && !d.Flags.Message() {
		warn("flags 0x%04x: a latched line, and PCI lines are level-sensitive", uint16(d.Flags))
	}
	if d.Flags&InterruptPolicyIncluded != 0 {
		warn("flags 0x%04x: policy included belongs to requirement lists and is ignored", uint16(d.Flags))
	}
	if unknown := d.Flags &^ knownFlags; unknown != 0 {
		warn("flags 0x%04x: bits 0x%04x are not known and are ignored", uint16(d.Flags), uint16(unknown))
	}
	return warnings
}
