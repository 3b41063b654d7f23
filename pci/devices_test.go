package pci_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/irqbridge/irqbridge/pci"
)

// deviceDumps reads the devices in testdata/devices: one file a device, whose first line says where it is from.
func deviceDumps(t require.TestingT) map[string]pci.Dump {
	files, err := filepath.Glob("testdata/devices/*.txt")
	require.NoError(t, err)
	dumps := map[string]pci.Dump{}
	for _, name := range files {
		text, err := os.ReadFile(name)
		require.NoError(t, err)
		read, err := pci.ReadDump(bytes.NewReader(text))
		require.NoError(t, err, name)
		require.Len(t, read, 1, name)
		dumps[filepath.Base(name[:len(name)-len(".txt")])] = read[0]
	}
	return dumps
}

func BenchmarkDecode(b *testing.B) {
	for name, d := range deviceDumps(b) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := pci.Decode(d.Config); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
