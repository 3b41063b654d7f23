package pci

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// Dump is one device of a text that lspci -x, -xxx or -xxxx printed.
type Dump struct {
	Address Address
	Header  string // the rest of the line that has the address: class and names; may be empty
	Config  []byte // the configuration space from offset 0, at most 4096 bytes; empty when no row followed
}

// What ReadDump takes at most, so that its memory stays in proportion to a real machine.
const (
	maxDumpLine    = 64 << 10
	maxDumpDevices = 256 * 32 * 8 // all functions of one domain
	dumpRow        = 16
)

// ReadDump reads the configuration spaces of one or many devices in the form of lspci -x:
//
//	0000:00:04.0 Unclassified device [00ff]: Device 1234:11e8 (rev 10)
//	00: 34 12 e8 11 03 01 10 00 10 00 ff 00 00 00 00 00
//	10: 00 00 a0 fe 00 00 00 00 00 00 00 00 00 00 00 00
//
// A device starts with a line that begins with its address and ends with an empty line or the next device. Its rows
// follow each other without gaps from offset 0. Other lines, such as those that lspci -v adds, are passed over. A text
// without any device is an error. A line that is wrong is a *DumpError.
func ReadDump(r io.Reader) ([]Dump, error) {
	var dumps []Dump
	var device *Dump // the one that rows belong to, nil between devices
	line := 0
	fail := func(format string, args ...any) ([]Dump, error) {
		return nil, &DumpError{Line: line, Err: fmt.Errorf(format, args...)}
	}

	scanner := bufio.NewScanner(r)
	scanner.Buffer(nil, maxDumpLine)
	for scanner.Scan() {
		line++
		text := strings.TrimRight(scanner.Text(), " \t\r")
		first, rest, _ := strings.Cut(text, " ")
		switch {
		case text == "":
			device = nil
		case looksLikeAddress(first):
			address, err := ParseAddress(first)
			if err != nil {
				return fail("%w", err)
			}
			if len(dumps) == maxDumpDevices {
				return fail("more than %d devices", maxDumpDevices)
			}
			dumps = append(dumps, Dump{Address: address, Header: strings.TrimLeft(rest, " ")})
			device = &dumps[len(dumps)-1]
		case looksLikeRow(first):
			if device == nil {
				return fail("row %.20s belongs to no device; a line with the device's address is to come first", first)
			}
			config, err := appendRow(device.Config, strings.TrimSuffix(first, ":"), rest)
			if err != nil {
				return fail("%w", err)
			}
			device.Config = config
		}
	}
	switch err := scanner.Err(); {
	case errors.Is(err, bufio.ErrTooLong):
		line++
		return fail("longer than %d bytes; this is no text of lspci", maxDumpLine)
	case err != nil:
		return nil, fmt.Errorf("dump: after line %d: %w", line, err)
	case len(dumps) == 0:
		return nil, fmt.Errorf("dump: no device in %d lines; want the output of lspci -xxxx", line)
	}
	return dumps, nil
}

// DumpError is a line of a dump that ReadDump could not take.
type DumpError struct {
	Line int // counted from 1
	Err  error
}

// Error gives the line and what is wrong with it.
func (e *DumpError) Error() string { return fmt.Sprintf("dump: line %d: %v", e.Line, e.Err) }

// Unwrap returns Err.
func (e *DumpError) Unwrap() error { return e.Err }

// looksLikeAddress reports whether a line that starts with this word is meant to start a device. Whether the address is
// a good one is for ParseAddress to say.
func looksLikeAddress(word string) bool {
	return strings.Contains(word, ":") && strings.Contains(word, ".") && strings.Trim(word, hexDigits+":.") == ""
}

// looksLikeRow reports whether a line that starts with this word is meant as a row of bytes: "a0:".
func looksLikeRow(word string) bool {
	digits, found := strings.CutSuffix(word, ":")
	return found && digits != "" && strings.Trim(digits, hexDigits) == ""
}

const hexDigits = "0123456789abcdefABCDEF"

// appendRow adds the bytes of one row to a configuration space; row is its offset in hexadecimal. Rows are to come in
// order, so that a lost line does not move the bytes after it.
func appendRow(config []byte, row, bytes string) ([]byte, error) {
	offset, err := strconv.ParseUint(row, 16, 32)
	switch {
	case err != nil || offset >= maxConfigSize:
		return nil, fmt.Errorf("row %.20s starts after the end of config space at 0x%x", row, maxConfigSize)
	case int(offset) != len(config):
		return nil, fmt.Errorf("row %02x comes where row %02x is due; the rows of a device are to follow each other from 00",
			offset, len(config))
	}
	fields := strings.Fields(bytes)
	if len(fields) > dumpRow {
		return nil, fmt.Errorf("row %02x has more than %d bytes", offset, dumpRow)
	}
	for _, field := range fields {
		v, err := strconv.ParseUint(field, 16, 8)
		if err != nil || len(field) != 2 {
			return nil, fmt.Errorf("row %02x: %.20q is not a byte of two hexadecimal digits", offset, field)
		}
		config = append(config, uint8(v))
	}
	return config, nil
}

// WriteDump writes devices in the form that ReadDump and lspci -F read, an empty line after each. It writes nothing
// when a device cannot be written in that form: with a header of several lines or more than 4096 bytes.
func WriteDump(w io.Writer, dumps []Dump) error {
	var text strings.Builder
	for _, d := range dumps {
		if strings.ContainsAny(d.Header, "\r\n") {
			return fmt.Errorf("dump of %s: the header %.40q has more than one line", d.Address, d.Header)
		}
		if len(d.Config) > maxConfigSize {
			return fmt.Errorf("dump of %s: %d bytes are more than a config space has (%d)", d.Address, len(d.Config), maxConfigSize)
		}
		// The space is there without a header too: lspci -F wants it after the address.
		fmt.Fprintf(&text, "%s %s\n", d.Address, d.Header)
		for offset := 0; offset < len(d.Config); offset += dumpRow {
			fmt.Fprintf(&text, "%02x: % x\n", offset, d.Config[offset:min(offset+dumpRow, len(d.Config))])
		}
		text.WriteString("\n")
	}
	_, err := io.WriteString(w, text.String())
	return err
}
