package main

import (
	"embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// sources are the peers and the device.
//
//go:embed c
var sources embed.FS

// peers are the programs, by source file, and the library that each needs, as pkg-config knows it.
var peers = []struct{ source, library string }{
	{"device.c", ""},
	{"burn.c", ""},
	{"plain.c", ""},
	{"uv.c", "libuv"},
	{"dpdk.c", "libdpdk"},
}

// build compiles the peers into a directory that has the sources.
func build(dir string) error {
	for _, p := range peers {
		var flags []string
		if p.library != "" {
			cflags, err := pkgConfig("--cflags", p.library)
			if err != nil {
				return err
			}
			libs, err := pkgConfig("--libs", p.library)
			if err != nil {
				return err
			}
			flags = append(cflags, libs...)
		}
		source := filepath.Join(dir, "source", "c", p.source)
		if err := compile(source, filepath.Join(dir, strings.TrimSuffix(p.source, ".c")), flags...); err != nil {
			return err
		}
	}
	return nil
}

// unpack writes the sources into a directory.
func unpack(dir string) error { return os.CopyFS(filepath.Join(dir, "source"), sources) }

// compile makes a program of one source. The libraries among the flags come after it.
func compile(source, program string, flags ...string) error {
	args := append([]string{"-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-pthread", "-o", program, source}, flags...)
	if out, err := exec.Command("gcc", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("compile %s: %w\n%s", filepath.Base(source), err, out)
	}
	return nil
}

func pkgConfig(what, library string) ([]string, error) {
	out, err := exec.Command("pkg-config", what, library).Output()
	if err != nil {
		return nil, fmt.Errorf("pkg-config %s %s: %w; install the library's -dev package", what, library, err)
	}
	return strings.Fields(string(out)), nil
}

// withStderr adds what a command said that failed.
func withStderr(err error) error {
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return fmt.Errorf("%w\n%s", err, exit.Stderr)
	}
	return err
}
