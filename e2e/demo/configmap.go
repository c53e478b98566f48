package demo

import (
	"fmt"
	"os"
	"path/filepath"
)

// What the sample server reads as its behaviour.
const (
	behaviourOK     = "ok"
	behaviourBroken = "broken" // /healthz answers 500 for ever
	behaviourExit   = "exit"   // it exits at once
)

// configMap is a directory made as the kubelet makes a mounted ConfigMap: the files are links into ..data, which is a
// link to a directory with the content; an update makes a new directory and swaps ..data by a rename.
type configMap struct {
	dir  string
	next int
}

func newConfigMap(dir, version, behaviour string) (*configMap, error) {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, err
	}
	c := &configMap{dir: dir}
	if err := c.update(version, behaviour); err != nil {
		return nil, err
	}
	for _, name := range []string{"version", "behaviour"} {
		if err := os.Symlink(filepath.Join("..data", name), filepath.Join(dir, name)); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// update swaps the content; nobody can see a half of it.
func (c *configMap) update(version, behaviour string) error {
	c.next++
	data := fmt.Sprintf("..2006_01_02_15_04_05.%09d", c.next)
	if err := os.Mkdir(filepath.Join(c.dir, data), 0o755); err != nil {
		return err
	}
	for name, text := range map[string]string{"version": version, "behaviour": behaviour} {
		if err := os.WriteFile(filepath.Join(c.dir, data, name), []byte(text+"\n"), 0o644); err != nil {
			return err
		}
	}
	old, _ := os.Readlink(filepath.Join(c.dir, "..data")) // none, the first time
	tmp := filepath.Join(c.dir, "..data_tmp")
	if err := os.Symlink(data, tmp); err != nil {
		return err
	}
	if err := os.Rename(tmp, filepath.Join(c.dir, "..data")); err != nil {
		return err
	}
	if old == "" {
		return nil
	}
	return os.RemoveAll(filepath.Join(c.dir, old))
}
