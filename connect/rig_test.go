package connect_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/irqbridge/irqbridge/connect"
	"github.com/irqbridge/irqbridge/pci"
	"github.com/irqbridge/irqbridge/vfio"
	"github.com/irqbridge/irqbridge/vfio/host"
	"github.com/irqbridge/irqbridge/vfio/vfiotest"
)

// deadline is how long a condition may take to become true. It is long because it only ends a test that failed.
const deadline = 60 * time.Second

func eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	for end := time.Now().Add(deadline); !condition(); time.Sleep(100 * time.Microsecond) {
		if time.Now().After(end) {
			require.FailNow(t, "still not so: "+what)
		}
	}
}

func received[T any](t testing.TB, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(deadline):
		require.FailNow(t, "nothing arrived")
		panic("not reached")
	}
}

// tell is how a service routine reports: it does not wait. The device may call it without having been asked to, as
// e1000e does when its link comes up.
func tell[T any](c chan<- T, v T) {
	select {
	case c <- v:
	default:
	}
}

// rig is an opened device with assigned interrupts, and its registers.
type rig struct {
	testing.TB
	m         *vfiotest.Machine
	dev       *vfio.Device
	resources *connect.Resources
	messages  []pci.Message
	bar       *vfio.BAR
	board     board

	lastRaise time.Time
}

// board is how a device's own interrupt n is enabled, raised, recognised and acknowledged.
type board struct {
	quiet       func(r *rig)
	setUp       func(r *rig)
	raise       func(r *rig, n int)
	raised      func(r *rig, n int) bool
	acknowledge func(r *rig, n int)
}

// eduBoard has one interrupt: a bit of the status register, over the line or over one message.
var eduBoard = board{
	quiet:       func(r *rig) { r.write(0x64, 0xFFFFFFFF) },
	setUp:       func(*rig) {},
	raise:       func(r *rig, _ int) { r.write(0x60, 1) },
	raised:      func(r *rig, _ int) bool { return r.read(0x24)&1 != 0 },
	acknowledge: func(r *rig, _ int) { r.write(0x64, 1) },
}

// e1000eBoard uses the five causes of the 82574 that can have a message each: ICS raises and shows what is pending, IMS
// enables, what is written to ICR is cleared, IVAR routes cause n to message n. The fifth cause is also raised by the
// device, when its link comes up.
var e1000eBoard = board{
	quiet: func(r *rig) {
		r.write(0xD8, 0xFFFFFFFF) // IMC disables
		r.write(0xC0, 0xFFFFFFFF)
	},
	setUp: func(r *rig) {
		r.write(0xE4, 0x8|0x9<<4|0xA<<8|0xB<<12|0xC<<16)
		r.write(0xD0, 0x1F<<20)
	},
	raise:       func(r *rig, n int) { r.write(0xC8, 1<<(20+n)) },
	raised:      func(r *rig, n int) bool { return r.read(0xC8)&(1<<(20+n)) != 0 },
	acknowledge: func(r *rig, n int) { r.write(0xC0, 1<<(20+n)) },
}

func (r *rig) read(off uint64) uint32 {
	v, err := r.bar.Read32(off)
	assert.NoError(r, err)
	return v
}

func (r *rig) write(off uint64, v uint32) { assert.NoError(r, r.bar.Write32(off, v)) }

// open opens a device of the machine and assigns interrupts to it.
func open(t *testing.T, m *vfiotest.Machine, address pci.Address, p connect.Policy) *rig {
	t.Helper()
	r := &rig{TB: t, m: m, dev: m.Open(t, address), board: eduBoard}
	if address == m.E1000E {
		r.board = e1000eBoard
	}
	bar, err := r.dev.BAR(0)
	require.NoError(t, err)
	r.bar = bar
	r.quiet()
	r.assign(p)
	r.board.setUp(r)
	r.lastRaise = time.Now() // what was pending was raised just now, on the line
	r.settle()
	t.Cleanup(r.quiet)
	return r
}

func (r *rig) assign(p connect.Policy) {
	r.Helper()
	resources, err := connect.Assign(r.dev, p)
	require.NoError(r, err)
	require.NoError(r, resources.Validate())
	r.resources, r.messages = resources, resources.Expand()
}

// edu opens an edu with the given kind of interrupt, e1000e five messages.
func edu(t *testing.T, m *vfiotest.Machine, kind pci.Kind) *rig {
	return open(t, m, m.EDU, connect.Policy{Kind: kind})
}

func e1000e(t *testing.T, m *vfiotest.Machine) *rig {
	return open(t, m, m.E1000E, connect.Policy{Kind: pci.KindMSIX})
}

// serve is the service routine of the board's interrupt n: it claims what its device raised and quiets it.
func (r *rig) serve(n int) bool {
	if !r.board.raised(r, n) {
		return false
	}
	r.board.acknowledge(r, n)
	return true
}

