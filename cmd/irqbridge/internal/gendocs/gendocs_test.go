package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/irqbridge/irqbridge/cmd/irqbridge/internal/cli"
)

const command = "go run ./cmd/irqbridge/internal/gendocs"

// inVM skips what is about the source.
func inVM(t *testing.T) {
	t.Helper()
	if os.Getenv("IRQBRIDGE_VM") != "" {
		t.Skip("the pages are not in the virtual machine")
	}
}

func TestPagesAreCurrent(t *testing.T) {
	inVM(t)
	want := pages(cli.Commands())
	files, err := filepath.Glob("../../man/*")
	require.NoError(t, err)
	var stale []string
	for _, file := range files {
		if _, ok := want[filepath.Base(file)]; !ok {
			stale = append(stale, filepath.Base(file))
		}
	}
	for file, text := range want {
		got, err := os.ReadFile("../../man/" + file)
		if err != nil || string(got) != text {
			stale = append(stale, file)
		}
	}
	assert.Empty(t, stale, "the manual pages are not those of the program's help any more; type: %s", command)
}

// TestManReadsThePages has man set every page, with all warnings. It is skipped without man, which scripts/test installs.
func TestManReadsThePages(t *testing.T) {
	inVM(t)
	if _, err := exec.LookPath("man"); err != nil {
		t.Skip("man is not installed: apt-get install man-db groff")
	}
	for file := range pages(cli.Commands()) {
		cmd := exec.CommandContext(t.Context(), "man", "--warnings=all", "-l", "../../man/"+file)
		cmd.Env = append(os.Environ(), "MANWIDTH=80", "LC_ALL=C.UTF-8", "MAN_DISABLE_SECCOMP=1", "MANPAGER=cat")
		var stderr strings.Builder
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		require.NoError(t, err, "%s: %s", file, stderr.String())
		for line := range strings.Lines(stderr.String()) {
			// Examples are not filled: what is too wide for this terminal is no fault of theirs.
			assert.Contains(t, line, "can't break line", file)
		}
		for _, heading := range []string{"NAME", "SYNOPSIS", "DESCRIPTION", "EXIT STATUS"} {
			assert.Contains(t, string(out), heading, file)
		}
	}
}

func TestPage(t *testing.T) {
	root := &cobra.Command{Use: "tool", Short: "A tool", Long: "It does."}
	verb := &cobra.Command{
		Use: "do BDF | do --all", Short: "Do it - at once", Run: func(*cobra.Command, []string) {},
		Long:    "One paragraph.\n.second line \\ and 'third'.\n\n  in columns    kept",
		Example: "  tool do 05:00.0     now",
	}
	verb.Flags().StringP("output", "o", "", "write to `FILE`")
	verb.Flags().String("kind", "auto", "which")
	verb.Flags().Bool("dry-run", false, "show")
	root.AddCommand(verb)
	all := pages(root)
	assert.Len(t, all, 2)
	assert.Contains(t, all["tool.8"], ".TP\n.BR tool\\-do (8)\nDo it \\- at once\n")
	got := all["tool-do.8"]
	for _, want := range []string{
		".TH TOOL\\-DO 8 \"\" ",
		".SH SYNOPSIS\n.B tool do BDF [OPTION...]\n.br\n.B tool do \\-\\-all [OPTION...]\n",
		".PP\nOne paragraph.\n\\&.second line \\e and \\(aqthird\\(aq.\n.PP\n.nf\n  in columns    kept\n.fi\n",
		".TP\n\\fB\\-o\\fR, \\fB\\-\\-output\\fR \\fIFILE\\fR\nwrite to FILE\n",
		".TP\n\\fB\\-\\-kind\\fR \\fIstring\\fR\nwhich (default auto)\n",
		".TP\n\\fB\\-\\-dry\\-run\\fR\nshow\n",
		".SH EXAMPLES\n.PP\n.nf\n  tool do 05:00.0     now\n.fi\n",
		".SH SEE ALSO\n.BR tool (8),\n",
	} {
		assert.Contains(t, got, want)
	}
}
