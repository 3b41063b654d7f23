package main

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The list has each row from 20 to 214, in order, with rows of the same number and a letter behind it, and the package
// documentation names those that cannot hold.
func TestList(t *testing.T) {
	f, err := os.Open("../../" + list)
	require.NoError(t, err)
	defer f.Close()
	rows, err := readList(f)
	require.NoError(t, err)
	doc, err := os.ReadFile("../../connect/doc.go")
	require.NoError(t, err)
	_, cannot, found := strings.Cut(string(doc), "// # Rows that cannot hold\n")
	require.True(t, found)
	next := 20
	for n, r := range rows {
		if number := fmt.Sprintf("%03d", next); r.name == number {
			next++
		} else {
			assert.Regexp(t, fmt.Sprintf("^%03d[a-z]$", next-1), r.name, "after %s", rows[max(n, 1)-1].name)
		}
		if n > 0 {
			assert.Less(t, rows[n-1].name, r.name)
			assert.LessOrEqual(t, rows[n-1].group, r.group)
		}
		assert.Regexp(t, `^[B-O]$`, r.group)
		if r.where == nowhere {
			assert.Contains(t, cannot, "Row "+r.name)
		}
	}
	assert.Equal(t, 214+1, next)
	assert.True(t, slices.ContainsFunc(rows, func(r row) bool { return r.name == "088b" }), "which the contract has too")
}

func TestListRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"020 B none":                 "want a row",
		"020 B here that":            `runs on "here"`,
		"020 B none a\n020 B real b": "twice",
	} {
		_, err := readList(strings.NewReader(text))
		assert.ErrorContains(t, err, want)
	}
}

// events are what go test -json says of tests with these results.
func events(lines ...string) string {
	var b strings.Builder
	for _, line := range lines {
		action, test, _ := strings.Cut(line, " ")
		b.WriteString(`{"Action":"output","Test":"` + test + `","Output":"output of ` + test + `\n"}` + "\n")
		b.WriteString(`{"Action":"` + action + `","Test":"` + test + `"}` + "\n")
	}
	return b.String()
}

func TestTable(t *testing.T) {
	rows, err := readList(strings.NewReader(`# a comment
020 B none one
068 E real two
088 E fake three
114 F cannot four
`))
	require.NoError(t, err)
	good := []string{
		"pass TestConformance/B/020",
		"pass TestConformance/E/068/fake/6.1", "pass TestConformance/E/068/fake/newest", "pass TestConformance/E/068",
		"pass TestConformance/E/088/fake/6.1", "pass TestConformance/E/088/fake/newest", "pass TestConformance/E/088",
		"pass TestConformance/E", "pass TestConformance", "pass TestOther/E/099",
	}
	with := func(changes ...string) []string {
		var lines []string
		for _, line := range good {
			for i := 0; i < len(changes); i += 2 {
				if changes[i] == line {
					line = changes[i+1]
				}
			}
			if line != "" {
				lines = append(lines, line)
			}
		}
		return lines
	}
	for _, c := range []struct {
		lines    []string
		problems []string
	}{
		{good, nil},
		{with("pass TestConformance/B/020", ""), []string{"020 on fake: missing: one"}},
		{with("pass TestConformance/B/020", "skip TestConformance/B/020"), []string{"020 on fake: skipped: one"}},
		{with("pass TestConformance/B/020", "pass TestConformance/C/020"), []string{"020 on fake: is in group C, and listed in B"}},
		{append(with(), "pass TestConformance/B/020/fake/6.1"), []string{`020 on fake: ran on fake 6.1, and is listed as "none"`}},
		{with("pass TestConformance/E/068", "fail TestConformance/E/068"), []string{"068 on fake: failed: two"}},
		{with("pass TestConformance/E/068/fake/6.1", ""), []string{"068 on fake: did not run on fake 6.1: two"}},
		{
			with("pass TestConformance/E/088/fake/newest", "skip TestConformance/E/088/fake/newest"),
			[]string{"088 on fake: skipped on fake newest: three"},
		},
		{append(with(), "pass TestConformance/F/114"), []string{"114 on fake: ran, and is listed as one that cannot hold"}},
		{append(with(), "pass TestConformance/F/118b"), []string{"118b on fake: is not listed (group F)"}},
	} {
		outcomes, _, err := collect(strings.NewReader(events(c.lines...)))
		require.NoError(t, err)
		table := newTable(rows)
		table.add(backends("")[0], outcomes)
		assert.Equal(t, c.problems, table.problems)
	}

	outcomes, failures, err := collect(strings.NewReader(events(good...)))
	require.NoError(t, err)
	assert.Empty(t, failures)
	table := newTable(rows)
	table.add(backends("")[0], outcomes)
	outcomes, _, err = collect(strings.NewReader(events(
		"pass TestConformance/B/020", "pass TestConformance/E/068/real", "pass TestConformance/E/068",
		"pass TestConformance/E/088/fake/6.1", "pass TestConformance/E/088",
	)))
	require.NoError(t, err)
	table.add(backends("")[1], outcomes)
	assert.Empty(t, table.problems)
	assert.Equal(t, `  group  rows  no device  fake 6.1  fake newest  real stable
      B     1          1         0            0            0
      E     2          0         2            2            1
      F     1          0         0            0            0
    all     4          1         2            2            1
1 rows are to hold on the real kernel.
1 need no device: 020
1 need a fault, processors or a device that the virtual machine has not: 088
1 cannot hold; the documentation of package connect says why: 114
`, table.String())
}

func TestFailuresAreShown(t *testing.T) {
	_, failures, err := collect(strings.NewReader(events("pass TestConformance/B/020", "fail TestConformance/B/021")))
	require.NoError(t, err)
	assert.Equal(t, "output of TestConformance/B/021\n", failures)
	_, _, err = collect(strings.NewReader("panic: not JSON"))
	assert.ErrorContains(t, err, "output of go test")
}

func TestBackendThatIsNone(t *testing.T) {
	t.Chdir("../..")
	assert.ErrorContains(t, report([]string{"windows"}, nil, nil), `no backend "windows"`)
	t.Chdir("connect")
	assert.ErrorContains(t, report(nil, nil, nil), "top of the repository")
}
