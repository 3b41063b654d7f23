package main

import (
	"bufio"
	"fmt"
	"io"
	"strings"
)

// row is a line of the list.
type row struct {
	name  string // "072", "088b"
	group string
	where where
	text  string // what must be so
}

// where tells on which machines a row runs.
type where string

const (
	nowhere where = "cannot"
	once    where = "none"
	onFake  where = "fake"
	onReal  where = "real" // and on the fakes
)

// readList reads connect/testdata/conformance.txt; the file itself says what is in it.
func readList(r io.Reader) ([]row, error) {
	var rows []row
	seen := map[string]bool{}
	for lines := bufio.NewScanner(r); ; {
		if !lines.Scan() {
			return rows, lines.Err()
		}
		line := lines.Text()
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		f := strings.SplitN(line, " ", 4)
		if len(f) != 4 {
			return nil, fmt.Errorf("%q: want a row, its group, where it runs and what must be so", line)
		}
		w := where(f[2])
		switch {
		case w != nowhere && w != once && w != onFake && w != onReal:
			return nil, fmt.Errorf("%q: row %s runs on %q; want none, fake, real or cannot", line, f[0], w)
		case seen[f[0]]:
			return nil, fmt.Errorf("%q: row %s is there twice", line, f[0])
		}
		seen[f[0]] = true
		rows = append(rows, row{name: f[0], group: f[1], where: w, text: f[3]})
	}
}
