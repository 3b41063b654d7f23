package host

import (
	"errors"
	"strings"

	"github.com/irqbridge/irqbridge/pci"
)

// What callers branch on. A missing device, driver or IRQ is fs.ErrNotExist, a missing privilege fs.ErrPermission, both
// through the errno.
var (
	// ErrInUse says that the host itself uses the device, so that it is not taken away without force.
	ErrInUse = errors.New("the host uses the device")
	// ErrNoIOMMU says that the device is in no IOMMU group, so that no VFIO driver can take it.
	ErrNoIOMMU = errors.New("no IOMMU")
	// ErrShared says that a node which is to be given to a user is another's, or opens what is.
	ErrShared = errors.New("others have it, too")
)

// Error says what failed, on what, why, and what to do next.
type Error struct {
	Subject string // what it is about: "0000:00:04.0", "IRQ 27", "group 3", "CPUs 2-3"
	Op      string // what was attempted: "bind to vfio-pci"
	Err     error  // what the kernel or a check answered; an errno where there is one
	Cause   string // why, in words; may be ""
	Remedy  string // the next step, in words; may be ""
}

// Error returns "subject: op: err: cause; remedy", leaving out what is empty.
func (e *Error) Error() string {
	var b strings.Builder
	if e.Subject != "" {
		b.WriteString(e.Subject + ": ")
	}
	b.WriteString(e.Op)
	if e.Err != nil {
		b.WriteString(": " + e.Err.Error())
	}
	if e.Cause != "" {
		b.WriteString(": " + e.Cause)
	}
	if e.Remedy != "" {
		b.WriteString("; " + e.Remedy)
	}
	return b.String()
}

// Unwrap returns Err.
func (e *Error) Unwrap() error { return e.Err }

// deviceError is an Error about the device at a.
func deviceError(a pci.Address, op string, err error, cause, remedy string) *Error {
	return &Error{Subject: a.String(), Op: op, Err: err, Cause: cause, Remedy: remedy}
}
