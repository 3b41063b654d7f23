package cli

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// table is rows of text in aligned columns. A column whose heading starts with '>' is aligned to the right, for
// numbers.
type table struct {
	headings []string
	rows     [][]string
}

func newTable(headings ...string) *table { return &table{headings: headings} }

func (t *table) add(cells ...any) {
	row := make([]string, len(cells))
	for i, c := range cells {
		row[i] = fmt.Sprint(c)
	}
	t.rows = append(t.rows, row)
}

// width is how many characters a line of all the columns takes.
func (t *table) width() int {
	sum := -2 // behind the last
	for _, w := range t.widths(t.rows) {
		sum += w + 2
	}
	return sum
}

// widths are how many characters the columns take.
func (t *table) widths(rows [][]string) []int {
	widths := make([]int, len(t.headings))
	for i, h := range t.headings {
		widths[i] = utf8.RuneCountInString(strings.TrimPrefix(h, ">"))
		for _, row := range rows {
			widths[i] = max(widths[i], utf8.RuneCountInString(row[i]))
		}
	}
	return widths
}

// drop takes a column away.
func (t *table) drop(heading string) {
	i := slices.Index(t.headings, heading)
	t.headings = slices.Delete(t.headings, i, i+1)
	for n, row := range t.rows {
		t.rows[n] = slices.Delete(row, i, i+1)
	}
}

// print writes the table with each line behind indent, and at most limit rows; the rest is counted. A limit of 0 is
// none. nil is no table, and nothing is written.
func (t *table) print(w *output, indent string, limit int) {
	if t == nil {
		return
	}
	rows := t.rows
	if limit > 0 && len(rows) > limit {
		rows = rows[:limit]
	}
	headings, right := make([]string, len(t.headings)), make([]bool, len(t.headings))
	widths := t.widths(rows)
	for i, h := range t.headings {
		headings[i], right[i] = strings.CutPrefix(h, ">")
	}
	for _, row := range append([][]string{headings}, rows...) {
		var line strings.Builder
		line.WriteString(indent)
		for i, cell := range row {
			space := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell))
			if right[i] {
				line.WriteString(space + cell + "  ")
			} else {
				line.WriteString(cell + space + "  ")
			}
		}
		w.printf("%s\n", strings.TrimRight(line.String(), " "))
	}
	if hidden := len(t.rows) - len(rows); hidden > 0 {
		w.printf("%s… and %d more; --json has all\n", indent, hidden)
	}
}
