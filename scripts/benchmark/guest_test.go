package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestParseLibvfio(t *testing.T) {
	ns, err := parseLibvfio("Wall time: 0.035120001s\nMin init time (per device): 0.035110000s\nAvg init time (per device): 0.035115000s\n")
	require.NoError(t, err)
	assert.InDelta(t, 35_115_000, ns, 0)
	_, err = parseLibvfio("# SKIP no device")
	require.ErrorContains(t, err, "does not say how long it took:\n# SKIP no device")
}

func TestInterrupterRefuses(t *testing.T) {
	for _, c := range []struct{ args, want string }{
		{"edu", "want BOARD ADDRESS"},
		{"vga 00:04.0 0 1 80 10", `there is no board "vga"`},
		{"edu 00:04 0 1 80 10", "00:04"},
		{"edu 00:04.0 0 x 80 10", `"x"`},
	} {
		_, err := parseInterrupter(strings.Fields(c.args))
		assert.ErrorContains(t, err, c.want, c.args)
	}
}

// What the guest measured is compared as what is measured here; what it did not measure fails the run.
func TestReadGuest(t *testing.T) {
	f := newFindings(vmScenarios("stable"), vmComparisons("stable"))
	for _, s := range f.scenarios {
		f.results[s.name] = map[string][]*result{}
		for _, v := range s.variants {
			f.results[s.name][v.name] = make([]*result, 1)
		}
	}
	require.NoError(t, f.readGuest(strings.NewReader(`
{"scenario":"edu-same-cpu","variant":"C over VFIO","round":0,"samples":[3000,1000,2000]}
{"scenario":"edu-same-cpu","variant":"irqbridge block","round":0,"samples":[3000]}
{"scenario":"open","variant":"libvfio's init test","round":0,"failure":"no such device"}
`[1:]), "stable"))
	f.missing("stable")
	r := f.report(machine{}, false)
	assert.InDelta(t, 1.5, r.Ratios["vm_stable_edu_same_cpu_p50_vs_c"], 1e-9)
	assert.NotContains(t, r.Ratios, "vm_stable_open_vs_libvfio")
	err := f.err()
	require.ErrorContains(t, err, "vm-stable-open, libvfio's init test failed 1 times, at first with: no such device")
	require.ErrorContains(t, err, "vm-stable-e1000e-cross-cpu, irqbridge block failed 1 times, at first with: not measured")
	assert.NotContains(t, err.Error(), "edu-same-cpu")

	for _, line := range []string{"Killed", `{"scenario":"edu-same-cpu","variant":"C over VFIO","round":1}`, `{"scenario":"new","round":0}`} {
		assert.Error(t, f.readGuest(strings.NewReader(line+"\n"), "stable"), line)
	}
}

// Every comparison of the virtual machine is between variants of one scenario, as the others are.
func TestVMComparisonsAreMeasured(t *testing.T) {
	names := map[string][]string{}
	for _, s := range vmScenarios("newest") {
		for _, v := range s.variants {
			names[s.name] = append(names[s.name], v.name)
		}
	}
	for _, c := range vmComparisons("newest") {
		assert.Contains(t, names[c.scenario], c.of.name, c.key)
		assert.Contains(t, names[c.scenario], c.to.name, c.key)
	}
}
