package vfiotest_test

import (
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/irqbridge/irqbridge/pci"
	"github.com/irqbridge/irqbridge/vfio"
	"github.com/irqbridge/irqbridge/vfio/internal/uapi"
	"github.com/irqbridge/irqbridge/vfio/vfiotest"
)

// update records what the real kernel answers as the truth. It does nothing on the fake. In the virtual machine:
//
//	CGO_ENABLED=0 go test -c -o /tmp/vfiotest.test ./vfio/vfiotest
//	cd vfio/vfiotest
//	../../scripts/vm/run --go-test --kernel newest --bring-back "$PWD/testdata:testdata" -- /tmp/vfiotest.test -update
var update = flag.Bool("update", false, "record the real kernel's answers in testdata")

// patience is how long a test waits for what must come. It is only ever used up by a failure.
const patience = 20 * time.Second

// silence is how long a test waits for what must not come. On the fake nothing takes time.
func silence(m *vfiotest.Machine) time.Duration {
	if m.Real {
		return 20 * time.Millisecond
	}
	return 0
}

// golden compares what a test found with what the real kernel of the same version answered.
func golden(t *testing.T, m *vfiotest.Machine, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", m.Version.String(), name+".txt")
	if *update && m.Real {
		require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o755))
		require.NoError(t, os.WriteFile(file, []byte(got), 0o644))
		return
	}
	want, err := os.ReadFile(file)
	require.NoError(t, err)
	if string(want) == got {
		t.Logf("%s is as recorded", file) // scripts/conformance counts it
		return
	}
	wanted, found := strings.Split(string(want), "\n"), strings.Split(got, "\n")
	differ := 0
	for i := range max(len(wanted), len(found)) {
		var w, g string
		if i < len(wanted) {
			w = wanted[i]
		}
		if i < len(found) {
			g = found[i]
		}
		if w != g {
			if differ++; differ <= 12 {
				t.Errorf("%s:%d:\nwant %s\ngot  %s", file, i+1, w, g)
			}
		}
	}
	t.Errorf("%s: %d lines differ", file, differ)
}

// errno names an error as the man pages do.
func errno(err error) string {
	if err == nil {
		return "ok"
	}
	if e, ok := errors.AsType[unix.Errno](err); ok {
		return unix.ErrnoName(e)
	}
	return err.Error()
}

// event is an eventfd.
type event struct {
	t  *testing.T
	fd int
}

func newEvent(t *testing.T) *event {
	t.Helper()
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	require.NoError(t, err)
	e := &event{t: t, fd: fd}
	t.Cleanup(e.close)
	return e
}

func (e *event) close() {
	if e.fd >= 0 {
		require.NoError(e.t, unix.Close(e.fd))
		e.fd = -1
	}
}

// take returns the count and sets it to 0.
func (e *event) take() uint64 {
	e.t.Helper()
	b := make([]byte, 8)
	_, err := unix.Read(e.fd, b)
	if err == unix.EAGAIN {
		return 0
	}
	require.NoError(e.t, err)
	return binary.NativeEndian.Uint64(b)
}

// await waits until it is signalled, and returns the count.
func (e *event) await() uint64 {
	e.t.Helper()
	if e.poll(patience) {
		return e.take()
	}
	require.FailNow(e.t, "the eventfd was not signalled")
	return 0
}

// signal adds 1.
func (e *event) signal() {
	e.t.Helper()
	_, err := unix.Write(e.fd, binary.NativeEndian.AppendUint64(nil, 1))
	require.NoError(e.t, err)
}

// poll tells whether it is signalled within a time.
func (e *event) poll(within time.Duration) bool {
	e.t.Helper()
	deadline := time.Now().Add(within)
	for {
		left := max(0, time.Until(deadline))
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(e.fd), Events: unix.POLLIN}}, int(left.Milliseconds()))
		if err != unix.EINTR {
			require.NoError(e.t, err)
			return n == 1
		}
	}
}

// quiet asserts that nothing signals it.
func (e *event) quiet(m *vfiotest.Machine, why string) {
	e.t.Helper()
	assert.False(e.t, e.poll(silence(m)), why)
}

