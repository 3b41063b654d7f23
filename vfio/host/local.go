package host

import (
	"errors"
	"io/fs"
)

type local struct{ root string }

func newLocal(root string) *local { return &local{root} }

func (l *local) ReadFile(name string) ([]byte, error) { return nil, errors.ErrUnsupported }

func (l *local) WriteFile(name string, data []byte) error { return errors.ErrUnsupported }

func (l *local) ReadDir(name string) ([]string, error) { return nil, errors.ErrUnsupported }

func (l *local) Readlink(name string) (string, error) { return "", errors.ErrUnsupported }
func (l *local) Exists(name string) bool              { return false }
func (l *local) SaveFile(name string, data []byte, perm fs.FileMode) error {
	return errors.ErrUnsupported
}

func (l *local) RemoveFile(name string) error { return errors.ErrUnsupported }

func (l *local) SetThreadAffinity(cpus CPUSet) error { return errors.ErrUnsupported }

func (l *local) ThreadAffinity() (CPUSet, error) { return CPUSet{}, errors.ErrUnsupported }

func (l *local) CurrentCPU() (int, error) { return 0, errors.ErrUnsupported }
