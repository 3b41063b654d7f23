package manpage

import (
	"fmt"
	"maps"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// statuses are the exit statuses, as the documentation of package cli has them.
var statuses = [...]string{
	"done",
	"failed",
	"the command line is wrong; nothing was tried",
	"done in part: some of what was asked for could not be read",
	"not possible on this host or with this device",
}

// Of returns the manual page of a command and of each command below it, by file name.
func Of(cmd *cobra.Command) map[string]string {
	all := map[string]string{name(cmd) + ".8": page(cmd)}
	for _, sub := range verbs(cmd) {
		maps.Copy(all, Of(sub))
	}
	return all
}

// name is the name of a command's page: irqbridge-profile-check.
func name(cmd *cobra.Command) string { return strings.ReplaceAll(cmd.CommandPath(), " ", "-") }

// verbs are the commands below a command that the user is to know.
func verbs(cmd *cobra.Command) []*cobra.Command {
	var list []*cobra.Command
	for _, sub := range cmd.Commands() {
		if sub.IsAvailableCommand() {
			list = append(list, sub)
		}
	}
	return list
}

// page writes one page in the man macros, groff_man(7).
func page(cmd *cobra.Command) string {
	var b strings.Builder
	w := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	title := name(cmd)
	w(`.\" Written by go run ./cmd/irqbridge/internal/gendocs from the program's help: change it there.`)
	w(`.TH %s 8 "" irqbridge "System Administration"`, escape(strings.ToUpper(title)))
	w(".SH NAME\n%s \\- %s", escape(title), escape(cmd.Short))
	w(".SH SYNOPSIS")
	for i, form := range forms(cmd) {
		if i > 0 {
			w(".br")
		}
		w(".B %s", escape(form))
	}
	w(".SH DESCRIPTION")
	b.WriteString(paragraphs(cmd.Long))
	if list := verbs(cmd); len(list) > 0 {
		w(".SH VERBS")
		for _, sub := range list {
			w(".TP\n.BR %s (8)\n%s", escape(name(sub)), escape(sub.Short))
		}
	}
	if flags := options(cmd); flags != "" {
		w(".SH OPTIONS\n%s", strings.TrimSuffix(flags, "\n"))
	}
	if cmd.Example != "" {
		w(".SH EXAMPLES")
		b.WriteString(verbatim(strings.Split(cmd.Example, "\n")))
	}
	w(".SH EXIT STATUS")
	for i, text := range statuses {
		w(".TP\n.B %d\n%s", i, escape(text))
	}
	if !cmd.HasParent() {
		w(".SH ENVIRONMENT\n.TP\n.B PCI_IDS\nthe file with the names of devices, in place of the system's pci.ids\n.TP\n.B NO_COLOR\nif set, no colours on a terminal")
		w(".SH FILES\n.TP\n.I /run/irqbridge/bind\nwhat devices were like before bind, for unbind")
	}
	w(".SH SEE ALSO")
	also := []string{".BR lspci (8),", ".BR setpci (8),", ".BR driverctl (8)"}
	if cmd.HasParent() {
		also = append([]string{".BR " + escape(name(cmd.Parent())) + " (8),"}, also...)
	}
	w("%s", strings.Join(also, "\n"))
	return b.String()
}

// forms are the ways of writing a command, which its Use has between bars where the name comes again.
func forms(cmd *cobra.Command) []string {
	before := ""
	if cmd.HasParent() {
		before = cmd.Parent().CommandPath() + " "
	}
	flags := ""
	if cmd.HasAvailableLocalFlags() {
		flags = " [OPTION...]"
	}
	if len(verbs(cmd)) > 0 {
		return []string{cmd.CommandPath() + " VERB [OPTION...] [ARGUMENT...]"}
	}
	var list []string
	for form := range strings.SplitSeq(cmd.Use, " | ") {
		list = append(list, before+form+flags)
	}
	return list
}

// options describes the flags of a command.
func options(cmd *cobra.Command) string {
	var b strings.Builder
	cmd.NonInheritedFlags().VisitAll(func(f *pflag.Flag) {
		if f.Hidden || f.Name == "help" {
			return
		}
		value, text := pflag.UnquoteUsage(f)
		b.WriteString(".TP\n")
		if f.Shorthand != "" {
			fmt.Fprintf(&b, `\fB\-%s\fR, `, escape(f.Shorthand))
		}
		fmt.Fprintf(&b, `\fB\-\-%s\fR`, escape(f.Name))
		if value != "" && value != "count" {
			fmt.Fprintf(&b, ` \fI%s\fR`, escape(value))
		}
		fmt.Fprintf(&b, "\n%s", escape(text))
		switch f.DefValue {
		case "", "false", "0", "0s", "[]":
		default:
			fmt.Fprintf(&b, " (default %s)", escape(f.DefValue))
		}
		b.WriteString("\n")
	})
	return b.String()
}

// paragraphs sets text that empty lines divide. A paragraph in columns, or indented, keeps its lines.
func paragraphs(text string) string {
	var b strings.Builder
	for p := range strings.SplitSeq(text, "\n\n") {
		lines := strings.Split(p, "\n")
		if strings.Contains(p, "   ") || strings.HasPrefix(p, " ") {
			b.WriteString(verbatim(lines))
			continue
		}
		b.WriteString(".PP\n")
		for _, line := range lines {
			b.WriteString(escape(line) + "\n")
		}
	}
	return b.String()
}

// verbatim keeps lines as they are.
func verbatim(lines []string) string {
	var b strings.Builder
	b.WriteString(".PP\n.nf\n")
	for _, line := range lines {
		b.WriteString(escape(line) + "\n")
	}
	b.WriteString(".fi\n")
	return b.String()
}

// escape has roff print text as it is.
func escape(s string) string {
	s = strings.NewReplacer(`\`, `\e`, "-", `\-`, "'", `\(aq`, "`", `\(ga`, "^", `\(ha`, "~", `\(ti`, "…", `...`).Replace(s)
	if strings.HasPrefix(s, ".") {
		s = `\&` + s
	}
	return s
}
