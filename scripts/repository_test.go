package scripts_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const module = "github.com/irqbridge/irqbridge"

// goPackage is the part of `go list -json` that these tests read.
type goPackage struct {
	ImportPath  string
	Dir         string
	Standard    bool
	Deps        []string
	Imports     []string
	GoFiles     []string
	TestImports []string
	XTestImport []string `json:"XTestImports"`
}

func root(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs("..")
	require.NoError(t, err)
	return dir
}

func list(t *testing.T, args ...string) []goPackage {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list", "-json"}, args...)...)
	cmd.Dir = root(t)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	require.NoError(t, err, stderr.String())
	var packages []goPackage
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p goPackage
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		packages = append(packages, p)
	}
	require.NotEmpty(t, packages)
	return packages
}

// within tells whether path is the package base or lies below it.
func within(path, base string) bool {
	return path == base || strings.HasPrefix(path, base+"/")
}

// TestImportWalls holds the arrows cmd -> connect -> vfio -> pci, and which modules each library may bring along.
func TestImportWalls(t *testing.T) {
	const xsys = "golang.org/x/sys"
	walls := []struct {
		base    string
		allowed []string // beside the standard library and the package's own subtree
	}{
		{base: module + "/pci"},
		{base: module + "/vfio", allowed: []string{module + "/pci", xsys}},
		{base: module + "/connect", allowed: []string{module + "/vfio", module + "/pci", xsys}},
	}
	standard := map[string]bool{}
	for _, p := range list(t, "-deps", "./...") {
		standard[p.ImportPath] = p.Standard
	}
	seen := map[string]bool{}
	for _, p := range list(t, "./...") {
		for _, w := range walls {
			if !within(p.ImportPath, w.base) {
				continue
			}
			seen[w.base] = true
			for _, dep := range p.Deps {
				if standard[dep] || within(dep, w.base) {
					continue
				}
				ok := slices.ContainsFunc(w.allowed, func(a string) bool { return within(dep, a) })
				assert.True(t, ok, "%s depends on %s", p.ImportPath, dep)
			}
		}
	}
	for _, w := range walls {
		assert.True(t, seen[w.base], "no package at %s: the wall guards nothing", w.base)
	}
}

// TestPCIMakesNoSystemCalls holds pci to bytes in, descriptors out.
func TestPCIMakesNoSystemCalls(t *testing.T) {
	for _, p := range list(t, "./pci/...") {
		for _, bad := range []string{"os", "syscall", "unsafe", "net"} {
			assert.NotContains(t, p.Imports, bad, p.ImportPath)
		}
	}
}

// TestTestImports holds the tests to the libraries that the project agreed on.
func TestTestImports(t *testing.T) {
	allowed := []string{
		module, "golang.org/x/sys", "github.com/stretchr/testify", "pgregory.net/rapid", "go.uber.org/goleak",
		"github.com/rogpeppe/go-internal", "github.com/spf13/cobra",
		"github.com/prometheus/client_golang", // what connect --metrics serves is gathered
		"github.com/google/jsonschema-go",     // what the schema of profiles says is compared with what their reader does
	}
	standard := map[string]bool{}
	for _, p := range list(t, "-deps", "-test", "./...") {
		standard[p.ImportPath] = p.Standard
	}
	for _, p := range list(t, "./...") {
		for _, dep := range slices.Concat(p.TestImports, p.XTestImport) {
			ok := standard[dep] || slices.ContainsFunc(allowed, func(a string) bool { return within(dep, a) })
			assert.True(t, ok, "the tests of %s import %s", p.ImportPath, dep)
		}
	}
}

// TestEveryPackageHasDoc wants a doc.go with the package comment, and the comment nowhere else.
func TestEveryPackageHasDoc(t *testing.T) {
	for _, p := range list(t, "./...") {
		assert.Contains(t, p.GoFiles, "doc.go", p.ImportPath)
		for _, name := range p.GoFiles {
			file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.Dir, name), nil, parser.PackageClauseOnly|parser.ParseComments)
			require.NoError(t, err)
			documented := hasPackageComment(file)
			assert.Equal(t, name == "doc.go", documented, "%s/%s: the package comment belongs in doc.go, there only", p.ImportPath, name)
		}
	}
}

func hasPackageComment(file *ast.File) bool {
	return file.Doc != nil && strings.TrimSpace(file.Doc.Text()) != ""
}

// TestUnsafeIsNamed wants unsafe only in files whose name says so, and only where the kernel, a device or the runtime is touched.
func TestUnsafeIsNamed(t *testing.T) {
	homes := []string{module + "/vfio/internal/uapi", module + "/vfio/internal/mmio", module + "/connect/internal/epoll"}
	for _, p := range list(t, "./...") {
		for _, name := range p.GoFiles {
			file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.Dir, name), nil, parser.ImportsOnly)
			require.NoError(t, err)
			for _, imp := range file.Imports {
				if imp.Path.Value != `"unsafe"` {
					continue
				}
				assert.True(t, strings.HasSuffix(name, "_unsafe.go"), "%s/%s imports unsafe", p.ImportPath, name)
				assert.Contains(t, homes, p.ImportPath, "%s imports unsafe", name)
			}
		}
	}
}

// TestTopLevel holds the top level that the customer fixed, plus dotfiles and what every repository has.
func TestTopLevel(t *testing.T) {
	want := []string{
		"CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "README.md", "cmd", "connect", "go.mod", "go.sum", "pci", "scripts", "testdata", "vfio",
	}
	cmd := exec.Command("git", "ls-tree", "--name-only", "HEAD")
	cmd.Dir = root(t)
	out, err := cmd.Output()
	require.NoError(t, err)
	var got []string
	for name := range strings.FieldsSeq(string(out)) {
		if !strings.HasPrefix(name, ".") {
			got = append(got, name)
		}
	}
	slices.Sort(got)
	assert.Equal(t, want, got)
}

// TestModuleStandsAlone wants a go.mod that a user's build can take as it is.
func TestModuleStandsAlone(t *testing.T) {
	mod, err := os.ReadFile(filepath.Join(root(t), "go.mod"))
	require.NoError(t, err)
	for line := range strings.Lines(string(mod)) {
		for _, directive := range []string{"replace", "exclude", "tool", "toolchain"} {
			assert.False(t, strings.HasPrefix(line, directive+" "), "go.mod has: %s", line)
		}
	}
}
