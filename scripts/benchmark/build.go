package main

import (
	"embed"
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

// build compiles the peers into a directory.
func build(dir string) error {
	src := filepath.Join(dir, "source")
	if err := os.CopyFS(src, sources); err != nil {
		return err
	}
	for _, p := range peers {
		name := strings.TrimSuffix(p.source, ".c")
		args := []string{"-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-pthread"}
		var libraries []string
		if p.library != "" {
			cflags, err := pkgConfig("--cflags", p.library)
			if err != nil {
				return err
			}
			if libraries, err = pkgConfig("--libs", p.library); err != nil {
				return err
			}
			args = append(args, cflags...)
		}
		args = append(args, "-o", filepath.Join(dir, name), filepath.Join(src, "c", p.source))
		if out, err := exec.Command("gcc", append(args, libraries...)...).CombinedOutput(); err != nil {
			return fmt.Errorf("compile %s: %w\n%s", p.source, err, out)
		}
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
