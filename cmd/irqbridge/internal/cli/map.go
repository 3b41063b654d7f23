package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/irqbridge/irqbridge/connect"
	"github.com/irqbridge/irqbridge/pci"
)

// parametersJSON is the outcome of the mapping: the members of IO_CONNECT_INTERRUPT_PARAMETERS.FullySpecified that a
// descriptor determines.
type parametersJSON struct {
	Version             uint32 `json:"version"`
	Vector              uint32 `json:"vector"`
	Irql                uint8  `json:"irql"`
	SynchronizeIrql     uint8  `json:"synchronizeIrql"`
	InterruptMode       string `json:"interruptMode"`
	ShareVector         bool   `json:"shareVector"`
	ProcessorEnableMask string `json:"processorEnableMask"`
	Group               uint16 `json:"group"`
}

func newParametersJSON(p connect.Parameters) parametersJSON {
	return parametersJSON{
		Version: p.Version, Vector: p.Vector, Irql: p.Irql, SynchronizeIrql: p.SynchronizeIrql, InterruptMode: p.InterruptMode.String(),
		ShareVector: p.ShareVector, ProcessorEnableMask: fmt.Sprintf("0x%x", p.ProcessorEnableMask), Group: p.Group,
	}
}

func (a *app) mapCommand() *cobra.Command {
	var (
		asJSON   bool
		bits     int
		snapshot string
	)
	cmd := &cobra.Command{
		Use:   "map",
		Short: "Map descriptors from standard input to connect parameters, as Microsoft's page does",
		Long: `map reads translated CM_PARTIAL_RESOURCE_DESCRIPTOR structures in hexadecimal, one a line, and prints for each the parameters
that the CONNECT_FULLY_SPECIFIED code of Microsoft's page makes of it: bit for bit, nonsense included. Empty lines and lines that
start with # are passed over. A line that is no descriptor is an error; the others are still mapped. With --snapshot it maps the
descriptors that connect would get for the device that the snapshot is of.`,
		Example: `  echo 0203000009000000910000000f00000000000000 | irqbridge map
  irqbridge show 0000:00:05.0 --json | jq -r '.devices[].assignment.translated[].bytes' | irqbridge map --json`,
		Args: cobra.NoArgs,
		RunE: a.verb(func(context.Context, []string) error {
			if bits != int(pci.Bits64) && bits != int(pci.Bits32) {
				return usage("--bits %d: descriptors are those of 64 or 32 bits", bits)
			}
			if snapshot == "" {
				return a.mapLines(pci.Bits(bits), asJSON)
			}
			there, address, err := a.at(snapshot, nil)
			if err != nil {
				return err
			}
			list, err := there.planned("map", address)
			if err != nil {
				return err
			}
			for _, m := range list.Expand() {
				if err := a.mapDescriptor(m.Translated, asJSON); err != nil {
					return err
				}
			}
			return nil
		}),
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object a line")
	snapshotFlag(cmd, &snapshot)
	cmd.Flags().IntVar(&bits, "bits", int(pci.Bits64), "64 for descriptors of 20 bytes, 32 for those of 16")
	cmd.MarkFlagsMutuallyExclusive("snapshot", "bits")
	return cmd
}

func (a *app) mapLines(bits pci.Bits, asJSON bool) error {
	code := exitOK
	lines := bufio.NewReader(a.stdin)
	for number := 1; ; number++ {
		line, err := readLine(lines)
		if errors.Is(err, io.EOF) {
			return exit(code)
		}
		if err == nil {
			err = a.mapLine(line, bits, asJSON)
		} else if !errors.Is(err, errLongLine) {
			return fmt.Errorf("line %d: %w", number, err)
		}
		if err != nil {
			a.note("line %d: %v", number, err)
			code = exitFailed
		}
	}
}

func (a *app) mapLine(line string, bits pci.Bits, asJSON bool) error {
	digits := strings.Join(strings.Fields(line), "")
	if digits == "" || digits[0] == '#' {
		return nil
	}
	b, err := parseHex(digits)
	if err != nil {
		return err
	}
	d, err := pci.DecodeTranslated(b, bits)
	if err != nil {
		return err
	}
	return a.mapDescriptor(d, asJSON)
}

func (a *app) mapDescriptor(d pci.TranslatedDescriptor, asJSON bool) error {
	p := newParametersJSON(connect.FullySpecified(d))
	if asJSON {
		return json.NewEncoder(a.stdout).Encode(p)
	}
	share := "exclusive"
	if p.ShareVector {
		share = "shared"
	}
	a.printf("version %d  vector 0x%x  irql %d  synchronizeIrql %d  %s  %s  mask %s  group %d\n",
		p.Version, p.Vector, p.Irql, p.SynchronizeIrql, p.InterruptMode, share, p.ProcessorEnableMask, p.Group)
	return nil
}

var errLongLine = errors.New("longer than 4096 characters")

// readLine reads a line without its end. It drops a line that is longer than the reader's buffer and goes on after it.
func readLine(r *bufio.Reader) (string, error) {
	line, more, err := r.ReadLine()
	if !more {
		return string(line), err
	}
	for more && err == nil {
		_, more, err = r.ReadLine()
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	return "", errLongLine
}
