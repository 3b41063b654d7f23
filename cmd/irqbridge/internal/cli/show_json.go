package cli

import (
	"fmt"
	"strconv"

	"github.com/irqbridge/irqbridge/pci"
)

// showJSON is the output of show --json.
type showJSON struct {
	Schema  int               `json:"schema"`
	Devices []shownDeviceJSON `json:"devices"`
}

type shownDeviceJSON struct {
	deviceJSON
	ConfigBytes  int              `json:"configBytes"`
	Command      commandJSON      `json:"command"`
	BARs         []barJSON        `json:"bars"`
	Capabilities []capabilityJSON `json:"capabilities"`
	Warnings     []warningJSON    `json:"warnings"`
	Assignment   *assignmentJSON  `json:"assignment"` // null when it is not known
	// HostInterrupts is where Linux delivers what is enabled through VFIO at this moment, by this or another process.
	HostInterrupts []hostInterruptJSON `json:"hostInterrupts"`
}

type commandJSON struct {
	IO               bool `json:"io"`
	Memory           bool `json:"memory"`
	BusMaster        bool `json:"busMaster"`
	InterruptDisable bool `json:"interruptDisable"`
}

type barJSON struct {
	Index        int    `json:"index"`
	Type         string `json:"type"`
	Prefetchable bool   `json:"prefetchable"`
	Address      string `json:"address"`
}

type capabilityJSON struct {
	ID       string `json:"id"`
	Extended bool   `json:"extended"`
	Version  *uint8 `json:"version,omitempty"` // of extended capabilities
	Offset   int    `json:"offset"`
	Name     string `json:"name"`
}

type warningJSON struct {
	Offset int    `json:"offset"`
	Text   string `json:"text"`
}

type hostInterruptJSON struct {
	Kind              string            `json:"kind"`
	Message           int               `json:"message"`
	HostIRQ           int               `json:"hostIRQ"`
	Trigger           string            `json:"trigger"`
	Chip              string            `json:"chip"`
	Action            string            `json:"action"`
	Affinity          string            `json:"affinity"`
	EffectiveAffinity string            `json:"effectiveAffinity"`
	Counts            map[string]uint64 `json:"counts"`
}

func (s *shown) json() shownDeviceJSON {
	f := s.function
	j := shownDeviceJSON{
		deviceJSON: newDeviceJSON(s.address, f), ConfigBytes: f.Size,
		Command: commandJSON{
			f.Command&pci.CommandIO != 0, f.Command&pci.CommandMemory != 0, f.Command&pci.CommandBusMaster != 0,
			f.Command&pci.CommandINTxDisable != 0,
		},
		BARs: []barJSON{}, Capabilities: []capabilityJSON{}, Warnings: []warningJSON{}, HostInterrupts: []hostInterruptJSON{},
	}
	if s.planned {
		j.Assignment = newAssignmentJSON(s.list, s.kind)
	}
	if s.host != nil {
		j.hostJSON = newHostJSON(*s.host)
	}
	for _, b := range f.BARs {
		j.BARs = append(j.BARs, barJSON{b.Index, b.Type.String(), b.Prefetchable, fmt.Sprintf("0x%x", b.Address)})
	}
	for _, c := range f.Capabilities {
		j.Capabilities = append(j.Capabilities, capabilityJSON{ID: fmt.Sprintf("0x%02x", uint8(c.ID)), Offset: c.Offset, Name: c.ID.String()})
	}
	for _, c := range f.ExtendedCapabilities {
		j.Capabilities = append(j.Capabilities, capabilityJSON{hex16(uint16(c.ID)), true, &c.Version, c.Offset, c.ID.String()})
	}
	for _, w := range f.Warnings {
		j.Warnings = append(j.Warnings, warningJSON{w.Offset, w.Text})
	}
	for _, l := range s.live {
		j.HostInterrupts = append(j.HostInterrupts, hostInterruptJSON{
			l.kind.String(), l.message, l.irq.Number, l.irq.Trigger, l.irq.Chip, l.irq.Action,
			l.affinity.Set.List(), l.affinity.Effective.List(), countsByCPU(l.irq.Counts),
		})
	}
	return j
}

// countsByCPU makes JSON keys of CPU numbers.
func countsByCPU(counts map[int]uint64) map[string]uint64 {
	m := map[string]uint64{}
	for cpu, n := range counts {
		m[strconv.Itoa(cpu)] = n
	}
	return m
}
