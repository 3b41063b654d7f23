package host

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"github.com/irqbridge/irqbridge/pci"
)

// recordDir holds one record for each device that was bound. /run is empty after a boot, and so are all overrides.
const recordDir = "/run/irqbridge/bind"

// record is what a device was like before it was first bound, so that it can be given back.
type record struct {
	Schema         int         `json:"schema"` // 1
	Address        pci.Address `json:"address"`
	VendorID       uint16      `json:"vendor"` // with DeviceID: whether the same device is still plugged in here
	DeviceID       uint16      `json:"device"`
	Driver         string      `json:"driver"`         // "" when it was unbound
	DriverOverride string      `json:"driverOverride"` // "" when there was none
	Nodes          []givenNode `json:"nodes,omitempty"`
}

func recordFile(a pci.Address) string { return recordDir + "/" + a.String() + ".json" }

// newRecord records a device as it is.
func newRecord(d Device) record {
	return record{
		Schema: 1, Address: d.Address, VendorID: d.VendorID, DeviceID: d.DeviceID,
		Driver: d.Driver, DriverOverride: d.DriverOverride,
	}
}

// describes tells whether the record is about the device that is there now.
func (r record) describes(d Device) bool {
	return r.VendorID == d.VendorID && r.DeviceID == d.DeviceID
}

// String says what the device is given back to.
func (r record) String() string {
	text := driverName(r.Driver)
	if r.DriverOverride != "" {
		text += " with driver_override " + r.DriverOverride
	}
	return text
}

// text returns the content of the record's file, without the newline at its end.
func (r record) text() (string, error) {
	b, err := json.Marshal(r)
	return string(b), err
}

// readRecord returns the record of a device; nil when there is none.
func (h *Host) readRecord(a pci.Address) (*record, error) {
	b, err := h.os.ReadFile(recordFile(a))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, deviceError(a, "read the record of its former driver", err, "", "")
	}
	r, err := parseRecord(b, a)
	if err != nil {
		return nil, deviceError(a, "read the record of its former driver", err, recordFile(a)+" is damaged",
			"remove that file; the device's former driver is then no longer known")
	}
	return r, nil
}

// parseRecord reads a record strictly: its names become parts of paths that root writes to.
func parseRecord(b []byte, a pci.Address) (*record, error) {
	decoder := json.NewDecoder(bytes.NewReader(b))
	decoder.DisallowUnknownFields()
	var r record
	if err := decoder.Decode(&r); err != nil {
		return nil, err
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("there is more after the record")
	}
	switch {
	case r.Schema != 1:
		return nil, fmt.Errorf("its schema is %d, not 1", r.Schema)
	case r.Address != a:
		return nil, fmt.Errorf("it is about %v", r.Address)
	}
	for _, name := range []string{r.Driver, r.DriverOverride} {
		if name != "" && !validDriver(name) {
			return nil, fmt.Errorf("%.40q is not the name of a driver", name)
		}
	}
	for _, n := range r.Nodes {
		if !validNode(n.Path) {
			return nil, fmt.Errorf("%.40q is not a node of VFIO", n.Path)
		}
	}
	return &r, nil
}

// validDriver tells whether name can be the name of a driver, which is the name of a directory in sysfs.
func validDriver(name string) bool {
	return name != "" && name != "." && name != ".." && len(name) <= 255 &&
		!strings.ContainsFunc(name, func(r rune) bool { return r == '/' || r < ' ' || r == 0x7f })
}
