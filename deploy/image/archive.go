package main

import (
	"archive/tar"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
)

// writeArchive writes an OCI image layout as one tar file. Containerd takes the image's name from the first annotation,
// others from the second.
func writeArchive(file, name string, index v1.ImageIndex) error {
	dir, err := os.MkdirTemp("", "image-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	l, err := layout.Write(dir, empty.Index)
	if err != nil {
		return err
	}
	annotations := map[string]string{
		"io.containerd.image.name":          name,
		"org.opencontainers.image.ref.name": name[strings.LastIndex(name, ":")+1:],
	}
	if err := l.AppendIndex(index, layout.WithAnnotations(annotations)); err != nil {
		return err
	}
	return pack(dir, file)
}

// pack writes dir's files to a tar file, in the order of their names, and puts it in place when it is whole.
func pack(dir, file string) error {
	out, err := os.CreateTemp(filepath.Dir(file), ".image-*")
	if err != nil {
		return err
	}
	defer os.Remove(out.Name()) // fails, as it should, after the rename
	w := tar.NewWriter(out)
	err = filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		below, err := filepath.Rel(dir, name)
		if err != nil {
			return err
		}
		return addFile(w, name, filepath.ToSlash(below), info, time.Unix(0, 0))
	})
	err = errors.Join(err, w.Close(), out.Chmod(0o644), out.Close())
	if err != nil {
		return err
	}
	return os.Rename(out.Name(), file)
}
