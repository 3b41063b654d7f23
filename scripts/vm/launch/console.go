package main

import (
	"io"
	"regexp"
	"strings"
	"sync"
)

// How much of the console is kept to be shown after a failure, in bytes and in lines: a kernel panic with its call trace.
const (
	consoleTail  = 16 << 10
	consoleLines = 80
)

// console keeps the last of what QEMU and the guest's kernel printed. It is safe for concurrent use.
type console struct {
	echo io.Writer // where everything is shown at once; nil for nowhere

	mu   sync.Mutex
	tail []byte // guarded by mu
}

func (c *console) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tail = append(c.tail, p...)
	if extra := len(c.tail) - consoleTail; extra > 0 {
		c.tail = append(c.tail[:0], c.tail[extra:]...)
	}
	if c.echo != nil {
		// The console is a courtesy: failing to show it must not stop the guest.
		_, _ = c.echo.Write(p)
	}
	return len(p), nil
}

// escapes are the terminal control sequences that the firmware prints.
var escapes = regexp.MustCompile(`\x1b(\[[0-9;?=]*[A-Za-z]|[a-zA-Z])`)

// Tail gives the last lines, each with the prefix.
func (c *console) Tail(prefix string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	text := escapes.ReplaceAllString(string(c.tail), "")
	text = strings.Map(func(r rune) rune {
		if r < ' ' && r != '\n' && r != '\t' {
			return -1
		}
		return r
	}, text)
	var lines []string
	for line := range strings.Lines(text) {
		if line = strings.TrimRight(line, " \n"); line != "" {
			lines = append(lines, prefix+line)
		}
	}
	lines = lines[max(0, len(lines)-consoleLines):]
	if len(lines) == 0 {
		return prefix + "(nothing)"
	}
	return strings.Join(lines, "\n")
}
