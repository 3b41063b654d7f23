package cli

import (
	"fmt"

	"github.com/irqbridge/irqbridge/pci"
)

// bytesOf is the bytes of one device on this host, as a dump.
func (a *app) bytesOf(address pci.Address) ([]pci.Dump, error) {
	if _, err := a.host.Device(address); err != nil {
		return nil, explainAbsent(address, err)
	}
	config, err := a.host.Config(address)
	if err != nil {
		return nil, err
	}
	return []pci.Dump{{Address: address, Config: config}}, nil
}

// showBytes prints configuration spaces as lspci does, so that lspci -F reads them. Times is how often -x was given:
// what lspci makes of it is 64 bytes, or 128 of a CardBus bridge; 256; all. A device that does not answer has its
// bytes shown too.
func (a *app) showBytes(dumps []pci.Dump, n naming, times int) error {
	code, short := exitOK, false
	for i := range dumps {
		d := &dumps[i]
		size := 64
		switch {
		case times >= 4:
			size = 4096
		case times == 3:
			size = 256
		}
		f, err := pci.Decode(d.Config)
		if err != nil {
			a.note("%v: %v", d.Address, err)
			code = exitPartial
		} else {
			d.Header = n.ids.Describe(f, n.form)
			if f.HeaderType == pci.HeaderTypeCardBus {
				size = max(size, 128)
			}
			if len(d.Config) < size && f.Truncated {
				a.note("%v: only %d bytes of configuration space could be read", d.Address, len(d.Config))
				code, short = exitPartial, true
			}
		}
		d.Config = d.Config[:min(size, len(d.Config))]
	}
	if err := pci.WriteDump(a.stdout, dumps); err != nil {
		return fmt.Errorf("write the bytes: %w", err)
	}
	if short {
		a.next("the same as root")
	}
	return exit(code)
}
