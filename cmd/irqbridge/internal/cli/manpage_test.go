package cli

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/irqbridge/irqbridge/cmd/irqbridge/internal/manpage"
)

// manDir is where the manual pages are committed.
const manDir = "../../man"

func TestManualPagesAreCurrent(t *testing.T) {
	if os.Getenv("IRQBRIDGE_VM") != "" {
		t.Skip("the pages are not in the virtual machine")
	}
	want := manpage.Of(Commands())
	files, err := filepath.Glob(manDir + "/*")
	require.NoError(t, err)
	var stale []string
	for _, file := range files {
		if _, ok := want[filepath.Base(file)]; !ok {
			stale = append(stale, filepath.Base(file))
		}
	}
	for file, text := range want {
		got, err := os.ReadFile(manDir + "/" + file)
		if err != nil || string(got) != text {
			stale = append(stale, file)
		}
	}
	assert.Empty(t, stale, "the manual pages are not those of the program's help any more; type: go run ./cmd/irqbridge/internal/gendocs")
}

// TestManReadsThePages has man set every page, with all warnings. It is skipped without man, which scripts/test installs.
func TestManReadsThePages(t *testing.T) {
	if os.Getenv("IRQBRIDGE_VM") != "" {
		t.Skip("the pages are not in the virtual machine")
	}
	if _, err := exec.LookPath("man"); err != nil {
		t.Skip("man is not installed: apt-get install man-db groff")
	}
	for file := range manpage.Of(Commands()) {
		t.Run(file, func(t *testing.T) {
			t.Parallel()
			cmd := exec.CommandContext(t.Context(), "man", "--warnings=all", "-l", manDir+"/"+file)
			cmd.Env = append(os.Environ(), "MANWIDTH=80", "LC_ALL=C.UTF-8", "MAN_DISABLE_SECCOMP=1", "MANPAGER=cat")
			var stderr strings.Builder
			cmd.Stderr = &stderr
			out, err := cmd.Output()
			require.NoError(t, err, "%s", stderr.String())
			for line := range strings.Lines(stderr.String()) {
				assert.Contains(t, line, "can't break line", "anything but an example that is wider than this terminal")
			}
			for _, heading := range []string{"NAME", "SYNOPSIS", "DESCRIPTION", "EXIT STATUS"} {
				assert.Contains(t, string(out), heading)
			}
		})
	}
}
