package manpage

import (
	"testing"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/assert"
)

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
	all := Of(root)
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
