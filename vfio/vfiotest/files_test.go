package vfiotest_test

import (
	"errors"
	"os"
	"strings"
)

// irqs returns the numbers of the host IRQs of the device's messages, which sysfs lists.
func (r *raw) irqs() ([]string, error) {
	return r.readDir("/sys/bus/pci/devices/" + r.address.String() + "/msi_irqs")
}

// readDir lists a directory of the machine.
func (r *raw) readDir(name string) ([]string, error) {
	if r.m.Fake != nil {
		return r.m.Fake.ReadDir(name)
	}
	entries, err := os.ReadDir(name)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names, nil
}

// readFile reads a file of the machine, without its last newline.
func (r *raw) readFile(name string) (string, error) {
	if r.m.Fake != nil {
		b, err := r.m.Fake.ReadFile(name)
		return strings.TrimSuffix(string(b), "\n"), err
	}
	b, err := os.ReadFile(name)
	return strings.TrimSuffix(string(b), "\n"), err
}

// writeFile writes to an existing file of the machine, once.
func (r *raw) writeFile(name, text string) error {
	if r.m.Fake != nil {
		return r.m.Fake.WriteFile(name, []byte(text))
	}
	f, err := os.OpenFile(name, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

// readlink reads a link of the machine.
func (r *raw) readlink(name string) (string, error) {
	if r.m.Fake != nil {
		return r.m.Fake.Readlink(name)
	}
	return os.Readlink(name)
}
