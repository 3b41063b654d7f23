package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/irqbridge/irqbridge/cmd/irqbridge/internal/profile"
	"github.com/irqbridge/irqbridge/pci"
	"github.com/irqbridge/irqbridge/vfio"
	"github.com/irqbridge/irqbridge/vfio/host"
)

// The exit statuses; the package documentation says what they mean.
const (
	exitOK          = 0
	exitFailed      = 1
	exitUsage       = 2
	exitPartial     = 3
	exitUnsupported = 4
)

// failure is an error with an exit status and what to type next.
type failure struct {
	code int
	err  error // nil: all has been said already
	next string
}

func (f *failure) Error() string {
	if f.err == nil {
		return fmt.Sprintf("exit status %d", f.code)
	}
	return f.err.Error()
}

func (f *failure) Unwrap() error { return f.err }

// exit ends a verb that has told its problems itself.
func exit(code int) error {
	if code == exitOK {
		return nil
	}
	return &failure{code: code}
}

// unsupported says that the device or the host cannot do what was asked.
func unsupported(next, format string, args ...any) error {
	return &failure{exitUnsupported, fmt.Errorf(format, args...), next}
}

// unwritable says why the file that a user named for output cannot be written.
func unwritable(file string, err error) error {
	next := "write to another place"
	switch {
	case errors.Is(err, fs.ErrNotExist):
		next = "mkdir -p " + filepath.Dir(file)
	case errors.Is(err, fs.ErrPermission):
		next = "run with sudo, or write to another place"
	}
	return &failure{exitFailed, err, next}
}

func exitCode(err error) int {
	var f *failure
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &f):
		return f.code
	}
	for _, impossible := range []error{vfio.ErrNotSupported, vfio.ErrNoIOMMU, vfio.ErrNoInterruptRemapping, host.ErrNoIOMMU} {
		if errors.Is(err, impossible) {
			return exitUnsupported
		}
	}
	return exitFailed
}

// complain tells the user of an error: what failed and why on one line, what to type on the next. Of errors that were
// joined it tells one after another.
func (a *app) complain(err error) {
	if list, ok := err.(interface{ Unwrap() []error }); ok { //nolint:errorlint // only what Join made, and at the top
		if parts := list.Unwrap(); errors.Join(parts...).Error() == err.Error() {
			for _, part := range parts {
				a.complain(part)
			}
			return
		}
	}
	what, next := err.Error(), ""
	var (
		ours      *failure
		operation *vfio.OpError
		onHost    *host.Error
		inProfile *profile.Error
	)
	switch {
	case errors.As(err, &ours):
		if ours.err == nil {
			return
		}
		what, next = ours.err.Error(), ours.next
		if next == "" && errors.Unwrap(ours.err) != nil {
			a.complain(ours.err)
			return
		}
	case errors.As(err, &inProfile):
		next = fmt.Sprintf("correct line %d of %s, then: irqbridge profile check %s", inProfile.Line, inProfile.File, inProfile.File)
	case errors.As(err, &operation):
		what, next = reword(err, operation, describeOperation(operation), operation.Address.String()), a.nextAfter(operation)
	case errors.As(err, &onHost):
		what = reword(err, onHost, sentence(onHost.Subject+": "+onHost.Op, onHost.Err, onHost.Cause), onHost.Subject)
		if next = onHost.Remedy; errors.Is(err, host.ErrInUse) {
			next = "end that use, or: irqbridge bind --force " + onHost.Subject
		}
	}
	a.note("%s", what)
	if next != "" {
		a.next("%s", next)
	}
}

// reword puts text for the inner error into the text of err, without a subject that was named before.
func reword(err, inner error, text, subject string) string {
	before, after, _ := strings.Cut(err.Error(), inner.Error())
	if strings.Contains(before, subject) {
		text = strings.TrimPrefix(text, subject+": ")
	}
	return before + text + after
}

func describeOperation(e *vfio.OpError) string {
	what := fmt.Sprintf("%v: %s", e.Address, e.Op)
	if e.Index != vfio.NoIndex {
		what += " " + e.Index.String()
	}
	if e.Vector >= 0 {
		what += fmt.Sprintf(" vector %d", e.Vector)
	}
	return sentence(what, e.Err, e.Cause)
}

// sentence puts the cause before the kernel's word for it: the reader wants the first and may search for the second.
func sentence(what string, err error, cause string) string {
	switch {
	case err == nil && cause == "":
		return what
	case err == nil:
		return what + ": " + cause
	case cause == "":
		return what + ": " + err.Error()
	default:
		return fmt.Sprintf("%s: %s (%v)", what, cause, err)
	}
}

// nextAfter is the next step, as a command of this program where it has one.
func (a *app) nextAfter(e *vfio.OpError) string {
	switch {
	case errors.Is(e, vfio.ErrNotFound) && e.Index == vfio.NoIndex && e.Op == "open":
		return "irqbridge list"
	case errors.Is(e, vfio.ErrNotBound):
		return "irqbridge bind " + e.Address.String()
	case errors.Is(e, vfio.ErrNotViable):
		if addresses := a.blockers(e.Address); len(addresses) > 0 {
			return "irqbridge bind " + strings.Join(addresses, " ")
		}
	case errors.Is(e, fs.ErrPermission) && couldBeGiven(e.Op):
		return fmt.Sprintf("sudo irqbridge bind --user $USER %v", e.Address)
	}
	return e.Remedy
}

// couldBeGiven tells whether an operation is the opening of a node that bind --user gives away: that of a group, or a device's own.
func couldBeGiven(op string) bool {
	node, ok := strings.CutPrefix(op, "open /dev/vfio/")
	node = strings.TrimPrefix(node, "devices/vfio")
	_, err := strconv.ParseUint(node, 10, 31)
	return ok && err == nil
}

// blockers lists the members of a device's IOMMU group that keep it from being viable.
func (a *app) blockers(address pci.Address) []string {
	d, err := a.host.Device(address)
	if err != nil || d.Group < 0 {
		return nil
	}
	g, err := a.host.Group(d.Group)
	if err != nil {
		return nil
	}
	var list []string
	for _, b := range g.Blockers() {
		list = append(list, b.Address.String())
	}
	return list
}
