package cli

// verdict is what came of one thing that was tried.
type verdict uint8

const (
	passed verdict = iota
	failed
	notPossible // and so nothing is proved
)

func (v verdict) String() string {
	return [...]string{"ok", "FAILED", "not possible"}[v]
}

// MarshalText gives the verdict in JSON: pass, fail or skip, as TAP and the kernel's selftests name them.
func (v verdict) MarshalText() ([]byte, error) {
	return []byte([...]string{"pass", "fail", "skip"}[v]), nil
}

// worse is the exit status of two things that were done: one that failed outweighs what was done in part.
func worse(a, b int) int {
	if a == exitFailed || b == exitFailed {
		return exitFailed
	}
	return max(a, b)
}

// exit is the exit status when this verdict comes to what led to code: one that failed outweighs what was not possible.
func (v verdict) exit(code int) int {
	switch {
	case v == failed || code == exitFailed:
		return exitFailed
	case v == notPossible:
		return exitPartial
	}
	return code
}
