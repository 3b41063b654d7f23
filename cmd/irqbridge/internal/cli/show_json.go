package cli

import (
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
	ConfigBytes     int             `json:"configBytes"`
	Command         pci.CommandBits `json:"command"`
	Status          pci.StatusBits  `json:"status"`
	Header          headerJSON      `json:"header"`
	BARs            []pci.BAR       `json:"bars"`
	ROM             *pci.ROM        `json:"rom,omitempty"`
	Bridge          *pci.Bridge     `json:"bridge,omitempty"`
	CardBus         *pci.CardBus    `json:"cardBus,omitempty"`
	SecondaryStatus *pci.StatusBits `json:"secondaryStatus,omitempty"` // of the bus behind a bridge
	Capabilities    []any           `json:"capabilities"`              // those of both lists
	Warnings        []pci.Warning   `json:"warnings"`
	Assignment      *assignmentJSON `json:"assignment"` // null when it is not known
	// HostInterrupts is where Linux delivers what is enabled through VFIO at this moment, by this or another process.
	HostInterrupts []hostInterruptJSON `json:"hostInterrupts"`
}

// headerJSON is the registers of the header that have no place elsewhere.
type headerJSON struct {
	Type          uint8 `json:"type"`
	MultiFunction bool  `json:"multiFunction"`
	CacheLineSize uint8 `json:"cacheLineSize"` // words of 4 bytes
	LatencyTimer  uint8 `json:"latencyTimer"`
	BIST          uint8 `json:"bist"`
	MinGrant      uint8 `json:"minGrant"`
	MaxLatency    uint8 `json:"maxLatency"`
}

func newHeaderJSON(f *pci.Function) headerJSON {
	return headerJSON{f.HeaderType, f.MultiFunction, f.CacheLineSize, f.LatencyTimer, f.BIST, f.MinGrant, f.MaxLatency}
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

func (s *shown) json(n naming) shownDeviceJSON {
	f := s.function
	j := shownDeviceJSON{
		deviceJSON: newDeviceJSON(s.address, f, n), ConfigBytes: f.Size,
		Command: f.Command.Bits(), Status: pci.StatusRegister(f.Status), Header: newHeaderJSON(f),
		BARs: append([]pci.BAR{}, f.BARs...), ROM: f.ROM, Bridge: f.Bridge, CardBus: f.CardBus,
		Capabilities: []any{}, Warnings: append([]pci.Warning{}, f.Warnings...), HostInterrupts: []hostInterruptJSON{},
	}
	if s.planned {
		j.Assignment = newAssignmentJSON(s.list, s.kind)
	}
	if s.host != nil {
		j.hostJSON = newHostJSON(*s.host, s.backend)
	}
	switch {
	case f.Bridge != nil:
		j.SecondaryStatus = new(pci.StatusRegister(uint16(f.Bridge.SecondaryStatus)))
	case f.CardBus != nil:
		j.SecondaryStatus = new(pci.StatusRegister(uint16(f.CardBus.SecondaryStatus)))
	}
	for _, c := range f.Capabilities {
		j.Capabilities = append(j.Capabilities, c)
	}
	for _, c := range f.ExtendedCapabilities {
		j.Capabilities = append(j.Capabilities, c)
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
