package cli

import (
	"bytes"
	"context"
	"io"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/irqbridge/irqbridge/vfio/vfiotest"
)

// fakeScreen is what a terminal shows of what is written to it: as much of one as the live table uses. Like a terminal it
// breaks lines again when it becomes narrower.
type fakeScreen struct {
	mu    sync.Mutex
	width int
	lines []string // as they were written, without breaks
	row   int      // of the cursor, counted in broken lines
	raw   bytes.Buffer
}

var escape = regexp.MustCompile(`^\x1b\[(\d*)([A-Za-z])`)

func (s *fakeScreen) height(line string) int { return max(1, (len([]rune(line))+s.width-1)/s.width) }

func (s *fakeScreen) write(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.raw.WriteString(text)
	for text != "" {
		if m := escape.FindStringSubmatch(text); m != nil {
			text = text[len(m[0]):]
			n, _ := strconv.Atoi(m[1])
			switch m[2] {
			case "A":
				s.row = max(s.row-n, 0)
			case "K":
				i, _ := s.at()
				for len(s.lines) <= i {
					s.lines = append(s.lines, "")
				}
			case "J":
				i, _ := s.at()
				s.lines = s.lines[:min(i, len(s.lines))]
			}
			continue
		}
		end := strings.IndexAny(text, "\x1b\n\r")
		switch text[0] {
		case '\n':
			i, _ := s.at()
			for len(s.lines) <= i {
				s.lines = append(s.lines, "")
			}
			s.row += s.height(s.lines[i])
			text = text[1:]
		case '\r':
			text = text[1:]
		default:
			if end < 0 {
				end = len(text)
			}
			i, _ := s.at()
			for len(s.lines) <= i {
				s.lines = append(s.lines, "")
			}
			s.lines[i] = text[:end]
			text = text[end:]
		}
	}
}

// at is the line that the cursor is in, and how many broken lines are above it.
func (s *fakeScreen) at() (line, above int) {
	for line < len(s.lines) && above < s.row {
		above += s.height(s.lines[line])
		line++
	}
	return line, above
}

func (s *fakeScreen) resize(t *testing.T, terminal *os.File, width, height int) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	i, _ := s.at()
	s.width, s.row = width, 0
	for _, line := range s.lines[:min(i, len(s.lines))] {
		s.row += s.height(line)
	}
	require.NoError(t, unix.IoctlSetWinsize(int(terminal.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Col: uint16(width), Row: uint16(height)}))
}

func (s *fakeScreen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.lines, "\n")
}

// onTerminal runs a command line on a pseudo-terminal, and use meanwhile; the result is what stands on the screen at the end.
func onTerminal(t *testing.T, m *vfiotest.Machine, use func(screen *fakeScreen, terminal *os.File, press func(string)), args ...string) (int, string) {
	t.Helper()
	other, terminal := openTerminal(t)
	screen := &fakeScreen{}
	screen.resize(t, terminal, 110, 24)
	var reader sync.WaitGroup
	reader.Go(func() {
		buffer := make([]byte, 4096)
		for {
			n, err := other.Read(buffer)
			screen.write(string(buffer[:n]))
			if err != nil {
				return
			}
		}
	})
	code := make(chan int)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	go func() {
		code <- Main(ctx, args, System{Stdin: terminal, Stdout: terminal, Stderr: terminal, Kernel: m.Kernel})
	}()
	use(screen, terminal, func(keys string) {
		_, err := io.WriteString(other, keys)
		require.NoError(t, err)
	})
	c := <-code
	require.NoError(t, terminal.Close())
	reader.Wait()
	t.Logf("$ irqbridge %s\n%s\n[exit %d]", strings.Join(args, " "), screen, c)
	return c, screen.String()
}

func eventually(t *testing.T, screen *fakeScreen, pattern string) {
	t.Helper()
	re := regexp.MustCompile("(?m)" + pattern)
	if !assert.Eventually(t, func() bool { return re.MatchString(screen.String()) }, 20*time.Second, 10*time.Millisecond, "never shown: %s", pattern) {
		text := screen.String()
		screen.mu.Lock()
		defer screen.mu.Unlock()
		t.Logf("the screen has:\n%s\nof\n%q", text, screen.raw.String())
		t.FailNow()
	}
}