// raw is a device that was opened call by call, at the boundary to the kernel.
type raw struct {
	t       *testing.T
	m       *vfiotest.Machine
	k       vfio.Kernel
	address pci.Address

	container, group, device int // container is the iommufd, and group -1, where the device was opened by its own node
	ioas                     uint32
	bar                      uapi.Mapping
}

// openRaw binds a device to vfio-pci and opens it.
func openRaw(t *testing.T, m *vfiotest.Machine, a pci.Address) *raw {
	t.Helper()
	m.Bind(t, a)
	return openBound(t, m, a)
}

// openBound opens a device that is bound to vfio-pci, in the machine's way.
func openBound(t *testing.T, m *vfiotest.Machine, a pci.Address) *raw {
	t.Helper()
	if m.Backend == vfio.BackendIOMMUFD {
		return openByNode(t, m, a)
	}
	return openByGroup(t, m, a)
}

// newRaw is a device that is not open yet.
func newRaw(t *testing.T, m *vfiotest.Machine, a pci.Address) *raw {
	t.Helper()
	r := &raw{t: t, m: m, k: m.Kernel, address: a, container: -1, group: -1, device: -1}
	t.Cleanup(r.close)
	return r
}

// openByGroup opens a device that is bound to vfio-pci through its group.
func openByGroup(t *testing.T, m *vfiotest.Machine, a pci.Address) *raw {
	t.Helper()
	return modeType1v2.open(t, m, a)
}

// openByNode opens a device that is bound to vfio-pci by its own node, in an iommufd and an address space of its own.
func openByNode(t *testing.T, m *vfiotest.Machine, a pci.Address) *raw {
	t.Helper()
	return modeIOMMUFD.open(t, m, a)
}

// openGroup opens a group's node.
func openGroup(t *testing.T, m *vfiotest.Machine, id int) int {
	t.Helper()
	fd, err := awaitGroup(m.Kernel, id)
	require.NoError(t, err)
	return fd
}

// awaitGroup opens a group's node, which devtmpfs makes a moment after the driver was bound.
func awaitGroup(k vfio.Kernel, id int) (int, error) {
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		fd, err := k.Open(fmt.Sprintf("/dev/vfio/%d", id))
		if err == nil || time.Now().After(deadline) {
			return fd, err
		}
	}
}

// calm waits until QEMU's e1000e has no timer running. It holds the messages of MSI-X 128 µs apart; one that it had to hold
// back it sends twice from then on, and it dies when MSI-X is switched off meanwhile. A real one does neither.
func (r *raw) calm() {
	if r.m.Real && r.address == r.m.E1000E {
		time.Sleep(time.Millisecond)
	}
}

// once is how often something was sent that was sent once or not at all: the repetitions of QEMU's e1000e do not count, see
// calm. On the fake nothing is repeated.
func (r *raw) once(count uint64) uint64 {
	if r.m.Real && r.address == r.m.E1000E {
		return min(count, 1)
	}
	return count
}

func (r *raw) close() {
	r.calm()
	if r.bar != nil {
		assert.NoError(r.t, r.bar.Unmap())
		r.bar = nil
	}
	for _, fd := range []*int{&r.device, &r.group, &r.container} {
		if *fd >= 0 {
			assert.NoError(r.t, r.k.Close(*fd))
			*fd = -1
		}
	}
}

// Shorthands of the flags of SET_IRQS.
const (
	none    = uapi.IRQSetDataNone
	boolean = uapi.IRQSetDataBool
	fds     = uapi.IRQSetDataEventFD
	mask    = uapi.IRQSetActionMask
	unmask  = uapi.IRQSetActionUnmask
	trigger = uapi.IRQSetActionTrigger

	intx = uapi.PCIINTxIRQIndex
	msi  = uapi.PCIMSIIRQIndex
	msix = uapi.PCIMSIXIRQIndex
	eRR  = uapi.PCIErrIRQIndex
	rEQ  = uapi.PCIReqIRQIndex
)

// set is VFIO_DEVICE_SET_IRQS with the data that follows.
func (r *raw) set(flags, index, start, count uint32, data []byte) (int, error) {
	arg := make([]byte, uapi.IRQSetMinSize, uapi.IRQSetMinSize+len(data))
	uapi.Put(arg, uapi.IRQSet{
		Argsz: uint32(uapi.IRQSetMinSize + len(data)), Flags: flags, Index: index, Start: start, Count: count,
	})
	return r.k.DeviceSetIRQs(r.device, append(arg, data...))
}

