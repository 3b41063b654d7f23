package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestVFIOTable(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"6.1/setirqs-x.txt": "a 0+1 | idle: EINVAL | MSI: ok\nb 0+1 | idle: ok | MSI: EINVAL\n",
		"newest/setirqs-x.txt": "a 0+1 | idle: EINVAL | MSI: ok\nb 0+1 | idle: ok | MSI: ok, 3 irqs\n" +
			"c 0+0 | idle: ENOTTY | MSI: EINVAL\nc 0+1 | idle: ENOTTY | MSI: EINVAL\nc 0+2 | idle: ENOTTY | MSI: EINVAL\nc 0+4 | idle: ENOTTY | MSI: EINVAL\n",
		"6.1/info.txt":    "region 0: ok\nirq 3: EINVAL\nirq 3: EINVAL\nold: ok\n",
		"newest/info.txt": "region 0: ok\nirq 3: EINVAL\nirq 3: ok\nnew: ok\n",
		"newest/ioas.txt": "map: ok\n",
	} {
		file := filepath.Join(dir, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o755))
		require.NoError(t, os.WriteFile(file, []byte(text), 0o644))
	}
	files, err := readGoldens(dir)
	require.NoError(t, err)
	held := map[string]map[string]bool{"fake 6.1": {}, "fake own": {}}
	machines := vfioMachines(backends("")[0])
	require.Len(t, machines, 3)
	held["fake newest"] = map[string]bool{}
	output := func(test, file string) string {
		return `{"Action":"output","Test":"` + test + `","Output":"    x.go:1: testdata/` + file + ` is as recorded\n"}` + "\n"
	}
	failures, err := collectHeld(strings.NewReader(
		output("TestMatrix/fake/6.1", "6.1/setirqs-x.txt")+output("TestInfo/type1/fake/6.1/x", "6.1/info.txt")+
			output("TestInfo/fake/own", "newest/info.txt")+output("TestOther", "newest/ioas.txt")+
			`{"Action":"output","Test":"TestBad","Output":"no\n"}`+`{"Action":"fail","Test":"TestBad"}`,
	), machines, held)
	require.NoError(t, err)
	assert.Equal(t, "no\n", failures)
	table, _, _ := strings.Cut(vfioTable(files, []string{"fake 6.1", "fake own"}, held), "A cell")
	assert.Equal(t, `   recorded  6.1  newest  own  differ  fake 6.1  fake own
       info    4       4    4       3         4         4
       ioas    0       0    1       0         0         0
  setirqs-x    4      12   12       5         4         0
        all    8      16   17       8         8         4
`, table)
	assert.Equal(t, `
Where newest answers another way than 6.1:
info
  irq 3: EINVAL -> ok
  old: only 6.1
  new: only newest
setirqs-x
  MSI: EINVAL -> ok, 3 irqs
    b 0+1
  idle: EINVAL -> ENOTTY
    c 0+0, 2 more, c 0+4
`, vfioDifferences(files))
	_, err = readGoldens(dir + "/6.1")
	assert.ErrorContains(t, err, "nothing in")
}

func TestSelftestsAreCounted(t *testing.T) {
	assert.Equal(t, `
The kernel's own selftests of VFIO are 9 cases with their variants; 3 have a counterpart here. Without:
  c: not yet
  two: why
`, selftests(strings.Split(`# a comment
case p a - TestA
case p b mode,page TestB/x
case p c mode,page none: not yet
variant mode one one
variant mode two none: why
variant page small small
variant page large large`, "\n")))
	assert.Equal(t, `
The kernel's own selftests of VFIO are 1 cases with their variants; 1 have a counterpart here.
`, selftests([]string{"case p a - TestA"}))
}

func TestElide(t *testing.T) {
	same := strings.Repeat("a", 60)
	x, y := elide("short", "other")
	assert.Equal(t, []string{"short", "other"}, []string{x, y})
	x, y = elide(same+"1"+same, same+"22"+same)
	assert.Equal(t, []string{"…aaaaaa1aaaaaa…", "…aaaaaa22aaaaaa…"}, []string{x, y})
	x, _ = elide("b"+same+same, same)
	assert.Equal(t, "b"+same[:59]+"…", x)
}

func TestVFIOBackendThatIsNone(t *testing.T) {
	t.Chdir("../..")
	assert.ErrorContains(t, reportVFIO([]string{"windows"}, nil, nil), `no backend "windows"`)
	t.Chdir("connect")
	assert.ErrorContains(t, reportVFIO([]string{"stable"}, nil, nil), "top of the repository")
}
