package host

// Host is one Linux host, seen through an [OS]. It holds no state of its own and caches nothing, since everything it
// reports can change at any time; it is safe for concurrent use.
type Host struct {
	os OS
}

// New returns the host whose /sys, /proc and /run lie below the directory root. "/" is the running system. Below any
// other root, symbolic links are followed as chroot(2) would: an absolute target starts at root, and ".." does not
// leave it. The CPU calls always go to the running kernel.
func New(root string) *Host {
	return NewOn(newLocal(root))
}

// NewOn returns the host behind an OS, such as a fake kernel.
func NewOn(o OS) *Host {
	return &Host{os: o}
}
