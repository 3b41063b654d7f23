package cli

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/irqbridge/irqbridge/vfio/vfiotest"
)

// asProgram has this test binary be the program on a fake kernel, for the shells that call it.
const asProgram = "IRQBRIDGE_TEST_PROGRAM"

func TestMain(m *testing.M) {
	asChild()
	if os.Getenv(asProgram) == "" {
		os.Exit(m.Run())
	}
	k := vfiotest.NewKernel()
	code := Main(context.Background(), os.Args[1:], System{
		Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Kernel: k, IDs: os.Getenv("PCI_IDS"),
	})
	k.Shutdown()
	os.Exit(code)
}

// shell runs a script in a shell in which the program is a command. The test is skipped without the shell, or a file that it
// needs; scripts/test installs them.
func shell(t *testing.T, name string, needs []string, args ...string) string {
	t.Helper()
	if os.Getenv("IRQBRIDGE_VM") != "" {
		t.Skip("the shells are on the host")
	}
	for _, need := range append(needs, name) {
		if _, err := exec.LookPath(need); err != nil && !exists(need) {
			t.Skipf("%s is not installed: apt-get install bash-completion zsh fish", need)
		}
	}
	dir := t.TempDir()
	self, err := os.Executable()
	require.NoError(t, err)
	ids, err := filepath.Abs("testdata/pci.ids")
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "irqbridge"), fmt.Appendf(nil, "#!/bin/sh\n%s=1 PCI_IDS='%s' exec '%s' \"$@\"\n", asProgram, ids, self), 0o755))
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"), "HOME="+dir, "TERM=dumb")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	return string(out)
}

func exists(name string) bool {
	_, err := os.Stat(name)
	return err == nil
}

// TestBash completes in a real bash, to which the colons of an address divide words: what is offered has to begin behind the
// last colon, and is put together by readline with what is there.
func TestBash(t *testing.T) {
	const loader = "/usr/share/bash-completion/bash_completion"
	for line, want := range map[string]string{
		"irqbridge show 0000:01:0":               "01.0 05.0",
		"irqbridge show 01:":                     "01.0 05.0",
		"irqbridge connect --kind msi":           "msi msix",
		"irqbridge connect --kind=msi":           "msi msix",
		"irqbridge bind 0000:00:04.0 0000:01:05": "05.0",
		"irqbridge bind --user root 0000:01:05":  "05.0",
		"irqbridge latency --wait ":              "block cooperative hybrid poll",
		"irqbridge selftest --kind ":             "all intx msi msix",
		"irqbridge mask --kind ":                 "intx",
		"irqbridge unb":                          "unbind",
		"irqbridge unbind ":                      "",
	} {
		script := `source ` + loader + `
source <(irqbridge completion bash)
COMP_LINE=$1 COMP_POINT=${#1} COMP_TYPE=9 COMP_KEY=9
# As readline divides the line: at blanks, and around each colon and equals sign.
COMP_WORDS=()
word=
for ((i = 0; i < ${#1}; i++)); do
	c=${1:i:1}
	case $c in
	' ') [ -z "$word" ] || COMP_WORDS+=("$word"); word= ;;
	: | =) [ -z "$word" ] || COMP_WORDS+=("$word"); COMP_WORDS+=("$c"); word= ;;
	*) word+=$c ;;
	esac
done
[[ -z $word && ${1: -1} == : ]] || COMP_WORDS+=("$word")
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
compopt() { :; } # is for readline alone
complete -p irqbridge | grep -q __start_irqbridge || exit 1
__start_irqbridge
for reply in "${COMPREPLY[@]}"; do echo "${reply%% *}"; done # what follows describes it`
		got := shell(t, "bash", []string{loader}, "--norc", "--noprofile", "-c", script, "bash", line)
		assert.Equal(t, want, strings.Join(strings.Fields(got), " "), line)
	}
}

func TestFish(t *testing.T) {
	got := shell(t, "fish", nil, "--no-config", "-c", `irqbridge completion fish | source; complete -C "irqbridge show 0000:01:"; complete -C "irqbridge connect --kind m"`)
	assert.Equal(t, "0000:01:01.0\tUnclassified device [00ff]: Device 1234:11e8 (rev 10)\n"+
		"0000:01:05.0\tEthernet controller: Intel Corporation 82540EM Gigabit Ethernet Controller (rev 03), bound to e1000\n"+
		"msi\nmsix\n", got)
	shell(t, "fish", nil, "--no-config", "-c", "irqbridge completion fish | fish --no-execute")
}

// TestZsh has zsh read the script and call its function, with the command by which completions are added replaced.
func TestZsh(t *testing.T) {
	got := shell(t, "zsh", nil, "-f", "-c", `irqbridge completion zsh > $HOME/_irqbridge; zsh -n $HOME/_irqbridge || exit 1
autoload -Uz compinit; compinit -u -D
_describe() { print -rl -- $completions }
words=(irqbridge show 0000:01:) CURRENT=3
source $HOME/_irqbridge
_irqbridge`)
	assert.Contains(t, got, `0000\:01\:05.0:Ethernet controller\: Intel`)
	assert.NotContains(t, got, `0000\:00`)
}

// TestEveryVerbIsHelpful: each says what it does, and how it is typed when there is something to type; what takes a device
// completes devices.
func TestEveryVerbIsHelpful(t *testing.T) {
	var walk func(*cobra.Command)
	walk = func(cmd *cobra.Command) {
		for _, sub := range cmd.Commands() {
			walk(sub)
		}
		path := cmd.CommandPath()
		assert.NotEmpty(t, cmd.Short, "%s has no Short", path)
		assert.NotEmpty(t, cmd.Long, "%s has no Long", path)
		_, words, _ := strings.Cut(cmd.Use, " ")
		if words != "" || cmd.HasAvailableLocalFlags() {
			assert.Contains(t, cmd.Example, "irqbridge ", "%s has no Example", path)
		}
		if strings.Contains(words, "BDF") {
			assert.NotNil(t, cmd.ValidArgsFunction, "%s does not complete devices", path)
		}
		for line := range strings.SplitSeq(cmd.Long+"\n"+cmd.Example, "\n") {
			assert.LessOrEqual(t, len(line), 140, "%s: too long for a terminal: %s", path, line)
		}
	}
	walk(Commands())
}
