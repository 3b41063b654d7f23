package host

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/irqbridge/irqbridge/pci"
)

// private is what would tell a snapshot's reader which machine it is from.
type private struct {
	hostname   string
	interfaces []string // names of network interfaces, which people choose, or which are made of MAC addresses
	macs       [][]byte
}

// private finds out what has to stay on the machine. What cannot be read does not end up in a snapshot either.
func (h *Host) private() private {
	var p private
	if b, err := h.os.ReadFile("/proc/sys/kernel/hostname"); err == nil {
		p.hostname = strings.TrimSpace(string(b))
	}
	names, _ := h.os.ReadDir("/sys/class/net")
	for _, name := range names {
		if name != "lo" {
			p.interfaces = append(p.interfaces, name)
		}
		b, err := h.os.ReadFile("/sys/class/net/" + name + "/address")
		if err != nil {
			continue
		}
		mac, err := hex.DecodeString(strings.ReplaceAll(strings.TrimSpace(string(b)), ":", ""))
		if err == nil && telling(mac) {
			p.macs = append(p.macs, mac)
		}
	}
	// A name that has another one in it comes first.
	slices.SortFunc(p.interfaces, func(a, b string) int { return len(b) - len(a) })
	return p
}

// telling tells whether bytes can be a number of one machine, and are not zeros or ones.
func telling(b []byte) bool {
	return len(b) >= 6 && len(bytes.Trim(b, "\x00")) > 2 && len(bytes.Trim(b, "\xff")) > 2
}

// redact zeroes what identifies the machine in a configuration space, and says what that was: the serial number, which often is
// the MAC address, wherever it stands; MAC addresses; and what the door to the vital product data was left open at.
func (p private) redact(config []byte) []string {
	f, err := pci.Decode(config)
	if err != nil {
		return nil
	}
	var said []string
	blank := func(offset, length int, what string) {
		end := min(offset+length, len(config))
		if offset < end && len(bytes.Trim(config[offset:end], "\x00")) > 0 {
			said = append(said, fmt.Sprintf("%s at 0x%02x", what, offset))
			clear(config[offset:end])
		}
	}
	secrets := slices.Clone(p.macs)
	for _, c := range f.ExtendedCapabilities {
		if c.ID != pci.ExtCapSerialNumber || c.Offset+12 > len(config) {
			continue
		}
		number := bytes.Clone(config[c.Offset+4 : c.Offset+12])
		if telling(number) {
			// An EUI-64 that was made of a MAC address has it in two halves of 3 bytes, least significant first.
			secrets = append(secrets, number, slices.Concat(number[0:3], number[5:8]))
		}
		blank(c.Offset+4, 8, "the serial number")
	}
	for _, c := range f.Capabilities {
		if c.ID == pci.CapVPD {
			blank(c.Offset+2, 6, "the address and the data of the vital product data")
		}
	}
	for _, secret := range secrets {
		backwards := bytes.Clone(secret)
		slices.Reverse(backwards)
		for _, form := range [][]byte{secret, backwards} {
			for at := bytes.Index(config, form); at >= 0; at = bytes.Index(config, form) {
				blank(at, len(form), "a MAC address or a serial number")
			}
		}
	}
	return said
}

var macPattern = regexp.MustCompile(`(?i)\b(?:[0-9a-f]{2}[:-]){5}[0-9a-f]{2}\b|enx[0-9a-f]{12}`)

// scrub takes names that people gave out of the files that can have some: of the handlers in a line of /proc/interrupts, which
// for a network card are those of its interface, and of the kernel's release.
func (t *taker) scrub(name, text string) string {
	switch name {
	case "/proc/interrupts":
		at := strings.LastIndex(text, "  ")
		if at < 0 {
			return text
		}
		handlers := text[at:]
		for _, i := range t.private.interfaces {
			handlers = t.replaceWord(handlers, i, "netif", "names of network interfaces, netif here")
		}
		if macPattern.MatchString(handlers) {
			handlers = macPattern.ReplaceAllString(handlers, "mac")
			t.LeftOut = append(t.LeftOut, "MAC addresses in names of interrupts, mac here")
		}
		return text[:at] + t.replaceWord(handlers, t.private.hostname, "host", hostnameLeftOut)
	case "/proc/sys/kernel/osrelease":
		return t.replaceWord(text, t.private.hostname, "host", hostnameLeftOut)
	}
	return text
}

const hostnameLeftOut = "the host's name, host here"

// replaceWord replaces word where no letter or digit is next to it.
func (t *taker) replaceWord(text, word, with, leftOut string) string {
	if word == "" {
		return text
	}
	var b strings.Builder
	for {
		at := strings.Index(text, word)
		if at < 0 {
			break
		}
		end := at + len(word)
		whole := (at == 0 || !alphanumeric(text[at-1])) && (end == len(text) || !alphanumeric(text[end]))
		if !whole {
			b.WriteString(text[:at+1])
			text = text[at+1:]
			continue
		}
		b.WriteString(text[:at] + with)
		text = text[end:]
		t.LeftOut = append(t.LeftOut, leftOut)
	}
	return b.String() + text
}

func alphanumeric(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}
