package cli

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/irqbridge/irqbridge/connect"
	"github.com/irqbridge/irqbridge/pci"
)

// maxList bounds what resources --decode reads. A list of 2048 messages has 40 kB, twice that and more in text.
const maxList = 16 << 20

// resourcesOptions are the flags of resources.
type resourcesOptions struct {
	decode, dump, snapshot  string
	encode, raw, translated bool
	binary, asJSON          bool
	bits                    int
}

func (a *app) resourcesCommand() *cobra.Command {
	var o resourcesOptions
	cmd := &cobra.Command{
		Use:   "resources --decode FILE | resources --encode BDF | resources --encode [BDF] --dump FILE | resources --encode --snapshot FILE",
		Short: "Read and write the resource lists of Windows, CM_RESOURCE_LIST",
		Long: `resources --decode prints a CM_RESOURCE_LIST from a file, "-" for standard input. The file has the bytes themselves, or their
hexadecimal digits as text, with spaces, commas and line ends between, and comments from # to the end of a line. The bytes do not
say whether they are the raw list or the translated one, nor whether they are from 64-bit Windows or from 32-bit: that is what
--raw and --bits are for.

resources --encode writes the list with the interrupts that connect would get for a device, or for one in the text of lspci -xxxx or
in a snapshot, as one line of digits or with --binary as bytes.`,
		Example: `  irqbridge resources --encode 05:00.0 | irqbridge resources --decode -
  irqbridge resources --decode list.bin --raw --bits 32 --json`,
		Args: func(cmd *cobra.Command, args []string) error {
			switch decoding := cmd.Flags().Changed("decode"); {
			case decoding == o.encode:
				return errors.New("want one of --decode FILE and --encode")
			case decoding && (len(args) > 0 || o.dump != "" || o.snapshot != "" || o.binary):
				return errors.New("--decode takes a file, and no device, --dump, --snapshot or --binary")
			case o.encode && o.asJSON:
				return errors.New("--json is for --decode")
			case o.encode && len(args) > 1 || o.encode && len(args) == 0 && o.dump == "" && o.snapshot == "":
				return fmt.Errorf("--encode wants one device, such as 0000:00:04.0, or --dump or --snapshot FILE; have %d", len(args))
			case o.bits != int(pci.Bits64) && o.bits != int(pci.Bits32):
				return fmt.Errorf("--bits %d: lists are those of 64 or 32 bits", o.bits)
			}
			return nil
		},
		RunE: a.verb(func(_ context.Context, args []string) error {
			if o.encode {
				return a.encodeResources(o, args)
			}
			return a.decodeResources(o)
		}),
	}
	f := cmd.Flags()
	f.StringVar(&o.decode, "decode", "", "print the list in `FILE`")
	f.BoolVar(&o.encode, "encode", false, "write the list of a device's interrupts")
	f.StringVar(&o.dump, "dump", "", "with --encode: read the device from the output of lspci -xxxx in `FILE`")
	f.BoolVar(&o.raw, "raw", false, "the raw list: what the device is programmed with")
	f.BoolVar(&o.translated, "translated", false, "the translated list: what interrupts are connected with (the default)")
	f.IntVar(&o.bits, "bits", int(pci.Bits64), "of the Windows that the list is for: 64 or 32")
	f.BoolVar(&o.binary, "binary", false, "with --encode: write bytes, not hexadecimal digits")
	f.BoolVar(&o.asJSON, "json", false, "with --decode: print one JSON object")
	snapshotFlag(cmd, &o.snapshot)
	cmd.MarkFlagsMutuallyExclusive("raw", "translated")
	cmd.MarkFlagsMutuallyExclusive("dump", "snapshot")
	return cmd
}

// resourcesJSON is the output of resources --decode --json.
type resourcesJSON struct {
	Schema int                  `json:"schema"`
	Bits   int                  `json:"bits"`
	List   string               `json:"list"` // "raw" or "translated"
	Full   []fullDescriptorJSON `json:"fullDescriptors"`
}

