package cli

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/irqbridge/irqbridge/vfio/vfiotest"
)

// openTerminal returns a pseudo-terminal: what is written to the terminal can be read from its other side.
func openTerminal(t *testing.T) (other, terminal *os.File) {
	t.Helper()
	other, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no pseudo-terminals here: %v", err)
	}
	t.Cleanup(func() { _ = other.Close() })
	require.NoError(t, unix.IoctlSetPointerInt(int(other.Fd()), unix.TIOCSPTLCK, 0))
	n, err := unix.IoctlGetInt(int(other.Fd()), unix.TIOCGPTN)
	require.NoError(t, err)
	terminal, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	require.NoError(t, err)
	t.Cleanup(func() { _ = terminal.Close() })
	return other, terminal
}

func TestProgressIsForTerminalsAndLeavesNoTrace(t *testing.T) {
	other, terminal := openTerminal(t)
	m := vfiotest.FakeMachine(t)
	m.Bind(t, m.EDU)
	var stdout bytes.Buffer
	code := Main(context.Background(), []string{"connect", m.EDU.String(), "--raise", "10"},
		System{Stdin: strings.NewReader(""), Stdout: &stdout, Stderr: terminal, Kernel: m.Kernel})
	require.Zero(t, code)
	require.NoError(t, terminal.Close())
	screen, err := io.ReadAll(other)
	require.ErrorIs(t, err, unix.EIO, "the terminal's end")
	assert.Regexp(t, `^\r\x1b\[Kmessage 0: 1 of 10`, string(screen))
	assert.Regexp(t, `\r\x1b\[K$`, string(screen), "the line is cleared at the end")
	assert.NotContains(t, stdout.String(), "\x1b")
}
