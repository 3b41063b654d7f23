package uapi

import (
	"bufio"
	"bytes"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/irqbridge/irqbridge/vfio/internal/mmio"
)

func (realKernel) IOMMUGetInfo(container int, arg []byte) error {
	_, err := ioctlArg(container, IoctlIOMMUGetInfo, arg, IOMMUInfoMinSize)
	return err
}

func (realKernel) IOMMUMapDMA(container int, arg []byte) error {
	_, err := ioctlArg(container, IoctlIOMMUMapDMA, arg, IOMMUDMAMapMinSize)
	return err
}

func (realKernel) IOMMUUnmapDMA(container int, arg []byte) error {
	_, err := ioctlArg(container, IoctlIOMMUUnmapDMA, arg, IOMMUDMAUnmapMinSize)
	return err
}

func (realKernel) Allocate(length, hugePage int) (Memory, error) {
	m, err := mmio.Allocate(length, hugePage)
	if err != nil {
		return nil, err // not a nil *mmio.Memory in a non-nil interface
	}
	return m, nil
}

func (realKernel) LockedMemory() (LockedMemory, error) {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_MEMLOCK, &limit); err != nil {
		return LockedMemory{}, err
	}
	status, err := os.ReadFile("/proc/thread-self/status") // capabilities are a thread's
	if err != nil {
		return LockedMemory{}, err
	}
	m := decodeLocked(status)
	m.Limit = limit.Cur
	return m, nil
}

// decodeLocked reads VmLck and CapEff of a thread's status in procfs.
func decodeLocked(status []byte) LockedMemory {
	var m LockedMemory
	for lines := bufio.NewScanner(bytes.NewReader(status)); lines.Scan(); {
		fields := bytes.Fields(lines.Bytes())
		if len(fields) < 2 {
			continue
		}
		value := string(fields[1])
		switch string(fields[0]) {
		case "VmLck:":
			kib, _ := strconv.ParseUint(value, 10, 54) // a kernel that says something else says nothing
			m.Locked = kib << 10
		case "CapEff:":
			capabilities, _ := strconv.ParseUint(value, 16, 64)
			m.Unlimited = capabilities>>unix.CAP_IPC_LOCK&1 != 0
		}
	}
	return m
}