type fullDescriptorJSON struct {
	InterfaceType int32    `json:"interfaceType"`
	BusNumber     uint32   `json:"busNumber"`
	Version       uint16   `json:"version"`
	Revision      uint16   `json:"revision"`
	Descriptors   []any    `json:"descriptors"`
	Data          string   `json:"data,omitempty"` // device specific, in hexadecimal
	Warnings      []string `json:"warnings"`
}

// rangeJSON is what a descriptor of ports or memory has in the place of an interrupt.
type rangeJSON struct {
	Start  string `json:"start"`
	Length string `json:"length"`
}

func (a *app) decodeResources(o resourcesOptions) error {
	b, err := a.readList(o.decode)
	if err != nil {
		return err
	}
	if o.raw {
		return decodeList[pci.RawDescriptor](a, o, b)
	}
	return decodeList[pci.TranslatedDescriptor](a, o, b)
}

// decodeList prints a list whose descriptors are all raw or all translated.
func decodeList[D pci.Descriptor](a *app, o resourcesOptions, b []byte) error {
	list, err := pci.DecodeFullList[D](b, pci.Bits(o.bits))
	if err != nil {
		other := int(pci.Bits32)
		if o.bits == other {
			other = int(pci.Bits64)
		}
		next := fmt.Sprintf("the same with --bits %d, if the list is from %d-bit Windows", other, other)
		return &failure{exitFailed, fmt.Errorf("%s: %w", inputName(o.decode), err), next}
	}
	result := resourcesJSON{Schema: schema, Bits: o.bits, List: "translated", Full: []fullDescriptorJSON{}}
	if o.raw {
		result.List = "raw"
	}
	for i, full := range list {
		j := fullDescriptorJSON{
			InterfaceType: full.InterfaceType, BusNumber: full.BusNumber, Version: full.Version, Revision: full.Revision,
			Descriptors: []any{}, Data: hex.EncodeToString(full.Data), Warnings: append([]string{}, full.Warnings()...),
		}
		rows := newTable(">#", "TYPE", "SHARE", "FLAGS", ">LEVEL", ">GROUP", ">COUNT", ">VECTOR", ">AFFINITY", "BYTES")
		for n, d := range full.Descriptors {
			for _, warning := range descriptorWarnings(d) {
				j.Warnings = append(j.Warnings, fmt.Sprintf("descriptor %d: %s", n, warning))
			}
			j.Descriptors = append(j.Descriptors, descriptorJSON(d, pci.Bits(o.bits)))
			rows.add(append([]any{n}, descriptorCells(d, pci.Bits(o.bits))...)...)
		}
		result.Full = append(result.Full, j)
		if o.asJSON {
			continue
		}
		if i > 0 {
			a.printf("\n")
		}
		a.printf("%s list of %d-bit Windows: interface type %d, bus %d, %s\n", result.List, o.bits, full.InterfaceType, full.BusNumber,
			plural(len(full.Descriptors), "descriptor"))
		if len(rows.rows) > 0 {
			rows.print(a.stdout, "  ", 0)
		}
		if len(full.Data) > 0 {
			printWords(a.stdout, "  ", "device specific data", []string{j.Data})
		}
		for _, warning := range j.Warnings {
			a.printf("  warning: %s\n", warning)
		}
	}
	if o.asJSON {
		a.printJSON(result)
	} else if len(list) == 0 {
		a.printf("the list is empty\n")
	}
	return nil
}

// descriptorWarnings says what is wrong with a descriptor; nothing is known of raw ones.
func descriptorWarnings[D pci.Descriptor](d D) []string {
	t, ok := any(d).(pci.TranslatedDescriptor)
	if !ok || t.Type != pci.ResourceInterrupt {
		return nil
	}
	warnings := t.Warnings()
	if err := t.Validate(); err != nil {
		warnings = append(warnings, err.Error())
	}
	return warnings
}

