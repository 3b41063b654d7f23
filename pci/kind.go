package pci

import "fmt"

// Kind is one of the three ways in which a PCI function interrupts. A function uses one of them at a time. The zero
// value is none of them.
type Kind uint8

// The kinds of interrupt, oldest first.
const (
	KindINTx Kind = iota + 1 // a level-triggered line, INTA# to INTD#, shared with other devices
	KindMSI                  // 1 to 32 messages with consecutive data, described in configuration space
	KindMSIX                 // 1 to 2048 messages, each with its own address and data in a table in a BAR
)

// String gives "intx", "msi" or "msix".
func (k Kind) String() string {
	switch k {
	case KindINTx:
		return "intx"
	case KindMSI:
		return "msi"
	case KindMSIX:
		return "msix"
	}
	return fmt.Sprintf("kind(%d)", uint8(k))
}

// ParseKind reads what String writes.
func ParseKind(s string) (Kind, error) {
	for k := KindINTx; k <= KindMSIX; k++ {
		if s == k.String() {
			return k, nil
		}
	}
	return 0, fmt.Errorf("interrupt kind %.20q is not known; want intx, msi or msix", s)
}

// MarshalText gives the form of String. A value that is no kind is an error.
func (k Kind) MarshalText() ([]byte, error) {
	if _, err := ParseKind(k.String()); err != nil {
		return nil, err
	}
	return []byte(k.String()), nil
}

// UnmarshalText takes what ParseKind takes and leaves the kind as it was on an error.
func (k *Kind) UnmarshalText(text []byte) error {
	parsed, err := ParseKind(string(text))
	if err != nil {
		return err
	}
	*k = parsed
	return nil
}
