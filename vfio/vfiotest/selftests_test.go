package vfiotest_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// testSources are the tests of this package: the file that each is in, and all strings of each file.
func testSources(t *testing.T) (fileOf map[string]string, stringsOf map[string]map[string]bool) {
	t.Helper()
	fileOf, stringsOf = map[string]string{}, map[string]map[string]bool{}
	names, err := filepath.Glob("*_test.go")
	require.NoError(t, err)
	for _, name := range names {
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		require.NoError(t, err)
		stringsOf[name] = map[string]bool{}
		ast.Inspect(f, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.FuncDecl:
				if n.Recv == nil && strings.HasPrefix(n.Name.Name, "Test") {
					fileOf[n.Name.Name] = name
				}
			case *ast.BasicLit:
				if s, err := strconv.Unquote(n.Value); n.Kind == token.STRING && err == nil {
					stringsOf[name][s] = true
				}
			}
			return true
		})
	}
	return fileOf, stringsOf
}

// The counterparts of the kernel's own selftests, which testdata/selftests.txt names, exist; whether they pass is what they say
// themselves.
func TestSelftests(t *testing.T) {
	text, err := os.ReadFile("testdata/selftests.txt")
	require.NoError(t, err)
	fileOf, stringsOf := testSources(t)
	sets, used := map[string]bool{}, map[string]bool{}
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		kind, rest, _ := strings.Cut(line, " ")
		n := map[string]int{"case": 4, "variant": 3}[kind]
		fields := strings.SplitN(rest, " ", n)
		require.Len(t, fields, n, line)
		counterpart := fields[n-1]
		if kind == "variant" {
			sets[fields[0]] = true
		} else if fields[2] != "-" {
			for set := range strings.SplitSeq(fields[2], ",") {
				used[set] = true
			}
		}
		if why, none := strings.CutPrefix(counterpart, "none: "); none {
			assert.NotEmpty(t, why, line)
			continue
		}
		if kind == "variant" {
			found := false
			for _, s := range stringsOf {
				found = found || s[counterpart]
			}
			assert.True(t, found, "no test has what is to be the counterpart of: %s", line)
			continue
		}
		test, subtest, _ := strings.Cut(counterpart, "/")
		file, found := fileOf[test]
		if assert.True(t, found, "there is no test that is to be the counterpart of: %s", line) && subtest != "" {
			assert.True(t, stringsOf[file][subtest], "%s names no subtest that is to be the counterpart of: %s", file, line)
		}
	}
	assert.Equal(t, sets, used, "the sets of variants")
}