// params are the parameters of interrupt n as a driver fills them in.
func (r *rig) params(n int, routine connect.ServiceRoutine) *connect.Parameters {
	r.Helper()
	p, err := connect.FromDescriptor(r.messages[n].Translated)
	require.NoError(r, err)
	p.PhysicalDeviceObject = r.dev
	p.InterruptObject = new(*connect.Interrupt)
	p.ServiceRoutine = routine
	return &p
}

// connect connects interrupt n, with changes to its parameters.
func (r *rig) connect(n int, routine connect.ServiceRoutine, change ...func(*connect.Parameters)) *connect.Interrupt {
	r.Helper()
	p := r.params(n, routine)
	for _, c := range change {
		c(p)
	}
	require.NoError(r, connect.Connect(p))
	require.NotNil(r, *p.InterruptObject)
	return *p.InterruptObject
}

func (r *rig) disconnect(i *connect.Interrupt) {
	r.Helper()
	r.settle()
	require.NoError(r, disconnect(i))
}

func disconnect(i *connect.Interrupt) error {
	return connect.Disconnect(&connect.DisconnectParameters{Version: connect.VersionFullySpecified, ConnectionContext: i})
}

// trigger signals interrupt n through the kernel, without the device.
func (r *rig) trigger(n int) {
	r.Helper()
	require.NoError(r, r.dev.TriggerIRQ(vfio.IndexOf(r.resources.Kind), r.messages[n].Index, 1))
}

func (r *rig) enabled() bool {
	_, _, on := r.dev.EnabledIRQs()
	return on
}

func (r *rig) raise(n int) {
	r.board.raise(r, n)
	r.lastRaise = time.Now()
}

// close closes the device before the end of the test.
func (r *rig) close() {
	r.Helper()
	r.quiet()
	require.NoError(r, r.dev.Close())
}

// quiet keeps the device from interrupting, unless the test has closed it.
func (r *rig) quiet() {
	if errors.Is(r.dev.ReadConfig(nil, 0), os.ErrClosed) {
		return
	}
	r.board.quiet(r)
	r.lastRaise = time.Now()
	r.settle()
}

// settle keeps QEMU alive: its e1000e has timers that run for 128 us after each interrupt, and abort the machine when
// MSI-X has been disabled or enabled by the time they end. A sleep waits for them: its own timer stands behind them in
// QEMU's queue, where a loop that looks at the clock could be ahead of it.
func (r *rig) settle() {
	if r.m.Real && r.dev.Address() == r.m.E1000E && time.Since(r.lastRaise) < time.Second {
		time.Sleep(time.Millisecond)
	}
}

func shared(p *connect.Parameters) { p.ShareVector = true }

// never is a service routine that must not be called.
func never(t testing.TB) connect.ServiceRoutine {
	return func(i *connect.Interrupt, _ any) bool {
		t.Errorf("the service routine of %s was called", i)
		return true
	}
}

// claim is a service routine that only claims: for triggers, which no device knows of.
func claim(*connect.Interrupt, any) bool { return true }

// altered is a fake kernel of which a test changes some answers. It is set up before the device is opened, and its
// fields are changed under the lock afterwards.
type altered struct {
	*vfiotest.Kernel
	mu sync.Mutex
	// config lies over the device's configuration space, count over what the kernel says of interrupt indexes.
	config map[int]byte
	count  map[uint32]uint32
	// files are in place of the fake's, by name.
	files map[string]string
	// setIRQs answers VFIO_DEVICE_SET_IRQS in place of the fake when it returns true.
	setIRQs func(call setIRQs) (int, error, bool)
	// online and allowed are the machine's processors, where not empty. Pinning to any of them goes well.
	online, allowed host.CPUSet
	pinned          map[int]host.CPUSet // by thread id
	unmasked        int
}

// setIRQs is struct vfio_irq_set, and the first of its eventfds that is one, else -1.
type setIRQs struct {
	flags, index, start, count uint32
	eventfd                    int
}

const (
	dataEventFD  = 1 << 2 // VFIO_IRQ_SET_DATA_EVENTFD
	actionUnmask = 1 << 4 // VFIO_IRQ_SET_ACTION_UNMASK
)

// alter returns a fake machine whose kernel the test may change.
func alter(t *testing.T, opts ...vfiotest.Option) (*vfiotest.Machine, *altered) {
	m := vfiotest.FakeMachine(t, opts...)
	return m, intercept(m)
}

// intercept puts itself between a fake machine, of which nothing is open yet, and whoever uses it.
func intercept(m *vfiotest.Machine) *altered {
	k := &altered{
		Kernel: m.Fake, config: make(map[int]byte), count: make(map[uint32]uint32), pinned: make(map[int]host.CPUSet),
	}
	m.Kernel, m.Host = k, k.Host()
	return k
}

