package cli

import (
	"encoding/hex"
	"fmt"

	"github.com/irqbridge/irqbridge/connect"
	"github.com/irqbridge/irqbridge/pci"
)

// rawJSON is a descriptor of the raw list.
type rawJSON struct {
	Type             uint8  `json:"type"`
	ShareDisposition uint8  `json:"shareDisposition"`
	Flags            string `json:"flags"`
	Level            uint16 `json:"level"`
	Group            uint16 `json:"group"`
	MessageCount     uint16 `json:"messageCount"`
	Vector           string `json:"vector"`
	Affinity         string `json:"affinity"`
	Bytes            string `json:"bytes"` // the 20 bytes of 64-bit Windows
}

// translatedJSON is a descriptor of the translated list.
type translatedJSON struct {
	Type             uint8  `json:"type"`
	ShareDisposition uint8  `json:"shareDisposition"`
	Flags            string `json:"flags"`
	Level            uint16 `json:"level"`
	Group            uint16 `json:"group"`
	Vector           uint32 `json:"vector"`
	Affinity         string `json:"affinity"`
	Bytes            string `json:"bytes"`
}

func newRawJSON(d pci.RawDescriptor) rawJSON {
	return rawJSON{
		uint8(d.Type), uint8(d.Share), fmt.Sprintf("0x%x", uint16(d.Flags)), d.Level, d.Group, d.MessageCount,
		fmt.Sprintf("0x%x", d.Vector), fmt.Sprintf("0x%x", d.Affinity), encoded(d),
	}
}

func newTranslatedJSON(d pci.TranslatedDescriptor) translatedJSON {
	return translatedJSON{
		uint8(d.Type), uint8(d.Share), fmt.Sprintf("0x%x", uint16(d.Flags)), d.Level, d.Group, d.Vector,
		fmt.Sprintf("0x%x", d.Affinity), encoded(d),
	}
}

// messageParametersJSON is the mapping of one interrupt of a list.
type messageParametersJSON struct {
	Message int `json:"message"`
	parametersJSON
}

// assignmentJSON is a resource list and what the mapping makes of it.
type assignmentJSON struct {
	Planned    bool                    `json:"planned"` // nothing is assigned: this is what connect would get
	Kind       string                  `json:"kind"`    // "none" for a device without interrupts
	Raw        []rawJSON               `json:"raw"`
	Translated []translatedJSON        `json:"translated"`
	Parameters []messageParametersJSON `json:"parameters"`
}

func newAssignmentJSON(l pci.ResourceList, kind pci.Kind) *assignmentJSON {
	j := &assignmentJSON{Planned: true, Kind: kindName(kind), Raw: []rawJSON{}, Translated: []translatedJSON{}, Parameters: []messageParametersJSON{}}
	for _, d := range l.Raw {
		j.Raw = append(j.Raw, newRawJSON(d))
	}
	for _, d := range l.Translated {
		j.Translated = append(j.Translated, newTranslatedJSON(d))
	}
	for _, m := range l.Expand() {
		j.Parameters = append(j.Parameters, messageParametersJSON{m.Index, newParametersJSON(parameters(m.Translated))})
	}
	return j
}

// parameters is the mapping that connect uses: the page's, with the descriptor's processor group where it has one.
func parameters(d pci.TranslatedDescriptor) connect.Parameters {
	p, err := connect.FromDescriptor(d)
	if err != nil {
		return connect.FullySpecified(d)
	}
	return p
}

// encoded is a descriptor's bytes on 64-bit Windows, in hexadecimal.
func encoded(d interface {
	Encode(bits pci.Bits) ([]byte, error)
},
) string {
	b, err := d.Encode(pci.Bits64)
	if err != nil {
		return ""
	}
	return hex.EncodeToString(b)
}

// kindName is the kind for people and JSON.
func kindName(k pci.Kind) string {
	if k == 0 {
		return "none"
	}
	return k.String()
}

// printDescriptors prints both halves of a resource list.
func printDescriptors(w *output, l pci.ResourceList, indent string, limit int) {
	w.printf("%sraw: what the device asks for\n", indent)
	raw := newTable(">#", "SHARE", "FLAGS", ">LEVEL", ">COUNT", ">VECTOR", ">AFFINITY")
	for i, d := range l.Raw {
		raw.add(i, d.Share, d.Flags, d.Level, d.MessageCount, fmt.Sprintf("0x%x", d.Vector), affinity(d.Affinity))
	}
	raw.print(w, indent+"  ", limit)
	w.printf("%stranslated: what the host gives\n", indent)
	translated := newTable(">#", "SHARE", "FLAGS", ">LEVEL", ">GROUP", ">VECTOR", ">AFFINITY")
	for i, d := range l.Translated {
		translated.add(i, d.Share, d.Flags, d.Level, d.Group, fmt.Sprintf("0x%x", d.Vector), affinity(d.Affinity))
	}
	translated.print(w, indent+"  ", limit)
}

// printParameters prints what the mapping makes of each interrupt of a list, beside the bytes that it makes it of.
func printParameters(w *output, l pci.ResourceList, indent string, limit int) {
	t := newTable(">MSG", ">VECTOR", ">IRQL", ">SYNC", "MODE", "SHARE", ">MASK", ">GROUP", "TRANSLATED DESCRIPTOR, AS MAP READS IT")
	for _, m := range l.Expand() {
		p := parameters(m.Translated)
		t.add(m.Index, fmt.Sprintf("0x%x", p.Vector), p.Irql, p.SynchronizeIrql, p.InterruptMode, p.ShareVector,
			fmt.Sprintf("0x%x", p.ProcessorEnableMask), p.Group, encoded(m.Translated))
	}
	t.print(w, indent, limit)
}

func affinity(mask uint64) string {
	if mask == 1<<64-1 {
		return "any"
	}
	return fmt.Sprintf("0x%x", mask)
}
