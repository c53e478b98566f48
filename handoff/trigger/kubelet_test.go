package trigger_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// volume replays what the kubelet's AtomicWriter does to a ConfigMap, Secret or projected volume
// (kubernetes/kubernetes pkg/volume/util/atomic_writer.go), step by step.
type volume struct {
	t   *testing.T
	dir string
}

func newVolume(t *testing.T, payload map[string]string) volume {
	t.Helper()
	v := volume{t, t.TempDir()}
	v.write(payload)
	return v
}

func (v volume) path(key string) string { return filepath.Join(v.dir, key) }

func (v volume) write(payload map[string]string) {
	v.t.Helper()
	if err := v.update(payload); err != nil {
		v.t.Fatal(err)
	}
}

// update is AtomicWriter.Write; the numbers are its steps.
func (v volume) update(payload map[string]string) error {
	for key := range payload { // 1
		if !filepath.IsLocal(key) || strings.HasPrefix(key, "..") {
			return fmt.Errorf("invalid key %q", key)
		}
	}
	old, err := os.Readlink(v.path("..data")) // 2
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	present := v.read(old)      // 3
	if same(present, payload) { // 4
		return v.link(payload)
	}
	fresh, err := os.MkdirTemp(v.dir, time.Now().UTC().Format("..2006_01_02_15_04_05.")) // 5
	if err != nil {
		return err
	}
	if err := os.Chmod(fresh, 0o755); err != nil {
		return err
	}
	for key, text := range payload { // 6; 7 (fsGroup) changes owners only
		if err := publish(filepath.Join(fresh, key), text); err != nil {
			return err
		}
	}
	if err := os.Symlink(filepath.Base(fresh), v.path("..data_tmp")); err != nil { // 8
		return err
	}
	if err := os.Rename(v.path("..data_tmp"), v.path("..data")); err != nil { // 9
		return err
	}
	if err := v.link(payload); err != nil { // 10
		return err
	}
	if err := v.unlink(present, payload); err != nil { // 11
		return err
	}
	if old == "" {
		return nil
	}
	return os.RemoveAll(v.path(old)) // 12
}

func (v volume) read(snapshot string) map[string]string {
	found := map[string]string{}
	if snapshot == "" {
		return found
	}
	top := v.path(snapshot)
	_ = filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			data, _ := os.ReadFile(path)
			key, _ := filepath.Rel(top, path)
			found[key] = string(data)
		}
		return nil
	})
	return found
}

func same(a, b map[string]string) bool {
	if len(a) != len(b) {
		return false
	}
	for key, text := range a {
		if other, ok := b[key]; !ok || other != text {
			return false
		}
	}
	return true
}

func publish(path, text string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		return err
	}
	return os.Chmod(path, 0o644)
}

// link makes the names that users see: links to the first element of each key below ..data.
func (v volume) link(payload map[string]string) error {
	for key := range payload {
		first, _, _ := strings.Cut(key, "/")
		err := os.Symlink(filepath.Join("..data", first), v.path(first))
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return nil
}

func (v volume) unlink(present, payload map[string]string) error {
	kept := map[string]bool{}
	for key := range payload {
		first, _, _ := strings.Cut(key, "/")
		kept[first] = true
	}
	for key := range present {
		first, _, _ := strings.Cut(key, "/")
		if kept[first] {
			continue
		}
		if err := os.Remove(v.path(first)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}
