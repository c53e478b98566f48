package main

import (
	"archive/tar"
	"bytes"
	"debug/elf"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
)

// within is when to give up waiting.
const within = 2 * time.Minute

// makeImage runs make image in a copy of the module's sources, with other times and permissions than they have here, and
// returns the archive. The copy has no history, so version and time are given.
func makeImage(t *testing.T, umask string) string {
	t.Helper()
	dir := t.TempDir()
	script := `umask ` + umask + `
		(cd ../.. && tar -c --exclude=./.git --exclude=./dist --exclude=./bin --exclude='*_test.go' .) | tar -x -m -C "$1" &&
		make -s -C "$1" image VERSION=v1 REVISION=abc EPOCH=1700000000 IMAGE=localhost/holdfast:test DIST="$1/out"`
	if out, err := exec.Command("sh", "-c", script, "sh", dir).CombinedOutput(); err != nil {
		t.Fatalf("make image: %v\n%s", err, out)
	}
	return filepath.Join(dir, "out", "holdfast.tar")
}

// TestImage builds the image twice, in two places, and looks at what is in it.
func TestImage(t *testing.T) {
	file := makeImage(t, "022")
	first, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	second, err := os.ReadFile(makeImage(t, "077"))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(first, second) {
		t.Error("the same sources gave two different images")
	}
	for arch, machine := range map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64} {
		t.Run(arch, func(t *testing.T) {
			image := read(t, file, arch)
			config, err := image.ConfigFile()
			if err != nil {
				t.Fatal(err)
			}
			c := config.Config
			if c.User != "65532:65532" || !reflect.DeepEqual(c.Entrypoint, []string{"/holdfast"}) || config.Architecture != arch {
				t.Errorf("user %q, entrypoint %q, architecture %q", c.User, c.Entrypoint, config.Architecture)
			}
			for label, want := range map[string]string{"version": "v1", "revision": "abc", "title": "holdfast", "licenses": "MIT"} {
				if got := c.Labels["org.opencontainers.image."+label]; got != want {
					t.Errorf("label %s is %q, want %q", label, got, want)
				}
			}
			if !config.Created.Equal(time.Unix(1700000000, 0)) {
				t.Errorf("created %v", config.Created)
			}
			dir := t.TempDir()
			if names := extract(t, image, dir); !reflect.DeepEqual(names, []string{"holdfast"}) {
				t.Errorf("it holds %q", names)
			}
			static(t, filepath.Join(dir, "holdfast"), machine)
		})
	}
	t.Run("runc", func(t *testing.T) { runs(t, read(t, file, runtime.GOARCH)) })
}

// read returns the image of one architecture.
func read(t *testing.T, file, arch string) v1.Image {
	t.Helper()
	dir := t.TempDir()
	if out, err := exec.Command("tar", "-x", "-f", file, "-C", dir).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	index, err := layout.ImageIndexFromPath(dir)
	for err == nil {
		var m *v1.IndexManifest
		if m, err = index.IndexManifest(); err != nil {
			break
		}
		if m.Manifests[0].MediaType.IsIndex() { // the outer one, with the image's name
			index, err = index.ImageIndex(m.Manifests[0].Digest)
			continue
		}
		for _, d := range m.Manifests {
			if d.Platform.Architecture == arch {
				image, err := index.Image(d.Digest)
				if err != nil {
					t.Fatal(err)
				}
				return image
			}
		}
		err = errors.New("no such architecture")
	}
	t.Fatalf("%s: %s: %v", file, arch, err)
	return nil
}

// extract unpacks an image and returns the names of what is in it.
func extract(t *testing.T, image v1.Image, dir string) []string {
	t.Helper()
	stream := mutate.Extract(image)
	defer stream.Close()
	var names []string
	for r := tar.NewReader(stream); ; {
		h, err := r.Next()
		if err == io.EOF {
			return names
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, h.Name)
		if h.Uid != 0 || h.Gid != 0 || h.Mode != 0o755 {
			t.Errorf("%s belongs to %d:%d and has mode %o", h.Name, h.Uid, h.Gid, h.Mode)
		}
		text, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, h.Name), text, 0o755); err != nil {
			t.Fatal(err)
		}
	}
}

func static(t *testing.T, file string, machine elf.Machine) {
	t.Helper()
	f, err := elf.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if f.Machine != machine {
		t.Errorf("it is for %v", f.Machine)
	}
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			t.Error("it wants a dynamic linker")
		}
	}
	if f.Section(".symtab") != nil {
		t.Error("it is not stripped")
	}
}

