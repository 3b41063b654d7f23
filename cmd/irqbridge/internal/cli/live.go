package cli

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"github.com/irqbridge/irqbridge/connect"
	"github.com/irqbridge/irqbridge/pci"
)

// rateWindow is the time over which the live table counts interrupts a second.
const rateWindow = time.Second

// liveTable is the table of connect that is drawn again and again in one place of a terminal.
type liveTable struct {
	terminal *os.File
	title    string
	keys     atomic.Pointer[string] // what the keys do; nil when there are none
	answer   atomic.Pointer[string] // to the last key

	samples []liveSample // of the last rateWindow
	drawn   []int        // the widths of the lines that stand there
}

// liveSample is how often the service routines had been called at a time.
type liveSample struct {
	at    time.Duration
	calls []uint64
}

// liveTableOn returns the table for a terminal that can be drawn on, nil for anything else.
func liveTableOn(out *output, title string) *liveTable {
	f, ok := out.w.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) || os.Getenv("TERM") == "dumb" {
		return nil
	}
	return &liveTable{terminal: f, title: title}
}

// draw shows the session as it is now in place of what it showed before.
func (l *liveTable) draw(s *session, elapsed time.Duration) {
	width, height, err := term.GetSize(int(l.terminal.Fd()))
	if err != nil || width < 20 || height < 5 {
		return
	}
	lines := l.lines(s, elapsed, width, height-1)
	lines = lines[:min(len(lines), height-1)] // one more would move all of them up
	var b bytes.Buffer
	b.WriteString(l.up(width))
	l.drawn = l.drawn[:0]
	for _, line := range lines {
		line = cut(line, width)
		l.drawn = append(l.drawn, utf8.RuneCountInString(line))
		b.WriteString(line + "\x1b[K\r\n")
	}
	b.WriteString("\x1b[J")
	_, _ = l.terminal.Write(b.Bytes()) // who takes the terminal away sends a signal
}

// erase takes the table off the terminal.
func (l *liveTable) erase() {
	if len(l.drawn) == 0 {
		return
	}
	width, _, err := term.GetSize(int(l.terminal.Fd()))
	if err == nil {
		_, _ = l.terminal.WriteString(l.up(width) + "\x1b[J")
	}
	l.drawn = nil
}

// up moves to the first line that stands there. Lines are as wide as the terminal was; one that has become narrower has
// broken them.
func (l *liveTable) up(width int) string {
	rows := 0
	for _, n := range l.drawn {
		rows += max(1, (n+width-1)/max(width, 1))
	}
	if rows == 0 {
		return "\r"
	}
	return fmt.Sprintf("\r\x1b[%dA", rows)
}

func cut(line string, width int) string {
	if utf8.RuneCountInString(line) <= width {
		return line
	}
	return string([]rune(line)[:width-1]) + "…"
}

// lines is the text: title, table, what is wrong, and the sum.
func (l *liveTable) lines(s *session, elapsed time.Duration, width, height int) []string {
	rates := l.rates(s, elapsed)
	shown, wrong := l.choose(s, height)
	measured := slices.ContainsFunc(s.rows, func(r *row) bool { return r.latency != nil && r.latency.Count() > 0 })
	headings := []string{">MSG", "STATE", ">PER SECOND", ">CALLS", ">UNCLAIMED"}
	if measured {
		headings = append(headings, ">P50", ">P99", ">MAX")
	}
	t := newTable(append(headings, "RAN ON", "CPUS", ">VECTOR", ">HOST IRQ")...)
	state := s.liveState()
	for _, i := range shown {
		r := s.rows[i]
		calls := r.routine.calls.Load()
		cells := []any{r.message.Index, state(r), fmt.Sprintf("%.0f", rates[i]), calls, calls - min(calls, r.routine.claimed.Load())}
		if measured {
			if r.latency != nil && r.latency.Count() > 0 {
				cells = append(cells, microseconds(r.latency.Quantile(0.5)), microseconds(r.latency.Quantile(0.99)), microseconds(r.latency.Max()))
			} else {
				cells = append(cells, "-", "-", "-")
			}
		}
		t.add(append(cells, cpuNames(r.routine.callsByCPU()), r.routine.cpus, fmt.Sprintf("0x%x", r.parameters.Vector), r.hostIRQ())...)
	}
	// In a narrow terminal what stays the same makes room for what happens. How many were not claimed is in the sum, too.
	for _, heading := range []string{"CPUS", ">VECTOR", ">UNCLAIMED", ">HOST IRQ"} {
		if t.width() > width {
			t.drop(heading)
		}
	}
	var text bytes.Buffer
	t.print(&output{w: &text}, "", 0)
	lines := append([]string{l.title}, strings.Split(strings.TrimSuffix(text.String(), "\n"), "\n")...)
	if hidden := len(s.rows) - len(shown); hidden > 0 {
		lines = append(lines, fmt.Sprintf("… and %d more messages, which came less often or not at all", hidden))
	}
	lines = append(lines, wrong...)
	var calls, claimed uint64
	var rate float64
	for i, r := range s.rows {
		calls, claimed, rate = calls+r.routine.calls.Load(), claimed+r.routine.claimed.Load(), rate+rates[i]
	}
	sum := fmt.Sprintf("%v  %.0f a second, %s", elapsed.Truncate(time.Second), rate, plural(int(calls), "call"))
	if calls > claimed {
		sum += fmt.Sprintf(", %d unclaimed", calls-claimed)
	}
	lines = append(lines, sum)
	if keys := l.keys.Load(); keys != nil {
		lines = append(lines, *keys)
	}
	return append(lines, l.answers()...)
}

