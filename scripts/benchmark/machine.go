package main

import (
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// machine is where and with what a run was made.
type machine struct {
	Date   string `json:"date"`
	CPU    string `json:"cpu"`
	CPUs   int    `json:"cpus"`
	Guest  bool   `json:"virtualMachine"`
	Kernel string `json:"kernel"`
	Go     string `json:"go"`
	GCC    string `json:"gcc"`
	DPDK   string `json:"dpdk,omitempty"`
	Libuv  string `json:"libuv,omitempty"`
}

// thisMachine asks the kernel and the tools; what cannot be learnt is empty.
func thisMachine() machine {
	m := machine{Date: time.Now().UTC().Format(time.DateOnly), CPUs: runtime.NumCPU(), Go: strings.TrimPrefix(runtime.Version(), "go")}
	info, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(info)) {
		key, value, _ := strings.Cut(line, ":")
		switch strings.TrimSpace(key) {
		case "model name":
			m.CPU = strings.TrimSpace(value)
		case "flags":
			m.Guest = strings.Contains(value+" ", " hypervisor ")
		}
	}
	var name unix.Utsname
	if unix.Uname(&name) == nil {
		m.Kernel = unix.ByteSliceToString(name.Release[:])
	}
	output := func(command ...string) string {
		out, _ := exec.Command(command[0], command[1:]...).Output()
		return strings.TrimSpace(string(out))
	}
	m.GCC = output("gcc", "-dumpfullversion")
	m.DPDK = output("pkg-config", "--modversion", "libdpdk")
	m.Libuv = output("pkg-config", "--modversion", "libuv")
	return m
}

func (m machine) String() string {
	parts := []string{m.Date, m.CPU}
	if m.Guest {
		parts[1] += " (virtual machine)"
	}
	for _, p := range []struct{ name, version string }{
		{"Linux", m.Kernel}, {"Go", m.Go}, {"gcc", m.GCC}, {"DPDK", m.DPDK}, {"libuv", m.Libuv},
	} {
		if p.version != "" {
			parts = append(parts, p.name+" "+p.version)
		}
	}
	return strings.Join(parts, ", ")
}