// runs has runc run the image as its configuration says, with a server mounted into it; then a handoff, and the end.
func runs(t *testing.T, image v1.Image) {
	if _, err := exec.LookPath("runc"); err != nil || os.Geteuid() != 0 {
		if os.Getenv("CI") != "" {
			t.Fatalf("no runc, or not root: %v", err)
		}
		t.Skip("needs runc and root")
	}
	bundle, state, server := t.TempDir(), t.TempDir(), filepath.Join(t.TempDir(), "naughty")
	build := exec.Command("go", "build", "-o", server, "./e2e/servers/naughty")
	build.Dir, build.Env = "../..", append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	root := filepath.Join(bundle, "rootfs")
	if err := os.Mkdir(root, 0o755); err != nil {
		t.Fatal(err)
	}
	extract(t, image, root)
	probes := fmt.Sprintf("127.0.0.1:%d", freePort(t))
	config(t, image, bundle, server, "--listen", fmt.Sprintf("127.0.0.1:%d", freePort(t)), "--probe-addr", probes, "--settle", "1ms", "--", "/naughty")
	name := fmt.Sprintf("holdfast-image-%d", os.Getpid())
	runc := func(args ...string) *exec.Cmd {
		return exec.Command("runc", append([]string{"--root", state}, args...)...)
	}
	var said bytes.Buffer
	c := runc("run", "--bundle", bundle, name)
	c.Stdout, c.Stderr = &said, &said
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- c.Wait() }()
	t.Cleanup(func() {
		runc("delete", "--force", name).Run() // an error says that it has ended
		if t.Failed() {
			t.Logf("the container wrote:\n%s", said.String())
		}
	})
	for end := time.Now().Add(within); !ready(probes); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it is not ready")
		}
	}
	if out, err := runc("exec", name, "/holdfast", "reload", "--wait").CombinedOutput(); err != nil || !strings.Contains(string(out), "generation 2 is live") {
		t.Errorf("reload --wait: %v: %s", err, out)
	}
	if out, err := runc("kill", name, "TERM").CombinedOutput(); err != nil {
		t.Fatalf("runc kill: %v: %s", err, out)
	}
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("it ended with %v, want exit code 0", err)
		}
	case <-time.After(within):
		t.Error("it has not ended")
	}
}

// config writes what runc needs: the image's user and entrypoint, without capabilities, with a read-only root.
func config(t *testing.T, image v1.Image, bundle, server string, args ...string) {
	t.Helper()
	c, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	var uid, gid int
	if _, err := fmt.Sscanf(c.Config.User, "%d:%d", &uid, &gid); err != nil {
		t.Fatal(err)
	}
	type object = map[string]any
	text, err := json.Marshal(object{
		"ociVersion": "1.0.2",
		"process": object{
			"user": object{"uid": uid, "gid": gid}, "args": append(c.Config.Entrypoint, args...), "cwd": "/",
			"env": append(c.Config.Env, "PATH=/"), "capabilities": object{}, "noNewPrivileges": true,
		},
		"root": object{"path": "rootfs", "readonly": true},
		"mounts": []object{
			{"destination": "/proc", "type": "proc", "source": "proc"},
			{"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": []string{"nosuid", "mode=755", "size=64k"}},
			{"destination": "/naughty", "type": "bind", "source": server, "options": []string{"bind", "ro"}},
		},
		"linux": object{"namespaces": []object{{"type": "pid"}, {"type": "mount"}, {"type": "ipc"}, {"type": "uts"}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	// runc makes the places of mounts, but not in a root that it has made read-only.
	for _, dir := range []string{"proc", "dev"} {
		if err := os.Mkdir(filepath.Join(bundle, "rootfs", dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.WriteFile(filepath.Join(bundle, "rootfs", "naughty"), nil, 0o755),
		os.WriteFile(filepath.Join(bundle, "config.json"), text, 0o644)); err != nil {
		t.Fatal(err)
	}
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

func ready(address string) bool {
	r, err := http.Get("http://" + address + "/readyz")
	if err != nil {
		return false
	}
	r.Body.Close()
	return r.StatusCode == http.StatusOK
}

// TestDockerfile gives lines that this tool would have to pass over: it must not make another image than docker would.
func TestDockerfile(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"a volume":         {"FROM scratch\nVOLUME /x\n", "not known"},
		"a shell's words":  {"FROM scratch\nENTRYPOINT holdfast --\n", "list of words"},
		"owner of a copy":  {"FROM scratch\nCOPY --chown=1:1 a /a\n", "not known"},
		"something to run": {"FROM scratch\nRUN true\n", "scratch"},
		"no files given":   {"FROM scratch\nCOPY --from=build /a /a\n", "-from build=DIR"},
		"no such file":     {"FROM scratch\nCOPY a /a\n", "no such file"},
		"a base":           {"FROM debian\n", "-base"},
		"not a Dockerfile": {"FRM scratch\n", "unknown instruction"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			file := filepath.Join(dir, "Dockerfile")
			if err := os.WriteFile(file, []byte(c.text), 0o644); err != nil {
				t.Fatal(err)
			}
			err := run([]string{"-f", file, "-context", dir, "-t", "a:b", "-o", filepath.Join(dir, "out.tar")}, "", io.Discard)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want an error with %q", err, c.want)
			}
		})
	}
}
