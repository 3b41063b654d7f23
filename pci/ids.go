package pci

import (
	"errors"
	"fmt"
	"io"
	"strings"
)

// IDs has the names of vendors, devices and classes from a file pci.ids (https://pci-ids.ucw.cz). Debian's package
// pci.ids installs it as /usr/share/misc/pci.ids, others as /usr/share/hwdata/pci.ids. A nil *IDs has no names, and
// all its methods give what lspci gives then: numbers.
type IDs struct {
	text string // with a newline before the first line
}

// maxIDs bounds the size of the file. It had 1.3 MB in 2023 and grows by 5 % a year.
const maxIDs = 16 << 20

// ReadIDs reads a file pci.ids. It refuses a text in which no vendor is listed.
func ReadIDs(r io.Reader) (*IDs, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxIDs+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("pci.ids: %w", err)
	case len(b) > maxIDs:
		return nil, fmt.Errorf("pci.ids: more than %d bytes", maxIDs)
	}
	ids := &IDs{text: "\n" + strings.ReplaceAll(string(b), "\r\n", "\n")}
	// The vendor of every list, old and new.
	if ids.Vendor(0x8086) == "" {
		return nil, errors.New("pci.ids: vendor 8086 is not in it; want the list of https://pci-ids.ucw.cz")
	}
	return ids, nil
}

// Vendor gives the name of a vendor, empty when it is not known.
func (ids *IDs) Vendor(vendor uint16) string {
	name, _ := ids.vendor(vendor)
	return name
}

// Device gives the name of a device, without its vendor's, empty when it is not known.
func (ids *IDs) Device(vendor, device uint16) string {
	_, devices := ids.vendor(vendor)
	name, _ := entry(devices, "\t", fmt.Sprintf("%04x", device))
	return name
}

// Subsystem gives the name that a subsystem has with that device, empty when it is not known. A subsystem with the ids
// of the device itself has the device's name.
func (ids *IDs) Subsystem(vendor, device, subsystemVendor, subsystem uint16) string {
	_, devices := ids.vendor(vendor)
	name, subsystems := entry(devices, "\t", fmt.Sprintf("%04x", device))
	if own, _ := entry(subsystems, "\t\t", fmt.Sprintf("%04x %04x", subsystemVendor, subsystem)); own != "" {
		return own
	}
	if vendor == subsystemVendor && device == subsystem {
		return name
	}
	return ""
}

// Class gives the names of a class code: that of the base class, of the sub-class and of the programming interface,
// "Mass storage controller", "Non-Volatile memory controller", "NVM Express". Those that are not known are empty.
func (ids *IDs) Class(c Class) (base, sub, progIF string) {
	if ids == nil {
		return "", "", ""
	}
	base, subs := entry(ids.text, "", fmt.Sprintf("C %02x", c.Base()))
	sub, progIFs := entry(subs, "\t", fmt.Sprintf("%02x", c.Sub()))
	progIF, _ = entry(progIFs, "\t\t", fmt.Sprintf("%02x", c.ProgIF()))
	return base, sub, progIF
}

// vendor gives the name of a vendor and the lines of its devices.
func (ids *IDs) vendor(vendor uint16) (name, devices string) {
	if ids == nil {
		return "", ""
	}
	return entry(ids.text, "", fmt.Sprintf("%04x", vendor))
}

// entry finds the line of lines that starts with the indent, the key and two spaces. It gives the name that follows and
// the deeper lines after it. Lines has a newline before each line.
func entry(lines, indent, key string) (name, deeper string) {
	_, name, found := strings.Cut(lines, "\n"+indent+key+"  ")
	if !found {
		return "", ""
	}
	end := strings.IndexByte(name, '\n')
	if end < 0 {
		return strings.TrimSpace(name), ""
	}
	name, deeper = name[:end], name[end:]
	// The deeper lines end before the next one that is neither deeper nor a comment nor empty.
	for end = 0; end < len(deeper); {
		line, _, _ := strings.Cut(deeper[end+1:], "\n")
		if line != "" && line[0] != '#' && !strings.HasPrefix(line, indent+"\t") {
			break
		}
		end += 1 + len(line)
	}
	return strings.TrimSpace(name), deeper[:min(end, len(deeper))]
}

// Naming is how a Describe method tells what something is, as lspci does without an option, with -n and with -nn.
type Naming uint8

// The ways of naming. Names falls back to numbers for what has no name.
const (
	Names           Naming = iota // "Intel Corporation 82574L Gigabit Network Connection"
	Numbers                       // "8086:10d3"
	NamesAndNumbers               // "Intel Corporation 82574L Gigabit Network Connection [8086:10d3]"
)

// DescribeDevice names vendor and device as lspci does: with its vendor alone known, "Intel Corporation Device 10d3",
// and with nothing known, "Device 8086:10d3".
func (ids *IDs) DescribeDevice(vendor, device uint16, naming Naming) string {
	return describePair(ids.Vendor(vendor), ids.Device(vendor, device), vendor, device, naming)
}

// DescribeSubsystem names the subsystem of a function in the form of DescribeDevice, empty when it has no subsystem
// ids.
func (ids *IDs) DescribeSubsystem(f *Function, naming Naming) string {
	vendor, id := f.SubsystemVendorID, f.SubsystemID
	if vendor == 0 && id == 0 || vendor == 0xffff {
		return ""
	}
	return describePair(ids.Vendor(vendor), ids.Subsystem(f.VendorID, f.DeviceID, vendor, id), vendor, id, naming)
}

func describePair(vendorName, name string, vendor, id uint16, naming Naming) string {
	switch {
	case naming == Numbers:
		return fmt.Sprintf("%04x:%04x", vendor, id)
	case vendorName == "" && naming == NamesAndNumbers:
		return fmt.Sprintf("Device [%04x:%04x]", vendor, id)
	case vendorName == "":
		return fmt.Sprintf("Device %04x:%04x", vendor, id)
	case name == "" && naming == NamesAndNumbers:
		return fmt.Sprintf("%s Device [%04x:%04x]", vendorName, vendor, id)
	case name == "":
		return fmt.Sprintf("%s Device %04x", vendorName, id)
	case naming == NamesAndNumbers:
		return fmt.Sprintf("%s %s [%04x:%04x]", vendorName, name, vendor, id)
	}
	return vendorName + " " + name
}

// DescribeClass names the sub-class as lspci does: "Ethernet controller"; "Unclassified device [00ff]" when only the
// base class is known; "Class 0200" when neither is.
func (ids *IDs) DescribeClass(c Class, naming Naming) string {
	base, sub, _ := ids.Class(c)
	number := fmt.Sprintf("%04x", uint32(c)>>8)
	switch {
	case naming == Numbers:
		return number
	case sub != "" && naming == Names:
		return sub
	case sub != "":
		return sub + " [" + number + "]"
	case base != "":
		return base + " [" + number + "]"
	case naming == NamesAndNumbers:
		return "Class [" + number + "]"
	}
	return "Class " + number
}

// Describe gives the line that lspci has for a function, after the address: class, device, and the revision when it is
// not 0: "Ethernet controller: Intel Corporation 82574L Gigabit Network Connection (rev 02)". It fits Dump.Header.
func (ids *IDs) Describe(f *Function, naming Naming) string {
	text := ids.DescribeClass(f.Class, naming) + ": " + ids.DescribeDevice(f.VendorID, f.DeviceID, naming)
	if f.RevisionID != 0 {
		text += fmt.Sprintf(" (rev %02x)", f.RevisionID)
	}
	return text
}