func (k *altered) Host() *host.Host { return host.NewOn(k) }

func (k *altered) Pread(fd int, p []byte, offset int64) (int, error) {
	n, err := k.Kernel.Pread(fd, p, offset)
	k.mu.Lock()
	defer k.mu.Unlock()
	const configRegion = 7
	if offset>>40 == configRegion {
		for at, b := range k.config {
			if i := at - int(offset&(1<<40-1)); i >= 0 && i < n {
				p[i] = b
			}
		}
	}
	return n, err
}

func (k *altered) DeviceGetIRQInfo(fd int, arg []byte) error {
	err := k.Kernel.DeviceGetIRQInfo(fd, arg)
	k.mu.Lock()
	defer k.mu.Unlock()
	if n, ok := k.count[binary.NativeEndian.Uint32(arg[8:])]; ok && err == nil {
		binary.NativeEndian.PutUint32(arg[12:], n)
	}
	return err
}

func (k *altered) DeviceSetIRQs(fd int, arg []byte) (int, error) {
	field := func(i int) uint32 { return binary.NativeEndian.Uint32(arg[4*i:]) }
	call := setIRQs{flags: field(1), index: field(2), start: field(3), count: field(4), eventfd: -1}
	if call.flags&dataEventFD != 0 {
		for n := range int(call.count) {
			call.eventfd = max(call.eventfd, int(int32(field(5+n))))
		}
	}
	k.mu.Lock()
	answer := k.setIRQs
	if call.flags&actionUnmask != 0 {
		k.unmasked++
	}
	k.mu.Unlock()
	if answer != nil {
		if n, err, done := answer(call); done {
			return n, err
		}
	}
	return k.Kernel.DeviceSetIRQs(fd, arg)
}

func (k *altered) unmasks() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.unmasked
}

func (k *altered) ReadFile(name string) ([]byte, error) {
	k.mu.Lock()
	online := k.online
	text, ok := k.files[name]
	k.mu.Unlock()
	if ok {
		return []byte(text), nil
	}
	if name == "/sys/devices/system/cpu/online" && !online.Empty() {
		return []byte(online.List() + "\n"), nil
	}
	return k.Kernel.ReadFile(name)
}

func (k *altered) SetThreadAffinity(cpus host.CPUSet) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.online.Empty() && k.allowed.Empty() {
		return k.Kernel.SetThreadAffinity(cpus)
	}
	k.pinned[unix.Gettid()] = cpus
	return nil
}

func (k *altered) ThreadAffinity() (host.CPUSet, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if pinned, ok := k.pinned[unix.Gettid()]; ok {
		return pinned, nil
	}
	if !k.allowed.Empty() {
		return k.allowed, nil
	}
	if !k.online.Empty() {
		return k.online, nil
	}
	return k.Kernel.ThreadAffinity()
}

func (k *altered) set(change func(k *altered)) {
	k.mu.Lock()
	defer k.mu.Unlock()
	change(k)
}

var (
	_ vfio.Kernel = (*altered)(nil)
	_ host.OS     = (*altered)(nil)
)

// footprint is what a test must leave as it found it. A dispatcher is a goroutine with a thread of its own, which ends with it.
type footprint struct {
	files      []string
	goroutines goleak.Option
}

func takeFootprint(t testing.TB) footprint {
	t.Helper()
	return footprint{files: openFiles(t), goroutines: goleak.IgnoreCurrent()}
}

// openFiles lists what the process has open, by what it is: numbers change when files are closed and opened.
func openFiles(t testing.TB) []string {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	var files []string
	for _, e := range entries {
		target, err := os.Readlink("/proc/self/fd/" + e.Name())
		if err != nil {
			require.ErrorIs(t, err, fs.ErrNotExist) // the directory itself
			continue
		}
		files = append(files, target)
	}
	slices.Sort(files)
	return files
}

// requireNothingLeft fails unless no goroutine is there that was not before, and the same files are open. The threads of DPCs
// end by themselves when the last dispatcher has.
func (f footprint) requireNothingLeft(t testing.TB) {
	t.Helper()
	left := goleak.Find(f.goroutines)
	for end := time.Now().Add(deadline); left != nil && time.Now().Before(end); {
		left = goleak.Find(f.goroutines) // which waits for a moment
	}
	require.NoError(t, left)
	files := openFiles(t)
	for _, name := range f.files { // a thread that was just ending then may have had one open
		if n := slices.Index(files, name); n >= 0 {
			files = slices.Delete(files, n, n+1)
		}
	}
	require.Empty(t, files, "files are open that were not")
}

func threadAlive(tid int) bool {
	_, err := os.Stat(fmt.Sprintf("/proc/self/task/%d", tid))
	return err == nil
}
