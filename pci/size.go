package pci

import (
	"bytes"
	"fmt"
	"slices"
)

// Sizes are the sizes of a function's memory and I/O regions in bytes, 0 for those that it has not. Configuration space
// does not have them: finding one takes writes to the register, which the operating system does when it starts.
type Sizes struct {
	BARs [6]uint64 // that of a 64-bit BAR stands at its first register
	ROM  uint64
}

// ParseSizes reads the file resource of a device in sysfs (drivers/pci/pci-sysfs.c): a line for each region, with its
// first address, its last one and its flags. VFIO gives the same as VFIO_DEVICE_GET_REGION_INFO, indexes 0 to 6.
func ParseSizes(resource []byte) (Sizes, error) {
	var sizes Sizes
	lines := bytes.Split(bytes.TrimSpace(resource), []byte("\n"))
	if len(lines) < 7 {
		return Sizes{}, fmt.Errorf("sysfs resource file of %d lines: want 7 or more, for 6 BARs and the ROM", len(lines))
	}
	for i, line := range lines[:7] {
		var first, last, flags uint64
		if _, err := fmt.Sscanf(string(line), "0x%x 0x%x 0x%x", &first, &last, &flags); err != nil || last < first {
			return Sizes{}, fmt.Errorf("sysfs resource file: line %d: %.60q is not the first address, the last and the flags",
				i+1, line)
		}
		var size uint64
		if flags != 0 {
			size = last - first + 1
		}
		if i < len(sizes.BARs) {
			sizes.BARs[i] = size
		} else {
			sizes.ROM = size
		}
	}
	return sizes, nil
}

// SetSizes fills in the sizes of the BARs and the ROM, which Function.Interrupts then checks the MSI-X table against.
// A register that reads zero and has a size is a 32-bit memory BAR, or a ROM, without an address: it is added.
func (f *Function) SetSizes(sizes Sizes) {
	if int(f.HeaderType) >= len(barCount) {
		return
	}
	if f.ROM == nil && sizes.ROM != 0 {
		f.ROM = new(ROM)
	}
	if f.ROM != nil {
		f.ROM.Size = sizes.ROM
	}
	for i, size := range sizes.BARs[:barCount[f.HeaderType]] {
		if size == 0 {
			continue
		}
		bar := f.bar(i)
		if bar == nil {
			f.BARs = append(f.BARs, BAR{Index: i, Type: BARMemory32})
			bar = &f.BARs[len(f.BARs)-1]
		}
		bar.Size = size
	}
	slices.SortFunc(f.BARs, func(a, b BAR) int { return a.Index - b.Index })
}

// bar gives the BAR with that index, nil when there is none.
func (f *Function) bar(index int) *BAR {
	for i := range f.BARs {
		if f.BARs[i].Index == index {
			return &f.BARs[i]
		}
	}
	return nil
}