// TestTheLiveTableIsDrawnInPlace: one table on the screen at any time, also when the terminal changes its size, and after it
// the result alone.
func TestTheLiveTableIsDrawnInPlace(t *testing.T) {
	m := vfiotest.FakeMachine(t)
	m.Bind(t, m.NVMe)
	once := func(screen *fakeScreen, text string) {
		assert.Equal(t, 1, strings.Count(screen.String(), text), screen.String())
	}
	code, end := onTerminal(t, m, func(screen *fakeScreen, terminal *os.File, press func(string)) {
		eventually(t, screen, `^  0  silent +0 +0 +0  -  `)
		for range 30 {
			require.True(t, m.Fake.SendMessage(m.NVMe, 40))
		}
		eventually(t, screen, `^ 40  ok +[1-9]\d* +([1-9]|[12]\d|30) +0  cpu`)
		eventually(t, screen, `^… and 47 more messages, which came less often or not at all$`)
		eventually(t, screen, `^\d+s  \d+ a second, ([1-9]|[12]\d|30) calls?$`)
		once(screen, "MSI-X interrupts")
		assert.LessOrEqual(t, strings.Count(screen.String(), "\n"), 23)

		screen.resize(t, terminal, 50, 12)
		eventually(t, screen, `^… and 59 more messages`)
		once(screen, "MSI-X interrupts")
		// What stays the same makes room, and what is left depends on how many CPUs message 40 ran on.
		eventually(t, screen, `^MSG  STATE +PER SECOND  CALLS  RAN ON(  HOST IRQ)?$`)
		for line := range strings.Lines(screen.String()) {
			assert.LessOrEqual(t, len([]rune(strings.TrimSuffix(line, "\n"))), 50)
		}
		screen.resize(t, terminal, 80, 6)
		eventually(t, screen, `^… and 64 more messages, .*\n.* a second, .*$`)
		once(screen, "MSI-X interrupts")
		assert.Regexp(t, `(?m)^MSG  STATE +PER SECOND  CALLS  UNCLAIMED  RAN ON  CPUS  VECTOR(  HOST IRQ)?$`, screen.String())
		assert.LessOrEqual(t, strings.Count(screen.String(), "\n"), 5)
		screen.resize(t, terminal, 140, 80)
		eventually(t, screen, `^ 64  silent `)
		once(screen, "MSI-X interrupts")
		assert.NotContains(t, screen.String(), "more messages")
		press("q")
	}, "connect", m.NVMe.String())
	assert.Zero(t, code)
	assert.NotContains(t, end, "PER SECOND", "the live table is gone")
	assert.Equal(t, 1, strings.Count(end, "MSI-X interrupts"))
	assert.Regexp(t, `(?m)^ 40 .* +cpu\d+ \d+`, end)
}

func TestKeysTriggerAndMask(t *testing.T) {
	m := vfiotest.FakeMachine(t)
	m.Bind(t, m.EDU)
	var before, during *unix.Termios
	code, end := onTerminal(t, m, func(screen *fakeScreen, terminal *os.File, press func(string)) {
		var err error
		before, err = unix.IoctlGetTermios(int(terminal.Fd()), unix.TCGETS)
		require.NoError(t, err)
		eventually(t, screen, `^q ends, t triggers each once, m masks the line and unmasks it$`)
		during, err = unix.IoctlGetTermios(int(terminal.Fd()), unix.TCGETS)
		require.NoError(t, err)
		press("t")
		eventually(t, screen, `^  0  ok +\d+ +1 +0 +[0-9.]+ (µs|ms) `)
		press("m")
		eventually(t, screen, `^  0  masked `)
		press("t")
		eventually(t, screen, `^the line is masked$`)
		press("m")
		eventually(t, screen, `^the line is unmasked$`)
		press("t")
		eventually(t, screen, `^  0  ok +\d+ +2 `)
		press("m")
		eventually(t, screen, `^  0  masked `)
		press("q")
	}, "connect", m.EDU.String(), "--kind", "intx")
	assert.Zero(t, code)
	assert.Contains(t, end, "2 raised, 2 serviced, ")
	assert.Zero(t, during.Lflag&(unix.ICANON|unix.ECHO))
	assert.NotZero(t, during.Lflag&unix.ISIG, "Ctrl-C is a signal still")
	assert.NotZero(t, before.Lflag&unix.ICANON)
}

func TestKeysDoNotMaskMessages(t *testing.T) {
	m := vfiotest.FakeMachine(t)
	m.Bind(t, m.NVMe)
	code, _ := onTerminal(t, m, func(screen *fakeScreen, _ *os.File, press func(string)) {
		eventually(t, screen, `^q ends$`)
		press("m")
		eventually(t, screen, `^q ends\nVFIO masks no messages$`)
		press("t")
		eventually(t, screen, `^q ends\nnothing says how to raise an interrupt: give a profile, or --loopback$`)
		press("q")
	}, "connect", m.NVMe.String())
	assert.Zero(t, code)
}

// TestTheTerminalIsGivenBack: with its modes as before, also after Ctrl-C.
func TestTheTerminalIsGivenBack(t *testing.T) {
	other, terminal := openTerminal(t)
	go func() { _, _ = io.Copy(io.Discard, other) }()
	m := vfiotest.FakeMachine(t)
	m.Bind(t, m.EDU)
	before, err := unix.IoctlGetTermios(int(terminal.Fd()), unix.TCGETS)
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second) // connected long before
	defer cancel()
	assert.Zero(t, Main(ctx, []string{"connect", m.EDU.String()}, System{Stdin: terminal, Stdout: terminal, Stderr: terminal, Kernel: m.Kernel}))
	after, err := unix.IoctlGetTermios(int(terminal.Fd()), unix.TCGETS)
	require.NoError(t, err)
	assert.Equal(t, before, after)
}
