package connect

import (
	"fmt"
	"slices"
	"sync"

	"github.com/irqbridge/irqbridge/vfio/host"
)

// line is an interrupt line of the host that Policy.ModelSharedLines makes one vector for all the devices on it. Each
// device keeps a source of its own, with an eventfd, a thread and a mask in the kernel; the chain is common. So a
// service routine may be called on the threads of several devices, at one time on one of them: it runs under its lock.
//
// The order of locks is: the mu of one device, the mu of the chain, interrupt locks. Nobody holds the mu of two
// devices, and a walk holds one interrupt lock at a time and nothing else.
type line struct {
	host   *host.Host
	irq    int
	vector uint32
	chain  *chain
	users  int // devices that it is assigned to
}

// lines are the modelled lines that are assigned.
var lines struct {
	mu  sync.Mutex
	all []*line
}

// takeLine returns the line for a device's host IRQ, with a vector for the first one. ok is false when there is none left.
func takeLine(h *host.Host, irq int) (_ *line, ok bool) {
	lines.mu.Lock()
	defer lines.mu.Unlock()
	n := slices.IndexFunc(lines.all, func(l *line) bool { return l.irq == irq && l.host.Same(h) })
	if n < 0 {
		vector, ok := vectors.alloc(1)
		if !ok {
			return nil, false
		}
		n = len(lines.all)
		lines.all = append(lines.all, &line{host: h, irq: irq, vector: vector, chain: newChain()})
	}
	l := lines.all[n]
	l.users++
	return l, true
}

// release takes a device off the line. The last one gives the vector back.
func (l *line) release() {
	lines.mu.Lock()
	defer lines.mu.Unlock()
	if l.users--; l.users > 0 {
		return
	}
	vectors.release(l.vector, 1)
	lines.all = slices.DeleteFunc(lines.all, func(m *line) bool { return m == l })
}

// hostLine returns the number of the Linux interrupt that the device's line is.
func (d *device) hostLine() (int, error) {
	h, err := d.vfio.Host().Device(d.vfio.Address())
	if err != nil {
		return 0, err
	}
	if h.IRQ == 0 {
		return 0, fmt.Errorf("the host has no interrupt for the line of %s, so it cannot be modelled as shared", d.vfio.Address())
	}
	return h.IRQ, nil
}
