package mmio_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestOneAccessEach disassembles the accessors of both architectures. Beside moving its argument and result through the
// stack and returning, each may hold just the instructions listed: the one access, with the machine code that fixes its
// width, and the barrier of arm64.
func TestOneAccessEach(t *testing.T) {
	goTool, err := exec.LookPath("go")
	if err != nil {
		t.Skip("no go command here; the disassembly does not depend on the machine")
	}
	want := map[string]map[string][]string{
		"amd64": {
			"load8":   {"0fb608 MOVZX 0(AX), CX"},
			"load16":  {"0fb708 MOVZX 0(AX), CX"},
			"load32":  {"8b08 MOVL 0(AX), CX"},
			"load64":  {"488b08 MOVQ 0(AX), CX"},
			"store8":  {"8808 MOVB CL, 0(AX)"},
			"store16": {"668908 MOVW CX, 0(AX)"},
			"store32": {"8908 MOVL CX, 0(AX)"},
			"store64": {"488908 MOVQ CX, 0(AX)"},
		},
		"arm64": {
			"load8":   {"39400001 MOVBU (R0), R1", "d50331bf DMB $1"},
			"load16":  {"79400001 MOVHU (R0), R1", "d50331bf DMB $1"},
			"load32":  {"b9400001 MOVWU (R0), R1", "d50331bf DMB $1"},
			"load64":  {"f9400001 MOVD (R0), R1", "d50331bf DMB $1"},
			"store8":  {"d50332bf DMB $2", "39000001 MOVB R1, (R0)"},
			"store16": {"d50332bf DMB $2", "79000001 MOVH R1, (R0)"},
			"store32": {"d50332bf DMB $2", "b9000001 MOVW R1, (R0)"},
			"store64": {"d50332bf DMB $2", "f9000001 MOVD R1, (R0)"},
		},
	}
	for arch, functions := range want {
		t.Run(arch, func(t *testing.T) {
			assert.Equal(t, functions, disassemble(t, goTool, arch))
		})
	}
}

var (
	textLine        = regexp.MustCompile(`^TEXT mmio\.(\w+)\(SB\)`)
	instructionLine = regexp.MustCompile(`^\s+mmio_\w+\.s:\d+\s+0x[0-9a-f]+\s+([0-9a-f]+)\s+(.*?)\s*$`)
	throughTheStack = regexp.MustCompile(`\((SP|RSP)\)`)
)

// disassemble returns the instructions of each function of mmio_ARCH.s, without the moves through the stack, the return
// and the padding that follows it.
func disassemble(t *testing.T, goTool, arch string) map[string][]string {
	t.Helper()
	run := func(args ...string) string {
		cmd := exec.Command(goTool, args...)
		cmd.Env = append(os.Environ(), "GOOS=linux", "GOARCH="+arch)
		var stderr strings.Builder
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		require.NoError(t, err, "go %v: %s", args, stderr.String())
		return string(out)
	}
	include := filepath.Join(strings.TrimSpace(run("env", "GOROOT")), "pkg", "include")
	object := filepath.Join(t.TempDir(), "mmio.o")
	run("tool", "asm", "-p", "mmio", "-I", include, "-o", object, fmt.Sprintf("mmio_%s.s", arch))

	functions := map[string][]string{}
	current := ""
	for line := range strings.Lines(run("tool", "objdump", object)) {
		if m := textLine.FindStringSubmatch(line); m != nil {
			current = m[1]
			continue
		}
		m := instructionLine.FindStringSubmatch(line)
		if m == nil || throughTheStack.MatchString(m[2]) || m[2] == "RET" || m[1] == "00000000" {
			continue
		}
		functions[current] = append(functions[current], m[1]+" "+m[2])
	}
	return functions
}