func descriptorJSON[D pci.Descriptor](d D, bits pci.Bits) any {
	b, _ := d.Encode(bits) // what was decoded can be encoded
	switch d := any(d).(type) {
	case pci.RawDescriptor:
		j := newRawJSON(d)
		j.Bytes = hex.EncodeToString(b)
		return struct {
			rawJSON
			*rangeJSON
		}{j, rangeOf(d.Type, d.Level, d.Group, d.Vector, d.Affinity)}
	case pci.TranslatedDescriptor:
		j := newTranslatedJSON(d)
		j.Bytes = hex.EncodeToString(b)
		return struct {
			translatedJSON
			*rangeJSON
		}{j, rangeOf(d.Type, d.Level, d.Group, d.Vector, d.Affinity)}
	}
	return nil
}

// descriptorCells is the row of a descriptor. Those that are no interrupts have other things in the same bytes.
func descriptorCells[D pci.Descriptor](d D, bits pci.Bits) []any {
	b, _ := d.Encode(bits)
	digits := hex.EncodeToString(b)
	var t pci.RawDescriptor
	count := "-"
	switch d := any(d).(type) {
	case pci.RawDescriptor:
		t = d
		if d.Flags.Message() {
			count = fmt.Sprint(d.MessageCount)
		}
	case pci.TranslatedDescriptor:
		t = pci.RawDescriptor{
			Type: d.Type, Share: d.Share, Flags: d.Flags, Level: d.Level, Group: d.Group, Vector: d.Vector, Affinity: d.Affinity,
		}
	}
	if t.Type == pci.ResourceInterrupt {
		mask := affinity(t.Affinity)
		if bits == pci.Bits32 && t.Affinity == math.MaxUint32 {
			mask = "any"
		}
		return []any{t.Type, t.Share, t.Flags, t.Level, t.Group, count, fmt.Sprintf("0x%x", t.Vector), mask, digits}
	}
	what := digits
	if r := rangeOf(t.Type, t.Level, t.Group, t.Vector, t.Affinity); r != nil {
		what += "  start " + r.Start + ", length " + r.Length
	}
	return []any{t.Type, t.Share, fmt.Sprintf("0x%x", uint16(t.Flags)), "-", "-", "-", "-", "-", what}
}

// rangeOf reads u.Port and u.Memory, which have an address of 64 bits and a length of 32 where an interrupt has its
// fields; nil for other types.
func rangeOf(kind pci.ResourceType, level, group uint16, vector uint32, affinity uint64) *rangeJSON {
	if kind != pci.ResourcePort && kind != pci.ResourceMemory {
		return nil
	}
	start := uint64(level) | uint64(group)<<16 | uint64(vector)<<32
	return &rangeJSON{fmt.Sprintf("0x%x", start), fmt.Sprintf("0x%x", uint32(affinity))}
}

func (a *app) encodeResources(o resourcesOptions, args []string) error {
	there, address, f := a, pci.Address{}, (*pci.Function)(nil)
	var err error
	if o.dump != "" {
		address, f, err = a.dumpedDevice(o.dump, args)
	} else if there, address, err = a.at(o.snapshot, args); err == nil {
		if _, err := there.host.Device(address); err != nil {
			return explainAbsent(address, err)
		}
		f, err = there.function(address)
	}
	if err != nil {
		return err
	}
	next := there.asRoot("resources --encode", address)
	if o.dump != "" {
		next = dumpHint
	}
	list, err := there.plannedFor(address, f, next)
	if err != nil {
		return err
	}
	list.BusNumber = uint32(address.Bus)
	var b []byte
	if o.raw {
		if o.bits == int(pci.Bits32) {
			for i := range list.Raw {
				list.Raw[i].Affinity &= math.MaxUint32 // (KAFFINITY)-1 there
			}
		}
		b, err = list.RawList().Encode(pci.Bits(o.bits))
	} else {
		b, err = list.TranslatedList().Encode(pci.Bits(o.bits))
	}
	if err != nil {
		return fmt.Errorf("%v: %w", address, err)
	}
	if o.binary {
		_, _ = a.stdout.Write(b) // the output keeps the error
		return nil
	}
	a.printf("%x\n", b)
	return nil
}

