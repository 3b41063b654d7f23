package main

import (
	"errors"
	"fmt"
	"io"
	"runtime"
	"strconv"
	"time"

	"github.com/irqbridge/irqbridge/connect"
	"github.com/irqbridge/irqbridge/pci"
	"github.com/irqbridge/irqbridge/vfio"
	"github.com/irqbridge/irqbridge/vfio/host"
)

// Inside the virtual machine, the processes in Go that are measured are
//
//	benchmark interrupt BOARD ADDRESS WRITER-CPU CPU PRIORITY COUNT
//	benchmark open BOARD ADDRESS WRITER-CPU CPU PRIORITY COUNT
//
// The first makes a device interrupt by a register, and serves that, as c/vm.c does. The other says how long it takes from opening
// the device until its interrupt is armed; COUNT means nothing there.

// write is a change of a register of BAR 0.
type write struct {
	register uint64
	value    uint32
}

// board is a device of the virtual machine: as in c/vm.c.
type board struct {
	name        string
	kind        pci.Kind
	enable      []write
	raise       write
	status      write // register and mask: it has interrupted, and not been acknowledged
	acknowledge write
}

var boards = []*board{
	{name: "edu", kind: pci.KindMSI, enable: []write{{0x64, 0xffffffff}}, raise: write{0x60, 1}, status: write{0x24, 1}, acknowledge: write{0x64, 1}},
	{
		name: "e1000e", kind: pci.KindMSIX,
		enable: []write{{0xc0, 0xffffffff}, {0xe4, 0x000cba98}, {0xd0, 0x100000}}, // ICR, IVAR, IMS
		raise:  write{0xc8, 0x100000}, status: write{0xc8, 0x100000}, acknowledge: write{0xc0, 0x100000},
	},
}

// interrupter is a process that makes its device interrupt.
type interrupter struct {
	board                        *board
	address                      pci.Address
	writer, cpu, priority, count int
	registers                    *vfio.BAR
	shared                       []byte
	failed                       error // of an access to a register in the service routine
}

func parseInterrupter(args []string) (*interrupter, error) {
	if len(args) != 6 {
		return nil, errors.New("want BOARD ADDRESS WRITER-CPU CPU PRIORITY COUNT")
	}
	in := &interrupter{shared: make([]byte, sharedSize)}
	for _, b := range boards {
		if b.name == args[0] {
			in.board = b
		}
	}
	if in.board == nil {
		return nil, fmt.Errorf("there is no board %q", args[0])
	}
	var err error
	if in.address, err = pci.ParseAddress(args[1]); err != nil {
		return nil, err
	}
	for i, n := range []*int{&in.writer, &in.cpu, &in.priority, &in.count} {
		if *n, err = strconv.Atoi(args[2+i]); err != nil {
			return nil, err
		}
	}
	return in, nil
}

func interruptIn(args []string, stdout io.Writer) error {
	in, err := parseInterrupter(args)
	if err != nil {
		return err
	}
	dev, err := vfio.Open(in.address)
	if err != nil {
		return err
	}
	defer func() { _ = dev.Close() }() // the process ends
	if in.registers, err = dev.BAR(0); err != nil {
		return err
	}
	i, err := in.connect(dev)
	if err != nil {
		return err
	}
	for _, w := range in.board.enable {
		if err := in.registers.Write32(w.register, w.value); err != nil {
			return err
		}
	}
	samples, lost, err := in.measure()
	if err := errors.Join(err, i.Dispatching().Warning, i.Err(), disconnect(i), in.failed); err != nil {
		return err
	}
	if _, err := fmt.Fprintf(stdout, "fired %d\nlost %d\n", in.count, lost); err != nil {
		return err
	}
	for _, ns := range samples {
		if _, err := fmt.Fprintf(stdout, "sample %.0f\n", ns); err != nil {
			return err
		}
	}
	return nil
}

func disconnect(i *connect.Interrupt) error {
	return connect.Disconnect(&connect.DisconnectParameters{Version: connect.VersionFullySpecified, ConnectionContext: i})
}

func (in *interrupter) connect(dev *vfio.Device) (i *connect.Interrupt, err error) {
	resources, err := connect.Assign(dev, connect.Policy{Kind: in.board.kind, Messages: 1, CPUs: host.CPUSetOf(in.cpu)})
	if err == nil {
		err = resources.SetDispatch(connect.Dispatch{Priority: in.priority})
	}
	if err != nil {
		return nil, err
	}
	p, err := connect.FromDescriptor(resources.Expand()[0].Translated)
	if err != nil {
		return nil, err
	}
	shared := &in.shared[0]
	p.PhysicalDeviceObject = dev
	p.InterruptObject = &i
	p.ServiceRoutine = func(*connect.Interrupt, any) bool {
		called(shared, 0)
		return in.acknowledge()
	}
	return i, connect.Connect(&p)
}

// acknowledge tells whether the device has interrupted, and then has the clock of the callback where the writer looks.
func (in *interrupter) acknowledge() bool {
	v, err := in.registers.Read32(in.board.status.register)
	if err == nil && v&in.board.status.value == 0 {
		return false
	}
	if err == nil {
		err = in.registers.Write32(in.board.acknowledge.register, in.board.acknowledge.value)
	}
	if err != nil {
		in.failed = err
	}
	store(&in.shared[sharedSignals], load(&in.shared[sharedLast]))
	return true
}

const (
	guestGap = 500 * time.Microsecond
	gaveUp   = 3 * time.Second
)

// measure makes the device interrupt again and again, each time when the interrupt before was served. The writer never sleeps: in
// an emulated machine a sleep is dear, and so is the runtime's monitor when it looks after one who sleeps and wakes.
func (in *interrupter) measure() (samples []float64, lost int, err error) {
	runtime.LockOSThread() // and never unlocked: the process ends
	if err := host.New("/").PinThread(host.CPUSetOf(in.writer)); err != nil {
		return nil, 0, err
	}
	claimed, raise := &in.shared[sharedSignals], in.board.raise
	latencies := make([]uint64, 0, in.count)
	begin, beginTicks := time.Now(), clock()
	for range in.count {
		before := load(claimed)
		t := clock()
		if err := in.registers.Write32(raise.register, raise.value); err != nil {
			return nil, 0, err
		}
		sent := time.Now()
		for load(claimed) == before && time.Since(sent) < gaveUp {
		}
		if load(claimed) == before {
			lost++
			continue
		}
		latencies = append(latencies, load(claimed)-t)
		for answered := time.Now(); time.Since(answered) < guestGap; {
		}
	}
	nsPerTick := float64(time.Since(begin)) / float64(clock()-beginTicks)
	for _, l := range latencies {
		samples = append(samples, float64(l)*nsPerTick)
	}
	return samples, lost, nil
}

// openIn is the process that opens its device once, as libvfio's test does.
func openIn(args []string, stdout io.Writer) error {
	in, err := parseInterrupter(args)
	if err != nil {
		return err
	}
	begin := time.Now()
	dev, err := vfio.Open(in.address)
	if err != nil {
		return err
	}
	defer func() { _ = dev.Close() }() // the process ends
	if in.registers, err = dev.BAR(0); err != nil {
		return err
	}
	opened := time.Since(begin)
	i, err := in.connect(dev)
	if err != nil {
		return err
	}
	armed := time.Since(begin)
	if err := disconnect(i); err != nil {
		return err
	}
	_, err = fmt.Fprintf(stdout, "opened %d\narmed %d\n", opened, armed)
	return err
}
