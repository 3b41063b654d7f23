package vfiotest

import (
	"io/fs"

	"golang.org/x/sys/unix"

	"github.com/irqbridge/irqbridge/vfio/host"
	"github.com/irqbridge/irqbridge/vfio/internal/uapi"
)

func (k *Kernel) Open(path string) (int, error)                        { return -1, unix.ENOSYS }
func (k *Kernel) Close(fd int) error                                   { return unix.ENOSYS }
func (k *Kernel) GetAPIVersion(container int) (int, error)             { return 0, unix.ENOSYS }
func (k *Kernel) CheckExtension(container, extension int) (int, error) { return 0, unix.ENOSYS }
func (k *Kernel) SetIOMMU(container, iommuType int) error              { return unix.ENOSYS }
func (k *Kernel) GroupGetStatus(group int, arg []byte) error           { return unix.ENOSYS }
func (k *Kernel) GroupSetContainer(group, container int) error         { return unix.ENOSYS }
func (k *Kernel) GroupUnsetContainer(group int) error                  { return unix.ENOSYS }
func (k *Kernel) GroupGetDeviceFD(group int, name string) (int, error) { return -1, unix.ENOSYS }
func (k *Kernel) DeviceGetInfo(device int, arg []byte) error           { return unix.ENOSYS }
func (k *Kernel) DeviceGetRegionInfo(device int, arg []byte) error     { return unix.ENOSYS }
func (k *Kernel) DeviceGetIRQInfo(device int, arg []byte) error        { return unix.ENOSYS }
func (k *Kernel) DeviceSetIRQs(device int, arg []byte) (int, error)    { return 0, unix.ENOSYS }
func (k *Kernel) DeviceReset(device int) error                         { return unix.ENOSYS }
func (k *Kernel) Pread(fd int, p []byte, offset int64) (int, error)    { return 0, unix.ENOSYS }
func (k *Kernel) Pwrite(fd int, p []byte, offset int64) (int, error)   { return 0, unix.ENOSYS }
func (k *Kernel) Mmap(fd int, offset int64, n int) (uapi.Mapping, error) { return nil, unix.ENOSYS }

func (k *Kernel) ReadFile(name string) ([]byte, error)     { return nil, unix.ENOSYS }
func (k *Kernel) WriteFile(name string, data []byte) error { return unix.ENOSYS }
func (k *Kernel) ReadDir(name string) ([]string, error) { return nil, unix.ENOSYS }

func (k *Kernel) Readlink(name string) (string, error)                      { return "", unix.ENOSYS }
func (k *Kernel) Exists(name string) bool                                   { return false }
func (k *Kernel) SaveFile(name string, data []byte, perm fs.FileMode) error { return unix.ENOSYS }
func (k *Kernel) RemoveFile(name string) error                              { return unix.ENOSYS }
func (k *Kernel) SetThreadAffinity(cpus host.CPUSet) error                  { return unix.ENOSYS }
func (k *Kernel) ThreadAffinity() (host.CPUSet, error)                      { return host.CPUSet{}, unix.ENOSYS }
func (k *Kernel) CurrentCPU() (int, error)                                  { return 0, unix.ENOSYS }