// answers is the line that answers the last key, if there is one.
func (l *liveTable) answers() []string {
	if answer := l.answer.Load(); answer != nil && *answer != "" {
		return []string{*answer}
	}
	return nil
}

// choose picks the interrupts that fit, of many those that do something, and the lines that say what is wrong.
func (l *liveTable) choose(s *session, height int) (shown []int, wrong []string) {
	for _, r := range s.rows {
		if err := r.interrupt.Err(); err != nil && len(wrong) < 3 {
			wrong = append(wrong, fmt.Sprintf("message %d: %v", r.message.Index, err))
		}
	}
	room := height - 5 - len(wrong) - len(l.answers()) // title, headings, hidden, sum, keys
	for i := range s.rows {
		shown = append(shown, i)
	}
	if len(shown) <= room {
		return shown, wrong
	}
	calls := s.calls()
	slices.SortStableFunc(shown, func(a, b int) int { return compareDown(calls[a], calls[b]) })
	shown = shown[:max(room, 1)]
	slices.Sort(shown)
	return shown, wrong
}

func compareDown(a, b uint64) int {
	switch {
	case a > b:
		return -1
	case a < b:
		return 1
	}
	return 0
}

// rates is how often each service routine was called a second of late.
func (l *liveTable) rates(s *session, elapsed time.Duration) []float64 {
	l.samples = append(l.samples, liveSample{elapsed, s.calls()})
	for len(l.samples) > 2 && elapsed-l.samples[1].at >= rateWindow {
		l.samples = l.samples[1:]
	}
	first, last := l.samples[0], l.samples[len(l.samples)-1]
	rates := make([]float64, len(s.rows))
	if over := (last.at - first.at).Seconds(); over > 0 {
		for i := range rates {
			rates[i] = float64(last.calls[i]-first.calls[i]) / over
		}
	}
	return rates
}

// liveState tells of each interrupt in a word how it is.
func (s *session) liveState() func(*row) string {
	masked := false
	if s.resources.Kind == pci.KindINTx && s.inactive.Load() {
		command, _, err := s.hardware()
		masked = err == nil && command&pci.CommandINTxDisable != 0
	}
	return func(r *row) string {
		err := r.interrupt.Err()
		switch {
		case err != nil && isStorm(err):
			return "storm"
		case err != nil:
			return "silenced"
		case masked:
			return "masked"
		case s.inactive.Load():
			return "inactive"
		case r.routine.calls.Load() == 0:
			return "silent"
		}
		return "ok"
	}
}

// cpuNames names the CPUs of counts: "cpu0, cpu2".
func cpuNames(counts map[int]uint64) string {
	var list []string
	for _, cpu := range slices.Sorted(maps.Keys(counts)) {
		if counts[cpu] > 0 {
			list = append(list, fmt.Sprintf("cpu%d", cpu))
		}
	}
	if len(list) == 0 {
		return "-"
	}
	return strings.Join(list, ", ")
}

// keyboard reads single keys from a terminal, until ctx ends.
type keyboard struct {
	terminal *os.File
	before   *unix.Termios
}

// openKeyboard has the terminal hand over each key at once, and leaves Ctrl-C as it is. It returns nil for what is no
// terminal, or not this process's to read from, as in the background.
func openKeyboard(in any) *keyboard {
	f, ok := in.(*os.File)
	if !ok {
		return nil
	}
	fd := int(f.Fd())
	before, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return nil
	}
	if foreground, err := unix.IoctlGetInt(fd, unix.TIOCGPGRP); err == nil && foreground != unix.Getpgrp() {
		return nil
	}
	keys := *before
	keys.Lflag &^= unix.ICANON | unix.ECHO
	keys.Cc[unix.VMIN], keys.Cc[unix.VTIME] = 1, 0
	if unix.IoctlSetTermios(fd, unix.TCSETS, &keys) != nil {
		return nil
	}
	return &keyboard{f, before}
}

// read calls f with each key until ctx ends.
func (k *keyboard) read(ctx context.Context, f func(key byte)) {
	fd := int(k.terminal.Fd())
	for ctx.Err() == nil {
		poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		if n, err := unix.Poll(poll, 100); n <= 0 || err != nil {
			continue
		}
		var key [1]byte
		if n, err := unix.Read(fd, key[:]); n != 1 || err != nil {
			return // the terminal has gone
		}
		f(key[0])
	}
}

// close gives the terminal back as it was.
func (k *keyboard) close() { _ = unix.IoctlSetTermios(int(k.terminal.Fd()), unix.TCSETS, k.before) }

// toggle makes the line inactive, which masks it, or active again.
func (s *session) toggle() string {
	if s.resources.Kind != pci.KindINTx {
		return "VFIO masks no messages"
	}
	p := connect.ActiveStateParameters{Version: s.rows[0].parameters.Version, ConnectionContext: s.rows[0].interrupt}
	report, said := connect.ReportInactive, "the line is masked; what the device asserts waits"
	if s.inactive.Load() {
		report, said = connect.ReportActive, "the line is unmasked"
	}
	if err := report(&p); err != nil {
		return err.Error()
	}
	s.inactive.Store(!s.inactive.Load())
	return said
}

// unmask makes the line active again, if a key made it inactive.
func (s *session) unmask() {
	if s.inactive.Load() {
		s.toggle()
	}
}
