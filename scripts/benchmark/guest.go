package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"time"

	"github.com/irqbridge/irqbridge/pci"
	"github.com/irqbridge/irqbridge/vfio/host"
)

// This program measures in the virtual machine, too, where the host's (vm.go) starts it as
//
//	benchmark guest SELF PEERS ROUNDS
//
// and reads what it prints: a line of JSON for each measurement.

// finding is one such line.
type finding struct {
	Scenario string    `json:"scenario"`
	Variant  string    `json:"variant"`
	Round    int       `json:"round"`
	Samples  []float64 `json:"samples,omitempty"` // nanoseconds
	Failure  string    `json:"failure,omitempty"`
}

const (
	guestInterrupts = 300
	guestWarmup     = 50
)

// The variants in the guest.
var (
	cVFIO        = variant{name: "C over VFIO"}
	cOpening     = variant{name: "C over VFIO, open"}
	cArming      = variant{name: "C over VFIO, interrupt armed"}
	libvfioInit  = variant{name: "libvfio's init test"}
	opening      = variant{name: "irqbridge, open"}
	arming       = variant{name: "irqbridge, interrupt armed"}
	guestDevices = map[string]pci.Address{"edu": {Device: 4}, "e1000e": {Device: 5}}
)

// task is one measurement, which can have findings for several variants.
type task struct {
	scenario string
	run      func() (map[string][]float64, error) // by variant
	names    []string                             // of the variants
}

func guestIn(args []string, stdout io.Writer) error {
	if len(args) != 3 {
		return errors.New("want SELF PEERS ROUNDS")
	}
	rounds, err := strconv.Atoi(args[2])
	if err != nil {
		return err
	}
	h := host.New("/")
	for _, address := range guestDevices {
		plan, err := h.PlanBind(address, "vfio-pci", false)
		if err == nil {
			err = plan.Run(context.Background())
		}
		if err != nil {
			return err
		}
	}
	tasks := guestTasks(args[0], args[1])
	lines := json.NewEncoder(stdout)
	for round := range rounds {
		rand.Shuffle(len(tasks), func(i, j int) { tasks[i], tasks[j] = tasks[j], tasks[i] })
		for _, t := range tasks {
			samples, err := t.run()
			for _, name := range t.names {
				f := finding{Scenario: t.scenario, Variant: name, Round: round, Samples: samples[name]}
				if err != nil {
					f.Failure = err.Error()
				}
				if err := lines.Encode(f); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// guestTasks are the measurements of a round.
func guestTasks(self, peers string) []task {
	var tasks []task
	for _, b := range boards {
		for _, writer := range []int{1, 0} {
			name := b.name + "-same-cpu"
			if writer == 0 {
				name = b.name + "-cross-cpu"
			}
			args := []string{
				b.name, guestDevices[b.name].String(), strconv.Itoa(writer), "1", strconv.Itoa(fifo),
				strconv.Itoa(guestWarmup + guestInterrupts),
			}
			interrupts := func(variant string, command ...string) task {
				return task{name, func() (map[string][]float64, error) {
					samples, err := guestRun(append(command, args...))
					return map[string][]float64{variant: samples}, err
				}, []string{variant}}
			}
			tasks = append(tasks,
				interrupts(cVFIO.name, filepath.Join(peers, "vm")),
				interrupts(block.name, self, "interrupt"))
		}
	}
	const opened = "e1000e"
	args := []string{opened, guestDevices[opened].String(), "0", "1", strconv.Itoa(fifo), "0"}
	opens := func(open, armed variant, command ...string) task {
		return task{"open", func() (map[string][]float64, error) {
			r, err := guestCounts(append(command, args...))
			if err != nil {
				return nil, err
			}
			return map[string][]float64{open.name: {r.counts["opened"]}, armed.name: {r.counts["armed"]}}, nil
		}, []string{open.name, armed.name}}
	}
	return append(tasks,
		opens(cOpening, cArming, filepath.Join(peers, "vm")),
		opens(opening, arming, self, "open"),
		task{"open", func() (map[string][]float64, error) {
			ns, err := libvfioTime(filepath.Join(peers, "vfio_pci_device_init_perf_test"), guestDevices[opened].String())
			return map[string][]float64{libvfioInit.name: {ns}}, err
		}, []string{libvfioInit.name}})
}

// guestRun runs a process that makes its device interrupt. Each has to be served.
func guestRun(command []string) ([]float64, error) {
	r, err := guestCounts(command)
	if err != nil {
		return nil, err
	}
	if lost := r.counts["lost"]; lost > 0 || len(r.samples) != guestWarmup+guestInterrupts {
		return nil, fmt.Errorf("%.0f interrupts were lost, %d served, of %.0f", lost, len(r.samples), r.counts["fired"])
	}
	return r.samples[guestWarmup:], nil
}

func guestCounts(command []string) (*result, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return newProcess(ctx, command, nil, nil).counts()
}

// libvfioTime runs the kernel's own test and returns how long libvfio took to set the device up.
func libvfioTime(program, address string) (float64, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	out, err := exec.CommandContext(ctx, program, "-v", "vfio_type1v2_iommu", address).CombinedOutput()
	if err != nil {
		return 0, fmt.Errorf("%s: %w\n%s", program, err, out)
	}
	return parseLibvfio(string(out))
}

var libvfioLine = regexp.MustCompile(`Avg init time \(per device\): ([0-9]+\.[0-9]{9})s`)

func parseLibvfio(out string) (float64, error) {
	m := libvfioLine.FindStringSubmatch(out)
	if m == nil {
		return 0, fmt.Errorf("libvfio's test does not say how long it took:\n%s", out)
	}
	d, err := time.ParseDuration(m[1] + "s")
	return float64(d), err
}
