package host

// Affinity is where a host IRQ may be delivered and where it is.
type Affinity struct {
	Set       CPUSet `json:"set"`       // what was asked for: smp_affinity_list
	Effective CPUSet `json:"effective"` // what the interrupt controller uses: effective_affinity_list; empty when the kernel does not tell
}

// Affinity returns the CPUs of a host IRQ; fs.ErrNotExist when there is no such IRQ.
func (h *Host) Affinity(irq int) (Affinity, error) { return Affinity{}, nil }

// SetAffinity asks that a host IRQ be delivered on one of cpus. Linux on x86 then picks one of them. Without interrupt
// remapping the next interrupt still arrives where the last one did. The setting is lost when the index is disabled.
func (h *Host) SetAffinity(irq int, cpus CPUSet) error { return nil }
