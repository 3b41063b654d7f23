package host

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/irqbridge/irqbridge/pci"
)

const (
	// snapshotMagic and a version are the first line.
	snapshotMagic   = "irqbridge-snapshot"
	snapshotVersion = 1
	// maxSnapshot is the size of a text in bytes that is too large. A device of 2048 messages on 128 CPUs has a fifth.
	maxSnapshot = 16 << 20
	// maxEntries is the number of files that is the most. 2048 messages have a fifth of them.
	maxEntries = 1 << 16
	// foldAt is where lines are broken: lspci takes no longer ones than 255 bytes.
	foldAt = 200
	indent = "    "
)

const snapshotComment = `# A PCI device and its IOMMU group, as their host sees them. irqbridge show --snapshot FILE opens it; lspci -F FILE reads the
# configuration space. What identifies the machine is left out, as listed below; BARs, ROMs and vital product data were not read.
`

// Text is the snapshot as text, which ParseSnapshot reads:
//
//	irqbridge-snapshot 1
//	device 0000:00:05.0
//	left-out 0000:00:05.0: the serial number at 0x144
//
//	0000:00:05.0 0200: 8086:10d3
//	00: 86 80 d3 10 …
//
//	[/sys/bus/pci/devices/0000:00:05.0]
//	class = 0x020000
//	driver -> e1000e
//	resource =
//	    0x00000000fe800000 0x00000000fe81ffff 0x0000000000040200
//	    …
//
//	[/sys/bus/pci/devices/0000:00:05.0/vfio-dev]
//	vfio0
//
// First what it is of, with left-out and unreadable lines; then configuration spaces, in the form of lspci -xxxx; then
// files, by directory: with their text, as links, or by name alone. Everything is in order, so that texts can be compared by
// lines. A long line is broken with a \ at its end; the next one is indented. A text that is more than printable ASCII is a
// string in quotation marks, as Go writes it. Lines that start with # are comments.
func (s *Snapshot) Text() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %d\n%s", snapshotMagic, snapshotVersion, snapshotComment)
	writeFolded(&b, "device "+s.Address.String())
	for _, what := range s.LeftOut {
		writeFolded(&b, "left-out "+quoted(what))
	}
	for _, what := range s.Unreadable {
		writeFolded(&b, "unreadable "+quoted(what))
	}
	b.WriteByte('\n')
	dumps := make([]pci.Dump, 0, len(s.configs))
	for _, a := range slices.SortedFunc(maps.Keys(s.configs), pci.Address.Compare) {
		d := pci.Dump{Address: a, Config: s.configs[a]}
		if f, err := pci.Decode(d.Config); err == nil {
			d.Header = (*pci.IDs)(nil).Describe(f, pci.Numbers)
		}
		dumps = append(dumps, d)
	}
	_ = pci.WriteDump(&b, dumps) // a buffer takes all, and the dumps are good ones

	byDirectory := map[string]map[string]entry{}
	directory := func(dir string) map[string]entry {
		if byDirectory[dir] == nil {
			byDirectory[dir] = map[string]entry{}
		}
		return byDirectory[dir]
	}
	for name, e := range s.entries {
		// A name with colons would look like a line of lspci's.
		if dir, last := path.Split(name); e.kind == present && strings.Contains(last, ":") {
			directory(name)
		} else {
			directory(path.Clean(dir))[last] = e
		}
	}
	for i, dir := range slices.Sorted(maps.Keys(byDirectory)) {
		if i > 0 {
			b.WriteByte('\n')
		}
		writeFolded(&b, "["+dir+"]")
		for _, name := range slices.Sorted(maps.Keys(byDirectory[dir])) {
			switch e := byDirectory[dir][name]; {
			case e.kind == present:
				writeFolded(&b, name)
			case e.kind == link:
				writeFolded(&b, name+" -> "+e.text)
			case e.text != "" && e.text[0] != ' ' && !strings.Contains(e.text, "\n"):
				writeFolded(&b, name+" = "+quoted(e.text))
			default:
				writeFolded(&b, name+" =")
				for line := range strings.Lines(e.text) {
					writeFolded(&b, indent+quoted(strings.TrimSuffix(line, "\n")))
				}
			}
		}
	}
	return b.Bytes()
}

