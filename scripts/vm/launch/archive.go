package main

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// extract writes what the guest sent back. The names in the archive are the guest's; to maps the files and directories
// that were asked for to where they go on the host. It gives the asked-for names that the archive did not have.
func extract(archive io.Reader, to map[string]string) (missing []string, err error) {
	found := map[string]bool{}
	for r := tar.NewReader(archive); ; {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		asked, target := place(header.Name, to)
		if asked == "" {
			return nil, fmt.Errorf("the guest sent %s, which was not asked for", header.Name)
		}
		found[asked] = true
		if err := writeFile(target, r, os.FileMode(header.Mode).Perm()); err != nil {
			return nil, err
		}
	}
	for name := range to {
		if !found[name] {
			missing = append(missing, name)
		}
	}
	return missing, nil
}

// place finds which of the asked-for names the file belongs to, and its path on the host.
func place(name string, to map[string]string) (asked, target string) {
	for guest, host := range to {
		if name == guest {
			return guest, host
		}
		if below, ok := strings.CutPrefix(name, guest+"/"); ok && filepath.IsLocal(below) {
			return guest, filepath.Join(host, below)
		}
	}
	return "", ""
}

func writeFile(name string, content io.Reader, perm os.FileMode) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, perm)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, content)
	return errors.Join(err, f.Close())
}
