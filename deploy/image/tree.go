package main

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// copyLayer makes the layer of one COPY, in memory: what is copied here are a few megabytes.
func copyLayer(o options, arch string, c copied) (v1.Layer, error) {
	dir := o.context
	if c.from != "" {
		given, ok := o.from[c.from]
		if !ok {
			return nil, fmt.Errorf("COPY --from=%s: give its files with -from %s=DIR", c.from, c.from)
		}
		dir = given
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	made := map[string]bool{}
	for _, source := range c.sources {
		if err := addTree(w, made, filepath.Join(perArch(dir, arch), source), c.target(source), o.created); err != nil {
			return nil, fmt.Errorf("copy %s: %w", source, err)
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	text := b.Bytes()
	return tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(text)), nil },
		tarball.WithMediaType(types.OCILayer))
}

// target is where a source goes: as in a Dockerfile, into the destination if that ends in a slash, else in its place.
func (c copied) target(source string) string {
	if strings.HasSuffix(c.dest, "/") {
		return path.Join(c.dest, path.Base(source))
	}
	return path.Clean(c.dest)
}

// addTree adds a file, or a directory with all below it, and the directories above it that are not made yet. Of the modes
// only "executable" is kept: the umask of whoever builds has no say.
func addTree(w *tar.Writer, made map[string]bool, from, to string, when time.Time) error {
	return filepath.WalkDir(from, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		below, err := filepath.Rel(from, name)
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		place := path.Join(to, filepath.ToSlash(below))
		switch {
		case info.IsDir():
			return addDirs(w, made, place, when)
		case !info.Mode().IsRegular():
			return fmt.Errorf("%s: want a file or a directory", name)
		}
		if err := addDirs(w, made, path.Dir(place), when); err != nil {
			return err
		}
		return addFile(w, name, place, info, when)
	})
}

func addDirs(w *tar.Writer, made map[string]bool, dir string, when time.Time) error {
	if dir == "/" || dir == "." || made[dir] {
		return nil
	}
	if err := addDirs(w, made, path.Dir(dir), when); err != nil {
		return err
	}
	made[dir] = true
	return w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: strings.TrimPrefix(dir, "/") + "/", Mode: 0o755, ModTime: when})
}

func addFile(w *tar.Writer, from, to string, info fs.FileInfo, when time.Time) error {
	mode := int64(0o644)
	if info.Mode()&0o111 != 0 {
		mode = 0o755
	}
	header := &tar.Header{Typeflag: tar.TypeReg, Name: strings.TrimPrefix(to, "/"), Mode: mode, Size: info.Size(), ModTime: when}
	if err := w.WriteHeader(header); err != nil {
		return err
	}
	f, err := os.Open(from)
	if err != nil {
		return err
	}
	_, err = io.Copy(w, f)
	return errors.Join(err, f.Close())
}
