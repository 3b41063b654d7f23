package cli

import (
	"bytes"
	"compress/gzip"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestNamesAreReadFromTheFirstFileThatHasThem(t *testing.T) {
	plain, err := os.ReadFile("testdata/pci.ids")
	require.NoError(t, err)
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	_, err = z.Write(plain)
	require.NoError(t, err)
	require.NoError(t, z.Close())
	dir := t.TempDir()
	broken, good := filepath.Join(dir, "broken.gz"), filepath.Join(dir, "pci.ids.gz")
	require.NoError(t, os.WriteFile(broken, packed.Bytes()[:100], 0o644))
	require.NoError(t, os.WriteFile(good, packed.Bytes(), 0o644))

	before := idFiles
	t.Cleanup(func() { idFiles = before })
	idFiles = []string{filepath.Join(dir, "none"), broken, good}
	var stderr bytes.Buffer
	a := &app{stderr: &output{w: &stderr}}
	assert.Equal(t, "Intel Corporation", a.readIDs().Vendor(0x8086))
	assert.Equal(t, "irqbridge: no names from "+broken+": pci.ids: unexpected EOF\n", stderr.String(), "only what is there and broken")

	stderr.Reset()
	idFiles = idFiles[:1]
	assert.Nil(t, a.readIDs())
	assert.Empty(t, stderr.String(), "no file is nothing to complain about")
}