// must is a set that has to succeed.
func (r *raw) must(flags, index, start, count uint32, data []byte) {
	r.t.Helper()
	n, err := r.set(flags, index, start, count, data)
	require.NoError(r.t, err)
	require.Zero(r.t, n)
}

// fails asserts what a set answers.
func (r *raw) fails(want unix.Errno, flags, index, start, count uint32, data []byte) {
	r.t.Helper()
	_, err := r.set(flags, index, start, count, data)
	assert.Equal(r.t, unix.ErrnoName(want), errno(err))
}

// enable gives the vectors from start on these eventfds.
func (r *raw) enable(index, start uint32, fd ...int) {
	r.t.Helper()
	r.must(fds|trigger, index, start, uint32(len(fd)), fdData(fd...))
}

// disable disables an index.
func (r *raw) disable(index uint32) {
	r.t.Helper()
	r.calm()
	r.must(none|trigger, index, 0, 0, nil)
}

// fire is the loopback.
func (r *raw) fire(index, start, count uint32) {
	r.t.Helper()
	r.must(none|trigger, index, start, count, nil)
}

// unmask unmasks INTx.
func (r *raw) unmask() {
	r.t.Helper()
	r.must(none|unmask, intx, 0, 1, nil)
}

// fdData is the data of DATA_EVENTFD.
func fdData(fd ...int) []byte {
	var b []byte
	for _, n := range fd {
		b = binary.NativeEndian.AppendUint32(b, uint32(int32(n)))
	}
	return b
}

// config reads a register of 1, 2 or 4 bytes from configuration space as VFIO shows it.
func (r *raw) config(off, width int) uint32 {
	r.t.Helper()
	var b [4]byte
	n, err := r.k.Pread(r.device, b[:width], uapi.PCIConfigRegionIndex<<40+int64(off))
	require.NoError(r.t, err)
	require.Equal(r.t, width, n)
	return binary.LittleEndian.Uint32(b[:])
}

// setConfig writes a register of configuration space.
func (r *raw) setConfig(off, width int, v uint32) {
	r.t.Helper()
	n, err := r.k.Pwrite(r.device, binary.LittleEndian.AppendUint32(nil, v)[:width], uapi.PCIConfigRegionIndex<<40+int64(off))
	require.NoError(r.t, err)
	require.Equal(r.t, width, n)
}

// physical reads two bytes of configuration space as the hardware has it.
func (r *raw) physical(off int) uint16 {
	r.t.Helper()
	b, err := r.m.Host.Config(r.address)
	require.NoError(r.t, err)
	return binary.LittleEndian.Uint16(b[off:])
}

// The command register, and bits of it.
const (
	command     = 0x04
	status      = 0x06
	memory      = uint32(pci.CommandMemory)
	busMaster   = uint32(pci.CommandBusMaster)
	intxDisable = uint32(pci.CommandINTxDisable)
)

// change sets and clears bits of the command register.
func (r *raw) change(set, clear uint32) {
	r.t.Helper()
	r.setConfig(command, 2, r.config(command, 2)&^clear|set)
}

// registers maps the first 4 KiB of a BAR.
func (r *raw) registers() uapi.Mapping {
	r.t.Helper()
	if r.bar == nil {
		var err error
		r.bar, err = r.k.Mmap(r.device, 0, 4096)
		require.NoError(r.t, err)
	}
	return r.bar
}

// write writes a register of BAR 0.
func (r *raw) write(off int, v uint32) {
	r.t.Helper()
	require.NoError(r.t, r.registers().Store32(off, v))
}

// read reads a register of BAR 0.
func (r *raw) read(off int) uint32 {
	r.t.Helper()
	v, err := r.registers().Load32(off)
	require.NoError(r.t, err)
	return v
}

// Registers of edu.
const (
	eduRaise = 0x60
	eduAck   = 0x64
)

// Registers of e1000 and e1000e.
const (
	e1000ICR  = 0xc0
	e1000ICS  = 0xc8
	e1000IMS  = 0xd0
	e1000IMC  = 0xd8
	e1000IVAR = 0xe4
)
