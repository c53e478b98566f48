package e2e

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

// volume is a directory that is updated as the kubelet updates a mounted ConfigMap, Secret, downward API or projected
// volume (pkg/volume/util/atomic_writer.go): the files are in a directory of their own, and one rename of a symlink
// publishes all of them. Only then the links of new names are made and those of removed ones taken away.
type volume struct {
	dir string
	n   int
}

func newVolume(t *testing.T, files map[string]string) *volume {
	t.Helper()
	v := &volume{dir: t.TempDir()}
	v.publish(t, files)
	return v
}

func (v *volume) path(key string) string { return filepath.Join(v.dir, key) }

// publish makes files what the volume holds; none is what becomes of an optional volume whose ConfigMap was deleted.
func (v *volume) publish(t *testing.T, files map[string]string) {
	t.Helper()
	v.n++
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	data := v.path("..data")
	old, _ := os.Readlink(data)
	stamped := fmt.Sprintf("..2026_11_22_19_21_51.%09d", v.n)
	must(os.Mkdir(v.path(stamped), 0o755))
	for name, content := range files {
		must(os.WriteFile(filepath.Join(v.path(stamped), name), []byte(content), 0o644))
	}
	must(os.Symlink(stamped, data+"_tmp"))
	must(os.Rename(data+"_tmp", data))
	for name := range files {
		if err := os.Symlink(filepath.Join("..data", name), v.path(name)); !errors.Is(err, fs.ErrExist) {
			must(err)
		}
	}
	if old == "" {
		return
	}
	before, err := os.ReadDir(v.path(old))
	must(err)
	for _, e := range before {
		if _, kept := files[e.Name()]; !kept {
			must(os.Remove(v.path(e.Name())))
		}
	}
	must(os.RemoveAll(v.path(old)))
}
