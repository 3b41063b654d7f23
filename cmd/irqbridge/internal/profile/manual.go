package profile

import (
	_ "embed" // the documentation
	"strings"
)

//go:embed doc.go
var documentation string

// Manual is the documentation of the file format, as text: the package's, as far as it is about the file.
func Manual() string {
	comment, _, _ := strings.Cut(documentation, "package profile\n")
	_, comment, _ = strings.Cut(comment, "// # The file\n")
	comment, _, _ = strings.Cut(comment, "// # Profiles in the program\n")
	var text strings.Builder
	text.WriteString("The file\n")
	for line := range strings.Lines(comment) {
		line = strings.TrimPrefix(strings.TrimPrefix(line, "//"), " ")
		if heading, ok := strings.CutPrefix(line, "# "); ok {
			line = heading
		}
		text.WriteString(strings.Replace(line, "\t", "    ", 1))
	}
	return strings.TrimRight(text.String(), "\n") + "\n"
}
