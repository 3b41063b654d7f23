package diagnosis

import (
	"cmp"
	"slices"
)

// Status is how a check ended.
type Status uint8

// The statuses, from the best to the worst. Unknown is that of a check that could not be made.
const (
	OK Status = iota
	Unknown
	Warning
	Failure
)

// String returns "ok", "unknown", "warn" or "fail".
func (s Status) String() string { return [...]string{"ok", "unknown", "warn", "fail"}[s] }

// MarshalText gives the form of String.
func (s Status) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Check is one question, and what was found.
type Check struct {
	ID     string `json:"id"` // stable: "iommu"
	Status Status `json:"status"`
	Cause  string `json:"cause"`            // what is in the way or, of a check that passed, how things are
	Next   string `json:"next,omitempty"`   // what to type next; "" when it passed
	Detail string `json:"detail,omitempty"` // what is good to know beside
}

func ok(id, state string) Check { return Check{ID: id, Cause: state} }

func fail(id, cause, next string) Check {
	return Check{ID: id, Status: Failure, Cause: cause, Next: next}
}

func warn(id, cause, next string) Check {
	return Check{ID: id, Status: Warning, Cause: cause, Next: next}
}

func unknown(id, cause, next string) Check {
	return Check{ID: id, Status: Unknown, Cause: cause, Next: next}
}

// Sort puts what is in the way first, then warnings, then what could not be checked, and last what passed. Within these the
// order stays.
func Sort(checks []Check) {
	slices.SortStableFunc(checks, func(a, b Check) int { return cmp.Compare(b.Status, a.Status) })
}
