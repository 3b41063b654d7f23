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

// NewOn returns the host behind an OS, such as a fake kernel. For [Host.Same] the OS is comparable, as a pointer is.
func NewOn(o OS) *Host {
	return &Host{os: o}
}

// Same tells whether both are one host: made by New with one root, or by NewOn on one OS.
func (h *Host) Same(other *Host) bool {
	here, ok := h.os.(*local)
	there, both := other.os.(*local)
	if ok && both {
		return here.root == there.root
	}
	return h.os == other.os
}