// planned is what connect would get for a device on this host.
func (a *app) planned(verb string, address pci.Address) (pci.ResourceList, error) {
	f, err := a.function(address)
	if err != nil {
		return pci.ResourceList{}, err
	}
	return a.plannedFor(address, f, a.asRoot(verb, address))
}

// plannedFor is what connect would get for a function; next is what to type when not enough of it is known.
func (a *app) plannedFor(address pci.Address, f *pci.Function, next string) (pci.ResourceList, error) {
	if hidesInterrupts(f) {
		return pci.ResourceList{}, &failure{exitFailed, fmt.Errorf("%v: only %d bytes of configuration space are readable: whether the device asks for "+
			"MSI or MSI-X is not known", address, f.Size), next}
	}
	cpus, err := a.usableCPUs()
	if err != nil {
		return pci.ResourceList{}, err
	}
	list, _, err := connect.Plan(f, connect.Policy{}, cpus)
	if err != nil {
		return pci.ResourceList{}, fmt.Errorf("%v: %w", address, err)
	}
	return list, nil
}

// dumpedDevice finds the device to encode in a dump.
func (a *app) dumpedDevice(dump string, args []string) (pci.Address, *pci.Function, error) {
	var address pci.Address
	var err error
	if len(args) > 0 {
		if address, err = parseAddress(args[0]); err != nil {
			return address, nil, err
		}
	}
	dumps, err := a.readDump(dump)
	if err != nil {
		return address, nil, err
	}
	if len(args) > 0 {
		dumps = slices.DeleteFunc(dumps, func(d pci.Dump) bool { return d.Address != address })
	}
	switch {
	case len(dumps) == 0:
		return address, nil, fmt.Errorf("%s: %v is not in it", inputName(dump), address)
	case len(dumps) > 1:
		return address, nil, &failure{
			exitUsage, fmt.Errorf("%s has %d devices: say which", inputName(dump), len(dumps)),
			fmt.Sprintf("irqbridge resources --encode %v --dump %s", dumps[0].Address, dump),
		}
	}
	f, err := pci.Decode(dumps[0].Config)
	if err != nil {
		return address, nil, fmt.Errorf("%v: %w", dumps[0].Address, err)
	}
	return dumps[0].Address, f, nil
}

// readList reads a list, in bytes or in hexadecimal. There is no doubt which: a list starts with a count of 32 bits,
// which is far below 2^24, so that one of its bytes is zero, and text has none.
func (a *app) readList(file string) ([]byte, error) {
	in := a.stdin
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return nil, err
		}
		defer func() { _ = f.Close() }()
		in = f
	}
	b, err := io.ReadAll(io.LimitReader(in, maxList+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("%s: %w", inputName(file), err)
	case len(b) > maxList:
		return nil, fmt.Errorf("%s: more than %d bytes, which no resource list has", inputName(file), maxList)
	case bytes.IndexByte(b[:min(4, len(b))], 0) >= 0:
		return b, nil
	}
	var digits strings.Builder
	for line := range strings.Lines(string(b)) {
		line, _, _ = strings.Cut(line, "#")
		digits.WriteString(strings.Map(func(r rune) rune {
			if strings.ContainsRune(" \t\r\n,\\", r) { // reg.exe puts commas, and a backslash at the end of a line
				return -1
			}
			return r
		}, line))
	}
	list, err := parseHex(digits.String())
	if err != nil {
		return nil, fmt.Errorf("%s: neither the bytes of a list nor hexadecimal digits: %w", inputName(file), err)
	}
	return list, nil
}

// parseHex reads hexadecimal digits without anything between them.
func parseHex(digits string) ([]byte, error) {
	b, err := hex.DecodeString(digits)
	var invalid hex.InvalidByteError
	switch {
	case errors.As(err, &invalid):
		return nil, fmt.Errorf("%q is no hexadecimal digit", rune(invalid))
	case err != nil:
		return nil, fmt.Errorf("%d hexadecimal digits, which are no whole bytes", len(digits))
	}
	return b, nil
}

// inputName is what messages call a file.
func inputName(file string) string {
	if file == "-" {
		return "standard input"
	}
	return file
}
