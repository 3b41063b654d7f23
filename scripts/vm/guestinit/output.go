package main

import (
	"archive/tar"
	"bufio"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/irqbridge/irqbridge/scripts/vm/internal/wire"
)

// prepareOutput makes the directories that the program is to write into, and gives them to its user.
func prepareOutput(outputs []wire.Output, user identity) error {
	for _, o := range outputs {
		dir := o.Path
		if !o.Dir {
			dir = filepath.Dir(dir)
		}
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		if user.uid == 0 {
			continue
		}
		if err := os.Chown(dir, int(user.uid), int(user.gid)); err != nil {
			return err
		}
	}
	return nil
}

// sendOutput sends the files that the host wants, as one archive with absolute names. What the program did not write
// is left out: it is for the host to miss it.
func sendOutput(out *wire.Writer, outputs []wire.Output) error {
	if len(outputs) == 0 {
		return nil
	}
	// Few and large frames: each is compressed by itself.
	stream := bufio.NewWriterSize(wire.Stream{Writer: out, Kind: wire.Archive}, 1<<16)
	archive := tar.NewWriter(stream)
	for _, o := range outputs {
		err := filepath.WalkDir(o.Path, func(path string, entry fs.DirEntry, err error) error {
			if err != nil || !entry.Type().IsRegular() {
				return err
			}
			return addFile(archive, path)
		})
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return errors.Join(archive.Close(), stream.Flush())
}

func addFile(archive *tar.Writer, path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	header := &tar.Header{Name: path, Mode: int64(info.Mode().Perm()), Size: int64(len(data)), ModTime: info.ModTime()}
	if err := archive.WriteHeader(header); err != nil {
		return err
	}
	_, err = archive.Write(data)
	return err
}
