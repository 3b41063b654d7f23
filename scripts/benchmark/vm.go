package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// In the virtual machine of scripts/vm, the interrupts are those of devices, through the kernel's VFIO.

// vmScenarios are those of the virtual machine with a kernel.
func vmScenarios(kernel string) []*scenario {
	var list []*scenario
	add := func(name, title, from, to string, variants ...variant) {
		list = append(list, &scenario{
			name: "vm-" + kernel + "-" + name, title: title + " in the virtual machine, kernel " + kernel, from: from, to: to,
			mode: "vm", load: "none", variants: variants,
		})
	}
	for _, b := range boards {
		add(b.name+"-same-cpu", b.name, "the register's write on the same CPU", "the service routine", cVFIO, block)
		add(b.name+"-cross-cpu", b.name, "the register's write on another CPU", "the service routine", cVFIO, block)
	}
	add("open", "e1000e opened by a new process", "before", "after", libvfioInit, cOpening, cArming, opening, arming)
	return list
}

// vmComparisons are the ratios of the virtual machine. It has no targets: all that is emulated takes longer than here.
func vmComparisons(kernel string) []comparison {
	var list []comparison
	for _, b := range boards {
		for _, where := range []string{"same_cpu", "cross_cpu"} {
			name := b.name + "_" + where
			list = append(list, comparison{
				key: "vm_" + kernel + "_" + name + "_p50_vs_c", scenario: "vm-" + kernel + "-" + strings.ReplaceAll(name, "_", "-"),
				measure: p50, of: block, to: cVFIO,
			})
		}
	}
	scenario := "vm-" + kernel + "-open"
	return append(list,
		comparison{key: "vm_" + kernel + "_open_vs_libvfio", scenario: scenario, measure: p50, of: opening, to: libvfioInit},
		comparison{key: "vm_" + kernel + "_armed_vs_libvfio", scenario: scenario, measure: p50, of: arming, to: libvfioInit},
		comparison{key: "vm_" + kernel + "_open_vs_c", scenario: scenario, measure: p50, of: opening, to: cOpening},
		comparison{key: "vm_" + kernel + "_armed_vs_c", scenario: scenario, measure: p50, of: arming, to: cArming})
}

// measureVM measures in the virtual machine, with one kernel after the other.
func (b *bench) measureVM(o *options, progress io.Writer) (*findings, error) {
	if err := b.buildGuest(); err != nil {
		return nil, err
	}
	var scenarios []*scenario
	var compared []comparison
	for _, kernel := range o.kernels {
		scenarios, compared = append(scenarios, vmScenarios(kernel)...), append(compared, vmComparisons(kernel)...)
	}
	f := newFindings(scenarios, compared)
	rounds := o.vmRounds()
	for _, s := range scenarios {
		f.results[s.name] = map[string][]*result{}
		for _, v := range s.variants {
			f.results[s.name][v.name] = make([]*result, rounds)
		}
	}
	for _, kernel := range o.kernels {
		begin := time.Now()
		if err := b.guest(f, kernel, rounds); err != nil {
			f.fail("kernel "+kernel, err)
		}
		f.missing(kernel)
		_, _ = fmt.Fprintf(progress, "bench: %d rounds in the virtual machine, kernel %s, in %.1f s\n", rounds, kernel, time.Since(begin).Seconds())
	}
	return f, nil
}

// buildGuest compiles the peer in the virtual machine and fetches the kernel's.
func (b *bench) buildGuest() error {
	out, err := exec.Command(filepath.Join(b.scripts, "vm", "selftests")).Output()
	if err != nil {
		return fmt.Errorf("scripts/vm/selftests: %w", withStderr(err))
	}
	const libvfio = "vfio_pci_device_init_perf_test"
	if err := os.CopyFS(filepath.Join(b.peers, "guest"), os.DirFS(strings.TrimSpace(string(out)))); err != nil {
		return err
	}
	if err := os.Chmod(filepath.Join(b.peers, "guest", libvfio), 0o755); err != nil {
		return err
	}
	return compile(filepath.Join(b.peers, "source", "c", "vm.c"), filepath.Join(b.peers, "guest", "vm"), "-static")
}

// guest runs this program in the virtual machine.
func (b *bench) guest(f *findings, kernel string, rounds int) error {
	const peers, self = "/bench", "/bench-program"
	cmd := exec.Command(filepath.Join(b.scripts, "vm", "run"), "--kernel", kernel, "--timeout", "30m",
		"--file", filepath.Join(b.peers, "guest")+":"+peers, "--file", b.self+":"+self, "--", b.self, "guest", self, peers, strconv.Itoa(rounds))
	cmd.Env = append(os.Environ(), "GOMAXPROCS=2")
	cmd.Stderr = os.Stderr
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	failed := f.readGuest(pipe, kernel)
	if failed != nil {
		_ = cmd.Process.Kill()
	}
	if err := cmd.Wait(); err != nil && failed == nil {
		return fmt.Errorf("scripts/vm/run: %w", err)
	}
	return failed
}

// readGuest takes what the guest prints.
func (f *findings) readGuest(r io.Reader, kernel string) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var one finding
		if err := json.Unmarshal(lines.Bytes(), &one); err != nil {
			return fmt.Errorf("the guest printed %q: %w", lines.Text(), err)
		}
		f.total++
		name := "vm-" + kernel + "-" + one.Scenario
		rounds := f.results[name][one.Variant]
		switch {
		case one.Round < 0 || one.Round >= len(rounds):
			return fmt.Errorf("the guest measured %s of %s in round %d, which nobody asked for", one.Variant, name, one.Round)
		case one.Failure != "":
			f.fail(name+", "+one.Variant, fmt.Errorf("%s", one.Failure))
		default:
			rounds[one.Round] = newResult(one.Samples)
		}
	}
	return lines.Err()
}

// missing tells of what was not measured, and why is not known.
func (f *findings) missing(kernel string) {
	for _, s := range vmScenarios(kernel) {
		for _, v := range s.variants {
			for _, r := range f.results[s.name][v.name] {
				if r == nil && !f.failed(s.name+", "+v.name) {
					f.fail(s.name+", "+v.name, fmt.Errorf("not measured"))
				}
			}
		}
	}
}

// vmRounds is how often everything in the virtual machine is measured.
func (o *options) vmRounds() int {
	switch {
	case o.rounds > 0:
		return o.rounds
	case o.short:
		return 4
	}
	return 12
}
