package cdi

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/rogpeppe/go-internal/txtar"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"tags.cncf.io/container-device-interface/pkg/cdi"
	spec "tags.cncf.io/container-device-interface/specs-go"
)

// golden is the script that holds what irqbridge cdi prints.
const golden = "../../../cmd/irqbridge/internal/cli/testdata/script/cdi.txtar"

// TestLibraryTakesEveryGolden loads each specification that the program's own test compares with as a runtime does, strictly and with
// nothing in it unknown, and asks whether its version is the oldest that has what is in it.
func TestLibraryTakesEveryGolden(t *testing.T) {
	script, err := txtar.ParseFile(golden)
	require.NoError(t, err)
	devices := map[string][]string{}
	for _, file := range script.Files {
		if !strings.HasSuffix(file.Name, ".json") {
			continue
		}
		t.Run(file.Name, func(t *testing.T) {
			dir := t.TempDir()
			require.NoError(t, os.WriteFile(filepath.Join(dir, file.Name), file.Data, 0o644))
			cache, err := cdi.NewCache(cdi.WithSpecDirs(dir), cdi.WithAutoRefresh(false))
			require.NoError(t, err)
			require.Empty(t, cache.GetErrors())
			devices[file.Name] = cache.ListDevices()
			for _, name := range cache.ListDevices() {
				oldest, err := spec.MinimumRequiredVersion(cache.GetDevice(name).GetSpec().Spec)
				require.NoError(t, err)
				assert.Equal(t, oldest, cache.GetDevice(name).GetSpec().Version)
			}
		})
	}
	assert.Equal(t, map[string][]string{
		"group.json":    {"irqbridge.github.io/pci=0000:00:04.0"},
		"two.json":      {"irqbridge.github.io/pci=0000:00:04.0", "irqbridge.github.io/pci=0000:00:05.0"},
		"bridged.json":  {"irqbridge.github.io/pci=0000:01:01.0", "irqbridge.github.io/pci=0000:01:05.0"},
		"iommufd.json":  {"irqbridge.github.io/pci=0000:00:04.0"},
		"no-iommu.json": {"irqbridge.github.io/pci=0000:00:04.0"},
	}, devices)
}

// TestContainerGetsNodesAndAddress puts devices into a container as a runtime does. /dev/null stands for each node, since
// a runtime looks up its number on the host.
func TestContainerGetsNodesAndAddress(t *testing.T) {
	script, err := txtar.ParseFile(golden)
	require.NoError(t, err)
	dir := t.TempDir()
	for _, file := range script.Files {
		if file.Name == "bridged.json" {
			for _, node := range []string{"/dev/vfio/vfio", "/dev/vfio/6"} {
				file.Data = []byte(strings.ReplaceAll(string(file.Data), `"path": "`+node+`"`, `"path": "`+node+`", "hostPath": "/dev/null"`))
			}
			require.NoError(t, os.WriteFile(filepath.Join(dir, file.Name), file.Data, 0o644))
		}
	}
	cache, err := cdi.NewCache(cdi.WithSpecDirs(dir), cdi.WithAutoRefresh(false))
	require.NoError(t, err)
	container := &specs.Spec{}
	missing, err := cache.InjectDevices(container, "irqbridge.github.io/pci=0000:01:01.0", "irqbridge.github.io/pci=0000:01:05.0")
	require.NoError(t, err)
	require.Empty(t, missing)
	var paths []string
	for _, device := range container.Linux.Devices {
		paths = append(paths, device.Path)
		assert.Equal(t, "c", device.Type)
	}
	assert.ElementsMatch(t, []string{"/dev/vfio/vfio", "/dev/vfio/6"}, paths)
	for _, rule := range container.Linux.Resources.Devices {
		assert.True(t, rule.Allow)
		assert.Equal(t, "rw", rule.Access)
	}
	assert.Equal(t, []string{"IRQBRIDGE_DEVICE_0000_01_01_0=0000:01:01.0", "IRQBRIDGE_DEVICE_0000_01_05_0=0000:01:05.0"}, container.Process.Env)
}
