package host

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// OnlineCPUs returns the CPUs that run.
func (h *Host) OnlineCPUs() (CPUSet, error) {
	const name = "/sys/devices/system/cpu/online"
	return h.readCPUList(name)
}

// NodeCPUs returns the CPUs of a NUMA node, online or not; a node that has memory only has none.
func (h *Host) NodeCPUs(node int) (CPUSet, error) {
	return h.readCPUList(fmt.Sprintf("/sys/devices/system/node/node%d/cpulist", node))
}

// AllowedCPUs returns the CPUs that the calling thread may run on: the process's own, unless this thread was pinned.
func (h *Host) AllowedCPUs() (CPUSet, error) {
	cpus, err := h.os.ThreadAffinity()
	if err != nil {
		return CPUSet{}, &Error{Op: "read the thread's CPUs", Err: err}
	}
	return cpus, nil
}

// BindableCPUs returns the CPUs that a thread of this process can be bound to: those that are online and, where that can be read,
// in its cpuset. What a thread may run on now, after taskset or with isolcpus, is no limit for that (sched_setaffinity(2)).
func (h *Host) BindableCPUs() (CPUSet, error) {
	cpus, err := h.OnlineCPUs()
	if err != nil {
		return CPUSet{}, err
	}
	if cpuset, _, err := h.cpuset(); err == nil {
		cpus = cpus.And(cpuset)
	}
	return cpus, nil
}

// IsolatedCPUs returns the CPUs that the scheduler leaves alone (isolcpus); none when the kernel does not say.
func (h *Host) IsolatedCPUs() CPUSet {
	cpus, _ := ParseCPUList(h.contents("/sys/devices/system/cpu/isolated"))
	return cpus
}

// ThreadCPUs returns the CPUs that each thread of a process may run on, where that can be read.
func (h *Host) ThreadCPUs(process int) []CPUSet {
	dir := fmt.Sprintf("/proc/%d/task", process)
	threads, _ := h.os.ReadDir(dir)
	var list []CPUSet
	for _, t := range threads {
		value, _ := h.status(dir+"/"+t+"/status", "Cpus_allowed_list")
		if cpus, err := ParseCPUList(value); err == nil && !cpus.Empty() {
			list = append(list, cpus)
		}
	}
	return list
}

// PinThread binds the calling thread to cpus. The caller has locked its goroutine to the thread (runtime.LockOSThread) and
// never unlocks it, so that the thread ends with the goroutine. Linux leaves out the CPUs that are offline or outside
// the process's cpuset, and fails only when none is left; [Host.AllowedCPUs] then tells what the thread got.
func (h *Host) PinThread(cpus CPUSet) error {
	subject := "CPU " + cpus.List()
	if cpus.Len() > 1 {
		subject = "CPUs " + cpus.List()
	}
	if cpus.Empty() {
		return &Error{Op: "pin the thread", Err: unix.EINVAL, Cause: "the set of CPUs is empty", Remedy: h.usableCPUs()}
	}
	err := h.os.SetThreadAffinity(cpus)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.EINVAL):
		return &Error{
			Subject: subject, Op: "pin the thread", Err: err,
			Cause: "none of these is online and in this process's cpuset", Remedy: h.usableCPUs(),
		}
	}
	return &Error{Subject: subject, Op: "pin the thread", Err: err}
}

// usableCPUs says in words what a thread could be pinned to.
func (h *Host) usableCPUs() string {
	text := "the CPUs to choose from could not be read"
	if online, err := h.OnlineCPUs(); err == nil {
		text = "online: " + online.List()
	}
	if cpuset, where, err := h.cpuset(); err == nil {
		text += fmt.Sprintf(", cpuset %s: %s", where, cpuset.List())
	}
	return text
}

// cpuset returns the CPUs that the process's control group has, and the group. Only the unified hierarchy (version 2) is
// asked.
func (h *Host) cpuset() (CPUSet, string, error) {
	b, err := h.os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return CPUSet{}, "", err
	}
	for line := range strings.Lines(string(b)) {
		if group, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "0::"); ok {
			cpus, err := h.readCPUList(path.Join("/sys/fs/cgroup", group, "cpuset.cpus.effective"))
			return cpus, group, err
		}
	}
	return CPUSet{}, "", fs.ErrNotExist
}

// readCPUList reads a file that holds a CPU list.
func (h *Host) readCPUList(name string) (CPUSet, error) {
	b, err := h.os.ReadFile(name)
	if err != nil {
		return CPUSet{}, &Error{Op: "read a CPU list", Err: err}
	}
	cpus, err := ParseCPUList(string(b))
	if err != nil {
		return CPUSet{}, &Error{Subject: name, Op: "read a CPU list", Err: err}
	}
	return cpus, nil
}

// CurrentCPU returns the CPU that the calling thread is on at this moment. It does not allocate.
func (h *Host) CurrentCPU() (int, error) { return h.os.CurrentCPU() }

// IRQBalance returns the process ID of irqbalance, which may rewrite any affinity at any time; 0 when it does not run.
func (h *Host) IRQBalance() int {
	for _, p := range h.processes() {
		if p.Name == "irqbalance" {
			return p.ID
		}
	}
	return 0
}

// Process is a running process.
type Process struct {
	ID   int
	Name string // its command name, at most 15 bytes (proc(5), /proc/PID/comm)
}

// String returns "1234 (name)".
func (p Process) String() string { return fmt.Sprintf("%d (%s)", p.ID, p.Name) }

// processes returns the running processes that can be seen from here.
func (h *Host) processes() []Process {
	names, _ := h.os.ReadDir("/proc")
	var processes []Process
	for _, name := range names {
		id, err := strconv.ParseUint(name, 10, 31)
		if err != nil {
			continue
		}
		comm, err := h.os.ReadFile("/proc/" + name + "/comm")
		if err != nil {
			continue // it ended
		}
		processes = append(processes, Process{ID: int(id), Name: strings.TrimSuffix(string(comm), "\n")})
	}
	return processes
}