// quoted is a text that stands on a line as it is, or as a string if it could be taken for something else.
func quoted(s string) string {
	plain := !strings.HasPrefix(s, `"`) && !strings.HasSuffix(s, `\`) && !strings.HasSuffix(s, " ")
	for i := range len(s) {
		plain = plain && s[i] >= ' ' && s[i] <= '~'
	}
	if plain {
		return s
	}
	return strconv.QuoteToASCII(s)
}

func writeFolded(b *bytes.Buffer, line string) {
	for len(line) > foldAt {
		b.WriteString(line[:foldAt] + "\\\n" + indent)
		line = line[foldAt:]
	}
	b.WriteString(line + "\n")
}

// goodName tells whether a name of a file can stand in the text.
func goodName(name string) bool {
	if name == "" || strings.Trim(name, ".") == "" {
		return false
	}
	for i := range len(name) {
		if c := name[i]; !alphanumeric(c) && !strings.ContainsRune("-_.:@+,", rune(c)) {
			return false
		}
	}
	return true
}

// snapshotReader is a text being read.
type snapshotReader struct {
	*Snapshot
	name  string
	line  int // the one that what is read began on
	lines []string
	next  int // index of the next one
}

// ParseSnapshot reads what Text wrote. It is made for hostile texts; its errors begin with name and the line, as
// "board.snapshot:12: …".
func ParseSnapshot(name string, text []byte) (*Snapshot, error) {
	r := &snapshotReader{Snapshot: &Snapshot{configs: map[pci.Address][]byte{}, entries: map[string]entry{}}, name: name, line: 1}
	if len(text) > maxSnapshot {
		return nil, r.fail("%d bytes are more than a snapshot has (%d)", len(text), maxSnapshot)
	}
	r.lines = strings.Split(strings.ReplaceAll(string(text), "\r\n", "\n"), "\n")
	version, ok := strings.CutPrefix(r.lines[0], snapshotMagic+" ")
	n, err := strconv.ParseUint(version, 10, 16)
	switch {
	case !ok || err != nil:
		return nil, r.fail("this is no snapshot: the first line of one is %q", fmt.Sprintf("%s %d", snapshotMagic, snapshotVersion))
	case n > snapshotVersion:
		return nil, r.fail("version %d, of a newer program: this one reads %d", n, snapshotVersion)
	case n != snapshotVersion:
		return nil, r.fail("version %d: want %d", n, snapshotVersion)
	}
	r.next = 1
	if err := r.head(); err != nil {
		return nil, err
	}
	if err := r.tree(); err != nil {
		return nil, err
	}
	// What everything else goes by.
	for _, attribute := range []string{"vendor", "device", "class", "revision"} {
		if s := r.Attribute(r.Address, attribute); s == "" {
			return nil, fmt.Errorf("%s: it has no [%s/%v] with %s", name, devicesDir, r.Address, attribute)
		}
	}
	if _, err := r.Host().Device(r.Address); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return r.Snapshot, nil
}

func (r *snapshotReader) fail(format string, args ...any) error {
	return fmt.Errorf("%s:%d: "+format, append([]any{r.name, r.line}, args...)...)
}

// take returns the next line, with those that it was broken into put together.
func (r *snapshotReader) take() (string, bool) {
	if r.next >= len(r.lines) {
		return "", false
	}
	r.line = r.next + 1
	line := r.lines[r.next]
	r.next++
	if !strings.HasSuffix(line, `\`) {
		return line, true
	}
	var b strings.Builder
	for strings.HasSuffix(line, `\`) && r.next < len(r.lines) {
		b.WriteString(strings.TrimSuffix(line, `\`))
		line = strings.TrimPrefix(r.lines[r.next], indent)
		r.next++
	}
	b.WriteString(line)
	return b.String(), true
}

// head reads what comes before the files.
func (r *snapshotReader) head() error {
	hasAddress, dumps := false, false
	begin := r.next
	for {
		at := r.next
		line, ok := r.take()
		if !ok || strings.HasPrefix(line, "[") {
			r.next = at
			break
		}
		word, rest, _ := strings.Cut(line, " ")
		switch {
		case line == "" || line[0] == '#':
		case word == "device":
			a, err := pci.ParseAddress(rest)
			if err != nil || hasAddress {
				return r.fail("%q: want one device, such as 0000:00:04.0", line)
			}
			r.Address, hasAddress = a, true
		case word == "left-out" || word == "unreadable":
			text, err := unquoted(rest)
			if err != nil {
				return r.fail("%w", err)
			}
			if word == "left-out" {
				r.LeftOut = append(r.LeftOut, text)
			} else {
				r.Unreadable = append(r.Unreadable, text)
			}
		case strings.Contains(word, ":"):
			dumps = true
		default:
			return r.fail("%.40q: want device, left-out or unreadable, or the address of a device and rows of bytes", line)
		}
	}
	if !hasAddress {
		return r.fail("there is no line that names the device")
	}
	if !dumps {
		return nil
	}
	// The lines before are blank, so that lines are counted right.
	list, err := pci.ReadDump(strings.NewReader(strings.Repeat("\n", begin) + strings.Join(r.lines[begin:r.next], "\n")))
	if wrong := new(pci.DumpError); errors.As(err, &wrong) {
		r.line = wrong.Line
		return r.fail("%w", wrong.Err)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", r.name, err)
	}
	for _, d := range list {
		if r.configs[d.Address] != nil {
			return fmt.Errorf("%s: there are two configuration spaces of %v", r.name, d.Address)
		}
		if len(d.Config) > 0 {
			r.configs[d.Address] = d.Config
		}
	}
	return nil
}

// tree reads the files.
func (r *snapshotReader) tree() error {
	dir, empty := "", false
	for {
		line, ok := r.take()
		if empty && (!ok || strings.HasPrefix(line, "[")) { // a directory without anything in it
			if err := r.add(dir, entry{}); err != nil {
				return err
			}
		}
		if !ok {
			return nil
		}
		if line == "" || line[0] == '#' {
			continue
		}
		if line[0] == '[' {
			dir, ok = strings.CutSuffix(line[1:], "]")
			if !ok || !goodDirectory(dir) {
				return r.fail("%.80q: want a directory below /sys, /proc or /dev, as [/sys/class/iommu]", line)
			}
			empty = true
			continue
		}
		empty = false
		name, rest, _ := strings.Cut(line, " ")
		if !goodName(name) {
			return r.fail("%.80q: want the name of a file, and = or -> and what it is", line)
		}
		var e entry
		switch sign, value, _ := strings.Cut(rest, " "); {
		case rest == "":
		case sign == "->" && goodName(value):
			e = entry{link, value}
		case rest == "=":
			text, err := r.block()
			if err != nil {
				return err
			}
			e = entry{file, text}
		case sign == "=":
			text, err := unquoted(value)
			if err != nil {
				return r.fail("%w", err)
			}
			e = entry{file, text}
		default:
			return r.fail("%.80q: want = and a text, -> and a name, or nothing after the name", line)
		}
		if err := r.add(dir+"/"+name, e); err != nil {
			return err
		}
	}
}

// block reads the lines of a text: those that are indented.
func (r *snapshotReader) block() (string, error) {
	var lines []string
	for r.next < len(r.lines) && strings.HasPrefix(r.lines[r.next], indent) {
		line, _ := r.take()
		text, err := unquoted(strings.TrimPrefix(line, indent))
		if err != nil {
			return "", r.fail("%w", err)
		}
		lines = append(lines, text)
	}
	return strings.Join(lines, "\n"), nil
}

// add adds an entry, once.
func (r *snapshotReader) add(name string, e entry) error {
	switch _, twice := r.entries[name]; {
	case twice:
		return r.fail("%s is there twice", name)
	case len(r.entries) == maxEntries:
		return r.fail("more than %d files", maxEntries)
	}
	r.entries[name] = e
	return nil
}

func unquoted(s string) (string, error) {
	if !strings.HasPrefix(s, `"`) {
		return s, nil
	}
	text, err := strconv.Unquote(s)
	if err != nil {
		return "", fmt.Errorf("%.80s: the string in quotation marks is not well formed", s)
	}
	return text, nil
}

func goodDirectory(dir string) bool {
	if dir != path.Clean(dir) {
		return false
	}
	parts := strings.Split(dir, "/")
	if len(parts) < 2 || parts[0] != "" || parts[1] != "sys" && parts[1] != "proc" && parts[1] != "dev" {
		return false
	}
	return !slices.ContainsFunc(parts[1:], func(part string) bool { return !goodName(part) })
}
