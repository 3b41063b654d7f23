package connect

import (
	"encoding/binary"
	"fmt"

	"github.com/irqbridge/irqbridge/pci"
	"github.com/irqbridge/irqbridge/vfio/host"
)

// Registry is what the registry of Windows says about the interrupts of a device, for somebody who brings it along: the
// values below the key "Interrupt Management" of the device's hardware key, which an administrator or an INF file writes.
// The zero value is a device of which nothing is written.
type Registry struct {
	// DevicePolicy is the value of this name (REG_DWORD) of the key "Affinity Policy".
	DevicePolicy uint32
	// AssignmentSetOverride is the value of this name (REG_BINARY, REG_DWORD or REG_QWORD) of the key "Affinity Policy" as
	// it is stored: a KAFFINITY mask in little-endian bytes, 8 at most. Windows looks at it for DevicePolicy 4 only. The
	// mask is of group 0.
	AssignmentSetOverride []byte
	// MSISupported is whether the value of this name (REG_DWORD) of the key "MessageSignaledInterruptProperties" is 1.
	// Without it Windows gives the device its line, whatever messages it has.
	MSISupported bool
	// MessageNumberLimit is the value of this name (REG_DWORD) of the same key, 0 when it is absent.
	MessageNumberLimit uint32
}

// Policy is the policy that follows from the values, for [Assign]. It keeps to the limits of Windows. The error says which
// value makes no sense.
func (r Registry) Policy() (Policy, error) {
	p := Policy{
		Messages:      int(r.MessageNumberLimit),
		Affinity:      DevicePolicy(r.DevicePolicy),
		WholeTable:    true,
		WindowsLimits: true,
	}
	if !r.MSISupported {
		p.Kind = pci.KindINTx
	}
	if n := len(r.AssignmentSetOverride); n > 8 {
		return Policy{}, fmt.Errorf("AssignmentSetOverride of %d bytes; a KAFFINITY has 8", n)
	}
	if p.Affinity == SpecifiedProcessors {
		var mask [8]byte
		copy(mask[:], r.AssignmentSetOverride)
		p.CPUs = host.FromGroupMask(0, binary.LittleEndian.Uint64(mask[:]))
		if p.CPUs.Empty() {
			return Policy{}, fmt.Errorf("DevicePolicy %d (%s) without a processor in AssignmentSetOverride", r.DevicePolicy, p.Affinity)
		}
	}
	if err := p.check(); err != nil {
		return Policy{}, err
	}
	return p, nil
}
