package host

import (
	"fmt"
	"strconv"
	"strings"
)

// capIPCLock is the number of CAP_IPC_LOCK, include/uapi/linux/capability.h.
const capIPCLock = 14

// MemoryLock returns how many bytes of memory this process may lock, which is how much it can map for devices
// (RLIMIT_MEMLOCK); limited is false when there is no limit, or none that counts (CAP_IPC_LOCK).
func (h *Host) MemoryLock() (bytes uint64, limited bool, err error) {
	const name = "/proc/self/limits"
	b, err := h.os.ReadFile(name)
	if err != nil {
		return 0, false, &Error{Op: "read the limit of locked memory", Err: err}
	}
	for line := range strings.Lines(string(b)) {
		rest, ok := strings.CutPrefix(line, "Max locked memory")
		fields := strings.Fields(rest)
		if !ok || len(fields) == 0 {
			continue
		}
		if fields[0] == "unlimited" || h.hasCapability(capIPCLock) {
			return 0, false, nil
		}
		bytes, err := strconv.ParseUint(fields[0], 10, 64)
		if err != nil {
			return 0, false, &Error{Subject: name, Op: "read the limit of locked memory", Err: err}
		}
		return bytes, true, nil
	}
	return 0, false, &Error{Subject: name, Op: "read the limit of locked memory", Err: fmt.Errorf("there is no line for it")}
}

// hasCapability tells whether a capability is in effect for this process (CapEff of /proc/self/status).
func (h *Host) hasCapability(n uint) bool {
	value, _ := h.status("/proc/self/status", "CapEff")
	set, err := strconv.ParseUint(value, 16, 64)
	return err == nil && set>>n&1 == 1
}

// status returns a value of a file such as /proc/self/status.
func (h *Host) status(file, name string) (string, bool) {
	for line := range strings.Lines(h.contents(file)) {
		if value, ok := strings.CutPrefix(line, name+":"); ok {
			return strings.TrimSpace(value), true
		}
	}
	return "", false
}
