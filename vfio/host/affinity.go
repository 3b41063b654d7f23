package host

import (
	"errors"
	"fmt"
	"io/fs"
	"strconv"

	"golang.org/x/sys/unix"
)

// Affinity is where a host IRQ may be delivered, and where it is.
type Affinity struct {
	Set       CPUSet // what was asked for: smp_affinity_list
	Effective CPUSet // what the interrupt controller does: effective_affinity_list; empty when the kernel does not tell
}

// Affinity returns the CPUs of a host IRQ; fs.ErrNotExist when there is no such IRQ, as after its index was disabled.
func (h *Host) Affinity(irq int) (Affinity, error) {
	var a Affinity
	var err error
	if a.Set, err = h.affinityFile(irq, "smp_affinity_list"); err != nil {
		return Affinity{}, err
	}
	a.Effective, err = h.affinityFile(irq, "effective_affinity_list")
	if err != nil && !errors.Is(err, fs.ErrNotExist) { // kernels without CONFIG_GENERIC_IRQ_EFFECTIVE_AFF_MASK
		return Affinity{}, err
	}
	return a, nil
}

func (h *Host) affinityFile(irq int, name string) (CPUSet, error) {
	b, err := h.os.ReadFile(irqDir(irq) + "/" + name)
	if err == nil {
		var cpus CPUSet
		if cpus, err = ParseCPUList(string(b)); err == nil {
			return cpus, nil
		}
	}
	return CPUSet{}, irqError(irq, "read "+name, err, "", "")
}

func irqDir(irq int) string { return "/proc/irq/" + strconv.Itoa(irq) }

func irqError(irq int, op string, err error, cause, remedy string) *Error {
	return &Error{Subject: fmt.Sprintf("IRQ %d", irq), Op: op, Err: err, Cause: cause, Remedy: remedy}
}

// SetAffinity asks that a host IRQ be delivered on cpus, by writing smp_affinity_list. Linux on x86 picks one of them.
// With interrupt remapping the next interrupt goes there. Without it, or when the interrupt was moved a moment ago, the next
// one still arrives where the last did, and only the one after moves. A set with a CPU number that this host cannot have
// is refused as a whole. The setting is lost when VFIO disables the index, and irqbalance may change it.
func (h *Host) SetAffinity(irq int, cpus CPUSet) error {
	op := "set its affinity to CPU " + cpus.List()
	if cpus.Empty() {
		return irqError(irq, "set its affinity", unix.EINVAL, "the set of CPUs is empty", "name at least one online CPU")
	}
	err := h.os.WriteFile(irqDir(irq)+"/smp_affinity_list", []byte(cpus.List()+"\n"))
	if err == nil {
		return nil
	}
	cause, remedy := "", ""
	switch {
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ERANGE), errors.Is(err, unix.EOVERFLOW):
		cause, remedy = "none of the CPUs is online, or one has a number that this host cannot have", "name an online CPU"
		if online, err := h.OnlineCPUs(); err == nil {
			cause, remedy = h.offCause(cpus, online), "online are "+online.List()
		}
	case errors.Is(err, unix.EIO), errors.Is(err, unix.EPERM):
		cause = "the kernel does not let this interrupt be moved: its affinity is managed, or the interrupt is bound to one CPU"
		remedy = "leave it where it is and pin the thread there instead"
	case errors.Is(err, unix.EACCES):
		cause, remedy = "only root may write it", "run with sudo, or set it once as root"
	case errors.Is(err, unix.EROFS):
		cause, remedy = "/proc is mounted read-only, as in a container", "run outside of the container"
	case errors.Is(err, unix.ENOSPC):
		cause, remedy = "these CPUs have no interrupt vector left", "choose other CPUs, or enable fewer messages"
	case errors.Is(err, unix.EBUSY):
		cause, remedy = "an earlier move of this interrupt is not finished", "try again after the next interrupt"
	case errors.Is(err, fs.ErrNotExist):
		cause, remedy = "there is no such IRQ (any more)", "set it after the index is enabled, and again after each time it is"
	}
	return irqError(irq, op, bare(err), cause, remedy)
}

// offCause says which of cpus are to blame.
func (h *Host) offCause(cpus, online CPUSet) string {
	missing := cpus.Minus(online)
	if missing.Empty() {
		return "the interrupt controller takes none of these CPUs"
	}
	return "CPU " + missing.List() + " is not online"
}
