package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/irqbridge/irqbridge/cmd/irqbridge/internal/cli"
	"github.com/irqbridge/irqbridge/cmd/irqbridge/internal/manpage"
)

// manDir is where the pages are, from the top of the module.
const manDir = "cmd/irqbridge/man"

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "gendocs:", err)
		os.Exit(1)
	}
}

// run writes the pages, and removes those of verbs that are gone.
func run() error {
	module, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		return fmt.Errorf("go list -m: %w", err)
	}
	dir := filepath.Join(strings.TrimSpace(string(module)), manDir)
	former, err := filepath.Glob(filepath.Join(dir, "*.8"))
	if err != nil {
		return err
	}
	for _, name := range former {
		if err := os.Remove(name); err != nil {
			return err
		}
	}
	errs := []error{os.MkdirAll(dir, 0o755)}
	for name, text := range manpage.Of(cli.Commands()) {
		errs = append(errs, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644))
	}
	return errors.Join(errs...)
}
