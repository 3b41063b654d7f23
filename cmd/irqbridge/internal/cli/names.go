package cli

import (
	"bufio"
	"compress/gzip"
	"errors"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"github.com/irqbridge/irqbridge/pci"
)

// idFiles are where distributions have pci.ids: Debian and Fedora.
var idFiles = []string{
	"/usr/share/misc/pci.ids", "/usr/share/misc/pci.ids.gz",
	"/usr/share/hwdata/pci.ids", "/usr/share/hwdata/pci.ids.gz",
}

// naming is how devices are called in the text for people: by the names of pci.ids, by numbers, or by both.
type naming struct {
	ids  *pci.IDs // nil: there are no names
	form pci.Naming
}

// numbersFlag adds the flag -n, which may be given twice.
func numbersFlag(cmd *cobra.Command, count *int) {
	cmd.Flags().CountVarP(count, "numbers", "n", "show vendor, device and class as numbers; -nn shows names and numbers")
}

// naming reads pci.ids, unless numbers are all that is wanted. Without the file there are numbers.
func (a *app) naming(numbers int) naming {
	switch {
	case numbers == 1:
		return naming{form: pci.Numbers}
	case numbers > 1:
		return naming{a.readIDs(), pci.NamesAndNumbers}
	}
	return naming{a.readIDs(), pci.Names}
}

// readIDs reads $PCI_IDS, or else the first of the system's files that can be read.
func (a *app) readIDs() *pci.IDs {
	files := idFiles
	if a.idFile != "" {
		files = []string{a.idFile}
	}
	for _, file := range files {
		ids, err := readIDs(file)
		if err == nil {
			return ids
		}
		if a.idFile != "" {
			a.note("no names, since $PCI_IDS cannot be read: %v", err)
		} else if !errors.Is(err, fs.ErrNotExist) {
			a.note("no names from %s: %v", file, err)
		}
	}
	return nil
}

// readIDs reads one file, compressed by gzip or not.
func readIDs(name string) (*pci.IDs, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	in := bufio.NewReader(f)
	if magic, _ := in.Peek(2); string(magic) != "\x1f\x8b" {
		return pci.ReadIDs(in)
	}
	unpacked, err := gzip.NewReader(in)
	if err != nil {
		return nil, err
	}
	return pci.ReadIDs(unpacked)
}

// namesJSON has the names that are known; those that are not are absent.
type namesJSON struct {
	Class     string `json:"class,omitempty"`
	Vendor    string `json:"vendor,omitempty"`
	Device    string `json:"device,omitempty"`
	Subsystem string `json:"subsystem,omitempty"`
}

// json gives what has a name, nil when nothing has.
func (n naming) json(f *pci.Function) *namesJSON {
	j := namesJSON{
		Vendor: n.ids.Vendor(f.VendorID), Device: n.ids.Device(f.VendorID, f.DeviceID),
		Subsystem: n.ids.Subsystem(f.VendorID, f.DeviceID, f.SubsystemVendorID, f.SubsystemID),
	}
	base, sub, _ := n.ids.Class(f.Class)
	if j.Class = sub; sub == "" {
		j.Class = base
	}
	if j == (namesJSON{}) {
		return nil
	}
	return &j
}
