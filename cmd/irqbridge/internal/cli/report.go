package cli

import (
	"bytes"
	"context"
	"os"

	"github.com/spf13/cobra"

	"github.com/irqbridge/irqbridge/cmd/irqbridge/internal/recording"
	"github.com/irqbridge/irqbridge/cmd/irqbridge/internal/report"
)

func (a *app) reportCommand() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "report FILE",
		Short: "Make one HTML page of a recorded run",
		Long: `report makes a page of a run that connect --record recorded: how it ended, when the interrupts came, how long they took, what each
message was connected as and where it was delivered, the descriptors, and the snapshot of the device. The page is one file that loads
nothing and has no scripts; it can be read on a telephone, printed, and sent around.

Of a run that was cut off it shows what there is, and the exit status is 3.`,
		Example: `  irqbridge report run.jsonl -o run.html`,
		Args:    oneFile,
		RunE: a.verb(func(_ context.Context, args []string) error {
			return a.openRecording(args[0], func(r *recording.Reader) error { return a.report(r, output) })
		}),
	}
	cmd.Flags().StringVarP(&output, "output", "o", "", "write to `FILE` in place of standard output")
	return cmd
}

func (a *app) report(r *recording.Reader, output string) error {
	var page bytes.Buffer
	if err := report.Write(&page, r); err != nil {
		return err
	}
	if output == "" {
		_, _ = a.stdout.Write(page.Bytes()) // the output keeps the error
	} else if err := os.WriteFile(output, page.Bytes(), 0o644); err != nil {
		return unwritable(output, err)
	}
	if r.Partial() {
		a.note("the recording was cut off after %v, and has no end", r.Elapsed())
		return exit(exitPartial)
	}
	return nil
}
